"""Prediction sets reach the coverage they state, for weak models too, and say it when they cannot tell."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import conformal

CLASSES = ["control", "left", "right"]


def table(n_test=300, n_held=200, skill=2.0, seed=0, model="m"):
    """Predictions of one fold; `skill` 0 is guessing."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(CLASSES, n_test + n_held)
    score = rng.standard_normal((len(groups), 3)) + skill * (groups[:, None] == CLASSES)
    p = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    out = pd.DataFrame(p, columns=[f"p_{name}" for name in CLASSES]).assign(group=groups, model=model, repeat=0, fold=0)
    out["participant_id"] = [f"sub-{number:04d}" for number in range(len(out))]
    out["split"] = np.where(np.arange(len(out)) < n_test, "test", "validation")
    return out.assign(predicted=np.array(CLASSES)[p.argmax(axis=1)])


@pytest.mark.parametrize("skill", [0.0, 1.5, 4.0])
def test_the_stated_coverage_is_reached_whatever_the_model_is_worth(skill):
    reached = [conformal.prediction_sets(table(skill=skill, seed=seed), 0.8)["covered"].mean() for seed in range(4)]
    assert np.mean(reached) == pytest.approx(0.8, abs=0.05)


def test_a_better_model_gives_smaller_sets():
    sizes = [conformal.prediction_sets(table(skill=skill), 0.9)["size"].mean() for skill in (0.0, 1.5, 4.0)]
    assert sizes[0] > 2.4 and sizes[0] > sizes[1] > sizes[2] and sizes[2] < 1.3


def test_a_model_that_is_never_wrong_gives_its_class_and_no_empty_sets():
    """Its validation probabilities are 1, which puts the threshold above all that is a little less."""
    right = table(skill=60)
    held = right["split"] == "validation"
    columns = [f"p_{name}" for name in CLASSES]
    right[columns] = np.where(right["group"].to_numpy()[:, None] == CLASSES, 1.0, 0.0)
    right.loc[~held, columns] = right.loc[~held, columns] * 0.991 + 0.003
    found = conformal.prediction_sets(right, 0.9)
    assert (found["size"] == 1).all() and found["covered"].all()


def test_the_threshold_is_the_order_statistic_of_split_conformal_prediction():
    shares = np.arange(1, 20) / 20
    held = pd.DataFrame({"group": "left", "p_left": shares, "p_right": 1 - shares})
    p = np.array([[share, 1 - share] for share in (0.04, 0.1, 0.95)])
    sets = conformal.not_ruled_out(p, conformal.threshold(held, 0.9))
    # 20 * 0.9 = the 18th smallest of the scores 0.05 … 0.95 is 0.90: classes of probability 0.10 or more stay
    np.testing.assert_array_equal(sets, [[False, True], [True, True], [True, False]])


def test_thresholds_come_from_the_validation_rows_of_the_own_fold_only():
    first, second = table(40, 60, skill=4.0), table(40, 60, skill=0.0, seed=1)
    second = second.assign(fold=1, participant_id="x" + second["participant_id"])
    both = conformal.prediction_sets(pd.concat([first, second]), 0.9)
    alone = conformal.prediction_sets(first, 0.9)
    pd.testing.assert_frame_equal(both[both["fold"] == 0].reset_index(drop=True), alone)
    assert both.loc[both["fold"] == 1, "size"].mean() > alone["size"].mean() + 0.5


@pytest.mark.parametrize(("n", "coverage"), [(12, 0.9), (67, 0.9), (67, 0.8)])
def test_the_guarantee_is_of_the_mean_over_validation_parts_and_their_spread_is_known(n, coverage):
    """Of uniform scores the covered share is the threshold itself; probabilities of 0 to 0.99 are below `SURE`."""
    rng = np.random.default_rng(0)
    scores = 0.01 + 0.99 * rng.random((250, n))
    rows = pd.DataFrame({"group": ["left"] * n})
    shares = [conformal.threshold(rows.assign(p_left=1 - s, p_right=s), coverage) for s in scores]
    shares = (np.array(shares) - 0.01) / 0.99
    error = 3 * shares.std() / np.sqrt(len(shares))
    assert coverage - error < shares.mean() < coverage + 1 / (n + 1) + error
    low, high = conformal.coverage_range(n, coverage)
    assert np.mean((low <= shares) & (shares <= high)) == pytest.approx(0.95, abs=0.04)
    assert low < coverage < high


def test_too_few_validation_participants_rule_nothing_out():
    assert conformal.least_participants(0.9) == 10 and conformal.least_participants(0.95) == 20
    sets = conformal.prediction_sets(table(30, 9), 0.9)
    assert (sets["size"] == 3).all() and (sets["n_validation"] == 9).all()
    assert conformal.coverage_range(9, 0.9) == (1, 1)
    assert (conformal.prediction_sets(table(30, 10), 0.9)["n_validation"] == 10).all()


def test_summary_says_cannot_tell_for_both_sides_and_for_nothing():
    sets = pd.DataFrame(
        {
            "participant_id": list("abcd"),
            "group": ["left", "left", "right", "control"],
            "in_control": [False, True, False, True],
            "in_left": [True, True, False, False],
            "in_right": [True, False, False, False],
            "size": [2, 2, 0, 1],
            "covered": [True, True, False, True],
            "coverage": 0.9,
        }
    )
    found = conformal.summarise_sets(sets).set_index("group")
    assert found.loc["everybody", ["n", "both_sides", "empty", "one_answer", "reached"]].tolist() == [
        4,
        0.25,
        0.25,
        0.25,
        0.75,
    ]
    assert (
        found.loc["left", "both_sides"] == 0.5 and found.loc["right", "empty"] == 1 and found.loc["control", "n"] == 1
    )


def test_a_patient_who_looks_left_gets_left_alone_when_the_side_is_asked():
    rows = table(60, 120, skill=4.0)
    sides = conformal.sides_only(rows)
    assert set(sides["group"]) == {"left", "right"} and "p_control" not in sides
    sets = conformal.prediction_sets(sides, 0.8)
    left = sets[sets["group"] == "left"]
    assert (left["in_left"] & ~left["in_right"]).mean() > 0.7
    with pytest.raises(TLEError, match="not both sides"):
        conformal.sides_only(rows.drop(columns="p_right"))


def test_bad_input_is_named():
    with pytest.raises(TLEError, match="coverage = 1"):
        conformal.prediction_sets(table(), 1)
    with pytest.raises(TLEError, match="validation"):
        conformal.prediction_sets(table().query("split == 'test'"))


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.6, 0.75]), st.sampled_from([0.8, 0.9]))
def test_more_coverage_never_takes_an_answer_away(seed, low, high):
    rows = table(40, 60, skill=1.0, seed=seed)
    small, large = (
        conformal.prediction_sets(rows, coverage)[["in_control", "in_left", "in_right"]] for coverage in (low, high)
    )
    assert not (small & ~large).to_numpy().any()


def test_the_curve_has_a_row_for_every_stated_coverage():
    curve = conformal.coverage_curve(table(), [0.6, 0.9])
    assert curve["stated"].tolist() == [0.6, 0.9] and curve["reached"].is_monotonic_increasing
