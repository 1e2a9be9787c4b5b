"""Run a function over participants or folds, side by side, with progress: on this machine or on a Dask cluster."""

import itertools
import os
import re
import sys
import time
import warnings

from joblib import Parallel, delayed

from tle_utils.base.errors import TLEError
from tle_utils.base.text import amount, clock

SCHEDULER = "TLE_SCHEDULER"
"""Environment variable with the address of a Dask scheduler; unset or empty: processes of this machine."""

PROGRESS = re.compile(r"^.+: .+/.+, .+, (?:ends|took) [\d:]+\n?", re.MULTILINE)
"""A line of `Progress`."""

WAIT_S = 60  # for the scheduler to answer and for its first worker


class Line:
    """One line about something long: rewritten in place in a terminal, printed anew in a notebook or a log."""

    def __init__(self, label):
        self.label, self.start, self.terminal = label, time.monotonic(), sys.stdout.isatty()

    def spent(self):
        """Time in s since the line was made (float)."""
        return time.monotonic() - self.start

    def show(self, text, last=False):
        """Print the text behind the label; in a terminal the next one takes its place unless it is the `last`."""
        text = f"{self.label}: {text}"
        if self.terminal:
            print(f"\r\x1b[K{text if last else text[:118]}", end="\n" if last else "", flush=True)
        else:
            print(text, flush=True)


class Progress(Line):
    """How far a long loop or a download is, its rate and when it ends; about ten plain lines outside a terminal.

    `total` are the steps, or the bytes of all files; `label` says what is done, for example ``"folds"``; `unit` is
    ``"B"`` for bytes. It can be the ``progressbar`` of ``pooch.HTTPDownloader`` for several files: pooch writes the
    size of a file to ``total``, counts its bytes, and at its end calls `reset`, `update` with all of them, `close`.
    """

    def __init__(self, total, label, unit=""):
        super().__init__(label)
        self.whole = self.total = total
        self.unit, self.done, self.closed, self.tenths, self.said = unit, 0, 0, 0, 0.0

    def update(self, n=1):
        """Count steps as done, and print when it is time."""
        self.done = min(self.done + n, self.whole)
        tenths, waited = self.done // max(1, self.whole // 10), self.spent() - self.said
        if self.done < self.whole and (waited > 0.2 if self.terminal else tenths > self.tenths or waited > 60):
            self.tenths, self.said = max(tenths, self.tenths), self.spent()
            end = time.time() + (self.whole - self.done) * self.spent() / max(self.done, 1)
            self.show(f"{self._so_far()}, ends {time.strftime('%H:%M:%S', time.localtime(end))}")

    def reset(self):
        """Forget what was counted since the last `close`."""
        self.done = self.closed

    def close(self):
        """End a part; the last one prints how long it all took."""
        self.closed = self.done
        if self.done == self.whole > 0:
            self.show(f"{self._so_far()}, took {clock(self.spent())}", last=True)

    def _so_far(self):
        rate = self.done / max(self.spent(), 1e-6)
        if self.unit:
            return f"{amount(self.done, self.unit)}/{amount(self.whole, self.unit)}, {amount(rate, self.unit)}/s"
        return f"{self.done}/{self.whole}, " + (f"{rate:.1f}/s" if rate >= 1 else f"{1 / max(rate, 1e-6):.1f} s each")


def connect(address):
    """Connect to a Dask scheduler; the client (`distributed.Client`) is to be closed by the caller.

    `TLEError`: it does not answer, has no workers, or has workers of several threads: networks and random numbers are
    seeded by process, so that side by side in one process they would not give the same bytes twice.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=WAIT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        remedy = "no Dask scheduler answers there: start one with 'dask scheduler'"
        raise TLEError(f"--scheduler {address}: {remedy}") from error
    try:
        client.wait_for_workers(1, timeout=WAIT_S)
        threads = max(client.nthreads().values(), default=1)
        wrong = threads > 1 and f"a worker has {threads} threads: start workers with --nthreads 1 --nworkers N"
    except TimeoutError:
        wrong = f"it has no workers: start some with 'dask worker {address} --nthreads 1'"
    if wrong:
        client.close()
        raise TLEError(f"--scheduler {address}: {wrong}")
    return client


def _side_by_side(function, items, workers):
    """Yield the results in order, from processes of this machine."""
    pool = Parallel(n_jobs=workers, backend="loky" if workers > 1 else "sequential", return_as="generator")
    with warnings.catch_warnings():
        # joblib renews a worker that has grown; nothing is lost by it.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
        yield from pool(delayed(function)(item) for item in items)


def _on_cluster(function, items, address):
    """Yield the results in order, from the workers of a Dask scheduler.

    Two items per worker are on their way at a time, and a result is fetched as soon as it is there: memory stays flat
    and the death of a worker costs only what it was working on, which goes to another worker.
    """
    from distributed import as_completed

    with connect(address) as client, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")
        running = as_completed(loop=client.loop, with_results=True)
        places, results, following = {}, {}, 0
        waiting = enumerate(items)

        def send():
            free = 2 * len(client.nthreads()) - len(places)
            for place, item in itertools.islice(waiting, max(1, free)):
                future = client.submit(function, item, pure=False)
                places[future] = place
                running.add(future)

        send()
        for future, result in running:
            results[places.pop(future)] = result
            send()
            while following in results:
                yield results.pop(following)
                following += 1


def run_parallel(function, items, *, label, workers=1):
    """Call a function on every item in worker processes, with progress: ``[function(item) for item in items]``.

    The function takes one item (one participant or fold); it and its result must be picklable. `label` (str) begins the
    progress lines. `workers` (int) are processes side by side; not used where the environment variable
    ``TLE_SCHEDULER`` names a Dask scheduler (see `connect` for the `TLEError` where it cannot be used), whose workers
    must see the same files under the same paths. The result does not depend on either.
    """
    items, results = list(items), []
    progress, address = Progress(len(items), label), os.environ.get(SCHEDULER)
    for result in _on_cluster(function, items, address) if address else _side_by_side(function, items, workers):
        results.append(result)
        progress.update()
    progress.close()
    return results
