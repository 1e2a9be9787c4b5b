"""Importance must point to the side that decides, and the scores must notice when it does not."""

import numpy as np
import pandas as pd
import pytest

from tle_utils import atlas, models, saliency, slices
from tle_utils.errors import TLEError

Y_MM = -24
BRAIN = slices.slices_of(atlas.brain_mask(), [Y_MM])[..., 0]


@pytest.fixture(scope="module")
def reader():
    """A network whose first convolution passes the image on and whose answer 'left' is brightness on the left."""
    model = models.build("figure_2", 3)
    for number in (1, 2, 3):
        kernel = np.zeros_like(model.get_layer(f"conv_{number}").get_weights()[0])
        kernel[1, 1, 0, 0] = 1
        model.get_layer(f"conv_{number}").set_weights([kernel, np.zeros(kernel.shape[-1])])
    dense = np.zeros((40, 40, 32, 3))
    dense[:, :20, 0, 1] = 1
    dense[:, 20:, 0, 2] = 1
    model.get_layer("dense").set_weights([dense.reshape(-1, 3), np.zeros(3)])
    return model


@pytest.mark.parametrize("layer", ["conv_1", "conv_2", "conv_3"])
def test_bright_left_hippocampus_lights_up_on_the_left(reader, layer):
    x = np.zeros((2, 160, 160, 1), np.float32)
    x[0, ..., 0] = saliency.truth_slice("left", Y_MM, 0)
    x[1, ..., 0] = saliency.truth_slice("right", Y_MM, 0)
    maps = saliency.gradcam(reader, x, [1, 2], layer)
    assert maps.shape == (2, 160, 160) and maps.max() == pytest.approx(1, abs=0.05)
    scores = saliency.score(maps, ["left", "right"], Y_MM, brain=BRAIN)
    assert (scores["right_side"] == 1).all() and (scores["over_chance"] > 5).all()
    wrong = saliency.score(maps, ["right", "left"], Y_MM, brain=BRAIN)
    assert (wrong["right_side"] == 0).all() and (wrong["inside"] == 0).all()


def test_empty_maps_score_no_side():
    scores = saliency.score(np.zeros((1, 160, 160)), ["left"], Y_MM, brain=BRAIN)
    assert scores["right_side"].item() == 0.5


def test_random_maps_score_chance():
    maps = np.random.default_rng(0).random((200, 160, 160))
    scores = saliency.score(maps, ["left", "right"] * 100, Y_MM, brain=BRAIN)
    assert scores["over_chance"].mean() == pytest.approx(1, abs=0.15)
    summary = saliency.summarise(scores.assign(network="n", layer="l")).iloc[0]
    assert summary["over_chance_low"] < 1 < summary["over_chance_high"] and summary["n"] == 200


def test_regions_tell_the_side():
    table = saliency.by_region(saliency.truth_slice("left", Y_MM, 0).astype(float), Y_MM).set_index("region")
    assert table.index[0] == "hippocampus"
    assert table.loc["hippocampus", ["left", "right", "share"]].tolist() == [1, 0, pytest.approx(1)]
    assert np.isinf(table.loc["hippocampus", "left_over_right"])


@pytest.mark.parametrize("layer", ["conv_9", "dense"])
def test_unknown_layer_is_named(reader, layer):
    with pytest.raises(TLEError, match=f"layer '{layer}'.*conv_1, conv_2, conv_3"):
        saliency.gradcam(reader, np.zeros((1, 160, 160, 1), np.float32), [0], layer)


def test_maps_are_out_of_fold(monkeypatch):
    """Each participant's map comes from the fold that tested them."""
    from tle_utils import crossval

    people = pd.DataFrame({"participant_id": [f"s{i}" for i in range(12)], "group": ["control", "left", "right"] * 4})
    folds = crossval.make_folds(people, 2, seed=0)
    monkeypatch.setattr(crossval, "load_network", lambda path, *rest: path.name)
    monkeypatch.setattr(
        saliency, "gradcam", lambda model, x, targets, layer: np.full((len(x), 4, 4), float(model[-6:-4]))
    )
    x = np.zeros((12, 4, 4, 1), np.float32)
    maps = saliency.out_of_fold_maps(
        x, people["group"], ["control", "left", "right"], folds, network="figure_2", layers=["conv_1"], folder="."
    )
    for fold in folds:
        assert (maps[fold.test] == fold.fold).all()
