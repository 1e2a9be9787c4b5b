"""How large a person's regions are beside healthy people of the same age, sex and head size.

Linear regressions on the logarithm of regional volumes and of their left-right ratios, fitted on controls alone: one
for every set of covariates, so that a person whose age is not known is held against a norm that does without it. What
is kept are coefficients, residual deviations and counts, nothing of a single participant.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel
from scipy.special import ndtri, stdtr, stdtrit

from tle_utils.base.errors import TLEError
from tle_utils.base.text import minus

COVARIATES = ("age", "sex", "head_size_ml")
AGE, DECADE, HEAD_SIZE_ML = 40.0, 10.0, 1450.0  # where the covariates are centred
FEMALE = {"F": 1.0, "M": 0.0}
LEAST = 10  # controls below which no norm is fitted
NORMAL = 1.96
LEAST_PERCENTILE = 1e-300  # a smaller one has no finite z; |z| stays below 38
FIRST = "hippocampus"
PARTS = ("left", "right", "asymmetry")


class Regression(BaseModel, frozen=True, extra="forbid"):
    """Norm for one set of covariates, fitted on `n` controls.

    `precision` is the inverse of X'X of the design (one, then the covariates), for the leverage of a person. By measure
    (see `measures`): `coefficients` are the intercept and the slopes (per decade of age, female against male, per log
    head size), `sd` the residual standard deviation.
    """

    covariates: tuple[str, ...]
    n: int
    precision: tuple[tuple[float, ...], ...]
    coefficients: dict[str, tuple[float, ...]]
    sd: dict[str, float]


class Norms(BaseModel, frozen=True, extra="forbid"):
    """Norms of a cohort's controls: a regression for every set of covariates that enough of them have, maybe none.

    `ages` are the 2.5th and the 97.5th percentile of the controls' ages in years.
    """

    regressions: tuple[Regression, ...]
    ages: tuple[float, float] | None = None


def measures(volumes):
    """Log ml of both sides of every region, and log left − log right, negative when the left side is the smaller one.

    Same rows as `volumes`; columns ``<region>_left``, ``<region>_right``, ``<region>_asymmetry``.
    """
    left, right = (np.log(volumes.xs(side, axis=1, level="hemisphere")) for side in PARTS[:2])
    values = np.stack([left, right[left.columns], left - right], axis=2)
    names = [f"{region}_{part}" for region in left for part in PARTS]
    return pd.DataFrame(values.reshape(len(values), -1), columns=names)


def covariates(participants, folder):
    """Age, sex and head size of a cohort's participants: columns `COVARIATES`, NaN or "" (sex) where not known.

    Head size is the known one of a phantom (``maps/truth.tsv`` of notebook 01) or the volume of the brain
    mask of a scan (``maps/qc.tsv``); cohorts that start as grey-matter maps have none.
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
    """Norms of a cohort's controls; `people` are the `covariates` in the order of `volumes` and `groups`."""
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
        regression = Regression(
            covariates=names,
            n=n,
            precision=np.linalg.inv(design.T @ design).round(9).tolist(),
            coefficients=dict(zip(values.columns, slopes.T.round(6).tolist(), strict=True)),
            sd=dict(zip(values.columns, sd.round(6).tolist(), strict=True)),
        )
        found.append(regression)
    ages = people["age"].dropna()
    limits = np.percentile(ages, [2.5, 97.5]).round(1).tolist() if len(ages) >= LEAST else None
    return Norms(regressions=tuple(found), ages=limits)


def choose_norm(norms, person):
    """The `Regression` that uses most of what is known of a person; None where there were too few controls for any.

    TLEError when the sex is neither F nor M.
    """
    if person.get("sex") not in (None, "", *FEMALE):
        raise TLEError(f"sex is '{person['sex']}': give F or M, or leave it out")
    known = {name for name in COVARIATES if person.get(name) not in (None, "")}
    fitting = [one for one in norms.regressions if set(one.covariates) <= known]
    return max(fitting, key=lambda one: (len(one.covariates), one.n), default=None)


def zscores(norms, volumes, person):
    """Volumes and asymmetries of one person beside what the controls lead one to expect.

    A new person's distance from the expected value, over the residual deviation times the root of 1 + leverage, follows
    Student's t with as many degrees of freedom as there are controls less coefficients (Crawford and Garthwaite 2006,
    doi 10.1080/02643290500538398). The band is that of t, and z is the normal deviate of the same percentile: 5 % of
    healthy people lie beyond ±1.96, however few the controls.

    Returns
    -------
    pandas.DataFrame
        Three rows per region (``measure``: left, right, asymmetry), the hippocampus first, then by the greatest
        deviation: ``region``, ``measure``, ``value``, ``expected``, ``low``, ``high`` (95 % of healthy people lie
        between) and ``z``. Volumes in ml; asymmetry is (left − right) / (left + right), negative when the left side is
        the smaller one. NaN beside the value where there is no norm; TLEError when the norms are of other regions.
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
        t, freedom = (logs["value"] - logs["expected"]) / spread, model.n - len(x)
        table["z"] = -np.sign(t) * ndtri(np.maximum(stdtr(freedom, -t.abs()), LEAST_PERCENTILE))
        width = stdtrit(freedom, 0.975) * spread
        logs["low"], logs["high"] = logs["expected"] - width, logs["expected"] + width
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
    """How many z-scores lie beyond ±1.96, how many of a healthy person's would by chance, and how many there are."""
    z = table["z"].dropna()
    return int((z.abs() > NORMAL).sum()), round(0.05 * len(z)), len(z)


def hippocampus_rows(table):
    """Rows of the hippocampus of a table of `zscores`, indexed by measure (left, right, asymmetry)."""
    return table[table["region"] == FIRST].set_index("measure").loc[list(PARTS)]


def hippocampus_text(table):
    """What a table of `zscores` says of the hippocampus: ml, the range of 95 % of healthy people, z (str)."""
    words = []
    for name, row in hippocampus_rows(table).iterrows():
        unit = "" if name == "asymmetry" else " ml"
        norm = f" (95 % of healthy people {row['low']:.2f} to {row['high']:.2f}, z = {row['z']:+.1f})"
        words.append(f"{name} {row['value']:.2f}{unit}" + norm * bool(np.isfinite(row["z"])))
    return minus(", ".join(words))
