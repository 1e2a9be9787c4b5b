"""Checksums: of files, of values, and of the code that a result is made with.

What a result is made from does not hang on how the code is laid out: it is the parsed code, without comments and
docstrings, of the modules that are imported, however deep. Notebooks import doors (``from tle_utils import models``);
of a door counts the file behind each name that is used.
"""

import ast
import functools
import hashlib
import importlib.metadata
import json
from pathlib import Path

from tle_utils.base.errors import TLEError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tle_utils"
ASSETS = {".tsv", ".yaml", ".html", ".js"}


def sha256(path):
    """Checksum of a file's bytes (str)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(content):
    """Checksum of anything JSON can hold (str)."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@functools.cache
def _doors_table(folder):
    """Names that a door offers, each with the file behind it: what its ``lazy.attach`` says."""
    for node in ast.walk(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("attach"):
            said = next(word.value for word in node.keywords if word.arg == "submod_attrs")
            return {name: folder / f"{file}.py" for file, names in ast.literal_eval(said).items() for name in names}
    return {}


def _behind(name):
    """Files of the package behind a dotted name: a module, a name that a door offers, or everything behind a door."""
    first, *parts = name.split(".")
    if first != PACKAGE.name:
        return set()
    folder = PACKAGE
    for part in parts:
        if (folder / f"{part}.py").is_file():
            return {folder / f"{part}.py"}
        if not (folder / part / "__init__.py").is_file():
            return {_doors_table(folder).get(part, folder / "__init__.py")}
        folder = folder / part
    return {folder / "__init__.py"} if folder == PACKAGE else {folder / "__init__.py", *folder.glob("*.py")}


def _imported(tree):
    """Files of the package that parsed code imports, anywhere in it."""
    names, found = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    doors = {name for name, full in names.items() if (ROOT / full.replace(".", "/") / "__init__.py").is_file()}
    found |= {full for name, full in names.items() if name not in doors}
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in doors:
            found.add(f"{names[node.value.id]}.{node.attr}")
            inside.add(node.value)
    found |= {names[n.id] for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in doors and n not in inside}
    return set().union(*map(_behind, found))


def _is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@functools.cache
def _file(path):
    """Files that a file of the package imports, and checksums of its code and of the assets it names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = _imported(tree)
    named = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            if isinstance(getattr(node, field, None), list):
                setattr(node, field, [line for line in getattr(node, field) if not _is_text(line)])
    found = {path: digest(ast.dump(tree))}
    assets = [asset for asset in path.parent.iterdir() if asset.suffix in ASSETS and asset.name in named]
    return imported, found | {asset: sha256(asset) for asset in assets}


def _deep(paths):
    """Checksums of files and of all that they import, by their path from the project's root."""
    todo, seen, found = {PACKAGE / "__init__.py", *paths}, set(), {}
    while todo:
        path = todo.pop()
        seen.add(path)
        imported, checksums = _file(path)
        found |= checksums
        todo |= imported - seen
    return {path.relative_to(ROOT).as_posix(): found[path] for path in sorted(found)}


def code_of(sources):
    """What Python code is made from within this package.

    Parameters
    ----------
    sources : iterable of str
        Code, for example of a notebook's cells; lines of IPython magic are skipped.

    Returns
    -------
    dict of str to str
        Checksum of the parsed code of every module that is imported, directly or through others, and of the tables
        and templates that these name; by path from the project's root.

    Raises
    ------
    SyntaxError
        A source is not Python.
    """
    found = set()
    for source in sources:
        lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()]
        found |= _imported(ast.parse("\n".join(lines)))
    return _deep(found)


@functools.cache
def code_version(module, *packages):
    """Checksum (str) of the parsed code of a module (its dotted name) and of all that it imports within this package.

    Versions of other packages that the result depends on are named in `packages`. It is the key of everything that is
    kept on disk between runs.
    """
    paths = _behind(module)
    if any(path.name == "__init__.py" for path in paths):
        raise TLEError(f"{module}: no module of tle_utils: name the file that makes the result")
    return digest([_deep(paths), {name: importlib.metadata.version(name) for name in packages}])
