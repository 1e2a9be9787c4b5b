"""Sphinx extension of the book: what its pages take from elsewhere instead of repeating it.

- Pages quote published figures, the manifest and the run by name, ``{{ published.figure_8.accuracy_in_text }}``.
- A heading of a chapter that names a figure of the paper is an anchor, ``02_replication-figure-3`` for `ref`.
- A page of the folder ``reference`` goes on with every module of the door that it is named after.
- Buttons to the sources appear as soon as ``_config.yml`` names a repository.
"""

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path

from docutils import nodes
from sphinx.transforms import SphinxTransform

from tle_utils.base.project import project_root, run_folder
from tle_utils.base.text import amount, clock, markdown_table
from tle_utils.book import reference
from tle_utils.book.overview import RESULTS, design_table, front_table, participants_table, side_picture, verdicts
from tle_utils.cohorts.download import published_files
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.evaluation import published
from tle_utils.evaluation.calibration import LEAST_VALIDATION
from tle_utils.models import settings
from tle_utils.phantom.volumes import SEVERITY_SD

API_FOLDER = "reference"
CHAPTER = re.compile(r"\d\d_")
PAPER_FIGURE = re.compile(r"(?:^|paper[’']s )Figure (\d+)\b(?! net)")
LAUNCHERS = {
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
    "notebook_interface": "jupyterlab",
}
MADE_BY_THE_RUN = "run_card"
EXAMPLE = {"participants": 1000, "folds": 10}  # for whom the table of costs is worked out


def _published():
    """Published figures by entry, with what the counts of the two confusion tables add up to."""
    quoted = ("replication", "original_study", "follow_up", "ideas")
    found = {name: dict(published.published_figures(name)) for name in quoted}
    for name in ("figure_8", "figure_12"):
        table = published.published_table(name)
        true = [true for true, _ in published.PAPER_COLUMNS.values()]
        text = published.published_figures(name)["accuracy_in_text"]
        found[name] = published.paper_summary(table) | {"accuracy_in_text": text, "splits": len(table)}
        found[name]["participants"] = table.sum().groupby(true).sum().to_dict()
    return found


def _networks():
    """Parameters of the paper's networks: ``theirs`` as printed, ``ours`` as counted, ``three`` for three classes."""
    return {
        name: {
            "theirs": settings.published_counts(name),
            "ours": settings.parameter_counts_of(name, settings.NETWORKS[name]["n_classes"]),
            "three": settings.parameter_counts_of(name, 3),
        }
        for name in ("figure_2", "figure_9")
    }


def _size_and_way(cohort):
    """How many participants a cohort has, as far as that is known without the data, and how to get their scans."""
    entry = cohort.entry
    if entry.kind == "openneuro":
        files = published_files(cohort)
        scans = sum(path.endswith((".nii", ".nii.gz")) for path in files)
        tables = f"; {entry.table_from}" if entry.table_from else ""
        size = amount(sum(file.size for file in files.values()))
        return f"{scans} scans, {size}", f"`python -m tle_utils fetch {cohort.name}`{tables}"
    if entry.kind == "phantom":
        return f"{entry.n_control} control, {entry.n_left} left, {entry.n_right} right", "made on the spot"
    if entry.kind == "phantom_t1w":
        return str(entry.n), "made on the spot"
    if entry.kind == "planted":
        return f"{entry.n_left} left, {entry.n_right} right, the others control", f"made from `{entry.base}`"
    return "as many as the folder holds", f"put it at `{entry.path}`"


def cohort_table(manifest):
    """Every cohort of the manifest as a Markdown table (str): what it is, its size and licence, how to get it."""
    rows = []
    for name, entry in manifest.cohorts.items():
        size, way = _size_and_way(manifest.cohort(name))
        rows.append((f"`{name}`", f"{entry.what} ({entry.source})", size, entry.licence, way))
    return markdown_table(["name", "what", "size", "licence", "how to get it"], rows)


def preset_table():
    """Training settings of every preset and network as a Markdown table (str), a row per setting."""
    chosen = {
        f"`{name}`, {title}": settings.preset(name, network, max_epochs=1, classes=("control", "left", "right"))
        for name in settings.PRESETS
        for network, title in (("figure_2", "Figure 2"), ("figure_9", "Figure 9"))
    }
    values = {title: preset.model_dump(exclude={"network", "max_epochs"}) for title, preset in chosen.items()}
    words = {True: "yes", False: "no", None: "all 1"}

    def word(value):
        if isinstance(value, dict):
            return ", ".join(f"{name} {weight:g}" for name, weight in value.items())
        return words[value] if value is None or isinstance(value, bool) else f"{value}"

    names = next(iter(values.values()))
    rows = [[f"`{name}`", *(word(column[name]) for column in values.values())] for name in names]
    return markdown_table(["setting", *values], rows)


def _costs(card):
    """Core time of each notebook per participant (and fold, where it has folds), and what that means for a cohort."""
    n, rows = card.get("participants"), []
    for name, entry in card["notebooks"].items():
        parameters = entry.get("parameters", {})
        folded = "n_splits" in parameters
        if entry["seconds"] is None or not n or not folded and parameters.get("limit") is None:
            continue
        folds = parameters.get("n_splits", 1) * parameters.get("n_repeats", 1)
        each = entry["seconds"] * parameters.get("workers", 1) / (n * folds)
        hours = each * EXAMPLE["participants"] * (EXAMPLE["folds"] if folded else 1) / 3600
        rows.append((f"`{name}`", f"{each:.2f} s per participant{' and fold' * folded}", f"{hours:.1f} h"))
    example = f"core time for {EXAMPLE['participants']} participants, {EXAMPLE['folds']} folds"
    return markdown_table(["notebook", f"core time (n = {n})", example], rows)


def run_facts(card):
    """What the pages say of the run: texts, of which ``times`` and ``costs`` are tables with a row per notebook."""
    seconds = {name: entry["seconds"] for name, entry in card["notebooks"].items()}
    known = sum(value for value in seconds.values() if value is not None)
    rows = [*((f"`{name}`", clock(value)) for name, value in seconds.items()), ("all", clock(known))]
    changed = " with uncommitted changes" if card.get("uncommitted_changes") else ""
    return {
        "profile": f"`{card['profile']}`",
        "cohort": f"`{card['cohort']}`",
        "seed": card["seed"],
        "commit": (card.get("commit") or "unknown")[:12] + changed,
        "date": card["finished"][:10],
        "computer": f"{card['cpus']} processor cores, {card['platform'].split('-')[0]}",
        "total": clock(known),
        "times": markdown_table(["notebook", "time (h:mm:ss)"], rows),
        "costs": _costs(card),
        **{name: f"{card[name]:.2g} GB" if card.get(name) else "–" for name in ("memory", "disk")},
    }


def facts(source):
    """Names that pages can quote in double braces (dict), from the package and the ``run.json`` beside the pages."""
    card = json.loads((Path(source) / "run.json").read_text(encoding="utf-8"))
    kept = project_root() / reference.FOLDER
    path = kept / reference.CARD
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return {
        "published": _published(),
        "networks": _networks(),
        "cohort_table": cohort_table(load_manifest()),
        "phantom": {"severity_sd": SEVERITY_SD},
        "calibration": {"least_validation": LEAST_VALIDATION},
        "preset_table": preset_table(),
        "participants_table": participants_table(),
        "reproduced": verdicts(Path(source) / RESULTS, kept),
        "front_table": front_table(Path(source) / RESULTS, kept),
        "design_table": design_table(card, known),
        "reference_state": reference.reference_state(),
        "side_picture": side_picture(run_folder(card["profile"], card["cohort"])),
        "run": run_facts(card),
    }


class FigureAnchors(SphinxTransform):
    """Give the headings of a chapter that name a figure of the paper an anchor; the first one of a figure has it."""

    default_priority = 210

    def apply(self, **kwargs):
        """Add ``<chapter>-figure-<number>`` as a target that `ref` finds."""
        if not CHAPTER.match(self.env.docname):
            return
        for section in self.document.findall(nodes.section):
            for number in PAPER_FIGURE.findall(section.next_node(nodes.title).astext()):
                name, anchor = f"{self.env.docname}-figure-{number}", f"paper-figure-{number}"
                if name not in self.document.nameids:
                    section["names"].append(name)
                    section["ids"].append(anchor)
                    self.document.nameids[name], self.document.nametypes[name] = anchor, True
                    self.document.ids[anchor] = section


def _list_modules(app, docname, source):
    """A page of the reference per door: what its ``__init__`` says, then its modules."""
    folder, _, door = docname.rpartition("/")
    if folder != API_FOLDER:
        return
    package = importlib.import_module(f"tle_utils.{door}")
    source[0] += f"\n{inspect.getdoc(package)}\n"
    for module in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        name = f"tle_utils.{door}.{module}"
        source[0] += f"\n## {module}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"


def _configure(app, config):
    config.myst_substitutions = facts(app.srcdir)
    theme = config.html_theme_options
    if theme.get("repository_url"):
        theme |= {"use_repository_button": True, "use_edit_page_button": True}
        theme["launch_buttons"] = theme.get("launch_buttons", {}) | LAUNCHERS


def _lead_to_sources(app, pagename, templatename, context, doctree):
    """Chapters are edited in ``notebooks/``, which is the theme's path; other pages lie in ``book/``."""
    if not CHAPTER.match(pagename):
        context["doc_path"] = "book"


def _no_edit_of_made_pages(app, pagename, templatename, context, doctree):
    if pagename == MADE_BY_THE_RUN:
        for group in context.get("header_buttons", []):
            made = [button for button in group.get("buttons", []) if button["label"] != "source-edit-button"]
            group["buttons"] = made


def setup(app):
    """Register the extension with Sphinx."""
    app.add_transform(FigureAnchors)
    app.connect("config-inited", _configure)
    app.connect("source-read", _list_modules)
    app.connect("html-page-context", _lead_to_sources, priority=400)
    app.connect("html-page-context", _no_edit_of_made_pages, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
