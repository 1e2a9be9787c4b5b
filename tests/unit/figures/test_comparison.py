"""Figures show the numbers of their tables, with signs, shares and conditions where they belong."""

import numpy as np
import pandas as pd
import pytest

from tle_utils.figures import comparison, numbers


def results(names=("net", "volumes", "majority")):
    values = np.linspace(0.5, 0.8, len(names))
    table = pd.DataFrame({"model": names, "n": 100, "lateralization_accuracy": values})
    return table.assign(lateralization_accuracy_low=values - 0.1, lateralization_accuracy_high=values + 0.1)


def test_the_chosen_model_stands_out_and_bounds_are_open():
    trace = numbers.model_intervals(results(), "lateralization_accuracy", chosen="volumes", bounds=["majority"]).data[0]
    colour, symbol = (dict(zip(trace.y, part, strict=True)) for part in (trace.marker.color, trace.marker.symbol))
    assert colour["volumes"] != colour["net"] == colour["majority"]
    assert symbol["majority"] == "circle-open" and symbol["net"] == "circle"


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
