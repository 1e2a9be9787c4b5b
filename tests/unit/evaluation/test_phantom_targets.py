"""The page on the phantom would notice a phantom that is off."""

import numpy as np
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import phantom_targets
from tle_utils.phantom.volumes import Knobs, draw_cohort, real_volumes

KNOBS = Knobs(5, sclerosis_fraction=0.6)


@pytest.fixture(scope="module")
def cohort():
    return draw_cohort(80, 80, 60, KNOBS)


def test_the_matched_phantom_meets_what_can_be_met_at_any_size(cohort):
    found = phantom_targets.measure(cohort, n_splits=5)
    assert found["inside"] == 1
    assert found["ideal_side"] > found["volumes_side"] > 0.6
    assert found["ideal_class"] > found["volumes_class"] > 0.4
    assert found["volumes_sclerotic"] > found["volumes_side"]


def test_a_phantom_that_is_off_does_not_meet_its_targets():
    knobs = Knobs(5, sclerosis_fraction=1.0)
    measured = phantom_targets.measure_cohorts((60, 60, 60), knobs, 2, n_splits=5)
    targets = phantom_targets.against_targets(measured)
    assert list(measured.index) == [5, 6]
    assert not targets.loc["hippocampal-volume regression, left or right", "met"]
    assert targets.loc["hippocampus, age (% per decade)", "met"]
    assert targets["met"].isna().sum() == 3


def test_controls_are_as_large_as_the_real_people_they_were_measured_on():
    found = phantom_targets.against_real(draw_cohort(400, 1, 1, KNOBS))
    assert len(found) == 41 and found["sampling"].iloc[0] == pytest.approx((1.5 / real_volumes()["n"].iloc[0]) ** 0.5)
    np.testing.assert_allclose(found["phantom_mean"], found["real_mean"], rtol=0.06)
    assert 2.8 < found.loc["hippocampus", "phantom_mean"] < 4.6


def test_the_distance_is_that_of_normal_distributions():
    truth = draw_cohort(400, 1, 1, KNOBS)
    doubled = truth.copy()
    volumes = [name for name in truth if name.startswith("volume_")]
    doubled[volumes] *= 2
    one, two = (phantom_targets.against_real(table).loc["hippocampus"] for table in (truth, doubled))
    away = np.hypot(2 * one["phantom_mean"] - one["real_mean"], 2 * one["phantom_sd"] - one["real_sd"])
    assert two["distance"] == pytest.approx(away / one["real_sd"])
    assert two["distance"] > 10 * two["sampling"] > 0


def test_the_disease_shows_on_its_side_only():
    found = phantom_targets.example_slices(KNOBS, -24)
    assert found["control"][1] is None
    for group, own in (("left", slice(0, 80)), ("right", slice(81, 160))):
        loss = np.clip(-found[group][1], 0, None)
        hippocampal_rows = loss[90:130]
        assert hippocampal_rows[:, own].sum() > 2 * (hippocampal_rows.sum() - hippocampal_rows[:, own].sum())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: phantom_targets.measure(draw_cohort(20, 20, 12, KNOBS), 15), "n_splits = 15"),
        (lambda: phantom_targets.example_slices(Knobs(0, sclerosis_fraction=0.0), -24), "sclerosis_fraction"),
    ],
)
def test_what_cannot_be_measured_is_said(call, words):
    with pytest.raises(TLEError, match=words):
        call()
