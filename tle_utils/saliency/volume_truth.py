"""A truth without altered images: networks that tell the left hippocampal volume, and where their maps look.

The signal of this task has a known place in images as they are, after Siegel et al. 2025 (arXiv:2508.02560).
"""

import numpy as np
import pandas as pd

from tle_utils.imaging import atlas, slices
from tle_utils.models import crossval
from tle_utils.saliency import attribution, scores


def train_on_volumes(x, participants, folds, settings, *, folder, seed, workers=1):
    """Train a network on the left hippocampal volume in place of the classes, and keep its folds in `folder`.

    With the option ``flip`` of `settings`, the mirror image of who trains is one more, whose left hippocampus is the
    right one. Volumes are those of the table; all else is as in `crossval.train_folds`.
    """
    left, right = (participants[f"hippocampus_{side}"].to_numpy(float) for side in atlas.SIDES)
    if settings.flip:
        mirrored, _ = slices.flip(x, ())
        x, left = np.concatenate([x, mirrored]), np.concatenate([left, right])
        both = [np.concatenate([fold.train, fold.train + len(mirrored)]) for fold in folds]
        folds = [fold._replace(train=train) for fold, train in zip(folds, both, strict=True)]
    settings, how = settings.model_copy(update={"flip": False}), {"folder": folder, "seed": seed, "workers": workers}
    crossval.train_folds(x, left, folds, settings, **how, label="left hippocampal volume")


def places(maps, explained, below, truth):
    """How much of the importance lies in the left hippocampus, and how much of the grey matter.

    `maps` are those of `explained`, networks of `train_on_volumes`, and `below` comes from `maps.deviations`: the
    comparator without a network. Returns one row per test participant, ``method`` and ``layer`` (pandas.DataFrame):
    ``left`` and ``right``, the shares of the map (of what raises and what lowers the number) inside the brain that lie
    in each hippocampus with the tolerance of `truth`; ``grey``, the left one's share of the participant's grey matter;
    ``over_grey``, ``left`` over ``grey``; ``volume`` and ``predicted`` (z-score).
    """
    hippocampi = [scores.truth_slice(side, truth.y_mm, truth.dilate_mm) & truth.brain for side in atlas.SIDES]

    def shares(images):
        images = np.abs(images) * truth.brain
        whole = np.maximum(images.sum(axis=(1, 2)), np.finfo(np.float32).tiny)
        return [images[:, place].sum(axis=1) / whole for place in hippocampi]

    seen, tables = maps.rows["position"], []
    people = explained.participants.iloc[seen][["participant_id", "hippocampus_left"]].reset_index(drop=True)
    people = people.rename(columns={"hippocampus_left": "volume"}).assign(grey=shares(explained.x[seen, ..., 0])[0])
    people["predicted"] = maps.rows["predicted"].to_numpy(float)
    for method, layer in [*maps.kinds, (scores.NETWORK_FREE, attribution.INPUT)]:
        left, right = shares(below if method == scores.NETWORK_FREE else maps.read(method, layer))
        shared = {"left": left, "right": right, "over_grey": left / people["grey"]}
        tables.append(people.assign(method=method, layer=layer, **shared))
    return pd.concat(tables, ignore_index=True)
