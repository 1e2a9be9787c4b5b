"""A planted batch touches whom it should and how the phantom does it; the signature counts what the tables hold."""

import numpy as np
import pandas as pd
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import batches, published
from tle_utils.figures import comparison
from tle_utils.figures import tables as figures_tables
from tle_utils.imaging import slices
from tle_utils.phantom import maps
from tle_utils.phantom.volumes import Knobs

GROUPS = np.array(["control", "left", "right"] * 17)


def test_who_is_in_the_second_batch():
    assert not batches.members(GROUPS, "nobody").any()
    np.testing.assert_array_equal(batches.members(GROUPS, batches.ALL_LEFT), GROUPS == "left")
    added = batches.members(GROUPS, batches.ADDED)
    assert added[GROUPS == "right"].all() and not added[GROUPS == "control"].any()
    left = added[GROUPS == "left"]
    assert left.sum() == 7 and left[-7:].all()
    with pytest.raises(TLEError, match="choose one of nobody"):
        batches.members(GROUPS, "everybody")


def test_the_planted_batch_is_that_of_the_phantom():
    knobs = Knobs(seed=8)
    one = maps.draw("left", 0, knobs) | {"noise": None}
    second = one | {"row": one["row"] | {"batch": 1}}
    plain, batch = (maps.in_space(maps.render(drawn, knobs)) for drawn in (one, second))
    y_mm = (-30, -24)
    scaled = [part / part.max() for part in (slices.slices_of(volume, y_mm) for volume in (plain, batch))]
    planted = batches.plant_batch(np.stack([scaled[0]] * 2), np.array([True, False]), y_mm, seed=8)
    np.testing.assert_allclose(planted[0], scaled[1], atol=1e-5)
    np.testing.assert_array_equal(planted[1], scaled[0])
    assert np.abs(planted[0] - planted[1]).max() > 0.05
    twice = batches.plant_batch(np.stack([scaled[0]]), np.array([True]), y_mm, seed=8, strength=2)
    assert np.abs(twice[0] - scaled[0]).mean() > np.abs(planted[0] - planted[1]).mean()


def tables(left, left_to_right, control_to_left, n=100):
    columns = list(published.PAPER_COLUMNS)
    row = [control_to_left, n - control_to_left, 0, n - left - left_to_right, left, left_to_right, 0, n, 0]
    return pd.DataFrame([row], columns=columns)


def test_the_signature_counts_the_papers_tables():
    found = batches.signature({"paper": published.published_table("figure_8")}).set_index("what")
    assert found["count"].to_dict() == {
        **{"left found": 99, "left called right": 57, "control called left": 0, "right called left": 0}
    }
    assert found.loc["left found", "n"] == 170 and found.loc["right called left", "n"] == 160
    assert 0 < found.loc["right called left", "ci_high"] < 0.03
    assert figures_tables.readable_signature(found.reset_index()).loc["paper", "left found"].startswith("99/170, 0.58")


def test_the_verdict_needs_both_halves_of_the_signature():
    paper = {"paper": published.published_table("figure_8")}
    ours = {
        "none": tables(60, 10, 9),
        "finds all": tables(100, 0, 0),
        "like it": tables(60, 30, 0),
        "blind": tables(0, 50, 0),
    }
    text = batches.batch_verdict(batches.signature(paper | ours), ["paper"])
    assert "0 of 330 others" in text["paper"] and "1.2%" in text["paper"]
    assert "appears in 1 of 3 planted batches (like it)" in text["planted"]
    assert "Without a batch: 9 of 200" in text["planted"]
    assert len(comparison.signature_figure(batches.signature(paper | ours)).data) == len(batches.CALLS)
