"""How a network is trained: early stopping for all of them, and one fold of the paper's networks."""

import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE
from sklearn.utils.class_weight import compute_class_weight

from tle_utils.base.errors import TLEError
from tle_utils.imaging import slices
from tle_utils.models.networks import keras, new_network
from tle_utils.models.predictions import CLASSES

CURVES = ("loss", "val_loss", "accuracy", "val_accuracy")


class _KeepBest(keras.callbacks.Callback):
    """Stops on the validation loss, not before the warm-up has passed; keeps the weights of the best epoch."""

    def __init__(self, patience, warm_up, keep):
        super().__init__()
        self.patience, self.warm_up, self.keep = patience, warm_up, keep
        self.best, self.best_epoch, self.weights = -np.inf, 0, None
        self.least, self.waited = np.inf, 0

    def on_epoch_end(self, epoch, logs=None):
        value = -logs["val_loss"] if self.keep == "val_loss" else logs["val_accuracy"]
        if value > self.best:
            self.best, self.best_epoch, self.weights = value, epoch + 1, self.model.get_weights()
        better = logs["val_loss"] < self.least
        self.waited = 0 if better or epoch < self.warm_up else self.waited + 1
        self.least = min(self.least, logs["val_loss"])
        if self.waited >= self.patience:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.weights is not None:
            self.model.set_weights(self.weights)


def fit(model, inputs, labels, held, settings, *, warm_up=0, keep="val_loss", **weights):
    """Train a network and put the weights of its best epoch back.

    `held` is Keras' validation data; `weights` are those of Keras, by class or by sample. Returns the learning curves
    (`CURVES`, as far as the network has them, shape (epochs,)) and ``best_epoch``, counted from 1.
    """
    best = _KeepBest(settings.patience, warm_up, keep)
    how = {"epochs": settings.max_epochs, "batch_size": settings.batch_size, "callbacks": [best], "verbose": 0}
    history = model.fit(inputs, labels, validation_data=held, **how, **weights).history
    if not all(np.isfinite(values).all() for values in (history["loss"], *model.get_weights())):
        said = f"learning_rate = {settings.learning_rate}: the loss or a weight is not a number"
        raise TLEError(f"{said}: lower learning_rate")
    curves = {name: np.asarray(history[name], np.float32) for name in CURVES if name in history}
    return curves | {"best_epoch": np.asarray(best.best_epoch)}


def weights_of(model, prefix="w_"):
    """Weights of a model as arrays to keep, ``w_000`` … (dict of str to numpy.ndarray)."""
    return {f"{prefix}{number:03d}": value for number, value in enumerate(model.get_weights())}


def with_weights(model, stored, prefix="w_"):
    """The model, with the weights that `weights_of` gave."""
    model.set_weights([stored[name] for name in sorted(stored) if name.startswith(prefix)])
    return model


def fold_inputs(x, stored):
    """Slices as the network of a fold reads them: z-scores, or `x` itself where the fold does not standardise.

    ``mean`` and ``deviation`` of `stored`, from `train_fold`, are those of the fold's training part.
    """
    return (x - stored["mean"]) / stored["deviation"] if "mean" in stored else x


def _filled_up(seen, labels, seed):
    """Training part with as many synthetic participants as the smaller classes lack; five neighbours, or all."""
    neighbours = min(5, pd.Series(labels).value_counts().min() - 1)
    if neighbours < 1:
        raise TLEError("smote: a class has one participant in a training part: switch it off or use fewer folds")
    sampler = SMOTE(random_state=seed, k_neighbors=neighbours)
    flat, labels = sampler.fit_resample(seen.reshape(len(seen), -1), labels.astype(str))
    return flat.reshape(-1, *seen.shape[1:]), labels


def train_fold(x, groups, fold, settings, seed):
    """Train one of the paper's networks on one fold; the fold's number is added to `seed`.

    `groups` may be a number for each participant (float) in place of a class: the network then has one output, which
    tells it as a z-score against the training part, and no class is weighted, mirrored or filled up.

    Returns a dict of arrays: ``p_test`` and ``p_validation`` (participants, classes), ``validation`` (positions), the
    curves of `fit`, ``scaled``, the weights ``w_000`` … and, where voxels are standardised, ``mean`` and ``deviation``.

    Raises
    ------
    TLEError
        The loss is no longer a number, or a class is too small or has no mirror class for what the settings ask.
    """
    classes = [name for name in CLASSES if name in set(groups)]
    seen, labels = x[fold.train], groups[fold.train]
    if settings.flip:
        mirrored, swapped = slices.flip(seen, labels)
        seen, labels = np.concatenate([seen, mirrored]), np.concatenate([labels, swapped])
    if settings.smote:
        seen, labels = _filled_up(seen, labels, seed + fold.fold)
    scale = dict(zip(("mean", "deviation"), slices.voxel_scale(seen), strict=True)) if settings.standardise else {}
    seen, held, test = (fold_inputs(part, scale) for part in (seen, x[fold.validation], x[fold.test]))
    if groups.dtype.kind == "f":
        seen_codes, held_codes = ((part - labels.mean()) / labels.std() for part in (labels, groups[fold.validation]))
    else:
        parts = labels, groups[fold.validation]
        seen_codes, held_codes = (np.array([classes.index(group) for group in part]) for part in parts)
    model = new_network(settings, len(classes) or 1, x.shape[1:], seed + 1000 * fold.repeat + fold.fold)
    weights = None
    if settings.class_weights is not None:
        balanced = compute_class_weight("balanced", classes=np.arange(len(classes)), y=seen_codes)
        weights = {code: balanced[code] * settings.class_weights.get(name, 1.0) for code, name in enumerate(classes)}
    stopping = {"warm_up": settings.warm_up, "keep": settings.keep}
    curves = fit(model, seen, seen_codes, (held, held_codes), settings, **stopping, class_weight=weights)
    p = {"p_test": model.predict(test, verbose=0), "p_validation": model.predict(held, verbose=0)}
    more = {"validation": fold.validation, "scaled": np.asarray(settings.scaled)}
    return curves | scale | p | more | weights_of(model)
