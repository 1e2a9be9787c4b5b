"""Another cohort is tested untouched and keeps its left on the left; smaller cohorts and wrong labels change what is
learned from and never what is tested.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import curves, generalisation
from tle_utils.evaluation.generalisation import Cohort
from tle_utils.models import crossval, multitask

COLUMNS = pd.MultiIndex.from_product(
    [["hippocampus", "amygdala", "insula"], ["left", "right"]], names=["region", "hemisphere"]
)


def cohort(n, seed, unit=1.0):
    """Left and right patients lack hippocampal volume on their side, in the volumes and in the slices."""
    rng, groups = np.random.default_rng(seed), np.tile(["control", "left", "right"], n)
    volumes = pd.DataFrame(np.exp(0.08 * rng.standard_normal((3 * n, 6))), columns=COLUMNS)
    x = rng.uniform(0.4, 0.6, (3 * n, 32, 31, 1)).astype(np.float32)
    for side, column in (("left", 8), ("right", 22)):
        volumes.loc[groups == side, ("hippocampus", side)] *= 0.65
        x[groups == side, 18:22, column - 2 : column + 3] *= 0.6
    people = pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(3 * n)], "group": groups})
    return Cohort(people.assign(hippocampus_left=unit, hippocampus_right=unit), volumes, x)


def test_the_other_cohort_is_the_test_part_and_nothing_else():
    own, other = cohort(12, 0), cohort(5, 1, unit=0.001)
    both, fold = generalisation.joined(own, other, "there")
    assert len(both.participants) == len(both.x) == 51 and both.participants["participant_id"].is_unique
    np.testing.assert_array_equal(fold.test, np.arange(36, 51))
    assert max(fold.train) < 36 and len(fold.train) + len(fold.validation) == 36
    assert (both.participants["group"].iloc[fold.validation].value_counts() == 2).all()
    np.testing.assert_array_equal(both.participants["hippocampus_left"], both.volumes["hippocampus", "left"])
    shuffled = other._replace(volumes=other.volumes[other.volumes.columns[::-1]])
    pd.testing.assert_frame_equal(generalisation.joined(own, shuffled, "there")[0].volumes, both.volumes)
    with pytest.raises(TLEError, match="needs two"):
        generalisation.joined(own._replace(participants=own.participants.assign(group="left")), other, "there")


def test_a_left_lesion_is_left_in_the_other_cohort_too(tmp_path):
    options = multitask.MultitaskOptions(mirror_difference=True, flip=True, max_epochs=6, batch_size=8)
    found = generalisation.predict_other_cohort(
        cohort(20, 0), cohort(8, 1), "there", generalisation.NetTraining(options, tmp_path)
    )
    assert tuple(found["model"].unique()) == generalisation.MODELS
    tests = found[found["split"] == "test"]
    assert tests["participant_id"].str.startswith("there/").all() and len(tests) == 3 * 24
    left = tests[tests["group"] == "left"].groupby("model")
    assert (left["p_left"].mean() > left["p_right"].mean() + 0.3).all()
    assert not found.loc[found["split"] == "validation", "participant_id"].str.contains("/").any()


def test_regions_of_notebook_06_are_taken_by_participant(tmp_path, monkeypatch):
    people = cohort(2, 0).participants
    monkeypatch.setattr(generalisation.cohorts_participants, "load_participants", lambda *_: people.assign(map="none"))
    monkeypatch.setattr(generalisation.multitask, "load_inputs", lambda paths, y_mm: np.zeros(len(paths)))
    table = pd.DataFrame({"participant_id": people["participant_id"], "hippocampus_left": np.arange(6.0)})
    table.assign(hippocampus_right=9.0)[::-1].to_csv(tmp_path / "regions.tsv", sep="\t", index=False)
    found = generalisation.read_cohort(tmp_path, [-24], tmp_path / "regions.tsv")
    assert found.volumes["hippocampus", "left"].tolist() == [0, 1, 2, 3, 4, 5]
    table[1:].to_csv(tmp_path / "regions.tsv", sep="\t", index=False)
    with pytest.raises(TLEError, match="sub-000.*06_multitask_model"):
        generalisation.read_cohort(tmp_path, [-24], tmp_path / "regions.tsv")


def test_the_other_cohort_is_found_or_how_to_get_it_is_said(tmp_path, monkeypatch):
    (tmp_path / "data_manifest.yaml").touch()
    monkeypatch.chdir(tmp_path)
    folders, note = generalisation.other_cohorts("demo", "phantom")
    assert not folders and "run --profile demo --cohort planted" in note
    with pytest.raises(TLEError, match="--profile demo --cohort unam"):
        generalisation.other_cohorts("demo", "phantom", "unam")
    with pytest.raises(TLEError, match="the cohort of this run"):
        generalisation.other_cohorts("demo", "unam", "unam")
    made = tmp_path / "runs" / "demo-planted" / "01_preprocessing"
    made.mkdir(parents=True)
    (made / "participants.tsv").touch()
    assert generalisation.other_cohorts("demo", "phantom") == ({"planted": made}, "")
    assert generalisation.other_cohorts("demo", "planted") == ({}, "")


def test_the_second_phantom_has_the_knobs_of_the_first_and_other_people(tmp_path, monkeypatch):
    asked = {}

    def make(folder, **more):
        asked.update(more, folder=folder)
        return pd.DataFrame({"participant_id": ["sub-1"], "group": ["left"], "image": [str(folder / "a.nii.gz")]})

    monkeypatch.setattr(generalisation.maps, "make_phantom", make)
    truth = pd.DataFrame({"effect_scale": [2.0], "sclerosis_fraction": [0.3]})
    folder = generalisation.second_phantom(tmp_path, truth, n=4, seed=0, site_effect=0.08)
    assert asked["effect_scale"] == 2 and asked["sclerosis_fraction"] == 0.3 and asked["n_left"] == 4
    assert asked["seed"] != 0 and asked["site_effect"] == 0.08
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    assert table.loc[0, "map"] == "maps/a.nii.gz"


N = 40
PEOPLE = pd.DataFrame(
    {"participant_id": [f"sub-{i:03d}" for i in range(3 * N)], "group": np.tile(["control", "left", "right"], N)}
)
GROUPS = PEOPLE["group"].to_numpy(str)
FOLDS = crossval.make_folds(PEOPLE, 4, seed=0)
NO_NET = generalisation.NetTraining(None, "unused")


def lesion(loss=0.3):
    """The hippocampus of the ill side is smaller, in the volumes and in two squares of the slices."""
    rng = np.random.default_rng(0)
    volumes = pd.DataFrame(np.exp(0.1 * rng.standard_normal((len(PEOPLE), 6))), columns=COLUMNS)
    x = rng.uniform(0.4, 0.6, (len(PEOPLE), 32, 31, 1)).astype(np.float32)
    for side, column in (("left", 8), ("right", 22)):
        volumes.loc[side == GROUPS, ("hippocampus", side)] *= 1 - loss
        x[side == GROUPS, 18:22, column - 2 : column + 3] *= 1 - loss
    people = PEOPLE.assign(**{f"hippocampus_{side}": volumes["hippocampus", side] for side in ("left", "right")})
    return Cohort(people, volumes, x)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3 * N), st.integers(1, 3 * N), st.integers(0, 99))
def test_smaller_cohorts_are_parts_of_greater_ones_and_test_everybody(one, other, seed):
    small, large = (curves.thin(FOLDS, GROUPS, size, seed) for size in sorted((one, other)))
    for few, many, whole in zip(small, large, FOLDS, strict=True):
        np.testing.assert_array_equal(few.test, whole.test)
        assert set(few.train) <= set(many.train) <= set(whole.train)
        assert set(few.validation) <= set(many.validation) <= set(whole.validation)
        assert set(GROUPS[few.train]) == set(GROUPS)


def test_a_thinned_fold_has_the_share_of_the_lesion():
    half = curves.thin(FOLDS, GROUPS, len(GROUPS) // 2, seed=0)[0]
    assert len(half.train) == pytest.approx(len(FOLDS[0].train) / 2, abs=2)
    whole = curves.thin(FOLDS, GROUPS, len(GROUPS), seed=0)[0]
    np.testing.assert_array_equal(whole.train, FOLDS[0].train)
    with pytest.raises(TLEError, match="size = 121"):
        curves.thin(FOLDS, GROUPS, 121, seed=0)


def test_wrong_labels_are_as_many_as_said_and_stay_wrong():
    groups = np.repeat(["control", "left", "right"], 1000)
    few, many = (curves.wrong_labels(groups, rate, seed=1) for rate in (0.1, 0.3))
    assert np.mean(many != groups) == pytest.approx(0.3, abs=0.03)
    assert (many[few != groups] == few[few != groups]).all()
    wrong = pd.crosstab(groups, many).to_numpy()
    assert wrong[~np.eye(3, dtype=bool)] == pytest.approx(150, abs=45)
    assert (curves.wrong_labels(groups, 0.0, seed=1) == groups).all()
    with pytest.raises(TLEError, match="0 to 1"):
        curves.wrong_labels(groups, 1.5, seed=0)


def test_models_hear_wrong_labels_and_are_judged_by_true_ones():
    swapped = np.where(GROUPS == "left", "right", np.where(GROUPS == "right", "left", GROUPS))
    found = generalisation.predict_cohort(lesion(), FOLDS, NO_NET, swapped)
    assert (found["group"] == found["participant_id"].map(PEOPLE.set_index("participant_id")["group"])).all()
    assert curves.curve_point(lesion(), FOLDS, NO_NET, swapped)["value"].max() < 0.3


def test_a_left_lesion_is_told_and_more_noise_is_worse():
    table = curves.noise_curve(lesion(), FOLDS, [0.6, 1.0], NO_NET)
    regional = table[table["model"] == "regional volumes"].set_index("rate")
    assert regional.loc[0.0, "value"] > 0.85 and regional.loc[1.0, "value"] < 0.5 and regional.loc[0.0, "wrong"] == 0
    assert (table["n"] == 2 * N).all()


def test_the_net_takes_part_on_its_folds_and_finds_the_left_lesion(tmp_path):
    options = multitask.MultitaskOptions(mirror_difference=True, flip=True, max_epochs=6, batch_size=8)
    net = generalisation.NetTraining(options, tmp_path, folds=1)
    table = curves.learning_curve(lesion(), FOLDS, [60, 500], net).set_index(["model", "size"])
    assert sorted(set(table.index.get_level_values("size"))) == [60, 120]
    assert table.loc[("multi-task net", 120), "folds"] == 1 and table.loc[("regional volumes", 60), "folds"] == 4
    assert table.loc[("multi-task net", 120), "value"] > 0.8
    assert table.loc[("regional volumes", 60), "n_train"] < table.loc[("regional volumes", 120), "n_train"]
    assert len(list(tmp_path.glob("size-*/*.npz"))) == 2
