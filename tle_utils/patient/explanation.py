"""What speaks for an answer, and where: the networks' SmoothGrad, or the weights of the regional model.

Two questions, as the model asks them: what speaks for a patient rather than a control, and what for the left rather
than the right side. Red speaks for it, blue against it.
"""

import numpy as np
from scipy import ndimage

from tle_utils.figures import saliency
from tle_utils.imaging import atlas, regions, slices
from tle_utils.models import multitask
from tle_utils.models.networks import keras
from tle_utils.saliency import attribution, scores

QUESTIONS = {"patient": "patient rather than control", "left": "left rather than right"}
Y_MM = -24


def _explained(network):
    """Copy of a multi-task network with both heads in one dense layer, as `attribution.Explainer` needs it."""
    heads = [network.get_layer(name) for name in multitask.HEADS]
    both = keras.layers.Dense(len(heads), name="heads")
    return keras.Model(network.inputs, both(heads[0].input))


def _copy_heads(explained, network):
    parts = [network.get_layer(name).get_weights() for name in multitask.HEADS]
    explained.layers[-1].set_weights([np.concatenate(values, axis=-1) for values in zip(*parts, strict=True)])


def _networks(model):
    """Every network of a model, what turns slices into its input, and its share in the answer."""
    for fold in model.folds:
        stored = fold.components["multitask"]
        members = multitask.load_networks(stored)
        for votes, voters in zip(stored["vote"], members, strict=True):
            for vote, (network, inputs) in zip(votes, voters, strict=True):
                yield network, inputs, vote / len(members) / len(model.folds)


def network_maps(model, x):
    """SmoothGrad of the networks for one participant, summed over slices and averaged over the ensemble.

    The reference is the mean control of each network's training part where it standardises, else an empty slice.

    Parameters
    ----------
    model : ensemble.Ensemble
        With the component ``multitask``.
    x : numpy.ndarray
        Slices of the participant, shape (1, rows, columns, slices), see `slices.pooled`.

    Returns
    -------
    dict of str to numpy.ndarray
        Head to signed map, shape (160, 160), in the layout of `slices.load_slices`.
    """
    explainer, shared, total = None, None, 0.0
    for network, inputs, share in _networks(model):
        if explainer is None:
            shared = network
            explained = _explained(shared)
            explainer = attribution.Explainer(explained)
        shared.set_weights(network.get_weights())
        _copy_heads(explained, shared)
        own = np.asarray(inputs(x), np.float32)
        weights = np.eye(len(multitask.HEADS), dtype=np.float32)
        twice = np.repeat(own, len(weights), axis=0)
        total = total + share * attribution.smoothgrad(explainer, twice, weights, np.zeros_like(own[0]))
    blurred = [ndimage.gaussian_filter(slices.unpooled(part), slices.SQUARE_MM) for part in total]  # a square is noise
    return dict(zip(multitask.HEADS, blurred, strict=True))


def regional_maps(model, volumes, y_mm=Y_MM):
    """Share of every atlas region in the answers of the regional model, painted on one slice.

    The side is told by differences between both hemispheres, so both sides of a region have the same colour.

    Parameters
    ----------
    model : ensemble.Ensemble
        With the component ``regional``.
    volumes : pandas.DataFrame
        One row of `regions.read_regional_volumes`.
    y_mm : int
        MNI y coordinate of the slice in mm.

    Returns
    -------
    dict of str to numpy.ndarray
        As `network_maps`.
    """
    parts = dict(zip(("asymmetry", "size"), regions.region_features(volumes), strict=True))
    labels, table = atlas.regions()
    plane = scores.plane(labels, y_mm)
    names = volumes.columns.get_level_values("region").unique()
    found = {}
    for head, part in (("patient", "size"), ("left", "asymmetry")):
        shares = [
            (parts[part][0] - stored[f"{part}_centre"]) / stored[f"{part}_spread"] * stored[f"{part}_weight"]
            for stored in (fold.components["regional"] for fold in model.folds)
        ]
        values = dict(zip(names, np.mean(shares, axis=0), strict=True))
        by_label = np.zeros(labels.max() + 1, np.float32)
        by_label[table["label"]] = table["region"].map(values).fillna(0)
        found[head] = by_label[plane]
    return found


def explanation_picture(model, case):
    """What speaks for the answer, over the participant's own slice, with L and R and the hippocampi.

    Parameters
    ----------
    model : ensemble.Ensemble
        The model.
    case : new_patient.Case
        Without reasons against an answer.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if "multitask" in model.card.components:
        maps = network_maps(model, case.x)
        title = f"SmoothGrad, sum over {len(model.card.y_mm)} slices"
    else:
        maps, title = regional_maps(model, case.volumes), "Share of each region"
    background = slices.load_slices([case.map], [Y_MM])[0, ..., 0]
    columns = {QUESTIONS[head]: {"": image} for head, image in maps.items()}
    return saliency.map_grid(columns, dict.fromkeys(columns, background), Y_MM, title)
