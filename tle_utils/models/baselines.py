"""Comparators from scikit-learn: out-of-fold predictions of simple models on the folds of the networks.

Every model is fitted on the training part of a fold only, the same participants the networks learn from; the
validation part is predicted, never learned from. Hippocampal volumes are the columns ``hippocampus_left`` and
``hippocampus_right`` of `participants`, in any unit, the same on both sides.
"""

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas, slices
from tle_utils.models.predictions import out_of_fold

VOLUMES = ["hippocampus_left", "hippocampus_right"]
AUTOHS = "AutoHS rule (untrained)"
AUTOHS_RIGHT_ABOVE, AUTOHS_LEFT_BELOW = 0.0469, -0.0708
SVM_C = (0.01, 0.1, 1.0, 10.0)
BLOCK = 16384


def _groups(participants):
    return participants["group"].to_numpy(str)


def _fitted(model, features, labels, train, rows):
    """Names of the classes and their probabilities for `rows`; `labels` are those of `train`."""
    model.fit(features[train], labels)
    return model.classes_, model.predict_proba(features[rows])


def majority(participants, folds):
    """Always the most frequent class of the training part, with the training frequencies as probabilities."""
    groups, nothing = _groups(participants), np.zeros((len(participants), 1))

    def predict(train, rows, number):
        return _fitted(DummyClassifier(strategy="prior"), nothing, groups[train], train, rows)

    return out_of_fold(participants, folds, "majority", predict)


def _volumes(participants):
    for name in VOLUMES:
        if name not in participants:
            raise TLEError(f"participants: no column '{name}': add hippocampal volumes or leave this comparator out")
    values = participants[VOLUMES].to_numpy(float)
    bad = participants["participant_id"].to_numpy(str)[~(values > 0).all(axis=1)]
    if len(bad):
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise TLEError(
            f"hippocampal volumes missing or not positive for {', '.join(bad[:5])}{more}: "
            "keep participants with both volumes (and make the folds after that)"
        )
    return values


def _logistic():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def hippocampal_volumes(participants, folds):
    """Logistic regression on both hippocampal volumes, standardised in the fold (TLEError names who has none)."""
    values, groups = _volumes(participants), _groups(participants)

    def predict(train, rows, number):
        return _fitted(_logistic(), values, groups[train], train, rows)

    return out_of_fold(participants, folds, "hippocampal volumes", predict)


def autohs_answers(participants):
    """What the untrained rule of AutoHS says of each participant: ``left``, ``right`` or, where silent, ``control``.

    Right sclerosis where the asymmetry (L − R) / (L + R) of the hippocampal volumes is above 0.0469, left where it is
    below −0.0708 (Brain Communications 2026, fcag320). TLEError names who has no volumes.
    """
    index = atlas.asymmetry_index(*_volumes(participants).T)
    return np.select([index > AUTOHS_RIGHT_ABOVE, index < AUTOHS_LEFT_BELOW], ["right", "left"], "control")


def autohs(participants, folds):
    """The answers of `autohs_answers`, where a class that the cohort does not have becomes ``control``.

    The rule gives answers and no probabilities. The probability of an answer is the share of training participants with
    such an answer, a side or none, for whom it is correct (one correct and one wrong are added, and it stays above all
    others); the other classes share the rest equally. So a silent rule names neither side, which counts half where the
    side is asked. TLEError where the cohort has no controls.
    """
    groups, said = _groups(participants), autohs_answers(participants)
    classes = np.unique(groups)
    if "control" not in classes:
        raise TLEError(f"{AUTOHS}: there are no controls, and it may name no side: leave this comparator out")
    said = np.where(np.isin(said, classes), said, "control")
    correct, silent = said == groups, said == "control"

    def predict(train, rows, number):
        worth = np.empty((len(rows), 1))
        for kind in (True, False):
            alike = train[silent[train] == kind]
            share = (correct[alike].sum() + 1) / (len(alike) + 2)
            worth[silent[rows] == kind] = max(share, 1 / len(classes) + 0.01)
        return classes, np.where(said[rows, None] == classes, worth, (1 - worth) / (len(classes) - 1))

    return out_of_fold(participants, folds, AUTOHS, predict)


def asymmetry(participants, folds):
    """Thresholds on two numbers: asymmetry (L − R) / (L + R) for the side, the smaller volume for patient or control.

    Each threshold is where a logistic regression on that number alone, fitted in the fold, crosses one half. Left and
    right probabilities are the patient's probability divided by that of the side. TLEError names who has no volumes.
    """
    volumes, groups = _volumes(participants), _groups(participants)
    index = atlas.asymmetry_index(*volumes.T)[:, None]
    smaller = volumes.min(axis=1, keepdims=True)

    def two_way(feature, is_first, train, rows):
        if is_first[train].all() or not is_first[train].any():
            return np.full(len(rows), float(is_first[train].all()))
        return _fitted(_logistic(), feature, is_first[train], train, rows)[1][:, 1]

    def predict(train, rows, number):
        ill = groups != "control"
        patient = two_way(smaller, ill, train, rows)
        left = two_way(index, groups == "left", train[ill[train]], rows)
        p = {"control": 1 - patient, "left": patient * left, "right": patient * (1 - left)}
        known = np.unique(groups[train])
        return known, np.stack([p[name] for name in known], axis=1)

    return out_of_fold(participants, folds, "asymmetry index", predict)


def _flat(x, participants):
    """Voxels that vary, shape (n, voxels)."""
    if len(x) != len(participants):
        raise TLEError(f"slices: {len(x)} images for {len(participants)} participants: load them from the same table")
    flat = np.asarray(x).reshape(len(x), -1)
    slices.refuse_not_finite(flat, participants)
    even = participants["participant_id"].to_numpy(str)[np.ptp(flat, axis=1) == 0]
    if 0 < len(even) < len(flat):
        raise TLEError(f"slices: a constant image for {', '.join(even[:5])}: preprocess these participants again")
    varies = np.ptp(flat, axis=0) > 0
    if not varies.any():
        raise TLEError("slices: the same image for every participant: check the maps they were read from")
    return flat[:, varies]


def _linear_kernel(flat, train):
    """Scalar products of all rows after standardising each voxel on the training rows, in blocks of voxels."""
    blocks = [slice(start, start + BLOCK) for start in range(0, flat.shape[1], BLOCK)]
    deviation = slices.floored(np.concatenate([flat[train, block].std(axis=0) for block in blocks]))
    kernel = np.zeros((len(flat), len(flat)))
    for block in blocks:
        part = flat[:, block]
        z = (part - part[train].mean(axis=0)) / deviation[block]
        kernel += z @ z.T
    return kernel / kernel[train, train].mean()


def _svm_probabilities(flat, labels, train, rows, seed):
    """Linear SVM with C and the probabilities' logistic map from inner folds of the training part."""
    names, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise TLEError(f"voxel SVM: class '{names[counts.argmin()]}' has one participant in training: use fewer folds")
    kernel = _linear_kernel(flat, train)
    inner = StratifiedKFold(min(5, counts.min()), shuffle=True, random_state=seed)
    own = kernel[np.ix_(train, train)]
    search = GridSearchCV(SVC(kernel="precomputed"), {"C": SVM_C}, cv=inner, scoring="balanced_accuracy")
    model = search.fit(own, labels).best_estimator_
    inside = cross_val_predict(model, own, labels, cv=inner, method="decision_function")
    outside = model.decision_function(kernel[np.ix_(rows, train)])
    width = inside.reshape(len(train), -1).shape[1]
    calibration = LogisticRegression(max_iter=1000).fit(inside.reshape(-1, width), labels)
    return calibration.classes_, calibration.predict_proba(outside.reshape(-1, width))


def voxel_svm(x, participants, folds, seed=0, shuffled=False):
    """Linear support vector machine on all voxels of the slices, standardised voxel by voxel in the fold.

    C is chosen and the decision values are turned into probabilities by inner cross-validation of the training part.
    With `shuffled` it learns from permuted labels of each training part, ``shuffled labels`` in the table: what the
    chain gives when there is nothing to learn. TLEError names whose slices are constant or hold NaN or infinite values.
    """
    flat, groups = _flat(x, participants), _groups(participants)

    def predict(train, rows, number):
        labels = groups[train]
        if shuffled:
            labels = np.random.default_rng([seed, number]).permutation(labels)
        return _svm_probabilities(flat, labels, train, rows, seed + number)

    return out_of_fold(participants, folds, "shuffled labels" if shuffled else "voxel SVM", predict)


def comparators(x, participants, folds, seed=0):
    """Predictions of all comparators in one table: majority, shuffled labels, the models of volumes, voxel SVM.

    The untrained rule is among them where the cohort has controls.
    """
    tables = [
        majority(participants, folds),
        voxel_svm(x, participants, folds, seed, shuffled=True),
        *_models_of_volumes(participants, folds),
        voxel_svm(x, participants, folds, seed),
    ]
    return pd.concat(tables, ignore_index=True)


def _models_of_volumes(participants, folds):
    models = [hippocampal_volumes, asymmetry] + [autohs] * ("control" in set(participants["group"]))
    return [model(participants, folds) for model in models]


def leave_one_out(participants):
    """Predictions of everyone by models that were fitted on all others: majority and the models of volumes.

    The untrained rule is among them where the cohort has controls.
    TLEError when a class has fewer than two participants, or one of them no hippocampal volumes.
    """
    counts = participants["group"].value_counts()
    if len(counts) < 2 or counts.min() < 2:
        raise TLEError(f"leave-one-out needs two classes with two participants each: {counts.to_dict()}")
    everyone, none = np.arange(len(participants)), np.array([], int)
    folds = [(np.delete(everyone, one), none, everyone[[one]]) for one in everyone]
    return pd.concat([majority(participants, folds), *_models_of_volumes(participants, folds)], ignore_index=True)
