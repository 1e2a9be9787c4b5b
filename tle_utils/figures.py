"""Every figure of the book: plotly for numbers, nilearn for brains."""

import warnings

import nibabel as nib
import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from matplotlib import pyplot as plt
from nilearn import plotting
from plotly.subplots import make_subplots

from tle_utils import atlas

# Okabe and Ito's palette: told apart with every common colour vision.
COLOURS = {"control": "#0072B2", "left": "#D55E00", "right": "#009E73"}
SPLIT_COLOURS = {"training": "#0072B2", "validation": "#E69F00", "test": "#CC79A7"}
NAMES = {"control": "Control", "left": "Left TLE", "right": "Right TLE"}

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
        From `evaluation.fold_metrics`: ``fold``, ``metric``, ``value``.
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


def model_intervals(results, value="accuracy", *, chance=None, label=None):
    """A point and its 95 % interval for every model of a results table.

    Parameters
    ----------
    results : pandas.DataFrame
        From `evaluation.results_table`.
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
            error_x={
                "type": "data",
                "symmetric": False,
                "array": rows[f"{value}_high"] - rows[value],
                "arrayminus": rows[value] - rows[f"{value}_low"],
            },
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        )
    )
    if chance is not None:
        figure.add_vline(x=chance, line={"dash": "dot", "color": "#7f7f7f"}, annotation_text="chance")
    figure.update_xaxes(title_text=label or value.replace("_", " "), range=[0, 1.02])
    figure.update_yaxes(automargin=True)
    return figure.update_layout(height=140 + 42 * len(rows))


def group_slices(stack, groups, y_mm):
    """Mean coronal slice of every group and each patient group's difference from the controls (Figure 1).

    Parameters
    ----------
    stack : numpy.ndarray
        Shape (n, 160, 160), in the layout of `slices.load_slices`.
    groups : sequence of str
        Class of each participant.
    y_mm : int
        MNI y coordinate of the slice in mm, for the title.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    groups = np.asarray(groups)
    present = [name for name in COLOURS if (groups == name).any()]
    means = {name: stack[groups == name].mean(axis=0) for name in present}
    panels = [(f"{NAMES[name]} (n = {(groups == name).sum()})", means[name], "gray", (0, 1)) for name in present]
    panels += [
        (f"{NAMES[name]} − controls", means[name] - means["control"], "RdBu_r", None)
        for name in present
        if name != "control" and "control" in means
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(2.3 * len(panels), 2.8), layout="constrained")
    for axis, (title, image, colours, limits) in zip(np.atleast_1d(axes), panels, strict=True):
        low, high = limits or (-np.abs(image).max(), np.abs(image).max())
        axis.imshow(image, cmap=colours, vmin=low, vmax=high)
        mark_sides(axis)
        axis.set_title(f"{title}\ny = {y_mm} mm", fontsize=10)
    plt.close(figure)
    return figure


def mark_sides(axis):
    """Write L and R on a coronal slice in the layout of `slices.load_slices` and take its ticks away."""
    size = axis.images[0].get_array().shape
    style = {
        "color": "white",
        "fontsize": 11,
        "fontweight": "bold",
        "va": "top",
        "bbox": {"color": "black", "pad": 1.5},
    }
    axis.text(4, 4, "L", ha="left", **style)
    axis.text(size[1] - 5, 4, "R", ha="right", **style)
    axis.set_axis_off()


def importance_rows(maps, background, title):
    """Importance maps of one network, one panel a convolution, over the mean grey-matter slice (Figure 5).

    Parameters
    ----------
    maps : dict of str to numpy.ndarray
        Layer name to map, shape (160, 160), not negative; each panel is scaled to its own maximum.
    background : numpy.ndarray
        Mean slice, shape (160, 160).
    title : str
        Figure title.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 3.5 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(maps) :]:
        axis.remove()
    for axis, (layer, image) in zip(axes.flat, maps.items(), strict=False):
        axis.imshow(background, cmap="gray")
        image = image / max(image.max(), np.finfo(np.float32).tiny)
        shown = axis.imshow(image, cmap="inferno", alpha=np.clip(image * 1.2, 0, 0.85), vmin=0, vmax=1)
        mark_sides(axis)
        axis.set_title(layer, fontsize=11)
    used = list(axes.flat[: len(maps)])
    figure.colorbar(shown, ax=used, label="Importance (share of the panel's maximum)", shrink=0.8)
    figure.suptitle(title, fontsize=12)
    plt.close(figure)
    return figure


def brain_viewer(image, *, cut_mm, title):
    """Interactive viewer of a map over the template; works without a network.

    Parameters
    ----------
    image : nibabel image
        In MNI space, values from 0.
    cut_mm : tuple of float
        x, y and z of the first view in mm.
    title : str
        Shown above the brain.

    Returns
    -------
    nilearn.plotting.html_stat_map.StatMapView
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*partition.*")
        return plotting.view_img(
            image,
            bg_img=atlas.template(),
            cut_coords=cut_mm,
            cmap="inferno",
            symmetric_cmap=False,
            threshold=1e-3,
            opacity=0.7,
            title=title,
            resampling_interpolation="nearest",
        )


def contact_sheet(pairs, *, y_mm=-24, columns=6):
    """Grey-matter contours over each participant's registered T1w, one coronal panel a participant.

    Parameters
    ----------
    pairs : sequence of tuple
        ``(label, t1w, grey matter)``; paths of images on the template grid.
    y_mm : int
        Cut in mm.
    columns : int
        Panels a row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = -(-len(pairs) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.1 * columns, 2.3 * rows), layout="constrained", squeeze=False)
    cut = y_mm - int(atlas.AFFINE[1, 3])
    for axis in axes.flat[len(pairs) :]:
        axis.remove()
    for axis, (label, t1w, grey) in zip(axes.flat, pairs, strict=False):
        planes = [np.asarray(nib.load(path).dataobj[:, cut, :], np.float32).T[::-1] for path in (t1w, grey)]
        axis.imshow(planes[0], cmap="gray")
        inside = planes[1][planes[1] > 0]
        if inside.size:
            axis.contour(planes[1], levels=[0.5 * np.percentile(inside, 95)], colors=["#E69F00"], linewidths=0.6)
        mark_sides(axis)
        axis.set_title(label, fontsize=8)
    plt.close(figure)
    return figure


def interval_text(metrics, metric):
    """A metric with its 95 % interval and n as text, for sentences.

    Parameters
    ----------
    metrics : pandas.DataFrame
        From `evaluation.binary_metrics` or `evaluation.multiclass_metrics`.
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
    """The outcome of `comparison.compare_models` as one sentence."""
    verdict = "a difference" if test["p_corrected"] < 0.05 else "no difference that stands out from chance"
    return (
        f"{test['model_a']} against {test['model_b']}: {test['metric'].replace('_', ' ')} "
        f"{100 * test['difference']:+.1f} points (corrected p = {test['p_corrected']:.2f}, n = {test['n']}), {verdict}."
    )


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
