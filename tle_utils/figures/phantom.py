"""Figures of the chapters on how the phantom is matched to published effects, and on sclerosis (plotly)."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tle_utils.figures.numbers import COLOURS, DOTTED, GREY, LINES, NAMES, band, diagonal, error_bars
from tle_utils.imaging.atlas import SIDES

INTERVAL = "#bdbdbd"


def effects_forest(effects):
    """Realised effect of every region beside the published 95 % interval, one panel per disease side and hemisphere.

    Parameters
    ----------
    effects : pandas.DataFrame
        From `measured.measured_effects`.
    """
    panels = [(side, hemisphere) for side in SIDES for hemisphere in SIDES if side in set(effects["patients"])]
    order = effects.groupby("region")["published_d"].mean().sort_values(ascending=False).index
    titles = [f"{NAMES[side]},<br>{hemisphere} hemisphere" for side, hemisphere in panels]
    figure = make_subplots(1, len(panels), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.015)
    bar = {"color": INTERVAL, "thickness": 7, "width": 0}
    for column, (side, hemisphere) in enumerate(panels, 1):
        part = effects[(effects["patients"] == side) & (effects["hemisphere"] == hemisphere)]
        part, place = part.set_index("region").loc[order], {"row": 1, "col": column}
        figure.add_scatter(
            x=part["published_d"],
            y=part.index,
            mode="markers",
            marker={"size": 7, "color": INTERVAL, "symbol": "square"},
            error_x=error_bars(part, "published_d", "published_low", "published_high", **bar),
            name="ENIGMA, 95 % interval",
            legendgroup="published",
            showlegend=column == 1,
            hoverinfo="skip",
            **place,
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
            **place,
        )
        figure.add_vline(x=0, line=DOTTED | {"width": 1}, **place)
    reach = [effects[["d", "published_low"]].min().min() - 0.1, effects[["d", "published_high"]].max().max() + 0.1]
    figure.update_xaxes(range=reach, title_text="Cohen's d")
    figure.update_yaxes(automargin=True, tickfont_size=11, dtick=1, range=[-0.7, len(order) - 0.3])
    figure.update_annotations(font_size=13)
    alt = f"Cohen's d of {len(order)} regions in the phantom beside ENIGMA's 95 % intervals"
    return figure.update_layout(height=150 + 17 * len(order), margin_t=110, legend_y=1.08, meta={"alt": alt})


def regions_beside(regions):
    """Volume of every region in the phantom's controls beside real people's, mean ± SD on a log axis.

    Parameters
    ----------
    regions : pandas.DataFrame
        From `phantom_targets.against_real`.
    """
    table = regions.sort_values("real_mean")
    figure = go.Figure()
    looks = {"real": ("real people", INTERVAL, 7), "phantom": ("phantom controls", COLOURS["control"], 1.5)}
    for kind, (name, colour, thickness) in looks.items():
        figure.add_scatter(
            x=table[f"{kind}_mean"],
            y=table.index,
            mode="markers",
            name=f"{name}, mean ± SD",
            marker={"color": colour, "size": 7},
            error_x={"type": "data", "array": table[f"{kind}_sd"], "thickness": thickness, "width": 0},
            customdata=table[[f"{kind}_sd", "distance"]],
            hovertemplate=f"%{{y}}, {name}: %{{x:.2f}} ± %{{customdata[0]:.2f}} ml; "
            "distance %{customdata[1]:.2f} SD<extra></extra>",
        )
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
    figure.update_xaxes(type="log", title_text="Grey matter of one side (ml)", tickvals=ticks, ticktext=ticks)
    figure.update_yaxes(automargin=True, tickfont_size=11, dtick=1, range=[-0.7, len(table) - 0.3])
    alt = f"Grey matter of {len(table)} regions in the phantom's controls beside that of real people"
    return figure.update_layout(height=150 + 17 * len(table), legend_y=1.05, meta={"alt": alt})


def cohort_points(measured, names, marks):
    """Several accuracies of each cohort (points), quartiles, mean ± SD (dashed), and marks to hold them against.

    Parameters
    ----------
    measured : pandas.DataFrame
        From `phantom_targets.measure_cohorts`, one point per cohort.
    names : dict of str to str
        Columns to show and their names on the axis.
    marks : dict of str to dict
        Name of a mark to its value in some of the columns.
    """
    figure, seeds = go.Figure(), [f"seed {seed}" for seed in measured.index]
    looks = {"boxpoints": "all", "pointpos": 0, "jitter": 0.4, "boxmean": "sd", "marker_color": COLOURS["control"]}
    for column, name in names.items():
        figure.add_box(y=measured[column], name=name, text=seeds, showlegend=False, **looks)
    for (mark, known), symbol in zip(marks.items(), ("line-ew", "diamond-open", "x"), strict=False):
        figure.add_scatter(
            x=[names[column] for column in known],
            y=list(known.values()),
            mode="markers",
            name=mark,
            marker={"color": GREY, "size": 14, "symbol": symbol, "line": {"width": 2, "color": GREY}},
            hovertemplate=f"{mark}: %{{y:.3f}}<extra></extra>",
        )
    figure.update_yaxes(title_text="Accuracy in a cohort")
    return figure.update_layout(height=440, meta={"alt": f"Accuracies of {len(measured)} phantom cohorts"})


def measured_effects(effects):
    """Effects measured on the maps of a cohort against those it was given, one point per region and disease side.

    Parameters
    ----------
    effects : pandas.DataFrame
        From `measured.measured_effects`.
    """
    figure = go.Figure()
    for side in SIDES:
        part = effects[effects["patients"] == side]
        figure.add_scatter(
            x=part["published_d"],
            y=part["d"],
            mode="markers",
            name=NAMES[side],
            marker={"color": COLOURS[side], "size": 7, "opacity": 0.8},
            error_y=error_bars(part, "d", thickness=0.7, width=0),
            text=part["hemisphere"] + " " + part["region"],
            hovertemplate="%{text}: given %{x:.2f}, measured %{y:.2f}<extra></extra>",
        )
    low, high = effects[["published_d", "d_low"]].min().min(), effects[["published_d", "d_high"]].max().max()
    figure.add_trace(diagonal(low, high, "measured = given"))
    figure.update_xaxes(title_text="Cohen's d given to the cohort")
    figure.update_yaxes(title_text="Cohen's d measured on its maps")
    alt = f"Effects measured on the maps against those given, {len(effects)} points around the diagonal"
    return figure.update_layout(height=520, meta={"alt": alt})


def sclerosis_axis(curves, points, paper, tasks):
    """Accuracy over the share of patients with sclerosis, one panel per task, published figures and a run's own on it.

    Parameters
    ----------
    curves : pandas.DataFrame
        From `curves.mean_curves`: a line per model, with the band that holds 95 % of cohorts.
    points : pandas.DataFrame
        From `curves.published_points` and `curves.run_points`, with ``mark`` (its letter in the figure) and ``ours``
        (bool). One without a share is a grey line.
    paper : dict of str to dict
        Task to the paper's accuracies by name, two at most, the lower one first, drawn as dashed lines.
    tasks : dict of str to str
        Tasks, from the top, to the titles of their panels.
    """
    figure = make_subplots(len(tasks), 1, subplot_titles=list(tasks.values()), vertical_spacing=0.07)
    for row, task in enumerate(tasks, 1):
        place, shown = {"row": row, "col": 1}, row == 1
        models = curves[curves["task"] == task].groupby("model", sort=False)
        for (model, part), colour in zip(models, LINES, strict=False):
            figure.add_trace(band(part["share"], part["accuracy_low"], part["accuracy_high"], colour, model), **place)
            looks = {"mode": "lines", "line_color": colour, "line_width": 2.5, "showlegend": shown} | place
            over = f"{model}: %{{y:.2f}} at %{{x:.0%}}<extra></extra>"
            names = {"name": model, "legendgroup": model, "hovertemplate": over}
            figure.add_scatter(x=part["share"], y=part["accuracy"], **names, **looks)
        of_task = points[points["task"] == task]
        for line in of_task[of_task["share"].isna()].itertuples():
            words = {"annotation_text": line.mark, "annotation_position": "right", "annotation_font_size": 12}
            figure.add_hline(line.accuracy, line=DOTTED | {"width": 1}, **words, **place)
        for (name, value), above in zip(paper.get(task, {}).items(), ("bottom", "top"), strict=False):
            words = {"annotation_text": name, "annotation_position": f"{above} left", "annotation_font_size": 12}
            figure.add_hline(value, line={"color": LINES[4], "dash": "dash", "width": 1.5}, **words, **place)
        for ours, part in of_task.dropna(subset="share").groupby("ours"):
            alike = part.groupby("share")["share"]  # side by side, not one upon the other
            shift = 0.02 * (alike.cumcount() - (alike.transform("size") - 1) / 2)
            name, symbol = ("this run", "diamond") if ours else ("published", "circle")
            looks = {"mode": "markers+text", "textposition": "top center", "legendgroup": name, "showlegend": shown}
            figure.add_scatter(
                x=part["share"] + shift,
                y=part["accuracy"],
                error_y=error_bars(part, "accuracy", thickness=1, width=2),
                text=part["mark"],
                marker={"color": GREY, "size": 9, "symbol": symbol},
                name=name,
                hovertext=part["name"],
                hovertemplate="%{hovertext}: %{y:.3f}<extra></extra>",
                **looks | place,
            )
    figure.update_xaxes(range=[-0.03, 1.06], tickformat=".0%")
    figure.update_xaxes(title_text="Share with hippocampal sclerosis", row=len(tasks))
    figure.update_yaxes(title_text="Accuracy", range=[0.3, 1.1], dtick=0.2, tick0=0)
    meta = {"alt": f"Accuracy over the share of patients with sclerosis: {'; '.join(tasks.values())}"}
    return figure.update_layout(height=170 + 290 * len(tasks), margin_t=150, legend_y=1 + 0.2 / len(tasks), meta=meta)
