"""SmoothGrad of ensembles: of multi-task networks for one participant, and of the networks of both hemispheres."""

import functools
from types import SimpleNamespace

import numpy as np
from scipy import ndimage

from tle_utils.imaging import slices
from tle_utils.models import hemispheres, multitask
from tle_utils.models.networks import keras, tf
from tle_utils.models.settings import HEADS
from tle_utils.saliency import attribution


def _weighted(folds):
    """Every network of some folds, what turns slices into its input, and its share in the answer."""
    for stored in folds:
        members = multitask.load_networks(stored)
        for votes, voters in zip(stored["vote"], members, strict=True):
            for vote, (network, inputs) in zip(votes, voters, strict=True):
                yield network, inputs, vote / len(members) / len(folds)


def ensemble_maps(folds, x):
    """SmoothGrad of the networks for one participant, summed over slices and averaged over the ensemble.

    The reference is the mean control of each network's training part where it standardises, else an empty slice.
    `folds` are arrays of trained folds (`multitask.train_multitask`), `x` the participant's slices, shape
    (1, rows, columns, slices), see `slices.pooled`.

    Returns
    -------
    dict of str to numpy.ndarray
        Head (``patient``: rather than control; ``left``: rather than right) to signed map, shape (160, 160), in the
        layout of `slices.load_slices`.
    """
    explainer, total, weights = None, 0, np.eye(len(HEADS), dtype=np.float32)
    for network, inputs, share in _weighted(folds):
        own = np.repeat(np.asarray(inputs(x), np.float32), len(weights), axis=0)
        heads = [network.get_layer(name) for name in HEADS]
        if explainer is None:  # both heads in one dense layer; compiled once, the other networks lend their weights
            shared, both = network, keras.layers.Dense(len(heads))
            model = keras.Model(network.inputs, both(heads[0].input))
            explainer = attribution.Explainer(model, np.zeros_like(own[0]))
        shared.set_weights(network.get_weights())
        both.set_weights(
            [np.concatenate(w, axis=-1) for w in zip(*(head.get_weights() for head in heads), strict=True)]
        )
        total = total + share * attribution.smoothgrad(explainer, own, weights)
    blurred = [ndimage.gaussian_filter(slices.unpooled(part), slices.SQUARE_MM) for part in total]  # a square is noise
    return dict(zip(HEADS, blurred, strict=True))


def _gradient(network, z, head):
    """Gradient of a head's logit by the z-scores, which have one channel."""
    z = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        logit = network(z[..., 0])[head]
    return tape.gradient(logit, z).numpy()


def hemisphere_maps(folds, x):
    """SmoothGrad of the networks of both hemispheres, averaged over `folds`.

    The reference is the mean of both sides of the training controls. The maps of a participant whom a fold did not
    learn from come from that fold alone: ``[read_arrays(crossval.fold_path(folder, fold))]`` with ``x[fold.test]``.

    Parameters
    ----------
    folds : sequence of dict
        Arrays of trained folds (`hemispheres.train_hemispheres`).
    x : numpy.ndarray
        From `hemispheres.load_hemispheres`, shape (n, 2, blocks, 8).

    Returns
    -------
    list of dict of str to numpy.ndarray
        For each participant: head (``patient``: rather than control; ``left``: rather than right) to signed map on the
        template grid, smoothed as far as a block reaches; `slices.slices_of` cuts it.
    """
    total = {head: np.zeros_like(x) for head in HEADS}
    for stored in folds:
        network, z = hemispheres.load_network(stored), hemispheres.hemisphere_inputs(x, stored)
        for head in HEADS:
            explainer = SimpleNamespace(reference=0, gradient=functools.partial(_gradient, network))
            total[head] += attribution.smoothgrad(explainer, z[..., None], head) / len(folds)
    edge = hemispheres.VOXEL_MM * hemispheres.ALONG / 2
    return [
        {head: ndimage.gaussian_filter(hemispheres.on_grid(part[number]), edge) for head, part in total.items()}
        for number in range(len(x))
    ]
