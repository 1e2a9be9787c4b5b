"""A sound scan is not lost for a detail of its header or its file; an unsound one costs one line with its remedy."""

import gzip
import os
import re
import struct

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.imaging import images, names
from tle_utils.imaging.preprocessing import preprocess_cohort

AFFINE = nib.affines.from_matvec(np.diag([2.0, 2, 2]), [-60, -70, -50])
QUATERNION, SFORM_CODE, SLOPE, SFORM = 256, 254, 112, 280  # offsets in a NIfTI-1 header


@pytest.fixture
def data():
    world = nib.affines.apply_affine(AFFINE, np.moveaxis(np.indices((61, 71, 51)), 0, -1))
    noise = np.random.default_rng(0).integers(50, 150, world.shape[:3])
    return np.where((world**2).sum(axis=-1) < 45**2, noise, 0).astype(np.int16)


def raw_scan(data, *edits, kind=nib.Nifti1Image, affine=AFFINE):
    """Bytes of a NIfTI file whose header was changed at some offsets."""
    image = kind(data, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    raw = bytearray(image.to_bytes())
    for offset, form, *values in edits:
        struct.pack_into(f"<{form}", raw, offset, *values)
    return bytes(raw)


def read(path, raw):
    path.write_bytes(raw)
    return images.read_image(path)


def refused(path, raw):
    """The one line that says why a file is refused."""
    with pytest.raises(TLEError) as error:
        read(path, raw)
    text = str(error.value)
    assert text.startswith(f"{path.name}: ") and "\n" not in text and str(path.parent) not in text
    return text


@pytest.mark.parametrize("quaternion", [(0, 1.0000004, 0), (0, 0, 1.00002), (0.70715, 0.70715, 0), (0, -1.00005, 0)])
@pytest.mark.parametrize("sform", [True, False])
def test_quaternion_longer_than_one_by_rounding_is_read(tmp_path, data, quaternion, sform):
    turn = nib.quaternions.quat2mat((0, *quaternion))
    turned = nib.affines.from_matvec(turn * 2, AFFINE[:3, 3])
    edits = [(QUATERNION, "fff", *quaternion)] + ([] if sform else [(SFORM_CODE, "h", 0)])
    found, affine, flags = read(tmp_path / "a.nii", raw_scan(data, *edits, affine=turned))
    np.testing.assert_array_equal(found, data)
    np.testing.assert_allclose(affine, turned, atol=1e-3)
    assert flags == []


@pytest.mark.parametrize("quaternion", [(0, 1.01, 0), (2.0, 2.0, 2.0), (float("nan"), 0, 0)])
def test_quaternion_that_cannot_be_rounding_needs_a_sform(tmp_path, data, quaternion):
    edit = (QUATERNION, "fff", *quaternion)
    _, affine, flags = read(tmp_path / "a.nii", raw_scan(data, edit))
    np.testing.assert_allclose(affine, AFFINE)
    assert [f["name"] for f in flags] == ["qform"] and not flags[0]["fails"]
    text = refused(tmp_path / "b.nii", raw_scan(data, edit, (SFORM_CODE, "h", 0)))
    assert "quaternion" in text and "convert the scan again" in text


def test_a_quaternion_just_shorter_than_one_keeps_its_turn(tmp_path, data):
    """A turn of 179 degrees is no rounding."""
    half = np.deg2rad(179 / 2)
    edits = [(QUATERNION, "fff", 0, 0, np.sin(half)), (SFORM_CODE, "h", 0)]
    affine = read(tmp_path / "a.nii", raw_scan(data, *edits))[1]
    assert np.rad2deg(np.arctan2(affine[1, 0], affine[0, 0])) == pytest.approx(179, abs=0.05)


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ([(SLOPE, "ff", 1.0, float("nan"))], "header cannot be used"),
        ([(SLOPE, "ff", 2.0, float("inf"))], "header cannot be used"),
        ([(70, "h", 9999)], "header cannot be used"),
        ([(SFORM, "4f", float("nan"), 0, 0, 0)], "voxel size"),
        ([(SFORM + 12, "f", float("inf"))], "axes"),
        ([(SFORM, "4f", 2, 2, 0, 0), (SFORM + 16, "4f", 0, 0, 0, 0), (SFORM + 32, "4f", 0, 0, 2, 0)], "axes"),
        ([(42, "hhh", 32000, 32000, 32000)], "truncated or damaged"),
        ([(344, "4s", b"????")], "truncated or damaged|header cannot be used"),
    ],
)
def test_what_a_header_may_say_wrong_is_one_line(tmp_path, data, edits, words):
    assert re.search(words, refused(tmp_path / "a.nii", raw_scan(data, *edits)))


@pytest.mark.parametrize("slope", [float("nan"), 0.0, float("inf")])
def test_a_slope_that_is_no_number_counts_as_none(tmp_path, data, slope):
    np.testing.assert_array_equal(read(tmp_path / "a.nii", raw_scan(data, (SLOPE, "ff", slope, 0.0)))[0], data)


@pytest.mark.parametrize("fields", [["R", "G", "B"], ["R", "G", "B", "A"]])
def test_colours_are_refused(tmp_path, data, fields):
    colour = np.zeros(data.shape, [(name, "u1") for name in fields])
    colour["R"] = data
    assert "holds colours" in refused(tmp_path / "a.nii", raw_scan(colour))


def test_complex_values_are_refused(tmp_path, data):
    assert "complex" in refused(tmp_path / "a.nii", raw_scan(data.astype(np.complex64)))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("name", "pack"), [("a.nii.gz", bytes), ("a.nii", gzip.compress), ("a.nii.gz", gzip.compress)])
def test_compression_is_told_by_the_content(tmp_path, data, kind, name, pack):
    found, affine, flags = read(tmp_path / name, pack(raw_scan(data, kind=kind)))
    np.testing.assert_array_equal(found, data)
    np.testing.assert_allclose(affine, AFFINE)
    assert flags == []


def test_mgz_that_is_not_compressed_is_read(tmp_path, data):
    raw = nib.MGHImage(data, AFFINE).to_bytes()
    for name, content in (("a.mgz", raw), ("b.mgz", gzip.compress(raw)), ("c.mgh", raw)):
        np.testing.assert_array_equal(read(tmp_path / name, content)[0], data)


@pytest.mark.parametrize("cut", [2, 100, 348, 3000])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mgz"])
def test_a_cut_file_is_damaged(tmp_path, data, name, cut):
    raw = nib.MGHImage(data, AFFINE).to_bytes() if name.endswith("mgz") else raw_scan(data)
    raw = raw if name == "a.nii" else gzip.compress(raw)
    assert "copy or download it again" in refused(tmp_path / name, raw[:cut])


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b"/annex/objects/MD5E-s9--0.nii.gz\n", "datalad get"),
        (b"../../.git/annex/objects/ab/cd/MD5E-s9--0.nii.gz/MD5E-s9--0.nii.gz", "datalad get"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
    ],
)
def test_content_that_was_not_fetched_is_said(tmp_path, content, remedy):
    assert remedy in refused(tmp_path / "sub-01_T1w.nii.gz", content)


@pytest.mark.parametrize(
    ("target", "words"),
    [("../.git/annex/objects/x/MD5E-s1--0.nii.gz", "datalad get"), ("elsewhere.nii.gz", "no such file")],
)
def test_dead_links_are_told_apart(tmp_path, target, words):
    path = tmp_path / "a.nii.gz"
    path.symlink_to(target)
    with pytest.raises(TLEError, match=f"^a.nii.gz: .*{words}"):
        images.read_image(path)


def test_a_file_without_permission_costs_one_participant(tmp_path, data, monkeypatch):
    path = tmp_path / "a.nii"
    path.write_bytes(raw_scan(data))
    path.chmod(0)
    if os.geteuid() == 0:  # whom nothing is forbidden

        def forbidden(*arguments, **words):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(images.Path, "read_bytes", forbidden)
        monkeypatch.setattr("tle_utils.base.fingerprints.sha256", forbidden)
    table = pd.DataFrame({"participant_id": ["sub-01"], "image": [str(path)], "image_kind": "gm"})
    (error,) = preprocess_cohort(table, tmp_path / "out")["error"]
    assert error == "sub-01: a.nii: no permission to read the file: change its permissions"


def test_nan_around_the_brain_is_background(tmp_path, data):
    values = data.astype(np.float32)
    for around in (values == 0, np.indices(data.shape).sum(axis=0) < 20, np.arange(data.shape[0])[:, None, None] < 3):
        found, _, flags = read(tmp_path / "a.nii", raw_scan(np.where(around, np.nan, values).astype(np.float32)))
        np.testing.assert_array_equal(found, np.where(around, 0, values))
        assert [f["name"] for f in flags] == ["nan"] and not flags[0]["fails"]


def test_nan_among_zeros_is_background(tmp_path, data):
    values = data.astype(np.float32)
    values[2:4, 2:4, 2:4] = np.nan
    found, _, flags = read(tmp_path / "a.nii", raw_scan(values))
    np.testing.assert_array_equal(found, data)
    assert "8 voxels around the brain" in flags[0]["reason"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_within_the_brain_must_be_numbers(tmp_path, data, value):
    values = data.astype(np.float32)
    values[data == 0] = np.nan
    values[30, 35, 25] = value
    assert "1 voxels of the brain are NaN or infinite" in refused(tmp_path / "a.nii", raw_scan(values))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mwp1sub-01.nii", True),
        ("smwc1sub-01_T1w.nii", True),
        ("m0wp1sub-01.nii", True),
        ("wc1sub-01.nii", False),
        ("swp1anna.nii", False),
        ("sub-01_T1w_segm-graymatter_space-Ixi549Space_modulated-on_probability.nii.gz", True),
        ("sub-01_T1w_segm-graymatter_space-Ixi549Space_modulated-on_fwhm-8mm_probability.nii.gz", True),
        ("sub-01_T1w_segm-graymatter_space-Ixi549Space_modulated-off_fwhm-8mm_probability.nii.gz", False),
        (names.map_name("sub-01", modulated=True, fwhm_mm=6), True),
        (names.map_name("sub-01", modulated=False, fwhm_mm=6), False),
        ("sub-01_label-GM_probseg.nii.gz", False),
    ],
)
def test_modulation_is_told_by_the_name(name, expected):
    for greatest in (0.9, 2.0):
        assert names.is_modulated(f"/data/modulated-on/{name}", np.array([0, greatest])) == expected


def test_modulation_of_a_map_of_any_name_is_told_by_its_values():
    assert names.is_modulated("grey.nii", np.array([0, 1.4])) and not names.is_modulated("grey.nii", np.array([0, 1.0]))
