"""Copies of the project, and its command line run in them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

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
