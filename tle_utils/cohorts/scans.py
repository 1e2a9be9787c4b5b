"""Which file belongs to whom: the scans of a cohort, told apart by participant, session and run.

A participant is known by a label, what an id is without ``sub-`` and punctuation; labels that are numbers are the same
whatever zeros lead them. A file's label stands behind ``sub-`` in its name, else in its folders; without ``sub-`` it is
the longest beginning of the name that the table knows.
"""

import re

from tle_utils.base.errors import TLEError
from tle_utils.cohorts.download import verified_files
from tle_utils.cohorts.manifest import OpenNeuro, inside
from tle_utils.cohorts.tables import MISSING, some

_SCAN = (".nii", ".nii.gz", ".mgz")
_T1W = [f"sub-*/{session}anat/*_T1w{suffix}" for session in ("", "ses-*/") for suffix in _SCAN]
_MAPS = ["mwp1*", "mwc1*", "*space-MNI*label-GM*probseg*", "smwp1*", "smwc1*"]


def label_of(text):
    """Label (str) of a participant's id."""
    return re.sub(r"[^A-Za-z0-9]", "", text.removeprefix("sub-"))


def key_of(text):
    """What a participant's id is compared by (str): its label, a number without leading zeros."""
    label = label_of(text)
    return str(int(label)) if label.isdigit() else label


def _label_in(path, folder, keys):
    """Label in a file's name, or in its path inside the folder."""
    for text in (path.name, path.relative_to(folder).as_posix()):
        if found := re.search(r"sub-([A-Za-z0-9]+)", text):
            return found[1]
    stem = re.sub(r"^(s\d*)?mw[pc]1", "", path.name).split(".nii")[0].removesuffix(".mgz")
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", stem) if part]
    beginnings = ("".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((label for label in beginnings if key_of(label) in keys), "".join(parts))


def _scan_order(path):
    """First session, first run, then the plainest name."""
    entities = dict(re.findall(r"(ses|run)-([A-Za-z0-9]+)", path.name))
    parts = (re.findall(r"\d+|\D+", entities.get(entity, "")) for entity in ("ses", "run"))
    natural = ([(0, int(part), "") if part.isdigit() else (1, 0, part) for part in text] for text in parts)
    return *natural, len(path.name), path.name


def _matching(cohort, notes):
    """Files in the cohort's folder that look like its scans."""
    entry, folder = cohort.entry, cohort.folder
    if entry.images:
        return [path for path in folder.glob(entry.images) if path.name.endswith(_SCAN)]
    if entry.kind == "bids":
        return [path for pattern in _T1W for path in folder.glob(pattern)]
    for pattern in _MAPS:
        if found := [path for path in folder.rglob(pattern) if path.name.endswith(_SCAN)]:
            notes.append(f"{cohort.name}: the maps named {pattern} are used")
            return found
    return []


def _usable(cohort, notes):
    """Scans that are there: with the published bytes where these are known, no broken links."""
    name, tables = cohort.name, cohort.entry.table
    if isinstance(cohort.entry, OpenNeuro):
        good, bad = verified_files(cohort)
        bad = [path.name for path in bad if path.name not in tables]
        remedy = f": run python -m tle_utils fetch {name}"
        why, found = "not the published files", [good[path] for path in good if path not in tables]
    else:
        found = _matching(cohort, notes)
        bad = sorted(path.name for path in found if not path.is_file())
        why, remedy, found = "links to files that are not there", "", [path for path in found if path.is_file()]
    if bad:
        notes.append(f"{name}: {why}, left out: {some(bad)}{remedy}")
    return found


def _told_apart(cohort, keys, notes):
    """Scan of every participant; of several the first session and run."""
    chosen, several = {}, {}
    for path in sorted(_usable(cohort, notes), key=_scan_order):
        label = _label_in(path, cohort.folder, keys)
        first_label, first = chosen.setdefault(key_of(label), (label, path))
        if first_label != label:
            line = f"sub-{first_label} and sub-{label} differ only in leading zeros: rename one of them"
            raise TLEError(f"{cohort.name}: {line}")
        if first != path:
            several.setdefault(first.name, []).append(path.name)
    if several:
        names = some(f"{first} (not {some(rest, 2)})" for first, rest in several.items())
        notes.append(f"{cohort.name}: several scans, the first session and run is taken: {names}")
    return chosen


def _named(cohort, table):
    """Scans that the table names."""
    found = {}
    for _, row in table.iterrows():
        text = row[cohort.entry.columns.image]
        try:
            path = cohort.folder / inside(text)
        except ValueError as error:
            raise TLEError(f"{row[' place']}: {error}") from None
        if text != MISSING and path.is_file():
            found[row[" key"]] = row[" label"], path
    return found


def scans_of(cohort, table, notes):
    """Scan of every participant of a cohort.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of the cohort's tables, each participant once; column `` label`` has the labels, `` key`` what they are
        compared by, `` place`` where a row stands.

    Returns
    -------
    dict of str to tuple
        Label and path by what labels are compared by; also of files that no row belongs to, which `notes` names.

    Raises
    ------
    TLEError
        Labels differ only in leading zeros, or the table names a file outside the cohort's folder.
    """
    keys = set(table[" key"])
    by_table = "image" in cohort.entry.columns.model_fields_set
    found = _named(cohort, table) if by_table else _told_apart(cohort, keys, notes)
    if strays := [path.name for key, (_, path) in found.items() if key not in keys]:
        notes.append(f"{some(cohort.entry.table)}: no row for these scans, left out: {some(strays)}")
    return found
