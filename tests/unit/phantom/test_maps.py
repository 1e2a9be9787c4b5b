"""A phantom is only worth its truth: what the tables say must be what the maps hold."""

import dataclasses
import hashlib
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas
from tle_utils.phantom import maps as phantom_maps
from tle_utils.phantom.volumes import GROUPS, HEAD_EXPONENT, Knobs, model_regions, real_volumes

COUNTS = {"n_control": 1, "n_left": 2, "n_right": 1}


def digests(table):
    return {row.participant_id: hashlib.sha256(Path(row.image).read_bytes()).hexdigest() for row in table.itertuples()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("phantom")


@pytest.fixture(scope="module")
def cohort(folder):
    return phantom_maps.make_phantom(folder, **COUNTS, seed=3, sclerosis_fraction=1.0)


@pytest.fixture(scope="module")
def truth(cohort, folder):
    return pd.read_csv(folder / "truth.tsv", sep="\t")


def test_table_has_the_columns_of_a_cohort(cohort):
    first = ["participant_id", "group", "age", "sex", "site", "mts", "hippocampus_left", "hippocampus_right"]
    assert list(cohort.columns[:10]) == [*first, "image", "image_kind"]
    assert cohort["participant_id"].is_unique
    assert set(cohort["image_kind"]) == {"gm"}
    assert cohort["group"].value_counts().to_dict() == {"left": 2, "control": 1, "right": 1}
    assert cohort["mts"].tolist() == [group != "control" for group in cohort["group"]]


def test_hippocampal_volumes_are_those_of_the_map_in_world_coordinates(cohort):
    row = cohort.iloc[1]
    image = nib.load(row["image"])
    assert atlas.on_template_grid(image)
    voxels = np.argwhere(atlas.region_mask("hippocampus", "left"))
    assert (nib.affines.apply_affine(image.affine, voxels)[:, 0] < 0).all()
    assert image.get_fdata()[tuple(voxels.T)].sum() / 1000 == pytest.approx(row["hippocampus_left"], rel=1e-4)


def test_maps_hold_the_latent_volumes(truth):
    names = model_regions()[0]["name"]
    measured = np.log(truth[[f"volume_{name}" for name in names]].to_numpy())
    latent = truth[[f"latent_{name}" for name in names]].to_numpy()
    np.testing.assert_allclose(measured, latent, atol=0.01)


def test_a_map_holds_as_much_grey_matter_as_a_real_person():
    knobs, real = Knobs(seed=2), real_volumes()["mean"]
    drawn = phantom_maps.draw("control", 0, knobs)
    whole = phantom_maps.render(drawn, knobs).sum() / 1000
    elsewhere = real["elsewhere"] * (drawn["row"]["head_size_ml"] / real["brain"]) ** HEAD_EXPONENT["cortex"]
    assert whole == pytest.approx(np.exp(drawn["latent"]).sum() + elsewhere, rel=0.08)


def test_sclerotic_patients_lose_volume_on_their_side(truth):
    for side, other in (("left", "right"), ("right", "left")):
        rows = truth[truth["true_group"] == side]
        assert (rows[f"effect_{side}_hippocampus"] < 5 * rows[f"effect_{other}_hippocampus"]).all()
        assert (rows[f"effect_{other}_hippocampus"] < 0).all()


def test_same_bytes_whatever_workers_and_numbers(cohort, tmp_path):
    other = phantom_maps.make_phantom(
        tmp_path, n_control=0, n_left=2, n_right=0, seed=3, workers=2, sclerosis_fraction=1.0
    )
    assert digests(other).items() <= digests(cohort).items()


def test_existing_maps_are_kept_and_damaged_ones_made_again(cohort, folder):
    before, first, second = digests(cohort), *map(Path, cohort["image"][:2])
    stamp = os.stat(first).st_mtime_ns
    second.write_bytes(second.read_bytes()[:100_000])
    phantom_maps.make_phantom(folder, **COUNTS, seed=3, sclerosis_fraction=1.0)
    assert digests(cohort) == before
    assert os.stat(first).st_mtime_ns == stamp


def test_a_mirrored_participant_has_the_mirrored_map():
    knobs = Knobs(seed=8)
    drawn = phantom_maps.draw("left", 0, knobs) | {"noise": None}
    half = len(drawn["latent"]) // 2
    mirrored = drawn | {
        "latent": np.roll(drawn["latent"], half),
        "texture": drawn["texture"][::-1],
        "shift": drawn["shift"][:, ::-1] * np.array([-1, 1, 1], np.float32)[:, None, None, None],
    }
    brain = atlas.brain_mask()
    maps = np.zeros((2, *atlas.SHAPE), np.float32)
    maps[0][brain], maps[1][brain] = phantom_maps.render(drawn, knobs), phantom_maps.render(mirrored, knobs)
    np.testing.assert_allclose(maps[0][::-1], maps[1], atol=2e-3)


def test_sites_and_batch_change_the_map_but_not_the_truth():
    plain = Knobs(seed=8)
    one = phantom_maps.draw("left", 0, plain)
    for changed in (
        dataclasses.replace(plain, n_sites=3, site_effect=0.1),
        dataclasses.replace(plain, batch_confound=1.0),
    ):
        other = phantom_maps.draw("left", 0, changed)
        np.testing.assert_array_equal(one["latent"], other["latent"])
        first, second = (phantom_maps.render(d | {"noise": None}, k) for d, k in ((one, plain), (other, changed)))
        assert 0.02 < np.std(second[first > 0.1] / first[first > 0.1]) < 0.3


def test_batch_tells_left_from_the_rest_as_asked():
    def batches(strength):
        knobs = Knobs(seed=1, batch_confound=strength)
        rng = np.random.default_rng
        return {g: [phantom_maps.draw_person(rng(i), g, knobs)[0]["batch"] for i in range(60)] for g in GROUPS}

    assert not np.any(list(batches(0.0).values()))
    full = batches(1.0)
    assert all(full["left"]) and not any(full["control"] + full["right"])
    half = batches(0.5)
    assert 0.5 < np.mean(half["left"]) < 1 and 0 < np.mean(half["control"]) < 0.5


def test_label_noise_changes_labels_only(cohort, folder):
    noisy = phantom_maps.make_phantom(folder, **COUNTS, seed=3, sclerosis_fraction=1.0, label_noise=1.0)
    assert (noisy["group"] != noisy["true_group"]).all()
    assert noisy["true_group"].tolist() == cohort["group"].tolist()
    assert digests(noisy) == digests(cohort)


@pytest.mark.parametrize(
    "bad",
    [
        {"n_left": -1},
        {"n_left": 1.5},
        {"n_control": 0, "n_left": 0, "n_right": 0},
        {"seed": -1},
        {"workers": 0},
        {"effect_scale": -0.1},
        {"effect_scale": float("nan")},
        {"sclerosis_fraction": 1.2},
        {"n_sites": 0},
        {"site_effect": "strong"},
        {"batch_confound": 2},
        {"label_noise": -1},
    ],
)
def test_bad_parameters_are_named(bad, tmp_path):
    with pytest.raises(TLEError, match=list(bad)[0]):
        phantom_maps.make_phantom(tmp_path, **{**COUNTS, "seed": 0, **bad})
    assert not list(tmp_path.iterdir())
