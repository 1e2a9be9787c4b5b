"""How fast and how right preprocessing is: each function measures one thing on real data and returns numbers."""

import dataclasses
import functools
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
from nibabel.processing import resample_from_to

from benchmarks.benchmark import Row, Target, require, run_benchmark, run_script
from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.cohorts import prepare
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.imaging import atlas, preprocessing
from tle_utils.phantom import planting

DATA = "TLE_SHARED_DATA"
CEREBELLUM_AND_STEM = (7, 8, 15, 16, 46, 47)  # FreeSurfer's labels, here and below
CORTEX_AND_DEEP_GREY = (3, 42, 10, 11, 12, 13, 17, 18, 26, 49, 50, 51, 52, 53, 54, 58)
HIPPOCAMPUS = {"left": 17, "right": 53}
LARGE_REGION_ML = 1.0
TRUE_LOSS = (0.1, 0.6)
PHANTOMS = 9
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where the data are and how much of them is measured."""

    data: Path  # with ds000011, ds002748 and labelled
    folder: Path  # for what is made on the way
    n: int = 8  # scans of the rows that measure time
    workers: int = 2  # scans side by side
    ants_python: str | None = None  # interpreter that has antspyx; by default this one


def _existing(path):
    if not path.exists():
        raise TLEError(f"{path.name} is missing in {path.parent.name}: name the folder of the real scans in {DATA}")
    return path


class PeakMemory:
    """Largest resident memory of any process below this one, sampled while the block runs; `gib` after it."""

    def __enter__(self):
        self.over, self.bytes = threading.Event(), 0
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self):
        while not self.over.wait(0.5):  # looking more often takes time from what is measured
            for process in psutil.Process().children(recursive=True):
                try:
                    self.bytes = max(self.bytes, process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()
        self.gib = self.bytes / GIB


@functools.cache
def time_and_memory(bench, cohort, n):
    """Run `n` scans of a cohort through `prepare.prepare_maps`, as notebook 01 does.

    ``ds000011`` has whole heads, ``ds002748`` extracted brains. Returns the wall time per scan in s, and the peak
    memory of a worker in GiB (floats); `TLEError`: the scans are missing, or one of them failed.
    """
    _existing(bench.data / cohort)
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder, PeakMemory() as memory:
        start = time.monotonic()
        options = {"modulate": True, "fwhm_mm": 0.0, "seed": 0, "workers": max(2, bench.workers)}
        made = prepare.prepare_maps(load_manifest().cohort(cohort), folder, limit=n, **options)
        seconds = time.monotonic() - start
    if len(made.failed):
        raise TLEError(f"{cohort}: {made.failed['participant_id'].iloc[0]} failed: {made.failed.iloc[0].to_dict()}")
    return seconds / n, memory.gib


def _ants_one(scan, python, template, folder):
    env = os.environ | {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
    run_script("ants_recipe.py", python, scan, template, Path(folder) / Path(scan).name, env=env)


def ants_ratio(bench, n=2):
    """Wall time of `n` whole heads here over that of the plain ANTs recipe, one thread per scan, as many side by side.

    `TLEError`: no interpreter with antspyx, or the scans are missing.
    """
    python = bench.ants_python or sys.executable
    require("ants", "antspyx", "--ants-python", python)
    scans = sorted(_existing(bench.data / "ds000011").glob("sub-*/anat/*_T1w.nii.gz"))[:n]
    own = n * time_and_memory(bench, "ds000011", n)[0]
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        template = Path(folder) / "template.nii.gz"
        nib.save(atlas.template(), template)
        job = functools.partial(_ants_one, python=python, template=template, folder=folder)
        start = time.monotonic()
        run_parallel(job, scans, label="plain ANTs recipe", workers=bench.workers)
        return own / (time.monotonic() - start)


def dice(a, b):
    """Dice overlap of two masks."""
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def _on(volume, affine, image, order):
    return resample_from_to(nib.Nifti1Image(volume.astype(np.float32), affine), image, order=order).get_fdata()


@functools.cache
def labelled_head(data):
    """Brain mask and grey matter of a whole head against FreeSurfer's (tuple of float).

    Dice of the masks, share of FreeSurfer's labelled tissue inside the mask, Dice of the grey matter (cortex and deep
    grey).
    """
    folder = _existing(data / "labelled" / "epilepsy_head")
    found = preprocessing.segment(folder / "T1.mgz")
    image = nib.load(folder / "aseg.mgz")
    labels = np.asarray(image.dataobj).astype(int)
    mask = _on(found.mask, found.affine, image, 0) > 0
    reference = np.asarray(nib.load(folder / "brainmask.mgz").dataobj) > 0
    grey = (_on(found.maps["GM"], found.affine, image, 0) > 0.5) & ~np.isin(labels, CEREBELLUM_AND_STEM)
    return dice(mask, reference), mask[labels > 0].mean(), dice(grey, np.isin(labels, CORTEX_AND_DEEP_GREY))


def grey_matter_correlation(data):
    """Correlation of the grey matter with the reference map of ``labelled/brain_with_gm``, inside the brain."""
    folder = _existing(data / "labelled" / "brain_with_gm")
    found = preprocessing.segment(folder / "T1.nii.gz")
    reference, t1w = nib.load(folder / "GM.nii.gz"), nib.load(folder / "T1.nii.gz")
    inside = t1w.get_fdata() > 0
    return np.corrcoef(_on(found.maps["GM"], found.affine, reference, 1)[inside], reference.get_fdata()[inside])[0, 1]


@functools.cache
def _volumes(scan, folder, mirrored):
    """Regional volumes of a scan or of its mirror image."""
    name = f"sub-{scan.name.split('_')[0].split('.')[0].replace('sub-', '')}{'mirrored' if mirrored else ''}"
    if mirrored:
        image = nib.load(scan)
        scan = folder / f"{name}_T1w.nii.gz"
        flipped = nib.Nifti1Image(np.asarray(image.dataobj), np.diag([-1, 1, 1, 1]) @ image.affine)
        nib.save(flipped, scan)
    done = preprocessing.preprocess(scan, folder / "maps", name)
    if not done["passed"]:
        raise TLEError(f"{name}: {'; '.join(f['reason'] for f in done['flags'])}: the scan did not pass")
    return atlas.regional_volumes(nib.load(done["map"]).get_fdata())


def hippocampal_asymmetry(data, folder):
    """Hippocampal asymmetry of ``labelled/epilepsy_head``, measured and by FreeSurfer's labels."""
    head = _existing(data / "labelled" / "epilepsy_head")
    labels = np.asarray(nib.load(head / "aseg.mgz").dataobj)
    found = _volumes(head / "T1.mgz", folder, False)["hippocampus"]
    truth = [(labels == HIPPOCAMPUS[side]).sum() for side in ("left", "right")]
    return atlas.asymmetry_index(found["left"], found["right"]), atlas.asymmetry_index(*truth)


def mirror_difference(scan, folder):
    """Largest difference between a scan's regional volumes and those of its mirror image, sides changed back (float).

    It is a share of the volume; over the hippocampus and all regions above 1 ml.
    """
    straight, mirrored = (_volumes(scan, folder, mirrored) for mirrored in (False, True))
    back = mirrored.rename({"left": "right", "right": "left"}, level="hemisphere").reindex(straight.index)
    large = (straight > LARGE_REGION_ML) | (straight.index.get_level_values("region") == "hippocampus")
    return float((back / straight - 1)[large].abs().max())


@functools.cache
def phantom_truth(folder, n, workers):
    """Preprocess `n` T1w phantoms of several true losses (left, right and none in turn) and compare with their truth.

    Returns the correlation of the modulated grey matter with the truth over the voxels of the brain (mean over
    phantoms), and the slope of the recovered on the true hippocampal asymmetry (floats).
    """
    table = planting.make_phantom_t1w(folder / "phantoms", n=n, seed=0, workers=workers, loss=TRUE_LOSS)
    made = preprocessing.preprocess_cohort(table, folder / "phantom-maps", workers=workers)
    if not made["passed"].all():
        raise TLEError(f"phantom_t1w: {made.loc[~made['passed'], ['error', 'flags']].iloc[0].to_dict()}")
    inside, correlations, asymmetries = atlas.brain_mask(), [], []
    for name, truth in zip(made["map"], table["true_map"], strict=True):
        maps = [nib.load(path).get_fdata(dtype=np.float32) for path in (folder / "phantom-maps" / name, truth)]
        correlations.append(np.corrcoef(maps[0][inside], maps[1][inside])[0, 1])
        volumes = [atlas.regional_volumes(volume)["hippocampus"] for volume in maps]
        asymmetries.append([atlas.asymmetry_index(v["left"], v["right"]) for v in volumes])
    recovered, true = np.array(asymmetries).T
    return float(np.mean(correlations)), float(np.polyfit(true, recovered, 1)[0])


def rows(bench):
    """The rows of ``python -m benchmarks preprocessing`` (list of benchmarks.benchmark.Row)."""
    n, data, folder = bench.n, bench.data, bench.folder
    heads, brains = ("ds000011", f"ds000011, {n}"), ("ds002748", f"ds002748, {n}")
    head = "labelled/epilepsy_head"
    wall, memory = "wall time a scan, {}", Target("peak memory a worker", high=3, unit="GiB")
    scans = [data / head / "T1.mgz", data / "ds000011/sub-01/anat/sub-01_T1w.nii.gz"]

    def asymmetry():
        found, truth = hippocampal_asymmetry(data, folder)
        return float(np.sign(found) == np.sign(truth)), abs(found - truth)

    def both(cohort):
        return time_and_memory(bench, cohort, n)

    return [
        Row("head", heads[1], (Target(wall.format("whole head"), high=45, unit="s"), memory), lambda: both(heads[0])),
        Row("brain", brains[1], (Target(wall.format("brain"), high=30, unit="s"), memory), lambda: both(brains[0])),
        Row("ants", "ds000011, 2", (Target("time over the ANTs recipe's", high=0.3),), lambda: [ants_ratio(bench)]),
        Row(
            "mask",
            head,
            (
                Target("brain mask: Dice to FreeSurfer's", low=0.94),
                Target("brain mask: share of FreeSurfer's tissue kept", low=0.985),
            ),
            lambda: labelled_head(data)[:2],
        ),
        Row(
            "grey-dice",
            head,
            (Target("grey matter: Dice to FreeSurfer's (plain ANTs recipe: 0.83)", low=0.83),),
            lambda: labelled_head(data)[2:],
        ),
        Row(
            "grey-r",
            "labelled/brain_with_gm",
            (Target("grey matter: correlation with the reference", low=0.9),),
            lambda: [grey_matter_correlation(data)],
        ),
        Row(
            "asymmetry",
            head,
            (
                Target("hippocampal asymmetry: FreeSurfer's sign (1 for yes)", low=1),
                Target("hippocampal asymmetry: difference to FreeSurfer's", high=0.05),
            ),
            asymmetry,
        ),
        Row(
            "phantom",
            f"phantom_t1w, {PHANTOMS}",
            (
                Target("grey matter: correlation with the truth", low=0.95),
                Target("slope of recovered on true hippocampal asymmetry", low=0.8, high=1.2),
            ),
            lambda: phantom_truth(folder, PHANTOMS, bench.workers),
        ),
        Row(
            "mirror",
            "2 heads",
            (Target("mirrored scan: largest difference of a region's volume", high=0.03),),
            lambda: [max(mirror_difference(_existing(scan), folder) for scan in scans)],
        ),
    ]


def benchmark_preprocessing(only, n, workers, ants_python):
    """Print the table of targets of preprocessing from a run on the data of ``TLE_SHARED_DATA``.

    Parameters and exit status are those of `Bench` and `benchmarks.benchmark.run_benchmark`.
    """
    data = Path(os.environ.get(DATA) or "no folder").resolve()
    with tempfile.TemporaryDirectory() as folder:
        return run_benchmark(rows(Bench(data, Path(folder), n, workers, ants_python)), only)
