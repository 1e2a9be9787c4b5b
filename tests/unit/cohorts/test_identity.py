"""Over any lab: nobody gets another's scan, nobody vanishes, left stays left; or the run stops in one line."""

import contextlib
import csv
import io
import os
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tle_utils.base.errors import TLEError
from tle_utils.cohorts.manifest import Cohort, Local
from tle_utils.cohorts.participants import load_cohort
from tle_utils.cohorts.scans import folded
from tle_utils.cohorts.tables import _EMPTY
from unit.cohorts.lab import Lab

LOOK_ALIKES = [
    "P1",
    "P11",
    "P1_1",
    "p1",
    "1",
    "01",
    "001",
    "10",
    "1-11",
    "11-1",
    "111",
    "患者01",
    "对照01",
    "01a",
    "a.b",
    "Jürgen",
]
LETTERS = st.characters(categories=["L", "N", "M"], codec="utf-8")
ID = st.sampled_from(LOOK_ALIKES) | st.text(LETTERS, min_size=1, max_size=4) | st.integers(0, 120).map(str)
ID = ID.map(lambda text: unicodedata.normalize("NFC", text)).filter(lambda text: text.lower() not in _EMPTY)
PEOPLE = st.lists(
    st.tuples(ID, st.sampled_from(["none", "L", "R", "both", "?"])), min_size=1, max_size=6, unique_by=lambda p: p[0]
)
COMMENT = st.sampled_from(
    ["", "ok", '"aura', 'MRI negative"', '"petit mal" since 1999', "a, b; c", '"', '""', "=x", "L"]
)
PART = st.sampled_from(["", "", "ses-pre", "ses-post", "acq-low", "run-1", "run-2", "ce-gd"])
FILES = st.lists(st.lists(PART, max_size=2, unique=True), min_size=0, max_size=2)
CLASSES = {"none": "control", "L": "left", "R": "right"}


def place(kind, label, parts):
    parts = sorted(filter(None, parts), reverse=True)
    if kind == "whole":
        return f"mri/mwp1{label}.nii"
    name = "_".join([f"sub-{label}", *parts, "T1w"])
    session = [part for part in parts if part.startswith("ses-")][:1]
    return f"mri/mwp1{name}.nii" if kind == "map" else "/".join([f"sub-{label}", *session, "anat", f"{name}.nii.gz"])


@st.composite
def labs(draw):
    """Kind of the files, rows (id as written, side, comment), files by label, and how the table is written."""
    kind = draw(st.sampled_from(["bids", "map", "whole"]))
    people = draw(PEOPLE)
    prefix = draw(st.sampled_from(["", "sub-"]))
    rows = [(f"{prefix}{label}", side, draw(COMMENT)) for label, side in people]
    if draw(st.booleans()):
        rows.append(draw(st.sampled_from(rows)))
    strays = draw(st.lists(ID, max_size=2))
    plain = draw(st.booleans())  # one file each: the run has no reason to stop
    files = {label: [[]] if plain else draw(FILES) for label in [*(label for label, _ in people), *strays]}
    if plain and draw(st.booleans()):
        files.pop(people[0][0])
    files = {label: sorted({place(kind, label, parts) for parts in found}) for label, found in files.items()}
    return kind, rows, files, plain, draw(st.sampled_from(["tsv", "csv", "raw"]))


def written(rows, form):
    rows = [("participant_id", "side", "comment"), *rows]
    if form != "csv":
        return "".join(("\t" if form == "tsv" else ",").join(row) + "\n" for row in rows)
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def check(case):
    kind, rows, files, plain, form = case
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder, contextlib.redirect_stdout(io.StringIO()):
        lab = Lab(Path(folder))
        lab.entry |= {"kind": "bids" if kind == "bids" else "derivatives", "table": "people.tsv"}
        lab.table(written(rows, form), "people.tsv")
        for label, names in files.items():
            lab.scans(*names)
            for name in names:
                (lab.data / name).write_text(f"{label}\n{name}")
        truth = {name.removeprefix("sub-"): CLASSES.get(side) for name, side, _ in rows}
        try:
            table = load_cohort(Cohort("lab", Local.model_validate(lab.entry), lab.root))
        except TLEError as error:
            assert "\n" not in str(error)
            alike = len({folded(label) for label in truth}) < len(truth)
            bids = kind != "whole" and any("_" in label for label in files)  # BIDS knows no such label
            usable = any(truth[label] and files.get(label) for label in truth)
            assert not plain or form == "raw" or alike or bids or not usable, str(error)
            return
        for row in table.itertuples():
            label = row.participant_id.removeprefix("sub-")
            assert Path(row.image).read_text().split("\n")[0] == label and row.group == truth[label]
        kept, left = set(table["participant_id"]), table.attrs["left_out"]
        out = {one["participant_id"] for one in left if "word for word" not in one["reason"]}
        found = {label for label in files if files[label]}
        assert kept.isdisjoint(out) and kept | out == {f"sub-{label}" for label in {*truth, *found}}
        assert len(table) + sum(one["place"].startswith("people.tsv") for one in left) == len(rows)
        lost = {one["participant_id"]: one["lost"] for one in left if one["place"].startswith("people.tsv")}
        for name, side, _ in set(rows):
            name = f"sub-{name.removeprefix('sub-')}"
            assert name in kept or lost[name] == (side != "both")


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(labs())
def test_nobody_gets_anothers_scan_and_nobody_vanishes(case):
    check(case)


@pytest.mark.nightly
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(labs())
def test_nobody_gets_anothers_scan_on_ten_thousand_labs(case):
    check(case)
