"""Figures and tables of the planted batch: how often left is found, and how often others are called left."""

import plotly.graph_objects as go

from tle_utils.evaluation.batches import CALLS
from tle_utils.figures.numbers import COLOURS, wrapped

MARKS = {
    "left found": (COLOURS["left"], "circle"),
    "left called right": (COLOURS["left"], "circle-open"),
    "control called left": (COLOURS["control"], "diamond"),
    "right called left": (COLOURS["right"], "square"),
}


def signature_figure(found):
    """Shares of `signature` with their 95 % intervals, a row a table.

    Parameters
    ----------
    found : pandas.DataFrame
        From `signature`.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    tables = list(found["table"].unique())
    place = {name: number for number, name in enumerate(reversed(tables))}
    figure = go.Figure()
    for number, (what, (colour, symbol)) in enumerate(MARKS.items()):
        rows = found[found["what"] == what]
        figure.add_scatter(
            x=rows["share"],
            y=rows["table"].map(place) + 0.24 - 0.16 * number,
            mode="markers",
            name=what,
            marker={"size": 10, "color": colour, "symbol": symbol, "line": {"width": 2, "color": colour}},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": rows["ci_high"] - rows["share"],
                "arrayminus": rows["share"] - rows["ci_low"],
                "thickness": 1,
                "width": 3,
            },
            customdata=rows[["table", "count", "n"]],
            hovertemplate="%{customdata[0]}: %{customdata[1]} of %{customdata[2]}<extra></extra>",
        )
    figure.update_xaxes(title_text="Share of the true class (95 % interval)", range=[-0.02, 1.02])
    figure.update_yaxes(
        automargin=True, tickvals=list(place.values()), ticktext=wrapped(place), range=[-0.6, len(place) - 0.4]
    )
    return figure.update_layout(height=170 + 62 * len(tables))


def readable_signature(found):
    """The table of `signature` as text: a row a table, cells like ``99/170, 0.58 [0.51, 0.65]``."""
    columns = (found[name] for name in ("count", "n", "share", "ci_low", "ci_high"))
    cells = [
        f"{count}/{n}, {share:.2f} [{low:.2f}, {high:.2f}]" for count, n, share, low, high in zip(*columns, strict=True)
    ]
    wide = found.assign(cell=cells).pivot(index="table", columns="what", values="cell")
    return wide.loc[found["table"].unique(), list(CALLS)].rename_axis(index=None, columns=None)
