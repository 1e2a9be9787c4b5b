"""Grey matter of every atlas region, measured on maps."""

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.base.parallel import run_parallel
from tle_utils.imaging import atlas, images


def read_regional_volumes(paths, workers=1):
    """Grey matter of every atlas region, measured on modulated maps.

    Returns
    -------
    pandas.DataFrame
        One row per map, in order; columns are pairs (region, hemisphere) of the regions that have two sides; ml.

    Raises
    ------
    TLEError
        When a map lies on another grid, or a region of it is empty or not a number.
    """
    table = pd.DataFrame(run_parallel(_volumes_of, list(paths), label="regional volumes", workers=workers))
    sides = table.columns.to_frame(index=False).groupby("region", sort=False)["hemisphere"].nunique()
    table = table.loc[:, table.columns.get_level_values("region").isin(sides.index[sides == 2])]
    bad = ~(table > 0)
    if bad.to_numpy().any():
        row, column = np.argwhere(bad.to_numpy())[0]
        region = " ".join(table.columns[column])
        raise TLEError(f"{paths[row]}: no grey matter in region '{region}': check the scan and its report")
    return table.reset_index(drop=True)


def _volumes_of(path):
    return atlas.regional_volumes(np.asarray(images.template_map(path).dataobj, np.float32))


def region_features(volumes):
    """Asymmetry and size of every region: log left − log right, and log left + log right.

    Returns
    -------
    asymmetry, size : numpy.ndarray
        For volumes of `read_regional_volumes`, shape (n, regions); a mirrored brain has the asymmetries with opposite
        sign and the same sizes.
    """
    logs = np.log(volumes)
    left, right = (logs.xs(side, axis=1, level="hemisphere") for side in ("left", "right"))
    return (left - right[left.columns]).to_numpy(), (left + right[left.columns]).to_numpy()
