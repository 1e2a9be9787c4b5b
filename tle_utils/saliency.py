"""Importance maps per convolution, out of fold, and how well they meet the truth."""

import numpy as np
import pandas as pd

from tle_utils import atlas, crossval, models, slices
from tle_utils.errors import TLEError
from tle_utils.parallel import run_parallel

BATCH = 32


def gradcam(model, x, targets, layer):
    """Grad-CAM of one convolution for every participant (Selvaraju et al. 2017).

    Parameters
    ----------
    model : keras.Model
        Network with convolutions and a softmax layer.
    x : numpy.ndarray
        Slices, shape (n, 160, 160, slices).
    targets : sequence of int
        Class number to explain, one a participant.
    layer : str
        Name of a convolution of the model.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, 160, 160), each map scaled to 0…1; all zero where nothing speaks for the class.

    Raises
    ------
    TLEError
        When the model has no convolution of that name.
    """
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    known = models.convolutions(model)
    if layer not in known:
        raise TLEError(
            f"layer '{layer}' is not a convolution of {model.name}: choose one of {', '.join(known) or 'none'}"
        )
    explain = Gradcam(model, model_modifier=ReplaceToLinear(), clone=True)
    maps = [
        explain(
            CategoricalScore([int(code) for code in targets[start : start + BATCH]]),
            x[start : start + BATCH],
            penultimate_layer=layer,
            seek_penultimate_conv_layer=False,
        )
        for start in range(0, len(x), BATCH)
    ]
    return np.nan_to_num(np.concatenate(maps)).astype(np.float32)


def _fold_maps(job):
    x, targets, n_classes, fold, network, layers, path = job
    model = crossval.load_network(path, network, n_classes, x.shape[1:])
    return np.stack([gradcam(model, x[fold.test], targets[fold.test], layer) for layer in layers], axis=1)


def out_of_fold_maps(x, targets, classes, folds, *, network, layers, folder, workers=1):
    """Grad-CAM of every participant by the networks that never saw that participant.

    Parameters
    ----------
    x : numpy.ndarray
        Slices, shape (n, 160, 160, slices).
    targets : sequence of str
        Class to explain, one a participant.
    classes : sequence of str
        Classes in the order of the softmax layer.
    folds : list of crossval.Fold
        The folds the networks were trained on.
    network : str
        A name of `models.NETWORKS`.
    layers : sequence of str
        Convolutions to explain.
    folder : path-like
        Where `crossval.cross_validate` kept the folds.
    workers : int
        Folds side by side.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, layers, 160, 160): mean over repeats, each map scaled to 0…1.
    """
    codes = np.array([list(classes).index(name) for name in targets])
    jobs = [(x, codes, len(classes), f, network, tuple(layers), crossval.fold_path(folder, f)) for f in folds]
    parts = run_parallel(_fold_maps, jobs, label=f"{network}: maps of folds", workers=workers)
    total = np.zeros((len(x), len(layers), *x.shape[1:3]), np.float32)
    times = np.zeros((len(x), 1, 1, 1), np.float32)
    for fold, part in zip(folds, parts, strict=True):
        total[fold.test] += part
        times[fold.test] += 1
    return total / np.maximum(times, 1)


def truth_slice(side, y_mm, dilate_mm=5):
    """Hippocampus of one side on a coronal slice, grown by a tolerance.

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
    return slices.slices_of(atlas.region_mask("hippocampus", side, dilate_mm), [y_mm])[..., 0]


def score(maps, sides, y_mm, *, brain, top=0.01, dilate_mm=5):
    """How well importance maps meet the planted side.

    Parameters
    ----------
    maps : numpy.ndarray
        Shape (n, 160, 160).
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
        hippocampus is more important than the other one; 0.5 when both are equal).
    """
    truth = {side: truth_slice(side, y_mm, dilate_mm) & brain for side in ("left", "right")}
    rows = []
    for image, side in zip(maps, sides, strict=True):
        other = "right" if side == "left" else "left"
        count = max(1, round(top * brain.sum()))
        ranked = np.argsort(np.where(brain, image, -1), axis=None, kind="stable")[::-1][:count]
        inside = truth[side].ravel()[ranked].mean()
        here, there = image[truth[side]].mean(), image[truth[other]].mean()
        rows.append((inside, inside / (truth[side].sum() / brain.sum()), 0.5 if here == there else float(here > there)))
    return pd.DataFrame(rows, columns=["inside", "over_chance", "right_side"])


def summarise(scores, seed=0):
    """Mean of the scores of every network and layer, with 95 % bootstrap intervals over participants.

    Parameters
    ----------
    scores : pandas.DataFrame
        Rows of `score` with ``network`` and ``layer``.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row a network and layer: ``n``, and mean, ``_low`` and ``_high`` of ``over_chance`` and ``right_side``.
    """
    rows = []
    for (network, layer), part in scores.groupby(["network", "layer"], sort=False):
        row = {"network": network, "layer": layer, "n": len(part)}
        draws = np.random.default_rng(seed).integers(len(part), size=(2000, len(part)))
        for name in ("over_chance", "right_side"):
            values = part[name].to_numpy(float)
            low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
            row |= {name: values.mean(), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def by_region(image, y_mm):
    """Mean importance of every atlas region on a slice, left and right.

    Parameters
    ----------
    image : numpy.ndarray
        Importance map, shape (160, 160), in the layout of `slices.load_slices`.
    y_mm : int
        MNI y coordinate of the slice in mm.

    Returns
    -------
    pandas.DataFrame
        One row a region present on the slice: ``region``, ``left``, ``right`` (mean importance),
        ``share`` (of the map's total), ``left_over_right``.
    """
    labels, table = atlas.regions()
    plane = slices.slices_of(labels, [y_mm])[..., 0]
    sums = np.bincount(plane.ravel(), weights=image.ravel(), minlength=labels.max() + 1)
    sizes = np.bincount(plane.ravel(), minlength=labels.max() + 1)
    rows = table.assign(total=sums[table["label"]], voxels=sizes[table["label"]])
    wide = rows.pivot(index="region", columns="hemisphere", values=["total", "voxels"])
    wide = wide[(wide["voxels"] >= 20).all(axis=1)]
    mean = wide["total"] / wide["voxels"]
    result = pd.DataFrame(
        {
            "left": mean["left"],
            "right": mean["right"],
            "share": wide["total"].sum(axis=1) / max(image.sum(), np.finfo(float).tiny),
            "left_over_right": mean["left"] / mean["right"],
        }
    )
    return result.sort_values("share", ascending=False).rename_axis("region").reset_index()
