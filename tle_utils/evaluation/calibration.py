"""Calibrated probabilities: temperature scaling (Guo et al. 2017, arXiv:1706.04599), shrunk, inside the folds.

A temperature is the mode of its posterior: the likelihood of the validation participants times a Laplace prior of log T
around 0. At T = 1 the log-likelihood changes, per unit of log T, by what the participants' cross-entropy exceeds the
entropy that the probabilities themselves announce. The prior holds against it with 1 / `PRIOR_SCALE` = 4.3 nats, as
much as four participants called at random among three classes: below that T stays 1, and beyond it the pull counts the
less, the more participants there are. Probabilities near 1 / 3 tell nothing, and T stays 1.
"""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from tle_utils.base.errors import TLEError
from tle_utils.base.statistics import SEED, wilson_interval
from tle_utils.evaluation.metrics import of_true_class, probabilities
from tle_utils.models.predictions import (
    AS_TRAINED,
    KEYS,
    LEAST_PROBABILITY,
    classes_of,
    geometric_mean,
    select_rows,
    validate_predictions,
)

BINS = 5  # of every reliability curve and expected calibration error
RANGE = (0.05, 20.0)  # of temperatures
PRIOR_SCALE = np.log(2) / np.log(20)
"""Of log T before anything is seen: 19 of 20 models have a temperature between 1/2 and 2."""
LEAST_VALIDATION = 9
"""Validation participants below which T is 1: fewer than three of each class may show no mistake, or nothing else."""


def scaled(p, temperature):
    """Probabilities (classes along the last axis) to the power 1 / temperature, scaled to sum to one.

    A temperature above 1 makes them less sure, one below 1 surer. The order of the classes stays.
    """
    return softmax(np.log(np.maximum(p, np.finfo(p.dtype).tiny)) / temperature, axis=-1)


def fit_temperature(rows):
    """Temperature (float, 0.05 to 20) from rows of people whom the model never learned from, one row per person.

    The mode of the posterior (see above) has the least cross-entropy, summed over the rows, plus the
    absolute value of log T over `PRIOR_SCALE`. It is 1 with fewer rows than `LEAST_VALIDATION`.

    Raises
    ------
    TLEError
        When there is no row.
    """
    if rows.empty:
        raise TLEError("recalibration: no validation participant: keep validation rows in the predictions")
    if len(rows) < LEAST_VALIDATION:
        return 1.0
    p = probabilities(rows)

    def loss(log_temperature):
        of_truth = of_true_class(scaled(p, np.exp(log_temperature)), rows)
        return abs(log_temperature) / PRIOR_SCALE - np.log(np.maximum(of_truth, LEAST_PROBABILITY)).sum()

    return float(np.exp(minimize_scalar(loss, bounds=np.log(RANGE), method="bounded").x))


def recalibrated(predictions):
    """Predictions after temperature scaling, one temperature per model, repeat and fold, from its validation rows.

    An ensemble is one model: the temperature comes from its own answers, not from its members'. The rows are the same,
    and ``predicted`` is as before. A model that also stands in the table as trained (`AS_TRAINED`) has its temperature
    already and is left alone.

    Raises
    ------
    TLEError
        When a fold has no validation rows.
    """
    out = validate_predictions(predictions)
    names = set(out["model"])
    for (model, *_), rows in out.groupby(KEYS[:3], sort=False):
        if model + AS_TRAINED not in names:
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


def reliability_table(table, bins=BINS):
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


def expected_calibration_error(table, bins=BINS):
    """Mean distance of predicted from observed frequency over the rows of `reliability_table`, weighted by ``n``."""
    found = reliability_table(table, bins)
    return float(np.average((found["predicted"] - found["observed"]).abs(), weights=found["n"]))


def calibration_table(before, after):
    """Calibration of every model before and after it was recalibrated.

    Parameters
    ----------
    before, after : pandas.DataFrame
        Predictions of `model_choice.as_trained`, and those of `recalibrated`.

    Returns
    -------
    pandas.DataFrame
        One row per model, none with the end `AS_TRAINED`: ``n`` (participants), ``temperature`` (of the probabilities
        before; median over folds) and ``n_validation`` (participants it comes from in the smallest fold),
        ``ece_before``, ``ece_after`` (expected calibration error), ``ece_if_true`` (what the recalibrated probabilities
        would show with as many participants if every one of them were true: bins of few people are never exact),
        ``brier_before``, ``brier_after``.
    """
    out = []
    for model, rows in after[after["split"] == "test"].groupby("model", sort=False):
        if model.endswith(AS_TRAINED):
            continue
        old = before[before["model"] == model]
        held = [part for _, part in old[old["split"] == "validation"].groupby(["repeat", "fold"])]
        temperatures = [fit_temperature(part) for part in held] or [np.nan]
        errors = [expected_calibration_error(table) for table in (old, rows)]
        row = {"model": model, "n": rows["participant_id"].nunique()}
        row |= {"temperature": np.median(temperatures), "n_validation": min(map(len, held), default=0)}
        row |= {"ece_before": errors[0], "ece_after": errors[1], "ece_if_true": _error_if_true(rows)}
        out.append(row | {"brier_before": brier(old), "brier_after": brier(rows)})
    return pd.DataFrame(out)


def _error_if_true(rows):
    """Expected calibration error that a model with these very probabilities would show if they were all true."""
    top = probabilities(rows, normalised=True).max(axis=1)
    place, chance = _equal_bins(top, BINS), np.random.default_rng([SEED, 21]).random((200, len(top)))
    off = [np.abs(np.bincount(place, top - (draw < top))).sum() / len(top) for draw in chance]
    return float(np.mean(off))
