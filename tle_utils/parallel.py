"""Run a function over subjects or folds, side by side, with progress."""

import sys
import time
import warnings

from joblib import Parallel, delayed


def _clock(seconds):
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """Print how far a long loop is, its rate and when it ends.

    A terminal gets one line that is rewritten; a notebook or a log gets at most about ten plain lines.

    Parameters
    ----------
    total : int
        Number of steps.
    label : str
        What is being done, for example ``"folds"``.
    """

    def __init__(self, total, label):
        self.total, self.label = total, label
        self.done, self.start, self.last = 0, time.monotonic(), 0.0
        self.terminal = sys.stdout.isatty()

    def step(self):
        """Count one step as done and print when it is time."""
        self.done += 1
        now = time.monotonic()
        tenth = max(1, self.total // 10)
        due = self.done == self.total or (
            now - self.last > 0.2 if self.terminal else self.done % tenth == 0 or now - self.last > 120
        )
        if not due:
            return
        self.last = now
        spent = max(now - self.start, 1e-6)
        rate = self.done / spent
        rate_text = f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
        end = time.strftime("%H:%M:%S", time.localtime(time.time() + (self.total - self.done) / rate))
        left = f"ends {end}" if self.done < self.total else f"took {_clock(spent)}"
        text = f"{self.label}: {self.done}/{self.total}, {rate_text}, {left}"
        if self.terminal:
            print(f"\r\x1b[K{text}", end="\n" if self.done == self.total else "", flush=True)
        else:
            print(text, flush=True)


def run_parallel(function, items, *, label, workers=1):
    """Call a function on every item in worker processes and return the results in order.

    Parameters
    ----------
    function : callable
        Takes one item; it and its result must be picklable.
    items : sequence
        One entry a subject or a fold.
    label : str
        Shown in the progress lines.
    workers : int
        Processes side by side. The result does not depend on it.

    Returns
    -------
    list
        ``[function(item) for item in items]``.
    """
    items = list(items)
    progress = Progress(len(items), label)
    results = []
    pool = Parallel(n_jobs=workers, backend="loky" if workers > 1 else "sequential", return_as="generator")
    with warnings.catch_warnings():
        # joblib renews a worker that has grown; nothing is lost by it.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
        for result in pool(delayed(function)(item) for item in items):
            results.append(result)
            progress.step()
    return results
