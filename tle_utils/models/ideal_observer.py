"""The upper bound of a phantom cohort: what the ideal observer says of a chapter's participants, in their folds."""

from pathlib import Path

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.models.predictions import out_of_fold
from tle_utils.phantom.volumes import ideal_observer

IDEAL_OBSERVER = "ideal observer (true latent volumes)"


def read_truth(folder):
    """Truth table of a phantom (pandas.DataFrame), None where the cohort has no known truth.

    `folder` holds the results of notebook 01: ``maps/truth.tsv``, as `tle_utils.phantom.maps.make_phantom` wrote it.
    """
    path = Path(folder) / "maps" / "truth.tsv"
    if not path.exists():
        return None
    text = {"participant_id": str, "site": str}
    return pd.read_csv(path, sep="\t", dtype=text, keep_default_na=False, na_values=["nan"])


def ideal_predictions(folder, participants, folds):
    """Predictions of the ideal observer, who knows the generative model and the true latent volumes.

    It learns nothing from the folds, which only say where a row of the table belongs; classes without a participant are
    ruled out. `folder` holds the results of notebook 01. There is no row where the cohort has no known truth; TLEError
    when a participant has none.
    """
    truth = read_truth(folder)
    if truth is None:
        return pd.DataFrame()
    truth = truth.set_index("participant_id", drop=False)
    lost = set(participants["participant_id"]) - set(truth.index)
    if lost:
        raise TLEError(f"truth.tsv has no participant '{min(lost)}': run notebook 01_preprocessing again")
    known = ideal_observer(truth.loc[participants["participant_id"]])

    def predict(train, rows, number):
        classes = np.unique(participants["group"].to_numpy(str)[train])
        p = known[[f"p_{name}" for name in classes]].to_numpy()[rows]
        return classes, p / p.sum(axis=1, keepdims=True)

    return out_of_fold(participants, folds, IDEAL_OBSERVER, predict)
