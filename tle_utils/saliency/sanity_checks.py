"""Do importance maps depend on what a network learned? The sanity checks of Adebayo et al. 2018.

Two tests: *cascading randomisation* gives the layers of a trained network fresh weights, one after the other from the
last to the first; *random labels* compares with networks of the same plan that were trained on shuffled labels.
A method whose maps stay alike shows the input, not what was learned: it is unfit to explain the network.
"""

import dataclasses

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from tle_utils.base.files import read_arrays
from tle_utils.base.parallel import run_parallel
from tle_utils.models import crossval
from tle_utils.models.networks import keras
from tle_utils.models.settings import Training
from tle_utils.saliency import attribution, scores

ALIKE = 0.5
"""Mean rank correlation from which on two maps count as alike."""

TRAINED, RANDOM_LABELS = "trained", "random labels"


def randomise(model, seed):
    """Give a network fresh weights, layer by layer from the last to the first; yields the names of these layers.

    Each step changes the model in place, keeps what earlier steps changed, and takes the batch normalisation that
    follows a layer along. Kernels are drawn by He's uniform rule, whatever the layer starts training with: a softmax
    layer that starts at zero would have no map at all.
    """
    draw = keras.initializers.HeUniform(seed=keras.random.SeedGenerator(seed))
    for layer in reversed(model.layers):
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape
            layer.set_weights([np.ones(size), np.zeros(size), np.zeros(size), np.ones(size)])
        elif hasattr(layer, "kernel"):
            layer.kernel.assign(draw(layer.kernel.shape))
            layer.bias.assign(np.zeros(layer.bias.shape))
            yield layer.name


def similarity(maps, others, brain):
    """How alike the importance (positive part) of two sets of maps is, over the voxels of `brain`; two arrays (n,).

    The rank correlation (where a map is constant 1 if the other is the same, else 0), and the mean structural
    similarity (Wang et al. 2004; Gaussian window, sigma 1.5 voxels, data range 1).
    """
    maps, others = (np.maximum(part, 0).astype(np.float64) for part in (maps, others))
    ranks = [stats.rankdata(part[:, brain], axis=1) for part in (maps, others)]
    ranks = [part - part.mean(axis=1, keepdims=True) for part in ranks]
    size = np.sqrt((ranks[0] ** 2).sum(axis=1) * (ranks[1] ** 2).sum(axis=1))
    same = (maps[:, brain] == others[:, brain]).all(axis=1).astype(np.float64)
    spearman = np.divide((ranks[0] * ranks[1]).sum(axis=1), size, out=same, where=size > 0)

    def local(values):  # 35 times as fast as tf.image.ssim
        return ndimage.gaussian_filter(values, (0, 1.5, 1.5))

    mean_a, mean_b = local(maps), local(others)
    var_a, var_b = local(maps**2) - mean_a**2, local(others**2) - mean_b**2
    both = local(maps * others) - mean_a * mean_b
    ssim = (2 * mean_a * mean_b + 0.01**2) * (2 * both + 0.03**2)
    ssim /= (mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2)
    return spearman, ssim[:, brain].mean(axis=1)


def _check_fold(job):
    explained, fold, truth, shuffled, people = job
    explainer, x, weights = explained.open_fold(fold)
    tested = explained.participants.iloc[fold.test]
    sick = np.flatnonzero(tested["group"] != "control")
    sick = sick[np.unique(np.linspace(0, len(sick) - 1, people).round().astype(int))]
    x, weights, tested = x[sick], weights[sick], tested.iloc[sick]
    model, original, rows = explainer.model, {}, []

    def add(step, number):
        maps = attribution.explain(explainer, x, weights, explained.methods)
        original.update({} if original else maps)
        for (method, layer), values in maps.items():
            table = pd.DataFrame({"method": method, "layer": layer, "step": step, "number": number}, range(len(x)))
            table["spearman"], table["ssim"] = similarity(original[method, layer], values, truth.brain)
            marks = {"repeat": fold.repeat, "fold": fold.fold, "participant_id": tested["participant_id"].to_numpy()}
            table = table.assign(**marks)
            if step in (TRAINED, explainer.layers[0]):
                found = scores.score(values, tested["group"], truth)
                table[["over_chance", "affected_side"]] = found[["over_chance", "affected_side"]]
            rows.append(table)

    add(TRAINED, 0)
    if shuffled is not None:
        kept = model.get_weights()
        model.set_weights(dataclasses.replace(explained, folder=shuffled).open_fold(fold)[0].model.get_weights())
        add(RANDOM_LABELS, -1)
        model.set_weights(kept)
    for number, name in enumerate(randomise(model, seed=fold.fold), start=1):
        add(name, number)
    return pd.concat(rows, ignore_index=True)


def check_maps(explained, folds, truth, *, shuffled=None, people=4, workers=1):
    """Compare the maps of trained networks with those of the same networks with what they learned taken away.

    Parameters
    ----------
    shuffled : path-like, optional
        Folds of the same network trained on shuffled labels.
    people : int
        Patients per fold at most, spread evenly over its test part.

    Returns
    -------
    pandas.DataFrame
        One row per participant, method, layer and step: ``step`` (``trained``, the layer randomised last, or
        ``random labels``), ``number`` (0, 1 … and -1 for random labels), ``spearman`` and ``ssim`` with the trained
        network's map, and for the trained and the wholly randomised network ``over_chance`` and ``affected_side`` of
        its own map (see `scores.score`).
    """
    jobs = [(explained, fold, truth, shuffled, people) for fold in folds]
    parts = run_parallel(_check_fold, jobs, label=f"{explained.network}: randomised networks", workers=workers)
    return pd.concat(parts, ignore_index=True)


def train_on_random_labels(explained, folds, *, folder, max_epochs, seed, workers=1):
    """Train networks like those of `explained` on labels shuffled over all participants, and keep them in `folder`.

    They train for `max_epochs` epochs at most; `seed` is that of the shuffle and of the training.
    """
    network, stored = explained.network, read_arrays(crossval.fold_path(explained.folder, folds[0])) or {}
    same = {"standardise": "mean" in stored, "scaled": bool(stored.get("scaled"))}
    training = Training(network=network, max_epochs=max_epochs, **same)
    labels = np.random.default_rng(seed).permutation(explained.groups)
    options = {"folder": folder, "seed": seed, "workers": workers, "label": f"{network}, random labels"}
    people = explained.participants.assign(group=labels)
    crossval.cross_validate(explained.x, people, folds, training, **options)


def verdicts(table):
    """Which methods depend on what was learned, from a table of `check_maps` (pandas.DataFrame).

    One row per method, layer and test (``cascade`` at its end, where nothing of what was learned is left, and ``random
    labels``): ``n``, means of ``spearman`` and ``ssim`` with 95 % bootstrap intervals over participants, and
    ``verdict``: ``unfit`` where the whole interval of the rank correlation lies at or above `ALIKE`, ``fit`` where it
    lies below, else ``unclear``.
    """
    ends = table[table["number"] == table["number"].max()].assign(test="cascade")
    labels = table[table["step"] == RANDOM_LABELS].assign(test=RANDOM_LABELS)
    rows = scores.summarise(pd.concat([ends, labels]), ["method", "layer", "test"], ["spearman", "ssim"])
    low, high = rows["spearman_low"], rows["spearman_high"]
    return rows.assign(verdict=np.where(low >= ALIKE, "unfit", np.where(high < ALIKE, "fit", "unclear")))


def unfit(verdict_table):
    """Methods and layers that fail a test: set of (method, layer)."""
    failed = verdict_table[verdict_table["verdict"] == "unfit"]
    return set(zip(failed["method"], failed["layer"], strict=True))
