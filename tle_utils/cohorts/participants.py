"""Read a cohort: its participants table, its labels by the manifest's rules, and the scan of every participant."""

import os
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from tle_utils.base.errors import TLEError
from tle_utils.cohorts.download import verified_files
from tle_utils.cohorts.manifest import Bids, Derivatives, OpenNeuro, Planted, _inside, load_manifest
from tle_utils.cohorts.tables import MISSING, read_table, rows_text, some

_SCAN = (".nii", ".nii.gz", ".mgz")
_T1W = [f"sub-*/{session}anat/*_T1w{suffix}" for session in ("", "ses-*/") for suffix in _SCAN]
_MAPS = ["mwp1*", "mwc1*", "*space-MNI*label-GM*probseg*", "smwp1*", "smwc1*"]
_SEX = {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}

_FIELDS = {
    "participant_id": pa.Column(str, pa.Check.str_matches(r"^sub-[A-Za-z0-9]+$"), unique=True),
    "group": pa.Column(str, pa.Check.isin(["control", "left", "right", "exclude"])),
    "age": pa.Column(float, pa.Check.in_range(0, 120), nullable=True),
    "sex": pa.Column(str, pa.Check.isin(["F", "M", ""])),
    "site": pa.Column(str),
    "mts": pa.Column("boolean", nullable=True),
    "hippocampus_left": pa.Column(float, pa.Check.gt(0), nullable=True),
    "hippocampus_right": pa.Column(float, pa.Check.gt(0), nullable=True),
    "image": pa.Column(str),
    "image_kind": pa.Column(str, pa.Check.isin(["t1w", "gm"])),
}
SCHEMA = pa.DataFrameSchema(_FIELDS, strict="filter")


def _key(label):
    """What identifies a participant: the label without punctuation, a number without leading zeros."""
    label = re.sub(r"[^A-Za-z0-9]", "", label.removeprefix("sub-"))
    return str(int(label)) if label.isdigit() else label


def _natural(text):
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|\D+", text)]


def _scan_order(path):
    """First session, first run, then the plainest name."""
    entities = dict(re.findall(r"(ses|run)-([A-Za-z0-9]+)", path.name))
    return _natural(entities.get("ses", "")), _natural(entities.get("run", "")), len(path.name), path.name


def _find(name, entry, folder, notes):
    if entry.images:
        return [path for path in folder.glob(entry.images) if path.name.endswith(_SCAN)]
    if isinstance(entry, Bids):
        return [path for pattern in _T1W for path in folder.glob(pattern)]
    for pattern in _MAPS:
        if found := [path for path in folder.rglob(pattern) if path.name.endswith(_SCAN)]:
            notes.append(f"{name}: the maps named {pattern} are used")
            return found
    return []


def _label_of(path, folder, keys):
    """Participant label in a file's name: behind ``sub-``, or what the table calls the participant."""
    found = re.search(r"sub-([A-Za-z0-9]+)", path.name)
    found = found or re.search(r"sub-([A-Za-z0-9]+)", path.relative_to(folder).as_posix())
    if found:
        return found[1]
    stem = re.sub(r"^(s\d*)?mw[pc]1", "", path.name).split(".nii")[0].removesuffix(".mgz")
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", stem) if part]
    for n in range(len(parts), 0, -1):
        if _key("".join(parts[:n])) in keys:
            return "".join(parts[:n])
    return "".join(parts)


def _images(name, entry, folder, keys, manifest, notes):
    """Scan of every participant: key to (label, path)."""
    if isinstance(entry, OpenNeuro):
        good, bad = verified_files(name, manifest)
        found = [path for inside, path in good.items() if inside not in entry.table]
        bad = [path for path in bad if path.name not in entry.table]
        if bad:
            names = some(path.name for path in bad)
            notes.append(f"{name}: not the published files, left out: {names}: run python -m tle_utils fetch {name}")
    else:
        found = _find(name, entry, folder, notes)
        lost = [path.name for path in found if not path.is_file()]
        if lost:
            notes.append(f"{name}: links to files that are not there, left out: {some(sorted(lost))}")
        found = [path for path in found if path.is_file()]
    chosen, several = {}, {}
    for path in sorted(found, key=_scan_order):
        label = _label_of(path, folder, keys)
        first = chosen.setdefault(_key(label), (label, path))
        if first[0] != label:
            raise TLEError(f"{name}: sub-{first[0]} and sub-{label} differ only in leading zeros: rename one of them")
        if first[1] != path:
            several.setdefault(first[1].name, []).append(path.name)
    if several:
        names = some(f"{first} (not {some(rest, 2)})" for first, rest in several.items())
        notes.append(f"{name}: several scans, the first session and run is taken: {names}")
    return chosen


def _table_path(folder, text):
    """Path of a table; one of the same name but another type is taken where the named one is missing."""
    path = folder / Path(text).expanduser()
    same = (path.with_suffix(suffix) for suffix in (".tsv", ".csv", ".xlsx"))
    return path if path.exists() else next((other for other in same if other.exists()), path)


def _tables(name, entry, folder, manifest, notes):
    """All rows of the cohort's tables; columns " file" and " row" tell where a row stands."""
    published = verified_files(name, manifest)[0] if isinstance(entry, OpenNeuro) and not entry.table_from else None
    frames = []
    for text in entry.table:
        path = _table_path(folder, text)
        if isinstance(entry, OpenNeuro) and not path.exists():
            remedy = entry.table_from or f"run python -m tle_utils fetch {name} --only table"
            raise TLEError(f"{name}: downloads/{name}/{text} is missing: {remedy}")
        if published is not None and text not in published:
            remedy = f"delete it and run python -m tle_utils fetch {name} --only table"
            raise TLEError(f"{name}: downloads/{name}/{text} is not the published file: {remedy}")
        frame = read_table(path, notes)
        frames.append(frame.assign(**{" file": path.name, " row": frame.index}))
    table = pd.concat(frames, ignore_index=True)
    table[table.columns] = table.fillna(MISSING)
    files = some(table[" file"].unique())
    wanted = {getattr(entry.columns, field) for field in entry.columns.model_fields_set - {"mts"}}
    wanted |= {entry.columns.participant_id} | {column for rule in entry.labels for column in rule.when}
    wanted |= {entry.columns.mts.column} if entry.columns.mts else set()
    if lost := sorted(wanted - set(table.columns)):
        has = ", ".join(column for column in table.columns if not column.startswith(" "))
        where = f"which data_manifest.yaml names for cohort {name}"
        raise TLEError(f"{files}: no column {', '.join(map(repr, lost))}, {where}; the columns are {has}")
    return table


def _unique(table, column, notes):
    """Rows with an id, each participant once; rows that repeat word for word count as one."""
    nameless = table[column].map(_key) == ""
    nameless |= table[column] == MISSING
    for file, rows in table[nameless].groupby(" file"):
        notes.append(f"{file}: {rows_text(rows[' row'])}: no participant id; left out")
    table = table[~nameless]
    table = table.assign(**{" key": table[column].map(_key)})
    for _, rows in table[table[" key"].duplicated(keep=False)].groupby(" key", sort=False):
        place = some(f"{file} row {row}" for file, row in zip(rows[" file"], rows[" row"], strict=True))
        differ = [c for c in rows.columns if not c.startswith(" ") and c != column and rows[c].nunique() > 1]
        if differ:
            what = f"{rows[column].iloc[0]} stands twice ({place}) with different {some(differ)}"
            raise TLEError(f"{rows[' file'].iloc[0]}: {what}: keep one row")
        notes.append(f"{rows[' file'].iloc[0]}: {rows[column].iloc[0]} stands twice ({place}), the same; one is kept")
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
            notes.append(f"{row[' file']}: row {row[' row']}: no label rule fits ({values}); left out")
        result.append((rule.group, rule.reason) if rule else ("exclude", "no label rule fits"))
    return pd.DataFrame(result, columns=["group", "reason"], index=table.index, dtype=str)


def _converted(table, column, convert, missing, notes):
    """Column through `convert` (None: not readable); what is not readable becomes `missing` and is named."""
    if column not in table:
        return [missing] * len(table)
    values, odd = [], []
    for text, file, row in zip(table[column], table[" file"], table[" row"], strict=True):
        value = missing if text == MISSING else convert(text)
        if value is None:
            odd.append(f"{file} row {row} ('{text[:30]}')")
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


def _image_column(table, column, folder):
    """Scans that the table names, each inside the cohort's folder: key to (label, path)."""
    found = {}
    for label, text, file, row in zip(table[" label"], table[column], table[" file"], table[" row"], strict=True):
        try:
            path = folder / _inside(text)
        except ValueError as error:
            raise TLEError(f"{file}: row {row}: {error}") from None
        if text != MISSING and path.is_file():
            found[_key(label)] = (label, path)
    return found


def _read(name, manifest):
    """All participants of a cohort, excluded ones too, and what was odd."""
    entry, notes = manifest.cohort(name), []
    if not isinstance(entry, Bids | Derivatives | OpenNeuro):
        raise TLEError(f"cohort '{name}' is of kind {entry.kind}: it is made by notebook 01, there is no table to read")
    folder, names = manifest.folder(name), entry.columns
    if not isinstance(entry, OpenNeuro) and not folder.is_dir():
        raise TLEError(f"{name}: folder {entry.path} not found: set cohorts.{name}.path in data_manifest.yaml")
    table = _unique(_tables(name, entry, folder, manifest, notes), names.participant_id, notes)
    labels = _labels(table, entry.labels, notes)
    table[" label"] = [re.sub(r"[^A-Za-z0-9]", "", t.removeprefix("sub-")) for t in table[names.participant_id]]
    if "image" in names.model_fields_set:
        images = _image_column(table, names.image, folder)
    else:
        images = _images(name, entry, folder, set(table[" key"]), manifest, notes)
    strays = [path.name for key, (_, path) in images.items() if key not in set(table[" key"])]
    if strays:
        notes.append(f"{some(table[' file'].unique())}: no row for these scans, left out: {some(strays)}")
    pairs = [images.get(key, (label, "")) for key, label in zip(table[" key"], table[" label"], strict=True)]

    def numbers(column, convert):
        return pd.array(_converted(table, column, convert, float("nan"), notes), "float64")

    def sclerosis(text):
        return True if _fits(text, names.mts.present) else False if _fits(text, names.mts.absent) else None

    mts = _converted(table, names.mts.column if names.mts else None, sclerosis, pd.NA, notes)
    frame = pd.DataFrame(
        {
            "participant_id": [f"sub-{label}" for label, _ in pairs],
            "group": labels["group"],
            "age": numbers(names.age, _age),
            "sex": _converted(table, names.sex, lambda text: _SEX.get(text.casefold()), "", notes),
            "site": _converted(table, names.site, str, "" if names.site in table else name, notes),
            "mts": pd.array(mts, "boolean"),
            "hippocampus_left": numbers(names.hippocampus_left, _volume),
            "hippocampus_right": numbers(names.hippocampus_right, _volume),
            "image": [os.path.abspath(path) if path else "" for _, path in pairs],
            "image_kind": "gm" if isinstance(entry, Derivatives) else "t1w",
            "reason": labels["reason"],
            " place": [f"{file} row {row}" for file, row in zip(table[" file"], table[" row"], strict=True)],
        }
    )
    return frame, notes


def _finished(name, frame, notes, keep_excluded=False):
    """Check, attach and print what the reader must know."""
    excluded = frame.loc[frame["group"] == "exclude", ["participant_id", "reason"]]
    kept = frame if keep_excluded else frame[frame["group"] != "exclude"]
    reason = kept["reason"]
    try:
        kept = SCHEMA.validate(kept.drop(columns=["reason", " place"]).reset_index(drop=True))
    except pa.errors.SchemaError as error:
        raise TLEError(f"{name}: {str(error).splitlines()[0]}: mend the table") from None
    if keep_excluded:
        kept["reason"] = reason.to_numpy()
    kept.attrs.update(cohort=name, notes=notes, excluded=excluded.to_dict("records"))
    counts = label_counts(kept)
    text = [f"{n} {group}" for group, reason, n in counts.itertuples(index=False) if group != "exclude"]
    left = [f"{n} {reason}" for group, reason, n in counts.itertuples(index=False) if group == "exclude"]
    print("\n".join([*notes, f"{name}: {', '.join(text) or 'nobody'}; left out: {', '.join(left) or 'nobody'}"]))
    return kept


def label_counts(table):
    """Participants in each class, and those left out by reason.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of `load_cohort` or `load_table_only`.

    Returns
    -------
    pandas.DataFrame
        Columns ``group`` (control, left, right, exclude), ``reason`` (empty but for exclude) and ``n``.
    """
    kept = table.loc[table["group"] != "exclude", "group"].value_counts()
    rows = [(group, "", int(kept[group])) for group in ("control", "left", "right") if group in kept]
    reasons = pd.Series([e["reason"] for e in table.attrs.get("excluded", [])], dtype=str).value_counts(sort=False)
    rows += [("exclude", reason, int(n)) for reason, n in reasons.items()]
    return pd.DataFrame(rows, columns=["group", "reason", "n"])


def load_cohort(name, manifest=None):
    """Participants of a cohort that have a class and a scan.

    Prints a line for everything odd (with file and row) and the counts of each class and of those left out.

    Parameters
    ----------
    name : str
        Cohort of kind bids, derivatives or openneuro in the manifest.
    manifest : Manifest, optional
        By default the project's.

    Returns
    -------
    pandas.DataFrame
        One row a participant: ``participant_id`` (``sub-…``), ``group`` (control, left, right), ``age`` (years),
        ``sex`` (F, M or empty), ``site``, ``mts`` (nullable boolean), ``hippocampus_left`` and
        ``hippocampus_right`` (as the table has them; may be missing), ``image`` (absolute path), ``image_kind``
        (t1w or gm). ``attrs`` holds ``notes`` (the lines) and ``excluded`` (participants and reasons).

    Raises
    ------
    TLEError
        A table is missing or not readable, a column is missing, a participant stands in two different rows, or
        nobody is left.
    """
    manifest = manifest or load_manifest()
    frame, notes = _read(name, manifest)
    no_scan = (frame["image"] == "") & (frame["group"] != "exclude")
    if no_scan.any():
        notes.append(f"{name}: rows without a scan, left out: {some(frame.loc[no_scan, ' place'])}")
        frame.loc[no_scan, ["group", "reason"]] = ["exclude", "no scan"]
    if (frame["group"] == "exclude").all():
        why = some(sorted(set(frame["reason"])))
        fetch = isinstance(manifest.cohort(name), OpenNeuro)
        remedy = f"run python -m tle_utils fetch {name}" if fetch else f"check cohorts.{name} in data_manifest.yaml"
        raise TLEError(f"{name}: nobody is left of {len(frame)} rows ({why}): {remedy}")
    return _finished(name, frame, notes)


def load_table_only(name, manifest=None):
    """Every participant of a cohort's table, scans or not: for models that need only numbers.

    Parameters
    ----------
    name : str
        Cohort of kind bids, derivatives or openneuro in the manifest.
    manifest : Manifest, optional
        By default the project's.

    Returns
    -------
    pandas.DataFrame
        As `load_cohort`, but with the rows that the label rules exclude (``group`` is ``exclude``), with a column
        ``reason``, and with an empty ``image`` where there is none.
    """
    frame, notes = _read(name, manifest or load_manifest())
    return _finished(name, frame, notes, keep_excluded=True)


def data_files(name, manifest=None):
    """Local files that a run of a cohort reads: tables and scans.

    Parameters
    ----------
    name : str
        Any cohort of the manifest.
    manifest : Manifest, optional
        By default the project's.

    Returns
    -------
    list of pathlib.Path
        Empty for a phantom; those of the base for a planted cohort.
    """
    manifest = manifest or load_manifest()
    entry = manifest.cohort(name)
    if isinstance(entry, Planted):
        return data_files(entry.base, manifest)
    if not isinstance(entry, Bids | Derivatives | OpenNeuro):
        return []
    frame, _ = _read(name, manifest)
    used = frame.loc[(frame["group"] != "exclude") & (frame["image"] != ""), "image"]
    tables = [_table_path(manifest.folder(name), text) for text in entry.table]
    return tables + [Path(image) for image in used]


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
        One row a participant; ``map`` is the path of the grey-matter map.

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
