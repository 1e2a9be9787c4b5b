"""What is out of date hangs on the code that a result is made with, however deep, and on nothing else."""

import ast
import textwrap

import pytest

from tle_utils.base import fingerprints
from tle_utils.base.errors import TLEError

FILES = {
    "__init__.py": "import os",
    "base/__init__.py": "",
    "base/errors.py": "class TLEError(Exception):\n    pass",
    "imaging/__init__.py": "",
    "imaging/atlas.py": '"""Docstring."""\nfrom tle_utils.base.errors import TLEError\nSIZE = 1\nTABLE = "regions.tsv"',
    "imaging/regions.tsv": "a\tb\n",
    "models/__init__.py": """
        import lazy_loader as lazy
        __getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={"nets": ["train"], "simple": ["guess"]})
        """,
    "models/nets.py": """
        def train():
            from tle_utils.imaging import atlas  # only here
            return atlas.SIZE
        """,
    "models/simple.py": 'def guess():\n    """Docstring."""\n    return 1',
}
NETS = "from tle_utils import models\nmodels.train()"
SIMPLE = "%matplotlib inline\nfrom tle_utils.models import guess\nguess()"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three doors; returns a function that edits a file and forgets what was read before."""
    for name, text in FILES.items():
        path = tmp_path / "tle_utils" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text) + "\n")
    monkeypatch.setattr(fingerprints, "ROOT", tmp_path)
    monkeypatch.setattr(fingerprints, "PACKAGE", tmp_path / "tle_utils")

    def edit(name, old="", new=""):
        path = tmp_path / "tle_utils" / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
        for cached in (fingerprints._file, fingerprints._doors_table, fingerprints.code_version):
            cached.cache_clear()

    edit("__init__.py")
    yield edit
    monkeypatch.undo()
    edit("__init__.py") if (tmp_path / "tle_utils").is_dir() else None


def test_of_a_door_counts_the_file_behind_the_name_that_is_used(package):
    nets = {"tle_utils/__init__.py", "tle_utils/models/nets.py", "tle_utils/imaging/atlas.py"}
    nets |= {"tle_utils/imaging/regions.tsv", "tle_utils/base/errors.py"}
    assert set(fingerprints.code_of(NETS)) == nets
    assert set(fingerprints.code_of(SIMPLE)) == {"tle_utils/__init__.py", "tle_utils/models/simple.py"}
    handed_on = set(fingerprints.code_of("from tle_utils import models\nf(models)"))
    assert handed_on == nets | {"tle_utils/models/simple.py", "tle_utils/models/__init__.py"}
    for way in (
        "import tle_utils.models.nets",
        "import tle_utils.models.nets as n",
        "from tle_utils.models import nets",
    ):
        assert set(fingerprints.code_of(way)) == nets


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("imaging/atlas.py", "SIZE = 1", "SIZE = 1  # voxels"),
        ("imaging/atlas.py", "Docstring.", "Another docstring."),
        ("models/nets.py", "  # only here", "\n            # here\n"),
        ("models/nets.py", "def train():", 'def train():\n    """New docstring."""'),
    ],
)
def test_comments_and_docstrings_change_nothing(package, name, old, new):
    before = fingerprints.code_of(NETS), fingerprints.code_version("tle_utils.models.nets")
    package(name, old, new)
    assert (fingerprints.code_of(NETS), fingerprints.code_version("tle_utils.models.nets")) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("imaging/atlas.py", "SIZE = 1", "SIZE = 2"), ("imaging/regions.tsv", "a", "c"), ("__init__.py", "os", "sys")],
)
def test_what_is_deep_inside_reaches_only_who_reads_it(package, name, old, new):
    def versions():
        return [fingerprints.code_of(cell) for cell in (NETS, SIMPLE)] + [
            fingerprints.code_version(f"tle_utils.models.{module}") for module in ("nets", "simple")
        ]

    before = versions()
    package(name, old, new)
    changed = [was != now for was, now in zip(before, versions(), strict=True)]
    assert changed == ([True] * 4 if name == "__init__.py" else [True, False, True, False])


def test_a_result_names_one_file_and_its_packages(package):
    alone = fingerprints.code_version("tle_utils.models.simple")
    assert fingerprints.code_version("tle_utils.models.simple", "numpy") != alone
    with pytest.raises(TLEError, match="tle_utils.models: no module"):
        fingerprints.code_version("tle_utils.models")


def test_every_name_of_every_door_has_its_file():
    """A door whose table names a file or a function that is gone would hide a change from what is out of date."""
    for door in fingerprints.PACKAGE.glob("*/__init__.py"):
        for name, path in fingerprints._doors_table(door.parent).items():
            assert path.is_file(), f"{door.parent.name} names {path.name}"
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert name in {n for line in tree.body for n in _bound(line)}, f"{path.name} has no {name}"


def _bound(line):
    if isinstance(line, ast.FunctionDef | ast.ClassDef):
        return [line.name]
    targets = line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
