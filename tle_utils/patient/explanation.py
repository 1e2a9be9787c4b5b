"""What speaks for an answer, and where: the networks' SmoothGrad, or the weights of the regional model.

Two questions, as the model asks them: what speaks for a patient rather than a control, and what for the left rather
than the right side. Red speaks for it, blue against it.
"""

import numpy as np

from tle_utils.figures import saliency
from tle_utils.imaging import atlas, regions, slices
from tle_utils.saliency import ensembles

QUESTIONS = {"patient": "patient rather than control", "left": "left rather than right"}
Y_MM = -24


def regional_maps(model, volumes):
    """Share of every atlas region in the answers of the regional model, on one slice: as `ensembles.ensemble_maps`.

    The side is told by differences between both hemispheres, so both sides of a region have the same colour.
    """
    parts = dict(zip(("asymmetry", "size"), regions.region_features(volumes), strict=True))
    labels, table = atlas.regions()
    labels_here = slices.slices_of(labels, [Y_MM])[..., 0]
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
        found[head] = by_label[labels_here]
    return found


def explanation_picture(model, case):
    """What speaks for the answer to a case, over the person's own slice, with L and R and the hippocampi.

    One panel per question (matplotlib.figure.Figure); each map is scaled to its own greatest value.
    """
    if "multitask" in model.card.components:
        maps = ensembles.ensemble_maps([fold.components["multitask"] for fold in model.folds], case.x)
        title = f"SmoothGrad, sum over {len(model.card.y_mm)} slices"
    elif "hemispheres" in model.card.components:
        maps = ensembles.hemisphere_maps([fold.components["hemispheres"] for fold in model.folds], case.x)[0]
        maps, title = {head: slices.slices_of(part, [Y_MM])[..., 0] for head, part in maps.items()}, "SmoothGrad"
    else:
        maps, title = regional_maps(model, case.volumes), "Share of each region"
    background = slices.load_slices([case.map], [Y_MM])[0, ..., 0]
    columns = {QUESTIONS[head]: {"": image} for head, image in maps.items()}
    return saliency.map_grid(columns, dict.fromkeys(columns, background), Y_MM, title)
