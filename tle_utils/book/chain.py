"""The notebooks of the chain: their order, what each needs and what its result is made from."""

import csv

from tle_utils.base.errors import TLEError
from tle_utils.base.fingerprints import code_of, digest
from tle_utils.base.project import project_root
from tle_utils.book.parameters import closest, read_notebook

FIRST = "01_preprocessing"


class Step:
    """One notebook of the chain; `needs`, `makes`, `beside` and `files` stand under ``tle`` in its metadata.

    `needs` are notebooks whose results it reads, by default the first one; `makes` folders of the run that hold results
    of its beside its own; `beside` parameters that name another cohort, whose maps of the same profile it reads, each
    with the cohort that is meant where it names none; `files` parameters that name a file or a folder, whose content is
    what its result is made from. `modules` are those of the package that it imports, directly or through others, and
    `content` (dict) is what its result is made from, by name: its cells and the shared code it imports.
    """

    def __init__(self, path, earlier):
        self.path, self.name = path, path.stem
        notebook = read_notebook(path)
        said = notebook["metadata"].get("tle", {})
        self.needs = said.get("needs", [FIRST] if FIRST in earlier else [])
        self.makes, self.beside, self.files = said.get("makes", []), said.get("beside", {}), said.get("files", [])
        for name in self.needs:
            if name not in earlier:
                raise TLEError(f"{path.name}: needs '{name}', which does not come before it; {closest(name, earlier)}")
        cells = [(cell["cell_type"], cell["source"]) for cell in notebook["cells"]]
        try:
            code = code_of("\n".join(text for kind, text in cells if kind == "code" and not text.startswith("%%")))
        except SyntaxError as error:
            raise TLEError(f"{path.name}: '{(error.text or '').strip()}' is not Python ({error.msg})") from error
        self.content = {"its cells": digest(cells)} | code
        self.modules = [name[:-3].replace("/", ".") for name in code if name.endswith(".py")]


def chain():
    """All notebooks ``notebooks/NN_*.ipynb`` in the order of their numbers: dict of name to `Step`.

    `TLEError` where there is none, or one is not a readable notebook or needs one that does not come before it.
    """
    steps = {}
    for path in sorted((project_root() / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        steps[path.stem] = Step(path, steps)
    if not steps:
        raise TLEError("no notebook notebooks/NN_*.ipynb: restore the folder with git checkout")
    return steps


def left_out(folders):
    """Participants that were lost, by ``failed.tsv`` of notebooks' results: dicts of ``participant_id`` and ``reason``.

    Those whom the manifest or a parameter leaves out (``lost`` is ``no``) are not among them.
    """
    found = []
    for path in (folder / "failed.tsv" for folder in folders if (folder / "failed.tsv").exists()):
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                name, reason = row["participant_id"], row["error"] or row["flags"]
                if row.get("lost") != "no":
                    found.append({"participant_id": name, "reason": reason.removeprefix(f"{name}: ")})
    return found
