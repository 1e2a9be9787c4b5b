"""Figures of the page on the phantom and its calibration."""

import numpy as np
import plotly.graph_objects as go
from matplotlib import pyplot as plt
from plotly.subplots import make_subplots

from tle_utils.figures import brains
from tle_utils.figures.numbers import COLOURS, NAMES

GREY = "#7f7f7f"
INTERVAL = "#bdbdbd"
SIDES = ("left", "right")


def effects_forest(effects):
    """Realised effect of every region beside the published 95 % interval, a panel a disease side and hemisphere.

    Parameters
    ----------
    effects : pandas.DataFrame
        From `phantom_targets.realised_effects`.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    panels = [(side, hemisphere) for side in SIDES for hemisphere in SIDES if side in set(effects["patients"])]
    order = effects.groupby("region")["published_d"].mean().sort_values(ascending=False).index
    titles = [f"{NAMES[side]},<br>{hemisphere} hemisphere" for side, hemisphere in panels]
    figure = make_subplots(1, len(panels), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.015)
    for column, (side, hemisphere) in enumerate(panels, 1):
        part = effects[(effects["patients"] == side) & (effects["hemisphere"] == hemisphere)].set_index("region")
        part = part.loc[order]
        figure.add_scatter(
            x=np.ravel(
                [[low, high, None] for low, high in zip(part["published_low"], part["published_high"], strict=True)]
            ),
            y=np.ravel([[name, name, None] for name in part.index]),
            mode="lines",
            line={"color": INTERVAL, "width": 7},
            name="ENIGMA, 95 % interval",
            legendgroup="published",
            showlegend=column == 1,
            hoverinfo="skip",
            row=1,
            col=column,
        )
        figure.add_scatter(
            x=part["d"],
            y=part.index,
            mode="markers",
            marker={"color": COLOURS[side], "size": 6},
            name=f"phantom, {NAMES[side]}",
            legendgroup=side,
            showlegend=hemisphere == SIDES[0],
            customdata=part[["published_d", "published_low", "published_high"]],
            hovertemplate="%{y}: d = %{x:.2f}; ENIGMA %{customdata[0]:.2f} "
            "(%{customdata[1]:.2f} to %{customdata[2]:.2f})<extra></extra>",
            row=1,
            col=column,
        )
        figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"}, row=1, col=column)
    reach = [effects[["d", "published_low"]].min().min() - 0.1, effects[["d", "published_high"]].max().max() + 0.1]
    figure.update_xaxes(range=reach, title_text="Cohen's d")
    figure.update_yaxes(automargin=True, tickfont_size=11, dtick=1, range=[-0.7, len(order) - 0.3])
    figure.update_annotations(font_size=13)
    return figure.update_layout(height=150 + 17 * len(order), margin_t=110, legend={"y": 1.08})


def cohort_points(measured, names, marks):
    """One point a cohort for several accuracies, their mean and standard deviation, and marks to hold them against.

    Parameters
    ----------
    measured : pandas.DataFrame
        From `phantom_targets.measure_cohorts`.
    names : dict of str to str
        Columns to show and their names on the axis.
    marks : dict of str to dict
        Name of a mark to its value in some of the columns.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure, place = go.Figure(), {column: number for number, column in enumerate(names)}
    jitter = np.linspace(-0.08, 0.08, len(measured))
    for column, number in place.items():
        figure.add_scatter(
            x=number - 0.12 + jitter,
            y=measured[column],
            mode="markers",
            name="one cohort",
            legendgroup="one",
            showlegend=number == 0,
            marker={"color": COLOURS["control"], "size": 7, "opacity": 0.6},
            text=[f"seed {seed}" for seed in measured.index],
            hovertemplate="%{text}: %{y:.3f}<extra></extra>",
        )
    figure.add_scatter(
        x=[number + 0.12 for number in place.values()],
        y=measured[list(names)].mean(),
        error_y={"type": "data", "array": measured[list(names)].std()},
        mode="markers",
        name=f"mean ± SD of {len(measured)} cohorts",
        marker={"color": COLOURS["control"], "size": 11},
        hovertemplate="%{y:.3f}<extra></extra>",
    )
    for (mark, values), symbol in zip(marks.items(), ("line-ew", "diamond-open", "x"), strict=False):
        figure.add_scatter(
            x=[place[column] for column in values],
            y=list(values.values()),
            mode="markers",
            name=mark,
            marker={"color": GREY, "size": 14, "symbol": symbol, "line": {"width": 2, "color": GREY}},
            hovertemplate=f"{mark}: %{{y:.3f}}<extra></extra>",
        )
    figure.update_yaxes(title_text="Accuracy of a cohort")
    figure.update_xaxes(tickvals=list(place.values()), ticktext=list(names.values()), range=[-0.5, len(names) - 0.5])
    return figure.update_layout(height=440)


def phantom_examples(found, y_mm):
    """A control and a sclerotic patient of either side, and below each patient what the disease changed.

    Parameters
    ----------
    found : dict of str to tuple
        From `phantom_targets.example_slices`.
    y_mm : int
        MNI y coordinate of the slice in mm, for the title.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = brains.panels(2, len(found))
    reach = max(np.abs(change).max() for _, change in found.values() if change is not None)
    for (upper, lower), (group, (image, change)) in zip(axes.T, found.items(), strict=True):
        shown = upper.imshow(image, cmap="gray", vmin=0, vmax=1)
        brains.mark_sides(upper)
        sclerosis = "" if change is None else " with sclerosis"
        upper.set_title(f"{NAMES[group]}{sclerosis}", fontsize=10)
        if change is None:
            lower.set_axis_off()
            continue
        changed = lower.imshow(change, cmap="RdBu_r", vmin=-reach, vmax=reach)
        brains.mark_sides(lower)
        lower.set_title("change by the disease", fontsize=10)
    figure.suptitle(brains.at_mm(y_mm), fontsize=11)
    figure.colorbar(shown, ax=axes[0], label="Grey matter", shrink=0.8)
    figure.colorbar(changed, ax=axes[1], label="Change of grey matter", shrink=0.8)
    plt.close(figure)
    return figure


def measured_effects(effects):
    """Effects measured on the maps of a cohort against those it was given, one point a region and disease side.

    Parameters
    ----------
    effects : pandas.DataFrame
        From `phantom_targets.realised_effects`.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure = go.Figure()
    for side in SIDES:
        part = effects[effects["patients"] == side]
        names = part["hemisphere"] + " " + part["region"]
        figure.add_scatter(
            x=part["published_d"],
            y=part["d"],
            mode="markers",
            name=NAMES[side],
            marker={"color": COLOURS[side], "size": 7, "opacity": 0.8},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": part["d_high"] - part["d"],
                "arrayminus": part["d"] - part["d_low"],
                "thickness": 0.7,
                "width": 0,
            },
            text=names,
            hovertemplate="%{text}: given %{x:.2f}, measured %{y:.2f}<extra></extra>",
        )
    ends = [effects[["published_d", "d_low"]].min().min(), effects[["published_d", "d_high"]].max().max()]
    line = {"color": GREY, "dash": "dot"}
    figure.add_scatter(x=ends, y=ends, mode="lines", line=line, name="measured = given", hoverinfo="skip")
    figure.update_xaxes(title_text="Cohen's d given to the cohort")
    figure.update_yaxes(title_text="Cohen's d measured on its maps")
    return figure.update_layout(height=520)
