"""The phantom matches what is published: many latent volumes show the published effects and the known upper bound."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas
from tle_utils.phantom import maps, measured
from tle_utils.phantom import volumes as phantom_volumes
from tle_utils.phantom.volumes import Knobs

NAMES = phantom_volumes.model_regions()[0]["name"]


def cohort(seed, n, **knobs):
    return phantom_volumes.draw_cohort(n, n, n, Knobs(seed, **knobs))


@pytest.fixture(scope="module")
def large():
    return cohort(7, 1500)


def test_every_region_with_a_published_effect_is_in_the_atlas():
    effects = phantom_volumes.published_effects()
    assert len(effects) == 2 * len(NAMES)
    assert set(effects["hemisphere"] + "_" + effects["region"]) == set(NAMES)
    assert effects["d"].between(effects["low"], effects["high"]).all()
    worst = effects.loc[effects.groupby("patients")["d"].idxmin()]
    assert (worst["region"] == "hippocampus").all() and (worst["hemisphere"] == worst["patients"]).all()


def test_effects_are_within_the_published_intervals(large):
    table = measured.measured_effects(large)
    assert len(table) == 164
    assert table["paired_inside"].all()
    assert table["inside"].mean() > 0.95


def test_a_drawn_cohort_is_the_people_of_the_maps():
    knobs = Knobs(5, sclerosis_fraction=0.6)
    truth = phantom_volumes.draw_cohort(80, 80, 60, knobs)
    drawn = maps.draw("right", 2, knobs)
    row = truth.set_index("participant_id").loc["sub-0009"]
    np.testing.assert_array_equal(row["latent_" + NAMES].astype(float), drawn["latent"])
    assert {name: row[name] for name in drawn["row"]} == drawn["row"]
    assert truth["group"].value_counts().to_dict() == {"control": 80, "left": 80, "right": 60}
    with pytest.raises(TLEError, match="all 0"):
        phantom_volumes.draw_cohort(0, 0, 0, knobs)


def test_effects_are_held_against_what_the_cohort_was_given():
    double = phantom_volumes.draw_cohort(60, 60, 60, Knobs(5, effect_scale=2.0, sclerosis_fraction=1.0))
    table = measured.measured_effects(double)
    single = measured.measured_effects(double.assign(effect_scale=1.0))
    np.testing.assert_allclose(table["published_d"], 2 * single["published_d"])
    assert table["paired_inside"].mean() > 0.97 > single["paired_inside"].mean()
    with pytest.raises(TLEError, match="too few participants"):
        measured.measured_effects(phantom_volumes.draw_cohort(5, 9, 9, Knobs(5)))


def test_natural_variation_is_plausible(large):
    table = measured.natural_variation(large)
    hippocampus = table.loc["hippocampus"]
    assert hippocampus["cv"] == pytest.approx(0.12, abs=0.008)
    assert hippocampus["left_right_correlation"] == pytest.approx(0.83, abs=0.02)
    assert (table["age_percent_per_decade"] < 0).all()
    assert table["head_exponent"].between(0.3, 1).all()


def test_severity_differs_between_patients_and_not_between_regions():
    truth = phantom_volumes.draw_cohort(0, 400, 0, Knobs(4, sclerosis_fraction=1.0))
    share = (
        truth["effect_left_hippocampus"]
        / phantom_volumes._disease("left", True, 1.0)[list(NAMES).index("left_hippocampus")]
    )
    assert share.mean() == pytest.approx(1, abs=0.08) and share.std() == pytest.approx(
        phantom_volumes.SEVERITY_SD, abs=0.06
    )
    np.testing.assert_allclose(np.corrcoef(share, truth["effect_left_thalamusproper"])[0, 1], -1)


def test_hippocampal_volumes_lateralize_as_published_and_stay_below_the_upper_bound(large):
    patients = large[large["group"] != "control"]
    volumes = patients[["volume_left_hippocampus", "volume_right_hippocampus"]]
    model = make_pipeline(StandardScaler(), LogisticRegression())
    accuracy = cross_val_score(model, volumes, patients["group"], cv=10).mean()
    assert accuracy == pytest.approx(0.717, abs=0.03)
    ideal = phantom_volumes.ideal_observer(patients)
    assert (ideal["predicted"] == ideal["group"]).mean() > accuracy + 0.03


def test_ideal_observer_gives_probabilities_that_are_calibrated(large):
    ideal = phantom_volumes.ideal_observer(large)
    chance = ideal[["p_control", "p_left", "p_right"]].to_numpy()
    np.testing.assert_allclose(chance.sum(axis=1), 1)
    correct = ideal["predicted"] == ideal["group"]
    assert correct.mean() == pytest.approx(chance.max(axis=1).mean(), abs=0.02)
    assert (phantom_volumes.ideal_observer(large[large["group"] != "right"])["p_right"] == 0).all()


def test_without_effect_the_ideal_observer_knows_nothing():
    nothing = phantom_volumes.ideal_observer(cohort(2, 30, effect_scale=0.0))
    np.testing.assert_allclose(nothing[["p_control", "p_left", "p_right"]], 1 / 3)


def test_left_and_right_disease_mirror_the_regions():
    table, near = phantom_volumes.model_regions()
    half = len(table) // 2
    assert table["region"][:half].tolist() == table["region"][half:].tolist()
    assert set(table["hemisphere"][:half]) == {"left"}
    np.testing.assert_allclose(table["volume"][:half], table["volume"][half:], rtol=1e-5)
    assert near.shape == (half, half) and half == atlas.regions()[1]["region"].nunique()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="latent_left_hippocampus"), "latent_left_hippocampus"),
        (lambda t: t[t["true_group"] != "control"], "controls|too few"),
    ],
)
def test_tables_that_cannot_be_measured_are_refused(large, change, words):
    with pytest.raises(TLEError, match=words):
        measured.measured_effects(change(large))
    with pytest.raises(TLEError, match=words):
        measured.natural_variation(change(large))
