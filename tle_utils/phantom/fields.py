"""Smooth random fields on the template grid, as separable cubic B-splines."""

import functools

import numpy as np

from tle_utils.imaging import atlas


@functools.cache
def bspline_basis(spacing):
    """Cubic B-splines along x, y and z of the template grid, float32 arrays (voxels, knots).

    Knots lie `spacing` mm apart, about the smoothness of the fields, and symmetric about the midline. White
    coefficients of variance one give a field of about variance one.
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
    """Values (float32) of the field with coefficients (knots in x, y, z) on the part of the grid that `basis` has."""
    x, y, z = basis
    return np.matmul(y, np.tensordot(x, np.tensordot(coefficients, z, (2, 1)), (1, 0)))
