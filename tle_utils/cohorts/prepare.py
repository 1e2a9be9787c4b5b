"""From a cohort of the manifest to grey-matter maps: make, plant, preprocess, and say what came of it."""

import functools
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.base.files import write_table
from tle_utils.base.parallel import run_parallel
from tle_utils.base.project import FILE_NAME
from tle_utils.cohorts.participants import load_cohort
from tle_utils.imaging import atlas, images
from tle_utils.phantom import maps, planting
from tle_utils.phantom.volumes import GROUPS, Knobs

COLUMNS = ["participant_id", "group", "age", "sex", "site", "mts", "hippocampus_left", "hippocampus_right", "true_loss"]


class Prepared(NamedTuple):
    """What `prepare_maps` made, for the page of notebook 01 (tables and a list).

    `quality` has the range of each figure of merit, `subjects` those of each participant with the orientation of the
    scan (both empty where nothing was preprocessed); `overlays` a tuple ``(label, T1w, grey matter)`` of everyone with
    a T1w; `flagged` who has a flag, an error or no usable scan, what became of them, and why, those whom the manifest
    or `limit` left out counted by reason; `failed` who was left out, and ``lost``: ``no`` where that was asked for.
    """

    quality: pd.DataFrame
    subjects: pd.DataFrame
    overlays: list
    flagged: pd.DataFrame
    failed: pd.DataFrame


def _first(table, limit):
    """At most `limit` participants of each class, in the order of the table; 0 keeps all. `attrs` get the rest."""
    if not limit:
        return table
    kept = table.groupby("group", sort=False).head(limit)
    over = table.drop(index=kept.index)
    reason = f"over the limit of {limit} participants per class"
    left = [{"participant_id": p, "place": "", "reason": reason, "lost": False} for p in over["participant_id"]]
    kept = kept.reset_index(drop=True)
    kept.attrs["left_out"] = table.attrs.get("left_out", []) + left
    return kept


def _left_before(table):
    """Who was left out before preprocessing, in the columns of ``failed.tsv``."""
    columns = ["participant_id", "error", "flags", "lost", "reason"]
    rows = []
    for one in table.attrs.get("left_out", []):
        error = f"{one['participant_id'] or one['place']}: {one['reason']}"
        where = f" ({one['place']})" if one["participant_id"] and one["place"] else ""
        rows.append([one["participant_id"], error + where, "", "yes" if one["lost"] else "no", one["reason"]])
    return pd.DataFrame(rows, columns=columns, dtype=str)


def _phantom(entry, folder, limit, seed, workers, knobs):
    counts = {f"n_{group}": min(n, limit or n) for group in GROUPS for n in [getattr(entry, f"n_{group}")]}
    fields = set(Knobs.__dataclass_fields__) - {"seed"}
    knobs = entry.model_dump(include=fields) | {name: value for name, value in knobs.items() if value is not None}
    table = maps.make_phantom(folder, **counts, **knobs, seed=seed, workers=workers)
    truth = pd.read_csv(folder / "truth.tsv", sep="\t").set_index("participant_id").loc[table["participant_id"]]
    effects = {side: truth[f"effect_{side}_hippocampus"] for side in ("left", "right")}
    effect = np.select([truth["true_side"] == side for side in effects], list(effects.values()), np.nan)
    return table.assign(true_loss=1 - np.exp(effect))


def _plant_one(person, folder, effect):
    """Path of a participant's scan with the planted loss and "", or "" and a line that says why there is none."""
    name, side = person["participant_id"], person["group"]
    if side == "control":
        return person["image"], ""
    try:
        return planting.planted_scan(person["image"], person["image_kind"], side, effect, folder / name), ""
    except TLEError as error:
        return "", f"{name}: {error}"


def _planted(cohort, folder, limit, seed, workers):
    entry, base = cohort.entry, load_cohort(cohort.base)
    n, planted = len(base), entry.n_left + entry.n_right
    if n < planted:
        what = f"{n} participants, fewer than n_left + n_right = {planted}"
        raise TLEError(f"{cohort.base.name} has {what}: lower them in {FILE_NAME}")
    order = np.random.default_rng([seed, n]).permutation(n)
    base.loc[order, "group"] = np.repeat(["left", "right", "control"], [entry.n_left, entry.n_right, n - planted])
    base = _first(base, limit)
    job = functools.partial(_plant_one, folder=folder, effect=entry.effect)
    done = run_parallel(job, base.to_dict("records"), label="planting", workers=workers)
    base["image"], base["error"] = zip(*done, strict=True)
    return base.assign(true_loss=np.where(base["group"] == "control", np.nan, entry.effect))


def _scans(cohort, folder, limit, seed, workers, knobs):
    """Participants of a cohort with their scans, which are made where need be."""
    if cohort.entry.kind == "phantom":
        return _phantom(cohort.entry, folder / "maps", limit, seed, workers, knobs)
    if cohort.entry.kind == "phantom_t1w":
        table = planting.make_phantom_t1w(folder / "scans", n=cohort.entry.n, seed=seed, workers=workers)
        return _first(table.assign(true_loss=table["effect"].where(table["group"] != "control")), limit)
    if cohort.entry.kind == "planted":
        return _planted(cohort, folder / "scans", limit, seed, workers)
    return _first(load_cohort(cohort), limit)


def prepare_maps(cohort, folder, *, limit, modulate, fwhm_mm, seed, workers, **knobs):
    """Make the grey-matter maps of a cohort and the table that later notebooks read; returns `Prepared`.

    `TLEError` where the cohort cannot be read, or no participant is left.

    Parameters
    ----------
    folder : path-like
        Gets ``participants.tsv``, ``failed.tsv`` (who was left out, and why), ``maps/`` and, where preprocessing ran,
        ``maps/qc.tsv``.
    limit : int
        Participants per class at most; 0 takes all.
    modulate : bool
        Multiply by the Jacobian determinant, so that volumes are kept.
    fwhm_mm : float
        Smoothing, full width at half maximum in mm; 0 for none.
    **knobs
        Of `maps.make_phantom`, in place of the manifest's; None keeps the manifest's.
    """
    folder = Path(folder)
    table = _scans(cohort, folder, limit, seed, workers, knobs)
    before, n = _left_before(table), len(table)
    table.attrs = {}
    unplanted = table[table["error"] != ""] if "error" in table else table[:0].assign(error="")
    table = table.drop(index=unplanted.index).drop(columns="error", errors="ignore")
    if table.empty:
        raise TLEError(f"{cohort.name}: no scan could be planted: {unplanted['error'].iloc[0]}")
    if cohort.entry.kind == "phantom" and not fwhm_mm:
        done = table.assign(map=table["image"].map(os.path.basename), passed=True, flags="", error="")
        merits = subjects = pd.DataFrame()
        images.write_description(folder / "maps")
    else:
        from tle_utils.imaging import preprocessing

        options = preprocessing.PreprocessingOptions(modulate=modulate, fwhm_mm=fwhm_mm)
        quality = preprocessing.preprocess_cohort(table, folder / "maps", options, workers)
        volumes = ["hippocampus_left", "hippocampus_right"]
        quality = quality.rename(columns={f"{name}_ml": name for name in volumes})
        numbers = quality.select_dtypes("number").assign(**{"": 0.0})  # at least one column, for describe
        merits = numbers.describe().T[["min", "50%", "max"]].drop(index="")
        merits = merits.rename(columns={"50%": "median"}).rename_axis("figure of merit").round(3)
        subjects = quality.drop(columns=["map", "flags", "error"]).set_index("participant_id").round(3)
        done = table.drop(columns=volumes).merge(quality, on="participant_id")
    kept = done[done["passed"]].reset_index(drop=True)
    failed = pd.concat([unplanted.assign(flags=""), done[~done["passed"]]])
    assert n == len(kept) + len(failed), "participants do not add up"
    failed = pd.concat([before, failed.assign(lost="yes")])[["participant_id", "error", "flags", "lost"]]
    if kept.empty:
        why = failed["error"] + failed["flags"]
        raise TLEError(f"{cohort.name}: no participant passed preprocessing: {why.iloc[len(before)]}")
    write_table(folder / "failed.tsv", failed)
    kept = kept.reindex(columns=[*COLUMNS, "map"]).assign(map=[f"maps/{name}" for name in kept["map"]])
    write_table(folder / "participants.tsv", kept, digits=6)
    made = done[done["map"] != ""]
    return Prepared(
        merits,
        subjects,
        _overlays(folder, made),
        _flagged(pd.concat([unplanted.assign(flags="", passed=False), done]), before),
        failed.reset_index(drop=True),
    )


def _flagged(done, before):
    """Participants with a flag or an error, and what became of them; those left out as asked for, counted by reason."""
    found = done[(done["flags"] != "") | (done["error"] != "")]
    lost, asked = before[before["lost"] == "yes"], before.loc[before["lost"] == "no", "reason"].value_counts(sort=False)
    rows = [(name, "left out", error) for name, error in zip(lost["participant_id"], lost["error"], strict=True)]
    became = np.where(found["passed"], "kept, look at it", "left out")
    rows += zip(found["participant_id"], became, found["error"] + found["flags"], strict=True)
    rows += [(f"{n} participants", "left out, as asked for", reason) for reason, n in asked.items()]
    return pd.DataFrame(rows, columns=["participant_id", "became", "reason"]).set_index("participant_id")


def _overlays(folder, made):
    """Label, T1w and map of every participant that has both; those left out are marked."""
    found = []
    for person, name, passed in zip(made["participant_id"], made["map"], made["passed"], strict=True):
        scan = folder / "maps" / f"{person}_space-{atlas.SPACE}_desc-preproc_T1w.nii.gz"
        if scan.exists():
            found.append((person if passed else f"{person} (left out)", scan, folder / "maps" / name))
    return found


def describe_cohort(participants):
    """Table of who is in the cohort, a row per class: ``n``, age (years), women, mean hippocampal volumes (ml)."""
    rows = [
        {
            "class": group,
            "n": len(part),
            "age (years, mean ± SD)": f"{part['age'].mean():.0f} ± {part['age'].std():.0f}",
            "women": int((part["sex"] == "F").sum()),
            "left hippocampus (ml)": round(part["hippocampus_left"].mean(), 2),
            "right hippocampus (ml)": round(part["hippocampus_right"].mean(), 2),
        }
        for group, part in participants.groupby("group")
    ]
    return pd.DataFrame(rows).set_index("class")


def against_truth(participants):
    """Hippocampal asymmetry measured on the maps against what was planted: a table with a row per class.

    ``true loss`` and ``recovered loss`` are means, as shares of the volume; the loss is recovered from the ratio of the
    affected to the other side, over the same ratio in controls. ``asymmetry`` is the mean of (left - right) /
    (left + right), ``smaller on its side`` the share of patients whose affected hippocampus is the smaller one. Empty
    where nothing is known to be planted.
    """
    if participants["true_loss"].isna().all():
        return pd.DataFrame()
    left, right = participants["hippocampus_left"], participants["hippocampus_right"]
    ratio = {"left": left / right, "right": right / left}
    control = participants["group"] == "control"
    rows = []
    for group in GROUPS:
        part = participants["group"] == group
        row = {"class": group, "n": int(part.sum()), "asymmetry": atlas.asymmetry_index(left, right)[part].mean()}
        if group != "control":
            row["true loss"] = participants.loc[part, "true_loss"].mean()
            row["recovered loss"] = 1 - ratio[group][part].mean() / ratio[group][control].mean()
            row["smaller on its side"] = (ratio[group][part] < 1).mean()
        rows.append(row)
    return pd.DataFrame(rows).set_index("class").round(3)
