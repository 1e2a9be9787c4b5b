"""Run a function over subjects or folds, side by side, with progress: on this machine or on a Dask cluster."""

import itertools
import os
import re
import sys
import time
import warnings

from joblib import Parallel, delayed

from tle_utils.base.errors import TLEError

SCHEDULER = "TLE_SCHEDULER"
"""Environment variable with the address of a Dask scheduler; unset or empty: processes of this machine."""

ON_THE_WAY = re.compile(r"^.+: \d+/\d+, .+, ends \d\d:\d\d:\d\d\n?", re.MULTILINE)
"""A line of `Progress` before the last one."""

WAIT_S = 60  # for the scheduler to answer and for its first worker


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


def connect(address):
    """Connect to a Dask scheduler.

    Parameters
    ----------
    address : str
        For example ``tcp://127.0.0.1:8786``.

    Returns
    -------
    distributed.Client
        To be closed by the caller.

    Raises
    ------
    TLEError
        The scheduler does not answer, has no workers, or has workers of several threads: networks and random numbers
        are seeded by process, so that side by side in one process they would not give the same bytes twice.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=WAIT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise TLEError(
            f"--scheduler {address}: no Dask scheduler answers there: start one with 'dask scheduler'"
        ) from error
    try:
        client.wait_for_workers(1, timeout=WAIT_S)
        threads = max(client.nthreads().values(), default=1)
    except TimeoutError as error:
        client.close()
        raise TLEError(
            f"--scheduler {address}: it has no workers: start some with 'dask worker {address} --nthreads 1'"
        ) from error
    if threads > 1:
        client.close()
        raise TLEError(
            f"--scheduler {address}: a worker has {threads} threads: start workers with --nthreads 1 --nworkers N"
        )
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

    Two items a worker are on their way at a time, and a result is fetched as soon as it is there: memory stays flat
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
        Processes side by side; not used where the environment variable ``TLE_SCHEDULER`` names a Dask scheduler, whose
        workers must see the same files under the same paths. The result does not depend on either.

    Returns
    -------
    list
        ``[function(item) for item in items]``.

    Raises
    ------
    TLEError
        The Dask scheduler cannot be used (see `connect`).
    """
    items = list(items)
    progress = Progress(len(items), label)
    address = os.environ.get(SCHEDULER)
    found = _on_cluster(function, items, address) if address else _side_by_side(function, items, workers)
    results = []
    for result in found:
        results.append(result)
        progress.step()
    return results
