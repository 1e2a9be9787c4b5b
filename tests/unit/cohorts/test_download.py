import hashlib
import http.server
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tle_utils.base.errors import TLEError
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
        span = self.headers.get("Range")
        self.server.log.append((path, span, fault))
        body, code, start = FILES.get(path), 200, 0
        if isinstance(fault, int) or body is None:
            self.send_response(fault if isinstance(fault, int) else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "login page":
            body = b"<html>log in to the hotel network</html>"
        elif span and fault != "no resume":
            start, code = int(span.removeprefix("bytes=").rstrip("-")), 206
        if fault == "corrupt":
            body = body[:-9] + b"corrupted"
        self.send_response(code)
        if code == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if fault == "compressed name":
            self.send_header("Content-Encoding", "gzip")
        if fault != "no length":
            self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Connection", "close")
        self.end_headers()
        rest = body[start:]
        if fault in ("truncate", "no length"):
            rest = rest[: len(rest) // 2]
        if fault == "stall":
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
            self.server.release.wait(10)
            return
        self.wfile.write(rest)


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "BACKOFF", 0.01)
    monkeypatch.setattr(download, "CHUNK", 1 << 12)
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.3))
    rows = [f"{path}\t{len(data)}\t{hashlib.sha256(data).hexdigest()}" for path, data in FILES.items()]
    (tmp_path / "list.tsv").write_text("\n".join(["path\tbytes\tsha256", *rows]) + "\n")
    (tmp_path / "data_manifest.yaml").write_text(
        "cohorts:\n  net: {kind: openneuro, dataset: ds000001, files: list.tsv, labels: [{group: control}]}\n"
    )
    return load_manifest(tmp_path / "data_manifest.yaml")


def on_disk(manifest):
    folder = manifest.folder("net")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def requests_of(server, path):
    return [entry for entry in server.log if entry[0] == path]


def test_fetch_brings_every_byte_and_says_how_fast(server, manifest, capsys):
    paths = fetch("net", mirror=server.address, manifest=manifest)
    assert [path.read_bytes() for path in paths] == list(FILES.values())
    assert set(on_disk(manifest)) == {*FILES, ".verified.json"}
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("net: 3/3 files, 160.0 kB of 160.0 kB, ")
    assert "B/s, took" in last


def test_second_fetch_asks_the_server_nothing_and_hashes_nothing(server, manifest, monkeypatch):
    fetch("net", mirror=server.address, manifest=manifest)
    server.log.clear()
    monkeypatch.setattr(download.pooch, "file_hash", lambda *_: pytest.fail("hashed again"))
    fetch("net", mirror=server.address, manifest=manifest)
    assert server.log == []


def test_only_and_limit(server, manifest):
    fetch("net", only="table", mirror=server.address, manifest=manifest)
    assert [path for path, _, _ in server.log] == ["participants.tsv"]
    fetch("net", only="images", limit=1, mirror=server.address, manifest=manifest)
    assert [path for path, _, _ in server.log] == ["participants.tsv", FIRST]
    for wrong in ({"only": "scans"}, {"limit": 0}):
        with pytest.raises(TLEError, match=f"--{next(iter(wrong))}"):
            fetch("net", **wrong, manifest=manifest)


@pytest.mark.parametrize("fault", ["truncate", "no length", "stall"])
def test_a_broken_transfer_goes_on_where_it_stopped(server, manifest, fault):
    server.plan[FIRST] = [fault]
    fetch("net", mirror=server.address, manifest=manifest)
    assert on_disk(manifest)[FIRST] == FILES[FIRST]
    spans = [span for _, span, _ in requests_of(server, FIRST)]
    assert spans[0] is None
    assert spans[1].startswith("bytes=4")


def test_a_partial_file_of_a_killed_run_is_resumed(server, manifest):
    part = manifest.folder("net") / (FIRST + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(FILES[FIRST][:1234])
    fetch("net", mirror=server.address, manifest=manifest)
    assert requests_of(server, FIRST) == [(FIRST, "bytes=1234-", "ok")]
    assert on_disk(manifest)[FIRST] == FILES[FIRST]
    assert not part.exists()


def test_a_partial_file_with_wrong_bytes_is_thrown_away(server, manifest):
    part = manifest.folder("net") / (FIRST + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1234)
    fetch("net", mirror=server.address, manifest=manifest)
    assert on_disk(manifest)[FIRST] == FILES[FIRST]


@pytest.mark.parametrize("fault", ["no resume", 416])
def test_a_server_that_cannot_resume_is_asked_from_the_start(server, manifest, fault):
    server.plan[FIRST] = ["truncate", fault]
    fetch("net", mirror=server.address, manifest=manifest)
    assert on_disk(manifest)[FIRST] == FILES[FIRST]


@pytest.mark.parametrize("faults", [["corrupt"], [503], [503, 500, 429], ["login page"], ["compressed name"]])
def test_a_fault_is_tried_again(server, manifest, faults):
    server.plan[FIRST] = faults
    fetch("net", mirror=server.address, manifest=manifest)
    assert on_disk(manifest)[FIRST] == FILES[FIRST]


@pytest.mark.parametrize(
    ("faults", "said", "asked"),
    [
        ([404] * 9, "404", 1),
        ([503] * 9, "503", download.ATTEMPTS),
        (["corrupt"] * 9, "published sha256", 2),
        (["login page"] * 9, "40 bytes, 90000 were published", download.ATTEMPTS),
        (["stall"] * 9, "did not answer in time", download.ATTEMPTS),
    ],
)
def test_a_lasting_fault_is_named_and_the_other_files_still_come(server, manifest, faults, said, asked):
    server.plan[FIRST] = faults
    with pytest.raises(TLEError) as error:
        fetch("net", mirror=server.address, manifest=manifest)
    message = str(error.value)
    assert message.startswith(f"net: 1 of 3 files are missing (first: {FIRST}: ")
    assert said in message
    assert message.endswith("run fetch again")
    assert "\n" not in message
    assert len(requests_of(server, FIRST)) == asked
    assert FIRST not in on_disk(manifest)
    assert on_disk(manifest)[SECOND] == FILES[SECOND]


def test_no_network_is_one_line_with_the_remedy(manifest):
    server = Server()
    server.server_close()
    started = time.monotonic()
    with pytest.raises(TLEError, match="no network.*copy the files to downloads/net or pass --mirror FOLDER"):
        fetch("net", mirror=server.address, manifest=manifest)
    assert time.monotonic() - started < 5


def test_a_small_copy_or_other_bytes_under_the_right_name_do_not_count(server, manifest):
    folder = manifest.folder("net")
    for path in (FIRST, SECOND):
        (folder / path).parent.mkdir(parents=True)
    (folder / FIRST).write_bytes(FILES[FIRST][:100])
    (folder / SECOND).write_bytes(bytes(len(FILES[SECOND])))
    good, bad = verified_files("net", manifest)
    assert good == {}
    assert bad == [folder / FIRST, folder / SECOND]
    fetch("net", mirror=server.address, manifest=manifest)
    assert {path: on_disk(manifest)[path] for path in FILES} == FILES
    assert list(verified_files("net", manifest)[0]) == list(FILES)


def test_a_file_changed_after_it_was_verified_is_noticed(server, manifest):
    fetch("net", mirror=server.address, manifest=manifest)
    file = manifest.folder("net") / FIRST
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert verified_files("net", manifest)[1] == [file]


@pytest.mark.parametrize("state", ["", "[]", "{", '{"participants.tsv": "x"}'])
def test_a_broken_state_file_only_costs_time(server, manifest, state):
    fetch("net", mirror=server.address, manifest=manifest)
    (manifest.folder("net") / ".verified.json").write_text(state)
    server.log.clear()
    fetch("net", mirror=server.address, manifest=manifest)
    assert server.log == []
    assert set(json.loads((manifest.folder("net") / ".verified.json").read_text())) == set(FILES)


@pytest.mark.parametrize("place", ["as in the dataset", "by name", "by content"])
def test_a_folder_as_mirror(manifest, tmp_path, place):
    mirror = tmp_path / "stick"
    for number, (path, data) in enumerate(FILES.items()):
        target = {"as in the dataset": path, "by name": Path(path).name, "by content": f"deep/er/{number}.bin"}[place]
        (mirror / target).parent.mkdir(parents=True, exist_ok=True)
        (mirror / target).write_bytes(data)
    fetch("net", mirror=mirror, manifest=manifest)
    assert {path: on_disk(manifest)[path] for path in FILES} == FILES


def test_a_mirror_folder_with_wrong_bytes_or_without_the_file_is_refused(manifest, tmp_path):
    mirror = tmp_path / "stick"
    mirror.mkdir()
    (mirror / Path(FIRST).name).write_bytes(bytes(len(FILES[FIRST])))
    (mirror / "participants.tsv").write_bytes(FILES["participants.tsv"])
    with pytest.raises(TLEError, match="2 of 3 files are missing.*no file in the mirror has its sha256"):
        fetch("net", mirror=mirror, manifest=manifest)
    assert set(on_disk(manifest)) == {"participants.tsv", ".verified.json"}
    with pytest.raises(TLEError, match="--mirror .*nowhere"):
        fetch("net", mirror=tmp_path / "nowhere", manifest=manifest)


def test_a_full_disk_is_said_before_the_download(server, manifest, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(TLEError, match="160.0 kB needed, 1.0 kB free"):
        fetch("net", mirror=server.address, manifest=manifest)
    assert server.log == []


def test_a_cohort_without_downloads_says_so(tmp_path):
    (tmp_path / "data_manifest.yaml").write_text("cohorts:\n  phantom: {kind: phantom}\n")
    with pytest.raises(TLEError, match="nothing to download"):
        fetch("phantom", manifest=load_manifest(tmp_path / "data_manifest.yaml"))
