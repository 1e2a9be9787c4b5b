"""One new image: what stops the notebook, what ends as a reason on the card, and left stays left."""

import nibabel as nib
import numpy as np
import pytest
from makers import card

from tle_utils.base import fingerprints
from tle_utils.base.errors import TLEError
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.imaging import atlas, images, preprocessing
from tle_utils.patient import case as patient_case
from tle_utils.patient import ensemble
from tle_utils.patient.out_of_distribution import TrainingMaps

LIKE = {"pattern": 1.4, "amount": 6.6, "sharpness": -0.8}


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A grey-matter map of 3 mm whose left hippocampus is half as large, stored from right to left."""
    grey = 0.7 * atlas.tissue_priors()["GM"]
    grey[atlas.region_mask("hippocampus", "left", dilate_mm=3)] *= 0.5
    path = tmp_path_factory.mktemp("given") / "mwp1patient.nii.gz"
    affine = atlas.AFFINE @ np.diag([3, 3, 3, 1])
    image = nib.as_closest_canonical(nib.Nifti1Image(grey[::3, ::3, ::3], affine))
    flipped = image.as_reoriented([[0, -1], [1, 1], [2, 1]])
    images.write_image(path, np.asarray(flipped.dataobj), flipped.affine)
    return path


def model(**changed):
    return ensemble.Ensemble(card(**changed), [])


def test_left_stays_left(scan, tmp_path):
    case = patient_case.examine(patient_case.given_image(scan), model(), tmp_path)
    left, right = (case.volumes.iloc[0]["hippocampus", side] for side in ("left", "right"))
    assert case.reasons == [] and left < 0.7 * right
    assert case.facts["orientation"] == "LAS" and case.given.kind == "gm" and case.x is None
    assert patient_case.quality(case).loc["gm_ml", "lowest"] == preprocessing.LIMITS["gm_ml"][0]


def test_slices_are_those_of_the_model(scan, tmp_path):
    case = patient_case.examine(
        patient_case.given_image(scan), model(components=("multitask", "regional"), y_mm=(-27, -24)), tmp_path
    )
    assert case.x.shape == (1, 32, 31, 2)


def test_what_is_wrong_with_the_arguments_is_named(scan):
    with pytest.raises(TLEError, match="no-scan.nii.gz: no such file"):
        patient_case.given_image("/nowhere/no-scan.nii.gz")
    white = scan.with_name("mwp2patient.nii.gz")
    white.symlink_to(scan)
    with pytest.raises(TLEError, match="mwp2patient.nii.gz: by its name a map of white matter"):
        patient_case.given_image(white)
    assert patient_case.given_image(white, image_kind="gm").kind == "gm"
    with pytest.raises(TLEError, match="image_kind is 'flair': give t1w or gm"):
        patient_case.given_image(scan, image_kind="flair")
    with pytest.raises(TLEError, match="sex is 'f': give F or M"):
        patient_case.given_image(scan, sex="f")


@pytest.mark.parametrize("content", [b"", b"no image at all"], ids=["empty", "text"])
def test_file_that_cannot_be_read_stops_the_notebook(tmp_path, content):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    with pytest.raises(TLEError, match=r"scan.nii.gz: .*(zero bytes|damaged)"):
        patient_case.examine(patient_case.given_image(path), model(), tmp_path)


def _bad(kind, path):
    """Scans that can be read and must not be answered."""
    data = np.random.default_rng(0).random((60, 70, 60), dtype=np.float32)
    affine = np.diag([3.0, 3, 3, 1])
    if kind == "small":
        affine = np.diag([1.0, 1, 1, 1])
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    if kind == "mirrored":
        image.set_sform(np.diag([-3.0, 3, 3, 1]), 1)
    if kind == "no orientation":
        image.set_sform(affine, 0)
        image.set_qform(affine, 0)
    if kind == "constant":
        image = nib.Nifti1Image(np.ones((60, 70, 60), np.float32), affine)
    nib.save(image, path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("mirrored", "left and right are uncertain"),
        ("no orientation", "left and right are unknown"),
        ("small", "field of view 60 x 70 x 60 mm"),
        ("constant", "all voxels have the value"),
    ],
)
def test_bad_scan_ends_as_a_reason(tmp_path, kind, words):
    path = tmp_path / "scan_T1w.nii.gz"
    _bad(kind, path)
    case = patient_case.examine(patient_case.given_image(path), model(), tmp_path / "out")
    (reason,) = case.reasons
    assert words in reason and case.x is None and case.volumes is None
    assert case.facts["input_sha256"] == fingerprints.sha256(path) and patient_case.quality(case).empty


@pytest.mark.parametrize(
    "error", [TLEError("white matter is not brighter than grey matter: give a T1w scan"), ValueError("odd\nshape")]
)
def test_whatever_preprocessing_says_ends_as_a_reason(scan, tmp_path, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(preprocessing, "preprocess", fail)
    case = patient_case.examine(patient_case.given_image(scan), model(), tmp_path)
    assert len(case.reasons) == 1 and "\n" not in case.reasons[0] and case.volumes is None


def test_failed_quality_gives_no_answer(scan, tmp_path):
    image = nib.load(scan)
    path = tmp_path / "mwp1small.nii.gz"
    images.write_image(path, np.asarray(image.dataobj) * np.float32(0.1), image.affine)
    case = patient_case.examine(patient_case.given_image(path), model(), tmp_path)
    assert any("grey matter in ml" in reason for reason in case.reasons) and case.volumes is None


def test_amount_of_a_ready_map_is_held_against_the_training_maps(scan, tmp_path):
    image = nib.load(scan)
    path = tmp_path / "mwp1large.nii.gz"
    images.write_image(path, np.asarray(image.dataobj) * np.float32(1.6), image.affine)
    refused = patient_case.examine(patient_case.given_image(path), model(), tmp_path)
    wide = model(out_of_distribution=TrainingMaps(n=40, mean=LIKE, sd=dict.fromkeys(LIKE, 1.0)))
    case = patient_case.examine(patient_case.given_image(path), wide, tmp_path)
    assert any("grey matter in ml" in reason for reason in refused.reasons)
    assert case.reasons == [] and any("grey matter in ml" in note for note in case.notes)


def test_map_of_another_kind_gives_no_answer(scan, tmp_path):
    other = model(preprocessing={"modulate": False, "fwhm_mm": 0.0})
    case = patient_case.examine(patient_case.given_image(scan), other, tmp_path)
    assert case.reasons == ["the map is modulated, the model learned from maps that are not modulated"]
    far = model(out_of_distribution=TrainingMaps(n=40, mean=LIKE, sd=dict.fromkeys(LIKE, 1e-3)))
    case = patient_case.examine(patient_case.given_image(scan), far, tmp_path)
    assert (
        case.reasons and all("unlike the training maps" in reason for reason in case.reasons) and case.volumes is None
    )


def test_nothing_of_an_earlier_person_stays(scan, tmp_path):
    names = ("card.html", "card.json", "regions.tsv", "image/mwp1old.nii.gz", "image/mwp1old.json", "outputs.json")
    names = (*names, "refused/card.html", "refused/regions.tsv", "sclerosis/image/sub-new.nii.gz")
    for folder in ("image", "refused", "sclerosis/image"):
        (tmp_path / folder).mkdir(parents=True)
    for name in names:
        (tmp_path / name).write_text("of another person")
    own = tmp_path / "image" / scan.name
    own.write_bytes(scan.read_bytes())
    patient_case.clear_results(tmp_path, own)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"outputs.json", f"image/{scan.name}"}
    patient_case.clear_results(tmp_path / "nowhere")


def test_nobody_to_answer_is_said_in_one_line(tmp_path):
    case = patient_case.examine(patient_case.given_image(None), model(), tmp_path)
    assert case.reasons == [patient_case.NO_IMAGE] and "-p image" in case.reasons[0] and not list(tmp_path.iterdir())


def test_own_options_are_the_runs_unless_told():
    name = "sub-01_space-MNI152NLin2009aSym_desc-unmodulatedsmooth4_label-GM_probseg.nii.gz"
    own = patient_case.own_options([name])
    assert (own["modulate"], own["fwhm_mm"], own["space"]) == (False, 4.0, atlas.SPACE)
    assert patient_case.own_options([name], modulate=True, fwhm_mm=0.0)["modulate"] is True
    assert patient_case.own_options([])["modulate"] is True


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("new")
    return folder, patient_case.new_phantoms(load_manifest().cohort("phantom").entry, folder, folder, seed=0)


def test_new_phantoms_are_ill_on_the_left_one_with_and_one_without_sclerosis(phantoms):
    folder, found = phantoms
    assert list(found) == list(patient_case.PHANTOMS)
    scar, none = found["sclerosis"], found["no_sclerosis"]
    assert scar.truth["sclerotic"] and not none.truth["sclerotic"] and scar.truth["loss"] > 0.1 > none.truth["loss"]
    assert {one.truth["group"] for one in (scar, none)} == {"left"} and scar.person != none.person
    for name, one in found.items():
        assert one.path.is_relative_to(folder / name / "image") and one.person["head_size_ml"] > 1000
        assert atlas.on_template_grid(nib.load(one.path)) and 18 <= one.person["age"] <= 70


def test_the_seed_makes_the_same_phantoms_whatever_share_of_the_cohort_is_sclerotic(phantoms, tmp_path):
    entry = load_manifest().cohort("phantom").entry.model_copy(update={"sclerosis_fraction": 1.0})
    again = patient_case.new_phantoms(entry, tmp_path, tmp_path, seed=0)
    for name, one in phantoms[1].items():
        assert again[name].path.read_bytes() == one.path.read_bytes() and again[name].truth == one.truth


def test_the_header_that_contradicts_itself_is_refused_and_the_same_map_is_not(phantoms, tmp_path):
    cases = {name: patient_case.examine(one, model(), tmp_path / name) for name, one in phantoms[1].items()}
    (reason,) = cases["refused"].reasons
    assert reason.startswith(phantoms[1]["refused"].name) and "left and right are uncertain" in reason
    assert cases["sclerosis"].reasons == [] and cases["refused"].volumes is None
