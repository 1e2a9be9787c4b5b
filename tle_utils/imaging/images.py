"""Read scans with checks, bring them to other grids, and write and name maps."""

import gzip
import importlib.metadata
import io
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spaces import vox2out_vox
from scipy import ndimage

from tle_utils.base.errors import TLEError
from tle_utils.base.files import write_bytes, write_json
from tle_utils.imaging import atlas

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
VOXEL_MM = (0.2, 6.0)
FIELD_MM = (80.0, 600.0)
BRAIN_ML = (500.0, 2200.0)
NATIVE_SPACE, TEMPLATE_SPACE = 1, 4
UNREADABLE = (OSError, EOFError, ValueError, zlib.error, nib.filebasedimages.ImageFileError)
SMALL_TURN = np.cos(np.deg2rad(5))
LARGE_TURN = np.cos(np.deg2rad(45))


def flag(name, reason, fails):
    """One quality flag: its name, the reason in words, and whether it leaves the participant out."""
    return {"name": name, "reason": reason, "fails": fails}


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
    if "sform_code" not in header or "qform_code" not in header:
        return []
    sform, qform = image.get_sform(coded=True)[0], image.get_qform(coded=True)[0]
    if sform is None and qform is None:
        raise TLEError(unknown)
    if sform is None or qform is None:
        return []
    axes = [matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (sform, qform)]
    cosines = (axes[0] * axes[1]).sum(axis=0)
    if cosines.min() < LARGE_TURN:
        codes = ["".join(nib.aff2axcodes(matrix)) for matrix in (sform, qform)]
        raise TLEError(
            f"{name}: sform says {codes[0]} and qform says {codes[1]}, so left and right are uncertain: "
            "find out which is right and write it to both"
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
        When the file is missing, empty, truncated or not an image; when it is not three-dimensional, has values that
        are not finite, is constant, has an absurd voxel size or field of view; or when its header does not say, or
        says in two ways, which side is left.
    """
    path = Path(path)
    name = path.name
    if not path.is_file():
        raise TLEError(f"{name}: no such file: check the path of the image")
    if path.stat().st_size == 0:
        raise TLEError(f"{name}: the file has zero bytes: copy or download it again")
    if not name.endswith(SUFFIXES):
        raise TLEError(f"{name}: not a NIfTI or MGH image: give one of {', '.join(SUFFIXES)}")
    try:
        image = nib.load(path)
        data = np.asarray(image.dataobj, dtype=np.float32)
    except PermissionError as error:
        raise TLEError(f"{name}: no permission to read the file: change its permissions") from error
    except UNREADABLE as error:
        raise TLEError(f"{name}: the file is truncated or damaged: copy or download it again") from error
    if data.ndim > 3 and data.shape[3:] == (1,) * (data.ndim - 3):
        data = data.reshape(data.shape[:3])
    if data.ndim != 3 or min(data.shape) < 2:
        shape = " x ".join(str(n) for n in data.shape)
        raise TLEError(f"{name}: a single 3-D volume is needed, this one is {shape}: give one T1w volume")
    if not np.isfinite(data).all():
        bad = int((~np.isfinite(data)).sum())
        raise TLEError(f"{name}: {bad} voxels are NaN or infinite: export the scan again")
    if data.max() == data.min():
        raise TLEError(f"{name}: all voxels have the value {data.max():g}: the scan is empty, export it again")
    affine = np.asarray(image.affine, dtype=float)
    flags = _orientation(image, name)
    voxel = nib.affines.voxel_sizes(affine)
    if not np.isfinite(affine).all() or voxel.min() < VOXEL_MM[0] or voxel.max() > VOXEL_MM[1]:
        size = " x ".join(f"{v:.3g}" for v in voxel)
        raise TLEError(
            f"{name}: voxel size {size} mm is outside {VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm: correct the header"
        )
    field = voxel * data.shape
    if field.min() < FIELD_MM[0] or field.max() > FIELD_MM[1]:
        size = " x ".join(f"{v:.0f}" for v in field)
        raise TLEError(
            f"{name}: field of view {size} mm is outside {FIELD_MM[0]:g} to {FIELD_MM[1]:g} mm: give a whole-brain scan"
        )
    return data, affine, flags


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
