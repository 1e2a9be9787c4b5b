"""Slice leakage: what accuracy is worth when slices of one participant stand in training and in test.

Shown with the simplest model that can recognise a person, one nearest neighbour (Yagis et al. 2021, Scientific Reports,
10.1038/s41598-021-01681-w, show the same with deep networks).
"""

import functools

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.base.statistics import percentile_interval, wilson_interval
from tle_utils.imaging import slices

POOL = 4  # voxels averaged along either axis of a slice
SHUFFLES = 100  # how often the labels are dealt out anew among participants; all slices of one keep one label


def _small(path, y_mm):
    return slices.averaged(slices.load_slices([path], y_mm), POOL)[0].reshape(-1, len(y_mm)).T


def small_slices(paths, y_mm, workers=1):
    """Slices of every participant (`paths`: maps on the template grid), averaged to 4 mm.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, len(y_mm), 1600).
    """
    job = functools.partial(_small, y_mm=tuple(y_mm))
    return np.stack(run_parallel(job, list(paths), label="slices", workers=workers))


def _nearest(small, train, test):
    """Number of the training slice that is nearest to each test slice.

    Every voxel is standardised at each position along the brain on the training slices, so that neighbours are alike in
    the person and not in the position.
    """
    n, positions, voxels = small.shape
    flat, place = small.reshape(-1, voxels).copy(), np.tile(np.arange(positions), n)
    for position in range(positions):
        here = place == position
        flat[here] -= flat[train[place[train] == position]].mean(axis=0)
    flat /= slices.floored(flat[train].std(axis=0))
    norms = (flat[train] ** 2).sum(axis=1)
    return train[np.argmin(norms - 2 * flat[test] @ flat[train].T, axis=1)]


def _folds(groups, positions, by_slice, n_splits, seed):
    """Training and test slices of each fold; slices are numbered participant by participant."""
    splitter = StratifiedKFold(n_splits, shuffle=True, random_state=seed)
    if by_slice:
        yield from splitter.split(np.zeros(len(groups) * positions), np.repeat(groups, positions))
        return
    every = np.arange(len(groups) * positions).reshape(len(groups), positions)
    for train, test in splitter.split(np.zeros(len(groups)), groups):
        yield every[train].ravel(), every[test].ravel()


def demonstrate_leakage(small, groups, *, n_splits=5, seed=0):
    """Accuracy of the nearest slice, split by slice and by participant, with true and with random labels.

    Parameters
    ----------
    small : numpy.ndarray
        From `small_slices`, shape (n, positions, voxels).
    n_splits : int
        Folds.

    Returns
    -------
    pandas.DataFrame
        One row per split and kind of labels: ``split`` (``by slice``, ``by participant``), ``labels`` (``true``,
        ``random``), ``accuracy`` over slices, ``accuracy_low``, ``accuracy_high`` (true labels: Wilson 95 % counting
        participants; random labels: 2.5th and 97.5th percentile over `SHUFFLES` dealings), ``n`` (participants),
        ``slices`` and ``same_person`` (share of slices whose nearest one is of the same participant).

    Raises
    ------
    TLEError
        When a class has fewer participants than folds, there is one class only, or a participant has a single slice.
    """
    groups = np.asarray(groups, dtype=str)
    names, counts = np.unique(groups, return_counts=True)
    n, positions, _ = small.shape
    if len(names) < 2 or counts.min() < n_splits:
        smallest = f"class '{names[counts.argmin()]}' has {counts.min()} participants"
        raise TLEError(f"{smallest}, classes: {len(names)}, n_splits = {n_splits}: lower n_splits or add participants")
    if positions < 2:
        raise TLEError("one slice per participant cannot leak: give two slices or more")
    rng = np.random.default_rng(seed)
    dealt = np.stack([rng.permutation(groups) for _ in range(SHUFFLES)])
    rows = []
    for split, by_slice in (("by slice", True), ("by participant", False)):
        neighbour = np.empty(n * positions, int)
        with threadpool_limits(1):
            for train, test in _folds(groups, positions, by_slice, n_splits, seed):
                neighbour[test] = _nearest(small, train, test)
        person, other = np.arange(n * positions) // positions, neighbour // positions
        common = {"split": split, "n": n, "slices": n * positions, "same_person": (person == other).mean()}
        hit, hits = (groups[person] == groups[other]).mean(), (dealt[:, person] == dealt[:, other]).mean(axis=1)
        for labels, accuracy, (low, high) in (
            ("true", hit, wilson_interval(hit * n, n)),
            ("random", hits.mean(), percentile_interval(hits)),
        ):
            rows.append(common | {"labels": labels, "accuracy": accuracy, "accuracy_low": low, "accuracy_high": high})
    return pd.DataFrame(rows)
