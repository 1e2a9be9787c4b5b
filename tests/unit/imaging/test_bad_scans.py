"""A bad scan, a full disk or a locked folder costs one line and one participant, never the cohort."""

import errno
import json
import os

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tle_utils.base import files
from tle_utils.base.errors import TLEError
from tle_utils.book.chain import left_out
from tle_utils.cohorts import prepare
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.imaging import atlas, images, preprocessing, segmentation

FILLING = "sub-02"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two participants with ready maps of 3 mm."""
    path = tmp_path_factory.mktemp("given") / "maps" / "mwp1a.nii.gz"
    images.write_image(path, atlas.tissue_priors()["GM"][::3, ::3, ::3], atlas.AFFINE @ np.diag([3, 3, 3, 1]))
    return pd.DataFrame({"participant_id": ["sub-01", FILLING], "image": str(path), "image_kind": "gm"})


@pytest.fixture
def full_disk(monkeypatch):
    """No space for anything of the second participant."""
    write = os.replace

    def replace(source, target):
        if FILLING in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(source, target)

    monkeypatch.setattr(files.os, "replace", replace)


def test_full_disk_costs_one_participant_and_leaves_no_rubbish(two, tmp_path, full_disk):
    rows = preprocessing.preprocess_cohort(two, tmp_path)
    assert rows["passed"].tolist() == [True, False]
    (line,) = rows["error"][rows["error"] != ""]
    assert line.startswith(f"{FILLING}: ") and "No space left on device" in line and "free space" in line
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".") or FILLING in path.name]
    found = json.loads((tmp_path / "dataset_description.json").read_text())
    assert found["DatasetType"] == "derivative" and found["BIDSVersion"] and found["GeneratedBy"][0]["Name"]


def test_folder_without_write_permission_is_one_line(two, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("the superuser may write anywhere")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(TLEError, match=r"cannot be written \(Permission denied\)"):
            preprocessing.preprocess_cohort(two, tmp_path / "maps")
    finally:
        tmp_path.chmod(0o700)


def test_folder_below_a_file_is_one_line(two, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TLEError, match="cannot be written"):
        preprocessing.preprocess_cohort(two, tmp_path / "file" / "maps")


@pytest.mark.parametrize(("csf", "grey", "white"), [(30, 100, 80), (110, 70, 30)], ids=["FLAIR", "T2"])
def test_other_contrasts_are_refused(csf, grey, white):
    truth = {name: np.zeros((24, 24, 24)) for name in ("CSF", "GM", "WM")}
    for i, name in enumerate(truth):
        truth[name][8 * i : 8 * i + 8] = 1
    brain = csf * truth["CSF"] + grey * truth["GM"] + white * truth["WM"]
    brain += np.random.default_rng(0).normal(0, 4, brain.shape)
    priors = {name: 0.6 * volume + 0.13 for name, volume in truth.items()}
    with pytest.raises(TLEError, match="give a T1w scan"):
        segmentation.tissue_maps(brain.astype(np.float32), np.ones(brain.shape, bool), priors)


@pytest.mark.parametrize(("cut_mm", "fails"), [(0, False), (70, True)])
def test_brain_cut_off_by_the_field_of_view_is_left_out(cut_mm, fails):
    shape = np.array(atlas.SHAPE) - [0, 0, cut_mm]
    found = segmentation.outside_fraction(np.eye(4), shape, atlas.AFFINE)
    flags = preprocessing._judge({"outside_fraction": found}, ["outside_fraction"])
    assert [f["fails"] for f in flags] == ([True] if fails else [])
    assert all("outside the field of view" in f["reason"] for f in flags)


def test_box_that_fits_an_extracted_brain_tightly_is_not_a_cut():
    inside = np.argwhere(atlas.brain_mask())
    low, high = inside.min(axis=0) + 3, inside.max(axis=0) - 3
    affine = atlas.AFFINE @ nib.affines.from_matvec(np.eye(3), low)
    assert segmentation.outside_fraction(np.eye(4), high - low + 1, affine) > 0.001
    assert segmentation.outside_fraction(np.eye(4), high - low + 1, affine, segmentation.TIGHT_BOX_MM) == 0


def test_scan_that_cannot_be_planted_is_named_and_the_rest_go_on(two, tmp_path, monkeypatch):
    damaged = tmp_path / "b.nii.gz"
    damaged.write_bytes(b"")
    base = two.assign(group="control", age=40.0, sex="F", site="a", mts=False, hippocampus_left=np.nan)
    base["hippocampus_right"] = np.nan
    planted = base.assign(image=[base["image"][0], ""], error=["", f"{FILLING}: b.nii.gz: bad"])
    monkeypatch.setattr(prepare, "_scans", lambda *arguments: planted.assign(true_loss=np.nan))
    options = {"limit": 0, "modulate": True, "fwhm_mm": 0.0, "seed": 0, "workers": 1}
    made = prepare.prepare_maps(load_manifest().cohort("planted"), tmp_path / "run", **options)
    assert made.failed["participant_id"].tolist() == [FILLING]
    assert len(pd.read_csv(tmp_path / "run" / "participants.tsv", sep="\t")) == 1
    assert left_out([tmp_path / "run", tmp_path / "none"]) == [{"participant_id": FILLING, "reason": "b.nii.gz: bad"}]
    person = {"participant_id": "sub-09", "group": "left", "image": str(damaged), "image_kind": "t1w"}
    path, line = prepare._plant_one(person, tmp_path, 0.4)
    assert path == "" and line.startswith("sub-09: b.nii.gz: the file has zero bytes")
