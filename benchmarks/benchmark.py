"""Measured values against their targets, a line each: ``python -m benchmarks preprocessing``."""

import contextlib
import math
import sys
from collections.abc import Callable
from typing import NamedTuple

from tle_utils.base.errors import TLEError


class Target(NamedTuple):
    """What a value should be.

    Attributes
    ----------
    what : str
        The quantity.
    low, high : float
        Range it should lie in; infinite where it is open.
    unit : str
        Of the value and the range.
    """

    what: str
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""

    def met(self, value):
        """Whether a value is in the range (bool)."""
        return bool(self.low <= value <= self.high)

    def __str__(self):
        """The range in words, for example ``≤ 45 s``."""
        if math.isinf(self.low):
            text = f"≤ {self.high:g}"
        elif math.isinf(self.high):
            text = f"≥ {self.low:g}"
        else:
            text = f"{self.low:g} to {self.high:g}"
        return f"{text} {self.unit}".rstrip()


class Row(NamedTuple):
    """One measurement of a benchmark.

    Attributes
    ----------
    name : str
        To ask for this row alone.
    on : str
        The data.
    targets : tuple of Target
        One for each value that `measure` returns.
    measure : callable
        Takes nothing, returns the values; raises a TLEError where the data or a package are missing.
    """

    name: str
    on: str
    targets: tuple
    measure: Callable


def _line(cells):
    widths = (12, 62, 28, 10, 12)
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=False)) + f"  {cells[-1]}"


def run_benchmark(rows, only=()):
    """Measure rows and print a line for each value: row, quantity, data, value, target, met or not.

    What the measured code prints goes to stderr.

    Parameters
    ----------
    rows : sequence of Row
        All rows of the benchmark.
    only : sequence of str
        Names of the rows to measure; empty: all.

    Returns
    -------
    int
        Exit status: 1 when a measured value misses its target, else 0.

    Raises
    ------
    TLEError
        A name in `only` is not a row's.
    """
    known = [row.name for row in rows]
    for name in only:
        if name not in known:
            raise TLEError(f"--only {name}: no such row; known: {', '.join(known)}")
    missed = 0
    print(_line(["row", "what", "on", "value", "target", "met"]), flush=True)
    for row in rows:
        if only and row.name not in only:
            continue
        try:
            with contextlib.redirect_stdout(sys.stderr):
                values = row.measure()
        except TLEError as error:
            for target in row.targets:
                print(_line([row.name, target.what, row.on, "-", str(target), f"not measured: {error}"]), flush=True)
            continue
        for target, value in zip(row.targets, values, strict=True):
            met = target.met(value)
            missed += not met
            text = f"{value:.3g} {target.unit}"
            print(_line([row.name, target.what, row.on, text, str(target), "yes" if met else "NO"]), flush=True)
    return int(missed > 0)
