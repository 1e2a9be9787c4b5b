"""Who is in a cohort: the rows of its tables, a class for each by the manifest's rules, and the table they end in."""

import os
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.base.project import FILE_NAME
from tle_utils.cohorts.download import verified_files
from tle_utils.cohorts.manifest import Local, OpenNeuro, Scans
from tle_utils.cohorts.scans import key_of, label_of, scans_of
from tle_utils.cohorts.tables import MISSING, read_table, some

_SEX = {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}


def _table_path(cohort, text):
    """Path of a table; one of the same name but another type is taken where the named one is missing."""
    path = cohort.folder / Path(text).expanduser()
    same = (path.with_suffix(suffix) for suffix in (".tsv", ".csv", ".xlsx"))
    return path if path.exists() else next((other for other in same if other.exists()), path)


def _check_downloaded(cohort):
    """Refuse tables of a downloaded cohort that are missing or are not the published ones."""
    entry, published = cohort.entry, [] if cohort.entry.table_from else verified_files(cohort)[0]
    remedy = f"run python -m tle_utils fetch {cohort.name} --only table"
    for text in entry.table:
        where = f"{cohort.name}: downloads/{cohort.name}/{text}"
        if not _table_path(cohort, text).exists():
            raise TLEError(f"{where} is missing: {entry.table_from or remedy}")
        if not entry.table_from and text not in published:
            raise TLEError(f"{where} is not the published file: delete it and {remedy}")


def _joined(cohort, notes):
    """All rows of the cohort's tables; column " place" tells where a row stands."""
    entry, frames = cohort.entry, []
    if isinstance(entry, OpenNeuro):
        _check_downloaded(cohort)
    for path in (_table_path(cohort, text) for text in entry.table):
        frame = read_table(path, notes)
        frames.append(frame.assign(**{" place": [f"{path.name} row {row}" for row in frame.index]}))
    table = pd.concat(frames, ignore_index=True)
    table[table.columns] = table.fillna(MISSING)
    wanted = {getattr(entry.columns, field) for field in entry.columns.model_fields_set - {"mts"}}
    wanted |= {entry.columns.participant_id} | {column for rule in entry.labels for column in rule.when}
    wanted |= {entry.columns.mts.column} if entry.columns.mts else set()
    if lost := sorted(wanted - set(table.columns)):
        has = ", ".join(column for column in table.columns if not column.startswith(" "))
        where = f"which {FILE_NAME} names for cohort {cohort.name}"
        raise TLEError(f"{some(entry.table)}: no column {', '.join(map(repr, lost))}, {where}; the columns are {has}")
    return table


def _unique(table, column, notes):
    """Rows with an id, each participant once; rows that repeat word for word count as one."""
    table = table.assign(**{" key": table[column].map(key_of), " label": table[column].map(label_of)})
    nameless = (table[" key"] == "") | (table[column] == MISSING)
    if nameless.any():
        notes.append(f"{some(table.loc[nameless, ' place'])}: no participant id; left out")
    table = table[~nameless]
    for _, rows in table[table[" key"].duplicated(keep=False)].groupby(" key", sort=False):
        what = f"{rows[column].iloc[0]} stands twice ({some(rows[' place'])})"
        differ = [c for c in rows.columns if not c.startswith(" ") and c != column and rows[c].nunique() > 1]
        if differ:
            raise TLEError(f"{what} with different {some(differ)}: keep one row")
        notes.append(f"{what}, the same; one is kept")
    return table.drop_duplicates(" key").reset_index(drop=True)


def _fits(text, patterns):
    return any(fnmatchcase(text.casefold(), (pattern or MISSING).casefold()) for pattern in patterns)


def _labels(table, rules, notes):
    """Class and reason of every row; the first rule that fits decides."""
    columns = list(dict.fromkeys(column for rule in rules for column in rule.when))
    result = []
    for _, row in table.iterrows():
        fitting = (rule for rule in rules if all(_fits(row[c], values) for c, values in rule.when.items()))
        rule = next(fitting, None)
        if rule is None:
            values = ", ".join(f"{c} = {row[c]}" for c in columns)
            notes.append(f"{row[' place']}: no label rule fits ({values}); left out")
        result.append((rule.group, rule.reason) if rule else ("exclude", "no label rule fits"))
    return pd.DataFrame(result, columns=["group", "reason"], index=table.index, dtype=str)


def _converted(table, column, convert, missing, notes):
    """Column through `convert` (None: not readable); what is not readable becomes `missing` and is named."""
    if column not in table:
        return [missing] * len(table)
    values, odd = [], []
    for text, place in zip(table[column], table[" place"], strict=True):
        value = missing if text == MISSING else convert(text)
        if value is None:
            odd.append(f"{place} ('{text[:30]}')")
        values.append(missing if value is None else value)
    if odd:
        notes.append(f"{column}: not readable, left empty: {some(odd)}")
    return values


def _age(text):
    """Age in years; of a range such as ``20 to 24`` the middle, of ``over 55`` the number."""
    text, number = re.sub(r"(?<=\d),(?=\d)", ".", text.casefold()), r"(\d+(?:\.\d+)?)"
    one = rf"(?:less than|under|over|[<>≤≥]=?)?\s*{number}\s*(?:\+|y|years?)?"
    found = re.fullmatch(one, text) or re.fullmatch(rf"{number}\s*(?:to|-|–)\s*{number}", text)
    age = sum(map(float, found.groups())) / len(found.groups()) if found else -1
    return age if 0 <= age <= 120 else None


def _volume(text):
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def _read(cohort):
    """All participants of a cohort, excluded ones too, with " place", where the row stands; and what was odd."""
    name, entry, notes = cohort.name, cohort.entry, []
    if not isinstance(entry, Scans):
        raise TLEError(f"cohort '{name}' is of kind {entry.kind}: it is made by notebook 01, there is no table to read")
    if isinstance(entry, Local) and not cohort.folder.is_dir():
        raise TLEError(f"{name}: folder {entry.path} not found: set cohorts.{name}.path in {FILE_NAME}")
    columns = entry.columns
    table = _unique(_joined(cohort, notes), columns.participant_id, notes)
    labels = _labels(table, entry.labels, notes)
    scans = scans_of(cohort, table, notes)
    pairs = [scans.get(key, (label, "")) for key, label in zip(table[" key"], table[" label"], strict=True)]

    def numbers(column, convert):
        return pd.array(_converted(table, column, convert, float("nan"), notes), "float64")

    def sclerosis(text):
        return True if _fits(text, columns.mts.present) else False if _fits(text, columns.mts.absent) else None

    mts = _converted(table, columns.mts.column if columns.mts else None, sclerosis, pd.NA, notes)
    frame = pd.DataFrame(
        {
            "participant_id": [f"sub-{label}" for label, _ in pairs],
            "group": labels["group"],
            "age": numbers(columns.age, _age),
            "sex": _converted(table, columns.sex, lambda text: _SEX.get(text.casefold()), "", notes),
            "site": _converted(table, columns.site, str, "" if columns.site in table else name, notes),
            "mts": pd.array(mts, "boolean"),
            "hippocampus_left": numbers(columns.hippocampus_left, _volume),
            "hippocampus_right": numbers(columns.hippocampus_right, _volume),
            "image": [os.path.abspath(path) if path else "" for _, path in pairs],
            "image_kind": "gm" if entry.kind == "derivatives" else "t1w",
            "reason": labels["reason"],
            " place": table[" place"],
        }
    )
    return frame, notes


def _said(cohort, frame, notes):
    """The table without its helper columns; prints what the reader must know, and how many are in each class."""
    kept, excluded = frame[frame["group"] != "exclude"], frame[frame["group"] == "exclude"]
    text = ", ".join(f"{n} {group}" for group, n in kept["group"].value_counts().sort_index().items())
    left = ", ".join(f"{n} {reason}" for reason, n in excluded["reason"].value_counts(sort=False).items())
    print("\n".join([*notes, f"{cohort.name}: {text or 'nobody'}; left out: {left or 'nobody'}"]))
    return frame.drop(columns=" place")


def load_cohort(cohort):
    """Participants of a cohort that have a class and a scan.

    Prints a line for everything odd (with file and row) and the counts of each class and of those left out.

    Returns
    -------
    pandas.DataFrame
        One row per participant: ``participant_id`` (``sub-…``), ``group`` (control, left, right), ``age`` (years),
        ``sex`` (F, M or empty), ``site``, ``mts`` (nullable boolean), ``hippocampus_left`` and
        ``hippocampus_right`` (as the table has them; may be missing), ``image`` (absolute path), ``image_kind``
        (t1w or gm). ``attrs["excluded"]`` lists the others with the reason.

    Raises
    ------
    TLEError
        The cohort has no tables, a table is missing or not readable, a column is missing, a participant stands in two
        different rows, or nobody is left.
    """
    frame, notes = _read(cohort)
    no_scan = (frame["image"] == "") & (frame["group"] != "exclude")
    if no_scan.any():
        notes.append(f"{cohort.name}: rows without a scan, left out: {some(frame.loc[no_scan, ' place'])}")
        frame.loc[no_scan, ["group", "reason"]] = ["exclude", "no scan"]
    excluded = frame["group"] == "exclude"
    if excluded.all():
        fetch, check = f"run python -m tle_utils fetch {cohort.name}", f"check cohorts.{cohort.name} in {FILE_NAME}"
        remedy = fetch if isinstance(cohort.entry, OpenNeuro) else check
        why = some(sorted(set(frame["reason"])))
        raise TLEError(f"{cohort.name}: nobody is left of {len(frame)} rows ({why}): {remedy}")
    kept = _said(cohort, frame, notes)[~excluded].drop(columns="reason").reset_index(drop=True)
    kept.attrs["excluded"] = frame.loc[excluded, ["participant_id", "reason"]].to_dict("records")
    return kept


def load_table_only(cohort):
    """Every participant of a cohort's tables, scans or not: for models that need only numbers.

    Returns
    -------
    pandas.DataFrame
        As `load_cohort`, but with the rows that the label rules exclude (``group`` is ``exclude``), with a column
        ``reason``, and with an empty ``image`` where there is none.
    """
    return _said(cohort, *_read(cohort))


def data_files(cohort):
    """Local files that a run of a cohort reads: tables and scans; none for a phantom, those of the base for planted.

    Returns
    -------
    list of pathlib.Path
    """
    if cohort.base:
        return data_files(cohort.base)
    if not isinstance(cohort.entry, Scans):
        return []
    frame, _ = _read(cohort)
    used = frame.loc[(frame["group"] != "exclude") & (frame["image"] != ""), "image"]
    return [_table_path(cohort, text) for text in cohort.entry.table] + [Path(image) for image in used]


def load_participants(folder, groups=None):
    """Read the participants whose maps notebook 01 made.

    Parameters
    ----------
    folder : path-like
        Results of notebook 01: ``participants.tsv`` and the maps it names.
    groups : sequence of str, optional
        Keep these classes only.

    Returns
    -------
    pandas.DataFrame
        One row per participant; ``map`` is the path of the grey-matter map.

    Raises
    ------
    TLEError
        When the table has no row of these classes.
    """
    folder = Path(folder)
    table = pd.read_csv(folder / "participants.tsv", sep="\t", dtype={"participant_id": str, "site": str})
    if groups is not None:
        table = table[table["group"].isin(groups)]
    if table.empty:
        wanted = f" of class {' or '.join(groups)}" if groups else ""
        raise TLEError(f"participants.tsv has no participant{wanted}: choose another cohort or check its labels")
    return table.assign(map=[str(folder / name) for name in table["map"]]).reset_index(drop=True)
