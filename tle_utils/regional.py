"""Grey matter per atlas region, and a linear model of all regions that treats left and right alike."""

import nibabel as nib
import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.covariance import LedoitWolf

from tle_utils import atlas
from tle_utils.baselines import out_of_fold
from tle_utils.errors import TLEError
from tle_utils.parallel import run_parallel
from tle_utils.predictions import CLASSES


def _volumes_of(path):
    image = nib.as_closest_canonical(nib.load(path))
    if not atlas.on_template_grid(image):
        raise TLEError(f"{path}: not on the 1 mm {atlas.SPACE} grid: run notebook 01_preprocessing on it first")
    return atlas.regional_volumes(np.asarray(image.dataobj, np.float32))


def regional_volumes(paths, workers=1):
    """Grey matter of every atlas region.

    Parameters
    ----------
    paths : sequence of path-like
        Modulated grey-matter maps on the template grid, any axis orientation.
    workers : int
        Maps side by side.

    Returns
    -------
    pandas.DataFrame
        One row a map, in order; columns are pairs (region, hemisphere) of the regions that have two sides; ml.

    Raises
    ------
    TLEError
        When a map lies on another grid, or a region of it is empty or not a number.
    """
    table = pd.DataFrame(run_parallel(_volumes_of, list(paths), label="regional volumes", workers=workers))
    sides = table.columns.to_frame(index=False).groupby("region", sort=False)["hemisphere"].nunique()
    table = table.loc[:, table.columns.get_level_values("region").isin(sides.index[sides == 2])]
    bad = ~(table > 0)
    if bad.to_numpy().any():
        row, column = np.argwhere(bad.to_numpy())[0]
        region = " ".join(table.columns[column])
        raise TLEError(f"{paths[row]}: no grey matter in region '{region}': check the scan and its report")
    return table.reset_index(drop=True)


def features(volumes):
    """Asymmetry and size of every region: log left − log right, and log left + log right.

    Parameters
    ----------
    volumes : pandas.DataFrame
        From `regional_volumes`.

    Returns
    -------
    asymmetry, size : numpy.ndarray
        Shape (n, regions); a mirrored brain has the asymmetries with opposite sign and the same sizes.
    """
    logs = np.log(volumes)
    left, right = (logs.xs(side, axis=1, level="hemisphere") for side in ("left", "right"))
    return (left - right[left.columns]).to_numpy(), (left + right[left.columns]).to_numpy()


def train_fold(volumes, groups, rows):
    """Linear discriminant of control, left and right that is blind to which side is which.

    Asymmetries are measured from the controls' means, so that the natural asymmetries of healthy brains count as none.
    Right patients are mirrored onto left ones: one mean describes both. The covariance is shared and shrunken
    (Ledoit and Wolf 2004); asymmetries and sizes are taken as independent, as they are for mirrored brains.

    Parameters
    ----------
    volumes : pandas.DataFrame
        From `regional_volumes`.
    groups : numpy.ndarray
        Class of each row: control, left, right.
    rows : numpy.ndarray
        Positions to learn from.

    Returns
    -------
    dict of str to numpy.ndarray
        For `predict`; can be kept in an npz file.

    Raises
    ------
    TLEError
        When one of the three classes is not among the rows.
    """
    absent = set(CLASSES) - set(groups[rows])
    if absent:
        raise TLEError(f"regional volumes: no participant of class '{min(absent)}' to learn from: use fewer folds")
    groups = groups[rows]
    healthy, sign = groups == "control", np.where(groups == "right", -1.0, 1.0)[:, None]
    stored = {"share": np.array([np.mean(groups == name) for name in CLASSES])}
    for name, values in zip(("asymmetry", "size"), features(volumes.iloc[rows]), strict=True):
        centre, spread = values[healthy].mean(axis=0), values[healthy].std(axis=0)
        z = (values - centre) / spread * (sign if name == "asymmetry" else 1)
        mean = z[~healthy].mean(axis=0)
        rest = np.concatenate([z[healthy], z[~healthy] - mean])
        weight = np.linalg.solve(LedoitWolf(assume_centered=True).fit(rest).covariance_, mean)
        stored |= {f"{name}_centre": centre, f"{name}_spread": spread, f"{name}_mean": mean, f"{name}_weight": weight}
    return stored


def predict(stored, volumes):
    """Probabilities of control, left and right.

    Parameters
    ----------
    stored : mapping
        From `train_fold`.
    volumes : pandas.DataFrame
        From `regional_volumes`.

    Returns
    -------
    numpy.ndarray
        Shape (n, 3).
    """
    evidence = np.tile(np.log(stored["share"]), (len(volumes), 1))
    for name, values in zip(("asymmetry", "size"), features(volumes), strict=True):
        weight, mean = stored[f"{name}_weight"], stored[f"{name}_mean"]
        score = (values - stored[f"{name}_centre"]) / stored[f"{name}_spread"] @ weight
        signs = np.array([1, -1]) if name == "asymmetry" else np.array([1, 1])
        evidence[:, 1:] += score[:, None] * signs - weight @ mean / 2
    return softmax(evidence, axis=1)


def cross_validate(volumes, participants, folds, label="regional volumes"):
    """Out-of-fold predictions of the regional model.

    Parameters
    ----------
    volumes : pandas.DataFrame
        From `regional_volumes`, in the order of `participants`.
    participants : pandas.DataFrame
        ``participant_id``, ``group``.
    folds : sequence
        From `crossval.make_folds`.
    label : str
        Name of the model in the table.

    Returns
    -------
    pandas.DataFrame
        The table of `tle_utils.predictions`.
    """
    groups = participants["group"].to_numpy(str)

    def fitted(train, rows, number):
        return CLASSES, predict(train_fold(volumes, groups, train), volumes.iloc[rows])

    return out_of_fold(participants, folds, label, fitted)
