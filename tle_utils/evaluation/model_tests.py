"""Models side by side: one table of results, sub-groups, and tests of the difference between two models."""

import itertools

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tle_utils.base.errors import TLEError
from tle_utils.base.statistics import bootstrap_weights, percentile_interval
from tle_utils.evaluation import calibration, metrics
from tle_utils.models.predictions import classes_of, select_rows

CORRECT_ANSWERS = ("accuracy", "lateralization_accuracy")
"""Metrics that are a share of correct answers."""


def _row(rows, positive, seed, by_fold=True):
    classes = classes_of(rows)
    if positive is None and len(classes) < 3:
        positive = "left" if "left" in classes else "right"
    summary = metrics.model_metrics(rows, positive, seed)
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
            out |= {"accuracy_mean": line.fold_mean, "accuracy_sd": line.fold_sd}
    out |= {"brier": calibration.brier(rows), "ece": calibration.expected_calibration_error(rows)}
    undefined = [f"{line.metric}: {line.reason}" for line in summary.itertuples() if line.reason]
    return out | {"flags": "; ".join(metrics.flags(rows, by_fold)), "undefined": "; ".join(undefined)}


def results_table(predictions, positive=None, seed=0):
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
        `metrics.model_metrics` its pooled value, ``_low`` and ``_high`` (95 % interval); ``accuracy_mean`` and
        ``accuracy_sd`` over folds; ``brier``, ``ece``, ``flags`` (what makes the row doubtful) and ``undefined`` (which
        values or intervals are NaN, and why). Models stand in order of appearance.
    """
    rows = select_rows(predictions, several=True)
    return pd.DataFrame([_row(part, positive, seed) for _, part in rows.groupby("model", sort=False)])


def subgroups(predictions, participants, by, seed=0):
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
        As `results_table` without the values over folds, with ``by`` and ``subgroup`` (``not known`` where it is
        missing).

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
                out.append({"model": model, "by": by, "subgroup": name} | _row(group, None, seed, by_fold=False))
    return pd.DataFrame(out)


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


def _matched(table_a, table_b):
    keys = ["repeat", "participant_id"]
    a, b = (select_rows(table).set_index(keys).sort_index() for table in (table_a, table_b))
    names = f"'{a['model'].iloc[0]}' and '{b['model'].iloc[0]}'"
    alone = a.index.symmetric_difference(b.index)
    if len(alone):
        raise TLEError(f"{names}: participant '{alone[0][1]}' is tested by one model only: compare on the same people")
    for column, problem in (("fold", "is in different folds"), ("group", "has different true classes")):
        off = a[column] != b[column]
        if off.any():
            raise TLEError(f"{names}: participant '{a.index[off][0][1]}' {problem}: run both on the same folds")
    return a.reset_index(), b.reset_index()


def _n_counted(rows, metric):
    """Participants in the denominator of a metric, from the test rows of one model."""
    counted = rows[metrics.hits(rows, metric)[1]] if metric in CORRECT_ANSWERS else rows
    return counted["participant_id"].nunique()


def compare_models(table_a, table_b, metric="accuracy"):
    """Test the difference between two models that were run on the same folds.

    A training part counts those who are in no test and, where such rows are kept, no validation row of the fold. Where
    all others validate a member of an ensemble, all others train.

    Parameters
    ----------
    table_a, table_b : pandas.DataFrame
        Predictions of one model each, with the same participants in the same folds.

    Returns
    -------
    dict
        ``model_a``, ``model_b``, ``metric``, ``n`` (participants; for a share of correct answers those in its
        denominator: patients alone for lateralization), ``value_a``, ``value_b`` (mean over folds), the fields of
        `corrected_ttest` (``p`` as ``p_corrected``) and, where the metric is a share of correct answers, ``only_a``,
        ``only_b``, ``p_mcnemar``. With repeats McNemar's counts are means and its p is twice the median over repeats,
        which holds however dependent they are.

    Raises
    ------
    TLEError
        When the metric is not one of the task, or the models were tested on other participants or in other folds.
    """
    a, b = _matched(table_a, table_b)
    values = []
    for rows in (a, b):
        found = metrics.fold_metrics(rows)
        if metric not in set(found["metric"]):
            raise TLEError(f"metric '{metric}' is not one of this task: {', '.join(found['metric'].unique())}")
        values.append(found[found["metric"] == metric].set_index(["repeat", "fold"])["value"].sort_index())
    n_test = a.groupby(["repeat", "fold"]).size().mean()
    rest = a["participant_id"].nunique() - n_test
    held = [table[table["split"] == "validation"].groupby(["repeat", "fold"]).size() for table in (table_a, table_b)]
    n_train = rest - max((size.mean() for size in held if len(size) and size.mean() < rest), default=0)
    test = corrected_ttest(*values, n_train, n_test)
    if metrics.one_each(a):
        test |= dict.fromkeys(("ci_low", "ci_high", "t", "df", "p"), np.nan)
        test["reason"] = "one participant per fold: McNemar's test is the one to read"
    test["p_corrected"] = test.pop("p")
    head = {"model_a": a["model"].iloc[0], "model_b": b["model"].iloc[0], "metric": metric, "n": _n_counted(a, metric)}
    head |= {"value_a": float(values[0].mean()), "value_b": float(values[1].mean())}
    return head | test | _mcnemar_over_repeats(a, b, metric)


def _mcnemar_over_repeats(a, b, metric):
    if metric not in CORRECT_ANSWERS:
        return {"only_a": np.nan, "only_b": np.nan, "p_mcnemar": np.nan}
    (correct_a, among), (correct_b, _) = (metrics.hits(rows, metric) for rows in (a, b))
    tests = [
        mcnemar_exact(correct_a[index] == 1, correct_b[index] == 1)
        for index in (index[among[index]] for index in a.groupby("repeat").indices.values())
    ]
    p = tests[0]["p"] if len(tests) == 1 else min(1.0, 2 * float(np.median([test["p"] for test in tests])))
    counts = {name: float(np.mean([test[name] for test in tests])) for name in ("only_a", "only_b")}
    return counts | {"p_mcnemar": p}


def pairwise(predictions, folds, metric="lateralization_accuracy"):
    """Corrected resampled t-tests between all pairs of models, with Holm's adjustment over the pairs.

    The mean sizes of the folds (from `model_choice.folds_of`) are those of the correction.

    Returns
    -------
    pandas.DataFrame
        One row per pair: ``model_a``, ``model_b``, ``difference`` (mean over folds of a − b), ``ci_low``, ``ci_high``,
        ``p``, ``p_holm``, ``folds``, ``n`` (as in `compare_models`) and ``reason`` (why there is no p).

    Raises
    ------
    TLEError
        When two models were tested on other participants or in other folds.
    """
    rows = select_rows(predictions, several=True)
    first, *others = (part for _, part in rows.groupby("model", sort=False))
    for other in others:
        _matched(first, other)
    values = metrics.fold_metrics(rows)
    values = values[values["metric"] == metric].pivot(index=["repeat", "fold"], columns="model", values="value")
    sizes = np.mean([[len(fold.train), len(fold.test)] for fold in folds], axis=0)
    pairs = itertools.combinations(rows["model"].unique(), 2)
    out = [{"model_a": a, "model_b": b} | corrected_ttest(values[a], values[b], *sizes) for a, b in pairs]
    table = pd.DataFrame(out).assign(n=_n_counted(first, metric))
    table["p_holm"] = holm(table["p"])
    return table[["model_a", "model_b", "difference", "ci_low", "ci_high", "p", "p_holm", "folds", "n", "reason"]]


def gap_closed(predictions, model, baseline, bound, seed=0):
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
    rows, shares = select_rows(predictions, several=True), []
    for name in (baseline, model, bound):
        part = rows[rows["model"] == name].reset_index(drop=True)
        hit, among = metrics.hits(part, "lateralization_accuracy")
        shares.append(pd.Series(hit[among].astype(float)).groupby(part["participant_id"][among].to_numpy()).mean())
    table = pd.concat(shares, axis=1).to_numpy()
    weights = bootstrap_weights(np.random.default_rng([seed, 20]), len(table))
    samples = np.concatenate([table.mean(axis=0, keepdims=True), weights @ table / len(table)])
    gain, gap = samples[:, 1] - samples[:, 0], samples[:, 2] - samples[:, 0]
    low, high = percentile_interval(gain[1:])
    out = {"n": len(table)} | dict(zip(("baseline", "model", "bound"), samples[0].tolist(), strict=True))
    out |= {"gain": float(gain[0]), "gain_low": low, "gain_high": high, "gap": float(gap[0])}
    out |= dict.fromkeys(("closed", "closed_low", "closed_high"), np.nan) | {"reason": ""}
    if gap[0] <= 0:
        return out | {"reason": "the upper bound is not above the baseline here"}
    out["closed"] = float(gain[0] / gap[0])
    if np.mean(gap[1:] <= 0) > 0.01:
        return out | {"reason": "no interval: with so few patients the gap itself may be nothing"}
    low, high = percentile_interval((gain[1:] / gap[1:])[gap[1:] > 0])
    return out | {"closed_low": low, "closed_high": high}
