"""The card: what the chapter writes into it is what its tables say."""

import numpy as np
import pytest
from makers import card, random_table

from tle_utils.base.errors import TLEError
from tle_utils.patient import ensemble, model_card


def test_sets_of_the_training_participants_cover_as_stated():
    table = random_table(0, n=90)
    found = model_card.conformal_thresholds(table)
    assert [one.coverage for one in found] == list(model_card.COVERAGES) and all(one.n == 90 for one in found)
    p = table[["p_control", "p_left", "p_right"]].to_numpy()
    for one in found:
        sets = [ensemble.answer_set(row, one.threshold) for row in p]
        covered = np.mean([true in inside for true, inside in zip(table["group"], sets, strict=True)])
        assert one.coverage <= covered < one.coverage + 0.05


def test_a_participant_counts_once_however_often_the_cohort_was_split():
    table = random_table(0, n=60)
    again = table.assign(repeat=1, fold=lambda rows: (rows["fold"] + 1) % 3)
    both = table.merge(again, how="outer")
    assert model_card.conformal_thresholds(both) == model_card.conformal_thresholds(table)


def test_coverage_that_the_card_has_not_is_named():
    assert model_card.conformal_of(card(), 0.9).threshold == 0.7
    with pytest.raises(TLEError, match=r"coverage = 0.5: model '' has thresholds for 0.9"):
        model_card.conformal_of(card(), 0.5)


def test_kind_of_the_maps_is_read_from_their_names():
    name = "sub-01_space-MNI152NLin2009aSym_desc-{}_label-GM_probseg.nii.gz"
    for kind, expected in (("modulated", (True, 0)), ("unmodulated", (False, 0)), ("modulatedsmooth2p5", (True, 2.5))):
        found = model_card.map_options([f"/a-desc-x/{name.format(kind)}"] * 2)
        assert (found.modulate, found.fwhm_mm) == expected
    with pytest.raises(TLEError, match="maps of several kinds"):
        model_card.map_options([name.format("modulated"), name.format("unmodulated")])
