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
from tle_utils.base.fingerprints import sha256, stamp_of
from tle_utils.base.parallel import Progress
from tle_utils.base.text import amount
from tle_utils.cohorts.manifest import OpenNeuro, inside
from tle_utils.cohorts.tables import read_table

ATTEMPTS = 4
BACKOFF = 1.0  # s before the second attempt, and times 4 and 9 before the next ones
TIMEOUT = (10, 30)  # s to connect, and between two chunks
GIVE_UP_AFTER = 3  # files in a row that a server could not give


class Published(NamedTuple):
    """Size in bytes and sha256 of a file as it was published."""

    size: int
    sha256: str

    def is_of(self, data):
        """Whether bytes are the published ones."""
        return hashlib.sha256(data).hexdigest() == self.sha256


def published_files(cohort):
    """Every file of an OpenNeuro cohort by its path inside the dataset (dict of str to Published, as listed).

    `TLEError`: the cohort is of another kind, the list is missing, or a row of it is not readable.
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


def _verified(folder, published):
    """Local files with the published bytes by path; a file's stamp is kept, so that it is hashed once."""
    state, known, good = folder / ".verified.json", {}, {}
    with contextlib.suppress(OSError, ValueError):
        known = dict(json.loads(state.read_text(encoding="utf-8")))
    for path, (size, checksum) in published.items():
        file = folder / path
        if os.path.isfile(file) and os.access(file, os.R_OK) and file.stat().st_size == size:
            now = [*stamp_of(file), checksum]
            if known.get(path) == now or sha256(file) == checksum:
                good[path], known[path] = file, now
    if good:
        with contextlib.suppress(TLEError):  # a folder that cannot be written to is only slower the next time
            write_json(state, known)
    return good


def verified_files(cohort):
    """Local files of an OpenNeuro cohort, told apart by content.

    Returns those with the published size and sha256 (dict of path inside the dataset to pathlib.Path), and those that
    exist under a published name with other bytes (list of pathlib.Path).
    """
    published = published_files(cohort)
    good = _verified(cohort.folder, published)
    return good, [
        cohort.folder / path for path in published if path not in good and os.path.exists(cohort.folder / path)
    ]


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
            time.sleep(BACKOFF * attempt**2)
            self.progress.reset()
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


def _wanted(cohort, only, limit):
    """Files that are asked for, by path."""
    if only not in (None, "table", "images"):
        raise TLEError(f"--only {only}: use table or images")
    if limit is not None and limit < 1:
        raise TLEError(f"--limit {limit}: use a whole number from 1")
    published = published_files(cohort)
    tables = [path for path in published if path in cohort.entry.table and only != "images"]
    images = [path for path in published if path not in cohort.entry.table and only != "table"]
    if not tables + images:
        raise TLEError(f"{cohort.name}: the table is not part of the dataset: {cohort.entry.table_from}")
    return {path: published[path] for path in tables + images[:limit]}


def fetch(cohort, *, only=None, limit=None, mirror=None):
    """Download an OpenNeuro cohort's files into ``downloads/<name>`` and verify every one.

    What is there with the published size and sha256 is skipped; a fault that may pass is tried again. `only`
    (``"table"`` or ``"images"``) takes the participants table or the scans alone, `limit` (int) the first scans of the
    list; `mirror` is a web address, or a folder (see `_Folder`), to take the files from instead.

    Returns the selected files (list of pathlib.Path), all verified. `TLEError`: no network, no space, or files that
    could not be had; what was had stays.
    """
    name, entry, folder, where = cohort.name, cohort.entry, cohort.folder, f"downloads/{cohort.name}"
    wanted = _wanted(cohort, only, limit)
    good = _verified(folder, wanted)
    missing = {path: published for path, published in wanted.items() if path not in good}
    size = sum(published.size for published in missing.values())
    print(f"{name}: {len(good)} of {len(wanted)} files there and verified, {amount(size)} to get", flush=True)
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
    if free < size:
        raise TLEError(f"{where}: {amount(size)} needed, {amount(free)} free: make room or use --limit")
    address = f"{entry.url}/{entry.dataset}" if mirror is None else str(mirror)
    kind = _Web if address.startswith(("http://", "https://")) else _Folder
    source, failed, in_a_row = kind(address, Progress(size, name, "B")), {}, 0
    for path, published in missing.items():
        try:
            write_bytes(folder / path, source.read(path, published))
            in_a_row = 0
        except (OSError, ValueError) as error:  # of requests too
            if isinstance(next(iter(error.args), None), urllib3.exceptions.MaxRetryError):
                remedy = f"run fetch again, copy the files to {where} or pass --mirror FOLDER"
                raise TLEError(f"{name}: no network ({address} cannot be reached): {remedy}") from None
            failed[path], in_a_row = _plain(error), in_a_row + 1
            if in_a_row == GIVE_UP_AFTER and kind is _Web:
                break
    good = _verified(folder, wanted)
    if left := [path for path in wanted if path not in good]:
        first = f"first: {left[0]}: {failed.get(left[0], 'changed on the disk')}"
        raise TLEError(f"{name}: {len(left)} of {len(wanted)} files are missing ({first}): {source.again}")
    if entry.table_from:
        print(f"{name}: the clinical table comes separately: {entry.table_from}")
    return [folder / path for path in wanted]
