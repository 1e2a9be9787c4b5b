import nibabel as nib
import numpy as np
import pytest
from matplotlib import pyplot as plt

from tle_utils.figures import brains
from tle_utils.imaging import atlas


def on_template(path, points):
    """An image on the template grid that is bright around each point, (x, y, z) in mm."""
    volume = np.zeros(atlas.SHAPE, np.float32)
    for point in points:
        x, y, z = np.round(np.linalg.solve(atlas.AFFINE, (*point, 1)))[:3].astype(int)
        volume[x - 9 : x + 10, y - 9 : y + 10, z - 9 : z + 10] = 1
    nib.save(nib.Nifti1Image(volume, atlas.AFFINE), path)
    return path


@pytest.mark.parametrize("axes", ["RAS", "LPI", "PSR"])
def test_left_stands_on_the_left_however_a_scan_is_stored(tmp_path, axes):
    left = on_template(tmp_path / "map.nii.gz", [(-40, -24, 0)])
    image = nib.load(left)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
    )
    nib.save(image.as_reoriented(turn), tmp_path / "scan.nii.gz")
    people = np.zeros((9, 160, 160))
    figure = brains.way_of_a_scan(tmp_path / "scan.nii.gz", left, left, people, "left 1.0, right 2.0 ml")
    titles = [axis.get_title()[:1] for axis in figure.axes]
    assert titles == list("123456")
    for axis in figure.axes[:3]:
        picture = np.asarray(axis.images[0].get_array())
        assert np.argwhere(picture).mean(axis=0)[1] < picture.shape[1] / 2
        assert [text.get_text() for text in axis.texts] == ["L", "R"]
    assert brains.CONVENTION in repr(figure)


def test_rows_of_brains_stand_close(tmp_path):
    some, none = (on_template(tmp_path / f"{n}.nii.gz", [(30, -24, 0)] * n) for n in (1, 0))
    pairs = [*[(f"sub-{number}", some, some) for number in range(8)], ("sub-9 (left out)", some, none)]
    figure = brains.contact_sheet(pairs)
    figure.draw_without_rendering()
    above, below = (figure.axes[place].get_window_extent() for place in (0, 4))
    assert 0 < (above.y0 - below.y1) / figure.dpi < 0.4, "inches, with a title in between"
    plt.close(figure)
