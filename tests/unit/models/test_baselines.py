import numpy as np
import pandas as pd
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import calibration, metrics, model_tests
from tle_utils.models import baselines, predictions


def cohort(n=90, seed=0):
    rng = np.random.default_rng(seed)
    group = np.array(["control", "left", "right"])[np.arange(n) % 3]
    common = rng.normal(3.5, 0.25, n)
    left, right = (common + rng.normal(0, 0.12, n) - 0.8 * (group == side) for side in ("left", "right"))
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{i:03d}" for i in range(n)],
            "group": group,
            "hippocampus_left": left,
            "hippocampus_right": right,
        }
    )


def folds_of(n, k=3, validation=6):
    parts = np.array_split(np.random.default_rng(1).permutation(n), k)
    rest = [np.setdiff1d(np.arange(n), part) for part in parts]
    return [(r[validation:], r[:validation], part) for r, part in zip(rest, parts, strict=True)]


def images(people, seed=2):
    x = np.random.default_rng(seed).normal(0.5, 0.1, (len(people), 16, 16, 1)).astype(np.float32)
    x[:, :4] = 0
    x[:, 8:11, 3:6, 0] += 0.3 * people["hippocampus_left"].to_numpy(np.float32)[:, None, None]
    x[:, 8:11, 10:13, 0] += 0.3 * people["hippocampus_right"].to_numpy(np.float32)[:, None, None]
    return x


@pytest.fixture(scope="module")
def all_predictions():
    people = cohort()
    return baselines.comparators(images(people), people, folds_of(len(people)))


def test_every_comparator_keeps_the_contract(all_predictions):
    checked = predictions.validate_predictions(all_predictions)
    assert checked["model"].nunique() == 6
    test = checked[checked["split"] == "test"]
    assert test.groupby("model")["participant_id"].nunique().eq(90).all()
    assert (checked["split"] == "validation").sum() == 6 * 3 * 6


def test_comparators_find_what_is_there_and_shuffled_labels_do_not(all_predictions):
    results = model_tests.results_table(all_predictions).set_index("model")
    assert "constant probabilities in 3 of 3 folds" in results.loc["majority", "flags"]
    found = results["lateralization_accuracy"]
    assert found[["hippocampal volumes", "asymmetry index", "voxel SVM"]].min() > 0.9
    assert found["shuffled labels"] < 0.8


def test_svm_probabilities_are_calibrated_not_extreme(all_predictions):
    svm = all_predictions.query("model == 'voxel SVM'")
    assert calibration.brier(svm) < calibration.brier(all_predictions.query("model == 'majority'"))


def test_left_is_the_smaller_left_hippocampus():
    people = cohort()
    people["hippocampus_left"], people["hippocampus_right"] = people["hippocampus_right"], people["hippocampus_left"]
    people["group"] = people["group"].map({"left": "right", "right": "left", "control": "control"})
    before, after = (baselines.asymmetry(p, folds_of(90)).query("split == 'test'") for p in (cohort(), people))
    np.testing.assert_allclose(before["p_left"], after["p_right"], atol=1e-6)


def test_test_participants_do_not_touch_the_fit():
    people, folds = cohort(), folds_of(90)
    x = images(people)
    train, validation, test = folds[0]
    other, other_x = people.copy(), x.copy()
    other.loc[test[1:], "group"] = np.roll(other.loc[test[1:], "group"], 1)
    other.loc[test[1:], baselines.VOLUMES] *= 3
    other_x[test[1:]] += 1
    for make in (
        lambda p, image: baselines.majority(p, folds[:1]),
        lambda p, image: baselines.hippocampal_volumes(p, folds[:1]),
        lambda p, image: baselines.asymmetry(p, folds[:1]),
        lambda p, image: baselines.autohs(p, folds[:1]),
        lambda p, image: baselines.voxel_svm(image, p, folds[:1]),
        lambda p, image: baselines.voxel_svm(image, p, folds[:1], shuffled=True),
    ):
        one, two = (make(*data).set_index("participant_id") for data in ((people, x), (other, other_x)))
        kept = people["participant_id"][[test[0], *validation]]
        columns = ["p_control", "p_left", "p_right"]
        np.testing.assert_allclose(one.loc[kept, columns], two.loc[kept, columns], atol=1e-5)


def test_same_seed_same_predictions():
    people, folds = cohort(), folds_of(90)
    x = images(people)
    pd.testing.assert_frame_equal(*(baselines.voxel_svm(x, people, folds[:1], shuffled=True) for _ in range(2)))
    one, two = (baselines.voxel_svm(x, people, folds, seed, shuffled=True)["p_left"] for seed in (0, 1))
    assert not np.allclose(one, two)


def test_two_class_tasks_and_leave_one_out():
    for pair in (["control", "left"], ["left", "right"]):
        people = cohort(36)
        people = people[people["group"].isin(pair)].reset_index(drop=True)
        n = len(people)
        alone = [(np.delete(np.arange(n), i), np.array([], int), np.array([i])) for i in range(n)]
        for table in (baselines.hippocampal_volumes(people, alone), baselines.asymmetry(people, alone)):
            checked = predictions.validate_predictions(table)
            assert predictions.classes_of(checked) == pair
            assert (checked["group"] == checked["predicted"]).mean() > 0.8
        svm = baselines.voxel_svm(images(people), people, folds_of(n, validation=0))
        assert predictions.classes_of(predictions.validate_predictions(svm)) == pair


def test_folds_with_repeat_and_number_are_kept():
    people = cohort()
    folds = [(repeat, number, *fold) for repeat in range(2) for number, fold in enumerate(folds_of(90))]
    table = predictions.validate_predictions(baselines.majority(people, folds))
    assert table.groupby(["repeat", "fold"]).ngroups == 6


def test_the_untrained_rule_answers_by_its_published_thresholds_alone():
    volumes = pd.DataFrame({"hippocampus_left": [1.047, 1.0468, 0.9291, 0.9293], "hippocampus_right": 0.0})
    volumes["hippocampus_right"] = 2 - volumes["hippocampus_left"]
    people = volumes.assign(participant_id=list("abcd"))
    assert list(baselines.autohs_answers(people)) == ["right", "control", "left", "control"]
    assert list(baselines.autohs_answers(people.assign(**volumes * 700))) == ["right", "control", "left", "control"]


def test_the_rule_keeps_its_answer_whatever_the_training_part_says():
    people = cohort()
    people["group"] = np.random.default_rng(3).permutation(people["group"])
    table = baselines.autohs(people, folds_of(90))
    said = dict(zip(people["participant_id"], baselines.autohs_answers(people), strict=True))
    assert (table["predicted"] == table["participant_id"].map(said)).all()
    silent = table["predicted"] == "control"
    assert 0 < silent.mean() < 1
    np.testing.assert_array_equal(table.loc[silent, "p_left"], table.loc[silent, "p_right"])
    hit, among = metrics.hits(table, "lateralization_accuracy")
    assert set(hit[among & silent]) == {0.5} and set(hit[among & ~silent]) == {0, 1}


def test_an_answer_of_the_rule_is_worth_what_it_is_worth_in_training():
    people, folds = cohort(), folds_of(90)
    table, said = baselines.autohs(people, folds[:1]), baselines.autohs_answers(people)
    train, groups = folds[0][0], people["group"].to_numpy()
    named = train[said[train] != "control"]
    worth = (np.sum(said[named] == groups[named]) + 1) / (len(named) + 2)
    left = table[table["predicted"] == "left"]
    np.testing.assert_allclose(left[["p_left", "p_right"]], [[worth, (1 - worth) / 2]] * len(left))


def test_where_the_rule_may_not_name_a_side():
    people = cohort()
    pair = people[people["group"] != "right"].reset_index(drop=True)
    table = baselines.autohs(pair, folds_of(len(pair)))
    assert predictions.classes_of(predictions.validate_predictions(table)) == ["control", "left"]
    patients = people[people["group"] != "control"].reset_index(drop=True)
    with pytest.raises(TLEError, match="no controls"):
        baselines.autohs(patients, folds_of(len(patients)))
    models = baselines.leave_one_out(patients.iloc[:8])["model"]
    assert baselines.AUTOHS not in set(models) and "asymmetry index" in set(models)


def test_bad_input_is_named():
    people, folds = cohort(), folds_of(90)
    people.loc[[4, 9], "hippocampus_left"] = np.nan
    with pytest.raises(TLEError, match="missing or not positive for sub-004, sub-009"):
        baselines.hippocampal_volumes(people, folds)
    with pytest.raises(TLEError, match="no column 'hippocampus_left'"):
        baselines.asymmetry(people.drop(columns="hippocampus_left"), folds)
    x = images(cohort())
    x[3, 0, 0, 0] = np.nan
    with pytest.raises(TLEError, match="NaN or infinite values for sub-003"):
        baselines.voxel_svm(x, people, folds)
    with pytest.raises(TLEError, match="89 images for 90 participants"):
        baselines.voxel_svm(x[:-1], people, folds)
    with pytest.raises(TLEError, match="same image for every participant"):
        baselines.voxel_svm(np.ones_like(x), people, folds)
    leaking = [(folds[0][0], folds[0][1], np.append(folds[0][2], folds[0][0][0]))]
    with pytest.raises(TLEError, match="is in training and in test"):
        baselines.majority(people, leaking)
    with pytest.raises(TLEError, match="training part of fold 0 has one class only"):
        baselines.majority(people, [(np.arange(0, 30, 3), np.array([], int), np.arange(30, 90))])
