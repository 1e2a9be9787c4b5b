import re
import textwrap
from pathlib import Path

import pytest

from tle_utils.base.errors import TLEError
from tle_utils.base.project import project_root
from tle_utils.cohorts.download import published_files
from tle_utils.cohorts.manifest import load_manifest

REPOSITORY = Path(__file__).parents[3]
LAB = """
    cohorts:
      lab:
        kind: bids
        path: data
        labels: [{group: control}]
"""


def write(folder, text):
    path = folder / "data_manifest.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def refused(folder, text):
    with pytest.raises(TLEError) as error:
        load_manifest(write(folder, text))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("data_manifest.yaml")
    return str(error.value)


def test_project_manifest_has_every_cohort_with_licence_and_source():
    manifest = load_manifest(REPOSITORY / "data_manifest.yaml")
    assert {"phantom", "phantom_t1w", "unam", "ideas", "ds002748", "ds000011", "planted"} <= set(manifest.cohorts)
    for name, entry in manifest.cohorts.items():
        assert entry.licence and entry.source and entry.what, name
    phantom = manifest.cohort("phantom").entry
    assert (phantom.n_control, phantom.n_left, phantom.n_right) == (170, 170, 160)


def test_every_published_file_has_size_and_checksum():
    manifest = load_manifest(REPOSITORY / "data_manifest.yaml")
    unam, ideas = (published_files(manifest.cohort(name)) for name in ("unam", "ideas"))
    assert (len(unam), sum(p.endswith("_T1w.nii.gz") for p in unam)) == (67, 66)
    assert unam["participants.tsv"].size == 8526
    assert len(ideas) == 542
    assert sum(file.size for file in ideas.values()) > 3.0e9
    assert all(len(file.sha256) == 64 for file in (unam | ideas).values())


def test_manifest_is_found_from_a_subfolder(tmp_path, monkeypatch):
    write(tmp_path, LAB)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert project_root() == tmp_path
    assert load_manifest().cohort("lab").folder == tmp_path / "data"


def test_no_manifest_above_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TLEError, match=r"no data_manifest\.yaml"):
        project_root()


def test_unknown_cohort_lists_the_known_ones(tmp_path):
    with pytest.raises(TLEError, match="unknown cohort 'labb': data_manifest.yaml has lab"):
        load_manifest(write(tmp_path, LAB)).cohort("labb")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: bids", "kind: bidss", "cohorts.lab.*bidss"),
        ("path: data", "paht: data", "cohorts.lab.pa"),
        ("group: control", "group: healthy", "cohorts.lab.labels.0.group"),
        ("group: control", "group: exclude", "needs a reason"),
        ("group: control", "group: left, when: {mts: [yes]}", "quotes"),
        ("group: control", "group: left, when: {mts: L}", r"cohorts.lab.labels.0.when.mts"),
        ("labels: [{group: control}]", "labels: []", "cohorts.lab.labels"),
        ("labels: [{group: control}]", "labels: [{group: control}]\n    images: ../../*.nii", "inside the cohort"),
        ("  lab:", "  ../lab:", "cohorts"),
        ("path: data", "path: data\n    path: other", r"line 5: .*path stands twice"),
        ("path: data", "path: [", "YAML"),
        ("path: data", "path: !!python/object/apply:os.getcwd []", "YAML"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_field(tmp_path, old, new, said):
    text = refused(tmp_path, textwrap.dedent(LAB).replace(old, new))
    assert re.search(said, text), text


@pytest.mark.parametrize("text", ["", "cohorts:", "- a", "cohorts: {}", "just words"])
def test_a_manifest_without_cohorts_is_refused(tmp_path, text):
    refused(tmp_path, text)


def test_missing_manifest_names_its_path(tmp_path):
    with pytest.raises(TLEError, match="check the path"):
        load_manifest(tmp_path / "data_manifest.yaml")


def test_planted_needs_a_base_with_scans(tmp_path):
    planted = "  planted: {kind: planted, base: %s, effect: 0.3, n_left: 2, n_right: 2}\n"
    assert load_manifest(write(tmp_path, textwrap.dedent(LAB) + planted % "lab")).cohort("planted").base.name == "lab"
    assert "cohorts.planted.base" in refused(tmp_path, textwrap.dedent(LAB) + planted % "nobody")


def test_environment_variables_in_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("TLE_SHARED_DATA", "/somewhere")
    manifest = load_manifest(write(tmp_path, LAB.replace("path: data", "path: ${TLE_SHARED_DATA}/ds")))
    assert manifest.cohort("lab").folder == Path("/somewhere/ds")
    monkeypatch.delenv("TLE_SHARED_DATA")
    assert manifest.cohort("lab").folder == tmp_path.parent / "shared/data/ds"
    manifest = load_manifest(write(tmp_path, LAB.replace("path: data", "path: ${NO_SUCH_VARIABLE}/ds")))
    with pytest.raises(TLEError, match="cohorts.lab.path: set the environment variable NO_SUCH_VARIABLE"):
        manifest.cohort("lab").folder  # noqa: B018


@pytest.mark.parametrize("row", [f"../a.nii\t5\t{'0' * 64}", f"/etc/x\t5\t{'0' * 64}", "a\t5\t12", "a\tx"])
def test_a_bad_file_list_is_refused(tmp_path, row):
    write(
        tmp_path,
        """
        cohorts:
          net: {kind: openneuro, dataset: ds000001, files: list.tsv, labels: [{group: control}]}
        """,
    )
    (tmp_path / "list.tsv").write_text(f"path\tbytes\tsha256\n{row}\n")
    with pytest.raises(TLEError, match="list.tsv: row 2"):
        published_files(load_manifest(tmp_path / "data_manifest.yaml").cohort("net"))
