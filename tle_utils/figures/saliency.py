"""Figures of the chapter on saliency: maps on slices and in the brain, sanity checks, scores against the truth.

Here `unfit` are network, method and layer of what fails a sanity check, and `summary` comes from `scores.by_cases`.
"""

import numpy as np
from matplotlib import pyplot as plt
from nilearn import plotting
from plotly.subplots import make_subplots

from tle_utils.base.text import minus
from tle_utils.figures import brains, tables
from tle_utils.figures.numbers import DOTTED, GREY, LINES, error_bars
from tle_utils.imaging.atlas import SIDES
from tle_utils.saliency import scores

METHODS = ("gradcam", "gradcam++", "smoothgrad", "integrated_gradients", "occlusion")
WHO = {
    "all patients": "patients",
    "side correct": "patients whose side is called correctly",
    "side correct, sclerotic": "sclerotic patients whose side is called correctly",
}  # the groups of patients of `scores.goal`
COLOURS = dict(zip(METHODS, LINES, strict=False)) | {scores.NETWORK_FREE: GREY}


def kind_name(method, layer, unfit=()):
    """Name of a method and layer, like ``Grad-CAM, conv_3 (unfit)``; here `unfit` comes from `sanity_checks.unfit`."""
    name = tables.word(method) + (f", {layer}" if layer.startswith("conv") else "")
    return name + " (unfit)" * ((method, layer) in unfit)


def map_grid(columns, backgrounds, y_mm, title):
    """Signed maps, one column per participant or group and one row per method, each scaled to its own greatest value.

    Red speaks for what is explained, blue against it; black lines are the two hippocampi.

    Parameters
    ----------
    columns : dict of str to dict of str to numpy.ndarray
        Title of a column to its panels: label of a row to signed map, shape (160, 160); the same rows in every column.
    backgrounds : dict of str to numpy.ndarray
        Title of a column to slice.
    """
    figure, axes = brains.panels(len(next(iter(columns.values()))), len(columns))
    outlines = [scores.truth_slice(side, y_mm, 0) for side in SIDES]
    for number, (name, maps) in enumerate(columns.items()):
        for axis, (label, image) in zip(axes[:, number], maps.items(), strict=True):
            axis.imshow(backgrounds[name], cmap="gray_r", vmin=0, vmax=2)
            image = image / max(np.abs(image).max(), np.finfo(np.float32).tiny)
            shown = axis.imshow(image, cmap="RdBu_r", alpha=np.clip(np.abs(image) * 2, 0, 0.9), vmin=-1, vmax=1)
            for outline in [outline for outline in outlines if outline.any()]:
                axis.contour(outline, levels=[0.5], colors="black", linewidths=0.7)
            brains.mark_sides(axis)
            if number == 0:
                axis.text(-0.04, 0.5, label, rotation=90, va="center", ha="right", transform=axis.transAxes)
        axes[0, number].set_title(name, fontsize=10)
    bar = {"location": "bottom", "shrink": 0.7, "aspect": 40, "ticks": []}
    figure.colorbar(shown, ax=axes, label="against  ←  what is explained  →  for", **bar)
    figure.suptitle(f"{title}, {brains.at_mm(y_mm)}", fontsize=11)
    plt.close(figure)
    return figure


def glass_brain(image, title):
    """A volume in MNI space (nibabel image, values 0 to 1) as seen through the brain from three sides, from 0.2 on."""
    figure = plt.figure(figsize=(brains.WIDTH, 2.8), dpi=brains.DPI, FigureClass=brains.Picture)
    looks = {"colorbar": True, "cmap": "YlOrRd", "vmin": 0, "vmax": 1, "threshold": 0.2, "cbar_tick_format": "%.1f"}
    plotting.plot_glass_brain(image, figure=figure, **looks)
    figure.suptitle(f"{title}\n{brains.CONVENTION}", fontsize=10)
    plt.close(figure)
    return figure


def truth_points(summary, unfit=()):
    """Scores against the truth of every method and layer with their 95 % intervals, one column per measure.

    `summary` holds one group of patients; what is unfit is shown as a cross, with the word in the label.
    """
    measures = {
        "over_chance": ("Most important voxels in the<br>affected hippocampus, over chance", 1),
        "affected_side": ("Share with the affected<br>side as the more<br>important one", 0.5),
        "auprc": ("Area under the<br>precision-recall curve", summary["auprc_chance"].mean()),
    }
    figure = make_subplots(1, 3, shared_yaxes=True, horizontal_spacing=0.03)
    rows = summary.iloc[::-1]
    kinds = list(rows[["network", "method", "layer"]].itertuples(index=False, name=None))
    labels = [f"{kind[0]}: {kind_name(*kind[1:])}" + " (unfit)" * (kind in unfit) for kind in kinds]
    symbols = ["x" if kind in unfit else "circle" for kind in kinds]
    for column, (name, (text, chance)) in enumerate(measures.items(), start=1):
        place = {"row": 1, "col": column}
        figure.add_scatter(
            x=rows[name],
            y=labels,
            mode="markers",
            showlegend=False,
            marker={"color": rows["method"].map(COLOURS), "size": 9, "symbol": symbols},
            error_x=error_bars(rows, name, color=GREY, thickness=1.5),
            text=[f"n = {n}" for n in rows["n"]],
            hovertemplate="%{y}: %{x:.2f}, %{text}<extra></extra>",
            **place,
        )
        figure.add_vline(x=chance, line=DOTTED, **place)
        figure.update_xaxes(title_text=text, title_font_size=12, **place)
    figure.update_xaxes(range=[-0.03, 1.03], row=1, col=2)
    figure.update_yaxes(automargin=True, tickfont_size=11)
    alt = "Scores of the maps against the truth; dotted lines are chance"
    return figure.update_layout(height=130 + 24 * len(rows), margin_t=20, meta={"alt": alt})


def cascade_lines(summary, alike, title):
    """Likeness of the maps to the trained network's while its layers are randomised, last layer first.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `scores.summarise`: ``method``, ``layer``, ``step``, ``number`` and means with ``_low`` and ``_high`` of
        ``spearman`` and ``ssim``; ``number`` -1 is a network trained on random labels.
    alike : float
        Rank correlation from which on maps count as alike.
    """
    figure = make_subplots(1, 2, subplot_titles=["Rank correlation", "Structural similarity"], horizontal_spacing=0.08)
    place = summary["number"].where(summary["number"] >= 0, summary["number"].max() + 1)
    steps = summary.assign(place=place).sort_values("place")
    for (method, layer), part in steps.groupby(["method", "layer"], sort=False):
        name = kind_name(method, layer)
        for column, value in enumerate(("spearman", "ssim"), start=1):
            for mode, rows in (("lines+markers", part[part["number"] >= 0]), ("markers", part[part["number"] < 0])):
                figure.add_scatter(
                    x=rows["place"],
                    y=rows[value],
                    mode=mode,
                    name=name,
                    legendgroup=method,
                    showlegend=column == 1 and mode != "markers",
                    marker={"color": COLOURS[method], "size": 8},
                    error_y=error_bars(rows, value, thickness=1),
                    hovertemplate=f"%{{y:.2f}}<extra>{name}</extra>",
                    row=1,
                    col=column,
                )
    figure.add_hline(y=alike, line=DOTTED, row=1, col=1)
    ticks = steps.drop_duplicates("step")
    figure.update_xaxes(tickvals=ticks["place"], ticktext=ticks["step"], tickangle=-45)
    figure.update_yaxes(title_text="Likeness of the maps", row=1, col=1)
    figure.update_yaxes(range=[-0.75, 1.05])
    legend = {"y": -0.45, "yanchor": "top"}
    title = {"text": title, "y": 0.99, "yanchor": "top"}
    return figure.update_layout(height=490, title=title, margin={"t": 90, "b": 150}, legend=legend)


def _interval(row, name):
    text = f"{row[name]:.2f} (95 % CI {row[f'{name}_low']:.2f}–{row[f'{name}_high']:.2f}, n = {row['n']:.0f})"
    return minus(text)


def truth_texts(summary):
    """How often the map that stands for all meets the affected hippocampus, and on which side it is greater (str, str).

    Both in the patients of `scores.goal`, beside the map that needs no network.
    """
    row = scores.goal(summary)
    free = summary[(summary["cases"] == row["cases"]) & (summary["method"] == scores.NETWORK_FREE)].iloc[0]
    return (
        f"In {WHO[row['cases']]}, {kind_name(row['method'], row['layer'])} meets the affected hippocampus "
        f"{_interval(row, 'over_chance')} times as often as chance; the deviation alone, without a network, "
        f"{free['over_chance']:.2f} times.",
        f"It is greater on the affected side in {_interval(row, 'affected_side')} of them, the deviation alone in "
        f"{free['affected_side']:.2f} (chance: 0.5).",
    )


def saliency_takeaways(verdicts, unfit, summary, expected):
    """What the chapter found, in sentences by the name that they are glued under (dict of str to str).

    `verdicts` come from `sanity_checks.verdicts`, with ``network``, `expected` from `scores.expectations`; `summary` is
    that of the network that each fold prefers, all groups of patients, and empty where no lesion is known.
    """
    kinds = verdicts.groupby(["network", "method", "layer"], sort=False)["verdict"].agg(set)
    unclear = sum("unclear" in found and "unfit" not in found for found in kinds)
    failing = sum(kind in unfit for kind in kinds.index)
    sanity = (
        f"Unfit, because they hardly change when the network forgets what it learned: {failing} of {len(kinds)} kinds "
        f"of maps; {unclear} are unclear."
    )
    if summary.empty:
        nowhere = "in this cohort the place of no lesion is known, so no map is held against the truth."
        came = hits = side = nowhere.capitalize()
        answer = f"This cannot be told here: {nowhere}"
    else:
        row = scores.goal(summary)
        counts = expected["verdict"].value_counts()
        hits, side = truth_texts(summary)
        came = (
            f"Of {len(expected)} expectations from larger studies {counts.get('agrees', 0)} came out so, "
            f"{counts.get('does not agree', 0)} did not, and {counts.get('unclear', 0)} are unclear."
        )
        everyone = summary[(summary["method"] == row["method"]) & (summary["cases"] == scores.CASES[0])].iloc[0]
        answer = (
            f"{'Yes' if row['met'] else 'No'}, in {WHO[row['cases']]} (n = {row['n']:.0f}): "
            f"{kind_name(row['method'], row['layer'])} meets the affected hippocampus {row['over_chance']:.1f} times "
            f"as often as chance (goal: {scores.OVER_CHANCE:g}) and is greater on its side in "
            f"{row['affected_side']:.2f} of them (goal: {scores.AFFECTED_SIDE:g}); in all patients "
            f"(n = {everyone['n']:.0f}) this is {everyone['over_chance']:.1f} times and "
            f"{everyone['affected_side']:.2f}."
        )
    texts = {"goal": answer, "sanity": sanity, "expected": came, "hits": hits, "side": side}
    return {f"saliency-{name}": text for name, text in texts.items()}


def volume_text(places):
    """Where networks trained on the left hippocampal volume look (`volume_truth.places`), in a sentence."""
    own = places[places["method"] == "smoothgrad"]
    row = scores.summarise(own, ["method"], ["over_grey"]).iloc[0]
    r = scores.correlation(own, "volume", "predicted")["value"]
    return minus(
        f"Networks that learn the left hippocampal volume (r = {r:.2f} out of fold) put {_interval(row, 'over_grey')} "
        "times as much of their map there as lies there of the grey matter."
    )
