"""Figures of numbers (plotly): training, accuracy, probabilities, volumes, z-scores; and what all figures share."""

import textwrap

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

# Okabe and Ito's palette: told apart with every common colour vision.
COLOURS = {"control": "#0072B2", "left": "#D55E00", "right": "#009E73"}
SPLIT_COLOURS = {"training": "#0072B2", "validation": "#E69F00", "test": "#CC79A7"}
LINES = ("#0072B2", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#56B4E9")  # where a colour is no class
NAMES = {"control": "Control", "left": "Left TLE", "right": "Right TLE"}
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


def error_bars(rows, value, low=None, high=None, **looks):
    """Error bars of plotly from the columns of a value and of the ends of its interval, `value` + ``_low``, ``_high``.

    `looks` are width, colour and the like, as plotly names them; returns a dict for ``error_x`` or ``error_y``.
    """
    low, high = low or f"{value}_low", high or f"{value}_high"
    ends = {"array": rows[high] - rows[value], "arrayminus": rows[value] - rows[low]}
    return {"type": "data", "symmetric": False, **ends, **looks}


def diagonal(low, high, name=None):
    """Dotted line on which both axes say the same."""
    ends = {"x": [low, high], "y": [low, high]}
    return go.Scatter(**ends, mode="lines", line=DOTTED, name=name, showlegend=name is not None, hoverinfo="skip")


def band(x, low, high, colour, name=None):
    """Area between two curves in a light tint of their colour, shown and hidden with the curve of that name."""
    edges = {"x": [*x, *x[::-1]], "y": [*low, *high[::-1]], "line": {"width": 0}, "hoverinfo": "skip"}
    area = {"mode": "lines", "fill": "toself", "fillcolor": f"rgba{(*hex_to_rgb(colour), 0.2)}"}
    return go.Scatter(**edges, **area, legendgroup=name, showlegend=False)


def wrapped(names):
    """Names for the ticks of an axis, broken into lines so that a narrow screen keeps room for the data (list)."""
    return ["<br>".join(textwrap.wrap(str(name).replace("(Figure ", "(Figure\u00a0"), 20)) for name in names]


def loss_curves(curves):
    """Training and validation loss of every fold, one small panel per fold (Figures 3, 6 and 10).

    `curves` come from `crossval.cross_validate`.
    """
    runs = list(curves.groupby(["repeat", "fold"]))
    columns = min(5, len(runs))
    rows = -(-len(runs) // columns)
    titles = [f"Fold {fold}" if repeat == 0 else f"Repeat {repeat}, fold {fold}" for (repeat, fold), _ in runs]
    spacing = {"horizontal_spacing": 0.02, "vertical_spacing": 0.25 / rows}
    figure = make_subplots(rows, columns, shared_xaxes=True, shared_yaxes=True, subplot_titles=titles, **spacing)
    ring = {"color": SPLIT_COLOURS["validation"], "size": 9, "symbol": "circle-open", "line": {"width": 2}}
    traces = {
        "training loss": ("loss", {"mode": "lines", "line": {"color": SPLIT_COLOURS["training"]}}),
        "validation loss": ("val_loss", {"mode": "lines", "line": {"color": SPLIT_COLOURS["validation"]}}),
        "epoch kept": ("val_loss", {"mode": "markers", "marker": ring}),
    }
    for number, (_, run) in enumerate(runs):
        for name, (column, looks) in traces.items():
            part = run[run["best"]] if name == "epoch kept" else run
            looks = looks | {"name": name, "legendgroup": name, "showlegend": number == 0}
            looks |= {"row": number // columns + 1, "col": number % columns + 1}
            figure.add_scatter(x=part["epoch"], y=part[column], **looks)
    figure.update_xaxes(title_text="Epoch", row=rows)
    figure.update_yaxes(title_text="Cross-entropy", col=1)
    return figure.update_layout(height=130 + 200 * rows, margin_t=90, legend_y=1 + 0.2 / rows)


def model_intervals(results, value="accuracy", *, chance=None, label=None, chosen=None, bounds=()):
    """A point and its 95 % interval for every model.

    Parameters
    ----------
    value : str
        Column to show.
    chance : float, optional
        Where to draw a dotted line.
    label : str, optional
        What the axis says before *(95 % interval)*; by default the column's name.
    chosen : str, optional
        The model that the validation participants chose, drawn in orange.
    bounds : sequence of str
        Models that are none (majority, shuffled labels, ideal observer), drawn as open circles.
    """
    rows, label = results.iloc[::-1], label or value.replace("_", " ").capitalize()
    colours = [COLOURS["left" if name == chosen else "control"] for name in rows["model"]]
    symbols = ["circle-open" if name in set(bounds) else "circle" for name in rows["model"]]
    figure = go.Figure(
        go.Scatter(
            x=rows[value],
            y=rows["model"],
            mode="markers",
            marker={"size": 11, "color": colours, "symbol": symbols, "line": {"width": 2, "color": colours}},
            cliponaxis=False,
            error_x=error_bars(rows, value, color=GREY),
            customdata=rows["n"],
            hovertemplate="%{y}: %{x:.3f} (%{customdata} participants)<extra></extra>",
        )
    )
    if chance is not None:
        figure.add_vline(x=chance, line=DOTTED, annotation_text="chance")
    figure.update_xaxes(title_text=f"{label} (95 % interval)", range=[0, 1.02])
    figure.update_yaxes(automargin=True, tickvals=rows["model"], ticktext=wrapped(rows["model"]))
    alt = f"{label} of {len(rows)} models" + (f"; chosen: {chosen}" if chosen else "")
    return figure.update_layout(height=140 + 42 * len(rows), meta={"alt": alt})


def reliability(tables):
    """Observed against predicted frequency; on the dotted line a probability means what it says.

    `tables` is a dict of model name to `calibration.reliability_table`; bands are Wilson's 95 % intervals.
    """
    figure = go.Figure(diagonal(0, 1))
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
            hovertemplate="said %{x:.2f}, correct %{y:.2f} (n = %{customdata})<extra></extra>",
        )
    figure.update_xaxes(title_text="Probability of the class that is called", range=[0, 1.02])
    figure.update_yaxes(title_text="Share that is correct", range=[0, 1.02])
    return figure.update_layout(height=430, meta={"alt": f"Reliability of the probabilities: {', '.join(tables)}"})


def volume_scatter(participants, unit="ml of grey matter"):
    """Left against right hippocampal volume, coloured by class; `unit` is that of the volumes, for the axes.

    `participants` have ``hippocampus_left`` and ``hippocampus_right``; with ``sclerosis`` (as in `unam.with_volumes`) a
    cross means sclerosis, and patients for whom that is not known are left out.
    """
    figure = go.Figure()
    known = participants if "sclerosis" in participants else participants.assign(sclerosis="")
    for (group, words), part in known[known["group"].isin(COLOURS)].groupby(["group", "sclerosis"]):
        name = NAMES[group] if group == "control" else f"{NAMES[group]} {words}".strip()
        symbol = "x" if words == "with sclerosis" else "circle"
        figure.add_scatter(
            x=part["hippocampus_left"],
            y=part["hippocampus_right"],
            mode="markers",
            name=f"{name} (n = {len(part)})",
            text=part["participant_id"],
            marker={"color": COLOURS[group], "size": 8, "symbol": symbol, "opacity": 0.8},
            hovertemplate="%{text}: left %{x:.3g}, right %{y:.3g}<extra></extra>",
        )
    both = participants[["hippocampus_left", "hippocampus_right"]].to_numpy(float)
    figure.add_trace(diagonal(np.nanmin(both), np.nanmax(both), "left = right"))
    figure.update_xaxes(title_text=f"Left hippocampus ({unit})")
    figure.update_yaxes(title_text=f"Right hippocampus ({unit})", scaleanchor="x")
    return figure.update_layout(height=540, margin_t=90)


def zscore_figure(table):
    """Z-scores of regional volumes and asymmetries of one new person; the shaded band holds 95 % of healthy people.

    `table` holds rows of `norms.zscores`, drawn from the top.
    """
    names = table["region"].unique()
    figure = go.Figure().add_vrect(x0=-1.96, x1=1.96, fillcolor=GREY, opacity=0.2, line_width=0)
    for measure, symbol in (("left", "triangle-left"), ("right", "triangle-right"), ("asymmetry", "diamond")):
        rows = table[table["measure"] == measure]
        figure.add_scatter(
            x=rows["z"],
            y=rows["region"],
            mode="markers",
            name=measure + " (L − R) / (L + R)" * (measure == "asymmetry"),
            marker={"symbol": symbol, "size": 12, "color": COLOURS.get(measure, COLOURS["control"])},
            customdata=rows[["value", "expected", "low", "high"]],
            hovertemplate="%{y}, " + measure + ": z = %{x:.1f}<br>%{customdata[0]:.3g}, expected %{customdata[1]:.3g} "
            "(%{customdata[2]:.3g} to %{customdata[3]:.3g})<extra></extra>",
        )
    figure.update_xaxes(title_text="z-score against the controls")
    figure.update_yaxes(autorange="reversed", automargin=True, categoryarray=names)
    alt = f"z-scores of the volumes and asymmetries of {len(names)} regions of the new image against the controls"
    return figure.update_layout(height=160 + 30 * len(names), meta={"alt": alt})
