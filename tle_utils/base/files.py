"""Files in place at once: each is written under a temporary name first; and arrays that are kept between runs."""

import contextlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np

from tle_utils.base.errors import TLEError


@contextlib.contextmanager
def put_in_place(path):
    """Temporary path beside `path` (with its suffixes), which becomes `path` when the block ends well.

    `TLEError` where it cannot be written; nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise TLEError(f"{path.name}: cannot be written ({error.strerror}): free space or change the folder") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_bytes(path, payload):
    """Write bytes atomically (`TLEError` when that is impossible)."""
    with put_in_place(path) as temporary:
        temporary.write_bytes(payload)


def write_text(path, text):
    """Write a text file atomically (`TLEError` when that is impossible)."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path, content):
    """Write a JSON file atomically, keys as given."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_table(path, table, digits=None, decimals=None):
    """Write a pandas.DataFrame as TSV atomically, without its index.

    Numbers have `digits` significant digits or a fixed number of `decimals`, by default all they have.
    """
    number = f"%.{digits}g" if digits else None if decimals is None else f"%.{decimals}f"
    write_text(path, table.to_csv(sep="\t", index=False, float_format=number))


def read_arrays(path):
    """Arrays of an npz file by name (dict); None where there is no readable file. Nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def kept_arrays(path, key, make, compressed=False):
    """Arrays (dict of str to numpy.ndarray) that an npz file keeps, made anew where its key differs: the one cache.

    `key` is the checksum (str) of all that they depend on, with `fingerprints.code_version` of the module that makes
    them; it is kept as the array ``key``. `make` returns the arrays by name. `compressed`: smaller and slower to write.
    """
    stored = read_arrays(path)
    if stored is not None and str(stored.get("key")) == key:
        return stored
    made = make() | {"key": np.asarray(key)}
    with put_in_place(path) as temporary:
        (np.savez_compressed if compressed else np.savez)(temporary, **made)
    return made
