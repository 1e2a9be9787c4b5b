"""Download the files of an OpenNeuro cohort and know which local files are the published ones."""

import contextlib
import csv
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pooch
import requests
import urllib3

from tle_utils.base.errors import TLEError
from tle_utils.cohorts.manifest import OpenNeuro, _inside, load_manifest

ATTEMPTS = 4
BACKOFF = 1.0
TIMEOUT = (10, 30)
CHUNK = 1 << 16
GIVE_UP_AFTER = 3
STATE_NAME = ".verified.json"


class Published(NamedTuple):
    """Size in bytes and sha256 of a file as it was published."""

    size: int
    sha256: str


class _Transfer(Exception):
    """A transfer that failed; `final` where trying again cannot help."""

    def __init__(self, message, final=False, wait=0.0):
        super().__init__(message)
        self.final, self.wait = final, wait


def _size(n):
    return f"{n / 1e9:.2f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB" if n >= 1e6 else f"{n / 1e3:.1f} kB"


class _Report:
    """Print files, bytes, rate and end time of a download: one line rewritten, or a line each tenth or 30 s."""

    def __init__(self, label, n_files, n_bytes):
        self.label, self.n_files, self.n_bytes = label, n_files, n_bytes
        self.files, self.complete, self.current, self.moved, self.tenth = 0, 0, 0, 0, 0
        self.start = self.last = time.monotonic()
        self.terminal = sys.stdout.isatty()

    def at(self, current, moved=0):
        """Say how many bytes of the current file are there, and how many of them just came."""
        self.current, self.moved = current, self.moved + moved
        done, waited = self.complete + current, time.monotonic() - self.last
        tenth = done * 10 // self.n_bytes
        if waited > 0.2 if self.terminal else tenth > self.tenth or waited > 30:
            self.tenth = max(tenth, self.tenth)
            left = (self.n_bytes - done) / max(self._rate(), 1)
            self._print(f"ends {time.strftime('%H:%M:%S', time.localtime(time.time() + left))}", end="")

    def file_done(self, size):
        """Count one file as complete."""
        self.files, self.complete, self.current = self.files + 1, self.complete + size, 0
        if self.files == self.n_files:
            self._print(f"took {time.monotonic() - self.start:.0f} s", end="\n")

    def _rate(self):
        return self.moved / max(time.monotonic() - self.start, 1e-6)

    def _print(self, time_text, end):
        self.last = time.monotonic()
        done = f"{self.files}/{self.n_files} files, {_size(self.complete + self.current)} of {_size(self.n_bytes)}"
        text = f"{self.label}: {done}, {_size(self._rate())}/s, {time_text}"
        print(f"\r\x1b[K{text}" if self.terminal else text, end=end if self.terminal else "\n", flush=True)


class _Verified:
    """Remember by size and modification time which files had the right sha256, so that they are hashed once."""

    def __init__(self, folder):
        self.folder, self.file, self.known = folder, folder / STATE_NAME, {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self.file.read_text(encoding="utf-8"))
            self.known = known if isinstance(known, dict) else {}

    def holds(self, path, published):
        """Whether the local file has the published bytes."""
        file = self.folder / path
        try:
            stat = file.stat()
        except OSError:
            return False
        if stat.st_size != published.size:
            return False
        if self.known.get(path) == [stat.st_size, stat.st_mtime_ns, published.sha256]:
            return True
        if not file.is_file() or pooch.file_hash(str(file)) != published.sha256:
            return False
        self.remember(path, published)
        return True

    def remember(self, path, published):
        """Note that the file as it is now had the published sha256."""
        stat = (self.folder / path).stat()
        self.known[path] = [stat.st_size, stat.st_mtime_ns, published.sha256]

    def save(self):
        """Write what is known; a folder that cannot be written to is only slower the next time."""
        temporary = self.file.with_suffix(f".{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(self.known, indent=0, sort_keys=True), encoding="utf-8")
            os.replace(temporary, self.file)


def published_files(manifest, name):
    """Every file of an OpenNeuro cohort with its size and sha256.

    Parameters
    ----------
    manifest : Manifest
        Where the cohort is described.
    name : str
        Name of the cohort.

    Returns
    -------
    dict of str to Published
        Path inside the dataset to size and checksum, in the order of the list.

    Raises
    ------
    TLEError
        The list is missing or a row of it is not readable.
    """
    entry = manifest.cohort(name)
    if not isinstance(entry, OpenNeuro):
        raise TLEError(f"cohort '{name}' is of kind {entry.kind}: there is nothing to download")
    found = {}
    try:
        with open(manifest.root / entry.files, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                published = Published(int(row["bytes"]), row["sha256"].lower())
                if len(published.sha256) != 64 or published.size <= 0 or row["path"] in found:
                    raise ValueError("bad checksum, bad size or a path that stands twice")
                found[_inside(row["path"])] = published
    except OSError as error:
        raise TLEError(f"{entry.files}: cannot be read ({error.strerror}): restore it from the repository") from None
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise TLEError(f"{entry.files}: row {len(found) + 2}: {error}: restore it from the repository") from None
    return found


def verified_files(name, manifest=None):
    """Local files of an OpenNeuro cohort, told apart by content.

    Parameters
    ----------
    name : str
        Name of the cohort.
    manifest : Manifest, optional
        By default the project's.

    Returns
    -------
    good : dict of str to pathlib.Path
        Files with the published size and sha256.
    bad : list of pathlib.Path
        Files that exist under the right name with other bytes.
    """
    manifest = manifest or load_manifest()
    folder = manifest.folder(name)
    state, good, bad = _Verified(folder), {}, []
    for path, published in published_files(manifest, name).items():
        if state.holds(path, published):
            good[path] = folder / path
        elif (folder / path).exists():
            bad.append(folder / path)
    state.save()
    return good, bad


class _Folder:
    """A mirror on disk: files by dataset path, by name, or by content under any name."""

    def __init__(self, folder):
        self.folder, self._by_size = Path(folder).expanduser(), None
        if not self.folder.is_dir():
            raise TLEError(f"--mirror {folder}: neither a web address nor a folder: check the path")

    def _same_size(self, size):
        if self._by_size is None:
            self._by_size = {}
            for parent, _, names in os.walk(self.folder):
                for name in sorted(names):
                    file = Path(parent, name)
                    with contextlib.suppress(OSError):
                        self._by_size.setdefault(file.stat().st_size, []).append(file)
        return self._by_size.get(size, [])

    def _candidates(self, path, size):
        yield from (self.folder / path, self.folder / Path(path).name)
        yield from self._same_size(size)

    def copy(self, path, published, target, report):
        """Copy the file with the published bytes to `target`."""
        for file in self._candidates(path, published.size):
            if not file.is_file() or file.stat().st_size != published.size:
                continue
            if pooch.file_hash(str(file)) == published.sha256:
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(target.name + ".part")
                shutil.copyfile(file, part)
                if pooch.file_hash(str(part)) != published.sha256:
                    raise _Transfer("changed while it was copied", final=True)
                os.replace(part, target)
                report.at(published.size, moved=published.size)
                return
        raise _Transfer("no file in the mirror has its sha256", final=True)


class _Web:
    """A web server: resumes partial files, tries again after faults."""

    def __init__(self, address):
        self.address, self.session = address.rstrip("/"), requests.Session()

    def copy(self, path, published, target, report):
        """Download one file; it gets its name when its sha256 is right."""
        part = target.with_name(target.name + ".part")
        for _ in range(2):
            self._complete(f"{self.address}/{path}", part, published.size, report)
            if pooch.file_hash(str(part)) == published.sha256:
                os.replace(part, target)
                return
            part.unlink()
        raise _Transfer("the bytes that came do not have the published sha256", final=True)

    def _complete(self, url, part, size, report):
        for attempt in range(ATTEMPTS):
            try:
                return self._pull(url, part, size, report)
            except (requests.RequestException, urllib3.exceptions.HTTPError, _Transfer) as error:
                if attempt == ATTEMPTS - 1 or getattr(error, "final", False):
                    raise
                time.sleep(max(BACKOFF * 2**attempt, getattr(error, "wait", 0.0)))

    def _pull(self, url, part, size, report):
        part.parent.mkdir(parents=True, exist_ok=True)
        have = part.stat().st_size if part.exists() else 0
        if have == size:
            return
        if have > size:
            part.unlink()
            have = 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with self.session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            code, reason = answer.status_code, answer.reason
            if code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                mode = "ab"
            elif code == 200:
                mode, have = "wb", 0
            elif code in (206, 416):
                part.unlink(missing_ok=True)
                raise _Transfer("the server could not resume")
            else:
                wait = answer.headers.get("Retry-After", "")
                again = code in (408, 425, 429) or code >= 500
                raise _Transfer(f"{code} {reason}", not again, min(float(wait), 60.0) if wait.isdigit() else 0.0)
            length = answer.headers.get("Content-Length", "")
            if length.isdigit() and int(length) != size - have:
                raise _Transfer(f"the server has {have + int(length)} bytes, {size} were published")
            with open(part, mode) as file:
                for chunk in answer.raw.stream(CHUNK, decode_content=False):
                    file.write(chunk)
                    have += len(chunk)
                    report.at(have, moved=len(chunk))
                    if have > size:
                        break
        if have > size:
            part.unlink()
            raise _Transfer(f"the server sent more than the {size} bytes that were published")
        if have < size:
            raise _Transfer(f"the connection closed after {have} of {size} bytes")


def _plain(error):
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "the server did not answer in time"
    if isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError):
        return f"the connection broke ({type(error).__name__})"
    return getattr(error, "strerror", None) or str(error)


def _selected(entry, published, only, limit):
    tables = [path for path in published if path in entry.table]
    images = [path for path in published if path not in entry.table]
    return (tables if only != "images" else []) + (images[:limit] if only != "table" else [])


def fetch(name, *, only=None, limit=None, mirror=None, manifest=None):
    """Download a cohort's files into ``downloads/<name>`` and verify every one.

    What is there with the published size and sha256 is skipped; a partial file is resumed; a fault is tried again.

    Parameters
    ----------
    name : str
        Name of an OpenNeuro cohort in the manifest.
    only : {"table", "images"}, optional
        Only the participants table, or only the scans.
    limit : int, optional
        Only the first scans of the list.
    mirror : str or path-like, optional
        A web address or folder to take the files from instead. In a folder a file is found by its path in the
        dataset, by its name or by its content.
    manifest : Manifest, optional
        By default the project's.

    Returns
    -------
    list of pathlib.Path
        The selected files, all verified.

    Raises
    ------
    TLEError
        No network, no space, or files that could not be had; what was had stays.
    """
    manifest = manifest or load_manifest()
    published = published_files(manifest, name)
    entry, folder = manifest.cohort(name), manifest.folder(name)
    if only not in (None, "table", "images"):
        raise TLEError(f"--only {only}: use table or images")
    if limit is not None and limit < 1:
        raise TLEError(f"--limit {limit}: use a whole number from 1")
    wanted = _selected(entry, published, only, limit)
    if not wanted:
        raise TLEError(f"{name}: the table is not part of the dataset: {entry.table_from}")
    state = _Verified(folder)
    missing = [path for path in wanted if not state.holds(path, published[path])]
    total = sum(published[path].size for path in missing)
    where = f"downloads/{name}"
    there = f"{len(wanted) - len(missing)} of {len(wanted)} files there and verified"
    print(f"{name}: {there}, {_size(total)} to get", flush=True)
    if missing:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise TLEError(f"{where}: cannot be written to ({error.strerror}): check its permissions") from None
        if free < total:
            raise TLEError(f"{where}: {_size(total)} needed, {_size(free)} free: make room or use --limit")
    address = f"{entry.url}/{entry.dataset}" if mirror is None else str(mirror)
    source = _Web(address) if address.startswith(("http://", "https://")) else _Folder(mirror)
    report, failed, in_a_row = _Report(name, len(missing), total), [], 0
    try:
        for path in missing:
            try:
                source.copy(path, published[path], folder / path, report)
            except (requests.RequestException, urllib3.exceptions.HTTPError, _Transfer, OSError) as error:
                if isinstance(error, requests.ConnectionError) and not report.files:
                    remedy = f"copy the files to {where} or pass --mirror FOLDER"
                    raise TLEError(f"{name}: no network ({address} cannot be reached): {remedy}") from None
                report.current = 0
                failed.append(f"{path}: {_plain(error)}")
                in_a_row += 1
                if in_a_row <= GIVE_UP_AFTER:
                    print(f"{name}: {failed[-1]}", flush=True)
                if in_a_row == GIVE_UP_AFTER and isinstance(source, _Web):
                    break
            else:
                state.remember(path, published[path])
                in_a_row = 0
                report.file_done(published[path].size)
    finally:
        state.save()
    if failed:
        left = len(missing) - report.files
        remedy = "run fetch again" if isinstance(source, _Web) else "run fetch with another --mirror or without"
        raise TLEError(f"{name}: {left} of {len(wanted)} files are missing (first: {failed[0]}): {remedy}")
    if entry.table_from:
        print(f"{name}: the clinical table comes separately: {entry.table_from}")
    return [folder / path for path in wanted]
