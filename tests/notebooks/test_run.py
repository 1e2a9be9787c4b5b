import errno
import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from tle_utils.__main__ import main
from tle_utils.base.errors import TLEError
from tle_utils.book import run as runner
from tle_utils.book.build import run_card
from tle_utils.book.chain import chain
from tle_utils.book.reference import reference_state

PARAMETERS = 'profile: str = "demo"\ncohort: str = "phantom"\nseed: int = 0\nworkers: int = 2\n'
CHECK = 'from tle_utils.base import require\nfrom tle_utils.book import check\n\np = check("{name}", globals())'


def write_notebook(project, name, extra, cell, **said):
    first = nbformat.v4.new_code_cell(PARAMETERS + extra, metadata={"tags": ["parameters"]})
    cells = [nbformat.v4.new_markdown_cell("# Title"), first]
    cells += [nbformat.v4.new_code_cell(source) for source in (CHECK.format(name=name), cell)]
    metadata = {"tle": said}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), project / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Four notebooks: 02 reads 01, 03 reads 02, 04 reads 01."""
    (tmp_path / "data_manifest.yaml").write_text("cohorts: {phantom: {kind: phantom}}\n")
    (tmp_path / "notebooks" / "parameters").mkdir(parents=True)
    (tmp_path / "notebooks" / "parameters" / "demo.yaml").write_text("")
    write_notebook(tmp_path, "01_preprocessing", "n: int = 5", '(p.result_dir / "maps.txt").write_text(str(p.n))')
    read = 'text = require(p.run_dir / "{0}/maps.txt", "{0}").read_text()\n'
    leave = '(p.result_dir / "maps.txt").write_text(text + "!")'
    write_notebook(tmp_path, "02_replication", "max_epochs: int = 5", read.format("01_preprocessing") + leave)
    needs = ["02_replication"]
    model = '\n(p.run_dir / "models").mkdir(exist_ok=True)\n(p.run_dir / "models" / "net.txt").write_text(text)'
    write_notebook(tmp_path, "03_deep", "", read.format(needs[0]) + leave + model, needs=needs, makes=["models"])
    write_notebook(tmp_path, "04_other", "", read.format("01_preprocessing") + leave)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    left = [child.cmdline() for child in psutil.Process().children(recursive=True) if child.status() != "zombie"]
    assert not [command for command in left if "ipykernel_launcher" in command], "every kernel ends with its run"


def states(capsys):
    """Notebook → how its last progress line ends."""
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    return {line.split()[1][:2]: line.split(": ", 1)[1].split(" in ")[0] for line in lines}


ALL_DONE = dict.fromkeys(("01", "02", "03", "04"), "done")
ALL_SAME = dict.fromkeys(("01", "02", "03", "04"), "up to date")


def replace_in(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.chain
def test_only_what_is_out_of_date_runs(project, capsys):
    run = project / "runs" / "demo-phantom"
    assert main(["run"]) == 0
    assert states(capsys) == ALL_DONE
    assert main(["run", "--workers", "1"]) == 0, "workers do not change results"
    assert states(capsys) == ALL_SAME

    assert main(["run", "--set", "02_replication.max_epochs=6"]) == 0
    assert states(capsys) == ALL_SAME | {"02": "done"}, "03 reads the same bytes as before"
    card = json.loads((run / "run.json").read_text())["notebooks"]
    assert card["02_replication"]["parameters"]["max_epochs"] == 6
    assert [entry["state"] for entry in card.values()] == ["up to date", "done", "up to date", "up to date"]

    (run / "02_replication" / "maps.txt").write_text("tampered")
    assert main(["status", "--set", "02_replication.max_epochs=6"]) == 0
    table = capsys.readouterr().out
    assert "runs/demo-phantom/02_replication/maps.txt changed" in table and "02_replication runs first" in table

    (run / "models" / "net.txt").unlink()
    assert main(["status", "--set", "02_replication.max_epochs=6"]) == 0
    assert "models/net.txt is gone" in capsys.readouterr().out, "results beside a notebook's own folder count"
    (run / "04_other" / "maps.txt").unlink()
    replace_in(project / "notebooks" / "02_replication.ipynb", "!", "?")
    assert main(["run"]) == 0
    assert states(capsys) == ALL_DONE | {"01": "up to date"}
    assert (run / "03_deep" / "maps.txt").read_text() == "5?!" and (run / "models" / "net.txt").exists()

    text = (run / "notebooks" / "02_replication.ipynb").read_text()
    assert str(project) not in text, "no path of this machine in a page"
    (listed,) = json.loads((run / "02_replication" / "outputs.json").read_text())["files"]
    assert listed["path"] == "maps.txt" and listed["size"] == 2


@pytest.mark.chain
def test_data_edited_while_a_notebook_runs_make_it_out_of_date(project, capsys):
    labels = "labels: [{group: left, when: {side: [L]}}, {group: control}]"
    (project / "data_manifest.yaml").write_text(f"cohorts: {{mine: {{kind: derivatives, path: maps, {labels}}}}}\n")
    (project / "maps").mkdir()
    (project / "maps" / "participants.tsv").write_text("participant_id\tside\nsub-01\tL\nsub-02\tn/a\n")
    for name in ("sub-01", "sub-02"):
        (project / "maps" / f"mwp1{name}.nii").write_bytes(name.encode())
    edit = "\nfrom pathlib import Path\nPath('maps/mwp1sub-01.nii').write_bytes(b'newer')"
    write_notebook(project, "01_preprocessing", "", f'(p.result_dir / "maps.txt").write_text("5"){edit}')
    assert main(["run", "--cohort", "mine"]) == 0
    assert main(["status", "--cohort", "mine"]) == 0
    assert "maps/mwp1sub-01.nii changed" in capsys.readouterr().out


def only_first(project):
    for name in ("02_replication", "03_deep", "04_other"):
        (project / "notebooks" / f"{name}.ipynb").unlink()


GIVEN = """
from pathlib import Path
from tle_utils.base import TLEError
if not Path(image).exists():
    raise TLEError(f"{image}: no such file")
text = Path(image, "w.txt" if Path(image).is_dir() else "").read_text()
(p.result_dir / "card.txt").write_text(text)"""


@pytest.mark.chain
@pytest.mark.parametrize("inside", ["", "w.txt"])
def test_a_given_file_or_folder_counts_by_its_content(project, capsys, inside):
    """The card of the last person is never the next one's: same name, same size, same time of change."""
    only_first(project)
    write_notebook(project, "07_card", 'image: str = ""', GIVEN, files=["image"])
    given, card = project / "one person.nii", project / "runs" / "demo-phantom" / "07_card" / "card.txt"
    given.mkdir() if inside else None
    file, command = given / inside, ["run", "--set", f"07_card.image='{given.name}'"]

    def person(text):
        file.write_text(text)
        os.utime(file, (1e9, 1e9))

    for text, state in (("left", "done"), ("left", "up to date"), ("next", "done"), ("next", "up to date")):
        person(text)
        assert main(command) == 0
        assert states(capsys)["07"] == state and card.read_text() == text
    (given / "another.txt").write_text("") if inside else given.rename(project / "away.nii")
    assert main(["status", *command[1:]]) == 0
    assert f"{given.name} {'changed' if inside else 'is gone'}" in capsys.readouterr().out
    file.unlink(missing_ok=True)
    (given / "another.txt").unlink(missing_ok=True)
    given.rmdir() if inside else None
    for _ in range(2):
        assert main(command) == 2
        assert f"07_card, cell 3 (from pathlib import Path): {given.name}: no such file" in capsys.readouterr().err
        assert not [
            path for path in card.parents[1].rglob("*") if path.stem in ("card", "outputs") and "07" in str(path)
        ]
        assert not (card.parents[1] / "notebooks" / "07_card.ipynb").exists()


@pytest.mark.chain
def test_nothing_of_a_former_person_stays_where_the_notebook_cannot_run(project, capsys):
    only_first(project)
    write_notebook(project, "07_card", 'image: str = ""', GIVEN, files=["image"])
    (project / "a.nii").write_text("left")
    assert main(["run", "--set", "07_card.image=a.nii"]) == 0
    results = project / "runs" / "demo-phantom" / "07_card"
    inside = results / "given.nii"
    inside.write_text("mine")
    replace_in(project / "notebooks" / "01_preprocessing.ipynb", "(p.result_dir", "1 / 0\\n(p.result_dir")
    assert main(["run", "--set", f"07_card.image={inside}"]) == 1
    assert "07_card: not run" in capsys.readouterr().out
    assert [path.name for path in results.iterdir()] == ["given.nii"], "what the user gives is not ours to remove"


@pytest.mark.chain
def test_a_data_file_without_permission_ends_no_run_and_counts_when_it_can_be_read(project, capsys, monkeypatch):
    only_first(project)
    scan = project / "scan.nii"
    scan.write_text("x")
    monkeypatch.setattr(runner.Run, "data", [str(scan), str(project / "dangling.nii")])
    read, opened = open, []

    def refuse(path, *arguments, **more):
        if str(path) == str(scan) and opened:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **more)

    monkeypatch.setattr("builtins.open", refuse)
    opened.append("no")
    for state in ("done", "up to date"):
        assert main(["run"]) == 0
        assert states(capsys)["01"] == state
    opened.clear()
    scan.chmod(0o640)
    assert main(["run"]) == 0
    assert states(capsys)["01"] == "done"


@pytest.mark.chain
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_disk_without_locks_is_a_line_and_the_run_goes_on(project, capsys, monkeypatch, number):
    only_first(project)

    def flock(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(runner.fcntl, "flock", flock)
    assert main(["run"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tle_utils: runs/demo-phantom cannot be locked (") and "no second run" in line


@pytest.mark.chain
def test_a_result_that_is_not_ours_is_one_line(project, capsys, monkeypatch):
    def refuse(run, name):
        raise PermissionError(13, "Permission denied", str(run.executed(name)))

    only_first(project)
    monkeypatch.setattr(runner.Run, "remove_results", refuse)
    assert main(["run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tle_utils: runs/demo-phantom/notebooks/01_preprocessing.ipynb: no permission: ")


def test_a_folder_of_runs_that_cannot_be_written_is_one_line(project, capsys):
    (project / "runs").write_text("")
    assert main(["run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tle_utils: runs/demo-phantom: cannot be written (")


@pytest.mark.chain
def test_everybody_who_was_lost_has_a_line_and_stands_on_the_run_card(project, capsys):
    rows = [
        "participant_id\terror\tflags\tlost",
        "sub-a\tsub-a: no scan (people.tsv row 3)\t\tyes",
        "sub-b\t\tcut off\tyes",
        "sub-c\tsub-c: excluded\t\tno",
        "\tpeople.tsv row 9: no participant id\t\tyes",
    ]
    only_first(project)
    failed = f'(p.result_dir / "failed.tsv").write_text({chr(10).join(rows)!r})'
    write_notebook(project, "01_preprocessing", "", failed)
    for _ in range(2):
        assert main(["run"]) == 3
        assert capsys.readouterr().err.splitlines() == [
            "tle_utils: sub-a: no scan (people.tsv row 3)",
            "tle_utils: sub-b: cut off",
            "tle_utils: people.tsv row 9: no participant id",
            "tle_utils: left out: 3; the others went on",
        ]
    card = json.loads((project / "runs" / "demo-phantom" / "run.json").read_text())
    assert [one["participant_id"] for one in card["left_out"]] == ["sub-a", "sub-b", ""]
    page = run_card(card)
    assert "| participants left out | ` 3 ` |" in page and "| ` sub-b ` | ` cut off ` |" in page


@pytest.mark.chain
def test_maps_of_another_cohort_that_came_later_are_noticed(project, capsys):
    """A reader who makes real brains after the phantoms expects them on the page that tests on them."""
    other = "external: Optional[str] = None"
    first = nbformat.v4.new_code_cell("from typing import Optional")
    write_notebook(project, "04_other", other, '(p.result_dir / "x").touch()', beside={"external": "planted"})
    notebook = nbformat.read(project / "notebooks" / "04_other.ipynb", 4)
    notebook.cells.insert(1, first)
    nbformat.write(notebook, project / "notebooks" / "04_other.ipynb")
    assert main(["run"]) == 0
    made = project / "runs" / "demo-planted" / "01_preprocessing"
    made.mkdir(parents=True)
    (made / "outputs.json").write_text("{}")
    assert main(["run"]) == 0
    assert states(capsys)["04"] == "done"
    (made / "outputs.json").write_text("other")
    assert main(["status"]) == 0
    assert "maps of cohort planted changed" in capsys.readouterr().out


@pytest.mark.chain
@pytest.mark.parametrize(
    ("cell", "status", "message"),
    [
        ("x = 1\\n1 / 0", 1, "02_replication, cell 3 (x = 1): ZeroDivisionError: division by zero"),
        ("import os\\nos._exit(0)", 1, "02_replication, cell 3 (import os): the kernel died"),
        (
            "require(p.run_dir / 'x', '01_preprocessing')",
            2,
            "02_replication, cell 3 (require(p.run_dir / 'x', '01_preprocessing')): "
            "runs/demo-phantom/x is missing: run notebook 01_preprocessing first",
        ),
    ],
)
def test_failure_names_notebook_and_cell_and_leaves_nothing_half_written(project, capfd, cell, status, message):
    run = project / "runs" / "demo-phantom"
    replace_in(project / "notebooks" / "02_replication.ipynb", "text = ", f"{cell}\\ntext = ")
    assert main(["run"]) == status
    output = capfd.readouterr()
    assert message in output.err and "1 failed, 1 not run of 4" in output.err
    assert "03_deep: not run, it needs 02_replication" in output.out and "04_other: done" in output.out
    assert not (run / "notebooks" / "02_replication.ipynb").exists()
    assert not (run / "02_replication" / "outputs.json").exists()
    nbformat.read(run / "failed" / "02_replication.ipynb", as_version=4)
    card = json.loads((run / "run.json").read_text())["notebooks"]
    assert [card[name]["state"] for name in card] == ["done", "failed", "not run", "done"]
    assert main(["status"]) == 0
    assert "failed in its last run" in capfd.readouterr().out
    assert [path for path in run.rglob(".*") if path.name not in {".lock", ".state.json"}] == []


@pytest.mark.chain
@pytest.mark.parametrize(("deaths", "status"), [(1, 0), (9, 1)])
def test_a_kernel_that_dies_at_its_start_is_started_once_more(project, capfd, monkeypatch, deaths, status):
    """As when another process takes the port that was chosen for it."""
    from tle_utils.book.execution import Kernels

    start, started = Kernels._start, []

    def start_and_kill(kernels, *arguments):
        manager = start(kernels, *arguments)
        started.append(manager)
        if len(started) <= deaths:
            os.kill(manager.provisioner.pid, signal.SIGKILL)
        return manager

    monkeypatch.setattr(Kernels, "_start", start_and_kill)
    for name in ("02_replication", "03_deep", "04_other"):
        (project / "notebooks" / f"{name}.ipynb").unlink()
    assert main(["run"]) == status
    output = capfd.readouterr()
    assert len(started) == 2 and "Traceback" not in output.err
    assert ("01_preprocessing, before its first cell: the kernel died" in output.err) == bool(status)


@pytest.mark.chain
@pytest.mark.parametrize(("stop", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_stopped_run_goes_on_where_it_was(project, capsys, stop, status):
    run, notebook = project / "runs" / "demo-phantom", project / "notebooks" / "02_replication.ipynb"
    wait = "import os, time\\nopen(p.result_dir / 'pid', 'w').write(str(os.getpid()))\\ntime.sleep(600)\\n"
    replace_in(notebook, "text = ", f"{wait}text = ")
    runner = subprocess.Popen(
        [sys.executable, "-m", "tle_utils", "run"],
        text=True,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores Ctrl-C
    )
    kernel = run / "02_replication" / "pid"
    deadline = time.monotonic() + 120
    while not (kernel.exists() and kernel.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)

    assert main(["run"]) == 2
    assert "runs/demo-phantom is in use by another run" in capsys.readouterr().err

    runner.send_signal(stop)
    error = runner.communicate(timeout=60)[1]
    assert runner.returncode == status
    assert stop != signal.SIGINT or "interrupted in 02_replication" in error
    while os.path.exists(f"/proc/{kernel.read_text()}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{kernel.read_text()}"), "the kernel outlives its runner"
    assert not (run / "notebooks" / "02_replication.ipynb").exists()

    replace_in(notebook, wait, "")
    kernel.unlink()
    assert main(["run"]) == 0
    assert states(capsys) == ALL_DONE | {"01": "up to date"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--profile", "dem"],
        ["run", "--cohort", "unma"],
        ["run", "--set", "02_replication.max_epoch=3"],
        ["run", "--workers", "0"],
        ["run", "--workers", "two"],
        ["run", "--folds", "3"],
        ["rum"],
        [],
        ["status", "--profile", "dem"],
    ],
)
def test_bad_input_is_one_line_and_status_2_and_writes_nothing(project, capsys, arguments):
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("tle_utils: ") and output.err.count("\n") == 1
    assert not (project / "runs").exists()


def test_a_missing_folder_of_scans_stops_before_anything_is_written(project, capsys):
    text = "cohorts: {mine: {kind: bids, path: scans, labels: [{group: control}]}}\n"
    (project / "data_manifest.yaml").write_text(text)
    assert main(["run", "--cohort", "mine"]) == 2
    assert "scans" in capsys.readouterr().err
    assert not (project / "runs").exists()


def test_needs_must_name_an_earlier_notebook(project):
    write_notebook(project, "05_late", "", "", needs=["06_later"])
    with pytest.raises(TLEError, match="05_late.ipynb: needs '06_later', which does not come before it"):
        chain()


def test_a_notebook_depends_on_the_code_it_imports_and_on_nothing_else(project):
    write_notebook(project, "05_code", "", "%matplotlib inline\nfrom tle_utils import imaging")
    path = project / "notebooks" / "05_code.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell("imaging.brain_mask()"))
    nbformat.write(notebook, path)
    content = chain()["05_code"].content
    assert {"tle_utils/imaging/atlas.py", "tle_utils/book/parameters.py", "tle_utils/base/errors.py"} <= set(content)
    assert "tle_utils/book/run.py" not in content and "tle_utils/phantom/maps.py" not in content


def test_a_run_with_nothing_to_do_loads_no_heavy_package(project):
    code = (
        "import sys; from tle_utils.__main__ import main; main(['status']);"
        "print([name for name in ('tensorflow', 'papermill', 'pandas', 'nilearn') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_reader_who_leaves_early_sees_no_traceback(project):
    command = [sys.executable, "-m", "tle_utils", "status"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.chain
def test_reference_results_are_those_of_the_code(project, capsys):
    (project / "notebooks" / "parameters" / "paper.yaml").write_text("global: {seed: 7}\n")
    assert main(["reference"]) == 2
    assert "01_preprocessing of profile paper: never run: make reference" in capsys.readouterr().err
    only_first(project)
    leave = '(p.result_dir / "results.tsv").write_text(f"model\\n{p.seed}\\n")\n'
    leave += '(p.result_dir / "predictions.tsv").write_text("x" * 100_000)'
    write_notebook(project, "02_replication", "", leave)
    main(["run", "--profile", "paper"])
    assert main(["reference"]) == 0
    folder = project / "reference"
    card = json.loads((folder / "reference.json").read_text())
    assert card["chapters"]["02_replication"]["parameters"]["seed"] == 7
    assert list(card["files"]) == ["02_replication/results.tsv"], "long tables and the first chapter's stay out"
    assert (folder / "02_replication" / "results.tsv").read_text() == "model\n7\n"
    before = (folder / "reference.json").read_bytes()
    main(["run", "--profile", "paper", "--workers", "1"])
    assert main(["reference"]) == 0 and (folder / "reference.json").read_bytes() == before
    assert reference_state() == "The results in the paper's design were made by the code of this copy."
    (project / "notebooks" / "parameters" / "paper.yaml").write_text("global: {seed: 8}\n")
    assert "before the code of 01_preprocessing, 02_replication changed" in reference_state()
