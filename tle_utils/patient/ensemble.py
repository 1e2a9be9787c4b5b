"""A model as it answers: what was trained in every fold, and what all folds say together.

A model has one or two components, trained in every fold: the multi-task network, itself an ensemble, and the linear
model of all regions. The answer of a fold is the geometric mean of its components' probabilities, each scaled by its
temperature, scaled to sum to one, and scaled by one more temperature; the answer of the model is the geometric mean
over folds. That last mean has no temperature of its own, because every participant taught the models of some folds.
"""

from typing import NamedTuple

import numpy as np

from tle_utils.base import files
from tle_utils.base.errors import TLEError
from tle_utils.evaluation import calibration, conformal
from tle_utils.models import crossval, hemispheres, multitask, regional
from tle_utils.models.predictions import CLASSES, geometric_mean, select_rows
from tle_utils.patient.model_card import COMPONENTS, ModelCard


class FoldModel(NamedTuple):
    """What was trained in one fold.

    `components` hold, by name, arrays from `train_multitask`, `train_hemispheres` or `train_regions`; `temperatures`
    the temperature of each component and, as ``joint``, that of the combined probabilities.
    """

    components: dict
    temperatures: dict


class Ensemble(NamedTuple):
    """A model: its card and a `FoldModel` per fold."""

    card: ModelCard
    folds: list


class Answer(NamedTuple):
    """Probabilities of a model: `p`, the geometric mean over folds, shape (n, classes), and what it is the mean of.

    `folds`, shape (folds, n, classes); `members`, shape (members, n, classes): every network of every fold with the
    other component of its fold, scaled as their mean is.
    """

    p: np.ndarray
    folds: np.ndarray
    members: np.ndarray


def _temperatures(tables, fold):
    """One temperature per component and one for both together, as `recalibrated` and `fused` find them in tables."""
    rows = {name: part[(part["repeat"] == fold.repeat) & (part["fold"] == fold.fold)] for name, part in tables.items()}
    if len(rows) > 1:
        rows["joint"] = calibration.fused([calibration.recalibrated(part) for part in rows.values()], "joint")
    found = {name: calibration.fit_temperature(select_rows(part, "validation")) for name, part in rows.items()}
    return {"joint": 1.0} | found


def trained_folds(folds, groups, tables, *, net_folder=None, volumes=None):
    """What `model_store.write_models` keeps of every fold (list of `FoldModel`).

    Parameters
    ----------
    folds : sequence of crossval.Fold
        The folds of the tables.
    tables : dict of str to pandas.DataFrame
        Of `model_card.COMPONENTS`, one network at most: predictions of that component on `folds` as trained, not
        recalibrated, with validation rows.
    net_folder : path-like, optional
        Where `crossval.cross_validate` kept the folds of the network; needed where there is one.
    volumes : pandas.DataFrame, optional
        Needed for ``regional``.

    Raises
    ------
    TLEError
        When a component is not known, or a fold's file is missing or unreadable.
    """
    for name in tables:
        if name not in COMPONENTS:
            raise TLEError(f"component '{name}' is not known: give {' and/or '.join(COMPONENTS)}")
    groups, found = np.asarray(groups, object), []
    for fold in folds:
        stored = {}
        for name in tables:
            if name == "regional":
                stored[name] = regional.train_regions(volumes, groups, fold.train)
                continue
            path = crossval.fold_path(net_folder, fold)
            stored[name] = files.read_arrays(path)
            if stored[name] is None:
                raise TLEError(f"{path.name}: no trained fold here: train the networks again")
        found.append(FoldModel(stored, _temperatures(tables, fold)))
    return found


def combined(p, temperatures):
    """Probabilities of a fold, as `calibration.recalibrated` and `calibration.fused` make them in tables.

    From those of its components, uncalibrated: a dict of arrays that broadcast, classes along the last axis.
    """
    scaled = [calibration.scaled(values, temperatures[name]) for name, values in p.items()]
    return calibration.scaled(geometric_mean(scaled), temperatures["joint"])


def ask_model(model, x, volumes):
    """Ask a model about participants (`Answer`); `x` is what its network reads, None where it has none."""
    folds, members = [], []
    for fold in model.folds:
        single = {}
        if "multitask" in fold.components:
            single["multitask"] = multitask.predict_multitask(fold.components["multitask"], x)
        if "hemispheres" in fold.components:
            single["hemispheres"] = hemispheres.predict_hemispheres(fold.components["hemispheres"], x)[None]
        if "regional" in fold.components:
            single["regional"] = regional.predict_regions(fold.components["regional"], volumes)[None]
        mean = {name: geometric_mean(values) for name, values in single.items()}
        folds.append(combined(mean, fold.temperatures))
        members.append(combined(single, fold.temperatures))
    return Answer(geometric_mean(folds), np.array(folds), np.concatenate(members))


def answer_set(p, threshold):
    """Classes that cannot be ruled out: whose probability is not more than `threshold` below 1 (tuple of str)."""
    return tuple(name for name, stays in zip(CLASSES, conformal.not_ruled_out(p, threshold), strict=True) if stays)
