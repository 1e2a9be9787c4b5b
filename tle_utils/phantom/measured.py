"""Volumes of a phantom cohort, measured as published studies measure those of people."""

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas
from tle_utils.phantom.volumes import GROUPS, check_truth, model_regions, published_effects


def _residual_sd(values, design):
    """Least-squares coefficients and the standard deviation of what is left, per column of `values`."""
    coefficients, *_ = np.linalg.lstsq(design, values, rcond=None)
    left = values - design @ coefficients
    return coefficients, np.sqrt((left**2).sum(axis=0) / (len(values) - np.linalg.matrix_rank(design)))


def measured_effects(truth):
    """Compare the volumes measured on the maps of sclerotic patients and controls with the published effect sizes.

    Returns
    -------
    pandas.DataFrame
        One row per side of the disease (``patients``), ``hemisphere`` and ``region``. ``d``: Cohen's d adjusted for
        age, sex, head size and site as ENIGMA does, with its sampling interval ``d_low``, ``d_high``. ``d_paired``:
        the same with every participant's own natural variation, known here, taken out, so that nearly no sampling
        error is left. ``published_d, published_low, published_high``: ENIGMA and its 95 % interval, times the
        cohort's ``effect_scale``. ``inside`` and ``paired_inside``: whether that interval holds ``d`` and ``d_paired``.

    Raises
    ------
    TLEError
        When there are fewer than 10 controls or no side has 10 sclerotic patients.
    """
    check_truth(truth)
    names = model_regions()[0]["name"]
    published = published_effects().rename(
        columns={"d": "published_d", "low": "published_low", "high": "published_high"}
    )
    published[["published_d", "published_low", "published_high"]] *= truth["effect_scale"].iloc[0]
    published["name"] = published["hemisphere"] + "_" + published["region"]
    controls = truth["true_group"] == "control"
    result = []
    for side in GROUPS[1:]:
        patients = (truth["true_group"] == side) & truth["sclerotic"].astype(bool)
        if patients.sum() < 10 or controls.sum() < 10:
            continue
        part, ill = truth[controls | patients], patients[controls | patients].to_numpy()
        design = np.column_stack([ill, *_covariates(part)])
        volume, latent, effect = (part[f"{kind}_" + names].to_numpy() for kind in ("volume", "latent", "effect"))
        coefficients, spread = _residual_sd(volume, design)
        change = volume - np.exp(latent - effect)
        measured = pd.DataFrame(
            {
                "name": names,
                "d": coefficients[0] / spread,
                "d_paired": (change[ill].mean(axis=0) - change[~ill].mean(axis=0)) / spread,
            }
        )
        error = np.sqrt(1 / ill.sum() + 1 / (~ill).sum() + measured["d"] ** 2 / (2 * len(ill)))
        measured["d_low"], measured["d_high"] = measured["d"] - 1.96 * error, measured["d"] + 1.96 * error
        result.append(published[published["patients"] == side].merge(measured, on="name"))
    if not result:
        raise TLEError("too few participants to measure effects: make 10 controls and 10 sclerotic patients of a side")
    result = pd.concat(result, ignore_index=True).drop(columns=["name", "source"])
    for column, name in {"d": "inside", "d_paired": "paired_inside"}.items():
        result[name] = result[column].between(result["published_low"], result["published_high"])
    return result


def _covariates(truth):
    """Columns of the adjustment: one, age in decades, female, log head size, sites."""
    sites = pd.get_dummies(truth["site"], drop_first=True, dtype=float).to_numpy().T
    head = np.log(truth["head_size_ml"])
    return [np.ones(len(truth)), truth["age"] / 10, (truth["sex"] == "F").astype(float), head, *sites]


def natural_variation(truth):
    """Spread, left-right correlation and covariate effects of the controls' volumes, measured on the maps.

    Returns
    -------
    pandas.DataFrame
        One row per region (index): ``cv`` (standard deviation over mean, both sides), ``left_right_correlation``,
        ``asymmetry_sd`` (standard deviation of (L − R) / (L + R)), and of a regression of the log volume of both sides
        ``age_percent_per_decade``, ``female_percent``, ``head_exponent``.
    """
    check_truth(truth)
    controls = truth[truth["true_group"] == "control"]
    if len(controls) < 10:
        raise TLEError(f"{len(controls)} controls are too few to measure natural variation: make 10 or more")
    table, _ = model_regions()
    rows = {}
    for region in table["region"].unique():
        both = controls[[f"volume_left_{region}", f"volume_right_{region}"]].to_numpy()
        slopes, _ = _residual_sd(np.log(both.sum(axis=1)), np.column_stack(_covariates(controls)))
        rows[region] = {
            "cv": (both.std(axis=0, ddof=1) / both.mean(axis=0)).mean(),
            "left_right_correlation": np.corrcoef(both.T)[0, 1],
            "asymmetry_sd": atlas.asymmetry_index(*both.T).std(ddof=1),
            "age_percent_per_decade": 100 * slopes[1],
            "female_percent": 100 * slopes[2],
            "head_exponent": slopes[3],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("region")
