"""On a Dask cluster that loses a worker the maps and predictions are those of one process."""

import hashlib
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest

from tle_utils.__main__ import main
from tle_utils.base import parallel
from tle_utils.base.errors import TLEError
from tle_utils.models import crossval
from tle_utils.models.predictions import CLASSES
from tle_utils.models.settings import Training
from tle_utils.phantom import maps

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


@pytest.fixture
def losing_one(cluster, monkeypatch):
    """A function that does work on two workers, kills one of them after the first file, and returns the result."""
    address, worker = cluster

    def lose(work, folder, pattern, total):
        workers, seen = [worker(), worker()], []

        def kill_one():
            while not (made := list(folder.glob(pattern))):
                time.sleep(0.01)
            workers[0].kill()
            seen.extend(made)

        killer = threading.Thread(target=kill_one, daemon=True)
        with monkeypatch.context() as patch:
            patch.setenv(parallel.SCHEDULER, address)
            killer.start()
            result = work()
        killer.join()
        assert 0 < len(seen) < total - 1 and workers[0].wait() != 0 and workers[1].poll() is None
        return result

    return lose


def test_maps_are_the_same_after_the_death_of_a_worker(losing_one, tmp_path):
    total, folder = 5, tmp_path / "cluster"
    table = losing_one(lambda: maps.make_phantom(folder, **COHORT), folder, "sub-*.nii.gz", total)
    serial = maps.make_phantom(tmp_path / "serial", **COHORT)
    assert table["participant_id"].tolist() == serial["participant_id"].tolist()
    found = checksums(folder)
    assert sum(name.endswith(".nii.gz") for name in found) == total
    assert found == checksums(tmp_path / "serial")


def test_predictions_are_the_same_after_the_death_of_a_worker(losing_one, tmp_path):
    groups = np.repeat(CLASSES, 12)
    people = pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(len(groups))], "group": groups})
    x = np.random.default_rng(0).random((len(people), 64, 64, 1), dtype=np.float32)
    folds = crossval.make_folds(people, 6, seed=0)
    training = Training(network="figure_9", max_epochs=2, batch_size=4, standardise=True)

    def train(folder):
        return crossval.cross_validate(x, people, folds, training, folder=folder, seed=0)[0]

    cluster = tmp_path / "cluster"
    found = losing_one(lambda: train(cluster), cluster, "[!.]*.npz", len(folds))
    pd.testing.assert_frame_equal(found, train(tmp_path / "serial"))


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
