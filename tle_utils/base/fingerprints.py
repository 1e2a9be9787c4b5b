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
import os
from pathlib import Path

from tle_utils.base.errors import TLEError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tle_utils"
ASSETS = {".tsv", ".yaml", ".html", ".js"}


def sha256(path):
    """Checksum of a file's bytes (str)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_of(path):
    """Checksum of a file's bytes, or of a folder's files by name and content; else why it cannot be read (str)."""
    path = Path(path)
    try:
        if not path.is_dir():
            return sha256(path)
        found = [file for file in sorted(path.rglob("*")) if file.is_file()]
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return digest({file.relative_to(path).as_posix(): content_of(file) for file in found})


def stamp_of(path):
    """What changes with every change of a file (list of int): where it is the same, the content is; None: not known."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return None if os.path.isdir(path) else [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def digest(content):
    """Checksum of anything JSON can hold (str)."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@functools.cache
def _doors_table(folder):
    """Names that a door offers, each with the file behind it: what its ``lazy_loader.attach`` says."""
    for node in ast.walk(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "submod_attrs":
            table = ast.literal_eval(node.value)
            return {name: folder / f"{file}.py" for file, names in table.items() for name in names}
    return {}


def _behind(name):
    """Files of the package behind a dotted name: a module, a name that a door offers, or everything behind a door."""
    package, first, second, *_ = *name.split("."), "", ""
    if package != PACKAGE.name:
        return set()
    folder = PACKAGE / first if (PACKAGE / first / "__init__.py").is_file() else PACKAGE
    inside = second if folder != PACKAGE else first
    init, file = folder / "__init__.py", folder / f"{inside}.py"
    if inside:
        return {file if file.is_file() else _doors_table(folder).get(inside, init)}
    return {init} if folder == PACKAGE else {*folder.glob("*.py")}


def _imported(tree):
    """Files of the package that parsed code imports, anywhere in it; of a door only what stands behind names in use."""
    nodes, found, doors = list(ast.walk(tree)), set(), {}
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if (ROOT / full.replace(".", "/") / "__init__.py").is_file():
                    doors[alias.asname or alias.name] = full
                else:
                    found.add(full)
    of_doors = {node for node in nodes if isinstance(node, ast.Name) and node.id in doors}
    named = {node.value: node.attr for node in nodes if isinstance(node, ast.Attribute) and node.value in of_doors}
    found |= {f"{doors[node.id]}.{named[node]}" if node in named else doors[node.id] for node in of_doors}
    return set().union(*map(_behind, found))


class _WithoutTexts(ast.NodeTransformer):
    """Takes out docstrings and other texts that nothing is done with."""

    def visit_Expr(self, node):
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


@functools.cache
def _file(path):
    """Files that a file of the package imports, and checksums of its code and of the assets it names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported, texts = _imported(tree), {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    found = {path: digest(ast.dump(_WithoutTexts().visit(tree)))}
    assets = [asset for asset in path.parent.iterdir() if asset.suffix in ASSETS and asset.name in texts]
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


def code_of(source):
    """What Python code (str; all cells of a notebook, of which IPython magic is skipped) is made from in this package.

    Returns a dict by path from the project's root: the checksum (str) of the parsed code of every module that is
    imported, directly or through others, and of the tables and templates that these name. SyntaxError: not Python.
    """
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()]
    return _deep(_imported(ast.parse("\n".join(lines))))


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
