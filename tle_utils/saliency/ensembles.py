"""SmoothGrad of ensembles: of multi-task networks for one participant, and of the networks of both hemispheres."""

import functools
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from tle_utils.base.files import read_arrays
from tle_utils.imaging import atlas, slices
from tle_utils.models import crossval, hemispheres, multitask
from tle_utils.models.networks import keras, tf
from tle_utils.models.predictions import CLASSES
from tle_utils.models.settings import HEADS
from tle_utils.saliency import attribution

EDGE = hemispheres.VOXEL_MM * hemispheres.ALONG / 2  # mm that a map of the hemispheres is smoothed by: half a block


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

    The reference is the mean of both sides of the training controls. `folds` are arrays of trained folds
    (`hemispheres.train_hemispheres`), `x` comes from `hemispheres.load_hemispheres`, shape (n, 2, blocks, 8).

    Returns
    -------
    list of dict of str to numpy.ndarray
        For each participant: head (``patient``: rather than control; ``left``: rather than right) to signed map on the
        template grid, smoothed as far as a block reaches; `slices.slices_of` cuts it.
    """
    total = _hemisphere_values(folds, x)
    return [
        {head: ndimage.gaussian_filter(hemispheres.on_grid(part[number]), EDGE) for head, part in total.items()}
        for number in range(len(x))
    ]


def _hemisphere_values(folds, x):
    """SmoothGrad by voxel, before it is put on the grid: dict of head to array of the shape of `x`."""
    total = {head: np.zeros_like(x) for head in HEADS}
    for stored in folds:
        network, z = hemispheres.load_network(stored), hemispheres.hemisphere_inputs(x, stored)
        for head in HEADS:
            explainer = SimpleNamespace(reference=0, gradient=functools.partial(_gradient, network))
            total[head] += attribution.smoothgrad(explainer, z[..., None], head) / len(folds)
    return total


def _hemisphere_slice(values, y_mm):
    """One slice of what `hemisphere_maps` would make of a participant's values, shape (160, 160)."""
    volume, here = hemispheres.on_grid(values), y_mm - int(atlas.AFFINE[1, 3])
    near = slice(max(0, here - int(4 * EDGE)), here + int(4 * EDGE) + 1)  # as far as the filter reaches
    volume[:, near] = ndimage.gaussian_filter(volume[:, near], EDGE)
    return slices.slices_of(volume, [y_mm])[..., 0]


def explain_hemispheres(x, participants, folds, folder, y_mm, people):
    """SmoothGrad of the networks of both hemispheres for some participants, by the networks that never saw them.

    Explained is the class that the network predicts: a side rather than the other, or control rather than patient.

    `x` comes from `hemispheres.load_hemispheres`, `folder` is where `crossval.cross_validate` kept the folds; in every
    fold the first `people` of each class are taken, and the slice lies at MNI y coordinate `y_mm` in mm.

    Returns
    -------
    rows : pandas.DataFrame
        As `maps.Maps.rows`.
    images : dict of str to numpy.ndarray
        ``smoothgrad``, and ``deviation``, how far the input lies below the training controls' mean, which needs no
        network: shape (rows, 160, 160).
    volumes : dict of str to nibabel.Nifti1Image
        True side to its patients' mean SmoothGrad, positive part, on the template grid, greatest value 1.
    """
    groups, rows, values = participants["group"].to_numpy(object), [], {"smoothgrad": [], "deviation": []}
    for fold in folds:
        stored = read_arrays(crossval.fold_path(folder, fold))
        told = np.array(CLASSES, object)[stored["p_test"].argmax(axis=1)]
        some = np.concatenate([np.flatnonzero(groups[fold.test] == name)[:people] for name in CLASSES])
        here, said = fold.test[some], told[some]
        found = _hemisphere_values([stored], x[here])
        speaks = {"left": found["left"], "right": -found["left"], "control": -found["patient"]}
        values["smoothgrad"] += [speaks[name][number] for number, name in enumerate(said)]
        values["deviation"] += list(-hemispheres.hemisphere_inputs(x[here], stored))
        rows.append(pd.DataFrame({"position": here, "predicted": said, "repeat": fold.repeat, "fold": fold.fold}))
    rows, volumes = pd.concat(rows, ignore_index=True), {}
    tiny = np.finfo(np.float32).tiny  # a network that learned nothing has a map of zeros
    own = np.stack([part / max(np.abs(part).max(), tiny) for part in values["smoothgrad"]])
    for side in atlas.SIDES:
        mean = own[groups[rows["position"]] == side].mean(axis=0)
        volume = np.maximum(ndimage.gaussian_filter(hemispheres.on_grid(mean), EDGE), 0)
        volumes[side] = nib.Nifti1Image(volume / max(volume.max(), tiny), atlas.AFFINE)
    images = {kind: np.stack([_hemisphere_slice(part, y_mm) for part in parts]) for kind, parts in values.items()}
    return rows, images, volumes
