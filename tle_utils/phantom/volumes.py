"""The known model of regional volumes behind the phantom, and its ideal observer.

The logarithm of every regional volume follows a Gaussian with effects of head size, age and sex; left and right
correlate. Its mean is that of healthy people, as the book's own preprocessing measures them (``real_volumes.tsv``). A
patient adds the disease, some more and some less of it. A fraction of the patients is sclerotic and carries the effects
that ENIGMA-Epilepsy measured (Whelan et al. 2018, Brain 141:391, ``enigma_effects.tsv``); the others carry only the
published fronto-parietal thinning, which tells little about the side, and nothing in the hippocampus.
"""

import dataclasses
import functools
import numbers
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage, special

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas

GROUPS = ("control", "left", "right")

# Natural variation of the logarithm of regional volumes, after head size, age and sex: of the hippocampus from many
# people (`evaluation.phantom_targets` has the sources), elsewhere from the few of `real_volumes`, each region's
# coefficient of variation drawn towards the median one as if that rested on `PRIOR` people.
SPREAD = {"hippocampus": 0.11}
PRIOR, LEAST_SPREAD = 10, 0.06
SIDES_CORRELATION = 0.785  # left with right, after head size, age and sex
SIDES = np.array([[1, SIDES_CORRELATION], [SIDES_CORRELATION, 1]])
SHARED, SHARED_LENGTH_MM = 0.2, 30.0  # correlation of far regions; how fast near ones lose theirs
HEAD_EXPONENT = {"cortex": 0.8, "subcortex": 0.55}
HEAD_SEX, HEAD_SD = 0.06, 0.075  # log head size: half the difference of the sexes, deviation within them
AGE_PER_DECADE = {"cortex": -0.02, "subcortex": -0.013}
FEMALE = 0.01
FRONTO_PARIETAL = (
    "caudalmiddlefrontal",
    "inferiorparietal",
    "paracentral",
    "parsopercularis",
    "parsorbitalis",
    "parstriangularis",
    "postcentral",
    "precentral",
    "precuneus",
    "rostralmiddlefrontal",
    "superiorfrontal",
    "superiorparietal",
    "supramarginal",
)
SEVERITY_SD = 0.4  # of what a patient has of the mean effect


@dataclasses.dataclass(frozen=True)
class Knobs:
    """What a user may turn; a TLEError names a value out of range.

    Parameters
    ----------
    seed : int
        Of the whole cohort; not negative.
    effect_scale : float
        Multiplies the published effect sizes, 0 to 5.
    sclerosis_fraction : float
        Chance that a patient is sclerotic, 0 to 1.
    n_sites : int
        Sites, drawn without regard to the class.
    site_effect : float
        Size of a site's gain and smooth field (standard deviation of the log), 0 to 0.5.
    batch_confound : float
        0: no batch. Else the chance that a participant's batch tells whether the class is left (others toss a coin);
        the second batch has a smooth field of its own.
    label_noise : float
        Chance that the label (``group`` in tables) is one of the other classes, 0 to 1.
    """

    seed: int
    effect_scale: float = 1.0
    sclerosis_fraction: float = 0.45
    n_sites: int = 1
    site_effect: float = 0.0
    batch_confound: float = 0.0
    label_noise: float = 0.0

    def __post_init__(self):
        check_whole("seed", self.seed, 0)
        check_whole("n_sites", self.n_sites, 1)
        limits = {"effect_scale": 5, "sclerosis_fraction": 1, "site_effect": 0.5, "batch_confound": 1, "label_noise": 1}
        for name, high in limits.items():
            value = getattr(self, name)
            if not isinstance(value, numbers.Real) or not 0 <= value <= high:
                raise TLEError(f"{name}={value!r}: give a number from 0 to {high}")


def check_whole(name, value, least):
    """Raise a TLEError unless `value` is a whole number of at least `least`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise TLEError(f"{name}={value!r}: give a whole number, {least} or more")


def published_effects():
    """ENIGMA-Epilepsy effect sizes of mesial temporal lobe epilepsy with hippocampal sclerosis.

    One row per side of the disease (``patients``), ``hemisphere`` and ``region``: Cohen's ``d`` with its 95 % interval
    ``low``, ``high`` (Whelan et al. 2018, Brain 141:391; ENIGMA Toolbox, BSD-3).
    """
    return pd.read_csv(Path(__file__).with_name("enigma_effects.tsv"), sep="\t", comment="#")


@functools.cache
def real_volumes():
    """Grey matter of healthy adults, as the book's own preprocessing measures it (``benchmarks/real_volumes.py``).

    One row per region, its two sides pooled, and for ``elsewhere`` (grey matter outside the regions), ``grey_matter``
    (all of it), ``brain`` (the brain mask) and ``age``: ``mean`` and ``sd`` over people, in ml (age: years).
    """
    return pd.read_csv(Path(__file__).with_name("real_volumes.tsv"), sep="\t", comment="#", index_col="region")


@functools.cache
def model_regions():
    """Regions of the model.

    Returns
    -------
    table : pandas.DataFrame
        The table of `atlas.regions`, all of the left hemisphere before its partners, with ``name``, ``volume`` (mean of
        `real_volumes` in ml), ``spread`` (natural standard deviation of the log volume), ``head`` (exponent of head
        size) and ``age`` (change of the log volume per decade).
    near : numpy.ndarray
        Correlation between the regions of one hemisphere.
    """
    labels, table = atlas.regions()
    table = table.sort_values(["hemisphere", "label"], ignore_index=True)
    table["name"] = table["hemisphere"] + "_" + table["region"]
    real = real_volumes().loc[table["region"]].reset_index()
    table["volume"] = real["mean"]
    table["head"] = table["structure"].map(HEAD_EXPONENT)
    variance, people = (real["sd"] / real["mean"]) ** 2, real["n"] - 1
    variance = (people * variance + PRIOR * variance.median()) / (people + PRIOR)
    variance -= table["head"] ** 2 * (HEAD_SEX**2 + HEAD_SD**2)
    table["spread"] = table["region"].map(SPREAD).fillna(np.sqrt(variance.clip(lower=LEAST_SPREAD**2)))
    table["age"] = table["structure"].map(AGE_PER_DECADE)
    half = table["label"][: len(table) // 2]
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, half))
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    return table, SHARED + (1 - SHARED) * np.exp(-distance / SHARED_LENGTH_MM)


def _mean_log_volumes(age, female, head_size):
    """Expected log volumes (ml) of healthy people."""
    table, mean = model_regions()[0], real_volumes()["mean"]
    return (
        np.log(table["volume"].to_numpy())
        + np.multiply.outer(np.log(np.asarray(head_size) / mean["brain"]), table["head"].to_numpy())
        + np.multiply.outer((np.asarray(age) - mean["age"]) / 10, table["age"].to_numpy())
        + np.multiply.outer(np.asarray(female) * FEMALE, np.ones(len(table)))
    )


@functools.lru_cache(maxsize=64)
def _disease(group, sclerotic, scale):
    """Mean change of the log volumes that the disease makes."""
    table, _ = model_regions()
    if group == "control":
        return np.zeros(len(table))
    effects = published_effects().query("patients == @group").set_index(["region", "hemisphere"])["d"]
    size = effects.loc[list(zip(table["region"], table["hemisphere"], strict=True))].to_numpy()
    if not sclerotic:
        size = np.where(table["region"].isin(FRONTO_PARIETAL), size, 0)
    return np.log1p(np.maximum(scale * size * table["spread"].to_numpy(), -0.95))


def participant_name(group, index):
    """Id of a participant, such as ``sub-0001``: the classes take turns, so that it does not depend on their sizes."""
    return f"sub-{len(GROUPS) * index + GROUPS.index(group) + 1:04d}"


def participant_streams(seed, group, index):
    """Three numpy.random.Generator of one participant: of the person, the smooth fields and the voxel noise."""
    streams = np.random.SeedSequence([seed, GROUPS.index(group), index]).spawn(3)
    return [np.random.default_rng(stream) for stream in streams]


def draw_person(rng, group, knobs):
    """Draw one participant's covariates and latent volumes.

    Parameters
    ----------
    rng : numpy.random.Generator
        The participant's own, of `participant_streams`.

    Returns
    -------
    row : dict
        Entries of the truth table.
    latent, effect : numpy.ndarray
    """
    female = bool(rng.random() < 0.55)
    age = round(float(np.clip(rng.normal(38, 12), 18, 70)), 1)
    head_size = round(
        real_volumes()["mean"]["brain"] * float(np.exp(rng.normal(-HEAD_SEX if female else HEAD_SEX, HEAD_SD))), 3
    )
    sclerotic = bool(rng.random() < knobs.sclerosis_fraction) and group != "control"
    table, near = model_regions()
    white = rng.standard_normal((2, len(near)))
    natural = (np.linalg.cholesky(SIDES) @ white @ np.linalg.cholesky(near).T).ravel() * table["spread"].to_numpy()
    site, confounded, coin = rng.random(3)
    batch = 0
    if knobs.batch_confound:
        batch = int(group == "left") if confounded < knobs.batch_confound else int(coin < 0.5)
    row = {
        "true_group": group,
        "true_side": "" if group == "control" else group,
        "sclerotic": sclerotic,
        "age": age,
        "sex": "F" if female else "M",
        "head_size_ml": head_size,
        "site": f"site-{int(site * knobs.n_sites) + 1}",
        "batch": batch,
    }
    effect = rng.normal(1, SEVERITY_SD) * _disease(group, sclerotic, knobs.effect_scale)
    return row, _mean_log_volumes(age, female, head_size) + natural + effect, effect


def draw_cohort(n_control, n_left, n_right, knobs):
    """Draw the latent volumes of a cohort: the people whose maps `maps.make_phantom` would make, without the maps.

    Parameters
    ----------
    n_control, n_left, n_right : int
        Participants of each class.

    Returns
    -------
    pandas.DataFrame
        The columns of ``truth.tsv``; ``volume_…`` is the latent volume in ml, where a map adds its rounding.

    Raises
    ------
    TLEError
        When there are no participants.
    """
    counts = zip(GROUPS, (n_control, n_left, n_right), strict=True)
    people = [(group, index) for group, n in counts for index in range(n)]
    if not people:
        raise TLEError("n_control, n_left and n_right are all 0: give at least one participant")
    drawn = [draw_person(participant_streams(knobs.seed, *person)[0], person[0], knobs) for person in people]
    rows, latent, effect = (list(part) for part in zip(*drawn, strict=True))
    names = [participant_name(*person) for person in people]
    parts = [pd.DataFrame({"participant_id": names, "group": [group for group, _ in people]}), pd.DataFrame(rows)]
    for prefix, values in (("latent_", latent), ("effect_", effect), ("volume_", np.exp(latent))):
        parts.append(pd.DataFrame(np.asarray(values), columns=prefix + model_regions()[0]["name"]))
    truth = pd.concat(parts, axis=1)
    return truth.assign(effect_scale=knobs.effect_scale, sclerosis_fraction=knobs.sclerosis_fraction)


def _log_likelihoods(truth):
    """Log-likelihood of each participant's latent volumes in each class, shape (n, 3)."""
    table, near = model_regions()
    scale, fraction = truth["effect_scale"].iloc[0], truth["sclerosis_fraction"].iloc[0]
    female = (truth["sex"] == "F").to_numpy()
    mean = _mean_log_volumes(truth["age"].to_numpy(), female, truth["head_size_ml"].to_numpy())
    residual = truth[[f"latent_{name}" for name in table["name"]]].to_numpy() - mean
    spread = table["spread"].to_numpy()
    whiten = np.linalg.inv(np.linalg.cholesky(np.kron(SIDES, near) * spread[:, None] * spread[None]))
    white = residual @ whiten.T

    def log_density(group, sclerotic):
        """Gaussian whose covariance the severity enlarges along the disease (matrix determinant lemma)."""
        disease = whiten @ _disease(group, sclerotic, scale)
        away, wider = white - disease, 1 + SEVERITY_SD**2 * disease @ disease
        along = SEVERITY_SD**2 * (away @ disease) ** 2 / wider
        return -0.5 * ((away**2).sum(axis=1) - along + np.log(wider))

    result = [log_density("control", False)]
    with np.errstate(divide="ignore"):
        weights = np.log([fraction, 1 - fraction])
    for group in GROUPS[1:]:
        parts = np.stack([log_density(group, True), log_density(group, False)], axis=1)
        result.append(special.logsumexp(parts + weights, axis=1))
    return np.stack(result, axis=1)


def ideal_observer(truth):
    """Class probabilities by someone who knows the generative model and the latent volumes: the upper bound.

    Uses the true latent volumes with age, sex and head size, and nothing of site, batch or label noise: what a
    classifier gains above it is a confound or chance. Classes without a row in `truth` are ruled out.

    Returns
    -------
    pandas.DataFrame
        ``participant_id, group, p_control, p_left, p_right, predicted``.
    """
    check_truth(truth)
    share = truth["true_group"].value_counts(normalize=True).reindex(GROUPS, fill_value=0).to_numpy()
    with np.errstate(divide="ignore"):
        score = _log_likelihoods(truth) + np.log(share)
    result = truth[["participant_id", "group"]].reset_index(drop=True)
    result[[f"p_{group}" for group in GROUPS]] = chance = special.softmax(score, axis=1)
    result["predicted"] = np.array(GROUPS)[chance.argmax(axis=1)]
    return result


def check_truth(truth):
    """Raise a TLEError unless `truth` has what the model needs to know of everybody."""
    needed = {"participant_id", "true_group", "sclerotic", "age", "sex", "head_size_ml", "site"}
    needed |= {"effect_scale", "sclerosis_fraction", *("latent_" + model_regions()[0]["name"])}
    missing = sorted(needed - set(truth.columns))
    if missing:
        raise TLEError(f"truth table lacks '{missing[0]}': read truth.tsv as make_phantom wrote it")
