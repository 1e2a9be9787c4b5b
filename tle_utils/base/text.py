"""Text for readers: times, amounts, tables in Markdown."""

import datetime
import re

HYPHEN = re.compile(r"(?:(?<=[\s(\[±–=])|^)-(?=\d)")


def minus(text):
    """A text in which negative numbers have a minus sign and no hyphen (str)."""
    return HYPHEN.sub("−", text)


def clock(seconds):
    """Seconds as ``h:mm:ss`` (str); a dash where they are not known (None)."""
    return "–" if seconds is None else str(datetime.timedelta(seconds=round(seconds)))


def amount(number, unit="B"):
    """A number of bytes, or of another unit, in three digits or so (str), for example ``12.3 MB``."""
    for factor, prefix, digits in ((1e9, "G", 2), (1e6, "M", 1)):
        if number >= factor:
            return f"{number / factor:.{digits}f} {prefix}{unit}"
    return f"{number / 1e3:.1f} k{unit}"


def literal(value):
    """Anything as Markdown that shows it letter by letter, as code (str); nothing for None."""
    fence = "`" * (1 + max(map(len, re.findall("`+", str(value))), default=0))
    return "" if value is None else f"{fence} {value} {fence}"


def markdown_table(header, rows):
    """Table in Markdown (str) from the names of its columns and an iterable of rows.

    Cells are Markdown or anything with a text; see `literal` for what is not to be read as Markdown. Line ends and
    column marks inside a cell do no harm.
    """

    def line(cells):
        return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(header), line(["---"] * len(header)), *map(line, rows)])
