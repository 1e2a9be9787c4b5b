"""The benchmark of training compares like with like, and says what it could not measure."""

import json

import keras
import numpy as np
import pytest
from makers import benchmark_table

from benchmarks import keras_recipe
from benchmarks import training as bench
from benchmarks.__main__ import main
from tle_utils.base.errors import TLEError
from tle_utils.imaging import slices
from tle_utils.models import networks, training
from tle_utils.models.crossval import Fold

GROUPS = np.array(["left", "right"] * 8, object)
FOLD = Fold(0, 0, np.arange(8), np.arange(8, 12), np.arange(12, 16))


@pytest.fixture(scope="module")
def x():
    x = np.random.default_rng(0).random((16, 160, 160, 1), dtype=np.float32) * 0.2
    x[GROUPS == "left", 90:110, 40:60] += 0.8
    x[GROUPS == "right", 90:110, 100:120] += 0.8
    return x


def fake_run(folder, seconds):
    (folder / "notebooks").mkdir()
    run = folder / "runs" / "paper-phantom"
    run.mkdir(parents=True)
    for name in seconds:
        (folder / "notebooks" / f"{name}.ipynb").touch()
    (run / "run.json").write_text(json.dumps({"notebooks": {name: {"seconds": s} for name, s in seconds.items()}}))


@pytest.fixture
def root(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "project_root", lambda: tmp_path)
    monkeypatch.setattr(bench, "run_folder", lambda profile, name: tmp_path / "runs" / f"{profile}-{name}")
    return tmp_path


def test_the_whole_book_counts(root):
    fake_run(root, {"01_a": 600.0, "02_b": 1800.0})
    assert bench.paper_minutes() == 40


def test_a_chapter_that_has_not_run_is_not_zero(root):
    fake_run(root, {"01_a": 600.0, "02_b": None})
    with pytest.raises(TLEError, match=r"paper-phantom/run.json: 02_b has not finished: go on with 'python -m"):
        bench.paper_minutes()
    (root / "notebooks" / "02_b.ipynb").rename(root / "notebooks" / "03_new.ipynb")
    with pytest.raises(TLEError, match="03_new has not finished"):
        bench.paper_minutes()


def test_no_run_says_how_to_make_one(root):
    with pytest.raises(
        TLEError, match="there is no runs/paper-phantom/run.json: make it with 'python -m tle_utils run"
    ):
        bench.paper_minutes()


def test_a_damaged_run_card_is_one_line(root):
    fake_run(root, {})
    (root / "runs" / "paper-phantom" / "run.json").write_text("{")
    with pytest.raises(TLEError, match="is damaged: make it anew"):
        bench.paper_minutes()


def test_rows_that_cannot_be_measured_say_why_and_do_not_fail(root, capsys):
    arguments = ["--only", "epoch", "--only", "paper", "--torch-python", "none"]
    assert main(["training", *arguments]) == 0
    found = benchmark_table(capsys)[0]
    assert {name for name, _ in found} == {"epoch", "paper"} and len(found) == 4
    assert all(cells[-1].startswith("not measured: ") for cells in found.values())
    assert "--torch-python" in found["epoch", "an epoch: time over plain PyTorch's"][-1]


@pytest.mark.parametrize("arguments", [["--n", "9"], ["--epochs", "0"], ["--workers", "x"], ["--only", "dice"]])
def test_bad_arguments_are_one_line(arguments, capsys):
    assert main(["training", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_all_sides_learn_from_the_same_arrays(x, monkeypatch):
    """The arrays given to PyTorch and the plain loop are those that `train_fold` gives its network."""
    given, fit = {}, keras.Model.fit

    def spy(model, seen, codes, **options):
        given.update(seen=seen, seen_codes=codes, held=options["validation_data"][0])
        return fit(model, seen, codes, **options)

    monkeypatch.setattr(keras.Model, "fit", spy)
    training.train_fold(x, GROUPS, FOLD, bench.settings(1), 0)
    made = bench.fold_arrays(x, GROUPS, FOLD)
    for name, array in given.items():
        assert np.array_equal(made[name], array), name
    assert np.allclose(made["seen"][8:], np.roll(made["seen"][:8, :, ::-1], 1, axis=2), atol=1e-5)
    assert list(made["seen_codes"][8:]) == list(1 - made["seen_codes"][:8]), "a mirrored left lesion is a right one"


def test_plain_keras_net_is_ours(x):
    ours, plain = networks.build("figure_2", 2, noise=1.0, scaled=True), keras_recipe.build(160, 2, 1.0)
    assert [w.shape for w in ours.weights] == [w.shape for w in plain.weights]
    rng = np.random.default_rng(0)
    weights = [rng.random(w.shape, np.float32) * 0.1 + 0.01 for w in ours.weights]
    for model in (ours, plain):
        model.set_weights(weights)
    one, other = (model.predict(slices.flip(x, GROUPS)[0][:2], verbose=0) for model in (ours, plain))
    assert np.ptp(one) > 1e-3 and np.allclose(one, other, atol=1e-5)


def test_plain_loop_learns_the_planted_side(x):
    p = keras_recipe.train(bench.fold_arrays(x, GROUPS, FOLD), 10)
    assert [bench.CLASSES[column] for column in p.argmax(axis=1)] == list(GROUPS[FOLD.test])


def test_torch_net_is_ours(x):
    torch_recipe = pytest.importorskip("benchmarks.torch_recipe", reason="PyTorch is not in this environment")
    stored = training.train_fold(x, GROUPS, FOLD, bench.settings(2), 0)
    net = torch_recipe.Net(160, 2, 1.0)
    net.load_keras([stored[name] for name in sorted(stored) if name.startswith("w_")])
    images = torch_recipe._images(bench.fold_arrays(x, GROUPS, FOLD)["test"], torch_recipe.torch.contiguous_format)
    assert np.allclose(torch_recipe.predict(net, images).softmax(dim=1).numpy(), stored["p_test"], atol=1e-4)
