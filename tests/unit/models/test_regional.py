"""The model of all regions: sides, natural asymmetry, no leak."""

import numpy as np
import pandas as pd
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas, regions
from tle_utils.imaging.images import write_image
from tle_utils.models import regional
from tle_utils.models.crossval import make_folds

REGIONS = ["hippocampus", "amygdala", "insula"]


def _cohort(n=40, loss=0.25, seed=0):
    """Volumes with a natural asymmetry (left larger) and a loss of the hippocampus on the side of the epilepsy."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(["control", "left", "right"], n)
    columns = pd.MultiIndex.from_product([REGIONS, ["left", "right"]], names=["region", "hemisphere"])
    volumes = pd.DataFrame(4 * np.exp(rng.normal(0, 0.05, (3 * n, 6))), columns=columns)
    volumes[("hippocampus", "left")] *= 1.1
    for side in ("left", "right"):
        volumes.loc[groups == side, ("hippocampus", side)] *= 1 - loss
    people = pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(3 * n)], "group": groups})
    return volumes, people


def test_a_left_loss_is_called_left_in_spite_of_natural_asymmetry():
    volumes, people = _cohort()
    table = regional.cross_validate_regions(volumes, people, make_folds(people, 4, seed=0))
    test = table[table["split"] == "test"]
    assert (test["predicted"] == test["group"]).mean() > 0.9


def test_mirrored_patients_swap_left_and_right():
    volumes, people = _cohort()
    groups = people["group"].to_numpy(str)
    stored = regional.train_regions(volumes, groups, np.arange(len(groups)))
    stored |= {name: np.zeros_like(value) for name, value in stored.items() if name == "asymmetry_centre"}
    swapped = volumes.rename(columns={"left": "right", "right": "left"}, level="hemisphere")
    p, mirrored = regional.predict_regions(stored, volumes), regional.predict_regions(stored, swapped)
    assert stored["share"][1] == stored["share"][2]
    np.testing.assert_allclose(p[:, [0, 2, 1]], mirrored, atol=1e-9)


def test_nothing_is_learned_from_other_rows():
    volumes, people = _cohort()
    groups, train = people["group"].to_numpy(str), np.arange(0, 120, 2)
    kept = regional.train_regions(volumes, groups, train)
    volumes.iloc[1::2] *= 7
    changed = regional.train_regions(volumes, groups, train)
    for name, value in kept.items():
        np.testing.assert_array_equal(value, changed[name])


def test_volumes_come_from_world_coordinates(tmp_path):
    """A map stored with its x axis reversed has the same left volumes."""
    values = np.zeros(atlas.SHAPE, np.float32)
    values[:] = 0.2
    values[atlas.region_mask("hippocampus", "left")] = 0.9
    reversed_affine = atlas.AFFINE @ np.array(
        [[-1, 0, 0, atlas.SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    write_image(tmp_path / "ras.nii.gz", values, atlas.AFFINE)
    write_image(tmp_path / "las.nii.gz", values[::-1], reversed_affine)
    table = regions.read_regional_volumes([tmp_path / "ras.nii.gz", tmp_path / "las.nii.gz"])
    np.testing.assert_allclose(table.iloc[0], table.iloc[1])
    assert table[("hippocampus", "left")][0] > 3 * table[("hippocampus", "right")][0]


def test_empty_region_and_missing_class_are_named(tmp_path):
    write_image(tmp_path / "empty.nii.gz", np.zeros(atlas.SHAPE, np.float32), atlas.AFFINE)
    with pytest.raises(TLEError, match="empty.nii.gz: no grey matter in region"):
        regions.read_regional_volumes([tmp_path / "empty.nii.gz"])
    volumes, people = _cohort()
    groups = people["group"].to_numpy(str)
    with pytest.raises(TLEError, match="class 'right'"):
        regional.train_regions(volumes, groups, np.flatnonzero(groups != "right"))
