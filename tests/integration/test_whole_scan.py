"""Whole scans through preprocessing, quickly: a left lesion stays on the left however its voxels are stored."""

import json

import nibabel as nib
import numpy as np
import pytest
from scans import save_scan

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas, images, registration, segmentation, transforms
from tle_utils.imaging.preprocessing import PreprocessingOptions, preprocess

QUICK = PreprocessingOptions(registration_mm=4)


def template_brain():
    """The template's brain, smaller and shifted, with the left hippocampus replaced by fluid."""
    t1w = atlas.template().get_fdata(dtype=np.float32).copy()
    fluid = np.median(t1w[atlas.tissue_priors()["CSF"] > 0.9])
    t1w[atlas.region_mask("hippocampus", "left")] = fluid
    noise = np.random.default_rng(0).normal(0, 0.02, t1w.shape)
    t1w = np.where(atlas.brain_mask(), np.maximum(t1w + noise, 0.01), 0).astype(np.float32)
    affine = np.diag([0.93, 0.93, 0.93, 1]) @ atlas.AFFINE
    affine[:3, 3] += [6, -9, 12]
    return t1w * 1000, affine


@pytest.fixture(scope="module")
def lesion(tmp_path_factory):
    """A scan with a left lesion, stored as PSR, and what preprocessing made of it."""
    folder = tmp_path_factory.mktemp("lesion")
    scan = save_scan(folder / "scan.nii.gz", *template_brain(), "PSR")
    return scan, folder / "out", preprocess(scan, folder / "out", "sub-01", QUICK)


def test_left_lesion_ends_on_the_left(lesion):
    done = lesion[2]
    assert done["passed"] and [f["name"] for f in done["flags"]] == ["hippocampus_asymmetry"]
    assert done["orientation"] == "PSR"
    assert done["qc"]["hippocampus_asymmetry"] < -0.4
    assert done["qc"]["affine_determinant"] == pytest.approx(0.93**3, rel=0.05)
    assert done["qc"]["t1_correlation"] > 0.85
    written = nib.load(done["map"])
    assert atlas.on_template_grid(written) and written.header["sform_code"] == 4
    assert json.loads(done["json"].read_text())["input"] == "scan.nii.gz"


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPI"])
def test_another_order_of_the_voxels_gives_the_registration_the_same_scan(lesion, tmp_path, codes):
    other = save_scan(tmp_path / "scan.nii.gz", *template_brain(), codes)
    (first, grid), (second, same) = (images.to_ras(*images.read_image(path)[:2]) for path in (lesion[0], other))
    np.testing.assert_allclose(grid, same, atol=1e-4)
    np.testing.assert_allclose(first, second, atol=0.5)


def test_second_call_is_free(lesion):
    scan, folder, done = lesion
    before = done["map"].stat().st_mtime_ns
    again = preprocess(scan, folder, "sub-01", QUICK)
    assert again["cached"] and again["qc"] == done["qc"] and done["map"].stat().st_mtime_ns == before


def test_flipped_contrast_is_refused(tmp_path, monkeypatch):
    """Registered as well as can be, so that only the contrast is wrong."""
    data, affine = template_brain()
    scan = save_scan(tmp_path / "scan.nii.gz", np.where(data > 0, 1500 - data, 0), affine)
    monkeypatch.setattr(segmentation, "_align_head", lambda *scan: affine @ np.linalg.inv(atlas.AFFINE))
    monkeypatch.setattr(registration, "deform", lambda v, a, matrix, *_, **__: transforms.Alignment(matrix, ()))
    with pytest.raises(TLEError, match="give a T1w scan"):
        preprocess(scan, tmp_path / "out", "sub-01", QUICK)
