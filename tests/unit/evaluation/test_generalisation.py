"""Another cohort is tested untouched, keeps its left on the left, and is found where its notebook 01 has run."""

import numpy as np
import pandas as pd
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import generalisation
from tle_utils.evaluation.generalisation import Cohort
from tle_utils.models import multitask

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
    found = generalisation.predict_other_cohort(cohort(20, 0), cohort(8, 1), "there", options, folder=tmp_path, seed=0)
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
