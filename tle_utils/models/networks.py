"""The paper's two networks, layer by layer, with their published parameter counts."""

import contextlib
import logging
import math
import os
import random

import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.models.settings import NETWORKS, published_counts  # noqa: F401


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
    import tensorflow as tf
    from keras import layers

    keras.distribution.list_devices()
logging.getLogger("tensorflow").setLevel(logging.ERROR)


class BatchNormalization(layers.BatchNormalization):
    """Keras' layer, whose pass in training is TensorFlow's one operation in place of a dozen: half the time a step.

    Over all axes but the channels, with scale and offset, unmasked; the same values but for rounding.
    """

    def call(self, inputs, training=False, mask=None):
        """Normalise by the batch and move the averages along in training; by the averages otherwise."""
        if not training or not self.trainable:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
        )
        values = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), variance.dtype)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance * (1 - 1 / values))):
            average.assign(average * self.momentum + value * (1 - self.momentum))
        return outputs


def seeds(seed):
    """Function that gives a new seed at each call: those that Keras would draw after ``set_random_seed(seed)``.

    Keras draws them from Python's generator, which the other threads of a Dask worker use too. For None it gives None,
    and Keras draws.
    """
    own = random.Random(seed)
    return lambda: None if seed is None else own.randint(1, int(1e9))


def block(inputs, number, filters, penalty, seed=None):
    """A 3 x 3 convolution with ReLU and its batch normalisation.

    Parameters
    ----------
    inputs : keras.KerasTensor
        Shape (rows, columns, channels).
    number : int
        Of the convolution, from 1; for the names of the layers.
    filters : int
        Channels of the output.
    penalty : keras.regularizers.Regularizer or None
        Of the kernel.
    seed : int, optional
        Of the kernel.

    Returns
    -------
    keras.KerasTensor
    """
    convolution = layers.Conv2D(
        filters,
        3,
        padding="same",
        activation="relu",
        kernel_initializer=keras.initializers.HeUniform(seed),
        kernel_regularizer=penalty,
        name=f"conv_{number}",
    )
    return BatchNormalization(momentum=0.9, name=f"BN_{number}")(convolution(inputs))


def build(network, n_classes, *, input_shape=(160, 160, 1), l2=0.0, dropout=0.0, noise=0.0, scaled=False, seed=None):
    """Build a network of the paper.

    Every convolution is 3 x 3 with ReLU and followed by batch normalisation; all but the last are followed by
    2 x 2 maximum pooling; a softmax layer ends it (Figure 2 and Figure 9).

    Parameters
    ----------
    network : {"figure_2", "figure_9", "figure_9_pooled_twice"}
        The replication net, the deep net, or the deep net whose softmax layer reads as much as the replication net's.
    n_classes : int
        Outputs of the softmax layer.
    input_shape : tuple of int
        Rows, columns and slices of the input.
    l2 : float
        Weight of the squared-norm penalty on every convolution and on the dense layer.
    dropout : float
        Share of the flattened features dropped in training.
    noise : float
        Standard deviation of the Gaussian noise added to the input in training; 0 leaves the layer out.
    scaled : bool
        Multiply the flattened features by 1 / sqrt(number of features). The layer has no parameters. Without it one
        step of Adam moves all of up to 51 200 weights of the softmax layer by the learning rate at once, and the
        network overfits in the first epoch.
    seed : int, optional
        Of weights, noise and dropout; without it they depend on ``keras.utils.set_random_seed``.

    Returns
    -------
    keras.Model
        Not compiled.

    Raises
    ------
    TLEError
        When the network is not known.
    """
    if network not in NETWORKS:
        raise TLEError(f"network '{network}' is not known: choose one of {', '.join(NETWORKS)}")
    plan = NETWORKS[network]
    penalty, draw = keras.regularizers.L2(l2) if l2 else None, seeds(seed)
    inputs = outputs = keras.Input(input_shape, name="slice")
    if noise:
        outputs = layers.GaussianNoise(noise, seed=draw(), name="noise")(outputs)
    for number, filters in enumerate(plan["filters"], start=1):
        outputs = block(outputs, number, filters, penalty, draw())
        if number <= plan["pooled"]:
            outputs = layers.MaxPooling2D(name=f"pool_{number}")(outputs)
    outputs = layers.Flatten(name="flatten")(outputs)
    if dropout or network == "figure_9":
        outputs = layers.Dropout(dropout, seed=draw(), name="dropout")(outputs)
    if scaled:
        outputs = layers.Rescaling(outputs.shape[-1] ** -0.5, name="scale")(outputs)
    softmax = layers.Dense(
        n_classes, activation="softmax", kernel_initializer="zeros", kernel_regularizer=penalty, name="dense"
    )
    outputs = softmax(outputs)
    return keras.Model(inputs, outputs, name=network)


def start_anew(compiled, make, seed):
    """Put a compiled network back to the start of training: TensorFlow traces its steps once a process, not once a fit.

    Parameters
    ----------
    compiled : keras.Model
        Compiled, trained or not.
    make : callable
        Takes ``seed``, returns the same network anew, not compiled.
    seed : int
        Seed of weights, shuffles, noise and dropout.

    Returns
    -------
    keras.Model
        `compiled` with the weights and random states of a new network and an optimizer that has made no step.
    """
    keras.utils.set_random_seed(seed)
    fresh = make(seed=seed)
    rate = compiled.optimizer.learning_rate
    compiled.optimizer.build(compiled.trainable_variables)
    for variable in compiled.optimizer.variables:
        if variable is not rate:
            variable.assign(keras.ops.zeros_like(variable))
    for variable, first in zip(compiled.variables, fresh.variables, strict=True):
        variable.assign(first)
    return compiled


def parameter_counts(model):
    """Total and trainable parameters of a model, as the paper's figures print them."""
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return {"total": model.count_params(), "trainable": trainable}


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
