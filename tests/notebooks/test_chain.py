"""The whole chain on a handful of phantoms: what a user sees, keeps and may interrupt."""

import json
import os
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from project import ROOT, copy_project, tle
from quantities import contradictions, texts_without_a_table

pytestmark = pytest.mark.chain
CHAPTERS = [
    "01_preprocessing",
    "02_replication",
    "03_lateralization_baseline",
    "04_deep_model",
    "05_saliency_maps",
    "06_multitask_model",
    "07_model_comparison",
    "08_new_patient",
    "09_phantom_matching",
    "10_sclerosis",
]


def read(smoke, name):
    return pd.read_csv(smoke / "runs" / "smoke-phantom" / name, sep="\t", dtype={"participant_id": str})


def test_every_notebook_of_the_folder_ran(smoke):
    executed = sorted(path.stem for path in (smoke / "runs" / "smoke-phantom" / "notebooks").glob("*.ipynb"))
    assert executed == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == CHAPTERS


def test_everyone_is_predicted_once_by_a_network_that_never_saw_them(smoke):
    people = read(smoke, "01_preprocessing/participants.tsv")
    for chapter, groups in (
        ("02_replication", {"control", "left"}),
        ("03_lateralization_baseline", {"control", "left", "right"}),
        ("04_deep_model", {"control", "left", "right"}),
    ):
        table = read(smoke, f"{chapter}/predictions.tsv")
        for _, rows in table[table["split"] == "test"].groupby("model"):
            assert sorted(rows["participant_id"]) == sorted(people.loc[people["group"].isin(groups), "participant_id"])
        for _, rows in table.groupby(["model", "repeat", "fold"]):
            assert rows["participant_id"].is_unique


def test_the_same_quantity_has_one_value_and_one_interval_in_all_chapters(smoke):
    run = smoke / "runs" / "smoke-phantom"
    found, twice = contradictions(run)
    assert not found, found
    missing, texts = texts_without_a_table(run)
    assert not missing, missing
    assert twice > 100 and texts > 10


def test_saliency_files_lie_in_mni_space(smoke):
    for path in (smoke / "runs" / "smoke-phantom" / "05_saliency_maps").glob("*.nii.gz"):
        image = nib.load(path)
        x_mm = nib.affines.apply_affine(image.affine, np.argwhere(image.get_fdata() > 0))[:, 0]
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S") and abs(x_mm).max() <= 80


def test_run_card_tells_how_the_run_was_made(smoke):
    card = json.loads((smoke / "runs" / "smoke-phantom" / "run.json").read_text())
    assert {"profile", "cohort", "seed"} <= set(card) | set(card.get("parameters", {}))
    assert str(smoke) not in json.dumps(card)


def test_nothing_changed_runs_nothing(smoke):
    def executed():
        return {path: path.stat().st_mtime_ns for path in (smoke / "runs/smoke-phantom/notebooks").iterdir()}

    before = executed()
    done = tle(smoke, "run", "--profile", "smoke")
    assert done.returncode == 0 and done.stdout.count("up to date") == len(CHAPTERS)
    assert executed() == before


def test_a_parameter_reruns_its_notebook_and_what_reads_it(smoke):
    arguments = ("--profile", "smoke", "--set", "04_deep_model.max_epochs=3")
    lines = {line.split()[0]: line for line in tle(smoke, "status", *arguments).stdout.splitlines()[1:]}
    fresh = [name for name in CHAPTERS if "up to date" in lines[name]]
    assert fresh == [*CHAPTERS[:3], "09_phantom_matching"]


def test_a_killed_run_resumes_to_the_same_predictions(smoke, tmp_path):
    """Kill the runner in the middle of the training of notebook 03, in a copy that still has notebook 01's maps."""
    copy_project(tmp_path)
    command = [sys.executable, "-m", "tle_utils", "run", "--profile", "smoke"]
    folds = tmp_path / "runs" / "smoke-phantom" / "03_lateralization_baseline" / "folds"
    running = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 1200
    while not list(folds.glob("repeat-*.npz")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in folds.glob("repeat-*.npz")}
    assert kept and not (tmp_path / "runs/smoke-phantom/notebooks/03_lateralization_baseline.ipynb").exists()
    done = tle(tmp_path, "run", "--profile", "smoke", "--set", "04_deep_model.max_epochs=1")
    assert done.returncode == 0, done.stderr
    assert {name: (folds / name).stat().st_mtime_ns for name in kept} == kept
    for chapter in CHAPTERS[1:3]:
        name = f"runs/smoke-phantom/{chapter}/predictions.tsv"
        assert (tmp_path / name).read_bytes() == (smoke / name).read_bytes()


def test_plain_papermill_runs_a_chapter_and_refuses_a_mistyped_parameter(smoke):
    command = [sys.executable, "-m", "papermill", "notebooks/03_lateralization_baseline.ipynb", "out.ipynb"]
    command += ["-p", "profile", "smoke", "-p", "n_splits", "2", "-p", "max_epochs", "2"]
    done = subprocess.run(command, cwd=smoke, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    wrong = subprocess.run([*command, "-p", "n_split", "3"], cwd=smoke, capture_output=True, text=True)
    assert wrong.returncode and "no parameter 'n_split'; did you mean 'n_splits'?" in wrong.stderr


def test_a_chapter_alone_names_the_one_to_run_first(tmp_path):
    copy_project(tmp_path)
    command = [
        sys.executable,
        "-m",
        "papermill",
        "notebooks/02_replication.ipynb",
        "out.ipynb",
        "-p",
        "profile",
        "smoke",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and "run notebook 01_preprocessing first" in done.stderr
    assert not list((tmp_path / "runs").rglob("*.tsv"))


@pytest.mark.parametrize("profile", ["smoke", "demo", "paper"])
def test_profiles_fit_the_notebooks(profile):
    done = tle(ROOT, "status", "--profile", profile)
    assert done.returncode == 0, done.stderr


def test_demo_is_what_the_notebooks_declare():
    """A researcher in JupyterLab gets what the demo gets."""
    assert yaml.safe_load((ROOT / "notebooks/parameters/demo.yaml").read_text())["global"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--profile", "demmo"), "no profile 'demmo'"),
        (("run", "--cohort", "phantm"), "phantm"),
        (("run", "--set", "04_deep_model.max_epoch=3"), "did you mean 'max_epochs'"),
        (("run", "--set", "04_deep_model.max_epochs=many"), "max_epochs"),
        (("run", "--cohort", "unam"), "fetch unam"),
        (("book", "--profile", "paper"), "run"),
        (("bok",), "bok"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, arguments, message):
    copy_project(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts)
    done = tle(tmp_path, *arguments)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert message in done.stderr
    written = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} - set(before)
    assert not [path for path in written if path.is_file()]


def test_missing_scans_of_a_cohort_are_named(tmp_path):
    copy_project(tmp_path)
    command = [sys.executable, "-m", "tle_utils", "run", "--profile", "smoke", "--cohort", "planted"]
    env = os.environ | {"TLE_SHARED_DATA": str(tmp_path / "nowhere")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert "ds002748" in done.stderr


def test_an_empty_table_is_named(tmp_path):
    copy_project(tmp_path)
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "participants.tsv").write_text("participant_id\tage\tsex\n")
    manifest = yaml.safe_load((tmp_path / "data_manifest.yaml").read_text())
    manifest["cohorts"]["lab"] = {"kind": "bids", "path": "scans", "labels": [{"group": "control"}]}
    (tmp_path / "data_manifest.yaml").write_text(yaml.safe_dump(manifest))
    done = tle(tmp_path, "run", "--profile", "smoke", "--cohort", "lab")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert "participants.tsv" in done.stderr
