"""Coronal slices of grey-matter maps as arrays for the networks.

A slice is seen from behind: rows run from superior to inferior (z from +87 to -72 mm), columns from the
participant's left to the right (x from -80 to +79 mm), so left is left as in nilearn's displays.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas, images

SIZE = 160
X_MM = np.arange(-80, 80)
Z_MM = np.arange(87, -73, -1)
PUBLISHED_Y_MM = (-36, -33, -30, -27, -24)
SQUARE_MM = 5
POOLED_SHAPE = (32, 31)


def _voxels(axis, world_mm):
    return np.asarray(world_mm) - int(atlas.AFFINE[axis, 3])


def _rows(y_mm):
    low, high = int(atlas.AFFINE[1, 3]), int(atlas.AFFINE[1, 3]) + atlas.SHAPE[1] - 1
    if not len(y_mm):
        raise TLEError(f"y_mm: no slice is named: choose from {low} to {high} mm")
    if outside := [y for y in y_mm if not low <= y <= high]:
        raise TLEError(f"y_mm = {outside[0]}: this slice lies outside the map: choose from {low} to {high} mm")
    return _voxels(1, y_mm)


def _window(y_mm):
    """Index of the slices in an array on the template grid, axes (x, y, z)."""
    return np.ix_(_voxels(0, X_MM), _rows(y_mm), _voxels(2, Z_MM))


def load_slices(paths, y_mm, fwhm_mm=0.0):
    """Read coronal slices of grey-matter maps, scaled to 0…1 within each participant.

    The maps are smoothed first, then scaled by the minimum and maximum over the participant's own slices (published
    settings of Kaestner, Rao et al. 2023), so nothing is fitted across participants.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, 160, 160, len(y_mm)): participant, z downwards, x from left to right, slice.

    Raises
    ------
    TLEError
        A map lies on another grid, holds NaN or infinite values or is constant on the slices, or a slice lies outside.
    """
    rows = _rows(y_mm)
    sigma = fwhm_mm / np.sqrt(8 * np.log(2))
    start, stop = max(0, rows.min() - int(np.ceil(4 * sigma))), rows.max() + int(np.ceil(4 * sigma)) + 1
    window = np.ix_(_voxels(0, X_MM), rows - start, _voxels(2, Z_MM))
    stack = np.empty((len(paths), SIZE, SIZE, len(y_mm)), np.float32)
    for out, path in zip(stack, paths, strict=True):
        image, name = images.template_map(path), Path(path).name
        slab = np.asarray(image.dataobj[:, start:stop, :], dtype=np.float32)
        part = (gaussian_filter(slab, sigma) if sigma else slab)[window]
        low, high = part.min(), part.max()
        if not np.isfinite(part).all():
            raise TLEError(f"{name}: NaN or infinite values on the slices: preprocess the participant again")
        if high <= low:
            raise TLEError(f"{name}: constant on the slices: check the scan and its preprocessing report")
        out[:] = ((part - low) / (high - low)).transpose(2, 0, 1)
    return stack


def swap_sides(groups):
    """Classes of the mirror images: left and right swapped, control as it is (numpy.ndarray)."""
    groups = np.asarray(groups, dtype=object)
    return np.where(groups == "left", "right", np.where(groups == "right", "left", groups))


def flip(stack, groups):
    """Mirror slices left to right (the value at x = a mm moves to x = -a mm) and swap the classes left and right.

    Raises
    ------
    TLEError
        One side only is a class: its mirror image would belong to no class.
    """
    if len({"left", "right"} & set(groups)) == 1:
        raise TLEError("flip needs both left and right among the classes: switch it off for control against one side")
    return np.roll(stack[:, :, ::-1], 1, axis=2), swap_sides(groups)


def refuse_not_finite(stack, participants):
    """Refuse slices with NaN or infinite values; the TLEError names the participants."""
    bad = participants["participant_id"].to_numpy(str)[~np.isfinite(stack.reshape(len(stack), -1).sum(axis=1))]
    if len(bad):
        raise TLEError(f"slices: NaN or infinite values for {', '.join(bad[:5])}: preprocess these participants again")


def floored(deviation):
    """Standard deviations of voxels, each at least a twentieth of the greatest.

    Outside the brain they are nearly zero, and a division by them would let a few edge voxels rule. Where nothing
    varies, as in a single participant, they are 1.
    """
    return np.maximum(deviation, deviation.max() / 20 or 1)


def voxel_scale(stack):
    """Mean and standard deviation (see `floored`) of every voxel over participants of the training part, for z-scores.

    Both are float32 of the shape of one participant's slices.
    """
    deviation = floored(stack.std(axis=0, dtype=np.float64))
    return stack.mean(axis=0, dtype=np.float64).astype(np.float32), deviation.astype(np.float32)


def averaged(stack, side):
    """Slices averaged over squares of `side` mm: float32, shape (n, rows / side, columns / side, slices)."""
    n, rows, columns, slices = stack.shape
    squares = stack.reshape(n, rows // side, side, columns // side, side, slices)
    return squares.mean(axis=(2, 4), dtype=np.float32)


def _pooled_window():
    """Rows and columns of the window of `pooled`."""
    rows, columns = (count * SQUARE_MM for count in POOLED_SHAPE)
    start = int(np.flatnonzero(X_MM == 0)[0]) - columns // 2
    return slice(rows), slice(start, start + columns)


def pooled(stack):
    """Slices averaged over squares of `SQUARE_MM`, on a window that is symmetric about the midline.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, 32, 31, slices); the number of columns is odd, so that ``[:, :, ::-1]`` is the mirror image;
        x from left to right.
    """
    return averaged(stack[:, *_pooled_window()], SQUARE_MM)


def unpooled(image):
    """One image of `pooled`, shape (32, 31), back at 1 mm: shape (160, 160), zero outside the window."""
    out = np.zeros((SIZE, SIZE), image.dtype)
    out[_pooled_window()] = np.kron(image, np.ones((SQUARE_MM, SQUARE_MM), image.dtype))
    return out


def to_volume(stack, y_mm):
    """Put one participant's slices, shape (160, 160, slices), back into MNI space.

    Returns
    -------
    nibabel.Nifti1Image
        float32 on the template grid, zero outside the slices.
    """
    volume = np.zeros(atlas.SHAPE, np.float32)
    volume[_window(y_mm)] = np.asarray(stack, np.float32).transpose(1, 2, 0)
    return nib.Nifti1Image(volume, atlas.AFFINE)


def slices_of(volume, y_mm):
    """Slices, shape (160, 160, slices), of an array on the template grid, laid out as by `load_slices` but unscaled."""
    return volume[_window(y_mm)].transpose(2, 0, 1)
