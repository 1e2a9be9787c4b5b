"""Real patients: models of hippocampal volumes on the published table of TLE-UNAM, each person left out once."""

import os

from tle_utils.base.errors import TLEError
from tle_utils.cohorts.download import fetch
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.cohorts.participants import load_table_only
from tle_utils.models import baselines

COHORT = "unam"


def load_patients(manifest=None):
    """Participants table of TLE-UNAM, from ``downloads/`` or from the folder that ``TLE_SHARED_DATA`` names.

    Nothing is downloaded. The rules of the manifest read the labels, and its reading of ``hasMTS``, whose published
    description is reversed.

    Parameters
    ----------
    manifest : Manifest, optional
        By default the project's.

    Returns
    -------
    pandas.DataFrame
        As `participants.load_table_only`: everybody in the table, those without a class too (``group`` is ``exclude``).
        Hippocampal volumes are in percent of the intracranial volume.

    Raises
    ------
    TLEError
        When the table is not there; the line says how to get it.
    """
    manifest = manifest or load_manifest()
    mirror = manifest.root / os.environ.get("TLE_SHARED_DATA", "../shared/data")
    table = manifest.folder(COHORT) / manifest.cohort(COHORT).table[0]
    if not table.exists():
        if not mirror.is_dir():
            raise TLEError("the table of TLE-UNAM is not here: run python -m tle_utils fetch unam --only table")
        fetch(COHORT, only="table", mirror=mirror, manifest=manifest)
    return load_table_only(COHORT, manifest)


def with_volumes(table, groups):
    """Participants of some classes who have both hippocampal volumes, with ``mts`` in words for sub-groups.

    Parameters
    ----------
    table : pandas.DataFrame
        From `load_patients`.
    groups : sequence of str
        Classes to keep.

    Returns
    -------
    pandas.DataFrame
        Rows numbered anew; ``sclerosis`` is ``with sclerosis``, ``without sclerosis`` or missing.
    """
    kept = table[table["group"].isin(groups) & table[baselines.VOLUMES].notna().all(axis=1)]
    words = kept["mts"].map({True: "with sclerosis", False: "without sclerosis"})
    return kept.assign(sclerosis=words).reset_index(drop=True)
