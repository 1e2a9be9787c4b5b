"""The multi-task network of chapter 06: its options, its layers, its start of training."""

import functools
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tle_utils.models import networks
from tle_utils.models.networks import block, keras

HEADS = ("patient", "left")


class MultitaskOptions(BaseModel):
    """How the multi-task network is built and trained; every field belongs to the key of the cache.

    Attributes
    ----------
    y_mm : tuple of int
        MNI y coordinates of the slices in mm; the input's last axis.
    flip : bool
        Learn from every training participant's mirror image too, with left and right swapped.
    standardise : bool
        Turn voxels into z-scores against the controls of the training part.
    mirror_difference : bool
        Give the network each slice less its mirror image as a further channel.
    voting : bool
        One network a slice; their probabilities are averaged with the weights that their validation earns.
    members : int
        Networks of the ensemble. One learns from the training part and stops by the validation part of the fold; more
        share both parts as inner folds, so that each participant outside the test part validates one of them.
    stages : {1, 2}
        1: both heads learn together. 2: trunk and patient head first, then the side head alone on patients.
    max_epochs, batch_size, learning_rate, dropout, noise, l2
        As in `training.Training`.
    patience : int
        Epochs without a lower validation loss after which training stops; the best weights are kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    y_mm: tuple[int, ...] = Field(default=(-24,), min_length=1)
    flip: bool = False
    standardise: bool = False
    mirror_difference: bool = False
    voting: bool = False
    members: int = Field(default=1, ge=1)
    stages: Literal[1, 2] = 1
    max_epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    noise: float = Field(default=0.0, ge=0)
    l2: float = Field(default=1e-4, ge=0)
    patience: int = Field(default=10, ge=1)


def build_multitask(input_shape, options, seed=None):
    """Two convolutions (16 and 32 filters, 3 x 3, ReLU, batch normalisation, 2 x 2 maximum pooling) and two heads.

    Parameters
    ----------
    input_shape : tuple of int
        Rows, columns and channels.
    options : Options
        ``dropout``, ``noise`` and ``l2`` are used.
    seed : int, optional
        As in `networks.build`.

    Returns
    -------
    keras.Model
        Outputs ``patient`` (probability of being a patient) and ``left`` (of the left side, given a patient).
    """
    layers, penalty, draw = keras.layers, keras.regularizers.L2(options.l2), networks.seeds(seed)
    inputs = outputs = keras.Input(input_shape, name="slices")
    if options.noise:
        outputs = layers.GaussianNoise(options.noise, seed=draw(), name="noise")(outputs)
    for number, filters in enumerate((16, 32), start=1):
        outputs = block(outputs, number, filters, penalty, draw())
        outputs = layers.MaxPooling2D(name=f"pool_{number}")(outputs)
    outputs = layers.Flatten(name="flatten")(outputs)
    outputs = layers.Dropout(options.dropout, seed=draw(), name="dropout")(outputs)
    outputs = layers.Rescaling(outputs.shape[-1] ** -0.5, name="scale")(outputs)
    heads = {
        name: layers.Dense(1, activation="sigmoid", kernel_initializer="zeros", kernel_regularizer=penalty, name=name)(
            outputs
        )
        for name in HEADS
    }
    return keras.Model(inputs, heads, name="multitask")


def joint(patient, left):
    """Probabilities of control, left and right from those of the two heads, shape (n, 3)."""
    patient, left = np.ravel(patient), np.ravel(left)
    return np.stack([1 - patient, patient * left, patient * (1 - left)], axis=1)


@functools.lru_cache(maxsize=8)
def _compiled(input_shape, dropout, noise, l2, learning_rate, heads):
    model = build_multitask(input_shape, MultitaskOptions(dropout=dropout, noise=noise, l2=l2))
    if "patient" not in heads:
        for layer in model.layers:
            layer.trainable = layer.name in heads
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss=dict.fromkeys(HEADS, "binary_crossentropy"),
        loss_weights={name: float(name in heads) for name in HEADS},
        jit_compile=False,
    )
    return model


def new_network(input_shape, options, heads, seed):
    """Network ready to be trained.

    Parameters
    ----------
    input_shape : tuple of int
        Rows, columns and channels.
    options : Options
        ``dropout``, ``noise``, ``l2`` and ``learning_rate`` are used.
    heads : tuple of str
        Heads whose losses count; without ``patient`` all but these heads stays as it is.
    seed : int
        Seed of weights, shuffles, noise and dropout.

    Returns
    -------
    keras.Model
        Compiled; the next call for the same options gives the same object again, as new.
    """
    settings = options.dropout, options.noise, options.l2, options.learning_rate
    make = functools.partial(build_multitask, input_shape, options)
    return networks.start_anew(_compiled(input_shape, *settings, heads), make, seed)
