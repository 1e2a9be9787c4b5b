"""A network is trained as its settings say, on nothing but the training part."""

import numpy as np
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.imaging import slices
from tle_utils.models import networks, settings, training
from tle_utils.models.crossval import Fold
from tle_utils.models.predictions import CLASSES

SHAPE = (64, 64, 1)
GROUPS = np.repeat(np.array(CLASSES, object), 8)
FOLD = Fold(0, 0, *(np.flatnonzero(np.isin(np.arange(24) % 8, part)) for part in ([0, 1, 2, 3], [4, 5], [6, 7])))
QUICK = settings.Training(network="figure_9", max_epochs=1, batch_size=4)


@pytest.fixture(scope="module")
def x():
    x = np.random.default_rng(0).random((24, *SHAPE), dtype=np.float32) * 0.2
    x[GROUPS == "left", 30:50, 8:24] += 0.8
    x[GROUPS == "right", 30:50, 40:56] += 0.8
    return x


def train(x, **changed):
    return training.train_fold(x, GROUPS, FOLD, QUICK.model_copy(update=changed), 0)


def test_a_loss_that_is_no_number_is_said(x):
    with pytest.raises(TLEError, match="learning_rate = 1e.30: the loss or a weight is not a number"):
        train(x, learning_rate=1e30, max_epochs=3)


def test_flips_are_of_training_participants_only(x, monkeypatch):
    seen, flip = [], slices.flip
    monkeypatch.setattr(slices, "flip", lambda stack, groups: seen.append(len(groups)) or flip(stack, groups))
    train(x, flip=True)
    assert seen == [len(FOLD.train)]


def test_standardisation_knows_the_training_part_only(x):
    changed = x.copy()
    changed[np.r_[FOLD.validation, FOLD.test]] += 5
    one, other = train(x, standardise=True), train(changed, standardise=True)
    assert np.array_equal(one["mean"], other["mean"]) and np.array_equal(one["deviation"], other["deviation"])
    z = training.fold_inputs(x[FOLD.train], one)
    assert np.allclose(z.mean(axis=0), 0, atol=1e-4) and z.std(axis=0).max() < 1 + 1e-4


def test_mirror_images_make_the_standardisation_symmetric(x):
    mean = train(x, standardise=True, flip=True)["mean"]
    assert np.allclose(np.roll(mean[:, ::-1], 1, axis=1), mean, atol=1e-6)


def test_a_number_is_learned_as_well_as_a_class(x):
    numbers = 3 + 2 * x[:, 30:50, 8:24].mean(axis=(1, 2, 3))
    options = {"network": "figure_2", "max_epochs": 12, "standardise": True, "scaled": True}
    stored = training.train_fold(x, numbers.astype(float), FOLD, QUICK.model_copy(update=options), 0)
    assert stored["p_test"].shape == (len(FOLD.test), 1) and "val_loss" in stored
    assert np.corrcoef(stored["p_test"][:, 0], numbers[FOLD.test])[0, 1] > 0.9
    changed = np.where(np.isin(np.arange(24), FOLD.test), -9, numbers.astype(float))
    again = training.train_fold(x, changed, FOLD, QUICK.model_copy(update=options), 0)
    assert np.array_equal(again["p_test"], stored["p_test"]), "nothing is learned from who is tested"


def test_scaled_network_is_rebuilt_as_it_was_trained(x):
    stored = train(x, scaled=True, noise=0.5, standardise=True)
    empty = networks.build("figure_9", 3, input_shape=SHAPE, scaled=bool(stored["scaled"]))
    model = training.with_weights(empty, stored)
    assert "scale" in [layer.name for layer in model.layers]
    p = model.predict(training.fold_inputs(x[FOLD.test], stored), verbose=0)
    assert np.allclose(p, stored["p_test"], atol=1e-6)


def test_smote_fills_up_the_training_part_only(x, monkeypatch):
    few = Fold(0, 0, np.r_[0:8, 8:11, 16:20], np.array([12, 21]), np.array([13, 22]))
    seen, real = [], training._filled_up
    monkeypatch.setattr(training, "_filled_up", lambda *part: seen.append(real(*part)) or seen[-1])
    training.train_fold(x, GROUPS, few, QUICK.model_copy(update={"smote": True}), 0)
    filled, labels = seen[0]
    assert dict(zip(*np.unique(labels, return_counts=True), strict=True)) == {"control": 8, "left": 8, "right": 8}
    synthetic = filled[15:][labels[15:] == "left"]
    assert np.abs(synthetic[:, 30:50, 8:24].mean() - x[8:11, 30:50, 8:24].mean()) < 0.05
    assert synthetic[:, 30:50, 40:56].mean() < 0.2
    alone = few._replace(train=np.r_[0:8, 8:9, 16:20])
    with pytest.raises(TLEError, match="smote: a class has one participant"):
        training.train_fold(x, GROUPS, alone, QUICK.model_copy(update={"smote": True}), 0)


@pytest.mark.parametrize("keep", ["val_loss", "val_accuracy"])
def test_training_does_not_stop_before_the_warm_up_and_keeps_the_best_epoch(x, keep):
    shuffled = settings.Training(
        network="figure_9", max_epochs=9, batch_size=4, learning_rate=0.03, patience=1, warm_up=6, keep=keep
    )
    groups = np.random.default_rng(1).permutation(GROUPS)
    stored = training.train_fold(x, groups, FOLD, shuffled, 0)
    assert len(stored["loss"]) >= 6
    best = np.argmin(stored["val_loss"]) if keep == "val_loss" else np.argmax(stored["val_accuracy"])
    assert stored["best_epoch"] == best + 1


def test_presets_are_complete_and_flip_only_where_both_sides_are_classes():
    for name in settings.PRESETS:
        for network in ("figure_2", "figure_9"):
            settings.preset(name, network, max_epochs=3, classes=CLASSES)
    assert settings.preset("book", "figure_2", max_epochs=3, classes=CLASSES).flip
    assert not settings.preset("book", "figure_2", max_epochs=3, classes=("control", "left")).flip
    follow_up = settings.preset("kaestner_rao_2023", "figure_2", max_epochs=60, classes=CLASSES)
    assert (follow_up.learning_rate, follow_up.l2, follow_up.batch_size, follow_up.patience) == (0.01, 1e-4, 4, 15)
    with pytest.raises(TLEError, match="preset 'papers'.*book, paper, kaestner_rao_2023"):
        settings.preset("papers", "figure_2", max_epochs=3, classes=CLASSES)
