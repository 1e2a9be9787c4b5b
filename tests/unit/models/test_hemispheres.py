"""The network of both hemispheres: swapped, its side changes sign; left is left; a seed gives the same bytes."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tle_utils.base import files
from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas, images
from tle_utils.models import crossval, hemispheres
from tle_utils.models.settings import HemisphereOptions

PEOPLE = pd.DataFrame({"participant_id": [f"sub-{n:02d}" for n in range(30)]})
PEOPLE["group"] = np.tile(["control", "left", "right"], 10)
GROUPS = PEOPLE["group"].to_numpy(object)
QUICK = HemisphereOptions(max_epochs=6, batch_size=8, learning_rate=0.1, l2=0.01)


def _hippocampus():
    """Blocks with a good part of the hippocampus in them (bool)."""
    table = atlas.regions()[1]
    names = table.loc[table["hemisphere"] == "left", "region"].tolist()
    return hemispheres.anatomy()[1][:, :, names.index("hippocampus")].mean(axis=1) > 0.3


@pytest.fixture(scope="module")
def cohort():
    x = np.random.default_rng(0).normal(1, 0.1, (30, 2, hemispheres.anatomy()[0].sum(), 8)).astype(np.float32)
    for number, side in enumerate(("left", "right")):
        x[np.ix_(side == GROUPS, [number], _hippocampus())] *= 0.7
    return x


@pytest.fixture(scope="module")
def trained(cohort):
    fold = crossval.make_folds(PEOPLE, 3, seed=0)[0]
    return fold, hemispheres.train_hemispheres(cohort, GROUPS, fold, QUICK, 0)


def test_swapped_hemispheres_change_the_sign_of_the_side_and_nothing_else(trained, cohort):
    """Whatever the weights: also those that no training would give."""
    _, stored = trained
    rng = np.random.default_rng(1)
    wild = {k: rng.normal(0, 1, v.shape).astype(np.float32) if k.startswith("w_") else v for k, v in stored.items()}
    z = rng.normal(0, 1, (5, *cohort.shape[1:])).astype(np.float32)
    for arrays in (stored, wild):
        network = hemispheres.load_network(arrays)
        heads, swapped = network(z), network(z[:, ::-1].copy())
        assert np.abs(heads["left"]).min() > 0
        np.testing.assert_array_equal(heads["left"], -np.asarray(swapped["left"]))
        np.testing.assert_array_equal(heads["patient"], swapped["patient"])


def test_swapped_labels_and_hemispheres_train_to_the_same_answers(trained, cohort):
    fold, stored = trained
    other = np.array([{"left": "right", "right": "left"}.get(name, name) for name in GROUPS], object)
    mirrored = hemispheres.train_hemispheres(cohort[:, ::-1], other, fold, QUICK, 0)
    np.testing.assert_allclose(mirrored["p_test"], stored["p_test"][:, [0, 2, 1]], atol=2e-3)


def test_a_left_loss_in_world_coordinates_is_called_left(trained, tmp_path):
    """Also where the array of the file runs from right to left."""
    _, stored = trained
    grey = atlas.tissue_priors()["GM"].copy()
    grey[atlas.region_mask("hippocampus", "left")] *= 0.5
    images.write_image(tmp_path / "map.nii.gz", grey, atlas.AFFINE)
    turned = nib.as_closest_canonical(nib.load(tmp_path / "map.nii.gz")).as_reoriented([[0, -1], [1, 1], [2, 1]])
    nib.save(turned, tmp_path / "turned.nii.gz")
    x = hemispheres.load_hemispheres([tmp_path / "map.nii.gz", tmp_path / "turned.nii.gz"])
    np.testing.assert_array_equal(x[0], x[1])
    np.testing.assert_allclose(x.mean(axis=(1, 2, 3)), 1, rtol=1e-5)
    left, right = x[0][:, _hippocampus()].sum(axis=(1, 2))
    assert left < 0.8 * right
    healthy = 0.5 * (x[0] + x[0, ::-1])
    p = hemispheres.predict_hemispheres(stored | {"mean": healthy.mean(axis=0)}, x)
    assert (p[:, 1] > p[:, 2]).all()


def test_a_fold_trained_again_and_read_from_its_file_gives_the_same_answers(trained, cohort, tmp_path):
    fold, stored = trained
    table, curves = crossval.cross_validate(cohort, PEOPLE, [fold], QUICK, folder=tmp_path, seed=0)
    assert len(curves) == QUICK.max_epochs and curves["best"].sum() == 1
    ill = table[(table["split"] == "test") & (table["group"] != "control")]
    assert (ill["predicted"] == ill["group"]).mean() > 0.8
    kept = files.read_arrays(crossval.fold_path(tmp_path, fold))
    assert all(np.array_equal(kept[name], stored[name]) for name in stored)
    np.testing.assert_array_equal(hemispheres.predict_hemispheres(kept, cohort[fold.test]), stored["p_test"])


def test_scale_comes_from_both_sides_of_the_training_controls(trained, cohort):
    fold, stored = trained
    controls = cohort[fold.train[GROUPS[fold.train] == "control"]]
    np.testing.assert_allclose(stored["mean"], controls.mean(axis=(0, 1)), rtol=1e-5)


def test_sums_over_voxels_are_the_volumes_of_the_atlas(tmp_path):
    grey = atlas.tissue_priors()["GM"] * np.random.default_rng(0).uniform(0.5, 1, atlas.SHAPE).astype(np.float32)
    images.write_image(tmp_path / "map.nii.gz", grey, atlas.AFFINE)
    x = hemispheres.load_hemispheres([tmp_path / "map.nii.gz"])[0]
    sums = np.einsum("hbv,bvr->rh", x, hemispheres.anatomy()[1])
    table = atlas.regions()[1]
    names = table.loc[table["hemisphere"] == "left", "region"]
    known = atlas.regional_volumes(grey).unstack().loc[names, ["left", "right"]].to_numpy()
    np.testing.assert_allclose(sums / sums.sum(), known / known.sum(), rtol=0.12)


def test_voxels_lie_where_they_are_in_the_world():
    x = np.zeros((2, hemispheres.anatomy()[0].sum(), 8), np.float32)
    x[0, _hippocampus()] = 1
    volume = hemispheres.on_grid(x)
    here = atlas.region_mask("hippocampus", "left", dilate_mm=6)
    assert volume.sum() == x.sum() * 27 and not volume[~here].any()
    np.testing.assert_array_equal(hemispheres.on_grid(x[::-1]), volume[::-1])


def test_bad_input_is_named(cohort, tmp_path):
    fold = crossval.make_folds(PEOPLE, 3, seed=0)[0]
    with pytest.raises(TLEError, match="no participant of class 'right'"):
        hemispheres.train_hemispheres(cohort, np.where(GROUPS == "right", "left", GROUPS), fold, QUICK, 0)
    images.write_image(tmp_path / "empty.nii.gz", np.zeros(atlas.SHAPE, np.float32), atlas.AFFINE)
    with pytest.raises(TLEError, match=r"empty\.nii\.gz: no grey matter"):
        hemispheres.load_hemispheres([tmp_path / "empty.nii.gz"])
