"""Trained models as files: one npz a fold, a card that says what they are, checksums; written, checked, asked.

A model answers by one or two components, trained in every fold: the multi-task network and the linear model of all
regions. The answer of a fold is the geometric mean of its components' probabilities, each scaled by its temperature,
scaled to sum to one, and scaled by one more temperature; the answer of the model is the mean over folds.
"""

import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from tle_utils.base import files as base_files
from tle_utils.base import fingerprints
from tle_utils.base.errors import TLEError
from tle_utils.evaluation import calibration
from tle_utils.models import multitask, regional
from tle_utils.models.predictions import CLASSES
from tle_utils.patient.model_card import ModelCard, readme

CARD, README, CHOSEN = "model.json", "README.md", "chosen.txt"
REMEDY = "run notebook 06_multitask_model again, or copy the whole folder again"
# What a fold's file need not hold: single participants' results, and how training went.
LEFT_OUT = ("key", "p_test", "p_validation", "validation", "loss", "val_loss")


class FoldModel(NamedTuple):
    """What was trained in one fold.

    Attributes
    ----------
    components : dict of str to dict of str to numpy.ndarray
        Name of a component to what its ``train_fold`` returned.
    temperatures : dict of str to float
        Name of a component to its temperature, and ``joint`` to that of the combined probabilities.
    """

    components: dict
    temperatures: dict


class Ensemble(NamedTuple):
    """A model read from its folder: its `model_card.ModelCard` and a `FoldModel` a fold."""

    card: ModelCard
    folds: list


class Answer(NamedTuple):
    """Probabilities of a model.

    Attributes
    ----------
    p : numpy.ndarray
        Shape (n, classes): the mean over folds.
    folds : numpy.ndarray
        Shape (folds, n, classes).
    members : numpy.ndarray
        Shape (members, n, classes): every network of every fold with the other component of its fold.
    """

    p: np.ndarray
    folds: np.ndarray
    members: np.ndarray


def slug(name):
    """Folder name of a model: its name in small letters and digits, parted by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _arrays(fold):
    """Arrays of a fold's file; the temperatures are numbers of their own, a component's arrays carry its name."""
    found = {f"temperature.{name}": np.float64(value) for name, value in fold.temperatures.items()}
    for component, stored in fold.components.items():
        found |= {f"{component}.{key}": np.asarray(stored[key]) for key in sorted(stored) if key not in LEFT_OUT}
    return found


def write_models(folder, *, name, folds, card):
    """Write a model: all its files under a temporary name first, then in place at once.

    Parameters
    ----------
    folder : path-like
        ``runs/<run>/models``; gets ``<name>/fold-00.npz`` …, ``<name>/model.json``, ``<name>/README.md``, and
        ``chosen.txt``, which names the model written last: the one that notebook 08 takes.
    name : str
        Name of the model; its folder is `slug` of it. A folder of that name is replaced.
    folds : sequence of FoldModel
        From `model_files.trained_folds`. Rows and predictions of single participants are not written.
    card : model_card.ModelCard
        From `model_files.describe_model`; ``name`` and ``files`` are set here.

    Returns
    -------
    pathlib.Path
        The model's folder.

    Raises
    ------
    TLEError
        When there is no fold, a fold lacks a component of the card, or the folder cannot be written.
    """
    if not folds:
        raise TLEError(f"model '{name}': no fold: train it first")
    folder, target = Path(folder), Path(folder) / slug(name)
    partial, old = (folder / f".{slug(name)}.{os.getpid()}.{kind}" for kind in ("new", "old"))
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        files = {}
        for number, fold in enumerate(folds):
            if set(fold.components) != set(card.components):
                raise TLEError(f"model '{name}', fold {number}: not the components of the card: train the fold again")
            path = partial / f"fold-{number:02d}.npz"
            np.savez(path, **_arrays(fold))
            files[path.name] = fingerprints.sha256(path)
        card = card.model_copy(update={"name": name, "files": files})
        base_files.write_text(partial / CARD, card.model_dump_json(indent=1) + "\n")
        base_files.write_text(partial / README, readme(card))
        if target.exists():
            os.replace(target, old)
        os.replace(partial, target)
        base_files.write_text(folder / CHOSEN, target.name + "\n")
    except OSError as error:
        reason = error.strerror or error
        raise TLEError(f"{folder.name}: cannot be written ({reason}): free space or change the folder") from error
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)
        for rest in (partial, old):
            shutil.rmtree(rest, ignore_errors=True)
    return target


def find_model(folder):
    """Folder of the model to use.

    Parameters
    ----------
    folder : path-like
        A model's folder, or one of several models such as ``runs/<run>/models``.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    TLEError
        When there is no model, or several and none is chosen.
    """
    folder = Path(folder)
    if (folder / CARD).is_file():
        return folder
    inside = sorted(path.parent for path in folder.glob(f"[!.]*/{CARD}"))
    chosen = folder / CHOSEN
    if chosen.is_file() and folder / chosen.read_text(encoding="utf-8").strip() in inside:
        return folder / chosen.read_text(encoding="utf-8").strip()
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise TLEError(f"{folder.name}: {len(inside)} models ({', '.join(p.name for p in inside)}): name one of them")
    raise TLEError(f"{folder.name}: no model here ({CARD} is missing): {REMEDY}")


def read_card(folder):
    """Card of a model, checked against its schema (TLEError names the field that does not fit)."""
    path = Path(folder) / CARD
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TLEError(f"{path.parent.name}/{CARD}: cannot be read ({error.strerror}): {REMEDY}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise TLEError(f"{path.parent.name}/{CARD}: {where}: {first['msg']}: {REMEDY}") from None


def _refuse_unlike(card, own):
    """Refuse a model that learned from maps, slices or a template other than those it is asked about."""
    theirs = card.preprocessing.model_dump() | {"space": card.space, "classes": card.classes}
    if "multitask" in card.components:
        theirs["y_mm"] = card.y_mm
    for key, value in theirs.items():
        if key in own and value != own[key]:
            raise TLEError(
                f"model '{card.name}': its {key} is {value}, here it is {own[key]}: "
                f"choose a model trained with {key} = {own[key]}, or set the parameter {key} as the model has it"
            )


def _read_fold(path, digest, card):
    if not path.is_file():
        raise TLEError(f"model '{card.name}': {path.name} is missing: {REMEDY}")
    if fingerprints.sha256(path) != digest:
        raise TLEError(f"model '{card.name}': the checksum of {path.name} is not the card's: {REMEDY}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        raise TLEError(f"model '{card.name}': {path.name} is not an npz file of plain arrays: {REMEDY}") from None
    parts = {name: {} for name in ("temperature", *card.components)}
    for key, value in arrays.items():
        component, _, name = key.partition(".")
        if component in parts:
            parts[component][name] = value
    temperatures = {name: float(value) for name, value in parts.pop("temperature").items()}
    if not all(parts.values()) or set(temperatures) != {*card.components, "joint"}:
        raise TLEError(f"model '{card.name}': {path.name} lacks a component or a temperature: {REMEDY}")
    if "multitask" in parts:
        stored = multitask.MultitaskOptions.model_validate_json(str(parts["multitask"]["options"])).y_mm
        if stored != card.y_mm:
            raise TLEError(f"model '{card.name}': {path.name} has slices {stored}, the card {card.y_mm}: {REMEDY}")
    return FoldModel(parts, temperatures)


def load_models(folder, **own):
    """Read a model; refuse one that is damaged, changed, or made for other maps.

    Parameters
    ----------
    folder : path-like
        As in `find_model`.
    **own
        What it is asked about: ``space``, ``modulate``, ``fwhm_mm``, ``y_mm``, ``classes``; those that are given must
        be the model's.

    Returns
    -------
    Ensemble

    Raises
    ------
    TLEError
        One line: what does not fit, and the remedy.
    """
    folder = find_model(folder)
    card = read_card(folder)
    _refuse_unlike(card, {"classes": CLASSES} | own)
    if not card.files:
        raise TLEError(f"model '{card.name}': its card names no file: {REMEDY}")
    for name in card.files:
        if Path(name).name != name:
            raise TLEError(f"model '{card.name}': its card names '{name}', a file outside its folder: {REMEDY}")
    return Ensemble(card, [_read_fold(folder / name, digest, card) for name, digest in card.files.items()])


def combined(p, temperatures):
    """Probabilities of a fold from those of its components.

    Parameters
    ----------
    p : dict of str to numpy.ndarray
        Component to its probabilities, uncalibrated, classes along the last axis; shapes that broadcast.
    temperatures : dict of str to float
        As in `FoldModel`.

    Returns
    -------
    numpy.ndarray
        As `calibration.recalibrated` and `calibration.fused` make them in tables.
    """
    scaled = [calibration.scaled(values, temperatures[name]) for name, values in p.items()]
    return calibration.scaled(calibration.geometric_mean(scaled), temperatures["joint"])


def ask_model(model, x, volumes):
    """Ask a model about participants.

    Parameters
    ----------
    model : Ensemble
        From `load_models`.
    x : numpy.ndarray or None
        From `multitask.load_inputs` with the card's ``y_mm``; None for a model without networks.
    volumes : pandas.DataFrame or None
        From `regions.read_regional_volumes`; None for a model of networks alone.

    Returns
    -------
    Answer
    """
    folds, members = [], []
    for fold in model.folds:
        single = {}
        if "multitask" in fold.components:
            single["multitask"] = multitask.predict_multitask(fold.components["multitask"], x)
        if "regional" in fold.components:
            single["regional"] = regional.predict_regions(fold.components["regional"], volumes)[None]
        mean = {name: values.mean(axis=0) for name, values in single.items()}
        folds.append(combined(mean, fold.temperatures))
        members.append(combined(single, fold.temperatures))
    return Answer(np.mean(folds, axis=0), np.array(folds), np.concatenate(members))


def conformal_of(card, coverage):
    """The card's threshold for a stated coverage (model_card.Conformal); TLEError names those that it has."""
    for found in card.conformal:
        if abs(found.coverage - coverage) < 1e-9:
            return found
    known = ", ".join(f"{found.coverage:g}" for found in card.conformal)
    raise TLEError(f"coverage = {coverage:g}: model '{card.name}' has thresholds for {known}: choose one of these")


def answer_set(p, threshold, classes=CLASSES):
    """Classes that cannot be ruled out: whose probability is not more than `threshold` below 1 (tuple of str)."""
    return tuple(name for name, value in zip(classes, p, strict=True) if 1 - value <= threshold + 1e-8)
