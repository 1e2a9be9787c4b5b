"""Trained models as files: one npz per fold, a card that says what they are, checksums; written, found, checked."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from tle_utils.base import files, fingerprints
from tle_utils.base.errors import TLEError
from tle_utils.models.predictions import CLASSES
from tle_utils.models.settings import MultitaskOptions
from tle_utils.patient.ensemble import Ensemble, FoldModel
from tle_utils.patient.model_card import ModelCard, readme

CARD, README, CHOSEN = "model.json", "README.md", "chosen.txt"
REMEDY = "run notebook 06_multitask_model again, or copy the whole folder again"
# What a fold's file need not hold: single participants' results, and how training went.
LEFT_OUT = ("key", "p_test", "p_validation", "validation", "loss", "val_loss", "best_epoch")


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
    """Write a model: all its files under a temporary name first, then in place at once; returns its folder.

    Parameters
    ----------
    folder : path-like
        ``runs/<run>/models``; gets ``<name>/fold-00.npz`` …, ``<name>/model.json``, ``<name>/README.md``, and
        ``chosen.txt``, which names the model written last: the one that notebook 08 takes.
    name : str
        Name of the model; its folder is `slug` of it. A folder of that name is replaced.
    folds : sequence of ensemble.FoldModel
        From `ensemble.trained_folds`. Rows and predictions of single participants are not written.
    card : model_card.ModelCard
        From `model_card.describe_model`; ``name`` and ``files`` are set here.

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
        checksums = {}
        for number, fold in enumerate(folds):
            if set(fold.components) != set(card.components):
                raise TLEError(f"model '{name}', fold {number}: not the components of the card: train the fold again")
            path = partial / f"fold-{number:02d}.npz"
            np.savez(path, **_arrays(fold))
            checksums[path.name] = fingerprints.sha256(path)
        card = card.model_copy(update={"name": name, "files": checksums})
        files.write_text(partial / CARD, card.model_dump_json(indent=1) + "\n")
        files.write_text(partial / README, readme(card))
        if target.exists():
            os.replace(target, old)
        os.replace(partial, target)
        files.write_text(folder / CHOSEN, target.name + "\n")
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
    """Folder of the model to use, which `folder` is or holds.

    TLEError when there is no model, or several and none is chosen.
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
    arrays = files.read_arrays(path)
    if arrays is None:
        raise TLEError(f"model '{card.name}': {path.name} is not an npz file of plain arrays: {REMEDY}")
    parts = {name: {} for name in ("temperature", *card.components)}
    for key, value in arrays.items():
        component, _, name = key.partition(".")
        if component in parts:
            parts[component][name] = value
    temperatures = {name: float(value) for name, value in parts.pop("temperature").items()}
    if not all(parts.values()) or set(temperatures) != {*card.components, "joint"}:
        raise TLEError(f"model '{card.name}': {path.name} lacks a component or a temperature: {REMEDY}")
    if "multitask" in parts:
        stored = MultitaskOptions.model_validate_json(str(parts["multitask"]["options"])).y_mm
        if stored != card.y_mm:
            raise TLEError(f"model '{card.name}': {path.name} has slices {stored}, the card {card.y_mm}: {REMEDY}")
    return FoldModel(parts, temperatures)


def load_models(folder, **own):
    """Read a model (`ensemble.Ensemble`); refuse one that is damaged, changed, or made for other maps (TLEError).

    Parameters
    ----------
    folder : path-like
        The model's, or one that holds models, such as ``runs/<run>/models``.
    **own
        What it is asked about: ``space``, ``modulate``, ``fwhm_mm``, ``y_mm``, ``classes``; those that are given must
        be the model's.
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
