"""The card of a trained model: its schema, how it is filled in by the chapter that trains, and the page people read."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel

from tle_utils.base import fingerprints, provenance
from tle_utils.base.errors import TLEError
from tle_utils.base.text import markdown_table, minus
from tle_utils.evaluation import calibration, conformal
from tle_utils.evaluation.metrics import model_metrics
from tle_utils.imaging import atlas
from tle_utils.models.predictions import CLASSES, select_rows
from tle_utils.patient import norms, out_of_distribution
from tle_utils.patient.norms import Norms
from tle_utils.patient.out_of_distribution import MEASURES, TrainingMaps

COMPONENT_NAMES = {
    "multitask": "multi-task network",
    "hemispheres": "network of both hemispheres",
    "regional": "linear model of all regions",
}
COMPONENTS = tuple(COMPONENT_NAMES)
NOTICE = (
    "For research only. This is not a medical device, it has not been validated for diagnosis, "
    "and no decision about a patient may rest on it."
)
METRICS = {
    "accuracy": "accuracy, control, left or right",
    "balanced_accuracy": "balanced accuracy",
    "lateralization_accuracy": "side of true patients told correctly",
    "auc_left_right": "area under the ROC curve, left (positive) against right, true patients",
}
TASK = "control, left or right temporal lobe epilepsy"
COVERAGES = (0.8, 0.9, 0.95)


class _Strict(BaseModel, frozen=True, extra="forbid"):
    """Nothing unknown in it, and nothing changes it."""


class Preprocessing(_Strict):
    """How the training maps were made: modulated or not, smoothing in mm (full width at half maximum)."""

    modulate: bool
    fwhm_mm: float


class Result(_Strict):
    """One out-of-fold measure with its 95 % interval and the participants in its denominator."""

    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int


class Calibration(_Strict):
    """How far the out-of-fold probabilities are from observed frequencies, in `bins` bins, over `n` participants."""

    expected_calibration_error: float
    brier: float
    bins: int
    n: int


class Conformal(_Strict):
    """Stated coverage, and how far below 1 a class's probability may lie to stay in the set; from `n` participants."""

    coverage: float
    threshold: float
    n: int


class ModelCard(_Strict):
    """What a model is: everything that someone who holds only its folder has to know.

    `task` is the question that it answers, `classes` stand in the order of its probabilities; `y_mm` are the MNI y
    coordinates in mm of the slices that the multi-task network reads, and `space` is the template (`atlas.SPACE`).
    `profile`, `cohort` and `seed` (of folds and training) name the run that made it, `participants` has the number of
    training participants of each class, and the checksums are those of ``participants.tsv`` and, in its order, of all
    maps. `out_of_fold` and `calibration` are what the model of a fold reached on participants it had not seen,
    `conformal` the thresholds of the sets of answers, one per coverage. `norms` and `out_of_distribution` describe the
    training controls. `name` and `files` (file of a fold to its SHA-256) are filled in by `model_store.write_models`.
    """

    format: Literal[2] = 2
    name: str
    task: str
    classes: tuple[str, ...] = CLASSES
    components: tuple[Literal["multitask", "hemispheres", "regional"], ...]
    y_mm: tuple[int, ...]
    space: str
    preprocessing: Preprocessing
    profile: str
    cohort: str
    seed: int
    participants: dict[str, int]
    participants_sha256: str
    maps_sha256: str
    versions: dict[str, str | None]
    code: dict[str, str | bool | None]
    out_of_fold: tuple[Result, ...]
    calibration: Calibration
    conformal: tuple[Conformal, ...]
    norms: Norms
    out_of_distribution: TrainingMaps
    files: dict[str, str] = {}


def map_options(paths):
    """How the maps of a cohort were made, read from their file names (`Preprocessing`).

    TLEError when maps of several kinds stand together.
    """
    kinds = {Path(path).name.partition("desc-")[2].partition("_label-")[0] for path in paths}
    if len(kinds) != 1:
        raise TLEError(f"maps of several kinds ({', '.join(sorted(kinds))}): preprocess all participants alike")
    kind, _, fwhm = kinds.pop().partition("smooth")
    return Preprocessing(modulate=kind == "modulated", fwhm_mm=float(fwhm.replace("p", ".") or 0))


def conformal_thresholds(predictions):
    """Thresholds of split conformal prediction on out-of-fold rows, one `Conformal` for each of `COVERAGES`.

    Each participant counts once, by the fold of the first repeat that did not learn from them (Vovk 2015,
    cross-conformal, doi 10.1007/s10472-013-9368-4).
    """
    rows = select_rows(predictions)
    rows = rows[rows["repeat"] == rows["repeat"].min()]
    found = {coverage: round(conformal.threshold(rows, coverage), 9) for coverage in COVERAGES}
    return tuple(Conformal(coverage=coverage, threshold=value, n=len(rows)) for coverage, value in found.items())


def _result(metric, row):
    values = row[["value", "ci_low", "ci_high"]].astype(float).round(6).to_dict()
    known = {key: value if np.isfinite(value) else None for key, value in values.items()}
    return Result(metric=metric, n=int(row["n"]), **known)


def describe_model(participants, volumes, predictions, *, folder, components, y_mm, profile, cohort, seed, workers=1):
    """Card of a model (`ModelCard`), all but its name and files.

    Parameters
    ----------
    participants, volumes : pandas.DataFrame
        Those the folds were made of and, in the same order, their volumes for the norms.
    predictions : pandas.DataFrame
        The model's predictions on all folds, recalibrated.
    folder : path-like
        Results of notebook 01, ``participants.tsv`` among them.
    components : sequence of str
        Of `COMPONENTS`.
    y_mm : sequence of int
        MNI y coordinates in mm of the slices of the multi-task network; empty without it.
    profile, cohort, seed
        Of the run.
    """
    groups = participants["group"].to_numpy(str)
    metrics = model_metrics(predictions).set_index("metric")
    known = Calibration(
        expected_calibration_error=round(calibration.expected_calibration_error(predictions), 6),
        brier=round(calibration.brier(predictions), 6),
        bins=calibration.BINS,
        n=select_rows(predictions)["participant_id"].nunique(),
    )
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
        maps_sha256=fingerprints.digest([fingerprints.sha256(path) for path in participants["map"]]),
        versions=provenance.versions(),
        code=provenance.code_state(),
        out_of_fold=tuple(_result(name, metrics.loc[name]) for name in METRICS if name in metrics.index),
        calibration=known,
        conformal=conformal_thresholds(predictions),
        norms=norms.fit_norms(volumes, norms.covariates(participants, folder), groups),
        out_of_distribution=out_of_distribution.fit_training_maps(participants["map"], groups, workers),
    )


def conformal_of(card, coverage):
    """The card's threshold for a stated coverage (`Conformal`); TLEError names the coverages that it has."""
    for found in card.conformal:
        if abs(found.coverage - coverage) < 1e-9:
            return found
    known = ", ".join(f"{found.coverage:g}" for found in card.conformal)
    raise TLEError(f"coverage = {coverage:g}: model '{card.name}' has thresholds for {known}: choose one of these")


def _number(value):
    return "–" if value is None else f"{value:.3f}"


def provenance_rows(card):
    """Where a model comes from, as pairs of text for a table (list of tuple of str)."""
    prepared = card.preprocessing
    code = card.code.get("commit") or "not a git checkout"
    return [
        ("model", card.name),
        ("question", card.task),
        ("components", " and ".join(COMPONENT_NAMES[name] for name in card.components)),
        ("trained by", f"profile {card.profile}, cohort {card.cohort}, seed {card.seed}, {len(card.files)} folds"),
        ("training participants", ", ".join(f"{n} {name}" for name, n in card.participants.items())),
        ("template", card.space),
        ("slices", minus(f"y = {', '.join(f'{y:g}' for y in card.y_mm)} mm") if card.y_mm else "none"),
        ("maps", f"{'' if prepared.modulate else 'not '}modulated, smoothing {prepared.fwhm_mm:g} mm"),
        ("participants table, SHA-256", card.participants_sha256),
        ("maps, SHA-256", card.maps_sha256),
        ("code", code + (" with uncommitted changes" if card.code.get("uncommitted_changes") else "")),
        ("versions", ", ".join(f"{name} {value}" for name, value in card.versions.items() if value)),
    ]


def result_rows(card):
    """Out-of-fold results of a model, as tuples of text: measure, value, 95 % interval, participants."""
    rows = [
        (METRICS.get(r.metric, r.metric), _number(r.value), f"{_number(r.ci_low)} to {_number(r.ci_high)}", str(r.n))
        for r in card.out_of_fold
    ]
    known = card.calibration
    error = f"expected calibration error, {known.bins} bins"
    rows.append((error, _number(known.expected_calibration_error), "–", str(known.n)))
    return [*rows, ("Brier score", _number(known.brier), "–", str(known.n))]


def readme(card):
    """The card as a page in Markdown (str)."""
    sets = [(f"{c.coverage:.0%}", f"{c.threshold:.4f}", c.n) for c in card.conformal]
    adjusted = ", ".join(f"{' + '.join(r.covariates) or 'nothing'} (n = {r.n})" for r in card.norms.regressions)
    known = card.out_of_distribution
    measures = ", ".join(MEASURES.values()) if known.mean else "none, too few controls"
    flagged = ", ".join(f"{k} of {n} {name}" for name, (k, n) in known.flagged.items())
    parts = [
        f"# {card.name}",
        f"**{NOTICE}**",
        "## What it is",
        markdown_table(("", ""), provenance_rows(card)),
        "## What it reached on participants it had not seen",
        "Each participant is predicted by the model of the one fold that did not learn from them.",
        markdown_table(("measure", "value", "95 % interval", "n"), result_rows(card)),
        "## When it cannot tell",
        "A set of answers holds every class whose probability is not more than the threshold below 1.",
        "On average over cohorts like the training participants, and new people like them, it holds the true class "
        "about as often as stated: not in every class, and not for every such cohort.",
        markdown_table(("stated coverage", "threshold", "n"), sets),
        f"A map beyond {known.limit:g} deviations of the {known.n} training controls is not answered "
        f"(measures: {measures}). Of the training participants this would leave out: {flagged or 'not known'}.",
        "## Norms",
        f"Volumes and asymmetries of the training controls, adjusted for: {adjusted or 'none, too few controls'}.",
        "## Files",
        markdown_table(("file", "SHA-256"), card.files.items()),
    ]
    return "\n\n".join(parts) + "\n"
