"""The demonstration must show leakage where people can be recognised, and none where they cannot."""

import nibabel as nib
import numpy as np
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import generalisation
from tle_utils.imaging import atlas, slices

GROUPS = np.array(["control", "left", "right"] * 10)


def images(person=1.0, group=0.0, seed=0):
    rng = np.random.default_rng(seed)
    own, place = rng.normal(size=(30, 1, 40)), rng.normal(size=(1, 3, 40))
    side = group * ((GROUPS == "left").astype(int) - (GROUPS == "right"))[:, None, None]
    return (person * own + 5 * place + side + 0.3 * rng.normal(size=(30, 3, 40))).astype(np.float32)


def accuracy(table):
    return table.set_index(["split", "labels"])["accuracy"]


def test_random_labels_are_predicted_by_slice_and_not_by_participant():
    table = generalisation.demonstrate_leakage(images(), GROUPS)
    found = accuracy(table)
    assert found["by slice", "random"] > 0.9 and found["by slice", "true"] > 0.9
    assert found["by participant", "random"] < 0.45
    assert table.set_index("split").loc["by participant", "same_person"].max() == 0
    assert (table["n"] == 30).all() and (table["slices"] == 90).all()
    assert (table["accuracy_low"] <= table["accuracy"]).all() and (table["accuracy"] <= table["accuracy_high"]).all()


def test_people_who_cannot_be_recognised_do_not_leak():
    found = accuracy(generalisation.demonstrate_leakage(images(person=0.0), GROUPS))
    assert abs(found["by slice", "random"] - found["by participant", "random"]) < 0.1


def test_what_is_really_there_is_found_by_participant_too():
    found = accuracy(generalisation.demonstrate_leakage(images(person=0.2, group=3.0), GROUPS))
    assert found["by participant", "true"] > 0.9 > 0.45 > found["by participant", "random"]


def test_same_seed_same_table():
    one, two, other = (generalisation.demonstrate_leakage(images(), GROUPS, seed=seed) for seed in (0, 0, 1))
    assert one.equals(two) and not one.equals(other)


def test_small_slices_keep_the_layout(tmp_path):
    volume = atlas.tissue_priors()["GM"] * np.where(atlas.region_mask("hippocampus", "left"), 0.2, 1)
    nib.Nifti1Image(volume.astype(np.float32), atlas.AFFINE).to_filename(tmp_path / "map.nii.gz")
    small = generalisation.small_slices([tmp_path / "map.nii.gz"], (-30, -24))
    whole = slices.load_slices([tmp_path / "map.nii.gz"], (-30, -24))
    assert small.shape == (1, 2, 1600)
    image = small[0, 1].reshape(40, 40)
    np.testing.assert_allclose(image[25, 12], whole[0, 100:104, 48:52, 1].mean(), rtol=1e-5)
    assert image[:, :20].sum() < image[:, 20:].sum()


@pytest.mark.parametrize(
    ("small", "groups", "words"),
    [
        (images(), np.repeat(["control", "left"], [27, 3]), "class 'left' has 3 participants"),
        (images(), np.repeat(["left"], 30), "classes: 1"),
        (images()[:, :1], GROUPS, "one slice per participant"),
    ],
)
def test_what_cannot_be_shown_is_said(small, groups, words):
    with pytest.raises(TLEError, match=words):
        generalisation.demonstrate_leakage(small, groups)
