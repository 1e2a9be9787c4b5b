"""Smooth random fields on the template grid, as separable cubic B-splines."""

import functools

import numpy as np

from tle_utils.imaging import atlas


@functools.cache
def bspline_basis(spacing):
    """Cubic B-splines along each axis of the template grid, with knots symmetric about the midline.

    Parameters
    ----------
    spacing : float
        Distance of the knots in mm: about the smoothness of the fields.

    Returns
    -------
    tuple of numpy.ndarray
        For x, y, z a float32 array (voxels, knots). White coefficients of variance one give a field of about variance
        one.
    """
    result = []
    for length in atlas.SHAPE:
        centre = (length - 1) / 2
        reach = int(np.ceil(centre / spacing)) + 1
        knots = centre + spacing * np.arange(-reach, reach + 1)
        t = np.abs(np.arange(length)[:, None] - knots) / spacing
        values = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6)
        result.append((values / np.sqrt((values**2).sum(axis=1).mean())).astype(np.float32))
    return tuple(result)


def smooth_field(coefficients, basis):
    """Values of a field.

    Parameters
    ----------
    coefficients : numpy.ndarray
        float32, shape (knots in x, y, z).
    basis : sequence of numpy.ndarray
        From `bspline_basis`, or rows of it for a part of the grid.

    Returns
    -------
    numpy.ndarray
        float32, one value a voxel of the grid or its part.
    """
    x, y, z = basis
    return np.matmul(y, np.tensordot(x, np.tensordot(coefficients, z, (2, 1)), (1, 0)))
