"""Figures show the numbers of their tables, with signs, shares and conditions where they belong."""

import itertools

import numpy as np
import pandas as pd
import pytest

from tle_utils.evaluation import published
from tle_utils.figures import comparison, numbers

CLASSES = ("control", "left", "right")


def results(names=("net", "volumes", "majority")):
    values = np.linspace(0.5, 0.8, len(names))
    table = pd.DataFrame({"model": names, "n": 100, "lateralization_accuracy": values})
    return table.assign(lateralization_accuracy_low=values - 0.1, lateralization_accuracy_high=values + 0.1)


def test_the_chosen_model_stands_out_and_bounds_are_open():
    trace = numbers.model_intervals(results(), "lateralization_accuracy", chosen="volumes", bounds=["majority"]).data[0]
    colour, symbol = (dict(zip(trace.y, part, strict=True)) for part in (trace.marker.color, trace.marker.symbol))
    assert colour["volumes"] != colour["net"] == colour["majority"]
    assert symbol["majority"] == "circle-open" and symbol["net"] == "circle"


def random_predictions(n, models=("net",)):
    """Validation and test rows of n participants in three folds, classes called at random."""
    rng, folds = np.random.default_rng(0), {"test": 0, "validation": 1}
    rows = []
    for model, (split, shift), number in itertools.product(models, folds.items(), range(n)):
        p = rng.dirichlet([1, 1, 1])
        row = {
            "model": model,
            "participant_id": f"s{number}",
            "group": CLASSES[number % 3],
            "repeat": 0,
            "split": split,
        }
        row |= {"fold": (number // 3 + shift) % 3, "predicted": CLASSES[p.argmax()]}
        rows.append(row | dict(zip(("p_control", "p_left", "p_right"), p, strict=True)))
    return pd.DataFrame(rows)


def test_splits_of_the_paper_and_ours_stand_under_one_head_with_their_sums():
    theirs, ours = published.published_table("figure_8"), published.paper_confusion_table(random_predictions(63))
    paper, run = comparison.paper_splits(theirs, ours).data
    heads = list(zip(*paper.x, strict=True))
    assert heads == list(zip(*run.x, strict=True)) and len(set(heads)) == 9
    place = heads.index(("Left TLE", "called<br>right"))
    assert list(paper.text[-1]) == [165, 0, 5, 14, 99, 57, 22, 0, 138], "counted from Figure 8"
    assert paper.text[4][place] == 13 and paper.z[4][place] == pytest.approx(-13 / 17), "split 4"
    assert paper.z[0][0] == pytest.approx(16 / 17) and list(paper.y) == [*map(str, range(10)), "all"]
    assert sum(run.text[-1]) == 63 and sum(run.text[0]) == 21 and len(run.y) == 4


def test_accuracies_of_the_paper_are_those_of_its_splits_beside_ours():
    printed = {"net": published.published_table("figure_8"), "deep": published.published_table("figure_12")}
    figure = comparison.paper_accuracies(random_predictions(63, printed), printed)
    points = {(trace.xaxis, trace.name): np.asarray(trace.y, float) for trace in figure.data}
    assert len(points["x", "test"]) == 20 and points["x", "test"].mean() == pytest.approx((402 + 416) / 1000)
    assert not len(points["x", "validation"]), "the paper prints none"
    assert len(points["x2", "test"]) == len(points["x2", "validation"]) == 6
    assert {round(shape.y0, 2) for shape in figure.layout.shapes} == {0.34, 0.33}, "170 of 500, 21 of 63"


def test_a_measure_of_the_paper_stands_over_the_same_name_as_ours():
    folds = pd.DataFrame({"metric": ["ppv", "ppv", "auc"], "value": [0.5, np.nan, 0.7], "fold": [0, 1, 0]})
    theirs, *ours = comparison.paper_metrics(folds, {"auc": 0.95, "ppv": 1}, {"ppv": "PPV", "auc": "AUC"}).data
    assert dict(zip(theirs.x, theirs.y, strict=True)) == {"PPV": 1, "AUC": 0.95}
    assert {box.name: list(box.y) for box in ours} == {"PPV": [0.5], "AUC": [0.7]}


def test_pairs_read_row_less_column_both_ways():
    row = {"model_a": "a", "model_b": "b", "difference": 0.05, "p_corrected": 0.01, "p_holm": 0.02}
    row |= {"folds": 10, "reason": ""}
    other = row | {"model_b": "c", "difference": -0.1, "p_holm": 0.5}
    heat = comparison.pairs_matrix(pd.DataFrame([row, other])).data[0]
    assert heat.z[0][1] == pytest.approx(5) and heat.z[1][0] == pytest.approx(-5) and np.isnan(heat.z[0][0])
    assert heat.text[0][1] == "+5*" and heat.text[0][2] == "−10" and heat.text[2][0] == "+10"


def test_curves_have_one_line_per_model_and_one_interval_per_point():
    table = pd.DataFrame({"model": ["a", "a", "b", "b"], "size": [60, 120] * 2, "value": [0.6, 0.7, 0.5, 0.8]})
    table = table.assign(ci_low=table["value"] - 0.1, ci_high=table["value"] + 0.2, n=80, folds=4)
    figure = comparison.accuracy_curves(table, "size", "Participants", ceiling=0.9)
    assert [trace.name for trace in figure.data] == ["a", "b"]
    np.testing.assert_allclose(figure.data[1].error_y.array, 0.2)
    np.testing.assert_allclose(figure.data[1].error_y.arrayminus, 0.1)
    assert {shape.y0 for shape in figure.layout.shapes} == {0.5, 0.9}
    one = comparison.accuracy_curves(table[table["size"] == 60], "size", "Participants")
    assert list(one.data[0].x) == pytest.approx([60], abs=0.1)


def test_conditions_of_one_line_share_its_place():
    table = pd.concat([results().assign(tested=name) for name in ("here", "there")], ignore_index=True)
    figure = comparison.condition_points(table, "model", "tested")
    here, there = figure.data
    assert (np.abs(np.asarray(here.y) - there.y) < 0.5).all() and (np.asarray(here.y) > there.y).all()
    assert list(figure.layout.yaxis.ticktext)[::1] == ["majority", "volumes", "net"]
    np.testing.assert_allclose(here.x, results()["lateralization_accuracy"])


def test_answers_sum_to_one_for_every_class():
    row = {
        "group": "everybody",
        "n": 10,
        "stated": 0.9,
        "one_answer": 0.5,
        "wrong": 0.1,
        "both_sides": 0.3,
        "empty": 0.1,
    }
    figure = comparison.set_answers(pd.DataFrame([row, row | {"group": "left", "one_answer": 0.6}]))
    shares = {trace.name: trace.x for trace in figure.data}
    np.testing.assert_allclose(sum(np.asarray(share) for share in shares.values()), 1)
    assert shares["one answer, correct"][0] == pytest.approx(0.4) and shares["one answer, wrong"][0] == 0.1
    assert figure.data[0].y[1] == "Left TLE (n = 10)"


def test_the_curve_of_coverage_lies_where_its_table_says():
    curve = pd.DataFrame({"stated": [0.8, 0.9], "reached": [0.82, 0.88], "ci_low": 0.7, "ci_high": 0.95})
    trace = comparison.coverage_figure(curve.assign(n=50, mean_size=1.5)).data[1]
    assert list(trace.x) == [0.8, 0.9] and list(trace.y) == [0.82, 0.88]
    np.testing.assert_allclose(trace.error_y.array, [0.13, 0.07])


def test_z_scores_point_left_for_left_and_stand_in_the_order_of_their_table():
    rows = [(region, measure) for region in ("hippocampus", "amygdala") for measure in ("left", "right", "asymmetry")]
    table = pd.DataFrame(rows, columns=["region", "measure"]).assign(z=[-4, 0, -3, 1, 1, 0], value=3, expected=4)
    figure = numbers.zscore_figure(table.assign(low=3.5, high=4.5))
    traces = {trace.name.split()[0]: trace for trace in figure.data}
    assert traces["left"].marker.symbol == "triangle-left" and list(traces["left"].x) == [-4, 1]
    assert list(figure.layout.yaxis.categoryarray) == ["hippocampus", "amygdala"]
    assert "2 regions" in figure.layout.meta["alt"] and "$" not in figure.to_json()


@pytest.mark.parametrize("known", [False, True])
def test_volumes_say_how_many_stand_where_and_leave_out_whose_sclerosis_is_not_known(known):
    people = pd.DataFrame({"participant_id": list("abcd"), "group": ["control", "left", "left", "right"]})
    people = people.assign(hippocampus_left=[3.0, 2, 2.5, 3], hippocampus_right=[3.0, 3, 3, 2])
    if known:
        people["sclerosis"] = ["without sclerosis", "with sclerosis", "without sclerosis", None]
    *classes, line = numbers.volume_scatter(people).data
    both = ["Control (n = 1)", "Left TLE with sclerosis (n = 1)", "Left TLE without sclerosis (n = 1)"]
    assert [trace.name for trace in classes] == (
        both if known else ["Control (n = 1)", "Left TLE (n = 2)", "Right TLE (n = 1)"]
    )
    assert line.x == line.y == (2, 3)
