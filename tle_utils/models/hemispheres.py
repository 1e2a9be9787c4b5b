"""A network that is antisymmetric by construction: both hemispheres, one trunk, means over atlas regions, an odd side.

Swap the hemispheres of any input, and the logit of the side changes its sign exactly, while that of being a patient
stays, whatever the weights are. What the anatomy adds is a prior: what the trunk says of a place is averaged over the
regions of the Desikan-Killiany atlas, which are not learned.
"""

import functools

import numpy as np
from scipy.special import expit
from sklearn.covariance import LedoitWolf

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import atlas, images, slices
from tle_utils.models.multitask import joint, targets
from tle_utils.models.networks import keras, layers
from tle_utils.models.predictions import CLASSES
from tle_utils.models.settings import HEADS, HemisphereOptions
from tle_utils.models.training import fit, weights_of, with_weights

VOXEL_MM = 3  # edge of a voxel of the input
ALONG = 2
"""Voxels along the edge of a block."""
MIDDLE = round(-atlas.AFFINE[0, 3])
"""Index of x = 0 mm: before it lies the left hemisphere."""


def _blocks(half):
    """Means over voxels of the left half of an array on the template grid, shape (blocks, 8)."""
    edge = VOXEL_MM * ALONG
    x, y, z = (length // edge for length in half.shape)
    half = half[-x * edge :, : y * edge, : z * edge]
    for axis, length in enumerate(half.shape):
        half = np.add.reduceat(half, np.arange(0, length, VOXEL_MM), axis=axis, dtype=np.float32)
    blocks = half.reshape(x, ALONG, y, ALONG, z, ALONG).transpose(0, 2, 4, 1, 3, 5)
    return blocks.reshape(x * y * z, ALONG**3) / VOXEL_MM**3


@functools.cache
def anatomy():
    """Where the input lies: which blocks of a hemisphere are used, and how much of each voxel belongs to each region.

    Returns
    -------
    used : numpy.ndarray
        bool, shape (all blocks of a hemisphere,): blocks with a region in them.
    share : numpy.ndarray
        float32, shape (blocks, 8, regions), 0 to 1.
    """
    labels, table = atlas.regions()
    half = labels[:MIDDLE]
    left = table.loc[table["hemisphere"] == "left", "label"]
    share = np.stack([_blocks(half == label) for label in left], axis=-1)
    used = share.any(axis=(1, 2))
    return used, share[used]


def on_grid(values):
    """Values of a participant's voxels, shape (2, blocks, 8), on the template grid: float32, 0 where the input is not.

    Both hemispheres lie where they are in the world: the second one is mirrored back.
    """
    volume, edge = np.zeros(atlas.SHAPE, np.float32), VOXEL_MM * ALONG
    x, y, z = (length // edge for length in (MIDDLE, *atlas.SHAPE[1:]))
    for half, side in zip((volume, volume[::-1]), values, strict=True):
        blocks = np.zeros((x * y * z, ALONG**3), np.float32)
        blocks[anatomy()[0]] = side
        voxels = blocks.reshape(x, y, z, ALONG, ALONG, ALONG).transpose(0, 3, 1, 4, 2, 5)
        place = half[MIDDLE - x * edge : MIDDLE, : y * edge, : z * edge]
        place[:] = np.kron(voxels.reshape(x * ALONG, y * ALONG, z * ALONG), np.ones((VOXEL_MM,) * 3, np.float32))
    return volume


def _hemispheres(path):
    values = np.asarray(images.template_map(path).dataobj, np.float32)
    both = np.stack([_blocks(side[:MIDDLE])[anatomy()[0]] for side in (values, values[::-1])])
    mean = both.mean()
    if not mean > 0:
        raise TLEError(f"{path}: no grey matter, or NaN, in the atlas regions: check the scan and its report")
    return both / mean


def load_hemispheres(paths, workers=1):
    """Input of the network: the left hemisphere and the mirrored right one of every map of `paths`, over their mean.

    A map is averaged over voxels of `VOXEL_MM`, of which eight make a block.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, 2, blocks, 8): participant; left, right; blocks as in `anatomy`. ``x[:, ::-1]`` is the mirror
        image. World coordinates say which side is left.

    Raises
    ------
    TLEError
        A map lies on another grid, or has no grey matter or NaN in the atlas regions.
    """
    return np.stack(run_parallel(_hemispheres, list(paths), label="hemispheres", workers=workers))


class Hemispheres(keras.Model):
    """From z-scores, shape (n, 2, blocks, 8), to the logits ``patient`` and ``left``, each of shape (n, 1).

    The trunk reads one block of one hemisphere at a time, a convolution with a stride of its own size, and adds to the
    block what it finds there. Means over regions are compared between the hemispheres: their difference d is odd, their
    sum s even. With what is trained, w, u and b,

        log p(left) / p(control) = b + u s + w d, and with - w d for the right side.

    So the logit of the left side is 2 w d, and that of a patient b + u s + log 2 cosh(w d).

    Parameters
    ----------
    settings : settings.HemisphereOptions
        Filters of the trunk, and the penalty on w and u.
    pool : numpy.ndarray
        Shape (blocks * 8, regions): what a z-score adds to the mean of a region.
    apart, together : numpy.ndarray
        Shape (regions, regions): make the differences, and the sums, uncorrelated.
    seed : int, optional
        Of the weights at the start.
    """

    def __init__(self, settings, pool, apart, together, seed=None):
        super().__init__()
        self.pool, self.apart, self.together = pool, apart, together
        self.pool_blocks = pool.reshape(-1, ALONG**3, pool.shape[-1]).sum(axis=1)
        self.trunk, how = None, {"kernel_initializer": "zeros"}
        if settings.filters:
            start = keras.initializers.RandomNormal(0, 0.2, seed)
            filters = layers.Dense(settings.filters, "tanh", kernel_initializer=start)
            self.trunk = keras.Sequential([filters, layers.Dense(1, use_bias=False, **how)])
        how["kernel_regularizer"] = keras.regularizers.L2(settings.l2)
        self.odd, self.even = layers.Dense(1, use_bias=False, **how), layers.Dense(1, **how)

    def call(self, z):
        """Logits of both heads (dict of tensors, shape (n, 1)); positive is patient, and left."""
        regions = keras.ops.reshape(z, (-1, 2, len(self.pool))) @ self.pool
        if self.trunk:
            regions += keras.ops.squeeze(self.trunk(z), -1) @ self.pool_blocks
        odd = self.odd((regions[:, 0] - regions[:, 1]) @ self.apart)
        even = self.even((regions[:, 0] + regions[:, 1]) @ self.together)
        return {"patient": keras.ops.logaddexp(even + odd, even - odd), "left": 2 * odd}


def _uncorrelated(values, healthy, sign):
    """Matrix after which regions have variance 1 within classes and no correlation (Ledoit and Wolf 2004).

    `sign`, -1 for the patients to be mirrored, makes the patients of both sides one class.
    """
    ill = values[~healthy] * sign[~healthy, None]
    residual = np.concatenate([values[healthy], ill - ill.mean(axis=0)])
    spread = residual.std(axis=0)
    variance, axes = np.linalg.eigh(LedoitWolf(assume_centered=True).fit(residual / spread).covariance_)
    return (axes / np.sqrt(variance) @ axes.T / spread[:, None]).astype(np.float32)


def _pool(deviation):
    """Weights of voxels' z-scores in the means over regions: float32, shape (blocks * 8, regions)."""
    share = anatomy()[1].reshape(deviation.size, -1)
    return deviation.reshape(-1, 1) * share / share.sum(axis=0)


def train_hemispheres(x, groups, fold, settings, seed):
    """Train the network of one fold; the fold's number is added to `seed`.

    z-scores are those against both sides of the training controls; the validation part says which epoch is kept.

    Returns a dict of arrays: ``options`` (JSON), ``mean``, ``deviation``, ``apart``, ``together``, the weights
    ``w_000`` …, ``p_test`` and ``p_validation`` (participants, classes), ``validation`` (positions), and the curves of
    `training.fit`.

    Raises
    ------
    TLEError
        A class is missing, or the loss is no number.
    """
    absent = set(CLASSES) - set(groups[fold.train])
    if absent:
        raise TLEError(f"hemisphere net: no participant of class '{min(absent)}' to learn from: it needs all three")
    healthy, sign = groups[fold.train] == "control", np.where(groups[fold.train] == "right", -1, 1)
    mean, deviation = slices.voxel_scale(x[fold.train[healthy]].reshape(-1, *x.shape[2:]))
    regions = ((x[fold.train] - mean) / deviation).reshape(len(sign), 2, -1) @ _pool(deviation)
    stored = {
        "options": np.asarray(settings.model_dump_json()),
        "mean": mean,
        "deviation": deviation,
        "apart": _uncorrelated(regions[:, 0] - regions[:, 1], healthy, sign),
        "together": _uncorrelated(regions[:, 0] + regions[:, 1], healthy, np.abs(sign)),
    }
    drawn = int(np.random.default_rng([seed, fold.repeat, fold.fold]).integers(1, 2**31 - 1))
    keras.utils.set_random_seed(drawn)
    model = _network(stored, drawn)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(settings.learning_rate), dict.fromkeys(HEADS, loss), jit_compile=False)
    seen, held = ((hemisphere_inputs(x[rows], stored), *targets(groups[rows])) for rows in fold[2:4])
    stored |= fit(model, seen[0], seen[1], held, settings, sample_weight=seen[2]) | weights_of(model)
    for name, rows in (("p_test", fold.test), ("p_validation", fold.validation)):
        stored[name] = _answers(model, hemisphere_inputs(x[rows], stored))
    return stored | {"validation": fold.validation}


def hemisphere_inputs(x, stored):
    """z-scores that a fold's network reads: `x` from `load_hemispheres`, `stored` from `train_hemispheres`."""
    return (x - stored["mean"]) / stored["deviation"]


def _network(stored, seed=None):
    settings = HemisphereOptions.model_validate_json(str(stored["options"]))
    return Hemispheres(settings, _pool(stored["deviation"]), stored["apart"], stored["together"], seed)


def load_network(stored):
    """The network of a fold (`Hemispheres`) with the weights that were kept, from what `train_hemispheres` returned.

    Its input comes from `hemisphere_inputs`.
    """
    model = _network(stored)
    model(np.zeros((1, 2, *stored["mean"].shape), np.float32))
    return with_weights(model, stored)


def _answers(model, z):
    """Probabilities of control, left and right, float64, shape (n, 3)."""
    heads = model(z)
    patient, left = (expit(np.ravel(heads[name]).astype(float)) for name in HEADS)
    return joint(patient, left)


def predict_hemispheres(stored, x):
    """Probabilities of control, left and right by the network of a fold, shape (n, 3).

    `stored` comes from `train_hemispheres`, `x` from `load_hemispheres`.
    """
    return _answers(load_network(stored), hemisphere_inputs(x, stored))
