"""One new image: what it is, whether it may be answered, and what the model reads of it.

Whatever is wrong with a scan ends as a reason on the patient's card, and then there is no probability. Only a file
that is not there or cannot be read stops the notebook.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd

from tle_utils.base import fingerprints
from tle_utils.base.errors import TLEError
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.imaging import atlas, images, preprocessing, regions
from tle_utils.imaging.slices import PUBLISHED_Y_MM
from tle_utils.models import multitask
from tle_utils.patient import out_of_distribution
from tle_utils.patient.model_files import map_options
from tle_utils.phantom import maps as phantom_maps

KINDS = {"t1w": "T1w scan", "gm": "grey-matter map"}
RESULTS = ("card.html", "card.json", "regions.tsv")
NO_IMAGE = (
    "No image was given, and nobody of this cohort is new to the model: "
    "name a T1w scan or a grey-matter map with the parameter image (papermill … -p image path/to/T1w.nii.gz)."
)


class Given(NamedTuple):
    """What is known of an image before it is looked at.

    Attributes
    ----------
    name : str
        As the card shows it: the file's name.
    path : pathlib.Path or None
        None: there is no image.
    kind : str
        A key of `KINDS`; "" without an image.
    person : dict
        ``age`` (years), ``sex`` (F or M), ``head_size_ml``; None where not known.
    truth : dict or None
        Of a phantom: ``group``, ``sclerotic``, and ``loss`` of the hippocampus on its side (share of the volume).
    """

    name: str
    path: Path | None
    kind: str
    person: dict
    truth: dict | None = None


class Case(NamedTuple):
    """A new image after preprocessing and its checks.

    Attributes
    ----------
    given : Given
        The image; its head size is filled in where preprocessing measured it.
    reasons : list of str
        Why there is no answer; empty: the model may be asked.
    notes : list of str
        What else to look at.
    map, t1w : pathlib.Path or None
        Grey-matter map and T1w on the template grid, as far as they were made.
    facts : dict
        ``input_sha256``, ``orientation``, ``qc`` and ``times``, as far as they are known.
    x : numpy.ndarray or None
        Slices for the networks, shape (1, rows, columns, slices).
    volumes : pandas.DataFrame or None
        One row of `regions.read_regional_volumes`.
    """

    given: Given
    reasons: list
    notes: list
    map: Path | None = None
    t1w: Path | None = None
    facts: dict = {}
    x: np.ndarray | None = None
    volumes: pd.DataFrame | None = None


def clear_results(folder, image=None):
    """Remove what an earlier run left of its person: card, table of regions, maps; so that none is taken for another's.

    Parameters
    ----------
    folder : path-like
        Results of notebook 08.
    image : path-like, optional
        The image of this run, which stays if it lies in the folder.

    Raises
    ------
    TLEError
        When a file cannot be removed.
    """
    folder = Path(folder)
    for path in [*(folder / name for name in RESULTS), *folder.glob("image/*")]:
        if image is None or path.resolve() != Path(image).resolve():
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                reason = f"cannot be removed ({error.strerror})"
                raise TLEError(
                    f"{path.name}: of an earlier person, {reason}: remove the folder {folder.name}"
                ) from None


def own_options(maps, modulate=None, fwhm_mm=None):
    """How a new image is prepared; a model must have learned from maps of the same kind.

    Parameters
    ----------
    maps : sequence of path-like
        Maps of the run; empty where notebook 01 did not run.
    modulate : bool, optional
        As in `preprocessing.PreprocessingOptions`; by default as the maps of the run, else True.
    fwhm_mm : float, optional
        The same, by default as the maps of the run, else 0.

    Returns
    -------
    dict
        ``modulate``, ``fwhm_mm``, ``y_mm``, ``space``: arguments of `model_store.load_models`.
    """
    found = map_options(maps) if len(maps) else preprocessing.PreprocessingOptions()
    return {
        "modulate": found.modulate if modulate is None else modulate,
        "fwhm_mm": found.fwhm_mm if fwhm_mm is None else fwhm_mm,
        "y_mm": PUBLISHED_Y_MM,
        "space": atlas.SPACE,
    }


def given_image(image, *, image_kind=None, age=None, sex=None, cohort=None, folder=None, made=None, seed=0):
    """Find the image to look at.

    Parameters
    ----------
    image : path-like or None
        A T1w scan or a grey-matter map. None: a new phantom where the cohort is a phantom, else nothing.
    image_kind : {"t1w", "gm"}, optional
        By default `preprocessing.kind_by_name`.
    age : float, optional
        Years.
    sex : {"F", "M"}, optional
        Sex.
    cohort : str, optional
        Cohort of the run.
    folder : path-like, optional
        Results of notebook 01, for the settings of a phantom.
    made : path-like, optional
        Folder for a new phantom's map.
    seed : int
        Seed of a new phantom.

    Returns
    -------
    Given

    Raises
    ------
    TLEError
        When the file does not exist, its name is that of a map of another tissue, or the kind or the sex is not known.
    """
    if image_kind not in (None, *KINDS):
        raise TLEError(f"image_kind is '{image_kind}': give t1w or gm, or leave it out")
    if sex not in (None, "F", "M"):
        raise TLEError(f"sex is '{sex}': give F or M, or leave it out")
    person = {"age": age, "sex": sex, "head_size_ml": None}
    if image is None:
        if cohort and load_manifest().cohort(cohort).kind == "phantom":
            return new_phantom(cohort, folder, made, seed=seed)
        return Given("no image", None, "", person)
    path = Path(image)
    if not path.is_file():
        raise TLEError(f"{path.name}: no such file: check the parameter image")
    return Given(path.name, path, image_kind or preprocessing.kind_by_name(path), person)


def new_phantom(cohort, folder, made, *, seed=0):
    """Make a patient whom no model of the cohort has seen: the next left one after all that the manifest asks for.

    Parameters
    ----------
    cohort : str
        A phantom cohort of the manifest.
    folder : path-like
        Results of notebook 01; ``maps/truth.tsv`` says how strong the effects of its cohort are.
    made : path-like
        Folder for the map.
    seed : int
        Seed of the cohort.

    Returns
    -------
    Given
    """
    entry = load_manifest().cohort(cohort)
    settings = entry.model_dump(include=set(phantom_maps.Knobs.__dataclass_fields__) - {"seed", "label_noise"})
    truth = Path(folder) / "maps" / "truth.tsv"
    if truth.exists():
        settings |= (
            pd.read_csv(truth, sep="\t", usecols=["effect_scale", "sclerosis_fraction"], nrows=1).iloc[0].to_dict()
        )
    knobs = phantom_maps.Knobs(seed, **settings)
    drawn = phantom_maps.draw("left", entry.n_left, knobs)
    path = Path(made) / preprocessing.map_name("sub-new", modulated=True)
    images.write_image(path, phantom_maps.stored_map(drawn, knobs) * np.float32(phantom_maps.SLOPE), atlas.AFFINE)
    names = phantom_maps.model_regions()[0]["name"].tolist()
    loss = 1 - np.exp(drawn["effect"][names.index("left_hippocampus")])
    row = drawn["row"]
    person = {name: row[name] for name in ("age", "sex", "head_size_ml")}
    known = {"group": "left", "sclerotic": bool(row["sclerotic"]), "loss": float(loss)}
    return Given("a new phantom", path, "gm", person, known)


def _readable(path):
    try:
        np.asarray(nib.load(path).dataobj)
    except Exception:  # nibabel and gzip raise many kinds; every one of them means that the file is no good
        return False
    return True


def _label(given):
    """Stem of the file's name, in characters that every file system takes."""
    stem = given.name
    for suffix in (*images.SUFFIXES, "_T1w"):
        stem = stem.removesuffix(suffix)
    return re.sub(r"[^A-Za-z0-9-]+", "-", stem).strip("-") or "image"


def examine(given, model, folder):
    """Preprocess an image and say whether the model may be asked about it.

    Parameters
    ----------
    given : Given
        From `given_image`.
    model : ensemble.Ensemble
        From `model_store.load_models`.
    folder : path-like
        For the map and its sidecar.

    Returns
    -------
    Case
        With reasons and without ``x`` and ``volumes`` where the image cannot be answered: not a T1w scan, left and
        right not known, cut off, not the size of an adult's head, failed quality checks, or a map unlike the training
        maps.

    Raises
    ------
    TLEError
        When the file cannot be read.
    """
    if given.path is None:
        return Case(given, [NO_IMAGE], [])
    wanted = model.card.preprocessing
    options = preprocessing.PreprocessingOptions(modulate=wanted.modulate, fwhm_mm=wanted.fwhm_mm)
    try:
        done = preprocessing.preprocess(given.path, folder, _label(given), options, given.kind)
    except Exception as error:  # whatever a strange scan brings about is a reason to give no answer
        if not _readable(given.path):
            raise
        text = " ".join(str(error).split())
        reason = text if isinstance(error, TLEError) else f"preprocessing failed ({type(error).__name__}: {text})"
        return Case(given, [reason], [], facts={"input_sha256": fingerprints.sha256(given.path)})
    sidecar = json.loads(done["json"].read_text(encoding="utf-8"))
    given = given._replace(person=given.person | _head_size(given, done["qc"]))
    facts = {"input_sha256": sidecar["input_sha256"], **{key: done[key] for key in ("orientation", "qc", "times")}}
    flags = _of_quality(done["flags"], given.kind, model.card) + _unlike(done["map"], sidecar["modulated"], model.card)
    case = Case(
        given,
        [found["reason"] for found in flags if found["fails"]],
        [found["reason"] for found in flags if not found["fails"]],
        done["map"],
        done["t1w"],
        facts,
    )
    return case if case.reasons else _with_inputs(case, model.card)


def _head_size(given, qc):
    known = given.person["head_size_ml"]
    return {"head_size_ml": qc.get("mask_ml") if known is None else known}


def _of_quality(flags, kind, card):
    """Flags of preprocessing; for a ready map the training maps' own amount counts, where it is known.

    What is called grey matter differs from program to program.
    """
    known = kind == "gm" and card.out_of_distribution.mean
    return [found | {"fails": False} if known and found["name"] == "gm_ml" else found for found in flags]


def _unlike(path, modulated, card):
    """Flags of a map that is not of the kind that the model learned from."""
    if modulated != card.preprocessing.modulate:
        words = {True: "modulated", False: "not modulated"}
        reason = f"the map is {words[modulated]}, the model learned from maps that are {words[not modulated]}"
        return [images.flag("modulation", reason, True)]
    return out_of_distribution.judge(card.out_of_distribution, np.asarray(nib.load(path).dataobj, np.float32))


def _with_inputs(case, card):
    try:
        volumes = regions.read_regional_volumes([case.map])
        x = multitask.load_inputs([case.map], card.y_mm) if card.y_mm else None
    except TLEError as error:
        return case._replace(reasons=[str(error).replace(str(case.map), case.given.name)])
    return case._replace(x=x, volumes=volumes)


def quality(case):
    """Figures of merit of the preprocessing with their limits.

    Parameters
    ----------
    case : Case
        From `examine`.

    Returns
    -------
    pandas.DataFrame
        One row a figure of merit: ``value``, ``lowest``, ``highest`` (NaN where there is no limit), ``meaning``; empty
        where preprocessing did not end.
    """
    rows = {}
    for name, value in case.facts.get("qc", {}).items():
        low, high, meaning = preprocessing.LIMITS.get(name, (np.nan, np.nan, ""))
        rows[name] = {"value": value, "lowest": low, "highest": high, "meaning": meaning}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("figure of merit").round(3)
