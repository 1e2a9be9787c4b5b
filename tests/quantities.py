"""What a run says twice: a quantity of the same participants has one value and one interval, wherever it stands."""

import json
import re

import numpy as np
import pandas as pd

from tle_utils.evaluation.model_choice import CHOSEN, COMPARATOR
from tle_utils.models.ideal_observer import IDEAL_OBSERVER

CHAPTERS = (
    "02_replication",
    "03_lateralization_baseline",
    "04_deep_model",
    "06_multitask_model",
    "07_model_comparison",
)
SIDE = "lateralization_accuracy"
SCLEROSIS = {"side": ("03_lateralization_baseline", SIDE), "class": ("03_lateralization_baseline", "accuracy")}
SCLEROSIS |= {"left": ("02_replication", "accuracy")}  # tasks of chapter 10: whose participants, and the metric
ALIKE = 2e-6  # tables have six decimals
VALUE = re.compile(r"(\d\.\d\d) \(95 % CI (\d\.\d\d)–(\d\.\d\d), n = \d+")
POINTS = re.compile(r"([+−]\d+\.\d) points[^(;]*\(95 % CI ([+−]\d+\.\d) to ([+−]\d+\.\d)")
ELSEWHERE = ("real-", "checked-", "leakage-", "multitask-hemispheres", "multitask-where")  # on others, or fewer folds


def _results(table, found, file):
    stems = [name for name in table if f"{name}_low" in table]
    extra = [name for name in ("cohort", "by", "subgroup") if name in table]
    for _, row in table.iterrows():
        who = (row["classes"], *(row[name] for name in extra))
        for stem in stems:
            found.append(((who, row["model"], stem), (row[stem], row[f"{stem}_low"], row[f"{stem}_high"]), file))
        found += [((who, row["model"], name), (row[name],) * 3, file) for name in ("brier", "ece")]


def _pairs(table, who, found, file):
    for row in table.itertuples():
        for model, value in ((row.model_a, row.value_a), (row.model_b, row.value_b)):
            found.append((((who,), model, row.metric), (value, np.nan, np.nan), file))
        ends, pair = (row.difference, row.ci_low, row.ci_high), (row.model_a, row.model_b)
        if pair != tuple(sorted(pair)):
            ends, pair = (-ends[0], -ends[2], -ends[1]), pair[::-1]
        found.append((((who,), pair, row.metric), ends, file))


def _curve(table, whole, who, found, file):
    full = table[table["folds"] == table["folds"].max()]
    for row in full[whole(full)].itertuples():
        found.append((((who,), row.model, SIDE), (row.value, row.ci_low, row.ci_high), file))


def quantities(folder):
    """What the tables of a run hold: (key, (value, low, high), file); ends are NaN where there is no interval."""
    found, classes = [], {}
    for chapter in CHAPTERS:
        tables = {path.name: path for path in (folder / chapter).glob("*.tsv") if path.read_text().strip()}
        read = {name: pd.read_csv(path, sep="\t") for name, path in tables.items() if name != "predictions.tsv"}
        if "results.tsv" not in read:
            continue
        who = classes[chapter] = read["results.tsv"]["classes"].iloc[0]
        for name, table in read.items():
            file = f"{chapter}/{name}"
            if {"model", "classes", "accuracy_low"} <= set(table):
                _results(table, found, file)
            elif {"model_a", "value_a", "difference"} <= set(table):
                _pairs(table, who, found, file)
            elif name == "gap.tsv":
                row = table.iloc[0]
                ends = {"difference": row["gain"], "ci_low": row["gain_low"], "ci_high": row["gain_high"]}
                pair = {"model_a": CHOSEN, "model_b": COMPARATOR, "metric": SIDE, "value_a": row["model"]}
                _pairs(pd.DataFrame([pair | ends | {"value_b": row["baseline"]}]), who, found, file)
                found.append((((who,), IDEAL_OBSERVER, SIDE), (row["bound"], np.nan, np.nan), file))
            elif name == "learning_curve.tsv":
                _curve(table, lambda part: part["size"] == part["size"].max(), who, found, file)
            elif name == "label_noise.tsv":
                _curve(table, lambda part: part["rate"] == 0, who, found, file)
    if (points := folder / "10_sclerosis" / "points.tsv").exists():
        for row in pd.read_csv(points, sep="\t").query("ours").to_dict("records"):
            chapter, metric = SCLEROSIS[row["task"]]
            ends = (row["accuracy"], row["accuracy_low"], row["accuracy_high"])
            found.append((((classes[chapter],), row["name"], metric), ends, points.name))
    return found


def contradictions(folder):
    """Quantities with two values or two intervals (list of str), and how many stand in more than one table."""
    by_key, twice, said = {}, 0, []
    for key, numbers, file in quantities(folder):
        by_key.setdefault(key, []).append((np.array(numbers, float), file))
    for key, places in by_key.items():
        twice += len({file for _, file in places}) > 1
        spread = np.array([numbers for numbers, _ in places])
        for column in spread.T:
            known = column[np.isfinite(column)]
            if len(known) and np.ptp(known) > ALIKE:
                said.append(f"{key}: {known.round(6).tolist()} in {[file for _, file in places]}")
                break
    return said, twice


def glued(folder):
    """Texts that the chapters glue, by key (dict)."""
    texts = {}
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        if path.stem in CHAPTERS:
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
                for output in cell.get("outputs", ()):
                    if name := output.get("metadata", {}).get("scrapbook", {}).get("name"):
                        texts[name] = "".join(next(iter(output["data"].values())))
    return {name: text for name, text in texts.items() if not name.startswith(ELSEWHERE)}


def texts_without_a_table(folder):
    """Numbers with an interval in glued texts that no table of the run holds (list of str), and how many there are."""
    numbers = [numbers for _, numbers, _ in quantities(folder)]
    known = {tuple(f"{value:.2f}" for value in row) for row in numbers}
    rows = [row for row in numbers if np.isfinite(row[1])]
    rows += [(-value, -high, -low) for value, low, high in rows]
    known |= {tuple(f"{100 * number:+z.1f}".replace("-", "−") for number in row) for row in rows}
    found = [(name, hit) for name, text in glued(folder).items() for hit in VALUE.findall(text) + POINTS.findall(text)]
    return [f"{name}: {hit}" for name, hit in found if hit not in known], len(found)
