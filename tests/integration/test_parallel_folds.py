"""Folds side by side give the numbers of folds one after the other."""

import numpy as np
import pandas as pd
import pytest

from tle_utils.imaging import slices
from tle_utils.models import crossval
from tle_utils.models.predictions import CLASSES
from tle_utils.models.settings import MultitaskOptions, Training


@pytest.fixture(scope="module")
def people():
    groups = np.repeat(CLASSES, 9)
    return pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(len(groups))], "group": groups})


def noise(people, shape):
    return np.random.default_rng(0).random((len(people), *shape, 1), dtype=np.float32)


def test_single_task_net(people, tmp_path):
    training = Training(network="figure_9", max_epochs=2, batch_size=4, standardise=True, dropout=0.3, noise=0.5)
    inputs = noise(people, (64, 64)), people, crossval.make_folds(people, 3, seed=0), training
    tables = [crossval.cross_validate(*inputs, folder=tmp_path / str(w), seed=0, workers=w)[0] for w in (1, 2)]
    pd.testing.assert_frame_equal(*tables)


def test_multitask_net(people, tmp_path):
    options = MultitaskOptions(max_epochs=2, members=2, flip=True, standardise=True)
    inputs = noise(people, slices.POOLED_SHAPE), people, crossval.make_folds(people, 3, seed=0), options
    tables = [crossval.cross_validate(*inputs, folder=tmp_path / str(w), seed=0, workers=w)[0] for w in (1, 2)]
    pd.testing.assert_frame_equal(*tables)
