"""Figures that compare: the paper and this run, pairs of models, curves, conditions, sets of answers (plotly)."""

import itertools

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tle_utils.base.text import minus
from tle_utils.evaluation import published
from tle_utils.figures.numbers import DOTTED, GREY, LINES, NAMES, SPLIT_COLOURS, diagonal, error_bars, wrapped

ANSWERS = {
    "correct": ("one answer, correct", LINES[3]),
    "open": ("several answers, one side", LINES[5]),
    "both_sides": ("cannot tell: both sides", LINES[1]),
    "empty": ("cannot tell: no answer", GREY),
    "wrong": ("one answer, wrong", LINES[4]),
}
SHARES = ["#fdae6b", "#ffffff", "#6baed6"]  # of a true class: wrong, nobody, correct


def _theirs_and_ours():
    """Two panels on one axis, the paper's first."""
    return make_subplots(1, 2, shared_yaxes=True, subplot_titles=["The paper", "This run"], horizontal_spacing=0.03)


def _box(part, value, split, **looks):
    """Quartiles, the mean and one point per fold."""
    colour = {"color": SPLIT_COLOURS[split]}
    points = {"boxpoints": "all", "pointpos": 0, "jitter": 0.4, "boxmean": True, "marker": colour | {"size": 7}}
    return go.Box(y=part[value], text=[f"fold {fold}" for fold in part["fold"]], line=colour, **points, **looks)


def paper_metrics(folds, printed, order):
    """What the paper prints of its measures, beside a box and a point per fold of this run (Figure 4).

    `folds` come from `metrics.fold_metrics`; `printed` is a dict of metric to value, `order` one of metric to name,
    from left to right.
    """
    figure = _theirs_and_ours()
    mark = {"color": SPLIT_COLOURS["test"], "size": 11, "symbol": "diamond"}
    figure.add_scatter(x=list(order.values()), y=[printed[name] for name in order], mode="markers", marker=mark)
    for metric, name in order.items():
        part = folds[(folds["metric"] == metric) & folds["value"].notna()]
        figure.add_trace(_box(part, "value", "test", name=name), 1, 2)
    figure.update_xaxes(range=[-0.6, len(order) - 0.4], showgrid=False)
    figure.update_yaxes(range=[-0.03, 1.03]).update_yaxes(title_text="Value", col=1)
    words = ", ".join(f"{name} {printed[metric]:.2f}" for metric, name in order.items())
    meta = {"alt": f"The paper: {words}. This run: the same measures in each fold"}
    return figure.update_layout(height=420, showlegend=False, meta=meta)


def paper_accuracies(predictions, printed):
    """Accuracy in each fold, the paper's beside ours, on validation and test participants (Figures 7 and 11).

    `printed` is a dict of model to its table of `published.published_table`, which has the test participants only.
    """
    figure, pairs = _theirs_and_ours(), pd.MultiIndex.from_tuples(published.PAPER_COLUMNS.values())
    correct = predictions.assign(accuracy=predictions["group"] == predictions["predicted"])
    ours = correct.groupby(["model", "split", "repeat", "fold"])["accuracy"].mean().reset_index()
    theirs = {name: published.split_accuracy(table).rename_axis("fold") for name, table in printed.items()}
    theirs = pd.concat(theirs, names=["model"]).reset_index().assign(split="test")
    counts = sum(printed.values()).sum().set_axis(pairs).groupby(level=0).sum()
    largest = counts.max() / counts.sum(), predictions["group"].value_counts(normalize=True).max()
    for column, scores in enumerate((theirs, ours), 1):
        for split in ("validation", "test"):
            part = scores[scores["split"] == split]
            looks = {"x": wrapped(part["model"]), "name": split, "legendgroup": split, "offsetgroup": split}
            figure.add_trace(_box(part, "accuracy", split, showlegend=column == 2, **looks), 1, column)
        figure.add_hline(largest[column - 1], line=DOTTED, row=1, col=column)
    figure.update_yaxes(range=[-0.03, 1.03]).update_yaxes(title_text="Accuracy in a fold", col=1)
    means = (f"{name} {part.mean():.2f}" for name, part in theirs.groupby("model")["accuracy"])
    meta = {"alt": f"Accuracy in each fold. Mean of the paper's test parts: {', '.join(means)}"}
    return figure.update_layout(height=460, boxmode="group", margin_t=90, legend_y=1.1, meta=meta)


def paper_splits(theirs, ours):
    """Confusion tables of every split, the paper's above ours, each closed by its sum (Figures 8 and 12).

    Both have the nine columns of `published.paper_confusion_table`; heads are the true class and the class called, a
    colour is the share of the true class in a row, blue where it is correct.
    """
    pairs = list(itertools.product(NAMES, NAMES))
    heads = [[NAMES[true] for true, _ in pairs], [f"called<br>{said}" for _, said in pairs]]
    sign = np.array([1 if true == said else -1 for true, said in pairs])
    figure, cell = make_subplots(2, 1, row_heights=[len(theirs) + 1, len(ours) + 1], vertical_spacing=0.03), "#111111"
    for row, (name, table) in enumerate((("The paper", theirs), ("This run", ours)), 1):
        counts = table.set_axis(published.PAPER_COLUMNS.values(), axis=1)[pairs]
        counts = pd.concat([counts, counts.sum().to_frame("all").T])
        n = counts.T.groupby(heads[0]).transform("sum").T
        matrix = go.Heatmap(z=(counts / n).fillna(0) * sign, x=heads, y=counts.index.astype(str))
        matrix.update(text=counts, texttemplate="%{text}", textfont_color=cell, customdata=n, xgap=2, ygap=2)
        matrix.update(colorscale=SHARES, zmin=-1, zmax=1, showscale=False)
        matrix.hovertemplate = "split %{y}: %{x}, %{text} of %{customdata}<extra></extra>"
        figure.add_trace(matrix, row, 1)
        figure.update_yaxes(title_text=name, autorange="reversed", type="category", row=row)
    figure.update_xaxes(side="top", row=1).update_xaxes(matches="x", showticklabels=False, showdividers=False, row=2)
    figure.update_xaxes(showgrid=False).update_yaxes(showgrid=False)
    sums = (published.paper_summary(table) | {"splits": len(table)} for table in (theirs, ours))
    said = "; this run ".join("{correct} of {n} correct in {splits} splits".format(**found) for found in sums)
    meta = {"alt": f"Confusion tables of every split: the paper {said}"}
    return figure.update_layout(height=110 + 26 * (len(theirs) + len(ours) + 2), margin_b=20, meta=meta)


def pairs_matrix(table):
    """Differences between all pairs of models in points, row less column; a star where Holm's p is below 0.05.

    `table` comes from `model_tests.pairwise`.
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
            text[one, other] = minus(f"{points:+d}{star}") if points else f"0{star}"
            hover[one, other] = row.reason or f"p = {row.p_corrected:.3f}, Holm {row.p_holm:.3f}, {row.folds} folds"
    limit = 1.6 * max(1.0, np.nanmax(np.abs(z), initial=0))  # no colour too dark to be read on
    matrix = go.Heatmap(z=z, x=names, y=names, text=text, texttemplate="%{text}", customdata=hover)
    matrix.update(colorscale="RdBu_r", zmin=-limit, zmax=limit, showscale=False, textfont_color="black")
    matrix.hovertemplate = "%{y} less %{x}: %{z:+.1f} points<br>%{customdata}<extra></extra>"
    ticks = {"automargin": True, "tickvals": names, "ticktext": wrapped(names)}
    figure = go.Figure(matrix).update_xaxes(tickangle=-40, **ticks).update_yaxes(autorange="reversed", **ticks)
    meta = {"alt": f"Differences in lateralization accuracy between {len(names)} models"}
    return figure.update_layout(height=220 + 34 * len(names), meta=meta)


def accuracy_curves(table, column, title, ceiling=None):
    """Lateralization accuracy over a size or a rate, one line per model, with 95 % intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        From `curves.learning_curve` or `curves.noise_curve`.
    column, title : str
        What stands on the horizontal axis, ``size`` or ``rate``, and the title of that axis.
    ceiling : float, optional
        Lateralization accuracy of the ideal observer.
    """
    figure, span = go.Figure(), float(np.ptp(table[column])) or 1.0
    models = list(table["model"].unique())
    for number, (model, colour) in enumerate(zip(models, LINES, strict=False)):
        rows = table[table["model"] == model]
        figure.add_scatter(
            x=rows[column] + span * 0.008 * (number - (len(models) - 1) / 2),
            y=rows["value"],
            error_y=error_bars(rows, "value", "ci_low", "ci_high", thickness=1),
            mode="lines+markers",
            name=model,
            line={"color": colour},
            customdata=rows[[column, "n", "folds"]],
            hovertemplate="%{customdata[0]}: %{y:.2f} (n = %{customdata[1]}, %{customdata[2]} folds)",
        )
    for value, name in ((0.5, "chance"), (ceiling, "ideal observer")):
        if value is not None:
            figure.add_hline(y=value, line=DOTTED, annotation_text=name)
    figure.update_xaxes(title_text=title)
    figure.update_yaxes(title_text="Lateralization accuracy", range=[0.3, 1.03])
    return figure.update_layout(height=420, meta={"alt": f"Lateralization accuracy over {title.lower()}"})


def condition_points(table, row, condition, value="lateralization_accuracy", chance=0.5):
    """A value with its 95 % interval, one line per row and one symbol per condition.

    Parameters
    ----------
    table : pandas.DataFrame
        The columns `row`, `condition`, `value`, ``<value>_low``, ``<value>_high`` and ``n``.
    row, condition, value : str
        Columns that name the lines and the symbols, and the column to show.
    chance : float, optional
        Where to draw a dotted line.
    """
    names, kinds = list(table[row].unique()), list(table[condition].unique())
    place = {name: number for number, name in enumerate(reversed(names))}
    figure = go.Figure()
    for number, (kind, colour) in enumerate(zip(kinds, LINES, strict=False)):
        part = table[table[condition] == kind]
        figure.add_scatter(
            x=part[value],
            y=part[row].map(place) - 0.2 * (number - (len(kinds) - 1) / 2),
            error_x=error_bars(part, value, thickness=1),
            mode="markers",
            name=kind,
            cliponaxis=False,
            marker={"size": 11, "color": colour, "symbol": ["circle", "diamond", "square"][number % 3]},
            customdata=part[[row, "n"]],
            hovertemplate="%{customdata[0]}, " + kind + ": %{x:.2f} (n = %{customdata[1]})<extra></extra>",
        )
    if chance is not None:
        figure.add_vline(x=chance, line=DOTTED, annotation_text="chance")
    label = value.replace("_", " ").capitalize()
    figure.update_xaxes(title_text=f"{label} (95 % interval)", range=[-0.02, 1.02])
    span = [-0.6, len(names) - 0.4]
    figure.update_yaxes(automargin=True, range=span, tickvals=list(place.values()), ticktext=wrapped(place))
    return figure.update_layout(height=170 + 56 * len(names), meta={"alt": f"{label} of {', '.join(names)}"})


def set_answers(summary):
    """What the conformal sets say of each class (`conformal.summarise_sets`), as shares that sum to one."""
    shares = summary.assign(correct=summary["one_answer"] - summary["wrong"])
    shares["open"] = (1 - shares[["one_answer", "both_sides", "empty"]].sum(axis=1)).clip(lower=0)
    labels = [f"{NAMES.get(row.group, row.group.capitalize())} (n = {row.n})" for row in summary.itertuples()]
    figure = go.Figure()
    for column, (name, colour) in ANSWERS.items():
        looks = {"orientation": "h", "name": name, "marker_color": colour}
        figure.add_bar(x=shares[column], y=labels, hovertemplate=f"%{{y}}, {name}: %{{x:.0%}}<extra></extra>", **looks)
    figure.update_xaxes(title_text="Share of participants", tickformat=".0%", range=[0, 1])
    figure.update_yaxes(automargin=True, autorange="reversed")
    meta = {"alt": f"Answers of prediction sets with a stated coverage of {summary['stated'].iloc[0]:.0%}"}
    layout = {"barmode": "stack", "legend_traceorder": "normal", "margin_t": 110}
    return figure.update_layout(height=200 + 42 * len(summary), meta=meta, **layout)


def coverage_figure(curve):
    """Reached against stated coverage of conformal sets (`conformal.coverage_curve`) with Wilson's 95 % intervals.

    On the dotted line they reach what is stated.
    """
    figure = go.Figure(diagonal(0, 1)).add_scatter(
        x=curve["stated"],
        y=curve["reached"],
        error_y=error_bars(curve, "reached", "ci_low", "ci_high"),
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
