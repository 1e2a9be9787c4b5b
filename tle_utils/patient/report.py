"""A patient's card: one HTML file that needs nothing else, and the same as JSON."""

import base64
import html
import io
import json
import math
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from tle_utils.base import files
from tle_utils.figures.numbers import COLOURS, NAMES
from tle_utils.patient import norms
from tle_utils.patient.case import KINDS
from tle_utils.patient.model_card import NOTICE, provenance_rows, result_rows

SHOWN = 12  # regions in the figure, and before the rest of the table is folded away
SPAN = 6.0  # z-scores drawn, beyond it at the edge
SYMBOLS = {"left": "triangle-left", "right": "triangle-right", "asymmetry": "diamond"}
PART_NAMES = {"left": "left", "right": "right", "asymmetry": "asymmetry (L − R) / (L + R)"}
PART_COLOURS = {"left": COLOURS["left"], "right": COLOURS["right"], "asymmetry": COLOURS["control"]}
STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1b1b;--soft:#555;--line:#c8c8c8;--box:#f3f4f6;--warn:#8a3b00}
@media (prefers-color-scheme:dark){:root{--bg:#16181c;--fg:#ececec;--soft:#b3b3b3;--line:#4a4d52;--box:#23262b;
--warn:#ffb27a}}
body{background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.15rem;margin:1.6rem 0 .4rem}
table{border-collapse:collapse;width:100%;margin:.4rem 0}caption{text-align:left;color:var(--soft)}
th,td{border-bottom:1px solid var(--line);padding:.25rem .5rem;text-align:left;vertical-align:top}
.wrap td{overflow-wrap:anywhere}
td.n{text-align:right;font-variant-numeric:tabular-nums}.far{font-weight:700}
.note{border:2px solid var(--warn);padding:.5rem .8rem;border-radius:.3rem}
.answer{background:var(--box);padding:.6rem .9rem;border-radius:.3rem}.big{font-size:1.25rem;font-weight:700}
.wide{overflow-x:auto}figure{margin:.5rem 0}img{max-width:100%;height:auto;background:#fff;border-radius:.3rem}
svg{width:11rem;height:1.2rem}meter{width:9rem}@media print{details>*{display:block}}
"""


def set_text(classes):
    """A set of answers in words.

    Parameters
    ----------
    classes : sequence of str
        Classes that cannot be ruled out.

    Returns
    -------
    str
    """
    if not classes:
        return "Cannot tell: none of the classes fits."
    if len(classes) == len(NAMES):
        return "Cannot tell: no class can be ruled out."
    if set(classes) == {"left", "right"}:
        return "A patient, but the side cannot be told."
    return " or ".join(NAMES[name] for name in classes) + "."


def card_content(case, model, coverage, answer=None, inside=None, table=None):
    """Everything a card says, as plain values.

    Parameters
    ----------
    case : new_patient.Case
        The image and its checks.
    model : ensemble.Ensemble
        The model.
    coverage : model_card.Conformal
        Stated coverage of the set of answers.
    answer : ensemble.Answer, optional
        Of one participant; None: no answer.
    inside : sequence of str, optional
        The set of answers.
    table : pandas.DataFrame, optional
        From `norms.zscores`.

    Returns
    -------
    dict
        Ready for JSON. Without an answer ``probabilities``, ``set``, ``hippocampus`` and ``regions`` are None, whatever
        else was given.
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
    """Probability of each class with its spread over the ensemble.

    Parameters
    ----------
    answer : ensemble.Answer
        Of one participant.
    classes : sequence of str
        Classes in their order.

    Returns
    -------
    dict of str to dict of str to float
        Class to ``probability`` (mean over folds), ``low``, ``high`` (least and greatest of all members), ``p5``,
        ``p95`` (percentiles of the members).
    """
    rows = {}
    for number, name in enumerate(classes):
        members = answer.members[:, 0, number]
        p5, p95 = np.percentile(members, [5, 95])
        spread = {"low": members.min(), "high": members.max(), "p5": p5, "p95": p95}
        rows[name] = {"probability": float(answer.p[0, number])} | {key: float(v) for key, v in spread.items()}
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


def zscore_figure(table, regions=SHOWN):
    """Z-scores of the first regions of a table, the hippocampus at the top.

    Parameters
    ----------
    table : pandas.DataFrame
        From `norms.zscores`.
    regions : int
        How many.

    Returns
    -------
    plotly.graph_objects.Figure
        The shaded band holds 95 % of healthy people.
    """
    names = table["region"].unique()[:regions]
    figure = go.Figure()
    figure.add_vrect(x0=-norms.NORMAL, x1=norms.NORMAL, fillcolor="#7f7f7f", opacity=0.2, line_width=0)
    for part, symbol in SYMBOLS.items():
        rows = table[(table["measure"] == part) & table["region"].isin(names)]
        figure.add_scatter(
            x=rows["z"],
            y=rows["region"],
            mode="markers",
            name=PART_NAMES[part],
            marker={"symbol": symbol, "size": 12, "color": PART_COLOURS[part]},
            customdata=rows[["value", "expected", "low", "high"]],
            hovertemplate="%{y}, " + part + ": z = %{x:.1f}<br>%{customdata[0]:.3g}, expected %{customdata[1]:.3g} "
            "(%{customdata[2]:.3g} to %{customdata[3]:.3g})<extra></extra>",
        )
    figure.update_xaxes(title_text="z-score against the controls")
    figure.update_yaxes(autorange="reversed", automargin=True, categoryarray=names)
    alt = "z-scores of regional volumes and asymmetries of the new image against the training controls"
    return figure.update_layout(height=160 + 30 * len(names), meta={"alt": alt})


def picture_data(figure):
    """A matplotlib figure as a PNG that a page can hold (data URI)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _rows(pairs):
    return "".join(f'<tr><th scope="row">{_text(a)}</th><td>{_text(b)}</td></tr>' for a, b in pairs)


def _text(value):
    return html.escape("–" if value is None else str(value))


def _items(title, lines):
    if not lines:
        return ""
    return f"<h2>{_text(title)}</h2><ul>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>"


def _answer_part(found):
    if found["status"] != "answered":
        return '<p class="answer"><span class="big">No answer.</span> This image is not answered; see why below.</p>'
    known = found["set"]
    rows = "".join(
        f'<tr><th scope="row">{_text(NAMES[name])}</th><td class="n">{p["probability"]:.0%}</td>'
        f'<td><meter min="0" max="1" value="{p["probability"]:.4f}">{p["probability"]:.0%}</meter></td>'
        f'<td class="n">{p["p5"]:.0%} to {p["p95"]:.0%}</td><td class="n">{p["low"]:.0%} to {p["high"]:.0%}</td></tr>'
        for name, p in found["probabilities"].items()
    )
    return (
        f'<div class="answer"><p class="big">{_text(known["text"])}</p><p>Set of answers with a stated coverage of '
        f"{known['stated_coverage']:.0%} among people like the training participants (n = {known['n']}).</p></div>"
        '<h2>Probabilities</h2><div class="wide" tabindex="0" role="region" aria-label="Probabilities"><table>'
        f"<caption>Calibrated; spread over {found['members']} members of the ensemble."
        '</caption><thead><tr><th scope="col">Class</th><th scope="col">Probability</th><th scope="col">Bar</th>'
        '<th scope="col">5th to 95th percentile</th><th scope="col">Range</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _strip(parts):
    """A line from −6 to 6 with the z-scores of one region; the numbers stand beside it."""
    marks = []
    for part, colour in PART_COLOURS.items():
        z = parts[part]["z"]
        if z is not None:
            x = 110 + 100 * max(-1.0, min(1.0, z / SPAN))
            marks.append(f'<circle cx="{x:.1f}" cy="10" r="5" fill="{colour}"/>')
    band = 100 * norms.NORMAL / SPAN
    return (
        '<svg viewBox="0 0 220 20" aria-hidden="true"><line x1="10" x2="210" y1="10" y2="10" stroke="currentColor" '
        f'opacity=".4"/><rect x="{110 - band:.1f}" width="{2 * band:.1f}" height="20" fill="currentColor" '
        f'opacity=".15"/>{"".join(marks)}</svg>'
    )


def _region_row(region, parts):
    cells = []
    for part in norms.PARTS:
        row = parts[part]
        number = "{:.3f}" if part == "asymmetry" else "{:.2f}"
        span = f" ({number.format(row['low'])} to {number.format(row['high'])})" if row["z"] is not None else ""
        far = " far" if row["z"] is not None and abs(row["z"]) > norms.NORMAL else ""
        z = "–" if row["z"] is None else f"{row['z']:+.1f}"
        shown = f"{number.format(row['value'])}{span}".replace("-", "−")
        cells.append(f'<td class="n">{shown}</td><td class="n{far}">{z.replace("-", "−")}</td>')
    return f'<tr><th scope="row">{_text(region)}</th>{"".join(cells)}<td>{_strip(parts)}</td></tr>'


def _region_table(groups, caption):
    head = "".join(
        f'<th scope="col">{_text(name)}</th><th scope="col">z</th>'
        for name in ("Left in ml (95 % of healthy)", "Right in ml (95 % of healthy)", "Asymmetry (95 % of healthy)")
    )
    body = "".join(_region_row(region, parts) for region, parts in groups)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{_text(caption)}"><table><caption>{_text(caption)}'
        f'</caption><thead><tr><th scope="col">Region</th>{head}<th scope="col">z from −6 to 6</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _regions_part(found):
    if found["regions"] is None:
        return ""
    groups = {}
    for row in found["regions"]:
        groups.setdefault(row["region"], {})[row["measure"]] = row
    groups = list(groups.items())
    words = "Asymmetry is (L − R) / (L + R), negative when the left side is the smaller one. "
    words += "In the strips: orange left, green right, blue asymmetry; the band holds 95 % of healthy people."
    return (
        f"<h2>Regions</h2><p>{_text(found['norms'])} {_text(words)}</p>"
        f"{_region_table(groups[:SHOWN], 'Hippocampus, then the greatest deviations')}"
        f"<details><summary>All other regions</summary>{_region_table(groups[SHOWN:], 'Other regions')}</details>"
    )


def page(found, card, pictures=None):
    """The card as one HTML page without any reference to other files; every label is escaped.

    Parameters
    ----------
    found : dict
        From `card_content`.
    card : model_card.ModelCard
        The model's card.
    pictures : dict of str to str, optional
        Description of a picture to its data URI (`picture_data`).

    Returns
    -------
    str
    """
    person, image = found["person"], found["image"]
    size = f"{person['head_size_ml']:.0f} ml" if person["head_size_ml"] else None
    about = [("image", image["name"]), ("kind", image["kind"]), ("stored axes", image["orientation"])]
    about += [("SHA-256", image["input_sha256"]), ("age (years)", person["age"]), ("sex", person["sex"])]
    shown = "".join(
        f'<figure><img alt="{_text(words)}" src="{_text(data)}"><figcaption>{_text(words)}</figcaption></figure>'
        for words, data in (pictures or {}).items()
    )
    results = "".join(
        f'<tr><th scope="row">{_text(name)}</th>'
        + "".join(f'<td class="n">{_text(cell)}</td>' for cell in row)
        + "</tr>"
        for name, *row in result_rows(card)
    )
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Card of {_text(image['name'])}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>Temporal lobe epilepsy: card of {_text(image['name'])}</h1>",
        f'<p class="note" role="note"><strong>{_text(found["notice"])}</strong></p>',
        _answer_part(found),
        _items("Why there is no answer", found["reasons"]),
        _items("Look at this", found["notes"]),
        f'<h2>Image</h2><table class="wrap"><tbody>{_rows([*about, ("head size", size)])}</tbody></table>',
        _regions_part(found),
        f"<h2>Pictures</h2>{shown}" if shown else "",
        f'<h2>Model</h2><table class="wrap"><tbody>{_rows(provenance_rows(card))}</tbody></table>',
        "<table><caption>What the model of one fold reached on participants it had not seen</caption><thead><tr>"
        '<th scope="col">Measure</th><th scope="col">Value</th><th scope="col">95 % interval</th>'
        f'<th scope="col">n</th></tr></thead><tbody>{results}</tbody></table>',
        "</main></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def write_card(found, card, folder, pictures=None):
    """Write ``card.html`` and ``card.json``.

    Parameters
    ----------
    found, card, pictures
        As in `page`.
    folder : path-like
        Where to.

    Returns
    -------
    html, json : pathlib.Path

    Raises
    ------
    TLEError
        When the folder cannot be written.
    """
    paths = Path(folder) / "card.html", Path(folder) / "card.json"
    files.write_text(paths[0], page(found, card, pictures))
    files.write_text(paths[1], json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return paths
