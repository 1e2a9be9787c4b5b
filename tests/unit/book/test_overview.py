import pandas as pd
import pytest

from tle_utils.base.statistics import wilson_interval
from tle_utils.book import overview
from tle_utils.models.ideal_observer import IDEAL_OBSERVER

CLASSES = "40 control, 33 left, 27 right"


def write_results(folder, value, half, bound):
    """Results of chapters 3 and 4: every metric of every model `value` ± `half`, the ideal observer at `bound`."""
    for chapter, model in ((overview.BASELINE, overview.THREE), (overview.DEEP, overview.SIX)):
        rows = []
        for name, centre in ((model, value), (IDEAL_OBSERVER, bound)):
            row = {"model": name, "n": 100, "classes": CLASSES}
            for metric in ("accuracy", overview.SIDE):
                row |= {metric: centre, f"{metric}_low": centre - half, f"{metric}_high": centre + half}
            rows.append(row)
        (folder / chapter).mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(folder / chapter / "results.tsv", sep="\t", index=False)


def verdicts(folder):
    return {overview.answer(folder, question).get("reproduced") for question in overview.QUESTIONS[1:3]}


@pytest.mark.parametrize(
    ("value", "half", "bound", "verdict"),
    [
        (0.6, 0.05, 0.97, "no"),
        (0.81, 0.05, 0.97, "yes"),
        (0.95, 0.02, 0.97, "surpassed"),
        (0.6, 0.05, 0.65, "cannot be told"),
    ],
)
def test_reproduced_is_said_of_the_interval_and_never_beyond_the_upper_bound(tmp_path, value, half, bound, verdict):
    write_results(tmp_path, value, half, bound)
    assert verdicts(tmp_path) == {verdict}


def test_the_side_is_asked_of_patients_and_chance_is_the_larger_class(tmp_path):
    write_results(tmp_path, 0.7, 0.05, 0.9)
    classes, side = (overview.answer(tmp_path, overview.QUESTIONS[number]) for number in (1, 3))
    assert (classes["n"], side["n"]) == (100, 60)
    assert classes["chance"] == pytest.approx(0.4) and side["chance"] == pytest.approx(33 / 60)


def test_the_paper_is_counted_from_its_own_tables():
    values = [overview.paper_value(question) for question in overview.QUESTIONS]
    assert values[0] == pytest.approx(322 / 340, abs=1e-4), "section 3.3"
    assert values[1] == pytest.approx(402 / 500) and values[2] == pytest.approx(416 / 500), "Figures 8 and 12"


def test_the_judge_is_the_reference_where_there_is_one(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    write_results(here, 0.6, 0.05, 0.97)
    write_results(there, 0.81, 0.05, 0.97)
    alone, beside = overview.front_table(here, tmp_path / "none"), overview.front_table(here, there)
    assert "the paper's design" not in alone and "[^no]: " in alone
    assert "0.60 (0.55–0.65), n = 100 | 0.81 (0.76–0.86), n = 100" in beside and "[^yes]: " in beside
    assert "[^no]" not in beside.split("\n\n")[0].splitlines()[2]


def test_a_run_without_these_chapters_says_so(tmp_path):
    assert "no answer" in overview.front_table(tmp_path, tmp_path / "none")


def test_a_wider_interval_needs_fewer_participants():
    *_, row = overview.participants_table().splitlines()
    accuracy, *counts = (cell.strip() for cell in row.strip("|").split("|"))
    assert accuracy == "90%"
    for n, width in zip(map(int, counts), (0.10, 0.05, 0.03), strict=True):
        (low, high), (wider_low, wider_high) = wilson_interval(0.9 * n, n), wilson_interval(0.9 * (n - 1), n - 1)
        assert (high - low) / 2 <= width < (wider_high - wider_low) / 2


@pytest.mark.parametrize(("given", "share"), [(0.75, "0.75"), (None, "0.45")])
def test_helps_and_handicaps_of_a_run_stand_beside_the_papers_design(given, share):
    first = {"parameters": {"sclerosis_fraction": given, "effect_scale": 1.0}}
    chapters = {"01_preprocessing": first, overview.BASELINE: {"parameters": {"n_splits": 3, "max_epochs": 14}}}
    card = {"cohort": "phantom", "participants": 96, "notebooks": chapters}
    rows = [line.strip("|").split("|") for line in overview.design_table(card, None).splitlines()[2:]]
    values = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}
    assert values["participants"] == ["96", "500"] and values["folds"] == ["3", "10"]
    assert values["patients with sclerosis (share)"] == [share, "not stated"]
    real = overview.design_table(card | {"cohort": "unam"}, card | {"chapters": chapters})
    assert real.splitlines()[0].count("|") == 5 and "| not known |" in real and "| real patients |" in real
