"""How large a person's regions are beside healthy people of the same age, sex and head size.

Linear regressions on the logarithm of regional volumes and of their left-right ratios, fitted on controls alone: one
for every set of covariates, so that a person whose age is not known is held against a norm that does without it. What
is kept are coefficients, residual deviations and counts, nothing of a single participant.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from tle_utils.base.errors import TLEError

COVARIATES = ("age", "sex", "head_size_ml")
AGE, DECADE, HEAD_SIZE_ML = 40.0, 10.0, 1450.0  # where the covariates are centred
FEMALE = {"F": 1.0, "M": 0.0}
LEAST = 10  # controls below which no norm is fitted
NORMAL = 1.96
FIRST = "hippocampus"
PARTS = ("left", "right", "asymmetry")


class Regression(BaseModel):
    """Norm for one set of covariates.

    Attributes
    ----------
    covariates : tuple of str
        Of `COVARIATES`.
    n : int
        Controls.
    precision : tuple
        Inverse of X'X of the design (one, then the covariates), for the leverage of a person.
    coefficients : dict of str to tuple of float
        Measure (``<region>_left``, ``<region>_right``: log ml; ``<region>_asymmetry``: log left − log right) to
        intercept and slopes (a decade of age, female against male, log head size).
    sd : dict of str to float
        Measure to the residual standard deviation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    covariates: tuple[str, ...]
    n: int
    precision: tuple[tuple[float, ...], ...]
    coefficients: dict[str, tuple[float, ...]]
    sd: dict[str, float]


class Norms(BaseModel):
    """Norms of a cohort's controls.

    Attributes
    ----------
    regressions : tuple of Regression
        One for every set of covariates that enough controls have; empty for a cohort with fewer than `LEAST`.
    ages : tuple of float, optional
        2.5th and 97.5th percentile of the controls' ages in years.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    regressions: tuple[Regression, ...]
    ages: tuple[float, float] | None = None


def measures(volumes):
    """Logarithms of the volumes of both sides of every region, and of their ratio.

    Parameters
    ----------
    volumes : pandas.DataFrame
        From `regions.read_regional_volumes`: columns (region, hemisphere), ml.

    Returns
    -------
    pandas.DataFrame
        Same rows; columns ``<region>_left``, ``<region>_right``, ``<region>_asymmetry`` (negative when the left side
        is the smaller one).
    """
    logs = np.log(volumes)
    parts = {}
    for region in volumes.columns.get_level_values("region").unique():
        left, right = logs[region, "left"], logs[region, "right"]
        parts |= {f"{region}_left": left, f"{region}_right": right, f"{region}_asymmetry": left - right}
    return pd.DataFrame(parts)


def covariates(participants, folder):
    """Age, sex and head size of a cohort's participants, as far as they are known.

    Parameters
    ----------
    participants : pandas.DataFrame
        From `participants.load_participants`.
    folder : path-like
        Results of notebook 01. Head size is the known one of a phantom (``maps/truth.tsv``) or the volume of the brain
        mask of a scan (``maps/qc.tsv``); cohorts that start as grey-matter maps have none.

    Returns
    -------
    pandas.DataFrame
        Columns `COVARIATES`, in the order of `participants`; NaN (age, head size) or "" (sex) where not known.
    """
    found = participants.reindex(columns=["participant_id", "age", "sex"]).assign(head_size_ml=np.nan)
    for name, column in (("truth.tsv", "head_size_ml"), ("qc.tsv", "mask_ml")):
        path = Path(folder) / "maps" / name
        table = pd.read_csv(path, sep="\t", dtype={"participant_id": str}) if path.exists() else pd.DataFrame()
        if column in table:
            sizes = table.drop_duplicates("participant_id").set_index("participant_id")[column]
            found["head_size_ml"] = found["head_size_ml"].fillna(found["participant_id"].map(sizes))
    return found[list(COVARIATES)].assign(sex=found["sex"].fillna(""))


def _design(people, names):
    columns = {
        "age": (people["age"].astype(float) - AGE) / DECADE,
        "sex": people["sex"].map(FEMALE).astype(float),
        "head_size_ml": np.log(people["head_size_ml"].astype(float) / HEAD_SIZE_ML),
    }
    return np.column_stack([np.ones(len(people)), *(columns[name] for name in names)])


def fit_norms(volumes, people, groups):
    """Fit the norms of a cohort.

    Parameters
    ----------
    volumes : pandas.DataFrame
        From `regions.read_regional_volumes`.
    people : pandas.DataFrame
        From `covariates`, in the order of `volumes`.
    groups : sequence of str
        Class of each participant; only controls are used.

    Returns
    -------
    Norms
    """
    healthy = np.asarray(groups) == "control"
    values, people = measures(volumes)[healthy], people[healthy]
    sets = itertools.chain.from_iterable(itertools.combinations(COVARIATES, k) for k in range(len(COVARIATES) + 1))
    found = []
    for names in sets:
        design = _design(people, names)
        known = np.isfinite(design).all(axis=1)
        design, y = design[known], values[known].to_numpy()
        n, width = design.shape
        if n < LEAST + len(names) or np.linalg.matrix_rank(design) < width:
            continue
        slopes, *_ = np.linalg.lstsq(design, y, rcond=None)
        sd = np.sqrt(((y - design @ slopes) ** 2).sum(axis=0) / (n - width))
        kept = {
            "covariates": names,
            "n": n,
            "precision": np.linalg.inv(design.T @ design).round(9).tolist(),
            "coefficients": dict(zip(values.columns, slopes.T.round(6).tolist(), strict=True)),
            "sd": dict(zip(values.columns, sd.round(6).tolist(), strict=True)),
        }
        found.append(Regression(**kept))
    ages = people["age"].dropna()
    limits = np.percentile(ages, [2.5, 97.5]).round(1).tolist() if len(ages) >= LEAST else None
    return Norms(regressions=tuple(found), ages=limits)


def choose_norm(norms, person):
    """The regression that uses most of what is known of a person.

    Parameters
    ----------
    norms : Norms
        From `fit_norms`.
    person : dict
        ``age`` (years), ``sex`` (F or M), ``head_size_ml``; None where not known.

    Returns
    -------
    Regression or None
        None when too few controls were there for any norm.

    Raises
    ------
    TLEError
        When the sex is neither F nor M.
    """
    if person.get("sex") not in (None, "", *FEMALE):
        raise TLEError(f"sex is '{person['sex']}': give F or M, or leave it out")
    known = {name for name in COVARIATES if person.get(name) not in (None, "")}
    fitting = [one for one in norms.regressions if set(one.covariates) <= known]
    return max(fitting, key=lambda one: (len(one.covariates), one.n), default=None)


def zscores(norms, volumes, person):
    """Volumes and asymmetries of one person beside what the controls lead one to expect.

    The deviation of a z-score holds the uncertainty of the norm too (Crawford and Garthwaite 2006,
    doi 10.1080/02643290500538398).

    Parameters
    ----------
    norms : Norms
        From `fit_norms`.
    volumes : pandas.DataFrame
        One row of `regions.read_regional_volumes`.
    person : dict
        As in `choose_norm`.

    Returns
    -------
    pandas.DataFrame
        Three rows a region (``measure``: left, right, asymmetry), the hippocampus first, then by the greatest
        deviation: ``region``, ``measure``, ``value``, ``expected``, ``low``, ``high`` (95 % of healthy people lie
        between) and ``z``. Volumes in ml; asymmetry is (left − right) / (left + right), negative when the left side is
        the smaller one. NaN beside the value where there is no norm.

    Raises
    ------
    TLEError
        When the norms are of other regions, or the sex is neither F nor M.
    """
    found, model = measures(volumes).iloc[0], choose_norm(norms, person)
    table = pd.DataFrame([name.rsplit("_", 1) for name in found.index], columns=["region", "measure"])
    logs = pd.DataFrame({"value": found.to_numpy()}).assign(expected=np.nan, low=np.nan, high=np.nan)
    table["z"] = np.nan
    if model:
        absent = set(found.index) ^ set(model.sd)
        if absent:
            raise TLEError(f"norms: '{min(absent)}' is not both in the model and in the map: train the model again")
        x = _design(pd.DataFrame([person | {"sex": person.get("sex") or ""}]), model.covariates)[0]
        logs["expected"] = [np.dot(x, model.coefficients[name]) for name in found.index]
        spread = np.array([model.sd[name] for name in found.index]) * np.sqrt(1 + x @ np.array(model.precision) @ x)
        table["z"] = (logs["value"] - logs["expected"]) / spread
        logs["low"], logs["high"] = logs["expected"] - NORMAL * spread, logs["expected"] + NORMAL * spread
    ratio = table["measure"].to_numpy()[:, None] == "asymmetry"
    table[list(logs)] = np.where(ratio, np.tanh(logs / 2), np.exp(logs))
    greatest = table["z"].abs().groupby(table["region"]).transform("max").fillna(0)
    order = np.lexsort((table.index, -greatest, table["region"] != FIRST))
    return table.iloc[order].reset_index(drop=True)[["region", "measure", "value", "expected", "low", "high", "z"]]


def describe_norm(norms, person):
    """What the z-scores of a person were adjusted for, on how many controls, and what to beware of (str)."""
    model = choose_norm(norms, person)
    if model is None:
        return f"No norm: the model was made with fewer than {LEAST} controls, so there are no z-scores."
    words = {"age": "age", "sex": "sex", "head_size_ml": "head size"}
    used = ", ".join(words[name] for name in model.covariates) or "nothing"
    left_out = ", ".join(words[name] for name in COVARIATES if name not in model.covariates)
    text = f"Against {model.n} controls, adjusted for {used}" + (f" (not for {left_out})." if left_out else ".")
    age = person.get("age")
    if norms.ages and age is not None and not norms.ages[0] <= age <= norms.ages[1]:
        text += f" The age of {age:g} years lies outside the controls' ({norms.ages[0]:g} to {norms.ages[1]:g}): "
        text += "the z-scores are extrapolated."
    return text


def beyond(table):
    """How many z-scores lie beyond ±1.96, and how many of a healthy person's would by chance.

    Parameters
    ----------
    table : pandas.DataFrame
        From `zscores`.

    Returns
    -------
    found, expected, total : int
    """
    z = table["z"].dropna()
    return int((z.abs() > NORMAL).sum()), round(0.05 * len(z)), len(z)


def hippocampus_rows(table):
    """Rows of the hippocampus by measure, from `zscores` (pandas.DataFrame indexed by left, right, asymmetry)."""
    return table[table["region"] == FIRST].set_index("measure").loc[list(PARTS)]
