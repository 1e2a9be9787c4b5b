"""Do importance maps depend on what a network learned? The sanity checks of Adebayo et al. 2018.

Two tests: *cascading randomisation* gives the layers of a trained network fresh weights, one after the other from the
last to the first; *random labels* compares with networks of the same plan that were trained on shuffled labels.
A method whose maps stay alike shows the input, not what was learned: it is unfit to explain the network.
"""

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from tle_utils.base import files
from tle_utils.base.parallel import run_parallel
from tle_utils.models import crossval, networks
from tle_utils.models.networks import keras
from tle_utils.models.training import Training
from tle_utils.saliency import attribution, scores
from tle_utils.saliency import maps as saliency_maps

ALIKE = 0.5
"""Mean rank correlation from which on two maps count as alike."""

TRAINED, RANDOM_LABELS = "trained", "random labels"
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


def randomise(model, seed=0):
    """Give a network fresh weights, layer by layer from the last to the first.

    Each step changes the model in place, keeps what earlier steps changed, and takes the batch normalisation that
    follows a layer along. Kernels are drawn by He's uniform rule, whatever the layer starts training with: a softmax
    layer that starts at zero would have no map at all.

    Parameters
    ----------
    model : keras.Model
        The network.
    seed : int
        Seed of the fresh weights.

    Yields
    ------
    str
        Name of the dense layer or convolution that was randomised.
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
    """How alike the importance (positive part) of two sets of maps is.

    Parameters
    ----------
    maps, others : numpy.ndarray
        Shape (n, rows, columns), greatest value 1.
    brain : numpy.ndarray
        bool, shape (rows, columns): voxels that count.

    Returns
    -------
    spearman : numpy.ndarray
        Rank correlation over the voxels, shape (n,); where a map is constant 1 if the other is the same, else 0.
    ssim : numpy.ndarray
        Structural similarity (Wang et al. 2004; Gaussian window, sigma 1.5 voxels, data range 1), mean over the
        voxels, shape (n,).
    """
    maps, others = (np.maximum(part, 0).astype(np.float64) for part in (maps, others))
    ranks = [stats.rankdata(part[:, brain], axis=1) for part in (maps, others)]
    ranks = [part - part.mean(axis=1, keepdims=True) for part in ranks]
    size = np.sqrt((ranks[0] ** 2).sum(axis=1) * (ranks[1] ** 2).sum(axis=1))
    same = (maps[:, brain] == others[:, brain]).all(axis=1).astype(np.float64)
    spearman = np.divide((ranks[0] * ranks[1]).sum(axis=1), size, out=same, where=size > 0)

    def local(values):
        return ndimage.gaussian_filter(values, (0, _SIGMA, _SIGMA))

    mean_a, mean_b = local(maps), local(others)
    var_a, var_b = local(maps**2) - mean_a**2, local(others**2) - mean_b**2
    both = local(maps * others) - mean_a * mean_b
    ssim = (2 * mean_a * mean_b + _C1) * (2 * both + _C2)
    ssim /= (mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2)
    return spearman, ssim[:, brain].mean(axis=1)


def _check_fold(job):
    x, groups, ids, classes, fold, network, folder, shuffled, methods, target, people, brain, y_mm = job
    case = saliency_maps.open_fold(x, groups, classes, fold, network=network, folder=folder)
    sick = np.flatnonzero(groups[fold.test] != "control")
    sick = sick[np.unique(np.linspace(0, len(sick) - 1, people).round().astype(int))]
    inputs, sides = case.x[sick], groups[fold.test][sick]
    predicted = files.read_arrays(crossval.fold_path(folder, fold))["p_test"][sick].argmax(axis=1)
    weights = attribution.target_weights(predicted, classes, target)
    explainer = attribution.Explainer(case.model)
    marks = {"repeat": fold.repeat, "fold": fold.fold, "participant_id": ids[fold.test][sick]}
    original, rows = {}, []

    def add(step, number):
        maps = attribution.explain(explainer, inputs, weights, case.reference, methods, case.tissue)
        first = original or maps
        for (method, layer), values in maps.items():
            spearman, ssim = similarity(first[method, layer], values, brain)
            columns = {"method": method, "layer": layer, "step": step, "number": number, "spearman": spearman}
            table = pd.DataFrame(columns | {"ssim": ssim} | marks)
            if step in (TRAINED, networks.convolutions(case.model)[0]):
                found = scores.score(values, sides, y_mm, brain=brain)
                table[["over_chance", "right_side"]] = found[["over_chance", "right_side"]]
            rows.append(table)
        return maps

    original |= add(TRAINED, 0)
    if shuffled is not None:
        kept = case.model.get_weights()
        other = saliency_maps.open_fold(x, groups, classes, fold, network=network, folder=shuffled).model
        case.model.set_weights(other.get_weights())
        add(RANDOM_LABELS, -1)
        case.model.set_weights(kept)
    for number, name in enumerate(randomise(case.model, seed=fold.fold), start=1):
        add(name, number)
    return pd.concat(rows, ignore_index=True)


def check_maps(
    x,
    participants,
    classes,
    folds,
    *,
    network,
    folder,
    methods,
    target,
    brain,
    y_mm,
    shuffled=None,
    people=4,
    workers=1,
):
    """Compare the maps of trained networks with those of the same networks with what they learned taken away.

    Parameters
    ----------
    x, classes, network, folder
        As in `maps.open_fold`.
    participants : pandas.DataFrame
        ``participant_id`` and ``group``, in the order of `x`.
    folds : list of crossval.Fold
        Folds to look at; each participant is explained by the network that never saw them.
    methods, target
        As in `maps.explain_folds`.
    brain : numpy.ndarray
        bool, shape (160, 160): voxels that count.
    y_mm : int
        MNI y coordinate of the slice in mm.
    shuffled : path-like, optional
        Folds of the same network trained on shuffled labels.
    people : int
        Patients a fold at most, spread evenly over its test part.
    workers : int
        Folds side by side.

    Returns
    -------
    pandas.DataFrame
        One row a participant, method, layer and step: ``step`` (``trained``, the layer randomised last, or
        ``random labels``), ``number`` (0, 1 … and -1 for random labels), ``spearman`` and ``ssim`` with the trained
        network's map, and for the trained and the wholly randomised network ``over_chance`` and ``right_side`` of
        its own map (see `scores.score`).
    """
    groups, ids = (participants[name].to_numpy(object) for name in ("group", "participant_id"))
    jobs = [
        (x, groups, ids, classes, fold, network, folder, shuffled, tuple(methods), target, people, brain, y_mm)
        for fold in folds
    ]
    parts = run_parallel(_check_fold, jobs, label=f"{network}: randomised networks", workers=workers)
    return pd.concat(parts, ignore_index=True)


def train_on_random_labels(x, participants, folds, *, network, folder, max_epochs, seed, like, workers=1):
    """Train networks on labels shuffled over all participants.

    Parameters
    ----------
    x, network
        As in `maps.open_fold`.
    participants : pandas.DataFrame
        ``participant_id`` and ``group``, in the order of `x`.
    folds : list of crossval.Fold
        Folds to train.
    folder : path-like
        Where the networks are kept.
    max_epochs : int
        Epochs at most.
    seed : int
        Seed of the shuffle and of the training.
    like : path-like
        Folder of the networks trained on the true labels, whose treatment of input and features is taken.
    workers : int
        Folds side by side.

    Returns
    -------
    pandas.DataFrame
        The out-of-fold predictions, whose ``group`` is the shuffled label.
    """
    stored = files.read_arrays(crossval.fold_path(like, folds[0])) or {}
    training = Training(
        network=network, max_epochs=max_epochs, standardise="mean" in stored, scaled=bool(stored.get("scaled"))
    )
    labels = np.random.default_rng(seed).permutation(participants["group"].to_numpy(object))
    shuffled = participants.assign(group=labels)
    return crossval.cross_validate(
        x, shuffled, folds, training, folder=folder, seed=seed, workers=workers, label=f"{network}, random labels"
    )[0]


def verdicts(table, seed=0):
    """Which methods depend on what was learned.

    Parameters
    ----------
    table : pandas.DataFrame
        From `check_maps`; the last layer randomised leaves nothing of what was learned.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row a method, layer and test (``cascade`` at its end, ``random labels``): ``n``, means of ``spearman``
        and ``ssim`` with 95 % bootstrap intervals over participants, and ``verdict``: ``unfit`` where the whole
        interval of the rank correlation lies at or above `ALIKE`, ``fit`` where it lies below, else ``unclear``.
    """
    ends = table[table["number"] == table["number"].max()].assign(test="cascade")
    labels = table[table["step"] == RANDOM_LABELS].assign(test=RANDOM_LABELS)
    rows = scores.summarise(pd.concat([ends, labels]), ["method", "layer", "test"], ["spearman", "ssim"], seed)
    verdict = np.where(
        rows["spearman_low"] >= ALIKE, "unfit", np.where(rows["spearman_high"] < ALIKE, "fit", "unclear")
    )
    return rows.assign(verdict=verdict)


def unfit(verdict_table):
    """Methods and layers that fail a test: set of (method, layer)."""
    failed = verdict_table[verdict_table["verdict"] == "unfit"]
    return set(zip(failed["method"], failed["layer"], strict=True))
