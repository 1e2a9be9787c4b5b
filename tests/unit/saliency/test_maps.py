"""Importance must point to the side that decides, out of fold, in every array, table and file."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.figures import saliency, tables
from tle_utils.imaging import atlas, slices
from tle_utils.imaging.images import write_image
from tle_utils.models import crossval, networks
from tle_utils.saliency import attribution, scores
from tle_utils.saliency import maps as saliency_maps

Y_MM = -24
TRUTH = scores.Truth(Y_MM)
CLASSES = ["control", "left", "right"]


def left_reader():
    """A network that calls 'left' where grey matter is missing on the left, and 'right' where on the right."""
    model = networks.build("figure_2", 3)
    for number in (1, 2, 3):
        kernel = np.zeros_like(model.get_layer(f"conv_{number}").get_weights()[0])
        kernel[1, 1, 0, 0] = 1
        model.get_layer(f"conv_{number}").set_weights([kernel, np.zeros(kernel.shape[-1])])
    dense = np.zeros((40, 40, 32, 3))
    dense[:, :20, 0, 1] = -1
    dense[:, 20:, 0, 2] = -1
    model.get_layer("dense").set_weights([dense.reshape(-1, 3), np.zeros(3)])
    return model


@pytest.fixture(scope="module")
def planted():
    """Normal slice, and one with half of the left and one with half of the right hippocampus missing."""
    normal = np.where(TRUTH.brain, 0.8, 0).astype(np.float32)
    sick = [normal - 0.4 * scores.truth_slice(side, Y_MM, 0) for side in ("left", "right")]
    return normal[..., None], np.stack(sick)[..., None].astype(np.float32)


@pytest.fixture(scope="module")
def maps(planted):
    normal, sick = planted
    weights = attribution.target_weights([1, 2], CLASSES, "class")
    explainer = attribution.Explainer(left_reader(), normal, TRUTH.brain)
    return attribution.explain(explainer, sick, weights, attribution.INPUT_METHODS)


@pytest.mark.parametrize("method", attribution.INPUT_METHODS)
def test_a_planted_left_loss_lights_up_the_left(maps, method, tmp_path):
    images = maps[method, attribution.INPUT]
    found = scores.score(images, ["left", "right"], TRUTH)
    assert (found["affected_side"] == 1).all() and (found["over_chance"] > 5).all()
    assert (found["auprc"] > 10 * found["auprc_chance"]).all()
    assert (scores.score(images, ["right", "left"], TRUTH)["affected_side"] == 0).all()
    table = scores.by_region(np.maximum(images[:1], 0), Y_MM).set_index("region")
    assert table.loc["hippocampus", "left_over_right"] > 10
    volume = slices.to_volume(np.maximum(images[0], 0)[..., None], [Y_MM])
    write_image(tmp_path / "left.nii.gz", volume.get_fdata(dtype="float32"), volume.affine)
    saved = nib.load(tmp_path / "left.nii.gz")
    peak = np.unravel_index(saved.get_fdata().argmax(), saved.shape)
    x_mm, y_mm, _ = nib.affines.apply_affine(saved.affine, peak)
    assert nib.aff2axcodes(saved.affine) == ("R", "A", "S") and x_mm < -5 and y_mm == Y_MM


@pytest.mark.parametrize("layer", ["conv_1", "conv_2", "conv_3"])
def test_gradcam_lights_up_the_tissue_that_speaks_for_the_class(layer):
    model = left_reader()
    kernel, bias = model.get_layer("dense").get_weights()
    model.get_layer("dense").set_weights([-kernel, bias])
    x = np.stack([scores.truth_slice(side, Y_MM, 0) for side in ("left", "right")])[..., None]
    weights = attribution.target_weights([1, 2], CLASSES, "class")
    maps = attribution.explain(attribution.Explainer(model, 0 * x[0]), x, weights, ["gradcam"])["gradcam", layer]
    found = scores.score(maps, ["left", "right"], TRUTH)
    assert (found["affected_side"] == 1).all() and (found["over_chance"] > 5).all()


def test_truth_is_the_hippocampus_grown_by_the_tolerance():
    whole = atlas.region_mask("hippocampus", "left", 5)
    assert np.array_equal(scores.truth_slice("left", -40, 5), slices.slices_of(whole, [-40])[..., 0])


def test_empty_maps_score_no_side():
    found = scores.score(np.zeros((1, 160, 160)), ["left"], TRUTH)
    assert found["affected_side"].item() == 0.5
    assert found["auprc"].item() == pytest.approx(found["auprc_chance"].item())


def test_random_maps_score_chance():
    maps = np.random.default_rng(0).random((100, 160, 160))
    found = scores.score(maps, ["left", "right"] * 50, TRUTH)
    assert found["over_chance"].mean() == pytest.approx(1, abs=0.2)
    found["participant_id"] = np.arange(100)
    summary = scores.summarise(found.assign(layer="l"), ["layer"], ["over_chance"]).iloc[0]
    assert summary["over_chance_low"] < 1 < summary["over_chance_high"] and summary["n"] == 100


def test_repeats_of_a_participant_do_not_narrow_the_interval():
    people = pd.DataFrame({"participant_id": list("abcdefgh"), "layer": "l", "affected_side": [0, 1] * 4})
    once = scores.summarise(people, ["layer"], ["affected_side"])
    thrice = scores.summarise(pd.concat([people] * 3), ["layer"], ["affected_side"])
    pd.testing.assert_frame_equal(once, thrice)


def test_region_intervals_are_over_folds():
    left, right = (scores.truth_slice(side, Y_MM, 0).astype(float) for side in ("left", "right"))
    sure = scores.by_region(np.stack([left + right / 2] * 4), Y_MM).set_index("region").loc["hippocampus"]
    assert sure["left_over_right"] == sure["left_over_right_low"] == sure["left_over_right_high"] == 2
    torn = scores.by_region(np.stack([left, right, left, right]), Y_MM).set_index("region").loc["hippocampus"]
    assert torn["left_over_right_low"] < 1 < torn["left_over_right_high"] and torn["folds"] == 4
    assert torn["share"] == pytest.approx(1)


@pytest.mark.parametrize("call", [lambda y: scores.Truth(y).brain, lambda y: scores.by_region(np.zeros((1, 4)), y)])
def test_a_slice_outside_the_map_is_named(call):
    with pytest.raises(TLEError, match="y_mm = 200: this slice lies outside the map: choose from -134 to 98 mm"):
        call(200)


def test_a_slice_without_hippocampus_is_named():
    with pytest.raises(TLEError, match="y_mm = 60: no hippocampus"):
        scores.score(np.zeros((1, 160, 160)), ["left"], scores.Truth(60))


def people(mts, loss):
    return pd.DataFrame(
        {"participant_id": ["c", "l", "r"], "group": CLASSES, "mts": mts, "true_loss": loss},
    )


ROWS = pd.DataFrame({"position": [2, 0, 1], "repeat": 0, "fold": 0, "predicted": ["left", "left", "left"]})


def test_scores_know_who_is_called_right_and_who_is_sclerotic():
    maps = np.stack([scores.truth_slice("right", Y_MM, 0)] * 3).astype(float)
    known = people([np.nan, True, False], [np.nan, 0.3, 0.3])
    table = scores.score_rows(maps, ROWS, known, TRUTH).set_index("participant_id")
    assert table.index.tolist() == ["r", "l"]
    assert table["correct"].to_dict() == {"r": False, "l": True}
    assert table["sclerotic"].to_dict() == {"r": False, "l": True}
    assert table["affected_side"].to_dict() == {"r": 1, "l": 0}


def test_without_known_lesions_there_is_nothing_to_score():
    table = scores.score_rows(np.zeros((3, 160, 160)), ROWS, people(np.nan, np.nan), TRUTH)
    summary = scores.by_cases(table.assign(network="n", method="occlusion", layer="input"))
    assert table.empty and summary.empty
    verdicts = pd.DataFrame({"network": ["n"], "method": ["occlusion"], "layer": ["input"], "verdict": ["fit"]})
    texts = saliency.saliency_takeaways(verdicts, set(), summary, None)
    assert "no map is held against the truth" in texts["saliency-goal"]


def scored(**columns):
    """Scores of SmoothGrad and of Grad-CAM of two layers for eight patients of the network ``n``."""
    kinds = {("smoothgrad", "input"): 0.0, ("gradcam", "conv_1"): 5.0, ("gradcam", "conv_2"): -2.0}
    rows = pd.DataFrame({"participant_id": list("abcdefgh"), "network": "n", "repeat": 0, "fold": 0})
    rows = rows.assign(auprc=0.5, auprc_chance=0.01, correct=True, sclerotic=True, affected_side=1.0, over_chance=4.0)
    rows = rows.assign(**columns)
    parts = [rows.assign(method=m, layer=l, over_chance=rows["over_chance"] + v) for (m, l), v in kinds.items()]
    return pd.concat(parts, ignore_index=True)


def test_goal_is_of_the_default_map_in_sclerotic_patients_called_correctly():
    found = scores.goal(scores.by_cases(scored(over_chance=[4.0] * 6 + [0.0] * 2, correct=[True] * 6 + [False] * 2)))
    assert found["method"] == "smoothgrad" and found["n"] == 6 and found["over_chance"] == 4 and found["met"]
    missed = scores.goal(scores.by_cases(scored(over_chance=2.0, sclerotic=False)))
    assert missed["cases"] == "side correct" and not missed["met"]


def test_networks_are_compared_on_patients_whom_all_call_correctly():
    weak = scored(correct=[True] + [False] * 7, over_chance=1.0).assign(network="weak")
    both = pd.concat([scored(over_chance=[1.0] + [9.0] * 7, correct=[True] * 3 + [False] * 5), weak])
    summary = scores.by_cases(both).query("method == 'smoothgrad'").set_index(["cases", "network"])
    matched = summary.loc["side correct by all networks"]
    assert matched["n"].to_dict() == {"n": 1, "weak": 1} and (matched["over_chance"] == 1).all()
    assert summary.loc["side correct"]["n"].to_dict() == {"n": 3, "weak": 1}


def test_expectations_are_held_against_what_came_out():
    people = {"over_chance": [5.0, 6.0] * 2 + [1.0, 0.0] * 2, "correct": [True] * 4 + [False] * 4}
    found = scores.expectations(scored(**people))
    assert found["verdict"].tolist() == ["agrees"] * 3 and found["n"].tolist() == [4, 4, 8]
    assert found["value"].tolist()[:2] == [5.5, 2.0], "Grad-CAM is that of the last convolution"
    worse = scored(**people).assign(over_chance=lambda rows: 0.9 - rows["over_chance"] / 10)
    assert set(scores.expectations(worse)["verdict"]) == {"does not agree"}
    nobody = scores.expectations(scored(correct=False))
    assert nobody["verdict"].tolist() == ["unclear"]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Two folds of which each network answers with its own class; explaining is counted."""
    table = pd.DataFrame({"participant_id": [f"s{i}" for i in range(12)], "group": CLASSES * 4})
    folds = crossval.make_folds(table, 2, seed=0)
    for fold in folds:
        p_test = np.eye(3)[np.full(len(fold.test), 1 + fold.fold)]
        np.savez(crossval.fold_path(tmp_path, fold), key=np.asarray(f"k{fold.fold}"), p_test=p_test)
    calls = []

    def explain(explainer, x, weights, methods):
        calls.append(tuple(methods))
        return {(method, attribution.INPUT): x[..., 0] for method in methods}

    monkeypatch.setattr(crossval, "load_fold", lambda path, *rest: (None, lambda x: x))
    monkeypatch.setattr(attribution, "Explainer", lambda *parts: None)
    monkeypatch.setattr(attribution, "explain", explain)
    x = np.arange(12, dtype=np.float32)[:, None, None, None] * np.ones((1, 4, 4, 1), np.float32)

    def run(methods=("occlusion",), **more):
        explained = saliency_maps.Explained("figure_2", tmp_path, x, table, methods, **more)
        return saliency_maps.explain_folds(explained, folds, cache=tmp_path / "maps")

    return run, calls, folds, tmp_path


def test_maps_are_out_of_fold_and_say_what_was_explained(trained):
    run, _, folds, _ = trained
    maps = run()
    assert maps.kinds == [("occlusion", "input")]
    assert sorted(maps.rows["position"]) == list(range(12))
    assert (maps.read("occlusion", "input")[:, 0, 0] == maps.rows["position"]).all()
    for fold in folds:
        mine = maps.rows[maps.rows["fold"] == fold.fold]
        assert set(mine["position"]) == set(fold.test) and set(mine["predicted"]) == {CLASSES[1 + fold.fold]}


def test_maps_are_computed_once_and_again_when_the_network_changes(trained):
    run, calls, folds, folder = trained
    run()
    run()
    assert calls == [("occlusion",)] * 2
    run(methods=("occlusion", "smoothgrad"))
    assert calls[2:] == [("smoothgrad",)] * 2
    path = crossval.fold_path(folder, folds[0])
    np.savez(path, **(dict(np.load(path)) | {"key": np.asarray("trained again")}))
    run()
    assert calls[4:] == [("occlusion",)]
    run(target="contrast")
    assert len(calls) == 7


def test_a_broken_cache_file_is_computed_again(trained):
    run, calls, _, folder = trained
    run()
    next((folder / "maps").glob("*fold-00_occlusion.npz")).write_bytes(b"half a file")
    assert run().read("occlusion", "input").shape == (12, 4, 4)
    assert len(calls) == 3


def test_unknown_method_or_target_stops_before_any_work(trained):
    run, calls, _, _ = trained
    with pytest.raises(TLEError, match="method 'magic' is not known: choose from gradcam"):
        run(methods=("magic",))
    with pytest.raises(TLEError, match="target 'loss' is not known"):
        run(target="loss")
    assert not calls


def test_download_link_holds_the_file(tmp_path):
    (tmp_path / "a map.nii.gz").write_bytes(b"content")
    link = tables.download_link(tmp_path / "a map.nii.gz", "left & right")
    assert 'download="a map.nii.gz"' in link and "Y29udGVudA==" in link and "left &amp; right" in link
    assert str(tmp_path) not in link


def test_unfit_maps_are_marked():
    assert saliency.kind_name("gradcam", "conv_1", {("gradcam", "conv_1")}) == "Grad-CAM, conv_1 (unfit)"
    assert saliency.kind_name("occlusion", "input") == "Occlusion"
