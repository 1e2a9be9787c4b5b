"""Probabilities that readers take at their word."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import calibration
from tle_utils.models.predictions import CLASSES


def _table(seed=0, n=600, sharpness=3.0, model="net"):
    """Predictions whose log-probabilities are `sharpness` times too great, half validation rows."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet([1.5, 1.5, 1.5], n)
    groups = np.array([rng.choice(CLASSES, p=row) for row in true])
    p = calibration.scaled(true, 1 / sharpness)
    table = pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(n)], "group": groups, "model": model})
    table = table.assign(repeat=0, fold=0, split=np.where(np.arange(n) < n // 2, "test", "validation"))
    table[["p_control", "p_left", "p_right"]] = p
    return table.assign(predicted=np.array(CLASSES)[p.argmax(axis=1)])


def test_overconfident_probabilities_become_believable_and_calls_stay():
    before = _table()
    after = calibration.recalibrated(before)
    assert calibration.expected_calibration_error(after) < calibration.expected_calibration_error(before) / 2
    columns = ["participant_id", "split", "predicted"]
    pd.testing.assert_frame_equal(after[columns], calibration.validate_predictions(before)[columns])


def test_temperature_is_found_on_validation_rows_only():
    before = _table()
    poisoned = before.copy()
    test = poisoned["split"] == "test"
    poisoned.loc[test, "group"] = np.roll(poisoned.loc[test, "group"], 1)
    columns = ["p_control", "p_left", "p_right"]
    kept, other = (calibration.recalibrated(table)[columns].to_numpy() for table in (before, poisoned))
    np.testing.assert_array_equal(kept, other)


def test_a_known_temperature_is_found_again():
    assert calibration.fit_temperature(_table(n=4000, sharpness=2.0)) == pytest.approx(2.0, rel=0.1)


@given(st.integers(0, 50), st.floats(0.1, 10))
def test_apply_keeps_order_and_sums_to_one(seed, temperature):
    p = np.random.default_rng(seed).dirichlet([1, 1, 1], 20)
    scaled = calibration.scaled(p, temperature)
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    np.testing.assert_array_equal(scaled.argmax(axis=1), p.argmax(axis=1))


def test_fused_model_lies_between_and_keeps_shared_rows_only():
    one, two = _table(model="a"), _table(seed=1, model="b")
    two["group"] = one["group"]
    two = two.iloc[10:]
    both = calibration.fused([one, two], "both")
    assert set(both["model"]) == {"both"}
    assert len(both) == len(two)
    keys = ["split", "participant_id"]
    row = both.set_index(keys).iloc[0]
    a, b = (table.set_index(keys).loc[row.name] for table in (one, two))
    mean = np.sqrt([a[f"p_{name}"] * b[f"p_{name}"] for name in CLASSES])
    np.testing.assert_allclose([row[f"p_{name}"] for name in CLASSES], mean / mean.sum(), rtol=1e-6)


def test_missing_validation_rows_are_named():
    with pytest.raises(TLEError, match="keep validation rows"):
        calibration.recalibrated(_table().query("split == 'test'"))
