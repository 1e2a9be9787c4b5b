"""The card of a trained model: its schema, and the page that people read."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from tle_utils.base.text import markdown_table
from tle_utils.models.predictions import CLASSES
from tle_utils.patient.norms import Norms
from tle_utils.patient.out_of_distribution import MEASURES, TrainingMaps

COMPONENTS = ("multitask", "regional")
COMPONENT_NAMES = {"multitask": "multi-task network", "regional": "linear model of all regions"}
NOTICE = (
    "For research only. This is not a medical device, it has not been validated for diagnosis, "
    "and no decision about a patient may rest on it."
)
METRICS = {
    "accuracy": "accuracy, control, left or right",
    "balanced_accuracy": "balanced accuracy",
    "lateralization_accuracy": "side of true patients told right",
    "auc_left_right": "area under the ROC curve, left (positive) against right, true patients",
}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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

    Attributes
    ----------
    name, task : str
        Name of the model, and the question that it answers.
    classes : tuple of str
        In the order of its probabilities.
    components : tuple of str
        Of `COMPONENTS`.
    y_mm : tuple of int
        MNI y coordinates in mm of the slices that the networks read.
    space : str
        Template, as `atlas.SPACE`.
    preprocessing : Preprocessing
        How the training maps were made.
    profile, cohort : str
        The run that made it.
    seed : int
        Of folds and training.
    participants : dict of str to int
        Class to training participants.
    participants_sha256, maps_sha256 : str
        Of ``participants.tsv``, and of the checksums of all maps in its order.
    versions, code : dict
        From `provenance`.
    out_of_fold : tuple of Result
        What the model of a fold reached on participants it had not seen.
    calibration : Calibration
        The same, of its probabilities.
    conformal : tuple of Conformal
        Thresholds of the sets of answers, one a coverage, from out-of-fold probabilities.
    norms : Norms
        Of regional volumes in the training controls.
    out_of_distribution : TrainingMaps
        What their maps are like, for the check of a new one.
    files : dict of str to str
        File of a fold to its SHA-256; filled in by `write_models`.
    """

    format: Literal[2] = 2
    name: str
    task: str
    classes: tuple[str, ...] = CLASSES
    components: tuple[Literal["multitask", "regional"], ...]
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


def _number(value):
    return "–" if value is None else f"{value:.3f}"


def provenance_rows(card):
    """Where a model comes from, as pairs of text for a table.

    Parameters
    ----------
    card : ModelCard
        The card.

    Returns
    -------
    list of tuple of str
    """
    prepared = card.preprocessing
    code = card.code.get("commit") or "not a git checkout"
    return [
        ("model", card.name),
        ("question", card.task),
        ("components", " and ".join(COMPONENT_NAMES[name] for name in card.components)),
        ("trained by", f"profile {card.profile}, cohort {card.cohort}, seed {card.seed}, {len(card.files)} folds"),
        ("training participants", ", ".join(f"{n} {name}" for name, n in card.participants.items())),
        ("template", card.space),
        ("slices", f"y = {', '.join(f'{y:g}' for y in card.y_mm)} mm" if card.y_mm else "none"),
        ("maps", f"{'' if prepared.modulate else 'not '}modulated, smoothing {prepared.fwhm_mm:g} mm"),
        ("participants table, SHA-256", card.participants_sha256),
        ("maps, SHA-256", card.maps_sha256),
        ("code", code + (" with uncommitted changes" if card.code.get("uncommitted_changes") else "")),
        ("versions", ", ".join(f"{name} {value}" for name, value in card.versions.items() if value)),
    ]


def result_rows(card):
    """Out-of-fold results of a model, as tuples of text: measure, value, 95 % interval, participants.

    Parameters
    ----------
    card : ModelCard
        The card.

    Returns
    -------
    list of tuple of str
    """
    rows = [
        (METRICS.get(r.metric, r.metric), _number(r.value), f"{_number(r.ci_low)} to {_number(r.ci_high)}", str(r.n))
        for r in card.out_of_fold
    ]
    known = card.calibration
    error = f"expected calibration error, {known.bins} bins"
    rows.append((error, _number(known.expected_calibration_error), "–", str(known.n)))
    return [*rows, ("Brier score", _number(known.brier), "–", str(known.n))]


def readme(card):
    """The card as a page in Markdown.

    Parameters
    ----------
    card : ModelCard
        The card.

    Returns
    -------
    str
    """
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
        "Among people like the training participants it holds the true class as often as stated.",
        markdown_table(("stated coverage", "threshold", "n"), sets),
        f"A map beyond {known.limit:g} deviations of the {known.n} training controls is not answered "
        f"(measures: {measures}). Of the training participants this would leave out: {flagged or 'not known'}.",
        "## Norms",
        f"Volumes and asymmetries of the training controls, adjusted for: {adjusted or 'none, too few controls'}.",
        "## Files",
        markdown_table(("file", "SHA-256"), card.files.items()),
    ]
    return "\n\n".join(parts) + "\n"
