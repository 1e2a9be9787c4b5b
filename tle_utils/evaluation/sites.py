"""Other scanners: sites planted into regional volumes, with and without harmonisation, and sites left out.

Every planted site has the smooth multiplicative field of a second batch of the phantom, averaged over the regions.
"""

import numpy as np
import pandas as pd
from combatlearn import ComBat

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas
from tle_utils.models import predictions, regional
from tle_utils.models.crossval import Fold, make_folds
from tle_utils.models.predictions import CLASSES
from tle_utils.phantom import maps

CONFOUNDED = 0.8  # chance that a confounded site is told by the class
NO_SITE_EFFECT = "no site effect"


def deal_sites(groups, n_sites, seed, confounded=0.0):
    """Give every participant a site.

    Parameters
    ----------
    groups : sequence of str
        Class of each participant.
    n_sites : int
        Sites, two or more.
    seed : int
        Seed.
    confounded : float
        0: every class is dealt evenly to the sites. Else the chance that a participant is at the site of the class
        (control, left and right at the first, second and third, counted round where there are fewer sites).

    Returns
    -------
    numpy.ndarray
        Names of sites: ``site-1`` …

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
    seed : int
        Seed of the fields.
    sd : float
        Standard deviation of the log of a field over the brain; `maps.BATCH_SD` is that of the phantom's batch.

    Returns
    -------
    pandas.DataFrame
        One row a site, columns (region, hemisphere).
    """
    grey, rows = atlas.tissue_priors()["GM"], {}
    for site in range(n_sites):
        state = int(np.random.SeedSequence([seed, 31, site]).generate_state(1)[0])
        field = maps.batch_factor(state) ** np.float32(sd / maps.BATCH_SD)
        rows[f"site-{site + 1}"] = atlas.regional_volumes(grey * field) / atlas.regional_volumes(grey)
    return pd.DataFrame(rows).T


def plant_sites(volumes, sites, factors):
    """Regional volumes as the scanners of planted sites would show them.

    Parameters
    ----------
    volumes : pandas.DataFrame
        From `regions.read_regional_volumes`.
    sites : sequence of str
        Site of each row.
    factors : pandas.DataFrame
        From `site_factors`.

    Returns
    -------
    pandas.DataFrame
        Of the shape of `volumes`.
    """
    return volumes * factors.loc[sites, volumes.columns].to_numpy()


def harmonise(volumes, sites, train):
    """Take the differences between sites out of the logarithm of the volumes by ComBat, fitted on training rows.

    No class is told to ComBat, since that of a new patient is not known either (Johnson et al. 2007, Biostatistics
    8:118; Fortin et al. 2018, NeuroImage 167:104).

    Parameters
    ----------
    volumes : pandas.DataFrame
        From `regions.read_regional_volumes`.
    sites : sequence of str
        Site of each row.
    train : numpy.ndarray
        Positions to learn from.

    Returns
    -------
    pandas.DataFrame
        All rows. A site with fewer than two training rows stays as it is, since ComBat knows nothing of it; so do all
        sites where one is left.
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

    Parameters
    ----------
    volumes : pandas.DataFrame
        Regional volumes as scanned.
    participants : pandas.DataFrame
        ``participant_id``, ``group``.
    folds : sequence
        From `crossval.make_folds`.
    sites : sequence of str
        Site of each participant.
    harmonised : bool
        Whether ComBat, fitted on the training part of the fold, comes first.
    label : str
        Name of the model in the table.
    tested : tuple of (pandas.DataFrame, sequence of str), optional
        Volumes and sites with which the same participants are tested, where they are not those of the training.

    Returns
    -------
    pandas.DataFrame
        The table of `tle_utils.models.predictions`.
    """
    groups = participants["group"].to_numpy(str)
    seen, n = (volumes, sites) if tested is None else tested, len(volumes)
    both = pd.concat([volumes, seen[0]], ignore_index=True)
    places = np.concatenate([sites, seen[1]])

    def predict(train, rows, number):
        known = harmonise(both, places, train) if harmonised else both
        stored = regional.train_regions(known.iloc[:n], groups, train)
        return CLASSES, regional.predict_regions(stored, known.iloc[n + rows])

    return predictions.out_of_fold(participants, folds, label, predict)


def site_scenarios(volumes, participants, folds, factors, seed):
    """The regional model under planted sites: balanced or confounded with the class, as they are or harmonised.

    Parameters
    ----------
    volumes : pandas.DataFrame
        Regional volumes without a site effect.
    participants, folds
        As in `predict_sites`.
    factors : pandas.DataFrame
        From `site_factors`.
    seed : int
        Seed of who is at which site.

    Returns
    -------
    predictions : pandas.DataFrame
        Tables of `tle_utils.models.predictions`; each scenario is a model.
    names : pandas.DataFrame
        One row a scenario: ``model`` (as in the predictions), ``sites``, ``harmonised`` (bool) and ``tested``:
        ``own site``, as a cross-validation of the cohort reports it, or ``any site``: the same participants, scanned
        at a site that has nothing to do with the class, as the model will meet them.
    """
    groups, n_sites = participants["group"].to_numpy(str), len(factors)
    elsewhere = deal_sites(groups, n_sites, seed + 1)
    moved = plant_sites(volumes, elsewhere, factors), elsewhere
    plain = regional.cross_validate_regions(volumes, participants, folds, NO_SITE_EFFECT)
    tables, names = [plain], [(NO_SITE_EFFECT, NO_SITE_EFFECT, False, "own site")]
    for kind, confounded in (("balanced", 0.0), ("confounded", CONFOUNDED)):
        sites = deal_sites(groups, n_sites, seed, confounded)
        planted = plant_sites(volumes, sites, factors)
        for harmonised in (False, True):
            for where, tested in (("own site", None), ("any site", moved)):
                label = f"{kind} sites, {'harmonised' if harmonised else 'as they are'}, {where}"
                tables.append(
                    predict_sites(
                        planted, participants, folds, sites, harmonised=harmonised, label=label, tested=tested
                    )
                )
                names.append((label, f"{kind} sites", harmonised, where))
    columns = ["model", "sites", "harmonised", "tested"]
    return pd.concat(tables, ignore_index=True), pd.DataFrame(names, columns=columns)


def site_folds(participants, sites):
    """Folds that each leave one site out, without a validation part.

    Parameters
    ----------
    participants : pandas.DataFrame
        ``group``.
    sites : sequence of str
        Site of each participant.

    Returns
    -------
    list of crossval.Fold

    Raises
    ------
    TLEError
        When there is one site, or the others lack a class.
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
    volumes, participants, sites
        As in `predict_sites`.
    kind : str
        What the sites are, for the names of the models.
    seed : int
        Seed of the folds.

    Returns
    -------
    predictions : pandas.DataFrame
        Tables of `tle_utils.models.predictions`.
    names : pandas.DataFrame
        One row a model: ``model``, ``sites`` (`kind`), ``training``.

    Raises
    ------
    TLEError
        See `site_folds` and `crossval.make_folds`.
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
