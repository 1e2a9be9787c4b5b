"""Read scans with checks, bring them to other grids, and write and name maps."""

import gzip
import importlib.metadata
import io
import os
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.spaces import vox2out_vox
from nibabel.spatialimages import HeaderDataError
from scipy import ndimage

from tle_utils.base.errors import TLEError
from tle_utils.base.files import write_bytes, write_json
from tle_utils.imaging import atlas

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
VOXEL_MM = (0.2, 6.0)
FIELD_MM = (80.0, 600.0)
BRAIN_ML = (500.0, 2200.0)
NATIVE_SPACE, TEMPLATE_SPACE = 1, 4
UNREADABLE = (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error, ImageFileError)
ROUNDING = 1e-4  # that a quaternion may be longer than 1
SMALL_TURN = np.cos(np.deg2rad(5))
LARGE_TURN = np.cos(np.deg2rad(45))


def flag(name, reason, fails):
    """One quality flag: its name, the reason in words, and whether it leaves the participant out."""
    return {"name": name, "reason": reason, "fails": fails}


class _Header(nib.Nifti1Header):
    """Header whose qform may have a quaternion that rounding made longer than 1."""

    def get_qform_quaternion(self):
        """Quaternion (w, x, y, z) of length 1."""
        turn = np.array([self[f"quatern_{axis}"] for axis in "bcd"], float)
        length = np.linalg.norm(turn)
        if length <= 1:
            return super().get_qform_quaternion()
        if not length < 1 + ROUNDING:
            raise HeaderDataError(f"the quaternion of its qform has the length {length:.4g}")
        return np.array([0, *turn / length])


class _Nifti(nib.Nifti1Image):
    header_class = _Header


KINDS = {n.to_bytes(4, o): k for n, k in ((348, _Nifti), (540, nib.Nifti2Image)) for o in ("little", "big")}


def _content(path):
    """Bytes of an image file, decompressed, whatever its suffix says of compression."""
    name = path.name
    absent = f"{name}: its content was not fetched from git-annex: run 'datalad get' (or 'git annex get') on it"
    if not name.endswith(SUFFIXES):
        raise TLEError(f"{name}: not a NIfTI or MGH image: give one of {', '.join(SUFFIXES)}")
    try:
        if not path.is_file():
            if path.is_symlink() and "annex" in os.readlink(path):
                raise TLEError(absent)
            raise TLEError(f"{name}: no such file: check the path of the image")
        raw = path.read_bytes()
    except PermissionError as error:
        raise TLEError(f"{name}: no permission to read the file: change its permissions") from error
    except OSError as error:
        raise TLEError(f"{name}: cannot be read ({error.strerror}): copy or download it again") from error
    if not raw:
        raise TLEError(f"{name}: the file has zero bytes: copy or download it again")
    if b"annex/objects/" in raw[:300]:
        raise TLEError(absent)
    if raw.startswith(b"version https://git-lfs"):
        raise TLEError(f"{name}: its content was not fetched: run 'git lfs pull' in its repository")
    return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw


def _open(path):
    """A nibabel image of a file, and its values as float32."""
    try:
        raw = _content(path)
        kind = nib.MGHImage if ".mg" in path.suffix else KINDS.get(raw[:4], _Nifti if raw[344:347] == b"n+1" else None)
        if kind is None or len(raw) < 348:
            raise ValueError("no header of an image")
        image = kind.from_bytes(raw)
        stored = image.get_data_dtype()
        if stored.fields or stored.kind == "c":
            held = "colours" if stored.fields else "complex numbers"
            raise TLEError(
                f"{path.name}: holds {held}, not one value per voxel: export the scan as numbers (magnitude)"
            )
        return image, np.asarray(image.dataobj, dtype=np.float32)
    except (HeaderDataError, MGHError) as error:
        raise TLEError(f"{path.name}: its header cannot be used ({error}): convert the scan again") from error
    except UNREADABLE as error:
        raise TLEError(f"{path.name}: the file is truncated or damaged: copy or download it again") from error


def _fill_background(data, name):
    """Values with 0 for NaN around the brain, and a flag that says so; NaN within it and infinite values are refused.

    NaN lies around the brain where it is connected with the border of the scan or touches nothing but zeros.
    """
    bad = ~np.isfinite(data)
    if not bad.any():
        return data, []
    parts, _ = ndimage.label(bad)
    border = np.pad(np.zeros(np.array(data.shape) - 2, bool), 1, constant_values=True)
    tissue = ndimage.binary_dilation(~bad & (data != 0))
    within = np.isin(parts, np.setdiff1d(parts[bad & tissue], parts[border])) | np.isinf(data)
    if within.any():
        raise TLEError(f"{name}: {within.sum()} voxels of the brain are NaN or infinite: export the scan again")
    reason = f"{bad.sum()} voxels around the brain are NaN; they count as background"
    return np.where(bad, np.float32(0), data), [flag("nan", reason, False)]


def _orientation(image, name):
    """Flags about the header's orientation; stops where left and right cannot be known."""
    header = image.header
    unknown = (
        f"{name}: the header has no orientation codes, so left and right are unknown: "
        "convert the scan again from DICOM, or set the sform after checking the side"
    )
    if "goodRASFlag" in header:
        if int(header["goodRASFlag"]) != 1:
            raise TLEError(unknown)
        return []
    sform, qform, flags = image.get_sform(coded=True)[0], None, []
    try:
        qform = image.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError) as error:
        flags = [flag("qform", f"the qform cannot be used ({error}); the sform was used", False)]
    if sform is None and qform is None:
        raise TLEError(unknown)
    if sform is None or qform is None:
        return flags
    axes = [matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (sform, qform)]
    cosines = (axes[0] * axes[1]).sum(axis=0)
    if cosines.min() < LARGE_TURN:
        codes = ["".join(nib.aff2axcodes(matrix)) for matrix in (sform, qform)]
        raise TLEError(
            f"{name}: sform says {codes[0]} and qform says {codes[1]}, so left and right are uncertain: "
            "find out which is correct and write it to both"
        )
    if cosines.min() < SMALL_TURN:
        turn = np.rad2deg(np.arccos(cosines.min()))
        return [flag("sform-qform", f"sform and qform differ by {turn:.0f} degrees; the sform was used", False)]
    return []


def read_image(path):
    """Read a scan or map (`SUFFIXES`, any orientation and voxel size) and check that it can be used.

    Returns
    -------
    data : numpy.ndarray
        float32, three axes, finite.
    affine : numpy.ndarray
        Voxel to world, shape (4, 4).
    flags : list of dict
        Findings that do not stop the work (see `flag`).

    Raises
    ------
    TLEError
        When the file is missing, not fetched, empty, truncated or not an image; when it is not three-dimensional, has
        values within the brain that are not finite, is constant, has an absurd voxel size or field of view; or when
        its header cannot be used, does not say which side is left, or says it in two ways.
    """
    path = Path(path)
    name = path.name
    image, data = _open(path)
    if data.ndim > 3 and data.shape[3:] == (1,) * (data.ndim - 3):
        data = data.reshape(data.shape[:3])
    if data.ndim != 3 or min(data.shape) < 2:
        shape = " x ".join(str(n) for n in data.shape)
        raise TLEError(f"{name}: a single 3-D volume is needed, this one is {shape}: give one T1w volume")
    data, flags = _fill_background(data, name)
    if data.max() == data.min():
        raise TLEError(f"{name}: all voxels have the value {data.max():g}: the scan is empty, export it again")
    affine = np.asarray(image.affine, dtype=float)
    voxel = nib.affines.voxel_sizes(affine)
    for what, size, (low, high), remedy in (
        ("voxel size", voxel, VOXEL_MM, "correct the header"),
        ("field of view", voxel * data.shape, FIELD_MM, "give a whole-brain scan"),
    ):
        if not low <= size.min() <= size.max() <= high:
            found = " x ".join(f"{mm:.3g}" for mm in size)
            raise TLEError(f"{name}: {what} {found} mm is outside {low:g} to {high:g} mm: {remedy}")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3] / voxel)) < 0.1:
        raise TLEError(f"{name}: the axes of its header do not span a volume: convert the scan again")
    return data, affine, flags + _orientation(image, name)


def template_map(path):
    """Image of a grey-matter map, its axes in RAS order; a TLEError where it does not lie on the template grid."""
    image = nib.as_closest_canonical(nib.load(path))
    if atlas.on_template_grid(image):
        return image
    raise TLEError(f"{Path(path).name}: not on the 1 mm {atlas.SPACE} grid: run notebook 01_preprocessing on it first")


def is_brain_extracted(data, affine):
    """Whether everything but a brain-sized part of the scan has one and the same background value."""
    inside = data != data.min()
    volume = inside.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
    return bool(BRAIN_ML[0] < volume < BRAIN_ML[1])


def box_around(mask, margin=0):
    """Slices of the box that holds a mask (bool) and `margin` voxels, one number or one per axis, around it."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(slice(max(s.start - m, 0), s.stop + m) for s, m in zip(box, np.broadcast_to(margin, 3), strict=True))


def resample(volume, affine, shape, target, order=1):
    """Values (float32) of a volume at the voxels of another grid, whose affine is `target`: linear, and 0 beyond it."""
    if volume.shape == tuple(shape) and np.allclose(affine, target, atol=1e-3):
        return np.ascontiguousarray(volume, np.float32)
    matrix = np.linalg.inv(affine) @ target
    return ndimage.affine_transform(volume, matrix[:3, :3], matrix[:3, 3], shape, order=order, output=np.float32)


def to_ras(data, affine):
    """Bring a scan to an upright 1 mm RAS grid by its world coordinates: data (float32, at least 0) and affine.

    What equals the minimum at the border of the scan is cut away, but for 4 mm.
    """
    data = data - data.min()
    voxel = nib.affines.voxel_sizes(affine)
    box = box_around(data > 0, np.ceil(4 / voxel).astype(int))
    data, affine = data[box], affine @ nib.affines.from_matvec(np.eye(3), [s.start for s in box])
    blur = np.sqrt(np.maximum(1 / voxel**2 - 1, 0)) / 2.355
    if voxel.min() < 0.75:
        data = ndimage.gaussian_filter(data, np.where(voxel < 0.75, blur, 0))
    shape, target = vox2out_vox((data.shape, affine), [1.0] * 3)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(data, affine))
    moved = resample(np.asarray(canonical.dataobj), canonical.affine, shape, target, order=3)
    return np.maximum(moved, 0), target


def write_image(path, data, affine, *, space=TEMPLATE_SPACE, note="", slope=None):
    """Write a NIfTI ``.nii.gz`` atomically; the same values give the same bytes.

    Parameters
    ----------
    path : path-like
        Target; its folder is made if needed.
    data : numpy.ndarray
        Stored with its own data type.
    affine : numpy.ndarray
        Voxel to world, shape (4, 4).
    space : int
        NIfTI code of the space: `TEMPLATE_SPACE` or `NATIVE_SPACE`.
    note : str
        Up to 80 characters for the header, for example what the image was made from; see `kept_values`.
    slope : float, optional
        What readers multiply the values with.

    Raises
    ------
    TLEError
        When the folder cannot be written or the disk is full.
    """
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=space)
    image.set_qform(affine, code=space)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = note
    image.header.set_slope_inter(slope, slope and 0)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=4, mtime=0) as file:
        file.write(image.to_bytes())
    write_bytes(path, buffer.getvalue())


def kept_values(path, note):
    """Values, before any slope, of an image written with this note; None where there is none or it is damaged."""
    try:
        image = nib.load(path)
        return image.dataobj.get_unscaled() if image.header["descrip"].item() == note.encode() else None
    except UNREADABLE:
        return None


def write_description(folder):
    """Write the ``dataset_description.json`` that BIDS asks of a folder of derivatives (`TLEError` if impossible)."""
    content = {
        "Name": "Grey-matter maps on the symmetric MNI152 2009a template",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "tle-utils", "Version": importlib.metadata.version("tle-utils")}],
    }
    write_json(Path(folder) / "dataset_description.json", content)
