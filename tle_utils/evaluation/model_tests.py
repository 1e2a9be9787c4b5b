"""Models side by side: one table of results, sub-groups, and tests of the difference between two models."""

import itertools

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tle_utils.base.errors import TLEError
from tle_utils.base.statistics import SEED, bootstrap_weights, percentile_interval
from tle_utils.evaluation import calibration, metrics
from tle_utils.models.predictions import classes_of, select_rows

CORRECT_ANSWERS = ("accuracy", "lateralization_accuracy")
"""Metrics that are a share of correct answers."""


def _row(rows, positive, by_fold=True):
    classes = classes_of(rows)
    if positive is None and len(classes) < 3:
        positive = "left" if "left" in classes else "right"
    summary = metrics.model_metrics(rows, positive)
    people = rows.drop_duplicates("participant_id")["group"].value_counts()
    out = {
        "model": rows["model"].iloc[0],
        "n": int(people.sum()),
        "classes": ", ".join(f"{people.get(name, 0)} {name}" for name in classes),
        "positive": positive or ("left (against right)" if {"left", "right"} <= set(classes) else ""),
        "folds": rows.groupby(["repeat", "fold"]).ngroups,
    }
    for line in summary.itertuples():
        out |= {line.metric: line.value, f"{line.metric}_low": line.ci_low, f"{line.metric}_high": line.ci_high}
        if by_fold and line.metric == "accuracy":
            out |= {"accuracy_sd": line.fold_sd}
    out |= {"brier": calibration.brier(rows), "ece": calibration.expected_calibration_error(rows)}
    undefined = [f"{line.metric}: {line.reason}" for line in summary.itertuples() if line.reason]
    return out | {"flags": "; ".join(metrics.flags(rows, by_fold)), "undefined": "; ".join(undefined)}


def results_table(predictions, positive=None):
    """Results of many models, one row each.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Of the models and of their comparators; tasks may differ.
    positive : str, optional
        Positive class of binary metrics (``"patient"``: left and right together). By default two classes take
        ``left`` (``right`` against control where there is no left), and three classes get metrics over all classes.

    Returns
    -------
    pandas.DataFrame
        ``model``, ``n`` (participants), ``classes`` (how many of each), ``positive``, ``folds``; for each metric of
        `metrics.model_metrics` its pooled value, ``_low`` and ``_high`` (95 % interval); ``accuracy_sd`` over folds;
        ``brier``, ``ece``, ``flags`` (what makes the row doubtful) and ``undefined`` (which
        values or intervals are NaN, and why). Models stand in order of appearance.
    """
    rows = select_rows(predictions, several=True)
    return pd.DataFrame([_row(part, positive) for _, part in rows.groupby("model", sort=False)])


def subgroups(predictions, participants, by):
    """Results of each model within sub-groups of participants; select the patients' rows first where only they count.

    Parameters
    ----------
    participants : pandas.DataFrame
        ``participant_id`` and the column `by`.
    by : str
        ``mts``, ``site``, ``sex``, ``age`` or any other column; numbers with more than five values are cut into thirds.

    Returns
    -------
    pandas.DataFrame
        As `results_table` without the values over folds, with ``by``, ``subgroup`` (``not known`` where it is
        missing), ``larger_side`` and ``largest_class`` (what calling everybody in the sub-group the more frequent side
        or the most frequent class would reach), and ``correct`` (like ``7 of 12``) where the task has three classes.

    Raises
    ------
    TLEError
        When the column is missing or a predicted participant is not in the table.
    """
    rows = select_rows(predictions, several=True)
    if by not in participants:
        raise TLEError(f"participants: no column '{by}': choose one of {', '.join(participants.columns)}")
    missing = set(rows["participant_id"]) - set(participants["participant_id"])
    if missing:
        raise TLEError(f"participants: '{min(missing)}' has predictions but no row: use the table they were made from")
    people = participants.drop_duplicates("participant_id").set_index("participant_id")
    values = people.loc[rows["participant_id"].unique(), by]
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric and values.nunique() > 5:
        thirds = pd.qcut(values.astype(float), 3, duplicates="drop")
        ranges = values.astype(float).groupby(thirds, observed=True).agg(["min", "max"])
        named = {third: f"{low:g} to {high:g}" for third, low, high in ranges.itertuples()}
        values, order = thirds.map(named), list(named.values())
    else:
        order = [str(value) for value in sorted(values.dropna().unique()) if str(value)]
    names = values.astype(object).where(values.notna(), "").astype(str).replace("", "not known")
    of_row, out = rows["participant_id"].map(names), []
    for model, part in rows.groupby("model", sort=False):
        for name in [*order, "not known"]:
            group = part[of_row[part.index] == name]
            if len(group):
                known = {"model": model, "by": by, "subgroup": name} | _row(group, None, by_fold=False)
                out.append(known | _without_looking(group))
    return pd.DataFrame(out)


def _without_looking(rows):
    """What a sub-group gives to somebody who knows its most frequent answer, and the count of correct ones of three."""
    truth, n = rows["group"].value_counts(), rows["participant_id"].nunique()
    sides = truth.reindex(["left", "right"], fill_value=0)
    out = {
        "larger_side": sides.max() / sides.sum() if sides.sum() else np.nan,
        "largest_class": truth.max() / len(rows),
    }
    hits = (rows["group"] == rows["predicted"]).mean() * n
    return out | {"correct": f"{hits:.4g} of {n}" if len(classes_of(rows)) == 3 else None}


def corrected_ttest(a, b, n_train, n_test):
    """Corrected resampled t-test of two models on the same folds (Nadeau and Bengio 2003, Machine Learning 52:239).

    The variance of the mean difference is ``(1 / folds + n_test / n_train) * s²``: training sets of folds overlap.

    Parameters
    ----------
    a, b : sequence of float
        One value per fold of each model; folds in which either is NaN are left out.
    n_train, n_test : float
        Participants of the training and test part of a fold.

    Returns
    -------
    dict
        ``difference`` (mean of a − b), ``ci_low``, ``ci_high`` (95 %), ``t``, ``df``, ``p`` (two-sided), ``folds`` and
        ``reason`` (why there is no p).
    """
    difference = np.asarray(a, float) - np.asarray(b, float)
    difference = difference[np.isfinite(difference)]
    k = len(difference)
    out = dict.fromkeys(("difference", "ci_low", "ci_high", "t", "df", "p"), np.nan) | {"folds": k, "reason": ""}
    if k < 2:
        return out | {"reason": "fewer than two folds with a value in both models"}
    mean, spread = difference.mean(), difference.std(ddof=1)
    out |= {"difference": float(mean), "df": k - 1}
    if spread < 1e-12:
        return out | {"reason": "the same difference in every fold"}
    error = np.sqrt(1 / k + n_test / n_train) * spread
    t = mean / error
    half = stats.t.ppf(0.975, k - 1) * error
    p = 2 * stats.t.sf(abs(t), k - 1)
    return out | {"ci_low": float(mean - half), "ci_high": float(mean + half), "t": float(t), "p": float(p)}


def mcnemar_exact(correct_a, correct_b):
    """Exact McNemar test of two models on the same participants.

    Takes whether each model is correct, one bool per participant in the same order. Returns (dict) ``only_a`` and
    ``only_b`` (participants of whom one model alone is correct) and ``p`` (two-sided).
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": p}


def holm(p_values):
    """Holm's adjustment of several p values; NaN stays NaN and is not counted."""
    p = np.asarray(p_values, float)
    out, known = np.full(len(p), np.nan), np.isfinite(p)
    if known.any():
        out[known] = multipletests(p[known], method="holm")[1]
    return out


def _tested(table, metric):
    """Test rows of a model by participant, its value in every fold, and the mean size of a validation part."""
    rows = select_rows(table).sort_values(["repeat", "participant_id"], ignore_index=True)
    found = metrics.fold_metrics(rows)
    known = [name for name in CORRECT_ANSWERS if name in set(found["metric"])]
    if metric not in known:
        raise TLEError(f"metric '{metric}' is not one of this task: {', '.join(known)}")
    by_fold = found[found["metric"] == metric].set_index(["repeat", "fold"])["value"].sort_index()
    held = table[table["split"] == "validation"].groupby(["repeat", "fold"]).size()
    return rows, by_fold, held.mean() if len(held) else 0


def _refuse_unmatched(a, b):
    keys = ["repeat", "participant_id"]
    a, b = a.set_index(keys), b.set_index(keys)
    names = f"'{a['model'].iloc[0]}' and '{b['model'].iloc[0]}'"
    alone = a.index.symmetric_difference(b.index)
    if len(alone):
        raise TLEError(f"{names}: participant '{alone[0][1]}' is tested by one model only: compare on the same people")
    for column, problem in (("fold", "is in different folds"), ("group", "has different true classes")):
        off = a[column] != b[column]
        if off.any():
            raise TLEError(f"{names}: participant '{a.index[off][0][1]}' {problem}: run both on the same folds")


def _accuracies(models, metric):
    """Number of participants, and pooled shares of correct answers: shape (1 + samples, models), first as they are.

    A bootstrap sample draws participants, the same ones for all models, which are given by their test rows.
    """
    shares = []
    for rows in models:
        hit, among = metrics.hits(rows, metric)
        shares.append(pd.Series(hit[among].astype(float)).groupby(rows["participant_id"][among].to_numpy()).mean())
    table = pd.concat(shares, axis=1).to_numpy()
    if not len(table):
        raise TLEError(f"{metric}: no participant counts: compare models where true classes are left or right")
    weights = bootstrap_weights(np.random.default_rng([SEED, 20]), len(table))
    return len(table), np.concatenate([table.mean(axis=0, keepdims=True), weights @ table / len(table)])


def _compared(tested_a, tested_b, metric):
    (a, of_a, held_a), (b, of_b, held_b) = tested_a, tested_b
    _refuse_unmatched(a, b)
    n, samples = _accuracies((a, b), metric)
    gain = samples[:, 0] - samples[:, 1]
    out = {"model_a": a["model"].iloc[0], "model_b": b["model"].iloc[0], "metric": metric, "n": n}
    out |= {"value_a": float(samples[0, 0]), "value_b": float(samples[0, 1]), "difference": float(gain[0])}
    out |= dict(zip(("ci_low", "ci_high"), percentile_interval(gain[1:]), strict=True))
    n_test = a.groupby(["repeat", "fold"]).size().mean()
    n_train = a["participant_id"].nunique() - n_test - max(held_a, held_b)
    test = corrected_ttest(of_a, of_b, n_train, n_test)
    if metrics.one_each(a):
        test |= dict.fromkeys(("t", "df", "p"), np.nan)
        test["reason"] = "one participant per fold: McNemar's test is the one to read"
    out |= {"p_corrected": test["p"]} | {name: test[name] for name in ("t", "df", "folds", "reason")}
    return out | _mcnemar_over_repeats(a, b, metric)


def compare_models(table_a, table_b, metric="accuracy"):
    """The difference between two models that were run on the same folds, and whether it stands out.

    Values are those of `results_table`: pooled out of fold. The interval counts participants; the corrected resampled
    t-test also counts that other training parts would have made other models. A training part counts those who are in
    no test and, where such rows are kept, no validation row of the fold.

    Parameters
    ----------
    table_a, table_b : pandas.DataFrame
        Predictions of one model each, with the same participants in the same folds.
    metric : str
        One of `CORRECT_ANSWERS`.

    Returns
    -------
    dict
        ``model_a``, ``model_b``, ``metric``, ``n`` (participants in the denominator: patients for lateralization),
        ``value_a``, ``value_b`` (pooled), ``difference`` (a − b) with ``ci_low``, ``ci_high`` (95 %, bootstrap of
        participants, the same for both), ``p_corrected``, ``t``, ``df``, ``folds`` and ``reason`` (why no p) of
        `corrected_ttest` over folds, and ``only_a``, ``only_b``, ``p_mcnemar``. With repeats McNemar's counts are means
        and its p is twice the median over repeats, which holds however dependent they are.

    Raises
    ------
    TLEError
        When the metric is not one of the task, nobody counts, or the models were tested on others or in other folds.
    """
    return _compared(_tested(table_a, metric), _tested(table_b, metric), metric)


def _mcnemar_over_repeats(a, b, metric):
    (correct_a, among), (correct_b, _) = (metrics.hits(rows, metric) for rows in (a, b))
    tests = [
        mcnemar_exact(correct_a[index] == 1, correct_b[index] == 1)
        for index in (index[among[index]] for index in a.groupby("repeat").indices.values())
    ]
    p = tests[0]["p"] if len(tests) == 1 else min(1.0, 2 * float(np.median([test["p"] for test in tests])))
    counts = {name: float(np.mean([test[name] for test in tests])) for name in ("only_a", "only_b")}
    return counts | {"p_mcnemar": p}


def pairwise(predictions, metric="lateralization_accuracy"):
    """All pairs of models by `compare_models` (pandas.DataFrame), with ``p_holm``, Holm's adjustment over the pairs."""
    tested = [_tested(table, metric) for _, table in predictions.groupby("model", sort=False)]
    table = pd.DataFrame([_compared(a, b, metric) for a, b in itertools.combinations(tested, 2)])
    return table.assign(p_holm=holm(table["p_corrected"]))


def gap_closed(predictions, model, baseline, bound):
    """How much of the way from a baseline to the upper bound a model goes, in lateralization accuracy.

    Parameters
    ----------
    model, baseline, bound : str
        Names in the table; their test rows are used.

    Returns
    -------
    dict
        ``n`` (patients), ``baseline``, ``model``, ``bound`` (lateralization accuracies), ``gain`` (model less
        baseline) with ``gain_low``, ``gain_high``, ``gap`` (bound less baseline), ``closed`` (gain over gap) with
        ``closed_low``, ``closed_high``: 95 % intervals from a bootstrap of patients, all three models on the same
        ones. ``reason`` says why ``closed`` or its interval is NaN: a gap that may be nothing divides nothing.
    """
    rows = select_rows(predictions, several=True)
    parts = [rows[rows["model"] == name].reset_index(drop=True) for name in (baseline, model, bound)]
    n, samples = _accuracies(parts, "lateralization_accuracy")
    gain, gap = samples[:, 1] - samples[:, 0], samples[:, 2] - samples[:, 0]
    low, high = percentile_interval(gain[1:])
    out = {"n": n} | dict(zip(("baseline", "model", "bound"), samples[0].tolist(), strict=True))
    out |= {"gain": float(gain[0]), "gain_low": low, "gain_high": high, "gap": float(gap[0])}
    out |= dict.fromkeys(("closed", "closed_low", "closed_high"), np.nan) | {"reason": ""}
    if gap[0] <= 0:
        return out | {"reason": "the upper bound is not above the baseline here"}
    out["closed"] = float(gain[0] / gap[0])
    if np.mean(gap[1:] <= 0) > 0.01:
        return out | {"reason": "no interval: with so few patients the gap itself may be nothing"}
    known = gap > 0
    low, high = percentile_interval((gain[known] / gap[known])[1:])
    return out | {"closed_low": low, "closed_high": high}
