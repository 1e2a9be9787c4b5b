"""One trunk, two questions: patient or control, and which side; with the options that chapter 06 adds one by one."""

import functools
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from tle_utils.base import files
from tle_utils.base.errors import TLEError
from tle_utils.base.fingerprints import code_version
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import slices
from tle_utils.models import crossval
from tle_utils.models.multitask_network import HEADS, MultitaskOptions, build_multitask, joint, new_network
from tle_utils.models.networks import keras
from tle_utils.models.predictions import CLASSES, LEAST_PROBABILITY, fold_rows


def _pooled_slices(path, y_mm):
    return slices.pooled(slices.load_slices([path], y_mm))[0]


def load_inputs(paths, y_mm, workers=1):
    """Input of the networks: slices of every participant, averaged over squares.

    Parameters
    ----------
    paths : sequence of path-like
        Maps on the template grid.
    y_mm : sequence of int
        MNI y coordinates of the slices in mm.
    workers : int
        Maps side by side.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, rows, columns, len(y_mm)), see `slices.pooled`.
    """
    job = functools.partial(_pooled_slices, y_mm=tuple(y_mm))
    return np.stack(run_parallel(job, list(paths), label="slices", workers=workers))


def _with_difference(z, options):
    return np.concatenate([z, z - z[:, :, ::-1]], axis=-1) if options.mirror_difference else z


def _targets(groups):
    """Labels of the two heads, and the weights that keep controls out of the side head."""
    ill = groups != "control"
    labels = {"patient": ill.astype(np.float32), "left": (groups == "left").astype(np.float32)}
    return labels, {"patient": np.ones(len(groups), np.float32), "left": ill.astype(np.float32)}


def _fit(model, seen, held, options):
    stop = keras.callbacks.EarlyStopping("val_loss", patience=options.patience, restore_best_weights=True)
    x, labels, weights = seen
    history = model.fit(
        x,
        labels,
        sample_weight=weights,
        validation_data=held,
        epochs=options.max_epochs,
        batch_size=options.batch_size,
        callbacks=[stop],
        verbose=0,
    ).history
    weights = model.get_weights()
    if not (np.isfinite(history["loss"]).all() and all(np.isfinite(weight).all() for weight in weights)):
        said = f"learning_rate = {options.learning_rate}: the loss or a weight is not a number"
        raise TLEError(f"{said}: lower learning_rate")
    return history


def _train_one(z, groups, train, validation, options, seed):
    """One network; `z` holds the z-scores (or the slices) of all participants."""
    seen, labels = z[train], groups[train]
    if options.flip:
        seen = np.concatenate([seen, seen[:, :, ::-1]])
        labels = np.concatenate([labels, slices.swap_sides(labels)])
    parts = [
        (_with_difference(part, options), *_targets(names))
        for part, names in ((seen, labels), (z[validation], groups[validation]))
    ]
    shape = parts[0][0].shape[1:]
    model = new_network(shape, options, HEADS if options.stages == 1 else HEADS[:1], seed)
    history = _fit(model, *parts, options)
    if options.stages == 2:
        trunk, model = model.get_weights(), new_network(shape, options, HEADS[1:], seed)
        model.set_weights(trunk)
        ill = [names != "control" for names in (labels, groups[validation])]
        parts = [
            (x[rows], {k: v[rows] for k, v in y.items()}, {k: v[rows] for k, v in weights.items()})
            for (x, y, weights), rows in zip(parts, ill, strict=True)
        ]
        later = _fit(model, *parts, options)
        history = {name: history[name] + later[name] for name in ("loss", "val_loss")}
    return model, history


def _parts(groups, fold, members, seed):
    """Training and validation positions of each member."""
    if members == 1:
        return [(fold.train, fold.validation)]
    rest = np.sort(np.concatenate([fold.train, fold.validation]))
    least = pd.Series(groups[rest]).value_counts().min()
    if least < members:
        raise TLEError(f"members = {members}: a class has {least} participants outside the test part: lower members")
    inner = StratifiedKFold(members, shuffle=True, random_state=seed)
    return [(rest[train], rest[held]) for train, held in inner.split(rest, groups[rest])]


def _scale(x, groups, train, options):
    """Mean and deviation of the training controls' voxels (of all who train where one control does), or 0 and 1."""
    if not options.standardise:
        return np.float32(0), np.float32(1)
    controls = train[groups[train] == "control"]
    return slices.voxel_scale(x[controls if len(controls) > 1 else train])


def _gain(p, groups):
    """How many nats a participant the probabilities are better than knowing how frequent the classes are."""
    truth = np.array([CLASSES.index(group) for group in groups])
    share = np.bincount(truth, minlength=len(CLASSES)) / len(truth)
    return np.log(np.maximum(p[np.arange(len(truth)), truth], LEAST_PROBABILITY)).mean() - np.log(share[truth]).mean()


def _votes(gains):
    """Weights of the slices: their gains, or equal ones where no slice gains anything."""
    positive = np.maximum(gains, 0)
    return positive / positive.sum() if positive.any() else np.full(len(positive), 1 / len(positive))


def train_multitask(x, groups, fold, options, seed):
    """Train the network, or the ensemble, of one fold.

    Parameters
    ----------
    x : numpy.ndarray
        Slices of `slices.pooled`, float32, shape (n, rows, columns, len(options.y_mm)).
    groups : numpy.ndarray
        Class of each participant: control, left, right.
    fold : crossval.Fold
        Who trains, validates and tests.
    options : Options
        Settings.
    seed : int
        Seed of weights, shuffles, noise, dropout and inner folds; the fold's number is added.

    Returns
    -------
    dict of str to numpy.ndarray
        ``options`` (JSON), ``vote`` (members, voters), for voter v of member m ``mMM_vVV_mean``, ``…_deviation`` and
        its weights ``…_w_000`` …; ``p_test``, ``validation`` (positions), ``p_validation``, and the learning curves of
        the first network, ``loss`` and ``val_loss``.

    Raises
    ------
    TLEError
        When a class is missing, too small for the members, the slices do not fit the options, or the loss is no number.
    """
    absent = set(CLASSES) - set(groups[fold.train])
    if absent:
        raise TLEError(f"multi-task net: no participant of class '{min(absent)}' to learn from: it needs all three")
    if x.shape[-1] != len(options.y_mm):
        raise TLEError(f"y_mm names {len(options.y_mm)} slices, the input has {x.shape[-1]}: load the same slices")
    seed = seed + 1000 * fold.repeat + fold.fold
    voters = [[n] for n in range(x.shape[-1])] if options.voting else [list(range(x.shape[-1]))]
    stored = {"options": np.asarray(options.model_dump_json())}
    tests, votes, held_rows, held_p = [], [], [], []
    for member, (train, validation) in enumerate(_parts(groups, fold, options.members, seed)):
        p = {"test": [], "held": []}
        for voter, channels in enumerate(voters):
            mean, deviation = _scale(x[..., channels], groups, train, options)
            z = (x[..., channels] - mean) / deviation
            drawn = int(np.random.default_rng([seed, member, voter]).integers(2**31))
            model, history = _train_one(z, groups, train, validation, options, drawn)
            name = f"m{member:02d}_v{voter:02d}"
            stored |= {f"{name}_mean": np.asarray(mean), f"{name}_deviation": np.asarray(deviation)}
            stored |= {f"{name}_w_{number:03d}": value for number, value in enumerate(model.get_weights())}
            for key, rows in (("test", fold.test), ("held", validation)):
                p[key].append(_answer(model, _with_difference(z[rows], options)))
            if name == "m00_v00":
                stored |= {key: np.asarray(history[key], np.float32) for key in ("loss", "val_loss")}
        votes.append(_votes([_gain(answer, groups[validation]) for answer in p["held"]]))
        tests.append(np.tensordot(votes[-1], p["test"], 1))
        held_rows.append(validation)
        held_p.append(np.tensordot(votes[-1], p["held"], 1))
    return stored | {
        "vote": np.array(votes),
        "p_test": np.mean(tests, axis=0),
        "validation": np.concatenate(held_rows),
        "p_validation": np.concatenate(held_p),
    }


def _answer(model, inputs):
    heads = model.predict(inputs, verbose=0, batch_size=64)
    return joint(heads["patient"], heads["left"])


def load_networks(stored):
    """Networks of a fold with the weights that were kept.

    Parameters
    ----------
    stored : mapping
        From `train_multitask`.

    Returns
    -------
    list of list of tuple
        For each member, for each voter: the Keras model, and a function from slices (n, rows, columns, len(y_mm)) to
        the model's input.
    """
    options = MultitaskOptions.model_validate_json(str(stored["options"]))
    networks = []
    for member, votes in enumerate(stored["vote"]):
        networks.append([])
        for voter in range(len(votes)):
            name = f"m{member:02d}_v{voter:02d}"
            weights = [stored[key] for key in sorted(stored) if key.startswith(f"{name}_w_")]
            channels = [voter] if options.voting else list(range(len(options.y_mm)))
            scale = stored[f"{name}_mean"], stored[f"{name}_deviation"]
            inputs = functools.partial(_inputs, channels=channels, scale=scale, options=options)
            networks[-1].append((_rebuilt(weights, options), inputs))
    return networks


def _inputs(x, channels, scale, options):
    return _with_difference((x[..., channels] - scale[0]) / scale[1], options)


def _rebuilt(weights, options):
    """Network with given weights; its input shape follows from the first kernel and the dense layer."""
    channels = weights[0].shape[2]
    model = build_multitask((*slices.POOLED_SHAPE, channels), options)
    model.set_weights(weights)
    return model


def predict_multitask(stored, x):
    """Probabilities of every member of a fold's ensemble.

    Parameters
    ----------
    stored : mapping
        From `train_multitask`.
    x : numpy.ndarray
        Slices of `slices.pooled`, shape (n, rows, columns, slices).

    Returns
    -------
    numpy.ndarray
        Shape (members, n, 3): control, left, right. Their mean over members is the answer of the fold.
    """
    members = []
    for votes, voters in zip(stored["vote"], load_networks(stored), strict=True):
        members.append(np.tensordot(votes, [_answer(model, inputs(x)) for model, inputs in voters], 1))
    return np.array(members)


def _cached_fold(job):
    x, groups, fold, options, seed, path = job
    code = code_version("tle_utils.models.multitask", "keras", "tensorflow")
    key = crossval.fold_key(x, groups, fold, options, seed, code)
    return files.kept_arrays(path, key, lambda: train_multitask(x, groups, fold, options, seed))


def cross_validate_multitask(x, participants, folds, options, *, folder, seed, workers=1, label="multi-task net"):
    """Train on every fold and collect the out-of-fold predictions; what is in `folder` already is read, not trained.

    Parameters
    ----------
    x : numpy.ndarray
        Slices of `slices.pooled`, float32, shape (n, rows, columns, len(options.y_mm)).
    participants : pandas.DataFrame
        One row a participant, in the order of `x`: ``participant_id``, ``group``.
    folds : list of crossval.Fold
        From `crossval.make_folds`.
    options : Options
        Settings.
    folder : path-like
        Where the folds are kept.
    seed, workers, label
        As in `crossval.cross_validate`.

    Returns
    -------
    predictions, curves : pandas.DataFrame
        As of `crossval.cross_validate`; with more than one member each participant outside the test part has a
        validation row. The curves are those of the first network of a fold, without accuracies.

    Raises
    ------
    TLEError
        As `train_multitask`; also names the participants whose slices hold NaN or infinite values.
    """
    slices.refuse_not_finite(x, participants)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    groups = participants["group"].to_numpy(object)
    jobs = [(x, groups, fold, options, seed, crossval.fold_path(folder, fold)) for fold in folds]
    results = run_parallel(_cached_fold, jobs, label=f"{label}: folds", workers=workers)
    predictions, curves = [], []
    for fold, result in zip(folds, results, strict=True):
        marks = {"model": label, "repeat": fold.repeat, "fold": fold.fold}
        for split, rows in (("test", fold.test), ("validation", result["validation"])):
            predictions.append(fold_rows(participants, rows, result[f"p_{split}"], CLASSES, split=split, **marks))
        curve = pd.DataFrame({name: result[name] for name in ("loss", "val_loss")}).assign(**marks)
        curve.insert(0, "epoch", np.arange(1, len(curve) + 1))
        curves.append(curve.assign(best=curve["val_loss"] == curve["val_loss"].min()))
    return pd.concat(predictions, ignore_index=True), pd.concat(curves, ignore_index=True)
