import json
import subprocess
import sys
from typing import Optional, get_args

import nbformat
import pytest
from project import ROOT

from tle_utils.base.errors import TLEError
from tle_utils.base.project import require
from tle_utils.book.chain import chain
from tle_utils.book.parameters import check, declared, resolve

CELL = """\
profile: str = "demo"  # file in notebooks/parameters
cohort: str = "phantom"  # in data_manifest.yaml
n_splits: int = 10  # folds
learning_rate: float = 1e-3
slices: list[int] = [-36, -24]
site: Optional[str] = None
"""
ANNOTATIONS = {"profile": str, "cohort": str, "n_splits": int, "learning_rate": float, "flip": bool}
VALUES = {"profile": "demo", "cohort": "phantom", "n_splits": 10, "learning_rate": 0.001, "flip": True}


def write_notebook(path, *cells):
    first = nbformat.v4.new_code_cell(cells[0], metadata={"tags": ["parameters"]})
    rest = [nbformat.v4.new_code_cell(cell) for cell in cells[1:]]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[first, *rest], metadata=kernel), path)
    return path


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "data_manifest.yaml").write_text("cohorts: {phantom: {kind: phantom}, small: {kind: phantom}}\n")
    (tmp_path / "notebooks" / "parameters").mkdir(parents=True)
    (tmp_path / "notebooks" / "parameters" / "demo.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def profile(project, text):
    (project / "notebooks" / "parameters" / "demo.yaml").write_text(text)
    return [write_notebook(project / "notebooks" / "02_replication.ipynb", CELL)]


def test_parameters_cell_is_the_source_of_names_types_and_defaults(tmp_path):
    model = declared(write_notebook(tmp_path / "02_replication.ipynb", CELL))
    values = {"n_splits": 10, "learning_rate": 1e-3, "slices": [-36, -24], "site": None}
    assert model().model_dump() == {"profile": "demo", "cohort": "phantom"} | values


@pytest.mark.parametrize(
    "line", ["n_splits = 10", "n_splits: int", "n_splits: dict = {}", "n_splits: int = 5 + x", "print(1)"]
)
def test_a_line_that_is_no_typed_literal_is_named(tmp_path, line):
    with pytest.raises(TLEError, match=r"02_replication.*parameters cell"):
        declared(write_notebook(tmp_path / "02_replication.ipynb", line))


def test_a_damaged_notebook_is_named(tmp_path):
    path = tmp_path / "02_replication.ipynb"
    path.write_text('{"cells": ')
    with pytest.raises(TLEError, match=r"02_replication\.ipynb: not a notebook"):
        declared(path)


def test_check_gives_the_parameters_and_the_folders(project):
    parameters = check("02_replication", VALUES | {"__annotations__": ANNOTATIONS})
    assert parameters.n_splits == 10 and parameters.flip is True
    assert parameters.run_dir == project / "runs" / "demo-phantom"
    assert parameters.result_dir == parameters.run_dir / "02_replication" and parameters.result_dir.is_dir()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_splits", "3"),
        ("n_splits", 3.5),
        ("n_splits", True),
        ("n_splits", 1),
        ("flip", 1),
        ("learning_rate", 0),
        ("learning_rate", "1e-4"),
        ("learning_rate", float("nan")),
        ("profile", 3),
    ],
)
def test_check_names_the_parameter_of_wrong_type_or_range(project, name, value):
    with pytest.raises(TLEError, match=f"02_replication: parameter '{name}'"):
        check("02_replication", VALUES | {name: value, "__annotations__": ANNOTATIONS})
    assert not (project / "runs").exists()


def test_a_whole_number_is_fine_for_a_float_and_none_for_optional(project):
    annotations = {**ANNOTATIONS, "site": Optional[str]}  # noqa: UP045 - the spelling notebooks use
    values = VALUES | {"learning_rate": 1, "site": None, "__annotations__": annotations}
    assert check("02_replication", values).learning_rate == 1


def test_a_name_that_papermill_injects_but_nobody_declared_is_refused(project):
    injected = {"In": ["", CELL, "# Parameters\nn_splitz = 3\n", "check"], "n_splitz": 3}
    with pytest.raises(TLEError, match=r"no parameter 'n_splitz'; did you mean 'n_splits'\?"):
        check("02_replication", VALUES | injected | {"__annotations__": ANNOTATIONS})


def test_missing_upstream_result_names_the_notebook_to_run_first(project):
    path = project / "runs" / "smoke-small" / "01_preprocessing" / "maps.tsv"
    with pytest.raises(TLEError) as error:
        require(path, "01_preprocessing")
    assert str(error.value) == (
        "runs/smoke-small/01_preprocessing/maps.tsv is missing: run notebook 01_preprocessing first "
        "(python -m tle_utils run --profile smoke --cohort small)"
    )
    path.parent.mkdir(parents=True)
    path.touch()
    assert require(path, "01_preprocessing") == path


def test_command_line_beats_cohort_beats_notebook_beats_global(project):
    notebooks = profile(
        project,
        "global: {n_splits: 2}\nnotebooks: {02_replication: {learning_rate: 0.1}}\n"
        "cohorts: {small: {global: {n_splits: 3}, notebooks: {02_replication: {slices: [-30]}}}}\n",
    )
    phantom = resolve(notebooks, "demo", "phantom")["02_replication"]
    small = resolve(notebooks, "demo", "small", ["02_replication.learning_rate=1e-4"])["02_replication"]
    assert (phantom["n_splits"], phantom["learning_rate"], phantom["slices"]) == (2, 0.1, [-36, -24])
    assert (small["n_splits"], small["learning_rate"], small["slices"]) == (3, 1e-4, [-30])
    assert small["cohort"] == "small"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("global: {n_splitz: 2}", r"demo\.yaml: global: .*'n_splitz'; did you mean 'n_splits'\?"),
        ("notebooks: {02_replicatio: {n_splits: 2}}", r"no notebook '02_replicatio'; did you mean '02_replication'\?"),
        ("notebooks: {02_replication: {epochs: 2}}", r"02_replication has no parameter 'epochs'; known: .*n_splits"),
        ("notebooks: {02_replication: {n_splits: abc}}", r"02_replication: parameter 'n_splits' is 'abc'"),
        ("notebooks: {02_replication: {learning_rate: 1e-4}}", r"'learning_rate'.*write 1\.0e-4"),
        ("notebooks: {02_replication: {cohort: unam}}", r"'cohort' is given by --cohort"),
        ("global: [1]", r"demo\.yaml: global: .*; keys are global, notebooks, cohorts"),
        ("globl: {n_splits: 2}", r"demo\.yaml: globl: "),
        ("global: {n_splits: 2", r"demo\.yaml: "),
        ("- a", r"demo\.yaml: "),
    ],
)
def test_a_bad_profile_is_one_line_that_names_the_thing(project, text, message):
    with pytest.raises(TLEError, match=message) as error:
        resolve(profile(project, text), "demo", "phantom")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_splits=3", "notebook.parameter=value"),
        ("02_replication.n_splits", "notebook.parameter=value"),
        ("02_replication.n_splitz=3", "did you mean 'n_splits'"),
        ("02_replication.n_splits=three", "parameter 'n_splits' is 'three'"),
        ("02_replication.n_splits=", "parameter 'n_splits' is None"),
        ("02_replication.n_splits=[", r"parameter 'n_splits' is '\['"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_the_thing(project, text, message):
    with pytest.raises(TLEError, match=message) as error:
        resolve(profile(project, ""), "demo", "phantom", [text])
    assert "\n" not in str(error.value)


def test_unknown_profile_and_cohort_list_the_known_ones(project):
    notebooks = profile(project, "")
    with pytest.raises(TLEError, match="no profile 'dem' .*known: demo"):
        resolve(notebooks, "dem", "phantom")
    with pytest.raises(TLEError, match="'unma'.*phantom, small"):
        resolve(notebooks, "demo", "unma")


def test_every_parameter_that_names_a_file_says_so(monkeypatch):
    monkeypatch.chdir(ROOT)
    words = {"profile", "cohort", "preset", "target", "external", "image_kind", "sex"}
    for name, step in chain().items():
        texts = {
            key
            for key, field in declared(step.path).model_fields.items()
            if str in (field.annotation, *get_args(field.annotation))
        }
        assert texts - words == set(step.files), f"{name}: a file goes into tle.files, any other word into this list"


@pytest.mark.chain
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("n_splitz", "3"), "02_replication: no parameter 'n_splitz'; did you mean 'n_splits'?"),
        (("profile", "../x"), "no profile '../x' in notebooks/parameters/; known: demo"),
        (("cohort", "../../x"), "unknown cohort '../../x': data_manifest.yaml has phantom, small"),
        (("profile", "/etc/x"), "no profile '/etc/x' in notebooks/parameters/; known: demo"),
        (("cohort", ""), "unknown cohort '': data_manifest.yaml has phantom, small"),
        (
            ("slices", "[60,120]"),
            "02_replication: parameter 'slices' is '[60,120]'; input should be a valid list "
            "(papermill's -p hands on text: write -y '{slices: [60,120]}')",
        ),
        (("-y", "{n_splits:3}"), "-y '{n_splits:3}': YAML wants a blank after the colon: -y '{n_splits: 3}'"),
        (("-y", "{n_splits: 3, learning_rate:0.1}"), "-y '{learning_rate:0.1}': YAML wants a blank after the colon: "),
        (("-y", "{n_folds:3}"), "-y '{n_folds:3}': YAML wants a blank after the colon: -y '{n_folds: 3}'"),
    ],
)
def test_plain_papermill_stops_in_one_line_and_writes_no_result(project, given, message):
    path = write_notebook(
        project / "02_replication.ipynb",
        CELL.replace("Optional[str]", "str").replace("None", '""'),
        'from tle_utils.book import check\np = check("02_replication", globals())',
    )
    before = set(project.parent.rglob("*"))
    command = [sys.executable, "-m", "papermill", str(path), "out.ipynb", "--no-progress-bar"]
    command += given if given[0] == "-y" else ["-p", *given]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert set(project.parent.rglob("*")) - before == {project / "out.ipynb"}
    outputs = [cell.get("outputs", []) for cell in json.loads((project / "out.ipynb").read_text())["cells"]]
    (error,) = [output for cell in outputs for output in cell if output["output_type"] == "error"]
    (line,) = error["traceback"]
    assert line.startswith(f"Stopped: {message}") and "\n" not in line


def test_a_profile_and_a_cohort_have_a_folder_of_their_own(project):
    """runs/a-b-c would be that of profile a on cohort b-c and of profile a-b on cohort c."""
    (project / "notebooks" / "parameters" / "quick-look.yaml").write_text("")
    with pytest.raises(TLEError, match="profile 'quick-look': name its file without '-'"):
        resolve([], "quick-look", "small")
