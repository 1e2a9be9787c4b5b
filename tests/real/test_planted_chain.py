"""From real T1w scans to the pages: a loss planted on one side must be found on that side."""

import pandas as pd
import pytest
from project import copy_project, shared_data, tle

pytestmark = [pytest.mark.real, pytest.mark.chain]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    if not (shared_data() / "ds002748").is_dir():
        pytest.skip(f"no ds002748 in {shared_data()}: name the folder of the real scans in TLE_SHARED_DATA")
    folder = copy_project(tmp_path_factory.mktemp("planted"))
    done = tle(folder, "run", "--profile", "smoke", "--cohort", "planted")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_planted_side_is_the_smaller_one(planted):
    people = pd.read_csv(planted / "runs/smoke-planted/01_preprocessing/participants.tsv", sep="\t")
    ratio = people["hippocampus_left"] / people["hippocampus_right"]
    normal = ratio[people["group"] == "control"].mean()
    assert len(people) == 12 and people["group"].value_counts().eq(4).all()
    assert (ratio[people["group"] == "left"] < normal).all()
    assert (ratio[people["group"] == "right"] > normal).all()


def test_the_book_is_built_from_it(planted):
    done = tle(planted, "book", "--profile", "smoke", "--cohort", "planted")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (planted / "_build/html/01_preprocessing.html").read_text()
    assert "planted" in page and str(planted) not in page
