"""One new image: what it is, whether it may be answered, and what the model reads of it.

Whatever is wrong with a scan ends as a reason on the patient's card, and then there is no probability. Only a file
that is not there or cannot be read stops the notebook.
"""

import re
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd

from tle_utils.base import fingerprints
from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas, images, names, preprocessing, regions
from tle_utils.imaging.slices import PUBLISHED_Y_MM
from tle_utils.models import hemispheres, multitask
from tle_utils.patient import out_of_distribution
from tle_utils.patient.model_card import map_options
from tle_utils.phantom import maps as phantom_maps

KINDS = {"t1w": "T1w scan", "gm": "grey-matter map"}
PHANTOMS = {"sclerosis": "With sclerosis", "no_sclerosis": "Without sclerosis", "refused": "Refused"}
"""Folders of the people of `new_phantoms`, and their titles."""
RESULTS = ("card.html", "card.json", "regions.tsv")
NO_IMAGE = (
    "No image was given, and nobody of this cohort is new to the model: "
    "name a T1w scan or a grey-matter map with the parameter image (papermill … -p image path/to/T1w.nii.gz)."
)


class Given(NamedTuple):
    """What is known of an image before it is looked at.

    The card shows it under `name`. Without an image `path` is None and `kind`, else a key of `KINDS`, is "". The truth
    is known of a phantom only: ``group``, ``sclerotic``, and ``loss``, the share of the hippocampus lost on its side.
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
    reasons, notes : list of str
        Why there is no answer (if there is no reason, the model may be asked), and what else to look at.
    map, t1w : pathlib.Path or None
        Grey-matter map and T1w on the template grid, as far as they were made.
    facts : dict
        ``input_sha256``, ``orientation``, ``qc`` and ``times`` (s), as far as they are known.
    x, volumes
        What the model reads, where it may be asked and reads them.
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

    `folder` holds the results of notebook 08, and one folder for each of `PHANTOMS`; the `image` of this run stays if
    it lies there. TLEError when a file cannot be removed.
    """
    folder, kept = Path(folder), image and Path(image).resolve()
    people = [folder, *(folder / name for name in PHANTOMS)]
    for path in [path for one in people for path in (*(one / name for name in RESULTS), *one.glob("image/*"))]:
        if path.resolve() != kept:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                reason = f"of an earlier person, cannot be removed ({error.strerror})"
                raise TLEError(f"{path.name}: {reason}: remove the folder {folder.name}") from None


def own_options(maps, modulate=None, fwhm_mm=None):
    """How a new image is prepared; a model must have learned from maps of the same kind.

    `maps` are those of the run, none where notebook 01 did not run; `modulate` and `fwhm_mm` (as in
    `preprocessing.PreprocessingOptions`) are by default as theirs. Returns what `model_store.load_models` is asked for
    (dict): ``modulate``, ``fwhm_mm``, ``y_mm``, ``space``.
    """
    found = map_options(maps) if len(maps) else preprocessing.PreprocessingOptions()
    return {
        "modulate": found.modulate if modulate is None else modulate,
        "fwhm_mm": found.fwhm_mm if fwhm_mm is None else fwhm_mm,
        "y_mm": PUBLISHED_Y_MM,
        "space": atlas.SPACE,
    }


def given_image(image, *, image_kind=None, age=None, sex=None):
    """Find the image to look at (`Given`).

    Parameters
    ----------
    image : path-like or None
        A T1w scan or a grey-matter map, or nothing.
    image_kind : {"t1w", "gm"}, optional
        By default `names.kind_by_name`.
    age, sex : optional
        Of the person: years, F or M.

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
        return Given("no image", None, "", person)
    path = Path(image)
    if not path.is_file():
        raise TLEError(f"{path.name}: no such file: check the parameter image")
    return Given(path.name, path, image_kind or names.kind_by_name(path), person)


def new_phantoms(entry, maps, folder, seed=0):
    """Left patients whom no model of a phantom cohort has seen: the next two after all that the manifest asks for.

    The first has sclerosis, the second has not; the third is the first once more, under a header in which sform and
    qform contradict each other. The strength of the effects is that of the cohort's maps.

    Parameters
    ----------
    entry : cohorts.manifest.Entry
        What the manifest says of the cohort.
    maps, folder : path-like
        Maps of the cohort, with their ``truth.tsv`` if there is one, and where each person gets a folder.
    seed : int
        Of the phantoms.

    Returns
    -------
    dict of str to Given
        By the names of `PHANTOMS`.
    """
    settings = entry.model_dump(include=set(phantom_maps.Knobs.__dataclass_fields__) - {"seed", "label_noise"})
    if (truth := Path(maps) / "truth.tsv").exists():
        settings["effect_scale"] = pd.read_csv(truth, sep="\t")["effect_scale"].iloc[0].item()
    place = phantom_maps.model_regions()[0]["name"].tolist().index("left_hippocampus")
    paths = [Path(folder) / name / "image" / names.map_name("sub-new", modulated=True) for name in PHANTOMS]
    found = []
    for number, path in enumerate(paths[:2]):
        knobs = phantom_maps.Knobs(seed, **settings | {"sclerosis_fraction": 1 - number})
        drawn = phantom_maps.draw("left", entry.n_left + number, knobs)
        row, loss = drawn["row"], 1 - np.exp(drawn["effect"][place])
        images.write_image(path, phantom_maps.stored_map(drawn, knobs) * np.float32(phantom_maps.SLOPE), atlas.AFFINE)
        person = {name: row[name] for name in ("age", "sex", "head_size_ml")}
        known = {"group": "left", "sclerotic": row["sclerotic"], "loss": float(loss)}
        found.append(Given(f"phantom {number + 1}", path, "gm", person, known))
    image = nib.load(paths[0])
    image.set_qform(np.diag([-1.0, 1, 1, 1]) @ atlas.AFFINE, 1)
    paths[2].parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, paths[2])
    found.append(found[0]._replace(name="phantom 1, contradictory header", path=paths[2], truth=None))
    return dict(zip(PHANTOMS, found, strict=True))


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
    """Preprocess an image, with its map and sidecar in `folder`; say whether the model may be asked about it (`Case`).

    It has reasons and no ``x`` and ``volumes`` where the image cannot be answered: not a T1w scan, left and right not
    known, cut off, not the size of an adult's head, failed quality checks, or a map unlike the training maps. TLEError
    when the file cannot be read.
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
        text = " ".join(str(error).split()).replace(given.path.name, given.name)
        reason = text if isinstance(error, TLEError) else f"preprocessing failed ({type(error).__name__}: {text})"
        return Case(given, [reason], [], facts={"input_sha256": fingerprints.sha256(given.path)})
    if given.person["head_size_ml"] is None:
        given = given._replace(person=given.person | {"head_size_ml": done["qc"].get("mask_ml")})
    facts = {key: done[key] for key in ("input_sha256", "orientation", "qc")} | {"times": done["times_s"]}
    flags = _of_quality(done["flags"], given.kind, model.card) + _unlike(done["map"], done["modulated"], model.card)
    case = Case(
        given,
        [found["reason"] for found in flags if found["fails"]],
        [found["reason"] for found in flags if not found["fails"]],
        done["map"],
        done["t1w"],
        facts,
    )
    return case if case.reasons else _with_inputs(case, model.card)


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
        x = multitask.load_inputs([case.map], card.y_mm) if "multitask" in card.components else None
        x = hemispheres.load_hemispheres([case.map]) if "hemispheres" in card.components else x
    except TLEError as error:
        return case._replace(reasons=[str(error).replace(str(case.map), case.given.name)])
    return case._replace(x=x, volumes=volumes)


def quality(case):
    """Figures of merit of the preprocessing with their limits (pandas.DataFrame; empty where preprocessing failed).

    One row per figure of merit: ``value``, ``lowest``, ``highest`` (NaN where there is no limit), ``meaning``.
    """
    rows = {}
    for name, value in case.facts.get("qc", {}).items():
        low, high, meaning = preprocessing.LIMITS.get(name, (np.nan, np.nan, ""))
        rows[name] = {"value": value, "lowest": low, "highest": high, "meaning": meaning}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("figure of merit").round(3)
