"""One point of a sweep after the other, each as if it had been simulated by itself.

A sweep keeps the law of every point in its coordinate ``ensemble``, and where the depth differs
from point to point, layers as fractions of it. A result of one ensemble has both in other places;
`points` puts them there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from sigprop.errors import ResultError

__all__ = ["points"]


def points(result: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield (name, result) of every point; of a result of one ensemble, itself without a name.

    Parameters
    ----------
    result : Dataset
        Of `sigprop.simulate` or `sigprop.sweep`, whole or selected from.

    Raises
    ------
    ResultError
        If it does not say of which ensemble it is.

    Examples
    --------
    >>> import sigprop
    >>> grid = {"beta": [0.25, 0.5], "depth": [4, 8]}
    >>> law = {"scheme": "power", "width": 5}
    >>> swept = sigprop.sweep(law, grid, "norm", replicas=10)
    >>> [(name, int(point.layer[-1])) for name, point in points(swept.isel(beta=0))]
    [('depth=4', 4), ('depth=8', 8)]
    """
    if "ensemble" in result.attrs and ("layer" in result.coords or "layer" not in result.dims):
        yield "", result
        return
    laws = result.coords.get("ensemble")
    if laws is None:
        raise ResultError(
            "the result does not say of which ensemble it is, so no theory can be consulted. Take "
            "one that sigprop simulate or sigprop sweep wrote, or give a prediction."
        )
    for place in np.ndindex(laws.shape):
        chosen: dict[Any, int] = dict(zip(laws.dims, place, strict=True))
        named = [f"{dim}={_word(result[dim].values[at])}" for dim, at in chosen.items()]
        law = str(laws.values[place])
        yield ", ".join(named), _alone(result.isel(chosen), law)


def _alone(point: xr.Dataset, law: str) -> xr.Dataset:
    """The point with its law and its layers where those of a single result are."""
    if "layer" not in point.coords and "t" in point.coords:
        depth = json.loads(law)["network"]["depth"]
        layers = np.rint(np.asarray(point["t"].values, float) * depth).astype(int)
        point = point.assign_coords(layer=("layer", layers))
    return point.drop_vars("ensemble").assign_attrs(ensemble=law)


def _word(value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{value:g}"
