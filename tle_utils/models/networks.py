"""The networks, layer by layer: the paper's two with their published parameter counts, and the multi-task network."""

import contextlib
import functools
import logging
import math
import os
import random

import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.models.settings import HEADS, NETWORKS


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
if keras.backend.backend() != "tensorflow":
    raise TLEError(f"keras was loaded with {keras.backend.backend()} before tle_utils: import tle_utils first")
keras.config.set_floatx("float32")  # where it was loaded with the user's settings
keras.config.set_dtype_policy("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")
keras.config.set_max_epochs(None)
keras.config.set_max_steps_per_epoch(None)
logging.getLogger("tensorflow").setLevel(logging.ERROR)


class BatchNormalization(layers.BatchNormalization):
    """Keras' layer, whose pass in training is TensorFlow's one operation in place of a dozen: half the time per step.

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


def build(
    network, n_classes=None, *, input_shape=(160, 160, 1), l2=0.0, dropout=0.0, noise=0.0, scaled=False, seed=None
):
    """Build a network (keras.Model, not compiled).

    Every convolution is 3 x 3 with ReLU and followed by batch normalisation, the first ones also by 2 x 2 maximum
    pooling (`settings.NETWORKS`). A softmax layer ends it (Figure 2 and Figure 9), or the two heads of the multi-task
    network: ``patient`` (probability of being a patient) and ``left`` (of the left side, given a patient).

    Parameters
    ----------
    network : str
        A name of `settings.NETWORKS`.
    n_classes : int, optional
        Outputs of the softmax layer; 1: one number in its place, trained by its squared error. The multi-task network
        has none.
    input_shape : tuple of int
        Rows, columns and channels of the input.
    l2 : float
        Weight of the squared-norm penalty on every convolution and on the dense layers.
    dropout : float
        Share of the flattened features dropped in training.
    noise : float
        Standard deviation of the Gaussian noise added to the input in training; 0 leaves the layer out.
    scaled : bool
        Multiply the flattened features by 1 / sqrt(number of features), as the multi-task network always does. The
        layer has no parameters. Without it one step of Adam moves all of up to 51 200 weights of the softmax layer by
        the learning rate at once, and the network overfits in the first epoch.
    seed : int, optional
        Of weights, noise and dropout: layers get the seeds that Keras would draw after ``set_random_seed(seed)``, from
        a generator of their own, as the other threads of a Dask worker use Python's too. None: Keras draws.
    """
    if network not in NETWORKS:
        raise TLEError(f"network '{network}' is not known: choose one of {', '.join(NETWORKS)}")
    plan, own = NETWORKS[network], random.Random(seed)
    penalty = keras.regularizers.L2(l2) if l2 else None

    def draw():
        return None if seed is None else own.randint(1, int(1e9))

    inputs = outputs = keras.Input(input_shape, name="slice")
    if noise:
        outputs = layers.GaussianNoise(noise, seed=draw(), name="noise")(outputs)
    for number, filters in enumerate(plan["filters"], start=1):
        start = keras.initializers.HeUniform(draw())
        how = {"padding": "same", "activation": "relu", "kernel_initializer": start, "kernel_regularizer": penalty}
        outputs = layers.Conv2D(filters, 3, **how, name=f"conv_{number}")(outputs)
        outputs = BatchNormalization(momentum=0.9, name=f"BN_{number}")(outputs)
        if number <= plan["pooled"]:
            outputs = layers.MaxPooling2D(name=f"pool_{number}")(outputs)
    outputs = layers.Flatten(name="flatten")(outputs)
    if dropout or network in ("figure_9", "multitask"):
        outputs = layers.Dropout(dropout, seed=draw(), name="dropout")(outputs)
    if scaled or network == "multitask":
        outputs = layers.Rescaling(outputs.shape[-1] ** -0.5, name="scale")(outputs)

    def dense(units, activation, name):
        how = {"kernel_initializer": "zeros", "kernel_regularizer": penalty}
        return layers.Dense(units, activation=activation, **how, name=name)(outputs)

    heads = {name: dense(1, "sigmoid", name) for name in plan.get("heads", ())}
    activation = "linear" if n_classes == 1 else "softmax"
    return keras.Model(inputs, heads or dense(n_classes, activation, "dense"), name=network)


@functools.lru_cache(maxsize=8)
def _compiled(network, learning_rate, heads, options):
    model = build(network, **dict(options))
    how = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    if model.output_shape == (None, 1):
        how = {"loss": "mean_squared_error"}
    if heads:
        weights = {name: float(name in heads) for name in HEADS}
        how = {"loss": dict.fromkeys(HEADS, "binary_crossentropy"), "loss_weights": weights}
        if "patient" not in heads:
            for layer in model.layers:
                layer.trainable = layer.name in heads
    model.compile(keras.optimizers.Adam(learning_rate), **how, jit_compile=False)
    return model


def new_network(settings, n_classes, input_shape, seed, heads=()):
    """Network at the start of its training; the next call for the same settings gives the same object again, as new.

    TensorFlow so traces its steps once per process, not once per fit. Of the multi-task network the losses of `heads`
    count; without ``patient`` all but these heads stays as it is.
    """
    options = {"n_classes": n_classes, "input_shape": input_shape}
    options |= settings.model_dump(include={"l2", "dropout", "noise", "scaled"})
    compiled = _compiled(settings.network, settings.learning_rate, heads, tuple(options.items()))
    keras.utils.set_random_seed(seed)
    fresh = build(settings.network, **options, seed=seed)
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
    """Layers of a model as in the paper's Figures 2 and 9 (pandas.DataFrame).

    Columns ``layer``, ``type``, ``output`` (rows, columns, channels), ``parameters``.
    """
    rows = [
        (x.name, type(x).__name__, " × ".join(map(str, x.output.shape[1:])), x.count_params()) for x in model.layers
    ]
    return pd.DataFrame(rows, columns=["layer", "type", "output", "parameters"])


def convolutions(model):
    """Names of the convolution layers of a model, first to last."""
    return [layer.name for layer in model.layers if isinstance(layer, layers.Conv2D)]
