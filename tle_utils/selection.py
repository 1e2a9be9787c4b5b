"""Which model to take: the folds of earlier chapters, the choice by validation participants, and what it is worth."""

import itertools

import numpy as np
import pandas as pd

from tle_utils import comparison, evaluation
from tle_utils import published as papers
from tle_utils.crossval import Fold
from tle_utils.errors import TLEError
from tle_utils.predictions import classes_of, select_rows, validate_predictions
from tle_utils.recalibration import LEAST

AS_TRAINED = ", as trained"
"""End of the name of a model that stands in the table a second time, before its temperature; not to be chosen."""
UNTRAINED = ("majority", "shuffled labels")  # with the ideal observer: never to be chosen


def gather(tables):
    """Predictions of several chapters in one table; a model that stands in several is taken from the first.

    Parameters
    ----------
    tables : sequence of pandas.DataFrame
        Tables of `tle_utils.predictions`; empty ones are passed over.

    Returns
    -------
    pandas.DataFrame
        Validated.

    Raises
    ------
    TLEError
        When a participant has different true classes in two tables.
    """
    known, kept = set(), []
    for table in tables:
        if len(table):
            kept.append(table[~table["model"].isin(known)])
            known |= set(table["model"])
    return validate_predictions(pd.concat(kept, ignore_index=True))


def folds_of(predictions, participants):
    """The folds that a table of predictions was made on.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Table of `tle_utils.predictions`; the folds of its first model are taken, whose validation part must be outside
        its training part (not so in an ensemble over inner folds).
    participants : pandas.DataFrame
        One row a participant: ``participant_id``.

    Returns
    -------
    list of crossval.Fold
        Positions in `participants`; a training part is everybody outside the test and validation part.

    Raises
    ------
    TLEError
        When the predictions are of other participants.
    """
    model = predictions["model"].iloc[0]
    rows = validate_predictions(predictions[predictions["model"] == model])
    place = {name: number for number, name in enumerate(participants["participant_id"])}
    tested = rows[rows["split"] == "test"]
    for _, part in tested.groupby("repeat"):
        alone = set(part["participant_id"]) ^ set(place)
        if alone:
            raise TLEError(
                f"participant '{min(alone)}' is not both in participants.tsv and in the predictions of '{model}': "
                "run the notebook that made them again"
            )
    folds = []
    for (repeat, fold), part in rows.groupby(["repeat", "fold"]):
        positions = {split: np.sort(some["participant_id"].map(place)) for split, some in part.groupby("split")}
        validation = positions.get("validation", np.array([], int))
        train = np.setdiff1d(np.arange(len(place)), np.concatenate([validation, positions["test"]]))
        folds.append(Fold(int(repeat), int(fold), train, validation, positions["test"]))
    return folds


def on_validation(predictions):
    """How well every model tells the side of the validation patients, best first; test rows are not looked at.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Predictions of several models with validation rows; recalibrated ones are compared more fairly.

    Returns
    -------
    pandas.DataFrame
        ``model``, ``rows`` (validation rows of patients that all models have; a patient may validate several folds),
        ``side_loss`` (mean cross-entropy of the side, given that it is one of the two, in nats; a coin has log 2) and
        ``lateralization_accuracy``, least loss first.

    Raises
    ------
    TLEError
        When the models have no validation row of a patient in common.
    """
    rows = select_rows(predictions, "validation", several=True)
    rows = rows[rows["group"].isin(["left", "right"])]
    shared = rows.groupby(["repeat", "fold", "participant_id"])["model"].transform("nunique")
    rows = rows[shared == predictions["model"].nunique()]
    if rows.empty:
        raise TLEError("predictions: the models have no validation patient in common: run them on the same folds")
    own = rows["p_left"].where(rows["group"] == "left", rows["p_right"])
    p = (own / (rows["p_left"] + rows["p_right"])).fillna(0.5)
    found = rows.assign(loss=np.log(1 / p.clip(LEAST, 1)), hit=np.where(p == 0.5, 0.5, p > 0.5))
    table = found.groupby("model", sort=False).agg(
        rows=("hit", "size"), side_loss=("loss", "mean"), lateralization_accuracy=("hit", "mean")
    )
    return table.sort_values("side_loss", kind="stable").reset_index()


def choose(predictions, never=()):
    """The model with the least cross-entropy of the side on validation patients; test rows are not looked at.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As in `on_validation`.
    never : sequence of str
        Models that may not be chosen, besides `UNTRAINED` and those whose name ends in `AS_TRAINED`.

    Returns
    -------
    str

    Raises
    ------
    TLEError
        When no model is left, or the models have no validation patient in common.
    """
    out = predictions["model"].isin([*UNTRAINED, *never]) | predictions["model"].str.endswith(AS_TRAINED)
    rows = predictions[~out]
    if rows.empty:
        raise TLEError("predictions: no model to choose from: run notebooks 03, 04 and 06 first")
    return on_validation(rows)["model"].iloc[0]


def gap_closed(predictions, model, baseline, ceiling, seed=0):
    """How much of the way from a baseline to the ceiling a model goes, in lateralization accuracy.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Table of `tle_utils.predictions` with the three models; their test rows are used.
    model, baseline, ceiling : str
        Names in the table.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``n`` (patients), ``baseline``, ``model``, ``ceiling`` (lateralization accuracies), ``gain`` (model less
        baseline) with ``gain_low``, ``gain_high``, ``gap`` (ceiling less baseline), ``closed`` (gain over gap) with
        ``closed_low``, ``closed_high``: 95 % intervals from a bootstrap of patients, all three models on the same
        ones. ``reason`` says why ``closed`` or its interval is NaN: a gap that may be nothing divides nothing.
    """
    rows = select_rows(predictions, several=True)
    hits = {}
    for name in (baseline, model, ceiling):
        part = rows[rows["model"] == name].reset_index(drop=True)
        hit, among = evaluation.hits(part, "lateralization_accuracy")
        hits[name] = pd.Series(hit[among].astype(float)).groupby(part["participant_id"][among].to_numpy()).mean()
    table = pd.concat([hits[name] for name in (baseline, model, ceiling)], axis=1).to_numpy()
    weights = np.random.default_rng([seed, 20]).multinomial(len(table), np.full(len(table), 1 / len(table)), size=2000)
    samples = np.concatenate([table.mean(axis=0, keepdims=True), weights @ table / len(table)])
    gain, gap = samples[:, 1] - samples[:, 0], samples[:, 2] - samples[:, 0]
    low, high = np.percentile(gain[1:], [2.5, 97.5])
    out = {"n": len(table)} | dict(zip(("baseline", "model", "ceiling"), samples[0].tolist(), strict=True))
    out |= {"gain": float(gain[0]), "gain_low": float(low), "gain_high": float(high), "gap": float(gap[0])}
    out |= dict.fromkeys(("closed", "closed_low", "closed_high"), np.nan) | {"reason": ""}
    if gap[0] <= 0:
        return out | {"reason": "the ceiling is not above the baseline here"}
    out["closed"] = float(gain[0] / gap[0])
    if np.mean(gap[1:] <= 0) > 0.01:
        return out | {"reason": "no interval: with so few patients the gap itself may be nothing"}
    low, high = np.percentile((gain[1:] / gap[1:])[gap[1:] > 0], [2.5, 97.5])
    return out | {"closed_low": float(low), "closed_high": float(high)}


def pairwise(predictions, folds, metric="lateralization_accuracy"):
    """Corrected resampled t-tests between all pairs of models, with Holm's adjustment over the pairs.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Predictions of several models on the same folds; test rows are used.
    folds : list of crossval.Fold
        From `folds_of`: their mean sizes are those of the correction.
    metric : str
        A metric of `tle_utils.evaluation.fold_metrics`.

    Returns
    -------
    pandas.DataFrame
        One row a pair: ``model_a``, ``model_b``, ``difference`` (mean over folds of a − b), ``ci_low``, ``ci_high``,
        ``p``, ``p_holm``, ``folds``, ``n`` (as in `comparison.compare_models`) and ``reason`` (why there is no p).

    Raises
    ------
    TLEError
        When two models were tested on other participants or in other folds.
    """
    rows = select_rows(predictions, several=True)
    places = rows.pivot_table(index=["repeat", "participant_id"], columns="model", values="fold", sort=False)
    off = places.isna().any(axis=1) | (places.nunique(axis=1) > 1)
    if off.any():
        raise TLEError(
            f"participant '{off.index[off][0][1]}' is not in the same fold of every model: run them on the same folds"
        )
    values = evaluation.fold_metrics(rows)
    values = values[values["metric"] == metric].pivot(index=["repeat", "fold"], columns="model", values="value")
    sizes = np.mean([[len(fold.train), len(fold.test)] for fold in folds], axis=0)
    out = []
    for a, b in itertools.combinations(rows["model"].unique(), 2):
        test = comparison.corrected_ttest(values[a], values[b], *sizes)
        out.append({"model_a": a, "model_b": b} | test)
    if metric in comparison.RIGHT_ANSWERS:
        one = rows[rows["model"] == rows["model"].iloc[0]]
        rows = one[evaluation.hits(one, metric)[1]]
    table = pd.DataFrame(out).assign(n=rows["participant_id"].nunique())
    table["p_holm"] = comparison.holm(table["p"])
    return table[["model_a", "model_b", "difference", "ci_low", "ci_high", "p", "p_holm", "folds", "n", "reason"]]


def _floor(rows, bins, seed):
    """Expected calibration error that a model with these very probabilities would show if they were all true."""
    columns = [f"p_{name}" for name in classes_of(rows)]
    p = rows[columns].to_numpy()
    top, chance = p.max(axis=1) / p.sum(axis=1), np.random.default_rng([seed, 21]).random((200, len(p)))
    place = evaluation.equal_bins(top, bins)
    off = [np.abs(np.bincount(place, top - (draw < top))).sum() / len(p) for draw in chance]
    return float(np.mean(off))


def calibration(before, after, bins=10, seed=0):
    """Calibration of every model before and after it was recalibrated.

    Parameters
    ----------
    before, after : pandas.DataFrame
        Predictions, and those of `tle_utils.recalibration.recalibrated`.
    bins : int
        As in `tle_utils.evaluation.reliability_table`.
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
                "ece_before": evaluation.expected_calibration_error(old, bins=bins),
                "ece_after": evaluation.expected_calibration_error(rows, bins=bins),
                "ece_if_true": _floor(rows, bins, seed),
                "brier_before": evaluation.brier(old),
                "brier_after": evaluation.brier(rows),
            }
        )
    return pd.DataFrame(out)


def published_beside():
    """Published figures of telling the side, and on whom they were reached.

    Returns
    -------
    pandas.DataFrame
        ``system``, ``lateralization_accuracy``, ``n`` (as the source counts) and ``on whom``. Other people, other
        scans, other definitions of the true side: to be read beside a table of this book, not against it.
    """
    follow_up, rows = papers.published("follow_up"), []
    whom = f"patients of {follow_up['sites']} sites, 100 random splits"
    reached = follow_up["lateralization_accuracy"]
    for system, value in (
        (f"Kaestner, Rao et al. 2023, CNN (mean of splits, SD {reached['sd']:.2f})", reached["mean"]),
        ("Kaestner, Rao et al. 2023, hippocampal volumes", follow_up["hippocampal_volume_logistic_regression"]),
        ("Kaestner, Rao et al. 2023, shuffled labels", follow_up["shuffled_labels"]),
    ):
        rows.append((system, value, follow_up["n"], whom))
    for figure in ("figure_8", "figure_12"):
        found = papers.paper_summary(papers.published_table(figure))
        system = f"Rao, {figure.replace('_', ' ').capitalize()} (counted again; called control is wrong)"
        rows.append((system, found["lateralized"] / found["patients"], found["patients"], "patients of the paper"))
    for entry in papers.published("other_systems"):
        if entry["task"].startswith("lateralize"):
            rows.append((entry["name"], entry["accuracy"], entry["n"], entry["task"]))
    return pd.DataFrame(rows, columns=["system", "lateralization_accuracy", "n", "on whom"])
