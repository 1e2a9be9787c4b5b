"""Run one notebook with papermill in a kernel of this interpreter, with one progress line."""

import contextlib
import threading

import nbformat
import papermill
import zmq
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError, strip_color

from tle_utils.base.parallel import Line
from tle_utils.base.text import clock

# ipykernel leaves a task of its control channel behind, and asyncio reports it when the kernel ends.
QUIET_END = "__import__('logging').getLogger('asyncio').setLevel('CRITICAL')"
START_S = 120  # for a kernel to start and to import what its notebook needs
HOW = {"engine_name": "tle_utils", "kernel_name": "python3", "language": "python", "progress_bar": False}


class NotebookFailed(Exception):
    """A cell of a notebook failed or its kernel died; `notebook` is the notebook as far as it came.

    `bad_input`: the cell raised a TLEError, which the user can mend; it and a dead kernel have no `traceback`.
    """

    def __init__(self, message, notebook, bad_input=False, traceback=""):
        super().__init__(message)
        self.notebook, self.bad_input, self.traceback = notebook, bad_input, traceback


class NotebookLine(Line):
    """One line for one notebook: its cell and what it printed last in a terminal, else only its start and its end."""

    def __init__(self, label):
        super().__init__(label)
        self.text, self.said, self.over = "starting", "", threading.Event()

    def __enter__(self):
        if self.terminal:
            self.ticker = threading.Thread(target=self._tick, daemon=True)
            self.ticker.start()
        else:
            self.show("started")
        return self

    def __exit__(self, kind, error, traceback):
        self.over.set()
        if self.terminal:
            self.ticker.join()
        end = "done" if kind is None else "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
        self.show(f"{end} in {clock(self.spent())}", last=True)

    def _tick(self):
        while not self.over.wait(0.5):
            self.show(f"{self.text}, {clock(self.spent())}  {self.said}")

    def write(self, text):
        """Take what the notebook prints; its last line is shown behind the cell number."""
        self.said = (text.strip().splitlines() or [self.said])[-1]

    def flush(self):
        """Do nothing; papermill calls it after `write`."""


class _ThisInterpreter(KernelSpecManager):
    def get_kernel_spec(self, kernel_name):
        return KernelSpec(**get_kernel_dict())


class Kernels:
    """Kernels in the folder `cwd`, one after the other: while one of them works, the next starts and imports."""

    def __init__(self, cwd):
        self.cwd, self.waiting = cwd, None

    def _start(self, modules=()):
        manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=_ThisInterpreter())
        imports = f"try:\n    [__import__(name) for name in {list(modules)!r}]\nexcept Exception:\n    pass"
        lines = [f"--IPKernelApp.exec_lines={line}" for line in (QUIET_END, imports)]
        options = ["--log-level=CRITICAL", "--HistoryManager.hist_file=:memory:", *lines]
        run_sync(manager.start_kernel)(extra_arguments=options, cwd=self.cwd)
        return manager

    @contextlib.contextmanager
    def take(self, following):
        """Kernel (`jupyter_client.AsyncKernelManager`) of one notebook; it ends with the block.

        One that dies at its start, as when another process takes the port that was chosen for it, is started once more.
        `following` are the modules that the notebook after this one imports; None: there is none.
        """
        manager, self.waiting = self.waiting or self._start(), None
        try:
            if not _answers(manager):
                _stop(manager, now=True)
                manager = self._start()
            if following is not None:
                self.waiting = self._start(following)
            yield manager
        finally:
            _stop(manager)

    def close(self):
        """End the kernel that waits for a notebook, if one does."""
        if self.waiting:
            _stop(self.waiting, now=True)


def _answers(manager):
    """Whether a kernel came up; waits for it."""
    client = manager.client()
    client.start_channels()
    try:
        run_sync(client.wait_for_ready)(timeout=START_S)
        return True
    except RuntimeError:
        return False
    finally:
        client.stop_channels()


def _stop(manager, now=False):
    """End a kernel; quiet where it is dead already."""
    with contextlib.suppress(RuntimeError, zmq.ZMQError):
        run_sync(manager.shutdown_kernel)(now=now)
    run_sync(manager.cleanup_resources)()


class _Engine(NBClientEngine):
    """papermill's engine that tells a progress line which code cell runs and keeps the notebook at hand."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, line, watch, **kwargs):
        watch["notebook"] = nb_man.nb
        total = sum(_counts(cell) for cell in nb_man.nb.cells)
        start = nb_man.cell_start

        def cell_start(cell, cell_index=None, **more):
            # The number that Jupyter shows beside the cell when the notebook is run from the top.
            number = sum(_counts(earlier) for earlier in nb_man.nb.cells[: cell_index + 1])
            first = next((text.strip() for text in cell.source.splitlines() if text.strip()), "")
            watch["place"] = f"cell {number} ({first})"
            line.text, line.said = f"cell {number}/{total}", ""
            return start(cell, cell_index, **more)

        nb_man.cell_start = cell_start
        return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)


papermill_engines.register("tle_utils", _Engine)


def _counts(cell):
    return cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])


def execute(path, parameters, line, *, kernel, cwd, output_path):
    """Run a notebook (pathlib.Path) from the top with its parameters (dict) in a fresh kernel of `Kernels.take`.

    Returns the executed notebook (nbformat.NotebookNode); its metadata name `path` and `output_path`, where it will be
    kept (not written here), relative to the project root `cwd`. The `NotebookLine` is told which cell runs.
    `NotebookFailed`: a cell failed or the kernel died; the message names the cell by number and first line.
    """
    watch = {"place": "before its first cell"}
    try:
        notebook, told = nbformat.read(path, as_version=4), {"stdout_file": line, "line": line, "watch": watch}
        papermill.execute_notebook(notebook, None, parameters, cwd=cwd, km=kernel, start_timeout=START_S, **told, **HOW)
    except PapermillExecutionError as error:
        place, bad_input = watch["place"], error.ename == "TLEError"
        what = error.evalue if bad_input else f"{error.ename}: {' '.join(error.evalue.split())}"
        traceback = "" if bad_input else strip_color("\n".join(error.traceback))
        raise NotebookFailed(f"{place}: {what}", watch["notebook"], bad_input, traceback) from None
    except (DeadKernelError, RuntimeError, zmq.ZMQError):
        if run_sync(kernel.is_alive)():
            raise
        raise NotebookFailed(f"{watch['place']}: the kernel died, out of memory perhaps", watch["notebook"]) from None
    finally:
        if "notebook" in watch:
            watch["notebook"].metadata.papermill |= {
                "input_path": path.relative_to(cwd).as_posix(),
                "output_path": output_path.relative_to(cwd).as_posix(),
            }
    return watch["notebook"]
