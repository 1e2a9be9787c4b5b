"""Pictures of brains with L and R marked: slices, importance maps, contact sheets, the viewer (matplotlib, nilearn)."""

import warnings

import nibabel as nib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from nilearn import plotting

from tle_utils.base.text import minus
from tle_utils.figures.numbers import COLOURS, LINES, NAMES
from tle_utils.imaging import atlas, images, slices

WIDTH = 7.3  # inches of a page's column
DPI = 144
Y_MM = -24
CONVENTION = "Neurological convention: L is the participant's left"


class Picture(Figure):
    """A figure that says in words what it shows, its titles and labels; pages read them out."""

    def __repr__(self):
        found = [
            self.get_suptitle(),
            *(getattr(axis, f"get_{name}")() for axis in self.axes for name in ("title", "xlabel", "ylabel")),
        ]
        return "; ".join(dict.fromkeys(" ".join(text.split()) for text in [*found, CONVENTION] if text))


def panels(rows, columns, used=None):
    """A figure of square panels that keeps its letters legible in a page's column, and its axes, (rows, columns).

    Of the panels only the first `used` are kept; below them stands which side is left.
    """
    side = min(2.4, WIDTH / columns)
    size = side * columns, (side + 0.25) * rows + 1
    looks = {"figsize": size, "dpi": DPI, "layout": "compressed", "FigureClass": Picture}
    figure, axes = plt.subplots(rows, columns, squeeze=False, **looks)
    figure.supxlabel(CONVENTION, x=0.01, ha="left", fontsize=8)
    for axis in axes.flat[used or axes.size :]:
        axis.remove()
    return figure, axes


def say_sides(axis):
    """Write below a picture which side is left."""
    place = {"xytext": (0, -5), "xycoords": "axes fraction", "textcoords": "offset points"}
    axis.annotate(CONVENTION, (0, 0), **place, va="top", fontsize=8)


def at_mm(y_mm):
    """Place of a coronal slice in words, like ``y = −24 mm``."""
    return minus(f"y = {y_mm} mm")


def mark_sides(axis):
    """Write L and R on a coronal slice in the layout of `slices.load_slices` and take its ticks away."""
    style = {"color": "white", "fontsize": 11, "fontweight": "bold", "va": "top"}
    for x, side, place in ((4, "L", "left"), (axis.images[0].get_array().shape[1] - 5, "R", "right")):
        axis.text(x, 4, side, ha=place, bbox={"color": "black", "pad": 1.5}, **style)
    axis.set_axis_off()


def _over_changes(found, y_mm, label):
    """Slices by title, below each what differs in it (None: nothing), every row on one scale."""
    changes = [change for _, change in found.values() if change is not None]
    most = max((np.abs(change).max() for change in changes), default=0)
    figure, axes = panels(2 if changes else 1, len(found))
    for column, (title, (image, change)) in zip(axes.T, found.items(), strict=True):
        shown = column[0].imshow(image, cmap="gray", vmin=0, vmax=1)
        column[0].set_title(title, fontsize=10)
        mark_sides(column[0])
        if change is not None:
            changed = column[1].imshow(change, cmap="RdBu_r", vmin=-most, vmax=most)
            mark_sides(column[1])
        elif changes:
            column[1].set_axis_off()
    figure.colorbar(shown, ax=axes[0], label="Grey matter", shrink=0.8)
    if changes:
        figure.colorbar(changed, ax=axes[1], label=label, shrink=0.8)
    figure.suptitle(at_mm(y_mm), fontsize=11)
    plt.close(figure)
    return figure


def group_slices(stack, groups, y_mm):
    """Mean coronal slice of every class, below it the difference of patients from controls (Figure 1), on one scale.

    `stack` has the shape (n, 160, 160), in the layout of `slices.load_slices`; `groups` are the participants' classes.
    """
    groups, found = np.asarray(groups), {}
    controls = stack[groups == "control"]
    for name in [name for name in NAMES if (groups == name).any()]:
        mean = stack[groups == name].mean(axis=0)
        change = mean - controls.mean(axis=0) if name != "control" and len(controls) else None
        found[f"{NAMES[name]} (n = {(groups == name).sum()})"] = mean, change
    return _over_changes(found, y_mm, "Difference from the controls")


def phantom_examples(found, y_mm):
    """A control and sclerotic patients (`phantom_targets.example_slices`), below each what the disease changed."""
    sclerosis = {group: "" if change is None else " with sclerosis" for group, (_, change) in found.items()}
    titled = {NAMES[group] + sclerosis[group]: pictures for group, pictures in found.items()}
    return _over_changes(titled, y_mm, "Change by the disease")


def importance_rows(maps, background, title):
    """Importance maps of one network over the mean grey-matter slice, one panel per convolution (Figure 5).

    `maps` is a dict of layer name to map, shape (160, 160), not negative; each panel is scaled to its own maximum.
    `background` is the mean slice, shape (160, 160).
    """
    columns = min(3, len(maps))
    figure, axes = panels(-(-len(maps) // columns), columns, len(maps))
    for axis, (layer, image) in zip(axes.flat, maps.items(), strict=False):
        axis.imshow(background, cmap="gray")
        image = image / max(image.max(), np.finfo(np.float32).tiny)
        shown = axis.imshow(image, cmap="inferno", alpha=np.clip(image * 1.2, 0, 0.85), vmin=0, vmax=1)
        mark_sides(axis)
        axis.set_title(layer, fontsize=11)
    bar = {"label": "Importance (share of the panel's maximum)", "location": "bottom", "shrink": 0.6, "aspect": 40}
    figure.colorbar(shown, ax=list(axes.flat[: len(maps)]), **bar)
    figure.suptitle(title, fontsize=12)
    plt.close(figure)
    return figure


def brain_viewer(image, *, cut_mm, title):
    """Interactive viewer of a map over the template; works without a network (nilearn's StatMapView).

    `image` is a nibabel image in MNI space with values from 0, `cut_mm` the x, y and z of the first view in mm.
    """
    looks = {"cmap": "inferno", "symmetric_cmap": False, "threshold": 1e-3, "opacity": 0.7, "black_bg": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*partition.*")
        looks |= {"bg_img": atlas.template(), "resampling_interpolation": "nearest"}
        return plotting.view_img(image, cut_coords=cut_mm, title=title, **looks)


def _planes(paths):
    """Whole coronal planes of images on the template grid at `Y_MM`, seen from behind."""
    cut = Y_MM - int(atlas.AFFINE[1, 3])
    return [np.asarray(images.template_map(path).dataobj[:, cut], np.float32).T[::-1] for path in paths]


def _outline(axis, t1w, grey):
    """On a plane of a registered T1w the outline of the brain in blue, that of its grey matter in orange."""
    for plane, colour in ((1.0 * (t1w > 0), LINES[5]), (grey, LINES[1])):
        if plane.any():  # a map without grey matter is shown too
            level = 0.5 * np.percentile(plane[plane > 0], 95)
            axis.contour(plane, levels=[level], colors=[colour], linewidths=0.6)


def contact_sheet(pairs):
    """Outlines of brain and grey matter on each participant's registered T1w at y = −24 mm, one panel per participant.

    `pairs` are ``(label, t1w, grey matter)``: paths of images on the template grid. Panels are few in a row for a small
    cohort, and more for one that would make a page too long.
    """
    columns = min(len(pairs), 4 if len(pairs) <= 24 else 8)
    figure, axes = panels(-(-len(pairs) // columns), columns, len(pairs))
    for axis, (label, *paths) in zip(axes.flat, pairs, strict=False):
        planes = _planes(paths)
        axis.imshow(planes[0], cmap="gray")
        _outline(axis, *planes)
        mark_sides(axis)
        axis.set_title(label, fontsize=8)
    plt.close(figure)
    return figure


def way_of_a_scan(scan, t1w, grey, people, answer):
    """From a scan to an answer in six coronal pictures: scan, outlines, map, slices, folds, answer.

    Parameters
    ----------
    scan, t1w, grey : path-like
        The scan as it came; its registered T1w and its grey-matter map on the template grid.
    people : numpy.ndarray
        A slice of each of nine participants, shape (9, 160, 160); three of them are framed as tested.
    answer : str
        What the last picture says, a close-up of the two hippocampi.
    """
    native = nib.as_closest_canonical(nib.load(scan))
    cut = round(np.linalg.solve(native.affine, (0, Y_MM, 0, 1))[1])
    (brain, tissue), step = _planes((t1w, grey)), 18
    deck, close = np.zeros((160 + 4 * step,) * 2), np.s_[75:165, 53:143]
    for place, plane in enumerate(np.moveaxis(slices.load_slices([grey], slices.PUBLISHED_Y_MM)[0], -1, 0)):
        deck[place * step :, (4 - place) * step :][:160, :160] = plane
    pictures = {
        "1  Scan": np.asarray(native.dataobj[:, cut], np.float32).T[::-1],
        "2  Brain and grey matter": brain,
        "3  Grey-matter map": tissue,
        "4  Slices": deck,
        "5  Folds (framed: tested)": np.block([[*people[row : row + 3]] for row in (0, 3, 6)]),
        f"6  Answer: {answer}": brain[close],
    }
    figure, axes = panels(2, 3)
    for axis, (title, picture) in zip(axes.flat, pictures.items(), strict=True):
        axis.imshow(picture, cmap="gray")
        axis.set_title(title, fontsize=10)
        mark_sides(axis)
    _outline(axes[0, 1], brain, tissue)
    for number in range(3):
        frame = {"fill": False, "edgecolor": LINES[1], "linewidth": 2}
        axes[1, 1].add_patch(plt.Rectangle((160 * number, 160 * number), 158, 158, **frame))
    for side in atlas.SIDES:
        inside = atlas.region_mask("hippocampus", side)[:, Y_MM - int(atlas.AFFINE[1, 3])].T[::-1]
        for axis, part in ((axes[0, 2], np.s_[:, :]), (axes[1, 2], close)):
            axis.contour(inside[part], levels=[0.5], colors=[COLOURS[side]], linewidths=0.9)
    plt.close(figure)
    return figure
