"""A made-up lab: its table, its scans, its block in the manifest."""

import pytest
import yaml

from tle_utils.base.errors import TLEError
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.cohorts.participants import load_cohort

TABLE = "participants.tsv"
LABELS = [
    {"group": "control", "when": {"side": ["none"]}},
    {"group": "left", "when": {"side": ["L", "left*"]}},
    {"group": "right", "when": {"side": ["R", "right*"]}},
    {"group": "exclude", "when": {"side": ["both"]}, "reason": "bilateral"},
]


class Lab:
    """A made-up lab with its own manifest and folder."""

    def __init__(self, root):
        self.root, self.data = root, root / "data"
        self.data.mkdir()
        self.entry = {"kind": "bids", "path": "data", "labels": LABELS}

    def table(self, text, name=TABLE):
        (self.data / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return self

    def scans(self, *names):
        for name in names:
            path = self.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
        return self

    def t1w(self, *labels):
        return self.scans(*(f"sub-{label}/anat/sub-{label}_T1w.nii.gz" for label in labels))

    def cohort(self):
        (self.root / "data_manifest.yaml").write_text(yaml.safe_dump({"cohorts": {"lab": self.entry}}))
        return load_manifest(self.root / "data_manifest.yaml").cohort("lab")

    def load(self):
        return load_cohort(self.cohort())

    def refused(self):
        with pytest.raises(TLEError) as error:
            self.load()
        assert "\n" not in str(error.value)
        return str(error.value)
