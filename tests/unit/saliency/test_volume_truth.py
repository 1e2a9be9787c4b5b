"""Maps of a network that tells the left hippocampal volume must lie in the left hippocampus, whatever the number."""

import numpy as np
import pandas as pd
import pytest

from tle_utils.models import crossval, networks, training
from tle_utils.models.settings import Training
from tle_utils.saliency import maps, scores, volume_truth

TRUTH = scores.Truth(-24)
VOLUMES = ["hippocampus_left", "hippocampus_right"]


@pytest.fixture(scope="module")
def cohort():
    """Six brains whose two hippocampi vary on their own, and one fold."""
    volumes = np.random.default_rng(0).uniform(0.2, 1, (6, 2))
    x = np.repeat(np.where(TRUTH.brain, 0.5, 0)[None], 6, axis=0)
    for number, side in enumerate(("left", "right")):
        x = x + volumes[:, number, None, None] * 0.4 * scores.truth_slice(side, TRUTH.y_mm, 0)
    people = pd.DataFrame({"participant_id": list("abcdef"), "group": ["control", "left", "right"] * 2})
    people[VOLUMES] = volumes
    parts = np.array([0, 1]), np.array([2]), np.array([3, 4, 5])
    return x[..., None].astype(np.float32), people, [crossval.Fold(0, 0, *parts)]


def hippocampus_reader(side):
    """A network whose one output is the grey matter of a hippocampus."""
    model = networks.build("figure_2", 1)
    for number in (1, 2, 3):
        kernel = np.zeros_like(model.get_layer(f"conv_{number}").get_weights()[0])
        kernel[1, 1, 0, 0] = 1
        model.get_layer(f"conv_{number}").set_weights([kernel, np.zeros(kernel.shape[-1])])
    dense = np.zeros((40, 40, 32))
    dense[..., 0] = scores.truth_slice(side, TRUTH.y_mm, 0).reshape(40, 4, 40, 4).mean(axis=(1, 3))
    model.get_layer("dense").set_weights([dense.reshape(-1, 1), np.zeros(1)])
    return model


@pytest.mark.parametrize(("side", "other"), [("left", "right"), ("right", "left")])
def test_importance_lies_in_the_hippocampus_that_is_read(cohort, side, other, tmp_path):
    x, people, folds = cohort
    model, test = hippocampus_reader(side), folds[0].test
    p_test = (people[f"hippocampus_{side}"].to_numpy() - people[f"hippocampus_{side}"][0])[test, None]
    stored = {"key": np.asarray("k"), "p_test": p_test, "scaled": np.asarray(False)} | training.weights_of(model)
    np.savez(crossval.fold_path(tmp_path, folds[0]), **stored)
    explained = maps.Explained("figure_2", tmp_path, x, people, ("smoothgrad",))
    found = maps.explain_folds(explained, folds, cache=tmp_path / "maps")
    smaller = people[f"hippocampus_{side}"][test].to_numpy() < people[f"hippocampus_{side}"][0]
    image, here = found.read("smoothgrad", "input"), scores.truth_slice(side, TRUTH.y_mm, 0)
    assert ((image[:, here].mean(axis=1) < 0) == smaller).all(), "a smaller one than the control's lowers the number"
    below = maps.deviations(x, people["group"].to_numpy(object), folds)
    table = volume_truth.places(found, explained, below, TRUTH)
    alone, table = (table[table["method"] == method] for method in (scores.NETWORK_FREE, "smoothgrad"))
    assert (alone[["left", "right"]].sum(axis=1) > 0.8).all()
    assert table["participant_id"].tolist() == ["d", "e", "f"]
    assert (table[side] > 0.8).all() and (table[other] < 0.05).all()
    assert np.allclose(table["over_grey"], table["left"] / table["grey"]) and table["grey"].between(0.02, 0.1).all()
    assert (
        np.allclose(table["predicted"], p_test[:, 0])
        and table["volume"].tolist() == people["hippocampus_left"][test].tolist()
    )


def test_the_mirror_image_has_the_volume_of_the_other_side(cohort, monkeypatch):
    x, people, folds = cohort
    asked = []
    monkeypatch.setattr(crossval, "train_folds", lambda *parts, **how: asked.append(parts))
    settings = Training(network="figure_2", flip=True)
    volume_truth.train_on_volumes(x, people, folds, settings, folder="", seed=0)
    images, volumes, (fold,), handed = asked[0]
    assert not handed.flip and set(fold.train) == {0, 1, 6, 7}
    assert np.array_equal(fold.test, folds[0].test) and np.array_equal(fold.validation, folds[0].validation)
    left = images[..., 0][:, scores.truth_slice("left", TRUTH.y_mm, 0)].mean(axis=1)
    assert np.corrcoef(left, volumes)[0, 1] > 0.99 and not np.allclose(volumes[:6], volumes[6:])


def test_correlation_counts_participants():
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"participant_id": range(50), "a": rng.random(50)}).assign(b=lambda rows: rows["a"] ** 2)
    once, thrice = (scores.correlation(pd.concat([people] * times), "a", "b") for times in (1, 3))
    assert once == pytest.approx(thrice) and once["n"] == 50
    assert once["value"] == pytest.approx(np.corrcoef(people["a"], people["b"])[0, 1])
    assert once["value_low"] < once["value"] < once["value_high"] <= 1
