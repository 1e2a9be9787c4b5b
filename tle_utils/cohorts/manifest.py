"""The schema of ``data_manifest.yaml``: every cohort, where its files come from and how its labels are read."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from tle_utils.base.errors import TLEError
from tle_utils.base.project import FILE_NAME, project_root


def _as_text(value):
    if isinstance(value, bool):
        raise ValueError('YAML reads this word as true or false; put it in quotes, for example "yes"')
    return str(value) if isinstance(value, int | float) else value


def _inside(value):
    """Refuse a path that is absolute or climbs out of its folder."""
    path = PurePosixPath(value.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", value) or "\x00" in value:
        raise ValueError(f"'{value}' must be a path inside the cohort's folder, without '..'")
    return value


Text = Annotated[str, BeforeValidator(_as_text)]
Inside = Annotated[str, BeforeValidator(lambda value: _inside(value) if isinstance(value, str) else value)]
Words = Annotated[list[Text], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelRule(_Strict):
    """One rule from table columns to a class; the first rule that fits a row decides.

    Attributes
    ----------
    group : {"control", "left", "right", "exclude"}
        Class of the rows that fit.
    when : dict of str to list of str
        Column name to accepted values. All columns must fit. Values may hold ``*`` and ``?``; case does not matter;
        an empty cell counts as ``n/a``. Without `when` every row fits.
    reason : str
        Why a row is left out; required with ``exclude``.
    """

    group: Literal["control", "left", "right", "exclude"]
    when: dict[Text, Words] = {}
    reason: str = ""

    @model_validator(mode="after")
    def _reasoned(self):
        if self.group == "exclude" and not self.reason:
            raise ValueError("a rule that excludes needs a reason")
        return self


class Sclerosis(_Strict):
    """Which column tells mesial temporal sclerosis, and which of its values mean present and absent."""

    column: Text
    present: Words
    absent: Words


class Columns(_Strict):
    """Names of the table's columns. A name that is written in the manifest must exist in the table."""

    participant_id: Text = "participant_id"
    age: Text = "age"
    sex: Text = "sex"
    site: Text = "site"
    hippocampus_left: Text = "hippocampus_left"
    hippocampus_right: Text = "hippocampus_right"
    image: Text = "image"
    mts: Sclerosis | None = None


class _Cohort(_Strict):
    what: str = ""
    licence: str = ""
    source: str = ""


class Phantom(_Cohort):
    """Grey-matter maps made on the spot; the names are those of `tle_utils.phantom.maps.make_phantom`."""

    kind: Literal["phantom"]
    n_control: int = Field(170, ge=0)
    n_left: int = Field(170, ge=0)
    n_right: int = Field(160, ge=0)
    effect_scale: float = Field(1.0, ge=0)
    sclerosis_fraction: float = Field(0.45, ge=0, le=1)
    n_sites: int = Field(1, ge=1)
    site_effect: float = Field(0.0, ge=0)
    batch_confound: float = Field(0.0, ge=0, le=1)
    label_noise: float = Field(0.0, ge=0, le=1)


class PhantomT1w(_Cohort):
    """A few T1w phantoms made on the spot."""

    kind: Literal["phantom_t1w"]
    n: int = Field(6, ge=1)


class Planted(_Cohort):
    """A unilateral hippocampal loss planted into real scans of the cohort `base`.

    Attributes
    ----------
    base : str
        Name of the cohort that gives the scans.
    effect : float
        Fraction of the hippocampal volume taken away on one side.
    n_left, n_right : int
        Participants with a planted loss on that side; the others stay controls.
    """

    kind: Literal["planted"]
    base: str
    effect: float = Field(0.4, gt=0, lt=1)
    n_left: int = Field(ge=0)
    n_right: int = Field(ge=0)


class _Scans(_Cohort):
    table: list[Text] = Field(["participants.tsv"], min_length=1)
    table_from: str = ""
    images: Inside | None = None
    columns: Columns = Columns()
    labels: list[LabelRule] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _one_table(cls, data):
        if isinstance(data, dict) and isinstance(data.get("table"), str):
            data = {**data, "table": [data["table"]]}
        return data


class Bids(_Scans):
    """T1w scans in a BIDS folder.

    Attributes
    ----------
    path : str
        Folder; may hold ``${VARIABLES}``; relative to the folder of the manifest.
    table : list of str
        Participants tables (TSV, CSV or XLSX), relative to `path`; their rows are joined.
    images : str, optional
        Glob pattern of the scans in `path`, where BIDS names do not tell which session or run to take.
    columns, labels
        How the table is read.
    """

    kind: Literal["bids"]
    path: Text


class Derivatives(_Scans):
    """Ready grey-matter maps (CAT12, SPM, sMRIPrep) in a folder and a table; fields as in `Bids`."""

    kind: Literal["derivatives"]
    path: Text


class OpenNeuro(_Scans):
    """A dataset of OpenNeuro that `tle_utils.cohorts.download.fetch` downloads.

    Attributes
    ----------
    dataset : str
        Accession number.
    url : str
        Address in front of ``<dataset>/<path of the file>``.
    files : str
        Table with path, bytes and sha256 of every file, relative to the manifest.
    table_from : str
        How to get the table where it is not part of the dataset.
    """

    kind: Literal["openneuro"]
    dataset: str = Field(pattern=r"^ds\d{6}$")
    url: str = Field("https://s3.amazonaws.com/openneuro.org", pattern=r"^https?://")
    files: Inside


Entry = Annotated[
    Phantom | PhantomT1w | Planted | Bids | Derivatives | OpenNeuro,
    Field(discriminator="kind"),
]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Manifest(_Strict):
    """All cohorts by name; `root` is the folder of the manifest, to which relative paths refer."""

    cohorts: dict[Name, Entry] = Field(min_length=1)
    _root: Path = PrivateAttr(default=Path("."))
    _file: str = PrivateAttr(default=FILE_NAME)

    @model_validator(mode="after")
    def _bases(self):
        for name, entry in self.cohorts.items():
            if isinstance(entry, Planted) and not isinstance(self.cohorts.get(entry.base), _Scans):
                raise ValueError(f"cohorts.{name}.base: '{entry.base}' is not a cohort with scans")
        return self

    @property
    def root(self):
        """Folder of the manifest."""
        return self._root

    def cohort(self, name):
        """Entry of a cohort.

        Raises
        ------
        TLEError
            Unknown name; the message lists the known ones.
        """
        if name not in self.cohorts:
            raise TLEError(f"unknown cohort '{name}': {self._file} has {', '.join(sorted(self.cohorts))}")
        return self.cohorts[name]

    def folder(self, name):
        """Folder that holds a cohort's table and scans (absolute; need not exist).

        Raises
        ------
        TLEError
            The path names an environment variable that is not set.
        """
        entry = self.cohort(name)
        if not isinstance(entry, Bids | Derivatives):
            return self.root / "downloads" / name

        def value(match):
            default = self.root / "../shared/data" if match[1] == "TLE_SHARED_DATA" else None
            found = os.environ.get(match[1], default)
            if found is None:
                raise TLEError(f"{self._file}: cohorts.{name}.path: set the environment variable {match[1]}")
            return str(found)

        text = re.sub(r"\$\{(\w+)\}", value, entry.path)
        return Path(os.path.abspath(self.root / Path(text).expanduser()))


def _duplicate_key(node, seen_at=""):
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        for (key, child), text in zip(node.value, keys, strict=True):
            if keys.count(text) > 1:
                return f"{seen_at}{text} stands twice (line {key.start_mark.line + 1})"
            if found := _duplicate_key(child, f"{seen_at}{text}."):
                return found
    elif isinstance(node, yaml.SequenceNode):
        return next(filter(None, (_duplicate_key(n, f"{seen_at}{i}.") for i, n in enumerate(node.value))), None)
    return None


def load_manifest(path=None):
    """Read and check a manifest.

    Parameters
    ----------
    path : path-like, optional
        The file; by default the project's ``data_manifest.yaml``.

    Returns
    -------
    Manifest

    Raises
    ------
    TLEError
        The file is missing, is not YAML or breaks the schema; the line names file and field.
    """
    path = Path(path) if path is not None else project_root() / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8-sig")
        twice = _duplicate_key(yaml.compose(text, Loader=yaml.SafeLoader))
        data = yaml.safe_load(text)
    except OSError as error:
        raise TLEError(f"{path.name}: cannot be read ({error.strerror}): check the path {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or type(error).__name__
        raise TLEError(f"{path.name}{place}: not readable as YAML ({reason}): check indentation and quotes") from None
    if twice:
        raise TLEError(f"{path.name}: {twice}: keep one of them")
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        first, *more = error.errors()
        kinds = {"phantom", "phantom_t1w", "planted", "bids", "derivatives", "openneuro"}
        place = list(first["loc"])
        if len(place) > 2 and place[2] in kinds:
            del place[2]
        field = ".".join(map(str, place)) or "file"
        message = first["msg"].removeprefix("Value error, ")
        rest = f" (and {len(more)} more)" if more else ""
        raise TLEError(f"{path.name}: {field}: {message}{rest}") from None
    manifest._root, manifest._file = Path(os.path.abspath(path)).parent, path.name
    return manifest
