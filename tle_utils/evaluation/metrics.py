"""Metrics with intervals, flags and calibration from a table of out-of-fold predictions.

A value that is not defined is NaN and comes with its reason.
The table is that of `tle_utils.models.predictions`; repeats are averaged and intervals count participants, not rows.
"""

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.base.statistics import wilson_interval
from tle_utils.models.predictions import classes_of, select_rows

BOOTSTRAPS = 2000
SUMMARY_COLUMNS = [
    "model", "positive", "metric", "value", "ci_low", "ci_high", "n", "fold_mean", "fold_sd", "folds", "reason",
]  # fmt: skip


def _probabilities(rows, classes):
    return rows[[f"p_{name}" for name in classes]].to_numpy(float)


def _measures(rows, classes, positive):
    """Every metric as arrays over rows: ("share", hit, among), ("area", score, positives, negatives), ("mean", of)."""
    truth, predicted = rows["group"].to_numpy(str), rows["predicted"].to_numpy(str)
    p = dict(zip(classes, _probabilities(rows, classes).T, strict=True))
    everyone = np.ones(len(rows), bool)
    if positive:
        ill = truth != "control" if positive == "patient" else truth == positive
        called = predicted != "control" if positive == "patient" else predicted == positive
        score = 1 - p["control"] if positive == "patient" else p[positive]
        return {
            "accuracy": ("share", ill == called, everyone),
            "balanced_accuracy": ("mean", ["sensitivity", "specificity"]),
            "sensitivity": ("share", called, ill),
            "specificity": ("share", ~called, ~ill),
            "ppv": ("share", ill, called),
            "npv": ("share", ~ill, ~called),
            "auc": ("area", score, ill, ~ill),
        }
    found = {
        "accuracy": ("share", truth == predicted, everyone),
        "balanced_accuracy": ("mean", [f"sensitivity_{name}" for name in classes]),
    }
    for name in classes:
        found[f"sensitivity_{name}"] = ("share", predicted == name, truth == name)
        found[f"ppv_{name}"] = ("share", truth == name, predicted == name)
    if {"left", "right"} <= set(classes):
        sides = p["left"] + p["right"]
        score = np.divide(p["left"], sides, out=np.full(len(rows), 0.5), where=sides > 0)
        side = np.where(score == 0.5, 0.5, (score > 0.5) == (truth == "left"))
        found["lateralization_accuracy"] = ("share", side, np.isin(truth, ["left", "right"]))
        found["auc_left_right"] = ("area", score, truth == "left", truth == "right")
    return found


def hits(rows, metric, positive=None):
    """Which rows a metric counts as right and which it looks at.

    Parameters
    ----------
    rows : pandas.DataFrame
        Test rows of one model.
    metric : {"accuracy", "lateralization_accuracy"}
        A share of right answers.
    positive : str, optional
        Positive class of a binary metric.

    Returns
    -------
    hit : numpy.ndarray
        True or 1 for a right answer, one value a row.
    among : numpy.ndarray
        bool, the rows in the denominator.
    """
    return _measures(rows, classes_of(rows), positive)[metric][1:]


def _empty_reason(metric):
    if metric.startswith(("ppv", "npv")):
        return "never predicted" if "_" in metric or metric == "ppv" else "never predicted negative"
    return "no participant of this class" if metric != "lateralization_accuracy" else "no left or right participant"


def _points(measures):
    """Value, rows in the denominator and reason of every metric, without intervals."""
    points = {}
    for metric, (kind, *parts) in measures.items():
        if kind == "share":
            hit, among = parts
            n = int(among.sum())
            points[metric] = (hit[among].mean(), n, "") if n else (np.nan, 0, _empty_reason(metric))
        elif kind == "area":
            score, positives, negatives = parts
            n = int((positives | negatives).sum())
            if positives.any() and negatives.any():
                points[metric] = (_above(score[positives], score[negatives]).mean(), n, "")
            else:
                points[metric] = (np.nan, n, "one of the two classes has no participant")
    for metric, (kind, *parts) in measures.items():
        if kind == "mean":
            values = [points[name][0] for name in parts[0]]
            n = sum(points[name][1] for name in parts[0])
            points[metric] = (float(np.mean(values)), n, "a class has no participant" if np.isnan(values).any() else "")
    return {metric: points[metric] for metric in measures}


def _above(positives, negatives):
    """Wins of each positive over each negative score, ties half: the mean is the area under the ROC curve."""
    return (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)


def _percentiles(samples):
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    if high - low < 1e-12:
        return np.nan, np.nan, "no interval: the same in every bootstrap sample"
    return float(low), float(high), ""


def _weights(rng, n):
    return rng.multinomial(n, np.full(n, 1 / n), size=BOOTSTRAPS).astype(float)


def _area(rows, score, positives, negatives, rng):
    """Area under the ROC curve over pairs of participants of one repeat, with a bootstrap interval by participant."""
    ids, code = np.unique(rows["participant_id"].to_numpy(str), return_inverse=True)
    place = {True: np.unique(code[positives]), False: np.unique(code[negatives])}
    wins = np.zeros((len(place[True]), len(place[False])))
    pairs = np.zeros_like(wins)
    for index in rows.groupby("repeat").indices.values():
        one, other = index[positives[index]], index[negatives[index]]
        cells = np.ix_(np.searchsorted(place[True], code[one]), np.searchsorted(place[False], code[other]))
        wins[cells] += _above(score[one], score[other])
        pairs[cells] += 1
    if not pairs.any():
        return np.nan, (np.nan, np.nan, "no repeat tests both classes")
    left, right = _weights(rng, len(wins)), _weights(rng, wins.shape[1])
    samples = ((left @ wins) * right).sum(axis=1) / ((left @ pairs) * right).sum(axis=1)
    return wins.sum() / pairs.sum(), _percentiles(samples)


def _mean_of_shares(rows, shares, rng):
    """Bootstrap samples of the mean of several recalls, drawn by participant within each class."""
    ids, code = np.unique(rows["participant_id"].to_numpy(str), return_inverse=True)
    samples = []
    for _, hit, among in shares:
        hits = np.bincount(code[among], weights=hit[among].astype(float), minlength=len(ids))
        count = np.bincount(code[among], minlength=len(ids))
        weights = _weights(rng, int((count > 0).sum()))
        samples.append(weights @ hits[count > 0] / (weights @ count[count > 0]))
    return _percentiles(np.mean(samples, axis=0))


def fold_metrics(table, positive=None, split="test"):
    """Metrics of every fold, in the long form that box plots and tests between models need.

    Parameters
    ----------
    table : pandas.DataFrame
        Predictions of one model or of many.
    positive : str, optional
        Positive class (``"patient"``: left and right together) for the binary metrics; by default all classes count.
    split : {"test", "validation"}
        Which rows.

    Returns
    -------
    pandas.DataFrame
        Columns ``model``, ``repeat``, ``fold``, ``metric``, ``value``, ``n`` (rows in the denominator), ``reason``.
    """
    rows = select_rows(table, split, several=True)
    return pd.concat([_of_folds(part, positive) for _, part in rows.groupby("model", sort=False)], ignore_index=True)


def _of_folds(of_model, positive):
    classes = classes_of(of_model)
    _check_positive(positive, classes)
    out = []
    for (model, repeat, fold), rows in of_model.groupby(["model", "repeat", "fold"]):
        for metric, point in _points(_measures(rows, classes, positive)).items():
            out.append((model, repeat, fold, metric, *point))
    return pd.DataFrame(out, columns=["model", "repeat", "fold", "metric", "value", "n", "reason"])


def _check_positive(positive, classes):
    known = [*classes, "patient"] if "control" in classes else classes
    if positive is not None and positive not in known:
        raise TLEError(f"positive class '{positive}' is not of this task: choose one of {', '.join(known)}")


def _summary(table, positive, seed):
    rows = select_rows(table)
    classes = classes_of(rows)
    folds = _of_folds(rows, positive).groupby("metric")["value"].agg(["mean", "std", "count"])
    if one_each(rows):
        folds[["mean", "std"]] = np.nan
    measures = _measures(rows, classes, positive)
    scale = rows["participant_id"].nunique() / len(rows)
    out = []
    for metric, (value, n, reason) in _points(measures).items():
        kind, *parts = measures[metric]
        low = high = np.nan
        rng = np.random.default_rng([seed, *metric.encode()])
        if np.isfinite(value):
            if kind == "share":
                low, high = wilson_interval(value * n * scale, n * scale)
            elif kind == "area":
                value, (low, high, reason) = _area(rows, *parts, rng)
            else:
                low, high, reason = _mean_of_shares(rows, [measures[name] for name in parts[0]], rng)
        label = positive or (metric.rsplit("_", 1)[-1] if metric.startswith(("sensitivity", "ppv")) else "")
        label = "left" if metric == "auc_left_right" else label
        out.append(
            (rows["model"].iloc[0], label, metric, value, low, high, round(n * scale), *folds.loc[metric], reason)
        )
    return pd.DataFrame(out, columns=SUMMARY_COLUMNS).astype({"folds": int})


def binary_metrics(table, positive, seed=0):
    """Sensitivity, specificity, PPV, NPV, accuracy and area under the ROC curve of one model.

    Parameters
    ----------
    table : pandas.DataFrame
        Predictions of one model; its test rows are used.
    positive : str
        Positive class; ``"patient"`` is left and right together against control. With three classes any class is
        taken against the rest.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row a metric: ``model``, ``positive``, ``metric``, ``value`` (pooled over folds), ``ci_low``, ``ci_high``
        (95 %: Wilson for proportions, bootstrap of participants within classes for ``auc`` and
        ``balanced_accuracy``), ``n`` (participants in the denominator), ``fold_mean``, ``fold_sd`` (over the ``folds``
        in which it is defined; NaN where each fold tests one participant), ``reason`` (why a value or interval is NaN).
        Repeats are averaged; intervals count participants, not rows. A pooled ``auc`` ranks scores of different folds
        together: with one participant a fold it is too low where there is little to learn, since the training part
        leans away from the one left out.
    """
    return _summary(table, positive, seed)


def multiclass_metrics(table, seed=0):
    """Accuracy, balanced accuracy, sensitivity and PPV of each class, and the metrics of the side.

    ``lateralization_accuracy`` looks at true left and right patients only: the side with the greater of
    ``p_left`` and ``p_right`` is taken, whatever ``p_control`` says; a tie counts half.
    ``auc_left_right`` ranks the same patients by ``p_left / (p_left + p_right)``; left is positive.

    Parameters
    ----------
    table : pandas.DataFrame
        Predictions of one model; its test rows are used.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        As `binary_metrics`.
    """
    return _summary(table, None, seed)


def confusion(table):
    """Counts of test rows, true class by predicted class."""
    rows = select_rows(table)
    classes = classes_of(rows)
    counts = pd.crosstab(rows["group"], rows["predicted"]).reindex(index=classes, columns=classes, fill_value=0)
    return counts.rename_axis(index="true", columns="predicted")


def one_each(rows):
    """Whether every fold tests one participant, as in leave-one-out: spreads over folds mean nothing then."""
    return rows.groupby(["repeat", "fold"]).size().max() == 1


def flags(rows, by_fold=True):
    """What makes the numbers of a model doubtful, one text each.

    Parameters
    ----------
    rows : pandas.DataFrame
        Test rows of one model.
    by_fold : bool
        Whether to look at each fold too.

    Returns
    -------
    list of str
    """
    classes, found = classes_of(rows), []
    predicted = [name for name in classes if (rows["predicted"] == name).any()]
    if rows["group"].nunique() == 1:
        found.append(f"one true class only ({rows['group'].iloc[0]})")
    if len(predicted) == 1:
        found.append(f"always predicts {predicted[0]}")
    else:
        found += [f"never predicts {name}" for name in classes if name not in predicted]
    if not by_fold:
        return found
    if one_each(rows):
        return [*found, "one participant a fold: read pooled values, AUC leans low"]
    lacking, constant, parts = [], 0, rows.groupby(["repeat", "fold"])
    for (_, fold), part in parts:
        absent = [name for name in classes if not (part["group"] == name).any()]
        lacking += [f"fold {fold} has no {', '.join(absent)}"] if absent else []
        constant += len(part) > 1 and np.ptp(_probabilities(part, classes), axis=0).max() < 1e-6
    if lacking:
        found.append(lacking[0] if len(lacking) == 1 else f"{len(lacking)} folds lack a class ({lacking[0]})")
    if constant:
        found.append(f"constant probabilities in {constant} of {rows.groupby(['repeat', 'fold']).ngroups} folds")
    return found
