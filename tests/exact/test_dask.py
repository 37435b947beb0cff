"""A real Dask cluster: the same bits as on one machine, also when a worker is killed."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import xarray as xr

import sigprop
from sigprop import cli, cluster
from sigprop.errors import Interrupted, SpecError, Unsupported

distributed = pytest.importorskip("distributed")

BASE = {"scheme": "power", "inputs": "point", "depth": 1500}
AXES = {"beta": [0.25, 0.5, 0.75, 1.0], "width": [30, 40]}
RUN = {"observe": ["norm", "gradient"], "replicas": 700, "sampler": "chain"}  # three blocks


def local():
    """What the cluster must find, to the last bit."""
    return sigprop.sweep(BASE, AXES, **RUN)


@pytest.fixture(scope="module")
def workers():
    """A scheduler and two worker processes of one thread each."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        host="127.0.0.1",
        silence_logs=50,
        memory_limit=None,
    ) as made:
        yield made


def unused_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_worker_that_is_killed_in_the_middle_changes_no_bit(workers, tmp_path):
    """The blocks that were lost with it are done again elsewhere."""
    killed, expected = [], local()

    def kill(done, total):
        if done >= 2 * 700 and not killed:
            with distributed.Client(workers.scheduler_address, set_as_default=False) as client:
                killed.append(client.run(os.getpid))
            os.kill(next(iter(killed[0].values())), signal.SIGKILL)

    with cluster.connected(workers.scheduler_address) as executor:
        found = sigprop.sweep(
            BASE, AXES, **RUN, executor=executor, progress=kill, out=tmp_path / "a.nc"
        )
    assert killed
    xr.testing.assert_identical(found, expected)
    xr.testing.assert_identical(sigprop.load(tmp_path / "a.nc"), found)


def test_the_commands_find_the_same_bits_there(workers, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["sweep", "--scheme", "power", "--inputs", "point", "--depth", "20", "--width", "9"]
    words += ["--beta", "0:1:3", "--replicas", "600", "--observe", "norm"]
    address = workers.scheduler_address
    assert cli.main([*words, "--out", "a.nc", "--scheduler", address]) == 0, capsys.readouterr()
    assert cli.main([*words, "--out", "b.nc"]) == 0
    xr.testing.assert_identical(sigprop.load("a.nc"), sigprop.load("b.nc"))
    words = ["simulate", "--scheme", "stable", "--inputs", "point", "--depth", "20"]
    words += ["--replicas", "600"]
    assert cli.main([*words, "--out", "c.nc", "--scheduler", address]) == 0, capsys.readouterr()
    assert cli.main([*words, "--out", "d.nc"]) == 0
    xr.testing.assert_identical(sigprop.load("c.nc"), sigprop.load("d.nc"))


def test_a_scheduler_that_is_lost_is_an_interrupted_sweep(tmp_path):
    """What was finished is kept, and a run without the cluster goes on from it."""
    port = unused_port()
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny", "--nthreads", "1"]
    address = f"tcp://127.0.0.1:{port}"
    quiet = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "cwd": tmp_path,
        "env": {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    }
    scheduler = subprocess.Popen([*start, "--host", "127.0.0.1", "--port", str(port)], **quiet)
    helper = subprocess.Popen([*worker, "--no-dashboard", address], **quiet)

    def kill(done, total):
        if done >= 700:
            scheduler.kill()

    out = tmp_path / "a.nc"
    try:
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        with (
            pytest.raises(Interrupted, match=r"a worker died: .*keeps \d of 8 points.*--resume"),
            cluster.connected(address) as executor,
        ):
            sigprop.sweep(BASE, AXES, **RUN, executor=executor, progress=kill, out=out)
    finally:
        for process in (helper, scheduler):
            process.kill()
            process.wait()
    xr.testing.assert_identical(sigprop.sweep(BASE, AXES, **RUN, out=out, resume=True), local())


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "nonsense://a:1"])
def test_a_scheduler_that_does_not_answer_is_a_clear_error_soon(
    address, capsys, tmp_path, monkeypatch
):
    assert cluster.PATIENCE <= 5
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    words = ["sweep", "--scheme", "he", "--depth", "2,3", "--out", str(tmp_path / "a.nc")]
    start = time.monotonic()
    assert cli.main([*words, "--scheduler", address.format(unused_port())]) == 2
    assert time.monotonic() - start < 5
    said = capsys.readouterr()
    assert said.out == "" and "no Dask scheduler answers at" in said.err
    assert "Traceback" not in said.err and not os.listdir(tmp_path)


def test_a_scheduler_without_workers_is_told(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    with (
        distributed.LocalCluster(
            n_workers=0, dashboard_address=":0", host="127.0.0.1", silence_logs=50
        ) as empty,
        pytest.raises(SpecError, match="has no workers"),
        cluster.connected(empty.scheduler_address),
    ):
        pass


def test_workers_of_other_versions_are_refused():
    here = cluster.versions()
    cluster.check_versions({"tcp://a:1": here})
    with pytest.raises(Unsupported, match=r"worker tcp://b:2 has other versions \(numpy 1.0 there"):
        cluster.check_versions({"tcp://a:1": here, "tcp://b:2": {**here, "numpy": "1.0"}})


def test_without_dask_the_error_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = ["sweep", "--scheme", "he", "--depth", "2,3", "--out", str(tmp_path / "a.nc")]
    assert cli.main([*words, "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert "pip install 'sigprop[dask]'" in capsys.readouterr().err
