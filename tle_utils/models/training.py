"""How a network is trained on one fold: settings, named presets, inputs, early stopping."""

import functools
from typing import Literal

import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE
from pydantic import BaseModel, ConfigDict, Field
from sklearn.utils.class_weight import compute_class_weight

from tle_utils.base.errors import TLEError
from tle_utils.imaging import slices
from tle_utils.models import networks
from tle_utils.models.networks import keras

PRESETS = {
    "book": {
        "figure_2": {"standardise": True, "scaled": True, "noise": 1.0, "learning_rate": 3e-4, "batch_size": 8},
        "figure_9": {
            "standardise": True,
            "scaled": True,
            "noise": 1.0,
            "learning_rate": 3e-4,
            "batch_size": 8,
            "l2": 1e-4,
            "dropout": 0.2,
            "warm_up": 20,
            "class_weights": {"control": 1.0, "left": 1.5, "right": 1.5},
        },
    },
    "paper": {
        "figure_2": {"flip": False},
        "figure_9": {
            "flip": False,
            "l2": 1e-4,
            "dropout": 0.3,
            "class_weights": {"control": 1.0, "left": 1.5, "right": 1.5},
        },
    },
    "kaestner_rao_2023": dict.fromkeys(
        ("figure_2", "figure_9"),
        {
            "flip": False,
            "learning_rate": 0.01,
            "l2": 1e-4,
            "batch_size": 4,
            "patience": 15,
            "warm_up": 0,
            "keep": "val_accuracy",
        },
    ),
}
"""Settings by preset and network; the chapter on methods says where they come from."""


class Training(BaseModel):
    """How a network is trained; every field belongs to the key of the cache.

    Attributes
    ----------
    network : {"figure_2", "figure_9", "figure_9_pooled_twice"}
        Which network, see `networks.build`.
    max_epochs : int
        Epochs at most.
    batch_size : int
        Participants a step.
    learning_rate : float
        Of Adam.
    l2, dropout, noise, scaled
        See `networks.build`.
    patience, warm_up : int
        Training stops after `patience` epochs without a lower validation loss, counted after `warm_up` epochs:
        with batch normalisation and few steps an epoch the first losses are erratic.
    keep : {"val_loss", "val_accuracy"}
        What is best in the epoch whose weights are kept.
    class_weights : dict of str to float, optional
        Multiplies the balanced weight of each class; None: every participant counts the same.
    flip : bool
        Train on every training participant's mirror image too, with left and right swapped.
    standardise : bool
        Turn voxels into z-scores against the training part of the fold.
    smote : bool
        Fill up the smaller classes of the training part with mixtures of neighbours (SMOTE, Chawla et al. 2002).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Literal["figure_2", "figure_9", "figure_9_pooled_twice"]
    max_epochs: int = Field(ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    l2: float = Field(default=0.0, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    noise: float = Field(default=0.0, ge=0)
    scaled: bool = False
    patience: int = Field(default=10, ge=1)
    warm_up: int = Field(default=5, ge=0)
    keep: Literal["val_loss", "val_accuracy"] = "val_loss"
    class_weights: dict[str, float] | None = None
    flip: bool = False
    standardise: bool = False
    smote: bool = False


def preset(name, network, *, max_epochs, classes, learning_rate=None):
    """Training settings by name.

    Parameters
    ----------
    name : {"book", "paper", "kaestner_rao_2023"}
        ``book``: chosen here by validation loss. ``paper``: what Rao states, Adam's defaults where the paper is silent.
        ``kaestner_rao_2023``: the published settings of the same author's later study.
    network : {"figure_2", "figure_9"}
        Which network.
    max_epochs : int
        Epochs at most.
    classes : collection of str
        Classes of the task; mirror images are used where both left and right are among them.
    learning_rate : float, optional
        Replaces that of the preset.

    Returns
    -------
    Training
        Complete settings.

    Raises
    ------
    TLEError
        When the preset is not known.
    """
    if name not in PRESETS:
        raise TLEError(f"preset '{name}' is not known: choose one of {', '.join(PRESETS)}")
    settings = {"flip": {"left", "right"} <= set(classes)} | PRESETS[name][network]
    if learning_rate is not None:
        settings["learning_rate"] = learning_rate
    return Training(network=network, max_epochs=max_epochs, **settings)


def fold_inputs(x, stored):
    """Slices as the network of a fold reads them.

    Parameters
    ----------
    x : numpy.ndarray
        Slices of `slices.load_slices`, shape (n, 160, 160, slices).
    stored : mapping
        What `train_fold` returned for the fold; its ``mean`` and ``deviation`` come from its training part.

    Returns
    -------
    numpy.ndarray
        float32, same shape: z-scores, or `x` itself where the fold does not standardise.
    """
    return (x - stored["mean"]) / stored["deviation"] if "mean" in stored else x


def build_network(stored, network, n_classes, input_shape):
    """Network of a fold with the weights that were kept.

    Parameters
    ----------
    stored : mapping
        What `train_fold` returned for the fold.
    network : {"figure_2", "figure_9"}
        Which network.
    n_classes : int
        Its outputs.
    input_shape : tuple of int
        Rows, columns and slices.

    Returns
    -------
    keras.Model
        Reads what `fold_inputs` returns.
    """
    model = networks.build(network, n_classes, input_shape=input_shape, scaled=bool(stored["scaled"]))
    model.set_weights([stored[name] for name in sorted(stored) if name.startswith("w_")])
    return model


class _KeepBest(keras.callbacks.Callback):
    """Stops on the validation loss, not before the warm-up has passed; keeps the weights of the best epoch."""

    def __init__(self, training):
        super().__init__()
        self.training = training
        self.best, self.best_epoch, self.weights = -np.inf, 0, None
        self.least, self.waited = np.inf, 0

    def on_epoch_end(self, epoch, logs=None):
        value = -logs["val_loss"] if self.training.keep == "val_loss" else logs["val_accuracy"]
        if value > self.best:
            self.best, self.best_epoch, self.weights = value, epoch + 1, self.model.get_weights()
        better = logs["val_loss"] < self.least
        self.waited = 0 if better or epoch < self.training.warm_up else self.waited + 1
        self.least = min(self.least, logs["val_loss"])
        if self.waited >= self.training.patience:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.weights is not None:
            self.model.set_weights(self.weights)


def _filled_up(seen, labels, seed):
    """Training part with as many synthetic participants as the smaller classes lack; five neighbours, or all."""
    neighbours = min(5, pd.Series(labels).value_counts().min() - 1)
    if neighbours < 1:
        raise TLEError("smote: a class has one participant in a training part: switch it off or use fewer folds")
    sampler = SMOTE(random_state=seed, k_neighbors=neighbours)
    flat, labels = sampler.fit_resample(seen.reshape(len(seen), -1), labels.astype(str))
    return flat.reshape(-1, *seen.shape[1:]), labels


@functools.lru_cache(maxsize=8)
def _compiled(network, learning_rate, n_classes, input_shape, options):
    model = networks.build(network, n_classes, input_shape=input_shape, **dict(options))
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def _new_network(training, n_classes, input_shape, seed):
    options = training.model_dump(include={"l2", "dropout", "noise", "scaled"})
    model = _compiled(training.network, training.learning_rate, n_classes, input_shape, tuple(options.items()))
    make = functools.partial(networks.build, training.network, n_classes, input_shape=input_shape, **options)
    return networks.start_anew(model, make, seed)


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
    fold : crossval.Fold
        Who trains, validates and tests.
    training : Training
        Settings.
    seed : int
        Seed of weights, shuffles, noise and dropout; the fold's number is added.

    Returns
    -------
    dict of str to numpy.ndarray
        ``p_test`` and ``p_validation`` (participants, classes), ``loss``, ``val_loss``, ``accuracy``,
        ``val_accuracy`` (epochs,), ``best_epoch``, ``scaled``, the weights ``w_000`` … and, where voxels are
        standardised, ``mean`` and ``deviation``.

    Raises
    ------
    TLEError
        When the loss is no longer a number.
    """
    seen, labels = x[fold.train], groups[fold.train]
    if training.flip:
        mirrored, swapped = slices.flip(seen, labels)
        seen, labels = np.concatenate([seen, mirrored]), np.concatenate([labels, swapped])
    if training.smote:
        seen, labels = _filled_up(seen, labels, seed + fold.fold)
    scale = dict(zip(("mean", "deviation"), slices.voxel_scale(seen), strict=True)) if training.standardise else {}
    seen, held, test = (fold_inputs(part, scale) for part in (seen, x[fold.validation], x[fold.test]))
    code = {name: number for number, name in enumerate(classes)}
    seen_codes, held_codes = (np.array([code[name] for name in part]) for part in (labels, groups[fold.validation]))
    model = _new_network(training, len(classes), x.shape[1:], seed + 1000 * fold.repeat + fold.fold)
    weights = None
    if training.class_weights is not None:
        balanced = compute_class_weight("balanced", classes=np.arange(len(classes)), y=seen_codes)
        weights = {code[name]: balanced[code[name]] * training.class_weights.get(name, 1.0) for name in classes}
    best = _KeepBest(training)
    history = model.fit(
        seen,
        seen_codes,
        validation_data=(held, held_codes),
        epochs=training.max_epochs,
        batch_size=training.batch_size,
        class_weight=weights,
        callbacks=[best],
        verbose=0,
    ).history
    if not np.isfinite(history["loss"]).all():
        raise TLEError(
            f"learning_rate = {training.learning_rate}: the loss of fold {fold.fold} is not a number: "
            "lower learning_rate"
        )
    result = {name: np.asarray(values, np.float32) for name, values in history.items()} | scale
    result |= {"p_test": model.predict(test, verbose=0), "p_validation": model.predict(held, verbose=0)}
    result |= {"best_epoch": np.asarray(best.best_epoch), "scaled": np.asarray(training.scaled)}
    return result | {f"w_{number:03d}": value for number, value in enumerate(model.get_weights())}
