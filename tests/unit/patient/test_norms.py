"""Norms: sides, covariates that are not known, what is stored, and what a few controls allow."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import PERSON, average, norm_cohort
from scipy.special import ndtri

from tle_utils.base.errors import TLEError
from tle_utils.patient import norms


@pytest.fixture(scope="module")
def known():
    volumes, people = norm_cohort()
    return norms.fit_norms(volumes, people, ["control"] * len(people))


def test_small_left_hippocampus_is_small_on_the_left(known):
    table = norms.zscores(known, average(hippocampus_left=0.75), PERSON)
    z = norms.hippocampus_rows(table)["z"]
    assert z["left"] < -4 and abs(z["right"]) < 1 and z["asymmetry"] < -3
    assert norms.hippocampus_rows(table)["value"]["asymmetry"] == pytest.approx((0.75 - 1) / (0.75 + 1))
    mirrored = norms.hippocampus_rows(norms.zscores(known, average(hippocampus_right=0.75), PERSON))["z"]
    assert mirrored["right"] < -4 and mirrored["asymmetry"] > 3


def test_hippocampus_stands_first_then_the_greatest_deviation(known):
    table = norms.zscores(known, average(insula_left=0.5), PERSON)
    assert table["region"].unique().tolist() == ["hippocampus", "insula", "amygdala"]


def test_covariates_are_taken_out(known):
    (full,) = [one for one in known.regressions if set(one.covariates) == set(norms.COVARIATES)]
    slopes = np.array(list(full.coefficients.values()))[[0, 1, 3, 4, 6, 7]]
    np.testing.assert_allclose(slopes.mean(axis=0)[1:], [-0.02, 0.01, 0.6], atol=0.02)
    large = {"age": 40.0, "sex": "F", "head_size_ml": 1450 * np.e**0.2}
    grown = average() * np.exp(0.6 * 0.2)
    assert norms.zscores(known, grown, large)["z"].abs().max() < 1
    assert norms.zscores(known, grown, large | {"head_size_ml": None})["z"].max() > 1


def test_what_is_not_known_is_left_out_and_said(known):
    assert norms.choose_norm(known, {}).covariates == ()
    assert norms.choose_norm(known, {"age": 30.0}).covariates == ("age",)
    assert "not for sex, head size" in norms.describe_norm(known, {"age": 30.0})
    assert "extrapolated" in norms.describe_norm(known, PERSON | {"age": 80.0})
    assert "extrapolated" not in norms.describe_norm(known, PERSON)


@pytest.mark.parametrize("person", [dict.fromkeys(norms.COVARIATES), PERSON | {"age": 62.0}])
def test_band_holds_95_percent_of_new_healthy_people_however_few_the_controls(person):
    """Ten controls, three more with three covariates; each side of 3000 regions is a new draw of all of them."""
    known = tuple(name for name, value in person.items() if value)
    rng, n = np.random.default_rng(0), norms.LEAST + len(known)
    columns = pd.MultiIndex.from_product([[*range(2999), "hippocampus"], ["left", "right"]])
    columns.names = ["region", "hemisphere"]
    logs = pd.DataFrame(rng.normal(1, 0.1, (n + 1, len(columns))), columns=columns)
    few = norms.fit_norms(np.exp(logs[:n]), norm_cohort(n)[1], ["control"] * n)
    assert norms.choose_norm(few, person).covariates == known
    table = norms.zscores(few, np.exp(logs[n:]), person)
    table = table[table["measure"] != "asymmetry"]
    assert table["value"].between(table["low"], table["high"]).mean() == pytest.approx(0.95, abs=0.01)
    for share in (0.025, 0.1, 0.5, 0.9, 0.975):
        error = np.sqrt(share * (1 - share) / len(table))
        assert (table["z"] < ndtri(share)).mean() == pytest.approx(share, abs=3 * error)


def test_z_is_finite_for_what_no_control_comes_near(known):
    assert norms.hippocampus_rows(norms.zscores(known, average(hippocampus_left=1e-9), PERSON))["z"]["left"] > -38


def test_the_hippocampus_is_told_in_ml_beside_healthy_people_and_without_a_norm_alone(known):
    text = norms.hippocampus_text(norms.zscores(known, average(hippocampus_left=0.7), PERSON))
    assert (
        re.match(r"left 2\.\d\d ml \(95 % of healthy people [34]\.\d\d to 4\.\d\d, z = −\d", text) and "-" not in text
    )
    assert "healthy" not in norms.hippocampus_text(norms.zscores(norms.Norms(regressions=()), average(), PERSON))


def test_patients_do_not_move_the_norm(known):
    volumes, people = norm_cohort()
    ill = pd.concat([volumes, volumes * 0.1], ignore_index=True)
    groups = ["control"] * len(volumes) + ["left"] * len(volumes)
    assert norms.fit_norms(ill, pd.concat([people, people], ignore_index=True), groups) == known


def test_few_controls_give_volumes_without_z():
    volumes, people = norm_cohort(6)
    few = norms.fit_norms(volumes, people, ["control"] * 6)
    table = norms.zscores(few, average(), PERSON)
    assert table["z"].isna().all() and (table["value"] != 0).any() and norms.beyond(table) == (0, 0, 0)
    assert "fewer than 10 controls" in norms.describe_norm(few, PERSON)


def test_controls_of_one_sex_and_without_ages_give_the_norms_they_can():
    volumes, people = norm_cohort(30)
    one = norms.fit_norms(volumes, people.assign(sex="F", age=np.nan), ["control"] * 30)
    assert {found.covariates for found in one.regressions} == {(), ("head_size_ml",)}
    assert one.ages is None


def test_nothing_of_a_single_control_is_stored():
    """As many numbers for 30 controls as for 200, and no age of anyone."""
    small, large = (norms.fit_norms(*norm_cohort(n), ["control"] * n).model_dump_json() for n in (30, 200))
    assert small.count(",") == large.count(",")
    ages = norm_cohort(30)[1]["age"]
    assert not any(f"{age:.4f}" in small for age in ages)


@settings(max_examples=8, deadline=None)
@given(st.floats(0.2, 5))
def test_unit_of_the_volumes_does_not_matter(factor):
    volumes, people = norm_cohort(40)
    groups = ["control"] * 40
    one = norms.zscores(norms.fit_norms(volumes, people, groups), average(), PERSON)
    other = norms.zscores(norms.fit_norms(volumes * factor, people, groups), average() * factor, PERSON)
    np.testing.assert_allclose(one["z"], other["z"], atol=1e-3)


def test_sex_that_is_not_known_is_named(known):
    with pytest.raises(TLEError, match="sex is 'female': give F or M"):
        norms.choose_norm(known, PERSON | {"sex": "female"})


def test_model_of_other_regions_is_named(known):
    with pytest.raises(TLEError, match="insula"):
        norms.zscores(known, average().drop(columns="insula", level="region"), PERSON)


@pytest.mark.parametrize(("file", "column"), [("truth.tsv", "head_size_ml"), ("qc.tsv", "mask_ml")])
def test_head_size_comes_from_the_phantom_or_the_brain_mask(tmp_path, file, column):
    (tmp_path / "maps").mkdir()
    table = pd.DataFrame({"participant_id": ["0002", "0001"], column: [1300.0, 1500.0]})
    table.to_csv(tmp_path / "maps" / file, sep="\t", index=False)
    people = pd.DataFrame(
        {"participant_id": ["0001", "0002", "0003"], "age": [30.0, np.nan, 50.0], "sex": ["F", "M", None]}
    )
    found = norms.covariates(people, tmp_path)
    assert found["head_size_ml"].tolist()[:2] == [1500.0, 1300.0] and np.isnan(found["head_size_ml"][2])
    assert found["sex"].tolist() == ["F", "M", ""]
