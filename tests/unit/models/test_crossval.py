"""Nobody is tested by a network that saw them, and a run gives the same answer however it is cut up."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tle_utils.base import files
from tle_utils.base.errors import TLEError
from tle_utils.models import crossval, networks, training
from tle_utils.models.settings import Training

SHAPE = (64, 64, 1)


def cohort(sizes):
    groups = np.repeat(["control", "left", "right"], sizes)
    return pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(len(groups))], "group": groups})


@settings(deadline=None, max_examples=30)
@given(
    st.tuples(st.integers(5, 30), st.integers(5, 30), st.integers(5, 30)),
    st.integers(2, 5),
    st.integers(1, 2),
    st.integers(0, 50),
)
def test_folds_are_disjoint_and_complete(sizes, n_splits, n_repeats, seed):
    people = cohort(sizes)
    folds = crossval.make_folds(people, n_splits, seed=seed, n_repeats=n_repeats)
    for fold in folds:
        together = np.concatenate([fold.train, fold.validation, fold.test])
        assert np.array_equal(np.sort(together), np.arange(len(people)))
        for part in (fold.train, fold.validation, fold.test):
            assert set(people["group"].iloc[part]) == {"control", "left", "right"}
    for repeat in range(n_repeats):
        tested = np.concatenate([fold.test for fold in folds if fold.repeat == repeat])
        assert np.array_equal(np.sort(tested), np.arange(len(people)))


@pytest.mark.parametrize(
    ("people", "message"),
    [
        (cohort([5, 5, 2]), "class 'right' has 2 participants for n_splits = 3"),
        (cohort([5, 0, 0]), "one class only"),
        (cohort([0, 0, 0]), "empty table"),
        (pd.concat([cohort([5, 5, 5]), cohort([1, 0, 0])]), "sub-000.*twice"),
    ],
)
def test_bad_cohorts_are_named(people, message):
    with pytest.raises(TLEError, match=message):
        crossval.make_folds(people.reset_index(drop=True), 3, seed=0)


@pytest.fixture(scope="module")
def planted():
    """Twelve participants a class whose slices are bright on the side of their class, and one fold."""
    people = cohort([12, 12, 12])
    x = np.random.default_rng(0).random((36, *SHAPE), dtype=np.float32) * 0.2
    x[people["group"] == "left", 30:50, 8:24] += 0.8
    x[people["group"] == "right", 30:50, 40:56] += 0.8
    return x, people, crossval.make_folds(people, 3, seed=0)


TRAINING = Training(network="figure_9", max_epochs=8, learning_rate=3e-3, batch_size=4, standardise=True)


def run(planted, folder, **more):
    x, people, folds = planted
    return crossval.cross_validate(x, people, folds, TRAINING, folder=folder, seed=0, **more)


@pytest.fixture(scope="module")
def trained(planted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    return folder, *run(planted, folder)


def test_network_learns_what_is_plain_to_see(trained):
    _, predictions, curves = trained
    test = predictions[predictions["split"] == "test"]
    assert len(test) == 36 and test["participant_id"].is_unique
    assert np.allclose(test[["p_control", "p_left", "p_right"]].sum(axis=1), 1, atol=1e-5)
    assert (test["group"] == test["predicted"]).mean() > 0.6
    assert curves.groupby("fold")["best"].sum().eq(1).all()


def test_a_resumed_run_gives_the_same_predictions(planted, trained, tmp_path):
    folder, predictions, _ = trained
    done = sorted(folder.glob("*.npz"))
    (tmp_path / done[0].name).write_bytes(done[0].read_bytes())
    (tmp_path / done[1].name).write_bytes(done[1].read_bytes()[:1000])
    again, _ = run(planted, tmp_path)
    pd.testing.assert_frame_equal(again, predictions)


def test_a_fold_does_not_depend_on_what_this_process_trained_before(planted):
    x, people, folds = planted
    settings = TRAINING.model_copy(update={"max_epochs": 2, "dropout": 0.3, "noise": 0.5})
    groups = people["group"].to_numpy(object)
    networks._compiled.cache_clear()
    first, _, again = (training.train_fold(x, groups, folds[k], settings, 0) for k in (0, 1, 0))
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_a_fold_of_other_data_is_not_taken_from_the_cache(planted, trained, tmp_path, monkeypatch):
    x, people, folds = planted
    stored, asked = files.read_arrays(crossval.fold_path(trained[0], folds[0])), []
    monkeypatch.setattr(crossval, "code_version", lambda *names: "code")
    monkeypatch.setitem(crossval.TRAINED_BY, type(TRAINING), lambda *job: asked.append(job) or stored)
    changed, other = x.copy(), people.assign(group=people["group"].to_numpy()[::-1])
    changed[0, 0, 0] += 0.5
    for cohort, seed in (((x, people), 0), ((changed, people), 0), ((x, other), 0), ((x, people), 1)):
        for _ in range(2):
            crossval.cross_validate(*cohort, folds[:1], TRAINING, folder=tmp_path, seed=seed)
    assert len(asked) == 4, "trained anew for each change, read where nothing changed"


def test_stored_weights_give_the_stored_predictions(planted, trained):
    folder, *_ = trained
    x, _, folds = planted
    path = crossval.fold_path(folder, folds[0])
    model, inputs = crossval.load_fold(path, "figure_9", SHAPE)
    assert np.allclose(model.predict(inputs(x[folds[0].test]), verbose=0), files.read_arrays(path)["p_test"], atol=1e-6)


def test_a_missing_network_is_said(tmp_path):
    with pytest.raises(TLEError, match="no trained fold"):
        crossval.load_fold(tmp_path / "fold.npz", "figure_9", SHAPE)
