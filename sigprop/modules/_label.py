"""From what hooks kept to a labelled Dataset, with errors over the networks and over the inputs."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from sigprop.label import software
from sigprop.modules._sums import Found
from sigprop.modules._watch import Row

__all__ = ["SCHEMA", "dataset"]

SCHEMA = "sigprop-probe"
VERSION = 1

_Variables = dict[str, Any]


def dataset(
    networks: Sequence[Sequence[Row]],
    sums: Sequence[Sequence[Found]],
    *,
    inputs: int,
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """Lay the rows of all networks over each other.

    Parameters
    ----------
    networks : sequence of sequence of Row
        The same rows in each.
    sums : sequence of sequence of Found
        Likewise.
    inputs : int
    attrs : mapping
        Further attributes.
    """
    variables = _of_rows(networks, "layer", "", "the layer's output", inputs)
    coordinates = _coordinates(networks[-1], "layer", "layer")
    if sums[0]:
        rows = [[found.row for found in one] for one in sums]
        variables |= _of_rows(rows, "sum", "sum_", "the residual sum", inputs)
        variables |= _branches(sums, inputs)
        coordinates |= _coordinates(rows[-1], "sum", "residual sum")
    versions = json.loads(software()) | {"torch": torch.__version__}
    about = {"schema": SCHEMA, "schema_version": VERSION, **attrs, "software": json.dumps(versions)}
    return xr.Dataset(variables, coordinates, about)


def _coordinates(rows: Sequence[Row], dim: str, what: str) -> _Variables:
    first = "" if dim == "layer" else f"{dim}_"
    told: list[tuple[str, Any, str]] = [
        (dim, [row.label for row in rows], f"{what}, in order of execution"),
        (
            f"{first}entries",
            np.array([r.entries for r in rows]),
            "numbers of an output, each input",
        ),
    ]
    if dim == "layer":
        told.append(("kind", [row.kind for row in rows], "class of the layer"))
    return {name: (dim, held, {"long_name": text, "units": "1"}) for name, held, text in told}


def _of_rows(
    networks: Sequence[Sequence[Row]], dim: str, prefix: str, of: str, inputs: int
) -> _Variables:
    shape = (len(networks), len(networks[0]))
    cosine, dead = np.full(shape, np.nan), np.full(shape, np.nan)
    moments = {"second_moment": np.full(shape, np.nan)}
    moments["gradient_second_moment"] = np.full(shape, np.nan)
    errors = {name: np.full(shape, np.nan) for name in moments}
    for n, rows in enumerate(networks):
        for l, row in enumerate(rows):
            cosine[n, l], dead[n, l] = float(row.cosine), float(row.dead)
            for name, squares in zip(moments, (row.squares, row.gradient_squares)):
                if squares is None:
                    continue
                each = squares.cpu().numpy() / row.entries
                moments[name][n, l] = each.sum() / inputs
                if len(each) > 1:
                    errors[name][n, l] = each.std(ddof=1) / math.sqrt(len(each))
    told = {
        "second_moment": f"mean square of an entry of {of}",
        "gradient_second_moment": f"mean square of an entry of the gradient of {of}",
    }
    variables: _Variables = {}
    for name, text in told.items():
        values = moments[name]
        variables |= _over_networks(prefix + name, values, dim, text)
        log = f"{'log_' + prefix + name}_mean"
        variables |= _over_networks(log, _logs(values), dim, f"logarithm of the {text}", "nat")
        variables[f"{prefix}{name}_batch_se"] = (
            dim,
            np.sqrt(_mean(errors[name] ** 2)),
            {"long_name": f"standard error over the inputs: {text}", "units": "1"},
        )
    text = f"cosine of two inputs, in {of}, mean over pairs"
    variables |= _over_networks(f"{prefix}cosine_mean", cosine, dim, text)
    text = f"share of units of {of} that are on for no input"
    return variables | _over_networks(f"{prefix}dead_fraction", dead, dim, text)


def _branches(sums: Sequence[Sequence[Found]], inputs: int) -> _Variables:
    def moments(operand: str) -> np.ndarray:
        return np.array(
            [
                [float(getattr(f, operand).sum()) / (f.row.entries * inputs) for f in one]
                for one in sums
            ]
        )

    branch, trunk = moments("branch"), moments("trunk")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = branch / trunk
    variables: _Variables = {}
    for name, values, told in (
        ("branch_second_moment", branch, "mean square of an entry of the branch"),
        ("trunk_second_moment", trunk, "mean square of an entry of the trunk"),
        ("branch_ratio", ratio, "mean square of the branch over that of the trunk"),
    ):
        variables |= _over_networks(name, values, "sum", told)
    return variables


def _over_networks(
    name: str, values: np.ndarray, dim: str, told: str, units: str = "1"
) -> _Variables:
    """Mean over networks and its standard error, of shape (networks, n); nan are left out."""
    there = (~np.isnan(values)).sum(0)
    mean = _mean(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(there > 1, np.nansum((values - mean) ** 2, 0) / (there - 1), np.nan)
        error = np.sqrt(variance / there)
    spread = f"standard error over networks: {told}"
    return {
        name: (dim, mean, {"long_name": told, "units": units}),
        f"{name}_se": (dim, error, {"long_name": spread, "units": units}),
    }


def _logs(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        logs = np.log(values)
    return np.where(np.isfinite(logs), logs, np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a column of nan, which stays nan
        mean: np.ndarray = np.nanmean(values, 0)
    return mean
