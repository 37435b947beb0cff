"""The command phase: a point, a map, and what cannot be."""

from __future__ import annotations

import csv
import io
import json

import pytest
import xarray as xr

from analysis.theory import phase
from sigprop import cli

MAP = ("--weights", "0.8:3:5", "--biases", "0:0.2:3")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the program in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        status = cli.main(["phase", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_a_point_is_told_in_a_table_and_a_sentence(run):
    words = ("--activation", "tanh", "--weight-variance", 3, "--bias-variance", 0.2)
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    rows = {line.split()[0]: line.split()[1] for line in out.splitlines()[3:10]}
    assert rows["q*"] == "1.65993" and rows["chi_1"] == "1.13545" and rows["c*"] == "0.69272"
    said = " ".join(out.split())
    assert "Chaotic: alike inputs part until they are at a cosine of 0.693" in said
    assert "A signal lives about 10.3 layers" in said
    assert "the edge of chaos is at weight_variance = 2.28515" in said
    status, out, _ = run(*words, "--format", "json")
    data = json.loads(out)
    assert data["xi_c"] == phase("tanh", 3.0, 0.2).xi_c and data["kind"] == "chaotic"
    status, out, _ = run(*words, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert float(row["mean_square"]) == data["mean_square"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("relu", 2), "A signal lives at any depth"),
        (("relu", 1.5), "No depth scale bounds"),
        (("tanh", 0.7), "the signal vanishes, its mean square falls by a factor e every 2.8"),
        (("tanh", 1.0), "so slowly that no depth scale holds"),
        (("tanh", 2), "part until they are orthogonal"),
        (("linear", 1.0), "Critical"),
    ],
)
def test_every_kind_of_point_has_its_words(run, words, says):
    status, out, _ = run("--activation", words[0], "--weight-variance", words[1])
    assert status == 0 and says in " ".join(out.split())


def test_infinities_are_strict_json(run):
    _, out, _ = run("--activation", "relu", "--weight-variance", 2, "--format", "json")
    data = json.loads(out)
    assert data["xi_c"] == "inf" and data["mean_square"] is None
    assert data["critical_weight_variance"] == 2.0


def test_a_map_is_letters_numbers_a_file_and_a_picture(run, tmp_path):
    status, out, err = run("--activation", "tanh", *MAP, "--out", "m.nc", "--plot", "m.png")
    assert status == 0 and err == "wrote m.nc\nwrote m.png\n"
    lines = out.splitlines()
    assert [line.split()[-1] for line in lines[2:5]] == ["...##", "...##", ".####"]
    assert "ordered 47%, # chaotic 53%" in out
    grid = xr.load_dataset("m.nc", engine="h5netcdf")
    assert float(grid.chi_1[-1, -1]) == pytest.approx(phase("tanh", 3.0, 0.2).chi_1)
    assert grid.attrs["activation"] == "tanh" and grid.attrs["status"] == "limit"
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    _, out, _ = run("--activation", "tanh", *MAP, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 15 and rows[-1]["kind"] == "chaotic"
    assert float(rows[-1]["xi_c"]) == pytest.approx(phase("tanh", 3.0, 0.2).xi_c, rel=1e-6)
    _, out, _ = run("--activation", "relu", *MAP, "--format", "json")
    assert json.loads(out)["data_vars"]["kind"]["data"][-1] == ["unbounded"] * 3


def test_options_of_an_activation_are_its_own(run):
    words = ("--activation", "leaky_relu", "--slope", 0.5, "--weight-variance", 1.6)
    status, out, _ = run(*words)
    assert status == 0 and "leaky_relu, wide plain net" in out and "critical" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no activation was given"),
        (("--activatoin", "tanh"), "Did you mean '--activation'"),
        (("--activation", "tahn"), "Did you mean 'tanh'"),
        (("--activation", "tanh", "--slope", 1), "--slope is no option"),
        (("--activation", "tanh", "--bias-variance", 0.05), "--weight-variance 1.76095"),
        (("--activation", "relu", "--weight-variance", 2.5), "there is no fixed point"),
        (("--activation", "gelu", "--weight-variance", 3), "has no fixed point above 1"),
        (("--activation", "tanh", "--weight-variance", -1), "weight_variance must be"),
        (("--activation", "tanh", "--weights", "3:1:5"), "FROM below TO"),
        (("--activation", "tanh", "--weights", "1:3:900"), "points is more than"),
        (("--activation", "tanh", "--plot", "a.gif"), "a picture is written as"),
        (("--activation", "tanh", "--weight-variance", 1, "--out", "a.nc"), "are of the map"),
    ],
    ids=lambda words: " ".join(map(str, words)) if isinstance(words, tuple) else "",
)
def test_bad_input_is_one_clear_error(run, words, says, tmp_path):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and says in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
