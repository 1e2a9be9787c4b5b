"""Download the files of an OpenNeuro cohort and know which local files are the published ones."""

import contextlib
import functools
import hashlib
import io
import json
import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import pooch
import requests
import urllib3

from tle_utils.base.errors import TLEError
from tle_utils.base.files import write_bytes, write_json
from tle_utils.base.fingerprints import sha256
from tle_utils.base.parallel import Progress
from tle_utils.base.text import amount
from tle_utils.cohorts.manifest import OpenNeuro, inside
from tle_utils.cohorts.tables import read_table

ATTEMPTS = 4
BACKOFF = 1.0  # s before the second attempt, twice as long before each further one
TIMEOUT = (10, 30)  # s to connect, and between two chunks
GIVE_UP_AFTER = 3  # files in a row that a server could not give


class Published(NamedTuple):
    """Size in bytes and sha256 of a file as it was published."""

    size: int
    sha256: str

    def is_of(self, data):
        """Whether bytes are the published ones."""
        return hashlib.sha256(data).hexdigest() == self.sha256


class _Verified:
    """Remember by size and modification time which files had the right sha256, so that they are hashed once."""

    def __init__(self, folder):
        self.folder, self.file, self.known = folder, folder / ".verified.json", {}
        with contextlib.suppress(OSError, ValueError):
            self.known = dict(json.loads(self.file.read_text(encoding="utf-8")))

    def holds(self, path, published):
        """Whether the local file has the published bytes."""
        file = self.folder / path
        if not file.is_file() or file.stat().st_size != published.size:
            return False
        now = [published.size, file.stat().st_mtime_ns, published.sha256]
        if self.known.get(path) != now and sha256(file) == published.sha256:
            self.known[path] = now
        return self.known.get(path) == now

    def save(self):
        """Write what is known; a folder that cannot be written to is only slower the next time."""
        if self.known:
            with contextlib.suppress(TLEError):
                write_json(self.file, self.known)


def published_files(cohort):
    """Every file of an OpenNeuro cohort by its path inside the dataset (dict of str to Published, as listed).

    Raises
    ------
    TLEError
        The cohort is of another kind, the list is missing, or a row of it is not readable.
    """
    if not isinstance(cohort.entry, OpenNeuro):
        raise TLEError(f"cohort '{cohort.name}' is of kind {cohort.entry.kind}: there is nothing to download")
    found = {}
    for row in read_table(cohort.root / cohort.entry.files).itertuples():
        try:
            published = Published(int(row.bytes), row.sha256.lower())
            if len(published.sha256) != 64 or published.size <= 0 or row.path in found:
                raise ValueError("bad checksum, bad size or a path that stands twice")
            found[inside(row.path)] = published
        except (AttributeError, ValueError) as error:
            line = f"{cohort.entry.files}: row {row.Index}: {error}: restore it from the repository"
            raise TLEError(line) from None
    return found


def verified_files(cohort):
    """Local files of an OpenNeuro cohort, told apart by content.

    Returns
    -------
    good : dict of str to pathlib.Path
        Files with the published size and sha256, by their path inside the dataset.
    bad : list of pathlib.Path
        Files that exist under the right name with other bytes.
    """
    state, published = _Verified(cohort.folder), published_files(cohort)
    good = {path: cohort.folder / path for path in published if state.holds(path, published[path])}
    state.save()
    return good, [cohort.folder / path for path in published if path not in good and (cohort.folder / path).exists()]


class _Folder:
    """A mirror on disk: a file is found by its path in the dataset, by its name, or by its content."""

    again = "run fetch with another --mirror or without"

    def __init__(self, folder, progress):
        self.folder, self.progress = Path(folder).expanduser(), progress
        if not self.folder.is_dir():
            raise TLEError(f"--mirror {folder}: neither a web address nor a folder: check the path")

    @functools.cached_property
    def _by_size(self):
        found = {}
        for parent, _, names in os.walk(self.folder):
            for file in (Path(parent, name) for name in sorted(names)):
                if file.is_file():
                    found.setdefault(file.stat().st_size, []).append(file)
        return found

    def _candidates(self, path, size):
        yield from (self.folder / path, self.folder / Path(path).name)
        yield from self._by_size.get(size, ())

    def read(self, path, published):
        """Bytes of the file; ValueError where no file in the mirror has them."""
        for file in self._candidates(path, published.size):
            if file.is_file() and file.stat().st_size == published.size and published.is_of(data := file.read_bytes()):
                self.progress.update(len(data))
                self.progress.close()
                return data
        raise ValueError("no file in the mirror has its sha256")


class _Web:
    """A web server, which is asked again after a fault that may pass."""

    again = "run fetch again"

    def __init__(self, address, progress):
        def as_stored(answer, **_):  # some servers say of a file that ends in .gz that it is packed on the way
            answer.raw.headers.discard("Content-Encoding")

        self.address, self.progress = address.rstrip("/"), progress
        options = {"headers": {"Accept-Encoding": "identity"}, "hooks": {"response": as_stored}, "timeout": TIMEOUT}
        self.pull = pooch.HTTPDownloader(progress, chunk_size=1 << 16, **options)

    def read(self, path, published):
        """Bytes of the file; requests.RequestException or ValueError where they cannot be had."""
        for attempt in range(ATTEMPTS):
            if attempt:
                self.progress.reset()
                time.sleep(BACKOFF * 2 ** (attempt - 1))
            data = io.BytesIO()
            try:
                self.pull(f"{self.address}/{path}", data, None)
                if published.is_of(data.getbuffer()):
                    return data.getvalue()
                fault = ValueError("the bytes that came do not have the published sha256")
            except requests.RequestException as error:
                fault, code = error, getattr(error.response, "status_code", 500)
                if code < 500 and code not in (408, 425, 429):
                    break
        raise fault


def _plain(error):
    if isinstance(error, requests.HTTPError):
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.RequestException):
        slow = isinstance(error, requests.Timeout) or "timed out" in str(error)
        return "the server did not answer in time" if slow else f"the connection broke ({type(error).__name__})"
    return getattr(error, "strerror", None) or str(error)


def _wanted(cohort, published, only, limit):
    """Paths of the files that are asked for."""
    if only not in (None, "table", "images"):
        raise TLEError(f"--only {only}: use table or images")
    if limit is not None and limit < 1:
        raise TLEError(f"--limit {limit}: use a whole number from 1")
    tables = [path for path in published if path in cohort.entry.table]
    images = [path for path in published if path not in cohort.entry.table]
    wanted = (tables if only != "images" else []) + (images[:limit] if only != "table" else [])
    if not wanted:
        raise TLEError(f"{cohort.name}: the table is not part of the dataset: {cohort.entry.table_from}")
    return wanted


def fetch(cohort, *, only=None, limit=None, mirror=None):
    """Download an OpenNeuro cohort's files into ``downloads/<name>`` and verify every one.

    What is there with the published size and sha256 is skipped; a fault that may pass is tried again.

    Parameters
    ----------
    only : {"table", "images"}, optional
        Only the participants table, or only the scans.
    limit : int, optional
        Only the first scans of the list.
    mirror : str or path-like, optional
        A web address or folder to take the files from instead. In a folder a file is found by its path in the
        dataset, by its name or by its content.

    Returns
    -------
    list of pathlib.Path
        The selected files, all verified.

    Raises
    ------
    TLEError
        No network, no space, or files that could not be had; what was had stays.
    """
    published, name, entry, folder = published_files(cohort), cohort.name, cohort.entry, cohort.folder
    wanted, state, where = _wanted(cohort, published, only, limit), _Verified(folder), f"downloads/{name}"
    missing = [path for path in wanted if not state.holds(path, published[path])]
    size = sum(published[path].size for path in missing)
    there = f"{len(wanted) - len(missing)} of {len(wanted)} files there and verified"
    print(f"{name}: {there}, {amount(size)} to get", flush=True)
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
    if free < size:
        raise TLEError(f"{where}: {amount(size)} needed, {amount(free)} free: make room or use --limit")
    address = f"{entry.url}/{entry.dataset}" if mirror is None else str(mirror)
    kind = _Web if address.startswith(("http://", "https://")) else _Folder
    source, failed, in_a_row = kind(address, Progress(size, name, "B")), {}, 0
    try:
        for path in missing:
            try:
                write_bytes(folder / path, source.read(path, published[path]))
                if not state.holds(path, published[path]):
                    raise ValueError("it changed while it was written")
                in_a_row = 0
            except (OSError, ValueError) as error:  # of requests too
                if isinstance(next(iter(error.args), None), urllib3.exceptions.MaxRetryError):
                    remedy = f"run fetch again, copy the files to {where} or pass --mirror FOLDER"
                    raise TLEError(f"{name}: no network ({address} cannot be reached): {remedy}") from None
                failed[path], in_a_row = _plain(error), in_a_row + 1
                if in_a_row == GIVE_UP_AFTER and kind is _Web:
                    break
    finally:
        state.save()
    if failed:
        first, why = next(iter(failed.items()))
        count = sum(not state.holds(path, published[path]) for path in missing)
        raise TLEError(f"{name}: {count} of {len(wanted)} files are missing (first: {first}: {why}): {source.again}")
    if entry.table_from:
        print(f"{name}: the clinical table comes separately: {entry.table_from}")
    return [folder / path for path in wanted]
