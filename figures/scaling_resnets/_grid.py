"""Numbers over a grid of laws: measured ones where the signal ends, predicted ones one by one.

The forward quantities of a deep network are read at its top, the backward ones at its bottom:
these are the numbers that the paper plots.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["at_the_ends", "predicted"]


def at_the_ends(swept: xr.Dataset) -> xr.Dataset:
    """Keep of a sweep over layers 0 and L the forward quantities at L, the backward ones at 0.

    Returns a dataset without the dimension ``layer``.
    """
    backward = [name for name in swept.data_vars if "gradient" in str(name)]
    bottom = swept[backward].isel(layer=0, drop=True, missing_dims="ignore")
    top = swept.drop_vars(backward).isel(layer=-1, drop=True, missing_dims="ignore")
    found = top.assign({name: bottom[name].variable for name in backward})
    return found.drop_vars("t", errors="ignore")


def predicted(
    axes: Mapping[str, Sequence[Any]],
    theory: Callable[..., Mapping[str, float]],
    statuses: Mapping[str, str],
) -> xr.Dataset:
    """Put the numbers ``theory(**values)`` of every point of a grid into one dataset.

    Parameters
    ----------
    axes : mapping of str to sequence of number or str
        The last axis runs fastest.
    theory : callable
        Takes the values of the axes as keywords.
    statuses : mapping
        Of each number, how far it can be trusted; it becomes an attribute.
    """
    names = list(axes)
    rows = [
        theory(**dict(zip(names, corner, strict=True)))
        for corner in itertools.product(*axes.values())
    ]
    shape = [len(axis) for axis in axes.values()]
    table = xr.Dataset(coords={name: list(axis) for name, axis in axes.items()})
    for name, status in statuses.items():
        values = np.array([float(row[name]) for row in rows]).reshape(shape)
        table[name] = (names, values, {"status": status, "units": "1"})
    return table
