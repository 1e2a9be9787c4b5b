"""A planted batch: does a second batch of scans, told to nobody, leave the signature of the paper's confusion tables?

The signature: no control and no right patient is ever called left, and yet many left patients are not found.
"""

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.base.statistics import wilson_interval
from tle_utils.evaluation import published
from tle_utils.imaging import slices
from tle_utils.models import baselines
from tle_utils.phantom import maps

ALL_LEFT, ADDED = "all left patients", "added patients"
SCENARIOS = [("nobody", 0), (ALL_LEFT, 1), (ALL_LEFT, 4), (ADDED, 1), (ADDED, 4)]  # who, times the phantom's field
FROM_ORIGINAL_STUDY = 100 / 170  # left patients whom the paper took over from the original study, about

# What the signature looks at: true class and what it is called.
CALLS = {
    "left found": ("left", "left"),
    "left called right": ("left", "right"),
    "control called left": ("control", "left"),
    "right called left": ("right", "left"),
}


def members(groups, who):
    """Who is in the second batch.

    Parameters
    ----------
    groups : sequence of str
        Class of each participant.
    who : str
        ``"nobody"``; `ALL_LEFT`, as ``batch_confound=1`` of `maps.make_phantom`; `ADDED`, all right patients and the
        last 70 in 170 of the left ones: the paper's Section 4.1 says that the controls and about 100 left patients
        came with the original study and that the others were added.

    Returns
    -------
    numpy.ndarray
        bool, one value a participant.

    Raises
    ------
    TLEError
        When `who` is none of these.
    """
    groups = np.asarray(groups)
    left = groups == "left"
    late = left & (np.cumsum(left) > round(FROM_ORIGINAL_STUDY * left.sum()))
    parts = {"nobody": left & False, ALL_LEFT: left, ADDED: late | (groups == "right")}
    if who not in parts:
        raise TLEError(f"second batch '{who}': choose one of {', '.join(parts)}")
    return parts[who]


def plant_batch(x, chosen, y_mm, seed, strength=1):
    """Give some participants' slices the smooth field of the phantom's second batch.

    Parameters
    ----------
    x : numpy.ndarray
        Slices as `slices.load_slices` scales them, shape (n, 160, 160, len(y_mm)).
    chosen : numpy.ndarray
        bool, participants of the second batch.
    y_mm : sequence of int
        MNI y coordinates of the slices in mm.
    seed : int
        Seed of the field.
    strength : float
        Times the phantom's field; its log has a standard deviation of `maps.BATCH_SD`.

    Returns
    -------
    numpy.ndarray
        A copy; the chosen participants are multiplied by the field and scaled to 0…1 again.
    """
    planted = x.copy()
    part = planted[chosen] * slices.slices_of(maps.batch_factor(seed) ** np.float32(strength), y_mm)
    low, high = (edge(part, axis=(1, 2, 3), keepdims=True) for edge in (np.min, np.max))
    planted[chosen] = (part - low) / (high - low)
    return planted


def _predict(job):
    x, participants, folds, y_mm, seed, who, strength = job
    planted = plant_batch(x, members(participants["group"], who), y_mm, seed, strength)
    label = f"{who}, field of {strength * maps.BATCH_SD:.0%}" if strength else "no second batch"
    return baselines.voxel_svm(planted, participants, folds, seed).assign(model=label)


def predict_batches(x, participants, folds, y_mm, seed, workers=1):
    """Predictions of the voxel SVM on the same participants and folds in every scenario of a second batch.

    Parameters
    ----------
    x, y_mm, seed
        As in `plant_batch`.
    participants, folds
        As in `tle_utils.models.baselines.voxel_svm`, with all three classes.
    workers : int
        Scenarios side by side.

    Returns
    -------
    pandas.DataFrame
        The table of `tle_utils.models.predictions`; a model is named by who is in the
        second batch and how strong it is.
    """
    jobs = [(x, participants, folds, y_mm, seed, who, strength) for who, strength in SCENARIOS]
    return pd.concat(run_parallel(_predict, jobs, label="batches", workers=workers), ignore_index=True)


def signature(tables):
    """How often left is found and how often it is called where it is not.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        Name to a table with the paper's nine columns (`published.published_table`, `published.paper_confusion_table`).

    Returns
    -------
    pandas.DataFrame
        One row a table and entry of `CALLS`: ``table``, ``what`` and the fields of `published.called`.
    """
    rows = [
        {"table": name, "what": what} | published.called(counts, true, predicted)
        for name, counts in tables.items()
        for what, (true, predicted) in CALLS.items()
    ]
    return pd.DataFrame(rows)


def batch_verdict(found, printed):
    """What the signature says, as two sentences.

    Parameters
    ----------
    found : pandas.DataFrame
        From `signature`.
    printed : sequence of str
        Tables of the paper; the others are ours, the first of them without a second batch.

    Returns
    -------
    dict of str to str
        ``paper``: how often the paper's nets call somebody left who is not, and how often they find left.
        ``planted``: in which of the planted batches the whole signature appears, nobody called left who is not and
        left found about as often as in the paper (the intervals overlap), and what each of them does.
    """
    others = found[found["what"].isin(["control called left", "right called left"])]
    wrong = others.groupby("table", sort=False)[["count", "n"]].sum()
    left = found[found["what"] == "left found"].set_index("table")
    bound = {name: wilson_interval(row["count"], row["n"])[1] for name, row in wrong.iterrows()}

    def line(name):
        row = wrong.loc[name]
        wrongly = f"{row['count']} of {row['n']} others called left (95 % CI up to {bound[name]:.1%})"
        return f"{wrongly}, {left.loc[name, 'share']:.0%} of left found"

    least, most = left.loc[list(printed), "ci_low"].min(), left.loc[list(printed), "ci_high"].max()
    plain, *planted = [name for name in wrong.index if name not in set(printed)]
    clean = [name for name in planted if wrong.loc[name, "count"] == 0]
    whole = [name for name in clean if left.loc[name, "ci_low"] <= most and left.loc[name, "ci_high"] >= least]
    named = f" ({'; '.join(whole)})" if whole else ""
    lines = "; ".join(f"{name}: {line(name)}" for name in planted)
    return {
        "paper": "; ".join(f"{name}: {line(name)}" for name in printed) + ".",
        "planted": f"The whole signature appears in {len(whole)} of {len(planted)} planted batches{named}. "
        f"Without a batch: {line(plain)}. With one: {lines}.",
    }
