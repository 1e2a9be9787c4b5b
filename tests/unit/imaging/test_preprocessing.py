import os

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scans import save_scan

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas, images, registration, segmentation, transforms
from tle_utils.imaging.names import map_name
from tle_utils.imaging.preprocessing import PreprocessingOptions, preprocess, preprocess_cohort
from tle_utils.phantom import planting


def test_registration_prints_nothing(capfd):
    """C code of Greedy prints past Python's stdout."""
    with registration._silent():
        os.write(1, b"LINE SEARCH FAILED")
    print("after")
    assert capfd.readouterr().out == "after\n"


def test_jacobian_is_the_volume_change():
    matrix = np.diag([0.9, 1.0, 1.1, 1])
    template, _, grid = registration.reference(4)
    world = nib.affines.apply_affine(grid, np.moveaxis(np.indices(template.shape), 0, -1)).astype(np.float32)
    warp = transforms.Warp.of((0.1 * world).astype(np.float32), grid)
    inside = atlas.brain_mask()
    second = transforms.Warp.of((0.05 * world).astype(np.float32), grid)
    for warps, growth in (((warp,), 1.1), ((warp, second), 1.1 * 1.05)):
        jacobian = transforms.Alignment(matrix, warps).jacobian()
        np.testing.assert_allclose(jacobian[inside], growth**3 * 0.99, rtol=1e-3)
    centre = tuple(np.array(template.shape) // 2)
    np.testing.assert_allclose(warp.inverse[centre], -world[centre] / 11, atol=0.05)


def test_what_two_warps_carry_out_they_carry_back():
    grid = registration.reference(4)[2]
    shape = registration.reference(4)[0].shape
    bump = np.exp(-((nib.affines.apply_affine(grid, np.moveaxis(np.indices(shape), 0, -1)) / 30) ** 2).sum(axis=-1))
    warps = [transforms.Warp.of(np.float32(bump[..., None] * np.array(mm)), grid) for mm in ([6, 0, 0], [0, -5, 0])]
    both = transforms.Alignment(np.diag([0.9, 1.0, 1.1, 1]), tuple(warps))
    there = both.to_native(atlas.template().get_fdata(), atlas.SHAPE, atlas.AFFINE)
    back = both.to_template(there, atlas.AFFINE)
    inside = atlas.brain_mask()
    assert np.corrcoef(back[inside], atlas.template().get_fdata()[inside])[0, 1] > 0.98


def test_refinement_finds_a_left_loss_on_the_left_and_its_mirror_image_on_the_right(monkeypatch):
    t1w = atlas.template().get_fdata(dtype=np.float32) * atlas.brain_mask()
    body = atlas.region_mask("hippocampus", "left").astype(np.float32)
    shrunk = planting.plant_atrophy(t1w, atlas.AFFINE, "left", 0.4, body)
    monkeypatch.setattr(registration, "FINE_ITERATIONS", "8")
    start = transforms.Alignment(np.eye(4), ())
    volumes = []
    for scan in (shrunk, np.ascontiguousarray(shrunk[::-1])):
        jacobian = registration.refine(start, scan, atlas.AFFINE).jacobian()
        assert jacobian.min() > 0
        volumes.append([jacobian[atlas.region_mask("hippocampus", side)].mean() for side in ("left", "right")])
    assert volumes[0][0] < 0.8 and 0.97 < volumes[0][1] < 1.03
    np.testing.assert_allclose(volumes[1][::-1], volumes[0], rtol=1e-3)


def test_a_mirrored_scan_gets_the_mirrored_bias_and_alignment():
    """Both are found in one of a scan and its mirror image only, which must be the same for both."""
    template, mask, affine = registration.reference(2)
    x = np.linspace(0, 1, template.shape[0])[:, None, None]
    scan = np.ascontiguousarray(template * np.exp(0.3 * x)).astype(np.float32)
    assert registration.leans_right(scan) and not registration.leans_right(scan[::-1])
    even = segmentation.correct_bias(scan, affine, mask)
    halves = [volume[: len(x) // 2].mean() / volume[-(len(x) // 2) :].mean() for volume in (scan, even)]
    assert abs(halves[1] - 1) < abs(halves[0] - 1) / 2, "the right half was the brighter one"
    mirrored, other = registration._mirrored(scan, affine)
    np.testing.assert_array_equal(segmentation.correct_bias(mirrored, other, mask[::-1]), even[::-1])
    start = nib.affines.from_matvec(np.eye(3), (2.0, 1.0, -1.0))
    found = registration.affine_alignment(scan, affine, start, True)
    flipped = registration.affine_alignment(mirrored, other, registration.MIRROR @ start @ registration.MIRROR, True)
    np.testing.assert_allclose(registration.MIRROR @ flipped @ registration.MIRROR, found, atol=1e-6)


def test_tissues_of_a_noisy_brain():
    rng = np.random.default_rng(1)
    truth = {"CSF": np.zeros((24, 24, 24)), "GM": np.zeros((24, 24, 24)), "WM": np.zeros((24, 24, 24))}
    for i, name in enumerate(truth):
        truth[name][8 * i : 8 * i + 8] = 1
    brain = 30 * truth["CSF"] + 70 * truth["GM"] + 110 * truth["WM"] + rng.normal(0, 8, (24, 24, 24))
    priors = {name: 0.6 * volume + 0.13 for name, volume in truth.items()}
    maps = segmentation.tissue_maps(brain.astype(np.float32), np.ones(brain.shape, bool), priors)
    assert ((maps["GM"] > 0.5) == (truth["GM"] > 0.5)).mean() > 0.99
    np.testing.assert_allclose(sum(maps.values()), 1, atol=1e-5)


def ready_map(path, voxel=1.5, scale=1.0):
    grey = atlas.tissue_priors()["GM"].copy()
    grey[atlas.region_mask("hippocampus", "left", dilate_mm=1)] *= 0.5
    shape = tuple(int(n) for n in np.ceil(np.array(atlas.SHAPE) / voxel))
    affine = nib.affines.from_matvec(np.diag([-voxel, voxel, voxel]), [98, -134, -72])
    return save_scan(path, images.resample(grey, atlas.AFFINE, shape, affine) * np.float32(scale), affine)


@pytest.mark.parametrize(
    ("name", "kind"), [("mwp1a.nii", "modulated"), ("sub-1_label-GM_probseg.nii.gz", "unmodulated")]
)
def test_ready_map_on_another_grid_keeps_side_and_values(tmp_path, name, kind):
    done = preprocess(ready_map(tmp_path / name), tmp_path / "out", "sub-01", None, "gm")
    assert done["passed"], done["flags"]
    assert f"desc-{kind}_label-GM" in done["map"].name
    assert done["qc"]["hippocampus_asymmetry"] == pytest.approx(-0.3, abs=0.06)
    assert nib.load(done["map"]).get_fdata().sum() == pytest.approx(atlas.tissue_priors()["GM"].sum(), rel=0.02)


def test_smoothing_spreads_but_keeps_the_sum(tmp_path):
    source = ready_map(tmp_path / "mwc1a.nii")
    plain = preprocess(source, tmp_path / "out", "sub-01", None, "gm")
    smooth = preprocess(source, tmp_path / "out", "sub-01", PreprocessingOptions(fwhm_mm=6), "gm")
    assert "desc-modulatedsmooth6_" in smooth["map"].name and plain["map"].exists()
    a, b = nib.load(plain["map"]).get_fdata(), nib.load(smooth["map"]).get_fdata()
    assert b.sum() == pytest.approx(a.sum(), rel=1e-3) and b.std() < 0.9 * a.std()


def test_percent_map_is_refused(tmp_path):
    with pytest.raises(TLEError, match="not grey-matter probabilities"):
        preprocess(ready_map(tmp_path / "mwp1a.nii", scale=100), tmp_path / "out", "sub-01", None, "gm")


def test_map_that_is_not_in_the_space_is_left_out_with_the_reason(tmp_path):
    source = nib.load(ready_map(tmp_path / "mwp1a.nii"))
    moved = nib.affines.from_matvec(np.eye(3), [0, 40, -40]) @ source.affine
    save_scan(tmp_path / "mwp1b.nii", source.get_fdata(dtype=np.float32), moved)
    done = preprocess(tmp_path / "mwp1b.nii", tmp_path / "out", "sub-01", None, "gm")
    assert not done["passed"] and "gm_correlation" in [f["name"] for f in done["flags"]]


def test_one_bad_scan_does_not_stop_the_cohort(tmp_path):
    good = ready_map(tmp_path / "mwp1a.nii")
    (tmp_path / "b.nii.gz").write_bytes(b"")
    table = pd.DataFrame(
        {
            "participant_id": ["sub-01", "sub-02", "sub-03"],
            "image": [str(good), str(tmp_path / "b.nii.gz"), str(good)],
            "image_kind": "gm",
        }
    )
    rows = preprocess_cohort(table, tmp_path / "out")
    assert rows["participant_id"].tolist() == ["sub-01", "sub-02", "sub-03"]
    assert rows["passed"].tolist() == [True, False, True]
    assert rows["error"].tolist()[1] == "sub-02: b.nii.gz: the file has zero bytes: copy or download it again"
    assert (tmp_path / "out" / rows["map"][0]).exists() and rows["map"][1] == ""
    stored = pd.read_csv(tmp_path / "out" / "qc.tsv", sep="\t", keep_default_na=False)
    assert stored["participant_id"].tolist() == rows["participant_id"].tolist()
    digests = [(tmp_path / "out" / rows["map"][i]).read_bytes() for i in (0, 2)]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("values", [{"fwhm_mm": -1}, {"fwhm_mm": 99}, {"registration_mm": 3}])
def test_option_out_of_range_is_named(values):
    with pytest.raises(TLEError, match=next(iter(values))):
        PreprocessingOptions(**values)


def test_names_follow_bids():
    assert map_name("sub-1", modulated=True).endswith("desc-modulated_label-GM_probseg.nii.gz")
    assert "desc-unmodulatedsmooth2p5_" in map_name("sub-1", modulated=False, fwhm_mm=2.5)


def test_mixed_voxels_keep_their_share_and_tissues_fill_the_mask():
    """Seven parts grey and three white: the class that is likelier alone would call them grey."""
    levels, rng = np.array([0.3, 0.6, 0.9]), np.random.default_rng(0)
    share = np.eye(3)[np.arange(30) // 10][:, None, None].repeat(30, 1).repeat(30, 2)
    share[18:20] = [0, 0.7, 0.3]
    mask = np.ones(share.shape[:3], bool)
    brain = (share @ levels + rng.normal(0, 0.01, mask.shape)).astype(np.float32)
    priors = {tissue: np.full(mask.shape, 0.1) + 0.7 * share[..., i] for i, tissue in enumerate(segmentation.TISSUES)}
    maps = segmentation.tissue_maps(brain, mask, priors)
    np.testing.assert_allclose(sum(maps.values()), 1, atol=1e-5)
    assert 0.75 < maps["GM"][18:20].mean() < 0.92 and maps["GM"][12:17].mean() > 0.95
    with pytest.raises(TLEError, match="give a T1w scan"):
        segmentation.tissue_maps(1.2 - brain, mask, priors)
