"""Run one notebook with papermill in a kernel of this interpreter, with one progress line."""

import contextlib
import datetime
import sys
import threading
import time

import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError, strip_color
from traitlets import default

# ipykernel leaves a task of its control channel behind, and asyncio reports it when the kernel ends.
QUIET_END = "__import__('logging').getLogger('asyncio').setLevel('CRITICAL')"


def clock(seconds):
    """Seconds as text, ``0:01:07``."""
    return str(datetime.timedelta(seconds=round(seconds)))


class NotebookFailed(Exception):
    """A cell of a notebook failed or its kernel died.

    Attributes
    ----------
    bad_input : bool
        The cell raised a TLEError: something the user can mend.
    traceback : str
        Of the cell; empty for bad input and for a dead kernel.
    notebook : nbformat.NotebookNode
        The notebook as far as it came.
    """

    def __init__(self, message, notebook, bad_input=False, traceback=""):
        super().__init__(message)
        self.notebook, self.bad_input, self.traceback = notebook, bad_input, traceback


class ProgressLine:
    """One line for one notebook: rewritten in place in a terminal, else printed at the start and at the end.

    Parameters
    ----------
    label : str
        Start of the line, for example ``"[2/5] 02_replication"``.
    """

    def __init__(self, label):
        self.label, self.text, self.said = label, "starting", ""
        self.start, self.terminal, self.over = time.monotonic(), sys.stdout.isatty(), threading.Event()

    def __enter__(self):
        if self.terminal:
            self.ticker = threading.Thread(target=self._tick, daemon=True)
            self.ticker.start()
        else:
            print(f"{self.label}: started", flush=True)
        return self

    def __exit__(self, kind, error, traceback):
        self.over.set()
        if self.terminal:
            self.ticker.join()
        end = "done" if kind is None else "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
        clear = "\r\x1b[K" if self.terminal else ""
        print(f"{clear}{self.label}: {end} in {clock(time.monotonic() - self.start)}", flush=True)

    def _tick(self):
        while not self.over.wait(0.5):
            line = f"{self.label}: {self.text}, {clock(time.monotonic() - self.start)}  {self.said}"
            print(f"\r\x1b[K{line[:118]}", end="", flush=True)

    def write(self, text):
        """Take what the notebook prints; its last line is shown behind the cell number."""
        self.said = (text.strip().splitlines() or [self.said])[-1]

    def flush(self):
        """Do nothing; papermill calls it after `write`."""


class _ThisInterpreter(KernelSpecManager):
    def get_kernel_spec(self, kernel_name):
        return KernelSpec(**get_kernel_dict())


class _KernelManager(AsyncKernelManager):
    @default("kernel_spec_manager")
    def _own_interpreter(self):
        return _ThisInterpreter(parent=self)


class Kernels:
    """Kernels of notebooks that run one after the other: while one of them works, the next starts and imports.

    Parameters
    ----------
    cwd : pathlib.Path
        Working directory of the kernels: the project root.
    """

    def __init__(self, cwd):
        self.cwd, self.waiting = cwd, None

    def _start(self, modules=()):
        manager = _KernelManager(kernel_name="python3")
        imports = f"try:\n    [__import__(name) for name in {list(modules)!r}]\nexcept Exception:\n    pass"
        lines = [f"--IPKernelApp.exec_lines={line}" for line in (QUIET_END, imports)]
        options = ["--log-level=CRITICAL", "--HistoryManager.hist_file=:memory:", *lines]
        run_sync(manager.start_kernel)(extra_arguments=options, cwd=self.cwd)
        return manager

    @contextlib.contextmanager
    def take(self, following):
        """Kernel (`jupyter_client.AsyncKernelManager`) of one notebook; it ends with the block.

        Parameters
        ----------
        following : sequence of str or None
            Modules that the notebook after this one imports; None: there is none.
        """
        manager, self.waiting = self.waiting or self._start(), None
        try:
            if following is not None:
                self.waiting = self._start(following)
            yield manager
        finally:
            _stop(manager)

    def close(self):
        """End the kernel that waits for a notebook, if one does."""
        if self.waiting:
            _stop(self.waiting, now=True)


def _stop(manager, now=False):
    with contextlib.suppress(RuntimeError):  # a kernel that died by itself
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
            watch["place"] = _place(nb_man.nb, cell_index)
            line.text, line.said = f"cell {_number(nb_man.nb, cell_index)}/{total}", ""
            return start(cell, cell_index, **more)

        nb_man.cell_start = cell_start
        return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)


papermill_engines.register("tle_utils", _Engine)


def _counts(cell):
    return cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])


def _number(notebook, index):
    """The number that Jupyter shows beside the cell when the notebook is run from the top."""
    return sum(_counts(cell) for cell in notebook.cells[: index + 1])


def _place(notebook, index):
    lines = [line for line in notebook.cells[index].source.splitlines() if line.strip()]
    return f"cell {_number(notebook, index)} ({lines[0].strip() if lines else ''})"


def execute(path, parameters, line, *, kernel, cwd, output_path):
    """Run a notebook from the top.

    Parameters
    ----------
    path : pathlib.Path
        The notebook; inside `cwd`.
    parameters : dict
        Parameter name to value.
    line : ProgressLine
        Told which cell runs.
    kernel : jupyter_client.AsyncKernelManager
        A fresh kernel, from `Kernels.take`.
    cwd : pathlib.Path
        The project root.
    output_path : pathlib.Path
        Where the executed notebook will be kept; recorded in its metadata, relative to `cwd`. Not written here.

    Returns
    -------
    nbformat.NotebookNode
        The executed notebook; its metadata hold no absolute path.

    Raises
    ------
    NotebookFailed
        A cell failed or the kernel died; the message names the cell by number and first line.
    """
    watch = {}
    try:
        papermill.execute_notebook(
            nbformat.read(path, as_version=4),
            None,
            parameters,
            engine_name="tle_utils",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            start_timeout=120,
            cwd=cwd,
            stdout_file=line,
            line=line,
            watch=watch,
            km=kernel,
        )
    except PapermillExecutionError as error:
        place = watch["place"]
        if error.ename == "TLEError":
            raise NotebookFailed(f"{place}: {error.evalue}", watch["notebook"], bad_input=True) from None
        traceback = strip_color("\n".join(error.traceback))
        what = f"{place}: {error.ename}: {' '.join(error.evalue.split())}"
        raise NotebookFailed(what, watch["notebook"], traceback=traceback) from None
    except DeadKernelError:
        raise NotebookFailed(f"{watch['place']}: the kernel died, out of memory perhaps", watch["notebook"]) from None
    finally:
        if watch:
            watch["notebook"].metadata.papermill |= {
                "input_path": path.relative_to(cwd).as_posix(),
                "output_path": output_path.relative_to(cwd).as_posix(),
            }
    return watch["notebook"]
