"""Which model to take: the folds of earlier chapters, the choice by validation participants, and what it is worth."""

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.models.crossval import Fold
from tle_utils.models.predictions import AS_TRAINED, LEAST_PROBABILITY, select_rows, validate_predictions

UNTRAINED = ("majority", "shuffled labels")  # with the ideal observer: never to be chosen
COMPARATOR = "hippocampal volumes"
"""The model that others are held against, named before any result."""
CHOSEN = "chosen within each fold"


def gather(tables):
    """Predictions of several chapters in one table; a model that stands in several is taken from the first.

    `tables` is a sequence of predictions; empty ones are passed over.

    Raises
    ------
    TLEError
        When a participant has different true classes in two tables.
    """
    known, kept = set(), []
    for table in tables:
        if len(table):
            kept.append(table[~table["model"].isin(known)])
            known |= set(table["model"])
    return validate_predictions(pd.concat(kept, ignore_index=True))


def as_trained(predictions):
    """Predictions before any temperature, under the names of the models.

    Those that have their temperature give way to the rows that end in `AS_TRAINED`, where there are such.
    """
    stem = predictions["model"].str.removesuffix(AS_TRAINED)
    twin = stem != predictions["model"]
    return predictions[twin | ~stem.isin(stem[twin])].assign(model=stem)


def folds_of(predictions, participants):
    """The folds that a table of predictions was made on: those of its first model.

    A training part is everybody outside the test and validation part.

    Raises
    ------
    TLEError
        When the predictions are of other participants.
    """
    model = predictions["model"].iloc[0]
    rows = validate_predictions(predictions[predictions["model"] == model])
    place = {name: number for number, name in enumerate(participants["participant_id"])}
    tested = rows[rows["split"] == "test"]
    for _, part in tested.groupby("repeat"):
        alone = set(part["participant_id"]) ^ set(place)
        if alone:
            raise TLEError(
                f"participant '{min(alone)}' is not both in participants.tsv and in the predictions of '{model}': "
                "run the notebook that made them again"
            )
    folds = []
    for (repeat, fold), part in rows.groupby(["repeat", "fold"]):
        positions = {split: np.sort(some["participant_id"].map(place)) for split, some in part.groupby("split")}
        validation = positions.get("validation", np.array([], int))
        train = np.setdiff1d(np.arange(len(place)), np.concatenate([validation, positions["test"]]))
        folds.append(Fold(int(repeat), int(fold), train, validation, positions["test"]))
    return folds


def _ranked(predictions, by):
    """Models by the mean cross-entropy of the side on validation patients whom all have, least first, in groups."""
    rows = select_rows(predictions, "validation", several=True)
    rows = rows[rows["group"].isin(["left", "right"])]
    shared = rows.groupby(["repeat", "fold", "participant_id"])["model"].transform("nunique")
    rows = rows[shared == predictions["model"].nunique()]
    own = rows["p_left"].where(rows["group"] == "left", rows["p_right"])
    p = (own / (rows["p_left"] + rows["p_right"])).fillna(0.5)
    found = rows.assign(loss=np.log(1 / p.clip(LEAST_PROBABILITY, 1)), hit=np.where(p == 0.5, 0.5, p > 0.5))
    table = found.groupby([*by, "model"], sort=False).agg(
        rows=("hit", "size"), side_loss=("loss", "mean"), lateralization_accuracy=("hit", "mean")
    )
    return table.reset_index().sort_values([*by, "side_loss"], kind="stable", ignore_index=True)


def on_validation(predictions):
    """How well every model tells the side of the validation patients, best first; test rows are not looked at.

    Folds are pooled, and who validates in one fold is tested in another: a ranking to look at, and to deploy a model
    by. What a choice is worth is told by `choose_within_folds`. Recalibrated predictions are compared more fairly.

    Returns
    -------
    pandas.DataFrame
        ``model``, ``rows`` (validation rows of patients that all models have; a patient may validate several folds),
        ``side_loss`` (mean cross-entropy of the side, given that it is one of the two, in nats; a coin has log 2) and
        ``lateralization_accuracy``, least loss first.

    Raises
    ------
    TLEError
        When the models have no validation row of a patient in common.
    """
    table = _ranked(predictions, [])
    if table.empty:
        raise TLEError("predictions: the models have no validation patient in common: run them on the same folds")
    return table


def _candidates(predictions, never):
    out = predictions["model"].isin([*UNTRAINED, *never]) | predictions["model"].str.endswith(AS_TRAINED)
    if out.all():
        raise TLEError("predictions: no model to choose from: run notebooks 03, 04 and 06 first")
    return predictions[~out]


def choose_model(predictions, never=()):
    """Name of the model with the least cross-entropy of the side on validation patients of all folds: what to deploy.

    Its own test rows flatter it, since they validate in other folds: beside it stands what `choose_within_folds` says.
    Models in `never` (sequence of str) may not be chosen, nor `UNTRAINED` ones, nor those whose name ends in
    `AS_TRAINED`.

    Raises
    ------
    TLEError
        When no model is left, or the models have no validation patient in common.
    """
    return on_validation(_candidates(predictions, never))["model"].iloc[0]


def choose_within_folds(predictions, never=()):
    """The model that each fold's own validation patients choose, by the least cross-entropy of the side.

    No label of a fold's test part takes part in the choice. At the same loss the first model of the table is taken; for
    `never` see `choose_model`.

    Returns
    -------
    pandas.DataFrame
        One row per fold: ``repeat``, ``fold``, ``model``, ``rows`` (validation patients that all models have),
        ``side_loss`` and ``lateralization_accuracy`` of that model on them.

    Raises
    ------
    TLEError
        When no model is left, or the models have no validation patient of a fold in common.
    """
    candidates, folds = _candidates(predictions, never), ["repeat", "fold"]
    choices = _ranked(candidates, folds).drop_duplicates(folds, ignore_index=True)
    lacking = set(candidates[folds].itertuples(index=False)) - set(choices[folds].itertuples(index=False))
    if lacking:
        problem = f"predictions, fold {min(lacking).fold}: the models have no validation patient in common"
        raise TLEError(f"{problem}: run them on the same folds, and keep validation rows")
    return choices


def take(predictions, choices, label=CHOSEN):
    """Predictions of a procedure named `label`: in every fold those of the model chosen by `choose_within_folds`.

    `predictions` may be those before or after `recalibrated`. Validation rows come along, flattered a little since they
    have chosen the model.
    """
    return predictions.merge(choices[["repeat", "fold", "model"]]).assign(model=label)
