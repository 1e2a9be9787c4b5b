"""README.md: what a newcomer types and looks at first."""

import base64
import io
import re
import runpy
import shlex
import subprocess

import nbformat
import pytest
from myst_nb.ext.glue import GLUE_PREFIX
from PIL import Image
from project import ROOT, copy_project, tle

from tle_utils.__main__ import _parser
from tle_utils.book.parameters import declared
from tle_utils.cohorts.manifest import load_manifest

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)).splitlines()
COMMANDS = [line.partition("  #")[0].strip() for line in BLOCKS if line.strip()]
COMMANDS += re.findall(r"`((?:\w+=\w+ )?(?:make|python -m tle_utils) [^`]+)`", TEXT)
PICTURE = runpy.run_path(ROOT / "book" / "picture.py")


@pytest.mark.parametrize("command", [line for line in COMMANDS if "make " in line])
def test_make_knows_what_readme_asks_it_for(command):
    words = shlex.split(command)
    words = words[words.index("make") :]
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cohort = next((word[7:] for word in words if word.startswith("COHORT=")), "phantom")
    assert cohort == "my_lab" or cohort in load_manifest(ROOT / "data_manifest.yaml").cohorts


@pytest.mark.parametrize("command", [line for line in COMMANDS if "tle_utils" in line])
def test_the_command_line_understands_readme(command):
    arguments = _parser().parse_args(shlex.split(command)[3:])
    for setting in getattr(arguments, "set", []):
        notebook, name = re.match(r"(\w+)\.(\w+)=", setting).groups()
        assert name in declared(ROOT / "notebooks" / f"{notebook}.ipynb").model_fields


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("papermill")])
def test_papermill_sets_parameters_that_exist(command):
    _, notebook, _, *options = shlex.split(command)
    names = [options[place + 1] for place, word in enumerate(options) if word == "-p"]
    assert names and set(names) <= set(declared(ROOT / notebook).model_fields)


def test_every_kind_of_command_is_checked():
    kinds = {shlex.split(line)[0] for line in BLOCKS if line.strip()}
    assert kinds == {"make", "papermill", "python"}


def test_status_runs_in_a_fresh_copy(tmp_path):
    done = tle(copy_project(tmp_path), "status")
    assert done.returncode == 0 and "01_preprocessing" in done.stdout


def test_the_map_of_the_code_has_every_door_and_fits_a_screen():
    picture = re.search(r"nine doors.*?```text\n(.*?)```", TEXT, re.DOTALL)[1]
    doors = {path.parent.name for path in (ROOT / "tle_utils").glob("*/__init__.py")}
    assert doors <= set(re.findall(r"\w+", picture)) and len(picture.splitlines()) <= 20


def test_the_picture_is_small_and_has_words():
    words, path = re.search(r"!\[([^]]+)\]\((book/_static/way\.png)\)", TEXT).groups()
    assert "L and R" in words and (ROOT / path).stat().st_size < 150_000
    with Image.open(ROOT / path) as picture:
        assert 600 <= picture.width <= 900


def test_the_picture_is_what_chapter_1_drew(tmp_path):
    chapter = (ROOT / "notebooks" / f"{PICTURE['CHAPTER']}.ipynb").read_text(encoding="utf-8")
    assert f'glue(\\"{PICTURE["NAME"]}\\"' in chapter
    drawn = io.BytesIO()
    Image.new("RGB", (1000, 600), "#D55E00").save(drawn, "PNG")
    data = {f"{GLUE_PREFIX}image/png": base64.b64encode(drawn.getvalue()).decode()}
    output = nbformat.v4.new_output("display_data", data, metadata={"scrapbook": {"name": PICTURE["NAME"]}})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / f"{PICTURE['CHAPTER']}.ipynb")
    PICTURE["write"](tmp_path, tmp_path / "way.png")
    with Image.open(tmp_path / "way.png") as picture:
        assert picture.size == (900, 540) and picture.convert("RGB").getpixel((5, 5)) == (0xD5, 0x5E, 0x00)
