"""A planted loss is on the asked side of the world, as large as asked, and nowhere else, however the array lies."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import affines, orientations
from scans import save_scan
from scipy import ndimage

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas
from tle_utils.phantom import planting

SIDES = st.sampled_from(["left", "right"])
CODES = st.sampled_from(["RAS", "LAS", "LPI", "PSR", "AIL"])


def reoriented(image, codes):
    now, wanted = orientations.io_orientation(image.affine), orientations.axcodes2ornt(codes)
    return image.as_reoriented(orientations.ornt_transform(now, wanted))


def world_x(mask, affine):
    return affines.apply_affine(affine, np.argwhere(mask))[:, 0]


def grey_map(step=2):
    grey = atlas.tissue_priors()["GM"][::step, ::step, ::step]
    return nib.Nifti1Image(grey, atlas.AFFINE @ np.diag([step, step, step, 1]))


def head(rng=0):
    """A T1w of 2 mm: white matter around two grey hippocampi with fluid beside them, and their masks."""
    shape, affine = (64, 48, 40), affines.from_matvec(np.diag([2, 2, 2]), [-60, -50, -30])
    x, y, z = affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)).transpose(3, 0, 1, 2)
    data = np.where((x / 60) ** 2 + (y / 45) ** 2 + (z / 38) ** 2 < 1, 110.0, 0)
    masks = {}
    for side, centre in (("left", -24), ("right", 24)):
        body = ((x - centre) / 7) ** 2 + ((y + 5) / 16) ** 2 + (z / 7) ** 2 < 1
        shell = ((x - centre) / 9) ** 2 + ((y + 5) / 18) ** 2 + ((z - 2) / 9) ** 2 < 1
        data[shell] = 30
        data[body] = 80
        masks[side] = nib.Nifti1Image(body.astype(np.uint8), affine)
    data += (data > 0) * np.random.default_rng(rng).normal(0, 4, shape)
    return nib.Nifti1Image(data.astype(np.float32), affine), masks


def plant(image, side, effect, hippocampus=None):
    """The image with a planted loss."""
    mask = None if hippocampus is None else hippocampus.get_fdata()
    data = planting.plant_atrophy(image.get_fdata(dtype=np.float32), image.affine, side, effect, mask)
    return nib.Nifti1Image(data, image.affine)


@settings(max_examples=8, deadline=None)
@given(side=SIDES, codes=CODES, effect=st.floats(0.05, 0.9))
def test_map_loses_the_fraction_on_the_right_side(side, codes, effect):
    image = reoriented(grey_map(), codes)
    planted = plant(image, side, effect)
    x = world_x(image.get_fdata(dtype=np.float32) != planted.get_fdata(dtype=np.float32), image.affine)
    assert (x < 0).all() if side == "left" else (x > 0).all()
    canonical = [nib.as_closest_canonical(i).get_fdata(dtype=np.float32) for i in (image, planted)]
    region = atlas.region_mask("hippocampus", side)[::2, ::2, ::2]
    near = ndimage.binary_dilation(region, iterations=2)
    np.testing.assert_array_equal(canonical[0][~near], canonical[1][~near])
    assert 1 - canonical[1][region].sum() / canonical[0][region].sum() == pytest.approx(effect, abs=1e-3)


def fluid_ml(image):
    """Volume of what is darker than the hippocampus, by its intensity between grey matter (80) and fluid (30)."""
    data = image.get_fdata()
    return np.clip((80 - data[data > 0]) / 50, 0, 1).sum() * 8 / 1000


@settings(max_examples=10, deadline=None)
@given(side=SIDES, codes=CODES, effect=st.floats(0.1, 0.6))
def test_t1w_hippocampus_shrinks_and_fluid_takes_the_room(side, codes, effect):
    image, masks = head()
    turned = reoriented(image, codes)
    planted = plant(turned, side, effect, reoriented(masks[side], codes))
    changed = planted.get_fdata() != turned.get_fdata()
    x = world_x(changed, turned.affine)
    assert (x < 0).all() if side == "left" else (x > 0).all()
    body = reoriented(masks[side], codes).get_fdata() > 0
    gained = (fluid_ml(planted) - fluid_ml(turned)) / (effect * body.sum() * 8 / 1000)
    assert 0.45 < gained < 1.2, "thin sheets of fluid lose contrast on voxels of 2 mm"
    straight = plant(image, side, effect, masks[side])
    np.testing.assert_allclose(nib.as_closest_canonical(planted).get_fdata(), straight.get_fdata(), atol=0.5)


def test_t1w_gets_its_fluid_from_the_side_of_the_fluid():
    image, masks = head()
    planted = plant(image, "left", 0.3, masks["left"])
    darker = image.get_fdata() - planted.get_fdata() > 20
    z = affines.apply_affine(image.affine, np.argwhere(darker))[:, 2]
    assert z.mean() > 0
    assert planted.get_fdata().min() >= 0
    assert planted.get_fdata().max() <= image.get_fdata().max()


@pytest.mark.parametrize("side", ["Left ", "L", "", None])
def test_side_must_be_left_or_right(side):
    with pytest.raises(TLEError, match="side"):
        plant(grey_map(4), side, 0.3)


@pytest.mark.parametrize("effect", [0, 1, 1.2, -0.3, float("nan"), "0.3", True])
def test_effect_must_be_a_fraction(effect):
    with pytest.raises(TLEError, match="effect"):
        plant(grey_map(4), "left", effect)


def test_images_that_do_not_fit_are_refused():
    image, masks = head()
    with pytest.raises(TLEError, match="give a T1w its hippocampus"):
        plant(image, "left", 0.3)
    with pytest.raises(TLEError, match="not on the left side"):
        plant(image, "left", 0.3, masks["right"])
    bright = nib.Nifti1Image(np.where(image.get_fdata() < 60, 110, image.get_fdata()), image.affine)
    with pytest.raises(TLEError, match="darker"):
        plant(bright, "left", 0.3, masks["left"])
    with pytest.raises(TLEError, match="nearly empty"):
        plant(image, "left", 0.3, nib.Nifti1Image(np.zeros(image.shape), image.affine))
    far = nib.Nifti1Image(grey_map(4).get_fdata(), affines.from_matvec(np.eye(3), [500, 0, 0]))
    with pytest.raises(TLEError, match="MNI space"):
        plant(far, "left", 0.3)


@pytest.fixture
def bases(tmp_path):
    """A grey-matter map and another one of the same name."""
    paths = [tmp_path / name / "mwp1a.nii" for name in ("one", "other")]
    for path, scale in zip(paths, (1, 0.9), strict=True):
        path.parent.mkdir()
        image = grey_map(3)
        save_scan(path, image.get_fdata(dtype=np.float32) * scale, image.affine)
    return paths


def test_planted_scan_is_kept_and_made_anew_for_another_base_effect_or_code(bases, tmp_path, monkeypatch):
    def planted(base, side="left", effect=0.3):
        path = Path(planting.planted_scan(base, "gm", side, effect, tmp_path / "sub-01"))
        assert path.name == "mwp1a.nii.gz", "the name tells how a map was made"
        return path.stat().st_mtime_ns, nib.load(path).get_fdata().sum()

    first = planted(bases[0])
    assert planted(bases[0]) == first
    for other in ({"base": bases[1]}, {"base": bases[0], "effect": 0.5}, {"base": bases[0], "side": "right"}):
        assert planted(**other)[1] != first[1]
        assert planted(bases[0])[1] == first[1]
    bases[1].replace(bases[0])
    assert planted(bases[0]) != first, "another person's scan under the same name"
    stamp = planted(bases[0])[0]
    monkeypatch.setattr(planting, "code_version", lambda *names: "changed")
    assert planted(bases[0])[0] != stamp


def test_planted_scans_of_names_with_points_and_of_another_kind_are_told_apart(bases, tmp_path, monkeypatch):
    names = [bases[0].rename(bases[0].with_name("mwp1b.1.nii")), bases[1].rename(bases[1].with_name("mwp1b.2.nii"))]
    made = [planting.planted_scan(name, "gm", "left", 0.3, tmp_path / "sub-01") for name in names]
    assert [Path(path).name for path in made] == ["mwp1b.1.nii.gz", "mwp1b.2.nii.gz"]
    kept, asked = planting.images.kept_values, []
    monkeypatch.setattr(planting.images, "kept_values", lambda path, key: asked.append(key) or kept(made[0], asked[0]))
    for kind in ("gm", "t1w"):
        planting.planted_scan(names[0], kind, "left", 0.3, tmp_path / "sub-01")
    assert asked[0] != asked[1], "a map that is read as a T1w loses its hippocampus in another way"


def test_damaged_planted_scan_is_made_again(bases, tmp_path):
    path = Path(planting.planted_scan(bases[0], "gm", "left", 0.3, tmp_path / "sub-01"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    planting.planted_scan(bases[0], "gm", "left", 0.3, tmp_path / "sub-01")
    assert path.read_bytes() == whole


def mixed(share):
    """Fraction of the voxels with grey matter that hold another tissue too."""
    return ((share > 0.1) & (share < 0.9)).sum() / (share > 0.1).sum()


def test_t1w_phantom_carries_its_truth(tmp_path):
    (row,) = planting.make_phantom_t1w(tmp_path, n=1, seed=0).itertuples()
    assert (row.group, row.true_side, row.image_kind) == ("left", "left", "t1w")
    image, true_map, mask = map(nib.load, (row.image, row.true_map, row.true_mask))
    assert "".join(nib.aff2axcodes(image.affine)) == row.orientation
    assert atlas.on_template_grid(true_map)
    assert (world_x(mask.get_fdata() > 0, mask.affine) < 0).all()
    assert 0.25 < row.effect < 0.5
    assert 1 - row.hippocampus_left / row.hippocampus_right == pytest.approx(row.effect, abs=0.12)
    volume = atlas.regional_volumes(true_map.get_fdata())["hippocampus"]
    assert volume["left"] == pytest.approx(row.hippocampus_left)
    assert 0.4 < mixed(true_map.get_fdata()) < 0.6
    canonical = nib.as_closest_canonical(image)
    assert 1.5e6 < (canonical.get_fdata() > 0).sum() < 2.3e6
    assert (tmp_path / "truth.tsv").exists()


def test_t1w_phantom_has_the_tissue_of_one_person_not_of_the_template():
    """About as many mixed voxels as in one scan; the brightness is that of the true tissue; the template stays."""
    template = atlas.template().get_fdata(dtype=np.float32).copy()
    brain, (t1w, share) = atlas.brain_mask(), planting._person_like()
    assert mixed(atlas.tissue_priors()["GM"]) > 0.75
    assert 0.4 < mixed(share) < 0.6
    assert np.array_equal(atlas.template().get_fdata(dtype=np.float32), template)
    white = atlas.tissue_priors()["WM"] > 0.95
    between = (t1w > np.median(t1w[share > 0.95]) + 0.05) & (t1w < np.median(t1w[white]) - 0.05)
    was_between = (template > np.median(t1w[share > 0.95]) + 0.05) & (template < np.median(t1w[white]) - 0.05)
    assert (between & brain).sum() < 0.8 * (was_between & brain).sum(), "brightness is less mixed too"


@pytest.mark.parametrize("bad", [{"loss": (0.2, 1.0)}, {"n": -1}, {"n": 0}, {"seed": -2}, {"workers": 0}])
def test_t1w_phantoms_refuse_bad_numbers(bad, tmp_path):
    with pytest.raises(TLEError, match=list(bad)[0]):
        planting.make_phantom_t1w(tmp_path, **{"n": 1, "seed": 0, **bad})
