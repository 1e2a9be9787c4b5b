"""Long loops keep their order and say how far they are."""

import re

import pytest

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import PROGRESS, Progress, run_parallel


def square(number):
    return number * number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_the_order(workers, capsys):
    assert run_parallel(square, range(25), label="squares", workers=workers) == [n * n for n in range(25)]
    lines = capsys.readouterr().out.strip().splitlines()
    assert 5 <= len(lines) <= 14
    assert re.fullmatch(r"squares: 25/25, .*, took 0:00:\d\d", lines[-1])
    assert "ends" in lines[0]


def test_a_download_by_pooch_tells_bytes_of_all_files(capsys):
    """Ten lines for a hundred files; the end is told once, when the last byte is there."""
    progress = Progress(2_000_000, "scans", "B")
    for size in (500_000, 1_500_000):
        progress.total = size
        for _ in range(size // 65_536 + 1):
            progress.update(65_536)
        progress.reset()
        progress.update(size)
        progress.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 12 and all(PROGRESS.fullmatch(line) and ", ends " in line for line in lines[:-1])
    assert re.fullmatch(r"scans: 2\.0 MB/2\.0 MB, .*/s, took 0:00:\d\d", lines[-1])


def test_bad_input_keeps_its_one_line():
    with pytest.raises(TLEError, match="remedy"):
        run_parallel(fail, [1], label="x", workers=2)


def fail(_):
    raise TLEError("file: remedy")
