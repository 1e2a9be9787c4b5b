"""The close-up of a card: left on the left, and each volume where its healthy range is."""

import numpy as np
import pandas as pd
import pytest

from tle_utils.figures import card
from tle_utils.imaging import atlas, images


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """A map whose left hippocampus is dark."""
    values = atlas.tissue_priors()["GM"].astype(np.float32)
    values[atlas.region_mask("hippocampus", "left")] *= 0.2
    path = tmp_path_factory.mktemp("map") / "map.nii.gz"
    images.write_image(path, values, atlas.AFFINE)
    return path


def _rows(**columns):
    rows = pd.DataFrame({"value": [2.0, 3.5, -0.3]}, index=["left", "right", "asymmetry"])
    return rows.assign(**({"low": 2.8, "high": 4.2, "z": [-4.0, 0.1, -5.0]} | columns))


def test_the_dark_hippocampus_lies_under_l_and_its_volume_below_the_range(grey):
    close, left, right = card.hippocampi(grey, _rows(), -24).axes
    image, middle = close.images[0].get_array(), close.images[0].get_array().shape[1] // 2
    assert image.shape[1] % 2 == 1 and image[:, :middle].sum() < 0.95 * image[:, middle + 1 :].sum()
    letters = {text.get_text(): text.get_position()[0] for text in close.texts}
    assert letters["L"] < middle < letters["R"]
    assert left.get_title() == "Left hippocampus: 2.00 ml, z = −4.0" and left.get_xlim() == right.get_xlim()
    band = left.patches[0].get_extents().transformed(left.transData.inverted())
    assert left.lines[0].get_xdata()[0] < band.x0 == pytest.approx(2.8) and band.x1 == pytest.approx(4.2)


def test_without_a_norm_there_is_a_volume_and_no_z(grey):
    _, left, _ = card.hippocampi(grey, _rows(low=np.nan, high=np.nan, z=np.nan), -24).axes
    assert left.get_title() == "Left hippocampus: 2.00 ml"
