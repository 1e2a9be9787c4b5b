"""The table of a benchmark says what was measured, what was missed and what could not be measured, and why."""

import math

import pytest
from makers import benchmark_table

from benchmarks.__main__ import main
from benchmarks.benchmark import Row, Target, run_benchmark
from tle_utils.base.errors import TLEError


def no_data():
    raise TLEError("ds000011 is missing: name the folder")


def noisy():
    print("scans: 1/1")
    return 41.0, 3.5


ROWS = [
    Row("time", "heads", (Target("wall time", high=45, unit="s"), Target("memory", high=3, unit="GiB")), noisy),
    Row("slope", "phantoms", (Target("slope", low=0.8, high=1.2),), lambda: [1.0]),
    Row("lost", "nothing", (Target("Dice", low=0.9),), lambda: [math.nan]),
    Row("away", "heads", (Target("ratio", high=0.3),), no_data),
]


def test_every_value_stands_beside_its_target(capsys):
    assert run_benchmark(ROWS) == 1
    found, progress = benchmark_table(capsys)
    assert found["time", "wall time"] == ["heads", "41 s", "≤ 45 s", "yes"]
    assert found["time", "memory"] == ["heads", "3.5 GiB", "≤ 3 GiB", "NO"]
    assert found["slope", "slope"] == ["phantoms", "1", "0.8 to 1.2", "yes"]
    assert found["lost", "Dice"][-1] == "NO", "not a number is not a success"
    assert found["away", "ratio"] == ["heads", "-", "≤ 0.3", "not measured: ds000011 is missing: name the folder"]
    assert "scans: 1/1" in progress


def test_one_row_alone(capsys):
    assert run_benchmark(ROWS, ["slope"]) == 0
    assert list(benchmark_table(capsys)[0]) == [("slope", "slope")]


def test_unknown_row_names_the_known_ones():
    with pytest.raises(TLEError, match="--only dice: no such row; known: time, slope, lost, away"):
        run_benchmark(ROWS, ["dice"])


def test_preprocessing_without_data_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TLE_SHARED_DATA", str(tmp_path))
    rows = ["head", "brain", "ants", "mask", "grey-r", "asymmetry", "mirror"]
    assert main(["preprocessing", "--ants-python", "none"] + [f"--only={row}" for row in rows]) == 0
    found = benchmark_table(capsys)[0]
    assert {name for name, _ in found} == set(rows)
    assert all(cells[-1].startswith("not measured: ") for cells in found.values())
    assert "pip install antspyx" in found["ants", "time over the ANTs recipe's"][-1]


@pytest.mark.parametrize("arguments", [["--n", "0"], ["--workers", "x"], []])
def test_bad_arguments_are_one_line(arguments, capsys):
    assert main([*(["preprocessing"] if arguments else []), *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
