"""Local atrophy as a deformation: a structure shrinks, the fluid beside it grows, everything else keeps its volume.

The deformation is made of small steps. Each is the gradient of a potential whose Laplacian is the wanted change of
volume: loss in the structure, the same gain in the fluid, none elsewhere (simulated atrophy with prescribed volume
changes, after Karacali & Davatzikos 2006, IEEE TMI 25:649, and Khanal et al. 2016, NeuroImage 134:35).
"""

import numpy as np
from scipy import fft, ndimage

STEP = 0.12  # largest share of the structure that one step takes away
STEPS = 30
TOLERANCE = 2e-3


def _potential_flow(divergence, size):
    """Displacement in mm, shape (3, x, y, z), with a given divergence (share per voxel of `size` mm; mean taken off).

    It has no rotation, and no volume leaves the box.
    """
    spectrum = fft.dctn(divergence, type=2)
    waves = [(2 * np.cos(np.pi * np.arange(n) / n) - 2) / h**2 for n, h in zip(divergence.shape, size, strict=True)]
    laplacian = waves[0][:, None, None] + waves[1][None, :, None] + waves[2][None, None, :]
    laplacian[0, 0, 0] = 1
    spectrum[0, 0, 0] = 0
    return np.stack(np.gradient(fft.idctn(spectrum / laplacian, type=2), *size))


def _at(volume, where):
    return ndimage.map_coordinates(volume, where, order=1, mode="nearest", output=np.float32)


def _moved(field, where):
    return np.stack([_at(part, where) for part in field])


def shrink(structure, fluid, size, loss):
    """Deform a box so that a structure in it loses a share of its volume to the fluid around it.

    `structure` and `fluid`, shape (x, y, z), hold the share of each voxel that belongs to the structure and the weight
    with which it may grow; `size` is that of a voxel in mm. Returned are two arrays in voxels, shape (3, x, y, z):
    where the content of each voxel comes from, and where it goes to.
    """
    grid = np.indices(structure.shape, dtype=np.float32)
    scale = np.asarray(size, np.float32)[:, None, None, None]
    backward, forward = grid.copy(), grid.copy()
    total = float(structure.sum())
    left, yields = 1.0, 1.0
    for _ in range(STEPS):
        wanted = 1 - (1 - loss) / left
        if abs(wanted) < TOLERANCE:
            break
        rate = min(STEP, wanted / yields)
        taken, gain = _at(structure, backward), _at(fluid, backward)
        change = rate * (gain * (taken.sum() / gain.sum()) - taken)
        flow = (_potential_flow(change, size) / scale).astype(np.float32)
        source = grid - _moved(flow, grid - flow / 2)
        backward = _moved(backward, source)
        forward = forward + _moved(flow, forward + _moved(flow, forward) / 2)
        before, left = left, float(_at(structure, backward).sum()) / total
        yields = max((1 - left / before) / rate, 0.3)
    return backward, forward
