"""The predictions table, the unit of evaluation: its contract, its checks and the guard against leaks.

One row per participant and fold: ``participant_id``, ``group`` (the truth), ``model``, ``repeat``, ``fold``, ``split``
(``test`` or ``validation``), a probability for each class of the task (``p_control``, ``p_left``, ``p_right``) and
``predicted``.
"""

import numpy as np
import pandas as pd
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from tle_utils.base.errors import TLEError

CLASSES = ("control", "left", "right")
KEYS = ["model", "repeat", "fold", "split"]
AS_TRAINED = ", as trained"
"""End of the name of a model that stands in the table a second time, before its temperature; not to be chosen."""
LEAST_PROBABILITY = 1e-6
"""Smaller probabilities count as this much: one sure mistake must not rule the temperature."""


def classes_of(table):
    """Classes of a task in the order control, left, right: those whose probability column holds values."""
    return [name for name in CLASSES if f"p_{name}" in table and table[f"p_{name}"].notna().any()]


def geometric_mean(parts):
    """Geometric mean of probabilities, scaled to sum to one; of one model's its own.

    `parts` are arrays of one model each, classes along the last axis; their shapes broadcast.
    """
    if len(parts) == 1:
        return parts[0]
    return softmax(sum(np.log(np.maximum(part, LEAST_PROBABILITY)) for part in parts) / len(parts), axis=-1)


def fold_rows(participants, rows, p, classes, *, model, repeat, fold, split):
    """Rows of the table for the positions `rows` that one fold predicts; `p` has shape (len(rows), len(classes))."""
    marks = {"model": model, "repeat": repeat, "fold": fold, "split": split}
    part = participants.iloc[rows][["participant_id", "group"]].assign(**marks)
    part[[f"p_{name}" for name in classes]] = p
    return part.assign(predicted=np.array(classes)[np.asarray(p).argmax(axis=1)]).reset_index(drop=True)


def refuse_twice(participants):
    """Refuse a table in which a participant stands twice (TLEError)."""
    twice = participants["participant_id"][participants["participant_id"].duplicated()]
    if len(twice):
        raise TLEError(f"participant '{twice.iloc[0]}' stands twice in the table: keep one row per participant")


def assert_no_leak(train_ids, validation_ids, test_ids):
    """Refuse a split in which a participant stands on two sides (TLEError); repeated rows on one side are fine."""
    sides = {"training": set(train_ids), "validation": set(validation_ids), "test": set(test_ids)}
    for one, other in (("training", "test"), ("validation", "test"), ("training", "validation")):
        shared = sides[one] & sides[other]
        if shared:
            raise TLEError(f"participant '{min(shared)}' is in {one} and in {other}: split by participant")


def _refuse(rows, bad, problem, remedy):
    if bad.any():
        row = rows[bad].iloc[0]
        where = f"model '{row['model']}', participant '{row['participant_id']}', fold {row['fold']}"
        raise TLEError(f"predictions, {where}: {problem}: {remedy}")


def validate_predictions(table):
    """Check a predictions table, of one model or of many.

    The classes of each model's task are those with a probability column. Returns the table sorted by model (order of
    appearance), repeat, fold, split and participant, so that no result depends on the order of rows.

    Raises
    ------
    TLEError
        Names the participant with a duplicate row, an unknown class, two true classes, a place in test and
        validation of one fold, or probabilities that are NaN, outside 0 to 1 or do not sum to 1.
    """
    missing = [name for name in ["participant_id", "group", *KEYS, "predicted"] if name not in table]
    if missing or table.empty:
        problem = f"no column {', '.join(missing)}" if missing else "no rows"
        raise TLEError(f"predictions: {problem}: run the model again")
    for model, rows in table.groupby("model", sort=False):
        classes = classes_of(rows)
        names = f"known here: {', '.join(classes) or 'none'}"
        splits = rows["split"].isin(["test", "validation"])
        _refuse(rows, ~splits, "split is neither test nor validation", "mend the row")
        for column in ("group", "predicted"):
            _refuse(rows, ~rows[column].isin(classes), f"{column} is not a class of the task", names)
        values = rows[[f"p_{name}" for name in classes]].to_numpy(float)
        off = ~((values >= 0) & (values <= 1)).all(axis=1) | (np.abs(values.sum(axis=1) - 1) > 1e-3)
        _refuse(rows, off, "probabilities are NaN, outside 0 to 1 or do not sum to 1", "train the fold again")
        test = rows[rows["split"] == "test"]
        twice = test.duplicated(["participant_id", "repeat"])
        _refuse(test, twice, f"tested twice in one repeat of model '{model}'", "test each participant once per repeat")
        twice = rows.duplicated(["participant_id", "repeat", "fold"])
        _refuse(rows, twice, "stands twice in one fold", "keep one row, and keep test and validation apart")
    truth = table.groupby("participant_id", sort=False)["group"].transform("first")
    _refuse(table, table["group"] != truth, "has two true classes", "mend column group")
    order = pd.Categorical(table["model"], table["model"].unique())
    keys = ["_order", "repeat", "fold", "split", "participant_id"]
    return table.assign(_order=order).sort_values(keys).drop(columns="_order").reset_index(drop=True)


def select_rows(table, split="test", several=False):
    """Validated rows of one split; refuses several models unless `several`, and a table without such rows."""
    table = validate_predictions(table)
    rows = table[table["split"] == split]
    if rows.empty:
        raise TLEError(f"predictions: no row with split '{split}': keep these rows when the folds are collected")
    models = rows["model"].unique()
    if len(models) > 1 and not several:
        raise TLEError(f"predictions: rows of {len(models)} models ({', '.join(models)}): choose those of one")
    return rows.reset_index(drop=True)


def out_of_fold(participants, folds, model, predict):
    """Predictions of any model that is fitted fold by fold.

    Parameters
    ----------
    model : str
        Name of the model in the table.
    predict : callable
        ``predict(train, rows, number) -> (classes, probabilities)``: positions to learn from, positions to predict
        and the number of the fold to the names of the known classes and probabilities, shape (rows, classes).

    Raises
    ------
    TLEError
        A participant stands twice in the table or on two sides of a fold, or a training part has one class only.
    """
    people = participants[["participant_id", "group"]].astype(str)
    ids, groups = people["participant_id"].to_numpy(str), people["group"].to_numpy(str)
    refuse_twice(participants)
    classes = [name for name in CLASSES if name in groups]
    out = []
    for number, fold in enumerate(folds):
        train, validation, test = (np.asarray(part, int) for part in fold[-3:])
        repeat, label = (fold[0], fold[1]) if len(fold) == 5 else (0, number)
        assert_no_leak(ids[train], ids[validation], ids[test])
        if len(np.unique(groups[train])) < 2:
            raise TLEError(f"{model}: the training part of fold {label} has one class only: use fewer folds")
        rows = np.concatenate([test, validation])
        with threadpool_limits(1):  # same numbers on any machine, and small fits do not wait for threads
            known, p = predict(train, rows, number)
        full = np.zeros((len(rows), len(classes)))
        full[:, [classes.index(name) for name in known]] = p
        for split, here, values in (("test", test, full[: len(test)]), ("validation", validation, full[len(test) :])):
            out.append(fold_rows(people, here, values, classes, model=model, repeat=repeat, fold=label, split=split))
    return pd.concat(out, ignore_index=True)
