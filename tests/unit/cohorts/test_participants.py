import io
import os
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tle_utils.base.errors import TLEError
from tle_utils.cohorts.download import fetch
from tle_utils.cohorts.manifest import load_manifest
from tle_utils.cohorts.participants import _age, _fits, data_files, load_cohort, load_table_only
from tle_utils.cohorts.tables import read_table
from unit.cohorts.lab import LABELS, TABLE, Lab

REPOSITORY = Path(__file__).parents[3]
GOOD = "participant_id\tside\tage\tsex\nsub-01\tnone\t30\tF\nsub-02\tL\t41.5\tmale\nsub-03\tright TLE\tn/a\t\n"


def test_a_bids_folder_with_ten_lines_of_manifest(lab, capsys):
    table = lab.table(GOOD).t1w("01", "02", "03").load()
    assert list(table) == [
        *("participant_id", "group", "age", "sex", "site", "mts", "hippocampus_left", "hippocampus_right"),
        *("image", "image_kind"),
    ]
    assert table["participant_id"].tolist() == ["sub-01", "sub-02", "sub-03"]
    assert table["group"].tolist() == ["control", "left", "right"]
    assert table["sex"].tolist() == ["F", "M", ""]
    np.testing.assert_array_equal(table["age"], [30, 41.5, np.nan])
    assert table["mts"].isna().all()
    assert table["mts"].dtype == "boolean"
    assert set(table["image_kind"]) == {"t1w"}
    assert all(Path(image).is_absolute() and Path(image).is_file() for image in table["image"])
    shown = [f"sub-0{i}/anat/sub-0{i}_T1w.nii.gz → sub-0{i}" for i in (1, 2, 3)]
    counts = "lab: 1 control, 1 left, 1 right; left out: nobody"
    assert capsys.readouterr().out == f"lab: 3 scans found, 3 used: {', '.join(shown)}\n{counts}\n"


def test_example_block_in_the_manifest_works_as_it_stands(tmp_path):
    """The block that the manifest's head shows a lab is a valid cohort and reads a table."""
    head = (REPOSITORY / "data_manifest.yaml").read_text().split("\ncohorts:")[0]
    block = head[head.index("#   my_lab:") :].replace("#   ", "  ").replace("/data/epilepsy", str(tmp_path))
    assert len(block.splitlines()) <= 10
    (tmp_path / "data_manifest.yaml").write_text("cohorts:\n" + block)
    rows = ["p1\t20\tF\tA\thealthy\tn/a", "p2\t30\tM\tB\tTLE\tL", "p3\t40\tM\tB\tTLE\tright", "p4\t40\tM\tB\tTLE\tboth"]
    Path(tmp_path, TABLE).write_text("\n".join(["participant_id\tage\tgender\tscanner\tdiagnosis\tside", *rows]))
    for label in ("p1", "p2", "p3", "p4"):
        scan = tmp_path / f"sub-{label}/anat/sub-{label}_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        scan.write_text(label)
    table = load_cohort(load_manifest(tmp_path / "data_manifest.yaml").cohort("my_lab"))
    assert table["group"].tolist() == ["control", "left", "right"]
    assert table["site"].tolist() == ["A", "B", "B"]


def test_counts_of_each_class_and_of_those_left_out(lab, capsys):
    rows = "".join(f"sub-{i}\t{side}\n" for i, side in enumerate(["none", "L", "L", "R", "both", "both", "?"]))
    table = lab.table("participant_id\tside\n" + rows).t1w(*"0123456").load()
    assert table["group"].value_counts().to_dict() == {"left": 2, "control": 1, "right": 1}
    left = [(person["participant_id"], person["reason"], person["lost"]) for person in table.attrs["left_out"]]
    unfit = "no label rule fits (side = ?)"
    assert left == [("sub-4", "bilateral", False), ("sub-5", "bilateral", False), ("sub-6", unfit, True)]
    out = capsys.readouterr().out
    assert "participants.tsv row 8: sub-6: no label rule fits (side = ?)" in out
    assert "lab: 1 control, 2 left, 1 right; left out: 2 bilateral, 1 no label rule fits" in out


def test_scans_without_row_and_rows_without_scan_are_named(lab, capsys):
    table = lab.table(GOOD).t1w("01", "02", "99").load()
    out = capsys.readouterr().out
    assert table["participant_id"].tolist() == ["sub-01", "sub-02"]
    stray = "sub-99/anat/sub-99_T1w.nii.gz"
    assert f"{stray}: sub-99: no row for this scan" in out and "participants.tsv row 4: sub-03: no scan" in out
    assert "1 ids have no scan (such as 03) and 1 scans no row" in out
    assert table.attrs["left_out"] == [
        {"participant_id": "sub-03", "place": "participants.tsv row 4", "reason": "no scan", "lost": True},
        {"participant_id": "sub-99", "place": stray, "reason": "no row for this scan", "lost": True},
    ]


def test_the_same_row_twice_counts_once_and_two_different_rows_are_refused(lab, capsys):
    table = lab.table(GOOD + "sub-01\tnone\t30\tF\n").t1w("01", "02", "03").load()
    assert len(table) == 3
    (again,) = table.attrs["left_out"]
    assert again["place"] == "participants.tsv row 5" and not again["lost"]  # the person is in the cohort
    assert again["reason"] == "stands twice, word for word (participants.tsv row 2 is kept)"
    message = lab.table(GOOD + "sub-01\tR\t30\tF\n").refused()
    place = "(participants.tsv row 2, participants.tsv row 5)"
    assert message == f"sub-01 stands twice {place} with different side: keep one row"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "participants.tsv: is empty"),
        ("\n \n\t\t\n", "participants.tsv: is empty"),
        ("participant_id\tside\n\n", "has a header but no rows"),
        ("participant_id\tsex\nsub-01\tF\n", r"participants.tsv: no column 'side', which data_manifest.yaml names"),
        ("id\tside\nsub-01\tL\n", "no column 'participant_id'"),
        ("participant_id\tside\tside\nsub-01\tL\tL\n", "row 1: column side stands twice"),
        ("participant_id\tside\nsub-01\n", "row 2 has 1 columns, the header has 2"),
        ('participant_id,side\nsub-01,"L\nsub-02,R\n', "row 2: unexpected end of data: check the quotation marks"),
        (
            "/annex/objects/MD5E-s9--0.tsv\n",
            "participants.tsv: a git-annex pointer in place of the file: run datalad get",
        ),
        ("../.git/annex/objects/x/y/MD5E-s9\n", "a git-annex pointer in place of the file"),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "git-lfs pointer in place of the file: run git lfs",
        ),
        (b"participant_id\tside\nsub-01\t\x00\n", "not a text table"),
        (b"\xd0\xcf\x11\xe0old excel", "an old Excel file"),
        (b"PK\x03\x04broken", "not a readable XLSX"),
        ("participant_id\tside\nsub-01\tboth\n", "nobody is left of 1 rows and scans (1 bilateral)"),
    ],
)
def test_a_bad_table_is_one_line_with_file_and_row(lab, text, said):
    message = lab.table(text).t1w("01").refused()
    assert said in message, message


def test_missing_folder_and_missing_table_are_named(lab):
    assert "participants.tsv: cannot be read" in lab.t1w("01").refused()
    lab.table(GOOD).entry["path"] = "elsewhere"
    assert lab.refused() == "lab: folder elsewhere not found: set cohorts.lab.path in data_manifest.yaml"


def test_column_named_in_the_manifest_must_exist(lab):
    lab.table(GOOD).entry["columns"] = {"age": "Alter"}
    assert "no column 'Alter'" in lab.refused()


def test_rows_without_id_are_named(lab, capsys):
    table = lab.table(GOOD + "\tL\t30\tF\nn/a\tL\t30\tF\n").t1w("01", "02", "03").load()
    assert len(table) == 3
    out = capsys.readouterr().out
    assert "participants.tsv row 5: nobody: no participant id" in out and "left out: 2 no participant id" in out


def test_unreadable_numbers_are_named_and_left_empty(lab, capsys):
    head = "participant_id\tside\tage\tsex\thippocampus_left\n"
    table = lab.table(head + "sub-01\tL\tthirty\tX\t-1\nsub-02\tR\t200\tf\t2,5\n").t1w("01", "02").load()
    out = capsys.readouterr().out
    assert "age: not readable, left empty: participants.tsv row 2 ('thirty'), participants.tsv row 3 ('200')" in out
    assert "sex: not readable, left empty: participants.tsv row 2 ('X')" in out
    assert "hippocampus_left: not readable, left empty: participants.tsv row 2 ('-1')" in out
    np.testing.assert_array_equal(table["hippocampus_left"], [np.nan, 2.5])
    assert table["sex"].tolist() == ["", "F"]


@pytest.mark.parametrize(
    ("text", "age"),
    [("34", 34), ("34,5", 34.5), ("20 to 24", 22), ("65-70", 67.5), ("Over 55", 55), ("Less than 20", 20), ("89+", 89)]
    + [("1990-05-01", None), ("12/05", None), ("-3", None), ("121", None), ("", None)],
)
def test_ages_as_tables_write_them(text, age):
    assert _age(text) == age


@pytest.mark.parametrize("path", ["../secret.nii", "/etc/passwd", "a/../../b.nii", "C:\\scan.nii", "..\\b.nii"])
def test_image_paths_in_a_table_stay_in_the_folder(lab, path):
    lab.entry |= {"kind": "derivatives", "columns": {"image": "file"}}
    message = lab.table(f"participant_id\tside\tfile\nsub-01\tL\t{path}\n").refused()
    assert message.startswith("participants.tsv row 2: ")
    assert "inside the cohort's folder" in message


def test_files_that_a_run_reads(lab):
    lab.table(GOOD + "sub-04\tboth\t30\tF\n").t1w("01", "02", "04", "99")
    notes = []
    files = data_files(lab.cohort(), notes)
    assert notes[-1].startswith("lab: 4 scans found, 2 used: sub-01/anat/sub-01_T1w.nii.gz → sub-01, ")
    assert [file.name for file in files] == [TABLE, "sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz"]


def test_phantoms_have_no_table_and_planted_reads_its_base(tmp_path):
    lab = Lab(tmp_path).table(GOOD).t1w("01")
    lab.cohort()
    file = tmp_path / "data_manifest.yaml"
    more = {"phantom": {"kind": "phantom"}, "planted": {"kind": "planted", "base": "lab", "n_left": 1, "n_right": 0}}
    file.write_text(yaml.safe_dump({"cohorts": {"lab": lab.entry, **more}}))
    manifest = load_manifest(file)
    assert data_files(manifest.cohort("phantom")) == []
    assert [path.name for path in data_files(manifest.cohort("planted"))] == [TABLE, "sub-01_T1w.nii.gz"]
    with pytest.raises(TLEError, match="of kind phantom"):
        load_cohort(manifest.cohort("phantom"))


def test_only_verified_scans_of_a_downloaded_cohort_are_used(tmp_path, capsys):
    lab = Lab(tmp_path).table(GOOD).t1w("01", "02", "03")
    lab.entry = {"kind": "openneuro", "dataset": "ds000001", "files": "list.tsv", "labels": LABELS}
    files = [path for path in lab.data.rglob("*") if path.is_file()]
    rows = [f"{p.relative_to(lab.data)}\t{p.stat().st_size}\t{sha256(p.read_bytes()).hexdigest()}" for p in files]
    (tmp_path / "list.tsv").write_text("\n".join(["path\tbytes\tsha256", *rows]))
    with pytest.raises(TLEError, match="participants.tsv is missing: run python -m tle_utils fetch lab --only table"):
        lab.load()
    fetch(lab.cohort(), only="table", mirror=lab.data)
    assert "(3 no scan: run python -m tle_utils fetch lab)" in lab.refused()
    assert len(load_table_only(lab.cohort())) == 3
    fetch(lab.cohort(), mirror=lab.data)
    (tmp_path / "downloads/lab/sub-02/anat/sub-02_T1w.nii.gz").write_bytes(b"SCAN")
    assert lab.load()["participant_id"].tolist() == ["sub-01", "sub-03"]
    assert "sub-02: not the published file: run python -m tle_utils fetch lab" in capsys.readouterr().out


# Reading tables, whatever made them.


def written(folder, data, name=TABLE):
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("separator", ["\t", ",", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_encodings_and_line_ends(tmp_path, separator, encoding, end):
    lines = ["participant_id,Zentrum,age", "sub-01,Köln,30", "", "sub-02,n/a,", "  ", ",,"]
    text = end.join(lines).replace(",", separator)
    notes = []
    table = read_table(written(tmp_path, text.encode(encoding)), notes)
    assert table.to_dict("list") == {
        "participant_id": ["sub-01", "sub-02"],
        "Zentrum": ["Köln", "n/a"],
        "age": ["30", "n/a"],
    }
    assert table.index.tolist() == [2, 4]
    assert notes == []


def test_a_row_with_another_separator_is_read_and_named(tmp_path):
    notes = []
    text = "participant_id\tside\tage\nsub-01\tL\t30\nsub-02,R,31\n"
    table = read_table(written(tmp_path, text.encode()), notes)
    assert table["age"].tolist() == ["30", "31"]
    assert [note[:26] for note in notes] == ["participants.tsv: row 3: i"]
    with pytest.raises(TLEError, match="row 4 has 2 columns, the header has 3"):  # a comma of a comment is no separator
        read_table(written(tmp_path, (text + "sub-03\taura, L\n").encode()))


def test_text_that_is_not_utf8_is_read_and_named(tmp_path):
    notes = []
    table = read_table(written(tmp_path, "id\tsite\n1\tBonn\n2\tKöln\n".encode("latin-1")), notes)
    assert table["site"].tolist() == ["Bonn", "Köln"]
    assert notes == ["participants.tsv: row 3: not UTF-8; read as Western European (Latin-1) text"]


def test_excel_numbers_dates_and_sheets(tmp_path):
    book = openpyxl.Workbook()
    for row in (["ID", "age", "volume"], [1, 30.0, 2.25], [None, None, None], [2, None, "2,5"]):
        book.active.append(row)
    book.create_sheet("notes")
    data = io.BytesIO()
    book.save(data)
    for name in ("clinical.xlsx", "clinical.csv"):
        notes = []
        table = read_table(written(tmp_path, data.getvalue(), name), notes)
        assert table.to_dict("list") == {"ID": ["1", "2"], "age": ["30", "n/a"], "volume": ["2.25", "2,5"]}
        assert table.index.tolist() == [2, 4]
        assert notes == [f"{name}: has 2 sheets; 'Sheet' is read"]


def sheet(folder, rows, change=lambda book: None):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    change(book)
    book.save(folder / "people.xlsx")
    notes = []
    return read_table(folder / "people.xlsx", notes), notes


ROWS = [["participant_id", "side"], [1, "L"], [2, "R"], [3, "none"]]


def test_a_formula_without_value_loses_its_row_by_name(lab):
    rows = [["participant_id", "side", "age"], ["01", '=IF(C2<32,"L","R")', 31], ["02", "R", 4], ["=A2", "L", 3]]
    sheet(lab.data, [*rows, ["04", "#REF!", 1], ["05", "#N/A!", 1], ["06", "#REF!", 60]])
    lab.t1w("01", "02", "04", "05", "06").entry["table"] = "people.xlsx"
    old = {"group": "control", "when": {"age": ["60"]}}  # decides without the cell that is broken
    lab.entry["labels"] = [old, *LABELS, {"group": "exclude", "when": {"side": ["*"]}, "reason": "other"}]
    table = lab.load()
    assert table["participant_id"].tolist() == ["sub-02", "sub-06"]
    lost = {one["participant_id"]: one["reason"] for one in table.attrs["left_out"] if one["lost"]}
    assert set(lost) == {"sub-01", "sub-04", "sub-05", ""} and lost[""] == "no participant id"
    assert lost["sub-01"].startswith('side: \'=IF(C2<32,"L","R")\' has no value: open the table')


def test_merged_cells_and_two_sheets_of_one_kind_stop(tmp_path):
    with pytest.raises(TLEError, match="people.xlsx: row 2: the cells B2:B4 are merged: split them and fill each"):
        sheet(tmp_path, ROWS, lambda book: book.active.merge_cells("B2:B4"))

    def again(book):
        other = book.create_sheet("old")
        for row in ROWS:
            other.append(row)

    with pytest.raises(TLEError, match="the sheets 'Sheet' and 'old' both have tables of the same columns"):
        sheet(tmp_path, ROWS, again)


def test_words_of_another_sheet_and_hidden_rows_are_said(tmp_path):
    def change(book):
        for row in (["variable", "what"], ["side", "of the lesion"]):
            book.create_sheet("dictionary").append(row)
        book.active.row_dimensions[3].hidden = True

    table, notes = sheet(tmp_path, ROWS, change)
    assert (
        len(table) == 3
        and "'Sheet' is read" in notes[0]
        and notes[1].endswith("hidden rows and columns are read too: 3")
    )


def test_a_hidden_sheet_is_not_the_table(tmp_path):
    def change(book):
        other = book.create_sheet("old", 0)
        for row in ROWS[:2]:
            other.append(row)
        other.sheet_state = "hidden"

    assert len(sheet(tmp_path, ROWS, change)[0]) == 3


def test_zeros_that_a_format_shows_are_read(tmp_path):
    def change(book):
        book.active["A2"].number_format = "00000"

    assert sheet(tmp_path, ROWS, change)[0]["participant_id"].tolist() == ["00001", "2", "3"]


def test_the_first_line_may_say_the_separator(tmp_path):
    for first in ("sep=;", '"sep=;"', "SEP=;"):
        table = read_table(written(tmp_path, f"{first}\r\nid;a,b\r\n1;x,y\r\n".encode()))
        assert table.to_dict("list") == {"id": ["1"], "a,b": ["x,y"]} and table.index.tolist() == [3]


@pytest.mark.parametrize(
    "comments", [('"aura', 'negative"'), ('"', '"'), ('"petit mal" once', "ok"), ('"good EEG', "x")]
)
def test_a_quotation_mark_is_a_letter_between_tabs(lab, comments):
    rows = [("participant_id", "side", "comment"), ("sub-01", "L", comments[0]), ("sub-02", "R", comments[1])]
    lab.table("\n".join("\t".join(row) for row in rows)).t1w("01", "02")
    assert lab.load()["group"].tolist() == ["left", "right"]
    lab.table("\n".join(",".join(row) for row in rows))
    assert "participants.tsv: row 2: " in lab.refused()


def test_a_cell_of_several_lines_is_read(tmp_path):
    table = read_table(written(tmp_path, b'id,side,note\n1,L,"first\nsecond, third"\n2,R,x\n'))
    assert table["side"].tolist() == ["L", "R"]


@pytest.mark.parametrize(
    ("cell", "value", "fits"),
    [
        ("1.0", "1", True),
        ("1", "1.0", True),
        ("01", "1", False),
        ("1", "01", False),
        ("1.00", "1", True),
        ("-0", "0", True),
    ]
    + [("[L]", "[L]", True), ("L", "[L]", False), ("Präop", "Pra\u0308op", True), ("l", "L", True), ("10", "1", False)],
)
def test_values_of_rules(cell, value, fits):
    entry = load_manifest(REPOSITORY / "data_manifest.yaml").cohorts["unam"].labels[0]
    rule = type(entry).model_validate({"group": "left", "when": {"a": [value]}})
    assert _fits(cell, rule.when["a"]) == fits


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00\ufeff", exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5), separator=st.sampled_from("\t,;|"))
def test_any_text_survives_a_round_trip(tmp_path, rows, separator):
    if separator == "\t":  # no quotation marks: a cell cannot hold what separates cells
        rows = [tuple(re.sub(r"[\t\r\n]", " ", cell) for cell in row) for row in rows]
        lines = ["id\ta\tb"] + ["\t".join((f"p{i}", *row)) for i, row in enumerate(rows)]
        data = "\r\n".join(lines).encode("utf-8-sig")
    else:
        frame = pd.DataFrame([(f"p{i}", *row) for i, row in enumerate(rows)], columns=["id", "a", "b"])
        data = frame.to_csv(sep=separator, index=False, quoting=1, lineterminator="\r\n").encode("utf-8-sig")
    try:
        table = read_table(written(tmp_path, data))
    except TLEError as error:  # a cell of several lines whose last one looks like a row
        assert "over a line that looks like a row" in str(error) and "\n" in "".join(map("".join, rows)).replace(
            "\r", "\n"
        )
        return
    empty = {"", "n/a", "na", "#n/a", "nan", "null"}
    wanted = [["n/a" if cell.strip().lower() in empty else cell.strip() for cell in row] for row in rows]
    assert table[["a", "b"]].to_numpy().tolist() == wanted
    assert table["id"].tolist() == [f"p{i}" for i in range(len(rows))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=120),
        st.text('ab\t,;|"\n\r ', max_size=60).map(str.encode),
        st.binary(max_size=60).map(b"PK\x03\x04".__add__),
    )
)
def test_any_bytes_end_in_a_table_or_one_line(tmp_path, data):
    try:
        table = read_table(written(tmp_path, data))
    except TLEError as error:
        assert str(error).startswith("participants.tsv: ")
        assert "\n" not in str(error)
    else:
        assert len(table) >= 1


# The public cohorts.


def ideas(tmp_path, patients, controls, suffix=".csv"):
    root = tmp_path / "project"
    (root / "downloads/ideas").mkdir(parents=True)
    for name in ("data_manifest.yaml", "manifests"):
        (root / name).symlink_to(REPOSITORY / name)
    head = "ID,Sex,Op_Side,Op_Type,Pathology,Binned_Age_at_Scan\n"
    tables = {"Metadata_Release_Anon": head + patients, "Metadata_Controls_Release": controls}
    for name, text in tables.items():
        path = root / "downloads/ideas" / (name + suffix)
        if suffix == ".xlsx":
            pd.read_csv(io.StringIO(text)).to_excel(path, index=False)
        else:
            path.write_text(text)
    return load_manifest(root / "data_manifest.yaml")


PATIENTS = (
    "1,M,L,T Lx,HS,20 to 24\n2,F,R,T Lesx,DNT,25 to 29\n3,F,R,F Lx,FCD,n/a\n209,M,L,T Lx,HS,Over 55\n"
    "209,M,L,T Lx,HS,Over 55\n210,F,L,,,30 to 34\n"
)
CONTROLS = "ID,Sex,Binned_Age_at_Scan\n4001,F,Less than 20\n4100,M,30 to 34\n"


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_ideas_joins_the_two_clinical_tables(tmp_path, suffix):
    table = load_table_only(ideas(tmp_path, PATIENTS, CONTROLS, suffix).cohort("ideas")).set_index("participant_id")
    assert table["group"].to_dict() == {
        **{"sub-1": "left", "sub-2": "right", "sub-3": "exclude", "sub-209": "left", "sub-210": "exclude"},
        **{"sub-4001": "control", "sub-4100": "control"},
    }
    assert table.loc["sub-3", "reason"] == "surgery outside the temporal lobe or side not given"
    assert table["mts"].fillna(False).sum() == 2
    assert table.loc["sub-1", "age"] == 22


def test_ideas_without_its_table_says_how_to_get_it(tmp_path):
    cohort = ideas(tmp_path, PATIENTS, CONTROLS).cohort("ideas")
    (cohort.folder / "Metadata_Controls_Release.csv").unlink()
    with pytest.raises(TLEError, match=r"ideas/Metadata_Controls_Release.csv is missing: open www.cnnp-lab.com"):
        load_cohort(cohort)
    with pytest.raises(TLEError, match="the table is not part of the dataset"):
        fetch(cohort, only="table")


def test_a_changed_table_of_unam_is_refused(tmp_path):
    cohort = ideas(tmp_path, PATIENTS, CONTROLS).cohort("unam")
    cohort.folder.mkdir(parents=True)
    (cohort.folder / TABLE).write_text("participant_id\tTLEside\nsub-1\tHealthy\n")
    with pytest.raises(TLEError, match="unam/participants.tsv is not the published file: delete it"):
        load_table_only(cohort)


@pytest.mark.real
def test_unam_has_the_published_counts_and_sclerosis_the_right_way_round(tmp_path):
    shared = REPOSITORY / os.environ.get("TLE_SHARED_DATA", "../shared/data")
    if not shared.is_dir():
        pytest.skip("TLE_SHARED_DATA is absent")
    cohort = ideas(tmp_path, PATIENTS, CONTROLS).cohort("unam")
    fetch(cohort, only="table", mirror=shared)
    table = load_table_only(cohort)
    assert table["group"].value_counts().to_dict() == {"control": 35, "left": 19, "right": 12, "exclude": 8}
    reasons = table.loc[table["group"] == "exclude", "reason"].value_counts().to_dict()
    assert reasons == {"bilateral epilepsy": 4, "side unknown": 4}
    assert not table.loc[table["group"] == "control", "mts"].any()
    left = table[table["group"] == "left"]
    asymmetry = (left["hippocampus_left"] - left["hippocampus_right"]).groupby(left["mts"]).mean()
    assert asymmetry[True] < asymmetry[False]


@pytest.mark.real
@pytest.mark.parametrize(("name", "n"), [("ds002748", 24), ("ds000011", 8)])
def test_shared_cohorts_are_all_controls(name, n):
    cohort = load_manifest(REPOSITORY / "data_manifest.yaml").cohort(name)
    if not cohort.folder.is_dir():
        pytest.skip("TLE_SHARED_DATA is absent")
    table = load_cohort(cohort)
    assert table["group"].tolist() == ["control"] * n
    assert len(data_files(cohort)) == n + 1
