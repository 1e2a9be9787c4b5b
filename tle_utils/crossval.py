"""Participant-level folds, training inside a fold, out-of-fold predictions and their cache."""

import functools
import hashlib
import inspect
import json
import os
import zipfile
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.class_weight import compute_class_weight

from tle_utils import models, slices
from tle_utils.errors import TLEError
from tle_utils.parallel import run_parallel
from tle_utils.predictions import CLASSES, assert_no_leak


class Fold(NamedTuple):
    """Rows of one fold: positions in the participants table, disjoint and together complete."""

    repeat: int
    fold: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


class Training(BaseModel):
    """How a network is trained; every field belongs to the key of the cache.

    The paper names the optimiser, its learning rate and the batch size nowhere; these were chosen by validation loss.
    `flip` adds every training participant's mirror image with left and right swapped; the paper does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Literal["figure_2", "figure_9"]
    max_epochs: int = Field(ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    l2: float = Field(default=0.0, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    patience: int = Field(default=10, ge=1)
    class_weights: dict[str, float] | None = None
    flip: bool = False


def make_folds(participants, n_splits, *, seed, n_repeats=1, validation_fraction=0.15):
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
    twice = participants["participant_id"][participants["participant_id"].duplicated()]
    if len(twice):
        raise TLEError(f"participant '{twice.iloc[0]}' stands twice in the table: keep one row a participant")
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
            held = [rows[: max(1, round(validation_fraction * len(rows)))] for rows in held]
            validation = np.concatenate(held)
            train = np.setdiff1d(rest, validation)
            folds.append(Fold(repeat, number, train, np.sort(validation), test))
    ids = participants["participant_id"].to_numpy(str)
    for fold in folds:
        assert_no_leak(ids[fold.train], ids[fold.validation], ids[fold.test])
    return folds


@functools.cache
def _code_version():
    from importlib.metadata import version

    source = "".join(map(inspect.getsource, (models, slices.flip, inspect.getmodule(_code_version))))
    return hashlib.sha256((source + version("keras") + version("tensorflow")).encode()).hexdigest()


def _key(x, groups, fold, training, seed):
    digest = hashlib.sha256()
    digest.update(json.dumps([_code_version(), training.model_dump(), seed, fold.repeat, fold.fold]).encode())
    digest.update(json.dumps(list(groups)).encode())
    for array in (fold.train, fold.validation, fold.test, x):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def train_fold(x, groups, classes, fold, training, seed):
    """Train one network on one fold.

    Parameters
    ----------
    x : numpy.ndarray
        Slices, float32, shape (n, 160, 160, slices).
    groups : numpy.ndarray
        Class of each participant, shape (n,).
    classes : sequence of str
        Classes in the order of the outputs.
    fold : Fold
        Who trains, validates and tests.
    training : Training
        Options.
    seed : int
        Seed of weights, shuffles and dropout; the fold's number is added.

    Returns
    -------
    dict of str to numpy.ndarray
        ``p_test`` and ``p_validation`` (participants, classes), ``loss``, ``val_loss``, ``accuracy``,
        ``val_accuracy`` (epochs,), ``best_epoch`` and the weights ``w_000`` …

    Raises
    ------
    TLEError
        When the loss is no longer a number.
    """
    import keras

    keras.utils.set_random_seed(seed + 1000 * fold.repeat + fold.fold)
    seen, labels = x[fold.train], groups[fold.train]
    if training.flip:
        mirrored, swapped = slices.flip(seen, labels)
        seen, labels = np.concatenate([seen, mirrored]), np.concatenate([labels, swapped])
    code = {name: number for number, name in enumerate(classes)}
    seen_codes, held_codes = (np.array([code[name] for name in part]) for part in (labels, groups[fold.validation]))
    model = models.build(
        training.network, len(classes), input_shape=x.shape[1:], l2=training.l2, dropout=training.dropout
    )
    model.compile(
        keras.optimizers.Adam(training.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    stop = keras.callbacks.EarlyStopping("val_loss", patience=training.patience, restore_best_weights=True)
    weights = None
    if training.class_weights is not None:
        balanced = compute_class_weight("balanced", classes=np.arange(len(classes)), y=seen_codes)
        weights = {code[name]: balanced[code[name]] * training.class_weights.get(name, 1.0) for name in classes}
    history = model.fit(
        seen,
        seen_codes,
        validation_data=(x[fold.validation], held_codes),
        epochs=training.max_epochs,
        batch_size=training.batch_size,
        class_weight=weights,
        callbacks=[stop],
        verbose=0,
    ).history
    if not np.isfinite(history["loss"]).all():
        raise TLEError(
            f"learning_rate = {training.learning_rate}: the loss of fold {fold.fold} is not a number: "
            "lower learning_rate"
        )
    result = {name: np.asarray(values, np.float32) for name, values in history.items()}
    result["p_test"] = model.predict(x[fold.test], verbose=0)
    result["p_validation"] = model.predict(x[fold.validation], verbose=0)
    result["best_epoch"] = np.asarray(stop.best_epoch + 1)
    result |= {f"w_{number:03d}": value for number, value in enumerate(model.get_weights())}
    return result


def _cached_fold(job):
    x, groups, classes, fold, training, seed, path = job
    key = _key(x, groups, fold, training, seed)
    stored = read_fold(path)
    if stored is not None and str(stored["key"]) == key:
        return stored
    result = train_fold(x, groups, classes, fold, training, seed) | {"key": np.asarray(key)}
    partial = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(partial, **result)
    os.replace(partial, path)
    return result


def read_fold(path):
    """Read what `cross_validate` stored of a fold; None when there is no readable file."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


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
    """
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
            part = participants.iloc[rows][["participant_id", "group"]].assign(**marks, split=split)
            part[[f"p_{name}" for name in classes]] = result[f"p_{split}"]
            part["predicted"] = np.array(classes)[result[f"p_{split}"].argmax(axis=1)]
            predictions.append(part)
        epochs = np.arange(1, len(result["loss"]) + 1)
        names = ("loss", "val_loss", "accuracy", "val_accuracy")
        curve = pd.DataFrame({"epoch": epochs} | {name: result[name] for name in names}).assign(**marks)
        curves.append(curve.assign(best=curve["epoch"] == int(result["best_epoch"])))
    return pd.concat(predictions, ignore_index=True), pd.concat(curves, ignore_index=True)


def load_network(path, network, n_classes, input_shape):
    """Network of one fold with the weights kept by early stopping.

    Raises
    ------
    TLEError
        When the fold's file is missing or unreadable.
    """
    stored = read_fold(path)
    if stored is None:
        raise TLEError(f"{Path(path).name}: no trained fold here: run the notebook that trains {network} first")
    model = models.build(network, n_classes, input_shape=input_shape)
    model.set_weights([stored[name] for name in sorted(stored) if name.startswith("w_")])
    return model
