"""A patient's card: one HTML file that needs nothing else, and the same as JSON."""

import base64
import io
import math
from pathlib import Path

import jinja2
import numpy as np

from tle_utils.base import files
from tle_utils.figures.numbers import COLOURS, NAMES
from tle_utils.patient import norms
from tle_utils.patient.case import KINDS
from tle_utils.patient.model_card import NOTICE, provenance_rows, result_rows

SHOWN = 12  # regions in the figure, and before the rest of the table is folded away


def set_text(classes):
    """A set of answers, the classes that cannot be ruled out, in words (str)."""
    if not classes:
        return "Cannot tell: none of the classes fits."
    if len(classes) == len(NAMES):
        return "Cannot tell: no class can be ruled out."
    if set(classes) == {"left", "right"}:
        return "A patient, but the side cannot be told."
    return " or ".join(NAMES[name] for name in classes) + "."


def card_content(case, model, coverage, answer=None, inside=None, table=None):
    """Everything a card says, as plain values, ready for JSON (dict).

    Without an answer ``probabilities``, ``set``, ``hippocampus`` and ``regions`` are None, whatever else was given.

    Parameters
    ----------
    coverage : model_card.Conformal
        Stated coverage of the set of answers.
    answer : ensemble.Answer, optional
        Of one participant; None: no answer.
    inside : sequence of str, optional
        The set of answers, from `ensemble.answer_set`.
    table : pandas.DataFrame, optional
        From `norms.zscores`.
    """
    given, card = case.given, model.card
    found = {
        "notice": NOTICE,
        "status": "no answer" if case.reasons or answer is None else "answered",
        "reasons": list(case.reasons),
        "notes": list(case.notes),
        "image": {"name": given.name, "kind": KINDS.get(given.kind, "none")}
        | {key: case.facts.get(key) for key in ("input_sha256", "orientation")},
        "person": given.person,
        "quality": case.facts.get("qc", {}),
        "seconds": case.facts.get("times", {}),
        **dict.fromkeys(("probabilities", "members", "set", "norms", "hippocampus", "regions")),
        "model": dict(provenance_rows(card)) | {"files": card.files},
        "out_of_fold": [r.model_dump() for r in card.out_of_fold],
        "calibration": card.calibration.model_dump(),
    }
    if found["status"] == "answered":
        found |= {
            "probabilities": class_probabilities(answer, card.classes),
            "members": len(answer.members),
            "set": {"stated_coverage": coverage.coverage, "n": coverage.n, "classes": list(inside)}
            | {"text": set_text(inside)},
            "norms": norms.describe_norm(card.norms, given.person),
            "hippocampus": norms.hippocampus_rows(table).drop(columns="region").to_dict("index"),
            "regions": table.to_dict("records"),
        }
    return _plain(found)


def class_probabilities(answer, classes):
    """Probability of each class with its spread over the ensemble, from an `ensemble.Answer` about one participant.

    Class to dict of float: ``probability`` (mean over folds), ``low``, ``high`` (least and greatest of all members),
    ``p5``, ``p95`` (percentiles of the members).
    """
    rows = {}
    for name, p, members in zip(classes, answer.p[0], answer.members[:, 0].T, strict=True):
        p5, p95 = np.percentile(members, [5, 95])
        found = {"probability": p, "low": members.min(), "high": members.max(), "p5": p5, "p95": p95}
        rows[name] = {key: float(value) for key, value in found.items()}
    return rows


def _plain(value):
    """Nested values as JSON takes them: rounded, NaN as None."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _picture(figure):
    """A matplotlib figure as PNG that a page can hold (data URI)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def write_card(found, card, folder, figures=None):
    """Write ``card.html``, one page without any reference to other files, and ``card.json``; returns both paths.

    `found` comes from `card_content`; `figures` are pictures (matplotlib.figure.Figure) by their descriptions. TLEError
    when the folder cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: "–" if value is None else value,
    )
    page = environment.get_template("card.html").render(
        found,
        provenance=provenance_rows(card),
        results=result_rows(card),
        pictures={words: _picture(figure) for words, figure in (figures or {}).items()},
        names=NAMES,
        colours=COLOURS,
        normal=norms.NORMAL,
        shown=SHOWN,
    )
    paths = Path(folder) / "card.html", Path(folder) / "card.json"
    files.write_text(paths[0], page)
    files.write_json(paths[1], found)
    return paths
