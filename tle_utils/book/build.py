"""The book: stages pages, executed notebooks and the run card in ``_build/source`` and builds ``_build/html``."""

import fnmatch
import html
import json
import os
import shutil
import subprocess
import sys

import yaml

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import ON_THE_WAY
from tle_utils.base.project import project_root
from tle_utils.book.run import Run

RUN_CARD = "run_card"


def _entries(node, *keys):
    """All values of some keys of a table of contents, at any depth."""
    if isinstance(node, list):
        return [value for child in node for value in _entries(child, *keys)]
    if not isinstance(node, dict):
        return []
    own = [node[key] for key in keys if key in node]
    return own + [value for child in node.values() for value in _entries(child, *keys)]


def _pages(toc, notebooks):
    """Names of all pages; a ``glob`` of the table of contents takes every notebook of the chain that fits it."""
    patterns = _entries(toc, "glob")
    fitting = [name for name in notebooks if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    return list(dict.fromkeys([*_entries(toc, "root", "file"), *fitting]))


def _table(header, rows):
    def cells(row, tag):
        return "".join(f"<{tag}>{html.escape('' if cell is None else str(cell))}</{tag}>" for cell in row)

    lines = [f"<tr>{cells(row, 'td')}</tr>" for row in rows]
    head = f"<thead><tr>{cells(header, 'th')}</tr></thead>"
    return "\n".join(['<table class="table">', head, "<tbody>", *lines, "</tbody>", "</table>"])


def run_card(content):
    """Page that tells how the results of the book were made.

    Parameters
    ----------
    content : dict
        Of ``run.json``.

    Returns
    -------
    str
        MyST Markdown; every value is escaped.
    """
    plain = {key: value for key, value in content.items() if not isinstance(value, dict)}
    plain |= {key: f"{plain[key]:.2f} GB" for key in ("memory", "disk") if key in plain}
    data = {f"data {key}": value for key, value in content["data"].items()}
    notebooks = content["notebooks"]
    columns = ("state", "seconds", "finished", "outputs_sha256")
    values = [
        (name, key, json.dumps(value)) for name in notebooks for key, value in notebooks[name]["parameters"].items()
    ]
    parts = [
        "# Run card",
        "How the results on these pages were made, from {download}`run.json`.",
        "## Run",
        _table(["", ""], [(key.replace("_", " "), value) for key, value in (plain | data).items()]),
        "## Notebooks",
        _table(
            ["notebook", *columns], [(name, *(notebooks[name][column] for column in columns)) for name in notebooks]
        ),
        "## Parameters",
        _table(["notebook", "parameter", "value"], values),
        "## Versions",
        _table(["package", "version"], content["versions"].items()),
    ]
    return "\n\n".join(parts) + "\n"


def _without_progress(notebook):
    """Text of an executed notebook that keeps only the last line of each progress report."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream":
                output["text"] = ON_THE_WAY.sub("", "".join(output["text"]))
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if output.get("text") != ""]
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def stage(profile, cohort):
    """Put the source of the book together in ``_build/source``.

    Parameters
    ----------
    profile, cohort : str
        The run whose notebooks become chapters.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    TLEError
        A chapter has no page and no executed notebook, or its notebook failed; nothing is staged then.
    """
    root, run = project_root(), Run(profile, cohort)
    command = f"run python -m tle_utils run --profile {profile} --cohort {cohort}"
    book, source, chapters = root / "book", root / "_build" / "source", {}
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    for name in _pages(toc, run.steps):
        pages = [book / f"{name}{end}" for end in (".md", ".ipynb", ".rst")]
        if name in run.steps:
            if not run.record(name) or not run.executed(name).exists():
                raise TLEError(f"chapter {name} has no executed notebook ({run.reasons(name)[0]}): {command}")
            chapters[name] = run.executed(name)
        elif name != RUN_CARD and not any(page.exists() for page in pages):
            raise TLEError(
                f"book/_toc.yml names '{name}', but there is no book/{name}.md: write it or take the line out"
            )
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(book, source)
    for name, executed in chapters.items():
        (source / f"{name}.ipynb").write_text(_without_progress(executed), encoding="utf-8")
    shutil.copy2(run.folder / "run.json", source)
    card = run_card(json.loads((source / "run.json").read_text(encoding="utf-8")))
    (source / f"{RUN_CARD}.md").write_text(card, encoding="utf-8")
    return source


def build_book(profile, cohort, single=False):
    """Stage the book and build it; every warning is an error.

    Parameters
    ----------
    profile, cohort : str
        The run whose notebooks become chapters.
    single : bool
        All of it on one page in ``_build/singlehtml``, to print or to send, instead of ``_build/html``.

    Returns
    -------
    int
        Exit status of jupyter-book.

    Raises
    ------
    TLEError
        See `stage`.
    """
    root, source = project_root(), stage(profile, cohort)
    options = ["--config", "_config.yml", "--path-output", ".", "-n", "-W", "--keep-going"]
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    builder = "singlehtml" if single else "html"
    shutil.rmtree(root / "_build" / builder, ignore_errors=True)  # pages of an earlier book
    command = [*jupyter_book, "build", os.path.relpath(source, root), *options, "--builder", builder]
    return subprocess.run(command, cwd=root).returncode
