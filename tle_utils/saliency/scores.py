"""Importance maps by region and against the truth.

Maps are signed where their method is (`attribution`). Scores rank the signed values, and the side with the greater
mean is the one a map points to. Figures and region tables show the positive part, the *importance*.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.metrics import average_precision_score

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.base.statistics import bootstrap_weights, percentile_interval, wilson_interval
from tle_utils.imaging import atlas, slices
from tle_utils.saliency import attribution

CASES = ("all patients", "side correct", "side correct by all networks", "side correct, sclerotic")
OVER_CHANCE, AFFECTED_SIDE = 3.0, 0.8  # what the maps of the network that validation prefers should reach
NETWORK_FREE = "deviation"
"""Method name of `maps.deviations`, the comparator without a network."""


@dataclass(frozen=True)
class Truth:
    """What maps on one coronal slice are held against: the hippocampus of the affected side, with a tolerance.

    Attributes
    ----------
    y_mm : int
        MNI y coordinate of the slice in mm.
    top : float
        Share of the brain's voxels that count as most important.
    dilate_mm : int
        Tolerance around the hippocampus in mm.
    brain : numpy.ndarray
        bool, shape (160, 160): voxels that count; TLEError when the slice lies outside the template grid.
    """

    y_mm: int
    top: float = 0.01
    dilate_mm: int = 5

    @functools.cached_property
    def brain(self):
        return slices.slices_of(atlas.brain_mask(), [self.y_mm])[..., 0]


@functools.cache
def truth_slice(side, y_mm, dilate_mm):
    """Hippocampus of one side on a coronal slice, grown by a tolerance: bool, shape (160, 160).

    It is where the loss is planted in cohort `planted` and the region with the greatest loss in a phantom, which
    also thins the cortex elsewhere: a map that points there is not wrong, and yet counts as a miss.
    """
    mask = atlas.region_mask("hippocampus", side)
    here = y_mm - int(atlas.AFFINE[1, 3])
    slab = slice(max(0, here - dilate_mm), here + dilate_mm + 1)
    near = mask[:, slab]
    if dilate_mm and near.any():
        near = ndimage.distance_transform_edt(~near) <= dilate_mm
    grown = np.zeros(atlas.SHAPE, bool)
    grown[:, slab] = near
    return slices.slices_of(grown, [y_mm])[..., 0]


def score(images, sides, truth):
    """How well maps meet the affected side: one row per participant, whose side stands in `sides`.

    ``inside`` (share of the most important voxels inside the truth), ``over_chance`` (that share over the truth's share
    of the brain), ``affected_side`` (whether the affected hippocampus is more important than the other one; 0.5 when
    both are equal), ``auprc`` (area under the precision-recall curve of all voxels against the hippocampus without
    tolerance; chance is ``auprc_chance``). TLEError when the slice holds no hippocampus.
    """
    y_mm, brain = truth.y_mm, truth.brain
    grown = {side: truth_slice(side, y_mm, truth.dilate_mm) & brain for side in atlas.SIDES}
    exact = {side: truth_slice(side, y_mm, 0)[brain] for side in atlas.SIDES}
    if not all(mask.any() for mask in exact.values()):
        there = np.flatnonzero(atlas.region_mask("hippocampus", "left").any(axis=(0, 2))) + int(atlas.AFFINE[1, 3])
        choice = f"choose from {there.min()} to {there.max()} mm"
        raise TLEError(f"y_mm = {y_mm}: no hippocampus on this slice to score against: {choice}")
    count = max(1, round(truth.top * brain.sum()))
    rows = []
    for image, side in zip(images, sides, strict=True):
        ranked = np.argsort(np.where(brain, image, -np.inf), axis=None, kind="stable")[::-1][:count]
        inside = grown[side].ravel()[ranked].mean()
        here, there = image[grown[side]].mean(), image[grown["right" if side == "left" else "left"]].mean()
        over_chance = inside / (grown[side].sum() / brain.sum())
        affected_side = 0.5 if here == there else float(here > there)
        auprc = average_precision_score(exact[side], image[brain])
        rows.append((inside, over_chance, affected_side, auprc, exact[side].mean()))
    return pd.DataFrame(rows, columns=["inside", "over_chance", "affected_side", "auprc", "auprc_chance"])


def score_rows(images, rows, participants, truth):
    """Scores of the maps of those patients whose lesion is known to lie in the hippocampus of their side.

    These are patients with a planted loss, and patients with mesial temporal sclerosis (`mts`). There is one map per
    row of `rows`, which are those of `maps.Maps`; its number is the index of the result. Returns the columns of
    `score`, ``participant_id``, ``group``, ``repeat``, ``fold``, ``predicted``, ``correct`` (whether the side is called
    correctly) and ``sclerotic``; no row where no lesion is known.
    """
    people = participants.iloc[rows["position"]].reset_index(drop=True)
    sclerotic = people["mts"].eq(True).fillna(False).to_numpy(bool)
    known = people["true_loss"].notna().to_numpy() | sclerotic
    chosen = np.flatnonzero(people["group"].isin(atlas.SIDES).to_numpy() & known)
    people, told = people.iloc[chosen].reset_index(drop=True), rows.iloc[chosen].reset_index(drop=True)
    marks = pd.concat([people[["participant_id", "group"]], told[["repeat", "fold", "predicted"]]], axis=1)
    marks = marks.assign(correct=marks["group"] == marks["predicted"], sclerotic=sclerotic[chosen])
    return pd.concat([marks, score(images[chosen], people["group"], truth)], axis=1).set_axis(chosen)


def score_maps(maps, participants, truth, workers=1):
    """`score_rows` of every method and layer of `maps`, with ``method`` and ``layer``."""
    jobs = [(maps, kind, participants, truth) for kind in maps.kinds]
    return pd.concat(run_parallel(_score_kind, jobs, label="scores of maps", workers=workers), ignore_index=True)


def _score_kind(job):
    maps, (method, layer), participants, truth = job
    return score_rows(maps.read(method, layer), maps.rows, participants, truth).assign(method=method, layer=layer)


def summarise(scores, by, values):
    """Means with 95 % intervals over participants; several rows of a participant count as their mean.

    `scores` have a ``participant_id``; `by` are columns that tell the groups apart, `values` columns to average.
    Returns one row per group: `by`, ``n`` (participants), and mean, ``_low`` and ``_high`` of every value, by the
    bootstrap, and by Wilson for the share ``affected_side``.
    """
    rows = []
    for names, part in scores.groupby(by, sort=False):
        people = part.groupby("participant_id")[values].mean()
        drawn = bootstrap_weights(np.random.default_rng(0), len(people)) @ people.to_numpy(float) / len(people)
        row = dict(zip(by, names, strict=True)) | {"n": len(people)}
        for name, samples in zip(values, drawn.T, strict=True):
            share = name == "affected_side"
            low, high = wilson_interval(people[name].sum(), len(people)) if share else percentile_interval(samples)
            row |= {name: people[name].mean(), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def correlation(table, one, other):
    """Correlation of two columns with its 95 % bootstrap interval over participants (see `summarise`).

    It is 0 where one of them is constant. Returns a dict: ``value``, ``value_low``, ``value_high`` and ``n``.
    """
    people = table.groupby("participant_id")[[one, other]].mean().astype(float)
    a, b = (people - people.mean()).to_numpy().T
    weights = np.vstack([np.ones(len(a)), bootstrap_weights(np.random.default_rng(0), len(a))])
    a_mean, b_mean, ab, aa, bb = (weights @ np.stack([a, b, a * b, a * a, b * b], axis=1)).T / len(a)
    size = np.sqrt(np.maximum((aa - a_mean**2) * (bb - b_mean**2), 0))
    values = np.divide(ab - a_mean * b_mean, size, out=np.zeros_like(size), where=size > 1e-12)
    low, high = percentile_interval(values[1:])
    return {"n": len(a), "value": values[0], "value_low": low, "value_high": high}


def by_cases(scores):
    """Scores of all patients, of those whose side is called correctly (at equal accuracy: by all networks), and so on.

    From `score_maps`, with ``network``; a pandas.DataFrame from `summarise`: one row per ``network``, ``method``,
    ``layer`` and ``cases`` (of `CASES`); empty where no lesion is known.
    """
    correct, sclerotic = scores["correct"].astype(bool), scores["sclerotic"].astype(bool)
    by_all = correct.groupby([scores["participant_id"], scores["repeat"]]).transform("all")
    subsets = zip(CASES, (scores, scores[correct], scores[by_all], scores[correct & sclerotic]), strict=True)
    by, values = ["network", "method", "layer"], ["over_chance", "affected_side", "auprc", "auprc_chance"]
    return pd.concat([summarise(rows, by, values).assign(cases=name) for name, rows in subsets])


def goal(summary):
    """Does `attribution.DEFAULT` reach `OVER_CHANCE` and `AFFECTED_SIDE` in the patients in whom it should?

    These are the sclerotic ones whose side the network calls correctly; where there are none, all it calls correctly,
    and failing these all. `summary` is `by_cases` of one network, not empty; returns its row, with ``met`` (bool).
    """
    rows = summary[(summary["method"] == attribution.DEFAULT[0]) & (summary["cases"] != CASES[2])]
    row = rows.sort_values("cases", key=lambda names: names.map(CASES.index)).iloc[-1].copy()
    row["met"] = row["over_chance"] >= OVER_CHANCE and row["affected_side"] >= AFFECTED_SIDE
    return row


def expectations(scores):
    """What larger studies let expect of maps (Siegel et al. 2025, Oliveira et al. 2024), and whether it came out so.

    `scores` come from `score_maps`, with ``network``. Returns one row per ``network`` and ``claim`` (pandas.DataFrame):
    ``n``, ``value`` with its 95 % interval, ``chance``, and ``verdict``: ``agrees`` where the interval lies above
    chance, ``does not agree`` where it lies below, else ``unclear``.
    """
    person, smooth = ["network", "participant_id", "repeat"], scores[scores["method"] == attribution.DEFAULT[0]]
    last = scores[scores["method"] == "gradcam"]
    last = last[last["layer"] == last.groupby("network")["layer"].transform("max")]
    both = smooth.merge(last[[*person, "over_chance"]], on=person, suffixes=("", "_cam"))
    hits = both[both["correct"].astype(bool)]
    means = {
        "SmoothGrad meets the hippocampus (over chance)": (1, hits["over_chance"]),
        "SmoothGrad less Grad-CAM (over chance)": (0, hits["over_chance"] - hits["over_chance_cam"]),
    }
    long = [hits.assign(claim=claim, chance=at, value=values) for claim, (at, values) in means.items()]
    table = [summarise(pd.concat(long), ["network", "claim", "chance"], ["value"])]
    for network, part in both.groupby("network", sort=False):
        marks = {"network": network, "claim": "SmoothGrad is better where the side is called correctly (correlation)"}
        table.append(pd.DataFrame([marks | {"chance": 0} | correlation(part, "over_chance", "correct")]))
    table = pd.concat(table, ignore_index=True)
    above, below = table["value_low"] > table["chance"], table["value_high"] < table["chance"]
    return table.assign(verdict=np.where(above, "agrees", np.where(below, "does not agree", "unclear")))


def by_region(images, y_mm):
    """Importance of every atlas region on a slice, left and right, with intervals over folds.

    `images` are one mean importance map per fold, not negative, shape (folds, 160, 160); `y_mm` is the MNI y coordinate
    of the slice in mm.

    Returns
    -------
    pandas.DataFrame
        One row per region present on the slice, greatest share first: ``region``, and ``left``, ``right`` (mean
        importance), ``share`` (of the map's total) and ``left_over_right``, each with ``_low`` and ``_high``
        (bootstrap over folds, 95 %), and ``folds``.
    """
    labels, table = atlas.regions()
    numbers = slices.slices_of(labels, [y_mm]).ravel()
    sizes = np.bincount(numbers, minlength=labels.max() + 1)
    pairs = table.pivot(index="region", columns="hemisphere", values="label")[list(atlas.SIDES)]
    pairs = pairs[(sizes[pairs.to_numpy()] >= 20).all(axis=1)]
    sums = np.stack([np.bincount(numbers, image.ravel(), minlength=len(sizes)) for image in images])
    weights = bootstrap_weights(np.random.default_rng(0), len(images)) / len(images)
    weights = np.vstack([np.full(len(images), 1 / len(images)), weights])  # the folds as they are come first
    means = np.tensordot(weights, sums[:, pairs.to_numpy()], 1)  # (draws, regions, sides)
    left, right = np.moveaxis(means / sizes[pairs.to_numpy()], -1, 0)
    whole = np.maximum(weights @ images.sum(axis=(1, 2)), np.finfo(float).tiny)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = left / right
    measures = {"left": left, "right": right, "share": means.sum(axis=-1) / whole[:, None], "left_over_right": ratio}
    result = pd.DataFrame({"region": pairs.index, "folds": len(images)})
    for name, values in measures.items():
        result[name] = values[0]
        result[f"{name}_low"], result[f"{name}_high"] = np.percentile(values[1:], [2.5, 97.5], 0, method="nearest")
    return result.sort_values("share", ascending=False, ignore_index=True)
