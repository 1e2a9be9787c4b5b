"""Picture of a patient's card: both hippocampi close up, each with its volume beside those of healthy people."""

import numpy as np
from matplotlib import pyplot as plt

from tle_utils.base.text import minus
from tle_utils.figures import brains
from tle_utils.figures.numbers import COLOURS, GREY
from tle_utils.imaging import atlas, images, slices

CLOSE = slice(75, 128), slice(28, 133)  # rows and columns of a slice: z from 12 to −40 mm, x from −52 to 52 mm


def hippocampi(path, rows, y_mm):
    """Grey matter of a person around both hippocampi, and below each its volume beside 95 % of healthy people.

    The map lies on the template grid: outlines are the atlas's, and lost grey matter makes a hippocampus darker, not
    smaller.

    Parameters
    ----------
    path : path-like
        The map.
    rows : pandas.DataFrame
        From `norms.hippocampus_rows`: ``value``, ``low`` and ``high`` in ml and ``z``, NaN without a norm.
    y_mm : int
        MNI y coordinate of the coronal slice in mm.
    """
    looks = {"figsize": (brains.WIDTH, 5.2), "dpi": brains.DPI, "layout": "constrained"}
    figure = plt.figure(FigureClass=brains.Picture, **looks)
    axes = figure.subplot_mosaic([["close", "close"], list(atlas.SIDES)], height_ratios=(5, 1))
    close = axes.pop("close")
    image = np.asarray(images.template_map(path).dataobj, np.float32)
    close.imshow(slices.slices_of(image, [y_mm])[(*CLOSE, 0)], cmap="gray", vmin=0, vmax=1)
    for side, axis in axes.items():
        row, colour = rows.loc[side], COLOURS[side]
        outline = slices.slices_of(atlas.region_mask("hippocampus", side), [y_mm])[(*CLOSE, 0)]
        close.contour(outline, levels=[0.5], colors=colour, linewidths=1.5)
        axis.sharex(axes["left"])
        axis.axvspan(row["low"], row["high"], color=GREY, alpha=0.3, linewidth=0)
        axis.plot(row["value"], 0, "o", color=colour, markersize=11)
        z = minus(f", z = {row['z']:+.1f}") if np.isfinite(row["z"]) else ""
        axis.set_title(f"{side.capitalize()} hippocampus: {row['value']:.2f} ml{z}", fontsize=11)
        axis.set(yticks=[], xlabel="ml; grey: 95 % of healthy people")
    brains.mark_sides(close)
    brains.say_sides(close)
    close.set_title(f"Grey matter, {brains.at_mm(y_mm)}; outlines: hippocampi of the atlas", fontsize=10)
    plt.close(figure)
    return figure
