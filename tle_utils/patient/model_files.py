"""From the chapter that trains a model to its files: the folds with their temperatures, and the card."""

import hashlib
from pathlib import Path

import numpy as np

from tle_utils.base import files, fingerprints, provenance
from tle_utils.base.errors import TLEError
from tle_utils.evaluation import calibration, conformal
from tle_utils.evaluation import metrics as evaluation_metrics
from tle_utils.imaging import atlas
from tle_utils.models import crossval, regional
from tle_utils.models.predictions import CLASSES, select_rows
from tle_utils.patient import norms, out_of_distribution
from tle_utils.patient.model_card import COMPONENTS, METRICS, Calibration, Conformal, ModelCard, Preprocessing, Result
from tle_utils.patient.model_store import FoldModel

COVERAGES = (0.8, 0.9, 0.95)
BINS = 5
TASK = "control, left or right temporal lobe epilepsy"
COLUMNS = [f"p_{name}" for name in CLASSES]


def _of_fold(table, fold):
    return table[(table["repeat"] == fold.repeat) & (table["fold"] == fold.fold)]


def _temperatures(tables, fold):
    """One temperature a component and one for both together, as `recalibrated` and `fused` find them in tables."""
    rows = {name: _of_fold(table, fold) for name, table in tables.items()}
    found = {}
    for name, part in rows.items():
        held = select_rows(part, "validation")
        found[name] = calibration.fit_temperature(held[COLUMNS].to_numpy(), held["group"], CLASSES)
    found["joint"] = 1.0
    if len(rows) > 1:
        together = calibration.fused([calibration.recalibrated(part) for part in rows.values()], "joint")
        held = select_rows(together, "validation")
        found["joint"] = calibration.fit_temperature(held[COLUMNS].to_numpy(), held["group"], CLASSES)
    return found


def trained_folds(folds, groups, tables, *, net_folder=None, volumes=None):
    """What `model_store.write_models` keeps of every fold.

    Parameters
    ----------
    folds : sequence of crossval.Fold
        The folds of the tables.
    groups : sequence of str
        Class of each participant.
    tables : dict of str to pandas.DataFrame
        ``multitask`` and/or ``regional``: predictions of that component on `folds` as trained, not recalibrated, with
        validation rows.
    net_folder : path-like, optional
        Where `multitask.cross_validate_multitask` kept the folds of the networks; needed for ``multitask``.
    volumes : pandas.DataFrame, optional
        From `regions.read_regional_volumes`; needed for ``regional``.

    Returns
    -------
    list of ensemble.FoldModel

    Raises
    ------
    TLEError
        When a component is not known, or a fold's file is missing or unreadable.
    """
    for name in tables:
        if name not in COMPONENTS:
            raise TLEError(f"component '{name}' is not known: give {' and/or '.join(COMPONENTS)}")
    groups, found = np.asarray(groups, object), []
    for fold in folds:
        stored = {}
        if "multitask" in tables:
            path = crossval.fold_path(net_folder, fold)
            stored["multitask"] = files.read_arrays(path)
            if stored["multitask"] is None:
                raise TLEError(f"{path.name}: no trained fold here: train the networks again")
        if "regional" in tables:
            stored["regional"] = regional.train_regions(volumes, groups, fold.train)
        found.append(FoldModel(stored, _temperatures(tables, fold)))
    return found


def conformal_threshold(table, coverage):
    """How far below 1 a class's probability may lie to stay in the set of answers.

    Split conformal prediction with the score 1 − probability of the true class, as in `conformal.sets_of`, on
    out-of-fold rows: each participant's by the fold that did not learn from them (Vovk 2015, cross-conformal,
    doi 10.1007/s10472-013-9368-4).

    Parameters
    ----------
    table : pandas.DataFrame
        Recalibrated predictions of one model; its test rows are used, the first repeat where there are several.
    coverage : float
        How often the set is to hold the true class.

    Returns
    -------
    model_card.Conformal
        Threshold 1, which rules nothing out, where there are too few participants.
    """
    rows = select_rows(table)
    rows = rows[rows["repeat"] == rows["repeat"].min()]
    truth = rows["group"].map(CLASSES.index).to_numpy()
    scores = 1 - rows[COLUMNS].to_numpy()[np.arange(len(rows)), truth]
    if len(scores) < conformal.least_participants(coverage):
        return Conformal(coverage=coverage, threshold=1.0, n=len(scores))
    rank = int(np.ceil(round((len(scores) + 1) * coverage, 9)))
    threshold = max(float(np.sort(scores)[rank - 1]), 1 - conformal.SURE)
    return Conformal(coverage=coverage, threshold=round(threshold, 9), n=len(scores))


def map_options(paths):
    """How the maps of a cohort were made, read from their file names.

    Parameters
    ----------
    paths : sequence of path-like
        Maps of notebook 01.

    Returns
    -------
    model_card.Preprocessing

    Raises
    ------
    TLEError
        When maps of several kinds stand together.
    """
    kinds = {Path(path).name.partition("desc-")[2].partition("_label-")[0] for path in paths}
    if len(kinds) != 1:
        raise TLEError(f"maps of several kinds ({', '.join(sorted(kinds))}): preprocess all participants alike")
    kind, _, fwhm = kinds.pop().partition("smooth")
    return Preprocessing(modulate=kind == "modulated", fwhm_mm=float(fwhm.replace("p", ".") or 0))


def describe_model(participants, volumes, predictions, *, folder, components, y_mm, profile, cohort, seed, workers=1):
    """Card of a model, all but its name and files.

    Parameters
    ----------
    participants : pandas.DataFrame
        From `participants.load_participants`: those the folds were made of.
    volumes : pandas.DataFrame
        From `regions.read_regional_volumes`, in the same order, for the norms.
    predictions : pandas.DataFrame
        The model's predictions on all folds, recalibrated.
    folder : path-like
        Results of notebook 01, ``participants.tsv`` among them.
    components : sequence of str
        ``multitask`` and/or ``regional``.
    y_mm : sequence of int
        MNI y coordinates in mm of the slices of the networks; empty without networks.
    profile, cohort, seed
        Of the run.
    workers : int
        Maps side by side.

    Returns
    -------
    model_card.ModelCard
    """
    groups = participants["group"].to_numpy(str)
    metrics = evaluation_metrics.multiclass_metrics(predictions).set_index("metric")
    digests = "\n".join(fingerprints.sha256(path) for path in participants["map"])
    return ModelCard(
        name="",
        task=TASK,
        components=tuple(components),
        y_mm=tuple(y_mm),
        space=atlas.SPACE,
        preprocessing=map_options(participants["map"]),
        profile=profile,
        cohort=cohort,
        seed=seed,
        participants={name: int((groups == name).sum()) for name in CLASSES},
        participants_sha256=fingerprints.sha256(Path(folder) / "participants.tsv"),
        maps_sha256=hashlib.sha256(digests.encode()).hexdigest(),
        versions=provenance.versions(),
        code=provenance.code_state(),
        out_of_fold=tuple(_result(metrics, name) for name in METRICS if name in metrics.index),
        calibration=_calibration(predictions),
        conformal=tuple(conformal_threshold(predictions, coverage) for coverage in COVERAGES),
        norms=norms.fit_norms(volumes, norms.covariates(participants, folder), groups),
        out_of_distribution=out_of_distribution.fit_training_maps(participants["map"], groups, workers),
    )


def _result(metrics, name):
    row = metrics.loc[name]
    values = row[["value", "ci_low", "ci_high"]].astype(float).round(6).to_dict()
    known = {key: value if np.isfinite(value) else None for key, value in values.items()}
    return Result(metric=name, n=int(row["n"]), **known)


def _calibration(predictions):
    return Calibration(
        expected_calibration_error=round(calibration.expected_calibration_error(predictions, bins=BINS), 6),
        brier=round(calibration.brier(predictions), 6),
        bins=BINS,
        n=select_rows(predictions)["participant_id"].nunique(),
    )
