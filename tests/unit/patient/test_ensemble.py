"""A model answers as the tables of the chapter that trained it: temperatures, combination, sets of answers."""

import numpy as np
import pandas as pd
import pytest
from makers import hemisphere_fold, volume_cohort

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import calibration, conformal
from tle_utils.imaging import atlas, slices
from tle_utils.models import crossval, hemispheres, multitask, regional
from tle_utils.models.predictions import CLASSES
from tle_utils.patient import ensemble


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    """Both components trained on two folds, as notebook 06 does."""
    folder = tmp_path_factory.mktemp("folds")
    volumes, groups = volume_cohort(9)
    people = pd.DataFrame({"participant_id": [f"sub-{i:02d}" for i in range(27)], "group": groups})
    folds = crossval.make_folds(people, 2, seed=0)
    x = np.random.default_rng(0).normal(0.5, 0.1, (27, *slices.POOLED_SHAPE, 1)).astype(np.float32)
    x[groups == "left", 18:22, 7:11] -= 0.4
    x[groups == "right", 18:22, 20:24] -= 0.4
    options = multitask.MultitaskOptions(y_mm=(-24,), flip=True, standardise=True, members=2, max_epochs=2)
    net, _ = crossval.cross_validate(x, people, folds, options, folder=folder, seed=0, label="net")
    tables = {"multitask": net, "regional": regional.cross_validate_regions(volumes, people, folds, "regions")}
    return folder, volumes, groups, people, folds, x, tables


def test_files_answer_as_the_chapters_table(chapter, monkeypatch):
    monkeypatch.setattr(calibration, "LEAST_VALIDATION", 1)
    folder, volumes, groups, people, folds, x, tables = chapter
    kept = ensemble.trained_folds(folds, groups, tables, net_folder=folder, volumes=volumes)
    scaled = [calibration.recalibrated(table) for table in tables.values()]
    together = calibration.recalibrated(calibration.fused(scaled, "both"))
    assert all(1 not in fold.temperatures.values() for fold in kept)
    answer = ensemble.ask_model(ensemble.Ensemble(None, kept), x, volumes)
    assert answer.folds.shape == (2, 27, 3) and answer.members.shape == (4, 27, 3)
    for number, fold in enumerate(folds):
        rows = together[(together["fold"] == fold.fold) & (together["split"] == "test")].set_index("participant_id")
        expected = rows.loc[people["participant_id"].iloc[fold.test], [f"p_{name}" for name in CLASSES]]
        np.testing.assert_allclose(answer.folds[number, fold.test], expected, atol=1e-5)


def test_one_component_needs_no_second_temperature(chapter):
    _, volumes, groups, _, folds, _, tables = chapter
    kept = ensemble.trained_folds(folds, groups, {"regional": tables["regional"]}, volumes=volumes)
    assert [set(fold.temperatures) for fold in kept] == [{"regional", "joint"}] * 2
    assert all(fold.temperatures["joint"] == 1 for fold in kept)


def test_combination_is_the_geometric_mean():
    one, other = np.array([[0.5, 0.3, 0.2]]), np.array([[[0.2, 0.6, 0.2]], [[0.1, 0.1, 0.8]]])
    p = ensemble.combined({"regional": one, "multitask": other}, {"regional": 1, "multitask": 1, "joint": 1})
    expected = np.sqrt(one * other)
    np.testing.assert_allclose(p, expected / expected.sum(axis=-1, keepdims=True))
    sharper = ensemble.combined({"regional": one}, {"regional": 0.5, "joint": 1})
    np.testing.assert_allclose(sharper, one**2 / (one**2).sum())


def test_the_set_of_a_patient_is_that_of_chapter_7():
    p = np.random.default_rng(0).dirichlet([1, 1, 1], 50)
    found = [[name in ensemble.answer_set(row, 0.6) for name in CLASSES] for row in p]
    np.testing.assert_array_equal(found, conformal.not_ruled_out(p, 0.6))


def test_unknown_component_and_lost_fold_are_named(chapter, tmp_path):
    _, volumes, groups, _, folds, _, tables = chapter
    with pytest.raises(TLEError, match="component 'svm' is not known"):
        ensemble.trained_folds(folds, groups, {"svm": tables["regional"]}, volumes=volumes)
    with pytest.raises(TLEError, match="no trained fold here"):
        ensemble.trained_folds(folds, groups, tables, net_folder=tmp_path, volumes=volumes)


def test_the_hemisphere_network_answers_from_its_files(chapter, tmp_path):
    _, _, groups, people, folds, _, tables = chapter
    for fold in folds:
        np.savez(crossval.fold_path(tmp_path, fold), **hemisphere_fold())
    kept = ensemble.trained_folds(folds, groups, {"hemispheres": tables["regional"]}, net_folder=tmp_path)
    x = np.ones((1, 2, *hemispheres.anatomy()[1].shape[:2]), np.float32)
    table = atlas.regions()[1]
    place = table.loc[table["hemisphere"] == "left", "region"].tolist().index("hippocampus")
    x[0, 0] -= 0.3 * hemispheres.anatomy()[1][:, :, place]
    answer = ensemble.ask_model(ensemble.Ensemble(None, kept), x, None)
    assert answer.members.shape == (2, 1, 3) and answer.p[0, 1] > answer.p[0, 2]
