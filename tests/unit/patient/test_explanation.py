"""Where an answer comes from: the lesion's own side, in the networks and in the regional model."""

import nibabel as nib
import numpy as np
import pytest
from makers import card, lesion_cohort, quick

from tle_utils.imaging import atlas, images
from tle_utils.imaging import regions as imaging_regions
from tle_utils.models import crossval, multitask, regional
from tle_utils.patient import explanation, model_store
from tle_utils.patient.case import Case, Given
from tle_utils.saliency import scores


@pytest.fixture(scope="module")
def networks():
    """Two folds of two networks that learned a loss at one place left or right of the midline."""
    x, people = lesion_cohort(12)
    groups = people["group"].to_numpy(object)
    options = quick(flip=True, standardise=True, mirror_difference=True, members=2, max_epochs=10)
    folds = crossval.make_folds(people, 2, seed=0)
    stored = [multitask.train_multitask(x, groups, fold, options, 0) for fold in folds]
    kept = [model_store.FoldModel({"multitask": part}, {"multitask": 1.0, "joint": 1.0}) for part in stored]
    return model_store.Ensemble(card(components=("multitask",), y_mm=(-24,)), kept), x, groups


@pytest.mark.parametrize(("side", "sign"), [("left", 1), ("right", -1)])
def test_loss_speaks_for_its_side_where_it_is(networks, side, sign):
    model, x, groups = networks
    maps = explanation.network_maps(model, x[groups == side][:1])
    assert set(maps) == {"patient", "left"} and maps["left"].shape == (160, 160)
    row, column = np.unravel_index(np.abs(maps["left"]).argmax(), (160, 160))
    assert np.sign(maps["left"][row, column]) == sign
    assert (column < 80) == (side == "left") and 80 < row < 120
    assert maps["patient"].sum() > 0


def test_one_network_explains_like_the_ensemble_of_its_copies(networks):
    model, x, groups = networks
    one = model_store.Ensemble(model.card, model.folds[:1])
    twice = model_store.Ensemble(model.card, model.folds[:1] * 2)
    found = [explanation.network_maps(part, x[:1])["left"] for part in (one, twice)]
    np.testing.assert_allclose(*found, atol=1e-6 * np.abs(found[0]).max())


@pytest.fixture(scope="module")
def regions(tmp_path_factory):
    """A regional model of maps whose left or right hippocampus is small, and a left patient."""
    rng, groups, rows = np.random.default_rng(0), np.repeat(["control", "left", "right"], 12), []
    template = atlas.regional_volumes(atlas.tissue_priors()["GM"])
    for group in groups:
        rows.append(template * np.exp(rng.normal(0, 0.05, len(template))))
        if group != "control":
            rows[-1]["hippocampus", group] *= 0.7
    path = tmp_path_factory.mktemp("map") / "map.nii.gz"
    grey = atlas.tissue_priors()["GM"].copy()
    grey[atlas.region_mask("hippocampus", "left")] *= 0.7
    images.write_image(path, grey, atlas.AFFINE)
    own = imaging_regions.read_regional_volumes([path])
    volumes = own.iloc[[0] * len(rows)].reset_index(drop=True)
    for number, row in enumerate(rows):
        volumes.loc[number] = row[own.columns].to_numpy()
    stored = regional.train_regions(volumes, groups, np.arange(len(groups)))
    kept = [model_store.FoldModel({"regional": stored}, {"regional": 1.0, "joint": 1.0})]
    case = Case(Given("map", path, "gm", {}), [], [], map=path, volumes=own)
    return model_store.Ensemble(card(), kept), case


def test_small_left_hippocampus_speaks_for_the_left(regions):
    model, case = regions
    maps = explanation.regional_maps(model, case.volumes)
    plane = {side: scores.plane(atlas.region_mask("hippocampus", side), explanation.Y_MM) for side in ("left", "right")}
    assert (maps["left"][plane["left"]] > 0).all() and np.abs(maps["left"]).max() == maps["left"][plane["left"]].max()
    mirrored = (
        case.volumes.swaplevel(axis=1).rename(columns={"left": "right", "right": "left"}, level=0).swaplevel(axis=1)
    )
    other = explanation.regional_maps(model, mirrored[case.volumes.columns])
    assert (other["left"][plane["left"]] < 0).all()


def test_picture_marks_both_sides(regions):
    model, case = regions
    figure = explanation.explanation_picture(model, case)
    words = {text.get_text() for axis in figure.axes for text in axis.texts}
    assert {"L", "R"} <= words and nib.load(case.map).shape == atlas.SHAPE
    assert {axis.get_title() for axis in figure.axes} >= set(explanation.QUESTIONS.values())
