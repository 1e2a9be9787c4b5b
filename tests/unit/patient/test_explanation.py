"""Where an answer of the regional model comes from: the lesion's own side."""

import nibabel as nib
import numpy as np
import pytest
from makers import card, hemisphere_fold

from tle_utils.imaging import atlas, images, slices
from tle_utils.imaging import regions as imaging_regions
from tle_utils.models import hemispheres, regional
from tle_utils.patient import ensemble, explanation
from tle_utils.patient.case import Case, Given


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
    kept = [ensemble.FoldModel({"regional": stored}, {"regional": 1.0, "joint": 1.0})]
    case = Case(Given("map", path, "gm", {}), [], [], map=path, volumes=own)
    return ensemble.Ensemble(card(), kept), case


def test_small_left_hippocampus_speaks_for_the_left(regions):
    model, case = regions
    maps = explanation.regional_maps(model, case.volumes)
    here = slices.slices_of(atlas.region_mask("hippocampus", "left"), [explanation.Y_MM])[..., 0]
    assert (maps["left"][here] > 0).all() and np.abs(maps["left"]).max() == maps["left"][here].max()
    mirrored = (
        case.volumes.swaplevel(axis=1).rename(columns={"left": "right", "right": "left"}, level=0).swaplevel(axis=1)
    )
    other = explanation.regional_maps(model, mirrored[case.volumes.columns])
    assert (other["left"][here] < 0).all()


def test_picture_marks_both_sides(regions):
    model, case = regions
    figure = explanation.explanation_picture(model, case)
    words = {text.get_text() for axis in figure.axes for text in axis.texts}
    assert {"L", "R"} <= words and nib.load(case.map).shape == atlas.SHAPE
    assert {axis.get_title() for axis in figure.axes} >= set(explanation.QUESTIONS.values())


def test_the_hemisphere_network_is_explained_in_the_same_picture(regions):
    _, case = regions
    kept = [ensemble.FoldModel({"hemispheres": hemisphere_fold()}, {"hemispheres": 1.0, "joint": 1.0})]
    model = ensemble.Ensemble(card(components=("hemispheres",)), kept)
    figure = explanation.explanation_picture(model, case._replace(x=hemispheres.load_hemispheres([case.map])))
    assert {axis.get_title() for axis in figure.axes} >= set(explanation.QUESTIONS.values())
