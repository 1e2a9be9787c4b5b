"""Whose scan it is and which one is taken: exact rules, or a line that asks."""

import os
from pathlib import Path

import pytest

from tle_utils.base.errors import TLEError
from tle_utils.cohorts import scans
from tle_utils.cohorts.participants import data_files, load_cohort

HEAD = "participant_id\tside\n"
THREE = HEAD + "sub-01\tnone\nsub-02\tL\nsub-03\tR\n"


def maps(lab, *names, text=THREE, **entry):
    lab.entry |= {"kind": "derivatives"} | entry
    return lab.table(text).scans(*names)


def named(table):
    return dict(zip(table["participant_id"], (Path(image).name for image in table["image"]), strict=True))


def left(table):
    return {one["participant_id"]: one["reason"] for one in table.attrs["left_out"] if one["lost"]}


# Ids.


@pytest.mark.parametrize(
    ("text", "label"),
    [("sub-01", "01"), (" 01 ", "01"), ("sub-sub-1", "sub-1"), ("1-11", "1-11"), ("P1_1", "P1_1"), ("a.b", "a.b")]
    + [("患者01", "患者01"), ("Ju\u0308rgen", "Jürgen"), ("SUB-1", "SUB-1"), ("2.0", "2.0"), ("sub-", "")],
)
def test_a_label_is_the_text_of_the_id(text, label):
    assert scans.label_of(text) == label


@pytest.mark.parametrize("text", ["a/b", "..", "sub-.x", "a\\b", "a\tb", "a\x00b", "a\u2028b", "a\x85b"])
def test_ids_that_no_file_may_be_called_are_refused_with_their_row(lab, text):
    lab.entry["columns"] = {"participant_id": "id"}
    with pytest.raises(TLEError, match="files are named by ids"):
        scans.label_of(text)
    if not {"\t", "\x00", "\x85"} & set(text):
        assert lab.table(f"id\tside\n{text}\tL\n").refused().startswith("participants.tsv row 2: the id ")


@pytest.mark.parametrize(("one", "other"), [("p1", "P1"), ("straße", "STRASSE"), ("１", "1"), ("ﬁ", "fi")])
def test_ids_whose_files_could_overwrite_each_other_stop(lab, one, other):
    said = lab.table(f"{HEAD}{one}\tL\nx\tR\n{other}\tR\n").refused()
    assert f"the ids {one} (participants.tsv row 2) and {other} (participants.tsv row 4)" in said


def test_ids_that_look_alike_are_different_people(lab):
    ids = ["1-11", "11-1", "111", "1", "01", "患者01", "对照01", "a.b", "ab"]
    lab.table(HEAD + "".join(f"{i}\tL\n" for i in ids)).t1w(*ids)
    assert named(lab.load()) == {f"sub-{i}": f"sub-{i}_T1w.nii.gz" for i in ids}


def test_names_of_files_in_the_other_unicode_form_are_the_same_letters(lab):
    assert len(lab.table(f"{HEAD}J\u00fcrgen\tL\n").t1w("Ju\u0308rgen").load()) == 1


# Whose file.


@pytest.mark.parametrize("end", ["", "_1", "_T1w", "-2"])
@pytest.mark.parametrize("prefix", ["mwp1", "smwp1", "s6mwp1", "mwc1", "smwc1", "m0wp1", "wp1", "wc1"])
def test_the_whole_name_of_a_map_is_the_label(lab, prefix, end):
    people = HEAD + "P1\tL\nP11\tR\nP1_1\tnone\n"
    maps(lab, f"mri/{prefix}P1{end}.nii", f"mri/{prefix}P11.nii", text=people)
    table = lab.load()
    wanted = {"": {"sub-P1", "sub-P11"}, "_1": {"sub-P1_1", "sub-P11"}}.get(end, {"sub-P11"})
    assert set(table["participant_id"]) == wanted
    assert all(Path(row.image).name.startswith(f"{prefix}{row.participant_id[4:]}.nii") for row in table.itertuples())
    assert set(left(table)) >= {"sub-P1", "sub-P11", "sub-P1_1"} - wanted


def test_maps_that_begin_with_sub_are_read_as_bids(lab):
    maps(lab, "mri/mwp1sub-01_T1w.nii", "mri/mwp1sub-02_T1w.nii", "mri/mwp1sub-021_T1w.nii")
    table = lab.load()
    assert set(named(table)) == {"sub-01", "sub-02"}
    assert left(table) == {"sub-03": "no scan", "sub-021": "no row for this scan"}


@pytest.mark.parametrize("name", ["sub-01_2", "sub-01_b_T1w", "sub-01_T1w_2", "sub-01_ses-a_x"])
def test_a_map_whose_id_may_go_on_stops(lab, name):
    assert "is no part of a BIDS name" in maps(lab, f"mri/mwp1{name}.nii").refused()
    lab.entry["ids"] = {"from": "sub-([0-9]+)"}
    assert set(named(lab.load())) == {"sub-01"}


def test_maps_of_other_tissues_spaces_and_hidden_files_never_count(lab):
    smriprep = "sub-{0}/anat/sub-{0}_{1}label-{2}_probseg.nii.gz"
    space = "space-MNI152NLin2009cAsym_"
    names = [smriprep.format(i, s, t) for i in ("01", "02") for s in ("", space) for t in ("GM", "WM", "CSF")]
    maps(lab, *names, "sub-02/anat/._" + Path(smriprep.format("02", space, "GM")).name, ".trash/mwp1sub-03.nii")
    assert named(lab.load()) == {f"sub-{i}": Path(smriprep.format(i, space, "GM")).name for i in ("01", "02")}


def test_spm_leaves_native_and_white_maps_beside(lab):
    maps(
        lab, *(f"sub-0{i}/{kind}sub-0{i}_T1w.nii" for i in (1, 2) for kind in ("c1", "c2", "c3", "mwc1", "mwc2", "rc1"))
    )
    assert set(named(lab.load()).values()) == {"mwc1sub-01_T1w.nii", "mwc1sub-02_T1w.nii"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sub-03/anat/sub-02_T1w.nii.gz", "sub-02 lies in the folder sub-03: rename one, or write ids"),
        ("sub-03/ses-a/anat/sub-03_ses-b_T1w.nii.gz", "ses-b lies in the folder ses-a"),
        ("sub-03/anat/scan_T1w.nii.gz", "does not begin with sub-"),
        ("sub-03/anat/sub-03_acq-a_acq-b_T1w.nii.gz", "acq- stands twice"),
        ("sub-03/anat/sub-03_2_T1w.nii.gz", "'2' is no part of a BIDS name, and the id may go on there"),
        ("sub-03/anat/sub-03_b_acq-x_T1w.nii.gz", "'b' is no part of a BIDS name"),
        ("sub-03/anat/sub-03-2_T1w.nii.gz", "sub-03-2 lies in the folder sub-03"),
    ],
)
def test_a_name_that_says_two_things_stops(lab, name, said):
    assert said in lab.table(THREE).t1w("01", "02").scans(name).refused()


def test_derivatives_sources_and_code_hold_no_scans(lab):
    lab.table(THREE).t1w("01", "02")
    lab.scans(
        *(f"{folder}/sub-03/anat/sub-03_T1w.nii.gz" for folder in ("derivatives/x", "sourcedata", "code", ".git"))
    )
    lab.scans("sub-01/anat/._sub-01_T1w.nii.gz", "sub-03/anat/.sub-03_T1w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz")
    table = lab.load()
    assert set(named(table)) == {"sub-01", "sub-02"} and left(table) == {"sub-03": "no scan"}


def test_the_remedy_for_lost_zeros_works_as_it_is_written(lab):
    lab.table(f"{HEAD}1\tL\n20\tR\n").t1w("00001", "00020", "00020A")
    said = lab.refused()
    assert 'zeros were lost in the table: write ids: {from: "sub-0*([0-9]+)[_/.]"}' in said
    lab.entry["ids"] = {"from": "sub-0*([0-9]+)[_/.]"}
    table = lab.load()
    assert named(table) == {"sub-1": "sub-00001_T1w.nii.gz", "sub-20": "sub-00020_T1w.nii.gz"}
    assert [one["reason"] for one in table.attrs["left_out"]] == ["ids of the manifest finds no id in its path"]
    lab.scans("sub-020/anat/sub-020_T1w.nii.gz")
    assert "gives them one id" in lab.refused()


@pytest.mark.parametrize("row", ["P1", "p01", "P-01"])
def test_ids_that_do_not_meet_are_shown_from_both_sides(lab, row):
    said = maps(lab, "mri/mwp1P01.nii", text=f"{HEAD}{row}\tL\n").refused()
    assert f"(such as {row}) and 1 scans no row (such as mri/mwp1P01.nii, read as P01)" in said


@pytest.mark.parametrize(("rule", "said"), [("sub", "0 groups"), ("(a)(b)", "2 groups"), ("(", "not a regular")])
def test_a_rule_for_ids_has_one_group(lab, rule, said):
    lab.table(THREE).t1w("01").entry["ids"] = {"from": rule}
    assert "cohorts.lab.ids.from" in lab.refused() and said in lab.refused()


def test_the_table_may_name_the_scans(lab):
    head = "participant_id\tside\tfile\n"
    maps(lab, "x/a.nii", text=f"{head}A\tL\tx/a.nii\nB\tR\tx/b.nii\nC\tR\t\n", columns={"image": "file"})
    lab.entry["session"] = "pre"
    table = lab.load()
    assert named(table) == {"sub-A": "a.nii"}
    assert left(table) == {"sub-B": "the file is not there (x/b.nii)", "sub-C": "the table names no scan"}
    lab.table(f"{head}A\tL\tx/a.nii\nB\tR\tx/../x/a.nii\n".replace("x/../", "./"))
    assert "sub-A and sub-B: both rows name the scan" in lab.refused()
    lab.table(f"{head}A\tL\tmri/mwp2A.nii\n").scans("mri/mwp2A.nii")
    assert "white matter" in lab.refused()


def test_one_scan_under_two_participants_stops(lab):
    lab.table(THREE).t1w("01", "02", "03")
    (lab.data / "sub-03/anat/sub-03_T1w.nii.gz").write_bytes((lab.data / "sub-02/anat/sub-02_T1w.nii.gz").read_bytes())
    assert "sub-02 and sub-03 have the same scan" in lab.refused()
    lab.entry["same_scan"] = "allowed"
    assert len(lab.load()) == 3


# Which of several.


def session_names(**sessions):
    return [f"sub-{i[1:]}/ses-{s}/anat/sub-{i[1:]}_ses-{s}_T1w.nii.gz" for i, found in sessions.items() for s in found]


def test_several_sessions_stop_until_one_is_named(lab):
    lab.table(THREE).scans(*session_names(s01=["pre", "post"], s02=["pre", "post"], s03=["preop"]))
    said = lab.refused()
    assert "2 participants have several scans, such as sub-01" in said and "(ses: post 2, pre 2)" in said
    assert "write cohorts.lab.session with the value that is meant" in said
    lab.entry["session"] = "pre"
    assert left(lab.load()) == {"sub-03": "no scan of the kind that the manifest asks for (ses: preop 1)"}
    lab.entry["session"] = ["pre", "preop"]
    assert set(named(lab.load()).values()) == {
        f"sub-0{i}_ses-{s}_T1w.nii.gz" for i, s in ((1, "pre"), (2, "pre"), (3, "preop"))
    }


def test_one_scan_each_but_of_different_sessions_stops(lab):
    lab.table(THREE).scans(*session_names(s01=["preop"], s02=["postop"], s03=["preop"]))
    assert "of different kinds (ses: postop 1, preop 2): write cohorts.lab.session" in lab.refused()


@pytest.mark.parametrize("field", ["acq", "ce", "rec", "run"])
def test_every_field_decides(lab, field):
    lab.table(THREE).scans(*(f"sub-0{i}/anat/sub-0{i}_{field}-{v}_T1w.nii.gz" for i in (1, 2, 3) for v in ("1", "12")))
    assert f"({field}: 1 3, 12 3): write cohorts.lab.{field} " in lab.refused()
    lab.entry[field] = 1
    assert all(f"_{field}-1_" in name for name in named(lab.load()).values())


def test_files_without_a_part_are_asked_for_by_an_empty_text(lab):
    lab.table(THREE).t1w("01", "02", "03").scans("sub-02/anat/sub-02_acq-slab_T1w.nii.gz")
    assert "(acq: (none) 1, slab 1)" in lab.refused()
    lab.entry["acq"] = ""
    assert len(lab.load()) == 3


def test_contrast_agent_stands_back_where_there_is_a_plain_scan(lab):
    lab.table(THREE).t1w("01", "02", "03").scans("sub-02/anat/sub-02_ce-gd_T1w.nii.gz")
    assert named(lab.load())["sub-02"] == "sub-02_T1w.nii.gz"
    (lab.data / "sub-02/anat/sub-02_T1w.nii.gz").unlink()
    assert "ce: (none) 2, gd 1" in lab.refused()


def test_runs_may_differ_between_participants_only(lab):
    lab.table(THREE).scans("sub-01/anat/sub-01_run-1_T1w.nii", "sub-02/anat/sub-02_run-2_T1w.nii").t1w("03")
    assert len(lab.load()) == 3
    lab.scans("sub-01/anat/sub-01_run-1_T1w.nii.gz")
    assert "sub-01/anat/sub-01_run-1_T1w.nii, sub-01/anat/sub-01_run-1_T1w.nii.gz: write images" in lab.refused()


def test_who_is_left_out_by_a_rule_may_have_several_scans(lab):
    lab.table(THREE.replace("\tR", "\tboth")).t1w("01", "02").scans(*session_names(s03=["a", "b"]))
    assert len(lab.load()) == 2


def test_several_folders_or_kinds_of_maps_stop(lab):
    maps(lab, *(f"{folder}/mwp1sub-0{i}.nii" for folder in ("mri", "mri_old") for i in (1, 2, 3)))
    assert "(folder: mri 3, mri_old 3): write cohorts.lab.folder" in lab.refused()
    lab.entry["folder"] = "mri_old"
    assert {Path(image).parent.name for image in lab.load()["image"]} == {"mri_old"}
    del lab.entry["folder"]
    lab.entry["images"] = "mri/*"
    lab.scans(*(f"mri/smwp1sub-0{i}.nii" for i in (1, 2, 3)))
    assert "(prefix: mwp1 3, smwp1 3): write images" in lab.refused()
    lab.entry["images"] = "mri/smwp1*"
    assert {Path(image).name[:5] for image in lab.load()["image"]} == {"smwp1"}


@pytest.mark.parametrize(
    "names",
    [
        ["mri/mwp1sub-01.nii", "mri/smwp1sub-02.nii"],
        ["mri/mwp1sub-01.nii", "mri/mwc1sub-02.nii"],
        ["mri/mwp1sub-01.nii", "mri_old/mwp1sub-02.nii"],
        ["pre/mwp1sub-01.nii", "post/mwp1sub-02.nii"],
        [f"sub-0{i}_space-MNI152_desc-{d}_label-GM_probseg.nii" for i, d in ((1, "modulated"), (2, "unmodulated"))],
        [
            f"sub-0{i}_T1w_segm-graymatter_space-Ixi549Space_modulated-{d}_probability.nii"
            for i, d in ((1, "on"), (2, "off"))
        ],
        [f"sub-0{i}_space-MNI152_res-{r}_label-GM_probseg.nii" for i, r in ((1, "1"), (2, "2"))],
    ],
)
def test_a_mixture_of_maps_stops(lab, names):
    assert "participants have scans of different kinds" in maps(lab, *names).refused()


def test_a_folder_per_participant_is_no_mixture(lab):
    maps(lab, "P1_T1/mri/mwp1P1_T1.nii", "P2_T1/mri/mwp1P2_T1.nii", text=f"{HEAD}P1\tL\nP2\tR\n")
    lab.entry["ids"] = {"from": "mwp1([^_]+)_T1"}
    assert named(lab.load()) == {"sub-P1": "mwp1P1_T1.nii", "sub-P2": "mwp1P2_T1.nii"}


# Nobody vanishes.


def test_links_pointers_and_empty_files_are_lost_by_name(lab):
    lab.table(HEAD + "".join(f"sub-0{i}\tL\n" for i in range(1, 6))).t1w("01", "02", "03", "04", "05")
    files = [lab.data / f"sub-0{i}/anat/sub-0{i}_T1w.nii.gz" for i in range(6)]
    files[2].unlink()
    files[2].symlink_to("../../.git/annex/objects/x/y/MD5E-s1--0.nii.gz")
    files[3].write_text("/annex/objects/MD5E-s9--0.nii.gz\n")
    files[4].write_bytes(b"")
    files[5].write_text("version https://git-lfs.github.com/spec/v1\n")
    table = lab.load()
    assert set(named(table)) == {"sub-01"}
    words = {"sub-02": "datalad get", "sub-03": "git-annex pointer", "sub-04": "zero bytes", "sub-05": "git lfs pull"}
    assert {name: words[name] in reason for name, reason in left(table).items()} == dict.fromkeys(words, True)
    assert [path.name for path in data_files(lab.cohort())] == ["participants.tsv", "sub-01_T1w.nii.gz"]


def test_choice_does_not_hang_on_what_can_be_read(lab):
    """A broken link among two sessions is still a second session."""
    lab.table(THREE).scans(*session_names(s01=["a"], s02=["a", "b"], s03=["a"]))
    path = lab.data / "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz"
    path.unlink()
    path.symlink_to("nowhere")
    assert "sub-02" in lab.refused()


def as_nobody(work):
    """Result of `work` (str) in a process without rights."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(write, work().encode())
        finally:
            os._exit(0)
    os.wait()
    os.close(write)
    return os.read(read, 1 << 16).decode()


def test_what_may_not_be_read_is_lost_by_name(lab):
    lab.table(THREE).t1w("01", "02", "03")
    cohort = lab.cohort()
    for folder in (lab.data, *lab.data.parents):
        if folder.stat().st_mode & 0o077 == 0:  # a folder of the test's own user
            folder.chmod(0o755)
    (lab.data / "sub-02/anat/sub-02_T1w.nii.gz").chmod(0)
    (lab.data / "sub-03/anat").chmod(0)
    said = as_nobody(lambda: repr((left(load_cohort(cohort)), [path.name for path in data_files(cohort)])))
    (lab.data / "sub-03/anat").chmod(0o755)
    lab.entry |= {"columns": {"image": "file"}}
    lab.table("participant_id\tside\tfile\na\tL\tsub-01/anat/sub-01_T1w.nii.gz\nb\tR\tsub-03/anat/sub-03_T1w.nii.gz\n")
    cohort = lab.cohort()
    (lab.data / "sub-03/anat").chmod(0)
    closed = as_nobody(lambda: repr(left(load_cohort(cohort))))
    (lab.data / "sub-03/anat").chmod(0o755)
    reason = "no permission to read the folder of the file (sub-03/anat/sub-03_T1w.nii.gz)"
    assert eval(closed) == {"sub-b": reason}
    lost, files = eval(said)
    assert lost == {
        "sub-02": "no permission to read the file (sub-02/anat/sub-02_T1w.nii.gz)",
        "sub-03": "no scan; no permission to read the folder sub-03/anat",
    }
    assert files == ["participants.tsv", "sub-01_T1w.nii.gz"]


def test_folders_that_are_links_are_followed_and_do_not_go_round(lab, tmp_path):
    lab.table(THREE).t1w("01", "02")
    (lab.data / "sub-03").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/anat").mkdir(parents=True)
    (tmp_path / "disk/anat/sub-03_T1w.nii.gz").write_bytes(b"3")
    (tmp_path / "disk/anat/anat").symlink_to(tmp_path / "disk")
    lab.entry["images"] = "sub-*/anat/*_T1w.nii.gz"
    assert len(lab.load()) == 3
