"""JSON and CSV carry every number, in a form that any reader takes."""

import csv
import io
import json

import numpy as np
import xarray as xr

from sigprop import export
from tests.synthetic import result


def strictly(text):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_strict_and_complete():
    measured = result(depth=5, spread=0.0)
    read = strictly(export.json(measured))
    assert set(read["data_vars"]) == set(measured.data_vars)
    assert read["attrs"]["seed"] == 0
    assert read["data_vars"]["displacement_moment_log"]["data"][0][0][0] == "-inf"
    assert read["data_vars"]["activity_mean"]["data"][0] == [None, None]


def test_json_is_what_xarray_reads_back():
    measured = result(depth=5)[["log_norm_mean", "log_norm_mean_se"]]
    xr.testing.assert_identical(xr.Dataset.from_dict(strictly(export.json(measured))), measured)


def test_csv_has_a_line_a_layer_and_a_column_a_number():
    measured = result(depth=5)
    rows = list(csv.DictReader(io.StringIO(export.csv(measured))))
    assert [int(row["layer"]) for row in rows] == list(range(6))
    found = [float(row["norm_moment_log[order=2;input=1]"]) for row in rows]
    np.testing.assert_array_equal(found, measured.norm_moment_log.sel(order=2, input=1))
    numbers = sum(variable.size for variable in measured.data_vars.values())
    assert (len(rows[0]) - 1) * len(rows) == numbers


def test_csv_leaves_out_what_has_no_layer():
    measured = result(depth=5).assign(replica_log_norm=(("replica", "kept_layer"), np.ones((3, 2))))
    assert "replica_log_norm" not in export.csv(measured)
