import hashlib
import http.server
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tle_utils.base.errors import TLEError
from tle_utils.base.files import write_bytes
from tle_utils.cohorts import download
from tle_utils.cohorts.download import fetch, verified_files
from tle_utils.cohorts.manifest import load_manifest

RNG = np.random.default_rng(3)
FILES = {
    "participants.tsv": b"participant_id\tgroup\nsub-01\tcontrol\nsub-02\tleft\n",
    "sub-01/anat/sub-01_T1w.nii.gz": RNG.bytes(90_000),
    "sub-02/anat/sub-02_T1w.nii.gz": RNG.bytes(70_000),
}
FIRST, SECOND = list(FILES)[1:]


class Server(http.server.ThreadingHTTPServer):
    """Serves FILES; `plan` holds for a path the faults of its next answers, `log` every request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.log, self.release = {}, [], threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}/ds000001"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.removeprefix("/ds000001/")
        plan = self.server.plan.get(path, [])
        fault = plan.pop(0) if plan else "ok"
        self.server.log.append(path)
        body = FILES.get(path)
        if isinstance(fault, int) or body is None:
            self.send_response(fault if isinstance(fault, int) else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "login page":
            body = b"<html>log in to the hotel network</html>"
        if fault == "corrupt":
            body = body[:-9] + b"corrupted"
        self.send_response(200)
        if fault == "compressed name":
            self.send_header("Content-Encoding", "gzip")
        if fault != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault in ("truncate", "no length", "stall") else body)
        if fault == "stall":
            self.wfile.flush()
            self.server.release.wait(10)


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def net(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "BACKOFF", 0.01)
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.3))
    rows = [f"{path}\t{len(data)}\t{hashlib.sha256(data).hexdigest()}" for path, data in FILES.items()]
    (tmp_path / "list.tsv").write_text("\n".join(["path\tbytes\tsha256", *rows]) + "\n")
    (tmp_path / "data_manifest.yaml").write_text(
        "cohorts:\n  net: {kind: openneuro, dataset: ds000001, files: list.tsv, labels: [{group: control}]}\n"
    )
    return load_manifest(tmp_path / "data_manifest.yaml").cohort("net")


def on_disk(net):
    folder = net.folder
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_fetch_brings_every_byte_and_says_how_fast(server, net, capsys):
    paths = fetch(net, mirror=server.address)
    assert [path.read_bytes() for path in paths] == list(FILES.values())
    assert set(on_disk(net)) == {*FILES, ".verified.json"}
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("net: 160.0 kB/160.0 kB, ")
    assert "B/s, took" in last


def test_second_fetch_asks_the_server_nothing_and_hashes_nothing(server, net, monkeypatch):
    fetch(net, mirror=server.address)
    server.log.clear()
    monkeypatch.setattr(download, "sha256", lambda path: pytest.fail(f"{path} hashed again"))
    fetch(net, mirror=server.address)
    assert server.log == []


def test_only_and_limit(server, net):
    fetch(net, only="table", mirror=server.address)
    assert server.log == ["participants.tsv"]
    fetch(net, only="images", limit=1, mirror=server.address)
    assert server.log == ["participants.tsv", FIRST]
    for wrong in ({"only": "scans"}, {"limit": 0}):
        with pytest.raises(TLEError, match=f"--{next(iter(wrong))}"):
            fetch(net, **wrong)


def test_a_killed_download_goes_on_with_the_next_file(server, net, monkeypatch):
    def killed(path, data):
        if path.name == Path(SECOND).name:
            raise KeyboardInterrupt
        write_bytes(path, data)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(download, "write_bytes", killed)
        fetch(net, mirror=server.address)
    server.log.clear()
    fetch(net, mirror=server.address)
    assert server.log == [SECOND]
    assert {path: on_disk(net)[path] for path in FILES} == FILES


@pytest.mark.parametrize(
    "faults",
    [[fault] for fault in ("truncate", "no length", "stall", "corrupt", 503, "login page")] + [[503, 500, 429]],
)
def test_a_fault_is_tried_again(server, net, faults):
    asked = len(faults) + 1
    server.plan[FIRST] = faults
    fetch(net, mirror=server.address)
    assert on_disk(net)[FIRST] == FILES[FIRST]
    assert server.log.count(FIRST) == asked


def test_a_file_that_is_said_to_be_packed_is_taken_as_it_is(server, net):
    server.plan[FIRST] = ["compressed name"]
    fetch(net, mirror=server.address)
    assert server.log.count(FIRST) == 1


@pytest.mark.parametrize(
    ("faults", "said", "asked"),
    [
        ([404] * 9, "404", 1),
        ([503] * 9, "503", download.ATTEMPTS),
        (["corrupt"] * 9, "published sha256", download.ATTEMPTS),
        (["truncate"] * 9, "the connection broke", download.ATTEMPTS),
        (["stall"] * 9, "did not answer in time", download.ATTEMPTS),
    ],
)
def test_a_lasting_fault_is_named_and_the_other_files_still_come(server, net, faults, said, asked):
    server.plan[FIRST] = faults
    with pytest.raises(TLEError) as error:
        fetch(net, mirror=server.address)
    message = str(error.value)
    assert message.startswith(f"net: 1 of 3 files are missing (first: {FIRST}: ")
    assert said in message
    assert message.endswith("run fetch again")
    assert "\n" not in message
    assert server.log.count(FIRST) == asked
    assert FIRST not in on_disk(net)
    assert on_disk(net)[SECOND] == FILES[SECOND]


def test_no_network_is_one_line_with_the_remedy(net):
    server = Server()
    server.server_close()
    started = time.monotonic()
    with pytest.raises(TLEError, match="no network.*copy the files to downloads/net or pass --mirror FOLDER"):
        fetch(net, mirror=server.address)
    assert time.monotonic() - started < 5


def test_a_small_copy_or_other_bytes_under_the_right_name_do_not_count(server, net):
    folder = net.folder
    for path in (FIRST, SECOND):
        (folder / path).parent.mkdir(parents=True)
    (folder / FIRST).write_bytes(FILES[FIRST][:100])
    (folder / SECOND).write_bytes(bytes(len(FILES[SECOND])))
    good, bad = verified_files(net)
    assert good == {}
    assert bad == [folder / FIRST, folder / SECOND]
    fetch(net, mirror=server.address)
    assert {path: on_disk(net)[path] for path in FILES} == FILES
    assert list(verified_files(net)[0]) == list(FILES)


@pytest.mark.parametrize("keeps_its_time", [False, True])
def test_a_file_changed_after_it_was_verified_is_noticed(server, net, keeps_its_time):
    fetch(net, mirror=server.address)
    file = net.folder / FIRST
    before = file.stat()
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    if keeps_its_time:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert verified_files(net)[1] == [file]


@pytest.mark.parametrize("state", ["", "[]", "{", '{"participants.tsv": "x"}'])
def test_a_broken_state_file_only_costs_time(server, net, state):
    fetch(net, mirror=server.address)
    (net.folder / ".verified.json").write_text(state)
    server.log.clear()
    fetch(net, mirror=server.address)
    assert server.log == []
    assert set(json.loads((net.folder / ".verified.json").read_text())) == set(FILES)


@pytest.mark.parametrize("place", ["as in the dataset", "by name", "by content"])
def test_a_folder_as_mirror(net, tmp_path, place):
    mirror = tmp_path / "stick"
    for number, (path, data) in enumerate(FILES.items()):
        target = {"as in the dataset": path, "by name": Path(path).name, "by content": f"deep/er/{number}.bin"}[place]
        (mirror / target).parent.mkdir(parents=True, exist_ok=True)
        (mirror / target).write_bytes(data)
    fetch(net, mirror=mirror)
    assert {path: on_disk(net)[path] for path in FILES} == FILES


def test_a_mirror_folder_with_wrong_bytes_or_without_the_file_is_refused(net, tmp_path):
    mirror = tmp_path / "stick"
    mirror.mkdir()
    (mirror / Path(FIRST).name).write_bytes(bytes(len(FILES[FIRST])))
    (mirror / "participants.tsv").write_bytes(FILES["participants.tsv"])
    with pytest.raises(TLEError, match="2 of 3 files are missing.*no file in the mirror has its sha256"):
        fetch(net, mirror=mirror)
    assert set(on_disk(net)) == {"participants.tsv", ".verified.json"}
    with pytest.raises(TLEError, match="--mirror .*nowhere"):
        fetch(net, mirror=tmp_path / "nowhere")


def test_a_full_disk_is_said_before_the_download(server, net, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(TLEError, match="160.0 kB needed, 1.0 kB free"):
        fetch(net, mirror=server.address)
    assert server.log == []


def test_a_cohort_without_downloads_says_so(tmp_path):
    (tmp_path / "data_manifest.yaml").write_text("cohorts:\n  phantom: {kind: phantom}\n")
    with pytest.raises(TLEError, match="nothing to download"):
        fetch(load_manifest(tmp_path / "data_manifest.yaml").cohort("phantom"))
