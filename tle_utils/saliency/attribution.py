"""Which places of the input speak for a network's answer: five methods, computed in batches.

tf-keras-vis has Grad-CAM, Grad-CAM++ and SmoothGrad too, and the tests hold these against it. It runs the network
once for every layer and sample and stretches maps corner to corner, which moves a coarse map by several mm; here one
pass serves all layers, and a map keeps its place.

A lesion is grey matter that is *missing*: where there is nothing, a method that asks which tissue speaks for a class
finds the intact side. So the methods that look at the input ask what the *deviation from a reference* (the mean
training control of the fold) contributes, and their maps are signed: positive where the deviation speaks for the
explained score, negative where it speaks against it.
"""

import numpy as np
from scipy import ndimage

from tle_utils.base.errors import TLEError
from tle_utils.models import networks
from tle_utils.models.networks import keras, tf

CAM_METHODS = ("gradcam", "gradcam++")
INPUT_METHODS = ("smoothgrad", "integrated_gradients", "occlusion")
METHODS = CAM_METHODS + INPUT_METHODS
INPUT = "input"
"""Name that stands in place of a layer for the methods that look at the input."""

TARGETS = ("contrast", "class")
BATCH = 16
SMOOTH_SAMPLES, SMOOTH_NOISE = 8, 0.2
PATH_STEPS = 16
BLUR_MM = 3
"""Standard deviation of the Gaussian that is laid over the voxel-wise maps of the gradient methods."""
PATCH_MM = 13


def check_methods(methods):
    """Refuse methods that are not known.

    Raises
    ------
    TLEError
        Names the first unknown method.
    """
    for method in methods:
        if method not in METHODS:
            raise TLEError(f"method '{method}' is not known: choose from {', '.join(METHODS)}")


def check_layers(model, layers):
    """Refuse a network without convolutions and layers that are no convolutions of it.

    Raises
    ------
    TLEError
        Names the network or the first such layer.
    """
    known = networks.convolutions(model)
    if not known:
        raise TLEError(f"network '{model.name}' has no convolution: choose a convolutional network")
    for layer in layers:
        if layer not in known:
            raise TLEError(f"layer '{layer}' is not a convolution of {model.name}: choose from {', '.join(known)}")


def target_weights(codes, classes, target="contrast"):
    """Weights of the outputs before softmax in the score to explain.

    Parameters
    ----------
    codes : sequence of int
        Number of the class to explain, one a participant.
    classes : sequence of str
        Classes in the order of the outputs.
    target : {"contrast", "class"}
        ``class`` is the output of the class. ``contrast`` subtracts its rival: for a side the other side, where both
        are classes; else the mean of all other classes.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, classes).

    Raises
    ------
    TLEError
        When the target is not known.
    """
    if target not in TARGETS:
        raise TLEError(f"target '{target}' is not known: choose from {', '.join(TARGETS)}")
    rows = np.eye(len(classes), dtype=np.float32)
    if target == "contrast":
        for code, name in enumerate(classes):
            sides = {"left", "right"} - {name}
            rivals = sides if len(sides) == 1 and sides <= set(classes) else set(classes) - {name}
            for rival in rivals:
                rows[code, list(classes).index(rival)] = -1 / len(rivals)
    return rows[np.asarray(codes, int)]


class Explainer:
    """Forward and backward passes of one network, compiled once; later changes of its weights count.

    Parameters
    ----------
    model : keras.Model
        Network with convolutions that ends in a dense layer; the score is taken before its activation.
    layers : sequence of str, optional
        Convolutions for Grad-CAM and Grad-CAM++; all by default.

    Raises
    ------
    TLEError
        When the model has no convolution, or none of a given name.
    """

    def __init__(self, model, layers=None):
        check_layers(model, layers or ())
        self.layers = list(layers or networks.convolutions(model))
        self.size = model.input_shape[1:3]
        last = model.layers[-1]
        net = keras.Model(model.inputs, [last.input, *(model.get_layer(name).output for name in self.layers)])
        signature = (tf.TensorSpec((None, *model.input_shape[1:])), tf.TensorSpec((None, model.output_shape[-1])))

        def run(x, weights):
            features, *maps = net(x, training=False)
            return tf.reduce_sum((features @ last.kernel + last.bias) * weights, axis=1), maps

        @tf.function(input_signature=signature, autograph=False)
        def score(x, weights):
            return run(x, weights)[0]

        @tf.function(input_signature=signature, autograph=False)
        def gradient(x, weights):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = run(x, weights)[0]
            return tape.gradient(value, x)

        @tf.function(input_signature=signature, autograph=False)
        def cams(x, weights):
            with tf.GradientTape() as tape:
                value, maps = run(x, weights)
            pairs = list(zip(maps, tape.gradient(value, maps), strict=True))
            return [self._enlarge(_gradcam(*pair)) for pair in pairs], [self._enlarge(_gradcam_pp(*p)) for p in pairs]

        self.score, self._gradient, self._cams = score, gradient, cams

    def _enlarge(self, maps):
        return tf.image.resize(tf.nn.relu(maps)[..., None], self.size)[..., 0]

    def cams(self, x, weights):
        """Grad-CAM and Grad-CAM++ of all layers in one pass.

        Parameters
        ----------
        x : numpy.ndarray
            Input, shape (n, rows, columns, channels).
        weights : numpy.ndarray
            From `target_weights`.

        Returns
        -------
        dict of (str, str) to numpy.ndarray
            (method, layer) to maps, float32, shape (n, rows, columns), not negative.

        References
        ----------
        Selvaraju et al. 2017, equations 1 and 2; Chattopadhay et al. 2018, equations 10 and 19, with the weights
        of a feature map's places normalised to sum 1 as in its authors' code.
        """
        parts = [self._cams(x[a : a + BATCH], weights[a : a + BATCH]) for a in range(0, len(x), BATCH)]
        return {
            (method, layer): np.concatenate([part[i][j].numpy() for part in parts])
            for i, method in enumerate(CAM_METHODS)
            for j, layer in enumerate(self.layers)
        }

    def gradient(self, x, weights):
        """Gradient of the score by the input; shapes as in `cams`, result like `x`."""
        parts = [self._gradient(x[a : a + BATCH], weights[a : a + BATCH]) for a in range(0, len(x), BATCH)]
        return np.concatenate([part.numpy() for part in parts])


def _gradcam(maps, gradients):
    return tf.reduce_sum(maps * tf.reduce_mean(gradients, axis=(1, 2), keepdims=True), axis=-1)


def _gradcam_pp(maps, gradients):
    total = tf.reduce_sum(maps, axis=(1, 2), keepdims=True)
    places = tf.math.divide_no_nan(gradients**2, 2 * gradients**2 + gradients**3 * total)
    places = tf.math.divide_no_nan(places, tf.reduce_sum(places, axis=(1, 2), keepdims=True))
    return tf.reduce_sum(maps * tf.reduce_sum(places * tf.nn.relu(gradients), axis=(1, 2), keepdims=True), axis=-1)


def smoothgrad(explainer, x, weights, reference, *, seed=0):
    """Gradient averaged over noisy copies (Smilkov et al. 2017), times the deviation from the reference.

    Parameters
    ----------
    explainer : Explainer
        The network.
    x : numpy.ndarray
        Input, shape (n, rows, columns, channels).
    weights : numpy.ndarray
        From `target_weights`.
    reference : numpy.ndarray
        Input that stands for normal, shape (rows, columns, channels).
    seed : int
        Seed of the noise; a participant's noise does not depend on who else is in `x`.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, rows, columns), signed, summed over channels.
    """
    rng = np.random.default_rng(seed)
    spread = SMOOTH_NOISE * np.ptp(x, axis=(1, 2, 3), keepdims=True)
    total = np.zeros_like(x)
    for _ in range(SMOOTH_SAMPLES):
        noise = rng.standard_normal(x.shape[1:], np.float32)
        total += explainer.gradient(x + spread * noise, weights)
    return ((x - reference) * total / SMOOTH_SAMPLES).sum(axis=-1)


def integrated_gradients(explainer, x, weights, reference):
    """Share of every place in the score's difference from the reference's (Sundararajan et al. 2017, equation 1).

    The path is cut into `PATH_STEPS` pieces; the gradient is taken in the middle of each.
    The map sums to the score of the input less that of the reference, but for the error of the steps.

    Parameters and result are those of `smoothgrad`.
    """
    total = np.zeros_like(x)
    for step in range(PATH_STEPS):
        total += explainer.gradient(reference + (step + 0.5) / PATH_STEPS * (x - reference), weights)
    return ((x - reference) * total / PATH_STEPS).sum(axis=-1)


def occlusion(explainer, x, weights, reference, tissue):
    """How far the score falls when a square patch is replaced by the reference (after Zeiler and Fergus 2014).

    Patches of `PATCH_MM` side by side, one of them centred on the midline (column x = 0), so that both sides are
    cut alike. Only patches that meet `tissue` (bool, shape (rows, columns)) are tried.

    Other parameters and the result are those of `smoothgrad`.
    """
    rows, columns = explainer.size
    patches = [(slice(*r), slice(*c)) for r in _pieces(rows) for c in _pieces(columns)]
    patches = [patch for patch in patches if tissue[patch].any()]
    drop = np.zeros(x.shape[:3], np.float32)
    for person, image in enumerate(x):
        copies = np.repeat(image[None], len(patches), axis=0)
        for copy, patch in zip(copies, patches, strict=True):
            copy[patch] = reference[patch]
        own = np.repeat(weights[person][None], len(copies), axis=0)
        full = explainer.score(image[None], own[:1]).numpy()
        scores = [explainer.score(copies[a : a + BATCH], own[a : a + BATCH]) for a in range(0, len(copies), BATCH)]
        for patch, value in zip(patches, np.concatenate(scores), strict=True):
            drop[person][patch] = full - value
    return drop


def _pieces(length):
    """Start and end of the patches along an axis whose middle is ``length // 2``."""
    first = (length // 2 - PATCH_MM // 2) % PATCH_MM
    edges = [0] * (first > 0) + [*range(first, length, PATCH_MM), length]
    return list(zip(edges[:-1], edges[1:], strict=True))


def explain(explainer, x, weights, reference, methods, tissue):
    """Maps of several methods.

    Parameters
    ----------
    explainer, x, weights, reference
        As in `smoothgrad`.
    methods : sequence of str
        From `METHODS`.
    tissue : numpy.ndarray
        As in `occlusion`.

    Returns
    -------
    dict of (str, str) to numpy.ndarray
        (method, layer) to maps, float32, shape (n, rows, columns), each scaled so that its greatest absolute value
        is 1 (all zero stays zero); the layer of a method that looks at the input is `INPUT`. Maps of SmoothGrad and
        integrated gradients are blurred by `BLUR_MM`: the sign of a single voxel is noise.

    Raises
    ------
    TLEError
        When a method is not known.
    """
    check_methods(methods)
    x, reference = np.asarray(x, np.float32), np.asarray(reference, np.float32)
    result = {}
    if set(methods) & set(CAM_METHODS):
        result = {key: maps for key, maps in explainer.cams(x, weights).items() if key[0] in methods}
    if "smoothgrad" in methods:
        result["smoothgrad", INPUT] = _blurred(smoothgrad(explainer, x, weights, reference))
    if "integrated_gradients" in methods:
        result["integrated_gradients", INPUT] = _blurred(integrated_gradients(explainer, x, weights, reference))
    if "occlusion" in methods:
        result["occlusion", INPUT] = occlusion(explainer, x, weights, reference, tissue)
    return {key: _scaled(maps) for key, maps in result.items()}


def _blurred(maps):
    return ndimage.gaussian_filter(maps, (0, BLUR_MM, BLUR_MM))


def _scaled(maps):
    greatest = np.abs(maps).max(axis=(1, 2), keepdims=True)
    return np.divide(maps, greatest, out=np.zeros_like(maps), where=greatest > 0)
