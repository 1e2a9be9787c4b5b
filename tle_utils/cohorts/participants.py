"""Who is in a cohort: the rows of its tables, a class for each by the manifest's rules, and the table they end in."""

import os
import re
import unicodedata
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.base.project import FILE_NAME
from tle_utils.cohorts.download import verified_files
from tle_utils.cohorts.manifest import Local, OpenNeuro, Scans
from tle_utils.cohorts.scans import folded, label_of, scans_of
from tle_utils.cohorts.tables import MISSING, read_table, some

_SEX = {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}


def _table_path(cohort, text):
    """Path of a table; one of the same name but another type is taken where the named one is missing."""
    path = cohort.folder / Path(text).expanduser()
    same = (path.with_suffix(suffix) for suffix in (".tsv", ".csv", ".xlsx"))
    return path if os.path.exists(path) else next((other for other in same if os.path.exists(other)), path)


def _check_downloaded(cohort):
    """Refuse tables of a downloaded cohort that are missing or are not the published ones."""
    entry, published = cohort.entry, [] if cohort.entry.table_from else verified_files(cohort)[0]
    remedy = f"run python -m tle_utils fetch {cohort.name} --only table"
    for text in entry.table:
        where = f"{cohort.name}: downloads/{cohort.name}/{text}"
        if not os.path.exists(_table_path(cohort, text)):
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


def _left(label, place, reason, lost=True):
    """One line of who is left out: `lost`, or asked for by the manifest or by a parameter."""
    return {"participant_id": f"sub-{label}" if label else "", "place": place, "reason": reason, "lost": lost}


def _unique(table, column, left):
    """Rows with an id, each participant once; `left` gets rows without an id, and those that repeat word for word."""
    labels = []
    for text, place in zip(table[column], table[" place"], strict=True):
        try:
            labels.append("" if text == MISSING or _unreadable(text) else label_of(text))
        except TLEError as error:
            raise TLEError(f"{place}: {error}") from None
    table = table.assign(**{" label": labels})
    for place in table.loc[table[" label"] == "", " place"]:
        left.append(_left("", place, "no participant id"))
    table, alike = table[table[" label"] != ""], {}
    for label, rows in table[table[" label"].duplicated(keep=False)].groupby(" label", sort=False):
        places = rows[" place"].tolist()
        if differ := [c for c in rows.columns if c[0] != " " and c != column and rows[c].nunique() > 1]:
            what = f"sub-{label} stands twice ({some(places)}) with different {some(differ)}"
            raise TLEError(f"{what}: keep one row")
        reason = f"stands twice, word for word ({places[0]} is kept)"
        left += [_left(label, place, reason, lost=False) for place in places[1:]]
    for label, place in zip(table[" label"], table[" place"], strict=True):
        other, where = alike.setdefault(folded(label), (label, place))
        if other != label:
            both = f"the ids {other} ({where}) and {label} ({place})"
            raise TLEError(f"{both} differ only in how letters are written, and files are named by ids: rename one")
    return table.drop_duplicates(" label").reset_index(drop=True)


def _unreadable(text):
    """Whether a cell holds a formula without a value, or a value that a spreadsheet could not work out."""
    return re.match(r"=|#(REF|VALUE|NAME|DIV/0|NUM|NULL|N/A)[!?]?$", text) is not None


_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")


def _fits(text, patterns):
    """Whether a cell is one of some values, which may hold ``*`` and ``?``; the number 1.0 is 1, the text 01 is not."""
    text = unicodedata.normalize("NFC", text).casefold()
    patterns = [(pattern or MISSING).casefold().replace("[", "[[]") for pattern in patterns]
    number = float(text) if _NUMBER.fullmatch(text) else None
    same = (float(pattern) == number for pattern in patterns if number is not None and _NUMBER.fullmatch(pattern))
    return any(fnmatchcase(text, pattern) for pattern in patterns) or any(same)


def _labels(table, rules):
    """Class, reason and `` lost`` of every row; the first rule that fits decides, if what it reads is sound."""
    columns = list(dict.fromkeys(column for rule in rules for column in rule.when))
    result = []
    for _, row in table.iterrows():
        odd = {column for column in columns if _unreadable(row[column])}
        fitting = (r for r in rules if all(_fits(row[c], values) for c, values in r.when.items() if c not in odd))
        rule = next(fitting, None)
        if rule is None:
            values = ", ".join(f"{column} = {row[column]}" for column in columns)
            found = "exclude", f"no label rule fits ({values})", True
        elif unsound := [f"{column}: '{row[column][:30]}' has no value" for column in rule.when if column in odd]:
            found = "exclude", f"{unsound[0]}: open the table, let it be worked out, and save it as CSV or XLSX", True
        else:
            found = rule.group, rule.reason, False
        result.append(found)
    return pd.DataFrame(result, columns=["group", "reason", " lost"], index=table.index)


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


def _people(cohort):
    """All participants of a cohort, each once, with label, class and place; who else is left out; what was odd."""
    name, entry, notes, left = cohort.name, cohort.entry, [], []
    if not isinstance(entry, Scans):
        raise TLEError(f"cohort '{name}' is of kind {entry.kind}: it is made by notebook 01, there is no table to read")
    if isinstance(entry, Local) and not os.path.isdir(cohort.folder):
        raise TLEError(f"{name}: folder {entry.path} not found: set cohorts.{name}.path in {FILE_NAME}")
    columns, joined = entry.columns, _joined(cohort, notes)
    table = _unique(joined, columns.participant_id, left)
    assert len(joined) == len(table) + len(left), "rows do not add up"

    def numbers(column, convert):
        return pd.array(_converted(table, column, convert, float("nan"), notes), "float64")

    def sclerosis(text):
        return True if _fits(text, columns.mts.present) else False if _fits(text, columns.mts.absent) else None

    labels = _labels(table, entry.labels)
    mts = _converted(table, columns.mts.column if columns.mts else None, sclerosis, pd.NA, notes)
    frame = pd.DataFrame(
        {
            "participant_id": "sub-" + table[" label"],
            "group": labels["group"],
            "age": numbers(columns.age, _age),
            "sex": _converted(table, columns.sex, lambda text: _SEX.get(text.casefold()), "", notes),
            "site": _converted(table, columns.site, str, "" if columns.site in table else name, notes),
            "mts": pd.array(mts, "boolean"),
            "hippocampus_left": numbers(columns.hippocampus_left, _volume),
            "hippocampus_right": numbers(columns.hippocampus_right, _volume),
            "reason": labels["reason"],
            " lost": labels[" lost"],
            " label": table[" label"],
            " place": table[" place"],
        }
    )
    if columns.image in table:
        frame[" image"] = table[columns.image]
    return frame, left, notes


def _with_scans(cohort):
    """Participants with a class and a scan; everybody else; what was odd."""
    people, left, notes = _people(cohort)
    matched = scans_of(cohort, people.assign(**{" wanted": people["group"] != "exclude"}), notes)
    lost = people[" label"].map(matched.lost).dropna()
    people.loc[lost.index, "reason"], people.loc[lost.index, ["group", " lost"]] = lost, ["exclude", True]
    out = people["group"] == "exclude"
    left += [_left(*row) for row in people.loc[out, [" label", " place", "reason", " lost"]].itertuples(index=False)]
    left += [_left(*stray) for stray in matched.strays]
    kept = people[~out].reset_index(drop=True)
    kept["image"] = [os.path.abspath(matched.scans[label]) for label in kept[" label"]]
    kept["image_kind"] = "gm" if cohort.entry.kind == "derivatives" else "t1w"
    assert len(kept) == len(matched.scans), "scans do not add up"
    return kept, left, notes


def _reasons(reasons):
    """Reasons with how often each was given; what stands in brackets counts as one."""
    return ", ".join(f"{n} {reason}" for reason, n in Counter(re.sub(r" \(.*", "", r) for r in reasons).items())


def _say(cohort, groups, left, notes):
    """Print what the reader must know, and how many are in each class; each of those that were lost has a line."""
    counts = ", ".join(f"{n} {group}" for group, n in groups.value_counts().sort_index().items())
    lines = [f"{one['place']}: {one['participant_id'] or 'nobody'}: {one['reason']}" for one in left if one["lost"]]
    out = _reasons(one["reason"] for one in left)
    print("\n".join([*notes, *lines, f"{cohort.name}: {counts or 'nobody'}; left out: {out or 'nobody'}"]))


def _plain(frame):
    return frame.drop(columns=[column for column in frame if column.startswith(" ")])


def load_cohort(cohort):
    """Participants of a cohort that have a class and a scan.

    Prints which scans are whose (the first few), a line for everybody who is lost and for everything odd (with file
    and row), and the counts of each class and of those left out.

    Returns
    -------
    pandas.DataFrame
        One row per participant: ``participant_id`` (``sub-`` and the label, see `tle_utils.cohorts.scans`), ``group``
        (control, left, right), ``age`` (years), ``sex`` (F, M or empty), ``site``, ``mts`` (nullable boolean),
        ``hippocampus_left`` and ``hippocampus_right`` (as the table has them; may be missing), ``image`` (absolute
        path), ``image_kind`` (t1w or gm). ``attrs["left_out"]`` lists everybody else (dict): ``participant_id`` (empty
        where there is none), ``place`` (row or file), ``reason``, and ``lost`` (bool), which is False where the
        manifest asked for it.

    Raises
    ------
    TLEError
        The cohort has no tables, a table is missing or not readable, a column is missing, a participant stands in two
        different rows, nobody is left, or `scans.scans_of` cannot tell which scan is meant.
    """
    kept, left, notes = _with_scans(cohort)
    if kept.empty:
        fetch, check = f"run python -m tle_utils fetch {cohort.name}", f"check cohorts.{cohort.name} in {FILE_NAME}"
        remedy = fetch if isinstance(cohort.entry, OpenNeuro) else check
        why = _reasons(one["reason"] for one in left)
        hint = notes[-1].removeprefix(cohort.name) if notes and " ids have no scan " in notes[-1] else f": {remedy}"
        raise TLEError(f"{cohort.name}: nobody is left of {len(left)} rows and scans ({why}){hint}")
    _say(cohort, kept["group"], left, notes)
    kept = _plain(kept.drop(columns="reason"))
    kept.attrs["left_out"] = left
    return kept


def load_table_only(cohort):
    """Every participant of a cohort's tables, scans or not: for models that need only numbers.

    Returns
    -------
    pandas.DataFrame
        As `load_cohort`, but without ``image`` and ``image_kind``, with the rows that the label rules exclude
        (``group`` is ``exclude``) and with a column ``reason``.
    """
    people, left, notes = _people(cohort)
    out = people[people["group"] == "exclude"]
    left += [_left(*row) for row in out[[" label", " place", "reason", " lost"]].itertuples(index=False)]
    _say(cohort, people.drop(index=out.index)["group"], left, notes)
    return _plain(people)


def data_files(cohort, notes=None):
    """Local files that a run of a cohort reads: tables and scans; none for a phantom, those of the base for planted.

    Scans that may not be read are not among them: notebook 01 names who is lost. `notes` gets which scan is whose.

    Returns
    -------
    list of pathlib.Path
    """
    if cohort.base:
        return data_files(cohort.base, notes)
    if not isinstance(cohort.entry, Scans):
        return []
    kept, _, found = _with_scans(cohort)
    if notes is not None:
        notes += found
    return [_table_path(cohort, text) for text in cohort.entry.table] + [Path(image) for image in kept["image"]]


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
