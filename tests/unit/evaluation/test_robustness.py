"""Thinned cohorts and wrong labels change what is learned from and never what is tested."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import robustness
from tle_utils.evaluation.generalisation import Cohort
from tle_utils.models import crossval, multitask

N = 40
PEOPLE = pd.DataFrame(
    {"participant_id": [f"sub-{i:03d}" for i in range(3 * N)], "group": np.tile(["control", "left", "right"], N)}
)
GROUPS = PEOPLE["group"].to_numpy(str)
FOLDS = crossval.make_folds(PEOPLE, 4, seed=0)


def cohort(loss=0.3):
    """The hippocampus of the ill side is smaller, in the volumes and in two squares of the slices."""
    rng = np.random.default_rng(0)
    columns = pd.MultiIndex.from_product(
        [["hippocampus", "amygdala", "insula"], ["left", "right"]], names=["region", "hemisphere"]
    )
    volumes = pd.DataFrame(np.exp(0.1 * rng.standard_normal((len(PEOPLE), 6))), columns=columns)
    x = rng.uniform(0.4, 0.6, (len(PEOPLE), 32, 31, 1)).astype(np.float32)
    for side, column in (("left", 8), ("right", 22)):
        volumes.loc[side == GROUPS, ("hippocampus", side)] *= 1 - loss
        x[side == GROUPS, 18:22, column - 2 : column + 3] *= 1 - loss
    people = PEOPLE.assign(**{f"hippocampus_{side}": volumes["hippocampus", side] for side in ("left", "right")})
    return Cohort(people, volumes, x)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3 * N), st.integers(1, 3 * N), st.integers(0, 99))
def test_smaller_cohorts_are_parts_of_greater_ones_and_test_everybody(one, other, seed):
    small, large = (robustness.thin(FOLDS, GROUPS, size, seed) for size in sorted((one, other)))
    for few, many, whole in zip(small, large, FOLDS, strict=True):
        np.testing.assert_array_equal(few.test, whole.test)
        assert set(few.train) <= set(many.train) <= set(whole.train)
        assert set(few.validation) <= set(many.validation) <= set(whole.validation)
        assert set(GROUPS[few.train]) == set(GROUPS)


def test_a_thinned_fold_has_the_share_of_the_cohort():
    half = robustness.thin(FOLDS, GROUPS, len(GROUPS) // 2, seed=0)[0]
    assert len(half.train) == pytest.approx(len(FOLDS[0].train) / 2, abs=2)
    whole = robustness.thin(FOLDS, GROUPS, len(GROUPS), seed=0)[0]
    np.testing.assert_array_equal(whole.train, FOLDS[0].train)
    with pytest.raises(TLEError, match="size = 121"):
        robustness.thin(FOLDS, GROUPS, 121, seed=0)


def test_wrong_labels_are_as_many_as_said_and_stay_wrong():
    groups = np.repeat(["control", "left", "right"], 1000)
    few, many = (robustness.wrong_labels(groups, rate, seed=1) for rate in (0.1, 0.3))
    assert np.mean(many != groups) == pytest.approx(0.3, abs=0.03)
    assert (many[few != groups] == few[few != groups]).all()
    wrong = pd.crosstab(groups, many).to_numpy()
    assert wrong[~np.eye(3, dtype=bool)] == pytest.approx(150, abs=45)
    assert (robustness.wrong_labels(groups, 0.0, seed=1) == groups).all()
    with pytest.raises(TLEError, match="0 to 1"):
        robustness.wrong_labels(groups, 1.5, seed=0)


def test_models_hear_wrong_labels_and_are_judged_by_true_ones():
    swapped = np.where(GROUPS == "left", "right", np.where(GROUPS == "right", "left", GROUPS))
    found = robustness.predict_curve_point(cohort(), FOLDS, None, folder="unused", seed=0, labels=swapped)
    assert (found["group"] == found["participant_id"].map(PEOPLE.set_index("participant_id")["group"])).all()
    assert robustness.summarise_curve(found)["value"].max() < 0.3


def test_a_left_lesion_is_told_and_more_noise_is_worse(tmp_path):
    table = robustness.noise_curve(cohort(), FOLDS, [0.6, 1.0], None, folder=tmp_path, seed=0)
    regional = table[table["model"] == "regional volumes"].set_index("rate")
    assert regional.loc[0.0, "value"] > 0.85 and regional.loc[1.0, "value"] < 0.5 and regional.loc[0.0, "wrong"] == 0
    assert (table["n"] == 2 * N).all()
    assert "with 100% wrong" in robustness.ends_text(table, "rate", "with {:.0%} wrong")


def test_the_net_takes_part_on_its_folds_and_finds_the_left_lesion(tmp_path):
    options = multitask.MultitaskOptions(mirror_difference=True, flip=True, max_epochs=6, batch_size=8)
    table = robustness.learning_curve(
        cohort(), FOLDS, [60, 500], options, folder=tmp_path, seed=0, net_folds=1
    ).set_index(["model", "size"])
    assert sorted(set(table.index.get_level_values("size"))) == [60, 120]
    assert table.loc[("multi-task net", 120), "folds"] == 1 and table.loc[("regional volumes", 60), "folds"] == 4
    assert table.loc[("multi-task net", 120), "value"] > 0.8
    assert table.loc[("regional volumes", 60), "n_train"] < table.loc[("regional volumes", 120), "n_train"]
    assert len(list(tmp_path.glob("size-*/*.npz"))) == 2
