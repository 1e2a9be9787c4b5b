"""Which maps a model has never seen the like of: told by the whole map, not by a lesion."""

import numpy as np
import pytest
from scipy import ndimage

from tle_utils.imaging import atlas, images
from tle_utils.patient import out_of_distribution


def _map(seed, factor=1.0):
    """The template's grey matter times a smooth field of its own."""
    rng = np.random.default_rng(seed)
    waves = [np.cos(np.linspace(0, 12, n) + rng.uniform(0, 6)).astype(np.float32) for n in atlas.SHAPE]
    field = 0.3 * waves[0][:, None, None] * waves[1][:, None] * waves[2] + rng.normal(0, 0.05)
    return (atlas.tissue_priors()["GM"] * np.exp(field) * factor).astype(np.float32)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    paths = [folder / f"{seed}.nii.gz" for seed in range(11)]
    for seed, path in enumerate(paths):
        images.write_image(path, _map(seed, 0.2 if seed == 10 else 1.0), atlas.AFFINE)
    return out_of_distribution.fit_training_maps(paths, ["control"] * 10 + ["left"])


def test_another_control_passes_and_so_does_one_with_half_a_hippocampus(known):
    healthy = _map(20)
    assert out_of_distribution.judge(known, healthy) == []
    ill = np.where(atlas.region_mask("hippocampus", "left"), 0.5, 1) * healthy
    assert out_of_distribution.judge(known, ill) == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda grey: ndimage.gaussian_filter(grey, 3.4), "sharpness"),
        (lambda grey: 0.5 * grey, "amount"),
        (lambda grey: np.roll(grey, 12, axis=1), "pattern"),
        (np.zeros_like, "amount"),
    ],
    ids=["smoothed", "half", "shifted", "empty"],
)
def test_maps_of_another_kind_are_flagged_with_the_reason(known, change, name):
    flags = {found["name"]: found for found in out_of_distribution.judge(known, change(_map(20)))}
    assert flags[name]["fails"] and "unlike the training maps" in flags[name]["reason"]
    assert "10 controls" in flags[name]["reason"]


def test_card_says_how_many_training_participants_would_be_flagged(known):
    assert known.n == 10 and known.flagged == {"control": (0, 10), "left": (1, 1)}


def test_too_few_controls_give_a_note_instead():
    (note,) = out_of_distribution.judge(out_of_distribution.TrainingMaps(n=4, mean={}, sd={}), _map(0))
    assert not note["fails"] and "not known (4 controls)" in note["reason"]
