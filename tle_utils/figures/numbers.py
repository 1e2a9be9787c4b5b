"""Figures of numbers: curves, intervals, confusion tables, volumes (plotly); colours and names of the classes."""

import textwrap

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

# Okabe and Ito's palette: told apart with every common colour vision.
COLOURS = {"control": "#0072B2", "left": "#D55E00", "right": "#009E73"}
SPLIT_COLOURS = {"training": "#0072B2", "validation": "#E69F00", "test": "#CC79A7"}
NAMES = {"control": "Control", "left": "Left TLE", "right": "Right TLE"}
LINES = ("#0072B2", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#56B4E9")  # where a colour is no class
GREY = "#7f7f7f"
DOTTED = {"color": GREY, "dash": "dot"}  # lines to compare with: chance, no effect, equal

pio.templates["tle"] = go.layout.Template(
    layout={
        "font": {"size": 14},
        "margin": {"l": 70, "r": 20, "t": 50, "b": 60},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "xaxis": {"zeroline": False},
        "yaxis": {"zeroline": False},
    }
)
pio.templates.default = "plotly_white+tle"
pio.renderers.default = "plotly_mimetype"

SYMBOLS = {"with sclerosis": "x", "without sclerosis": "circle"}


def error_bars(rows, value, low=None, high=None, **looks):
    """Error bars of plotly for points with a 95 % interval.

    Parameters
    ----------
    rows : pandas.DataFrame
        One row per point.
    value, low, high : str
        Columns of the point and of the ends of its interval, by default ``<value>_low`` and ``<value>_high``.
    **looks
        Width, colour and the like, as plotly names them.

    Returns
    -------
    dict
        For ``error_x`` or ``error_y``.
    """
    ends = {
        "array": rows[high or f"{value}_high"] - rows[value],
        "arrayminus": rows[value] - rows[low or f"{value}_low"],
    }
    return {"type": "data", "symmetric": False, **ends, **looks}


def loss_curves(curves):
    """Training and validation loss of every fold, one small panel a fold (Figures 3, 6 and 10).

    Parameters
    ----------
    curves : pandas.DataFrame
        From `crossval.cross_validate`: ``repeat``, ``fold``, ``epoch``, ``loss``, ``val_loss``, ``best``.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    runs = list(curves.groupby(["repeat", "fold"]))
    columns = min(5, len(runs))
    rows = -(-len(runs) // columns)
    figure = make_subplots(
        rows,
        columns,
        shared_xaxes=True,
        shared_yaxes=True,
        subplot_titles=[
            f"Fold {fold}" if repeat == 0 else f"Repeat {repeat}, fold {fold}" for (repeat, fold), _ in runs
        ],
        horizontal_spacing=0.02,
        vertical_spacing=0.25 / rows,
    )
    for number, (_, run) in enumerate(runs):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        for column, name in (("loss", "training"), ("val_loss", "validation")):
            figure.add_scatter(
                x=run["epoch"],
                y=run[column],
                mode="lines",
                name=f"{name} loss",
                legendgroup=name,
                showlegend=number == 0,
                line={"color": SPLIT_COLOURS[name]},
                **place,
            )
        kept = run[run["best"]]
        figure.add_scatter(
            x=kept["epoch"],
            y=kept["val_loss"],
            mode="markers",
            name="epoch kept",
            legendgroup="kept",
            showlegend=number == 0,
            marker={"color": SPLIT_COLOURS["validation"], "size": 9, "symbol": "circle-open", "line": {"width": 2}},
            **place,
        )
    figure.update_xaxes(title_text="Epoch", row=rows)
    figure.update_yaxes(title_text="Cross-entropy", col=1)
    return figure.update_layout(height=130 + 200 * rows, margin_t=90, legend_y=1 + 0.2 / rows)


def metric_points(folds, order):
    """One point a fold, quartiles and the mean of every measure (Figure 4).

    Parameters
    ----------
    folds : pandas.DataFrame
        From `metrics.fold_metrics`: ``fold``, ``metric``, ``value``.
    order : dict of str to str
        Metrics to show, left to right, and their names on the axis.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure = go.Figure()
    for metric, name in order.items():
        part = folds[(folds["metric"] == metric) & folds["value"].notna()]
        figure.add_box(
            y=part["value"],
            name=name,
            boxpoints="all",
            pointpos=0,
            jitter=0.4,
            boxmean=True,
            marker={"color": SPLIT_COLOURS["test"], "size": 7},
            line={"color": SPLIT_COLOURS["test"]},
            showlegend=False,
            text=[f"fold {fold}" for fold in part["fold"]],
        )
    figure.update_yaxes(title_text="Value in a fold", range=[-0.03, 1.03])
    return figure.update_layout(height=420)


def accuracy_boxes(predictions):
    """Box plots of the accuracy a fold on the validation and the test participants (Figures 7 and 11).

    Parameters
    ----------
    predictions : pandas.DataFrame
        Out-of-fold predictions with ``model``, ``repeat``, ``fold``, ``split``, ``group``, ``predicted``.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    right = predictions.assign(right=predictions["group"] == predictions["predicted"])
    scores = right.groupby(["model", "split", "repeat", "fold"])["right"].mean().reset_index()
    figure = go.Figure()
    for split in ("validation", "test"):
        part = scores[scores["split"] == split]
        figure.add_box(
            x=part["model"],
            y=part["right"],
            name=split,
            boxpoints="all",
            pointpos=0,
            jitter=0.4,
            boxmean=True,
            marker={"color": SPLIT_COLOURS[split], "size": 7},
            line={"color": SPLIT_COLOURS[split]},
            text=[f"fold {fold}" for fold in part["fold"]],
        )
    chance = (predictions["group"].value_counts() / len(predictions)).max()
    figure.add_hline(
        y=chance,
        line={"dash": "dot", "color": "#7f7f7f"},
        annotation_text="always the largest class",
        annotation_position="bottom left",
    )
    figure.update_yaxes(title_text="Accuracy a fold", range=[-0.03, 1.03])
    return figure.update_layout(height=440, boxmode="group")


def confusion(predictions):
    """Confusion matrix with counts and the share of each true class.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Test rows with ``group`` and ``predicted``.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    classes = [name for name in COLOURS if name in set(predictions["group"])]
    counts = np.array(
        [
            [((predictions["group"] == true) & (predictions["predicted"] == said)).sum() for said in classes]
            for true in classes
        ]
    )
    share = counts / counts.sum(axis=1, keepdims=True)
    labels = [NAMES[name] for name in classes]
    figure = go.Figure(
        go.Heatmap(
            z=share,
            x=labels,
            y=labels,
            text=[[f"{n} ({p:.0%})" for n, p in zip(*row, strict=True)] for row in zip(counts, share, strict=True)],
            texttemplate="%{text}",
            colorscale="Cividis",
            zmin=0,
            zmax=1,
            colorbar={"title": "Share of<br>true class"},
            hovertemplate="true %{y}, predicted %{x}: %{text}<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="Predicted")
    figure.update_yaxes(title_text="True", autorange="reversed")
    return figure.update_layout(height=420, margin_l=100)


def wrapped(names):
    """Names for the ticks of an axis, broken into lines so that a narrow screen keeps room for the data (list)."""
    return ["<br>".join(textwrap.wrap(str(name), 20)) for name in names]


def model_intervals(results, value="accuracy", *, chance=None, label=None):
    """A point and its 95 % interval for every model of a results table.

    Parameters
    ----------
    results : pandas.DataFrame
        From `metrics.results_table`.
    value : str
        Column to show, with ``<value>_low`` and ``<value>_high``.
    chance : float, optional
        Draw a dotted line here.
    label : str, optional
        Axis title.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    rows = results.iloc[::-1]
    figure = go.Figure(
        go.Scatter(
            x=rows[value],
            y=rows["model"],
            mode="markers",
            marker={"size": 11, "color": COLOURS["control"]},
            cliponaxis=False,
            error_x=error_bars(rows, value),
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        )
    )
    if chance is not None:
        figure.add_vline(x=chance, line={"dash": "dot", "color": "#7f7f7f"}, annotation_text="chance")
    figure.update_xaxes(title_text=label or value.replace("_", " "), range=[0, 1.02])
    figure.update_yaxes(automargin=True, tickvals=rows["model"], ticktext=wrapped(rows["model"]))
    return figure.update_layout(height=140 + 42 * len(rows))


def band(x, low, high, colour, name):
    """Area between two curves in a light tint of their colour, shown and hidden with the curve of that name."""
    edges = {"x": [*x, *x[::-1]], "y": [*low, *high[::-1]], "line": {"width": 0}, "hoverinfo": "skip"}
    area = {"mode": "lines", "fill": "toself", "fillcolor": f"rgba{(*hex_to_rgb(colour), 0.2)}"}
    return go.Scatter(**edges, **area, legendgroup=name, showlegend=False)


def reliability(tables):
    """Observed against predicted frequency, a colour a model; on the dotted line a probability means what it says.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        Name of the model to its `calibration.reliability_table`.

    Returns
    -------
    plotly.graph_objects.Figure
        Bands are Wilson's 95 % intervals.
    """
    figure = go.Figure(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": "#7f7f7f"}, hoverinfo="skip")
    )
    figure.data[0].showlegend = False
    for (name, table), colour in zip(tables.items(), SPLIT_COLOURS.values(), strict=False):
        figure.add_trace(band(table["predicted"], table["ci_low"], table["ci_high"], colour, name))
        figure.add_scatter(
            x=table["predicted"],
            y=table["observed"],
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": colour},
            customdata=table["n"],
            hovertemplate="said %{x:.2f}, was right %{y:.2f} (n = %{customdata})<extra></extra>",
        )
    figure.update_xaxes(title_text="Probability of the class that is called", range=[0, 1.02])
    figure.update_yaxes(title_text="Share that is right", range=[0, 1.02])
    return figure.update_layout(height=430, meta={"alt": "Reliability of the probabilities of each model"})


def interval_text(metrics, metric):
    """A metric with its 95 % interval and n as text, for sentences.

    Parameters
    ----------
    metrics : pandas.DataFrame
        From `metrics.binary_metrics` or `metrics.multiclass_metrics`.
    metric : str
        For example ``"accuracy"``.

    Returns
    -------
    str
        Like ``0.83 (95 % CI 0.76–0.88, n = 150)``.
    """
    row = metrics.set_index("metric").loc[metric]
    return f"{row['value']:.2f} (95 % CI {row['ci_low']:.2f}–{row['ci_high']:.2f}, n = {row['n']})"


def comparison_text(test):
    """The outcome of `model_tests.compare_models` as one sentence; where there is no test, the reason."""
    gain = f"{test['model_a']} against {test['model_b']}: {test['metric'].replace('_', ' ')}"
    gain += f" {100 * test['difference']:+.1f} points" if np.isfinite(test["difference"]) else ""
    if not test["p_corrected"] >= 0:
        known = np.isfinite([test["value_a"], test["value_b"]]).all() and not np.isfinite(test["difference"])
        gain += f" {test['value_a']:.2f} against {test['value_b']:.2f}" if known else ""
        return f"{gain} (n = {test['n']}), no test: {test['reason']}."
    verdict = "a difference" if test["p_corrected"] < 0.05 else "no difference that stands out from chance"
    return f"{gain} (corrected p = {test['p_corrected']:.2f}, n = {test['n']}), {verdict}."


def gain_text(test):
    """The difference of `model_tests.compare_models` in points, against whom, and its p where there is one."""
    p = f" (corrected p = {test['p_corrected']:.3f})" if test["p_corrected"] >= 0 else ""
    return f"{100 * test['difference']:+.1f} points against {test['model_b']}{p}"


def volume_scatter(participants):
    """Left against right hippocampal volume, a colour a class.

    Parameters
    ----------
    participants : pandas.DataFrame
        ``participant_id``, ``group``, ``hippocampus_left``, ``hippocampus_right`` in ml.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure = go.Figure()
    for group, colour in COLOURS.items():
        part = participants[participants["group"] == group]
        figure.add_scatter(
            x=part["hippocampus_left"],
            y=part["hippocampus_right"],
            mode="markers",
            name=f"{NAMES[group]} (n = {len(part)})",
            text=part["participant_id"],
            marker={"color": colour, "size": 8, "opacity": 0.8},
            hovertemplate="%{text}: left %{x:.2f} ml, right %{y:.2f} ml<extra></extra>",
        )
    both = participants[["hippocampus_left", "hippocampus_right"]].to_numpy(float)
    low, high = np.nanmin(both), np.nanmax(both)
    line = {"color": "#7f7f7f", "dash": "dot"}
    figure.add_scatter(x=[low, high], y=[low, high], mode="lines", line=line, name="left = right")
    figure.update_xaxes(title_text="Left hippocampal grey matter (ml)")
    figure.update_yaxes(title_text="Right hippocampal grey matter (ml)", scaleanchor="x")
    return figure.update_layout(height=520)


def patient_volumes(participants):
    """Left against right hippocampal volume; the colour is the class, a cross means sclerosis.

    Parameters
    ----------
    participants : pandas.DataFrame
        From `with_volumes`.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure = go.Figure()
    for group in COLOURS:
        for words, symbol in SYMBOLS.items():
            part = participants[(participants["group"] == group) & (participants["sclerosis"] == words)]
            if part.empty:
                continue
            name = NAMES[group] if group == "control" else f"{NAMES[group]} {words}"
            figure.add_scatter(
                x=part["hippocampus_left"],
                y=part["hippocampus_right"],
                mode="markers",
                name=f"{name} (n = {len(part)})",
                text=part["participant_id"],
                marker={"color": COLOURS[group], "size": 9, "symbol": symbol, "opacity": 0.85},
                hovertemplate="%{text}: left %{x:.3f} %, right %{y:.3f} %<extra></extra>",
            )
    both = participants[["hippocampus_left", "hippocampus_right"]].to_numpy(float)
    line = {"color": "#7f7f7f", "dash": "dot"}
    ends = [both.min(), both.max()]
    figure.add_scatter(x=ends, y=ends, mode="lines", line=line, name="left = right", hoverinfo="skip")
    figure.update_xaxes(title_text="Left hippocampus (% of intracranial volume)")
    figure.update_yaxes(title_text="Right hippocampus (% of intracranial volume)")
    return figure.update_layout(height=560, margin_t=90)
