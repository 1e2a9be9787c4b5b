"""What several tests are made of: tables of predictions, cohorts of volumes and of images, a model's card."""

import numpy as np
import pandas as pd

from tle_utils.imaging import atlas, slices
from tle_utils.models import hemispheres, multitask
from tle_utils.models.predictions import CLASSES
from tle_utils.models.settings import HemisphereOptions
from tle_utils.patient import model_card
from tle_utils.patient.norms import Norms
from tle_utils.patient.out_of_distribution import TrainingMaps

THREE = ("control", "left", "right")
TWO = ("control", "left")
REGIONS = ("amygdala", "hippocampus", "insula")
COLUMNS = pd.MultiIndex.from_product([REGIONS, ("left", "right")], names=["region", "hemisphere"])
BLOB = (slice(18, 22), slice(7, 11))  # left of the midline, column 15
PERSON = {"age": 40.0, "sex": "F", "head_size_ml": 1450.0}


def make_table(groups, p, classes=THREE, folds=3, model="net", repeat=0):
    groups, p = np.asarray(groups), np.asarray(p, float)
    table = pd.DataFrame({"participant_id": [f"sub-{i:04d}" for i in range(len(groups))], "group": groups})
    table = table.assign(model=model, repeat=repeat, fold=np.arange(len(groups)) % folds, split="test")
    table[[f"p_{name}" for name in classes]] = p
    table["predicted"] = np.array(classes)[p.argmax(axis=1)]
    return table


def random_table(seed, n=60, classes=THREE, signal=1.0, **kwargs):
    rng = np.random.default_rng(seed)
    groups = np.array(classes)[np.arange(n) % len(classes)]
    scores = rng.normal(size=(n, len(classes))) + signal * (groups[:, None] == np.array(classes))
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    kwargs.setdefault("folds", 3)
    table = make_table(groups, p, classes, **kwargs)
    return table.assign(fold=rng.permutation(n) % kwargs["folds"])


def volume_cohort(n=30, seed=0):
    """Regional volumes; patients lose hippocampus on their side."""
    rng, groups = np.random.default_rng(seed), np.repeat(CLASSES, n)
    volumes = pd.DataFrame(np.exp(rng.normal(1, 0.08, (3 * n, 6))), columns=COLUMNS)
    for side in ("left", "right"):
        volumes.loc[groups == side, ("hippocampus", side)] *= 0.75
    return volumes, groups


def card(**changed):
    return model_card.ModelCard(
        **{
            "name": "",
            "task": "side",
            "components": ("regional",),
            "y_mm": (),
            "space": atlas.SPACE,
            "preprocessing": {"modulate": True, "fwhm_mm": 0.0},
            "profile": "demo",
            "cohort": "phantom",
            "seed": 0,
            "participants": {"control": 30, "left": 30, "right": 30},
            "participants_sha256": "0" * 64,
            "maps_sha256": "1" * 64,
            "versions": {"python": "3.11", "plotly": None},
            "code": {"commit": "abc", "uncommitted_changes": True},
            "out_of_fold": ({"metric": "accuracy", "value": 0.8, "ci_low": 0.7, "ci_high": None, "n": 90},),
            "calibration": {"expected_calibration_error": 0.03, "brier": 0.3, "bins": 5, "n": 90},
            "conformal": ({"coverage": 0.9, "threshold": 0.7, "n": 90},),
            "norms": Norms(regressions=()),
            "out_of_distribution": TrainingMaps(n=3, mean={}, sd={}),
        }
        | changed
    )


def lesion_cohort(n=24, channels=1, seed=0):
    """Noise images of the pooled size; patients miss tissue on their side."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(CLASSES, n)
    x = 0.5 + 0.05 * rng.standard_normal((3 * n, *slices.POOLED_SHAPE, channels)).astype(np.float32)
    view = {"left": x, "right": x[:, :, ::-1]}
    for side in ("left", "right"):
        view[side][np.flatnonzero(groups == side)[:, None, None], BLOB[0], BLOB[1]] -= 0.3
    people = pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(3 * n)], "group": groups})
    return x, people


def quick(**options):
    return multitask.MultitaskOptions(
        **({"max_epochs": 12, "dropout": 0.0, "learning_rate": 5e-3, "l2": 0.0} | options)
    )


def hemisphere_fold():
    """What `train_hemispheres` would leave if it had learned one thing: the smaller hippocampus is the diseased one."""
    share, table = hemispheres.anatomy()[1], atlas.regions()[1]
    mean, one = np.ones(share.shape[:2], np.float32), np.eye(share.shape[-1], dtype=np.float32)
    place = table.loc[table["hemisphere"] == "left", "region"].tolist().index("hippocampus")
    stored = {
        "options": np.asarray(HemisphereOptions(filters=0).model_dump_json()),
        "mean": mean,
        "deviation": mean / 10,
    }
    weights = {"w_000": -one[:, [place]], "w_001": 0 * one[:, :1], "w_002": np.zeros(1, np.float32)}
    return stored | {"apart": 20 * one, "together": one} | weights


def norm_cohort(n=200, seed=0):
    """Controls whose log volumes depend on age (−2 % a decade), sex (1 %) and head size (exponent 0.6)."""
    rng = np.random.default_rng(seed)
    people = pd.DataFrame({"age": rng.uniform(20, 60, n), "sex": rng.choice(["F", "M"], n)})
    people["head_size_ml"] = 1450 * np.exp(rng.normal(0, 0.1, n))
    mean = -0.02 * (people["age"] - 40) / 10 + 0.01 * (people["sex"] == "F")
    mean = mean + 0.6 * np.log(people["head_size_ml"] / 1450) + np.log(4)
    logs = mean.to_numpy()[:, None] + rng.normal(0, 0.05, (n, len(COLUMNS)))
    return pd.DataFrame(np.exp(logs), columns=COLUMNS), people


def average(**changed):
    row = pd.DataFrame(4 * np.exp([[0.01] * len(COLUMNS)]), columns=COLUMNS)
    for name, factor in changed.items():
        region, side = name.split("_")
        row[region, side] *= factor
    return row


def benchmark_table(capsys):
    """Row and quantity → the words behind them, and what went to stderr."""
    said = capsys.readouterr()
    lines = [line.split("  ") for line in said.out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return {(line[0], line[1]): line[2:] for line in cells[1:]}, said.err
