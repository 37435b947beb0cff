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
from sigprop.modules._watch import Row

__all__ = ["SCHEMA", "dataset", "over_networks"]

SCHEMA = "sigprop-probe"
VERSION = 1

_TOLD = {
    "second_moment": "mean square of an entry of the layer's output",
    "gradient_second_moment": "mean square of an entry of the gradient of the layer's output",
    "cosine_mean": "cosine of the outputs of two inputs, mean over pairs",
    "dead_fraction": "share of units that are on for no input",
}


def dataset(
    networks: Sequence[Sequence[Row]], *, inputs: int, attrs: Mapping[str, Any]
) -> xr.Dataset:
    """Lay the rows of all networks over each other.

    Parameters
    ----------
    networks : sequence of sequence of Row
        The same rows in each.
    inputs : int
    attrs : mapping
        Further attributes.
    """
    first = networks[0]
    values: dict[str, np.ndarray] = {
        name: np.full((len(networks), len(first)), np.nan) for name in _TOLD
    }
    errors = {name: np.full((len(networks), len(first)), np.nan) for name in list(_TOLD)[:2]}
    for n, rows in enumerate(networks):
        for l, row in enumerate(rows):
            values["cosine_mean"][n, l] = float(row.cosine)
            values["dead_fraction"][n, l] = float(row.dead)
            for name, squares in (
                ("second_moment", row.squares),
                ("gradient_second_moment", row.gradient_squares),
            ):
                if squares is None:
                    continue
                each = squares.cpu().numpy() / row.entries
                values[name][n, l] = each.sum() / inputs
                if len(each) > 1:
                    errors[name][n, l] = each.std(ddof=1) / math.sqrt(len(each))
    variables: dict[str, Any] = {}
    for name, told in _TOLD.items():
        variables |= over_networks(name, values[name], "layer", told)
        if name in errors:
            with np.errstate(divide="ignore"):
                logs = np.log(values[name])
            logs[~np.isfinite(logs)] = np.nan
            variables |= over_networks(
                f"log_{name}_mean", logs, "layer", f"logarithm of the {told}", "nat"
            )
            variables[f"{name}_batch_se"] = (
                "layer",
                np.sqrt(_mean(errors[name] ** 2)),
                {"long_name": f"standard error over the inputs: {told}", "units": "1"},
            )
    last = networks[-1]
    coordinates = {
        "layer": ("layer", [row.label for row in first], "layer, in order of execution"),
        "kind": ("layer", [row.kind for row in first], "class of the layer"),
        "entries": (
            "layer",
            np.array([r.entries for r in last]),
            "numbers of an output, each input",
        ),
    }
    return xr.Dataset(
        variables,
        {
            name: (dim, held, {"long_name": what, "units": "1"})
            for name, (dim, held, what) in coordinates.items()
        },
        {
            "schema": SCHEMA,
            "schema_version": VERSION,
            **attrs,
            "software": json.dumps(json.loads(software()) | {"torch": torch.__version__}),
        },
    )


def over_networks(
    name: str, values: np.ndarray, dim: str, told: str, units: str = "1"
) -> dict[str, Any]:
    """Mean over networks and its standard error, of shape (networks, n); nan are left out."""
    there = (~np.isnan(values)).sum(0)
    mean = _mean(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(there > 1, np.nansum((values - mean) ** 2, 0) / (there - 1), np.nan)
        error = np.sqrt(variance / there)
    return {
        name: (dim, mean, {"long_name": told, "units": units}),
        f"{name}_se": (
            dim,
            error,
            {"long_name": f"standard error over networks: {told}", "units": units},
        ),
    }


def _mean(values: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a column of nan, which stays nan
        mean: np.ndarray = np.nanmean(values, 0)
    return mean
