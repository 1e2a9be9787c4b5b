"""Figures that answer without a kernel: a threshold slider, cases named on hover, slices of a case (plotly frames)."""

import base64
import io
import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from PIL import Image
from plotly.subplots import make_subplots

from tle_utils.base.errors import TLEError
from tle_utils.base.statistics import DRAWS, SEED, bootstrap_weights, wilson_interval
from tle_utils.base.text import minus
from tle_utils.evaluation.metrics import model_metrics
from tle_utils.figures.numbers import COLOURS, GREY, NAMES, SPLIT_COLOURS, band, diagonal
from tle_utils.figures.tables import interval_text
from tle_utils.imaging import slices
from tle_utils.models.predictions import classes_of, select_rows

MEASURES = {"sensitivity": ("tp", "fn"), "specificity": ("tn", "fp"), "ppv": ("tp", "fp"), "npv": ("tn", "fn")}
LABELS = ["Sensitivity", "Specificity", "PPV", "NPV"]
STEPS, NAMED = 41, 8  # thresholds, cases that a hover text names
INK = SPLIT_COLOURS["test"]
MATRIX = {"colorscale": ["#f7fbff", "#6baed6"], "zmin": 0, "zmax": 1, "showscale": False, "xgap": 2, "ygap": 2}
MATRIX |= {"texttemplate": "%{text}", "textfont_color": "#111111"}
MATRIX |= {"hovertemplate": "true %{y}, called %{x}: %{text}<br>%{customdata}<extra></extra>"}
OUTLINES = [{"color": "#E69F00", "width": 2.5}, {"color": "#56B4E9", "width": 2.5, "dash": "dot"}]  # read on black


class SliceCase(NamedTuple):
    """A participant of `slice_browser`: grey matter from 0 to 1, shape (160, 160, slices), in the layout of
    `slices.load_slices`, and bool masks of that shape by their name in the legend, drawn as lines.
    """

    stack: np.ndarray
    outlines: dict


def _two_classes(predictions, positive):
    """Test rows of a model of two classes, their probability of the positive one, and who truly is (bool)."""
    rows = select_rows(predictions)
    classes = classes_of(rows)
    if len(classes) != 2 or positive not in classes:
        raise TLEError(f"a threshold needs two classes with '{positive}', not {', '.join(classes)}: choose others")
    if rows["group"].nunique() < 2:
        raise TLEError(f"every test row is of class '{rows['group'].iloc[0]}': add participants of the other class")
    return rows, rows[f"p_{positive}"].to_numpy(float), (rows["group"] == positive).to_numpy()


def threshold_table(predictions, positive):
    """Counts and measures by threshold; whose probability is above it is called positive (at 0.5: the model's calls).

    One row per threshold (0, 0.5, 1 and quantiles of the probabilities): ``threshold``, participants ``tp``, ``fn``,
    ``fp``, ``tn`` (means over repeats), and the `MEASURES`, each with ``_low``, ``_high`` (Wilson, 95 %) and ``_n``
    (participants in the denominator); NaN where that is 0.
    """
    rows, score, ill = _two_classes(predictions, positive)
    low, high = np.quantile(score, [0.05, 0.95])
    decimals = 2 - int(np.floor(np.log10(max(high - low, 1e-6))))
    thresholds = np.unique([0, 0.5, 1, *np.quantile(score, np.linspace(0, 1, STEPS)).round(decimals)])
    called = score > thresholds[:, None]
    scale = rows["participant_id"].nunique() / len(rows)
    cells = {"tp": called & ill, "fn": ~called & ill, "fp": called & ~ill, "tn": ~called & ~ill}
    out = pd.DataFrame({"threshold": thresholds} | {name: hit.sum(axis=1) * scale for name, hit in cells.items()})
    for name, (right, wrong) in MEASURES.items():
        n = out[right] + out[wrong]
        out[name], out[f"{name}_n"] = out[right] / n.where(n > 0), n
        out[[f"{name}_low", f"{name}_high"]] = [wilson_interval(*k) for k in zip(out[right], n, strict=True)]
    return out


def roc_band(predictions, positive):
    """ROC curve of out-of-fold predictions with a pointwise 95 % band (participants drawn anew within classes).

    Columns ``false_positives`` (1 − specificity, 0 to 1 in steps of 0.01), ``sensitivity``, ``low``, ``high``.
    """
    rows, score, ill = _two_classes(predictions, positive)
    grid = np.linspace(0, 1, 101)
    people, code = np.unique(rows["participant_id"].to_numpy(str), return_inverse=True)
    sick = np.isin(np.arange(len(people)), code[ill])
    rng, weights = np.random.default_rng(SEED), np.ones((1 + DRAWS, len(people)))
    for part in (sick, ~sick):
        weights[1:, part] = bootstrap_weights(rng, part.sum())
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    x, y = (np.cumsum(weights[:, code[order]] * part[order], axis=1)[:, last] for part in (~ill, ill))
    reached = [np.searchsorted(row, grid + 1e-9, side="right") for row in x / x[:, -1:]]
    curves = np.stack([np.append(0, row)[at] for row, at in zip(y / y[:, -1:], reached, strict=True)])
    low, high = np.percentile(curves[1:], [2.5, 97.5], axis=0)
    return pd.DataFrame({"false_positives": grid, "sensitivity": curves[0], "low": low, "high": high})


def _roc(found, colour, group=None, **looks):
    """Band and curve of a `roc_band`."""
    line = {"color": colour, "width": 2.5, "shape": "hv"}
    curve = go.Scatter(x=found["false_positives"], y=found["sensitivity"], mode="lines", line=line, **looks)
    return [band(found["false_positives"], found["low"], found["high"], colour, group), curve.update(legendgroup=group)]


def side_roc(predictions, results, models):
    """ROC curves of telling left from right in true patients, with pointwise 95 % bands; left is the positive class.

    A click on a name in the legend hides its curve and band. `models` are those to draw, five at most, as far as they
    are in the predictions. Test rows of true left and right patients are used.
    """
    figure, areas = go.Figure(), results.set_index("model")["auc_left_right"]
    rows = predictions[predictions["group"].isin(["left", "right"])]
    drawn = [name for name in models if name in set(rows["model"])]
    for name, colour in zip(drawn, [*SPLIT_COLOURS.values(), COLOURS["right"], GREY], strict=False):
        part = rows[rows["model"] == name]
        left = (part["p_left"] / (part["p_left"] + part["p_right"])).fillna(0.5)
        said = np.where(left > 0.5, "left", "right")
        sides = part.assign(p_left=left, p_right=1 - left, p_control=np.nan, predicted=said)
        hover = f"{name}: %{{y:.2f}} of left called left, %{{x:.2f}} of right<extra></extra>"
        label = f"{name.partition(' (')[0]}, AUC {areas[name]:.3f}"
        figure.add_traces(_roc(roc_band(sides, "left"), colour, name, name=label, hovertemplate=hover))
    figure.add_trace(diagonal(0, 1))
    figure.update_xaxes(title_text="Share of right patients called left", range=[-0.02, 1.02])
    figure.update_yaxes(title_text="Share of left patients called left", range=[-0.02, 1.04])
    alt = f"ROC curves of the side in {rows['participant_id'].nunique()} patients: {', '.join(drawn)}"
    return figure.update_layout(height=470 + 22 * len(drawn), margin_t=40 + 22 * len(drawn), meta={"alt": alt})


def _some_names(people):
    people = list(dict.fromkeys(people))
    more = [f"and {len(people) - NAMED} more"] if len(people) > NAMED else []
    words = [*people[:NAMED], *more] or ["nobody"]
    return "<br>".join(", ".join(words[start : start + 4]) for start in range(0, len(words), 4))


def _matrix(counts, people, labels):
    """Confusion matrix with counts and the share of each true class; `people` of each cell are named on hover."""
    share = counts / counts.sum(axis=1, keepdims=True)
    text = [
        [f"{round(k, 1):g} ({s:.0%})" for k, s in zip(*pair, strict=True)] for pair in zip(counts, share, strict=True)
    ]
    cases = [[_some_names(cell) for cell in row] for row in people]
    return go.Heatmap(z=share.tolist(), x=labels, y=labels, text=text, customdata=cases)


def _moving(row, ranked, labels):
    """Traces of the explorer that change, for one row of `threshold_table`; `ranked` are the rows, surest first."""
    called, ill, names = ranked["score"] > row["threshold"], ranked["ill"], ranked["participant_id"]
    people = [[names[~called & part][::-1], names[called & part]] for part in (~ill, ill)]
    said = [
        f"{row[name]:.2f}<br>{row[right]:.4g} of {row[f'{name}_n']:.4g}" if row[f"{name}_n"] else "undefined"
        for name, (right, _) in MEASURES.items()
    ]
    value, low, high = (row[[name + end for name in MEASURES]].to_numpy(float) for end in ("", "_low", "_high"))
    spread = {"array": (high - value).tolist(), "arrayminus": (value - low).tolist()}
    return [
        go.Scatter(x=[1 - row["specificity"]], y=[row["sensitivity"]], text=[f"threshold {row['threshold']:g}"]),
        _matrix(np.array([[row["tn"], row["fp"]], [row["fn"], row["tp"]]]), people, labels),
        go.Scatter(x=value.tolist(), y=LABELS, error_x=spread, customdata=said),
        go.Scatter(x=[1.06] * len(LABELS), y=LABELS, text=said),
    ]


def _dress(point, matrix, measures, words, colour):
    """Looks of the traces that change; the frames hold numbers only."""
    point.update(mode="markers", marker={"size": 15, "color": colour, "line": {"color": "white", "width": 2}})
    point.hovertemplate = "%{text}<br>sensitivity %{y:.2f}, 1 − specificity %{x:.2f}<extra></extra>"
    matrix.update(**MATRIX)
    measures.update(mode="markers", marker={"size": 11, "color": INK}, error_x={"type": "data", "symmetric": False})
    measures.hovertemplate = "%{y} %{customdata}<extra></extra>"
    words.update(mode="text", textposition="middle right", textfont_size=13, hoverinfo="skip", cliponaxis=False)


def _add_frames(figure, moving, first, labels, start, prefix, suffix=""):
    """Frames that change the traces from `first` on, and their slider."""
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    where = list(range(first, first + len(moving[0])))
    figure.frames = [go.Frame(name=name, data=data, traces=where) for name, data in zip(labels, moving, strict=True)]
    steps = [{"label": label, "method": "animate", "args": [[label], now]} for label in labels]
    slider = {"active": start, "steps": steps, "currentvalue": {"prefix": prefix, "suffix": suffix}}
    figure.update_layout(sliders=[{**slider, "pad": {"t": 60}}])


def threshold_explorer(predictions, positive):
    """ROC curve with its band; confusion matrix and measures at the threshold of a slider, which opens at 0.5.

    Hover names the cases of each cell of the matrix, the surest first. The test rows of one model of two classes are
    used, of which `positive` is one.

    Raises
    ------
    TLEError
        When the model has not two classes, `positive` is none of them, or one has no test participant.
    """
    rows, score, ill = _two_classes(predictions, positive)
    steps, order = threshold_table(predictions, positive), np.argsort(-score, kind="stable")
    ranked = rows[["participant_id"]].assign(score=score, ill=ill).iloc[order]
    classes = [NAMES[name] for name in (*(set(classes_of(rows)) - {positive}), positive)]
    moving = [_moving(row, ranked, classes) for _, row in steps.iterrows()]
    start = int(np.flatnonzero(steps["threshold"] == 0.5)[0])
    figure = make_subplots(3, 1, row_heights=[0.5, 0.2, 0.3], vertical_spacing=0.12)
    curve = _roc(roc_band(predictions, positive), INK, hoverinfo="skip")
    figure.add_traces([*curve, diagonal(0, 1)], rows=1, cols=1)
    figure.add_traces(moving[start], rows=[1, 2, 3, 3], cols=1)
    _dress(*figure.data[3:], COLOURS[positive])
    labels, prefix = steps["threshold"].map("{:g}".format), f"Called {classes[1]} above probability: "
    _add_frames(figure, moving, 3, labels, start, prefix)
    auc = interval_text(model_metrics(predictions, positive), "auc").replace(" (", "<br>(")
    figure.add_annotation(text=f"AUC {auc}", showarrow=False, x=1, y=0, xanchor="right", yanchor="bottom")
    figure.update_xaxes(title_text="1 − specificity", range=[-0.02, 1.02], row=1)
    figure.update_yaxes(title_text="Sensitivity", range=[-0.02, 1.04], row=1)
    figure.update_xaxes(title_text="Called at the threshold", showgrid=False, row=2)
    figure.update_yaxes(title_text="True", autorange="reversed", showgrid=False, row=2)
    figure.update_xaxes(title_text="Value (95 % interval)", range=[-0.03, 1.52], tickvals=[0, 0.5, 1], row=3)
    figure.update_yaxes(range=[3.6, -0.6], row=3)
    alt = f"ROC curve, confusion matrix and measures by threshold; positive class {classes[1]}, {len(rows)} test rows"
    return figure.update_layout(height=800, showlegend=False, margin={"l": 95, "r": 15, "t": 20}, meta={"alt": alt})


def confusion_cases(predictions):
    """Confusion matrix of the test rows of one model: counts, and the share of each true class.

    Hover names the cases, the surest first.
    """
    classes = [name for name in NAMES if name in set(predictions["group"])]
    surest = np.argsort(-predictions[[f"p_{name}" for name in classes]].max(axis=1).to_numpy(), kind="stable")
    rows = predictions.iloc[surest]
    cell = rows.groupby(["group", "predicted"])["participant_id"].agg(list).to_dict()
    people = [[cell.get((true, said), []) for said in classes] for true in classes]
    counts = np.array([[len(names) for names in row] for row in people])
    figure = go.Figure(_matrix(counts, people, [NAMES[name] for name in classes]).update(**MATRIX))
    figure.update_xaxes(title_text="Predicted")
    figure.update_yaxes(title_text="True", autorange="reversed")
    alt = f"Confusion matrix of {len(rows)} predictions of {rows['participant_id'].nunique()} participants"
    return figure.update_layout(height=420, margin_l=100, meta={"alt": alt})


def _line(mask, axes):
    """Border of a mask, x and z in mm."""
    parts = axes.contour(slices.X_MM, slices.Z_MM, mask.astype(float), levels=[0.5]).allsegs[0] if mask.any() else []
    points = [point for part in parts for point in [*part.round(1).tolist(), (None, None)]] or [(None, None)]
    return go.Scatter(x=[x for x, _ in points], y=[z for _, z in points])


def _slice(case, number, axes):
    """Picture and borders; the lowest row comes first, since plotly turns pictures on an axis that points upwards."""
    grey, picture = np.round(np.clip(case.stack[::-1, :, number], 0, 1) * 255).astype(np.uint8), io.BytesIO()
    Image.fromarray(grey).save(picture, "WEBP", quality=80)
    image = go.Image(source="data:image/webp;base64," + base64.b64encode(picture.getvalue()).decode())
    return [image, *(_line(mask[..., number], axes) for mask in case.outlines.values())]


def slice_browser(cases, y_mm, start_mm):
    """Coronal slices of one participant at a time, with a slider over y and a list of the participants.

    The figure takes about 4 kB per slice and participant.

    Parameters
    ----------
    cases : dict of str to SliceCase
        Name in the list to participant.
    y_mm : sequence of int
        MNI y coordinate of each slice in mm; TLEError when a participant has more or fewer.
    start_mm : int
        Slice to open at, one of `y_mm`.
    """
    y_mm = list(y_mm)
    if start_mm not in y_mm:
        raise TLEError(f"start_mm = {start_mm}: no such slice: choose one of {', '.join(map(str, y_mm))}")
    for label, (stack, outlines) in cases.items():
        if {part.shape[-1] for part in (stack, *outlines.values())} != {len(y_mm)}:
            raise TLEError(f"{label}: not as many slices as the {len(y_mm)} of y_mm: load its slices at y_mm")
    axes, start = Figure().add_subplot(), y_mm.index(start_mm)
    moving = [[trace for case in cases.values() for trace in _slice(case, k, axes)] for k in range(len(y_mm))]
    figure = go.Figure(moving[start])
    owner = np.repeat(list(cases), [1 + len(case.outlines) for case in cases.values()])
    names = [name for case in cases.values() for name in ("", *case.outlines)]
    looks = dict(zip(dict.fromkeys(filter(None, names)), itertools.cycle(OUTLINES), strict=False))
    for trace, name, label in zip(figure.data, names, owner, strict=True):
        trace.visible = bool(label == owner[0])
        if name:
            trace.update(mode="lines", name=name, line=looks[name], hoverinfo="skip")
        else:
            trace.update(x0=slices.X_MM[0], y0=slices.Z_MM[-1], zsmooth="fast")
            trace.hovertemplate = "x %{x}, z %{y} mm<extra></extra>"
    _add_frames(figure, moving, 0, [minus(str(y)) for y in y_mm], start, "y = ", " mm")
    for side, x in (("L", -72), ("R", 72)):
        figure.add_annotation(x=x, y=80, text=f"<b>{side}</b>", showarrow=False, bgcolor="black", font_color="white")
    square = {"constrain": "domain", "showgrid": False}
    figure.update_xaxes(title_text="x (mm), left negative", range=[-80, 80], **square)
    figure.update_yaxes(title_text="z (mm)", range=[-73, 88], scaleanchor="x", constraintoward="top", **square)
    buttons = [{"label": c, "method": "restyle", "args": [{"visible": (owner == c).tolist()}]} for c in cases]
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.12, "yanchor": "bottom"}
    alt = f"Coronal slices of the grey matter, left on the left, L and R marked: {', '.join(cases)}"
    return figure.update_layout(height=520, margin={"t": 70, "l": 60}, updatemenus=[menu], meta={"alt": alt})
