"""The multi-task network and its options: sides, masks, folds, cache, members."""

import numpy as np
import pandas as pd
import pytest
from makers import lesion_cohort, quick

from tle_utils.base import files
from tle_utils.base.errors import TLEError
from tle_utils.imaging import slices
from tle_utils.models import crossval, multitask, networks, predictions


@pytest.fixture(scope="module")
def trained():
    x, people = lesion_cohort()
    fold = crossval.make_folds(people, 3, seed=0)[0]
    options = quick(flip=True, standardise=True, mirror_difference=True)
    groups = people["group"].to_numpy(object)
    return x, groups, fold, options, multitask.train_multitask(x, groups, fold, options, 0)


def test_a_left_loss_is_called_left(trained):
    x, groups, fold, _, stored = trained
    ill = groups[fold.test] != "control"
    p = stored["p_test"][ill]
    assert ((p[:, 1] > p[:, 2]) == (groups[fold.test][ill] == "left")).mean() > 0.9


def test_stored_fold_answers_as_it_did_when_trained(trained, tmp_path):
    x, _, fold, _, stored = trained
    np.savez(tmp_path / "fold.npz", **stored)
    p = multitask.predict_multitask(files.read_arrays(tmp_path / "fold.npz"), x[fold.test])
    assert p.shape == (1, len(fold.test), 3)
    np.testing.assert_allclose(p.mean(axis=0), stored["p_test"], atol=1e-6)
    np.testing.assert_allclose(p.sum(axis=-1), 1, atol=1e-6)


def test_scale_comes_from_training_controls_alone(trained):
    x, groups, fold, options, stored = trained
    controls = fold.train[groups[fold.train] == "control"]
    np.testing.assert_allclose(stored["m00_v00_mean"], x[controls].mean(axis=0), rtol=1e-5)


def test_mirror_image_gives_the_other_side(trained):
    """Trained with mirror images, the mirror image of the z-scores swaps left and right, nearly."""
    x, groups, fold, _, stored = trained
    rows = fold.test[groups[fold.test] != "control"]
    mirrored = (x[rows] - stored["m00_v00_mean"])[:, :, ::-1] + stored["m00_v00_mean"]
    p, q = (multitask.predict_multitask(stored, part)[0] for part in (x[rows], mirrored.astype(np.float32)))
    assert ((p[:, 1] > p[:, 2]) == (q[:, 2] > q[:, 1])).mean() > 0.9


def test_a_single_control_is_no_scale():
    x, people = lesion_cohort(n=9)
    groups, train = people["group"].to_numpy(object), np.array([0, 9, 10, 18, 19])
    _, deviation = multitask._scale(x, groups, train, quick(standardise=True))
    np.testing.assert_allclose(deviation, slices.voxel_scale(x[train])[1])
    assert deviation.min() > 0


def test_controls_do_not_teach_the_side():
    labels, weights = multitask.targets(np.array(["control", "left", "right"], object))
    np.testing.assert_array_equal(weights["left"], [0, 1, 1])
    np.testing.assert_array_equal(labels["left"], [0, 1, 0])
    np.testing.assert_array_equal(labels["patient"], [0, 1, 1])


def test_the_whole_ensemble_answers_for_people_whom_no_member_learned_from(tmp_path):
    x, people = lesion_cohort(n=9, channels=2)
    folds = crossval.make_folds(people, 3, seed=0)[:1]
    options = quick(y_mm=(-27, -24), members=2, voting=True, max_epochs=2)
    table, curves = crossval.cross_validate(x, people, folds, options, folder=tmp_path, seed=0)
    held = table[table["split"] == "validation"]
    assert held["participant_id"].tolist() == people["participant_id"].iloc[folds[0].validation].tolist()
    stored = files.read_arrays(crossval.fold_path(tmp_path, folds[0]))
    assert stored["vote"].shape == (2, 2)
    np.testing.assert_allclose(stored["vote"].sum(axis=1), 1)
    assert curves["best"].sum() == 1 and curves.loc[curves["best"], "epoch"].item() == stored["best_epoch"]
    members = multitask.predict_multitask(stored, x[folds[0].validation])
    assert members.shape == (2, len(held), 3) and not np.allclose(*members)
    np.testing.assert_allclose(held[["p_control", "p_left", "p_right"]], predictions.geometric_mean(members), atol=1e-6)
    again, _ = crossval.cross_validate(x, people, folds, options, folder=tmp_path, seed=0)
    pd.testing.assert_frame_equal(table, again)


def test_two_stages_leave_the_patient_head_alone_in_the_second():
    x, people = lesion_cohort(n=9)
    fold, groups = crossval.make_folds(people, 3, seed=0)[0], people["group"].to_numpy(object)
    one = multitask.train_multitask(x, groups, fold, quick(stages=2, max_epochs=3), 0)
    relabelled = groups.copy()
    relabelled[fold.train] = np.where(
        groups[fold.train] == "left", "right", np.where(groups[fold.train] == "right", "left", "control")
    )
    other = multitask.train_multitask(x, relabelled, fold, quick(stages=2, max_epochs=3), 0)
    np.testing.assert_allclose(one["p_test"][:, 0], other["p_test"][:, 0], atol=1e-6)
    assert not np.allclose(one["p_test"][:, 1], other["p_test"][:, 1])


def test_a_fold_does_not_depend_on_what_this_process_trained_before():
    x, people = lesion_cohort(n=9)
    folds, groups = crossval.make_folds(people, 3, seed=0), people["group"].to_numpy(object)
    options = quick(max_epochs=2, stages=2, members=2, dropout=0.3, noise=0.5)
    networks._compiled.cache_clear()
    first, _, again = (multitask.train_multitask(x, groups, folds[k], options, 0) for k in (0, 1, 0))
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_bad_input_is_named():
    x, people = lesion_cohort(n=9)
    fold, groups = crossval.make_folds(people, 3, seed=0)[0], people["group"].to_numpy(object)
    with pytest.raises(TLEError, match="y_mm names 2 slices, the input has 1"):
        multitask.train_multitask(x, groups, fold, quick(y_mm=(-27, -24)), 0)
    with pytest.raises(TLEError, match="no participant of class 'right'"):
        multitask.train_multitask(x, np.where(groups == "right", "left", groups), fold, quick(), 0)
