"""The book: stages pages, executed notebooks and the run card in ``_build/source`` and builds ``_build/html``."""

import base64
import fnmatch
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from html import escape

from myst_nb.ext.glue import GLUE_PREFIX
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sphinx_external_toc.parsing import parse_toc_yaml

from tle_utils.base.errors import TLEError
from tle_utils.base.files import write_json, write_text
from tle_utils.base.parallel import PROGRESS
from tle_utils.base.project import project_root
from tle_utils.base.text import literal, markdown_table
from tle_utils.book.overview import RESULTS
from tle_utils.book.run import Run

RUN_CARD = "run_card"
USE = re.compile(r"^(\w+): .*  # (.*)$", re.MULTILINE)
"""A parameter and the comment that says what it is."""


def _pages(toc, notebooks):
    """Names of all pages of a table of contents (path); a ``glob`` takes every notebook of the chain that fits it."""
    site = parse_toc_yaml(toc)
    fitting = [fnmatch.filter(notebooks, pattern) for page in site.values() for pattern in page.child_globs()]
    return list(dict.fromkeys(itertools.chain(site, *fitting)))


def run_card(card):
    """Page (MyST Markdown) that tells how the results of the book were made; every value is shown letter by letter."""

    def table(header, rows):
        return markdown_table(header, [[literal(cell) for cell in row] for row in rows])

    facts = {key: value for key, value in card.items() if not isinstance(value, dict | list)}
    facts |= {key: f"{facts[key]:.2f} GB" for key in ("memory", "disk") if key in facts}
    facts |= {f"data {key}": value for key, value in card["data"].items()}
    notebooks, columns = card["notebooks"].items(), ("state", "seconds", "finished", "outputs_sha256")
    values = [(name, key, json.dumps(value)) for name, one in notebooks for key, value in one["parameters"].items()]
    left_out = card.get("left_out", [])
    facts["participants left out"] = len(left_out)
    parts = [
        "# Run card",
        "How the results on these pages were made, from {download}`run.json`.",
        "## Run",
        markdown_table(["", ""], [(key.replace("_", " "), literal(value)) for key, value in facts.items()]),
        *(["## Left out", table(["participant", "reason"], map(dict.values, left_out))] if left_out else []),
        "## Notebooks",
        table(["notebook", *columns], [(name, *(one[column] for column in columns)) for name, one in notebooks]),
        "## Parameters",
        table(["notebook", "parameter", "value"], values),
        "## Versions",
        table(["package", "version"], card["versions"].items()),
    ]
    return "\n\n".join(parts) + "\n"


def _describe(data):
    """Write the words of a figure (`figures.brains.Picture`) into its PNG; `data` of an output, shown or glued."""
    for place in ("", GLUE_PREFIX):
        image, words = data.get(f"{place}image/png"), "".join(data.get(f"{place}text/plain", "<"))
        if image and not words.startswith("<"):
            told, file = PngInfo(), io.BytesIO()
            told.add_itxt("Description", words)
            with Image.open(io.BytesIO(base64.b64decode("".join(image)))) as picture:
                picture.save(file, "PNG", pnginfo=told, dpi=picture.info.get("dpi"))
            data[f"{place}image/png"] = base64.b64encode(file.getvalue()).decode()


def _for_readers(notebook, values):
    """An executed notebook (dict) as a page shows it; it still runs.

    One table stands for the cells that set the parameters to `values` (dict), no progress is told, and code that shows
    nothing is read where the next thing is shown.
    """
    content, cells, silent = json.loads(notebook.read_text(encoding="utf-8")), [], []
    for cell in content["cells"]:
        source, tags = "".join(cell["source"]), cell["metadata"].setdefault("tags", [])
        if cell["cell_type"] == "code":
            for output in cell["outputs"]:
                output |= {"text": PROGRESS.sub("", "".join(output["text"]))} if "text" in output else {}
            cell["outputs"] = [output for output in cell["outputs"] if output.get("text", "-").strip()]
            for output in cell["outputs"]:
                _describe(output.get("data", {}))
            if "parameters" in tags:
                rows = [[f"`{name}`", literal(str(values[name])), escape(use)] for name, use in USE.findall(source)]
                table = markdown_table(["parameter", "in this run", "what it is"], rows)
                cells.append({"cell_type": "markdown", "id": "parameters", "metadata": {}, "source": table})
            if {"parameters", "injected-parameters"} & set(tags):
                tags.append("remove-cell")
            elif all(key.startswith(GLUE_PREFIX) for output in cell["outputs"] for key in output.get("data", "-")):
                silent.append(cell)
                continue
            cell["source"] = "\n\n".join(["".join(one["source"]) for one in silent] + [source])
            cell["outputs"] = [output for one in silent for output in one["outputs"]] + cell["outputs"]
            silent = []
        cells.append(cell)
    for cell in silent:
        cell["metadata"]["tags"].append("remove-input")
    return content | {"cells": cells + silent}


def _remove(folder):
    """Remove a folder if there is one: pages of an earlier book must not stay."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        where = f"{folder.parent.name}/{folder.name}"
        raise TLEError(f"{where}: cannot be removed ({error.strerror}): change its permissions") from error


def stage(profile, cohort):
    """Put the source of the book together in ``_build/source`` (pathlib.Path).

    `TLEError` where a chapter has no page and no executed notebook, its notebook failed, or its results are no longer
    those that it left; nothing is staged then.
    """
    root, run = project_root(), Run(profile, cohort)
    command = f"run python -m tle_utils run --profile {profile} --cohort {cohort}"
    book, source, chapters = root / "book", root / "_build" / "source", {}
    for name in _pages(book / "_toc.yml", run.steps):
        if name in run.steps:
            if not (run.record(name) and run.executed(name).exists() and run.outputs(name).exists()):
                raise TLEError(f"chapter {name} has no executed notebook ({run.reasons(name)[0]}): {command}")
            if changed := run.changed_outputs(name):
                raise TLEError(f"chapter {name} tells of other results ({changed[0]}): {command}")
            chapters[name] = run.executed(name)
        elif name != RUN_CARD and not any((book / f"{name}{end}").exists() for end in (".md", ".ipynb", ".rst")):
            remedy = "write it or take the line out"
            raise TLEError(f"book/_toc.yml names '{name}', but there is no book/{name}.md: {remedy}")
    _remove(source)
    shutil.copytree(book, source)
    shutil.copy2(run.folder / "run.json", source)
    card = json.loads((source / "run.json").read_text(encoding="utf-8"))
    for name, executed in chapters.items():
        write_json(source / f"{name}.ipynb", _for_readers(executed, card["notebooks"][name]["parameters"]))
    for results in run.folder.glob("[0-9][0-9]_*/results.tsv"):
        write_text(source / RESULTS / results.parent.name / results.name, results.read_text(encoding="utf-8"))
    write_text(source / f"{RUN_CARD}.md", run_card(card))
    return source


def build_book(profile, cohort, single=False):
    """Stage the book and build ``_build/html``; every warning is an error. Returns the exit status of jupyter-book.

    `single`: all of it on one page in ``_build/singlehtml``, to print or to send. `TLEError` as in `stage`.
    """
    root, source = project_root(), stage(profile, cohort)
    options = ["--config", "_config.yml", "--path-output", ".", "-n", "-W", "--keep-going"]
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    builder = "singlehtml" if single else "html"
    _remove(root / "_build" / builder)  # pages of an earlier book
    command = [*jupyter_book, "build", os.path.relpath(source, root), *options, "--builder", builder]
    return subprocess.run(command, cwd=root).returncode
