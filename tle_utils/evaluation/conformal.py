"""Sets of answers with a stated coverage: split conformal prediction inside the folds (Vovk et al. 2005; MAPIE).

A set holds every class that the model cannot rule out. The threshold comes from the validation participants of a fold,
the sets from its test participants. Whatever the model is worth, the true class is in the set as often as stated,
on the average over everybody and over validation parts; a weak model pays with larger sets.
"""

import functools
import warnings

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.base.statistics import wilson_interval
from tle_utils.models.predictions import classes_of, select_rows

EVERYBODY = "everybody"
SURE = 0.99
"""A class at least this probable stays in the set: a model that is all but perfect on validation puts the threshold
beyond what its probabilities can reach, and every set would be empty. Larger sets cover no less."""


@functools.cache
def _tools():
    """MAPIE's classifier, and a model whose input are its probabilities; MAPIE takes seconds to import."""
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Known(ClassifierMixin, BaseEstimator):
        def __init__(self, n_classes=3):
            self.n_classes = n_classes
            self.classes_ = np.arange(n_classes)

        def fit(self, x, y):
            return self

        def predict_proba(self, x):
            return np.asarray(x)

        def predict(self, x):
            return self.classes_[np.argmax(x, axis=1)]

        def __sklearn_is_fitted__(self):
            return True

    return SplitConformalClassifier, Known


def least_participants(coverage):
    """Validation participants below which no class can be ruled out (int)."""
    return int(np.ceil(round(max(1 / (1 - coverage), 1 / coverage), 9)))


def sets_of(p, held_p, held_groups, classes, coverage):
    """Sets of answers of participants, from the probabilities of others whose class is known.

    Parameters
    ----------
    p : numpy.ndarray
        Probabilities of the participants, shape (n, classes).
    held_p : numpy.ndarray
        Probabilities of participants that the model did not learn from, shape (m, classes).
    held_groups : sequence of str
        Their true classes.
    classes : sequence of str
        Classes in the order of the columns.
    coverage : float
        How often the set is to hold the true class, between 0 and 1.

    Returns
    -------
    numpy.ndarray
        bool, shape (n, classes): the classes whose probability is not below the threshold (least ambiguous sets,
        Sadinle et al. 2019), and any that reaches `SURE`. Every class where there are fewer than `least_participants`.

    Raises
    ------
    TLEError
        When the coverage is not between 0 and 1 or a class is unknown.
    """
    if not 0 < coverage < 1:
        raise TLEError(f"coverage = {coverage}: give a number between 0 and 1, for example 0.9")
    unknown = set(held_groups) - set(classes)
    if unknown:
        raise TLEError(f"conformal sets: '{min(unknown)}' is not a class of the task: known here: {', '.join(classes)}")
    if len(held_p) < least_participants(coverage):
        return np.ones(np.shape(p), bool)
    split_conformal, known = _tools()
    truth = np.array([list(classes).index(group) for group in held_groups])
    model = split_conformal(known(len(classes)), confidence_level=coverage, conformity_score="lac")
    held_p, p = (values / values.sum(axis=1, keepdims=True) for values in (np.asarray(held_p), np.asarray(p)))
    with warnings.catch_warnings():
        # the threshold is one for all classes, so that a class may be missing among the validation participants
        warnings.filterwarnings("ignore", message=".*your conformalization dataset has less labels")
        return model.conformalize(held_p, truth).predict_set(p)[1][:, :, 0].astype(bool) | (p >= SURE)


def prediction_sets(predictions, coverage=0.9):
    """Set of answers of every test participant of one model.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Table of `tle_utils.models.predictions` of one model, with validation rows.
    coverage : float
        As in `sets_of`.

    Returns
    -------
    pandas.DataFrame
        Test rows: ``participant_id``, ``group``, ``model``, ``repeat``, ``fold``, ``predicted``, ``in_<class>``
        (bool), ``size`` (classes in the set), ``covered`` (whether the true class is in it), ``coverage`` (as stated)
        and ``n_validation`` (participants that the threshold comes from).

    Raises
    ------
    TLEError
        When there are no validation rows; see also `sets_of`.
    """
    tests, held = (select_rows(predictions, split) for split in ("test", "validation"))
    classes = classes_of(tests)
    columns, inside = [f"p_{name}" for name in classes], [f"in_{name}" for name in classes]
    known = dict(tuple(held.groupby(["repeat", "fold"])))
    out = []
    for key, rows in tests.groupby(["repeat", "fold"], sort=False):
        others = known.get(key, held[:0])
        sets = sets_of(rows[columns].to_numpy(), others[columns].to_numpy(), others["group"], classes, coverage)
        part = rows[["participant_id", "group", "model", "repeat", "fold", "predicted"]].reset_index(drop=True)
        part[inside] = sets
        truth = part["group"].map(classes.index).to_numpy()
        part["size"], part["covered"] = sets.sum(axis=1), sets[np.arange(len(sets)), truth]
        out.append(part.assign(coverage=coverage, n_validation=len(others)))
    return pd.concat(out, ignore_index=True)


def sides_only(predictions):
    """The question of the side alone: patients' rows with the probabilities of left and right, scaled to sum to one.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Table of `tle_utils.models.predictions` of a task with left and right.

    Returns
    -------
    pandas.DataFrame
        A table of the task left against right; a tie is called left.

    Raises
    ------
    TLEError
        When left or right is not a class of the task.
    """
    if not {"left", "right"} <= set(classes_of(predictions)):
        raise TLEError("predictions: the task has not both sides: conformal sets of the side need left and right")
    rows = predictions[predictions["group"].isin(["left", "right"])].drop(columns="p_control", errors="ignore").copy()
    both = rows["p_left"] + rows["p_right"]
    left = (rows["p_left"] / both).where(both > 0, 0.5)
    rows["p_left"], rows["p_right"] = left, 1 - left
    return rows.assign(predicted=np.where(left >= 0.5, "left", "right")).reset_index(drop=True)


def summarise_sets(sets):
    """Stated and reached coverage, and how often the sets leave something open; for everybody and for each class.

    Parameters
    ----------
    sets : pandas.DataFrame
        From `prediction_sets`.

    Returns
    -------
    pandas.DataFrame
        One row a class, the first of everybody: ``group``, ``n`` (participants), ``stated``, ``reached`` with
        ``ci_low``, ``ci_high`` (Wilson 95 %), ``mean_size``; shares of the participants: ``one_answer`` (one class
        left), ``wrong`` (one class left, and not the true one), ``both_sides`` (left and right both in the set: the
        side cannot be told), ``all`` (no class ruled out), ``empty`` (every class ruled out). Repeats are averaged.
    """
    classes = [name.removeprefix("in_") for name in sets.columns if name.startswith("in_")]
    people = sets.drop_duplicates("participant_id")["group"].value_counts()
    rows = []
    for name in [EVERYBODY, *classes]:
        part = sets if name == EVERYBODY else sets[sets["group"] == name]
        n = int(people.sum() if name == EVERYBODY else people.get(name, 0))
        reached, one = part["covered"].mean(), part["size"] == 1
        low, high = wilson_interval(reached * n, n)
        row = {"group": name, "n": n, "stated": sets["coverage"].iloc[0], "reached": reached}
        row |= {"ci_low": low, "ci_high": high, "mean_size": part["size"].mean(), "one_answer": one.mean()}
        row |= {"wrong": (one & ~part["covered"]).mean()}
        both = part["in_left"] & part["in_right"] if {"left", "right"} <= set(classes) else part["size"] < 0
        row |= {"both_sides": both.mean(), "all": (part["size"] == len(classes)).mean()}
        rows.append(row | {"empty": (part["size"] == 0).mean()})
    return pd.DataFrame(rows)


def coverage_curve(predictions, coverages):
    """What is reached for several stated coverages: the first row of `summarise_sets` for each of them.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As in `prediction_sets`.
    coverages : sequence of float
        Stated coverages.

    Returns
    -------
    pandas.DataFrame
    """
    found = [summarise_sets(prediction_sets(predictions, coverage)).iloc[[0]] for coverage in coverages]
    return pd.concat(found, ignore_index=True)
