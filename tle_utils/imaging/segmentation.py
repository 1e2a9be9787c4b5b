"""Segment a T1w scan: brain mask, bias correction, registration, tissue probabilities."""

import dataclasses
import itertools
import time

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas, images, registration
from tle_utils.imaging.transforms import Alignment, to_sitk

TISSUES = ("CSF", "GM", "WM")
PRIOR_WEIGHT = 0.5
NEIGHBOUR_WEIGHT = 0.6
STEPS = 12
TIGHT_BOX_MM = 6  # an extracted brain may come in a box without any margin
NEIGHBOURS = ndimage.generate_binary_structure(3, 1).astype(np.float32)
NEIGHBOURS[1, 1, 1] = 0
NEIGHBOURS /= NEIGHBOURS.sum()


def carried_brain_mask(alignment, shape, affine):
    """The template's brain mask (bool) carried to a scan's 1 mm RAS grid, gaps up to 8 mm closed, grown by 1.5 mm."""
    carried = alignment.to_native(atlas.brain_mask().astype(np.float32), shape, affine) > 0.2
    if not carried.any():
        raise TLEError("no brain was found in the scan: check that it is a T1w scan of a whole head")
    box = images.box_around(carried, 12)
    part = np.pad(carried[box], 6)
    closed = ndimage.distance_transform_edt(ndimage.distance_transform_edt(~part) <= 4) > 4
    grown = ndimage.distance_transform_edt(~(closed | part)) <= 1.5
    mask = np.zeros(shape, bool)
    mask[box] = grown[6:-6, 6:-6, 6:-6]
    return mask


def correct_bias(volume, affine, mask):
    """Divide out the slow change of brightness inside a mask (N4, Tustison et al. 2010, on every fourth voxel).

    Of the scan and its mirror image the field of the one that leans right is found, so that a mirrored scan gives the
    mirrored field.
    """

    def log_field(part, region):
        image = to_sitk(part, affine)
        work = sitk.N4BiasFieldCorrectionImageFilter()
        work.SetNumberOfThreads(1)
        work.SetMaximumNumberOfIterations([50, 50, 50])
        work.Execute(sitk.Shrink(image, [4] * 3), sitk.Shrink(to_sitk(region.astype(np.uint8), affine), [4] * 3))
        return sitk.GetArrayFromImage(work.GetLogBiasFieldAsImage(image)).T

    way = slice(None, None, 1 if registration.leans_right(volume) else -1)
    field = log_field(volume[way], mask[way])[way]
    return np.where(mask, volume / np.exp(field), 0).astype(np.float32)


def tissue_maps(brain, mask, priors):
    """Soft tissue segmentation: a Gaussian mixture with the atlas as prior and the six neighbours as context.

    Expectation-maximisation as in unified segmentation (Ashburner & Friston 2005), without its deformation, and with
    a mean-field Potts term (Zhang, Brady & Smith 2001). The prior enters with half its weight, so that a brain
    that differs from the template is not pulled towards it. The maps are the mean of these probabilities and of the
    shares of two tissues that a voxel's brightness speaks for (Tohka, Zijdenbos & Evans 2004): the first know where a
    voxel lies, the second keep thin and mixed tissue.

    `brain` is a bias-corrected T1w, `priors` are probabilities on its grid. Returned are the maps ``GM``, ``WM`` and
    ``CSF`` (dict of float32), 0 outside the mask, sum 1 inside. A TLEError says that the tissues are not ordered as in
    a T1w scan, which may also be lost in registration.
    """
    values = brain[mask].astype(np.float64)
    values /= np.percentile(values, 99)
    prior = np.stack([priors[tissue][mask] for tissue in TISSUES]).astype(np.float64)
    prior[0] += np.clip(1 - prior.sum(axis=0), 0, 1)
    prior = np.maximum(prior, 0.01) ** PRIOR_WEIGHT
    prior /= prior.sum(axis=0)
    sure = [np.median(values[prior[i] >= np.quantile(prior[i], 0.9)]) for i in range(3)]
    _refuse_order(sure)
    share = prior
    volume = np.zeros(mask.shape, np.float32)
    for step in range(STEPS):
        total = share.sum(axis=1)
        mean = (share * values).sum(axis=1) / total
        spread = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1) / total).clip(0.02)
        score = np.log(prior) - ((values - mean[:, None]) / spread[:, None]) ** 2 / 2 - np.log(spread[:, None])
        if step > 2:
            for i in range(3):
                volume[mask] = share[i]
                score[i] += NEIGHBOUR_WEIGHT * ndimage.convolve(volume, NEIGHBOURS, mode="constant")[mask]
        share = np.exp(score - score.max(axis=0))
        share /= share.sum(axis=0)
    _refuse_order(mean)
    maps = {}
    for i, tissue in enumerate(TISSUES):
        maps[tissue] = np.zeros(mask.shape, np.float32)
        maps[tissue][mask] = (share[i] + np.interp(values, mean, np.eye(len(TISSUES))[i])) / 2
    return maps


def _refuse_order(brightness):
    """Refuse tissues that are not ordered as in a T1w scan."""
    fluid, grey, white = brightness
    if not fluid < grey < white:
        raise TLEError(
            "white matter is not brighter than grey matter and that brighter than fluid "
            f"({white:.2f}, {grey:.2f}, {fluid:.2f}): give a T1w scan with a correct header"
        )


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """A segmented scan on its own 1 mm RAS grid."""

    brain: np.ndarray  # bias-corrected T1w, 0 outside the brain
    mask: np.ndarray  # bool
    maps: dict  # probabilities GM, WM and CSF
    affine: np.ndarray
    alignment: Alignment  # template to scan
    orientation: str  # axes of the scan as it is stored, such as LAS
    flags: list  # what was found in the header
    outside_fraction: float  # share of the template's brain outside the scan's field of view
    times: dict  # s per stage


def _align_head(volume, affine, extracted):
    start = registration.coarse_alignment(volume, affine, extracted)
    return registration.affine_alignment(volume, affine, start, extracted)


def outside_fraction(matrix, shape, affine, margin_mm=0):
    """Share of the template's brain that a map from template to scan puts outside the scan's field of view.

    What lies less than `margin_mm` outside does not count.
    """
    points = nib.affines.apply_affine(atlas.AFFINE, np.argwhere(atlas.brain_mask())[::50])
    voxels = nib.affines.apply_affine(np.linalg.inv(affine) @ matrix, points)
    margin = 0.5 + margin_mm / nib.affines.voxel_sizes(affine)
    return float(((voxels < -margin) | (voxels > np.array(shape) - 1 + margin)).any(axis=1).mean())


def segment(image_path, registration_mm=2):
    """Brain mask, registration and tissue probabilities of a T1w scan.

    Parameters
    ----------
    image_path : path-like
        Whole head or extracted brain, as `images.read_image` reads it.
    registration_mm : {1, 2, 4}
        Finest level of the registration; with 2 the hippocampi are registered again at 1 mm.

    Returns
    -------
    Segmentation

    Raises
    ------
    TLEError
        When the file cannot be used or is not a T1w scan of a brain.
    """
    times = {"start": time.perf_counter()}
    data, native_affine, flags = images.read_image(image_path)
    extracted = images.is_brain_extracted(data, native_affine)
    volume, affine = images.to_ras(data, native_affine)
    times["read"] = time.perf_counter()
    matrix = _align_head(volume, affine, extracted)
    outside = outside_fraction(matrix, data.shape, native_affine, TIGHT_BOX_MM if extracted else 0)
    times["affine"] = time.perf_counter()
    if extracted:
        mask = volume > 1e-3 * volume.max()
    else:
        rough = registration.deform(volume, affine, matrix, 4, masked=True, iterations="40", symmetric=True)
        mask = carried_brain_mask(rough, volume.shape, affine) & (volume > 0)
    box = images.box_around(mask, 4)
    mask, affine = mask[box], affine @ nib.affines.from_matvec(np.eye(3), [s.start for s in box])
    times["brain_mask"] = time.perf_counter()
    brain = correct_bias(np.ascontiguousarray(volume[box]), affine, mask)
    times["bias"] = time.perf_counter()
    alignment = registration.deform(brain, affine, matrix, registration_mm, masked=False, symmetric=True)
    if registration_mm == 2:
        alignment = registration.refine(alignment, brain, affine)
    times["registration"] = time.perf_counter()
    priors = {k: alignment.to_native(v, mask.shape, affine) for k, v in atlas.tissue_priors().items()}
    maps = tissue_maps(brain, mask, priors)
    times["tissues"] = time.perf_counter()
    seconds = {name: round(end - begin, 2) for (_, begin), (name, end) in itertools.pairwise(times.items())}
    orientation = "".join(nib.aff2axcodes(native_affine))
    return Segmentation(brain, mask, maps, affine, alignment, orientation, flags, outside, seconds)


def labels_to_native(image_path, mask):
    """Carry a region of the template to a T1w scan by a quick registration (2 mm).

    Parameters
    ----------
    image_path : path-like
        Whole head or extracted brain, as `images.read_image` reads it.
    mask : numpy.ndarray
        Region or probability on the template grid.

    Returns
    -------
    numpy.ndarray
        float32, 0 to 1, at the voxels of the scan.
    """
    data, native_affine, _ = images.read_image(image_path)
    extracted = images.is_brain_extracted(data, native_affine)
    volume, affine = images.to_ras(data, native_affine)
    matrix = _align_head(volume, affine, extracted)
    alignment = registration.deform(volume, affine, matrix, 2, masked=not extracted, iterations="40x10")
    carried = alignment.to_native(mask.astype(np.float32), volume.shape, affine)
    return np.clip(images.resample(carried, affine, data.shape, native_affine), 0, 1)
