"""Probabilities that readers are to believe: temperatures, ensembles, and what a few validation people allow."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import calibration
from tle_utils.evaluation.model_choice import as_trained
from tle_utils.models.predictions import CLASSES, geometric_mean


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


def test_two_sides_that_are_both_all_but_ruled_out_keep_their_order():
    p = np.array([[1 - 3e-9, 2e-9, 1e-9]])
    for temperature in (0.5, 1, 3):
        _, left, right = calibration.scaled(p, temperature)[0]
        assert left > right
    np.testing.assert_allclose(calibration.scaled(p, 1), p)


def test_probabilities_of_networks_stay_of_their_kind():
    """Networks answer in single precision, and a column of such takes nothing else."""
    table = _table()
    columns = ["p_control", "p_left", "p_right"]
    single = calibration.recalibrated(table.astype(dict.fromkeys(columns, np.float32)))
    assert (single[columns].dtypes == np.float32).all()
    np.testing.assert_allclose(single[columns], calibration.recalibrated(table)[columns], atol=1e-3)


def _people(rng, n, factor, members, skill=1.0, noise=0.8):
    """True probabilities, shape (n, 3), classes drawn from them (rows of a table), and p of members, (members, n, 3).

    Members know the true logits (standard deviation `skill`) with an error of their own, `factor` times too great.
    """
    logits = rng.normal(0, skill, (n, 3))
    true = softmax(logits, axis=1)
    p = softmax(factor * (logits + noise * rng.normal(size=(members, n, 3))), axis=-1)
    groups = np.array(CLASSES)[(rng.random(n)[:, None] > true.cumsum(axis=1)).sum(axis=1).clip(max=2)]
    return true, pd.DataFrame({"group": groups}), p


def _rows(rows, p):
    return rows.assign(**{f"p_{name}": values for name, values in zip(CLASSES, p.T, strict=True)})


def _brier(p, true):
    """Expected Brier score (0 to 2) where the true probabilities are known."""
    return 1 + (p**2 - 2 * p * true).sum(axis=1).mean()


def _harm(n, factor, members, repeats):
    """Change of the expected Brier score of 300 fresh people by a temperature from n, one value per repeat."""
    out = []
    for repeat in range(repeats):
        rng = np.random.default_rng([repeat, n, members])
        _, held, p = _people(rng, n, factor, members)
        temperature = calibration.fit_temperature(_rows(held, geometric_mean(p)))
        true, _, p = _people(rng, 300, factor, members)
        p = geometric_mean(p)
        out.append(_brier(calibration.scaled(p, temperature), true) - _brier(p, true))
    return np.array(out)


def _assert_no_harm(sizes, ensembles, repeats):
    """Over factors of 1/2 to 3 the score falls.

    Where there is nothing to mend, nothing but T = 1 is harmless: there it rises by no more than 0.001 of 2.
    """
    for n, members in itertools.product(sizes, ensembles):
        harm = np.array([_harm(n, factor, members, repeats) for factor in (0.5, 0.8, 1.0, 1.5, 3.0)])
        error = 2 * harm.std(axis=1) / np.sqrt(repeats)  # of the mean over repeats: Monte Carlo
        assert (harm.mean(axis=1) <= 0.001 + error).all(), (n, members)
        if n < calibration.LEAST_VALIDATION:
            assert np.abs(harm).max() < 1e-9
        else:
            assert harm.mean() < -0.004, (n, members)


def test_calibration_does_not_harm_on_the_average():
    _assert_no_harm((8, 9, 67, 300), (1, 10), 5)


@pytest.mark.nightly
def test_calibration_does_not_harm_on_the_average_at_any_size():
    _assert_no_harm((9, 20, 45, 67, 300), (1, 3, 10), 30)


def test_an_ensemble_gets_its_own_temperature_and_not_that_of_a_member():
    """Five members far too sure, each in its own way: their mean is less so."""
    settings, found = {"factor": 0.83, "members": 5, "skill": 2.5, "noise": 4.0}, []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        _, held, p = _people(rng, 300, **settings)
        temperatures = [calibration.fit_temperature(_rows(held, part)) for part in (geometric_mean(p), p[0])]
        _, fresh, p = _people(rng, 2000, **settings)
        fresh = fresh.assign(participant_id=np.arange(2000).astype(str), model="m", repeat=0, fold=0, split="test")
        scaled = [_rows(fresh, calibration.scaled(geometric_mean(p), one)) for one in temperatures]
        scaled = [table.assign(predicted="left") for table in scaled]
        found.append([temperatures[0], *map(calibration.expected_calibration_error, scaled)])
    temperature, own, of_member = np.mean(found, axis=0)
    assert temperature == pytest.approx(1.9, abs=0.15) and own < 0.05 and of_member > 0.16


def test_the_less_is_known_the_nearer_to_1():
    few, many = (_table(n=2 * n, sharpness=3.0).query("split == 'validation'") for n in (40, 400))
    assert 1 < calibration.fit_temperature(few) < calibration.fit_temperature(many) < 3
    assert calibration.fit_temperature(few.head(calibration.LEAST_VALIDATION - 1)) == 1
    nothing = many.assign(p_control=1 / 3, p_left=1 / 3, p_right=1 / 3)
    assert calibration.fit_temperature(nothing) == pytest.approx(1, abs=1e-3)


def test_a_model_that_comes_with_its_temperature_is_not_scaled_again():
    raw = _table().assign(model="net" + calibration.AS_TRAINED)
    once = calibration.recalibrated(_table())
    both = pd.concat([once, raw], ignore_index=True)
    again = calibration.recalibrated(both)
    pd.testing.assert_frame_equal(again[again["model"] == "net"].reset_index(drop=True), once)
    table = calibration.calibration_table(as_trained(both), again).set_index("model")
    assert table.index.tolist() == ["net"] and table.loc["net", "n_validation"] == 300
    assert table.loc["net", "brier_before"] == pytest.approx(calibration.brier(raw))
    assert table.loc["net", "temperature"] == pytest.approx(calibration.fit_temperature(raw.iloc[300:]))


def test_overconfident_probabilities_become_believable_and_calls_stay():
    before = _table(n=2000)
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
