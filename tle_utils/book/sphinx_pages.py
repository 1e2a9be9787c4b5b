"""Sphinx extension of the book: what its pages take from elsewhere instead of repeating it.

- Pages quote published figures, the manifest and the run by name, ``{{ published.figure_8.accuracy_in_text }}``.
- A heading of a chapter that names a figure of the paper is an anchor, ``02_replication-figure-3`` for `ref`.
- A page of the folder ``reference`` goes on with every module of the door that it is named after.
- Buttons to the sources appear as soon as ``_config.yml`` names a repository.
"""

import datetime
import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path

from docutils import nodes
from sphinx.transforms import SphinxTransform

from tle_utils.cohorts.manifest import load_manifest
from tle_utils.evaluation import published
from tle_utils.models import networks, training

API_FOLDER = "reference"
CHAPTER = re.compile(r"\d\d_")
PAPER_FIGURE = re.compile(r"(?:^|paper[’']s )Figure (\d+)\b(?! net)")
LAUNCHERS = {
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
    "notebook_interface": "jupyterlab",
}
MADE_BY_THE_RUN = "run_card"


def _published():
    """Published figures by entry, with what the counts of the two confusion tables add up to."""
    found = {name: dict(published.published_figures(name)) for name in ("replication", "original_study", "follow_up")}
    for name in ("figure_8", "figure_12"):
        table = published.published_table(name)
        true = [true for true, _ in published.PAPER_COLUMNS.values()]
        text = published.published_figures(name)["accuracy_in_text"]
        found[name] = published.paper_summary(table) | {"accuracy_in_text": text, "splits": len(table)}
        found[name]["participants"] = table.sum().groupby(true).sum().to_dict()
    return found


def _networks():
    """Parameters of the paper's networks: ``theirs`` as printed, ``ours`` as counted on the built network."""
    return {
        name: {
            "theirs": networks.published_counts(name),
            "ours": networks.parameter_counts(networks.build(name, n_classes)),
        }
        for name, n_classes in (("figure_2", 2), ("figure_9", 3))
    }


def _size(entry, manifest):
    """Participants of a cohort in words, as far as the manifest knows them without the data."""
    if entry.kind == "openneuro":
        rows = [line.split("\t") for line in (manifest.root / entry.files).read_text(encoding="utf-8").splitlines()[1:]]
        scans = sum(row[0].endswith((".nii", ".nii.gz")) for row in rows)
        return f"{scans} scans, {sum(int(row[1]) for row in rows) / 1e9:.1f} GB"
    if entry.kind == "phantom":
        return f"{entry.n_control} control, {entry.n_left} left, {entry.n_right} right"
    if entry.kind == "planted":
        return f"{entry.n_left} left, {entry.n_right} right, the others control"
    return str(entry.n) if entry.kind == "phantom_t1w" else "as many as the folder holds"


def _way(name, entry):
    """How to get the scans of a cohort."""
    if entry.kind == "openneuro":
        tables = f"; {entry.table_from}" if entry.table_from else ""
        return f"`python -m tle_utils fetch {name}`{tables}"
    if entry.kind.startswith("phantom"):
        return "made on the spot"
    return f"made from `{entry.base}`" if entry.kind == "planted" else f"put it at `{entry.path}`"


def markdown_table(header, rows):
    """A Markdown table (str) of text cells; line ends and column marks inside a cell are made harmless."""

    def line(cells):
        return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(header), line(["---"] * len(header)), *map(line, rows)])


def cohort_table(manifest):
    """Every cohort of the manifest as a Markdown table.

    Parameters
    ----------
    manifest : tle_utils.cohorts.manifest.Manifest
        From `tle_utils.cohorts.manifest.load_manifest`.

    Returns
    -------
    str
        Name, what it is and its source, participants or scans, licence and how to get it.
    """
    rows = [
        (f"`{name}`", f"{entry.what} ({entry.source})", _size(entry, manifest), entry.licence, _way(name, entry))
        for name, entry in manifest.cohorts.items()
    ]
    return markdown_table(["name", "what", "size", "licence", "how to get it"], rows)


def preset_table():
    """Training settings of every preset and network as a Markdown table (str), a row a setting."""
    chosen = {
        f"`{name}`, {title}": training.preset(name, network, max_epochs=1, classes=("control", "left", "right"))
        for name in training.PRESETS
        for network, title in (("figure_2", "Figure 2"), ("figure_9", "Figure 9"))
    }
    settings = {title: preset.model_dump(exclude={"network", "max_epochs"}) for title, preset in chosen.items()}
    words = {True: "yes", False: "no", None: "all 1"}

    def word(value):
        if isinstance(value, dict):
            return ", ".join(f"{name} {weight:g}" for name, weight in value.items())
        return words[value] if value is None or isinstance(value, bool) else f"{value}"

    names = next(iter(settings.values()))
    rows = [[f"`{name}`", *(word(values[name]) for values in settings.values())] for name in names]
    return markdown_table(["setting", *settings], rows)


def clock(seconds):
    """Seconds as text, ``0:01:07``; a dash where they are not known."""
    return "–" if seconds is None else str(datetime.timedelta(seconds=round(seconds)))


EXAMPLE = {"participants": 1000, "folds": 10}  # for whom the table of costs is worked out


def _costs(card):
    """What each notebook took, a participant (and fold, where it has folds), and what that means for another cohort."""
    n, rows = card.get("participants"), []
    for name, entry in card["notebooks"].items():
        parameters = entry.get("parameters", {})
        if entry["seconds"] is None or not n or parameters.get("limit") is None and "n_splits" not in parameters:
            continue
        folds = parameters.get("n_splits", 1) * parameters.get("n_repeats", 1)
        core_seconds = entry["seconds"] * parameters.get("workers", 1)
        each = core_seconds / (n * folds)
        asked = EXAMPLE["participants"] * (EXAMPLE["folds"] if "n_splits" in parameters else 1)
        unit = "participant and fold" if "n_splits" in parameters else "participant"
        rows.append((f"`{name}`", f"{each:.2f} s a {unit}", f"{each * asked / 3600:.1f} h"))
    header = [
        "notebook",
        f"core time (n = {n})",
        f"core time for {EXAMPLE['participants']} participants, {EXAMPLE['folds']} folds",
    ]
    return markdown_table(header, rows)


def run_facts(card):
    """What the pages say of the run.

    Parameters
    ----------
    card : dict
        Of ``run.json``.

    Returns
    -------
    dict
        ``profile`` and ``cohort`` (Markdown), ``seed``, ``commit``, ``date``, ``computer``, ``total`` (h:mm:ss),
        ``times`` and ``costs`` (Markdown tables with a row a notebook), ``memory`` and ``disk`` (GB, as text).
    """
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
    """Names that pages can quote in double braces.

    Parameters
    ----------
    source : path-like
        Folder of the pages, with the ``run.json`` that `tle_utils.book.build.stage` puts there.

    Returns
    -------
    dict
        ``published`` (by entry of ``published.yaml``), ``networks``, ``cohort_table``, ``preset_table`` and ``run``
        (see `run_facts`).
    """
    card = json.loads((Path(source) / "run.json").read_text(encoding="utf-8"))
    return {
        "published": _published(),
        "networks": _networks(),
        "cohort_table": cohort_table(load_manifest()),
        "preset_table": preset_table(),
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
                name = f"{self.env.docname}-figure-{number}"
                if name not in self.document.nameids:
                    section["names"].append(name)
                    section["ids"].append(f"paper-figure-{number}")
                    self.document.nameids[name] = f"paper-figure-{number}"
                    self.document.nametypes[name] = True
                    self.document.ids[f"paper-figure-{number}"] = section


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
