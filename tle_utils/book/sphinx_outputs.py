"""Sphinx extension of the book: plotly figures and formulas that need no network.

myst-nb has no renderer for plotly's JSON, and Sphinx loads MathJax from another site.
This extension turns the JSON into a placeholder that `tleplot.js` draws; `tletables.js` sorts the tables of pandas.
The scripts and MathJax are copied from the installed packages to `_static`, once for all pages.
"""

import base64
import importlib.util
import io
import json
import re
import shutil
from html import escape
from pathlib import Path

import IPython.display
from docutils import nodes
from myst_nb.ext.glue import GLUE_PREFIX
from myst_nb.ext.glue.crossref import read_glue_cache
from myst_nb.ext.glue.utils import PendingGlueReference
from PIL import Image
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform

from tle_utils.base.text import minus

MIME, PNG = "application/vnd.plotly.v1+json", "image/png"
PLACEHOLDER = 'class="tle-plot"'
PLOTLY = "plotly.min.js"
SCRIPTS = {"": ["tleprint.js"], PLACEHOLDER: [PLOTLY, "tleplot.js"], 'class="dataframe': ["tletables.js"]}
DEFAULT_HEIGHT = 450
SCREEN_DPI = 96
LARGE_PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]{500000,})")
# nilearn's viewers name an icon on another site, which an iframe never shows; its place is taken by the word that the
# viewer may follow the theme of the page.
REMOTE_ICON = re.compile(r"&lt;link rel=&quot;icon&quot;(?:(?!&gt;).)*&gt;", re.DOTALL)
SEARCH_INDEX = '<script src="searchindex.js"></script>'
NO_SEARCH = "<style>.search-button, .search-button-field { display: none !important; }</style>"
EXCERPTS = "excerpts.js"
MAIN = re.compile(r"<article.*</article>", re.DOTALL)
NO_WORDS = re.compile(r"<(script|style|details|iframe)\b.*?</\1>|<(?!/?section\b)[^>]*>|\s+", re.DOTALL)
# An icon of the theme's thousands: its names, its picture.
ICON = re.compile(r'"?([\w-]+)"?:\[\d+,\d+,\[(?:"([\w-]+)")?[^\]]*\],"\w+",(?:"[^"]*"|\[[^\]]*\])\],?')
BOTH_THEMES = escape('<meta name="color-scheme" content="light dark">')


def _label(layout):
    meta = layout.get("meta")
    if isinstance(meta, dict) and meta.get("alt"):
        return meta["alt"]
    titles = [((layout.get(part) or {}).get("title") or {}).get("text") for part in ("yaxis", "xaxis")]
    words = (layout.get("title") or {}).get("text") or " against ".join(filter(None, titles)) or "Interactive figure"
    return re.sub(r"\s*<[^>]*>\s*", " ", words).strip()


def _plot_node(figure):
    """Placeholder of a plotly figure (JSON as dict or str): a box of its height in pixels, the JSON in an inert script.

    `layout.meta.alt` describes the figure to readers who cannot see it; without it its titles do.
    """
    figure = json.loads(figure) if isinstance(figure, str) else figure
    layout = figure.get("layout") or {}
    payload = json.dumps(figure, separators=(",", ":")).replace("<", "\\u003c")
    height = layout.get("height") or DEFAULT_HEIGHT
    text = (
        f'<div {PLACEHOLDER} role="figure" aria-label="{escape(_label(layout))}" style="min-height:{height}px">'
        f'<script type="application/json">{payload}</script>'
        "<noscript>This figure is drawn by JavaScript, which is switched off here.</noscript></div>"
    )
    return nodes.raw(text=text, format="html", classes=["output", "tle-output"])


class PlotlyMime:
    """myst-nb renderer of plotly JSON (entry point `myst_nb.mime_renderers`)."""

    mime_priority_overrides = [("html", MIME, 1), ("singlehtml", MIME, 1)]

    @staticmethod
    def handle_mime(renderer, data, inline):
        """Render a plotly output that stands on its own; None leaves all other outputs to myst-nb."""
        if inline or data.mime_type != MIME:
            return None
        return [_plot_node(data.content)]


def _picture_node(content, caption):
    """A PNG (base64) from another page, which Sphinx does not copy for this one: it lies in the page itself."""
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        width = round(picture.width * SCREEN_DPI / picture.info.get("dpi", (SCREEN_DPI,))[0])
        words = escape(picture.info.get("Description", caption))
    source = f'src="data:image/png;base64,{content.strip()}" style="width: {width}px"'
    return nodes.raw(text=f'<p><img alt="{words}" {source}></p>', format="html", classes=["output"])


class GluedPlots(SphinxPostTransform):
    """Put figures glued by a notebook into other pages, where myst-nb knows text only; a caption names a picture."""

    default_priority = 4  # before myst-nb resolves the rest at 5
    formats = ("html",)

    def run(self, **kwargs):
        """Replace every reference to a plotly output by its placeholder."""
        for node in list(self.document.findall(PendingGlueReference)):
            output = read_glue_cache(self.env.mystnb_config.output_folder, node.refdoc).get(node.key)
            if not output or node.inline:
                continue
            if MIME in output["data"]:
                node.replace_self(_plot_node(output["data"][MIME]))
            elif PNG in output["data"]:
                caption = node.next_node(nodes.paragraph, descend=False, siblings=True)
                node.replace_self(_picture_node(output["data"][PNG], caption.astext() if caption else node.key))


class MinusSigns(SphinxPostTransform):
    """A negative number has the minus sign in a sentence that it has in a table and on an axis."""

    default_priority = 900  # when every glued sentence is there
    formats = ("html",)

    def run(self, **kwargs):
        """Replace the hyphen before a number, but not in code."""
        code = (nodes.literal, nodes.FixedTextElement, nodes.raw, nodes.math)
        for text in list(self.document.findall(nodes.Text)):
            if (signed := minus(text)) != text and not isinstance(text.parent, code):
                text.parent.replace(text, nodes.Text(signed))


def glue_figure(name, figure, display=True):
    """Keep a plotly figure under a name for other pages of the book.

    `myst_nb.glue` cannot keep plotly figures: they display themselves and leave it nothing to store.

    Parameters
    ----------
    name : str
        Key for the directive `{glue} name` with the option `:doc: notebook.ipynb`.
    figure : plotly.graph_objects.Figure
        The figure.
    display : bool
        Show it here too.
    """
    prefix = "" if display else GLUE_PREFIX
    metadata = {"scrapbook": {"name": name, "mime_prefix": prefix}}
    IPython.display.display({prefix + MIME: json.loads(figure.to_json())}, raw=True, metadata=metadata)


def _package_folder(name):
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ExtensionError(f"package {name} is missing: install requirements.lock")
    return Path(spec.origin).parent


def _copy_scripts(app):
    if app.builder.format != "html":
        return
    mathjax, own = app.config.mathjax_path, [name for names in SCRIPTS.values() for name in names if name != PLOTLY]
    sources = {name: Path(__file__).with_name(name) for name in own}
    sources[PLOTLY] = _package_folder("plotly") / "package_data" / PLOTLY
    sources[mathjax] = _package_folder("sphinx-mathjax-offline") / "static" / mathjax
    for name, source in sources.items():
        target = Path(app.outdir) / "_static" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _finish_images(app, doctree, docname):
    """A picture is described by its own file (`brains.Picture`), else by the name of its section.

    A picture that says how many dots an inch has is shown at its size in inches, so that it is sharp on every screen.
    """
    for image in doctree.findall(nodes.image):
        path = Path(app.srcdir) / image["uri"]
        if path.suffix == ".png" and path.exists():
            with Image.open(path) as picture:
                dots = picture.info.get("dpi", (SCREEN_DPI,))[0]
                image["alt"] = image.get("alt") or picture.info.get("Description")
                image["width"] = f"{round(picture.width * SCREEN_DPI / dots)}px"
        section = image.parent
        while section and not isinstance(section, nodes.section):
            section = section.parent
        if section and not image.get("alt"):
            image["alt"] = f"Picture of the section “{section.next_node(nodes.title).astext()}”"


def _smaller(match):
    """Brain views hold the whole template as PNG; as WebP it is a tenth of that."""
    picture = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(match[1]))).save(picture, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(picture.getvalue()).decode()


def _finish_page(app, pagename, templatename, context, doctree):
    body = context.get("body", "")
    if "<iframe" in body:
        body = LARGE_PICTURE.sub(_smaller, REMOTE_ICON.sub(BOTH_THEMES, body))
        body = context["body"] = body.replace("<iframe srcdoc", '<iframe title="Interactive brain view" srcdoc')
    for mark, names in SCRIPTS.items():
        for name in names if mark in body else ():
            app.add_js_file(name, loading_method="defer")
    if pagename[:2].isdigit():  # the figures of chapter 4 are 4.1, 4.2 ...
        context["body"] = f"<style>:root {{ --tle-chapter: '{int(pagename[:2])}.' }}</style>{body}"
    if pagename == "search":
        app.add_js_file(EXCERPTS)
    if 'class="math' not in body:  # Sphinx loads MathJax for the first page, whatever is on it
        scripts = context["script_files"]
        scripts[:] = [script for script in scripts if "mathjax" not in str(script.filename)]


def _finish_book(app, exception):
    """What can be said when every page is written: excerpts for the search, the icons in use.

    From the disk a browser may not read the pages that it shows excerpts of, so the search page brings their words.
    A book on one page has no index to search; the browser finds words in it.
    """
    folder = Path(app.outdir)
    if exception or app.builder.format != "html":
        return
    pages = {f"{name}.html": folder / f"{name}.html" for name in app.env.found_docs}
    texts = {name: path.read_text(encoding="utf-8") for name, path in pages.items() if path.exists()}
    if app.builder.name == "singlehtml":
        for name, text in texts.items():
            pages[name].write_text(text.replace(SEARCH_INDEX, NO_SEARCH), encoding="utf-8")
    else:
        words = {
            name: f'<div role="main">{NO_WORDS.sub(" ", MAIN.search(text)[0])}</div>' for name, text in texts.items()
        }
        answer = "(address) => Promise.resolve(new Response(pages[address.replace('./', '')]))"
        code = f"const pages = {json.dumps(words, ensure_ascii=False)};\nwindow.fetch = {answer};\n"
        (folder / "_static" / EXCERPTS).write_text(code, encoding="utf-8")
    icons, used = (
        folder / "_static" / "scripts" / "fontawesome.js",
        set(re.findall(r"fa-([\w-]+)", " ".join(texts.values()))),
    )
    drawn = ICON.sub(lambda icon: icon[0] if used & set(icon.groups()) else "", icons.read_text(encoding="utf-8"))
    icons.write_text(drawn, encoding="utf-8")


def _read_all_pages(app, env, added, changed, removed):
    """Pages quote each other's results, and a staged notebook can be older than the last build."""
    return sorted(env.found_docs - added)


def setup(app):
    """Register the extension with Sphinx."""
    app.add_post_transform(GluedPlots)
    app.add_post_transform(MinusSigns)
    app.connect("builder-inited", _copy_scripts)
    app.connect("env-get-outdated", _read_all_pages)
    app.connect("doctree-resolved", _finish_images)
    app.connect("html-page-context", _finish_page, priority=900)
    app.connect("build-finished", _finish_book)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
