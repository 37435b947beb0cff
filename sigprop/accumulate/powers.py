r"""Moments E r^s of a positive quantity known by its logarithm, never leaving the log domain.

With x = log r, and ``top`` the largest x seen, the weights :math:`w = e^{s (x - top)}`
lie in [0, 1], and :math:`\log E r^s = s\,top + \log \bar w`. Remembered are, for each
order s, the mean of w and the sum of its squared deviations, which lose no digits when
all weights are nearly equal. A replica with r = 0 has x = -inf, weighs 0 and counts.

The effective sample size :math:`(\sum w)^2 / \sum w^2` says how many replicas carry the
estimate. If it is small, a few lucky networks decide it, and its standard error, made of
the same few, is too small when the estimate is most wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sigprop.accumulate import State, kernels

__all__ = ["effective_size", "log_moment", "merge", "observe"]


def observe(logs: np.ndarray, orders: Sequence[float]) -> State:
    """Sum up columns of logarithms.

    Parameters
    ----------
    logs : float64, shape (replicas, ...)
        Finite or -inf.
    orders : sequence of float

    Returns
    -------
    State
        ``count`` int64 scalar, ``top`` of shape (...), ``mean`` and ``spread`` (the sum of
        squared deviations) of shape (orders, ...).
    """
    columns = logs.shape[1:]
    flat = np.ascontiguousarray(logs, float).reshape(len(logs), math.prod(columns))
    top = np.empty(flat.shape[1])
    mean, spread = np.empty((2, len(orders), flat.shape[1]))
    kernels.weights(flat, np.array(orders, float), top, mean, spread)
    return {
        "count": np.array(len(logs), np.int64),
        "top": top.reshape(columns),
        "mean": mean.reshape(-1, *columns),
        "spread": spread.reshape(-1, *columns),
    }


def merge(a: State, b: State, orders: Sequence[float]) -> State:
    """Sums of the union of two sets of replicas."""
    n_a, n_b = int(a["count"]), int(b["count"])
    count = n_a + n_b
    top = np.maximum(a["top"], b["top"])
    level = np.where(top > -np.inf, top, 0.0)
    s = np.asarray(orders, float).reshape(-1, *[1] * top.ndim)
    scale_a, scale_b = np.exp(s * (a["top"] - level)), np.exp(s * (b["top"] - level))
    mean_a, mean_b = scale_a * a["mean"], scale_b * b["mean"]
    delta = mean_b - mean_a
    return {
        "count": np.array(count, np.int64),
        "top": top,
        "mean": mean_a + delta * (n_b / max(count, 1)),
        "spread": scale_a**2 * a["spread"]
        + scale_b**2 * b["spread"]
        + delta**2 * (n_a * n_b / max(count, 1)),
    }


def log_moment(state: State, orders: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(log E r^s, standard error of it), each of shape (orders, ...).

    Where no replica is positive the logarithm is -inf and the error NaN: no sum can tell
    a quantity that is zero from one that the sample has missed.
    """
    n, mean = int(state["count"]), state["mean"]
    s = np.asarray(orders, float).reshape(-1, *[1] * state["top"].ndim)
    positive = np.where(mean > 0, mean, np.nan)
    value = np.where(mean > 0, s * state["top"] + np.log(positive), -np.inf)
    error = np.sqrt(state["spread"] / max(n * (n - 1), 1)) / positive
    return value, error if n > 1 else np.full_like(error, np.nan)


def effective_size(state: State) -> np.ndarray:
    """Effective sample size, shape (orders, ...); 0 where no replica is positive."""
    n, mean = int(state["count"]), state["mean"]
    positive = np.where(mean > 0, mean, 1.0)
    return np.where(mean > 0, n / (1 + state["spread"] / (max(n, 1) * positive**2)), 0.0)
