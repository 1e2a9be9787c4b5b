"""Planting in a real T1w: the loss is on the asked side of the world, inside the hippocampus, and of the asked size."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel import affines
from scipy import ndimage

from tle_utils.base.errors import TLEError
from tle_utils.phantom import planting

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / os.environ.get("TLE_SHARED_DATA", "../shared/data") / "labelled" / "epilepsy_head"
LABELS = {"left": 17, "right": 53}

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not FOLDER.exists(), reason=f"no labelled head in {FOLDER}: set TLE_SHARED_DATA"),
]


@pytest.fixture(scope="module")
def head():
    return nib.load(FOLDER / "T1.mgz"), nib.load(FOLDER / "aseg.mgz")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("effect", [0.3, 0.5])
def test_loss_is_where_it_was_planted(head, side, effect):
    t1w, labels = head
    body = np.asarray(labels.dataobj) == LABELS[side]
    before = t1w.get_fdata(dtype=np.float32)
    after = planting.plant_atrophy(before, t1w.affine, side, effect, body.astype(np.float32))
    changed = before != after
    distance_mm = ndimage.distance_transform_edt(~body)
    assert not (changed & (distance_mm > 40)).any()
    x = affines.apply_affine(t1w.affine, np.argwhere(changed & body))[:, 0]
    assert (x < 0).all() if side == "left" else (x > 0).all()
    fluid, grey = np.median(before[np.isin(np.asarray(labels.dataobj), [4, 43])]), np.median(before[body])
    assert np.abs(after - before)[distance_mm > 25].max() < 0.2 * (grey - fluid)
    lost = [np.clip((grey - image[changed]) / (grey - fluid), 0, 1).sum() for image in (before, after)]
    assert (lost[1] - lost[0]) / body.sum() == pytest.approx(effect, abs=0.12)
    assert after[body].min() > 0


def test_the_other_sides_mask_is_refused(head):
    t1w, labels = head
    mask = (np.asarray(labels.dataobj) == LABELS["right"]).astype(np.float32)
    with pytest.raises(TLEError, match="not on the left side"):
        planting.plant_atrophy(t1w.get_fdata(dtype=np.float32), t1w.affine, "left", 0.3, mask)
