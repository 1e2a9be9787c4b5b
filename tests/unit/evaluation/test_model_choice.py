"""The model is chosen without the test rows; the gap, the pairs and the calibration count what they should."""

import numpy as np
import pandas as pd
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import calibration, model_choice, model_tests
from tle_utils.evaluation.calibration import recalibrated
from tle_utils.models import crossval

CLASSES = np.array(["control", "left", "right"])
PEOPLE = pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(90)], "group": np.tile(CLASSES, 30)})
FOLDS = crossval.make_folds(PEOPLE, 5, seed=3)


def model(name, skill, seed=0, test_skill=None, sure=1.0, people=PEOPLE, folds=FOLDS):
    """Predictions on folds; how well the true class is told may differ between validation and test rows."""
    rng, out = np.random.default_rng(seed), []
    for fold in folds:
        for split, rows in (("test", fold.test), ("validation", fold.validation)):
            of = skill if split == "validation" or test_skill is None else test_skill
            groups = people["group"].to_numpy()[rows]
            score = sure * (rng.standard_normal((len(rows), 3)) + of * (groups[:, None] == CLASSES))
            p = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
            part = people.iloc[rows].assign(model=name, repeat=0, fold=fold.fold, split=split)
            part[["p_control", "p_left", "p_right"]] = p
            out.append(part.assign(predicted=CLASSES[p.argmax(axis=1)]))
    return pd.concat(out, ignore_index=True)


def test_the_folds_of_a_table_are_those_it_was_made_on():
    found = model_choice.folds_of(model("a", 1).sample(frac=1, random_state=0), PEOPLE)
    for one, other in zip(found, FOLDS, strict=True):
        assert one[:2] == other[:2]
        for a, b in zip(one[2:], other[2:], strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(TLEError, match="sub-089"):
        model_choice.folds_of(model("a", 1), PEOPLE[:-1])


def test_the_choice_looks_at_validation_rows_only():
    table = pd.concat([model("good", 2, test_skill=-3), model("poor", 0.3, seed=1, test_skill=6)])
    assert model_choice.choose_model(table) == "good"
    swapped = table.assign(predicted="left").where(table["split"] == "test", table)
    assert model_choice.choose_model(swapped) == "good"


def test_a_model_that_is_sure_and_wrong_loses_to_a_modest_one():
    ranking = model_choice.on_validation(pd.concat([model("sure", 1, sure=8), model("modest", 1)]))
    assert ranking["model"].tolist() == ["modest", "sure"] and ranking["side_loss"].iloc[1] > np.log(2)
    assert ranking["lateralization_accuracy"].nunique() == 1


def test_before_any_temperature_every_model_stands_once_under_its_own_name():
    net, twin, other = model("net", 1), model("net", 1, sure=3), model("other", 1)
    table = pd.concat([net, other, twin.assign(model=f"net{model_choice.AS_TRAINED}")], ignore_index=True)
    found = model_choice.as_trained(table)
    assert sorted(found["model"].unique()) == ["net", "other"] and len(found) == len(net) + len(other)
    assert found.loc[found["model"] == "net", "p_left"].tolist() == twin["p_left"].tolist()


def test_bounds_and_untrained_models_are_never_chosen():
    table = pd.concat([model("ideal", 5), model("majority", 4, seed=1), model("net", 0.5, seed=2)])
    twin = model(f"net{model_choice.AS_TRAINED}", 3, seed=3)
    assert model_choice.choose_model(pd.concat([table, twin]), never=["ideal"]) == "net"
    with pytest.raises(TLEError, match="no model to choose"):
        model_choice.choose_model(table[table["model"] == "majority"])


def label_blind(cohorts, n=160, models=10, folds=4):
    """Models that give everybody a random probability of the left side, the same in every fold, whatever the label.

    Every cohort has its own people, and stands as a repeat.
    """
    rng, cohort = np.random.default_rng(0), np.repeat(np.arange(cohorts), n)
    order = np.concatenate([rng.permutation(n) for _ in range(cohorts)])
    people = pd.DataFrame({"participant_id": [f"sub-{k}" for k in range(len(cohort))], "repeat": cohort})
    people["group"], fold = CLASSES[1:][order % 2], order // 2 % folds
    tested = people.assign(fold=fold, split="test")
    both = pd.concat([tested, people.assign(fold=(fold + 1) % folds, split="validation")], ignore_index=True)
    left = rng.uniform(0.3, 0.7, (models, len(people)))
    out = [both.assign(model=f"coin {k}", p_left=np.tile(p, 2), p_right=1 - np.tile(p, 2)) for k, p in enumerate(left)]
    table = pd.concat(out, ignore_index=True)
    return table.assign(predicted=np.where(table["p_left"] > 0.5, "left", "right"))


def test_label_blind_models_through_the_procedure_stay_at_chance_and_the_pooled_choice_does_not():
    """100 cohorts of 160 patients, so that the standard error of the mean is 0.4 points."""
    table = label_blind(100)
    taken = model_choice.take(table, model_choice.choose_within_folds(table))
    tested = taken[taken["split"] == "test"]
    assert tested["participant_id"].is_unique and len(tested) == 100 * 160
    assert (tested["group"] == tested["predicted"]).mean() == pytest.approx(0.5, abs=0.01)
    pooled = []
    for _, cohort in table[table["repeat"] < 20].groupby("repeat"):
        best = cohort[(cohort["model"] == model_choice.choose_model(cohort)) & (cohort["split"] == "test")]
        pooled.append((best["group"] == best["predicted"]).mean())
    assert np.mean(pooled) > 0.52, "who validates in one fold is tested in another"


def test_each_fold_takes_the_model_that_its_own_validation_patients_prefer():
    table = pd.concat([model("a", 2), model("b", 2, seed=1)])
    flipped = table["split"].eq("validation") & (table["model"].eq("a") == table["fold"].lt(2))
    table.loc[flipped, ["p_left", "p_right"]] = table.loc[flipped, ["p_right", "p_left"]].to_numpy()
    choices = model_choice.choose_within_folds(table)
    assert choices["model"].tolist() == ["b", "b", "a", "a", "a"] and (choices["side_loss"] < np.log(2)).all()
    taken = model_choice.take(table, choices, "best of two")
    assert set(taken["model"]) == {"best of two"} and len(taken) == len(table) / 2
    rows = taken[taken["fold"] == 1].set_index(["split", "participant_id"])["p_left"]
    own = table[(table["model"] == "b") & (table["fold"] == 1)].set_index(["split", "participant_id"])["p_left"]
    pd.testing.assert_series_equal(rows, own)


def test_no_test_label_reaches_the_choice_of_its_fold_and_ties_go_by_order():
    table = pd.concat([model("a", 1), model("b", 1, seed=1), model("c", 1).assign(model="twin of a")])
    choices = model_choice.choose_within_folds(table)
    tested = set(FOLDS[0].test)
    other = table["participant_id"].isin(PEOPLE["participant_id"].iloc[list(tested)])
    flipped = table.assign(group=table["group"].map({"left": "right", "right": "left"}).where(other, table["group"]))
    flipped["group"] = flipped["group"].fillna("control")
    again = model_choice.choose_within_folds(flipped)
    assert again.loc[0].to_dict() == choices.loc[0].to_dict() and not again.equals(choices)
    assert "twin of a" not in set(choices["model"]) and "a" in set(choices["model"])


def test_a_fold_without_common_validation_patients_is_named():
    gap = model("gap", 1, seed=1)
    gap = gap[(gap["split"] == "test") | (gap["fold"] != 3)]
    with pytest.raises(TLEError, match=r"fold 3: .*no validation patient in common"):
        model_choice.choose_within_folds(pd.concat([model("all", 1), gap]))


def test_models_are_ranked_on_the_validation_rows_they_share():
    fewer = model("fewer", 1, seed=1)
    fewer = fewer[(fewer["split"] == "test") | (fewer["fold"] == 0)]
    ranking = model_choice.on_validation(pd.concat([model("all", 1), fewer]))
    assert ranking["rows"].nunique() == 1 and ranking["rows"].iloc[0] == 2 * len(FOLDS[0].validation) // 3


def test_a_model_in_two_tables_is_taken_once():
    table = model_choice.gather([model("a", 1), pd.DataFrame(), pd.concat([model("a", 3, seed=5), model("b", 1)])])
    assert table["model"].unique().tolist() == ["a", "b"]
    pd.testing.assert_frame_equal(
        table[table["model"] == "a"].reset_index(drop=True), model_choice.gather([model("a", 1)]), check_like=True
    )


def known(name, n_right):
    """A model that is right for the first patients and wrong for the others."""
    table = model(name, 0)
    place = table["participant_id"].map(
        {who: i for i, who in enumerate(PEOPLE.query("group != 'control'")["participant_id"])}
    )
    right = place < n_right
    left = np.where(right, table["group"] == "left", table["group"] == "right")
    table["p_control"], table["p_left"], table["p_right"] = 0.1, np.where(left, 0.8, 0.1), np.where(left, 0.1, 0.8)
    return table.assign(predicted=np.where(left, "left", "right"))


def test_half_the_gap_is_half_the_gap():
    table = pd.concat([known("volumes", 30), known("net", 42), known("ideal", 54)])
    gap = model_tests.gap_closed(table, "net", "volumes", "ideal")
    assert gap["n"] == 60 and gap["closed"] == pytest.approx(0.5) and gap["gain"] == pytest.approx(0.2)
    assert gap["closed_low"] < 0.5 < gap["closed_high"] and gap["gain_low"] > 0 and not gap["reason"]
    assert gap == model_tests.gap_closed(table.sample(frac=1, random_state=1), "net", "volumes", "ideal")
    assert model_tests.gap_closed(table, "volumes", "volumes", "ideal")["closed"] == 0


def test_no_share_of_a_gap_that_may_be_nothing():
    close = pd.concat([known("volumes", 50), known("net", 51), known("ideal", 52)])
    found = model_tests.gap_closed(close, "net", "volumes", "ideal")
    assert (
        found["closed"] == pytest.approx(0.5) and np.isnan(found["closed_low"]) and "so few patients" in found["reason"]
    )
    found = model_tests.gap_closed(close, "net", "ideal", "volumes")
    assert np.isnan(found["closed"]) and "not above" in found["reason"]


def test_pairs_are_tested_once_each_and_adjusted_for_their_number():
    table = pd.concat([model("a", 0.0), model("b", 4.0, seed=1), model("c", 0.1, seed=2)])
    pairs = model_tests.pairwise(table)
    assert list(zip(pairs["model_a"], pairs["model_b"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs.loc[0, "difference"] < -0.2 and pairs.loc[0, "p_corrected"] < 0.05 < pairs.loc[1, "p_corrected"]
    assert (pairs["p_holm"] >= pairs["p_corrected"]).all() and (pairs["n"] == 60).all(), "patients alone"
    other = model("d", 1, seed=4)
    other["fold"] = (other["fold"] + 1) % 5
    with pytest.raises(TLEError, match="same fold"):
        model_tests.pairwise(pd.concat([table, other]))


def test_calibration_shows_what_a_temperature_mends_and_what_no_model_can():
    many = pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(600)], "group": np.tile(CLASSES, 200)})
    before = model("sure", 1, sure=6, people=many, folds=crossval.make_folds(many, 3, seed=3))
    found = calibration.calibration_table(before, recalibrated(before)).iloc[0]
    assert found["ece_after"] < found["ece_before"] / 2 and found["brier_after"] < found["brier_before"]
    assert 0.01 < found["ece_if_true"] < 0.06 and found["n"] == 600


def test_true_probabilities_show_the_error_that_is_promised():
    rng = np.random.default_rng(0)
    rows = model("true", 1)
    rows = rows[rows["split"] == "test"].reset_index(drop=True)
    shown = []
    for _ in range(6):
        p = rows[["p_control", "p_left", "p_right"]].to_numpy()
        draw = (rng.random(len(p))[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(max=2)
        shown.append(calibration.calibration_table(*2 * [rows.assign(group=CLASSES[draw])]).iloc[0])
    shown = pd.DataFrame(shown)
    assert shown["ece_after"].mean() == pytest.approx(shown["ece_if_true"].mean(), abs=0.03)
