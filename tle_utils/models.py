"""The paper's two networks, layer by layer, with their published parameter counts."""

import contextlib
import logging
import math
import os

import pandas as pd

from tle_utils.errors import TLEError


@contextlib.contextmanager
def _native_log_off():
    """Keep the start-up lines that TensorFlow's C++ code writes past its log level out of the notebooks."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


with _native_log_off():
    import keras
    from keras import layers

    keras.distribution.list_devices()
logging.getLogger("tensorflow").setLevel(logging.ERROR)

NETWORKS = {
    "figure_2": {"filters": (8, 16, 32), "pooled": 2, "total": 108_514, "trainable": 108_402, "n_classes": 2},
    "figure_9": {"filters": (8, 8, 16, 16, 32, 32), "pooled": 5, "total": 20_891, "trainable": 20_667, "n_classes": 3},
}


def build(network, n_classes, *, input_shape=(160, 160, 1), l2=0.0, dropout=0.0, batch_norm_momentum=0.9):
    """Build a network of the paper.

    Every convolution is 3 x 3 with ReLU and followed by batch normalisation; all but the last are followed by
    2 x 2 maximum pooling; a softmax layer ends it (Figure 2 and Figure 9).

    Parameters
    ----------
    network : {"figure_2", "figure_9"}
        The replication net or the deep net.
    n_classes : int
        Outputs of the softmax layer.
    input_shape : tuple of int
        Rows, columns and slices of the input.
    l2 : float
        Weight of the squared-norm penalty on every convolution and on the dense layer.
    dropout : float
        Share of the flattened features dropped in training; the layer exists in the deep net only.
    batch_norm_momentum : float
        Momentum of the running mean and variance.

    Returns
    -------
    keras.Model
        Not compiled; weights depend on the seed set with ``keras.utils.set_random_seed``.

    Raises
    ------
    TLEError
        When the network is not known.
    """
    if network not in NETWORKS:
        raise TLEError(f"network '{network}' is not known: choose one of {', '.join(NETWORKS)}")
    plan = NETWORKS[network]
    penalty = keras.regularizers.L2(l2) if l2 else None
    stack = []
    for number, filters in enumerate(plan["filters"], start=1):
        stack.append(
            layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_uniform",
                kernel_regularizer=penalty,
                name=f"conv_{number}",
            )
        )
        stack.append(layers.BatchNormalization(momentum=batch_norm_momentum, name=f"BN_{number}"))
        if number <= plan["pooled"]:
            stack.append(layers.MaxPooling2D(name=f"pool_{number}"))
    stack.append(layers.Flatten(name="flatten"))
    if network == "figure_9":
        stack.append(layers.Dropout(dropout, name="dropout"))
    stack.append(layers.Dense(n_classes, activation="softmax", kernel_regularizer=penalty, name="dense"))
    inputs = outputs = keras.Input(input_shape, name="slice")
    for layer in stack:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name=network)


def parameter_counts(model):
    """Total and trainable parameters of a model, as the paper's figures print them."""
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return {"total": model.count_params(), "trainable": trainable}


def published_counts(network):
    """The paper's total and trainable parameters of a network (Figure 2 and Figure 9)."""
    return {name: NETWORKS[network][name] for name in ("total", "trainable")}


def layer_table(model):
    """Layers, output shapes and parameters of a model, as in the paper's Figures 2 and 9.

    Returns
    -------
    pandas.DataFrame
        ``layer``, ``type``, ``output`` (rows, columns, channels), ``parameters``.
    """
    rows = [
        (x.name, type(x).__name__, " × ".join(map(str, x.output.shape[1:])), x.count_params()) for x in model.layers
    ]
    return pd.DataFrame(rows, columns=["layer", "type", "output", "parameters"])


def convolutions(model):
    """Names of the convolution layers of a model, first to last."""
    return [layer.name for layer in model.layers if isinstance(layer, layers.Conv2D)]
