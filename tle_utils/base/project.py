"""Where the project lies, and where its results do."""

from pathlib import Path

from tle_utils.base.errors import TLEError

FILE_NAME = "data_manifest.yaml"


def project_root():
    """Folder of the nearest ``data_manifest.yaml`` at or above the working directory; `TLEError` without one."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder
    raise TLEError(f"no {FILE_NAME} in this folder or above it: change to the project's folder")


def run_folder(profile, cohort):
    """Folder of all results of one profile on one cohort: ``runs/<profile>-<cohort>`` (Path, may not exist yet)."""
    return project_root() / "runs" / f"{profile}-{cohort}"


def require(path, notebook):
    """Path (pathlib.Path) of a file or folder that an earlier notebook makes, such as ``"01_preprocessing"``.

    `TLEError` where it is missing: names it and the notebook to run first.
    """
    path, runs = Path(path), project_root() / "runs"
    if path.exists():
        return path
    options = ""
    if path.is_relative_to(runs):
        profile, _, cohort = path.relative_to(runs).parts[0].partition("-")
        options = f" --profile {profile} --cohort {cohort}"
        path = path.relative_to(runs.parent)
    raise TLEError(f"{path} is missing: run notebook {notebook} first (python -m tle_utils run{options})")
