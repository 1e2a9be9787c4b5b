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
from tle_utils.imaging import slices
from tle_utils.models.predictions import out_of_fold

VOLUMES = ["hippocampus_left", "hippocampus_right"]
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


def asymmetry(participants, folds):
    """Thresholds on two numbers: asymmetry (L − R) / (L + R) for the side, the smaller volume for patient or control.

    Each threshold is where a logistic regression on that number alone, fitted in the fold, crosses one half. Left and
    right probabilities are the patient's probability divided by that of the side. TLEError names who has no volumes.
    """
    volumes, groups = _volumes(participants), _groups(participants)
    index = (volumes[:, :1] - volumes[:, 1:]) / volumes.sum(axis=1, keepdims=True)
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
    """Predictions of all comparators in one table: majority, shuffled labels, volumes, asymmetry index, voxel SVM."""
    tables = [
        majority(participants, folds),
        voxel_svm(x, participants, folds, seed, shuffled=True),
        hippocampal_volumes(participants, folds),
        asymmetry(participants, folds),
        voxel_svm(x, participants, folds, seed),
    ]
    return pd.concat(tables, ignore_index=True)


def leave_one_out(participants):
    """Predictions of everyone by models that were fitted on all others: majority, asymmetry index, regression.

    TLEError when a class has fewer than two participants, or one of them no hippocampal volumes.
    """
    counts = participants["group"].value_counts()
    if len(counts) < 2 or counts.min() < 2:
        raise TLEError(f"leave-one-out needs two classes with two participants each: {counts.to_dict()}")
    everyone, none = np.arange(len(participants)), np.array([], int)
    folds = [(np.delete(everyone, one), none, everyone[[one]]) for one in everyone]
    models = (majority, asymmetry, hippocampal_volumes)
    return pd.concat([model(participants, folds) for model in models], ignore_index=True)
