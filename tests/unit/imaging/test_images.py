import gzip

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from tle_utils.base.errors import TLEError
from tle_utils.imaging import images


def turned(data, affine, codes):
    """The same scan stored along other axes; world coordinates stay."""
    change = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    return apply_orientation(data, change), affine @ inv_ornt_aff(change, data.shape)


@pytest.fixture
def head():
    """A 2 mm blob whose left half (x < 0) is the brighter one, RAS."""
    affine = nib.affines.from_matvec(np.eye(3) * 2, [-60, -70, -50])
    world = nib.affines.apply_affine(affine, np.moveaxis(np.indices((61, 71, 51)), 0, -1))
    inside = (world**2).sum(axis=-1) < 45**2
    return np.where(inside, np.where(world[..., 0] < 0, 200, 100), 0).astype(np.float32), affine


def save(path, data, affine, code=1):
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=code)
    image.set_qform(affine, code=code)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPI", "PSR", "ALI", "SRP"])
def test_left_stays_left_for_any_storage_order(tmp_path, head, codes):
    straight = images.to_ras(*head)
    data, affine, flags = images.read_image(save(tmp_path / "a.nii.gz", *turned(*head, codes)))
    moved, target = images.to_ras(data, affine)
    assert flags == []
    np.testing.assert_allclose(target, straight[1], atol=1e-4)
    np.testing.assert_allclose(moved, straight[0], atol=0.5)
    x = nib.affines.apply_affine(target, np.argwhere(moved > 180))[:, 0]
    assert x.mean() < -10


def test_mgz_is_read_by_world_coordinates(tmp_path, head):
    data, affine = turned(*head, "LIA")
    nib.save(nib.MGHImage(np.ascontiguousarray(data), affine), tmp_path / "a.mgz")
    data, affine, _ = images.read_image(tmp_path / "a.mgz")
    moved, target = images.to_ras(data, affine)
    assert nib.affines.apply_affine(target, np.argwhere(moved > 180))[:, 0].mean() < -10


def broken(kind, path, data, affine):
    if kind == "missing":
        return
    if kind == "zero bytes":
        path.write_bytes(b"")
    elif kind == "truncated":
        save(path, data, affine)
        path.write_bytes(path.read_bytes()[:3000])
    elif kind == "damaged":
        path.write_bytes(gzip.compress(b"no image" * 100))
    elif kind == "4-D":
        save(path, np.stack([data, data], axis=-1), affine)
    elif kind == "2-D":
        save(path, data[:, :, :1], affine)
    elif kind == "NaN":
        save(path, np.where(data > 150, np.nan, data), affine)
    elif kind == "zeros":
        save(path, np.zeros_like(data), affine)
    elif kind == "voxel size":
        save(path, data, np.diag([200, 200, 200, 1.0]))
    elif kind == "cropped":
        save(path, data[:, :, :20], affine)
    elif kind == "no codes":
        save(path, data, affine, code=0)
    elif kind == "two sides":
        image = nib.Nifti1Image(data, affine)
        image.set_sform(affine, code=1)
        image.set_qform(np.diag([-1, 1, 1, 1]) @ affine, code=1)
        nib.save(image, path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no such file"),
        ("zero bytes", "zero bytes"),
        ("truncated", "truncated or damaged"),
        ("damaged", "truncated or damaged"),
        ("4-D", "61 x 71 x 51 x 2"),
        ("2-D", "single 3-D volume"),
        ("NaN", "NaN or infinite"),
        ("zeros", "is empty"),
        ("voxel size", "voxel size 200 x 200 x 200 mm"),
        ("cropped", "field of view"),
        ("no codes", "no orientation codes"),
        ("two sides", "left and right are uncertain"),
    ],
)
def test_bad_scan_is_one_line_with_a_remedy(tmp_path, head, kind, words):
    path = tmp_path / "scan.nii.gz"
    broken(kind, path, *head)
    with pytest.raises(TLEError, match=words) as found:
        images.read_image(path)
    text = str(found.value)
    assert text.startswith("scan.nii.gz: ") and "\n" not in text and str(tmp_path) not in text


def test_slightly_different_sform_and_qform_are_flagged(tmp_path, head):
    data, affine = head
    angle = np.deg2rad(10)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=1)
    image.set_qform(nib.affines.from_matvec(turn) @ affine, code=1)
    nib.save(image, tmp_path / "a.nii")
    flags = images.read_image(tmp_path / "a.nii")[2]
    assert [f["name"] for f in flags] == ["sform-qform"] and "10 degrees" in flags[0]["reason"]


def test_extracted_brain_is_told_from_a_whole_head(head):
    data, affine = head
    brain, small, large = affine @ np.diag([1.5, 1.5, 1.5, 1]), affine, affine @ np.diag([2.2, 2.2, 2.2, 1])
    assert images.is_brain_extracted(data, brain)
    assert not images.is_brain_extracted(data, small)
    assert not images.is_brain_extracted(data, large)


def test_written_bytes_do_not_depend_on_the_clock(tmp_path, head):
    for name in ("a.nii.gz", "b.nii.gz"):
        images.write_image(tmp_path / name, head[0], head[1])
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_folder_that_cannot_be_made_is_one_line(tmp_path, head):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TLEError, match="cannot be written"):
        images.write_image(tmp_path / "file" / "a.nii.gz", *head)
