"""Real patients: the right people, the right side, sclerosis the right way round, a clear line without the table."""

import numpy as np
import pandas as pd
import pytest
from project import ROOT, shared_data

from tle_utils.base.errors import TLEError
from tle_utils.cohorts import unam
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.evaluation import metrics, model_tests
from tle_utils.figures import numbers
from tle_utils.models import baselines, predictions


def cohort_in(folder):
    for name in ("data_manifest.yaml", "manifests"):
        (folder / name).symlink_to(ROOT / name)
    return load_manifest(folder / "data_manifest.yaml").cohort("unam")


def people(n=24):
    group = np.array(["control", "left", "right"])[np.arange(n) % 3]
    volumes = np.random.default_rng(0).normal(0.28, 0.01, (n, 2))
    volumes[group == "left", 0] -= 0.08
    volumes[group == "right", 1] -= 0.08
    table = pd.DataFrame(volumes, columns=["hippocampus_left", "hippocampus_right"])
    mts = pd.array([None if i == 1 else g != "control" for i, g in enumerate(group)], "boolean")
    return table.assign(participant_id=[f"sub-{i:02d}" for i in range(n)], group=group, mts=mts)


def test_without_the_table_the_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TLE_SHARED_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(TLEError, match="fetch unam --only table") as error:
        unam.load_patients(cohort_in(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.real
def test_the_table_is_taken_from_the_mirror_and_gives_the_known_people(tmp_path, monkeypatch):
    if not shared_data().is_dir():
        pytest.skip("TLE_SHARED_DATA is absent")
    monkeypatch.setenv("TLE_SHARED_DATA", str(shared_data()))
    table = unam.load_patients(cohort_in(tmp_path))
    assert len(table) == 74
    classes = unam.with_volumes(table, ("control", "left", "right"))
    assert classes["group"].value_counts().to_dict() == {"control": 34, "left": 17, "right": 11}
    assert set(classes.loc[classes["group"] == "control", "sclerosis"]) == {"without sclerosis"}
    counts = unam.who_is_analysed(table)
    assert counts.to_numpy().sum() == 74 and counts.loc[["left", "right"]].to_numpy().sum() == 31
    assert counts.loc[["left", "right"], ["analysed", "no hippocampal volumes"]].sum().tolist() == [28, 3]
    ill = classes[classes["sclerosis"] == "with sclerosis"]
    affected = np.where(ill["group"] == "left", ill["hippocampus_left"], ill["hippocampus_right"])
    other = np.where(ill["group"] == "left", ill["hippocampus_right"], ill["hippocampus_left"])
    assert np.median(affected / other) < 0.95
    answers = pd.crosstab([classes["group"], classes["sclerosis"]], baselines.autohs_answers(classes)).stack()
    assert answers["control", "without sclerosis", "control"] == 34  # healthy people: silent
    assert answers["left", "with sclerosis", "left"] + answers["right", "with sclerosis", "right"] == 10  # of 16
    assert answers["left", :, "right"].sum() + answers["right", :, "left"].sum() == 0
    said = baselines.leave_one_out(unam.with_volumes(table, ("left", "right")))
    volumes = metrics.model_metrics(said[said["model"] == "hippocampal volumes"], "left").set_index("metric")
    assert volumes.loc["accuracy", "n"] == 28
    assert volumes.loc["accuracy", "ci_low"] < 0.72 < volumes.loc["accuracy", "ci_high"]


def test_everyone_is_predicted_once_by_those_who_are_left():
    classes = unam.with_volumes(people(), ("control", "left", "right"))
    table = predictions.validate_predictions(baselines.leave_one_out(classes))
    assert table.groupby("model").size().to_dict() == dict.fromkeys(table["model"].unique(), 24)
    results = model_tests.results_table(table).set_index("model")
    assert results.loc["hippocampal volumes", "lateralization_accuracy"] > 0.9
    left = table[(table["model"] == "asymmetry index") & (table["group"] == "left")]
    assert (left["p_left"] > left["p_right"]).all()


def test_people_without_volumes_are_left_out_and_unknown_sclerosis_stays_unknown():
    table = people()
    table.loc[4, "hippocampus_left"] = np.nan
    kept = unam.with_volumes(table, ("left", "right"))
    assert len(kept) == 15 and "sub-04" not in set(kept["participant_id"])
    assert kept["sclerosis"].isna().sum() == 1
    by = model_tests.subgroups(baselines.leave_one_out(kept), kept, "sclerosis")
    assert set(by["subgroup"]) == {"with sclerosis", "not known"}
    assert len(numbers.volume_scatter(kept, "% of intracranial volume").data) == 3


def test_everybody_of_the_table_is_accounted_for_by_reason():
    table = people().assign(reason="")
    table.loc[4, "hippocampus_left"] = np.nan
    table.loc[[5, 7], ["group", "reason"]] = "exclude", "side unknown"
    found = unam.who_is_analysed(table)
    assert found.to_numpy().sum() == len(table)
    assert found.loc["none of the classes"].to_dict() == {
        **{"analysed": 0, "no hippocampal volumes": 0, "side unknown": 2}
    }
    kept = unam.with_volumes(table, ("control", "left", "right"))
    assert found["analysed"].drop("none of the classes").to_dict() == kept["group"].value_counts().to_dict()


def test_a_class_with_one_person_is_refused():
    with pytest.raises(TLEError, match="two participants each"):
        baselines.leave_one_out(unam.with_volumes(people(5), ("control", "right")))
