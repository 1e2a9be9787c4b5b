"""Grey matter per atlas region, and a linear model of all regions that treats left and right alike."""

import numpy as np
from scipy.special import softmax
from sklearn.covariance import LedoitWolf

from tle_utils.base.errors import TLEError
from tle_utils.imaging.regions import region_features
from tle_utils.models.predictions import CLASSES, out_of_fold


def train_regions(volumes, groups, rows):
    """Linear discriminant of control, left and right that is blind to which side is which.

    Asymmetries are measured from the controls' means, so that the natural asymmetries of healthy brains count as none.
    Right patients are mirrored onto left ones: one mean describes both. The covariance is shared and shrunken
    (Ledoit and Wolf 2004); asymmetries and sizes are taken as independent, as they are for mirrored brains.

    `rows` are the positions to learn from. Returns a dict of arrays for `predict_regions`, which can be kept in an npz
    file. TLEError when one of the three classes is not among the rows.
    """
    absent = set(CLASSES) - set(groups[rows])
    if absent:
        raise TLEError(f"regional volumes: no participant of class '{min(absent)}' to learn from: use fewer folds")
    groups = groups[rows]
    healthy, sign = groups == "control", np.where(groups == "right", -1.0, 1.0)[:, None]
    stored = {"share": np.array([np.mean(groups == name) for name in CLASSES])}
    for name, values in zip(("asymmetry", "size"), region_features(volumes.iloc[rows]), strict=True):
        centre, spread = values[healthy].mean(axis=0), values[healthy].std(axis=0)
        z = (values - centre) / spread * (sign if name == "asymmetry" else 1)
        mean = z[~healthy].mean(axis=0)
        rest = np.concatenate([z[healthy], z[~healthy] - mean])
        weight = np.linalg.solve(LedoitWolf(assume_centered=True).fit(rest).covariance_, mean)
        stored |= {f"{name}_centre": centre, f"{name}_spread": spread, f"{name}_mean": mean, f"{name}_weight": weight}
    return stored


def predict_regions(stored, volumes):
    """Probabilities of control, left and right from what `train_regions` returned: numpy.ndarray, shape (n, 3)."""
    evidence = np.tile(np.log(stored["share"]), (len(volumes), 1))
    for name, values in zip(("asymmetry", "size"), region_features(volumes), strict=True):
        weight, mean = stored[f"{name}_weight"], stored[f"{name}_mean"]
        score = (values - stored[f"{name}_centre"]) / stored[f"{name}_spread"] @ weight
        signs = np.array([1, -1]) if name == "asymmetry" else np.array([1, 1])
        evidence[:, 1:] += score[:, None] * signs - weight @ mean / 2
    return softmax(evidence, axis=1)


def cross_validate_regions(volumes, participants, folds, label="regional volumes"):
    """Out-of-fold predictions of the regional model, which learns from all three classes (TLEError where one lacks)."""
    groups = participants["group"].to_numpy(str)

    def fitted(train, rows, number):
        return CLASSES, predict_regions(train_regions(volumes, groups, train), volumes.iloc[rows])

    return out_of_fold(participants, folds, label, fitted)
