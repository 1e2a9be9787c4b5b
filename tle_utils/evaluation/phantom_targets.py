"""The phantom beside what it is matched to: published effects and real volumes; latent volumes, without their maps.

``knobs`` are those of `tle_utils.phantom.volumes.Knobs`.
"""

import dataclasses
import functools

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import slices
from tle_utils.models import baselines
from tle_utils.models.crossval import Fold
from tle_utils.phantom import maps
from tle_utils.phantom.measured import measured_effects, natural_variation
from tle_utils.phantom.volumes import (
    GROUPS,
    draw_cohort,
    draw_person,
    ideal_observer,
    model_regions,
    participant_streams,
    real_volumes,
)

ENIGMA, IDEAS, AGEING = "ENIGMA-Epilepsy", "IDEAS, 81 controls", "FreeSurfer in 3,929 ageing volunteers"
SURGICAL = "IDEAS, surgical patients with sclerosis"
# Quantity, what it is, where it should lie, and who says so; the last ones have no target: they are what comes out.
QUANTITIES = [
    ("inside", "effects inside ENIGMA's 95 % interval, free of sampling error (share)", 0.999, 1.0, ENIGMA),
    ("d_left", "left hippocampus in left sclerosis, Cohen's d", -2.10, -1.35, f"{ENIGMA}: -1.73; {SURGICAL}: -1.67"),
    (
        "d_right",
        "right hippocampus in right sclerosis, Cohen's d",
        -2.20,
        -1.61,
        f"{ENIGMA}: -1.91; {SURGICAL}: -1.97",
    ),
    ("cv", "hippocampal coefficient of variation", 0.12, 0.125, f"{IDEAS}: 0.125; {AGEING}: 0.12"),
    ("left_right_correlation", "hippocampal left-right correlation", 0.82, 0.844, f"{IDEAS}: 0.82; {AGEING}: 0.844"),
    ("asymmetry_sd", "hippocampal asymmetry (L − R) / (L + R), SD", 0.035, 0.037, f"{IDEAS}: 0.036; {AGEING}: 0.0365"),
    ("age_percent_per_decade", "hippocampus, age (% per decade)", -5.0, 0.0, "sign and order of size"),
    ("female_percent", "hippocampus, women (%, at the same head size)", 0.0, 5.0, "sign and order of size"),
    ("head_exponent", "hippocampus, exponent of head size", 0.3, 1.0, "sign and order of size"),
    ("volumes_side", "hippocampal-volume regression, left or right", 0.67, 0.77, "Kaestner, Rao et al. 2023: 0.717"),
    ("volumes_sclerotic", "the same in those with sclerosis", 0.919, 0.980, f"{SURGICAL}: 0.960 (n = 173)"),
    ("volumes_class", "hippocampal-volume regression, three classes", np.nan, np.nan, ""),
    ("ideal_side", "ideal observer, left or right", np.nan, np.nan, ""),
    ("ideal_class", "ideal observer, three classes", np.nan, np.nan, ""),
]


def _accuracy(people, n_splits, seed):
    """Out-of-fold accuracy of the regression on hippocampal volumes."""
    counts = people["group"].value_counts()
    if counts.min() < n_splits:
        raise TLEError(f"class '{counts.idxmin()}' has {counts.min()} participants for n_splits = {n_splits}: lower it")
    people = people.rename(columns={f"volume_{side}_hippocampus": f"hippocampus_{side}" for side in ("left", "right")})
    splits = StratifiedKFold(n_splits, shuffle=True, random_state=seed).split(people, people["group"])
    folds = [Fold(0, number, train, test[:0], test) for number, (train, test) in enumerate(splits)]
    said = baselines.hippocampal_volumes(people, folds)
    return (said["predicted"] == said["group"]).mean()


def measure(truth, n_splits=10, seed=0):
    """A value for every name of `QUANTITIES` (dict), from a cohort of `draw_cohort` with all three classes.

    Left or right is asked among patients, by a model that knows patients only. `n_splits` folds and `seed` are those of
    the regression on hippocampal volumes.
    """
    patients = truth[truth["group"] != "control"].reset_index(drop=True)
    effects = measured_effects(truth)
    own = effects[(effects["region"] == "hippocampus") & (effects["patients"] == effects["hemisphere"])]
    found = {"inside": effects["paired_inside"].mean()}
    found |= {f"d_{side}": d for side, d in zip(own["patients"], own["d"], strict=True)}
    found |= natural_variation(truth).loc["hippocampus"].to_dict()
    found["volumes_sclerotic"] = _accuracy(patients[patients["sclerotic"].astype(bool)], n_splits, seed)
    for task, people in (("side", patients), ("class", truth)):
        ideal = ideal_observer(people)
        found[f"volumes_{task}"] = _accuracy(people, n_splits, seed)
        found[f"ideal_{task}"] = (ideal["predicted"] == ideal["group"].to_numpy()).mean()
    return found


def _measure_seed(seed, counts, knobs, n_splits):
    return measure(draw_cohort(*counts, dataclasses.replace(knobs, seed=seed)), n_splits, seed)


def measure_cohorts(counts, knobs, n_seeds, n_splits=10, workers=1):
    """Measure cohorts of several seeds, which count on from that of the knobs.

    Parameters
    ----------
    counts : tuple of int
        Controls, left and right patients of each cohort.
    n_seeds, n_splits : int
        Cohorts, and folds of the regression on hippocampal volumes.

    Returns
    -------
    pandas.DataFrame
        One row per seed (index), one column per quantity.
    """
    job = functools.partial(_measure_seed, counts=counts, knobs=knobs, n_splits=n_splits)
    seeds = range(knobs.seed, knobs.seed + n_seeds)
    rows = run_parallel(job, seeds, label="cohorts", workers=workers)
    return pd.DataFrame(rows, index=pd.Index(seeds, name="seed"))[[name for name, *_ in QUANTITIES]]


def against_targets(measured):
    """Mean and spread of the quantities over seeds (from `measure_cohorts`) beside their targets.

    Returns
    -------
    pandas.DataFrame
        One row per quantity (index, in words): ``mean``, ``sd``, ``lowest``, ``highest`` over the cohorts, ``target``
        (text), ``met`` (whether the mean lies in it; missing where there is no target) and ``source`` of the target.
    """
    rows = {}
    for name, words, low, high, source in QUANTITIES:
        values, aimed = measured[name], np.isfinite(low)
        rows[words] = {"mean": values.mean(), "sd": values.std(ddof=1), "lowest": values.min(), "highest": values.max()}
        target = "all" if name == "inside" else f"{low:g} to {high:g}" if aimed else "–"
        rows[words] |= {"target": target, "met": bool(low <= values.mean() <= high) if aimed else pd.NA}
        rows[words]["source"] = source
    return pd.DataFrame.from_dict(rows, orient="index").astype({"met": "boolean"}).rename_axis("quantity")


def against_real(truth):
    """Regional volumes of a phantom's controls beside those of real people (`volumes.real_volumes`).

    Both are taken for normal, and their 2-Wasserstein distance is √((difference of means)² + (difference of SDs)²);
    as a measure of plausible anatomy after WASABI (arXiv 2504.21771).

    Returns
    -------
    pandas.DataFrame
        One row per region, one side of it: ``phantom_mean, phantom_sd, real_mean, real_sd`` (ml), ``distance`` in SDs
        of the real people, and ``sampling``: the distance at which so many real people lie from their own population
        (root mean square: √(1/n + 1/2n)).
    """
    controls, real = truth[truth["true_group"] == "control"], real_volumes()
    regions = model_regions()[0]["region"].unique()
    sides = [controls[[f"volume_{side}_{region}" for region in regions]].to_numpy() for side in GROUPS[1:]]
    found = real.loc[regions, ["mean", "sd"]].add_prefix("real_")
    found["phantom_mean"] = np.mean(sides, axis=(0, 1))
    found["phantom_sd"] = np.sqrt(np.var(sides, axis=1, ddof=1).mean(axis=0))
    away = np.hypot(found["phantom_mean"] - found["real_mean"], found["phantom_sd"] - found["real_sd"])
    return found.assign(distance=away / found["real_sd"], sampling=np.sqrt(1.5 / real["n"].loc[regions]))


def example_slices(knobs, y_mm):
    """One coronal slice (`y_mm`) of a control and of a sclerotic patient of either side, with and without the disease.

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
        ill, healthy = (maps.draw(group, index, knobs) for _ in range(2))
        healthy["latent"] = healthy["latent"] - healthy["effect"]
        image = _slice(ill, knobs, y_mm)
        found[group] = (image, None if group == "control" else image - _slice(healthy, knobs, y_mm))
    return found


def _first_sclerotic(group, knobs):
    for index in range(1000):
        row, *_ = draw_person(participant_streams(knobs.seed, group, index)[0], group, knobs)
        if row["sclerotic"] or group == "control":
            return index
    raise TLEError(f"no sclerotic {group} patient among 1000: raise sclerosis_fraction = {knobs.sclerosis_fraction}")


def _slice(drawn, knobs, y_mm):
    return slices.slices_of(maps.in_space(maps.render(drawn, knobs)), [y_mm])[..., 0]
