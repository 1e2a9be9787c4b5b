"""The paper's confusion tables and other published figures, in the shape of the book's own results."""

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from tle_utils.base.errors import TLEError
from tle_utils.base.statistics import wilson_interval
from tle_utils.models.predictions import CLASSES, classes_of, select_rows

# (true, predicted) of each column, in the paper's order and words (Figures 8 and 12).
PAPER_COLUMNS = {
    "Controls labeled Left TLE": ("control", "left"),
    "Correctly labeled Controls": ("control", "control"),
    "Controls labeled Right TLE": ("control", "right"),
    "Left TLE labeled Controls": ("left", "control"),
    "Correctly labeled Left TLE": ("left", "left"),
    "Left TLE labeled Right TLE": ("left", "right"),
    "Right TLE labeled Controls": ("right", "control"),
    "Correctly labeled Right TLE": ("right", "right"),
    "Right TLE labeled Left TLE": ("right", "left"),
}


@functools.cache
def _facts():
    return yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))


def published_figures(name):
    """Published figures by name, each with its ``source``.

    Parameters
    ----------
    name : str
        ``figure_8``, ``figure_12``, ``replication``, ``original_study``, ``follow_up``, ``slice_leakage``,
        ``other_systems`` or ``ideas``.

    Raises
    ------
    TLEError
        When there is no such entry.
    """
    facts = _facts()
    if name not in facts:
        raise TLEError(f"published figures: no '{name}': choose one of {', '.join(facts)}")
    return facts[name]


def paper_confusion_table(table):
    """Confusion counts of one model, one row per split, with the paper's nine columns (Figures 8 and 12).

    Returns
    -------
    pandas.DataFrame
        Index ``split`` from 0, through the folds of all repeats; integer counts of test rows.

    Raises
    ------
    TLEError
        When the task has not the three classes.
    """
    rows = select_rows(table)
    if tuple(classes_of(rows)) != CLASSES:
        raise TLEError("predictions: the paper's confusion table needs control, left and right: use confusion() here")
    counts = rows.groupby(["repeat", "fold", "group", "predicted"]).size().unstack(["group", "predicted"], fill_value=0)
    counts = counts.reindex(columns=list(PAPER_COLUMNS.values()), fill_value=0).reset_index(drop=True)
    return counts.set_axis(list(PAPER_COLUMNS), axis=1).rename_axis("split")


def published_table(figure):
    """The paper's confusion table of ``"figure_8"`` or ``"figure_12"``, in the shape of `paper_confusion_table`."""
    entry = published_figures(figure)
    if "per_split" not in entry:
        raise TLEError(f"published figures: '{figure}' has no confusion table: choose figure_8 or figure_12")
    return pd.DataFrame(entry["per_split"], columns=list(PAPER_COLUMNS)).rename_axis("split")


def split_accuracy(counts, groups=CLASSES):
    """Accuracy of every split over the true classes `groups`, recomputed from a table with the paper's nine columns.

    Over the two sides it is the share of patients who are given their own side; called control is wrong.
    """
    of = [name for name, (true, _) in PAPER_COLUMNS.items() if true in groups]
    correct = [name for name in of if PAPER_COLUMNS[name][0] == PAPER_COLUMNS[name][1]]
    return (counts[correct].sum(axis=1) / counts[of].sum(axis=1)).rename("accuracy")


def _totals(counts):
    """Counts of all splits together, true class (rows) by predicted class."""
    return counts.sum().set_axis(pd.MultiIndex.from_tuples(PAPER_COLUMNS.values())).unstack()


def paper_summary(counts):
    """What a table with the paper's nine columns says when it is counted through.

    Returns
    -------
    dict
        ``correct``, ``n``, ``accuracy`` with ``ci_low`` and ``ci_high`` (Wilson 95 %), ``fold_mean``, ``fold_sd``,
        ``lateralized`` (true left and right patients given their own side) with ``patients``, and for the signature of
        a batch effect ``left_called_of_others`` (controls and right patients called left) with ``others``.
    """
    total, ill, not_left = _totals(counts), ["left", "right"], ["control", "right"]
    lateralized = sum(int(total.loc[side, side]) for side in ill)
    correct, n = lateralized + int(total.loc["control", "control"]), int(total.to_numpy().sum())
    low, high = wilson_interval(correct, n)
    folds = split_accuracy(counts)
    return {
        "correct": correct,
        "n": n,
        "accuracy": correct / n,
        "ci_low": low,
        "ci_high": high,
        "fold_mean": float(np.mean(folds)),
        "fold_sd": float(np.std(folds, ddof=1)),
        "lateralized": lateralized,
        "patients": int(total.loc[ill].to_numpy().sum()),
        "left_called_of_others": int(total.loc[not_left, "left"].sum()),
        "others": int(total.loc[not_left].to_numpy().sum()),
    }


def called(counts, true, predicted):
    """How many participants of a class are called another (or their own).

    Returns (dict) ``count``, ``n`` (participants of the true class), ``share``, ``ci_low``, ``ci_high`` (Wilson 95 %);
    ``share`` and interval are NaN where the class has nobody.
    """
    total = _totals(counts)
    count, n = int(total.loc[true, predicted]), int(total.loc[true].sum())
    low, high = wilson_interval(count, n)
    return {"count": count, "n": n, "share": count / n if n else np.nan, "ci_low": low, "ci_high": high}
