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
        (0.6, 0.05, 0.65, "untestable"),
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


def test_pages_and_the_front_page_say_the_same_of_what_is_reproduced(tmp_path):
    here, there, nowhere = tmp_path / "here", tmp_path / "there", tmp_path / "none"
    write_results(here, 0.6, 0.05, 0.97)
    write_results(there, 0.81, 0.05, 0.97)
    alone, beside = overview.verdicts(here, nowhere), overview.verdicts(here, there)
    assert ">no<" in alone["figure_8_accuracy"] and ">yes<" in beside["figure_12_accuracy"]
    assert alone["replication_accuracy"] == "–", "this run has no chapter 2"
    assert alone["figure_8_accuracy"] in overview.front_table(here, nowhere)


@pytest.mark.parametrize(
    ("value", "bound", "lead"),
    [
        (0.55, 0.97, "No, not shown to be better than chance: "),
        (0.65, 0.97, "Better than chance, but not as well as in the paper: "),
        (0.65, 0.6, "Better than chance, but whether as well as in the paper cannot be tested here: "),
        (0.7, 0.97, "Yes, in agreement with the paper: "),
        (0.9, 0.97, "Yes, and better than in the paper: "),
    ],
)
def test_a_chapter_opens_with_its_answer_against_chance_and_the_paper(tmp_path, value, bound, lead):
    write_results(tmp_path, value, 0.05, bound)
    said = overview.answer_text(tmp_path, overview.BASELINE)
    interval = f"{value:.2f} (95 % CI {value - 0.05:.2f}–{value + 0.05:.2f}, n = 60)"
    assert said.startswith(f"{lead}the lateralization accuracy of the 3-layer CNN is {interval}; chance is 0.55")
    assert said.endswith(f"the upper bound {bound:.2f}, the paper 0.72.")


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


def write_predictions(run, sclerosis):
    """One method that is correct wherever there is sclerosis and wrong elsewhere, and one that never is told apart."""
    people = [(f"sub-{i}", ("left", "right")[i % 2], i < 6) for i in range(8)] + [("sub-8", "control", None)]
    (run / overview.FIRST).mkdir(parents=True)
    table = pd.DataFrame(people, columns=["participant_id", "group", "mts"]).assign(site="A", map="m")
    table["mts"] = table["mts"] if sclerosis else None
    table.to_csv(run / overview.FIRST / "participants.tsv", sep="\t", index=False)
    rows = []
    for name, group, ill in people:
        called = group if ill or group == "control" else {"left": "right", "right": "left"}[group]
        own = {f"p_{one}": 0.8 if one == called else 0.1 for one in ("control", "left", "right")}
        rows.append({"participant_id": name, "group": group, "model": "volumes <b>", **own, "predicted": called})
        even = {"p_control": 0.4, "p_left": 0.3, "p_right": 0.3, "predicted": "control"}
        rows.append({"participant_id": name, "group": group, "model": "net", **even})
        rows.append({"participant_id": name, "group": group, "model": "majority", **even})
    for chapter in (overview.BASELINE, overview.DEEP, "06_multitask_model"):
        (run / chapter).mkdir()
        table = pd.DataFrame(rows).assign(repeat=0, fold=0, split="test")
        table.to_csv(run / chapter / "predictions.tsv", sep="\t", index=False)


def test_the_front_picture_tells_patients_with_sclerosis_from_those_without(tmp_path):
    write_predictions(tmp_path, sclerosis=True)
    table = overview.side_shares(tmp_path).set_index(["model", "subgroup"])[overview.SIDE]
    assert table.to_dict() == {
        ("volumes <b>", "with sclerosis"): 1,
        ("volumes <b>", "without"): 0,
        ("net", "with sclerosis"): 0.5,
        ("net", "without"): 0.5,
    }, "a tie counts half, the majority is no method, a model that stands in several chapters counts once"
    picture = overview.side_picture(tmp_path)
    assert "with sclerosis (n = 6) and without (n = 2). volumes &lt;b&gt;: 1.00 / 0.00; net: 0.50 / 0.50" in picture
    assert picture.index(">volumes &lt;b&gt;<") < picture.index(">net<"), "the best method first"
    assert picture.count("<circle") == 4 and "chance 0.50" in picture and "the paper, 3-layer CNN 0.72" in picture
    assert "\n\n" not in picture and "<b>" not in picture, "one block of HTML in a page of Markdown"


def test_the_front_picture_needs_no_knowledge_of_sclerosis(tmp_path):
    write_predictions(tmp_path, sclerosis=False)
    assert overview.side_picture(tmp_path).count("<circle") == 2
    assert overview.side_picture(tmp_path / "none") == ""
