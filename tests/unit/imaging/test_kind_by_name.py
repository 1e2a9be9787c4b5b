"""What a file is, told by its name: a scan named like a map would be read as one, a map of white matter as grey."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tle_utils.base.errors import TLEError
from tle_utils.imaging.names import kind_by_name

SUFFIX = st.sampled_from([".nii", ".nii.gz", ".mgz"])
NAME = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,5}(-[A-Za-z0-9]{1,3})?(_T1w)?", fullmatch=True)
WARPED = st.sampled_from(["mwp", "mwc", "smwp", "smwc", "s8mwp", "m0wp", "sm0wp"])


@pytest.mark.parametrize(
    "name",
    [
        "c10_T1w.nii.gz",
        "c1_T1w.nii.gz",
        "c2.nii",
        "sub-01_T1w.nii.gz",
        "sub-c1anna_T1w.nii.gz",
        "sub-mwp1_T1w.nii.gz",
        "T1.mgz",
        "sub-01_desc-preproc_T1w.nii.gz",
        "scan-label-GM-probseg-of-friday_T1w.nii.gz",
    ],
)
def test_scans(name):
    assert kind_by_name(name) == "t1w"


@pytest.mark.parametrize(
    "name",
    [
        "mwp1sub-01.nii",
        "mwp1001.nii",
        "smwc1sub-01_T1w.nii",
        "wc1sub-01.nii",
        "c1sub-01_T1w.nii",
        "sub-01_space-MNI152NLin6Asym_label-GM_probseg.nii.gz",
        "sub-01_space-MNI152NLin2009aSym_desc-modulatedsmooth2p5_label-GM_probseg.nii.gz",
        "sub-01_ses-M00_T1w_segm-graymatter_space-Ixi549Space_modulated-on_fwhm-8mm_probability.nii.gz",
    ],
)
def test_grey_matter_maps(name):
    assert kind_by_name(name) == "gm"


@pytest.mark.parametrize(
    ("name", "tissue"),
    [
        ("mwp2sub-01.nii", "white matter"),
        ("c3sub-01.nii", "fluid"),
        ("sub-01_label-WM_probseg.nii.gz", "white matter"),
        ("sub-01_label-CSF_probseg.nii.gz", "fluid"),
        ("sub-01_T1w_segm-csf_space-Ixi549Space_modulated-on_probability.nii.gz", "fluid"),
        ("sub-01_label-WM_mask.nii.gz", "white matter"),
        ("sub-01_label-GM_mask.nii.gz", "something else"),
        ("sub-01_probseg.nii.gz", "something else"),
        ("c5sub-01.nii", "something else"),
    ],
)
def test_maps_of_other_tissues_are_refused(name, tissue):
    with pytest.raises(TLEError, match=f"^{re.escape(name)}: by its name a map of {tissue}: .*image_kind") as error:
        kind_by_name(name)
    assert "\n" not in str(error.value)


@given(st.integers(0, 99999), st.sampled_from(["", "_T1w", "_ses-1_T1w", "-2", "_mprage"]), SUFFIX)
def test_participants_called_c_and_a_number_have_scans(number, rest, suffix):
    assert kind_by_name(f"c{number}{rest}{suffix}") == "t1w"


@given(WARPED, st.sampled_from("123456"), NAME | st.text(string.digits, min_size=1), SUFFIX)
def test_the_digit_of_a_warped_map_names_its_tissue(program, tissue, name, suffix):
    full = f"{program}{tissue}{name}{suffix}"
    if tissue == "1":
        assert kind_by_name(full) == "gm"
    else:
        with pytest.raises(TLEError):
            kind_by_name(full)


@given(NAME, SUFFIX)
def test_native_maps_of_spm_have_a_name_behind_the_digit(name, suffix):
    assert kind_by_name(f"c1{name}{suffix}") == "gm"
    with pytest.raises(TLEError, match="white matter"):
        kind_by_name(f"c2{name}{suffix}")


@given(st.permutations(["space-MNI152NLin6Asym", "label-GM", "desc-a", "ses-1"]), SUFFIX)
def test_order_of_entities_does_not_matter(entities, suffix):
    assert kind_by_name("_".join(["sub-01", *entities, "probseg"]) + suffix) == "gm"


@given(st.sampled_from(["mwp1", "c2", "label-WM_probseg", "c1sub-01"]), st.integers(1, 99))
def test_folders_have_no_say(folder, number):
    assert kind_by_name(f"/{folder}/sub-{number:02d}_T1w.nii.gz") == "t1w"
