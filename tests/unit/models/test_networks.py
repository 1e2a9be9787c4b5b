"""The two networks are the paper's, layer by layer."""

import numpy as np
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.models import networks, settings


@pytest.mark.parametrize(("network", "total", "trainable"), [("figure_2", 108514, 108402), ("figure_9", 20891, 20667)])
def test_parameter_counts_are_published_ones(network, total, trainable):
    counts, n_classes = {"total": total, "trainable": trainable}, settings.NETWORKS[network]["n_classes"]
    assert networks.parameter_counts(networks.build(network, n_classes)) == counts
    assert settings.published_counts(network) == settings.parameter_counts_of(network, n_classes) == counts


def test_counts_by_arithmetic_are_those_of_the_built_network():
    for network, n_classes, shape in (("figure_2", 3, (64, 60, 2)), ("figure_9_pooled_twice", 2, (160, 160, 5))):
        built = networks.build(network, n_classes, input_shape=shape)
        assert settings.parameter_counts_of(network, n_classes, shape) == networks.parameter_counts(built)


def test_layers_of_figure_9():
    table = networks.layer_table(networks.build("figure_9", 3, dropout=0.5)).set_index("layer")
    assert table.loc["conv_1", "output"] == "160 × 160 × 8"
    assert table.loc["BN_6", "output"] == "5 × 5 × 32"
    assert table.loc[["conv_2", "conv_3", "conv_4", "conv_5", "conv_6", "dense"], "parameters"].tolist() == [
        584,
        1168,
        2320,
        4640,
        9248,
        2403,
    ]


def test_probabilities_sum_to_one():
    model = networks.build("figure_2", 3)
    p = model.predict(np.random.default_rng(0).random((2, 160, 160, 1), dtype=np.float32), verbose=0)
    assert p.shape == (2, 3) and np.allclose(p.sum(axis=1), 1, atol=1e-5)


def test_regularisation_is_on_every_layer():
    model = networks.build("figure_9", 3, l2=1e-3)
    kernels = [layer for layer in model.layers if hasattr(layer, "kernel")]
    assert len(kernels) == 7 and all(layer.kernel_regularizer is not None for layer in kernels)


def test_unknown_network_is_named():
    with pytest.raises(TLEError, match="figure_3.*figure_2, figure_9"):
        networks.build("figure_3", 2)
