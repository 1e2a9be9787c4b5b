"""How a network is trained on one fold: settings, named presets, inputs, early stopping."""

import functools

import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE
from sklearn.utils.class_weight import compute_class_weight

from tle_utils.base.errors import TLEError
from tle_utils.imaging import slices
from tle_utils.models import networks
from tle_utils.models.networks import keras
from tle_utils.models.settings import PRESETS, Training, preset  # noqa: F401


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
