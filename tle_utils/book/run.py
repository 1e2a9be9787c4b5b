"""The chain: runs the notebooks that are out of date and keeps what they leave in ``runs/<profile>-<cohort>/``.

A run folder holds ``notebooks/`` (executed), one folder of results per notebook with its ``outputs.json``, ``failed/``
(notebooks that stopped), ``run.json`` and ``.state.json``, doit's record of what each result was made from.
"""

import contextlib
import datetime
import fcntl
import functools
import json
import os
import platform
import sys
import time
from pathlib import Path

from doit.dependency import DatabaseException, Dependency, FileChangedChecker, JsonDB
from doit.task import Task

from tle_utils.base import parallel, provenance
from tle_utils.base.errors import TLEError
from tle_utils.base.files import write_json, write_text
from tle_utils.base.fingerprints import content_of, digest, sha256, stamp_of
from tle_utils.base.project import project_root, run_folder
from tle_utils.book.chain import FIRST, chain, left_out
from tle_utils.book.parameters import resolve
from tle_utils.cohorts.manifest import load_manifest

CHANGES = {"changed_file_dep": "changed", "added_file_dep": "is new", "removed_file_dep": "is no longer read"}
"""What doit found of a file that is there, in words."""


class _AtomicJson(JsonDB):
    def dump(self):
        write_text(self.name, self.codec.encode(self._db))


class _Content(FileChangedChecker):
    """What counts of a file or folder is its content; what is missing or may not be read counts as just that."""

    def info(self, file_path):
        return None

    def check_modified(self, file_path, file_stat, state):
        stamp, content = state
        return (stamp is None or stamp_of(file_path) != stamp) and content_of(file_path) != content

    def get_state(self, dep, current_state):
        return stamp_of(dep), content_of(dep)


class Run:
    """One profile on one cohort: what is up to date, and why something is not; `TLEError` where that is bad input."""

    def __init__(self, profile, cohort, settings=(), workers=None):
        self.profile, self.cohort, self.root = profile, load_manifest().cohort(cohort), project_root()
        self.steps, self.notes = chain(), []  # notes: which scan is whose, and what is odd in the cohort's table
        self.parameters = resolve([step.path for step in self.steps.values()], profile, cohort, settings, workers)
        self.folder = run_folder(profile, cohort)
        lock = self.root / "requirements.lock"
        self.environment = {lock.name: sha256(lock) if lock.exists() else None}
        self.environment |= {f"version of {name}": version for name, version in provenance.versions().items()}
        cohorts = [one for one in (self.cohort, self.cohort.base) if one]
        self.entries = {f"manifest entry {one.name}": digest(one.entry.model_dump(mode="json")) for one in cohorts}
        self.open_state()

    def open_state(self):
        """Read the record of earlier runs (again)."""
        path = self.folder / ".state.json"
        try:
            self.state = Dependency(_AtomicJson, os.fspath(path), _Content)
        except (DatabaseException, OSError):
            raise TLEError(f"{self.relative(path)} is damaged or may not be read: remove it and run again") from None

    @functools.cached_property
    def data(self):
        """Paths (str) of the cohort's data files; `TLEError` if one is missing."""
        if self.cohort.entry.kind.startswith("phantom"):
            return []
        from tle_utils.cohorts.participants import data_files

        return [os.fspath(path) for path in data_files(self.cohort, self.notes)]

    @functools.cached_property
    def kernels(self):
        """Kernels of the notebooks; to be closed."""
        from tle_utils.book.execution import Kernels

        return Kernels(self.root)

    def relative(self, path):
        """Path as text, from the project's root."""
        return os.path.relpath(path, self.root)

    def executed(self, name):
        """Path of the executed notebook."""
        return self.folder / "notebooks" / f"{name}.ipynb"

    def failed(self, name):
        """Path of the notebook as far as it came, if it failed."""
        return self.folder / "failed" / f"{name}.ipynb"

    def outputs(self, name):
        """Path of the list of a notebook's results."""
        return self.folder / name / "outputs.json"

    def record(self, name):
        """What is known of the last success of a notebook: ``seconds``, ``finished``, ...; empty if there is none."""
        return self.state.get_values(name)

    def counted(self, name):
        """Parameters of a notebook (dict) on which its result depends."""
        return {key: value for key, value in self.parameters[name].items() if key != "workers"}

    def _inputs(self, name):
        step, parameters = self.steps[name], self.counted(name)
        inputs = step.content | self.environment | {f"parameter {key}": value for key, value in parameters.items()}
        for cohort in {parameters[key] or default for key, default in step.beside.items()} - {self.cohort.name}:
            maps = run_folder(self.profile, cohort) / FIRST / "outputs.json"
            inputs[f"maps of cohort {cohort}"] = sha256(maps) if maps.exists() else None
        return inputs if step.needs else inputs | self.entries

    def given(self, name):
        """Files and folders (list of pathlib.Path, may not exist) that parameters of a notebook name."""
        values = map(self.parameters[name].get, self.steps[name].files)
        return [self.root / value for value in values if value]

    def _task(self, name):
        read = [self.outputs(need) for need in self.steps[name].needs] or self.data
        files = [os.fspath(path) for path in [*read, *self.given(name)]]
        targets = [os.fspath(self.executed(name)), os.fspath(self.outputs(name))]
        return Task(name, None, file_dep=files, targets=targets, uptodate=[True])

    def reasons(self, name):
        """Why a notebook has to run: what changed since its last success (list of str); empty: up to date."""
        if not (record := self.record(name)):
            if self.failed(name).exists():
                return ["failed in its last run"]
            return ["did not finish in its last run" if (self.folder / name).exists() else "never run"]
        now, then = json.loads(json.dumps(self._inputs(name))), record["inputs"]
        found = [f"{key} changed" for key in sorted({*now, *then}) if now.get(key) != then.get(key)]
        status = self.state.get_status(self._task(name), {}, get_log=True)
        for kind in ("missing_target", *CHANGES):
            for path in status.reasons.get(kind, []):
                found.append(f"{self.relative(path)} {CHANGES[kind] if os.path.exists(path) else 'is gone'}")
        return found or self.changed_outputs(name)

    def changed_outputs(self, name):
        """Which results of a notebook are not what it left (list of str)."""
        found, stamps = [], self.record(name)["stamps"]
        for entry in json.loads(self.outputs(name).read_text(encoding="utf-8"))["files"]:
            path = self.folder / name / entry["path"]
            if not path.exists():
                found.append(f"{self.relative(path)} is gone")
            elif stamp_of(path) != stamps.get(entry["path"]) and content_of(path) != entry["sha256"]:
                found.append(f"{self.relative(path)} changed")
        return found

    def execute(self, name, label):
        """Run one notebook and record it at once; `label` begins its progress line.

        Where a cell fails, `tle_utils.book.execution.NotebookFailed`; the notebook as far as it came is in ``failed/``.
        """
        import nbformat

        from tle_utils.book.execution import NotebookFailed, NotebookLine, execute

        step, start = self.steps[name], time.monotonic()
        self.state.remove(name)
        self.state.backend.dump()
        # What it reads as it is now: what is edited while it runs is newer than its result.
        inputs = self._inputs(name)
        self.state.save_success(self._task(name))
        self.remove_results(name)
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        following = next((later.modules for other, later in self.steps.items() if other > name), None)
        try:
            with NotebookLine(label) as line, self.kernels.take(following) as kernel:
                places = {"cwd": self.root, "output_path": self.executed(name)}
                notebook = execute(step.path, self.parameters[name], line, kernel=kernel, **places)
        except BaseException as error:
            self.state.remove(name)
            if isinstance(error, NotebookFailed):
                write_text(self.failed(name), nbformat.writes(error.notebook))
            raise
        files = self._results(name)
        write_json(self.outputs(name), {"files": files})
        write_text(self.executed(name), nbformat.writes(notebook))
        values = {
            "inputs": inputs,
            "stamps": {entry["path"]: stamp_of(self.folder / name / entry["path"]) for entry in files},
            "seconds": round(time.monotonic() - start, 1),
            "finished": _now(),
        }
        self.state.backend.set(name, "_values_:", values)
        self.state.backend.dump()

    def remove_results(self, name):
        """What an earlier run left is no longer the result; of what was made from a given file nothing stays at all."""
        old, given = [self.executed(name), self.failed(name)], [path.resolve() for path in self.given(name)]
        if self.steps[name].files:
            made = [self.folder / name / entry["path"] for entry in self._results(name)]
            old += [path for path in made if not {path.resolve(), *path.resolve().parents} & {*given}]
        for path in [*old, self.outputs(name)]:
            path.unlink(missing_ok=True)

    def _results(self, name):
        """Files that a notebook left, with size and checksum; not what it keeps for its next run."""
        folder, found = self.folder / name, []
        made = [folder, *(self.folder / other for other in self.steps[name].makes)]
        for path in sorted(path for one in made for path in one.rglob("*") if path.is_file()):
            parts = Path(os.path.relpath(path, folder)).parts
            hidden = "cache" in parts or any(part.startswith(".") and part != ".." for part in parts)
            if parts != ("outputs.json",) and not hidden:
                found.append({"path": "/".join(parts), "size": path.stat().st_size, "sha256": sha256(path)})
        return found

    def left_out(self):
        """Who was lost, see `chain.left_out`; of notebooks that ended well."""
        return left_out(self.folder / name for name in self.steps if self.record(name))

    def _data_checksum(self):
        """One checksum over names and content of the cohort's data files, as the first notebook read them."""
        first = next(iter(self.steps))
        states = {self.relative(path): self.state.backend.get(first, path) for path in self.data}
        return digest({name: state[1] for name, state in states.items() if state})

    def write_card(self, started, ended):
        """Write ``run.json``; `ended` is notebook → state of this run."""
        notebooks = {}
        for name, values in self.parameters.items():
            record = self.record(name)
            checksum = sha256(self.outputs(name)) if record and self.outputs(name).exists() else None
            known = {"seconds": record.get("seconds"), "finished": record.get("finished"), "outputs_sha256": checksum}
            notebooks[name] = {"state": ended.get(name, "not run"), **known, "parameters": values}
        path, people = self.folder / "run.json", self.folder / FIRST / "participants.tsv"
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        card = {
            "profile": self.profile,
            "cohort": self.cohort.name,
            "seed": next(iter(self.parameters.values())).get("seed"),
            "started": started,
            "finished": _now(),
            **provenance.code_state(),
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "versions": provenance.versions(),
            "data": {"files": len(self.data), "sha256": self._data_checksum()},
            "participants": len(people.read_text(encoding="utf-8").splitlines()) - 1 if people.exists() else None,
            "left_out": self.left_out(),
            "memory": max(provenance.largest_process(), before.get("memory", 0.0)),
            "disk": sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file()) / 1e9,
            "notebooks": notebooks,
        }
        write_json(path, card)


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def _lock(folder, shown):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise TLEError(f"{shown}: cannot be written ({error.strerror}): change its permissions or its disk") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TLEError(f"{shown} is in use by another run: wait for it or stop it") from None
        except OSError as error:  # some network disks
            _complain(f"{shown} cannot be locked ({error.strerror}): start no second run in it")
        yield


def _complain(*lines):
    print(*(f"tle_utils: {line}" for line in lines), sep="\n", file=sys.stderr, flush=True)


def run_chain(profile, cohort, settings=(), workers=None, scheduler=None):
    """Run what is out of date, in order; a notebook that needs a failed one is left out, the others go on.

    `scheduler` is the address of a Dask scheduler whose workers take the participants and folds. Returns the exit
    status (int): 0, 1 (a notebook failed), 2 (only bad input), 3 (all done, but participants were left out: a line
    each, and how many), 130 (interrupted). `TLEError`: bad input before the first notebook, or the folder is in use.
    """
    run = Run(profile, cohort, settings, workers)
    if scheduler:
        parallel.connect(scheduler).close()
        os.environ[parallel.SCHEDULER] = scheduler
    shown = run.relative(run.folder)
    print(f"{shown}: {len(run.steps)} notebooks, {len(run.data)} data files", *run.notes, sep="\n", flush=True)
    with _lock(run.folder, shown):
        run.open_state()
        started, states, kinds = _now(), {}, set()
        try:
            for number, name in enumerate(run.steps, 1):
                label = f"[{number}/{len(run.steps)}] {name}"
                states[name] = _run_step(run, name, label, states, kinds)
                if set(states.values()) != {"up to date"}:
                    run.write_card(started, states)
        except KeyboardInterrupt:
            run.write_card(started, states | {name: "interrupted"})
            _complain(f"interrupted in {name}; the same command goes on from there")
            return 130
        finally:
            if "kernels" in vars(run):
                run.kernels.close()
    if lost := run.left_out():
        lines = [": ".join(filter(None, one.values())) for one in lost]
        _complain(*lines, f"left out: {len(lost)}; the others went on")
    if kinds:
        failed, waiting = (list(states.values()).count(state) for state in ("failed", "not run"))
        _complain(f"{failed} failed, {waiting} not run of {len(states)}")
        return min(kinds)
    return 3 if lost else 0


def _run_step(run, name, label, states, kinds):
    """Run one notebook if it is out of date; returns its state and adds the exit status of a failure to `kinds`."""
    if missing := [need for need in run.steps[name].needs if states[need] in ("failed", "not run")]:
        if run.steps[name].files:
            run.remove_results(name)
        print(f"{label}: not run, it needs {missing[0]}", flush=True)
        return "not run"
    if not run.reasons(name):
        print(f"{label}: up to date", flush=True)
        return "up to date"
    from tle_utils.book.execution import NotebookFailed

    try:
        run.execute(name, label)
    except NotebookFailed as error:
        if error.traceback:
            print(error.traceback, file=sys.stderr)
        kept = "" if error.bad_input else f" (as far as it came: {run.relative(run.failed(name))})"
        _complain(f"{name}, {error}{kept}")
        kinds.add(2 if error.bad_input else 1)
        return "failed"
    return "done"


def status_lines(profile, cohort, settings=()):
    """Lines (list of str) of a table: every notebook, when it finished, how long it took, up to date or why not."""
    run = Run(profile, cohort, settings)
    lines, stale = [f"{'notebook':28}{'finished':27}{'took':>9}  state"], set()
    for name, step in run.steps.items():
        record, reasons = run.record(name), run.reasons(name)
        if reasons := reasons + [f"{need} runs first" for need in step.needs if need in stale][:1]:
            stale.add(name)
        more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        because = ("out of date: " if record else "") + ", ".join(reasons[:3]) + more
        took = f"{record['seconds']} s" if record else "-"
        lines.append(f"{name:28}{record.get('finished', '-'):27}{took:>9}  {because if reasons else 'up to date'}")
    return lines
