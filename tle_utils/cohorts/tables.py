"""Read a table of participants as text, whatever made it."""

import csv
import io
import re
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd

from tle_utils.base.errors import TLEError

MISSING = "n/a"
_EMPTY = {"", "n/a", "na", "#n/a", "nan", "null"}
_SEPARATORS = "\t;,|"


def some(items, n=5):
    """First few of a list in words."""
    items = list(items)
    more = f" and {len(items) - n} more" if len(items) > n else ""
    return ", ".join(map(str, items[:n])) + more


def _decode(data, name, notes):
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise TLEError(f"{name}: broken UTF-16 text: save it again as UTF-8") from None
        row = data.count(b"\n", 0, error.start) + 1
        notes.append(f"{name}: row {row}: not UTF-8; read as Western European (Latin-1) text")
        text = data.decode("latin-1")
    if "\x00" in text:
        raise TLEError(f"{name}: not a text table: give a CSV, TSV or XLSX file")
    return text


def _text_rows(text, name, notes):
    """Yield (row number, cells) of separated text; a row with another separator than the header is named."""
    lines = list(io.StringIO(text, newline=""))
    header = next((line for line in lines if line.strip(" \r\n" + _SEPARATORS)), "")

    def split(line, separator):
        return next(csv.reader([line], delimiter=separator), [])

    separator = max(_SEPARATORS, key=lambda s: len(split(header, s)))
    reader, width, start = csv.reader(lines, delimiter=separator, strict=True), 0, 1
    try:
        for cells in reader:
            number, start = start, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            width = width or len(cells)
            while len(cells) > width and not cells[-1].strip():
                cells.pop()
            if len(cells) != width:
                line = lines[number - 1].strip("\r\n")
                others = [split(line, s) for s in _SEPARATORS if s != separator]
                others.append(re.split(f"[{_SEPARATORS}]", line))
                fitting = [other for other in others if len(other) == width]
                if not fitting:
                    found = f"{len(cells)} columns, the header has {width}"
                    raise TLEError(f"{name}: row {number} has {found}: mend the row")
                cells = fitting[0]
                notes.append(f"{name}: row {number}: its separator differs from the header's; read all the same")
            yield number, cells
    except csv.Error as error:
        raise TLEError(f"{name}: row {reader.line_num}: {error}: check its quotation marks") from None


def _cell(value):
    whole = isinstance(value, float) and value.is_integer()
    return "" if value is None else str(int(value) if whole else value)


def _sheet_rows(data, name, notes):
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), data_only=True)
        sheets = book.worksheets
        rows = [[_cell(value) for value in row] for row in sheets[0].iter_rows(values_only=True)]
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, IndexError, OSError, AttributeError, SyntaxError):
        raise TLEError(f"{name}: not a readable XLSX file: save the table again as XLSX, CSV or TSV") from None
    if len(sheets) > 1:
        notes.append(f"{name}: has {len(sheets)} sheets; the first, '{sheets[0].title}', is read")
    for number, cells in enumerate(rows, start=1):
        if any(cell.strip() for cell in cells):
            yield number, cells


def read_table(path, notes=None):
    """Read a table (CSV, TSV, XLSX) as text, whatever made it.

    Comma, semicolon, tab or bar as separator; UTF-8 with or without byte order mark, UTF-16 or Latin-1; blank lines;
    the first sheet of several.

    Returns
    -------
    pandas.DataFrame
        All cells as stripped text, missing ones as ``n/a``; the index is the row in the file, the header being row 1.

    Raises
    ------
    TLEError
        The file is missing, empty, not a table, or a row does not fit the header.
    """
    path, notes = Path(path), [] if notes is None else notes
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TLEError(f"{path.name}: cannot be read ({error.strerror}): check the path {path}") from None
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise TLEError(f"{path.name}: an old Excel file: save it as XLSX, CSV or TSV")
    if data.startswith(b"PK\x03\x04") or path.suffix.lower() == ".xlsx":
        rows = list(_sheet_rows(data, path.name, notes))
    else:
        rows = list(_text_rows(_decode(data, path.name, notes), path.name, notes))
    if len(rows) < 2:
        found = "has a header but no rows" if rows else "is empty"
        raise TLEError(f"{path.name}: {found}: give a table with participants")
    header = [cell.strip() for cell in rows[0][1]]
    width = max(len(header) if any(header) else 0, 1)
    twice = {column for column in header if column and header.count(column) > 1}
    if twice:
        raise TLEError(f"{path.name}: row {rows[0][0]}: column {some(sorted(twice))} stands twice: rename one")
    header = [column or f"column {i + 1}" for i, column in enumerate(header)]
    cells = [[MISSING if c.strip().lower() in _EMPTY else c.strip() for c in row[:width]] for _, row in rows[1:]]
    return pd.DataFrame(cells, columns=header, index=pd.Index([n for n, _ in rows[1:]], name="row"), dtype=str)
