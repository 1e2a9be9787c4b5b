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
    trace = comparison.all_models(results(), "volumes", ["majority"]).data[0]
    colour, symbol = (dict(zip(trace.y, part, strict=True)) for part in (trace.marker.color, trace.marker.symbol))
    assert colour["volumes"] != colour["net"] == colour["majority"]
    assert symbol["majority"] == "circle-open" and symbol["net"] == "circle"


def test_pairs_read_row_less_column_both_ways():
    row = {"model_a": "a", "model_b": "b", "difference": 0.05, "p": 0.01, "p_holm": 0.02, "folds": 10, "reason": ""}
    other = row | {"model_b": "c", "difference": -0.1, "p_holm": 0.5}
    heat = comparison.pairs_matrix(pd.DataFrame([row, other])).data[0]
    assert heat.z[0][1] == pytest.approx(5) and heat.z[1][0] == pytest.approx(-5) and np.isnan(heat.z[0][0])
    assert heat.text[0][1] == "+5*" and heat.text[0][2] == "−10" and heat.text[2][0] == "+10"


def test_curves_have_a_line_a_model_and_an_interval_a_point():
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
    assert shares["one answer, right"][0] == pytest.approx(0.4) and shares["one answer, wrong"][0] == 0.1
    assert figure.data[0].y[1] == "Left TLE (n = 10)"


def test_the_curve_of_coverage_lies_where_its_table_says():
    curve = pd.DataFrame({"stated": [0.8, 0.9], "reached": [0.82, 0.88], "ci_low": 0.7, "ci_high": 0.95})
    trace = comparison.coverage_figure(curve.assign(n=50, mean_size=1.5)).data[1]
    assert list(trace.x) == [0.8, 0.9] and list(trace.y) == [0.82, 0.88]
    np.testing.assert_allclose(trace.error_y.array, [0.13, 0.07])


@pytest.mark.parametrize(
    ("difference", "words"),
    [(np.nan, "accuracy 0.75 against 0.70 (n = 8), no test"), (0.05, "accuracy +5.0 points (n = 8)")],
)
def test_a_difference_that_is_not_known_is_not_written_as_a_number(difference, words):
    test = {"model_a": "a", "model_b": "b", "metric": "accuracy", "difference": difference, "n": 8}
    test |= {"value_a": 0.75, "value_b": 0.7}
    said = numbers.comparison_text(test | {"p_corrected": np.nan, "reason": "fewer than two folds"})
    assert words in said and "nan" not in said and said.endswith("no test: fewer than two folds.")
