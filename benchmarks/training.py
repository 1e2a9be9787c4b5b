"""How fast training is, and that speed costs no accuracy: ``python -m benchmarks training``.

The rows ``epoch``, ``folds`` and ``accuracy`` train the 3-layer CNN (Figure 2) on left against right patients of a
phantom cohort made on the spot, with the settings of the preset ``book`` on all sides: mirror images, z-scores of the
training part, noise, Adam, batches of 8, He-uniform convolutions, batch normalisation with momentum 0.9, a pass over
the validation part after every epoch, and the weights of the epoch with the lowest validation loss. The learning rate
is the demo's, and early stopping is off, so that every side does the same number of epochs.

- ``epoch``: `training.train_fold` against `torch_recipe` on the same arrays, as many threads on both sides, folds and
  sides in turn; medians. Ours is the time of a fold less that of a fold of one epoch, so that data preparation, the
  building of the graph and the last predictions count on neither side; PyTorch's first epoch is left out too. PyTorch
  is given its own layout of images and, as the harder opponent, channels last. That it is the same net is shown by its
  probabilities from our weights.
- ``folds``: ten folds through `crossval.cross_validate`, with the start of the worker processes, the keys of the cache,
  the preparation of the data and the files of the folds, against `keras_recipe`: a fresh ``model.fit`` a fold, one
  process, a thread a core, on data already prepared, without the imports and without XLA's compilation.
- ``accuracy``: out-of-fold accuracy of both sides of ``folds``.
- ``paper``: the sum of what each notebook took in its last success, from ``run.json`` of profile paper. It says nothing
  where folds were read from the cache of a run that was stopped.
"""

import dataclasses
import functools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.benchmark import Row, Target, require, run_benchmark, run_script
from tle_utils.base.errors import TLEError
from tle_utils.base.project import project_root, run_folder
from tle_utils.imaging import slices
from tle_utils.models import crossval, training
from tle_utils.models.settings import preset
from tle_utils.phantom import maps

CLASSES = ("left", "right")
SPLITS = 10
Y_MM = -24
KNOBS = {"effect_scale": 2.0, "sclerosis_fraction": 1.0}  # so that a small cohort can be learned
LEARNING_RATE = 1e-3
SEED = 0
ROUNDS = 3  # folds on which an epoch is timed
TIMED_EPOCHS = 8
LAYOUTS = ("channels_first", "channels_last")
DISAGREEMENT = 0.2
"""Assumed share of participants whom two trainings that differ in their random numbers alone judge differently."""
THREADS = "TF_NUM_INTRAOP_THREADS"
OUR_SETTINGS = (THREADS, "TF_NUM_INTEROP_THREADS", "TF_DETERMINISTIC_OPS", "OMP_NUM_THREADS")
"""Of the environment; the plain Keras loop runs without them."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """What is measured."""

    folder: Path  # for what is made on the way
    n: int = 40  # participants per class
    epochs: int = 25  # epochs per fold of the rows "folds" and "accuracy"
    workers: int = 2  # processes side by side
    torch_python: str | None = None  # interpreter that has PyTorch; by default this one


@functools.cache
def cohort(bench):
    """Slices (`slices.load_slices`), participants in their order and folds (`crossval.Fold`) of a phantom cohort."""
    sizes = {"n_control": 0, "n_left": bench.n, "n_right": bench.n}
    folder = bench.folder / "phantom"
    table = maps.make_phantom(folder, **sizes, seed=SEED, workers=bench.workers, **KNOBS)
    return slices.load_slices(table["image"], (Y_MM,)), table, crossval.make_folds(table, SPLITS, seed=SEED)


def settings(epochs):
    """Settings of the preset ``book`` without early stopping (training.Training)."""
    given = preset("book", "figure_2", max_epochs=epochs, classes=CLASSES, learning_rate=LEARNING_RATE)
    return given.model_copy(update={"patience": epochs})


def fold_arrays(x, groups, fold):
    """What a network learns from, validates on and is tested on, prepared as `training.train_fold` does.

    Of slices `x` (`slices.load_slices`), the class of each participant and a `crossval.Fold`. Returns a dict of arrays:
    ``seen``, ``held`` and ``test`` (slices), ``seen_codes``, ``held_codes`` (places in `CLASSES`), ``n_classes``,
    ``learning_rate``, ``batch_size``, ``noise``.
    """
    mirrored, swapped = slices.flip(x[fold.train], groups[fold.train])
    seen, labels = np.concatenate([x[fold.train], mirrored]), np.concatenate([groups[fold.train], swapped])
    scale = dict(zip(("mean", "deviation"), slices.voxel_scale(seen), strict=True))
    parts = {"seen": seen, "held": x[fold.validation], "test": x[fold.test]}
    found = {name: training.fold_inputs(part, scale) for name, part in parts.items()}
    for name, part in (("seen_codes", labels), ("held_codes", groups[fold.validation])):
        found[name] = np.array([CLASSES.index(group) for group in part])
    given = settings(1).model_dump(include={"learning_rate", "batch_size", "noise"})
    return found | {name: np.asarray(value) for name, value in given.items()} | {"n_classes": np.asarray(len(CLASSES))}


def _timed_fold(x, groups, fold, epochs):
    start = time.monotonic()
    stored = training.train_fold(x, groups, fold, settings(epochs), SEED)
    return time.monotonic() - start, stored


def epoch_against_torch(bench):
    """Time an epoch here and in PyTorch, one fold after the other; `TLEError`: no interpreter with PyTorch.

    Returns our time per epoch over PyTorch's in its own layout, over PyTorch's with channels last, and the largest
    difference between the probabilities of our network and those of PyTorch's with our weights (floats).
    """
    python = bench.torch_python or sys.executable
    require("torch", "torch numpy", "--torch-python", python)
    x, participants, folds = cohort(bench)
    groups, file = participants["group"].to_numpy(object), bench.folder / "torch.npz"
    seconds, differences = {name: [] for name in ("ours", *LAYOUTS)}, []
    _timed_fold(x, groups, folds[0], 1)
    for fold in folds[:ROUNDS]:
        short, _ = _timed_fold(x, groups, fold, 1)
        long, stored = _timed_fold(x, groups, fold, 1 + TIMED_EPOCHS)
        seconds["ours"].append((long - short) / TIMED_EPOCHS)
        weights = {name: value for name, value in stored.items() if name.startswith("w_")}
        np.savez(file, **fold_arrays(x, groups, fold), **weights)
        for layout in LAYOUTS:
            told = run_script("torch_recipe.py", python, file, 1 + TIMED_EPOCHS, os.environ[THREADS], layout)
            found = json.loads(told.splitlines()[-1])
            seconds[layout].append(statistics.fmean(found["seconds"][1:]))
            differences.append(np.abs(np.array(found["p_given"]) - stored["p_test"]).max())
    print("s per epoch:", {name: [round(value, 3) for value in values] for name, values in seconds.items()})
    ratios = [statistics.median(a / b for a, b in zip(seconds["ours"], seconds[name], strict=True)) for name in LAYOUTS]
    return *ratios, float(max(differences))


@functools.cache
def cross_validations(bench):
    """Cross-validate in ten folds through our path and in the plain Keras loop.

    Returns the seconds of both (tuple of float), and whether each participant is classified correctly out of fold by
    both (tuple of numpy.ndarray).
    """
    x, participants, folds = cohort(bench)
    groups = participants["group"].to_numpy(object)
    files = [bench.folder / f"fold-{fold.fold:02d}.npz" for fold in folds]
    for file, fold in zip(files, folds, strict=True):
        np.savez(file, **fold_arrays(x, groups, fold))
    start = time.monotonic()
    options = {"folder": bench.folder / "folds", "seed": SEED, "workers": bench.workers}
    predictions, _ = crossval.cross_validate(x, participants, folds, settings(bench.epochs), **options)
    ours = time.monotonic() - start
    env = {name: value for name, value in os.environ.items() if name not in OUR_SETTINGS}
    plain = json.loads(run_script("keras_recipe.py", sys.executable, bench.epochs, *files, env=env).splitlines()[-1])
    correct = np.zeros(len(groups), bool)
    for fold, p in zip(folds, plain["p_test"], strict=True):
        correct[fold.test] = np.array(CLASSES)[np.argmax(p, axis=1)] == groups[fold.test]
    test = predictions[predictions["split"] == "test"].set_index("participant_id").loc[participants["participant_id"]]
    hits = (test["predicted"].to_numpy(object) == groups, correct)
    print(f"s for ten folds: ours {ours:.1f}, plain Keras loop {plain['seconds']:.1f}")
    print(f"participants whom the two judge differently: {np.mean(hits[0] != hits[1]):.2f}")
    return (ours, plain["seconds"]), hits


def paper_minutes():
    """Minutes that all notebooks of profile paper took; `TLEError`: there is no such run, or it has not finished."""
    path, remedy = run_folder("paper", "phantom") / "run.json", "python -m tle_utils run --profile paper --workers 2"
    shown = os.path.relpath(path, project_root())
    try:
        ran = json.loads(path.read_text(encoding="utf-8"))["notebooks"]
    except FileNotFoundError:
        raise TLEError(f"there is no {shown}: make it with '{remedy}'") from None
    except (OSError, ValueError, KeyError):
        raise TLEError(f"{shown} is damaged: make it anew with '{remedy}'") from None
    for notebook in sorted((project_root() / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        if ran.get(notebook.stem, {}).get("seconds") is None:
            raise TLEError(f"{shown}: {notebook.stem} has not finished: go on with '{remedy}'")
    return sum(entry["seconds"] for entry in ran.values()) / 60


def rows(bench):
    """The rows of ``python -m benchmarks training``.

    The accuracies must be above chance, or their likeness would say nothing; chance plus 1.645 standard errors. Two
    trainings of one network that differ in their random numbers alone judge some participants differently; the
    accuracies over N participants then differ by sqrt(`DISAGREEMENT` / N) (one standard error, as in McNemar's test),
    and 1.96 of these are allowed. Returns a list of benchmarks.benchmark.Row.
    """
    people = len(CLASSES) * bench.n
    data = f"phantom, {people} patients"
    chance, noise = 0.5 + 1.645 * 0.5 / math.sqrt(people), 1.96 * math.sqrt(DISAGREEMENT / people)

    def ratio():
        ours, plain = cross_validations(bench)[0]
        return [ours / plain]

    def accuracies():
        ours, plain = (float(hits.mean()) for hits in cross_validations(bench)[1])
        return ours, plain, abs(ours - plain)

    epoch = "an epoch: time over plain PyTorch's"
    return [
        Row(
            "epoch",
            data,
            (
                Target(epoch, high=1.0),
                Target(f"{epoch}, channels last", high=1.0),
                Target("largest difference of probabilities, our weights there", high=1e-3),
            ),
            lambda: epoch_against_torch(bench),
        ),
        Row("folds", data, (Target("ten folds: time over the plain Keras loop's", high=0.6),), ratio),
        Row(
            "accuracy",
            data,
            (
                Target("out-of-fold accuracy, ours", low=round(chance, 3)),
                Target("out-of-fold accuracy, plain Keras loop", low=round(chance, 3)),
                Target("difference of the two accuracies", high=round(noise, 3)),
            ),
            accuracies,
        ),
        Row(
            "paper",
            "runs/paper-phantom",
            (Target("profile paper, all chapters", high=60, unit="min"),),
            lambda: [paper_minutes()],
        ),
    ]


def benchmark_training(only, n, epochs, workers, torch_python):
    """Print the table of targets of training from one run on this machine.

    Parameters and exit status are those of `Bench` and `benchmarks.benchmark.run_benchmark`; `TLEError`: fewer
    participants per class than folds.
    """
    if n < SPLITS:
        raise TLEError(f"--n {n}: {SPLITS} folds need at least {SPLITS} participants per class")
    with tempfile.TemporaryDirectory() as folder:
        return run_benchmark(rows(Bench(Path(folder), n, epochs, workers, torch_python)), only)
