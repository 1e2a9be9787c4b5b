"""Long loops keep their order and say how far they are."""

import re

import pytest

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel


def square(number):
    return number * number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_the_order(workers, capsys):
    assert run_parallel(square, range(25), label="squares", workers=workers) == [n * n for n in range(25)]
    lines = capsys.readouterr().out.strip().splitlines()
    assert 5 <= len(lines) <= 14
    assert re.fullmatch(r"squares: 25/25, .*, took 0:\d\d", lines[-1])
    assert "ends" in lines[0]


def test_bad_input_keeps_its_one_line():
    with pytest.raises(TLEError, match="remedy"):
        run_parallel(fail, [1], label="x", workers=2)


def fail(_):
    raise TLEError("file: remedy")
