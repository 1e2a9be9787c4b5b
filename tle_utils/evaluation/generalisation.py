"""People who did not train: how the cheap models do on another cohort, and slice leakage, which only looks like it.

Slice leakage is shown with the simplest model that can recognise a person, one nearest neighbour (Yagis et al. 2021,
Scientific Reports, 10.1038/s41598-021-01681-w, show the same with deep networks).
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from tle_utils.base.errors import TLEError
from tle_utils.base.files import write_table
from tle_utils.base.parallel import run_parallel
from tle_utils.base.project import require, run_folder
from tle_utils.base.statistics import percentile_interval, wilson_interval
from tle_utils.cohorts import participants as cohorts_participants
from tle_utils.imaging import regions as imaging_regions
from tle_utils.imaging import slices
from tle_utils.models import baselines, crossval, multitask, regional
from tle_utils.models.crossval import Fold
from tle_utils.models.predictions import CLASSES
from tle_utils.models.settings import MultitaskOptions
from tle_utils.phantom import maps

DEFAULT = "planted"  # cohort of real brains that a model is tested on where no other is named
MODELS = ("hippocampal volumes", "regional volumes", "multi-task net")
POOL = 4  # voxels averaged along either axis of a slice
SHUFFLES = 100  # how often the labels are dealt out anew among participants; all slices of one keep one label


class Cohort(NamedTuple):
    """What the models of this chapter read of a cohort: participants, regional volumes (ml) and pooled slices."""

    participants: pd.DataFrame
    volumes: pd.DataFrame
    x: np.ndarray


class NetTraining(NamedTuple):
    """How the multi-task net takes part."""

    options: MultitaskOptions
    folder: Path  # where trained nets are kept
    seed: int = 0  # of the net, and of who is left out or gets a wrong label
    workers: int = 1  # folds side by side
    folds: int = 0  # on which the net is trained, the first ones; 0 leaves it out


def read_cohort(folder, y_mm, regions=None, workers=1):
    """Read the participants, regional volumes and pooled slices that notebook 01 made.

    Parameters
    ----------
    folder : path-like
        Results of notebook 01: ``participants.tsv`` and the maps it names.
    regions : path-like, optional
        ``regions.tsv`` of notebook 06, which spares measuring the volumes again: ``participant_id`` and columns
        ``<region>_<hemisphere>`` in ml.
    workers : int
        Maps side by side while volumes are measured; reading slices takes less time than starting processes.

    Returns
    -------
    Cohort

    Raises
    ------
    TLEError
        When a participant has no row in `regions`.
    """
    people = cohorts_participants.load_participants(Path(folder), CLASSES)
    if regions is None:
        volumes = imaging_regions.read_regional_volumes(people["map"].tolist(), workers)
    else:
        table = pd.read_csv(regions, sep="\t", dtype={"participant_id": str}).set_index("participant_id")
        if lost := set(people["participant_id"]) - set(table.index):
            lacks = f"{Path(regions).name} has no participant '{min(lost)}'"
            raise TLEError(f"{lacks}: run notebook 06_multitask_model again")
        volumes = table.loc[people["participant_id"]].reset_index(drop=True)
        names = [tuple(name.rsplit("_", 1)) for name in volumes.columns]
        volumes.columns = pd.MultiIndex.from_tuples(names, names=["region", "hemisphere"])
    return Cohort(people, volumes, multitask.load_inputs(people["map"], y_mm))


def predict_cohort(cohort, folds, net, labels=None):
    """Predictions of the cheap models of `MODELS` on given folds; ``group`` is the true class.

    `labels` (sequence of str) are what the models are told in training and validation instead of the true class.
    """
    told = cohort.participants if labels is None else cohort.participants.assign(group=labels)
    tables = [
        baselines.hippocampal_volumes(told, folds),
        regional.cross_validate_regions(cohort.volumes, told, folds, MODELS[1]),
    ]
    if net.folds:
        workers = min(net.workers, net.folds)
        how = {"folder": net.folder, "seed": net.seed, "workers": workers, "label": MODELS[2]}
        tables += crossval.cross_validate(cohort.x, told, folds[: net.folds], net.options, **how)[:1]
    table = pd.concat(tables, ignore_index=True)
    truth = cohort.participants.set_index("participant_id")["group"]
    return table.assign(group=table["participant_id"].map(truth))


def joined(own, other, name):
    """Two cohorts as one, with the fold that trains on the first and tests on the second.

    `name` stands before the participants of the second, who may have the same names as the first's. Hippocampal volumes
    are those of the regional volumes, which have the same unit in both; a sixth of every class of the first validates.
    A class of the first with fewer than two participants is refused (TLEError).
    """
    people = pd.concat(
        [own.participants, other.participants.assign(participant_id=f"{name}/" + other.participants["participant_id"])],
        ignore_index=True,
    )
    volumes = pd.concat([own.volumes, other.volumes[own.volumes.columns]], ignore_index=True)
    for side in ("left", "right"):
        people[f"hippocampus_{side}"] = volumes["hippocampus", side]
    groups, held = own.participants["group"].to_numpy(str), []
    for group in CLASSES:
        rows = np.flatnonzero(groups == group)
        if len(rows) < 2:
            raise TLEError(f"class '{group}' has {len(rows)} participants to learn from: external validation needs two")
        held.append(rows[:: min(6, len(rows))])
    validation = np.sort(np.concatenate(held))
    train = np.setdiff1d(np.arange(len(groups)), validation)
    cohort = Cohort(people, volumes, np.concatenate([own.x, other.x]))
    return cohort, Fold(0, 0, train, validation, np.arange(len(groups), len(people)))


def predict_other_cohort(own, other, name, net):
    """Train on one cohort, predict another: hippocampal volumes, regional volumes and the multi-task net.

    The predictions are validation rows of `own` and test rows of `other`, whose `name` stands before its participants.
    The net is trained whatever its number of folds is.

    Raises
    ------
    TLEError
        When a class of the first cohort has fewer than two participants.
    """
    cohort, fold = joined(own, other, name)
    return predict_cohort(cohort, [fold], net._replace(folds=1))


def other_cohorts(profile, cohort, external=None):
    """Cohorts of the same profile that this one's models can be tested on.

    Parameters
    ----------
    profile, cohort : str
        Of the run.
    external : str, optional
        A cohort whose notebook 01 has run in this profile; by default ``planted``, where it has.

    Returns
    -------
    folders : dict of str to pathlib.Path
        Name of the cohort to the results of its notebook 01.
    note : str
        How to get the default cohort where it is not there; else empty.

    Raises
    ------
    TLEError
        When `external` is the cohort itself or its notebook 01 has not run.
    """
    if external == cohort:
        raise TLEError(f"external = '{external}' is the cohort of this run: name another one of data_manifest.yaml")
    name = external or DEFAULT
    folder = run_folder(profile, name) / "01_preprocessing"
    if external:
        require(folder / "participants.tsv", "01_preprocessing")
    if name == cohort:
        return {}, ""
    if not (folder / "participants.tsv").exists():
        command = f"python -m tle_utils run --profile {profile} --cohort {name}"
        return {}, f"For a test on real brains run `{command}`, then the chain of this cohort again."
    return {name: folder}, ""


def second_phantom(folder, truth, *, n, seed, site_effect, workers=1):
    """Make a phantom cohort of other people at another site; returns `folder`, to be read by `read_cohort`.

    Parameters
    ----------
    folder : path-like
        Gets the maps and ``participants.tsv``.
    truth : pandas.DataFrame
        From `ideal_observer.read_truth`, of the first cohort: ``effect_scale`` and ``sclerosis_fraction`` are taken.
    n : int
        Participants per class.
    seed : int
        Seed of the first cohort's chapter; the people are drawn with another.
    site_effect : float
        As in `maps.make_phantom`.
    """
    folder, knobs = Path(folder), {"seed": seed + 7919, "site_effect": site_effect, "workers": workers}
    knobs |= {name: float(truth[name].iloc[0]) for name in ("effect_scale", "sclerosis_fraction")}
    table = maps.make_phantom(folder / "maps", n_control=n, n_left=n, n_right=n, **knobs)
    table = table.assign(map=[f"maps/{Path(path).name}" for path in table.pop("image")])
    write_table(folder / "participants.tsv", table, digits=6)
    return folder


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
