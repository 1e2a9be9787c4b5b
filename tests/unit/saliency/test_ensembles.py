"""Where the answer of an ensemble comes from: the lesion's own side."""

import numpy as np
import pandas as pd
import pytest
from makers import hemisphere_fold, lesion_cohort, quick

from tle_utils.imaging import atlas, slices
from tle_utils.models import crossval, hemispheres, multitask
from tle_utils.saliency import ensembles


@pytest.fixture(scope="module")
def trained():
    """Two folds of two networks that learned a loss at one place left or right of the midline."""
    x, people = lesion_cohort(12)
    groups = people["group"].to_numpy(object)
    options = quick(flip=True, standardise=True, mirror_difference=True, members=2, max_epochs=10)
    folds = crossval.make_folds(people, 2, seed=0)
    return [multitask.train_multitask(x, groups, fold, options, 0) for fold in folds], x, groups


@pytest.mark.parametrize(("side", "sign"), [("left", 1), ("right", -1)])
def test_loss_speaks_for_its_side_where_it_is(trained, side, sign):
    folds, x, groups = trained
    maps = ensembles.ensemble_maps(folds, x[groups == side][:1])
    assert set(maps) == {"patient", "left"} and maps["left"].shape == (160, 160)
    row, column = np.unravel_index(np.abs(maps["left"]).argmax(), (160, 160))
    assert np.sign(maps["left"][row, column]) == sign
    assert (column < 80) == (side == "left") and 80 < row < 120
    assert maps["patient"].sum() > 0


def test_one_network_explains_like_the_ensemble_of_its_copies(trained):
    folds, x, _ = trained
    found = [ensembles.ensemble_maps(part, x[:1])["left"] for part in (folds[:1], folds[:1] * 2)]
    np.testing.assert_allclose(*found, atol=1e-6 * np.abs(found[0]).max())


def test_a_small_hippocampus_speaks_for_its_side_in_both_hemispheres():
    x = np.ones((2, 2, *hemispheres.anatomy()[1].shape[:2]), np.float32)
    table = atlas.regions()[1]
    place = table.loc[table["hemisphere"] == "left", "region"].tolist().index("hippocampus")
    x[[0, 1], [0, 1]] -= 0.3 * hemispheres.anatomy()[1][:, :, place]
    left, right = (maps["left"] for maps in ensembles.hemisphere_maps([hemisphere_fold()], x))
    here, there = (atlas.region_mask("hippocampus", side) for side in ("left", "right"))
    assert left[here].mean() > 0 and left[here].sum() > 0.5 * np.abs(left).sum() / 2
    assert right[there].mean() < 0 and np.abs(left[there]).mean() < 0.05 * left[here].mean()
    np.testing.assert_allclose(right, -left[::-1], atol=0.05 * left.max())


def test_participants_are_explained_by_the_fold_that_never_saw_them_as_the_whole_map_says(tmp_path):
    """Two folds of opposite opinion: whoever the first one tests is called left, the others right."""
    x = np.ones((12, 2, *hemispheres.anatomy()[1].shape[:2]), np.float32)
    x += np.random.default_rng(0).normal(0, 0.05, x.shape).astype(np.float32)
    x[4] -= 0.3
    people = pd.DataFrame({"group": np.tile(["control", "left", "right"], 4)})
    halves = [crossval.Fold(0, number, None, None, np.arange(number, 12, 2)) for number in (0, 1)]
    for fold, said in zip(halves, ([0.1, 0.8, 0.1], [0.1, 0.1, 0.8]), strict=True):
        np.savez(crossval.fold_path(tmp_path, fold), **hemisphere_fold(), p_test=np.tile(said, (6, 1)))
    rows, images, volumes = ensembles.explain_hemispheres(x, people, halves, tmp_path, -24, 1)
    assert (rows["predicted"] == np.where(rows["position"] % 2, "right", "left")).all() and len(rows) == 6
    assert people["group"].iloc[rows["position"]].tolist() == ["control", "left", "right"] * 2
    for row in (0, 5):
        whole = ensembles.hemisphere_maps([hemisphere_fold()], x[[rows["position"][row]]])[0]["left"]
        whole = slices.slices_of(whole if rows["predicted"][row] == "left" else -whole, [-24])[..., 0]
        whole, own = (part / np.abs(part).max() for part in (whole, images["smoothgrad"][row]))
        np.testing.assert_allclose(own, whole, atol=1e-5)
    assert set(volumes) == {"left", "right"} and volumes["left"].get_fdata().max() == pytest.approx(1)
    assert images["deviation"].sum(axis=(1, 2)).argmax() == rows["position"].tolist().index(4)
