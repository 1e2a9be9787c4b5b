import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import THREE, TWO, make_table, random_table
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, precision_score, recall_score, roc_auc_score

from tle_utils.base.errors import TLEError
from tle_utils.base.statistics import wilson_interval
from tle_utils.evaluation import calibration, metrics
from tle_utils.models import predictions


@st.composite
def tables(draw, classes=THREE):
    n = draw(st.integers(6, 25))
    groups = [*classes, *draw(st.lists(st.sampled_from(classes), min_size=n, max_size=n))]
    grid = st.lists(st.integers(0, 4), min_size=len(classes), max_size=len(classes)).filter(any)
    p = np.array(draw(st.lists(grid, min_size=len(groups), max_size=len(groups))), float)
    return make_table(groups, p / p.sum(axis=1, keepdims=True), classes)


def values(summary, column="value"):
    return summary.set_index("metric")[column]


@settings(max_examples=12, deadline=None)
@given(tables(TWO))
def test_binary_metrics_match_scikit_learn(table):
    found = values(metrics.model_metrics(table, "left"))
    true, called = table["group"] == "left", table["predicted"] == "left"
    assert found["sensitivity"] == pytest.approx(recall_score(true, called))
    assert found["specificity"] == pytest.approx(recall_score(~true, ~called))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, called))
    assert found["auc"] == pytest.approx(roc_auc_score(true, table["p_left"]))
    assert found["ppv"] == pytest.approx(precision_score(true, called, zero_division=np.nan), nan_ok=True)
    assert found["npv"] == pytest.approx(precision_score(~true, ~called, zero_division=np.nan), nan_ok=True)
    assert calibration.brier(table) == pytest.approx(brier_score_loss(true, table["p_left"]))


@settings(max_examples=12, deadline=None)
@given(tables())
def test_three_class_metrics_match_scikit_learn(table):
    summary = metrics.model_metrics(table)
    found = values(summary)
    recall = recall_score(table["group"], table["predicted"], labels=THREE, average=None)
    assert found["accuracy"] == pytest.approx((table["group"] == table["predicted"]).mean())
    assert [found[f"sensitivity_{name}"] for name in THREE] == pytest.approx(list(recall))
    assert found["balanced_accuracy"] == pytest.approx(recall.mean())
    sides = table[table["group"] != "control"]
    share = (sides["p_left"] / (sides["p_left"] + sides["p_right"])).fillna(0.5)
    assert found["auc_left_right"] == pytest.approx(roc_auc_score(sides["group"] == "left", share))
    inside = summary.dropna(subset="ci_low")
    assert ((inside["ci_low"] <= inside["value"] + 1e-9) & (inside["value"] <= inside["ci_high"] + 1e-9)).all()
    assert summary[summary["value"].isna()]["reason"].str.len().gt(0).all()


@settings(max_examples=8, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
def test_order_of_rows_changes_nothing(table, random):
    order = list(range(len(table)))
    random.shuffle(order)
    mixed = table.iloc[order].reset_index(drop=True)
    pd.testing.assert_frame_equal(metrics.model_metrics(mixed), metrics.model_metrics(table))
    assert calibration.expected_calibration_error(mixed) == pytest.approx(calibration.expected_calibration_error(table))


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_stays_in_bounds_and_holds_the_value(counts):
    successes, n = counts
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= high <= 1
    assert high - low > 0


def test_interval_of_a_perfect_result_is_not_a_point():
    assert wilson_interval(170, 170) == pytest.approx((0.9779, 1.0), abs=1e-4)
    assert np.isnan(wilson_interval(0, 0)).all()


def test_side_is_judged_among_patients_by_the_greater_side_probability():
    p = [[0.8, 0.15, 0.05], [0.8, 0.05, 0.15], [0.2, 0.4, 0.4], [0.1, 0.2, 0.7], [0.6, 0.4, 0.0]]
    table = make_table(["left", "left", "left", "right", "control"], p, folds=1)
    summary = metrics.model_metrics(table)
    assert values(summary)["lateralization_accuracy"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert values(summary, "n")["lateralization_accuracy"] == 4


def test_patient_against_control_joins_the_sides():
    table = random_table(0)
    found = values(metrics.model_metrics(table, "patient"))
    ill = table["group"] != "control"
    assert found["sensitivity"] == pytest.approx((table["predicted"] != "control")[ill].mean())
    assert found["auc"] == pytest.approx(roc_auc_score(ill, 1 - table["p_control"]))
    with pytest.raises(TLEError, match="positive class 'Left'.*control, left, right, patient"):
        metrics.model_metrics(table, "Left")


def test_class_that_is_never_predicted_is_undefined_with_a_reason():
    table = make_table(["control", "left"] * 6, [[0.9, 0.1]] * 12, TWO)
    summary = metrics.model_metrics(table, "left").set_index("metric")
    assert np.isnan(summary.loc["ppv", "value"])
    assert summary.loc["ppv", "reason"] == "never predicted"
    assert summary.loc["sensitivity", "value"] == 0
    assert np.isnan(summary.loc["auc", "ci_low"])
    assert "bootstrap" in summary.loc["auc", "reason"]
    found = metrics.flags(table)
    assert "always predicts control" in found
    assert "constant probabilities in 3 of 3 folds" in found


def test_flags_name_the_fold_that_lacks_a_class_and_the_single_class():
    table = random_table(1)
    table.loc[table["group"] == "right", "fold"] = [1, 2] * 10
    assert "fold 0 has no right" in metrics.flags(table)
    assert "one true class only (left)" in metrics.flags(table[table["group"] == "left"])


def test_the_spread_is_over_folds():
    table = random_table(2)
    accuracy = metrics.fold_metrics(table).query("metric == 'accuracy'")["value"]
    line = metrics.model_metrics(table).set_index("metric").loc["accuracy"]
    assert line["fold_sd"] == pytest.approx(accuracy.std(ddof=1)) and line["folds"] == 3


def test_leave_one_out_has_pooled_values_only():
    alone = random_table(2, folds=60).assign(fold=np.arange(60))
    summary = metrics.model_metrics(alone).set_index("metric")
    assert summary["fold_sd"].isna().all()
    assert summary.loc["accuracy", "ci_low"] < summary.loc["accuracy", "value"] < summary.loc["accuracy", "ci_high"]
    assert metrics.flags(alone) == ["one participant per fold: read pooled values, AUC leans low"]


def test_repeats_do_not_narrow_the_interval_of_a_proportion():
    once = random_table(3)
    thrice = pd.concat([once.assign(repeat=repeat) for repeat in range(3)])
    one, three = metrics.model_metrics(once), metrics.model_metrics(thrice)
    columns = ["metric", "value", "ci_low", "ci_high", "n"]
    pd.testing.assert_frame_equal(one[columns], three[columns])


def test_bootstrap_interval_covers_the_true_area():
    truth = norm.cdf(0.7)  # scores of the two classes differ by 1.4 with a standard deviation of 2
    covered = 0
    for seed in range(25):
        table = random_table(seed, n=80, classes=TWO, signal=0.7, folds=2)
        line = metrics.model_metrics(table, "left").set_index("metric").loc["auc"]
        covered += line["ci_low"] <= truth <= line["ci_high"]
    assert covered >= 20


def test_validation_rows_are_kept_apart():
    table = random_table(4)
    kept = table.assign(split="validation", fold=(table["fold"] + 1) % 3, predicted="left")
    both = pd.concat([table, kept], ignore_index=True)
    pd.testing.assert_frame_equal(metrics.model_metrics(both), metrics.model_metrics(table))


def test_confusion_counts_true_by_predicted():
    table = random_table(5)
    counts = metrics.confusion(table)
    assert counts.to_numpy().sum() == len(table)
    assert counts.loc["left", "right"] == ((table["group"] == "left") & (table["predicted"] == "right")).sum()


def test_reliability_bins_hold_equal_numbers_and_a_calibrated_model_has_small_error():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=20000)
    groups = np.where(rng.uniform(size=p.size) < p, "left", "control")
    table = make_table(groups, np.stack([1 - p, p], axis=1), TWO)
    bins = calibration.reliability_table(table, bins=10)
    assert bins["n"].tolist() == [2000] * 10
    assert calibration.expected_calibration_error(table, bins=10) < 0.015
    overconfident = make_table(groups, np.stack([p < 0.5, p >= 0.5], axis=1), TWO)
    assert calibration.expected_calibration_error(overconfident) == pytest.approx(0.25, abs=0.02)


def test_leak_guard_names_the_participant():
    predictions.assert_no_leak(["a", "a", "b"], ["c"], ["d"])
    for sides in (["a"], ["c"], ["a"]), (["a"], ["a"], ["c"]), (["c"], ["a"], ["a"]):
        with pytest.raises(TLEError, match="participant 'a'"):
            predictions.assert_no_leak(*sides)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"p_left": np.nan}, "sum to 1"),
        ({"p_left": 0.9, "p_control": 0.9, "p_right": 0.9}, "sum to 1"),
        ({"p_left": -0.5, "p_control": 1.5, "p_right": 0.0}, "outside 0 to 1"),
        ({"group": "bilateral"}, "group is not a class"),
        ({"predicted": "ill"}, "predicted is not a class"),
        ({"split": "train"}, "neither test nor validation"),
        ({"participant_id": "sub-0008"}, "tested twice"),
    ],
)
def test_bad_rows_are_refused_by_participant(change, text):
    table = random_table(6)
    for column, value in change.items():
        table.loc[7, column] = value
    name = change.get("participant_id", "sub-0007")
    with pytest.raises(TLEError, match=f"'{name}'.*{text}") as error:
        predictions.validate_predictions(table)
    assert "\n" not in str(error.value)


def test_participant_with_two_true_classes_or_on_two_sides_of_a_fold_is_refused():
    table = random_table(7)
    other = table.assign(model="other")
    other.loc[3, "group"] = "left"
    with pytest.raises(TLEError, match="'sub-0003'.*two true classes"):
        predictions.validate_predictions(pd.concat([table, other]))
    with pytest.raises(TLEError, match="'sub-0000'.*twice in one fold"):
        predictions.validate_predictions(pd.concat([table, table.iloc[:1].assign(split="validation")]))


def test_missing_column_several_models_and_no_rows_are_refused():
    table = random_table(8)
    with pytest.raises(TLEError, match="no column fold"):
        metrics.model_metrics(table.drop(columns="fold"))
    with pytest.raises(TLEError, match="rows of 2 models"):
        metrics.model_metrics(pd.concat([table, table.assign(model="other")]))
    with pytest.raises(TLEError, match="no row with split 'validation'"):
        predictions.select_rows(table, "validation")


def test_tasks_of_two_and_three_classes_share_a_table():
    two = random_table(9, classes=TWO, model="two")
    both = pd.concat([random_table(9), two.assign(participant_id="x" + two["participant_id"])])
    found = metrics.fold_metrics(both).groupby("model")["metric"].unique()
    assert "sensitivity_right" in found["net"]
    assert "sensitivity_right" not in found["two"]
