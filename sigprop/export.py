"""A result as text for other programs: JSON and CSV, with everything that it holds."""

from __future__ import annotations

import csv as _csv
import io
import itertools
import json as _json
import math
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["csv", "json", "strict"]


def json(result: xr.Dataset) -> str:
    """Return the whole result in the form of ``xarray.Dataset.to_dict``, as strict JSON.

    JSON has no NaN and no infinities: an undefined number is null, an infinite one the
    string ``"inf"`` or ``"-inf"``.
    """
    return _json.dumps(strict(result.to_dict()), indent=1, sort_keys=True)


def strict(value: Any) -> Any:
    """Return plain values that JSON can hold: NaN becomes null, infinity the string ``"inf"``."""
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if isinstance(value, np.generic):
        return strict(value.item())
    if isinstance(value, np.ndarray):
        return strict(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def csv(result: xr.Dataset) -> str:
    """Return one line for each recorded layer, one column for each number.

    A sweep has a line for each point and layer, its axes in the first columns.

    A variable with more dimensions has a column for each of their coordinates, such as
    ``norm_moment_log[order=2;input=0]``. Variables that do not run over the layers (values
    kept for each replica) are left out: JSON has them.
    """
    axes = str(result.attrs.get("axes", "")).split()
    along = (*axes, "layer")
    sizes = [result.sizes[dim] for dim in along]
    columns: list[tuple[str, np.ndarray]] = []
    for axis, place_dim in enumerate(along):
        column = "t" if place_dim == "layer" and "t" in result.coords else place_dim
        shape = [-1 if i == axis else 1 for i in range(len(along))]
        places = np.broadcast_to(result[column].values.reshape(shape), sizes)
        columns.append((column, places.ravel()))
    for name, variable in sorted(result.data_vars.items()):
        others = [dim for dim in variable.dims if dim not in along]
        if "layer" not in variable.dims or "replica" in others:
            continue
        ordered = variable.transpose(*others, *along)
        for place in itertools.product(*(range(variable.sizes[dim]) for dim in others)):
            where = [
                f"{dim}={_shown(result[dim].values[index]) if dim in result.coords else index}"
                for dim, index in zip(others, place, strict=True)
            ]
            header = f"{name}[{';'.join(where)}]" if where else str(name)
            columns.append((header, ordered.values[place].ravel()))
    text = io.StringIO()
    writer = _csv.writer(text, lineterminator="\n")
    writer.writerow(header for header, _ in columns)
    for row in zip(*(values.tolist() for _, values in columns), strict=True):
        writer.writerow(row)
    return text.getvalue()


def _shown(coordinate: Any) -> str:
    number = isinstance(coordinate, (float, np.floating))
    return f"{coordinate:g}" if number else str(coordinate)
