"""The five methods must agree with their definitions and with tf-keras-vis, and point to the side that decides."""

import keras
import numpy as np
import pytest

from tle_utils.models import networks
from tle_utils.saliency import attribution

CLASSES = ["control", "left", "right"]
SIZE = 40


@pytest.fixture(scope="module")
def small():
    """A random network small enough to be explained in no time; logits far from zero."""
    keras.utils.set_random_seed(0)
    model = networks.build("figure_2", 3, input_shape=(SIZE, SIZE, 1))
    rng = np.random.default_rng(0)
    model.get_layer("dense").set_weights([rng.normal(size=(SIZE * SIZE // 16 * 32, 3)) / 20, rng.normal(size=3)])
    return model


@pytest.fixture(scope="module")
def explainer(small):
    """Its reference is half of everything; occlusion tries one place left of the midline."""
    tissue = np.zeros((SIZE, SIZE), bool)
    tissue[20, 5] = True
    return attribution.Explainer(small, np.full((SIZE, SIZE, 1), 0.5), tissue)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(1).random((3, SIZE, SIZE, 1), np.float32)


@pytest.fixture(scope="module")
def weights():
    return attribution.target_weights([0, 1, 2], CLASSES, "class")


@pytest.mark.parametrize("method", attribution.CAM_METHODS)
@pytest.mark.parametrize("layer", ["conv_1", "conv_3"])
def test_cams_are_those_of_tf_keras_vis(small, explainer, x, weights, method, layer):
    from tf_keras_vis.gradcam import Gradcam, GradcamPlusPlus
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    known = {"gradcam": Gradcam, "gradcam++": GradcamPlusPlus}[method](small, ReplaceToLinear(), clone=True)
    options = {"penultimate_layer": layer, "seek_penultimate_conv_layer": False}
    theirs = np.asarray(known(CategoricalScore([0, 1, 2]), x, expand_cam=False, normalize_cam=False, **options))
    ours = explainer.cams(x, weights)[method, layer]
    theirs = np.asarray(keras.ops.image.resize(theirs[..., None], (SIZE, SIZE)))[..., 0]
    assert ours.max() > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine * max(other.max(), 1e-9) == pytest.approx(other * max(mine.max(), 1e-9), rel=0.02, abs=1e-6)


def test_integrated_gradients_add_up_to_the_change_of_the_score(explainer, x, weights):
    total = attribution.integrated_gradients(explainer, x, weights).sum(axis=(1, 2))
    change = explainer.score(x, weights) - explainer.score(explainer.reference[None].repeat(3, 0), weights)
    assert total == pytest.approx(change, rel=0.05, abs=0.02)


def test_smoothgrad_of_a_person_does_not_depend_on_the_others(explainer, x, weights):
    together = attribution.smoothgrad(explainer, x, weights)
    alone = attribution.smoothgrad(explainer, x[1:2], weights[1:2])
    assert together[1] == pytest.approx(alone[0], abs=1e-4)


@pytest.mark.parametrize("length", [40, 80, 160])
def test_occlusion_cuts_both_sides_alike(length):
    middle = length // 2
    cuts = {start - middle for start, _ in attribution._pieces(length)[1:]}
    mirrored = {1 - cut for cut in cuts}
    assert len(cuts - mirrored) <= 1
    covered = [i for start, end in attribution._pieces(length) for i in range(start, end)]
    assert covered == list(range(length))


def test_occlusion_tries_tissue_only(explainer, x, weights):
    drop = attribution.occlusion(explainer, x, weights)
    assert drop[0, 20, 5] != 0 and (drop[0][:, 20:] == 0).all()


def test_contrast_sets_a_side_against_the_other_side():
    rows = attribution.target_weights([0, 1, 2], CLASSES, "contrast")
    assert rows.tolist() == [[1, -0.5, -0.5], [0, 1, -1], [0, -1, 1]]
    assert attribution.target_weights([0, 1], ["control", "left"], "contrast").tolist() == [[1, -1], [-1, 1]]


def test_a_network_that_sees_nothing_has_empty_maps(small, x, weights):
    model = keras.models.clone_model(small)
    for layer in model.layers:
        layer.set_weights([np.zeros_like(value) for value in layer.get_weights()])
    blind = attribution.Explainer(model, x[0], np.ones((SIZE, SIZE), bool))
    maps = attribution.explain(blind, x, weights, attribution.METHODS)
    assert len(maps) == 2 * 3 + 3 and all((values == 0).all() for values in maps.values())
