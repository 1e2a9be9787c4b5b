"""The multi-task network of chapter 06: its options, its layers, its start of training."""

import functools

import numpy as np

from tle_utils.models import networks
from tle_utils.models.networks import block, keras
from tle_utils.models.settings import HEADS, MultitaskOptions


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
