"""Pictures of brains with L and R marked: slices, importance maps, contact sheets, the viewer (matplotlib, nilearn)."""

import warnings

import nibabel as nib
import numpy as np
from matplotlib import pyplot as plt
from nilearn import plotting

from tle_utils.figures.numbers import NAMES
from tle_utils.imaging import atlas

WIDTH = 7.3  # inches of a page's column
DPI = 144


def panels(rows, columns):
    """A figure of square panels that keeps its letters legible in a page's column.

    Parameters
    ----------
    rows, columns : int
        Panels.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : numpy.ndarray
        Shape (rows, columns), of `matplotlib.axes.Axes`.
    """
    side = min(2.4, WIDTH / columns)
    size = side * columns, (side + 0.25) * rows + 1
    return plt.subplots(rows, columns, figsize=size, dpi=DPI, layout="constrained", squeeze=False)


def at_mm(y_mm):
    """Place of a coronal slice in words, like ``y = −24 mm``."""
    return f"y = {y_mm} mm".replace("-", "−")


def group_slices(stack, groups, y_mm):
    """Mean coronal slice of every group and each patient group's difference from the controls (Figure 1), on one scale.

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
    matplotlib.figure.Figure
    """
    groups = np.asarray(groups)
    present = [name for name in NAMES if (groups == name).any()]
    means = {name: stack[groups == name].mean(axis=0) for name in present}
    sick = [name for name in present if name != "control" and "control" in means]
    differences = {name: means[name] - means["control"] for name in sick}
    most = max((np.abs(image).max() for image in differences.values()), default=0)
    figure, axes = panels(1 + bool(sick), len(present))
    for column, name in zip(axes.T, present, strict=True):
        shown = column[0].imshow(means[name], cmap="gray", vmin=0, vmax=1)
        column[0].set_title(f"{NAMES[name]} (n = {(groups == name).sum()})", fontsize=10)
        mark_sides(column[0])
        if name in differences:
            changed = column[1].imshow(differences[name], cmap="RdBu_r", vmin=-most, vmax=most)
            column[1].set_title(f"{NAMES[name]} − controls", fontsize=10)
            mark_sides(column[1])
        elif sick:
            column[1].set_axis_off()
    figure.colorbar(shown, ax=axes[0], label="Grey matter", shrink=0.8)
    if sick:
        figure.colorbar(changed, ax=axes[1], label="Difference in grey matter", shrink=0.8)
    figure.suptitle(at_mm(y_mm), fontsize=11)
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
    figure, axes = panels(rows, columns)
    for axis in axes.flat[len(maps) :]:
        axis.remove()
    for axis, (layer, image) in zip(axes.flat, maps.items(), strict=False):
        axis.imshow(background, cmap="gray")
        image = image / max(image.max(), np.finfo(np.float32).tiny)
        shown = axis.imshow(image, cmap="inferno", alpha=np.clip(image * 1.2, 0, 0.85), vmin=0, vmax=1)
        mark_sides(axis)
        axis.set_title(layer, fontsize=11)
    used = list(axes.flat[: len(maps)])
    label = "Importance (share of the panel's maximum)"
    figure.colorbar(shown, ax=used, label=label, location="bottom", shrink=0.6, aspect=40)
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
            black_bg=True,
            title=title,
            resampling_interpolation="nearest",
        )


def contact_sheet(pairs, *, y_mm=-24, columns=None):
    """Grey-matter contours over each participant's registered T1w, one coronal panel a participant.

    Parameters
    ----------
    pairs : sequence of tuple
        ``(label, t1w, grey matter)``; paths of images on the template grid.
    y_mm : int
        Cut in mm.
    columns : int, optional
        Panels a row; by default few for a small cohort, and more for one that would make a page too long.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = columns or (4 if len(pairs) <= 24 else 8)
    figure, axes = panels(-(-len(pairs) // columns), columns)
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
