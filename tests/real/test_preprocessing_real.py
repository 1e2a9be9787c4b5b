"""Preprocessing on real scans: masks, tissues and sides against reference labels, by the numbers of the benchmark."""

import nibabel as nib
import numpy as np
import pytest
from project import shared_data

from benchmarks import preprocessing as benchmark
from tle_utils.imaging import atlas
from tle_utils.imaging.preprocessing import preprocess
from tle_utils.imaging.segmentation import labels_to_native

DATA = shared_data()
HEAD = DATA / "labelled" / "epilepsy_head"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not HEAD.exists(), reason=f"no real scans in {DATA}: set TLE_SHARED_DATA"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark")


def test_epilepsy_head_against_freesurfer():
    mask, kept, grey = benchmark.labelled_head(DATA)
    assert mask >= 0.94 and kept >= 0.985 and grey >= 0.83


def test_brain_against_its_reference_grey_matter():
    assert benchmark.grey_matter_correlation(DATA) >= 0.90


def test_asymmetry_is_freesurfers(folder):
    found, truth = benchmark.hippocampal_asymmetry(DATA, folder)
    assert np.sign(found) == np.sign(truth) and abs(found - truth) <= 0.05


def test_mirrored_head_gives_mirrored_volumes(folder):
    assert benchmark.mirror_difference(HEAD / "T1.mgz", folder) <= 0.03


def test_region_lands_on_the_same_side_of_the_native_scan():
    native = labels_to_native(HEAD / "T1.mgz", atlas.region_mask("hippocampus", "left"))
    aseg = np.asarray(nib.load(HEAD / "aseg.mgz").dataobj)
    assert native.shape == aseg.shape
    assert benchmark.dice(native > 0.5, aseg == 17) > 0.7
    assert (native * (aseg == 53)).sum() == 0


def test_second_run_gives_the_same_bytes(tmp_path):
    scan = sorted((DATA / "ds002748").glob("sub-*/anat/*_T1w.nii.gz"))[0]
    maps = [preprocess(scan, tmp_path / name, "sub-01")["map"].read_bytes() for name in ("a", "b")]
    assert maps[0] == maps[1]
