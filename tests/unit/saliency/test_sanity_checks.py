"""A method whose maps do not depend on the network must be called unfit, and one whose maps do must not."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tle_utils.models import networks
from tle_utils.saliency import sanity_checks

BRAIN = np.ones((40, 40), bool)


def test_layers_are_randomised_one_by_one_from_the_last():
    keras.utils.set_random_seed(0)
    model = networks.build("figure_2", 3, input_shape=(40, 40, 1))
    model.get_layer("BN_3").set_weights([np.full(32, 5.0)] * 4)
    before = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}

    def changed():
        return {
            layer.name
            for layer in model.layers
            if layer.weights and not np.array_equal(layer.get_weights()[0], before[layer.name][0])
        }

    steps = [(name, changed()) for name in sanity_checks.randomise(model, seed=1)]
    assert [name for name, _ in steps] == ["dense", "conv_3", "conv_2", "conv_1"]
    assert steps[0][1] == {"dense"}
    assert steps[1][1] == {"dense", "BN_3", "conv_3"}
    assert steps[3][1] >= {"dense", "conv_3", "conv_2", "conv_1"}
    assert model.get_layer("dense").kernel.numpy().std() > 0


def test_randomisation_follows_the_seed():
    one, two, three = (networks.build("figure_2", 3, input_shape=(40, 40, 1)) for _ in range(3))
    for model, seed in ((one, 1), (two, 1), (three, 2)):
        list(sanity_checks.randomise(model, seed))
    kernels = [model.get_layer("conv_2").kernel.numpy() for model in (one, two, three)]
    assert np.array_equal(kernels[0], kernels[1]) and not np.array_equal(kernels[0], kernels[2])


def test_similarity_of_equal_reversed_unrelated_and_empty_maps():
    rng = np.random.default_rng(0)
    maps = rng.random((2, 40, 40))
    same, ssim = sanity_checks.similarity(maps, maps.copy(), BRAIN)
    assert same == pytest.approx([1, 1]) and ssim == pytest.approx([1, 1])
    assert sanity_checks.similarity(maps, 1 - maps, BRAIN)[0] == pytest.approx([-1, -1])
    assert np.abs(sanity_checks.similarity(maps, rng.random((2, 40, 40)), BRAIN)[0]).max() < 0.1
    assert sanity_checks.similarity(maps, np.zeros_like(maps), BRAIN)[0].tolist() == [0, 0]
    assert sanity_checks.similarity(np.zeros_like(maps), np.zeros_like(maps), BRAIN)[0].tolist() == [1, 1]


def test_structural_similarity_is_the_one_of_tensorflow():
    rng = np.random.default_rng(0)
    a, b = (np.abs(rng.random((2, 40, 40)) + np.linspace(0, 1, 40) * k) / 2 for k in (1, 0.3))
    inner = np.zeros((40, 40), bool)
    inner[8:-8, 8:-8] = True
    theirs = tf.image.ssim(a[..., None], b[..., None], 1.0, return_index_map=True).numpy()[:, 3:-3, 3:-3]
    assert sanity_checks.similarity(a, b, inner)[1] == pytest.approx(theirs.mean(axis=(1, 2)), abs=0.01)


@pytest.mark.parametrize(("likeness", "verdict"), [(0.9, "unfit"), (0.1, "fit"), (None, "unclear")])
def test_verdict(likeness, verdict):
    values = np.tile([0.1, 0.9], 4) if likeness is None else likeness + np.linspace(-0.05, 0.05, 8)
    table = pd.DataFrame({"participant_id": [f"s{i}" for i in range(8)], "method": "gradcam", "layer": "conv_1"})
    done = table.assign(step="conv_1", number=2, spearman=values, ssim=0.5)
    rows = pd.concat([table.assign(step="trained", number=0, spearman=1.0, ssim=1.0), done], ignore_index=True)
    found = sanity_checks.verdicts(rows)
    assert found["verdict"].tolist() == [verdict] and found["n"].tolist() == [8]
    assert sanity_checks.unfit(found) == ({("gradcam", "conv_1")} if verdict == "unfit" else set())


def test_one_failed_test_is_enough():
    table = pd.DataFrame({"participant_id": ["a", "b"], "method": "occlusion", "layer": "input", "ssim": 0.5})
    rows = [
        table.assign(step="conv_1", number=2, spearman=0.0),
        table.assign(step=sanity_checks.RANDOM_LABELS, number=-1, spearman=0.9),
    ]
    assert sanity_checks.unfit(sanity_checks.verdicts(pd.concat(rows))) == {("occlusion", "input")}
