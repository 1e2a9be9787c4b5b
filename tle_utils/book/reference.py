"""Reference results: small tables of one run in the paper's design, kept in ``reference/`` for the pages to quote."""

import json
import shutil

from tle_utils.base import provenance
from tle_utils.base.errors import TLEError
from tle_utils.base.files import write_bytes, write_json
from tle_utils.base.fingerprints import digest, sha256
from tle_utils.base.project import project_root
from tle_utils.book.chain import FIRST
from tle_utils.book.run import Run

FOLDER, CARD = "reference", "reference.json"
PROFILE, COHORT = "paper", "phantom"
LARGEST = 60_000  # bytes of a table; longer ones have a row per participant
NUMBERS = tuple(
    f"tle_utils/{door}/" for door in ("base", "cohorts", "evaluation", "imaging", "models", "phantom", "saliency")
)
"""Doors whose code decides a number; the others show it."""


def _code(step):
    return digest({name: value for name, value in step.content.items() if name.startswith(NUMBERS)})


def made_from(run):
    """What the numbers of a run's chapters are made from: for each the checksum of its code, and its parameters."""
    return {name: {"code": _code(step), "parameters": run.counted(name)} for name, step in run.steps.items()}


def write_reference():
    """Copy the small tables of the run in the paper's design into ``reference/``, with a card of checksums.

    The card holds no date and no machine: the same code writes the same bytes. Returns the folder (pathlib.Path);
    `TLEError` where a chapter of that run is out of date.
    """
    run, folder = Run(PROFILE, COHORT), project_root() / FOLDER
    for name in run.steps:
        if reasons := run.reasons(name):
            raise TLEError(f"{name} of profile {PROFILE}: {reasons[0]}: make reference runs it")
    tables = [path for name in run.steps if name != FIRST for path in sorted((run.folder / name).glob("*.tsv"))]
    shutil.rmtree(folder, ignore_errors=True)
    files = {}
    for path in tables:
        if path.stat().st_size <= LARGEST:
            place = path.relative_to(run.folder).as_posix()
            write_bytes(folder / place, path.read_bytes())
            files[place] = sha256(path)
    people = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))["participants"]
    card = {"profile": PROFILE, "cohort": COHORT, "participants": people, "versions": provenance.versions()}
    write_json(folder / CARD, card | {"chapters": made_from(run), "files": files})
    return folder


def reference_state():
    """One sentence for pages: whether the reference results are there, and whether the code of today made them."""
    path = project_root() / FOLDER / CARD
    if not path.exists():
        return "The paper's design has not been run: `make reference` does it."
    made, now = json.loads(path.read_text(encoding="utf-8"))["chapters"], made_from(Run(PROFILE, COHORT))
    if changed := [name for name in now if now[name] != made.get(name)]:
        names = ", ".join(changed)
        return f"The paper's design was run before the code of {names} changed: `make reference` runs it again."
    return "The results in the paper's design were made by the code of this copy."
