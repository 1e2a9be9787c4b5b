"""Real patients: models of hippocampal volumes on the published table of TLE-UNAM, each person left out once."""

import os

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from tle_utils import baselines
from tle_utils.cohort import load_table_only
from tle_utils.download import fetch
from tle_utils.errors import TLEError
from tle_utils.figures import COLOURS, NAMES
from tle_utils.manifest import load_manifest

COHORT = "unam"
SYMBOLS = {"with sclerosis": "x", "without sclerosis": "circle"}


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
        As `cohort.load_table_only`: everybody in the table, those without a class too (``group`` is ``exclude``).
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


def leave_one_out(participants):
    """Predictions of everyone by models that were fitted on all others: majority, asymmetry index, regression.

    Parameters
    ----------
    participants : pandas.DataFrame
        From `with_volumes`.

    Returns
    -------
    pandas.DataFrame
        The table of `tle_utils.predictions`.

    Raises
    ------
    TLEError
        When a class has fewer than two participants.
    """
    counts = participants["group"].value_counts()
    if len(counts) < 2 or counts.min() < 2:
        raise TLEError(f"{COHORT}: leave-one-out needs two classes with two participants each: {counts.to_dict()}")
    everyone, none = np.arange(len(participants)), np.array([], int)
    folds = [(np.delete(everyone, one), none, everyone[[one]]) for one in everyone]
    models = (baselines.majority, baselines.asymmetry, baselines.hippocampal_volumes)
    return pd.concat([model(participants, folds) for model in models], ignore_index=True)


def volume_figure(participants):
    """Left against right hippocampal volume; the colour is the class, a cross means sclerosis.

    Parameters
    ----------
    participants : pandas.DataFrame
        From `with_volumes`.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure = go.Figure()
    for group in COLOURS:
        for words, symbol in SYMBOLS.items():
            part = participants[(participants["group"] == group) & (participants["sclerosis"] == words)]
            if part.empty:
                continue
            name = NAMES[group] if group == "control" else f"{NAMES[group]} {words}"
            figure.add_scatter(
                x=part["hippocampus_left"],
                y=part["hippocampus_right"],
                mode="markers",
                name=f"{name} (n = {len(part)})",
                text=part["participant_id"],
                marker={"color": COLOURS[group], "size": 9, "symbol": symbol, "opacity": 0.85},
                hovertemplate="%{text}: left %{x:.3f} %, right %{y:.3f} %<extra></extra>",
            )
    both = participants[baselines.VOLUMES].to_numpy(float)
    line = {"color": "#7f7f7f", "dash": "dot"}
    ends = [both.min(), both.max()]
    figure.add_scatter(x=ends, y=ends, mode="lines", line=line, name="left = right", hoverinfo="skip")
    figure.update_xaxes(title_text="Left hippocampus (% of intracranial volume)")
    figure.update_yaxes(title_text="Right hippocampus (% of intracranial volume)")
    return figure.update_layout(height=560, margin_t=90)
