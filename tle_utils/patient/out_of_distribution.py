"""Is a new grey-matter map of the kind that a model learned from?

Three plain measures of a whole map, each held against its mean and deviation over the training controls. They see
another scanner, another program, other smoothing or a child's head; a lesion of a few ml hardly moves them.
"""

import functools

import nibabel as nib
import numpy as np
import pandas as pd
from pydantic import BaseModel

from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import atlas
from tle_utils.imaging.images import flag

MEASURES = {
    "pattern": "correlation with the template's grey matter",
    "amount": "amount of grey matter",
    "sharpness": "sharpness of the map",
}
LIMIT = 5.0  # deviations from the mean control beyond which a map is of another kind
LEAST = 10  # controls below which nothing can be said
FLOOR = 0.02  # least deviation counted, so that differences of up to a tenth never make a map unlike


class TrainingMaps(BaseModel, frozen=True, extra="forbid"):
    """What the maps of the training controls are like.

    `n` is the number of controls. `mean` and `sd` are those of each of `MEASURES` over controls, `sd` at least `FLOOR`;
    both are empty with fewer than `LEAST` controls. Beyond `limit` deviations a map counts as unlike. `flagged` is a
    dict of class to how many of its training participants would be flagged, and how many there are.
    """

    n: int
    mean: dict[str, float]
    sd: dict[str, float]
    limit: float = LIMIT
    flagged: dict[str, tuple[int, int]] = {}


@functools.cache
def _thinned():
    """Every second voxel of the brain, and the template's grey matter there."""
    inside = atlas.brain_mask()[::2, ::2, ::2]
    return inside, atlas.tissue_priors()["GM"][::2, ::2, ::2][inside]


def measure(grey):
    """`MEASURES` of a grey-matter map on the template grid, shape (197, 233, 189).

    ``pattern`` is Fisher's z of the correlation with the template's grey matter inside the brain, ``amount`` the log of
    the grey matter in ml, ``sharpness`` the log of the mean step between neighbours over the mean value.
    """
    inside, prior = _thinned()
    values = grey[::2, ::2, ::2][inside]
    r = np.corrcoef(values, prior)[0, 1] if values.std() > 0 else 0.0
    planes = grey[:, ::3]
    steps = sum(np.abs(np.diff(planes, axis=axis)).sum(dtype=np.float64) for axis in (0, 2))
    total = planes.sum(dtype=np.float64)
    tiny = np.finfo(float).tiny
    return {
        "pattern": float(np.arctanh(np.clip(r, -0.999999, 0.999999))),
        "amount": float(np.log(max(grey.sum(dtype=np.float64) / 1000, tiny))),
        "sharpness": float(np.log(max(steps, tiny) / max(total, tiny))),
    }


def _measure_file(path):
    return measure(np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj, np.float32))


def fit_training_maps(paths, groups, workers=1):
    """`TrainingMaps` of the grey-matter maps `paths` on the template grid and their classes."""
    table = pd.DataFrame(run_parallel(_measure_file, list(paths), label="training maps", workers=workers))
    groups = np.asarray(groups)
    controls = table[groups == "control"]
    if len(controls) < LEAST:
        return TrainingMaps(n=len(controls), mean={}, sd={})
    mean, sd = controls.mean(), controls.std().clip(lower=FLOOR)
    off = ((table - mean).abs() > LIMIT * sd).any(axis=1).to_numpy()
    flagged = {name: (int(off[groups == name].sum()), int((groups == name).sum())) for name in np.unique(groups)}
    return TrainingMaps(n=len(controls), mean=mean.round(6).to_dict(), sd=sd.round(6).to_dict(), flagged=flagged)


def judge(known, grey):
    """Flags (`images.flag`) of a map, by the `TrainingMaps` of a model.

    A failing one for each measure beyond the limit; one that does not fail where the model had too few controls to say.
    """
    if not known.mean:
        reason = f"whether the map is like the training maps is not known ({known.n} controls)"
        return [flag("out_of_distribution", reason, False)]
    flags = []
    for name, value in measure(grey).items():
        z = (value - known.mean[name]) / known.sd[name]
        if abs(z) > known.limit:
            reason = f"the map is unlike the training maps: {MEASURES[name]} is {z:+.1f} deviations from the mean"
            flags.append(flag(name, f"{reason} of {known.n} controls (limit {known.limit:g})", True))
    return flags
