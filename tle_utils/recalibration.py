"""Probabilities that keep their word: temperature scaling (Guo et al. 2017, arXiv:1706.04599) inside the folds."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from tle_utils.errors import TLEError
from tle_utils.predictions import KEYS, classes_of, validate_predictions

LEAST = 1e-6  # smaller probabilities count as this much: one sure mistake must not rule the temperature
RANGE = (0.05, 20.0)


def apply(p, temperature):
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
    return softmax(np.log(np.maximum(p, LEAST)) / temperature, axis=-1)


def fit(p, groups, classes):
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
        scaled = apply(p, np.exp(log_temperature))
        return -np.log(np.maximum(scaled[np.arange(len(truth)), truth], LEAST)).mean()

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
    return softmax(sum(np.log(np.maximum(part, LEAST)) for part in parts) / len(parts), axis=-1)


def recalibrated(predictions):
    """Predictions after temperature scaling, one temperature a model, repeat and fold, from its validation rows.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Table of `tle_utils.predictions`, of one model or many, with validation rows.

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
        temperature = fit(held[columns].to_numpy(), held["group"], classes)
        out.loc[rows.index, columns] = apply(rows[columns].to_numpy(), temperature)
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
