"""Plant a known hippocampal loss in real images, and make brain T1w phantoms that carry one."""

import functools
import numbers
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel import affines
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tle_utils.base import files
from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import atlas, images
from tle_utils.phantom import atrophy
from tle_utils.phantom.fields import bspline_basis, smooth_field

MODEL = "2"  # part of the name of every planted scan: raise it when planting changes
ORIENTATIONS = ("RAS", "LAS", "LPI", "PSR")
EDGE_MM = 1.5  # smoothness of a planted loss in a map
BOX_MM, FLUID_MM, STILL = 12, 8, 0.02  # around the hippocampus; reach of fluid that grows; voxels not worth moving
MAP_MAXIMUM = 5  # a modulated grey-matter map stays below this, a T1w does not
# The template is a mean of many brains, and its tissue more mixed than that of one. Priors to this power have about as
# many mixed voxels among those with grey matter (half of them) as the segmentation of a single 0.8 mm scan.
SHARPNESS = 2


def plant_atrophy(image, side, effect, *, hippocampus=None):
    """Take away a known part of the hippocampus of one side.

    A grey-matter map loses the fraction in place, with smooth edges. In a T1w the hippocampus shrinks by the fraction,
    the cerebrospinal fluid beside it takes the room, and the neighbours move but keep their volume (see
    `tle_utils.phantom.atrophy`).

    Parameters
    ----------
    image : nibabel image
        Grey-matter map in MNI space, on any grid and orientation, or with `hippocampus` a T1w in native space.
    side : {"left", "right"}
        The participant's side, judged by world coordinates.
    effect : float
        Fraction of the hippocampal grey matter to lose, above 0 and below 1.
    hippocampus : nibabel image, optional
        Mask or probability of that side's hippocampus in the native space of a T1w, on any grid.

    Returns
    -------
    planted : nibabel.Nifti1Image
        float32, same grid and orientation as `image`.
    truth : nibabel.Nifti1Image
        uint8, 1 where a map was changed, or in the hippocampus of a T1w as it was before; 0 elsewhere.

    Raises
    ------
    TLEError
        When a parameter is out of range, the image is not what it should be, or the mask lies on the other side.
    """
    if side not in ("left", "right"):
        raise TLEError(f"side={side!r}: give 'left' or 'right'")
    if not isinstance(effect, numbers.Real) or isinstance(effect, bool) or not 0 < effect < 1:
        raise TLEError(f"effect={effect!r}: give a fraction above 0 and below 1 (0.3 is a loss of 30 %)")
    data = _data(image, "image")
    if hippocampus is None:
        if data.max() > MAP_MAXIMUM:
            raise TLEError(f"image reaches {data.max():g}, too much for a grey-matter map: give a T1w its hippocampus")
        loss = _map_loss(data, image.affine, side, effect)
        planted = data * (1 - loss)
    else:
        mask = _carry(hippocampus, image)
        planted, loss = _shrunk(data, image.affine, mask, side, effect)[0], mask > 0.5
    truth = nib.Nifti1Image((loss > 0).astype(np.uint8), image.affine)
    return nib.Nifti1Image(planted.astype(np.float32), image.affine), truth


def _data(image, name):
    data = np.asarray(image.dataobj, dtype=np.float32)
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise TLEError(f"{name} has shape {data.shape}: give a 3D image")
    if not np.isfinite(data).all() or data.max() == data.min():
        raise TLEError(f"{name} is constant or holds values that are not numbers: give a whole image")
    return data


def _resample(data, affine, shape, target):
    """Values of a volume at the voxels of another grid, linear, 0 outside."""
    if data.shape == tuple(shape) and np.allclose(affine, target):
        return data
    matrix = np.linalg.inv(affine) @ target
    return ndimage.affine_transform(data, matrix[:3, :3], matrix[:3, 3], shape, order=1, output=np.float32)


def _carry(hippocampus, image):
    data = _data(hippocampus, "hippocampus")
    return np.clip(_resample(data / data.max(), hippocampus.affine, image.shape[:3], image.affine), 0, 1)


@functools.cache
def _template_hippocampus(side):
    """Mask of the template's hippocampus, and the same with smooth edges that end 2 mm outside."""
    region = atlas.region_mask("hippocampus", side)
    near = ndimage.binary_dilation(region, iterations=2)
    region = region.astype(np.float32)
    return region, ndimage.gaussian_filter(region, EDGE_MM) * near


def _map_loss(data, affine, side, effect):
    """Fraction that each voxel of a grey-matter map loses."""
    region, smooth = _template_hippocampus(side)
    inside = _resample(region, atlas.AFFINE, data.shape, affine) > 0.5
    smooth = _resample(smooth, atlas.AFFINE, data.shape, affine)
    if not (data * inside).sum() > 0:
        raise TLEError("image holds nothing in the hippocampus of MNI space: give a map in MNI space, or a hippocampus")
    return _solve(lambda strength: np.clip(strength * smooth, 0, 1), data * inside, effect, 100)


def _centre(mask):
    """Centre of a mask in voxels."""
    profiles = [mask.sum(axis=other) for other in [(1, 2), (0, 2), (0, 1)]]
    return [profile @ np.arange(len(profile)) / profile.sum() for profile in profiles]


def _t1w_box(data, affine, mask, side):
    """Box around the hippocampus of a T1w, and in it the shares of hippocampal tissue and of fluid that may grow."""
    if (mask > 0.5).sum() < 50:
        raise TLEError("hippocampus mask is nearly empty on the image's grid: give the mask of the same participant")
    centre = affines.apply_affine(affine, _centre(mask > 0.5))[0]
    middle = affines.apply_affine(affine, _centre(data > data.mean()))[0]
    if (centre < middle) != (side == "left"):
        raise TLEError(f"hippocampus mask lies {centre - middle:+.0f} mm from the middle: not on the {side} side")
    size = affines.voxel_sizes(affine)
    place = ndimage.find_objects((mask > 0.05).astype(np.uint8))[0]
    margin = np.ceil(BOX_MM / size).astype(int)
    box = tuple(
        slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in zip(place, margin, data.shape, strict=True)
    )
    local, part = data[box], mask[box]
    body = part > 0.5
    around = ndimage.distance_transform_edt(~body, sampling=size)
    grey = np.median(local[body])
    ring = local[(around > 0) & (around < 10) & (local > 0)]
    dark = np.percentile(ring, 3) if ring.size else grey
    if dark >= grey:
        raise TLEError("nothing around the hippocampus is darker than it is: give a T1w and a mask in its native space")
    tissue = np.clip((local - dark) / (grey - dark), 0, 1)
    pure = np.clip((0.3 - tissue) / 0.2, 0, 1)
    fluid = np.where((local > 0) & ~body, pure * np.exp(-0.5 * (around / FLUID_MM) ** 2), 0)
    return box, part * tissue, fluid.astype(np.float32)


def _shrunk(data, affine, mask, side, effect):
    """A T1w whose hippocampus lost a fraction, with the box and `forward` of `atrophy.shrink`."""
    box, structure, fluid = _t1w_box(data, affine, mask, side)
    backward, forward = atrophy.shrink(structure, fluid, affines.voxel_sizes(affine), effect)
    local = data[box]
    moved = ndimage.map_coordinates(local, backward, order=3, mode="nearest", output=np.float32)
    moved = np.clip(moved, local.min(), local.max())
    still = np.abs(backward - np.indices(local.shape)).max(axis=0) < STILL
    planted = data.copy()
    planted[box] = np.where(still, local, moved)
    return planted, box, forward


def _solve(make_loss, weight, effect, high):
    """The loss whose weighted sum is `effect` of all, by bisection of its one parameter from 0 to `high`."""
    low, total = 0.0, float(weight.sum(dtype=np.float64))
    for _ in range(40):
        middle = (low + high) / 2
        if (make_loss(middle) * weight).sum(dtype=np.float64) < effect * total:
            low = middle
        else:
            high = middle
    return make_loss(high).astype(np.float32)


def make_phantom_t1w(out_dir, *, n, seed, workers=1, loss=(0.3, 0.5)):
    """Make brain-extracted T1w phantoms with a known deformation and hippocampal loss.

    The template's T1, its tissue made as distinct as in one person, loses part of one hippocampus (left, right, none in
    turn), is moved by a smooth known deformation and a rigid motion, and gets a bias field and Rician noise. The
    orientation of the arrays is mixed: RAS, LAS, LPI, PSR in turn.

    Parameters
    ----------
    out_dir : path
        Gets for each phantom the T1w, its true map and truth mask on the template grid, and ``truth.tsv``.
    n : int
        Number of phantoms.
    seed : int
        Not negative; phantom i depends on the seed and i only.
    workers : int
        Processes side by side.
    loss : tuple of float
        Least and largest fraction of the hippocampus that a patient loses.

    Returns
    -------
    pandas.DataFrame
        ``participant_id, group, age, sex, site, mts, hippocampus_left, hippocampus_right`` (ml, in the true map),
        ``image, image_kind`` (``t1w``) and of the truth ``true_side, effect`` (fraction of the hippocampal grey
        matter that is lost), ``orientation, true_map`` (path of the modulated grey matter: its share of each voxel
        times the Jacobian of the loss and of the deformation) and ``true_mask`` (path of the hippocampus that shrank).

    Raises
    ------
    TLEError
        When a number is out of range.
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0), ("workers", workers, 1)):
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise TLEError(f"{name}={value!r}: give a whole number, {least} or more")
    if not 0 < min(loss) <= max(loss) < 1:
        raise TLEError(f"loss={loss!r}: give two fractions above 0 and below 1")
    out_dir = Path(out_dir).resolve()
    out_dir.mkdir(parents=True, exist_ok=True)
    job = functools.partial(_t1w_phantom, out_dir=out_dir, seed=seed, loss=tuple(loss))
    table = pd.DataFrame(run_parallel(job, range(n), label="T1w phantoms", workers=workers))
    table["mts"] = table["mts"].astype("boolean")
    paths = ["image", "true_map", "true_mask"]
    named = table.assign(**{column: table[column].map(os.path.basename) for column in paths})
    files.write_text(out_dir / "truth.tsv", named.to_csv(sep="\t", index=False))
    return table


@functools.cache
def _person_like():
    """The template's T1 (0 to 1) with the tissue of one person, and that person's share of grey matter in each voxel.

    A voxel's brightness changes by what its shares of the three tissues differ from the priors, times how bright each
    tissue is; what the template has beyond that, such as brighter deep grey matter, stays.
    """
    brain, t1w = atlas.brain_mask(), atlas.template().get_fdata(dtype=np.float32).copy()
    prior = np.stack([atlas.tissue_priors()[tissue][brain] for tissue in ("GM", "WM", "CSF")])
    share = prior**SHARPNESS
    share /= share.sum(axis=0)
    brightness = np.array([np.median(t1w[brain][part >= np.quantile(part, 0.9)]) for part in prior], np.float32)
    t1w[brain] = np.maximum(t1w[brain] + brightness @ (share - prior), 0)
    grey = np.zeros(atlas.SHAPE, np.float32)
    grey[brain] = share[0]
    return t1w, grey


def _random_field(rng, spacing):
    basis = bspline_basis(spacing)
    return smooth_field(rng.standard_normal([b.shape[1] for b in basis], dtype=np.float32), basis)


def _random_shift(rng):
    """Smooth displacement in mm, shape (3, x, y, z); left and right are nearly mirror images."""
    shift = np.stack([_random_field(rng, 30) for _ in range(3)])
    mirrored = shift[:, ::-1] * np.array([-1, 1, 1], np.float32)[:, None, None, None]
    return 0.8 * (shift + mirrored) + 0.3 * (shift - mirrored)


def _jacobian(shift):
    """Determinant of the derivative of x + shift(x), voxels of 1 mm."""
    rows = [list(np.gradient(part)) for part in shift]
    for axis in range(3):
        rows[axis][axis] += 1
    x, y, z = rows
    return x[0] * (y[1] * z[2] - y[2] * z[1]) - x[1] * (y[0] * z[2] - y[2] * z[0]) + x[2] * (y[0] * z[1] - y[1] * z[0])


def _inverse(shift, step=3):
    """Displacement that undoes x + shift(x), by fixed-point iteration on every third voxel."""
    grid = np.stack(np.meshgrid(*(np.arange(0, n + step, step) for n in atlas.SHAPE), indexing="ij")).astype(float)
    back = np.zeros_like(grid)
    for _ in range(6):
        back = -np.stack([ndimage.map_coordinates(part, grid + back, order=1, mode="nearest") for part in shift])
    scale = [1 / step] * 3
    return [
        ndimage.affine_transform(part.astype(np.float32), scale, output_shape=atlas.SHAPE, order=1) for part in back
    ]


def _save(path, data, affine, space=images.TEMPLATE_SPACE):
    images.write_image(path, data, affine, space=space)
    return str(path)


def _t1w_phantom(index, out_dir, seed, loss):
    """Make one T1w phantom and return its row."""
    rng = np.random.default_rng([seed, 3, index])
    group, orientation = ("left", "right", "control")[index % 3], ORIENTATIONS[index % len(ORIENTATIONS)]
    age, sex, effect = round(rng.uniform(18, 65), 1), "FM"[rng.integers(2)], round(rng.uniform(*loss), 3)
    shift = _random_shift(rng)
    turn = Rotation.from_euler("xyz", rng.uniform(-6, 6, 3), degrees=True).as_matrix()
    move = rng.uniform(-5, 5, 3)
    bias = np.exp(0.12 * _random_field(rng, 60))
    t1w, grey = _person_like()
    t1w = 1000 * t1w
    change, place = np.ones_like(grey), np.indices(atlas.SHAPE, np.float32)
    mask = np.zeros(atlas.SHAPE, bool)
    if group != "control":
        mask = atlas.region_mask("hippocampus", group)
        t1w, box, forward = _shrunk(t1w, atlas.AFFINE, mask.astype(np.float32), group, effect)
        change[box] = atrophy.volume_change(forward)
        place[(slice(None), *box)] += forward - np.indices(change[box].shape)
        effect = float(1 - (grey * change)[mask].sum() / grey[mask].sum())
    else:
        effect = 0.0
    true_map = grey * change * ndimage.map_coordinates(_jacobian(shift), place, order=1, mode="nearest")
    source = np.indices(atlas.SHAPE, np.float32)
    source += np.stack(_inverse(shift))
    brain = ndimage.map_coordinates(atlas.brain_mask().astype(np.float32), source, order=1) > 0.5
    value = ndimage.map_coordinates(t1w, source[:, brain], order=3, output=np.float32) * bias[brain]
    moved = np.zeros(atlas.SHAPE, np.int16)
    moved[brain] = np.rint(np.hypot(value + rng.normal(0, 15, value.shape), rng.normal(0, 15, value.shape)))
    affine = np.eye(4)
    affine[:3] = np.column_stack([turn, move + turn @ atlas.AFFINE[:3, 3]])
    image = nib.Nifti1Image(moved, affine)
    codes = nib.orientations.axcodes2ornt(orientation)
    image = image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), codes))
    name, space = f"sub-{index + 1:04d}", f"space-{atlas.SPACE}"
    volumes = atlas.regional_volumes(true_map)["hippocampus"]
    mask_path = out_dir / f"{name}_{space}_desc-planted_mask.nii.gz"
    return {
        "participant_id": name,
        "group": group,
        "age": age,
        "sex": sex,
        "site": "site-1",
        "mts": group != "control",
        "hippocampus_left": volumes["left"],
        "hippocampus_right": volumes["right"],
        "image": _save(out_dir / f"{name}_T1w.nii.gz", np.asarray(image.dataobj), image.affine, images.NATIVE_SPACE),
        "image_kind": "t1w",
        "true_side": "" if group == "control" else group,
        "effect": effect,
        "orientation": orientation,
        "true_map": _save(out_dir / f"{name}_{space}_desc-true_label-GM_probseg.nii.gz", true_map, atlas.AFFINE),
        "true_mask": _save(mask_path, mask.astype(np.uint8), atlas.AFFINE),
    }
