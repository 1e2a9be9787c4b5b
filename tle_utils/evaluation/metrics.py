"""Metrics with intervals, and flags of what makes them doubtful, from a table of out-of-fold predictions.

A value that is not defined is NaN and comes with its reason.
"""

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.base.statistics import SEED, bootstrap_weights, percentile_interval, wilson_interval
from tle_utils.models.predictions import classes_of, select_rows


def probabilities(rows, normalised=False):
    """Probabilities of the classes of a task, shape (rows, classes); rows sum to one exactly where `normalised`."""
    p = rows[[f"p_{name}" for name in classes_of(rows)]].to_numpy(float)
    return p / p.sum(axis=1, keepdims=True) if normalised else p


def of_true_class(values, rows):
    """From an array of shape (rows, classes) the entry of each row's true class."""
    return values[np.arange(len(rows)), rows["group"].map(classes_of(rows).index).to_numpy()]


def _measures(rows, positive):
    """Every metric as arrays over rows: ("share", hit, among), ("area", score, positives, negatives), ("mean", of)."""
    classes = classes_of(rows)
    truth, predicted = rows["group"].to_numpy(str), rows["predicted"].to_numpy(str)
    p = dict(zip(classes, probabilities(rows).T, strict=True))
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


def hits(rows, metric):
    """Which rows a share of correct answers counts as correct (1, half for a tie) and which it looks at (bool)."""
    return _measures(rows, None)[metric][1:]


def _empty_reason(metric):
    if metric.startswith(("ppv", "npv")):
        return "never predicted" if "_" in metric or metric == "ppv" else "never predicted negative"
    return "no participant of this class" if metric != "lateralization_accuracy" else "no left or right participant"


def _point(metric, measures):
    """Value of a metric, rows in its denominator and the reason why it is NaN."""
    kind, *parts = measures[metric]
    if kind == "share":
        hit, among = parts
        n = int(among.sum())
        return (hit[among].mean(), n, "") if n else (np.nan, 0, _empty_reason(metric))
    if kind == "area":
        score, positives, negatives = parts
        n = int((positives | negatives).sum())
        if positives.any() and negatives.any():
            return _above(score[positives], score[negatives]).mean(), n, ""
        return np.nan, n, "one of the two classes has no participant"
    values, counts, _ = zip(*(_point(name, measures) for name in parts[0]), strict=True)
    return float(np.mean(values)), sum(counts), "a class has no participant" if np.isnan(values).any() else ""


def _above(positives, negatives):
    """Wins of each positive over each negative score, ties half: the mean is the area under the ROC curve."""
    return (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)


def _interval(samples):
    low, high = percentile_interval(samples)
    if high - low < 1e-12:
        return np.nan, np.nan, "no interval: the same in every bootstrap sample"
    return low, high, ""


def _area(rows, score, positives, negatives, rng):
    """Area under the ROC curve over pairs of participants of one repeat, with a bootstrap interval by participant."""
    _, code = np.unique(rows["participant_id"].to_numpy(str), return_inverse=True)
    ill, well = np.unique(code[positives]), np.unique(code[negatives])
    wins, pairs = np.zeros((2, len(ill), len(well)))
    for index in rows.groupby("repeat").indices.values():
        one, other = index[positives[index]], index[negatives[index]]
        cells = np.ix_(np.searchsorted(ill, code[one]), np.searchsorted(well, code[other]))
        wins[cells] += _above(score[one], score[other])
        pairs[cells] += 1
    if not pairs.any():
        return np.nan, np.nan, np.nan, "no repeat tests both classes"
    drawn, others = bootstrap_weights(rng, len(ill)), bootstrap_weights(rng, len(well))
    samples = ((drawn @ wins) * others).sum(axis=1) / ((drawn @ pairs) * others).sum(axis=1)
    return wins.sum() / pairs.sum(), *_interval(samples)


def _mean_of_shares(rows, shares, rng):
    """Bootstrap interval of the mean of several shares, drawn by participant within each class."""
    ids, code = np.unique(rows["participant_id"].to_numpy(str), return_inverse=True)
    samples = []
    for _, hit, among in shares:
        correct = np.bincount(code[among], weights=hit[among].astype(float), minlength=len(ids))
        count = np.bincount(code[among], minlength=len(ids))
        weights = bootstrap_weights(rng, int((count > 0).sum()))
        samples.append(weights @ correct[count > 0] / (weights @ count[count > 0]))
    return _interval(np.mean(samples, axis=0))


def fold_metrics(predictions, positive=None):
    """Metrics of every fold and model, in the long form that box plots and tests between models need.

    Parameters
    ----------
    positive : str, optional
        Positive class (``"patient"``: left and right together) for the binary metrics; by default all classes count.

    Returns
    -------
    pandas.DataFrame
        Columns ``model``, ``repeat``, ``fold``, ``metric``, ``value``, ``n`` (rows in the denominator), ``reason``.

    Raises
    ------
    TLEError
        When the positive class is not of the task.
    """
    out = []
    for model, of_model in select_rows(predictions, several=True).groupby("model", sort=False):
        classes = classes_of(of_model)
        known = [*classes, "patient"] if "control" in classes else classes
        if positive is not None and positive not in known:
            raise TLEError(f"positive class '{positive}' is not of this task: choose one of {', '.join(known)}")
        for (repeat, fold), rows in of_model.groupby(["repeat", "fold"]):
            measures = _measures(rows, positive)
            out += [(model, repeat, fold, metric, *_point(metric, measures)) for metric in measures]
    return pd.DataFrame(out, columns=["model", "repeat", "fold", "metric", "value", "n", "reason"])


def model_metrics(table, positive=None):
    """Metrics of one model, pooled over folds, with intervals.

    Parameters
    ----------
    positive : str, optional
        Positive class of sensitivity, specificity, PPV, NPV, accuracy and area under the ROC curve; ``"patient"`` is
        left and right together against control, and with three classes any class is taken against the rest. By default
        all classes count: accuracy, sensitivity and PPV of each class, and the side among true left and right patients:
        ``lateralization_accuracy`` takes the greater of ``p_left`` and ``p_right``, whatever ``p_control`` says (a tie
        counts half); ``auc_left_right`` ranks by ``p_left / (p_left + p_right)``, left is positive.

    Returns
    -------
    pandas.DataFrame
        One row per metric: ``model``, ``positive``, ``metric``, ``value``, ``ci_low``, ``ci_high`` (95 %: Wilson for
        proportions, bootstrap of participants within classes for areas and ``balanced_accuracy``), ``n`` (participants
        in the denominator), ``fold_sd`` (over the ``folds`` in which it is defined; NaN where each fold tests one
        participant), ``reason`` (why a value or interval is NaN). Repeats are averaged; intervals count participants,
        not rows, and every chapter draws the same samples. A pooled area ranks scores of different folds together: with
        one participant per fold it is too low where there is little to learn, since the training part leans away from
        the one left out.
    """
    rows = select_rows(table)
    folds = fold_metrics(rows, positive).groupby("metric")["value"].agg(["std", "count"])
    if one_each(rows):
        folds["std"] = np.nan
    measures, scale, out = _measures(rows, positive), rows["participant_id"].nunique() / len(rows), []
    for metric, (kind, *parts) in measures.items():
        value, n, reason = _point(metric, measures)
        low = high = np.nan
        rng = np.random.default_rng([SEED, *metric.encode()])
        if np.isfinite(value):
            if kind == "share":
                low, high = wilson_interval(value * n * scale, n * scale)
            elif kind == "area":
                value, low, high, reason = _area(rows, *parts, rng)
            else:
                low, high, reason = _mean_of_shares(rows, [measures[name] for name in parts[0]], rng)
        label = positive or (metric.rsplit("_", 1)[-1] if metric.startswith(("sensitivity", "ppv")) else "")
        row = {"model": rows["model"].iloc[0], "positive": "left" if metric == "auc_left_right" else label}
        row |= {"metric": metric, "value": value, "ci_low": low, "ci_high": high, "n": round(n * scale)}
        sd, count = folds.loc[metric]
        out.append(row | {"fold_sd": sd, "folds": int(count), "reason": reason})
    return pd.DataFrame(out)


def confusion(table):
    """Counts of the test rows of one model, true class (rows) by predicted class."""
    rows = select_rows(table)
    classes = classes_of(rows)
    counts = pd.crosstab(rows["group"], rows["predicted"]).reindex(index=classes, columns=classes, fill_value=0)
    return counts.rename_axis(index="true", columns="predicted")


def one_each(rows):
    """Whether every fold tests one participant, as in leave-one-out: spreads over folds mean nothing then."""
    return rows.groupby(["repeat", "fold"]).size().max() == 1


def flags(rows, by_fold=True):
    """What makes the numbers of a model doubtful (list of str), from its test rows; `by_fold`: also those of a fold."""
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
        return [*found, "one participant per fold: read pooled values, AUC leans low"]
    lacking, constant, parts = [], 0, rows.groupby(["repeat", "fold"])
    for (_, fold), part in parts:
        absent = [name for name in classes if not (part["group"] == name).any()]
        lacking += [f"fold {fold} has no {', '.join(absent)}"] if absent else []
        constant += len(part) > 1 and np.ptp(probabilities(part), axis=0).max() < 1e-6
    if lacking:
        found.append(lacking[0] if len(lacking) == 1 else f"{len(lacking)} folds lack a class ({lacking[0]})")
    if constant:
        found.append(f"constant probabilities in {constant} of {parts.ngroups} folds")
    return found
