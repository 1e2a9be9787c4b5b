"""Which places of the input speak for a network's answer: five methods, computed in batches.

tf-keras-vis has Grad-CAM, Grad-CAM++ and SmoothGrad too, and the tests hold these against it. It runs the network
once for every layer and sample and stretches maps corner to corner, which moves a coarse map by several mm; here one
pass serves all layers, and a map keeps its place.

A lesion is grey matter that is *missing*: where there is nothing, a method that asks which tissue speaks for a class
finds the intact side. So the methods that look at the input ask what the *deviation from a reference* (the mean
training control of the fold) contributes, and their maps are signed: positive where the deviation speaks for the
explained score, negative where it speaks against it.
"""

import itertools

import numpy as np
from scipy import ndimage

from tle_utils.models import networks
from tle_utils.models.networks import keras, tf

CAM_METHODS = ("gradcam", "gradcam++")
INPUT = "input"
"""Name that stands in place of a layer for the methods that look at the input."""

DEFAULT = ("smoothgrad", INPUT)
"""Method and layer of the map that stands for all: the one that was accurate in 45,000 scans (arXiv:2508.02560)."""

TARGETS = ("contrast", "class")
BATCH = 16
SMOOTH_SAMPLES, SMOOTH_NOISE = 8, 0.2
PATH_STEPS = 16
BLUR_MM = 3
PATCH_MM = 13


def target_weights(codes, classes, target):
    """Weights of the outputs before softmax in the score to explain: float32, shape (n, classes).

    `codes` are the numbers of the classes to explain. The target ``class`` is the output of the class; ``contrast``
    subtracts its rival: for a side the other side, where both are classes; else the mean of all other classes.
    """
    rows = np.eye(len(classes), dtype=np.float32)
    for code, name in enumerate(classes if target == "contrast" else ()):
        other = {"left": "right", "right": "left"}.get(name)
        rivals = [other] if other in classes else [rival for rival in classes if rival != name]
        rows[code, [classes.index(rival) for rival in rivals]] = -1 / len(rivals)
    return rows[np.asarray(codes, int)]


def _in_batches(run):
    """Call `run` on `BATCH` participants at a time and join what it returns."""

    def joined(x, weights):
        parts = [run(x[a : a + BATCH], weights[a : a + BATCH]) for a in range(0, len(x), BATCH)]
        return tf.nest.map_structure(lambda *tensors: np.concatenate([t.numpy() for t in tensors]), *parts)

    return joined


class Explainer:
    """Forward and backward passes of one network that ends in a dense layer; later changes of its weights count.

    `reference` stands for normal, float32, shape (rows, columns, channels): what deviations are measured from. `tissue`
    (bool, shape (rows, columns)) is where the training participants have grey matter, for `occlusion`. `score` and
    `gradient` give, of `x` and `weights`, the score (n,) before the activation, and its gradient by `x`.
    """

    def __init__(self, model, reference, tissue=None):
        self.model, self.reference, self.tissue = model, np.asarray(reference, np.float32), tissue
        self.layers = networks.convolutions(model)
        last = model.layers[-1]
        net = keras.Model(model.inputs, [last.input, *(model.get_layer(name).output for name in self.layers)])

        def run(x, weights):
            features, *maps = net(x, training=False)
            return tf.reduce_sum((features @ last.kernel + last.bias) * weights, axis=1), maps

        def score(x, weights):
            return run(x, weights)[0]

        def gradient(x, weights):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = run(x, weights)[0]
            return tape.gradient(value, x)

        def cams(x, weights):
            with tf.GradientTape() as tape:
                value, maps = run(x, weights)
            pairs = list(zip(maps, tape.gradient(value, maps), strict=True))
            found = [tf.nn.relu(method(*pair))[..., None] for method in (_gradcam, _gradcam_pp) for pair in pairs]
            return [tf.image.resize(part, model.input_shape[1:3])[..., 0] for part in found]

        signature = (tf.TensorSpec((None, *model.input_shape[1:])), tf.TensorSpec((None, model.output_shape[-1])))
        self.score, self.gradient, self._cams = (
            _in_batches(tf.function(function, input_signature=signature, autograph=False))
            for function in (score, gradient, cams)
        )

    def cams(self, x, weights):
        """Grad-CAM and Grad-CAM++ of all layers in one pass: dict of (method, layer) to maps, not negative.

        Selvaraju et al. 2017, equations 1 and 2; Chattopadhay et al. 2018, equations 10 and 19, with the weights of a
        feature map's places normalised to sum 1 as in its authors' code.
        """
        kinds = itertools.product(CAM_METHODS, self.layers)
        return dict(zip(kinds, self._cams(x, weights), strict=True))


def _gradcam(maps, gradients):
    return tf.reduce_sum(maps * tf.reduce_mean(gradients, axis=(1, 2), keepdims=True), axis=-1)


def _gradcam_pp(maps, gradients):
    total = tf.reduce_sum(maps, axis=(1, 2), keepdims=True)
    places = tf.math.divide_no_nan(gradients**2, 2 * gradients**2 + gradients**3 * total)
    places = tf.math.divide_no_nan(places, tf.reduce_sum(places, axis=(1, 2), keepdims=True))
    return tf.reduce_sum(maps * tf.reduce_sum(places * tf.nn.relu(gradients), axis=(1, 2), keepdims=True), axis=-1)


def _times_deviation(explainer, x, weights, points, count):
    """Mean gradient at `count` points, times the deviation from the reference, summed over channels."""
    total = sum(explainer.gradient(point, weights) for point in points)
    return ((x - explainer.reference) * total / count).sum(axis=-1)


def smoothgrad(explainer, x, weights):
    """Gradient averaged over noisy copies (Smilkov et al. 2017), times the deviation.

    A participant's noise does not depend on who else is in `x`.
    """
    rng = np.random.default_rng(0)
    spread = SMOOTH_NOISE * np.ptp(x, axis=(1, 2, 3), keepdims=True)
    points = (x + spread * rng.standard_normal(x.shape[1:], np.float32) for _ in range(SMOOTH_SAMPLES))
    return _times_deviation(explainer, x, weights, points, SMOOTH_SAMPLES)


def integrated_gradients(explainer, x, weights):
    """Share of every place in the score's difference from the reference's (Sundararajan et al. 2017, equation 1).

    The path is cut into `PATH_STEPS` pieces; the gradient is taken in the middle of each.
    The map sums to the score of the input less that of the reference, but for the error of the steps.
    """
    start = explainer.reference
    points = (start + (step + 0.5) / PATH_STEPS * (x - start) for step in range(PATH_STEPS))
    return _times_deviation(explainer, x, weights, points, PATH_STEPS)


def occlusion(explainer, x, weights):
    """How far the score falls when a square patch is replaced by the reference (after Zeiler and Fergus 2014).

    Patches of `PATCH_MM` side by side, one of them centred on the midline (column x = 0), so that both sides are
    cut alike. Only patches that meet the explainer's `tissue` are tried.
    """
    rows, columns = x.shape[1:3]
    patches = [(slice(*r), slice(*c)) for r in _pieces(rows) for c in _pieces(columns)]
    patches = [patch for patch in patches if explainer.tissue[patch].any()]
    drop = np.zeros(x.shape[:3], np.float32)
    for person, image in enumerate(x):
        copies = np.repeat(image[None], len(patches), axis=0)
        for copy, patch in zip(copies, patches, strict=True):
            copy[patch] = explainer.reference[patch]
        own = weights[person][None]
        full = explainer.score(image[None], own)
        for patch, value in zip(patches, explainer.score(copies, np.repeat(own, len(copies), axis=0)), strict=True):
            drop[person][patch] = full - value
    return drop


def _pieces(length):
    """Start and end of the patches along an axis whose middle is ``length // 2``."""
    first = (length // 2 - PATCH_MM // 2) % PATCH_MM
    edges = [0] * (first > 0) + [*range(first, length, PATCH_MM), length]
    return list(zip(edges[:-1], edges[1:], strict=True))


INPUT_METHODS = {"smoothgrad": smoothgrad, "integrated_gradients": integrated_gradients, "occlusion": occlusion}
METHODS = (*CAM_METHODS, *INPUT_METHODS)


def blurred(maps):
    """Maps under a Gaussian of standard deviation `BLUR_MM`: the sign of a single voxel is noise."""
    return ndimage.gaussian_filter(maps, (0, BLUR_MM, BLUR_MM))


def explain(explainer, x, weights, methods):
    """Maps of several methods: dict of (method, layer) to maps, scaled so that the greatest absolute value is 1.

    What is all zero stays zero. Maps of SmoothGrad and integrated gradients are `blurred`.
    """
    x = np.asarray(x, np.float32)
    result = explainer.cams(x, weights) if set(methods) & set(CAM_METHODS) else {}
    result = {kind: maps for kind, maps in result.items() if kind[0] in methods}
    for method in [name for name in INPUT_METHODS if name in methods]:
        maps = INPUT_METHODS[method](explainer, x, weights)
        result[method, INPUT] = maps if method == "occlusion" else blurred(maps)
    for kind, maps in result.items():
        greatest = np.abs(maps).max(axis=(1, 2), keepdims=True)
        result[kind] = np.divide(maps, greatest, out=np.zeros_like(maps), where=greatest > 0)
    return result
