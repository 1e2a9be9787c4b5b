"""Participant-level folds, training inside a fold, out-of-fold predictions and their cache."""

import functools
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from tle_utils.base.errors import TLEError
from tle_utils.base.files import kept_arrays, read_arrays
from tle_utils.base.fingerprints import code_version
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import slices
from tle_utils.models.predictions import CLASSES, assert_no_leak, fold_rows, refuse_twice
from tle_utils.models.training import build_network, fold_inputs, train_fold


class Fold(NamedTuple):
    """Rows of one fold: positions in the participants table, disjoint and together complete."""

    repeat: int
    fold: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def make_folds(participants, n_splits, *, seed, n_repeats=1, validation_fraction=0.15, by_site=False):
    """Stratified folds over participants, with a validation part inside each training part.

    Parameters
    ----------
    participants : pandas.DataFrame
        One row a participant with ``participant_id`` and ``group``.
    n_splits : int
        Folds a repeat.
    seed : int
        Seed of the shuffles.
    n_repeats : int
        How often the whole set is split anew.
    validation_fraction : float
        Share of each class outside the test fold that is held out for early stopping; at least one participant.
    by_site : bool
        Keep all participants of a site (column ``site``) in the same test fold.

    Returns
    -------
    list of Fold

    Raises
    ------
    TLEError
        When a participant stands twice in the table, there is a single class,
        or a class is too small to stand in the training, validation and test part of every fold.
    """
    groups = participants["group"].astype(str).to_numpy()
    refuse_twice(participants)
    names, counts = np.unique(groups, return_counts=True)
    if len(names) < 2:
        raise TLEError(f"one class only ({', '.join(names) or 'empty table'}): classification needs two or more")
    for name, count in zip(names, counts, strict=True):
        if count < n_splits or count - -(-count // n_splits) < 2:
            raise TLEError(
                f"class '{name}' has {count} participants for n_splits = {n_splits}: "
                "lower n_splits (at least 2) or add participants"
            )
    sites = participants["site"].astype(str).to_numpy() if by_site else None
    if by_site and len(set(sites)) < n_splits:
        raise TLEError(f"{len(set(sites))} sites for n_splits = {n_splits}: lower n_splits or split by participant")
    folds = []
    for repeat in range(n_repeats):
        kind = StratifiedGroupKFold if by_site else StratifiedKFold
        splitter = kind(n_splits, shuffle=True, random_state=seed + repeat)
        for number, (rest, test) in enumerate(splitter.split(groups, groups, sites)):
            for name in names if by_site else ():
                if (groups[rest] == name).sum() < 2 or not (groups[test] == name).any():
                    raise TLEError(
                        f"fold {number}: class '{name}' is missing on one side when split by site: lower n_splits"
                    )
            rng = np.random.default_rng([seed, repeat, number])
            held = [rng.permutation(rest[groups[rest] == name]) for name in names]
            held = [rows[: max(1, round(validation_fraction * len(rows)))] for rows in held]
            validation = np.concatenate(held)
            train = np.setdiff1d(rest, validation)
            folds.append(Fold(repeat, number, train, np.sort(validation), test))
    ids = participants["participant_id"].to_numpy(str)
    for fold in folds:
        assert_no_leak(ids[fold.train], ids[fold.validation], ids[fold.test])
    return folds


def fold_key(x, groups, fold, settings, seed, code):
    """Checksum of all that the training of a fold depends on.

    Parameters
    ----------
    x : numpy.ndarray
        Input of all participants.
    groups : sequence of str
        Class of each participant.
    fold : Fold
        Who trains, validates and tests.
    settings : pydantic.BaseModel
        Options of the training.
    seed : int
        Seed of the training.
    code : str
        From `fingerprints.code_version`.

    Returns
    -------
    str
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([code, settings.model_dump(), seed, fold.repeat, fold.fold]).encode())
    digest.update(json.dumps(list(groups)).encode())
    for array in (fold.train, fold.validation, fold.test, x):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _cached_fold(job):
    x, groups, classes, fold, training, seed, path = job
    code = code_version("tle_utils.models.training", "keras", "tensorflow")
    key = fold_key(x, groups, fold, training, seed, code)
    return kept_arrays(path, key, lambda: train_fold(x, groups, classes, fold, training, seed))


def fold_path(folder, fold):
    """File of one fold's predictions, learning curve and weights."""
    return Path(folder) / f"repeat-{fold.repeat}_fold-{fold.fold:02d}.npz"


def cross_validate(x, participants, folds, training, *, folder, seed, workers=1, label=None):
    """Train a network on every fold and collect the out-of-fold predictions.

    A fold that is already in `folder`, trained on the same data with the same options and code, is read, not trained.

    Parameters
    ----------
    x : numpy.ndarray
        Slices, float32, shape (n, 160, 160, slices).
    participants : pandas.DataFrame
        One row a participant, in the order of `x`: ``participant_id``, ``group``.
    folds : list of Fold
        From `make_folds`.
    training : Training
        Options.
    folder : path-like
        Where the folds are kept.
    seed : int
        Seed of the training.
    workers : int
        Folds side by side; the predictions do not depend on it.
    label : str, optional
        Name of the model in the table; the network's name by default.

    Returns
    -------
    predictions : pandas.DataFrame
        One row a participant, repeat and split (``test`` or ``validation``): ``participant_id``, ``group``,
        ``model``, ``repeat``, ``fold``, ``split``, ``p_<class>``, ``predicted``.
    curves : pandas.DataFrame
        One row an epoch: ``model``, ``repeat``, ``fold``, ``epoch``, ``loss``, ``val_loss``, ``accuracy``,
        ``val_accuracy``, ``best`` (whether the weights of this epoch were kept).

    Raises
    ------
    TLEError
        Names the participants whose slices hold NaN or infinite values.
    """
    slices.refuse_not_finite(x, participants)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    label = label or training.network
    classes = [name for name in CLASSES if name in set(participants["group"])]
    groups = participants["group"].to_numpy(object)
    jobs = [(x, groups, classes, fold, training, seed, fold_path(folder, fold)) for fold in folds]
    results = run_parallel(_cached_fold, jobs, label=f"{label}: folds", workers=workers)
    predictions, curves = [], []
    for fold, result in zip(folds, results, strict=True):
        marks = {"model": label, "repeat": fold.repeat, "fold": fold.fold}
        for split, rows in (("test", fold.test), ("validation", fold.validation)):
            predictions.append(fold_rows(participants, rows, result[f"p_{split}"], classes, split=split, **marks))
        epochs = np.arange(1, len(result["loss"]) + 1)
        names = ("loss", "val_loss", "accuracy", "val_accuracy")
        curve = pd.DataFrame({"epoch": epochs} | {name: result[name] for name in names}).assign(**marks)
        curves.append(curve.assign(best=curve["epoch"] == int(result["best_epoch"])))
    return pd.concat(predictions, ignore_index=True), pd.concat(curves, ignore_index=True)


def load_fold(path, network, n_classes, input_shape):
    """Network of one fold with the weights that were kept, and what turns slices into its input.

    Parameters
    ----------
    path : path-like
        From `fold_path`.
    network, n_classes, input_shape
        As in `training.build_network`.

    Returns
    -------
    model : keras.Model
        The network.
    inputs : callable
        Slices of `slices.load_slices` to the network's input (`training.fold_inputs`).

    Raises
    ------
    TLEError
        When the fold's file is missing or unreadable.
    """
    stored = read_arrays(path)
    if stored is None:
        raise TLEError(f"{Path(path).name}: no trained fold here: run the notebook that trains {network} first")
    model = build_network(stored, network, n_classes, input_shape)
    return model, functools.partial(fold_inputs, stored=stored)
