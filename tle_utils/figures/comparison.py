"""Figures of the chapter that compares models: all models, pairs, curves, two conditions side by side, sets."""

import numpy as np
import plotly.graph_objects as go

from tle_utils.figures import numbers

GREY = "#7f7f7f"
LINES = ("#0072B2", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#56B4E9")  # Okabe and Ito
ANSWERS = {
    "right": ("one answer, right", "#009E73"),
    "open": ("several answers, one side", "#56B4E9"),
    "both_sides": ("cannot tell: both sides", "#E69F00"),
    "empty": ("cannot tell: no answer", "#7f7f7f"),
    "wrong": ("one answer, wrong", "#D55E00"),
}


def _errors(rows, value, low, high):
    return {
        "type": "data",
        "symmetric": False,
        "array": rows[high] - rows[value],
        "arrayminus": rows[value] - rows[low],
    }


def all_models(results, chosen, bounds=()):
    """Lateralization accuracy of every model with its 95 % interval; the chosen one in orange, bounds as open circles.

    Parameters
    ----------
    results : pandas.DataFrame
        From `model_tests.results_table`.
    chosen : str
        The model that the validation participants chose.
    bounds : sequence of str
        Models that are none: majority, shuffled labels, ideal observer.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    label = "Lateralization accuracy (95 % interval)"
    figure = numbers.model_intervals(results, "lateralization_accuracy", chance=0.5, label=label)
    names = figure.data[0].y
    figure.data[0].marker.color = [numbers.COLOURS["left" if name == chosen else "control"] for name in names]
    figure.data[0].error_x.color = "#7f7f7f"
    figure.data[0].marker.symbol = ["circle-open" if name in set(bounds) else "circle" for name in names]
    figure.data[0].marker.line = {"width": 2, "color": figure.data[0].marker.color}
    figure.data[0].customdata = results["n"].iloc[::-1]
    figure.data[0].hovertemplate = "%{y}: %{x:.3f} (%{customdata} participants)<extra></extra>"
    return figure.update_layout(meta={"alt": f"Lateralization accuracy of {len(results)} models; chosen: {chosen}"})


def pairs_matrix(table):
    """Differences between all pairs of models in points, row less column; a star where Holm's p is below 0.05.

    Parameters
    ----------
    table : pandas.DataFrame
        From `model_tests.pairwise`.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    names = list(dict.fromkeys([*table["model_a"], *table["model_b"]]))
    z, text = np.full((len(names), len(names)), np.nan), np.full((len(names), len(names)), "", object)
    hover = text.copy()
    for row in table.itertuples():
        a, b = names.index(row.model_a), names.index(row.model_b)
        star = "*" if row.p_holm < 0.05 else ""
        for one, other, sign in ((a, b, 1), (b, a, -1)):
            z[one, other] = sign * 100 * row.difference
            points = round(z[one, other])
            text[one, other] = f"{points:+d}{star}".replace("-", "−") if points else f"0{star}"
            hover[one, other] = row.reason or f"p = {row.p:.3f}, Holm {row.p_holm:.3f}, {row.folds} folds"
    limit = max(1.0, np.nanmax(np.abs(z), initial=0))
    figure = go.Figure(
        go.Heatmap(
            z=z,
            x=names,
            y=names,
            text=text,
            texttemplate="%{text}",
            customdata=hover,
            colorscale="RdBu_r",
            zmin=-limit,
            zmax=limit,
            showscale=False,
            hovertemplate="%{y} less %{x}: %{z:+.1f} points<br>%{customdata}<extra></extra>",
        )
    )
    ticks = {"automargin": True, "tickvals": names, "ticktext": numbers.wrapped(names)}
    figure.update_xaxes(tickangle=-40, **ticks)
    figure.update_yaxes(autorange="reversed", **ticks)
    meta = {"alt": f"Differences in lateralization accuracy between {len(names)} models"}
    return figure.update_layout(height=220 + 34 * len(names), meta=meta)


def accuracy_curves(table, column, title, ceiling=None):
    """Lateralization accuracy over a size or a rate, a line a model, with 95 % intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        From `robustness.learning_curve` or `noise_curve`.
    column : str
        What stands on the horizontal axis: ``size`` or ``rate``.
    title : str
        Title of that axis.
    ceiling : float, optional
        Lateralization accuracy of the ideal observer.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure, span = go.Figure(), float(np.ptp(table[column])) or 1.0
    models = list(table["model"].unique())
    for number, (model, colour) in enumerate(zip(models, LINES, strict=False)):
        rows = table[table["model"] == model]
        figure.add_scatter(
            x=rows[column] + span * 0.008 * (number - (len(models) - 1) / 2),
            y=rows["value"],
            error_y=_errors(rows, "value", "ci_low", "ci_high") | {"thickness": 1},
            mode="lines+markers",
            name=model,
            line={"color": colour},
            customdata=rows[[column, "n", "folds"]],
            hovertemplate=model + ", %{customdata[0]}: %{y:.2f} (n = %{customdata[1]}, %{customdata[2]} folds)"
            "<extra></extra>",
        )
    for value, name in ((0.5, "chance"), (ceiling, "ideal observer")):
        if value is not None:
            figure.add_hline(y=value, line={"dash": "dot", "color": GREY}, annotation_text=name)
    figure.update_xaxes(title_text=title)
    figure.update_yaxes(title_text="Lateralization accuracy", range=[0.3, 1.03])
    return figure.update_layout(height=420, meta={"alt": f"Lateralization accuracy over {title.lower()}"})


def condition_points(table, row, condition, value="lateralization_accuracy"):
    """A measure with its 95 % interval, one line a row and one symbol a condition.

    Parameters
    ----------
    table : pandas.DataFrame
        The columns `row`, `condition`, `value`, ``<value>_low``, ``<value>_high`` and ``n``.
    row, condition : str
        Columns that name the lines and the symbols.
    value : str
        Column to show.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    names, kinds = list(table[row].unique()), list(table[condition].unique())
    place = {name: number for number, name in enumerate(reversed(names))}
    figure = go.Figure()
    for number, (kind, colour) in enumerate(zip(kinds, LINES, strict=False)):
        part = table[table[condition] == kind]
        figure.add_scatter(
            x=part[value],
            y=part[row].map(place) - 0.22 * (number - (len(kinds) - 1) / 2),
            error_x=_errors(part, value, f"{value}_low", f"{value}_high") | {"thickness": 1},
            mode="markers",
            name=kind,
            cliponaxis=False,
            marker={"size": 11, "color": colour, "symbol": ["circle", "diamond", "square"][number % 3]},
            customdata=part[[row, "n"]],
            hovertemplate="%{customdata[0]}, " + kind + ": %{x:.2f} (%{customdata[1]} participants)<extra></extra>",
        )
    figure.add_vline(x=0.5, line={"dash": "dot", "color": GREY}, annotation_text="chance")
    figure.update_xaxes(title_text=f"{value.replace('_', ' ').capitalize()} (95 % interval)", range=[0, 1.02])
    ticks = {"tickvals": list(place.values()), "ticktext": numbers.wrapped(place)}
    figure.update_yaxes(automargin=True, range=[-0.6, len(names) - 0.4], **ticks)
    return figure.update_layout(height=170 + 56 * len(names), meta={"alt": f"{value} of {', '.join(names)}"})


def set_answers(summary):
    """What the conformal sets say of each class, as shares that sum to one.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `conformal.summarise_sets`.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    shares = summary.assign(right=summary["one_answer"] - summary["wrong"])
    shares["open"] = (1 - shares[["one_answer", "both_sides", "empty"]].sum(axis=1)).clip(lower=0)
    labels = [f"{numbers.NAMES.get(row.group, row.group.capitalize())} (n = {row.n})" for row in summary.itertuples()]
    figure = go.Figure()
    for column, (name, colour) in ANSWERS.items():
        figure.add_bar(
            x=shares[column],
            y=labels,
            orientation="h",
            name=name,
            marker_color=colour,
            hovertemplate=f"%{{y}}, {name}: %{{x:.0%}}<extra></extra>",
        )
    figure.update_xaxes(title_text="Share of participants", tickformat=".0%", range=[0, 1])
    figure.update_yaxes(automargin=True, autorange="reversed")
    meta = {"alt": f"Answers of prediction sets with a stated coverage of {summary['stated'].iloc[0]:.0%}"}
    return figure.update_layout(
        barmode="stack", height=200 + 42 * len(summary), margin_t=110, legend_traceorder="normal", meta=meta
    )


def coverage_figure(curve):
    """Reached against stated coverage of conformal sets; on the dotted line they keep their word.

    Parameters
    ----------
    curve : pandas.DataFrame
        From `conformal.coverage_curve`.

    Returns
    -------
    plotly.graph_objects.Figure
        Error bars are Wilson's 95 % intervals; the mean size of the sets stands in the hover text.
    """
    figure = go.Figure(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": GREY}, hoverinfo="skip")
    )
    figure.add_scatter(
        x=curve["stated"],
        y=curve["reached"],
        error_y=_errors(curve, "reached", "ci_low", "ci_high"),
        mode="lines+markers",
        line={"color": LINES[0]},
        customdata=curve[["n", "mean_size"]],
        hovertemplate="stated %{x:.0%}, reached %{y:.1%} (n = %{customdata[0]}, mean size %{customdata[1]:.2f})"
        "<extra></extra>",
    )
    low = min(curve["stated"].min(), curve["ci_low"].min()) - 0.05
    figure.update_xaxes(title_text="Stated coverage", range=[low, 1.02], tickformat=".0%")
    figure.update_yaxes(title_text="True class in the set", range=[low, 1.02], tickformat=".0%")
    return figure.update_layout(height=400, showlegend=False, meta={"alt": "Reached against stated coverage"})
