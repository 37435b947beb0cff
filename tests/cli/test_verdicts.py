"""The commands predict, compare and design: what they print, and how they end."""

from __future__ import annotations

import csv
import inspect
import io
import json
import subprocess
import sys

import numpy as np
import pytest

import sigprop
from analysis import commands
from sigprop import cli
from sigprop.inputs import Point
from sigprop.result import load
from sigprop.schemes import Power
from sigprop.spec import Ensemble, Network

LAW = ("--depth", "20", "--width", "30", "--scheme", "power", "--beta", "0.5", "--inputs", "point")
# Heavy-tailed weights have no mean square, and a branch that reads the trunk no other law.
NO_THEORY = ("--depth", "5", "--scheme", "he", "--block", "preact", "--inputs", "point")
NO_THEORY += ("--law", "student_t", "--dof", "1.5")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the program in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        status = cli.main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def result(tmp_path):
    """A result of the law of `LAW`, on disk."""
    law = Ensemble(Network(depth=20, width=30), Power(beta=0.5), Point())
    sigprop.simulate(law, replicas=800, out=tmp_path / "a.nc")
    return "a.nc"


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


# ------------------------------------------------------------------------- predict


def test_predict_prints_theory_against_layer_with_what_it_rests_on(run, tmp_path):
    status, out, err = run("predict", *LAW, "--orders", "2")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["layer", "(1)", "(2)"]
    assert lines[2].split()[:2] == ["0", "0"]
    assert lines[12].split()[:2] == ["20", f"{20 * np.log(1 + 0.5 / 20):.5g}"]
    said = " ".join(out.split())
    assert "norm_moment_log[2]: exact, by 'mean_square'; assumes independent symmetric" in said
    assert "arXiv:2206.06929" in said
    assert list(tmp_path.iterdir()) == []


def test_predict_takes_layers_orders_variables_and_names(run):
    words = ("--layers", "0,20", "--orders", "4", "--variables", "norm_moment_log")
    status, out, _ = run("predict", *LAW, *words, "--format", "csv")
    found = rows(out)
    assert status == 0 and [row["layer"] for row in found] == ["0", "20"]
    assert {name.partition("[")[2] for name in found[0] if name != "layer"} == {"order=4;input=0]"}
    status, out, _ = run("predict", *LAW, "--by", "half_active", "--format", "json")
    data = json.loads(out)
    assert status == 0 and data["data_vars"]["activity_mean"]["attrs"]["status"] == "exact"
    assert data["data_vars"]["activity_mean"]["data"][0] == [None]
    assert "norm_moment_log" not in data["data_vars"]


def test_predict_reads_widths_as_simulate_does(run):
    words = ("--widths", "6,5,8", "--scheme", "he", "--inputs", "point", "--format", "csv")
    status, out, _ = run("predict", *words, "--variables", "norm_zero_fraction")
    found = [float(row["norm_zero_fraction[input=0]"]) for row in rows(out)]
    assert status == 0 and found == pytest.approx([0.0, 2**-5, 1 - (1 - 2**-5) * (1 - 2**-8)])


def test_predict_of_many_variables_fits_a_page_and_loses_no_number(run):
    """18 columns or more for a pair, in parts, each with its layers, every one in its turn."""
    status, out, _ = run("predict", *LAW[:-2], "--layers", "0,7,20")
    assert status == 0 and max(map(len, out.splitlines())) <= 100
    lines = out.splitlines()
    heads = [at for at, line in enumerate(lines) if line.startswith("layer")]
    labels = [word for at in heads for word in lines[at].split()[1:]]
    assert len(heads) >= 3 and len(labels) >= 18
    assert labels == [f"({k})" for k in range(1, len(labels) + 1)]
    assert sum(line.startswith("(") for line in lines) == len(labels)
    for at in heads:
        assert [line.split()[0] for line in lines[at + 2 : at + 5]] == ["0", "7", "20"]
    first = lines[heads[0] + 4].split()
    assert float(first[2]) == pytest.approx(20 * np.log(1 + 0.5 / 20), rel=1e-4)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--beta", "0.5"), "state: stable, since beta 0.5 is at the critical 0.5 (limit;"),
        (
            ("--beta", "0.7", "--process", "fgn", "--hurst", "0.8"),
            "state: explosion, since beta 0.7 is below the critical 0.8 (conjecture;",
        ),
        (
            ("--beta", "0.7", "--process", "fgn", "--hurst", "0.8"),
            "gradient: identity, since beta 0.7 is above the critical 0.6 (conjecture;",
        ),
    ],
)
def test_predict_names_the_regime_and_the_critical_exponent(run, words, says):
    status, out, _ = run("predict", *LAW[:-4], *words, "--inputs", "point", "--layers", "20")
    assert status == 0 and says in " ".join(out.split())


def test_predict_names_no_regime_where_none_is_known(run):
    for words in (("--scheme", "fixup"), ("--scheme", "he", "--block", "plain")):
        status, out, _ = run("predict", "--depth", "6", *words, "--layers", "0,6")
        assert status == 0 and "As depth grows" not in out


def test_predict_without_a_theory_is_one_clear_error(run):
    status, out, err = run("predict", *NO_THEORY)
    assert (status, out) == (2, "")
    assert err.startswith("error: no theory applies to what was asked.")
    assert "whose entries have no variance" in err and "Traceback" not in err


# ------------------------------------------------------------------------- compare


def test_agreement_ends_with_status_0(run, result):
    status, out, err = run("compare", result)
    assert (status, err) == (0, "")
    assert out.startswith("power(beta=0.5), block res3, relu")
    said = " ".join(out.split())
    assert "Measurement and theory agree" in said and "would have been seen" in said


def test_disagreement_ends_with_status_1(run, result, tmp_path):
    wrong = load(result)
    law = json.loads(wrong.attrs["ensemble"])
    law["scheme"]["beta"] = 0.3  # the file says it is of another law than it is
    wrong.attrs["ensemble"] = json.dumps(law)
    from sigprop.result import save

    save(wrong, {}, tmp_path / "wrong.nc")
    status, out, _ = run("compare", "wrong.nc")
    assert status == 1
    said = " ".join(out.split())
    assert "Measurement and theory disagree: at layer" in said
    status, out, _ = run("compare", "wrong.nc", "--format", "json")
    assert (status, json.loads(out)["verdict"]) == (1, "disagree")


def test_what_cannot_be_judged_ends_with_status_3(run, result):
    status, out, _ = run("compare", result, "--resolution", "0.001")
    assert status == 3
    said = " ".join(out.split())
    assert "Inconclusive" in said and "would have missed an error of" in said
    words = ("--depth", "60", "--width", "10", "--scheme", "he", "--inputs", "point")
    run("simulate", *words, "--replicas", "100", "--out", "he.nc")
    status, out, _ = run("compare", "he.nc", "--variables", "norm_moment_log")
    assert status == 3 and "too few of 100 replicas carry it" in " ".join(out.split())


def test_a_sweep_is_compared_point_by_point(run):
    words = ("--scheme", "power", "--beta", "0.4,0.6", "--depth", "8", "--width", "30")
    run("sweep", *words, "--inputs", "point", "--replicas", "500", "--out", "swept.nc")
    status, out, err = run("compare", "swept.nc")
    assert (status, err) == (0, "") and out.startswith("sweep over 2 beta, 500 replicas")
    assert "(beta=0." in out and "numbers of 2 points were compared at once" in out
    status, out, _ = run("compare", "swept.nc", "--format", "csv")
    assert status == 0 and {row["point"] for row in rows(out)} <= {"beta=0.4", "beta=0.6"}


def test_compare_prints_json_and_csv(run, result):
    _, out, _ = run("compare", result, "--format", "json", "--family-error", "0.001")
    whole = json.loads(out)
    assert whole["verdict"] == "agree" and whole["family_error"] == 0.001
    first = whole["variables"][0]
    assert {"variable", "order", "status", "verdict", "z", "p", "layer", "resolution"} <= set(first)
    _, out, _ = run("compare", result, "--format", "csv")
    assert [row["variable"] for row in rows(out)] == [v["variable"] for v in whole["variables"]]
    assert {row["verdict"] for row in rows(out)} == {"agree"}
    _, out, _ = run("compare", result, "--by", "mean_square", "--format", "csv")
    assert {row["prediction"] for row in rows(out)} == {"mean_square"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("compare",), "missing argument 'RESULT'"),
        (("compare", "absent.nc"), "absent.nc does not exist"),
        (("compare", "a.nc", "--variables", "nrom_moment_log"), "Did you mean 'norm_moment_log'"),
        (("compare", "a.nc", "--by", "mean_sqare"), "Did you mean 'mean_square'"),
        (("compare", "a.nc", "--family-error", "2"), "family_error must be a number in (0, 1)"),
        (("compare", "a.nc", "--resolution", "0"), "resolution must be a number"),
        (("compare", "a.nc", "--resolutoin", "0"), "Did you mean '--resolution'"),
        (("compare", "a.nc", "--variables", "activity_variance"), "is no variable of this result"),
        (("predict",), "no scheme was given"),
        (("predict", *LAW[:-2], "--beta", "much"), "beta must be a number"),
        (("predict", *LAW, "--bta", "1"), "Did you mean '--beta'"),
        (("predict", *LAW, "--layers", "21"), "layers 0 .. 20"),
        (("predict", *LAW, "--replicas", "100"), "--replicas is no option"),
        (("predict", *LAW, "--scheduler", "tcp://h:1"), "--scheduler is no option"),
        (("design", *LAW, "--scheduler", "tcp://h:1"), "--scheduler is no option"),
        (("design", *LAW, "--resolution", "-1"), "resolution must be a number"),
        (("design", *NO_THEORY), "no theory applies"),
    ],
    ids=lambda value: " ".join(value[-3:]) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_clear_error(run, result, words, says):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and says in err and "Traceback" not in err


# -------------------------------------------------------------------------- design


def test_design_says_how_many_and_how_long(run, tmp_path):
    status, out, err = run("design", *LAW, "--resolution", "0.05")
    assert (status, err) == (0, "")
    said = " ".join(out.split())
    assert "show an error of 0.05 in every variable with 90% probability" in said
    assert "Times are estimates for this machine, with sampler chain." in said
    assert out.splitlines()[0].split()[-1] == "time"
    assert list(tmp_path.iterdir()) == []


def test_a_designed_run_has_the_resolution_it_was_designed_for(run):
    words = ("design", *LAW, "--resolution", "0.04", "--no-time", "--format", "json")
    status, out, _ = run(*words)
    planned = json.loads(out)
    assert status == 0 and planned["sampler"] is None
    assert planned["variables"][0]["seconds"] is None
    run("simulate", *LAW, "--replicas", str(int(planned["replicas"])), "--out", "b.nc")
    status, out, _ = run("compare", "b.nc", "--resolution", "0.0401", "--format", "json")
    assert status == 0
    assert max(row["resolution"] for row in json.loads(out)["variables"]) > 0.035


def test_a_design_that_no_sample_reaches_is_told_in_strict_json(run):
    words = ("--depth", "400", "--width", "10", "--scheme", "he", "--no-time")
    status, out, _ = run("design", *words, "--format", "json")
    assert status == 0 and json.loads(out)["replicas"] == "inf"
    status, out, _ = run("design", *words)
    assert status == 0 and "Out of reach: " in out


# ------------------------------------------------------------------ options of a law


@pytest.mark.parametrize("command", [commands.predict, commands.design])
def test_the_options_of_a_law_are_those_of_simulate(command):
    ours = inspect.signature(command).parameters
    theirs = inspect.signature(sigprop.commands.simulate).parameters
    law = [name for name in theirs if name not in commands._RUN]
    assert {"depth", "width", "scheme", "block", "activation", "law", "inputs"} <= set(law)
    for name in law:
        assert ours[name].default == theirs[name].default
        assert str(ours[name].annotation).startswith("typing.Annotated")


def test_the_commands_load_nothing_heavy_before_they_run():
    code = "import sys, analysis.commands\nprint(*(n for n in sys.modules if '.' not in n))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "matplotlib", "numba", "numpy", "scipy", "xarray", "pandas"}
    assert not set(ran.stdout.split()) & heavy


@pytest.mark.parametrize("command", ["predict", "compare", "design"])
def test_help(run, command):
    status, out, _ = run(command, "--help")
    assert status == 0 and "--variables" in out
    assert ("--scheme" in out) == (command != "compare")
