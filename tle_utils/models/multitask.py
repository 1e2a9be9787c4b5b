"""One trunk, two questions: patient or control, and which side; with the options that chapter 06 adds one by one."""

import functools

import numpy as np

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import slices
from tle_utils.models import networks
from tle_utils.models.predictions import CLASSES, LEAST_PROBABILITY, geometric_mean
from tle_utils.models.settings import HEADS, MultitaskOptions
from tle_utils.models.training import fit, weights_of, with_weights


def _pooled_slices(path, y_mm):
    return slices.pooled(slices.load_slices([path], y_mm))[0]


def load_inputs(paths, y_mm, workers=1):
    """Input of the networks: slices of every map of `paths`, averaged over squares.

    float32, shape (n, rows, columns, len(y_mm)), see `slices.pooled`.
    """
    job = functools.partial(_pooled_slices, y_mm=tuple(y_mm))
    return np.stack(run_parallel(job, list(paths), label="slices", workers=workers))


def _with_difference(z, options):
    return np.concatenate([z, z - z[:, :, ::-1]], axis=-1) if options.mirror_difference else z


def targets(groups):
    """Labels of the two heads, and the weights that keep controls out of the side head (two dicts by head)."""
    ill = groups != "control"
    labels = {"patient": ill.astype(np.float32), "left": (groups == "left").astype(np.float32)}
    return labels, {"patient": np.ones(len(groups), np.float32), "left": ill.astype(np.float32)}


def _train_one(z, groups, train, validation, options, seed):
    """One network and its learning curves; `z` holds the z-scores (or the slices) of all participants."""
    seen, labels = z[train], groups[train]
    if options.flip:
        seen = np.concatenate([seen, seen[:, :, ::-1]])
        labels = np.concatenate([labels, slices.swap_sides(labels)])
    parts, stages, trunk = [(seen, labels), (z[validation], groups[validation])], [], None
    for heads in [HEADS] if options.stages == 1 else [HEADS[:1], HEADS[1:]]:
        if trunk is not None:
            parts = [(part[names != "control"], names[names != "control"]) for part, names in parts]
        (inputs, told, weights), held = ((_with_difference(part, options), *targets(names)) for part, names in parts)
        model = networks.new_network(options, None, inputs.shape[1:], seed, heads)
        if trunk is not None:
            model.set_weights(trunk)
        stages.append(fit(model, inputs, told, held, options, sample_weight=weights))
        trunk = model.get_weights()
    curves = {name: np.concatenate([stage[name] for stage in stages]) for name in ("loss", "val_loss")}
    before_last = sum(len(stage["loss"]) for stage in stages[:-1])
    return model, curves | {"best_epoch": before_last + stages[-1]["best_epoch"]}


def _scale(x, groups, train, options):
    """Mean and deviation of the training controls' voxels (of all who train where one control does), or 0 and 1."""
    if not options.standardise:
        return np.float32(0), np.float32(1)
    controls = train[groups[train] == "control"]
    return slices.voxel_scale(x[controls if len(controls) > 1 else train])


def _gain(p, groups):
    """How many nats per participant the probabilities are better than knowing how frequent the classes are."""
    truth = np.array([CLASSES.index(group) for group in groups])
    share = np.bincount(truth, minlength=len(CLASSES)) / len(truth)
    return np.log(np.maximum(p[np.arange(len(truth)), truth], LEAST_PROBABILITY)).mean() - np.log(share[truth]).mean()


def _votes(gains):
    """Weights of the slices: their gains, or equal ones where no slice gains anything."""
    positive = np.maximum(gains, 0)
    return positive / positive.sum() if positive.any() else np.full(len(positive), 1 / len(positive))


def joint(patient, left):
    """Probabilities of control, left and right, shape (n, 3), from those of the two heads, shape (n,)."""
    return np.stack([1 - patient, patient * left, patient * (1 - left)], axis=1)


def _answer(model, inputs):
    heads = model.predict(inputs, verbose=0, batch_size=64)
    return joint(*(np.ravel(heads[name]) for name in HEADS))


def _voters(options):
    """Channels that each voting network reads: one slice, or all."""
    channels = list(range(len(options.y_mm)))
    return [[channel] for channel in channels] if options.voting else [channels]


def train_multitask(x, groups, fold, settings, seed):
    """Train the network, or the ensemble, of one fold; the fold's number is added to `seed`.

    All members learn from the training part and stop by the validation part; they differ in what chance gives them:
    weights at the start, noise, dropout, order (deep ensembles, Lakshminarayanan et al. 2017, arXiv:1612.01474). So the
    whole ensemble answers for validation participants as it does for test participants, and its own answers are what a
    temperature is found from. They are the geometric mean of the members' probabilities: one temperature makes up for
    members that are too sure, as it cannot for an arithmetic mean (Rahaman and Thiery 2021, arXiv:2007.08792).

    Returns a dict of arrays: ``options`` (JSON), ``vote`` (members, voters), for voter v of member m ``mMM_vVV_mean``,
    ``…_deviation`` and its weights ``…_w_000`` …; ``p_test`` and ``p_validation`` (participants, classes) of the
    ensemble, ``validation`` (positions), and the curves of the first network, see `training.fit`.

    Raises
    ------
    TLEError
        A class is missing, the slices do not fit the settings, or the loss is no number.
    """
    absent = set(CLASSES) - set(groups[fold.train])
    if absent:
        raise TLEError(f"multi-task net: no participant of class '{min(absent)}' to learn from: it needs all three")
    if x.shape[-1] != len(settings.y_mm):
        raise TLEError(f"y_mm names {len(settings.y_mm)} slices, the input has {x.shape[-1]}: load the same slices")
    seed = seed + 1000 * fold.repeat + fold.fold
    stored = {"options": np.asarray(settings.model_dump_json())}
    tests, votes, held_out = [], [], []
    for member in range(settings.members):
        tested, held = [], []
        for voter, channels in enumerate(_voters(settings)):
            mean, deviation = _scale(x[..., channels], groups, fold.train, settings)
            z = (x[..., channels] - mean) / deviation
            drawn = int(np.random.default_rng([seed, member, voter]).integers(2**31))
            model, curves = _train_one(z, groups, fold.train, fold.validation, settings, drawn)
            name = f"m{member:02d}_v{voter:02d}"
            stored |= {f"{name}_mean": np.asarray(mean), f"{name}_deviation": np.asarray(deviation)}
            stored = curves | stored | weights_of(model, f"{name}_w_")
            for answers, rows in ((tested, fold.test), (held, fold.validation)):
                answers.append(_answer(model, _with_difference(z[rows], settings)))
        votes.append(_votes([_gain(answer, groups[fold.validation]) for answer in held]))
        tests.append(np.tensordot(votes[-1], tested, 1))
        held_out.append(np.tensordot(votes[-1], held, 1))
    return stored | {
        "vote": np.array(votes),
        "p_test": geometric_mean(tests),
        "validation": fold.validation,
        "p_validation": geometric_mean(held_out),
    }


def _inputs(x, channels, scale, options):
    return _with_difference((x[..., channels] - scale[0]) / scale[1], options)


def load_networks(stored):
    """Networks of a fold with the weights that were kept; `stored` comes from `train_multitask`.

    For each member, for each voter (list of list of tuple): the Keras model, and a function from slices, shape
    (n, rows, columns, len(y_mm)), to the model's input.
    """
    options, members = MultitaskOptions.model_validate_json(str(stored["options"])), []
    for member in range(len(stored["vote"])):
        members.append([])
        for voter, channels in enumerate(_voters(options)):
            name = f"m{member:02d}_v{voter:02d}"
            shape = (*slices.POOLED_SHAPE, len(channels) * (1 + options.mirror_difference))
            model = with_weights(networks.build("multitask", input_shape=shape), stored, f"{name}_w_")
            scale = stored[f"{name}_mean"], stored[f"{name}_deviation"]
            members[-1].append((model, functools.partial(_inputs, channels=channels, scale=scale, options=options)))
    return members


def predict_multitask(stored, x):
    """Probabilities of control, left and right by every member of a fold's ensemble, shape (members, n, 3).

    `stored` comes from `train_multitask`, `x` from `load_inputs`. Their `geometric_mean` is the answer of the fold.
    """
    members = []
    for votes, voters in zip(stored["vote"], load_networks(stored), strict=True):
        members.append(np.tensordot(votes, [_answer(model, inputs(x)) for model, inputs in voters], 1))
    return np.array(members)
