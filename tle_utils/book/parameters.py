"""The parameters of the notebooks: names, types, ranges, profiles.

The cell tagged ``parameters`` of a notebook is the single source of its parameters' names, types and defaults.
papermill enforces neither; `check`, called in every notebook right after that cell, does. `resolve` puts together
what a profile (``notebooks/parameters/<profile>.yaml``) and the command line say.
"""

import ast
import contextlib
import difflib
import json
import types
from typing import Optional

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from tle_utils.base.errors import TLEError
from tle_utils.base.project import project_root, run_folder
from tle_utils.cohorts.manifest import load_manifest

RANGES = {
    **dict.fromkeys(("n_control", "n_left", "n_right", "seed", "fwhm_mm", "effect_scale", "site_effect"), {"ge": 0}),
    **dict.fromkeys(("n_repeats", "max_epochs", "batch_size", "patience", "workers", "n_sites"), {"ge": 1}),
    **dict.fromkeys(("sclerosis_fraction", "label_noise", "batch_confound"), {"ge": 0, "le": 1}),
    **dict.fromkeys(("dropout", "effect", "validation_fraction"), {"ge": 0, "lt": 1}),
    **dict.fromkeys(("n_splits", "n_seeds", "external_n"), {"ge": 2}),
    **dict.fromkeys(("factor_folds", "depth_folds", "net_folds", "dilate_mm"), {"ge": 0}),
    **dict.fromkeys(("check_folds", "check_people", "label_epochs"), {"ge": 1}),
    **dict.fromkeys(("members", "ladder_folds", "net_epochs", "volume_folds", "volume_epochs"), {"ge": 1}),
    "top": {"gt": 0, "le": 1},
    "coverage": {"gt": 0, "lt": 1},
    "site_sd": {"ge": 0, "le": 0.5},
    "age": {"ge": 0, "le": 120},
    "n_large": {"ge": 20},
    "learning_rate": {"gt": 0},
}
"""Allowed range of a parameter by its name, in any notebook (pydantic's ge, gt, le, lt)."""

FROM_COMMAND_LINE = ("profile", "cohort")
_SIMPLE = {"int": int, "float": float, "str": str, "bool": bool}
_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, validate_default=True, protected_namespaces=())


def read_notebook(path):
    """A notebook as stored (dict), the source of every cell as one string; `TLEError` where the file is none."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
    except (ValueError, KeyError, TypeError) as error:
        raise TLEError(f"{path.name}: not a notebook ({error}); restore it with git checkout") from error
    return notebook


def _type_of(node):
    if isinstance(node, ast.Name) and node.id in _SIMPLE:
        return _SIMPLE[node.id]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        if node.value.id == "list":
            return list[_type_of(node.slice)]
        if node.value.id == "Optional":
            return Optional[_type_of(node.slice)]  # noqa: UP045 - papermill sees only this spelling
    raise ValueError("its type should be int, float, str, bool, list[...] or Optional[...]")


def _model(name, fields):
    """Model of parameters (name → type, default): a whole number is fine for a float, but true is not an int."""
    checked = {key: (kind, Field(default, **RANGES.get(key, {}))) for key, (kind, default) in fields.items()}
    return create_model(name, __config__=_STRICT, **checked)


def declared(path):
    """The parameters a notebook declares, without running it: a pydantic model of names, types, defaults and ranges.

    They stand in the first code cell tagged ``parameters``, one typed assignment per line; `TLEError` names a line that
    is none.
    """
    codes = [cell for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code"]
    cells = [cell["source"] for cell in codes if "parameters" in cell["metadata"].get("tags", [])]
    if not cells:
        raise TLEError(f"{path.name}: no cell is tagged 'parameters'; tag the first code cell")
    fields = {}
    for line in ast.parse(cells[0]).body:
        if isinstance(line, ast.ImportFrom | ast.Import):
            continue
        try:
            if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name) or line.value is None:
                raise ValueError("not a typed assignment such as 'n_splits: int = 10'")
            fields[line.target.id] = (_type_of(line.annotation), ast.literal_eval(line.value))
        except ValueError as error:
            raise TLEError(f"{path.name}: parameters cell, '{ast.unparse(line)}': {error}") from error
    return _model(path.stem, fields)


def closest(name, known):
    """End of a message about a name that is not known: which known one (iterable of str) is near, or all of them."""
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"


def _validate(model, values, where):
    """All parameters of a model (dict), by default as declared; `TLEError` names the notebook `where` one is wrong."""
    try:
        return model(**values).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        name, given = first["loc"][0], first["input"]
        if first["type"] == "extra_forbidden":
            raise TLEError(f"{where}: no parameter '{name}'; {closest(name, model.model_fields)}") from None
        message = f"{where}: parameter '{name}' is {given!r}; {first['msg'][0].lower()}{first['msg'][1:]}"
        if first["type"] == "float_type" and isinstance(given, str):
            message += " (YAML reads 1e-4 as text: write 1.0e-4)"
        if first["type"] == "list_type" and isinstance(given, str):
            message += f" (papermill's -p hands on text: write -y '{{{name}: {given}}}')"
        raise TLEError(message) from None


def _injected(namespace):
    """Names that papermill assigned: its cell starts with '# Parameters'."""
    cells = [source for source in namespace.get("In", []) if source.startswith("# Parameters")]
    lines = ast.parse(cells[-1]).body if cells else []
    for line in lines:
        if isinstance(line, ast.AnnAssign):  # papermill writes none: -y was given a key such as 'seed:1'
            name, value = ast.unparse(line.target), ast.unparse(line.annotation)
            raise TLEError(f"-y '{{{name}:{value}}}': YAML wants a blank after the colon: -y '{{{name}: {value}}}'")
    return [target.id for line in lines if isinstance(line, ast.Assign) for target in line.targets]


def check(notebook, namespace):
    """Check the parameters of a running notebook, right after their cell: ``check("04_deep_model", globals())``.

    Returns the parameters as attributes (types.SimpleNamespace), and ``notebook`` (str), ``run_dir`` (Path,
    ``runs/<profile>-<cohort>`` of the project) and ``result_dir`` (Path, the notebook's own folder in it, made if
    missing). `TLEError`: a parameter has the wrong type or is out of range, papermill injected one that does not exist,
    or there is no such profile or cohort; nothing is written then.
    """
    annotations, injected = namespace.get("__annotations__", {}), _injected(namespace)
    model = _model(notebook, {name: (kind, ...) for name, kind in annotations.items()})
    names = dict.fromkeys([*annotations, *injected])
    values = _validate(model, {name: namespace[name] for name in names if name in namespace}, notebook)
    parameters = types.SimpleNamespace(**values, notebook=notebook)
    _profile_path(parameters.profile)
    load_manifest().cohort(parameters.cohort)
    parameters.run_dir = run_folder(parameters.profile, parameters.cohort)
    parameters.result_dir = parameters.run_dir / notebook
    parameters.result_dir.mkdir(parents=True, exist_ok=True)
    return parameters


def _profile_path(profile):
    known = {path.stem: path for path in sorted(project_root().glob("notebooks/parameters/*.yaml"))}
    if profile not in known:
        raise TLEError(f"no profile '{profile}' in notebooks/parameters/; known: {', '.join(known) or 'none'}")
    if "-" in profile:
        raise TLEError(f"profile '{profile}': name its file without '-', which parts profile and cohort in runs/")
    return known[profile]


class _Part(BaseModel):
    """Parameters for every notebook that declares them, and by notebook."""

    model_config = _STRICT
    everywhere: dict = Field({}, alias="global")
    notebooks: dict[str, dict] = {}


class _Profile(_Part):
    cohorts: dict[str, _Part] = {}


def _read_profile(profile):
    path = _profile_path(profile)
    try:
        return _Profile(**(yaml.safe_load(path.read_text(encoding="utf-8")) or {}))
    except (yaml.YAMLError, ValidationError, TypeError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            error = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        line = " ".join(str(error).split())
        raise TLEError(f"notebooks/parameters/{path.name}: {line}; keys are global, notebooks, cohorts") from None


def _parse_set(text):
    """``04_deep_model.max_epochs=80`` → (notebook, parameter, value); the value as Python or YAML writes it."""
    left, equals, value = text.partition("=")
    notebook, dot, name = left.partition(".")
    if not (equals and dot):
        raise TLEError(f"--set {text}: write it notebook.parameter=value, for example 04_deep_model.max_epochs=80")
    for read in (ast.literal_eval, yaml.safe_load):
        with contextlib.suppress(ValueError, SyntaxError, yaml.YAMLError):
            return notebook, name, read(value)
    return notebook, name, value


def resolve(notebooks, profile, cohort, settings=(), workers=None):
    """Parameters of every notebook: defaults, then profile, then its part for the cohort, then the command line.

    Returns a dict of notebook name to dict of all its parameters. `TLEError` names what is unknown (profile, cohort,
    notebook or parameter), of the wrong type or out of range.
    """
    models = {path.stem: declared(path) for path in notebooks}
    everywhere = set().union(*(model.model_fields for model in models.values()))
    content = _read_profile(profile)
    load_manifest().cohort(cohort)
    values = {name: {} for name in models}

    def put(notebook, name, value, source):
        if notebook not in models:
            raise TLEError(f"{source}: no notebook '{notebook}'; {closest(notebook, models)}")
        if name in FROM_COMMAND_LINE:
            raise TLEError(f"{source}: '{name}' is given by --{name}")
        known = models[notebook].model_fields
        if name not in known:
            raise TLEError(f"{source}: {notebook} has no parameter '{name}'; {closest(name, known)}")
        values[notebook][name] = value

    source = f"notebooks/parameters/{profile}.yaml"
    for part in (content, content.cohorts.get(cohort, _Part())):
        for name, value in part.everywhere.items():
            if name not in everywhere:
                raise TLEError(f"{source}: global: no notebook has a parameter '{name}'; {closest(name, everywhere)}")
            for notebook in [known for known, model in models.items() if name in model.model_fields]:
                put(notebook, name, value, source)
        for notebook, own in part.notebooks.items():
            for name, value in own.items():
                put(notebook, name, value, source)
    for text in settings:
        put(*_parse_set(text), f"--set {text}")
    fixed = {"profile": profile, "cohort": cohort} | ({} if workers is None else {"workers": workers})
    for name, model in models.items():
        values[name] |= {key: value for key, value in fixed.items() if key in model.model_fields}
    return {name: _validate(models[name], values[name], name) for name in models}
