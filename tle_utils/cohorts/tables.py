"""Read a table of participants as text, whatever made it."""

import csv
import io
import re
import unicodedata
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd

from tle_utils.base.errors import TLEError

MISSING = "n/a"
_EMPTY = {"", "n/a", "na", "#n/a", "nan", "null"}
_SEPARATORS = "\t;,|"
_POINTERS = {b"/annex/objects/": "git-annex", b"../.git/annex/": "git-annex", b"version https://git-lfs": "git-lfs"}


def some(items, n=5):
    """First few of a list in words."""
    items = list(items)
    more = f" and {len(items) - n} more" if len(items) > n else ""
    return ", ".join(map(str, items[:n])) + more


def pointer(path):
    """What is wrong with a small file that only says where the true one lies, with the remedy (str); "" otherwise."""
    with open(path, "rb") as file:
        head = file.read(64).lstrip(b"./")
    tool = next((tool for start, tool in _POINTERS.items() if head.startswith(start.lstrip(b"./"))), "")
    remedy = {"git-annex": f"datalad get {path.name}", "git-lfs": "git lfs pull"}.get(tool)
    return f"a {tool} pointer in place of the file: run {remedy}" if tool else ""


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
    """Yield (row number, cells) of separated text; tabs know no quotation marks, other separators do."""
    lines = list(io.StringIO(text, newline=""))
    said = re.match(rf"\s*\"?sep=([{_SEPARATORS}])\"?\s*$", lines[0], re.IGNORECASE) if lines else None
    skipped = 1 if said else 0
    header = next((line for line in lines[skipped:] if line.strip(" \r\n" + _SEPARATORS)), "")

    def read(some_lines, separator):
        quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
        return csv.reader(some_lines, delimiter=separator, quoting=quoting, strict=True)

    def width_of(separator):
        try:
            return len(next(read([header], separator), []))
        except csv.Error:
            return 0

    separator = said[1] if said else max(_SEPARATORS, key=width_of)
    reader, width, start = read(lines[skipped:], separator), 0, skipped + 1
    try:
        for cells in reader:
            number, start = start, skipped + reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            width = width or len(cells)
            if any(line.count(separator) >= width - 1 > 0 for line in lines[number : start - 1]):
                what = f"a quotation mark opens here and closes in row {start - 1}, over a line that looks like a row"
                raise TLEError(f"{name}: row {number}: {what}: check the quotation marks")
            while len(cells) > width and not cells[-1].strip():
                cells.pop()
            if len(cells) != width:
                line = lines[number - 1].strip("\r\n")
                others = [line.split(other) for other in _SEPARATORS if separator not in line and '"' not in line]
                fitting = [other for other in others if len(other) == width]
                if not fitting:
                    found = f"{len(cells)} columns, the header has {width}"
                    raise TLEError(f"{name}: row {number} has {found}: mend the row")
                cells = fitting[0]
                notes.append(f"{name}: row {number}: its separator differs from the header's; read all the same")
            yield number, cells
    except csv.Error as error:
        raise TLEError(f"{name}: row {start}: {error}: check the quotation marks of this row") from None


def _cell(cell, formula):
    """Text of a cell as a reader sees it: whole numbers without a point, with the zeros that its format asks for."""
    value, formula = cell.value, getattr(formula, "text", formula)
    if value is None and isinstance(formula, str) and formula.startswith("="):
        return formula
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    zeros = isinstance(value, int) and not isinstance(value, bool) and re.fullmatch("0+", cell.number_format or "")
    return "" if value is None else str(value).zfill(len(cell.number_format)) if zeros else str(value)


def _check_sheet(book, name, notes):
    """The sheet to read; one line where there are two, or cells are merged."""
    tables = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"] or book.worksheets
    tables = [sheet for sheet in tables if sheet.max_row > 1 and sheet.max_column > 1] or tables
    sheet = tables[0]
    for other in tables[1:]:
        titles = [{str(cell.value).strip() for cell in found[1]} for found in (sheet, other)]
        if titles[0] & titles[1] - {"None"}:
            both = f"the sheets '{sheet.title}' and '{other.title}' both have tables of the same columns"
            raise TLEError(f"{name}: {both}: keep one of them in the file")
    if len(book.worksheets) > 1:
        notes.append(f"{name}: has {len(book.worksheets)} sheets; '{sheet.title}' is read")
    if sheet.merged_cells.ranges:
        first = min(sheet.merged_cells.ranges, key=lambda cells: cells.min_row)
        raise TLEError(f"{name}: row {first.min_row}: the cells {first} are merged: split them and fill each")
    rows = [number for number, row in sheet.row_dimensions.items() if row.hidden]
    columns = [column for column, found in sheet.column_dimensions.items() if found.hidden]
    if rows or columns:
        notes.append(f"{name}: hidden rows and columns are read too: {some([*rows, *columns])}")
    return sheet


def _sheet_rows(data, name, notes):
    try:
        values, formulas = (openpyxl.load_workbook(io.BytesIO(data), data_only=only) for only in (True, False))
        sheet = _check_sheet(values, name, notes)
        pairs = zip(sheet.iter_rows(), formulas[sheet.title].iter_rows(values_only=True), strict=True)
        rows = [[_cell(*cells) for cells in zip(*pair, strict=True)] for pair in pairs]
    except TLEError:
        raise
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, IndexError, OSError, AttributeError, SyntaxError):
        raise TLEError(f"{name}: not a readable XLSX file: save the table again as XLSX, CSV or TSV") from None
    for number, cells in enumerate(rows, start=1):
        if any(cell.strip() for cell in cells):
            yield number, cells


def read_table(path, notes=None):
    """Read a table (CSV, TSV, XLSX) as text, whatever made it.

    Comma, semicolon, tab or bar as separator, or what a first line ``sep=;`` says; UTF-8 with or without byte order
    mark, UTF-16 or Latin-1; blank lines; the first of several sheets, if the others hold something else. Between tabs a
    quotation mark is a letter. A formula without a stored value is read as the text of the formula.

    Returns a pandas.DataFrame: all cells as stripped text, missing ones as ``n/a``; the index is the row in the file,
    the header being row 1. `TLEError`: the file is missing, empty, not a table, or a row does not fit the header.
    """
    path, notes = Path(path), [] if notes is None else notes
    try:
        if fault := pointer(path):
            raise TLEError(f"{path.name}: {fault}")
        data = path.read_bytes()
    except OSError as error:
        if path.is_symlink() and not path.exists():
            raise TLEError(f"{path.name}: a link to a file that is not there: run datalad get {path.name}") from None
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
    header = [unicodedata.normalize("NFC", cell.strip()) for cell in rows[0][1]]
    width = max(len(header) if any(header) else 0, 1)
    twice = {column for column in header if column and header.count(column) > 1}
    if twice:
        raise TLEError(f"{path.name}: row {rows[0][0]}: column {some(sorted(twice))} stands twice: rename one")
    header = [column or f"column {i + 1}" for i, column in enumerate(header)]
    cells = [[MISSING if c.strip().lower() in _EMPTY else c.strip() for c in row[:width]] for _, row in rows[1:]]
    return pd.DataFrame(cells, columns=header, index=pd.Index([n for n, _ in rows[1:]], name="row"), dtype=str)
