"""The upper bound stands in the tables as one more model: same people, same folds, and it knows the correct side."""

import numpy as np
import pandas as pd
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import model_tests
from tle_utils.models import ideal_observer, predictions
from tle_utils.phantom import volumes
from tle_utils.phantom.volumes import Knobs, draw_cohort


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results of notebook 01 as far as the ideal observer reads them, and the truth they hold."""
    folder = tmp_path_factory.mktemp("01_preprocessing")
    (folder / "maps").mkdir()
    truth = draw_cohort(20, 20, 20, Knobs(3, effect_scale=3.0, sclerosis_fraction=1.0))
    truth.assign(image="map.nii.gz").to_csv(folder / "maps" / "truth.tsv", sep="\t", index=False)
    return folder, truth


def folds_of(n, k=3):
    parts = np.array_split(np.random.default_rng(1).permutation(n), k)
    rest = [np.setdiff1d(np.arange(n), part) for part in parts]
    return [(0, number, r[4:], r[:4], part) for number, (r, part) in enumerate(zip(rest, parts, strict=True))]


def test_it_keeps_the_contract_and_says_what_the_observer_says(made):
    folder, truth = made
    people = truth[["participant_id", "group"]].sample(frac=1, random_state=0).reset_index(drop=True)
    table = predictions.validate_predictions(ideal_observer.ideal_predictions(folder, people, folds_of(60)))
    test = table[table["split"] == "test"].set_index("participant_id")
    known = volumes.ideal_observer(truth).set_index("participant_id")
    assert sorted(test.index) == sorted(known.index) and (table["split"] == "validation").sum() == 12
    columns = ["p_control", "p_left", "p_right"]
    np.testing.assert_allclose(test.loc[known.index, columns], known[columns], atol=1e-9)


def test_it_knows_left_from_right(made):
    folder, truth = made
    table = ideal_observer.ideal_predictions(folder, truth, folds_of(60))
    results = model_tests.results_table(table)
    assert results.loc[0, "model"] == "ideal observer (true latent volumes)"
    assert results.loc[0, "lateralization_accuracy"] > 0.9
    assert table.loc[table["group"] == "left", "p_left"].mean() > table.loc[table["group"] == "right", "p_left"].mean()


def test_two_classes_leave_the_third_out(made):
    folder, truth = made
    people = truth[truth["group"] != "right"].reset_index(drop=True)
    table = ideal_observer.ideal_predictions(folder, people, folds_of(40))
    assert predictions.classes_of(predictions.validate_predictions(table)) == ["control", "left"]


def test_a_cohort_without_truth_adds_no_row(made, tmp_path):
    folder, truth = made
    nothing = ideal_observer.ideal_predictions(tmp_path, truth, folds_of(60))
    assert nothing.empty
    some = ideal_observer.ideal_predictions(folder, truth, folds_of(60))
    pd.testing.assert_frame_equal(pd.concat([some, nothing], ignore_index=True), some)


def test_a_participant_without_truth_is_named(made):
    folder, truth = made
    people = truth[["participant_id", "group"]].replace("sub-0005", "sub-9999")
    with pytest.raises(TLEError, match="no participant 'sub-9999'"):
        ideal_observer.ideal_predictions(folder, people, folds_of(60))
