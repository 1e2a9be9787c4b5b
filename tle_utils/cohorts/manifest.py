"""The schema of ``data_manifest.yaml``: every cohort, where its files come from and how its labels are read."""

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PrivateAttr, ValidationError, model_validator

from tle_utils.base.errors import TLEError
from tle_utils.base.project import FILE_NAME, project_root


def _as_text(value):
    if isinstance(value, bool):
        raise ValueError('YAML reads this word as true or false; put it in quotes, for example "yes"')
    value = str(value) if isinstance(value, int | float) else value
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def _as_list(value):
    return [value] if isinstance(value, str | int | float) else value


def _one_group(value):
    try:
        groups = re.compile(value).groups
    except re.error as error:
        raise ValueError(f"'{value}' is not a regular expression ({error})") from None
    if groups != 1:
        raise ValueError(f"'{value}' has {groups} groups: put brackets around the id, and only there")
    return value


def inside(value):
    """The path (str) as it is; ValueError where it is absolute or climbs out of its folder."""
    path = PurePosixPath(value.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", value) or "\x00" in value:
        raise ValueError(f"'{value}' must be a path inside the cohort's folder, without '..'")
    return value


Text = Annotated[str, BeforeValidator(_as_text)]
Inside = Annotated[str, AfterValidator(inside)]
Words = Annotated[list[Text], Field(min_length=1)]
Chosen = Annotated[Words | None, BeforeValidator(_as_list)]


class _Strict(BaseModel, extra="forbid", frozen=True):
    """Part of a manifest; a name that it does not know is refused."""


class LabelRule(_Strict):
    """One rule from table columns to a class; the first rule that fits a row decides; without `when` every row fits.

    All columns of `when` must fit: each names the values it accepts, which may hold ``*`` and ``?``; case does not
    matter; an empty cell counts as ``n/a``.
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
    """The column that tells mesial temporal sclerosis, and which of its values mean present and absent."""

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


class Ids(_Strict):
    """How ids stand in paths of scans: `from` is a regular expression whose one group is the id."""

    from_: Annotated[str, AfterValidator(_one_group)] = Field(alias="from")


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
    """Real scans of the cohort `base`, of whom `n_left` and `n_right` lose the share `effect` of a hippocampus."""

    kind: Literal["planted"]
    base: str
    effect: float = Field(0.4, gt=0, lt=1)
    n_left: int = Field(ge=0)
    n_right: int = Field(ge=0)


class Scans(_Cohort):
    """Scans in a folder and their tables: what the kinds of cohorts that are not made on the spot have in common.

    The rows of all in `table` (TSV, CSV or XLSX) are joined, and read as `columns` and `labels` say; `table_from` tells
    how to get them where they are not part of the dataset. `images` is a glob pattern in the folder, and `ids` says how
    to read ids from paths, where names do not follow the rules of `tle_utils.cohorts.scans`. From `session` to `folder`
    each names the values that are taken where participants have several scans; an empty text means files without it.
    `same_scan` allows one scan to stand under two participants.
    """

    table: list[Text] = Field(["participants.tsv"], min_length=1)
    table_from: str = ""
    images: Inside | None = None
    ids: Ids | None = None
    session: Chosen = None
    acq: Chosen = None
    run: Chosen = None
    ce: Chosen = None
    rec: Chosen = None
    space: Chosen = None
    res: Chosen = None
    desc: Chosen = None
    folder: Chosen = None
    same_scan: Literal["allowed"] | None = None
    columns: Columns = Columns()
    labels: list[LabelRule] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _one_table(cls, data):
        alone = isinstance(data, dict) and isinstance(data.get("table"), str)
        return data | {"table": [data["table"]]} if alone else data


class Local(Scans):
    """A folder of the user (`path` may hold ``${VARIABLES}``): T1w in BIDS, or maps of CAT12, SPM, sMRIPrep."""

    kind: Literal["bids", "derivatives"]
    path: Text


class OpenNeuro(Scans):
    """A dataset that `download.fetch` gets from ``<url>/<dataset>``; `files` is the table of path, bytes and sha256."""

    kind: Literal["openneuro"]
    dataset: str = Field(pattern=r"^ds\d{6}$")
    url: str = Field("https://s3.amazonaws.com/openneuro.org", pattern=r"^https?://")
    files: Inside


Entry = Annotated[Phantom | PhantomT1w | Planted | Local | OpenNeuro, Field(discriminator="kind")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


@dataclass(frozen=True)
class Cohort:
    """One cohort of the manifest, which all that reads or makes it is given.

    `entry` is what the manifest says of it, its ``kind`` tells which of them; `root` the folder of the manifest; `base`
    where the scans of a planted cohort come from.
    """

    name: str
    entry: _Cohort
    root: Path
    base: "Cohort | None" = None

    @property
    def shared(self):
        """Folder of shared data, which ``TLE_SHARED_DATA`` names (pathlib.Path, may not exist)."""
        return self.root / Path(os.environ.get("TLE_SHARED_DATA", "../shared/data")).expanduser()

    @property
    def folder(self):
        """Folder of its tables and scans (absolute Path, may not exist); `TLEError`: a variable in it is not set."""
        if not isinstance(self.entry, Local):
            return self.root / "downloads" / self.name

        def value(match):
            found = self.shared if match[1] == "TLE_SHARED_DATA" else os.environ.get(match[1])
            if found is None:
                raise TLEError(f"{FILE_NAME}: cohorts.{self.name}.path: set the environment variable {match[1]}")
            return str(found)

        path = re.sub(r"\$\{(\w+)\}", value, self.entry.path)
        return Path(os.path.abspath(self.root / Path(path).expanduser()))


class Manifest(_Strict):
    """Entries of all cohorts by name."""

    cohorts: dict[Name, Entry] = Field(min_length=1)
    _root: Path = PrivateAttr(default=Path("."))

    @model_validator(mode="after")
    def _bases(self):
        for name, entry in self.cohorts.items():
            if isinstance(entry, Planted) and not isinstance(self.cohorts.get(entry.base), Scans):
                raise ValueError(f"cohorts.{name}.base: '{entry.base}' is not a cohort with scans")
        return self

    def cohort(self, name):
        """The `Cohort` of a name; TLEError, which lists the known names, where there is none."""
        if name not in self.cohorts:
            raise TLEError(f"unknown cohort '{name}': {FILE_NAME} has {', '.join(sorted(self.cohorts))}")
        entry = self.cohorts[name]
        return Cohort(name, entry, self._root, self.cohort(entry.base) if isinstance(entry, Planted) else None)


class _Loader(yaml.SafeLoader):
    """YAML in which no key of a mapping may stand twice."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.MarkedYAMLError(problem=f"{key.value} stands twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def load_manifest(path=None):
    """Read and check a manifest (path, by default the project's); returns a `Manifest`.

    `TLEError` names file and field where it is missing, is not YAML or breaks the schema.
    """
    path = Path(path) if path is not None else project_root() / FILE_NAME
    try:
        data = _Loader(path.read_text(encoding="utf-8-sig")).get_single_data()
    except OSError as error:
        raise TLEError(f"{path.name}: cannot be read ({error.strerror}): check the path {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or type(error).__name__
        raise TLEError(f"{path.name}{place}: not readable as YAML ({reason}): check indentation and quotes") from None
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        first, *more = error.errors()
        place = first["loc"][:2] + first["loc"][3:]  # the third is the kind of the cohort
        field = ".".join(map(str, place)) or "file"
        message = first["msg"].removeprefix("Value error, ")
        rest = f" (and {len(more)} more)" if more else ""
        raise TLEError(f"{path.name}: {field}: {message}{rest}") from None
    manifest._root = Path(os.path.abspath(path)).parent
    return manifest
