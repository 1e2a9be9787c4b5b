"""Probabilities that keep their word: temperature scaling (Guo et al. 2017, arXiv:1706.04599) inside the folds."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from tle_utils.base.errors import TLEError
from tle_utils.base.statistics import wilson_interval
from tle_utils.evaluation.metrics import _check_positive, _measures, _probabilities
from tle_utils.models.predictions import KEYS, LEAST_PROBABILITY, classes_of, select_rows, validate_predictions

RANGE = (0.05, 20.0)


def scaled(p, temperature):
    """Probabilities raised to the power 1 / temperature and scaled to sum to one.

    Parameters
    ----------
    p : numpy.ndarray
        Probabilities, classes along the last axis.
    temperature : float
        Above 1: less sure than before; below 1: surer. The order of the classes stays.

    Returns
    -------
    numpy.ndarray
        Same shape.
    """
    return softmax(np.log(np.maximum(p, LEAST_PROBABILITY)) / temperature, axis=-1)


def fit_temperature(p, groups, classes):
    """Temperature with which the probabilities of the true classes are greatest (least cross-entropy).

    Parameters
    ----------
    p : numpy.ndarray
        Probabilities of participants that the model did not learn from, shape (n, classes).
    groups : sequence of str
        Their true classes.
    classes : sequence of str
        Classes in the order of the columns.

    Returns
    -------
    float
        Temperature, from 0.05 to 20.

    Raises
    ------
    TLEError
        When there is no participant.
    """
    if not len(p):
        raise TLEError("recalibration: no validation participant: keep validation rows in the predictions")
    truth = np.array([list(classes).index(group) for group in groups])

    def loss(log_temperature):
        p_scaled = scaled(p, np.exp(log_temperature))
        return -np.log(np.maximum(p_scaled[np.arange(len(truth)), truth], LEAST_PROBABILITY)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=np.log(RANGE), method="bounded").x))


def geometric_mean(parts):
    """Geometric mean of probabilities, scaled to sum to one.

    Parameters
    ----------
    parts : sequence of numpy.ndarray
        Probabilities of one model each, classes along the last axis; shapes that broadcast.

    Returns
    -------
    numpy.ndarray
    """
    return softmax(sum(np.log(np.maximum(part, LEAST_PROBABILITY)) for part in parts) / len(parts), axis=-1)


def recalibrated(predictions):
    """Predictions after temperature scaling, one temperature a model, repeat and fold, from its validation rows.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Table of `tle_utils.models.predictions`, of one model or many, with validation rows.

    Returns
    -------
    pandas.DataFrame
        Same rows; ``predicted`` is as before.

    Raises
    ------
    TLEError
        When a fold has no validation rows.
    """
    out = validate_predictions(predictions)
    for _, rows in out.groupby(KEYS[:3], sort=False):
        classes = classes_of(rows)
        columns = [f"p_{name}" for name in classes]
        held = rows[rows["split"] == "validation"]
        temperature = fit_temperature(held[columns].to_numpy(), held["group"], classes)
        out.loc[rows.index, columns] = scaled(rows[columns].to_numpy(), temperature)
    return out


def fused(tables, label):
    """Geometric mean of the probabilities of several models, scaled to sum to one.

    Parameters
    ----------
    tables : sequence of pandas.DataFrame
        Predictions of one model each, on the same folds, best after `recalibrated`.
    label : str
        Name of the new model.

    Returns
    -------
    pandas.DataFrame
        Predictions of the rows that all tables have.
    """
    keys = ["repeat", "fold", "split", "participant_id"]
    checked = [validate_predictions(table).set_index(keys) for table in tables]
    rows = checked[0].loc[checked[0].index[np.all([checked[0].index.isin(t.index) for t in checked], axis=0)]].copy()
    classes = classes_of(rows.reset_index())
    columns = [f"p_{name}" for name in classes]
    rows[columns] = geometric_mean([table.loc[rows.index, columns].to_numpy() for table in checked])
    rows["predicted"] = np.array(classes)[rows[columns].to_numpy().argmax(axis=1)]
    return rows.assign(model=label).reset_index()[checked[0].reset_index().columns]


def brier(table):
    """Brier score of the test rows of one model, as scikit-learn's.

    Returns
    -------
    float
        Two classes: mean squared error of one probability, 0 to 1. Three: summed over the classes, 0 to 2.
    """
    rows = select_rows(table)
    classes = classes_of(rows)
    return float(brier_score_loss(rows["group"], _normalised(rows, classes), labels=classes))


def _normalised(rows, classes):
    p = _probabilities(rows, classes)
    return p / p.sum(axis=1, keepdims=True)


def equal_bins(score, bins):
    """Number of the bin of each score (array of int); bins hold about equally many, equal scores stay in one."""
    return np.searchsorted(np.unique(np.quantile(score, np.arange(1, bins) / bins)), score)


def reliability_table(table, positive=None, bins=10):
    """Predicted against observed frequency in bins that hold about equally many rows.

    Parameters
    ----------
    table : pandas.DataFrame
        Predictions of one model; its test rows are used.
    positive : str, optional
        Class whose probability is judged; by default the probability of the most probable class is.
    bins : int
        Number of bins; equal probabilities stay in one bin, so there may be fewer.

    Returns
    -------
    pandas.DataFrame
        One row a bin: ``n``, ``predicted`` (mean probability), ``observed`` (frequency), ``ci_low``, ``ci_high``
        (Wilson).
    """
    rows = select_rows(table)
    classes = classes_of(rows)
    _check_positive(positive, classes)
    p = _normalised(rows, classes)
    if positive is None:
        score, event = p.max(axis=1), np.array(classes)[p.argmax(axis=1)] == rows["group"].to_numpy(str)
    else:
        _, score, event, _ = _measures(rows, classes, positive)["auc"]
    part = pd.DataFrame({"bin": equal_bins(score, bins), "score": score, "event": event}).groupby("bin")
    out = part.agg(n=("event", "size"), predicted=("score", "mean"), observed=("event", "mean")).reset_index(drop=True)
    ends = [wilson_interval(observed * n, n) for n, observed in zip(out["n"], out["observed"], strict=True)]
    out[["ci_low", "ci_high"]] = ends
    return out


def expected_calibration_error(table, positive=None, bins=10):
    """Mean distance of predicted from observed frequency over the rows of `reliability_table`, weighted by ``n``."""
    found = reliability_table(table, positive, bins)
    return float(np.average((found["predicted"] - found["observed"]).abs(), weights=found["n"]))


def calibration_table(before, after, bins=10, seed=0):
    """Calibration of every model before and after it was recalibrated.

    Parameters
    ----------
    before, after : pandas.DataFrame
        Predictions, and those of `tle_utils.evaluation.calibration.recalibrated`.
    bins : int
        As in `tle_utils.evaluation.calibration.reliability_table`.
    seed : int
        Seed of the simulated outcomes.

    Returns
    -------
    pandas.DataFrame
        One row a model: ``n`` (participants), ``ece_before``, ``ece_after`` (expected calibration error),
        ``ece_if_true`` (what the recalibrated probabilities would show with as many participants if every one of them
        were true: bins of few people are never exact), ``brier_before``, ``brier_after``.
    """
    out = []
    for model, rows in after[after["split"] == "test"].groupby("model", sort=False):
        old = before[before["model"] == model]
        out.append(
            {
                "model": model,
                "n": rows["participant_id"].nunique(),
                "ece_before": expected_calibration_error(old, bins=bins),
                "ece_after": expected_calibration_error(rows, bins=bins),
                "ece_if_true": _floor(rows, bins, seed),
                "brier_before": brier(old),
                "brier_after": brier(rows),
            }
        )
    return pd.DataFrame(out)


def _floor(rows, bins, seed):
    """Expected calibration error that a model with these very probabilities would show if they were all true."""
    columns = [f"p_{name}" for name in classes_of(rows)]
    p = rows[columns].to_numpy()
    top, chance = p.max(axis=1) / p.sum(axis=1), np.random.default_rng([seed, 21]).random((200, len(p)))
    place = equal_bins(top, bins)
    off = [np.abs(np.bincount(place, top - (draw < top))).sum() / len(p) for draw in chance]
    return float(np.mean(off))
