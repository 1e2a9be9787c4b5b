"""Sclerosis as an axis: left stays left, more of it is never worse, and an accuracy out of reach is said to be so."""

import re
import string

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import make_table, random_table

from tle_utils.evaluation import curves, metrics
from tle_utils.figures import phantom
from tle_utils.models import baselines
from tle_utils.models.ideal_observer import IDEAL_OBSERVER
from tle_utils.phantom.volumes import Knobs, draw_cohort

KNOBS = Knobs(3)
METHODS = ["hippocampal volumes", baselines.AUTOHS, "regional volumes", IDEAL_OBSERVER]


@pytest.fixture(scope="module")
def found():
    return curves.sclerosis_curves((40, 40, 36), KNOBS, (0.0, 0.5, 1.0), 2, n_splits=3)


def test_every_method_has_every_task_at_every_share(found):
    sizes = found.groupby(["model", "task"], sort=False).size()
    assert (sizes == 6).all() and len(sizes) == 4 * len(curves.TASKS)
    assert list(found["model"].unique()) == METHODS and list(found["seed"].unique()) == [3, 4]


def test_more_sclerosis_is_never_worse_than_by_chance_and_names_the_side(found):
    mean = found.pivot_table(index="share", columns=["task", "model"], values="accuracy")
    noise = 2 * np.sqrt(0.25 / (2 * 76))
    assert (mean[[(task, IDEAL_OBSERVER) for task in curves.TASKS]].diff().dropna() > -noise).all(axis=None)
    assert (mean.loc[1.0, "side"] > 0.8).all() and (
        mean["side", IDEAL_OBSERVER] >= mean["side"].max(axis=1) - noise
    ).all()
    assert abs(mean.loc[0.0, ("side", "hippocampal volumes")] - 0.5) < 2 * noise
    assert abs(mean.loc[0.0, ("side", baselines.AUTOHS)] - 0.5) < noise


def test_the_same_people_are_sclerotic_at_every_greater_share():
    few, many = (cohort for _, cohort in curves._cohorts((5, 20, 10), KNOBS, (0.25, 0.6)))
    assert few.groupby("true_group")["sclerotic"].sum().to_dict() == {"control": 0, "left": 5, "right": 2}
    assert many.groupby("true_group")["sclerotic"].sum().to_dict() == {"control": 0, "left": 12, "right": 6}
    assert not (few["sclerotic"] & ~many["sclerotic"]).any()
    all_ill = draw_cohort(5, 20, 10, Knobs(3, sclerosis_fraction=1.0))
    name = "volume_left_hippocampus"
    np.testing.assert_array_equal(many.loc[many["sclerotic"], name], all_ill.loc[many["sclerotic"], name])
    assert (many["sclerosis_fraction"] == 0.6).all()


def test_sides_change_when_hemispheres_change_places():
    """Of the rule and the ideal observer, who learn nothing and so cannot learn that left and right were swapped."""
    truth = draw_cohort(20, 30, 30, Knobs(5, sclerosis_fraction=1.0))
    partner = [SWAP.sub(lambda found: OTHER[found[0]], name) for name in truth]
    swapped = truth[partner].set_axis(truth.columns, axis=1)
    for cohort, low, high in ((truth, 0.8, 1), (swapped, 0, 0.2)):
        said = curves.latent_predictions(cohort, 3, 0).groupby("model")
        for model in (baselines.AUTOHS, IDEAL_OBSERVER):
            assert low <= curves.task_accuracy(said.get_group(model), "side") <= high


SWAP, OTHER = re.compile("_left_|_right_"), {"_left_": "_right_", "_right_": "_left_"}


@pytest.mark.parametrize("task", list(curves.TASKS))
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 999))
def test_tasks_are_those_of_the_tables(task, seed):
    table = random_table(seed, n=45)
    value = curves.task_accuracy(table, task)
    known = metrics.model_metrics(table).set_index("metric")["value"]
    if task == "side":
        assert value == pytest.approx(known["lateralization_accuracy"])
    elif task == "class":
        assert value == pytest.approx(known["accuracy"])
    elif task == "patient":
        assert value == pytest.approx(((table["p_control"] < 0.5) == (table["group"] != "control")).mean())
    else:
        rows = table[table["group"] != "right"]
        assert value == pytest.approx(((rows["p_left"] > rows["p_control"]) == (rows["group"] == "left")).mean())


def test_an_answer_that_names_none_of_those_asked_about_counts_half():
    silent = make_table(["left", "right", "control"], [[0.6, 0.2, 0.2]] * 3)
    assert curves.task_accuracy(silent, "side") == 0.5 and curves.task_accuracy(silent, "class") == pytest.approx(1 / 3)
    assert curves.task_accuracy(silent, "left") == 0.5


def test_the_crossing_is_read_off_straight_lines():
    shares = [0.0, 0.5, 1.0]
    assert curves.crossing(shares, [0.5, 0.7, 0.9], 0.8) == pytest.approx(0.75)
    assert curves.crossing(shares, [0.5, 0.7, 0.9], 0.901) == np.inf
    assert curves.crossing(shares, [0.5, 0.7, 0.9], 0.4) == 0
    assert curves.crossing(shares, [0.5, 0.7, 0.7], 0.7) == pytest.approx(0.5)
    assert curves.crossing(shares, [0.6, 0.5, 0.9], 0.55) == 0  # a fall is chance: both are 0.55


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.3, 1.0), min_size=3, max_size=6), st.floats(0.3, 1.0), st.floats(0.3, 1.0))
def test_a_higher_accuracy_never_needs_less(accuracy, one, other):
    shares = np.linspace(0, 1, len(accuracy))
    low, high = (curves.crossing(shares, accuracy, target) for target in sorted((one, other)))
    assert 0 <= low <= high


def test_what_is_not_reached_is_said():
    rows = [(seed, share, model, "side", value + 0.01 * seed) for seed in (0, 1, 2) for share, model, value in TOY]
    table = pd.DataFrame(rows, columns=["seed", "share", "model", "task", "accuracy"])
    needed = curves.needed_shares(table, "side", 0.9).set_index("model")
    assert needed.loc["never", ["needed", "needed_low", "reached"]].tolist() == [np.inf, np.inf, 0]
    assert needed.loc[IDEAL_OBSERVER, ["needed_low", "needed", "needed_high"]].is_monotonic_increasing
    assert needed.loc["two of three", "reached"] == pytest.approx(2 / 3)
    texts = needed.apply(curves.needed_text, axis=1)
    assert texts["never"] == "not reached at any share (0.71 at best)"
    assert texts["two of three"] == "0.98 (0.96–not reached)"
    sentence = curves.needed_sentence(needed.reset_index())
    assert sentence.startswith(f"takes a share of {texts[IDEAL_OBSERVER]} by the ideal observer")
    assert sentence.endswith(
        ", 0.98 (0.96–not reached) by the two of three; no other method reaches it (0.71 at best, by the never)"
    )
    never = needed.loc[["never"]].reset_index()
    assert curves.needed_sentence(never) == "is reached by no method at any share (0.71 at best, by the never)"


TOY = [(0.0, "never", 0.5), (1.0, "never", 0.7), (0.0, "two of three", 0.5), (1.0, "two of three", 0.896)]
TOY += [(0.0, IDEAL_OBSERVER, 0.5), (1.0, IDEAL_OBSERVER, 0.99)]


def test_published_points_lie_where_their_sources_say():
    points = curves.published_points()
    assert points["task"].isin(curves.TASKS).all() and points["accuracy"].between(0.5, 1).all()
    real = points[points["name"].str.startswith("IDEAS")].set_index("task")
    assert (real["share"] == 1).all() and real.loc["side", "n"] == 173
    assert real.loc["class", curves.ENDS].round(3).tolist() == [0.823, 0.906]
    later = points[points["name"].str.startswith("Kaestner")]
    assert later["share"].isna().all() and (later["n"] == 359).all()


def test_a_run_stands_at_its_share_with_the_values_of_its_tables():
    three, two = random_table(0), random_table(1, classes=("control", "left"), model="two")
    points = curves.run_points(pd.concat([three, two]), 0.75).set_index(["name", "task"])
    known = metrics.model_metrics(three).set_index("metric")
    side = points.loc[("net", "side")]
    assert side["accuracy"] == known.loc["lateralization_accuracy", "value"] and side["n"] == 40
    assert side[curves.ENDS].tolist() == known.loc["lateralization_accuracy", ["ci_low", "ci_high"]].tolist()
    assert (
        list(points.index) == [("net", "side"), ("net", "class"), ("two", "left")] and (points["share"] == 0.75).all()
    )


def test_the_figure_has_published_accuracies_where_their_cohorts_lie(found):
    points = curves.published_points().assign(ours=False)
    points["mark"] = list(string.ascii_lowercase[: len(points)])
    paper = {"left": {"Figure 4": 0.947}}
    figure = phantom.sclerosis_axis(curves.mean_curves(found), points, paper, curves.TASKS)
    drawn = {
        mark: at
        for trace in figure.data
        if trace.name == "published"
        for mark, at in zip(trace.text, trace.x, strict=True)
    }
    known = points.dropna(subset="share").set_index("mark")["share"]
    assert set(drawn) == set(known.index) and max(abs(drawn[mark] - known[mark]) for mark in drawn) < 0.05
    lines = sorted(shape.y0 for shape in figure.layout.shapes)
    assert lines == sorted([*points.loc[points["share"].isna(), "accuracy"], 0.947])
