"""The table: error bars, readable at 100 columns, and no number without its warning."""

import json
import math

import pytest

from sigprop import report
from tests.synthetic import result


@pytest.mark.parametrize(
    "options",
    [
        {"spread": 0.0},
        {"spread": 0.1},
        {"log_rate": 0.5, "cosine": (0.5, 0.99)},
        {"log_rate": 10.0, "depth": 1000, "replicas": 30},
        {"log_rate": -0.3, "spread": 2.0},
        {"dead": 1.0},
    ],
)
def test_everything_fits_in_100_columns(options):
    assert max(map(len, report.text(result(**options)).splitlines())) <= 100


def test_about_eleven_layers_first_and_last_among_them():
    lines = report.table(result(depth=1000, replicas=20)).splitlines()
    layers = [int(line.split()[0]) for line in lines[2:13]]
    assert layers == list(range(0, 1001, 100))


def test_few_layers_are_shown_once_each():
    rows = report.table(result(depth=3)).splitlines()[2:6]
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "3"]


def test_values_are_those_of_the_first_input_and_carry_their_errors():
    measured = result(log_rate=0.01, spread=0.5)
    last = measured.isel(layer=-1, input=0)
    row = next(r for r in report.table(measured).splitlines() if r.startswith("  100"))
    value, se = row.split()[3].split("±")
    assert float(value) == pytest.approx(float(last.log_norm_mean), abs=float(se) / 10)
    assert float(se) == pytest.approx(float(last.log_norm_mean_se), rel=0.05)
    assert "input 0 of 2" in report.table(measured)


def test_the_mean_square_is_marked_where_few_replicas_carry_it():
    unreliable = report.table(result(spread=2.5))
    assert "~: carried by too few replicas" in unreliable
    assert "~" not in report.table(result(spread=0.1))


def test_columns_of_what_was_not_observed_are_left_out():
    measured = result()[["log_norm_mean", "log_norm_mean_se", "log_norm_variance"]]
    head = report.table(measured).splitlines()[0]
    assert head.split() == ["layer", "l/L", "log|h|", "sd"]


def test_the_headline_names_the_law_and_the_run():
    line = report.headline(result())
    for word in ("power(beta=0.5)", "res3", "relu", "gaussian", "width 100", "depth 100"):
        assert word in line
    for word in ("cosine 0.5", "400 replicas", "seed 0", "sampler conditional"):
        assert word in line


def test_the_headline_says_how_layers_depend_and_what_enters():
    measured = result()
    law = json.loads(measured.attrs["ensemble"])
    law["scheme"]["process"] = {"kind": "fgn", "hurst": 0.75}
    law["inputs"] = {"kind": "equiangular", "count": 7, "cosine": 0.25}
    measured.attrs["ensemble"] = json.dumps(law)
    lines = report.headline(measured)
    assert "gaussian weights, process fgn(hurst=0.75), width" in lines
    assert "7 inputs at cosine 0.25" in lines and "inner process" not in lines
    law["scheme"]["inner_process"] = {"kind": "legacy_rbf", "variance": 0.01}
    measured.attrs["ensemble"] = json.dumps(law)
    who = report.headline(measured).splitlines()[0]
    assert "process fgn(hurst=0.75), inner process legacy_rbf, width" in who
    assert max(map(len, report.text(measured).splitlines())) <= 100


@pytest.mark.parametrize(
    ("log", "text"),
    [
        (0.0, "1"),
        (math.log(0.00999999), "0.01"),
        (math.log(9.999e7), "1.00e+8"),
        (1e6, "3.03e+434294"),
        (-1e6, "3.30e-434295"),
        (-math.inf, "0"),
        (math.nan, "-"),
    ],
)
def test_numbers_beyond_the_range_of_floats_are_written(log, text):
    assert report.scientific(log) == text
