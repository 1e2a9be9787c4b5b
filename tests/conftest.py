"""The chain on a handful of phantoms, run once for all tests that look at its results."""

import pytest
from project import copy_project, tle


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """Project folder after the whole chain on a handful of phantoms."""
    folder = copy_project(tmp_path_factory.mktemp("smoke"))
    done = tle(folder, "run", "--profile", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def smoke_book(smoke):
    """Folder of the pages built from the smoke chain."""
    done = tle(smoke, "book", "--profile", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    return smoke / "_build" / "html"
