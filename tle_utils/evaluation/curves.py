"""Accuracy over the size of a cohort, the share of wrong labels and the share of patients with hippocampal sclerosis.

Over the share of sclerosis all is measured on latent volumes of phantom cohorts, without their maps. A ``task`` is a
key of `TASKS`: what is asked, and of whom. ``curves`` come from `sclerosis_curves`.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.base.statistics import percentile_interval, wilson_interval
from tle_utils.evaluation import metrics, published
from tle_utils.evaluation.generalisation import predict_cohort
from tle_utils.models import baselines, regional
from tle_utils.models.crossval import make_folds
from tle_utils.models.ideal_observer import IDEAL_OBSERVER
from tle_utils.models.predictions import CLASSES, classes_of
from tle_utils.phantom.volumes import draw_cohort, ideal_observer

METRICS = {
    CLASSES: {"side": "lateralization_accuracy", "class": "accuracy"},
    CLASSES[:2]: {"left": "accuracy"},
    CLASSES[1:]: {"side": "accuracy"},
}
ENDS = ["accuracy_low", "accuracy_high"]
LEAST = 2  # participants per class in a thinned training part
TASKS = {
    "side": "Left or right, among patients",
    "class": "Control, left or right",
    "left": "Control or left",
    "patient": "Control or patient",
}
ASKED = {"side": CLASSES[1:], "class": CLASSES, "left": CLASSES[:2], "patient": CLASSES}


def thin(folds, groups, size, seed):
    """Folds that learn from as many participants as a smaller cohort would leave them; everybody is tested.

    Training and validation parts keep their share ``size / n`` of every class, at least two to train on and one to
    validate; test parts are whole. Smaller sizes are parts of greater ones: the same participants are left out first.
    A size that is not between 1 and that of the cohort is refused (TLEError).
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
    """Labels of which a share (`rate`, 0 to 1) is that of any other class of the cohort with equal chance.

    A label that is wrong at some rate is wrong at every greater one. Another rate is refused (TLEError).
    """
    if not 0 <= rate <= 1:
        raise TLEError(f"label noise {rate}: give a share from 0 to 1")
    groups, rng = np.asarray(groups).astype(str), np.random.default_rng([seed, 41])
    names = np.unique(groups)
    noisy, which = rng.random((2, len(groups)))
    place = np.searchsorted(names, groups)
    other = (place + 1 + (which * (len(names) - 1)).astype(int)) % len(names)
    return np.where(noisy < rate, names[other], groups)


def curve_point(cohort, folds, net, labels=None):
    """Lateralization accuracy of every model with its interval, ``n`` participants tested that count, and ``folds``."""
    out = []
    for model, rows in predict_cohort(cohort, folds, net, labels).groupby("model", sort=False):
        found = metrics.model_metrics(rows).set_index("metric").loc["lateralization_accuracy"]
        folds_tested = rows.groupby(["repeat", "fold"]).ngroups
        out.append({"model": model} | found[["value", "ci_low", "ci_high", "n"]].to_dict() | {"folds": folds_tested})
    return pd.DataFrame(out)


def learning_curve(cohort, folds, sizes, net):
    """Lateralization accuracy over the size of the cohort.

    Parameters
    ----------
    sizes : sequence of int
        Sizes of the cohort; those above its own are left out, its own is added.

    Returns
    -------
    pandas.DataFrame
        ``model``, ``value``, ``ci_low``, ``ci_high``, ``n`` (participants tested that count), ``folds``, ``size`` and
        ``n_train`` (mean participants of a training part).
    """
    groups, out = cohort.participants["group"].to_numpy(str), []
    for size in sorted({size for size in sizes if size < len(groups)} | {len(groups)}):
        thinned = thin(folds, groups, size, net.seed)
        point = curve_point(cohort, thinned, net._replace(folder=Path(net.folder) / f"size-{size}"))
        out.append(point.assign(size=size, n_train=np.mean([len(fold.train) for fold in thinned])))
    return pd.concat(out, ignore_index=True)


def noise_curve(cohort, folds, rates, net):
    """Lateralization accuracy over the share of wrong labels in training; test labels are true.

    Parameters
    ----------
    rates : sequence of float
        Shares of wrong labels; 0 is added. A share that leaves a training part with fewer than two labels of a class is
        left out.

    Returns
    -------
    pandas.DataFrame
        As `learning_curve`, with ``rate`` and ``wrong`` (participants with a wrong label) in place of the size.
    """
    groups, out = cohort.participants["group"].to_numpy(str), []
    names = np.unique(groups)
    for rate in sorted({0.0, *rates}):
        labels = wrong_labels(groups, rate, net.seed)
        told = [(labels[fold.train][:, None] == names).sum(axis=0) for fold in folds]
        if rate and np.min(told) < LEAST:
            continue
        point = curve_point(cohort, folds, net._replace(folder=Path(net.folder) / f"noise-{rate:g}"), labels)
        out.append(point.assign(rate=rate, wrong=int((labels != groups).sum())))
    return pd.concat(out, ignore_index=True)


def latent_predictions(truth, n_splits, seed):
    """Test rows of the methods that need no image, on latent volumes.

    Hippocampal volumes, the untrained rule and the regional model, out of fold, and the ideal observer. `truth` is a
    cohort of `volumes.draw_cohort`; `n_splits` folds are made with `seed`.
    """
    people = truth.assign(**{f"hippocampus_{side}": truth[f"volume_{side}_hippocampus"] for side in CLASSES[1:]})
    volumes = truth[[name for name in truth if name.startswith("volume_")]]
    names = [tuple(name.split("_", 2)[:0:-1]) for name in volumes]
    volumes = volumes.set_axis(pd.MultiIndex.from_tuples(names, names=["region", "hemisphere"]), axis=1)
    folds = make_folds(people, n_splits, seed=seed)
    tables = [
        baselines.hippocampal_volumes(people, folds),
        baselines.autohs(people, folds),
        regional.cross_validate_regions(volumes, people, folds),
        ideal_observer(truth).assign(model=IDEAL_OBSERVER, split="test"),
    ]
    said = pd.concat(tables, ignore_index=True)
    return said[said["split"] == "test"]


def task_accuracy(said, task):
    """Share of correct answers (float) to the question of a task, from test rows of one model for three classes.

    Only participants of the classes asked about count, and only the probabilities of these classes; a patient is left
    and right together. An answer shared with another class, or none of those asked about, counts half.
    """
    asked = [f"p_{name}" for name in ASKED[task]]
    rows = said[said["group"].isin(ASKED[task])]
    p, truth = rows[asked].to_numpy(), rows["group"].map(ASKED[task].index).to_numpy()
    if task == "patient":
        p, truth = np.stack([p[:, 0], p[:, 1:].sum(axis=1)], axis=1), np.minimum(truth, 1)
    own = p[np.arange(len(p)), truth]
    others = np.where(np.arange(p.shape[1]) == truth[:, None], -np.inf, p).max(axis=1)
    return float(np.mean((own > others) + 0.5 * (own == others)))


def _cohorts(counts, knobs, shares):
    """The same people at every share: who is sclerotic at one share is so at every greater one."""
    without, ill = (draw_cohort(*counts, dataclasses.replace(knobs, sclerosis_fraction=share)) for share in (0.0, 1.0))
    group = without["true_group"]
    place, size = without.groupby("true_group").cumcount(), group.map(group.value_counts())
    for share in shares:
        mixed = without.where((group == "control") | (place >= np.round(share * size)), ill)
        yield share, mixed.assign(sclerosis_fraction=share).infer_objects()


def _curve(seed, counts, knobs, shares, n_splits):
    patients, rows = sum(counts[1:]), []
    drawn = (max(counts[0], patients), *counts[1:])
    for share, everyone in _cohorts(drawn, dataclasses.replace(knobs, seed=seed), shares):
        controls = everyone.index[everyone["true_group"] == "control"]
        for n_control, tasks in ((counts[0], ("side", "class", "left")), (patients, ("patient",))):
            truth = everyone.drop(index=controls[n_control:]).reset_index(drop=True)
            said = latent_predictions(truth, n_splits, seed).groupby("model", sort=False)
            of_task = {(name, task): task_accuracy(rows_of, task) for task in tasks for name, rows_of in said}
            rows += [(seed, share, model, task, accuracy) for (model, task), accuracy in of_task.items()]
    return rows


def sclerosis_curves(counts, knobs, shares, n_seeds, n_splits=10, workers=1):
    """Accuracy of the methods of `latent_predictions` in every task, over the share of patients with sclerosis.

    Parameters
    ----------
    counts : tuple of int
        Controls, left and right patients of each cohort. Where patients are told from controls, there are as many
        controls as patients instead.
    knobs : volumes.Knobs
        Strength of the effects; its share of sclerosis is not used, seeds count on from its seed.
    shares : sequence of float
        Shares of patients with sclerosis, 0 to 1; at each of them the same people take part.
    n_seeds, n_splits : int
        Cohorts, and folds in each of them.

    Returns
    -------
    pandas.DataFrame
        One row per ``seed``, ``share``, ``model`` and ``task``, with ``accuracy``.
    """
    job = functools.partial(_curve, counts=counts, knobs=knobs, shares=shares, n_splits=n_splits)
    seeds = range(knobs.seed, knobs.seed + n_seeds)
    found = run_parallel(job, seeds, label="cohorts", workers=workers)
    return pd.DataFrame(sum(found, []), columns=["seed", "share", "model", "task", "accuracy"])


def mean_curves(curves):
    """Mean of the accuracy over cohorts, with the band ``accuracy_low``, ``accuracy_high`` that holds 95 % of them."""
    groups = curves.groupby(["task", "model", "share"], sort=False)["accuracy"]
    ends = groups.apply(percentile_interval).tolist()
    table = groups.mean().reset_index()
    table[ENDS] = ends
    return table


def crossing(shares, accuracy, target):
    """Least share at which the accuracy reaches a target: infinity where it never does.

    `shares` rise; between them the accuracy is a straight line, after isotonic regression, because it cannot fall with
    the share of sclerosis but for chance.
    """
    rising = IsotonicRegression().fit_transform(shares, accuracy)
    if rising[-1] < target:
        return np.inf
    at = int(np.argmax(rising >= target))
    return float(np.interp(target, rising[at - 1 : at + 1], shares[at - 1 : at + 1])) if at else float(shares[0])


def needed_shares(curves, task, target):
    """Share of sclerosis that each method would need to reach a published accuracy.

    Returns
    -------
    pandas.DataFrame
        One row per ``model``: ``needed`` (median of the cohorts), ``needed_low``, ``needed_high`` (95 % of cohorts lie
        between them; infinite where a cohort does not reach the accuracy at any share), ``reached`` (share of cohorts
        that do) and ``best`` (median accuracy at the greatest share).
    """
    out = []
    for model, rows in curves[curves["task"] == task].groupby("model", sort=False):
        table = rows.pivot(index="share", columns="seed", values="accuracy")
        each = [crossing(table.index, table[seed], target) for seed in table]
        ends = np.quantile(each, 0.025, method="lower"), np.quantile(each, 0.975, method="higher")
        middle, best = np.quantile(each, 0.5, method="lower"), np.quantile(table.iloc[-1], 0.5, method="higher")
        out.append((model, middle, *ends, np.isfinite(each).mean(), best))
    return pd.DataFrame(out, columns=["model", "needed", "needed_low", "needed_high", "reached", "best"])


def needed_text(row):
    """A row of `needed_shares` in words, like ``0.70 (0.67–0.74)``, or that the accuracy is not reached."""
    if np.isinf(row["needed"]):
        return f"not reached at any share ({row['best']:.2f} at best)"
    high = "not reached" if np.isinf(row["needed_high"]) else f"{row['needed_high']:.2f}"
    return f"{row['needed']:.2f} ({row['needed_low']:.2f}–{high})"


def needed_sentence(found):
    """Which share an accuracy takes by which method, the least first, and that the others never reach it."""
    rows = found.set_index("model").sort_values("needed", kind="stable")
    able, rest = rows[np.isfinite(rows["needed"])], rows[np.isinf(rows["needed"])]
    takes = "takes a share of " + ", ".join(f"{needed_text(row)} by the {model}" for model, row in able.iterrows())
    if rest.empty:
        return takes
    best = f"({rest['best'].max():.2f} at best, by the {rest['best'].idxmax()})"
    if able.empty:
        return f"is reached by no method at any share {best}"
    return f"{takes}; no other method reaches it {best}"


def published_points():
    """Published accuracies on the axis of sclerosis.

    Returns
    -------
    pandas.DataFrame
        ``name``, ``task``, ``share`` of patients with sclerosis (NaN where the source does not report it),
        ``accuracy`` with ``accuracy_low``, ``accuracy_high`` (Wilson 95 %) and ``n``, the participants whom it counts
        (0, and no interval, where the source does not say).
    """
    follow_up, ideas = published.published_figures("follow_up"), published.published_figures("ideas")
    later, real, n = "Kaestner, Rao 2023 ({})", "IDEAS (hippocampal volumes)", follow_up["n"]
    rows = [(later.format("CNN"), "side", None, follow_up["lateralization_accuracy"]["mean"], n)]
    volumes = follow_up["hippocampal_volume_logistic_regression"]
    rows.append((later.format("hippocampal volumes"), "side", None, volumes, n))
    for task, metric in METRICS[CLASSES].items():
        rows.append((real, task, ideas["sclerosis_share"], ideas[metric]["value"], ideas[metric]["n"]))
    for entry in published.published_figures("other_systems"):
        task = "patient" if entry["task"] == "detect" else "side"
        rows.append((entry["name"], task, entry.get("share"), entry["accuracy"], entry.get("patients", entry["n"])))
    table = pd.DataFrame(rows, columns=["name", "task", "share", "accuracy", "n"]).astype({"share": float})
    ends = [wilson_interval(row.accuracy * row.n, row.n) for row in table.itertuples()]
    return table.assign(**dict(zip(ENDS, np.transpose(ends), strict=True)))


def run_points(predictions, share):
    """A run's own models on the axis of sclerosis, at the share of its patients; columns as in `published_points`.

    A model for three classes stands with its lateralization accuracy and its accuracy, one for controls and left
    patients, or for both sides, with its accuracy.
    """
    out = []
    for name, rows in predictions.groupby("model", sort=False):
        found = metrics.model_metrics(rows).set_index("metric").rename(columns={"ci_low": ENDS[0], "ci_high": ENDS[1]})
        for task, metric in METRICS.get(tuple(classes_of(rows)), {}).items():
            values = found.loc[metric, ["value", *ENDS, "n"]].rename({"value": "accuracy"})
            out.append({"name": name, "task": task, "share": share} | values.to_dict())
    return pd.DataFrame(out)
