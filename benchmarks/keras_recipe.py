"""The plain Keras loop that cross-validation is compared with: a fresh ``model.fit`` of the 3-layer CNN per fold.

Run as a script; it needs keras, TensorFlow and numpy and nothing else of this package::

    python keras_recipe.py 25 fold-00.npz fold-01.npz

The arguments are epochs and the files of `benchmarks.training`. The last line of stdout is JSON: ``seconds``
(of the loop, imports not counted) and ``p_test`` (for each fold the probabilities of its test part).
"""

import json
import sys
import time

import keras
import numpy as np
from keras import layers


def build(side, n_classes, noise):
    """Figure 2's net from layers as Keras ships them, with the initial values of `tle_utils.models.networks.build`."""
    net = keras.Sequential([keras.Input((side, side, 1)), layers.GaussianNoise(noise)])
    for number, filters in enumerate((8, 16, 32)):
        net.add(layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_uniform"))
        net.add(layers.BatchNormalization(momentum=0.9))
        if number < 2:
            net.add(layers.MaxPooling2D())
    net.add(layers.Flatten())
    net.add(layers.Rescaling(net.output_shape[-1] ** -0.5))
    net.add(layers.Dense(n_classes, activation="softmax", kernel_initializer="zeros"))
    return net


def train(fold, epochs):
    """Train on a fold, keep the weights of the epoch with the lowest validation loss and predict its test part.

    Parameters
    ----------
    fold : mapping of str to numpy.ndarray
        Content of a file.
    epochs : int
        How many.

    Returns
    -------
    numpy.ndarray
        Probabilities, shape (participants, classes).
    """
    net = build(fold["seen"].shape[1], int(fold["n_classes"]), float(fold["noise"]))
    net.compile(
        keras.optimizers.Adam(float(fold["learning_rate"])),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    net.fit(
        fold["seen"],
        fold["seen_codes"],
        validation_data=(fold["held"], fold["held_codes"]),
        epochs=epochs,
        batch_size=int(fold["batch_size"]),
        callbacks=[keras.callbacks.EarlyStopping(patience=epochs, restore_best_weights=True)],
        verbose=0,
    )
    return net.predict(fold["test"], verbose=0)


def main(epochs, *paths):
    """Train on every file in turn and print the JSON line."""
    keras.utils.set_random_seed(0)
    folds = []
    for path in paths:
        with np.load(path) as file:
            folds.append(dict(file))
    start = time.monotonic()
    predicted = [train(fold, int(epochs)).tolist() for fold in folds]
    print(json.dumps({"seconds": time.monotonic() - start, "p_test": predicted}))


if __name__ == "__main__":
    main(*sys.argv[1:])
