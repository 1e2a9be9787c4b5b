"""Measured values against their targets, a line each: ``python -m benchmarks preprocessing``."""

import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tle_utils.base.errors import TLEError


class Target(NamedTuple):
    """What a value should be: the quantity, its range (infinite where it is open), and the unit of both."""

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
    """One measurement of a benchmark: its name, the data, a target for each value that `measure` returns.

    `measure` takes nothing, and raises a TLEError where the data or a package are missing.
    """

    name: str
    on: str
    targets: tuple
    measure: Callable


def require(package, install, option, python):
    """TLEError with the remedy (what to install, and the `option` to give) where an interpreter has no package."""
    try:
        found = subprocess.run([python, "-c", f"import {package}"], capture_output=True).returncode == 0
    except OSError:
        found = False
    if not found:
        remedy = f"pip install {install} into an environment of its own and give its python with {option}"
        raise TLEError(f"{package} is not there: {remedy}")


def run_script(name, python, *arguments, env=None):
    """Run a script of this folder in an interpreter of its own (`env`: its environment); returns its stdout (str)."""
    command = [python, os.fspath(Path(__file__).with_name(name)), *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TLEError(f"{name} failed ({last}): try it with {python}")
    return done.stdout


def _line(cells):
    widths = (12, 62, 28, 10, 12)
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=False)) + f"  {cells[-1]}"


def run_benchmark(rows, only=()):
    """Measure rows (sequence of Row) and print a line for each value: row, quantity, data, value, target, met or not.

    `only` (sequence of str) names the rows to measure, by default all; `TLEError` where a name is not a row's. What the
    measured code prints goes to stderr. Returns the exit status (int): 1 where a value misses its target, else 0.
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
