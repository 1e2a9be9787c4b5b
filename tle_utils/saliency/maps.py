"""Importance maps of every participant by the networks that never saw them, computed once and kept on disk."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage

from tle_utils.base.files import read_arrays
from tle_utils.base.fingerprints import code_version
from tle_utils.base.parallel import run_parallel
from tle_utils.models import crossval
from tle_utils.saliency import attribution


class Case(NamedTuple):
    """What explaining a fold needs.

    Attributes
    ----------
    model : keras.Model
        The fold's network.
    x : numpy.ndarray
        Inputs of the test participants as the network reads them, shape (n, 160, 160, channels).
    reference : numpy.ndarray
        Mean input of the training controls (of all training participants where no control trains), shape
        (160, 160, channels): what deviations are measured from.
    tissue : numpy.ndarray
        bool, shape (160, 160): where the training participants have grey matter.
    """

    model: object
    x: np.ndarray
    reference: np.ndarray
    tissue: np.ndarray


def _normal(groups, fold):
    """Training controls of a fold, or all who train where no control does."""
    controls = fold.train[np.asarray(groups, object)[fold.train] == "control"]
    return controls if len(controls) else fold.train


def open_fold(x, groups, classes, fold, *, network, folder):
    """Network and inputs of one fold; the one place where slices become what a network reads.

    Parameters
    ----------
    x : numpy.ndarray
        Slices, shape (n, 160, 160, slices).
    groups : sequence of str
        Class of each participant; of the training part only the controls are looked up.
    classes : sequence of str
        Classes in the order of the outputs.
    fold : crossval.Fold
        The fold.
    network : str
        A name of `networks.NETWORKS`.
    folder : path-like
        Where `crossval.cross_validate` kept the folds.

    Returns
    -------
    Case

    Raises
    ------
    TLEError
        When the fold's file is missing or unreadable.
    """
    model, inputs = crossval.load_fold(crossval.fold_path(folder, fold), network, len(classes), x.shape[1:])
    normal = inputs(x[_normal(groups, fold)])
    tissue = x[fold.train].mean(axis=0).max(axis=-1) > 0.02
    return Case(model, inputs(x[fold.test]), normal.mean(axis=0), tissue)


class Maps:
    """Maps of all folds, kept on disk; one method and layer is in memory at a time.

    Attributes
    ----------
    rows : pandas.DataFrame
        One row a participant and repeat: ``position`` (row of the participants table), ``repeat``, ``fold``,
        ``predicted`` (the class that was explained).
    kinds : list of (str, str)
        Method and layer of the maps.
    """

    def __init__(self, rows, kinds, files):
        self.rows, self.kinds, self._files = rows, kinds, files

    def read(self, method, layer):
        """Maps of one method and layer: float32, shape (rows, 160, 160), signed, greatest absolute value 1."""
        parts = []
        for files in self._files:
            with np.load(files[method]) as stored:
                parts.append(stored[layer].astype(np.float32))
        return np.concatenate(parts)


def _explain_fold(job):
    x, groups, classes, fold, network, folder, cache, methods, target, codes = job
    stored = read_arrays(crossval.fold_path(folder, fold)) or {}
    files = {m: Path(cache) / f"{network}_repeat-{fold.repeat}_fold-{fold.fold:02d}_{m}.npz" for m in methods}
    explained = codes[fold.test] if codes is not None else stored["p_test"].argmax(axis=1) if stored else None
    text = [
        code_version("tle_utils.saliency.maps", "keras", "tensorflow"),
        str(stored.get("key")),
        target,
        str(explained),
    ]
    key = hashlib.sha256("\n".join(text).encode()).hexdigest()
    missing = [m for m in methods if str((read_arrays(files[m]) or {}).get("key")) != key]
    if missing:
        case = open_fold(x, groups, classes, fold, network=network, folder=folder)
        explainer = attribution.Explainer(case.model)
        weights = attribution.target_weights(explained, classes, target)
        maps = attribution.explain(explainer, case.x, weights, case.reference, missing, case.tissue)
        for method in missing:
            layers = {layer: values.astype(np.float16) for (name, layer), values in maps.items() if name == method}
            partial = files[method].with_name(f".{files[method].stem}.{os.getpid()}.npz")
            np.savez_compressed(partial, key=np.asarray(key), **layers)
            os.replace(partial, files[method])
    return explained, files


def explain_folds(x, groups, classes, folds, *, network, folder, cache, methods, target, targets=None, workers=1):
    """Explain every participant by the networks that never saw that participant.

    A fold and method that is already in `cache`, of the same network, data, target and code, is not computed again.

    Parameters
    ----------
    x, groups, classes, network, folder
        As in `open_fold`.
    folds : list of crossval.Fold
        The folds the networks were trained on.
    cache : path-like
        Folder of the maps; made if missing.
    methods : sequence of str
        From `attribution.METHODS`; Grad-CAM and Grad-CAM++ give a map for every convolution.
    target : str
        From `attribution.TARGETS`: the output of the class, or its contrast with its rival.
    targets : sequence of str, optional
        Class to explain, one a participant; by default what the fold's own network predicts.
    workers : int
        Folds side by side.

    Returns
    -------
    Maps

    Raises
    ------
    TLEError
        When a method or target is not known, or a fold's file is missing.
    """
    attribution.check_methods(methods)
    attribution.target_weights([], classes, target)
    Path(cache).mkdir(parents=True, exist_ok=True)
    for fold in folds:
        if not crossval.fold_path(folder, fold).exists():
            crossval.load_fold(crossval.fold_path(folder, fold), network, len(classes), x.shape[1:])
    codes = None if targets is None else np.array([list(classes).index(name) for name in targets])
    jobs = [(x, groups, classes, fold, network, folder, cache, tuple(methods), target, codes) for fold in folds]
    parts = run_parallel(_explain_fold, jobs, label=f"{network}: maps of folds", workers=workers)
    rows = [
        pd.DataFrame({"position": fold.test, "predicted": np.array(classes, object)[explained]}).assign(
            repeat=fold.repeat, fold=fold.fold
        )
        for fold, (explained, _) in zip(folds, parts, strict=True)
    ]
    kinds = []
    for method, file in parts[0][1].items():
        with np.load(file) as stored:
            kinds += [(method, layer) for layer in stored.files if layer != "key"]
    return Maps(pd.concat(rows, ignore_index=True), kinds, [files for _, files in parts])


def deviations(x, groups, folds):
    """How far the test participants lie below the mean of the fold's training controls, blurred as the maps are.

    Parameters
    ----------
    x : numpy.ndarray
        Slices, shape (n, 160, 160, slices); the first slice is taken.
    groups : sequence of str
        Class of each participant.
    folds : list of crossval.Fold
        The folds.

    Returns
    -------
    numpy.ndarray
        float32, shape (rows, 160, 160), in the order of `Maps.rows`: what a map can show without a network.
    """
    parts = []
    for fold in folds:
        normal = x[_normal(groups, fold), ..., 0].mean(axis=0)
        blur = (0, attribution.BLUR_MM, attribution.BLUR_MM)
        parts.append(ndimage.gaussian_filter(normal - x[fold.test, ..., 0], blur))
    return np.concatenate(parts)
