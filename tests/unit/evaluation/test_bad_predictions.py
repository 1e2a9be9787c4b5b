"""Bad input to the models ends in one line that names it, or in a flagged row; never in a silent number."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import metrics as evaluation_metrics
from tle_utils.evaluation import model_tests
from tle_utils.models import baselines, crossval

CLASSES = ("control", "left", "right")
NONE = np.array([], int)


def cohort(sizes):
    groups = np.repeat(CLASSES, sizes)
    return pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(len(groups))], "group": groups})


def images(n, seed=0):
    return np.random.default_rng(seed).random((n, 8, 8, 1), dtype=np.float32)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.integers(0, 12)] * 3), st.integers(2, 6))
def test_folds_hold_every_class_or_name_the_one_that_is_too_small(sizes, n_splits):
    people = cohort(sizes)
    try:
        folds = crossval.make_folds(people, n_splits, seed=0)
    except TLEError as error:
        present = [(name, n) for name, n in zip(CLASSES, sizes, strict=True) if n]
        small = [name for name, n in present if n < n_splits or n - -(-n // n_splits) < 2]
        assert len(present) < 2 or any(f"'{name}'" in str(error) for name in small)
        return
    present = {name for name, n in zip(CLASSES, sizes, strict=True) if n}
    for fold in folds:
        for part in (fold.train, fold.validation, fold.test):
            assert set(people["group"].iloc[part]) == present


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 17), st.integers(0, 63), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_number_that_is_none_names_its_participant(person, voxel, value):
    people, x = cohort((6, 6, 6)), images(18)
    x[person].reshape(-1)[voxel] = value
    with pytest.raises(TLEError, match=f"NaN or infinite values for sub-{person:03d}") as error:
        baselines.voxel_svm(x, people, [(np.arange(12), NONE, np.arange(12, 18))])
    one_line(error)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 17), st.floats(0, 1))
def test_a_constant_image_names_its_participant(person, value):
    people, x = cohort((6, 6, 6)), images(18)
    x[person] = value
    with pytest.raises(TLEError, match=f"constant image for sub-{person:03d}") as error:
        baselines.voxel_svm(x, people, [(np.arange(12), NONE, np.arange(12, 18))])
    one_line(error)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 16), st.integers(1, 17))
def test_a_participant_twice_is_named_by_folds_and_comparators(person, shift):
    people = cohort((6, 6, 6))
    people.loc[(person + shift) % 18, "participant_id"] = f"sub-{person:03d}"
    for make in (
        lambda: crossval.make_folds(people, 2, seed=0),
        lambda: baselines.majority(people, [(np.arange(12), NONE, np.arange(12, 18))]),
    ):
        with pytest.raises(TLEError, match=f"participant 'sub-{person:03d}' stands twice") as error:
            make()
        one_line(error)


def test_one_class_only_is_refused_in_training_and_flagged_in_results():
    people = cohort((0, 12, 0))
    with pytest.raises(TLEError, match="one class only"):
        crossval.make_folds(people, 2, seed=0)
    with pytest.raises(TLEError, match="one class only"):
        baselines.voxel_svm(images(12), people, [(np.arange(8), NONE, np.arange(8, 12))])
    table = constant(cohort((0, 12, 0)), "left")
    assert "one true class only (left)" in model_tests.results_table(table).loc[0, "flags"]


def constant(people, called):
    table = people.assign(model="constant", repeat=0, fold=np.arange(len(people)) % 2, split="test", predicted=called)
    return table.assign(**{f"p_{name}": 0.6 if name == called else 0.2 for name in CLASSES})


@settings(deadline=None, max_examples=10)
@given(st.sampled_from(CLASSES), st.tuples(*[st.integers(4, 9)] * 3))
def test_constant_predictions_are_flagged_and_what_they_leave_undefined_has_a_reason(called, sizes):
    table = constant(cohort(sizes), called)
    flags = model_tests.results_table(table).loc[0, "flags"]
    assert f"always predicts {called}" in flags and "constant probabilities in 2 of 2 folds" in flags
    metrics = evaluation_metrics.model_metrics(table).set_index("metric")
    never = [name for name in CLASSES if name != called]
    assert metrics.loc[[f"ppv_{name}" for name in never], "value"].isna().all()
    assert metrics.loc[metrics["value"].isna(), "reason"].str.len().gt(0).all()
    assert metrics.loc["auc_left_right", "value"] == 0.5
