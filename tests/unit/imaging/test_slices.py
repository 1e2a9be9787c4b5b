"""A reader of a slice must find the participant's left on its left, whatever way the file was stored."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from nilearn.image import smooth_img

from tle_utils.base.errors import TLEError
from tle_utils.cohorts import participants
from tle_utils.imaging import atlas, slices

Y_MM = -24


def planted_map(side, orientation="RAS"):
    """Grey matter of the template with one hippocampus taken away, stored in an orientation."""
    volume = atlas.tissue_priors()["GM"].copy()
    volume[atlas.region_mask("hippocampus", side)] = 0
    image = nib.Nifti1Image(volume, atlas.AFFINE)
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(orientation)))


@pytest.mark.parametrize("orientation", ["RAS", "LAS", "LPI", "PSR"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_planted_loss_stays_on_its_side(tmp_path, side, orientation):
    planted_map(side, orientation).to_filename(tmp_path / "map.nii.gz")
    whole = slices.slices_of(atlas.tissue_priors()["GM"], [Y_MM])[..., 0]
    lost = whole - slices.load_slices([tmp_path / "map.nii.gz"], [Y_MM])[0, ..., 0]
    columns = slices.X_MM[np.unique(np.nonzero(lost > 0.3)[1])]
    assert len(columns) and (columns < 0).all() == (side == "left") and (columns > 0).all() == (side == "right")
    rows = slices.Z_MM[np.unique(np.nonzero(lost > 0.3)[0])]
    assert rows.min() > -35 and rows.max() < 10


@pytest.mark.parametrize("orientation", ["RAS", "PSR"])
def test_smoothing_is_that_of_the_whole_map(tmp_path, orientation):
    planted_map("left", orientation).to_filename(tmp_path / "map.nii.gz")
    part = slices.load_slices([tmp_path / "map.nii.gz"], [-36, Y_MM], fwhm_mm=8)[0]
    whole = smooth_img(planted_map("left"), 8).get_fdata()
    expected = slices.slices_of(whole, [-36, Y_MM])
    expected = (expected - expected.min()) / np.ptp(expected)
    assert np.abs(part - expected).max() < 1e-3


@settings(deadline=None, max_examples=20)
@given(st.integers(-60, 60), st.integers(-40, 60), st.sampled_from(slices.PUBLISHED_Y_MM))
def test_a_voxel_comes_back_to_its_place(x_mm, z_mm, y_mm):
    image = np.zeros((160, 160, 1), np.float32)
    image[np.flatnonzero(z_mm == slices.Z_MM)[0], np.flatnonzero(x_mm == slices.X_MM)[0]] = 1
    volume = slices.to_volume(image, [y_mm])
    world = nib.affines.apply_affine(volume.affine, np.argwhere(volume.get_fdata())[0])
    assert world.tolist() == [x_mm, y_mm, z_mm]
    assert np.array_equal(slices.slices_of(volume.get_fdata(), [y_mm]), image)


def test_flip_moves_the_lesion_and_its_label_together():
    left, right = (slices.slices_of(atlas.region_mask("hippocampus", side), [Y_MM]) for side in ("left", "right"))
    stack, groups = slices.flip(np.stack([left, right, left]), ["left", "right", "control"])
    assert np.array_equal(stack[0], right) and np.array_equal(stack[1], left)
    assert groups.tolist() == ["right", "left", "control"]


def test_flip_refuses_one_side_alone():
    with pytest.raises(TLEError, match="both left and right"):
        slices.flip(np.zeros((2, 160, 160, 1)), ["control", "left"])


def test_every_participant_is_scaled_alone(tmp_path):
    volume = atlas.tissue_priors()["GM"]
    for name, factor in (("a", 1), ("b", 3)):
        nib.Nifti1Image(volume * factor, atlas.AFFINE).to_filename(tmp_path / f"{name}.nii.gz")
    both = slices.load_slices([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"], slices.PUBLISHED_Y_MM)
    assert both.shape == (2, 160, 160, 5) and both.min() == 0 and both.max() == 1
    assert np.allclose(both[0], both[1], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: np.where(v > 0.5, np.nan, v), "NaN"),
        (lambda v: np.full_like(v, 0.5), "constant"),
        (lambda v: v[1:], "not on the 1 mm"),
    ],
)
def test_a_bad_map_is_named(tmp_path, change, message):
    nib.Nifti1Image(change(atlas.tissue_priors()["GM"]), atlas.AFFINE).to_filename(tmp_path / "sub-07_map.nii.gz")
    with pytest.raises(TLEError, match=f"sub-07_map.nii.gz: .*{message}"):
        slices.load_slices([tmp_path / "sub-07_map.nii.gz"], [Y_MM])


def test_a_slice_outside_the_map_is_named():
    with pytest.raises(TLEError, match="900"):
        slices.load_slices([], [900])


def test_no_participant_of_a_class_is_said(tmp_path):
    pd.DataFrame({"participant_id": ["sub-1"], "group": ["control"], "site": ["a"], "map": ["m.nii.gz"]}).to_csv(
        tmp_path / "participants.tsv", sep="\t", index=False
    )
    assert participants.load_participants(tmp_path)["map"].item() == str(tmp_path / "m.nii.gz")
    with pytest.raises(TLEError, match="no participant of class left or right"):
        participants.load_participants(tmp_path, groups=("left", "right"))
