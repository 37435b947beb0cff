"""The command ``sweep`` and what ``show`` says of a grid."""

import csv
import io
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

import sigprop
from sigprop import cli, journal, report, side_by_side

SMALL = ("sweep", "--depth", "6", "--width", "5", "--replicas", "40")
SCHEMES = (*SMALL, "--scheme", "he,fixup,skipinit,rezero")
BETAS = (*SMALL, "--scheme", "power", "--beta", "0:1:3")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the program in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        status = cli.main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def only(folder):
    (path,) = folder.iterdir()
    return path


# ---------------------------------------------------------------------- the main job


def test_schemes_stand_side_by_side_with_a_plain_sentence(run, tmp_path):
    status, out, err = run(*SCHEMES)
    assert status == 0
    path = only(tmp_path)
    assert path.name.startswith("sweep-scheme4-s0-") and err == f"wrote {path.name}\n"
    rows = [line.split() for line in out.splitlines()]
    header = next(row for row in rows if row[:1] == ["scheme"])
    assert header == ["scheme", "block", "log|h|", "sd", "log|p|", "sd", "cosine", "moved", "cost"]
    assert [row[0] for row in rows if row[:1] and row[0] in ("he", "fixup", "skipinit", "rezero")][
        :4
    ] == ["he", "fixup", "skipinit", "rezero"]
    said = " ".join(out.split())
    assert "At depth 6, fixup, skipinit and rezero preserve norm and gradient exactly (the" in said
    assert "relu, gaussian weights, width 5, depth 6, pair of inputs at cosine 0.5" in said
    assert max(map(len, out.splitlines())) <= 100
    found = sigprop.load(path)
    mean = float(found.log_norm_mean.sel(scheme="he", layer=6).mean())
    assert f"{mean:.2f}±" in next(line for line in out.splitlines() if line.startswith("he "))


def test_the_dimensions_are_the_options_of_several_values(run):
    words = ("--scheme", "power", "--process", "fgn", "--hurst", "0.25:0.75:3", "--beta", "0,0.5")
    status, _, _ = run("sweep", *words, "--depth", "4", "--width", "3", "--replicas", "8",
                       "--out", "a.nc")  # fmt: skip
    found = sigprop.load("a.nc")
    assert status == 0 and found.attrs["axes"] == "hurst beta"
    assert found.hurst.values.tolist() == [0.25, 0.5, 0.75] and found.beta.values.tolist() == [
        0,
        0.5,
    ]
    law = json.loads(found.ensemble.sel(hurst=0.75, beta=0.5).item())
    assert law["scheme"]["beta"] == 0.5 and law["scheme"]["process"]["hurst"] == 0.75
    assert found["layer"].values.tolist() == [0, 4]
    assert run(*BETAS[:1], "--scheme", "he", "--depth", "10:30:3", "--width", "4,5",
               "--replicas", "8", "--layers", "0,50%,top", "--out", "b.nc")[0] == 0  # fmt: skip
    found = sigprop.load("b.nc")
    assert found.depth.values.tolist() == [10, 20, 30] and found.depth.dtype == np.int64
    assert found.t.values.tolist() == [0, 0.5, 1]
    assert run(*BETAS, "--layers", "0:6:2,1", "--keep", "top", "--out", "c.nc")[0] == 0
    found = sigprop.load("c.nc")
    assert found["layer"].values.tolist() == [0, 1, 2, 4, 6]
    assert found.kept_layer.values.tolist() == [6]


def test_a_sweep_that_stands_finished_is_shown_and_not_refused(run, tmp_path):
    first = run(*BETAS)
    before = only(tmp_path).read_bytes()
    status, out, err = run(*BETAS)
    assert (status, out) == (0, first[1]) and "holds this sweep already" in err
    assert run("show", only(tmp_path)) == (0, out, "")
    for change in (("--replicas", "50"), ("--observe", "norm"), ("--layers", "top")):
        status, out, err = run(*BETAS, *change)
        assert (status, out) == (2, "") and "--force" in err
    assert only(tmp_path).read_bytes() == before
    assert run(*BETAS, "--replicas", "50", "--force")[0] == 0


def test_workers_do_not_change_a_bit(run):
    run(*BETAS, "--workers", "1", "--out", "one.nc")
    run(*BETAS, "--workers", "3", "--out", "three.nc")
    xr.testing.assert_identical(sigprop.load("one.nc"), sigprop.load("three.nc"))


def test_points_are_coupled_on_request(run):
    run(*BETAS, "--coupled", "yes", "--keep", "top", "--inputs", "point", "--out", "a.nc")
    found = sigprop.load("a.nc")
    assert found.attrs["coupled"] == 1
    # Only the scaling differs: the same networks move by nearly the same direction.
    moved = found.replica_log_displacement.sel(beta=[0.5, 1.0]).squeeze()
    assert np.corrcoef(moved.values)[0, 1] > 0.9


def test_a_killed_sweep_goes_on_by_the_words_that_were_said(tmp_path, monkeypatch):
    """SIGKILL, then the same command with --resume: the bits of a run that was never stopped."""
    code = "import sys; from sigprop.cli import main; sys.exit(main())"
    words = ["sweep", "--scheme", "power", "--beta", "0:1:30", "--depth", "1500", "--width", "20"]
    words += ["--replicas", "256", "--inputs", "point", "--observe", "norm"]
    part = tmp_path / "a.nc.part"
    program = [sys.executable, "-c", code, *words]
    here = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([*program, "--out", "a.nc"], env=environment, **here)
    limit = time.monotonic() + 60
    while time.monotonic() < limit and process.poll() is None:
        if part.exists() and sum(1 for _ in journal.read(part)) >= 2:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert os.listdir(tmp_path) == ["a.nc.part"] and sum(1 for _ in journal.read(part)) < 30
    monkeypatch.chdir(tmp_path)
    assert cli.main([*words, "--out", "a.nc", "--resume"]) == 0
    assert cli.main([*words, "--out", "b.nc"]) == 0
    xr.testing.assert_identical(sigprop.load("a.nc"), sigprop.load("b.nc"))
    assert not part.exists()


def test_help_takes_less_than_0_4_seconds_of_the_processor():
    """The least of a dozen starts at most: what else runs on the machine only adds to it."""
    spent = [math.inf]
    while min(spent) >= 0.4 and len(spent) <= 12:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = "import sys; from sigprop.cli import main; sys.exit(main())"
        program = [sys.executable, "-c", code, "sweep", "--help"]
        said = subprocess.run(program, check=True, capture_output=True, text=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.4
    assert "--beta 0:1.3:70 (start, stop, count, ends included)" in " ".join(said.split())


# -------------------------------------------------------------------------- formats


def test_csv_has_a_line_for_each_point_and_layer(run):
    run(*SMALL, "--scheme", "power,he", "--beta", "0.5,1", "--out", "a.nc")
    found = sigprop.load("a.nc")
    rows = list(csv.DictReader(io.StringIO(run("show", "a.nc", "--format", "csv")[1])))
    assert len(rows) == 8 and list(rows[0])[:3] == ["scheme", "beta", "layer"]
    for row in rows:
        point = found.sel(scheme=row["scheme"], beta=float(row["beta"]), layer=int(row["layer"]))
        assert float(row["log_norm_mean[input=1]"]) == float(point.log_norm_mean.sel(input=1))
    read = json.loads(run("show", "a.nc", "--format", "json")[1])
    assert read["dims"]["scheme"] == 2 and read["attrs"]["axes"] == "scheme beta"


def test_show_of_two_numeric_axes_is_a_table_of_powers(run):
    status, out, _ = run(*SMALL, "--scheme", "power", "--beta", "0:1:12", "--skip", "0.1:1:10",
                         "--inputs", "point", "--out", "a.nc")  # fmt: skip
    assert status == 0 and max(map(len, out.splitlines())) <= 100
    found = sigprop.load("a.nc")
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("beta \\ skip"))
    header, last = lines[at].split()[3:], lines[at + 11].split()
    assert (header[0], header[-1], last[0]) == ("0.1", "1", "1")
    value = float(found.log_norm_mean.sel(beta=1, skip=0.1, layer=6).item()) / np.log(10)
    assert float(last[1]) == pytest.approx(value, abs=0.006)
    assert "Of 120 points: the norm is" in " ".join(out.split())


def test_show_of_schemes_and_another_axis_is_a_table_for_each_of_its_values(run):
    out = run("sweep", "--scheme", "he,fixup", "--depth", "2,4,8", "--width", "5", "--replicas",
              "20", "--observe", "norm", "--out", "a.nc")[1]  # fmt: skip
    for depth in (2, 4, 8):
        assert f"depth {depth}:" in out and f"At depth {depth}, fixup preserves norm" in out
    assert "log|p|" not in out and "cosine" not in out.split("depth 2:")[1]


# ---------------------------------------------------------------------- what it says


def grid(**norms):
    """A sweep over schemes whose log-norms and log-gradients end at these values."""
    names = list(norms)
    shape = (len(names), 2, 1)
    end = np.zeros(shape)
    end[:, 1, 0] = list(norms.values())
    small = np.where(end == 0, 0.0, 0.01)
    variables = {}
    for name, values in (("norm", end), ("gradient", end[:, ::-1])):
        dims = ("scheme", "layer", "input")
        variables[f"log_{name}_mean"] = (dims, values)
        variables[f"log_{name}_mean_se"] = (dims, small)
        variables[f"log_{name}_variance"] = (dims, small)
    cosine = np.full(shape, 0.5)
    cosine[:, 1, 0] = np.where(np.array(list(norms.values())) > 5, 0.99, 0.5)
    variables["cosine_mean"] = (("scheme", "layer", "pair"), cosine)
    variables["cosine_mean_se"] = (("scheme", "layer", "pair"), small)
    law = {
        "network": {"depth": 9, "width": 3, "block": "res3", "activation": {"kind": "relu"}},
        "inputs": {"kind": "pair", "cosine": 0.5},
    }
    laws = [json.dumps({**law, "scheme": {"kind": n, "law": {"kind": "gaussian"}}}) for n in names]
    coords = {
        "scheme": names,
        "layer": [0, 9],
        "pair": ["0-1"],
        "ensemble": ("scheme", np.array(laws)),
    }
    attrs = {
        "schema": "sigprop-sweep", "axes": "scheme", "replicas": 10, "seed": 0,
        "sampler": "chain", "coupled": 0,
    }  # fmt: skip
    return xr.Dataset(variables, coords, attrs)


def test_the_sentence_sorts_schemes_by_what_they_do():
    said = " ".join(report.text(grid(fixup=0.0, stable=0.5, he=50.0, lecun=-30.0)).split())
    assert "At depth 9, fixup preserves norm and gradient exactly" in said
    assert "stable keeps norm and gradient of order one (stable: norm times 1.65" in said
    assert "he does not: the norm grows by a factor 10^22 and the gradient grows" in said
    assert "lecun does not: the norm vanishes by a factor 10^-13" in said
    assert "the angle between inputs collapses under he." in said
    none = " ".join(report.text(grid(he=50.0)).split())
    assert none.endswith("none of them keeps the signal.")
    dead = " ".join(report.text(grid(he=np.nan)).split())
    assert "he does not: the norm is exactly 0 in every network" in dead


def test_the_cost_is_what_was_measured():
    text = side_by_side.text(grid(fixup=0.0, he=3.0), np.array([0.0123, 4.5]))
    cells = [line.split()[-2:] for line in text.splitlines() if line.startswith(("fixup", "he "))]
    assert cells[:2] == [["12.3", "ms"], ["4.5", "s"]]


# ------------------------------------------------------------------------- bad input

BAD = [
    ((*SMALL, "--scheme", "he"), "no option has several values"),
    ((*BETAS, "--beta", "0:1:0"), "asks for 0 values"),
    ((*BETAS, "--beta", "0:1:-3"), "asks for -3 values"),
    ((*BETAS, "--beta", "0:1"), "--beta 0:1 cannot be read: a range is start:stop:count"),
    ((*BETAS, "--beta", "0:one:3"), "cannot be read"),
    ((*BETAS, "--beta", "0:inf:3"), "cannot be read"),
    ((*BETAS, "--beta", "0:1:2.5"), "cannot be read"),
    ((*BETAS, "--beta", ","), "axis 'beta' has no value"),
    ((*BETAS, "--beta", "0.5,0.5"), "axis 'beta' has 0.5 twice"),
    ((*BETAS, "--beta", "0.5,-1"), "at beta=-1: beta must be"),
    ((*BETAS, "--beta", "0.5,half"), "at beta=half: beta must be"),
    ((*BETAS, "--depth", "1:10:4,3"), "cannot be read"),
    ((*BETAS, "--depth", "1:10:5"), "gives 3.25, and --depth counts"),
    ((*BETAS, "--depth", "10,2.5"), "--depth must be whole numbers, got 2.5"),
    ((*BETAS, "--depth", "2.5"), "--depth must be whole numbers, got 2.5"),
    ((*BETAS, "--depth", "0,1"), "at depth=0, beta=0: depth must be"),
    ((*BETAS, "--width", ","), "names no value"),
    ((*SMALL, "--scheme", "he,fxup"), "at scheme=fxup: 'fxup' is not a scheme. Did you mean"),
    ((*SMALL, "--scheme", "he,power"), "at scheme=power: scheme 'power' has no default for --beta"),
    ((*BETAS, "--bta", "1,2"), "Did you mean '--beta'"),
    ((*BETAS, "--beta", "0:1:1000", "--skip", "0:1:1000"), "1000000 points"),
    ((*BETAS, "--layers", "tip"), "'tip', which is no layer"),
    ((*BETAS, "--layers", "7"), "layers names layer 7"),
    ((*BETAS, "--depth", "3,6", "--layers", "2"), "the depth differs from point to point"),
    ((*BETAS, "--inputs", "pair,point"), "Make two sweeps"),
    ((*BETAS, "--replicas", "0"), "replicas must be"),
    ((*BETAS, "--workers", "0"), "workers must be"),
    ((*BETAS, "--orders", "5"), "orders must be"),
    ((*BETAS, "--observe", "nrm"), "Did you mean 'norm'"),
    ((*BETAS, "--sampler", "chain"), "at beta=0: sampler 'chain' cannot do this"),
    ((*BETAS, "--process", "fgn", "--hurst", "0.5,1"), "hurst"),
    ((*BETAS, "--coupled", "maybe"), "'maybe' is not one of"),
    ((*BETAS, "--resume", "--force"), "Give one of the two"),
    ((*BETAS, "--out", "absent/a.nc"), "no directory"),
    ((*BETAS, "--out", "."), "exists"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "says"), BAD, ids=[" ".join(words[-3:]) for words, _ in BAD])
def test_bad_input_is_one_clear_error_before_any_work(run, tmp_path, words, says):
    status, out, err = run(*words)
    assert (status, out) == (2, ""), err
    assert err.startswith("error: ") and says in err
    assert not list(tmp_path.iterdir())


def test_a_sweep_is_no_result_for_commands_of_one(run):
    run(*BETAS, "--out", "a.nc")
    status, out, err = run("simulate", "--from", "a.nc")
    assert (status, out) == (2, "") and "a.nc is a sweep" in err
