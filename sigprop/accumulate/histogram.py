"""Quantiles of columns from counts in fixed bins, with a bound on their error.

Bins are fixed before a run, from a pilot of its first replicas: their middle is the
pilot's median and they reach 6 times its range to either side. Values beyond fall in two
outer bins, and -inf (the logarithm of an exact zero) is counted by itself. The smallest
and largest finite value of every column are remembered too and close the outer bins, so
a quantile is never lost, and a column of identical values has exact quantiles.

The sample quantile lies in the bin that is found, and the number returned, interpolated
linearly, does too: the width of that bin bounds the error of binning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sigprop.accumulate import State, kernels

__all__ = ["Bins", "bins_from_pilot", "generic_bins", "merge", "observe", "quantiles"]

_REACH = 6.0
_LEAST = 1e-9
_MANY, _TOTAL, _FEW = 1024, 2**21, 16  # bins a column; in all columns together; at least


@dataclass(frozen=True)
class Bins:
    """``number`` bins of equal width a column, from ``low`` on.

    Attributes
    ----------
    low, width : float64, shape (...)
    number : int
    """

    low: np.ndarray
    width: np.ndarray
    number: int


def _bins(middle: np.ndarray, half: np.ndarray) -> Bins:
    number = int(np.clip(_TOTAL // max(middle.size, 1), _FEW, _MANY))
    return Bins(middle - half, 2 * half / number, number)


def generic_bins(columns: tuple[int, ...]) -> Bins:
    """Bins over [-60, 60], for columns of which nothing is known."""
    return _bins(np.zeros(columns), np.full(columns, 60.0))


def bins_from_pilot(pilot: np.ndarray) -> Bins:
    """Bins about the finite values of ``pilot``, shape (replicas, ...)."""
    present = np.isfinite(pilot)
    count = present.sum(axis=0)
    rows = np.sort(np.where(present, pilot, np.inf), axis=0)
    low = np.where(count > 0, rows[0], 0.0)
    high = np.take_along_axis(rows, np.maximum(count - 1, 0)[np.newaxis], axis=0)[0]
    middle = np.take_along_axis(rows, np.maximum(count - 1, 0)[np.newaxis] // 2, axis=0)[0]
    high, middle = np.where(count > 0, high, 10.0), np.where(count > 0, middle, 0.0)
    return _bins(middle, np.maximum(_REACH * (high - low), _LEAST * (1 + np.abs(middle))))


def observe(values: np.ndarray, bins: Bins) -> State:
    """Count columns.

    Parameters
    ----------
    values : float64, shape (replicas, ...)
        Finite or -inf.
    bins : Bins

    Returns
    -------
    State
        ``zeros`` int64 (values of -inf), ``least``, ``most`` of shape (...) (finite values;
        inf and -inf for none), ``counts`` int64 of shape (..., bins + 2).
    """
    columns = values.shape[1:]
    size = math.prod(columns)
    zeros, counts = np.zeros(size, np.int64), np.zeros((size, bins.number + 2), np.int64)
    least, most = np.full(size, np.inf), np.full(size, -np.inf)
    kernels.counts(
        np.ascontiguousarray(values, float).reshape(len(values), size),
        bins.low.reshape(size),
        bins.width.reshape(size),
        bins.number,
        zeros,
        least,
        most,
        counts,
    )
    return {
        "zeros": zeros.reshape(columns),
        "least": least.reshape(columns),
        "most": most.reshape(columns),
        "counts": counts.reshape(*columns, -1),
    }


def merge(a: State, b: State) -> State:
    """Counts of the union of two sets of values."""
    return {
        "zeros": a["zeros"] + b["zeros"],
        "least": np.minimum(a["least"], b["least"]),
        "most": np.maximum(a["most"], b["most"]),
        "counts": a["counts"] + b["counts"],
    }


def quantiles(
    state: State, bins: Bins, probabilities: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(quantile, standard error, bound on the error of binning), shape (probabilities, ...).

    The standard error is half the distance of the quantiles at p -+ sqrt(p (1 - p) / n):
    0 if both are -inf, NaN if one is. A column without values gives NaN.
    """
    columns = state["zeros"].shape
    p = np.asarray(probabilities, float)
    counts = state["counts"].reshape(-1, bins.number + 2)
    below = np.concatenate([state["zeros"].reshape(-1, 1), counts], axis=1)
    cumulative = below.cumsum(axis=1)
    n = cumulative[:, -1]
    least, most = state["least"].reshape(-1, 1), state["most"].reshape(-1, 1)
    inner = bins.low.reshape(-1, 1) + bins.width.reshape(-1, 1) * np.arange(bins.number + 1)
    ends = np.full((len(n), 1), np.inf)
    # Edge j opens bin j: 0 is the bin of -inf, 1 the lower outer one.
    edges = np.concatenate([-ends, -ends, inner, ends], axis=1)
    edges = np.minimum(np.maximum(edges, least), most)

    # One search serves all columns: each climbs on from above the end of the one before.
    rows, outer, step = np.arange(len(n)), bins.number + 3, float(n.max(initial=0) + 2)
    ladder = (cumulative + rows[:, np.newaxis] * step).ravel()
    opening = (below > 0).argmax(axis=1)

    def at(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, width = np.empty((2, len(p), len(n)))
        for i, rank in enumerate(probability * n):
            found = np.searchsorted(ladder, rank * (1 - 1e-12) + rows * step) - rows * outer
            found = np.minimum(found, outer - 1)
            # p = 0 must not stop in an empty first bin.
            found = np.maximum(found, opening)
            inside = np.maximum(below[rows, found], 1)
            share = np.clip((rank - cumulative[rows, found] + inside) / inside, 0.0, 1.0)
            left = edges[rows, found]
            right = edges[rows, np.minimum(found + 1, bins.number + 3)]
            finite = (found > 0) & (n > 0)
            width[i] = np.where(finite, np.where(finite, right, 0) - np.where(finite, left, 0), 0)
            value[i] = np.where(finite, np.where(finite, left, 0) + share * width[i], -np.inf)
        empty = n == 0
        value[:, empty], width[:, empty] = np.nan, np.nan
        return value, width

    value, width = at(np.broadcast_to(p[:, np.newaxis], (len(p), len(n))))
    noise = np.sqrt(p * (1 - p))[:, np.newaxis] / np.sqrt(np.maximum(n, 1))
    upper, _ = at(np.minimum(p[:, np.newaxis] + noise, 1.0))
    lower, _ = at(np.maximum(p[:, np.newaxis] - noise, 0.0))
    both = np.isfinite(upper) & np.isfinite(lower)
    error = np.where(both, np.where(both, upper, 0) - np.where(both, lower, 0), np.nan) / 2
    error = np.where((upper == -np.inf) & (lower == -np.inf), 0.0, error)
    shape = (len(p), *columns)
    return value.reshape(shape), error.reshape(shape), width.reshape(shape)
