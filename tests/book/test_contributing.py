"""The recipes of CONTRIBUTING.md, done as written."""

import json
import re
import runpy

import nbformat
import pytest
import yaml
from project import ROOT

from tle_utils.book.build import _pages
from tle_utils.book.chain import chain
from tle_utils.book.parameters import resolve
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.cohorts.participants import load_cohort
from tle_utils.models import networks
from tle_utils.models.settings import NETWORKS, published_counts

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SECTIONS = ["Key takeaways", "Parameters", "Data check", "Method", "Results", "Recap", "Limits"]


def recipe(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)[1].strip()


@pytest.mark.parametrize("title", ["A new chapter", "A new cohort", "A new network"])
def test_a_recipe_is_short(title):
    assert len([line for line in recipe(title).splitlines() if line.strip()]) <= 15


def test_a_new_chapter_is_in_the_chain_and_in_the_book(tmp_path, monkeypatch):
    (tmp_path / "data_manifest.yaml").write_text("cohorts: {phantom: {kind: phantom}}\n")
    (tmp_path / "notebooks" / "parameters").mkdir(parents=True)
    (tmp_path / "notebooks" / "parameters" / "demo.yaml").write_text("")
    first = nbformat.v4.new_code_cell(
        'profile: str = "demo"\ncohort: str = "phantom"', metadata={"tags": ["parameters"]}
    )
    for name, needs in (("01_preprocessing", []), ("11_name", ["01_preprocessing"])):
        cells = [first, nbformat.v4.new_code_cell(f'p = check("{name}", globals())')]
        book = nbformat.v4.new_notebook(cells=cells, metadata={"tle": {"needs": needs}})
        nbformat.write(book, tmp_path / "notebooks" / f"{name}.ipynb")
    monkeypatch.chdir(tmp_path)
    steps = chain()
    assert list(steps) == ["01_preprocessing", "11_name"] and steps["11_name"].needs == ["01_preprocessing"]
    assert resolve([step.path for step in steps.values()], "demo", "phantom")["11_name"]["cohort"] == "phantom"
    assert "11_name" in _pages(ROOT / "book" / "_toc.yml", steps)


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md", "book/own_data.md"])
def test_a_new_cohort_is_read_as_its_block_says(tmp_path, page):
    text = (ROOT / page).read_text(encoding="utf-8")
    block = next(found for found in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "my_lab:" in found)
    (tmp_path / "data_manifest.yaml").write_text("cohorts:\n" + block.replace("/data/epilepsy", "data"))
    (tmp_path / "data").mkdir()
    people = [
        ("1", "healthy", "n/a"),
        ("2", "TLE", "L"),
        ("3", "TLE", "right"),
        ("4", "TLE", "left"),
        ("5", "TLE", "both"),
    ]
    rows = ["participant_id\tdiagnosis\tside\tage\tgender\tscanner"]
    for label, diagnosis, side in people:
        rows.append(f"sub-{label}\t{diagnosis}\t{side}\t30\tF\tA")
        scan = tmp_path / "data" / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        scan.write_text(label)
    (tmp_path / "data" / "participants.tsv").write_text("\n".join(rows) + "\n")
    table = load_cohort(load_manifest(tmp_path / "data_manifest.yaml").cohort("my_lab"))
    groups = dict(zip(table["participant_id"], table["group"], strict=True))
    assert {name: group for name, group in groups.items() if group != "exclude"} == {
        "sub-1": "control",
        "sub-2": "left",
        "sub-3": "right",
        "sub-4": "left",
    }


def test_a_new_network_has_the_counts_of_its_plan(monkeypatch):
    block = re.search(r"```python\n(.*?)```", recipe("A new network"), re.DOTALL)[1]
    for name, plan in eval("{" + block + "}").items():
        monkeypatch.setitem(NETWORKS, name, plan)
        network = networks.build(name, plan["n_classes"])
        assert networks.parameter_counts(network) == published_counts(name)


def test_the_picture_and_the_table_of_rooms_are_those_of_the_code():
    """A newcomer looks here for the place of a line; ``python book/house.py`` writes both anew."""
    house = runpy.run_path(ROOT / "book" / "house.py")
    doors = {path.parent.name for path in (ROOT / "tle_utils").glob("*/__init__.py")}
    assert {name for _, names in house["WAY"] for name in names} == doors - {"base"}
    assert doors | {"__main__"} == {name for floor in house["floors"]() for name in floor}
    assert house["PICTURE"].read_text(encoding="utf-8") == house["picture"]()
    assert house["guide"]() == TEXT
    for path in (ROOT / "tle_utils").glob("*/[!_]*.py"):
        assert re.search(rf"^\| .*\| `{path.stem}` \| \S", TEXT, re.MULTILINE), f"{path.parent.name}/{path.name}"


def test_a_room_is_not_too_large():
    """At most ten files per door, none over 400 lines."""
    for door in (ROOT / "tle_utils").glob("*/__init__.py"):
        files = list(door.parent.glob("[!_]*.py"))
        assert len(files) <= 10, door.parent.name
        assert not [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 400]


def test_pre_commit_checks_what_make_lint_checks():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text()
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    commands = {re.sub(r" (\.|notebooks/\S+)$", "", line.strip()) for line in lint.splitlines()}
    assert commands == {hook["entry"].replace(".venv/bin/", "$(BIN)/") for hook in hooks}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_keep_the_skeleton(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert re.match(r"# .+\n\n\*\*Question\.\*\* ", text)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_code_is_folded_and_parameters_are_not(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    tags = [set(cell["metadata"].get("tags", [])) for cell in cells]
    assert all(("hide-input" in of) != ("parameters" in of) for of in tags)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_cells_are_short(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    long = {
        index: len(lines) for index, cell in enumerate(cells) if len(lines := "".join(cell["source"]).splitlines()) > 20
    }
    assert long == {}
