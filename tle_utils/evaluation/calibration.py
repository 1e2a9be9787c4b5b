"""Probabilities that keep their word: temperature scaling (Guo et al. 2017, arXiv:1706.04599) inside the folds."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from tle_utils.base.errors import TLEError
from tle_utils.base.statistics import wilson_interval
from tle_utils.evaluation.metrics import of_true_class, probabilities
from tle_utils.models.predictions import KEYS, LEAST_PROBABILITY, classes_of, select_rows, validate_predictions

RANGE = (0.05, 20.0)  # of temperatures


def scaled(p, temperature):
    """Probabilities (classes along the last axis) to the power 1 / temperature, scaled to sum to one.

    A temperature above 1 makes them less sure, one below 1 surer. The order of the classes stays.
    """
    return softmax(np.log(np.maximum(p, LEAST_PROBABILITY)) / temperature, axis=-1)


def geometric_mean(parts):
    """Geometric mean of probabilities, scaled to sum to one.

    `parts` are arrays of one model each, classes along the last axis; their shapes broadcast.
    """
    return softmax(sum(np.log(np.maximum(part, LEAST_PROBABILITY)) for part in parts) / len(parts), axis=-1)


def fit_temperature(rows):
    """Temperature (float, 0.05 to 20) of least cross-entropy, from rows of people whom the model never learned from.

    Raises
    ------
    TLEError
        When there is no row.
    """
    if rows.empty:
        raise TLEError("recalibration: no validation participant: keep validation rows in the predictions")
    p = probabilities(rows)

    def loss(log_temperature):
        of_truth = of_true_class(scaled(p, np.exp(log_temperature)), rows)
        return -np.log(np.maximum(of_truth, LEAST_PROBABILITY)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=np.log(RANGE), method="bounded").x))


def recalibrated(predictions):
    """Predictions after temperature scaling, one temperature per model, repeat and fold, from its validation rows.

    The rows are the same, and ``predicted`` is as before.

    Raises
    ------
    TLEError
        When a fold has no validation rows.
    """
    out = validate_predictions(predictions)
    for _, rows in out.groupby(KEYS[:3], sort=False):
        temperature = fit_temperature(rows[rows["split"] == "validation"])
        columns = [f"p_{name}" for name in classes_of(rows)]
        out.loc[rows.index, columns] = scaled(rows[columns].to_numpy(), temperature)
    return out


def fused(tables, label):
    """Predictions of a new model: the geometric mean of the probabilities of several, on the rows that all have.

    Parameters
    ----------
    tables : sequence of pandas.DataFrame
        Predictions of one model each, on the same folds, best after `recalibrated`.
    label : str
        Name of the new model.
    """
    keys = ["repeat", "fold", "split", "participant_id"]
    checked = [validate_predictions(table).set_index(keys) for table in tables]
    rows = checked[0].loc[checked[0].index[np.all([checked[0].index.isin(t.index) for t in checked], axis=0)]].copy()
    classes = classes_of(rows)
    columns = [f"p_{name}" for name in classes]
    rows[columns] = geometric_mean([table.loc[rows.index, columns].to_numpy() for table in checked])
    rows["predicted"] = np.array(classes)[rows[columns].to_numpy().argmax(axis=1)]
    return rows.assign(model=label).reset_index()[checked[0].reset_index().columns]


def brier(table):
    """Brier score (float), as scikit-learn's.

    Two classes: mean squared error of one probability, 0 to 1. Three: summed over the classes, 0 to 2.
    """
    rows = select_rows(table)
    return float(brier_score_loss(rows["group"], probabilities(rows, normalised=True), labels=classes_of(rows)))


def _equal_bins(score, bins):
    """Number of the bin of each score (array of int); bins hold about equally many, equal scores stay in one."""
    return np.searchsorted(np.unique(np.quantile(score, np.arange(1, bins) / bins)), score)


def reliability_table(table, bins=10):
    """Predicted against observed frequency of the most probable class.

    Returns
    -------
    pandas.DataFrame
        One row per bin: ``n``, ``predicted`` (mean probability), ``observed`` (frequency), ``ci_low``, ``ci_high``
        (Wilson).
    """
    rows = select_rows(table)
    p = probabilities(rows, normalised=True)
    score, correct = p.max(axis=1), np.array(classes_of(rows))[p.argmax(axis=1)] == rows["group"].to_numpy(str)
    part = pd.DataFrame({"score": score, "correct": correct}).groupby(_equal_bins(score, bins))
    out = part.agg(n=("correct", "size"), predicted=("score", "mean"), observed=("correct", "mean"))
    ends = [wilson_interval(observed * n, n) for n, observed in zip(out["n"], out["observed"], strict=True)]
    out[["ci_low", "ci_high"]] = ends
    return out.reset_index(drop=True)


def expected_calibration_error(table, bins=10):
    """Mean distance of predicted from observed frequency over the rows of `reliability_table`, weighted by ``n``."""
    found = reliability_table(table, bins)
    return float(np.average((found["predicted"] - found["observed"]).abs(), weights=found["n"]))


def calibration_table(before, after, bins=10, seed=0):
    """Calibration of every model before and after it was recalibrated.

    Parameters
    ----------
    before, after : pandas.DataFrame
        Predictions, and those of `recalibrated`.

    Returns
    -------
    pandas.DataFrame
        One row per model: ``n`` (participants), ``ece_before``, ``ece_after`` (expected calibration error),
        ``ece_if_true`` (what the recalibrated probabilities would show with as many participants if every one of them
        were true: bins of few people are never exact), ``brier_before``, ``brier_after``.
    """
    out = []
    for model, rows in after[after["split"] == "test"].groupby("model", sort=False):
        old = before[before["model"] == model]
        errors = [expected_calibration_error(table, bins) for table in (old, rows)]
        row = {"model": model, "n": rows["participant_id"].nunique(), "ece_before": errors[0], "ece_after": errors[1]}
        row |= {"ece_if_true": _error_if_true(rows, bins, seed)}
        out.append(row | {"brier_before": brier(old), "brier_after": brier(rows)})
    return pd.DataFrame(out)


def _error_if_true(rows, bins, seed):
    """Expected calibration error that a model with these very probabilities would show if they were all true."""
    top = probabilities(rows, normalised=True).max(axis=1)
    place, chance = _equal_bins(top, bins), np.random.default_rng([seed, 21]).random((200, len(top)))
    off = [np.abs(np.bincount(place, top - (draw < top))).sum() / len(top) for draw in chance]
    return float(np.mean(off))
