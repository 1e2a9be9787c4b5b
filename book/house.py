"""The picture of the house and the table of its rooms, drawn from the code: ``python book/house.py``.

Writes ``book/_static/house.svg`` and the table in CONTRIBUTING.md. Doors and floors are those of the contract in
pyproject.toml; what stands in a box or a row is the first line of the docstring.
"""

import ast
import re
import textwrap
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE, GUIDE = ROOT / "book" / "_static" / "house.svg", ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- rooms: python book/house.py -->\n", "<!-- end of rooms -->\n"
# The way of the data: what comes in, and the doors that it goes through.
WAY = [
    ("data_manifest.yaml", ["cohorts"]),
    ("participants, scans", ["imaging", "phantom"]),
    ("maps, slices, regions", ["models"]),
    ("predictions.tsv", ["evaluation", "saliency"]),
    ("measures, importance", ["figures"]),
    ("figures, tables", ["book", "patient"]),
]
ROW = 3  # steps of the way per row of the picture
BOX, GAP, LINE = 168, 34, 15  # width of a box, room for an arrow, height of a line of text


def says(path):
    """First line of a file's docstring (str), a line that goes on included."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def floors():
    """Doors from the roof down: a list of lists of names, those of one floor together."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(one["layers"] for one in contracts["contracts"] if one["type"] == "layers")
    return [[name.strip() for name in layer.split("|")] for layer in layers]


def table():
    """Markdown table of every file behind every door, in the order of the floors."""
    rows = ["| door | file | owns |", "|---|---|---|"]
    for door in (name for floor in floors() for name in floor):
        folder = ROOT / "tle_utils" / door
        paths = sorted(folder.glob("[!_]*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
        for path in paths:
            head = f"**`{door}`**" if path == paths[0] else ""
            rows.append(f"| {head} | `{path.stem}` | {says(path).replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def _words(x, y, lines, looks=""):
    spans = (f'<tspan x="{x}" dy="{LINE if number else 0}">{escape(line)}</tspan>' for number, line in enumerate(lines))
    return f'<text x="{x}" y="{y}" {looks}>{"".join(spans)}</text>'


def _box(x, y, height, name, text):
    frame = f'<rect class="box" x="{x}" y="{y}" width="{BOX}" height="{height}" rx="7"/>'
    lines = textwrap.wrap(re.split(r"[.;]", text)[0], 24)
    return frame + _words(x + 9, y + 20, [name], 'class="name"') + _words(x + 9, y + 38, lines)


def picture():
    """The way of the data through the doors, as SVG that reads on light and dark pages."""
    doors = {name: says(ROOT / "tle_utils" / name / "__init__.py") for _, names in WAY for name in names}
    lines = max(len(textwrap.wrap(re.split(r"[.;]", text)[0], 24)) for text in doors.values())
    height = 48 + LINE * lines
    story = 2 * height + 82  # room for a row of doors
    width, whole = ROW * (BOX + GAP) + 10, len(WAY) // ROW * story + 96
    parts = []
    for number, (thing, names) in enumerate(WAY):
        x, top = 5 + GAP + number % ROW * (BOX + GAP), number // ROW * story
        middle = top + 40 + height + 7
        parts.append(_words(x - GAP, top + 24, [thing], 'class="thing"'))
        parts.append(f'<path class="arrow" d="M{x - GAP + 3} {top + 32} V{middle} H{x - 5}" marker-end="url(#tip)"/>')
        for row, name in enumerate(names):
            y = top + 40 + (row * (height + 14) if len(names) > 1 else (height + 14) / 2)
            parts.append(_box(x, y, height, name, doors[name]))
    base = textwrap.wrap(re.split(r"[;]", says(ROOT / "tle_utils" / "base" / "__init__.py"))[0], 90)
    y = len(WAY) // ROW * story + 4
    parts.append(f'<rect class="box" x="{5 + GAP}" y="{y}" width="{width - GAP - 15}" height="82" rx="7"/>')
    parts.append(_words(5 + GAP + 9, y + 20, ["base"], 'class="name"') + _words(5 + GAP + 9, y + 38, base))
    style = (
        "text{font:12px system-ui,sans-serif;fill:#1b1b1b}.name{font:700 14px system-ui,sans-serif}"
        ".thing{font:italic 12px system-ui,sans-serif}.box{fill:#eef2f7;stroke:#5b6b7f}"
        ".arrow{fill:none;stroke:#b35a00;stroke-width:2}.tip{fill:#b35a00}.page{fill:#fff}"
    )
    tip = '<marker id="tip" markerWidth="8" markerHeight="8" refX="6" refY="4" orient="auto"><path class="tip" '
    tip += 'd="M0 0 L8 4 L0 8 Z"/></marker>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}" role="img" '
        f'aria-label="The way of the data through the doors of tle_utils: {escape(", ".join(doors))}, over base">'
        f'<style>{style}</style><defs>{tip}</defs><rect class="page" width="{width}" height="{whole}" rx="9"/>'
        f"{''.join(parts)}</svg>\n"
    )


def guide():
    """CONTRIBUTING.md with the table as it should be."""
    text = GUIDE.read_text(encoding="utf-8")
    return text[: text.index(BEGIN) + len(BEGIN)] + table() + text[text.index(END) :]


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    GUIDE.write_text(guide(), encoding="utf-8")
