import base64
import io
import json
import subprocess
import sys

import nbformat
import pytest
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.substitution import substitution_plugin
from PIL import Image

from tle_utils.__main__ import main
from tle_utils.base.errors import TLEError
from tle_utils.base.fingerprints import sha256
from tle_utils.book import build
from tle_utils.book.build import run_card, stage
from tle_utils.book.run import Run

CARD = {
    "profile": "demo",
    "commit": "abc <script>",
    "data": {"files": 0, "sha256": "00"},
    "versions": {"numpy": "2"},
    "notebooks": {
        "01_preprocessing": {
            "state": "done",
            "seconds": 3.0,
            "finished": "2026-01-01",
            "outputs_sha256": "11",
            "parameters": {"profile": "demo", "seed": 0, "site": "a|b & $c$ {{ d }} `e`"},
        }
    },
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "data_manifest.yaml").write_text("cohorts: {phantom: {kind: phantom}}\n")
    for folder in ("notebooks/parameters", "book", "runs/demo-phantom/notebooks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "notebooks" / "parameters" / "demo.yaml").write_text("")
    cell = nbformat.v4.new_code_cell('profile: str = "demo"', metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "notebooks" / "01_preprocessing.ipynb")
    toc = "format: jb-book\nroot: intro\nparts: [{chapters: [{file: 01_preprocessing}, {file: run_card}]}]\n"
    (tmp_path / "book" / "_toc.yml").write_text(toc)
    (tmp_path / "book" / "intro.md").write_text("# Intro\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_book_without_an_executed_notebook_names_it_and_the_command(project, capsys):
    assert main(["book"]) == 2
    assert capsys.readouterr().err == (
        "tle_utils: chapter 01_preprocessing has no executed notebook (never run): "
        "run python -m tle_utils run --profile demo --cohort phantom\n"
    )
    assert not (project / "_build").exists()


def test_a_page_that_is_not_there_is_named(project, capsys):
    (project / "book" / "intro.md").unlink()
    assert main(["book"]) == 2
    assert "book/_toc.yml names 'intro'" in capsys.readouterr().err


def test_stage_takes_pages_the_run_card_and_notebooks_as_readers_want_them(project):
    """Parameters once and as they were in the run, no progress, no code that opens onto nothing."""
    run = Run("demo", "phantom")
    run.state.backend.set("01_preprocessing", "_values_:", {"inputs": {}, "stamps": {}})
    run.state.backend.dump()
    told = ["scans: 1/2, 9.0 s each, ends 10:00:00\n", "lately: 3/4, he ends it\n", "scans: 2/2, 1.1/s, took 0:18\n"]
    glued = nbformat.v4.new_output("display_data", {"application/papermill.record/text/plain": "'n'"})
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "PNG")
    seen = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": "y = −24 mm; Control"}
    cells = [
        nbformat.v4.new_code_cell("from typing import Optional"),
        nbformat.v4.new_code_cell(
            'profile: str = "demo"  # runs/<profile>\nseed: Optional[int] = None  # of |all|',
            metadata={"tags": ["parameters"]},
        ),
        nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["injected-parameters"]}),
        nbformat.v4.new_code_cell(
            "train()", outputs=[nbformat.v4.new_output("stream", text=text) for text in (told[2], "\n")]
        ),
        nbformat.v4.new_markdown_cell("## Results"),
        nbformat.v4.new_code_cell("prepare()", outputs=[nbformat.v4.new_output("stream", text="".join(told))]),
        nbformat.v4.new_code_cell("show()", outputs=[nbformat.v4.new_output("display_data", seen)]),
        nbformat.v4.new_code_cell("glue()", outputs=[glued]),
    ]
    executed = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(executed, run.executed("01_preprocessing"))
    result = run.outputs("01_preprocessing").with_name("card.html")
    result.parent.mkdir()
    result.write_text("one person")
    listed = {"path": result.name, "sha256": sha256(result)}
    run.outputs("01_preprocessing").write_text(json.dumps({"files": [listed]}))
    (run.folder / "run.json").write_text(json.dumps(CARD))
    source = stage("demo", "phantom")
    assert sorted(path.name for path in source.iterdir()) == [
        "01_preprocessing.ipynb",
        "_toc.yml",
        "intro.md",
        "run.json",
        "run_card.md",
    ]
    table, imported, injected, title, shown, picture, last = nbformat.read(source / "01_preprocessing.ipynb", 4).cells
    assert table.source.splitlines()[2:] == [
        "| `profile` | ` demo ` | runs/&lt;profile&gt; |",
        "| `seed` | ` 0 ` | of \\|all\\| |",
    ]
    assert imported.source.startswith("from typing import Optional\n\nprofile: str") and title.source == "## Results"
    assert "remove-cell" in imported.metadata.tags and "remove-cell" in injected.metadata.tags
    assert shown.source == "train()\n\nprepare()" and [output.text for output in shown.outputs] == [told[1]]
    with Image.open(io.BytesIO(base64.b64decode(picture.outputs[0].data["image/png"]))) as described:
        assert described.info["Description"] == seen["text/plain"]
    assert last.outputs == [glued] and last.metadata.tags == ["remove-input"]

    result.write_text("another one")
    with pytest.raises(TLEError, match=r"01_preprocessing tells of other results \(runs.*card.html changed\): run "):
        stage("demo", "phantom")


@pytest.mark.parametrize("kind", [PermissionError, OSError])
def test_pages_of_an_earlier_book_that_cannot_be_removed_are_named(tmp_path, monkeypatch, kind):
    def refuse(folder):
        raise kind(13, "Permission denied", "x.html")

    monkeypatch.setattr(build.shutil, "rmtree", refuse)
    with pytest.raises(TLEError, match=r"_build/source: cannot be removed \(Permission denied\)"):
        build._remove(tmp_path / "_build" / "source")


def test_run_card_shows_every_value_letter_by_letter():
    reader = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin).use(substitution_plugin)
    page = reader.render(run_card(CARD))
    assert "&lt;script&gt;" in page and "<script>" not in page
    assert "<code>&quot;a|b &amp; $c$ {{ d }} `e`&quot;</code>" in page and "<code>2026-01-01</code>" in page


def test_the_books_extensions_load_no_network():
    """A build takes seconds longer with TensorFlow; the pages need counts and settings only."""
    code = (
        "import sys; from tle_utils.book import sphinx_outputs, sphinx_pages;"
        "sphinx_pages.preset_table(); print(sphinx_pages._networks()['figure_9']['ours'], 'tensorflow' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "{'total': 20891, 'trainable': 20667} False\n"
