"""Grey matter of real people by the book's own preprocessing, for the phantom: ``python -m benchmarks.real_volumes``.

Preprocesses the scans of ``TLE_SHARED_DATA`` (about half a minute each, kept in ``runs/real_volumes``) and writes
``tle_utils/phantom/real_volumes.tsv``: means and deviations over people, nothing of a single one.
"""

import sys

import numpy as np
import pandas as pd

from tle_utils.base.errors import TLEError
from tle_utils.base.files import write_text
from tle_utils.base.project import project_root
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.cohorts.participants import load_participants
from tle_utils.cohorts.prepare import prepare_maps
from tle_utils.imaging.regions import read_regional_volumes

COHORTS = ("ds002748", "ds000011")
HEADER = """\
# Grey matter of {n} adults without epilepsy, as this book's own preprocessing measures it: sums of modulated maps over
# the regions of the atlas in ml. A region's two sides are pooled: mean and sd over people are those of one side.
# elsewhere: grey matter in no region; grey_matter: all of it; brain: brain mask; age: years.
# Scans: {scans}.
# Written by python -m benchmarks.real_volumes; no row is of a single person.
"""


def measured(cohort, folder, workers):
    """One row per person of a cohort: a column per region and side and for the whole in ml, and age in years."""
    prepare_maps(cohort, folder, limit=0, modulate=True, fwhm_mm=0.0, seed=0, workers=workers)
    people = load_participants(folder)
    quality = pd.read_csv(folder / "maps" / "qc.tsv", sep="\t", index_col="participant_id").loc[
        people["participant_id"]
    ]
    table = read_regional_volumes(people["map"], workers=workers)
    whole = {"grey_matter": quality["gm_ml"], "brain": quality["mask_ml"], "age": people["age"]}
    whole |= {"elsewhere": quality["gm_ml"].to_numpy() - table.sum(axis=1).to_numpy()}
    for name, values in whole.items():
        table[name, ""] = np.asarray(values, float)
    return table


def summary(table):
    """Mean and SD over people by region, both sides pooled."""
    parts = table.T.groupby(level=0, sort=False)
    rows = {name: (part.mean(axis=1).mean(), np.sqrt(part.var(axis=1, ddof=1).mean())) for name, part in parts}
    found = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "sd"]).rename_axis("region")
    return found.assign(n=len(table))


def main():
    """Measure, write the table and return the exit status."""
    try:
        cohorts = [load_manifest().cohort(name) for name in COHORTS]
        folder = project_root() / "runs" / "real_volumes"
        tables = [measured(cohort, folder / cohort.name, 2) for cohort in cohorts]
    except TLEError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    scans = ", ".join(
        f"{cohort.entry.source} (n = {len(table)}, {cohort.entry.licence})"
        for cohort, table in zip(cohorts, tables, strict=True)
    )
    found = summary(pd.concat(tables))
    text = HEADER.format(n=sum(map(len, tables)), scans=scans) + found.round(4).to_csv(sep="\t")
    write_text(project_root() / "tle_utils" / "phantom" / "real_volumes.tsv", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
