"""Another cohort: what the cheap models read of a cohort, and training on one cohort to be tested on another."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.base.project import require, run_folder
from tle_utils.cohorts import participants as cohorts_participants
from tle_utils.imaging import regions as imaging_regions
from tle_utils.models import baselines, multitask, regional
from tle_utils.models.crossval import Fold
from tle_utils.models.predictions import CLASSES
from tle_utils.phantom import maps

DEFAULT = "planted"  # cohort of real brains that a model is tested on where no other is named
MODELS = ("hippocampal volumes", "regional volumes", "multi-task net")


class Cohort(NamedTuple):
    """What the models of this chapter read of a cohort.

    Attributes
    ----------
    participants : pandas.DataFrame
        From `participants.load_participants`.
    volumes : pandas.DataFrame
        From `regions.read_regional_volumes`.
    x : numpy.ndarray
        From `slices.pooled`.
    """

    participants: pd.DataFrame
    volumes: pd.DataFrame
    x: np.ndarray


def read_cohort(folder, y_mm, regions=None, workers=1):
    """Read the participants, regional volumes and pooled slices that notebook 01 made.

    Parameters
    ----------
    folder : path-like
        Results of notebook 01: ``participants.tsv`` and the maps it names.
    y_mm : sequence of int
        MNI y coordinates of the slices in mm.
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
        lost = set(people["participant_id"]) - set(table.index)
        if lost:
            raise TLEError(
                f"{Path(regions).name} has no participant '{min(lost)}': run notebook 06_multitask_model again"
            )
        volumes = table.loc[people["participant_id"]].reset_index(drop=True)
        names = [tuple(name.rsplit("_", 1)) for name in volumes.columns]
        volumes.columns = pd.MultiIndex.from_tuples(names, names=["region", "hemisphere"])
    return Cohort(people, volumes, multitask.load_inputs(people["map"], y_mm))


def joined(own, other, name):
    """Two cohorts as one, with the fold that trains on the first and tests on the second.

    Parameters
    ----------
    own, other : Cohort
        Cohort to learn from, cohort to test on.
    name : str
        Of the other cohort; stands before its participants, who may have the same names as the first's.

    Returns
    -------
    cohort : Cohort
        All rows. ``hippocampus_left`` and ``hippocampus_right`` are those of the regional volumes, which have the same
        unit in both.
    fold : crossval.Fold
        A sixth of every class of the first cohort validates.

    Raises
    ------
    TLEError
        When a class of the first cohort has fewer than two participants.
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


def predict_other_cohort(own, other, name, options, *, folder, seed):
    """Train on one cohort, predict another: hippocampal volumes, regional volumes and the multi-task net.

    Parameters
    ----------
    own, other, name
        As in `joined`.
    options : multitask.MultitaskOptions
        Of the net.
    folder : path-like
        Where the trained net is kept.
    seed : int
        Seed of the net.

    Returns
    -------
    pandas.DataFrame
        The table of `tle_utils.models.predictions`: validation rows of the first cohort, test rows of the second.
    """
    cohort, fold = joined(own, other, name)
    people, folds = cohort.participants, [fold]
    net, _ = multitask.cross_validate_multitask(
        cohort.x, people, folds, options, folder=folder, seed=seed, label=MODELS[2]
    )
    tables = [
        baselines.hippocampal_volumes(people, folds),
        regional.cross_validate_regions(cohort.volumes, people, folds, MODELS[1]),
        net,
    ]
    return pd.concat(tables, ignore_index=True)


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
    """Make a phantom cohort of other people at another site, with the knobs of the first.

    Parameters
    ----------
    folder : path-like
        Gets the maps and ``participants.tsv``.
    truth : pandas.DataFrame
        From `ideal_observer.read_truth`: its ``effect_scale`` and ``sclerosis_fraction`` are taken.
    n : int
        Participants a class.
    seed : int
        Seed of the first cohort's chapter; the people are drawn with another.
    site_effect : float
        As in `maps.make_phantom`.
    workers : int
        Maps side by side.

    Returns
    -------
    pathlib.Path
        `folder`, to be read by `read_cohort`.
    """
    folder = Path(folder)
    knobs = {name: float(truth[name].iloc[0]) for name in ("effect_scale", "sclerosis_fraction")}
    table = maps.make_phantom(
        folder / "maps",
        n_control=n,
        n_left=n,
        n_right=n,
        seed=seed + 7919,
        site_effect=site_effect,
        workers=workers,
        **knobs,
    )
    table = table.assign(map=[f"maps/{Path(path).name}" for path in table.pop("image")])
    table.to_csv(folder / "participants.tsv", sep="\t", index=False, float_format="%.6g")
    return folder
