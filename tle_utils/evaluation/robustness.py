"""How results hang on the number of participants and on wrong labels, inside the folds of the chapter."""

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import metrics
from tle_utils.evaluation.generalisation import MODELS
from tle_utils.models import baselines, multitask, regional

LEAST = 2  # participants a class in a thinned training part


def thin(folds, groups, size, seed):
    """Folds that learn from as many participants as a smaller cohort would leave them; everybody is tested.

    Smaller sizes are parts of greater ones: the same participants are left out first.

    Parameters
    ----------
    folds : list of crossval.Fold
        Folds of the whole cohort.
    groups : sequence of str
        Class of each participant.
    size : int
        Participants of the smaller cohort, all folds together.
    seed : int
        Seed of the choice.

    Returns
    -------
    list of crossval.Fold
        Training and validation parts keep their share ``size / n`` of every class, at least two to train on and one to
        validate; test parts are whole.

    Raises
    ------
    TLEError
        When `size` is not between 1 and the size of the cohort.
    """
    groups = np.asarray(groups)
    if not 1 <= size <= len(groups):
        raise TLEError(f"size = {size}: give a number of participants from 1 to {len(groups)}, those of the cohort")
    share, out = size / len(groups), []
    for fold in folds:
        rng = np.random.default_rng([seed, 40, fold.repeat, fold.fold])
        parts = {}
        for part, least in (("train", LEAST), ("validation", 1)):
            order = rng.permutation(getattr(fold, part))
            kept = []
            for name in np.unique(groups):
                rows = order[groups[order] == name]
                kept.append(rows[: max(least, round(share * len(rows)))])
            parts[part] = np.sort(np.concatenate(kept))
        out.append(fold._replace(**parts))
    return out


def wrong_labels(groups, rate, seed):
    """Labels of which a share is that of another class.

    A label that is wrong at some rate is wrong at every greater one.

    Parameters
    ----------
    groups : sequence of str
        True class of each participant.
    rate : float
        Chance that a label is wrong, 0 to 1.
    seed : int
        Seed.

    Returns
    -------
    numpy.ndarray
        Labels; a wrong one is any other class of the cohort with equal chance.

    Raises
    ------
    TLEError
        When the rate is not between 0 and 1.
    """
    if not 0 <= rate <= 1:
        raise TLEError(f"label noise {rate}: give a share from 0 to 1")
    groups, rng = np.asarray(groups).astype(str), np.random.default_rng([seed, 41])
    names = np.unique(groups)
    noisy, which = rng.random((2, len(groups)))
    place = np.searchsorted(names, groups)
    other = (place + 1 + (which * (len(names) - 1)).astype(int)) % len(names)
    return np.where(noisy < rate, names[other], groups)


def predict_curve_point(cohort, folds, options, *, folder, seed, workers=1, labels=None, net_folds=0):
    """Predictions of the cheap models of `MODELS` on given folds.

    Parameters
    ----------
    cohort : external_cohort.Cohort
        Participants, regional volumes and pooled slices.
    folds : list of crossval.Fold
        From `thin`, or those of the chapter.
    options : multitask.MultitaskOptions
        Of the net.
    folder : path-like
        Where trained nets are kept.
    seed, workers
        As in `multitask.cross_validate_multitask`.
    labels : sequence of str, optional
        What the models are told in training and validation instead of the true class.
    net_folds : int
        Folds on which the net is trained, the first ones; 0 leaves it out.

    Returns
    -------
    pandas.DataFrame
        The table of `tle_utils.models.predictions`; ``group`` is the true class.
    """
    people = cohort.participants
    told = people if labels is None else people.assign(group=labels)
    tables = [
        baselines.hippocampal_volumes(told, folds),
        regional.cross_validate_regions(cohort.volumes, told, folds, MODELS[1]),
    ]
    if net_folds:
        table, _ = multitask.cross_validate_multitask(
            cohort.x,
            told,
            folds[:net_folds],
            options,
            folder=folder,
            seed=seed,
            workers=min(workers, net_folds),
            label=MODELS[2],
        )
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    truth = people.set_index("participant_id")["group"]
    return table.assign(group=table["participant_id"].map(truth))


def summarise_curve(predictions, metric="lateralization_accuracy", seed=0):
    """One metric of every model with its interval.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From `predict_curve_point`.
    metric : str
        A metric of `tle_utils.evaluation.metrics.multiclass_metrics`.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        ``model``, ``value``, ``ci_low``, ``ci_high``, ``n`` (participants tested that count) and ``folds``.
    """
    out = []
    for model, rows in predictions.groupby("model", sort=False):
        found = metrics.multiclass_metrics(rows, seed).set_index("metric").loc[metric]
        folds = rows.groupby(["repeat", "fold"]).ngroups
        out.append({"model": model, "folds": folds} | found[["value", "ci_low", "ci_high", "n"]].to_dict())
    return pd.DataFrame(out)[["model", "value", "ci_low", "ci_high", "n", "folds"]]


def learning_curve(cohort, folds, sizes, options, *, folder, seed, workers=1, net_folds=0):
    """Lateralization accuracy over the size of the cohort.

    Parameters
    ----------
    cohort, folds, options, folder, seed, workers, net_folds
        As in `predict_curve_point`.
    sizes : sequence of int
        Sizes of the cohort; those above its own are left out, its own is added.

    Returns
    -------
    pandas.DataFrame
        The table of `summarise_curve` with ``size`` and ``n_train`` (mean participants of a training part).
    """
    groups, out = cohort.participants["group"].to_numpy(str), []
    for size in sorted({size for size in sizes if size < len(groups)} | {len(groups)}):
        thinned = thin(folds, groups, size, seed)
        table = predict_curve_point(
            cohort, thinned, options, folder=f"{folder}/size-{size}", seed=seed, workers=workers, net_folds=net_folds
        )
        n_train = np.mean([len(fold.train) for fold in thinned])
        out.append(summarise_curve(table).assign(size=size, n_train=n_train))
    return pd.concat(out, ignore_index=True)


def noise_curve(cohort, folds, rates, options, *, folder, seed, workers=1, net_folds=0):
    """Lateralization accuracy over the share of wrong labels in training; test labels are true.

    Parameters
    ----------
    cohort, folds, options, folder, seed, workers, net_folds
        As in `predict_curve_point`.
    rates : sequence of float
        Shares of wrong labels; 0 is added. A share that leaves a training part with fewer than two labels of a class is
        left out.

    Returns
    -------
    pandas.DataFrame
        The table of `summarise_curve` with ``rate`` and ``wrong`` (participants with a wrong label).
    """
    groups, out = cohort.participants["group"].to_numpy(str), []
    names = np.unique(groups)
    for rate in sorted({0.0, *rates}):
        labels = wrong_labels(groups, rate, seed)
        told = [(labels[fold.train][:, None] == names).sum(axis=0) for fold in folds]
        if rate and np.min(told) < LEAST:
            continue
        table = predict_curve_point(
            cohort,
            folds,
            options,
            folder=f"{folder}/noise-{rate:g}",
            seed=seed,
            workers=workers,
            labels=labels,
            net_folds=net_folds,
        )
        out.append(summarise_curve(table).assign(rate=rate, wrong=int((labels != groups).sum())))
    return pd.concat(out, ignore_index=True)


def ends_text(table, column, what, model=MODELS[1]):
    """First and last point of a model's curve as text for a sentence.

    Parameters
    ----------
    table : pandas.DataFrame
        From `learning_curve` or `noise_curve`.
    column : str
        ``size`` or ``rate``.
    what : str
        Format of the column's value, for example ``"with {:.0f} participants"``.
    model : str
        Name in the table.

    Returns
    -------
    str
        Like ``0.70 (95 % CI 0.59–0.79, n = 80) with 60 participants and 0.78 (…) with 120 participants``.
    """
    rows = table[table["model"] == model].sort_values(column).drop_duplicates(column)
    return " and ".join(
        f"{row.value:.2f} (95 % CI {row.ci_low:.2f}–{row.ci_high:.2f}, n = {row.n}) {what.format(getattr(row, column))}"
        for row in rows.iloc[sorted({0, len(rows) - 1})].itertuples()
    )
