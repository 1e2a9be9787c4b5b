"""Participant-level folds, training inside a fold, out-of-fold predictions and their cache."""

import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from tle_utils.base.errors import TLEError
from tle_utils.base.files import kept_arrays, read_arrays
from tle_utils.base.fingerprints import code_version, digest
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import slices
from tle_utils.models import networks
from tle_utils.models.hemispheres import train_hemispheres
from tle_utils.models.multitask import train_multitask
from tle_utils.models.predictions import CLASSES, assert_no_leak, fold_rows, refuse_twice
from tle_utils.models.settings import HemisphereOptions, MultitaskOptions, Training
from tle_utils.models.training import CURVES, fold_inputs, train_fold, with_weights

VALIDATION_SHARE = 0.15
TRAINED_BY = {Training: train_fold, MultitaskOptions: train_multitask, HemisphereOptions: train_hemispheres}


class Fold(NamedTuple):
    """Rows of one fold: positions in the participants table, disjoint and together complete."""

    repeat: int
    fold: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def make_folds(participants, n_splits, *, seed, n_repeats=1):
    """Stratified folds over participants, `n_splits` per repeat; each repeat splits the whole set anew (list of Fold).

    `VALIDATION_SHARE` of each class outside the test fold, at least one participant, is held out for early stopping.

    Raises
    ------
    TLEError
        A participant stands twice in the table, there is a single class, or a class is too small to stand in the
        training, validation and test part of every fold.
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
    folds = []
    for repeat in range(n_repeats):
        splitter = StratifiedKFold(n_splits, shuffle=True, random_state=seed + repeat)
        for number, (rest, test) in enumerate(splitter.split(groups, groups)):
            rng = np.random.default_rng([seed, repeat, number])
            held = [rng.permutation(rest[groups[rest] == name]) for name in names]
            held = [rows[: max(1, round(VALIDATION_SHARE * len(rows)))] for rows in held]
            validation = np.concatenate(held)
            train = np.setdiff1d(rest, validation)
            folds.append(Fold(repeat, number, train, np.sort(validation), test))
    ids = participants["participant_id"].to_numpy(str)
    for fold in folds:
        assert_no_leak(ids[fold.train], ids[fold.validation], ids[fold.test])
    return folds


def fold_path(folder, fold):
    """File of one fold's predictions, learning curve and weights."""
    return Path(folder) / f"repeat-{fold.repeat}_fold-{fold.fold:02d}.npz"


def _kept_fold(job):
    x, groups, fold, settings, seed, path = job
    train = TRAINED_BY[type(settings)]
    code = code_version(train.__module__, "keras", "tensorflow")
    sums = [hashlib.sha256(np.ascontiguousarray(part)).hexdigest() for part in (*fold[2:], x)]
    key = digest([code, settings.model_dump(), seed, fold.repeat, fold.fold, list(groups), sums])
    return kept_arrays(path, key, lambda: train(x, groups, fold, settings, seed))


def train_folds(x, groups, folds, settings, *, folder, seed, workers=1, label="network"):
    """What `train_fold` or `train_multitask` gives for every fold (list of dict of arrays), kept in `folder`.

    A fold that is already there, trained on the same data with the same settings and code, is read, not trained.
    """
    jobs = [(x, groups, fold, settings, seed, fold_path(folder, fold)) for fold in folds]
    return run_parallel(_kept_fold, jobs, label=f"{label}: folds", workers=workers)


def cross_validate(x, participants, folds, settings, *, folder, seed, workers=1, label="network"):
    """Train a network on every fold (`train_folds`) and collect the out-of-fold predictions.

    The input is that of `slices.load_slices` for `Training`, of `multitask.load_inputs` for `MultitaskOptions`, of
    `hemispheres.load_hemispheres` for `HemisphereOptions`.
    TLEError names the participants whose slices hold NaN or infinite values.

    Returns
    -------
    predictions : pandas.DataFrame
        One row per participant, fold and split, see `predictions`.
    curves : pandas.DataFrame
        One row per epoch: ``epoch``, ``loss``, ``val_loss`` and, for one softmax layer, ``accuracy`` and
        ``val_accuracy``; ``model``, ``repeat``, ``fold``, ``best`` (whether the weights of this epoch were kept). Of an
        ensemble, the curves of its first network.
    """
    slices.refuse_not_finite(x, participants)
    groups = participants["group"].to_numpy(object)
    classes = [name for name in CLASSES if name in set(groups)]
    results = train_folds(x, groups, folds, settings, folder=folder, seed=seed, workers=workers, label=label)
    predictions, curves = [], []
    for fold, result in zip(folds, results, strict=True):
        marks = {"model": label, "repeat": fold.repeat, "fold": fold.fold}
        for split, rows in (("test", fold.test), ("validation", result["validation"])):
            predictions.append(fold_rows(participants, rows, result[f"p_{split}"], classes, split=split, **marks))
        curve = pd.DataFrame({name: result[name] for name in CURVES if name in result}).assign(**marks)
        curve.insert(0, "epoch", np.arange(1, len(curve) + 1))
        curves.append(curve.assign(best=curve["epoch"] == int(result["best_epoch"])))
    return pd.concat(predictions, ignore_index=True), pd.concat(curves, ignore_index=True)


def load_fold(path, network, input_shape):
    """Network of one fold with its kept weights (keras.Model), and what turns slices into its input (callable).

    `path` comes from `fold_path`, the slices from `slices.load_slices`; all else is as in `networks.build`. TLEError
    when the fold's file is missing or unreadable.
    """
    stored = read_arrays(path)
    if stored is None:
        raise TLEError(f"{Path(path).name}: no trained fold here: run the notebook that trains {network} first")
    outputs = stored["p_test"].shape[1]
    model = networks.build(network, outputs, input_shape=input_shape, scaled=bool(stored["scaled"]))
    return with_weights(model, stored), functools.partial(fold_inputs, stored=stored)
