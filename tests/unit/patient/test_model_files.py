"""From the training chapter to files: temperatures, thresholds and the card are those of its tables."""

import numpy as np
import pandas as pd
import pytest
from makers import volume_cohort

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import calibration, conformal
from tle_utils.imaging import slices
from tle_utils.models import crossval, multitask, regional
from tle_utils.models.predictions import CLASSES
from tle_utils.patient import model_files, model_store


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
    net, _ = multitask.cross_validate_multitask(x, people, folds, options, folder=folder, seed=0, label="net")
    tables = {"multitask": net, "regional": regional.cross_validate_regions(volumes, people, folds, "regions")}
    return folder, volumes, groups, people, folds, x, tables


def test_files_answer_as_the_chapters_table(chapter):
    folder, volumes, groups, people, folds, x, tables = chapter
    kept = model_files.trained_folds(folds, groups, tables, net_folder=folder, volumes=volumes)
    scaled = [calibration.recalibrated(table) for table in tables.values()]
    together = calibration.recalibrated(calibration.fused(scaled, "both"))
    answer = model_store.ask_model(model_store.Ensemble(None, kept), x, volumes)
    assert answer.folds.shape == (2, 27, 3) and answer.members.shape == (4, 27, 3)
    for number, fold in enumerate(folds):
        rows = together[(together["fold"] == fold.fold) & (together["split"] == "test")].set_index("participant_id")
        expected = rows.loc[people["participant_id"].iloc[fold.test], [f"p_{name}" for name in CLASSES]]
        np.testing.assert_allclose(answer.folds[number, fold.test], expected, atol=1e-5)


def test_one_component_needs_no_second_temperature(chapter):
    _, volumes, groups, _, folds, _, tables = chapter
    kept = model_files.trained_folds(folds, groups, {"regional": tables["regional"]}, volumes=volumes)
    assert [set(fold.temperatures) for fold in kept] == [{"regional", "joint"}] * 2
    assert all(fold.temperatures["joint"] == 1 for fold in kept)


def test_threshold_covers_as_stated_and_is_mapies(chapter):
    table = chapter[-1]["regional"]
    rows = table[table["split"] == "test"]
    found = model_files.conformal_threshold(table, 0.8)
    columns = [f"p_{name}" for name in CLASSES]
    sets = [model_store.answer_set(p, found.threshold) for p in rows[columns].to_numpy()]
    covered = np.mean([true in inside for true, inside in zip(rows["group"], sets, strict=True)])
    assert found.n == 27 and covered >= 0.8
    expected = conformal.sets_of(rows[columns].to_numpy(), rows[columns].to_numpy(), rows["group"], CLASSES, 0.8)
    np.testing.assert_array_equal([[name in inside for name in CLASSES] for inside in sets], expected)
    assert model_files.conformal_threshold(table, 0.99).threshold == 1.0


def test_kind_of_the_maps_is_read_from_their_names():
    name = "sub-01_space-MNI152NLin2009aSym_desc-{}_label-GM_probseg.nii.gz"
    for kind, expected in (("modulated", (True, 0)), ("unmodulated", (False, 0)), ("modulatedsmooth2p5", (True, 2.5))):
        found = model_files.map_options([f"/a-desc-x/{name.format(kind)}"] * 2)
        assert (found.modulate, found.fwhm_mm) == expected
    with pytest.raises(TLEError, match="maps of several kinds"):
        model_files.map_options([name.format("modulated"), name.format("unmodulated")])


def test_unknown_component_and_lost_fold_are_named(chapter, tmp_path):
    _, volumes, groups, _, folds, _, tables = chapter
    with pytest.raises(TLEError, match="component 'svm' is not known"):
        model_files.trained_folds(folds, groups, {"svm": tables["regional"]}, volumes=volumes)
    with pytest.raises(TLEError, match="no trained fold here"):
        model_files.trained_folds(folds, groups, tables, net_folder=tmp_path, volumes=volumes)
