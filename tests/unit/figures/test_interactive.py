import base64
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import metrics as evaluation_metrics
from tle_utils.evaluation import model_tests
from tle_utils.figures import interactive
from tle_utils.imaging import slices


def predictions(p_left, ill, repeats=1):
    people = [f"sub-{number:02d}" for number in range(len(ill))]
    table = pd.DataFrame({"participant_id": people, "group": np.where(ill, "left", "control")})
    table = table.assign(model="net", fold=np.arange(len(ill)) % 3, split="test", p_left=p_left)
    table = table.assign(p_control=1 - table["p_left"], predicted=np.where(table["p_left"] > 0.5, "left", "control"))
    return pd.concat([table.assign(repeat=repeat) for repeat in range(repeats)], ignore_index=True)


@pytest.fixture
def table():
    rng, ill = np.random.default_rng(0), np.arange(60) % 3 > 0
    return predictions(np.clip(rng.normal(0.45 + 0.15 * ill, 0.15), 0, 1).round(2), ill)


def frame_at(figure, label):
    return next(frame for frame in figure.frames if frame.name == label)


@pytest.mark.parametrize("repeats", [1, 3])
def test_at_one_half_the_slider_shows_the_numbers_of_the_metrics_table(table, repeats):
    table = pd.concat([table.assign(repeat=repeat) for repeat in range(repeats)], ignore_index=True)
    row = interactive.threshold_table(table, "left").set_index("threshold").loc[0.5]
    metrics = evaluation_metrics.model_metrics(table, "left").set_index("metric")
    for name in interactive.MEASURES:
        ours = row[[name, f"{name}_low", f"{name}_high", f"{name}_n"]].to_list()
        assert ours == pytest.approx(metrics.loc[name, ["value", "ci_low", "ci_high", "n"]].to_list())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=6, max_size=30))
def test_everybody_is_in_one_cell_and_a_higher_threshold_calls_nobody_more(rows):
    ill = np.array([True, False, *(is_ill for _, is_ill in rows)])
    found = interactive.threshold_table(predictions(np.array([3, 4, *(p for p, _ in rows)]) / 20, ill), "left")
    assert (found["tp"] + found["fn"]).eq(ill.sum()).all() and (found["fp"] + found["tn"]).eq((~ill).sum()).all()
    assert (found["tp"].diff().dropna() <= 0).all() and (found["fp"].diff().dropna() <= 0).all()
    assert found["tp"].iloc[-1] == found["fp"].iloc[-1] == 0 and np.isnan(found["ppv"].iloc[-1])


def test_scores_that_lie_close_together_still_get_many_thresholds():
    """The replication net of a short training says 0.49 to 0.51 only."""
    rng = np.random.default_rng(0)
    found = interactive.threshold_table(predictions(rng.uniform(0.499, 0.501, 200), np.arange(200) % 2 > 0), "left")
    assert found["tp"].nunique() > 25


def test_the_roc_curve_is_that_of_scikit_learn(table):
    band = interactive.roc_band(table, "left")
    x, y, _ = roc_curve(table["group"] == "left", table["p_left"], drop_intermediate=False)
    expected = [y[x <= at + 1e-9].max() for at in band["false_positives"]]
    assert band["sensitivity"].to_numpy() == pytest.approx(expected)
    assert (band["low"] <= band["high"]).all() and band[["low", "high"]].iloc[-1].eq(1).all()
    assert band["sensitivity"].between(band["low"], band["high"]).mean() > 0.95


def test_the_roc_curve_of_the_side_leaves_out_controls_and_has_the_area_of_the_table():
    rng, groups = np.random.default_rng(1), np.array(["control", "left", "right"] * 20)
    p = rng.dirichlet([1, 1, 1], 60) + np.eye(3)[np.arange(60) % 3] * 0.3
    table = pd.DataFrame(p / p.sum(axis=1, keepdims=True), columns=["p_control", "p_left", "p_right"])
    table = table.assign(participant_id=[f"sub-{n:02d}" for n in range(60)], group=groups, model="net", repeat=0)
    table = table.assign(fold=np.arange(60) % 3, split="test", predicted=groups[p.argmax(axis=1)])
    table.loc[1, ["p_control", "p_left", "p_right"]] = [1, 0, 0]
    results = model_tests.results_table(table)
    figure = interactive.side_roc(table, results, ["net", "not there"])
    band, curve, _ = figure.data
    ill = table[table["group"] != "control"]
    score = (ill["p_left"] / (ill["p_left"] + ill["p_right"])).fillna(0.5)
    x, y, _ = roc_curve(ill["group"] == "left", score, drop_intermediate=False)
    assert list(curve.y) == pytest.approx([y[x <= at + 1e-9].max() for at in curve.x])
    assert curve.name == f"net, AUC {roc_auc_score(ill['group'] == 'left', score):.3f}"
    assert (
        band.legendgroup == curve.legendgroup
        and min(band.y) < min(curve.y[1:])
        and "40 patients" in figure.layout.meta["alt"]
    )


def test_the_band_counts_participants_and_not_rows(table):
    """The same answers three times over are no more evidence."""
    again = pd.concat([table.assign(repeat=repeat) for repeat in range(3)], ignore_index=True)
    once, thrice = interactive.roc_band(table, "left"), interactive.roc_band(again, "left")
    pd.testing.assert_frame_equal(once, thrice)
    with_more = interactive.roc_band(
        pd.concat([table, table.assign(participant_id="x" + table["participant_id"])], ignore_index=True), "left"
    )
    assert (with_more["high"] - with_more["low"]).mean() < 0.85 * (once["high"] - once["low"]).mean()


def test_the_curve_of_the_other_class_is_the_mirror_image(table):
    """What is told apart does not depend on which class is called positive."""
    table = table.drop_duplicates("p_left")
    left, control = interactive.roc_band(table, "left"), interactive.roc_band(table, "control")
    areas = [band["sensitivity"].mean() for band in (left, control)]
    assert areas[0] == pytest.approx(areas[1], abs=0.05) and areas[0] > 0.6


def test_the_explorer_opens_at_the_models_calls_and_names_cases(table):
    figure = interactive.threshold_explorer(table, "left")
    slider = figure.layout.sliders[0]
    opening = frame_at(figure, slider.steps[slider.active].label)
    assert opening.name == "0.5"
    point, matrix, *_ = opening.data
    assert figure.data[3].y == point.y and figure.data[4].text == matrix.text
    counts = pd.crosstab(table["group"], table["predicted"])
    shown = [[int(cell.split(" ")[0]) for cell in line] for line in matrix.text]
    assert shown == counts.to_numpy().tolist() and list(matrix.x) == ["Control", "Left TLE"]
    missed = table[(table["group"] == "left") & (table["predicted"] == "control")].sort_values("p_left")
    assert matrix.customdata[1][0].startswith(missed["participant_id"].iloc[0])
    assert "positive class Left TLE" in figure.layout.meta["alt"]
    assert frame_at(figure, "1").data[1].customdata[0][1] == "nobody"
    assert "undefined" in frame_at(figure, "1").data[3].text


def test_every_step_of_a_slider_finds_its_frame(table):
    stack = np.zeros((160, 160, 2))
    browser = interactive.slice_browser({"one": interactive.SliceCase(stack, {})}, [-27, -24], -24)
    for figure in (interactive.threshold_explorer(table, "left"), browser):
        asked = [step.args[0][0] for step in figure.layout.sliders[0].steps]
        assert asked == [frame.name for frame in figure.frames] and len(set(asked)) == len(asked)


def test_the_same_table_draws_the_same_figure(table):
    one, other = (interactive.threshold_explorer(table, "left").to_json() for _ in range(2))
    assert one == other


def test_the_confusion_matrix_names_the_cases_of_each_cell(table):
    figure = interactive.confusion_cases(table)
    missed = table[(table["group"] == "left") & (table["predicted"] == "control")]
    words = figure.data[0].customdata[1][0]
    assert words.startswith(missed.sort_values("p_control", ascending=False)["participant_id"].iloc[0])
    assert all((name in words) == (name in set(missed["participant_id"])) for name in table["participant_id"])
    many = predictions(np.full(30, 0.9), np.arange(30) % 2 > 0)
    assert interactive.confusion_cases(many).data[0].customdata[0][1].endswith("and 7 more")


def planted(side):
    """Grey matter that is bright, brighter above, and missing on one side near x = 30 mm, z = -15 mm."""
    x, z = np.meshgrid(slices.X_MM, slices.Z_MM)
    hole = (np.abs(x - (-30 if side == "left" else 30)) < 8) & (np.abs(z + 15) < 6)
    image = np.where(hole, 0, np.where(z > 0, 0.9, 0.5))
    return np.stack([image, image], axis=-1), np.stack([hole, np.zeros_like(hole)], axis=-1)


def picture(trace):
    kind, data = trace.source.split(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L")).astype(float)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_planted_lesion_is_shown_on_its_side(side):
    """In the picture, in its outline and under the letter; plotly lays the first row of a picture lowest."""
    stack, hole = planted(side)
    figure = interactive.slice_browser({side: interactive.SliceCase(stack, {"loss": hole})}, [-24, -21], -24)
    image, line = figure.data
    pixels = picture(image)
    x = image.x0 + np.arange(160) * (image.dx or 1)
    z = image.y0 + np.arange(160) * (image.dy or 1)
    sign = -1 if side == "left" else 1
    assert pixels[z == -15][:, x == 30 * sign] < 40 < 90 < pixels[z == -15][:, x == -30 * sign]
    assert pixels[z == 60].mean() > pixels[z == -60].mean() + 50
    edge = np.array([value for value in line.x if value is not None])
    assert np.mean(edge) == pytest.approx(30 * sign, abs=0.6)
    assert np.mean([value for value in line.y if value is not None]) == pytest.approx(-15, abs=1)
    letters = {note.text: note.x for note in figure.layout.annotations}
    assert letters["<b>L</b>"] < 0 < letters["<b>R</b>"]
    assert figure.layout.xaxis.range[0] < figure.layout.xaxis.range[1]
    assert figure.layout.yaxis.range[0] < figure.layout.yaxis.range[1]
    assert frame_at(figure, "−21").data[1].x == (None,)


def test_the_list_shows_one_participant_at_a_time():
    cases = {side: interactive.SliceCase(planted(side)[0], {"loss": planted(side)[1]}) for side in ("left", "right")}
    figure = interactive.slice_browser(cases, [-24, -21], -21)
    assert [trace.visible for trace in figure.data] == [True, True, False, False]
    shown = {button.label: button.args[0]["visible"] for button in figure.layout.updatemenus[0].buttons}
    assert shown == {"left": [True, True, False, False], "right": [False, False, True, True]}
    assert figure.data[1].line == figure.data[3].line
    assert figure.layout.sliders[0].steps[figure.layout.sliders[0].active].label == "−21"


def test_what_cannot_be_shown_is_refused(table):
    three = table.assign(p_right=0.0)
    for bad, positive, words in (
        (three, "left", "needs two classes"),
        (table, "right", "needs two classes"),
        (table[table["group"] == "left"], "left", "every test row is of class 'left'"),
    ):
        with pytest.raises(TLEError, match=words):
            interactive.threshold_explorer(bad, positive)
    stack, hole = planted("left")
    with pytest.raises(TLEError, match="start_mm = 3: no such slice"):
        interactive.slice_browser({"one": interactive.SliceCase(stack, {})}, [-24, -21], 3)
    with pytest.raises(TLEError, match="sub-1: not as many slices as the 2"):
        interactive.slice_browser({"sub-1": interactive.SliceCase(stack, {"loss": hole[..., :1]})}, [-24, -21], -24)
