"""On a Dask cluster that loses a worker the maps are those of one process."""

import hashlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from tle_utils import parallel, phantom
from tle_utils.__main__ import main
from tle_utils.errors import TLEError

LOOPBACK = "127.0.0.1"
COHORT = {"n_control": 2, "n_left": 2, "n_right": 1, "seed": 0}


def start(*arguments):
    command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def cluster():
    """Address of a scheduler, and a function that adds a worker to it and returns its process."""
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = str(free.getsockname()[1])
    address = f"tcp://{LOOPBACK}:{port}"
    processes = [start("scheduler", "--host", LOOPBACK, "--port", port)]

    def worker(threads=1):
        processes.append(start("worker", address, "--nthreads", str(threads), "--no-nanny"))
        return processes[-1]

    yield address, worker
    for process in processes[::-1]:
        process.kill()
        process.wait()


def checksums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("[!.]*")}


def test_maps_are_the_same_after_the_death_of_a_worker(cluster, tmp_path, monkeypatch):
    address, worker = cluster
    workers, total, seen = [worker(), worker()], 5, []

    def kill_one():
        folder = tmp_path / "cluster"
        while not (made := list(folder.glob("sub-*.nii.gz"))):
            time.sleep(0.01)
        workers[0].kill()
        seen.extend(made)

    monkeypatch.setenv(parallel.SCHEDULER, address)
    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    table = phantom.make_phantom(tmp_path / "cluster", **COHORT)
    killer.join()
    monkeypatch.delenv(parallel.SCHEDULER)
    serial = phantom.make_phantom(tmp_path / "serial", **COHORT)
    assert 0 < len(seen) < total - 1 and workers[0].wait() != 0 and workers[1].poll() is None
    assert table["participant_id"].tolist() == serial["participant_id"].tolist()
    found = checksums(tmp_path / "cluster")
    assert sum(name.endswith(".nii.gz") for name in found) == total
    assert found == checksums(tmp_path / "serial")


def test_workers_of_several_threads_are_refused(cluster):
    address, worker = cluster
    worker(threads=2)
    with pytest.raises(TLEError, match="a worker has 2 threads: start workers with --nthreads 1"):
        parallel.connect(address)


def test_no_scheduler_is_one_line_before_the_first_notebook(monkeypatch, capsys):
    monkeypatch.setattr(parallel, "WAIT_S", 1)
    monkeypatch.setenv(parallel.SCHEDULER, "")
    assert main(["run", "--profile", "smoke", "--scheduler", f"tcp://{LOOPBACK}:9"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"tle_utils: --scheduler tcp://{LOOPBACK}:9: no Dask scheduler answers there")
    assert said.err.count("\n") == 1 and "[1/" not in said.out


def test_workers_and_scheduler_exclude_each_other(capsys):
    assert main(["run", "--workers", "2", "--scheduler", "tcp://x:1"]) == 2
    assert "not allowed with" in capsys.readouterr().err
