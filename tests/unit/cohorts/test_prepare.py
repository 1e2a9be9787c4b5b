"""From a cohort to maps: the table that every later chapter reads, and what it says of the truth."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.cohorts import participants, prepare
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.imaging import slices
from unit.cohorts.lab import Lab

OPTIONS = {"limit": 2, "modulate": True, "fwhm_mm": 0.0, "seed": 0, "workers": 1}
OPTIONS |= {"sclerosis_fraction": 1.0, "effect_scale": 2.0}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    made = prepare.prepare_maps(load_manifest().cohort("phantom"), folder, **OPTIONS)
    return folder, made, participants.load_participants(folder)


def test_later_chapters_find_a_map_for_everyone(phantom):
    folder, made, people = phantom
    assert people["group"].value_counts().to_dict() == {"control": 2, "left": 2, "right": 2}
    assert slices.load_slices(people["map"], [-24]).shape == (6, 160, 160, 1)
    assert str(folder) not in (folder / "participants.tsv").read_text()
    assert made.failed.empty and made.flagged.empty and made.quality.empty and not made.overlays
    assert (folder / "maps" / "dataset_description.json").exists()


def test_the_table_knows_what_was_planted(phantom):
    people = phantom[2].set_index("group")
    assert people.loc["control", "true_loss"].isna().all()
    assert people.loc[["left", "right"], "true_loss"].between(0.1, 0.8).all()


def test_twice_the_same_is_the_same(phantom, tmp_path):
    folder = phantom[0]
    prepare.prepare_maps(load_manifest().cohort("phantom"), tmp_path, **OPTIONS)
    for path in folder.rglob("*.nii.gz"):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes()
    assert (tmp_path / "participants.tsv").read_bytes() == (folder / "participants.tsv").read_bytes()


def cohort(left, right, loss):
    return pd.DataFrame(
        {
            "group": ["control", "control", "left", "right"],
            "age": [30.0, 40.0, 50.0, 60.0],
            "sex": ["F", "M", "F", "M"],
            "hippocampus_left": [4.0, 5.0, left, 4.0],
            "hippocampus_right": [4.0, 5.0, 4.0, right],
            "true_loss": [np.nan, np.nan, loss, loss],
        }
    )


def test_a_loss_is_recovered_on_its_side():
    truth = prepare.against_truth(cohort(3.0, 2.0, 0.4))
    assert truth.loc["left", "recovered loss"] == pytest.approx(0.25)
    assert truth.loc["right", "recovered loss"] == pytest.approx(0.5)
    assert truth.loc["left", "asymmetry"] < 0 < truth.loc["right", "asymmetry"]
    assert (truth.loc[["left", "right"], "smaller on its side"] == 1).all()


def test_a_loss_on_the_wrong_side_shows():
    truth = prepare.against_truth(cohort(5.0, 5.0, 0.4))
    assert (truth.loc[["left", "right"], "smaller on its side"] == 0).all()
    assert (truth.loc[["left", "right"], "recovered loss"] < 0).all()


def test_nothing_planted_says_nothing():
    assert prepare.against_truth(cohort(3.0, 3.0, np.nan)).empty


def test_description_counts_each_class():
    table = prepare.describe_cohort(cohort(3.0, 3.0, np.nan))
    assert table["n"].to_dict() == {"control": 2, "left": 1, "right": 1}
    assert table.loc["control", "women"] == 1


def test_more_losses_than_scans_is_said(monkeypatch, tmp_path):
    base = cohort(3.0, 3.0, np.nan).assign(participant_id=["a", "b", "c", "d"], image="x", image_kind="t1w")
    monkeypatch.setattr(prepare, "load_cohort", lambda cohort: base)
    with pytest.raises(TLEError, match="ds002748 has 4 participants, fewer than n_left \\+ n_right = 12"):
        prepare.prepare_maps(load_manifest().cohort("planted"), tmp_path, **OPTIONS)


def test_planted_sides_depend_on_the_seed_only(monkeypatch, tmp_path):
    base = pd.concat([cohort(3.0, 3.0, np.nan)] * 6, ignore_index=True).assign(group="control", image="x")
    base["participant_id"] = [f"sub-{i:02d}" for i in range(len(base))]
    monkeypatch.setattr(prepare, "load_cohort", lambda cohort: base.copy())
    monkeypatch.setattr(prepare, "_plant_one", plant_nothing)
    planted = load_manifest().cohort("planted")
    twice = [prepare._planted(planted, tmp_path, 0, 0, 1)["group"].tolist() for _ in range(2)]
    assert twice[0] == twice[1] != prepare._planted(planted, tmp_path, 0, 1, 1)["group"].tolist()
    assert (twice[0].count("control"), twice[0].count("left"), twice[0].count("right")) == (12, 6, 6)


def plant_nothing(person, folder, effect):
    return person["image"], ""


def test_everybody_who_is_left_out_stands_in_failed_tsv(phantom, tmp_path):
    lab, people = Lab(tmp_path), phantom[2]
    lab.entry |= {"kind": "derivatives", "images": "**/*probseg.nii.gz"}
    maps = lab.data / "maps"
    maps.mkdir()
    for name, path in zip(people["participant_id"], people["map"], strict=True):
        (maps / f"{name}_space-MNI152_label-GM_probseg.nii.gz").symlink_to(path)
    first = nib.load(people["map"][0])
    too_much = nib.Nifti1Image(3 * first.get_fdata(dtype=np.float32), first.affine)
    first_path = maps / f"{people['participant_id'][0]}_space-MNI152_label-GM_probseg.nii.gz"
    first_path.unlink()
    nib.save(too_much, first_path)
    sides = ["none", "none", "L", "both", "?", "R"]
    rows = [f"{name}\t{side}\n" for name, side in zip(people["participant_id"], sides, strict=True)]
    broken, gone = people["participant_id"][5], people["participant_id"][2]
    (maps / f"{broken}_space-MNI152_label-GM_probseg.nii.gz").unlink()
    lab.scans(
        f"maps/{broken}_space-MNI152_label-GM_probseg.nii.gz", "maps/sub-stray_space-MNI152_label-GM_probseg.nii.gz"
    )
    lab.table("participant_id\tside\n" + "".join(rows) + "sub-none\tL\n\tL\n" + rows[2])
    made = prepare.prepare_maps(lab.cohort(), tmp_path / "run", limit=1, modulate=True, fwhm_mm=0.0, seed=0, workers=1)
    failed = pd.read_csv(tmp_path / "run/failed.tsv", sep="\t", keep_default_na=False)
    assert list(failed) == ["participant_id", "error", "flags", "lost"]
    said = {name: (lost, error) for name, error, _, lost in failed.itertuples(index=False)}
    names = people["participant_id"].tolist()
    assert {name: lost for name, (lost, _) in said.items()} == {
        **{names[0]: "yes", names[1]: "no", names[2]: "no", names[3]: "no", names[4]: "yes", names[5]: "yes"},
        **{"": "yes", "sub-none": "yes", "sub-stray": "yes"},
    }
    assert said[names[4]][1] == f"{names[4]}: no label rule fits (side = ?) (participants.tsv row 6)"
    assert said[""][1] == "participants.tsv row 9: no participant id"
    assert "limit of 1" in said[names[1]][1] and "word for word" in said[gone][1]
    kept = pd.read_csv(tmp_path / "run/participants.tsv", sep="\t")["participant_id"].tolist()
    assert kept == [names[2]]
    assert said[names[0]][1] == ""  # grey matter out of limits: a flag
    assert len(kept) + len(failed) == len(rows) + 3 + 1  # rows of the table, and the stray scan
    became = made.flagged["became"].value_counts().to_dict()
    assert became["left out"] == 6 and made.flagged.index[-1].endswith("participants")


def test_nobody_preprocessed_is_said_with_the_reason(lab, tmp_path):
    lab.entry["kind"] = "derivatives"
    lab.table("participant_id\tside\nsub-1\tL\nsub-2\tL\n").scans("mri/mwp1sub-1.nii")
    with pytest.raises(TLEError, match="no participant passed preprocessing: sub-1: mwp1sub-1.nii"):
        prepare.prepare_maps(lab.cohort(), tmp_path / "run", limit=0, modulate=True, fwhm_mm=0.0, seed=0, workers=1)
