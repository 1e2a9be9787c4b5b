"""A shrunk structure has lost what was asked; the fluid has it, and nothing else changed its volume."""

import numpy as np
import pytest
from scipy import ndimage

from tle_utils.imaging import transforms
from tle_utils.phantom import atrophy

SIZE = (1.0, 1.2, 0.9)


def ball(centre, radius):
    grid = np.indices((40, 36, 44)) * np.array(SIZE)[:, None, None, None]
    distance = np.sqrt(((grid - np.array(centre)[:, None, None, None]) ** 2).sum(axis=0))
    return np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)


@pytest.mark.parametrize("effect", [0.1, 0.5])
def test_loss_is_as_asked_and_goes_to_the_fluid(effect):
    structure, fluid = ball((20, 21, 16), 7), ball((20, 21, 30), 6)
    backward, forward = atrophy.shrink(structure, fluid, SIZE, effect)
    moved = ndimage.map_coordinates(structure, backward, order=1)
    assert 1 - moved.sum() / structure.sum() == pytest.approx(effect, abs=0.005)
    gained = ndimage.map_coordinates(fluid, backward, order=1).sum() - fluid.sum()
    assert gained == pytest.approx(effect * structure.sum(), rel=0.1)
    change = transforms.volume_change(forward - np.indices(forward[0].shape))
    assert change[structure == 1].mean() == pytest.approx(1 - effect, abs=0.06)
    elsewhere = ~ndimage.binary_dilation((structure + fluid) > 0, iterations=2)
    assert np.abs(change[elsewhere] - 1).mean() < 0.01
    assert change.min() > 0


def test_forward_undoes_backward():
    structure, fluid = ball((20, 21, 16), 7), ball((20, 21, 30), 6)
    backward, forward = atrophy.shrink(structure, fluid, SIZE, 0.4)
    there = np.stack([ndimage.map_coordinates(part, forward, order=1) for part in backward])
    inside = ball((20, 21, 16), 10) > 0
    assert np.abs(there - np.indices(structure.shape))[:, inside].max() < 0.5
