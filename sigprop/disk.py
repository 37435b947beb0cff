"""How much of a disk a run takes at most: asked before anything is simulated.

A result holds estimates, the sums that they are read off, and the values kept of every replica; a
checkpoint is the same without estimates. Checkpoints are written beside the one before, and the
result beside the last of them, so there are two files at a time.

This is an upper bound. Numbers are counted as if they did not compress, which those that were
drawn hardly do; the exact zeros among them do, so a file may be half as large. Counts of a
histogram compress to almost nothing: the first replicas fill a twelfth of its bins
(`accumulate.histogram`), later ones not three times as many, and a bin that is filled takes
at most two bytes for its eight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sigprop.trace import FIELDS

if TYPE_CHECKING:
    from sigprop.request import Request

__all__ = ["of_request"]

_NAMES = 5 * 2**10  # bytes of the names, attributes and dimensions of one array; 3.2 to 4.1 KiB
_COUNTS = 12  # by how much counts of a histogram compress at least
_COMPRESSED = 4096  # entries from which an array is


def of_request(request: Request) -> int:
    """Bytes, at most, of all that a run writes and has on the disk at one time."""
    axes = {name: FIELDS[name].axis for name in request.fields}
    shapes = {
        name: (request.layers.size, *([request.sizes[axis]] if axis else []))
        for name, axis in axes.items()
    }
    blank = {name: np.zeros((1, *shape)) for name, shape in shapes.items()}
    sums = estimates = 0
    for observable in request.observables:
        state = observable.observe(blank)
        sums += _bytes(state)
        with np.errstate(all="ignore"):  # of one replica no error is known
            found = observable.finalize(state)
        estimates += _bytes({name: values for name, (_, values, _) in found.items()})
    entries = request.replicas * request.keep.size
    kept = {name: entries * math.prod(shape[1:]) for name, shape in shapes.items()}
    values = sum(8 * count + _NAMES for count in kept.values()) if entries else 0
    about = _NAMES + sum(len(str(value)) for value in request.attrs().values())
    return 2 * (sums + values + about) + estimates


def _bytes(arrays: Mapping[str, np.ndarray]) -> int:
    total = 0
    for name, values in arrays.items():
        values = np.asarray(values)
        compressed = name.endswith("counts") and values.size > _COMPRESSED
        total += _NAMES + values.nbytes // (_COUNTS if compressed else 1)
    return total
