"""Importance maps in space, by region and against the truth.

Maps are signed where their method is (`attribution`): positive where something speaks for the explained class. Scores
rank the signed values, and the side with the greater mean is the one a map points to. Figures and region tables show
the positive part, the *importance*.
"""

import functools

import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.metrics import average_precision_score

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import atlas, slices

SIDES = ("left", "right")
DRAWS = 2000
CASES = ("all patients", "side called right", "side called right, sclerotic")
OVER_CHANCE, RIGHT_SIDE = 3.0, 0.8  # what the best network's maps should reach
NETWORK_FREE = "deviation"
"""Method name of `maps.deviations`, the comparator without a network."""


def plane(volume, y_mm):
    """One coronal slice of an array on the template grid, shape (160, 160), in the layout of `slices.load_slices`.

    Raises
    ------
    TLEError
        When the slice lies outside the grid.
    """
    return slices.slices_of(volume, [y_mm])[..., 0]


def in_space(image, y_mm):
    """Put one map back at its place in MNI space.

    Parameters
    ----------
    image : numpy.ndarray
        Shape (160, 160), in the layout of `slices.load_slices`.
    y_mm : int
        MNI y coordinate of the slice in mm.

    Returns
    -------
    nibabel.Nifti1Image
        float32 on the template grid, zero outside the slice.

    Raises
    ------
    TLEError
        When the slice lies outside the grid.
    """
    return slices.to_volume(image[..., None], [y_mm])


@functools.cache
def truth_slice(side, y_mm, dilate_mm=5):
    """Hippocampus of one side on a coronal slice, grown by a tolerance: what counts as the truth.

    It is where the loss is planted in cohort `planted` and the region with the greatest loss in a phantom, which
    also thins the cortex elsewhere: a map that points there is not wrong, and yet counts as a miss.

    Parameters
    ----------
    side : {"left", "right"}
        The participant's side.
    y_mm : int
        MNI y coordinate in mm.
    dilate_mm : int
        Tolerance in mm.

    Returns
    -------
    numpy.ndarray
        bool, shape (160, 160), in the layout of `slices.load_slices`.
    """
    mask = atlas.region_mask("hippocampus", side)
    here = y_mm - int(atlas.AFFINE[1, 3])
    slab = slice(max(0, here - dilate_mm), here + dilate_mm + 1)
    near = mask[:, slab]
    if dilate_mm and near.any():
        near = ndimage.distance_transform_edt(~near) <= dilate_mm
    grown = np.zeros(atlas.SHAPE, bool)
    grown[:, slab] = near
    return plane(grown, y_mm)


def score(maps, sides, y_mm, *, brain, top=0.01, dilate_mm=5):
    """How well importance maps meet the planted side.

    Parameters
    ----------
    maps : numpy.ndarray
        Shape (n, 160, 160), may be signed.
    sides : sequence of str
        True side of each participant, ``left`` or ``right``.
    y_mm : int
        MNI y coordinate of the slice in mm.
    brain : numpy.ndarray
        bool, shape (160, 160): where a voxel may count.
    top : float
        Share of the brain's voxels that count as most important.
    dilate_mm : int
        Tolerance around the hippocampus in mm.

    Returns
    -------
    pandas.DataFrame
        One row a participant: ``inside`` (share of the most important voxels inside the truth),
        ``over_chance`` (that share over the truth's share of the brain), ``right_side`` (whether the true
        hippocampus is more important than the other one; 0.5 when both are equal), ``auprc`` (area under the
        precision-recall curve of all voxels against the hippocampus without tolerance; chance is ``auprc_chance``).

    Raises
    ------
    TLEError
        When the slice holds no hippocampus.
    """
    truth = {side: truth_slice(side, y_mm, dilate_mm) & brain for side in SIDES}
    exact = {side: truth_slice(side, y_mm, 0)[brain] for side in SIDES}
    if not all(mask.any() for mask in exact.values()):
        there = np.flatnonzero(atlas.region_mask("hippocampus", "left").any(axis=(0, 2))) + int(atlas.AFFINE[1, 3])
        choice = f"choose from {there.min()} to {there.max()} mm"
        raise TLEError(f"y_mm = {y_mm}: no hippocampus on this slice to score against: {choice}")
    count = max(1, round(top * brain.sum()))
    rows = []
    for image, side in zip(maps, sides, strict=True):
        other = "right" if side == "left" else "left"
        ranked = np.argsort(np.where(brain, image, -np.inf), axis=None, kind="stable")[::-1][:count]
        inside = truth[side].ravel()[ranked].mean()
        here, there = image[truth[side]].mean(), image[truth[other]].mean()
        rows.append(
            {
                "inside": inside,
                "over_chance": inside / (truth[side].sum() / brain.sum()),
                "right_side": 0.5 if here == there else float(here > there),
                "auprc": average_precision_score(exact[side], image[brain]),
                "auprc_chance": exact[side].mean(),
            }
        )
    return pd.DataFrame(rows, columns=["inside", "over_chance", "right_side", "auprc", "auprc_chance"])


def score_rows(images, rows, participants, y_mm, *, brain, top=0.01, dilate_mm=5):
    """Scores of the maps of those patients whose lesion is known to lie in the hippocampus of their side.

    These are patients with a planted loss, and patients with mesial temporal sclerosis (`mts`).

    Parameters
    ----------
    images : numpy.ndarray
        One map a row of `rows`, shape (rows, 160, 160).
    rows : pandas.DataFrame
        `maps.Maps.rows`.
    participants : pandas.DataFrame
        From `participants.load_participants`.
    y_mm, brain, top, dilate_mm
        As in `score`.

    Returns
    -------
    pandas.DataFrame
        Columns of `score`, ``participant_id``, ``group``, ``repeat``, ``fold``, ``predicted``, ``correct`` (the side
        is called right) and ``sclerotic``; no row where no lesion is known.
    """
    people = participants.iloc[rows["position"]].reset_index(drop=True)
    sclerotic = people["mts"].map(lambda value: str(value).lower() in ("true", "1", "1.0")).to_numpy(bool)
    sick = people["group"].isin(SIDES).to_numpy()
    chosen = np.flatnonzero(sick & (people["true_loss"].notna().to_numpy() | sclerotic))
    people, told = people.iloc[chosen].reset_index(drop=True), rows.iloc[chosen].reset_index(drop=True)
    result = score(images[chosen], people["group"], y_mm, brain=brain, top=top, dilate_mm=dilate_mm)
    marks = pd.concat([people[["participant_id", "group"]], told[["repeat", "fold", "predicted"]]], axis=1)
    marks["correct"] = marks["group"] == marks["predicted"]
    return pd.concat([marks.assign(sclerotic=sclerotic[chosen]), result], axis=1)


def score_maps(maps, participants, y_mm, *, brain, top=0.01, dilate_mm=5, workers=1):
    """`score_rows` of every method and layer of `maps`, with ``method`` and ``layer``."""
    jobs = [(maps, kind, participants, y_mm, brain, top, dilate_mm) for kind in maps.kinds]
    return pd.concat(run_parallel(_score_kind, jobs, label="scores of maps", workers=workers), ignore_index=True)


def _score_kind(job):
    maps, (method, layer), participants, y_mm, brain, top, dilate_mm = job
    images = maps.read(method, layer)
    scores = score_rows(images, maps.rows, participants, y_mm, brain=brain, top=top, dilate_mm=dilate_mm)
    return scores.assign(method=method, layer=layer)


def summarise(scores, by, values, seed=0):
    """Means with 95 % bootstrap intervals over participants; several rows of a participant count as their mean.

    Parameters
    ----------
    scores : pandas.DataFrame
        With ``participant_id``, the columns `by` and the columns `values`.
    by : list of str
        What tells the groups apart.
    values : list of str
        Columns to average; missing values are left out.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row a group: `by`, ``n`` (participants), and mean, ``_low`` and ``_high`` of every value.
    """
    rows = []
    for names, part in scores.groupby(by, sort=False):
        people = part.groupby("participant_id", sort=True)[values].mean()
        row = dict(zip(by, names, strict=True)) | {"n": len(people)}
        draws = np.random.default_rng(seed).integers(len(people), size=(DRAWS, len(people)))
        for name in values:
            column = people[name].to_numpy(float)
            low, high = np.percentile(np.nanmean(column[draws], axis=1), [2.5, 97.5])
            row |= {name: np.nanmean(column), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def by_cases(scores, seed=0):
    """Scores against the truth of all patients, of those whose side is called right, and of the sclerotic among them.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `score_maps`, with ``network``.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        From `summarise`: one row a ``network``, ``method``, ``layer`` and ``cases`` (of `CASES`); empty where no lesion
        is known.
    """
    right, sclerotic = scores["correct"].astype(bool), scores["sclerotic"].astype(bool)
    subsets = dict(zip(CASES, (scores, scores[right], scores[right & sclerotic]), strict=True))
    by, values = ["network", "method", "layer"], ["over_chance", "right_side", "auprc", "auprc_chance"]
    return pd.concat([summarise(rows, by, values, seed).assign(cases=name) for name, rows in subsets.items()])


def goal(summary, best, unfit=()):
    """Does a method of the best network meet the truth in the patients in whom it should?

    It is met by `OVER_CHANCE` and `RIGHT_SIDE`. The cases are the sclerotic ones whose side the network calls right;
    where there are none, all it calls right, and failing these all patients.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `by_cases`; not empty.
    best : str
        The network to ask, best the one that validation prefers.
    unfit : collection of (str, str, str)
        Network, method and layer of what fails a sanity check; not considered.

    Returns
    -------
    pandas.Series
        The row of `summary` that comes nearest, with ``met`` (bool).
    """
    rows = summary[(summary["network"] == best) & (summary["method"] != NETWORK_FREE)]
    keys = zip(rows["network"], rows["method"], rows["layer"], strict=True)
    fit = rows[[key not in unfit for key in keys]]
    rows = fit if len(fit) else rows
    rows = rows[rows["cases"] == next(name for name in CASES[::-1] if (rows["cases"] == name).any())]
    near = np.minimum(rows["over_chance"] / OVER_CHANCE, 1) + np.minimum(rows["right_side"] / RIGHT_SIDE, 1)
    row = rows.assign(near=near).sort_values(["near", "over_chance"], ascending=False).iloc[0]
    return pd.concat([row, pd.Series({"met": row["over_chance"] >= OVER_CHANCE and row["right_side"] >= RIGHT_SIDE})])


def by_region(images, y_mm, seed=0):
    """Importance of every atlas region on a slice, left and right, with intervals over folds.

    Parameters
    ----------
    images : numpy.ndarray
        One mean importance map a fold, not negative, shape (folds, 160, 160), in the layout of `slices.load_slices`.
    y_mm : int
        MNI y coordinate of the slice in mm.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row a region present on the slice, greatest share first: ``region``, and ``left``, ``right`` (mean
        importance), ``share`` (of the map's total) and ``left_over_right``, each with ``_low`` and ``_high``
        (bootstrap over folds, 95 %), and ``folds``.
    """
    labels, table = atlas.regions()
    numbers = plane(labels, y_mm).ravel()
    sizes = np.bincount(numbers, minlength=labels.max() + 1)
    pairs = table.pivot(index="region", columns="hemisphere", values="label")[list(SIDES)]
    pairs = pairs[(sizes[pairs.to_numpy()] >= 20).all(axis=1)]
    sums = np.stack([np.bincount(numbers, image.ravel(), minlength=labels.max() + 1) for image in images])
    sums, whole, sizes = sums[:, pairs.to_numpy()], images.sum(axis=(1, 2)), sizes[pairs.to_numpy()]
    draws = np.random.default_rng(seed).integers(len(images), size=(DRAWS, len(images)))
    result = pd.DataFrame({"region": pairs.index, "folds": len(images)})
    for name, measure in _REGION_MEASURES.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            result[name] = measure(sums.mean(axis=0), whole.mean(), sizes)
            drawn = np.stack([measure(sums[draw].mean(axis=0), whole[draw].mean(), sizes) for draw in draws])
        result[f"{name}_low"], result[f"{name}_high"] = np.percentile(drawn, [2.5, 97.5], axis=0, method="nearest")
    return result.sort_values("share", ascending=False, ignore_index=True)


_REGION_MEASURES = {
    "left": lambda sums, whole, sizes: sums[:, 0] / sizes[:, 0],
    "right": lambda sums, whole, sizes: sums[:, 1] / sizes[:, 1],
    "share": lambda sums, whole, sizes: sums.sum(axis=1) / max(whole, np.finfo(float).tiny),
    "left_over_right": lambda sums, whole, sizes: (sums[:, 0] / sizes[:, 0]) / (sums[:, 1] / sizes[:, 1]),
}
