"""The predictions table, the unit of evaluation: its contract, its checks and the guard against leaks.

One row a participant and fold: ``participant_id``, ``group`` (the truth), ``model``, ``repeat``, ``fold``, ``split``
(``test`` or ``validation``), a probability for each class of the task (``p_control``, ``p_left``, ``p_right``) and
``predicted``.
"""

import numpy as np
import pandas as pd

from tle_utils.errors import TLEError

CLASSES = ("control", "left", "right")
KEYS = ["model", "repeat", "fold", "split"]


def classes_of(table):
    """Classes of a task in the order control, left, right: those whose probability column holds values."""
    return [name for name in CLASSES if f"p_{name}" in table and table[f"p_{name}"].notna().any()]


def fold_rows(participants, rows, p, classes, *, model, repeat, fold, split):
    """Rows of the table for participants whom one fold predicts.

    Parameters
    ----------
    participants : pandas.DataFrame
        ``participant_id``, ``group``.
    rows : numpy.ndarray
        Positions of the predicted participants.
    p : numpy.ndarray
        Probabilities, shape (len(rows), len(classes)).
    classes : sequence of str
        Classes in the order of the columns of `p`.
    model, repeat, fold, split
        As in the head of this module.

    Returns
    -------
    pandas.DataFrame
    """
    marks = {"model": model, "repeat": repeat, "fold": fold, "split": split}
    part = participants.iloc[rows][["participant_id", "group"]].assign(**marks)
    part[[f"p_{name}" for name in classes]] = p
    return part.assign(predicted=np.array(classes)[np.asarray(p).argmax(axis=1)]).reset_index(drop=True)


def refuse_twice(participants):
    """Refuse a table in which a participant stands twice (TLEError)."""
    twice = participants["participant_id"][participants["participant_id"].duplicated()]
    if len(twice):
        raise TLEError(f"participant '{twice.iloc[0]}' stands twice in the table: keep one row a participant")


def assert_no_leak(train_ids, validation_ids, test_ids):
    """Refuse a split in which a participant stands on two sides.

    Parameters
    ----------
    train_ids, validation_ids, test_ids : sequence of str
        Participants of each side; repeated rows of one participant on one side are fine.

    Raises
    ------
    TLEError
        Names the first such participant.
    """
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

    Parameters
    ----------
    table : pandas.DataFrame
        Columns as in the head of this module; the classes of each model's task are those with a probability column.

    Returns
    -------
    pandas.DataFrame
        The table sorted by model (order of appearance), repeat, fold, split and participant, so that no result
        depends on the order of rows.

    Raises
    ------
    TLEError
        Names the participant with a duplicate row, an unknown class, two true classes, a place in test and
        validation of one fold, or probabilities that are NaN, outside 0 to 1 or do not sum to 1.
    """
    missing = [name for name in ["participant_id", "group", *KEYS, "predicted"] if name not in table]
    if missing or table.empty:
        raise TLEError(
            f"predictions: {'no column ' + ', '.join(missing) if missing else 'no rows'}: run the model again"
        )
    for model, rows in table.groupby("model", sort=False):
        classes = classes_of(rows)
        names = f"known here: {', '.join(classes) or 'none'}"
        _refuse(
            rows, ~rows["split"].isin(["test", "validation"]), "split is neither test nor validation", "mend the row"
        )
        for column in ("group", "predicted"):
            _refuse(rows, ~rows[column].isin(classes), f"{column} is not a class of the task", names)
        values = rows[[f"p_{name}" for name in classes]].to_numpy(float)
        off = ~((values >= 0) & (values <= 1)).all(axis=1) | (np.abs(values.sum(axis=1) - 1) > 1e-3)
        _refuse(rows, off, "probabilities are NaN, outside 0 to 1 or do not sum to 1", "train the fold again")
        test = rows[rows["split"] == "test"]
        twice = test.duplicated(["participant_id", "repeat"])
        _refuse(test, twice, f"tested twice in one repeat of model '{model}'", "test each participant once a repeat")
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
