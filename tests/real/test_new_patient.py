"""Notebook 08 on a real head: a card with the right side, in time; bad scans get a reason and no probability."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from project import copy_project, shared_data

from tle_utils.imaging import atlas, regions
from tle_utils.models import regional
from tle_utils.patient import ensemble, model_card, model_store, norms
from tle_utils.patient.out_of_distribution import TrainingMaps
from tle_utils.phantom import maps

DATA = shared_data()
HEAD = DATA / "labelled" / "epilepsy_head"
CARD = "runs/demo-phantom/08_new_patient/card.json"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not HEAD.exists(), reason=f"no real scans in {DATA}: set TLE_SHARED_DATA"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with a model of all regions, trained on phantoms, that takes any map for its own kind."""
    folder = copy_project(tmp_path_factory.mktemp("new"))
    table = maps.make_phantom(tmp_path_factory.mktemp("maps"), n_control=16, n_left=8, n_right=8, seed=0, workers=2)
    volumes, groups = regions.read_regional_volumes(table["image"], workers=2), table["group"].to_numpy(str)
    people = table[["age", "sex", "head_size_ml"]]
    card = model_card.ModelCard(
        name="",
        task="side",
        components=("regional",),
        y_mm=(),
        space=atlas.SPACE,
        preprocessing={"modulate": True, "fwhm_mm": 0.0},
        profile="demo",
        cohort="phantom",
        seed=0,
        participants={name: int((groups == name).sum()) for name in ("control", "left", "right")},
        participants_sha256="0" * 64,
        maps_sha256="0" * 64,
        versions={},
        code={},
        out_of_fold=(),
        calibration={"expected_calibration_error": 0.1, "brier": 0.5, "bins": 5, "n": 32},
        conformal=({"coverage": 0.9, "threshold": 0.8, "n": 32},),
        norms=norms.fit_norms(volumes, people, groups),
        out_of_distribution=TrainingMaps(n=0, mean={}, sd={}),
    )
    fold = ensemble.FoldModel(
        {"regional": regional.train_regions(volumes, groups, np.arange(len(groups)))}, {"regional": 1.0, "joint": 1.0}
    )
    model_store.write_models(folder / "runs/demo-phantom/models", name="all regions", folds=[fold], card=card)
    return folder


def run(project, image, **parameters):
    """Run notebook 08 on an image with papermill; the finished process."""
    command = [sys.executable, "-m", "papermill", "notebooks/08_new_patient.ipynb", "out.ipynb", "-p", "image"]
    options = [word for name, value in parameters.items() for word in ("-p", name, str(value))]
    return subprocess.run([*command, str(image), *options], cwd=project, capture_output=True, text=True)


def ask(project, image, **parameters):
    """Run notebook 08 on an image and read its card."""
    done = run(project, image, **parameters)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((project / CARD).read_text())


def _changed(path, data=None, affine=None, **header):
    """The head with other values, another affine or another header, as NIfTI."""
    image = nib.load(HEAD / "T1.mgz")
    data = np.asarray(image.dataobj) if data is None else data
    changed = nib.Nifti1Image(data, image.affine if affine is None else affine)
    for name in ("sform", "qform"):
        getattr(changed, f"set_{name}")(*header.get(name, (changed.affine, 1)))
    nib.save(changed, path)
    return path


def test_head_gets_a_card_with_the_side_of_freesurfer(project):
    found = ask(project, HEAD / "T1.mgz", age=34, sex="F")
    aseg = np.asarray(nib.load(HEAD / "aseg.mgz").dataobj)
    left, right = ((aseg == label).sum() for label in (17, 53))
    measured = found["hippocampus"]["asymmetry"]["value"]
    assert found["status"] == "answered" and found["person"]["head_size_ml"] > 1000
    assert sum(row["probability"] for row in found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert measured == pytest.approx(atlas.asymmetry_index(left, right), abs=0.05)
    page = (project / CARD).with_suffix(".html").read_text()
    assert str(DATA) not in page and "data:image/png" in page and "For research only" in page


def test_mirrored_head_mirrors_the_card(project, tmp_path):
    image = nib.load(HEAD / "T1.mgz")
    found = []
    for name, mirror in (("as_it_is", np.eye(4)), ("mirrored", np.diag([-1.0, 1, 1, 1]))):
        path = _changed(tmp_path / f"{name}_T1w.nii.gz", affine=mirror @ image.affine)
        found.append(ask(project, path))
    one, other = (card["hippocampus"] for card in found)
    assert one["asymmetry"]["value"] == pytest.approx(-other["asymmetry"]["value"], abs=0.03)
    assert one["left"]["value"] == pytest.approx(other["right"]["value"], rel=0.05)


def _flair(data):
    """Dark fluid and dark white matter: grey matter is the brightest, as on a FLAIR."""
    brain = np.asarray(nib.load(HEAD / "brainmask.mgz").dataobj) > 0
    aseg = np.asarray(nib.load(HEAD / "aseg.mgz").dataobj)
    return np.where(brain, np.where(np.isin(aseg, [2, 41]), 60, np.where(aseg > 0, 110, 20)), data // 3).astype(
        np.uint8
    )


BAD = {
    "flair": (lambda data, affine: {"data": _flair(data)}, "give a T1w scan"),
    "infant": (lambda data, affine: {"affine": affine @ np.diag([0.65, 0.65, 0.65, 1])}, "outside"),
    "cropped": (lambda data, affine: {"data": data[:, : data.shape[1] // 2]}, "field of view"),
    "mirrored": (
        lambda data, affine: {"sform": (affine, 1), "qform": (np.diag([-1.0, 1, 1, 1]) @ affine, 1)},
        "left and right are uncertain",
    ),
    "unknown": (lambda data, affine: {"sform": (None, 0), "qform": (None, 0)}, "left and right are unknown"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_scan_gets_a_reason_and_no_probability(project, tmp_path, kind):
    image = nib.load(HEAD / "T1.mgz")
    change, words = BAD[kind]
    path = _changed(tmp_path / f"{kind}_T1w.nii.gz", **change(np.asarray(image.dataobj), image.affine))
    found = ask(project, path)
    assert found["status"] == "no answer" and found["probabilities"] is None and found["regions"] is None
    assert any(words in reason for reason in found["reasons"]), found["reasons"]
    assert "<meter" not in (project / CARD).with_suffix(".html").read_text()
    assert not (project / CARD).with_name("regions.tsv").exists()


def test_missing_file_is_one_line(project):
    done = run(project, "no.nii")
    assert done.returncode != 0 and "no.nii: no such file" in done.stderr
    assert not (project / CARD).exists()
