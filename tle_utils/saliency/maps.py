"""Importance maps of every participant by the networks that never saw them, computed once and kept on disk."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.base.files import kept_arrays, read_arrays
from tle_utils.base.fingerprints import code_version, digest
from tle_utils.base.parallel import run_parallel
from tle_utils.models import crossval
from tle_utils.models.predictions import CLASSES
from tle_utils.saliency import attribution


def _normal(groups, fold):
    """Training controls of a fold, or all who train where no control does."""
    controls = fold.train[np.asarray(groups, object)[fold.train] == "control"]
    return controls if len(controls) else fold.train


@dataclass(frozen=True)
class Explained:
    """Networks of one plan, one per fold, whom they answer for, and what is asked of them.

    Attributes
    ----------
    network : str
        A name of `settings.NETWORKS`.
    folder : path-like
        Where `crossval.cross_validate` kept the folds.
    x : numpy.ndarray
        Slices of the participants, float32, shape (n, 160, 160, slices).
    participants : pandas.DataFrame
        In the order of `x`.
    methods : sequence of str
        From `attribution.METHODS`; Grad-CAM and Grad-CAM++ give a map for every convolution.
    target : {"class", "contrast"}
        Score to explain: the output of the class that the network predicts, or its contrast with its rival.
    """

    network: str
    folder: Path
    x: np.ndarray
    participants: pd.DataFrame
    methods: tuple = attribution.METHODS
    target: str = "class"

    def __post_init__(self):
        for method in self.methods:
            if method not in attribution.METHODS:
                raise TLEError(f"method '{method}' is not known: choose from {', '.join(attribution.METHODS)}")
        if self.target not in attribution.TARGETS:
            raise TLEError(f"target '{self.target}' is not known: choose from {', '.join(attribution.TARGETS)}")

    @property
    def groups(self):
        """Class of each participant."""
        return self.participants["group"].to_numpy(object)

    @property
    def classes(self):
        """Classes in the order of the networks' outputs."""
        return [name for name in CLASSES if (self.groups == name).any()]

    def told(self, p):
        """What a fold tells its test participants, from its ``p_test``: a class each, or a number (`volume_truth`)."""
        return p[:, 0] if p.shape[1] == 1 else np.array(self.classes, object)[p.argmax(axis=1)]

    def open_fold(self, fold):
        """Explainer of one fold, input of its test participants, and `attribution.target_weights` of what it predicts.

        The one place where slices become what a network reads. The reference is the mean training control (the mean of
        all who train where no control does). A number is explained as it is: positive is what raises it. TLEError when
        the fold's file is missing or unreadable.
        """
        path = crossval.fold_path(self.folder, fold)
        model, inputs = crossval.load_fold(path, self.network, self.x.shape[1:])
        reference = inputs(self.x[_normal(self.groups, fold)]).mean(axis=0)
        tissue = self.x[fold.train].mean(axis=0).max(axis=-1) > 0.02
        p = read_arrays(path)["p_test"]
        weights = attribution.target_weights(p.argmax(axis=1), self.classes, self.target)
        weights = np.ones_like(p) if p.shape[1] == 1 else weights
        return attribution.Explainer(model, reference, tissue), inputs(self.x[fold.test]), weights


class Maps(NamedTuple):
    """Maps of all folds, kept on disk; one method and layer is in memory at a time.

    Attributes
    ----------
    rows : pandas.DataFrame
        One row per participant and repeat: ``position`` (row of the participants table), ``predicted`` (the class that
        was explained), ``repeat``, ``fold``.
    kinds : list of (str, str)
        Method and layer of the maps.
    """

    rows: pd.DataFrame
    kinds: list
    files: list  # for each fold, the file of each method

    def read(self, method, layer):
        """Maps of one method and layer: float32, shape (rows, 160, 160)."""
        parts = []
        for files in self.files:
            with np.load(files[method]) as stored:
                parts.append(stored[layer].astype(np.float32))
        return np.concatenate(parts)


def _explain_fold(job):
    explained, fold, cache = job
    opened = functools.cache(lambda: explained.open_fold(fold))  # only where a map is missing
    stored = read_arrays(crossval.fold_path(explained.folder, fold)) or opened()  # which says what is missing
    code = code_version("tle_utils.saliency.maps", "keras", "tensorflow")
    key = digest([code, str(stored["key"]), explained.target])
    files, kinds = {}, []
    for method in explained.methods:
        files[method] = Path(cache) / f"{explained.network}_repeat-{fold.repeat}_fold-{fold.fold:02d}_{method}.npz"

        def make(method=method):
            maps = attribution.explain(*opened(), [method])
            return {layer: values.astype(np.float16) for (_, layer), values in maps.items()}

        kept = kept_arrays(files[method], key, make, compressed=True)
        kinds += [(method, layer) for layer in kept if layer != "key"]
    told = explained.told(stored["p_test"])
    rows = {"position": fold.test, "predicted": told, "repeat": fold.repeat, "fold": fold.fold}
    return Maps(pd.DataFrame(rows), kinds, [files])


def explain_folds(explained, folds, *, cache, workers=1):
    """Explain every participant by the networks that never saw that participant (`Maps`).

    A fold and method that is already in the folder `cache`, of the same network, data, target and code, is not computed
    again. TLEError when a fold's file is missing.
    """
    jobs = [(explained, fold, cache) for fold in folds]
    parts = run_parallel(_explain_fold, jobs, label=f"{explained.network}: maps of folds", workers=workers)
    rows = pd.concat([part.rows for part in parts], ignore_index=True)
    return Maps(rows, parts[0].kinds, [files for part in parts for files in part.files])


def deviations(x, groups, folds):
    """How far the test participants lie below the mean of the fold's training controls: maps without a network.

    float32, in the order of `Maps.rows`, blurred as maps are; `x` are slices of which the first is taken, `groups` the
    participants' classes.
    """
    x = x[..., 0]
    parts = [x[_normal(groups, fold)].mean(axis=0) - x[fold.test] for fold in folds]
    return attribution.blurred(np.concatenate(parts))
