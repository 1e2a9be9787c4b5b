"""A copy of the project in which the chain runs once for all tests that look at its results."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("_config.yml", "book", "data_manifest.yaml", "manifests", "notebooks", "tle_utils")


def shared_data():
    """Folder of the real scans; may not exist."""
    return (ROOT / os.environ.get("TLE_SHARED_DATA", "../shared/data")).resolve()


def copy_project(folder):
    """Copy what the chain needs, without results."""
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    return folder


def tle(folder, *arguments, **more):
    """Run ``python -m tle_utils`` in a project folder."""
    return subprocess.run(
        [sys.executable, "-m", "tle_utils", *arguments],
        cwd=folder,
        env=os.environ | {"TLE_SHARED_DATA": str(shared_data())},
        capture_output=True,
        text=True,
        **more,
    )


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
