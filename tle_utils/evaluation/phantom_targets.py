"""Check the phantom against what is published: latent volumes of whole cohorts, without making their maps."""

import dataclasses
import functools

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import slices
from tle_utils.models import baselines
from tle_utils.phantom import maps
from tle_utils.phantom.volumes import (
    GROUPS,
    draw_person,
    ideal_observer,
    measured_effects,
    model_regions,
    natural_variation,
    participant_streams,
)

# Quantity, what it is, and where it should lie; the last ones have no target, they are what the phantom gives.
QUANTITIES = [
    ("inside", "effects inside ENIGMA's 95 % interval, free of sampling error (share)", 0.999, 1.0),
    ("cv", "hippocampal coefficient of variation", 0.08, 0.12),
    ("left_right_correlation", "hippocampal left-right correlation", 0.70, 0.85),
    ("age_percent_per_decade", "hippocampus, age (% a decade)", -5.0, 0.0),
    ("female_percent", "hippocampus, women (%, at the same head size)", 0.0, 5.0),
    ("head_exponent", "hippocampus, exponent of head size", 0.3, 1.0),
    ("volumes_side", "hippocampal-volume regression, left or right", 0.67, 0.77),
    ("volumes_class", "hippocampal-volume regression, three classes", np.nan, np.nan),
    ("ideal_side", "ideal observer, left or right", np.nan, np.nan),
    ("ideal_class", "ideal observer, three classes", np.nan, np.nan),
]


def draw_cohort(n_control, n_left, n_right, knobs):
    """Draw the latent volumes of a cohort: the people whose maps `maps.make_phantom` would make, without the maps.

    Parameters
    ----------
    n_control, n_left, n_right : int
        Participants of each class.
    knobs : phantom_model.Knobs
        Seed and strength of the effects.

    Returns
    -------
    pandas.DataFrame
        The columns of ``truth.tsv``; ``volume_…`` is the latent volume in ml, where a map adds its rounding.

    Raises
    ------
    TLEError
        When there are no participants.
    """
    counts = {"control": n_control, "left": n_left, "right": n_right}
    people = [(group, index) for group, n in counts.items() for index in range(n)]
    if not people:
        raise TLEError("n_control, n_left and n_right are all 0: give at least one participant")
    drawn = [draw_person(participant_streams(knobs.seed, *person)[0], person[0], knobs) for person in people]
    rows, latent, effect = (list(part) for part in zip(*drawn, strict=True))
    names = model_regions()[0]["name"]
    ids = [f"sub-{len(GROUPS) * index + GROUPS.index(group) + 1:04d}" for group, index in people]
    parts = [pd.DataFrame({"participant_id": ids, "group": [group for group, _ in people]}), pd.DataFrame(rows)]
    for prefix, values in (("latent", latent), ("effect", effect), ("volume", np.exp(latent))):
        parts.append(pd.DataFrame(np.asarray(values), columns=prefix + "_" + names))
    settings = {"effect_scale": knobs.effect_scale, "sclerosis_fraction": knobs.sclerosis_fraction}
    return pd.concat([*parts, pd.DataFrame(settings, index=range(len(people)))], axis=1)


def realised_effects(truth):
    """Realised effects of every region beside the published ones, which are scaled as the cohort's are.

    Parameters
    ----------
    truth : pandas.DataFrame
        From `draw_cohort`, or ``truth.tsv`` of a phantom cohort.

    Returns
    -------
    pandas.DataFrame
        The table of `volumes.measured_effects` with ``published_d`` and its interval multiplied by the cohort's
        ``effect_scale``.

    Raises
    ------
    TLEError
        With fewer than 10 controls or without a side that has 10 sclerotic patients.
    """
    table, scale = measured_effects(truth), truth["effect_scale"].iloc[0]
    table[["published_d", "published_low", "published_high"]] *= scale
    for column, name in {"d": "inside", "d_paired": "paired_inside"}.items():
        table[name] = table[column].between(table["published_low"], table["published_high"])
    return table


def _accuracy(people, n_splits, seed):
    """Out-of-fold accuracy of the regression on hippocampal volumes."""
    counts = people["group"].value_counts()
    if counts.min() < n_splits:
        raise TLEError(f"class '{counts.idxmin()}' has {counts.min()} participants for n_splits = {n_splits}: lower it")
    people = people.rename(columns={f"volume_{side}_hippocampus": f"hippocampus_{side}" for side in ("left", "right")})
    splitter = StratifiedKFold(n_splits, shuffle=True, random_state=seed)
    none = np.array([], int)
    folds = [(train, none, test) for train, test in splitter.split(people, people["group"])]
    said = baselines.hippocampal_volumes(people, folds)
    return (said["predicted"] == said["group"]).mean()


def measure(truth, n_splits=10, seed=0):
    """Everything the calibration asks of one cohort.

    Parameters
    ----------
    truth : pandas.DataFrame
        From `draw_cohort`, with all three classes.
    n_splits, seed : int
        Folds of the regression on hippocampal volumes and their seed.

    Returns
    -------
    dict
        A value for every name of `QUANTITIES`. Left or right is asked among patients, by a model that knows patients
        only.
    """
    patients = truth[truth["group"] != "control"].reset_index(drop=True)
    found = {"inside": realised_effects(truth)["paired_inside"].mean()}
    found |= natural_variation(truth).loc["hippocampus"].to_dict()
    for task, people in (("side", patients), ("class", truth)):
        ideal = ideal_observer(people)
        found[f"volumes_{task}"] = _accuracy(people, n_splits, seed)
        found[f"ideal_{task}"] = (ideal["predicted"] == ideal["group"].to_numpy()).mean()
    return found


def _measure_seed(seed, counts, knobs, n_splits):
    return measure(draw_cohort(*counts, dataclasses.replace(knobs, seed=seed)), n_splits, seed)


def measure_cohorts(counts, knobs, n_seeds, n_splits=10, workers=1):
    """Measure cohorts of several seeds.

    Parameters
    ----------
    counts : tuple of int
        Controls, left and right patients of each cohort.
    knobs : phantom_model.Knobs
        Strength of the effects; the seeds count on from its seed.
    n_seeds, n_splits, workers : int
        Cohorts, folds of the regression, processes side by side.

    Returns
    -------
    pandas.DataFrame
        One row a seed (index), one column a quantity.
    """
    job = functools.partial(_measure_seed, counts=counts, knobs=knobs, n_splits=n_splits)
    seeds = range(knobs.seed, knobs.seed + n_seeds)
    rows = run_parallel(job, seeds, label="cohorts", workers=workers)
    return pd.DataFrame(rows, index=pd.Index(seeds, name="seed"))[[name for name, *_ in QUANTITIES]]


def against_targets(measured):
    """Mean and spread of the quantities over seeds beside their targets.

    Parameters
    ----------
    measured : pandas.DataFrame
        From `measure_cohorts`.

    Returns
    -------
    pandas.DataFrame
        One row a quantity (index, in words): ``mean``, ``sd``, ``lowest``, ``highest`` over the cohorts, ``target``
        (text) and ``met`` (whether the mean lies in it; missing where there is no target).
    """
    rows = {}
    for name, words, low, high in QUANTITIES:
        values, aimed = measured[name], np.isfinite(low)
        rows[words] = {
            "mean": values.mean(),
            "sd": values.std(ddof=1),
            "lowest": values.min(),
            "highest": values.max(),
            "target": "all" if name == "inside" else f"{low:g} to {high:g}" if aimed else "–",
            "met": bool(low <= values.mean() <= high) if aimed else pd.NA,
        }
    return pd.DataFrame.from_dict(rows, orient="index").astype({"met": "boolean"}).rename_axis("quantity")


def example_slices(knobs, y_mm):
    """One coronal slice of a control and of a sclerotic patient of either side, with and without the disease.

    Parameters
    ----------
    knobs : phantom_model.Knobs
        Seed and strength of the effects.
    y_mm : int
        MNI y coordinate of the slice in mm.

    Returns
    -------
    dict of str to tuple
        Class to (slice, change by the disease), each of shape (160, 160) in the layout of `slices.load_slices`; the
        control's change is None. The same person is rendered twice, so the difference is the disease alone.

    Raises
    ------
    TLEError
        When a class has no sclerotic patient among its first 1000.
    """
    found = {}
    for group in GROUPS:
        index = _first_sclerotic(group, knobs)
        image = _slice(maps.draw(group, index, knobs), knobs, y_mm)
        change = None
        if group != "control":
            healthy = maps.draw(group, index, knobs)
            healthy["latent"] = healthy["latent"] - healthy["effect"]
            change = image - _slice(healthy, knobs, y_mm)
        found[group] = (image, change)
    return found


def _first_sclerotic(group, knobs):
    for index in range(1000):
        row, *_ = draw_person(participant_streams(knobs.seed, group, index)[0], group, knobs)
        if row["sclerotic"] or group == "control":
            return index
    raise TLEError(f"no sclerotic {group} patient among 1000: raise sclerosis_fraction = {knobs.sclerosis_fraction}")


def _slice(drawn, knobs, y_mm):
    return slices.slices_of(maps.in_space(maps.render(drawn, knobs)), [y_mm])[..., 0]
