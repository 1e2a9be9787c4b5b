"""A small book with every kind of output that the chapters have, built in seconds from executed notebooks."""

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/owner/name"

SETUP = "import plotly.io as pio\npio.renderers.default = 'plotly_mimetype'\nfrom myst_nb import glue"
FIGURE = (
    "import plotly.graph_objects as go\n"
    "fig = go.Figure(go.Scatter(x=[0, 1, 2], y=[0.5, 0.7, 0.8], name='left'))\n"
    "fig.update_layout(title='Accuracy by fold', height=380, xaxis_title='fold', yaxis_title='accuracy')"
)
BOXES = "go.Figure([go.Box(y=[0.6, 0.7, 0.9], name=n) for n in ('validation', 'test')]).update_layout(title='Box')"
HEATMAP = "go.Figure(go.Heatmap(z=[[9, 1], [2, 8]], colorscale='Blues')).update_layout(title='Confusion', height=320)"
PANELS = (
    "from plotly.subplots import make_subplots\n"
    "panels = make_subplots(2, 5, subplot_titles=[f'Fold {i}' for i in range(10)], shared_yaxes=True)\n"
    "for i in range(10):\n"
    "    panels.add_scatter(y=[1.1, 0.9, 0.8], row=i // 5 + 1, col=i % 5 + 1, showlegend=False)\n"
    "panels.update_layout(meta={'alt': 'Loss of ten folds'})"
)
TABLE = (
    "import pandas as pd\n"
    "from tle_utils import figures\n"
    "columns = {f'correctly labelled column {i}': [0.123456, 1.0] for i in range(14)}\n"
    "figures.shown(pd.DataFrame(columns, index=['control', 'left']))"
)
NESTED = (
    "import pandas as pd\n"
    "from tle_utils import figures\n"
    "index = pd.MultiIndex.from_product([['net', 'volumes'], ['left', 'right']], names=['model', 'class'])\n"
    "table = pd.DataFrame({'n': [9, 80, 10, None], 'accuracy': ['0.9 [0.7–1.0]', '0.83', '–', '−0.1']}, index=index)\n"
    "figures.shown(table)"
)
SLIDER = (
    "steps = [dict(label=str(t), method='animate', args=[[str(t)], dict(mode='immediate')])\n"
    "    for t in (0.25, 0.5, 0.75)]\n"
    "frames = [go.Frame(name=str(t), data=[go.Bar(y=[t, 1 - t])]) for t in (0.25, 0.5, 0.75)]\n"
    "layout = dict(title='Labels by threshold', height=320,\n"
    "    sliders=[dict(active=1, steps=steps, currentvalue=dict(prefix='threshold = '))],\n"
    "    updatemenus=[dict(buttons=[dict(label=n, method='restyle', args=['opacity', o]) for n, o in\n"
    "        (('strong', 1), ('faint', 0.4))])])\n"
    "go.Figure(go.Bar(y=[0.5, 0.5]), layout, frames)"
)
PLOT = (
    "import plotly.graph_objects as go\n"
    "from tle_utils.book.sphinx_outputs import glue_figure\n"
    "plot = go.Figure(go.Scatter(y=[0.5, 0.7, 0.8]), {'title': 'Quoted by a page'})"
)
PICTURES = {"saliency-brains", "people", "failed-table"}  # glued by the mini chapter itself
STREAMS = "import sys\nprint('one')\nprint('two', file=sys.stderr)\nprint('three')"
BRAIN = (
    "import warnings\n"
    "import nibabel as nib, numpy as np\n"
    "from nilearn import plotting\n"
    "warnings.filterwarnings('ignore')\n"
    "blob = np.zeros((40, 48, 40), 'float32'); blob[10:16, 20:28, 12:18] = 3\n"
    "image = nib.Nifti1Image(blob, np.diag([4, 4, 4, 1.0]) + np.array([[0, 0, 0, -80], [0, 0, 0, -110], "
    "[0, 0, 0, -70], [0, 0, 0, 0]]))"
)
STATIC = (
    "import matplotlib.pyplot as plt\n"
    "figure = plt.figure(figsize=(6, 2), dpi=192)\n"
    "display = plotting.plot_stat_map(image, figure=figure, display_mode='y', cut_coords=3, annotate=True)"
)
VIEW = "plotting.view_img(image, threshold=1, resampling_interpolation='nearest')"

PEOPLE = (
    "import numpy as np\n"
    "from tle_utils import figures\n"
    "rows = {'participant_id': ['sub-1', 'sub-2'], 'group': ['left', 'right'], 'p_control': 0.1, 'p_left': 0.2}\n"
    "rows |= {'p_right': 0.7, 'predicted': 'right', 'model': 'net', 'split': 'test', 'repeat': 0}\n"
    "listed = figures.people_list(pd.DataFrame(rows), dict.fromkeys(rows['participant_id'], np.eye(160)), {}, {})\n"
    "glue('people', listed, display=False)\n"
    "glue('failed-table', figures.shown(pd.DataFrame({'tried': ['a', 'b'], 'gain': [-0.1, 0.0]})), display=False)"
)

CHAPTERS = {
    "01_preprocessing": [TABLE],
    "02_replication": [STREAMS, FIGURE, "fig", NESTED],
    "03_lateralization_baseline": [FIGURE, BOXES, HEATMAP, PANELS, SLIDER],
    "04_deep_model": [FIGURE],
    "05_saliency_maps": [BRAIN, STATIC, "glue('saliency-brains', figure, display=False)", VIEW],
    "06_multitask_model": [FIGURE, BOXES],
    "07_model_comparison": [TABLE, PEOPLE],
    "08_new_patient": [STREAMS],
    "09_phantom_matching": [TABLE],
    "10_sclerosis": [TABLE],
    "90_new_chapter": ["print('no other file names this chapter')"],
}
CELLS = "<td>04_deep_model</td><td>ran</td><td>12.3</td><td>2026-01-01 00:00:00</td>"
RUN_CARD = f'# Run card\n\n<table class="table"><tr>{CELLS}<td>{"0123456789abcdef" * 4}</td></tr></table>\n'
RUN = {
    "profile": "mini",
    "cohort": "mini",
    "seed": 0,
    "finished": "2026-01-01T00:00:00+00:00",
    "commit": None,
    "cpus": 2,
    "platform": "Linux-6",
    "notebooks": {name: {"seconds": 12.3} for name in CHAPTERS} | {"90_new_chapter": {"seconds": None}},
}


def glued(name):
    """Code that glues every text and every plotly figure that the pages of the book quote from a chapter."""
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md"))
    keys = set(re.findall(rf"{name}\.ipynb::([\w-]+)", pages))
    plots = set(re.findall(rf"\{{glue\}} ([\w-]+)\n:doc: {name}\.ipynb", pages)) - PICTURES
    code = [f"glue({key!r}, '0.90 (n = 8)', display=False)" for key in sorted(keys)]
    return "\n".join([*code, PLOT, *(f"glue_figure({key!r}, plot, display=False)" for key in sorted(plots))])


def figure_headings(name):
    """Headings of the real chapter that name a figure of the paper."""
    path = ROOT / "notebooks" / f"{name}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else []
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return "\n\n".join(re.findall(r"^### .*Figure \d+.*$", text, re.MULTILINE))


def notebook(name, sources, folder):
    """Execute one chapter and write it to the folder."""
    cells = [new_markdown_cell(f"# {name[3:].replace('_', ' ').capitalize()}\n\n## Question\n\nA mini chapter.")]
    for source in [SETUP, glued(name), *sources]:
        cells += [new_code_cell(source, metadata={"tags": ["hide-input"]})]
    end = f"## Results\n\n{figure_headings(name)}\n\n## Recap\n\nWith $n$ participants."
    book = new_notebook(cells=[*cells, new_markdown_cell(end)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(book, timeout=120, kernel_name="python3").execute()
    nbformat.write(book, folder / f"{name}.ipynb")


def stage(folder):
    """Lay out `_build/source` below the folder as the runner does."""
    source = Path(folder) / "_build" / "source"
    shutil.copytree(ROOT / "book", source)
    shutil.copytree(ROOT / "manifests", Path(folder) / "manifests")
    shutil.copy(ROOT / "data_manifest.yaml", folder)
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    (Path(folder) / "_config.yml").write_text(config.replace('url: ""', f'url: "{REPOSITORY}"'), encoding="utf-8")
    (source / "run.json").write_text(json.dumps(RUN))
    (source / "run_card.md").write_text(RUN_CARD)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda chapter: notebook(*chapter, source), CHAPTERS.items()))
    return source


def build(folder, builder="html"):
    """Build the book with every warning an error; returns the folder of pages, or raises with the log."""
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", "_build/source", "--config", "_config.yml", "--path-output", "."]
    done = subprocess.run(
        [*command, "-n", "-W", "--keep-going", "--builder", builder], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-4000:] + done.stderr[-4000:])
    return Path(folder) / "_build" / builder


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if not (target / "_build" / "source").exists():
        stage(target)
    print(build(target))
