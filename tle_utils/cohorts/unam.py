"""Real patients: the published table of TLE-UNAM, with hippocampal volumes, sides and sclerosis."""

import pandas as pd

from tle_utils.cohorts.download import fetch
from tle_utils.cohorts.participants import load_table_only
from tle_utils.models import baselines


def load_patients(cohort):
    """Participants table of TLE-UNAM, from ``downloads/`` or from the folder that ``TLE_SHARED_DATA`` names.

    Nothing is downloaded. The rules of the manifest read the labels, and its reading of ``hasMTS``, whose published
    description is reversed.

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
    if not (cohort.folder / cohort.entry.table[0]).exists() and cohort.shared.is_dir():
        fetch(cohort, only="table", mirror=cohort.shared)
    return load_table_only(cohort)


def who_is_analysed(table):
    """How many of each class (rows) of `load_patients` have both volumes, and why the others are left out (columns)."""
    lost = table[baselines.VOLUMES].isna().any(axis=1).map({True: "no hippocampal volumes", False: "analysed"})
    fate = table["reason"].where(table["reason"].fillna("").ne(""), lost)
    names = table["group"].replace("exclude", "none of the classes")
    return pd.crosstab(names.rename("class"), fate).rename_axis(columns=None)


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
