"""The front page: its questions answered by this run, by the reference results and by the paper; and its picture."""

import itertools
import re
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tle_utils.base.statistics import wilson_interval
from tle_utils.base.text import markdown_table
from tle_utils.book.chain import FIRST
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.cohorts.participants import load_participants
from tle_utils.evaluation import published
from tle_utils.evaluation.model_tests import subgroups
from tle_utils.models.ideal_observer import IDEAL_OBSERVER
from tle_utils.models.predictions import AS_TRAINED

RESULTS = "results"
"""Folder beside the pages with ``<chapter>/results.tsv`` of the run, as `build.stage` puts it there."""


class Question(NamedTuple):
    """A question of the paper: in words, the anchor of its answer, and where this book and the paper answer it."""

    words: str
    anchor: str
    chapter: str
    model: str
    metric: str
    figure: str


THREE, SIX = "3-layer CNN (Figure 2)", "6-layer CNN (Figure 9)"
BASELINE, DEEP, SIDE = "03_lateralization_baseline", "04_deep_model", "lateralization_accuracy"
QUESTIONS = [
    Question("control or left", "02_replication-figure-4", "02_replication", THREE, "accuracy", "replication"),
    Question("control, left or right", f"{BASELINE}-figure-8", BASELINE, THREE, "accuracy", "figure_8"),
    Question("the same, deeper", f"{DEEP}-figure-12", DEEP, SIX, "accuracy", "figure_12"),
    Question("left or right, of patients", f"{BASELINE}-figure-8", BASELINE, THREE, SIDE, "figure_8"),
    Question("the same, deeper", f"{DEEP}-figure-12", DEEP, SIX, SIDE, "figure_12"),
]
REASONS = {
    "yes": "the paper's value lies inside the 95 % interval",
    "surpassed": "the 95 % interval lies above the paper's value",
    "no": "the 95 % interval lies below the paper's value",
    "untestable": "not even the ideal observer, who knows the true volumes, reaches the paper's value here",
}

LEADS = {
    "yes": "Yes, in agreement with the paper",
    "surpassed": "Yes, and better than in the paper",
    "no": "Better than chance, but not as well as in the paper",
    "untestable": "Better than chance, but whether as well as in the paper cannot be tested here",
}


def paper_value(question):
    """The paper's accuracy, from its printed counts (float); a patient called control is no correct side."""
    if question.figure == "replication":
        return published.published_figures("replication")["accuracy"]
    found = published.paper_summary(published.published_table(question.figure))
    return found["lateralized"] / found["patients"] if question.metric == SIDE else found["accuracy"]


def _chance(row, metric):
    """Accuracy of an answer that looks at nobody: always the larger class, by the participants of a results row."""
    counts = {name: int(n) for n, name in re.findall(r"(\d+) (\w+)", row["classes"])}
    if metric == SIDE:
        counts.pop("control", None)
    return max(counts.values()) / sum(counts.values())


def answer(folder, question):
    """What a folder of ``<chapter>/results.tsv`` answers: dict, empty where there is no answer.

    Keys are ``value``, ``low``, ``high`` (95 %), ``n``, ``chance`` (always the larger class), ``bound`` (ideal
    observer, NaN where it is not known) and ``reproduced``, a key of `REASONS`.
    """
    path = Path(folder) / question.chapter / "results.tsv"
    if not path.exists():
        return {}
    table = pd.read_csv(path, sep="\t").set_index("model")
    row, metric = table.loc[question.model], question.metric
    n = row["n"] if metric != SIDE else row["n"] - int(re.search(r"(\d+) control", row["classes"])[1])
    bound = table[metric].get(IDEAL_OBSERVER, np.nan)
    low, high, paper = row[f"{metric}_low"], row[f"{metric}_high"], paper_value(question)
    reproduced = "surpassed" if low > paper else "yes" if high >= paper else "no"
    if table[f"{metric}_high"].get(IDEAL_OBSERVER, np.nan) < paper:
        reproduced = "untestable"
    found = {"value": row[metric], "low": low, "high": high, "n": int(n), "chance": _chance(row, metric)}
    return found | {"bound": bound, "reproduced": reproduced}


def answer_text(folder, chapter):
    """The question that a chapter asks last, answered in one sentence by what `folder` has of it (see `answer`)."""
    question = [question for question in QUESTIONS if question.chapter == chapter][-1]
    found = answer(folder, question)
    lead = LEADS[found["reproduced"]] if found["low"] > found["chance"] else "No, not shown to be better than chance"
    what = f"the {question.metric.replace('_', ' ')} of the {question.model.split(' (')[0]}"
    value = "{value:.2f} (95 % CI {low:.2f}–{high:.2f}, n = {n}); chance is {chance:.2f}".format(**found)
    bound = "" if np.isnan(found["bound"]) else f", the upper bound {found['bound']:.2f}"
    return f"{lead}: {what} is {value}{bound}, the paper {paper_value(question):.2f}."


def _cell(verdict):
    return f'<abbr title="{REASONS[verdict]}">{verdict}</abbr>'


def verdicts(results, reference):
    """Whether the paper is reproduced, by ``figure_metric`` of a question: dict of HTML with the reason on hover.

    It is said of the reference results where there are some, else of this run.
    """
    folder = reference if Path(reference).exists() else results
    found = {f"{question.figure}_{question.metric}": answer(folder, question) for question in QUESTIONS}
    return {name: _cell(one["reproduced"]) if one else "–" for name, one in found.items()}


def _shown(found):
    return f"{found['value']:.2f} ({found['low']:.2f}–{found['high']:.2f}), n = {found['n']}" if found else "–"


def front_table(results, reference):
    """Table of the questions (Markdown) with a footnote per reason; `reference` may be a folder that is not there.

    Whether a value is reproduced is said of the reference results where there are some, else of this run.
    """
    rows, used, known = [], [], Path(reference).exists()
    for question in QUESTIONS:
        here, there = answer(results, question), answer(reference, question)
        judged = there if known else here
        if not here:
            continue
        verdict = judged["reproduced"]
        used += [verdict] if verdict not in used else []
        cells = [f"{{ref}}`{question.words} <{question.anchor}>`", question.model.split(" (")[0], _shown(here)]
        cells += [_shown(there)] if known else []
        bound = "–" if np.isnan(judged["bound"]) else f"{judged['bound']:.2f}"
        cells += [f"{paper_value(question):.2f}", f"{judged['chance']:.2f}", bound]
        rows.append([*cells, f"{_cell(verdict)}[^{verdict.replace(' ', '-')}]"])
    if not rows:
        return "*This run has no answer to a question of the paper.*"
    header = ["question", "network", "this run", *["the paper's design"] * known]
    header += ["the paper", "chance", "upper bound", "reproduced?"]
    notes = [f"[^{verdict.replace(' ', '-')}]: {verdict.capitalize()}: {REASONS[verdict]}." for verdict in used]
    return "\n\n".join([markdown_table(header, rows), *notes])


def design_table(card, reference):
    """What makes this run and the reference results easier or harder than the paper's (Markdown), beside its design.

    `card` is the run card, ``run.json``; `reference` the card of the reference results, None where there are none.
    """

    def column(card, chapters):
        first, baseline = (chapters.get(name, {}).get("parameters", {}) for name in (FIRST, BASELINE))
        entry, known = load_manifest().cohorts.get(card["cohort"]), ["not known", "real patients"]
        if entry is not None and entry.kind == "phantom":
            given = [first.get(name) for name in ("sclerosis_fraction", "effect_scale")]
            own = (entry.sclerosis_fraction, entry.effect_scale)
            known = [default if value is None else value for value, default in zip(given, own, strict=True)]
        values = [card.get("participants"), baseline.get("n_splits"), baseline.get("max_epochs"), *known]
        return ["–" if value is None else value for value in values]

    names = ["participants", "folds", "epochs at most", "patients with sclerosis (share)"]
    columns = {"": [*names, "effects, times the published"], "this run": column(card, card["notebooks"])}
    if reference:
        columns["the paper's design"] = column(reference, reference["chapters"])
    table = published.published_table("figure_8")
    columns["the paper"] = [int(table.to_numpy().sum()), len(table), "not stated", "not stated", "real patients"]
    return markdown_table(columns, zip(*columns.values(), strict=True))


def side_shares(run):
    """How often every method of a run folder names the side of its patients, with and without sclerosis.

    Returns rows of `model_tests.subgroups`, the method that is best with sclerosis first (pandas.DataFrame); empty
    where a chapter on the side has not run.
    """
    paths = [Path(run) / name / "predictions.tsv" for name in (BASELINE, DEEP, "06_multitask_model")]
    if not all(path.exists() for path in paths):
        return pd.DataFrame()
    rows = pd.concat([pd.read_csv(path, sep="\t", dtype={"participant_id": str}) for path in paths])
    rows = rows.drop_duplicates(["model", "participant_id", "repeat", "fold", "split"], ignore_index=True)
    other = rows["model"].isin(("majority", "shuffled labels")) | rows["model"].str.endswith(AS_TRAINED)
    people = load_participants(Path(run) / FIRST)
    people["sclerosis"] = people["mts"].map({True: "with sclerosis", False: "without"})
    table = subgroups(rows[~other & (rows["group"] != "control")], people, "sclerosis")
    best = table.drop_duplicates("model").sort_values(SIDE, ascending=False)["model"]
    return table.set_index("model").loc[best].reset_index()


def side_picture(run):
    """The front page's picture (HTML): `side_shares` with 95 % intervals, chance and the paper's values.

    Filled circles are patients with sclerosis, open ones those without; "" where nothing is known of the side.
    """
    table, step, top = side_shares(run), 38, 58
    if table.empty:
        return ""
    foot, groups, said = top + step * table["model"].nunique(), table.drop_duplicates("subgroup"), []
    head = " / ".join(groups["subgroup"]).replace(" sclerosis", "")
    parts = [f'<text x="400" y="12" text-anchor="end">{head}</text>']
    marks = [(paper_value(asked), f"the paper, {asked.model[:11]}") for asked in QUESTIONS[:2:-1]] + [(0.5, "chance")]
    for y, (value, name) in zip((27, 41, 55), marks, strict=True):
        parts.append(f'<path d="M{_x(value)} {y - 10}V{foot}" stroke-dasharray="{8 - y // 10} 4"/>')
        parts.append(f'<text x="{_x(value) - 4}" y="{y}" text-anchor="end">{name} {value:.2f}</text>')
    for row, (model, part) in enumerate(table.groupby("model", sort=False)):
        y, values = top + step * row + 15, " / ".join(f"{value:.2f}" for value in part[SIDE])
        said.append(f"{model}: {values}")
        parts.append(f'<text y="{y}">{escape(model)}</text><text x="400" y="{y}" text-anchor="end">{values}</text>')
        for place, one in zip((y + 7, y + 14), part.to_dict("records"), strict=False):
            low, value, high = (_x(one[f"{SIDE}{end}"]) for end in ("_low", "", "_high"))
            fill = "none" if one["subgroup"] == "without" else "currentColor"
            parts.append(f'<path d="M{low} {place}H{high}" opacity="0.5"/>')
            parts.append(f'<circle cx="{value}" cy="{place}" r="4" fill="{fill}"/>')
    who = " and ".join(f"{name} (n = {n})" for name, n in zip(groups["subgroup"], groups["n"], strict=True))
    label = escape(f"Share of patients whose side is named correctly, {who}. {'; '.join(said)}")
    svg = f'<svg class="tle-side" viewBox="0 0 400 {foot + 4}" role="img" aria-label="{label}">'
    return f"<div>{svg}{''.join(parts)}</svg></div>"


def _x(share):
    """Place of a share in `side_picture`, in pixels of its 400."""
    return round(8 + 384 * share)


def participants_table():
    """How many participants an accuracy must be measured on (Markdown), by the half width of its 95 % interval."""
    widths, accuracies = (0.10, 0.05, 0.03), (0.6, 0.7, 0.8, 0.9)
    rows = [[f"{accuracy:.0%}", *(_needed(accuracy, width) for width in widths)] for accuracy in accuracies]
    return markdown_table(["accuracy", *(f"± {100 * width:.0f} points" for width in widths)], rows)


def _needed(accuracy, width):
    """Least n at which half the Wilson interval of an accuracy is no wider than `width`."""
    return next(n for n in itertools.count(1) if -np.subtract(*wilson_interval(accuracy * n, n)) / 2 <= width)
