"""Left must be left in the atlas, and neither side may be favoured."""

import nibabel as nib
import numpy as np
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas


def test_grid_is_that_of_the_template():
    assert atlas.on_template_grid(atlas.template())
    assert not atlas.on_template_grid(nib.Nifti1Image(np.zeros(atlas.SHAPE), np.diag([2, 1, 1, 1])))


def test_template_priors_and_regions_are_symmetric():
    labels, table = atlas.regions()
    assert np.array_equal(labels[::-1] > 0, labels > 0)
    for region in table["region"].unique():
        assert np.array_equal(atlas.region_mask(region, "left")[::-1], atlas.region_mask(region, "right"))
    for prior in atlas.tissue_priors().values():
        assert np.array_equal(prior[::-1], prior)


def test_left_hippocampus_lies_at_negative_x():
    for side, sign in (("left", -1), ("right", 1)):
        voxels = np.argwhere(atlas.region_mask("hippocampus", side))
        world = nib.affines.apply_affine(atlas.AFFINE, voxels)
        assert (np.sign(world[:, 0]) == sign).all()
        assert np.allclose(world.mean(axis=0), [sign * 26.5, -23, -14.5], atol=3)


def test_tissues_fill_the_brain_and_no_more():
    priors = atlas.tissue_priors()
    total = sum(priors.values())
    assert total.max() <= 1 + 1e-5
    assert total[atlas.brain_mask()].mean() > 0.99


def test_volumes_and_asymmetry_tell_the_smaller_side():
    grey = atlas.tissue_priors()["GM"].copy()
    grey[atlas.region_mask("hippocampus", "left")] *= 0.5
    volumes = atlas.regional_volumes(grey)["hippocampus"]
    assert volumes["left"] == pytest.approx(volumes["right"] / 2, rel=1e-4)
    assert atlas.asymmetry_index(volumes["left"], volumes["right"]) == pytest.approx(-1 / 3, rel=1e-4)


def test_growing_a_region_is_in_mm():
    mask = atlas.region_mask("hippocampus", "left")
    grown = atlas.region_mask("hippocampus", "left", dilate_mm=2)
    assert (grown >= mask).all()
    reach = [np.ptp(np.nonzero(m)[1]) for m in (mask, grown)]
    assert reach[1] - reach[0] == 4


def test_unknown_region_is_named():
    with pytest.raises(TLEError, match="hipocampus.*hippocampus"):
        atlas.region_mask("hipocampus", "left")
