"""Preprocessing on real scans: masks, tissues and sides against reference labels."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to

from tle_utils import atlas
from tle_utils.preprocessing import labels_to_native, preprocess, segment

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / os.environ.get("TLE_SHARED_DATA", "../shared/data")
HEAD = DATA / "labelled" / "epilepsy_head"
CEREBELLUM_AND_STEM = [7, 8, 15, 16, 46, 47]
CORTEX_AND_DEEP_GREY = [3, 42, 10, 11, 12, 13, 17, 18, 26, 49, 50, 51, 52, 53, 54, 58]

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not HEAD.exists(), reason=f"no real scans in {DATA}: set TLE_SHARED_DATA"),
]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def on(volume, affine, image, order):
    return resample_from_to(nib.Nifti1Image(volume.astype(np.float32), affine), image, order=order).get_fdata()


def test_epilepsy_head_against_freesurfer():
    found = segment(HEAD / "T1.mgz")
    image = nib.load(HEAD / "aseg.mgz")
    labels = np.asarray(image.dataobj).astype(int)
    mask = on(found.mask, found.affine, image, 0) > 0
    assert dice(mask, np.asarray(nib.load(HEAD / "brainmask.mgz").dataobj) > 0) >= 0.94
    assert mask[labels > 0].mean() >= 0.985
    grey = (on(found.maps["GM"], found.affine, image, 0) > 0.5) & ~np.isin(labels, CEREBELLUM_AND_STEM)
    assert dice(grey, np.isin(labels, CORTEX_AND_DEEP_GREY)) >= 0.83


def test_brain_against_its_reference_grey_matter():
    folder = DATA / "labelled" / "brain_with_gm"
    found = segment(folder / "T1.nii.gz")
    reference, t1w = nib.load(folder / "GM.nii.gz"), nib.load(folder / "T1.nii.gz")
    grey = on(found.maps["GM"], found.affine, reference, 1)
    inside = t1w.get_fdata() > 0
    assert np.corrcoef(grey[inside], reference.get_fdata()[inside])[0, 1] >= 0.90


def test_mirrored_head_gives_mirrored_volumes_and_freesurfer_asymmetry(tmp_path):
    t1w, aseg = nib.load(HEAD / "T1.mgz"), np.asarray(nib.load(HEAD / "aseg.mgz").dataobj)
    flipped = np.diag([-1, 1, 1, 1]) @ t1w.affine
    nib.save(nib.Nifti1Image(np.asarray(t1w.dataobj), flipped), tmp_path / "mirrored.nii.gz")
    done = [
        preprocess(path, tmp_path / "out", name)
        for path, name in ((HEAD / "T1.mgz", "sub-01"), (tmp_path / "mirrored.nii.gz", "sub-02"))
    ]
    assert all(result["passed"] for result in done), [result["flags"] for result in done]
    left, right = (atlas.regional_volumes(nib.load(result["map"]).get_fdata()) for result in done)
    mirrored = right.rename({"left": "right", "right": "left"}, level="hemisphere").reindex(left.index)
    large = left > 1
    np.testing.assert_allclose(mirrored[large], left[large], rtol=0.03)
    assert mirrored["hippocampus", "left"] == pytest.approx(left["hippocampus", "left"], rel=0.03)
    expected = atlas.asymmetry_index((aseg == 17).sum(), (aseg == 53).sum())
    found = done[0]["qc"]["hippocampus_asymmetry"]
    assert np.sign(found) == np.sign(expected) and abs(found - expected) <= 0.05
    assert np.sign(done[1]["qc"]["hippocampus_asymmetry"]) == -np.sign(expected)


def test_region_lands_on_the_same_side_of_the_native_scan():
    native = labels_to_native(HEAD / "T1.mgz", atlas.region_mask("hippocampus", "left"))
    aseg = np.asarray(nib.load(HEAD / "aseg.mgz").dataobj)
    assert native.shape == aseg.shape
    assert dice(native.get_fdata() > 0.5, aseg == 17) > 0.7
    assert (native.get_fdata() * (aseg == 53)).sum() == 0


def test_second_run_gives_the_same_bytes(tmp_path):
    scan = sorted((DATA / "ds002748").glob("sub-*/anat/*_T1w.nii.gz"))[0]
    maps = [preprocess(scan, tmp_path / name, "sub-01")["map"].read_bytes() for name in ("a", "b")]
    assert maps[0] == maps[1]
