"""A small book with every kind of output that the chapters have, built in seconds from executed notebooks."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]

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
    "pd.DataFrame({f'correctly labelled column {i}': [0.123456, 1.0] for i in range(14)}, index=['control', 'left'])"
)
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
STATIC = "display = plotting.plot_stat_map(image, display_mode='y', cut_coords=3, annotate=True)"
VIEW = "plotting.view_img(image, threshold=1, resampling_interpolation='nearest')"

CHAPTERS = {
    "01_preprocessing": [
        SETUP,
        "glue('cohort-name', 'mini', display=False)",
        "glue('cohort-counts', '4 control, 4 left')",
        TABLE,
    ],
    "02_replication": [SETUP, "glue('replication-accuracy', '0.90 (n = 8)')", STREAMS, FIGURE, "fig"],
    "03_lateralization_baseline": [SETUP, "glue('baseline-accuracy', '0.66 (n = 8)')", FIGURE, BOXES, HEATMAP, PANELS],
    "04_deep_model": [
        SETUP,
        "glue('deep-accuracy', '0.71 (n = 8)')",
        FIGURE,
        "from tle_utils.bookext import glue_figure\nglue_figure('headline-figure', fig, display=False)",
    ],
    "05_saliency_maps": [SETUP, BRAIN, STATIC, VIEW],
}
CELLS = "<td>04_deep_model</td><td>ran</td><td>12.3</td><td>2026-01-01 00:00:00</td>"
RUN_CARD = f'# Run card\n\n<table class="table"><tr>{CELLS}<td>{"0123456789abcdef" * 4}</td></tr></table>\n'


def notebook(name, sources, folder):
    """Execute one chapter and write it to the folder."""
    cells = [new_markdown_cell(f"# {name[3:].replace('_', ' ').capitalize()}\n\n## Question\n\nA mini chapter.")]
    for source in sources:
        cells += [new_code_cell(source, metadata={"tags": ["hide-input"]})]
    book = new_notebook(cells=[*cells, new_markdown_cell("## Recap\n\nWith $n$ participants.")])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(book, timeout=120, kernel_name="python3").execute()
    nbformat.write(book, folder / f"{name}.ipynb")


def stage(folder):
    """Lay out `_build/source` below the folder as the runner does."""
    source = Path(folder) / "_build" / "source"
    shutil.copytree(ROOT / "book", source)
    (source / "run_card.md").write_text(RUN_CARD)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda chapter: notebook(*chapter, source), CHAPTERS.items()))
    return source


def build(folder):
    """Build the book with every warning an error; returns the folder of pages, or raises with the log."""
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", "_build/source", "--config", ROOT / "_config.yml", "--path-output", "."]
    done = subprocess.run([*command, "-n", "-W", "--keep-going"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout[-4000:] + done.stderr[-4000:])
    return Path(folder) / "_build" / "html"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if not (target / "_build" / "source").exists():
        stage(target)
    print(build(target))
