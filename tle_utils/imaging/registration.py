"""Align a T1w scan with the template: coarse search, affine and diffeomorphic registration with Greedy.

A scan is here `volume` and `affine`, an array on a 1 mm RAS grid; transforms are those of `imaging.transforms`.
"""

import contextlib
import ctypes
import functools
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from picsl_greedy import Greedy3D
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from tle_utils.imaging import atlas
from tle_utils.imaging.images import resample
from tle_utils.imaging.transforms import Alignment, Warp, to_sitk

MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
BRAIN_CENTRE = np.array([0.0, -18.0, 10.0])
TOP_TO_CENTRE_MM = 78.0
ITERATIONS = {1: "60x30x10", 2: "60x15", 4: "60"}
# Smoothing of each step and of the whole warp: little, so that the warp follows a small hippocampus, and no folding.
# With 2.5 and 0.7 voxels less of a planted asymmetry was recovered; `refine` makes up for more iterations at 2 mm.
SMOOTH, SMOOTH_ROUGH = "1.5vox 0.4vox", "2.5vox 0.7071vox"
# The box around both hippocampi that `refine` registers at 1 mm, and the edge where its warp fades out.
# Without it a fifth of a planted asymmetry was lost; half the iterations recover a little less, a larger box no more.
FINE_BOX_MM, FINE_EDGE_MM, FINE_ITERATIONS = ((-48, -50, -34), (48, 4, 10)), 6, "20"


@functools.cache
def reference(mm):
    """Template (float32), brain mask (bool) and affine on a grid of `mm` that holds the brain and 8 mm around it."""
    found = np.argwhere(atlas.brain_mask())
    low = atlas.AFFINE[:3, 3] + found.min(axis=0) - 8
    high = atlas.AFFINE[:3, 3] + found.max(axis=0) + 8
    steps = np.ceil((high - low) / mm).astype(int)
    steps[0] = 2 * int(np.ceil(max(high[0], -low[0]) / mm))
    low[0] = -steps[0] / 2 * mm
    affine = nib.affines.from_matvec(np.eye(3) * mm, low)
    moved = []
    for volume in (atlas.template().get_fdata(dtype=np.float32), atlas.brain_mask().astype(np.float32)):
        if mm > 1:
            volume = ndimage.gaussian_filter(volume, 0.42 * mm)
        moved.append(resample(volume, atlas.AFFINE, steps + 1, affine))
    return moved[0], moved[1] > 0.5, affine


@contextlib.contextmanager
def _silent():
    """Let nothing through that C code prints by itself ("LINE SEARCH FAILED", at the end of a good optimisation)."""
    flush = ctypes.CDLL(None).fflush
    sys.stdout.flush()
    flush(None)
    kept = os.dup(1)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _greedy(command, matrices=None, **images):
    """Run Greedy on one thread with a fixed seed; `matrices` are put into temporary files."""
    greedy, log = Greedy3D(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        for name, matrix in (matrices or {}).items():
            path = Path(folder) / f"{name}.mat"
            np.savetxt(path, matrix, fmt="%.10g")
            command = re.sub(rf"\b{name}\b", str(path), command)
        with _silent():
            greedy.execute(f"{command} -threads 1 -seed 1 -V 0 -float", out=log, err=log, **images)
    return greedy


def head_depth(volume):
    """Distance in voxels from the outer surface of a head (0 outside it)."""
    threshold = sitk.OtsuThresholdImageFilter()
    threshold.SetInsideValue(0)
    threshold.SetOutsideValue(1)
    head = sitk.GetArrayFromImage(threshold.Execute(sitk.GetImageFromArray(volume))) > 0
    head = ndimage.binary_closing(np.pad(head, 6), iterations=6)[6:-6, 6:-6, 6:-6]
    for axis in range(3):
        for plane in np.moveaxis(head, axis, 0):
            plane[...] = ndimage.binary_fill_holes(plane)
    return ndimage.distance_transform_edt(head)


def _brain_like(half, affine, extracted):
    """A 2 mm scan with scalp and bright fat toned down, and a guess of the brain's centre in world coordinates."""
    if extracted:
        centre = np.array(ndimage.center_of_mass(half > 0.1 * half.max()))
        return half, nib.affines.apply_affine(affine, centre)
    depth = head_depth(half)
    slices = np.flatnonzero((depth > 4).sum(axis=(0, 1)) > 40)
    top = slices.max() + 4 if slices.size else half.shape[2] - 1
    upper = np.argwhere(depth[:, :, max(0, top - 65) : top + 1] > 0)
    middle = (upper.min(axis=0) + upper.max(axis=0)) / 2
    centre = nib.affines.apply_affine(affine, [middle[0], middle[1], top]) - [0, 0, TOP_TO_CENTRE_MM]
    grid = nib.affines.apply_affine(affine, np.moveaxis(np.indices(half.shape), 0, -1))
    ball = ((grid - centre) ** 2).sum(axis=-1) < 45**2
    bright = np.percentile(half[ball], 90) if ball.any() else half.max()
    toned = np.where(half > 1.15 * bright, np.maximum(2.3 * bright - half, 0), half)
    return toned * np.clip((2 * depth - 4) / 6, 0, 1), centre


def coarse_alignment(volume, affine, extracted):
    """Rough matrix from template to scan: shifts, turns and three scales that maximise the correlation at 4 mm.

    `extracted` tells whether the scan holds only the brain.
    """
    template, mask, grid = reference(4)
    shell = ndimage.binary_dilation(mask, iterations=2)
    points = nib.affines.apply_affine(grid, np.argwhere(shell))
    target = (template[shell] - template[shell].mean()) / template[shell].std()
    half = ndimage.gaussian_filter(volume, 1.7)[::2, ::2, ::2]
    half_affine = affine @ np.diag([2, 2, 2, 1.0])
    half, centre = _brain_like(half, half_affine, extracted)
    to_voxel = np.linalg.inv(half_affine)

    def matrix(parameters):
        shift, turn, scale = parameters[:3], parameters[3:6], parameters[6:]
        linear = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * np.exp(scale)
        return nib.affines.from_matvec(linear, centre + shift - linear @ BRAIN_CENTRE)

    def cost(parameters, step=3):
        where = nib.affines.apply_affine(to_voxel @ matrix(parameters), points[::step])
        values = ndimage.map_coordinates(half, where.T, order=1)
        spread = values.std()
        if spread == 0:
            return 10.0
        turn, scale = parameters[3:6], parameters[6:]
        penalty = 2 * np.mean((scale + 0.06) ** 2) + 0.5 * scale.var()
        penalty += 0.5 * (turn[0] / 100) ** 2 + ((turn[1:] / 60) ** 2).sum()
        return penalty - np.mean((values - values.mean()) / spread * target[::step])

    starts = [
        np.array([0, dy, dz, pitch, 0, 0, scale, scale, scale])
        for pitch in (-20, -10, 0, 10, 20, 30)
        for dz in ((0,) if extracted else (-30, -20, -10, 0, 10, 20))
        for dy in ((0,) if extracted else (-20, -10, 0, 10, 20))
        for scale in (-0.15, -0.05, 0.05)
    ]
    starts.sort(key=lambda start: cost(start, step=6))
    options = {"maxfev": 700, "xtol": 0.02, "ftol": 1e-4}
    found = [minimize(cost, start, method="Powell", options=options) for start in starts[:3]]
    return matrix(min(found, key=lambda result: result.fun).x)


def _mirrored(volume, affine):
    """The scan's mirror image, left for right, on a grid with the same orientation."""
    origin = affine[:3, 3].copy()
    origin[0] = -origin[0] - affine[0, 0] * (volume.shape[0] - 1)
    return np.ascontiguousarray(volume[::-1]), nib.affines.from_matvec(affine[:3, :3], origin)


def leans_right(volume):
    """Whether the centre of brightness lies right of the middle of the grid (bool); a mirrored scan says the opposite.

    What is done in the one of a scan and its mirror image that leans right comes out mirrored for a mirrored scan.
    """
    along = volume.sum(axis=(1, 2), dtype=np.float64)
    return bool((along - along[::-1]) @ np.arange(len(along)) > 0)


def affine_alignment(volume, affine, start, extracted):
    """Affine registration (12 parameters, 2 mm, local correlation), from `coarse_alignment` or the like.

    Of the scan and its mirror image the one that leans right is registered, so that a mirrored scan gives the mirrored
    result.
    """
    template, mask, grid = reference(2)
    images, masked = {"fixed": to_sitk(template, grid)}, ""
    if not extracted:
        masked = "-gm region"
        images["region"] = to_sitk(ndimage.binary_dilation(mask).astype(np.float32), grid)
    command = f"-a -i fixed moving {masked} -ia start -dof 12 -n 20 -m NCC 2x2x2 -o result"
    flip, whole = np.eye(4), ndimage.gaussian_filter(volume, 0.8)
    if not leans_right(volume):
        flip, (whole, affine) = MIRROR, _mirrored(whole, affine)
    half = to_sitk(np.ascontiguousarray(whole[::2, ::2, ::2]), affine @ np.diag([2, 2, 2, 1.0]))
    found = _greedy(command, {"start": flip @ start @ flip}, **images, moving=half, result=None)["result"]
    return flip @ np.array(found) @ flip


def deform(volume, affine, matrix, mm, *, masked, iterations=None, symmetric=False):
    """Diffeomorphic registration with Greedy (local correlation), starting at an affine one (`matrix`).

    The finest level has voxels of `mm`: 1, 2 or 4. `masked` compares only inside the template's brain (for a whole
    head); `iterations` per level, coarse to fine, for example ``"40x10"``, give a rough and smooth warp; `symmetric`
    registers the mirror image too and averages both, so that a mirrored scan gives the mirrored result.
    """
    template, mask, grid = reference(mm)
    images, metric = {"fixed": to_sitk(template, grid)}, "NCC 2x2x2"
    if masked:
        metric = "WNCC 2x2x2 -gm region"
        images["region"] = to_sitk(ndimage.binary_dilation(mask).astype(np.float32), grid)
    steps = f"-n {iterations} -s {SMOOTH_ROUGH}" if iterations else f"-n {ITERATIONS[mm]} -s {SMOOTH}"
    command = f"-i fixed moving -it start -m {metric} {steps} -o result"

    warp = _displacement(command, images, (volume, affine), matrix)
    if symmetric:
        warp = _even(warp, _displacement(command, images, _mirrored(volume, affine), MIRROR @ matrix @ MIRROR))
    return Alignment(matrix, (Warp.of(warp, grid),))


def _displacement(command, images, moving, start):
    """Displacement that Greedy finds, in mm on the grid of the fixed image, shape (x, y, z, 3)."""
    found = _greedy(command, {"start": start}, **images, moving=to_sitk(*moving), result=None)["result"]
    return (sitk.GetArrayFromImage(found).transpose(2, 1, 0, 3) * [-1, -1, 1]).astype(np.float32)


def _even(warp, of_mirrored):
    """Mean of the displacement of a scan and of that of its mirror image, on a grid that is symmetric itself."""
    return (warp + of_mirrored[::-1] * np.float32([-1, 1, 1])) / 2


def refine(alignment, volume, affine):
    """Register the surroundings of both hippocampi again, at 1 mm, from where `deform` of an extracted brain ended.

    The alignment gets a further warp; a mirrored scan gives the mirrored result.
    """
    low, high = np.rint(nib.affines.apply_affine(np.linalg.inv(atlas.AFFINE), FINE_BOX_MM)).astype(int)
    box = tuple(slice(first, last + 1) for first, last in zip(low, high, strict=True))
    grid = atlas.AFFINE @ nib.affines.from_matvec(np.eye(3), low)
    template = atlas.template().get_fdata(dtype=np.float32)[box]
    moved = np.ascontiguousarray(alignment.to_template(volume, affine)[box])
    images = {"fixed": to_sitk(template, grid)}
    command = f"-i fixed moving -it start -m NCC 2x2x2 -n {FINE_ITERATIONS} -s {SMOOTH} -o result"
    shifts = [_displacement(command, images, moving, np.eye(4)) for moving in ((moved, grid), _mirrored(moved, grid))]
    inside = np.pad(np.ones(np.array(template.shape) - 2, bool), 1)
    fade = np.minimum(ndimage.distance_transform_cdt(inside, "chessboard") / FINE_EDGE_MM, 1).astype(np.float32)
    return Alignment(alignment.matrix, (*alignment.warps, Warp.of(_even(*shifts) * fade[..., None], grid)))
