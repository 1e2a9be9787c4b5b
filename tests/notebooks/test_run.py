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
from tle_utils.book.chain import chain

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
        (project / "maps" / f"mwp1{name}.nii").write_bytes(b"map")
    edit = "\nfrom pathlib import Path\nPath('maps/mwp1sub-01.nii').write_bytes(b'newer')"
    write_notebook(project, "01_preprocessing", "", f'(p.result_dir / "maps.txt").write_text("5"){edit}')
    assert main(["run", "--cohort", "mine"]) == 0
    assert main(["status", "--cohort", "mine"]) == 0
    assert "maps/mwp1sub-01.nii changed" in capsys.readouterr().out


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
