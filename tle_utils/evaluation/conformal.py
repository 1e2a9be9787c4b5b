"""Sets of answers with a stated coverage: split conformal prediction inside the folds (Vovk et al. 2005).

A set holds every class that the model cannot rule out. The threshold comes from the n validation participants of a
fold, the sets from its test participants. Where the two are exchangeable and the probabilities came about without
either, the true class is in the set with a probability of at least the stated coverage, whatever the model is worth.
That probability is of the draw of validation part and test participant together. It does not hold for a class, a site
or a kind of patient by itself, nor for a given validation part: with that part fixed, the share that is covered follows
a beta distribution (Vovk 2012, arXiv:1209.2673), whose spread is `coverage_range`. Networks stop by the validation part
and temperatures come from it, so that here the guarantee is not exact. A weak model pays with larger sets.
"""

import numpy as np
import pandas as pd
from scipy.stats import beta

from tle_utils.base.errors import TLEError
from tle_utils.base.statistics import wilson_interval
from tle_utils.evaluation.metrics import of_true_class, probabilities
from tle_utils.models.predictions import classes_of, select_rows

EVERYBODY = "everybody"
SURE = 0.99
"""A class at least this probable stays in the set: a model that is all but perfect on validation puts the threshold
beyond what its probabilities can reach, and every set would be empty. Larger sets cover no less."""


def least_participants(coverage):
    """Validation participants below which no class can be ruled out (int)."""
    return int(np.ceil(round(1 / (1 - coverage), 9)))


def _rank(n, coverage):
    """Which of n + 1 scores in ascending order is the threshold."""
    return int(np.ceil(round((n + 1) * coverage, 9)))


def coverage_range(n, coverage):
    """Range (two floats) in which the covered share lies for 95 % of validation parts of `n` participants.

    Of exchangeable people and scores without ties, the share covered by a threshold follows a beta distribution with
    k and n + 1 − k, k the rank of the threshold. With fewer than `least_participants` everything is covered: 1 and 1.
    """
    if n < least_participants(coverage):
        return 1.0, 1.0
    k = _rank(n, coverage)
    return tuple(map(float, beta.ppf((0.025, 0.975), k, n + 1 - k)))


def threshold(rows, coverage):
    """How far below 1 the probability of a class may lie to stay in the set of answers.

    The scores are 1 − probability of the true class (least ambiguous sets, Sadinle et al. 2019); of n scores the
    ⌈(n + 1) · coverage⌉-th smallest is the threshold, but it leaves in what reaches `SURE`.

    Parameters
    ----------
    rows : pandas.DataFrame
        Predictions, by one model, of participants that it did not learn from; one row per participant.

    Returns
    -------
    float
        1, which rules nothing out, where there are fewer than `least_participants`.

    Raises
    ------
    TLEError
        When the coverage is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise TLEError(f"coverage = {coverage}: give a number between 0 and 1, for example 0.9")
    if len(rows) < least_participants(coverage):
        return 1.0
    scores = np.sort(1 - of_true_class(probabilities(rows, normalised=True), rows))
    return max(float(scores[_rank(len(scores), coverage) - 1]), 1 - SURE)


def not_ruled_out(p, limit):
    """Which classes cannot be ruled out: bool, of the shape of the probabilities `p`; `limit` is a `threshold`."""
    return 1 - np.asarray(p) <= limit + 1e-8


def prediction_sets(table, coverage=0.9):
    """Set of answers of every test participant of one model, by the validation rows of its fold.

    Returns
    -------
    pandas.DataFrame
        Test rows: ``participant_id``, ``group``, ``model``, ``repeat``, ``fold``, ``predicted``, ``in_<class>``
        (bool), ``size`` (classes in the set), ``covered`` (whether the true class is in it), ``coverage`` (as stated)
        and ``n_validation`` (participants that the threshold comes from).

    Raises
    ------
    TLEError
        When there are no validation rows, or the coverage is not between 0 and 1.
    """
    tests, held = (select_rows(table, split) for split in ("test", "validation"))
    known, out = dict(tuple(held.groupby(["repeat", "fold"]))), []
    for key, rows in tests.groupby(["repeat", "fold"], sort=False):
        others = known.get(key, held[:0])
        sets = not_ruled_out(probabilities(rows, normalised=True), threshold(others, coverage))
        part = rows[["participant_id", "group", "model", "repeat", "fold", "predicted"]].copy()
        part[[f"in_{name}" for name in classes_of(rows)]] = sets
        part["size"], part["covered"] = sets.sum(axis=1), of_true_class(sets, rows)
        out.append(part.assign(coverage=coverage, n_validation=len(others)))
    return pd.concat(out, ignore_index=True)


def sides_only(predictions):
    """Predictions of the side alone: patients' rows with the probabilities of left and right, scaled to sum to one.

    A tie is called left.

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
    """Stated and reached coverage of `prediction_sets`, and how often they leave something open, also for each class.

    What is stated is stated of everybody; the rows of the classes show what it comes to for each.

    Returns
    -------
    pandas.DataFrame
        One row per class, the first of everybody: ``group``, ``n`` (participants), ``stated``, ``reached`` with
        ``ci_low``, ``ci_high`` (Wilson 95 %), ``mean_size``; shares of the participants: ``one_answer`` (one class
        left), ``wrong`` (one class left, and not the true one), ``both_sides`` (left and right both in the set: the
        side cannot be told), ``all`` (no class ruled out), ``empty`` (every class ruled out). Repeats are averaged.
    """
    classes = [name.removeprefix("in_") for name in sets.columns if name.startswith("in_")]
    rows = []
    for name in [EVERYBODY, *classes]:
        part = sets if name == EVERYBODY else sets[sets["group"] == name]
        n, reached, one = part["participant_id"].nunique(), part["covered"].mean(), part["size"] == 1
        low, high = wilson_interval(reached * n, n)
        row = {"group": name, "n": n, "stated": sets["coverage"].iloc[0], "reached": reached}
        row |= {"ci_low": low, "ci_high": high, "mean_size": part["size"].mean(), "one_answer": one.mean()}
        both = part["in_left"] & part["in_right"] if {"left", "right"} <= set(classes) else part["size"] < 0
        row |= {"wrong": (one & ~part["covered"]).mean(), "both_sides": both.mean()}
        rows.append(row | {"all": (part["size"] == len(classes)).mean(), "empty": (part["size"] == 0).mean()})
    return pd.DataFrame(rows)


def coverage_curve(table, coverages):
    """What one model reaches for several stated coverages: the first row of `summarise_sets` for each of them."""
    found = [summarise_sets(prediction_sets(table, coverage)).iloc[[0]] for coverage in coverages]
    return pd.concat(found, ignore_index=True)
