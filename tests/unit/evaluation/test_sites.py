"""Planted sites and batches mislead as they should, harmonisation is fitted in the fold, sites are left out whole."""

import numpy as np
import pandas as pd
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import published
from tle_utils.evaluation import sites as evaluation_sites
from tle_utils.evaluation.model_tests import results_table
from tle_utils.imaging import atlas, slices
from tle_utils.models import baselines, crossval
from tle_utils.phantom import maps
from tle_utils.phantom.volumes import Knobs

N = 60
PEOPLE = pd.DataFrame(
    {"participant_id": [f"sub-{i:03d}" for i in range(3 * N)], "group": np.tile(["control", "left", "right"], N)}
)
GROUPS = PEOPLE["group"].to_numpy(str)
REGIONS = ["hippocampus", "amygdala", "entorhinal", "precuneus"]
FOLDS = crossval.make_folds(PEOPLE, 3, seed=0)


def volumes(loss=0.25, seed=0):
    """Four regions a side; the hippocampus of the ill side is smaller."""
    rng = np.random.default_rng(seed)
    columns = pd.MultiIndex.from_product([REGIONS, ["left", "right"]], names=["region", "hemisphere"])
    shared = rng.standard_normal((len(PEOPLE), 4)).repeat(2, axis=1)
    table = pd.DataFrame(np.exp(0.08 * (0.85 * shared + 0.5 * rng.standard_normal((len(PEOPLE), 8)))), columns=columns)
    for side in ("left", "right"):
        table.loc[side == GROUPS, ("hippocampus", side)] *= 1 - loss
    return table


@pytest.fixture(scope="module")
def factors():
    found = evaluation_sites.site_factors(3, 0, 0.08)
    return found[[(region, side) for region in REGIONS for side in ("left", "right")]]


def test_balanced_sites_hold_every_class_evenly():
    sites = evaluation_sites.deal_sites(GROUPS, 3, seed=1)
    assert (pd.crosstab(GROUPS, sites) == N // 3).all(axis=None)
    assert (evaluation_sites.deal_sites(GROUPS, 3, seed=1) == sites).all() and (
        evaluation_sites.deal_sites(GROUPS, 3, seed=2) != sites
    ).any()
    with pytest.raises(TLEError, match="two or more"):
        evaluation_sites.deal_sites(GROUPS, 1, seed=0)


def test_confounded_sites_follow_the_class():
    table = pd.crosstab(GROUPS, evaluation_sites.deal_sites(GROUPS, 3, seed=1, confounded=0.8))
    assert (np.diag(table) > 0.7 * N).all() and (table.to_numpy() > 0).all()


def test_a_site_is_the_phantoms_field_averaged_over_regions():
    state = int(np.random.SeedSequence([4, 31, 1]).generate_state(1)[0])
    grey = atlas.tissue_priors()["GM"] * maps.batch_factor(state)
    inside = atlas.region_mask("hippocampus", "left")
    expected = grey[inside].sum() / atlas.tissue_priors()["GM"][inside].sum()
    found = evaluation_sites.site_factors(2, 4, maps.BATCH_SD)
    assert found.loc["site-2", ("hippocampus", "left")] == pytest.approx(expected, rel=1e-4)
    assert (evaluation_sites.site_factors(2, 4, 0.0) == 1).all(axis=None)


def test_planting_multiplies_each_persons_volumes_with_the_own_site(factors):
    table, sites = volumes(), evaluation_sites.deal_sites(GROUPS, 3, seed=0)
    planted = evaluation_sites.plant_sites(table, sites, factors)
    row = 7
    np.testing.assert_allclose(planted.iloc[row] / table.iloc[row], factors.loc[sites[row]])


def test_harmonisation_takes_sites_out_and_leaves_the_side(factors):
    table, sites = volumes(), evaluation_sites.deal_sites(GROUPS, 3, seed=0)
    planted = evaluation_sites.plant_sites(table, sites, factors)
    mended = evaluation_sites.harmonise(planted, sites, np.arange(len(table)))
    spread = [np.log(part).groupby(sites).mean().std().mean() for part in (planted, mended, table)]
    assert spread[1] < spread[0] / 4
    left = GROUPS == "left"
    ratio = mended["hippocampus", "left"] / mended["hippocampus", "right"]
    assert ratio[left].median() < 0.85 < 1.15 < ratio[GROUPS == "right"].median()


def test_nothing_of_the_test_rows_reaches_the_harmonisation(factors):
    sites, train = evaluation_sites.deal_sites(GROUPS, 3, seed=0), FOLDS[0].train
    planted = evaluation_sites.plant_sites(volumes(), sites, factors)
    changed = planted.copy()
    changed.iloc[FOLDS[0].test[1:]] *= 3
    keep = np.concatenate([train, FOLDS[0].test[:1]])
    one, other = (evaluation_sites.harmonise(part, sites, train).iloc[keep] for part in (planted, changed))
    pd.testing.assert_frame_equal(one, other)


def test_an_unseen_site_stays_as_it_is(factors):
    sites = evaluation_sites.deal_sites(GROUPS, 3, seed=0)
    table = evaluation_sites.plant_sites(volumes(), sites, factors)
    train = np.flatnonzero(sites != "site-3")
    mended = evaluation_sites.harmonise(table, sites, train)
    pd.testing.assert_frame_equal(mended[sites == "site-3"], table[sites == "site-3"])
    assert not np.allclose(mended[sites == "site-1"], table[sites == "site-1"])
    single = np.append(train, np.flatnonzero(sites == "site-3")[0])
    pd.testing.assert_frame_equal(evaluation_sites.harmonise(table, sites, single), mended)
    assert evaluation_sites.harmonise(table, ["a"] * len(table), train) is table


def test_confounded_sites_report_more_than_the_model_is_worth():
    columns = volumes().columns
    strong = pd.DataFrame(1.0, index=["site-1", "site-2", "site-3"], columns=columns)
    strong.loc["site-2", ("precuneus", "left")] = strong.loc["site-3", ("precuneus", "right")] = 0.7
    table, names = evaluation_sites.site_scenarios(volumes(0.05), PEOPLE, FOLDS, strong, seed=0)
    found = results_table(table).set_index("model")["lateralization_accuracy"]
    assert list(found.index) == names["model"].tolist() and len(names) == 9
    reported = found["confounded sites, as they are, own site"]
    worth = found["confounded sites, as they are, any site"]
    assert reported > found[evaluation_sites.NO_SITE_EFFECT] + 0.05 and worth < reported - 0.25
    assert abs(found["balanced sites, harmonised, own site"] - found[evaluation_sites.NO_SITE_EFFECT]) < 0.1


def test_a_left_lesion_is_called_left_with_and_without_harmonisation(factors):
    sites = evaluation_sites.deal_sites(GROUPS, 3, seed=0)
    planted = evaluation_sites.plant_sites(volumes(0.4), sites, factors)
    for harmonised in (False, True):
        table = evaluation_sites.predict_sites(planted, PEOPLE, FOLDS, sites, harmonised=harmonised, label="m")
        left = table[(table["group"] == "left") & (table["split"] == "test")]
        assert (left["predicted"] == "left").mean() > 0.8


def test_a_site_is_left_out_whole():
    sites = evaluation_sites.deal_sites(GROUPS, 3, seed=0)
    folds = evaluation_sites.site_folds(PEOPLE, sites)
    for fold in folds:
        assert len(set(sites[fold.test])) == 1 and not set(sites[fold.test]) & set(sites[fold.train])
        assert len(fold.test) + len(fold.train) == len(PEOPLE)
    baselines.majority(PEOPLE, folds)
    with pytest.raises(TLEError, match="one site only"):
        evaluation_sites.site_folds(PEOPLE, ["here"] * len(PEOPLE))
    with pytest.raises(TLEError, match="nobody is of class 'control'"):
        evaluation_sites.site_folds(PEOPLE, GROUPS)


def test_left_out_and_mixed_sites_train_on_as_many(factors):
    sites = evaluation_sites.deal_sites(GROUPS, 3, seed=0)
    table, names = evaluation_sites.sites_left_out(volumes(), PEOPLE, sites, "planted", seed=0)
    assert names["training"].nunique() == 3 and (table["split"] == "test").all()
    assert (table.groupby(["model", "fold"]).size() == N).all()


BATCHED = np.array(["control", "left", "right"] * 17)


def test_who_is_in_the_second_batch():
    assert not evaluation_sites.second_batch(BATCHED, "nobody").any()
    np.testing.assert_array_equal(evaluation_sites.second_batch(BATCHED, evaluation_sites.ALL_LEFT), BATCHED == "left")
    added = evaluation_sites.second_batch(BATCHED, evaluation_sites.ADDED)
    assert added[BATCHED == "right"].all() and not added[BATCHED == "control"].any()
    left = added[BATCHED == "left"]
    assert left.sum() == 7 and left[-7:].all()
    with pytest.raises(TLEError, match="choose one of nobody"):
        evaluation_sites.second_batch(BATCHED, "everybody")


def test_the_planted_batch_is_that_of_the_phantom():
    knobs = Knobs(seed=8)
    one = maps.draw("left", 0, knobs) | {"noise": None}
    second = one | {"row": one["row"] | {"batch": 1}}
    plain, batch = (maps.in_space(maps.render(drawn, knobs)) for drawn in (one, second))
    y_mm = (-30, -24)
    scaled = [part / part.max() for part in (slices.slices_of(volume, y_mm) for volume in (plain, batch))]
    planted = evaluation_sites.plant_batch(np.stack([scaled[0]] * 2), np.array([True, False]), y_mm, seed=8)
    np.testing.assert_allclose(planted[0], scaled[1], atol=1e-5)
    np.testing.assert_array_equal(planted[1], scaled[0])
    assert np.abs(planted[0] - planted[1]).max() > 0.05
    twice = evaluation_sites.plant_batch(np.stack([scaled[0]]), np.array([True]), y_mm, seed=8, strength=2)
    assert np.abs(twice[0] - scaled[0]).mean() > np.abs(planted[0] - planted[1]).mean()


def tables(left, left_to_right, control_to_left, n=100):
    columns = list(published.PAPER_COLUMNS)
    row = [control_to_left, n - control_to_left, 0, n - left - left_to_right, left, left_to_right, 0, n, 0]
    return pd.DataFrame([row], columns=columns)


def test_the_signature_counts_the_papers_tables():
    found = evaluation_sites.signature({"paper": published.published_table("figure_8")}).set_index("what")
    assert found["count"].to_dict() == {
        **{"left found": 99, "left called right": 57, "control called left": 0, "right called left": 0}
    }
    assert found.loc["left found", "n"] == 170 and found.loc["right called left", "n"] == 160
    assert 0 < found.loc["right called left", "ci_high"] < 0.03


def test_the_verdict_needs_both_halves_of_the_signature():
    paper = {"paper": published.published_table("figure_8")}
    ours = {
        "none": tables(60, 10, 9),
        "finds all": tables(100, 0, 0),
        "like it": tables(60, 30, 0),
        "blind": tables(0, 50, 0),
    }
    text = evaluation_sites.batch_verdict(evaluation_sites.signature(paper | ours), ["paper"])
    assert "0 of 330 others" in text["paper"] and "1.2%" in text["paper"]
    assert "appears in 1 of 3 planted batches (like it): it could come from one" in text["planted"]
    assert "1 of 173 patients" in text["people"] and "5 of 81 controls" in text["people"]
    assert "0 of 170 (Fisher's exact p = 0.003)" in text["people"]
    fewer = evaluation_sites.signature({name: table for name, table in (paper | ours).items() if name != "like it"})
    assert "0 of 2 planted batches: none of these" in evaluation_sites.batch_verdict(fewer, ["paper"])["planted"]
    assert "Without a batch: 9 of 200" in text["planted"]
