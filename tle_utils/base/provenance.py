"""Where a result comes from: the state of the checkout, versions, the machine."""

import importlib.metadata
import platform
import resource
import subprocess

from tle_utils.base.project import project_root

PACKAGES = ["tensorflow", "keras", "numpy", "scikit-learn", "nilearn", "nibabel", "jupyter-book", "plotly"]


def _git(*arguments):
    try:
        result = subprocess.run(["git", *arguments], cwd=project_root(), capture_output=True, text=True)
    except FileNotFoundError:  # no git on this machine
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def code_state():
    """``commit`` and ``uncommitted_changes`` of tracked files (dict); None outside a git checkout or without git."""
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": _git("rev-parse", "HEAD"), "uncommitted_changes": None if changes is None else bool(changes)}


def versions():
    """Versions of Python and of the packages that results depend on (dict of str, None where not installed)."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def largest_process():
    """Greatest memory in GB of any process that this one started and that has ended (float)."""
    size = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return size * (1 if platform.system() == "Darwin" else 1024) / 1e9
