"""Which file belongs to whom, and which of a participant's files is taken; nothing is guessed.

The **label** of a participant is the text of the id column, stripped and in Unicode's NFC form, without a leading
``sub-``; nothing else is dropped or added. A file belongs to the participant whose label it carries, letter by letter:

- a name that begins with ``sub-`` (of a map: behind the tool's prefix, such as ``mwp1``) is read by the rules of BIDS:
  its label stands between ``sub-`` and the next ``_``, and its ``sub-`` and ``ses-`` folders must say the same; a part
  that BIDS does not know (``sub-P1_1_T1w``) stops the run, since the label may go on there;
- of any other map the whole name without prefix and extension is the label; any other scan of BIDS stops the run;
- where the manifest says ``ids: {from: regex}``, its one group, searched in the path inside the folder, is the label;
- where the manifest names a column ``image``, the table says which file is whose.

**Which file is taken** is said by the manifest (`FIELDS`). What chooses alone: there is only one file; a file without
``ce-`` beside those with it. Else the run stops and shows what there is. It stops as well where participants would get
files of different kinds (`COMPARED`), and where one scan stands under two participants.
"""

import os
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tle_utils.base.errors import TLEError
from tle_utils.base.fingerprints import sha256
from tle_utils.base.project import FILE_NAME
from tle_utils.cohorts.download import published_files, verified_files
from tle_utils.cohorts.manifest import OpenNeuro, inside
from tle_utils.cohorts.tables import MISSING, pointer, some
from tle_utils.imaging.names import SEGMENTED, kind_by_name

SUFFIXES = (".nii.gz", ".nii", ".mgz")
FIELDS = {name: name for name in ("acq", "run", "ce", "rec", "space", "res", "desc", "folder")} | {"session": "ses"}
MAP_KINDS = ("prefix", "space", "res", "desc", "den", "label", "segm", "modulated", "fwhm", "suffix")
COMPARED = ("folder", "ses", "acq", "ce", "rec", "part", "inv", "echo", *MAP_KINDS)
_WALKED = re.compile(r"sub-[^/]+(/ses-[^/]+)?(/anat)?")
_WORDS = ("T1w", "UNIT1", "probseg", "probability")  # parts of a BIDS name without a value
_TEMPLATE = re.compile(r"MNI|Ixi549")


class Scan(NamedTuple):
    """A file that may be somebody's scan: where it lies, whose it is ("": nobody's), what name and folder say."""

    path: Path
    place: str
    label: str
    said: dict
    fault: str = ""


class Matched(NamedTuple):
    """Scans by label, why others have none (by label), and files that no row belongs to (label, place, reason)."""

    scans: dict
    lost: dict
    strays: list


def label_of(text):
    """Label (str) of a participant's id; TLEError where no file may be called so."""
    label = unicodedata.normalize("NFC", text.strip()).removeprefix("sub-")
    odd = [letter for letter in label if letter in "/\\" or unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")]
    if odd or label.startswith("."):
        what = "begins with a dot" if not odd else f"holds {ascii(odd[0])}"
        raise TLEError(f"the id {ascii(text)} {what}, and files are named by ids: write it without")
    return label


def folded(label):
    """What labels are compared by to find two that a reader or a disk takes for one (str)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())


def _walk(cohort):
    """Files with the extension of a scan in the cohort's folder, and folders that may not be read, as paths in it."""
    folder, closed, found = cohort.folder, [], []
    pruned = cohort.entry.kind == "bids" and not cohort.entry.images
    for parent, folders, names in os.walk(
        folder, onerror=lambda error: closed.append(error.filename), followlinks=True
    ):
        here, real = Path(parent).relative_to(folder).as_posix(), os.path.realpath(parent)
        inner = {name: name if here == "." else f"{here}/{name}" for name in sorted(folders)}
        folders[:] = [
            name
            for name, place in inner.items()
            if not name.startswith(".")
            and (not pruned or _WALKED.fullmatch(place))
            and os.path.commonpath([real, target := os.path.realpath(f"{parent}/{name}")]) != target
        ]
        found += [Path(parent, name) for name in sorted(names) if name.endswith(SUFFIXES) and name[0] != "."]
    return found, [os.path.relpath(path, folder) for path in closed]


def _is_scan(cohort, path):
    """Whether a file is a T1w scan of BIDS, or a grey-matter map on a template, by its name."""
    place = path.relative_to(cohort.folder).as_posix()
    try:
        kind = kind_by_name(path)
    except TLEError:
        return False
    if cohort.entry.images:
        return True
    if kind == "t1w":
        return cohort.entry.kind == "bids" and re.search(r"/anat/[^/]+_T1w\.[^/]+$", place) is not None
    prefix, stem = _stem(path.name)
    warped = "w" in prefix or _TEMPLATE.search(_entities(stem).get("space", "")) is not None
    return cohort.entry.kind == "derivatives" and warped


def _stem(name):
    """Prefix of the tool that made a map, and the name without it and without extension."""
    found = SEGMENTED.match(name)
    stem = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
    return (found[0], stem[found.end() :]) if found else ("", stem)


def _entities(stem):
    """Entities (dict) of a name by the rule of BIDS, with its suffix; of a name that does not begin with sub-, none."""
    parts = stem.split("_")
    if not stem.startswith("sub-"):
        return {}
    pairs = [part.split("-", 1) for part in parts if "-" in part]
    if twice := [key for key, n in Counter(key for key, _ in pairs).items() if n > 1]:
        raise TLEError(f"{stem}: {twice[0]}- stands twice in the name: rename the file")
    return dict(pairs) | {"suffix": parts[-1] if "-" not in parts[-1] else ""}


def _said(name):
    """What a name says of its file: the tool's prefix, and entities; a suffix only where there is no prefix."""
    prefix, stem = _stem(name)
    return _entities(stem) | ({"prefix": prefix, "suffix": ""} if prefix else {"prefix": ""})


def _scan(cohort, path, place, fault=""):
    """`Scan` of a file; TLEError where its name and its folders say two things, or a BIDS name does not say whose."""
    *folders, name = unicodedata.normalize("NFC", place).split("/")
    stem, said, rule = _stem(name)[1], _said(name), cohort.entry.ids
    found = re.search(rule.from_, "/".join([*folders, name])) if rule else None
    label = (found[1] or "").strip().removeprefix("sub-") if found else "" if rule else said.get("sub", stem)
    if not rule and "sub" not in said and cohort.entry.kind != "derivatives":
        remedy = f"rename it, or write ids (or images) for cohort {cohort.name} in {FILE_NAME}"
        raise TLEError(
            f"{place}: the name does not begin with sub-, so that it does not say whose scan it is: {remedy}"
        )
    if not rule and "sub" in said and (odd := [p for p in stem.split("_")[1:] if "-" not in p and p not in _WORDS]):
        what = f"'{odd[0]}' is no part of a BIDS name, and the id may go on there"
        raise TLEError(f"{place}: {what}: rename the file, or write ids for cohort {cohort.name} in {FILE_NAME}")
    for key in ("ses",) if rule else ("sub", "ses"):
        for value in (part[4:] for part in folders if part.startswith(f"{key}-")):
            if said.setdefault(key, value) != value and stem.startswith("sub-"):
                raise TLEError(f"{place}: {key}-{said[key]} lies in the folder {key}-{value}: rename one, or write ids")
    if rule and not stem.startswith("sub-"):
        pairs = (part.split("-", 1) for part in stem.split("_") if "-" in part)
        said |= {key: value for key, value in pairs if key in FIELDS.values()}
    alone = re.compile(rf"(?<![^\W_]){re.escape(label)}(?![^\W_])") if label else re.compile(r"(?!)")
    kept = [part for part in folders if not part.startswith(("sub-", "ses-")) and not alone.search(part)]
    return Scan(path, place, label, said | {"folder": "/".join(kept)}, fault)


def _found(cohort):
    """Every `Scan` of a cohort, and folders that may not be read."""
    folder, entry = cohort.folder, cohort.entry
    if isinstance(entry, OpenNeuro):
        good, bad = verified_files(cohort)
        files = good | {path.relative_to(folder).as_posix(): path for path in bad}
        why = f"not the published file: run python -m tle_utils fetch {cohort.name}"
        files = {place: path for place, path in files.items() if place not in entry.table}
        return [_scan(cohort, path, place, "" if place in good else why) for place, path in files.items()], []
    files, closed = _walk(cohort)
    if entry.images:
        asked = set(folder.glob(entry.images))
        files = [path for path in files if path in asked]
    files = [path for path in files if _is_scan(cohort, path)]
    return [_scan(cohort, path, path.relative_to(folder).as_posix()) for path in files], closed


def _named(cohort, people):
    """`Scan` of every row that names one."""
    found = {}
    for label, text, place in zip(people[" label"], people[" image"], people[" place"], strict=True):
        if text == MISSING:
            continue
        try:
            path = cohort.folder / inside(text)
            if cohort.entry.kind == "derivatives":
                kind_by_name(path)
        except (ValueError, TLEError) as error:
            raise TLEError(f"{place}: {error}") from None
        said = _said(path.name) if cohort.entry.kind == "derivatives" else {}
        real = os.path.realpath(path)
        if real in found:
            raise TLEError(f"sub-{found[real].label} and sub-{label}: both rows name the scan {text}: mend the table")
        found[real] = Scan(path, text, label, {key: value for key, value in said.items() if key in MAP_KINDS})
    return list(found.values())


def fault_of(path):
    """Why a file cannot be read (str), "" where it can."""
    try:
        size = path.stat().st_size
    except PermissionError:
        return "no permission to read the folder of the file"
    except OSError:
        lost_link = "a link to a file that is not there: get it (datalad get) or mend the link"
        return lost_link if path.is_symlink() else "the file is not there"
    if not path.is_file():
        return "not a file"
    if not os.access(path, os.R_OK):
        return "no permission to read the file"
    return pointer(path) if size else "the file has zero bytes"


def _counted(scans, keys):
    """Values of entities with the number of participants that have them, in words."""
    texts = []
    for key in keys:
        counts = Counter(value for _, value in {(scan.label, scan.said.get(key, "")) for scan in scans})
        texts.append(f"{key}: " + ", ".join(f"{value or '(none)'} {n}" for value, n in sorted(counts.items())))
    return "; ".join(texts)


def _remedy(cohort, scans, keys):
    """Which fields of the manifest decide between scans that differ in some entities."""
    if "sub" in keys:
        return f"ids of cohort {cohort.name} in {FILE_NAME} gives them one id: mend it"
    fields = [field for field, key in FIELDS.items() if key in keys]
    if not fields:
        return f"write images (a pattern that fits one of them) for cohort {cohort.name} in {FILE_NAME}"
    write = " or ".join(f"cohorts.{cohort.name}.{field}" for field in fields)
    return f"write {write} with the value that is meant into {FILE_NAME}"


def _choose(cohort, mine):
    """The one file of every participant, by label; TLEError where nothing says which."""
    chosen, several = {}, {}
    for label, scans in mine.items():
        plain = [scan for scan in scans if "ce" not in scan.said]
        scans = plain if plain and not cohort.entry.ce else scans
        (chosen if len(scans) == 1 else several)[label] = scans
    if several:
        files = [scan for scans in several.values() for scan in scans]
        keys = [
            key
            for key in dict.fromkeys(key for scan in files for key in scan.said)
            if any(len({scan.said.get(key, "") for scan in scans}) > 1 for scans in several.values())
        ]
        label, first = next(iter(several.items()))
        what = (
            f"{len(several)} participants have several scans, such as sub-{label}: {some((s.place for s in first), 3)}"
        )
        differ = f" ({_counted(files, keys)})" if keys else ""
        raise TLEError(f"{cohort.name}: {what}{differ}: {_remedy(cohort, files, keys)}")
    return {label: scans[0] for label, scans in chosen.items()}


def _check_kinds(cohort, chosen):
    """TLEError where participants have scans of different kinds that the manifest does not call the same."""
    scans = list(chosen.values())
    said = {key for field, key in FIELDS.items() if getattr(cohort.entry, field) is not None}
    said |= {"folder"} if cohort.entry.images else set()
    keys = [key for key in COMPARED if key not in said and len({scan.said.get(key, "") for scan in scans}) > 1]
    if keys:
        same = "; a list says that they are the same thing" if set(keys) & set(FIELDS.values()) else ""
        what = f"participants have scans of different kinds ({_counted(scans, keys)})"
        raise TLEError(f"{cohort.name}: {what}: {_remedy(cohort, scans, keys)}{same}")


def _check_same(cohort, chosen):
    """TLEError where two participants have the same scan, byte for byte."""
    if cohort.entry.same_scan:
        return
    published = published_files(cohort) if isinstance(cohort.entry, OpenNeuro) else {}

    def begins(scan):
        with open(scan.path, "rb") as file:
            file.seek(scan.path.stat().st_size // 2)
            return scan.path.stat().st_size, file.read(1 << 16)

    def checksum(scan):
        return published[scan.place].sha256 if published else sha256(scan.path)

    groups = [list(chosen.values())]
    for key in (checksum,) if published else (begins, checksum):
        found = {}
        for scan in (scan for group in groups for scan in group):
            found.setdefault(key(scan), []).append(scan)
        groups = [group for group in found.values() if len(group) > 1]
    if groups:
        first, second, *_ = groups[0]
        what = f"sub-{first.label} and sub-{second.label} have the same scan ({first.place}, {second.place})"
        remedy = f"find out whose it is, or write same_scan: allowed for cohort {cohort.name} in {FILE_NAME}"
        raise TLEError(f"{cohort.name}: {what}: {remedy}")


def _hint(cohort, without, strays):
    """How ids of the table and of files differ, where some of both have no partner (str)."""
    rows = next(
        (
            (row, scan)
            for row in without
            for scan in strays
            if row.isdecimal() and scan.label.isdecimal() and int(row) == int(scan.label)
        ),
        None,
    )
    row, scan = rows or (without[0], strays[0])
    remedy = 'write ids: {from: "..."}, a regular expression whose one group is the id, or a column image in the table'
    if rows and len(row) < len(scan.label):
        before = "sub-" if "sub" in scan.said else scan.said["prefix"]
        remedy = f'zeros were lost in the table: write ids: {{from: "{before}0*([0-9]+)[_/.]"}}'
    elif folded(row) == folded(scan.label) or rows:
        remedy = "write the id in the table as in the name of the file"
    read = f"read as {scan.label}" if scan.label else "no id is found in it"
    what = (
        f"{len(without)} ids have no scan (such as {row}) and {len(strays)} scans no row (such as {scan.place}, {read})"
    )
    return f"{cohort.name}: {what}: if they are the same people, {remedy}"


def scans_of(cohort, people, notes):
    """Scan of every participant of a cohort (`Matched`).

    `people` are the rows of the cohort's tables, each participant once (pandas.DataFrame); column `` label`` has the
    labels, `` place`` says where a row stands, `` wanted`` whether a scan is needed, and `` image`` what the table
    names, if it names scans. `TLEError`: somebody has several scans and nothing says which to take, participants have
    scans of different kinds, or one scan stands under two of them; or a name says two things.
    """
    entry, by_table = cohort.entry, "image" in cohort.entry.columns.model_fields_set
    wanted = dict(zip(people[" label"], people[" wanted"], strict=True))
    scans, closed = (_named(cohort, people), []) if by_table else _found(cohort)
    fields = {} if by_table else FIELDS  # a table that names files has chosen
    asked = {key: getattr(entry, field) for field, key in fields.items() if getattr(entry, field) is not None}
    fits = {s.place: all(s.said.get(key, "") in values for key, values in asked.items()) for s in scans}
    mine, strays, others = {}, [], 0
    for scan in scans:
        if scan.label not in wanted and (fits[scan.place] or not scan.label):
            strays.append(scan)
        elif fits[scan.place] and wanted.get(scan.label):
            mine.setdefault(scan.label, []).append(scan)
        else:
            others += 1  # of somebody who is left out by a rule, or not of the kind that the manifest asks for
    assert len(scans) == sum(map(len, mine.values())) + len(strays) + others, "scans do not add up"
    chosen = _choose(cohort, mine)
    _check_kinds(cohort, chosen)
    if closed:
        notes.append(f"{cohort.name}: no permission to read the folder {some(closed)}")
    faults = {label: fault_of(scan.path) or scan.fault for label, scan in chosen.items()}
    lost = {label: f"{fault} ({chosen[label].place})" for label, fault in faults.items() if fault}
    good = {label: scan for label, scan in chosen.items() if label not in lost}
    _check_same(cohort, good)
    has = {scan.label: scan for scan in scans}
    without = [label for label, needed in wanted.items() if needed and label not in chosen]
    for label in without:
        shut = [place for place in closed if f"sub-{label}" in place.split("/") or not place.startswith("sub-")]
        others = _counted([scan for scan in scans if scan.label == label], asked)
        other = f"no scan of the kind that the manifest asks for ({others})"
        none = "no scan" + (f": run python -m tle_utils fetch {cohort.name}" if isinstance(entry, OpenNeuro) else "")
        why = other if label in has else "the table names no scan" if by_table else none
        lost[label] = why + (f"; no permission to read the folder {some(shut)}" if shut else "")
    nobodys = [label for label in without if label not in has]
    if nobodys and strays:
        notes.append(_hint(cohort, nobodys, strays))
    if good:
        pairs = some((f"{scan.place} → sub-{label}" for label, scan in good.items()), 3)
        notes.append(f"{cohort.name}: {len(scans)} scans found, {len(good)} used: {pairs}")
    why = "ids of the manifest finds no id in its path" if entry.ids else "no id in its name"
    return Matched(
        {label: scan.path for label, scan in good.items()},
        lost,
        [(scan.label, scan.place, "no row for this scan" if scan.label else why) for scan in strays],
    )
