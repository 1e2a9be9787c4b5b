"""Site effects: sites planted into regional volumes, harmonised or left out, and a second batch planted into slices.

Every planted site or batch is a smooth multiplicative field of the kind that the phantom's second batch has; into
regional volumes it goes averaged over the regions. The batch asks whether scans of another kind, told to nobody, leave
the signature of the paper's confusion tables: nobody is called left who is not, and yet many left patients are not
found.
"""

import numpy as np
import pandas as pd
from combatlearn import ComBat
from scipy.stats import fisher_exact

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.base.statistics import wilson_interval
from tle_utils.evaluation import published
from tle_utils.imaging import atlas, slices
from tle_utils.models import baselines, predictions, regional
from tle_utils.models.crossval import Fold, make_folds
from tle_utils.models.predictions import CLASSES
from tle_utils.phantom import maps

CONFOUNDED = 0.8  # chance that a confounded site is told by the class
NO_SITE_EFFECT = "no site effect"

ALL_LEFT, ADDED = "all left patients", "added patients"
SCENARIOS = [("nobody", 0), (ALL_LEFT, 1), (ALL_LEFT, 4), (ADDED, 1), (ADDED, 4)]  # who, times the phantom's field
FROM_ORIGINAL_STUDY = 100 / 170  # left patients whom the paper took over from the original study, about

# What the signature looks at: true class and what it is called.
CALLS = {
    "left found": ("left", "left"),
    "left called right": ("left", "right"),
    "control called left": ("control", "left"),
    "right called left": ("right", "left"),
}


def deal_sites(groups, n_sites, seed, confounded=0.0):
    """Give every participant a site: names ``site-1`` … (numpy.ndarray of str).

    Parameters
    ----------
    n_sites : int
        Sites, two or more.
    confounded : float
        0: every class is dealt evenly to the sites. Else the chance that a participant is at the site of the class
        (control, left and right at the first, second and third, counted round where there are fewer sites).

    Raises
    ------
    TLEError
        When there are fewer than two sites.
    """
    if n_sites < 2:
        raise TLEError(f"n_sites = {n_sites}: give two or more, so that sites can be compared")
    groups, rng = np.asarray(groups), np.random.default_rng([seed, 30])
    sites = np.zeros(len(groups), int)
    for number, name in enumerate(CLASSES):
        rows = rng.permutation(np.flatnonzero(groups == name))
        sites[rows] = (np.arange(len(rows)) + number) % n_sites
        sites[rows[rng.random(len(rows)) < confounded]] = number % n_sites
    return np.array([f"site-{site + 1}" for site in sites])


def site_factors(n_sites, seed, sd):
    """What each planted site multiplies regional volumes with.

    Parameters
    ----------
    n_sites : int
        Number of sites.
    sd : float
        Standard deviation of the log of a field over the brain; `maps.BATCH_SD` is that of the phantom's batch.

    Returns
    -------
    pandas.DataFrame
        One row per site, columns (region, hemisphere).
    """
    grey, rows = atlas.tissue_priors()["GM"], {}
    for site in range(n_sites):
        state = int(np.random.SeedSequence([seed, 31, site]).generate_state(1)[0])
        field = maps.batch_factor(state) ** np.float32(sd / maps.BATCH_SD)
        rows[f"site-{site + 1}"] = atlas.regional_volumes(grey * field) / atlas.regional_volumes(grey)
    return pd.DataFrame(rows).T


def plant_sites(volumes, sites, factors):
    """Regional volumes as the scanners of planted sites would show them: each row times its site's `site_factors`."""
    return volumes * factors.loc[sites, volumes.columns].to_numpy()


def harmonise(volumes, sites, train):
    """Take the differences between sites out of the logarithm of the volumes by ComBat, fitted on the rows `train`.

    No class is told to ComBat, since that of a new patient is not known either (Johnson et al. 2007, Biostatistics
    8:118; Fortin et al. 2018, NeuroImage 167:104). A site with fewer than two training rows stays as it is, since
    ComBat knows nothing of it; so do all sites where one is left.
    """
    sites = np.asarray(sites).astype(str)
    names, counts = np.unique(sites[train], return_counts=True)
    known = np.isin(sites, names[counts > 1])
    train = np.asarray(train)[known[train]]
    if len(np.unique(sites[train])) < 2:
        return volumes
    logs = pd.DataFrame(np.log(volumes.to_numpy()))
    combat = ComBat(batch=pd.Series(sites)).fit(logs.iloc[train])
    out = volumes.copy()
    out[known] = np.exp(combat.transform(logs[known]).to_numpy())
    return out


def predict_sites(volumes, participants, folds, sites, *, harmonised, label, tested=None):
    """Out-of-fold predictions of the regional model where participants come from several sites.

    `harmonised`: ComBat, fitted on the training part of the fold, comes first. `tested`: volumes and sites with which
    the same participants are tested, where they are not those of the training.
    """
    groups, n = participants["group"].to_numpy(str), len(volumes)
    seen, places = (volumes, sites) if tested is None else tested
    both, places = pd.concat([volumes, seen], ignore_index=True), np.concatenate([sites, places])

    def predict(train, rows, number):
        known = harmonise(both, places, train) if harmonised else both
        stored = regional.train_regions(known.iloc[:n], groups, train)
        return CLASSES, regional.predict_regions(stored, known.iloc[n + rows])

    return predictions.out_of_fold(participants, folds, label, predict)


def site_scenarios(volumes, participants, folds, factors, seed):
    """The regional model where sites are planted: balanced or confounded with the class, as they are or harmonised.

    Returns
    -------
    predictions, names : pandas.DataFrame
        Each scenario is a model; ``names`` has a row for each: ``model``, ``sites``, ``harmonised`` (bool) and
        ``tested``: ``own site``, as a cross-validation of the cohort reports it, or ``any site``: the same
        participants, scanned at a site that has nothing to do with the class, as the model will meet them.
    """
    groups, n_sites = participants["group"].to_numpy(str), len(factors)
    elsewhere = deal_sites(groups, n_sites, seed + 1)
    moved = plant_sites(volumes, elsewhere, factors), elsewhere
    tables = [regional.cross_validate_regions(volumes, participants, folds, NO_SITE_EFFECT)]
    names = [(NO_SITE_EFFECT, NO_SITE_EFFECT, False, "own site")]
    for kind, confounded in (("balanced", 0.0), ("confounded", CONFOUNDED)):
        sites = deal_sites(groups, n_sites, seed, confounded)
        planted = plant_sites(volumes, sites, factors)
        for harmonised in (False, True):
            for where, tested in (("own site", None), ("any site", moved)):
                label = f"{kind} sites, {'harmonised' if harmonised else 'as they are'}, {where}"
                how = {"harmonised": harmonised, "label": label, "tested": tested}
                tables.append(predict_sites(planted, participants, folds, sites, **how))
                names.append((label, f"{kind} sites", harmonised, where))
    columns = ["model", "sites", "harmonised", "tested"]
    return pd.concat(tables, ignore_index=True), pd.DataFrame(names, columns=columns)


def site_folds(participants, sites):
    """Folds that each leave one site out, without a validation part.

    A single site, or one without which a class has nobody, is refused (TLEError).
    """
    sites, groups = np.asarray(sites).astype(str), participants["group"].to_numpy(str)
    names = np.unique(sites)
    if len(names) < 2:
        raise TLEError(f"one site only ({names[0]}): leaving a site out needs two or more")
    folds = []
    for number, name in enumerate(names):
        train = np.flatnonzero(sites != name)
        absent = set(CLASSES) - set(groups[train])
        if absent:
            raise TLEError(f"without site '{name}' nobody is of class '{min(absent)}': this site cannot be left out")
        folds.append(Fold(0, number, train, np.array([], int), np.flatnonzero(sites == name)))
    return folds


def sites_left_out(volumes, participants, sites, kind, seed):
    """The regional model with every site in training, as it is and harmonised, and on sites that it has never seen.

    With every site in training there are as many folds as sites, ten at most, so that about as many participants train.

    Parameters
    ----------
    kind : str
        What the sites are, for the names of the models.

    Returns
    -------
    predictions, names : pandas.DataFrame
        Of three models, and one row for each of these: ``model``, ``sites`` (`kind`), ``training``.

    Raises
    ------
    TLEError
        When there is one site, the others lack a class, or a class is too small for the folds.
    """
    left_out = site_folds(participants, sites)
    mixed = make_folds(participants, min(len(left_out), 10), seed=seed)
    mixed = [fold._replace(train=np.union1d(fold.train, fold.validation), validation=fold.test[:0]) for fold in mixed]
    tables, names = [], []
    for training, folds, harmonised in (
        ("every site in training", mixed, False),
        ("every site in training, harmonised", mixed, True),
        ("the site left out of training", left_out, False),
    ):
        label = f"{kind}: {training}"
        tables.append(predict_sites(volumes, participants, folds, sites, harmonised=harmonised, label=label))
        names.append((label, kind, training))
    return pd.concat(tables, ignore_index=True), pd.DataFrame(names, columns=["model", "sites", "training"])


def second_batch(groups, who):
    """Who is in the second batch (bool): ``"nobody"``, `ALL_LEFT` or `ADDED`; another `who` is refused (TLEError).

    `ALL_LEFT` is as ``batch_confound=1`` of `maps.make_phantom`; `ADDED` is all right patients and the last 70 in 170
    of the left ones: the paper's Section 4.1 says that the controls and about 100 left patients came with the original
    study and that the others were added.
    """
    groups = np.asarray(groups)
    left = groups == "left"
    late = left & (np.cumsum(left) > round(FROM_ORIGINAL_STUDY * left.sum()))
    parts = {"nobody": left & False, ALL_LEFT: left, ADDED: late | (groups == "right")}
    if who not in parts:
        raise TLEError(f"second batch '{who}': choose one of {', '.join(parts)}")
    return parts[who]


def plant_batch(x, chosen, y_mm, seed, strength=1):
    """Give the slices of some participants (`chosen`, bool) the smooth field of the phantom's second batch.

    `x` are slices as `slices.load_slices` scales them, (n, 160, 160, len(y_mm)); the copy that is returned is scaled to
    0…1 again. The field is taken `strength` times; its log has a standard deviation of `maps.BATCH_SD`.
    """
    planted = x.copy()
    part = planted[chosen] * slices.slices_of(maps.batch_factor(seed) ** np.float32(strength), y_mm)
    low, high = (edge(part, axis=(1, 2, 3), keepdims=True) for edge in (np.min, np.max))
    planted[chosen] = (part - low) / (high - low)
    return planted


def _predict_batch(job):
    x, participants, folds, y_mm, seed, who, strength = job
    planted = plant_batch(x, second_batch(participants["group"], who), y_mm, seed, strength)
    label = f"{who}, field of {strength * maps.BATCH_SD:.0%}" if strength else "no second batch"
    return baselines.voxel_svm(planted, participants, folds, seed).assign(model=label)


def predict_batches(x, participants, folds, y_mm, seed, workers=1):
    """Predictions of the voxel SVM on the same participants and folds in every scenario of a second batch.

    A model is named by who is in the second batch and how strong it is. `x` are slices of all three classes, as
    `slices.load_slices` scales them, (n, 160, 160, len(y_mm)).
    """
    jobs = [(x, participants, folds, y_mm, seed, who, strength) for who, strength in SCENARIOS]
    return pd.concat(run_parallel(_predict_batch, jobs, label="batches", workers=workers), ignore_index=True)


def signature(tables):
    """How often left is found and called where it is not, from tables by name (dict of str to ``counts``).

    Returns
    -------
    pandas.DataFrame
        One row per table and entry of `CALLS`: ``table``, ``what`` and the fields of `published.called`.
    """
    rows = [
        {"table": name, "what": what} | published.called(counts, true, predicted)
        for name, counts in tables.items()
        for what, (true, predicted) in CALLS.items()
    ]
    return pd.DataFrame(rows)


def batch_verdict(found, printed):
    """What the signature says, in sentences.

    Parameters
    ----------
    found : pandas.DataFrame
        From `signature`.
    printed : sequence of str
        Tables of the paper; the others are ours, the first of them without a second batch.

    Returns
    -------
    dict of str to str
        ``paper``: how often the paper's nets call somebody left who is not, and how often they find left.
        ``people``: how often real people are called left who are not (IDEAS), and which half of the signature is odd.
        ``planted``: in which of the planted batches the whole signature appears, nobody called left who is not and
        left found about as often as in the paper (the intervals overlap), and what each of them does.
    """
    others = found[found["what"].isin(["control called left", "right called left"])]
    wrong = others.groupby("table", sort=False)[["count", "n"]].sum()
    left = found[found["what"] == "left found"].set_index("table")

    def line(name):
        count, n = wrong.loc[name]
        wrongly = f"{count} of {n} others called left (95 % CI up to {wilson_interval(count, n)[1]:.1%})"
        return f"{wrongly}, {left.loc[name, 'share']:.0%} of left found"

    least, most = left.loc[list(printed), "ci_low"].min(), left.loc[list(printed), "ci_high"].max()
    plain, *planted = [name for name in wrong.index if name not in set(printed)]
    clean = [name for name in planted if wrong.loc[name, "count"] == 0]
    whole = [name for name in clean if left.loc[name, "ci_low"] <= most and left.loc[name, "ci_high"] >= least]
    named = f" ({'; '.join(whole)})" if whole else ""
    lines = "; ".join(f"{name}: {line(name)}" for name in planted)
    support = "it could come from one" if whole else "none of these explains it"
    return {
        "paper": "; ".join(f"{name}: {line(name)}" for name in printed) + ".",
        "people": _people_called_left(found[found["table"] == printed[0]].set_index("what")),
        "planted": f"The whole signature appears in {len(whole)} of {len(planted)} planted batches{named}: {support}. "
        f"Without a batch: {line(plain)}. With one: {lines}.",
    }


def _people_called_left(paper):
    real = published.published_figures("ideas")["called"]
    n = {name: sum(row.values()) for name, row in real.items()}
    swapped, controls = real["left"]["right"] + real["right"]["left"], real["control"]["left"]
    own = paper.loc["control called left"]
    p = fisher_exact([[own["count"], own["n"] - own["count"]], [controls, n["control"] - controls]]).pvalue
    sides = n["left"] + n["right"]
    return (
        f"Hippocampal volumes of real people with sclerosis (IDEAS) name the wrong side in {swapped} of {sides} "
        f"patients and call {real['right']['left']} of {n['right']} right ones left: that no right patient is called "
        f"left is not odd by itself. There {controls} of {n['control']} controls are called left, in the paper "
        f"{own['count']} of {own['n']} (Fisher's exact p = {p:.3f}): that is odd, but the people, the images and the "
        "model are others."
    )
