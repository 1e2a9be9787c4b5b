"""How the cheap models do elsewhere: on another cohort, with fewer participants, and with wrong labels."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.base.files import write_table
from tle_utils.base.project import require, run_folder
from tle_utils.cohorts import participants as cohorts_participants
from tle_utils.evaluation import metrics
from tle_utils.imaging import regions as imaging_regions
from tle_utils.models import baselines, crossval, multitask, regional
from tle_utils.models.crossval import Fold
from tle_utils.models.predictions import CLASSES
from tle_utils.models.settings import MultitaskOptions
from tle_utils.phantom import maps

DEFAULT = "planted"  # cohort of real brains that a model is tested on where no other is named
MODELS = ("hippocampal volumes", "regional volumes", "multi-task net")
LEAST = 2  # participants per class in a thinned training part


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


def thin(folds, groups, size, seed):
    """Folds that learn from as many participants as a smaller cohort would leave them; everybody is tested.

    Training and validation parts keep their share ``size / n`` of every class, at least two to train on and one to
    validate; test parts are whole. Smaller sizes are parts of greater ones: the same participants are left out first.
    A size that is not between 1 and that of the cohort is refused (TLEError).
    """
    groups = np.asarray(groups)
    if not 1 <= size <= len(groups):
        raise TLEError(f"size = {size}: give a number of participants from 1 to {len(groups)}, those of the cohort")
    share, out = size / len(groups), []
    for fold in folds:
        rng = np.random.default_rng([seed, 40, fold.repeat, fold.fold])
        parts = {}
        for part, least in (("train", LEAST), ("validation", 1)):
            order = rng.permutation(getattr(fold, part))
            kept = []
            for name in np.unique(groups):
                rows = order[groups[order] == name]
                kept.append(rows[: max(least, round(share * len(rows)))])
            parts[part] = np.sort(np.concatenate(kept))
        out.append(fold._replace(**parts))
    return out


def wrong_labels(groups, rate, seed):
    """Labels of which a share (`rate`, 0 to 1) is that of any other class of the cohort with equal chance.

    A label that is wrong at some rate is wrong at every greater one. Another rate is refused (TLEError).
    """
    if not 0 <= rate <= 1:
        raise TLEError(f"label noise {rate}: give a share from 0 to 1")
    groups, rng = np.asarray(groups).astype(str), np.random.default_rng([seed, 41])
    names = np.unique(groups)
    noisy, which = rng.random((2, len(groups)))
    place = np.searchsorted(names, groups)
    other = (place + 1 + (which * (len(names) - 1)).astype(int)) % len(names)
    return np.where(noisy < rate, names[other], groups)


def curve_point(cohort, folds, net, labels=None):
    """Lateralization accuracy of every model with its interval, ``n`` participants tested that count, and ``folds``."""
    out = []
    for model, rows in predict_cohort(cohort, folds, net, labels).groupby("model", sort=False):
        found = metrics.model_metrics(rows, seed=net.seed).set_index("metric").loc["lateralization_accuracy"]
        folds_tested = rows.groupby(["repeat", "fold"]).ngroups
        out.append({"model": model} | found[["value", "ci_low", "ci_high", "n"]].to_dict() | {"folds": folds_tested})
    return pd.DataFrame(out)


def learning_curve(cohort, folds, sizes, net):
    """Lateralization accuracy over the size of the cohort.

    Parameters
    ----------
    sizes : sequence of int
        Sizes of the cohort; those above its own are left out, its own is added.

    Returns
    -------
    pandas.DataFrame
        ``model``, ``value``, ``ci_low``, ``ci_high``, ``n`` (participants tested that count), ``folds``, ``size`` and
        ``n_train`` (mean participants of a training part).
    """
    groups, out = cohort.participants["group"].to_numpy(str), []
    for size in sorted({size for size in sizes if size < len(groups)} | {len(groups)}):
        thinned = thin(folds, groups, size, net.seed)
        point = curve_point(cohort, thinned, net._replace(folder=Path(net.folder) / f"size-{size}"))
        out.append(point.assign(size=size, n_train=np.mean([len(fold.train) for fold in thinned])))
    return pd.concat(out, ignore_index=True)


def noise_curve(cohort, folds, rates, net):
    """Lateralization accuracy over the share of wrong labels in training; test labels are true.

    Parameters
    ----------
    rates : sequence of float
        Shares of wrong labels; 0 is added. A share that leaves a training part with fewer than two labels of a class is
        left out.

    Returns
    -------
    pandas.DataFrame
        As `learning_curve`, with ``rate`` and ``wrong`` (participants with a wrong label) in place of the size.
    """
    groups, out = cohort.participants["group"].to_numpy(str), []
    names = np.unique(groups)
    for rate in sorted({0.0, *rates}):
        labels = wrong_labels(groups, rate, net.seed)
        told = [(labels[fold.train][:, None] == names).sum(axis=0) for fold in folds]
        if rate and np.min(told) < LEAST:
            continue
        point = curve_point(cohort, folds, net._replace(folder=Path(net.folder) / f"noise-{rate:g}"), labels)
        out.append(point.assign(rate=rate, wrong=int((labels != groups).sum())))
    return pd.concat(out, ignore_index=True)


def ends_text(table, column, what):
    """First and last point of the regional model's curve as text for a sentence.

    Parameters
    ----------
    table : pandas.DataFrame
        From `learning_curve` or `noise_curve`.
    column : {"size", "rate"}
        What the curve goes over.
    what : str
        Format of the column's value: ``"with {:.0f} participants"`` gives ``0.70 (95 % CI 0.59–0.79, n = 80) with 60
        participants and 0.78 (…) with 120 participants``.
    """
    rows = table[table["model"] == MODELS[1]].sort_values(column).drop_duplicates(column)
    return " and ".join(
        f"{row.value:.2f} (95 % CI {row.ci_low:.2f}–{row.ci_high:.2f}, n = {row.n}) {what.format(getattr(row, column))}"
        for row in rows.iloc[sorted({0, len(rows) - 1})].itertuples()
    )
