"""Figures of the chapter on saliency: maps on slices and in the brain, sanity checks, scores against the truth."""

import numpy as np
from matplotlib import pyplot as plt
from nilearn import plotting
from plotly.subplots import make_subplots

from tle_utils.figures import brains, tables
from tle_utils.saliency import scores

# Okabe and Ito's palette, one colour a method.
METHOD_COLOURS = {
    "gradcam": "#0072B2",
    "gradcam++": "#56B4E9",
    "smoothgrad": "#E69F00",
    "integrated_gradients": "#D55E00",
    "occlusion": "#009E73",
    "deviation": "#7f7f7f",
}


def kind_name(method, layer, unfit=()):
    """Name of a method and layer for a figure; says so where the method fails a sanity check.

    Parameters
    ----------
    method, layer : str
        As in `maps.Maps`.
    unfit : collection of (str, str)
        From `sanity_checks.unfit`.

    Returns
    -------
    str
        Like ``"Grad-CAM, conv_3 (unfit)"``.
    """
    name = tables.word(method) + (f", {layer}" if layer.startswith("conv") else "")
    return name + " (unfit)" * ((method, layer) in unfit)


def map_grid(columns, backgrounds, y_mm, title):
    """Signed maps, one column a participant or group and one row a method, each scaled to its own greatest value.

    Red speaks for the explained class, blue against it; black lines are the two hippocampi.

    Parameters
    ----------
    columns : dict of str to dict of str to numpy.ndarray
        Title of a column to its panels: label of a row to signed map, shape (160, 160); the same rows in every column.
    backgrounds : dict of str to numpy.ndarray
        Title of a column to slice.
    y_mm : int
        MNI y coordinate of the slice in mm.
    title : str
        Figure title.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = brains.panels(len(next(iter(columns.values()))), len(columns))
    for number, (name, maps) in enumerate(columns.items()):
        for axis, (label, image) in zip(axes[:, number], maps.items(), strict=True):
            axis.imshow(backgrounds[name], cmap="gray_r", vmin=0, vmax=2)
            image = image / max(np.abs(image).max(), np.finfo(np.float32).tiny)
            shown = axis.imshow(image, cmap="RdBu_r", alpha=np.clip(np.abs(image) * 2, 0, 0.9), vmin=-1, vmax=1)
            for side in scores.SIDES:
                outline = scores.truth_slice(side, y_mm, 0)
                if outline.any():
                    axis.contour(outline, levels=[0.5], colors="black", linewidths=0.7)
            brains.mark_sides(axis)
            if number == 0:
                axis.text(-0.04, 0.5, label, rotation=90, va="center", ha="right", transform=axis.transAxes)
        axes[0, number].set_title(name, fontsize=10)
    bar = {"location": "bottom", "shrink": 0.7, "aspect": 40, "ticks": []}
    figure.colorbar(shown, ax=axes, label="against  ←  explained class  →  for", **bar)
    figure.suptitle(f"{title}, {brains.at_mm(y_mm)}", fontsize=11)
    plt.close(figure)
    return figure


def glass_brain(image, title):
    """A map as seen through the brain from three sides; L and R are the participant's.

    Parameters
    ----------
    image : nibabel image
        In MNI space, values from 0.
    title : str
        Shown above.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = plt.figure(figsize=(brains.WIDTH, 2.8), dpi=brains.DPI)
    display = plotting.plot_glass_brain(
        image, figure=figure, colorbar=True, cmap="YlOrRd", vmin=0, threshold=1e-3, cbar_tick_format="%.2f"
    )
    display.title(title, size=11, color="black", bgcolor="white")
    plt.close(figure)
    return figure


def truth_points(summary, unfit=()):
    """Scores against the truth of every method and layer with their 95 % intervals, one column a measure.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `scores.summarise`: ``network``, ``method``, ``layer``, ``n`` and means with ``_low`` and
        ``_high`` of ``over_chance``, ``right_side`` and ``auprc``, and ``auprc_chance``.
    unfit : collection of (str, str, str)
        Network, method and layer of what fails a sanity check: a cross, and the word in the label.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    measures = {
        "over_chance": ("Most important voxels in the<br>affected hippocampus, over chance", 1),
        "right_side": ("Share with the affected<br>side as the more<br>important one", 0.5),
        "auprc": ("Area under the<br>precision-recall curve", summary["auprc_chance"].mean()),
    }
    figure = make_subplots(1, 3, shared_yaxes=True, horizontal_spacing=0.03)
    rows = summary.iloc[::-1]
    failed = [key in unfit for key in zip(rows["network"], rows["method"], rows["layer"], strict=True)]
    labels = [
        f"{network}: {kind_name(method, layer, [(method, layer)] if bad else ())}"
        for network, method, layer, bad in zip(rows["network"], rows["method"], rows["layer"], failed, strict=True)
    ]
    colours = rows["method"].map(METHOD_COLOURS)
    for column, (name, (text, chance)) in enumerate(measures.items(), start=1):
        figure.add_scatter(
            x=rows[name],
            y=labels,
            mode="markers",
            showlegend=False,
            marker={"color": colours, "size": 9, "symbol": ["x" if bad else "circle" for bad in failed]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": rows[f"{name}_high"] - rows[name],
                "arrayminus": rows[name] - rows[f"{name}_low"],
                "color": "#9a9a9a",
                "thickness": 1.5,
            },
            text=[f"n = {n}" for n in rows["n"]],
            hovertemplate="%{y}: %{x:.2f}, %{text}<extra></extra>",
            row=1,
            col=column,
        )
        figure.add_vline(x=chance, line={"dash": "dot", "color": "#7f7f7f"}, row=1, col=column)
        figure.update_xaxes(title_text=text, title_font_size=12, row=1, col=column)
    figure.update_xaxes(range=[-0.03, 1.03], row=1, col=2)
    figure.update_yaxes(automargin=True, tickfont_size=11)
    alt = "Scores of the maps against the truth; dotted lines are chance"
    return figure.update_layout(height=130 + 24 * len(rows), margin_t=20, meta={"alt": alt})


def cascade_lines(summary, alike, title):
    """Likeness of the maps to the trained network's while its layers are randomised, last layer first.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `scores.summarise`: ``method``, ``layer``, ``step``, ``number`` and means with ``_low`` and
        ``_high`` of ``spearman`` and ``ssim``; ``number`` -1 is a network trained on random labels.
    alike : float
        Rank correlation from which on maps count as alike.
    title : str
        Figure title.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure = make_subplots(1, 2, subplot_titles=["Rank correlation", "Structural similarity"], horizontal_spacing=0.08)
    steps = summary.assign(place=summary["number"].where(summary["number"] >= 0, summary["number"].max() + 1))
    order = steps.sort_values("place").drop_duplicates("step")
    for (method, layer), part in steps.sort_values("place").groupby(["method", "layer"], sort=False):
        for column, name in enumerate(("spearman", "ssim"), start=1):
            line = part[part["number"] >= 0]
            apart = part[part["number"] < 0]
            for rows, mode in ((line, "lines+markers"), (apart, "markers")):
                figure.add_scatter(
                    x=rows["place"],
                    y=rows[name],
                    mode=mode,
                    name=kind_name(method, layer),
                    legendgroup=method,
                    showlegend=column == 1 and mode != "markers",
                    marker={"color": METHOD_COLOURS[method], "size": 8},
                    line={"color": METHOD_COLOURS[method]},
                    error_y={
                        "type": "data",
                        "symmetric": False,
                        "array": rows[f"{name}_high"] - rows[name],
                        "arrayminus": rows[name] - rows[f"{name}_low"],
                        "thickness": 1,
                    },
                    hovertemplate="%{y:.2f}<extra>" + kind_name(method, layer) + "</extra>",
                    row=1,
                    col=column,
                )
    figure.add_hline(y=alike, line={"dash": "dot", "color": "#7f7f7f"}, row=1, col=1)
    figure.update_xaxes(tickvals=order["place"], ticktext=order["step"], tickangle=-45)
    figure.update_yaxes(title_text="Likeness of the maps", row=1, col=1)
    figure.update_yaxes(range=[-0.75, 1.05])
    layout = {"y": -0.45, "yanchor": "top"}
    return figure.update_layout(height=470, title=title, margin={"t": 70, "b": 150}, legend=layout)


def _interval(row, name):
    return f"{row[name]:.2f} (95 % CI {row[f'{name}_low']:.2f}–{row[f'{name}_high']:.2f}, n = {row['n']:.0f})"


def saliency_takeaways(verdicts, summary, unfit, best):
    """What the chapter found, in sentences.

    Parameters
    ----------
    verdicts : pandas.DataFrame
        From `sanity_checks.verdicts`, with ``network``.
    summary : pandas.DataFrame
        From `scores.by_cases`.
    unfit : collection of (str, str, str)
        Network, method and layer of what fails a sanity check.
    best : str
        The network that validation prefers.

    Returns
    -------
    dict of str to str
        ``saliency-sanity``, ``saliency-hits``, ``saliency-side`` and ``saliency-goal``.
    """
    kinds = verdicts.groupby(["network", "method", "layer"], sort=False)["verdict"].agg(set)
    unclear = sum("unclear" in found and "unfit" not in found for found in kinds)
    names = [
        f"{kind_name(method, layer)} of the {network}"
        for network, method, layer in kinds.index
        if (network, method, layer) in unfit
    ]
    sanity_text = (
        f"Of {len(kinds)} kinds of maps, {len(names)} {'stays' if len(names) == 1 else 'stay'} alike when the network "
        f"forgets what it learned and {'is' if len(names) == 1 else 'are'} unfit"
        + f"{': ' + ', '.join(names) if names else ''}; for {unclear} it is unclear."
    )
    if summary.empty:
        nothing = "In this cohort the place of no lesion is known, so no map can be held against the truth."
        return {"saliency-sanity": sanity_text} | dict.fromkeys(
            ["saliency-hits", "saliency-side", "saliency-goal"], nothing
        )
    row = scores.goal(summary, best, unfit)
    same = (summary["network"] == row["network"]) & (summary["cases"] == row["cases"])
    free = summary[same & (summary["method"] == scores.NETWORK_FREE)].iloc[0]
    name = f"{kind_name(row['method'], row['layer'])} of the {row['network']}"
    hits = (
        f"{name} puts its most important voxels into the affected hippocampus {_interval(row, 'over_chance')} times as "
        f"often as chance ({row['cases']}); the deviation from the mean control alone, without a network, "
        f"{_interval(free, 'over_chance')} times. Of the two networks the {best} tells the side of validation patients "
        "better."
    )
    side = (
        f"The affected hippocampus is the more important one in {_interval(row, 'right_side')} of them "
        f"(chance is 0.5); the deviation alone in {_interval(free, 'right_side')}."
    )
    goal = "That meets" if row["met"] else "That does not meet"
    goal += (
        f" the goal of {scores.OVER_CHANCE:g} times chance and the right side in {scores.RIGHT_SIDE:g} of the cases."
    )
    return {"saliency-sanity": sanity_text, "saliency-hits": hits, "saliency-side": side, "saliency-goal": goal}
