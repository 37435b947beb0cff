r"""Mean, variance, skewness and kurtosis of columns, from sums that merge.

A column is remembered by its count n, its mean and the central power sums
:math:`M_p = \sum_i (x_i - \bar x)^p`, p = 2 .. order. Two columns merge by shifting
both sets of sums to the common mean with the binomial theorem (Pebay 2008, *Formulas
for robust, one-pass parallel computation of covariances and arbitrary-order statistical
moments*, SAND2008-6212).

The mean is kept as ``shift + offset``, where ``shift`` is one of the values: differences
of nearby numbers are exact, so a mean far from zero costs no digits of the spread, and a
column of identical values has exactly that mean and exactly no variance.

Standard errors are those of the delta method, from the moments up to twice the order;
for fewer than about 30 values they are rough, and for heavy tails too small until the
sample has seen the tail. Below, z is the standardised value and
s_p the mean of z^p; the influence functions are

========= =================================================
variance  z^2 - 1
skewness  z^3 - 3 z - s_3 - (3/2) s_3 (z^2 - 1)
kurtosis  z^4 - s_4 - 4 s_3 z - 2 s_4 (z^2 - 1)
========= =================================================

A standard error never goes below 1e-5 of its natural size, where rounding would decide it.
"""

from __future__ import annotations

import math

import numpy as np

from sigprop.accumulate import State, kernels

__all__ = ["kurtosis", "mean", "merge", "observe", "skewness", "variance"]

_ROUNDING = 1e-10  # relative to the sum of absolute terms; its root is the 1e-5 above


def observe(values: np.ndarray, order: int = 8, missing: float = -np.inf) -> State:
    """Sum up columns.

    Parameters
    ----------
    values : float64, shape (replicas, ...)
    order : int
        Highest power, 2 .. 8. The standard error of the variance needs 4, of the skewness
        6, of the kurtosis 8.
    missing : float
        -inf or NaN: the value that does not count.

    Returns
    -------
    State
        ``count`` int64, ``shift``, ``offset`` of shape (...), ``power`` of shape
        (order - 1, ...): power sums 2 .. order.
    """
    columns = values.shape[1:]
    flat = np.ascontiguousarray(values, float).reshape(len(values), math.prod(columns))
    size = flat.shape[1]
    count = np.empty(size, np.int64)
    shift, offset, power = np.empty(size), np.empty(size), np.empty((order - 1, size))
    kernels.central_powers(flat, missing, order, count, shift, offset, power)
    return {
        "count": count.reshape(columns),
        "shift": shift.reshape(columns),
        "offset": offset.reshape(columns),
        "power": power.reshape(-1, *columns),
    }


def merge(a: State, b: State) -> State:
    """Sums of the union of two sets of values."""
    count = a["count"] + b["count"]
    share_a, share_b = a["count"] / np.maximum(count, 1), b["count"] / np.maximum(count, 1)
    both = (a["count"] > 0) & (b["count"] > 0)
    delta = np.where(both, (b["shift"] - a["shift"]) + (b["offset"] - a["offset"]), 0.0)
    u, v = -delta * share_b, delta * share_a  # the two means, seen from the common one
    has_a = a["count"] > 0
    order = len(a["power"]) + 1
    power = np.empty_like(a["power"])
    powers_u, powers_v = [np.ones_like(u)], [np.ones_like(v)]
    for _ in range(order):
        powers_u.append(powers_u[-1] * u)
        powers_v.append(powers_v[-1] * v)
    for p in range(2, order + 1):
        total = a["power"][p - 2] + b["power"][p - 2]
        for k in range(1, p - 1):
            total += math.comb(p, k) * (
                powers_u[k] * a["power"][p - k - 2] + powers_v[k] * b["power"][p - k - 2]
            )
        total += a["count"] * powers_u[p] + b["count"] * powers_v[p]
        power[p - 2] = total
    return {
        "count": count,
        "shift": np.where(has_a, a["shift"], b["shift"]),
        "offset": np.where(has_a, a["offset"] + delta * share_b, b["offset"]),
        "power": power,
    }


def mean(state: State) -> tuple[np.ndarray, np.ndarray]:
    """(mean, standard error); NaN where no value (for the error: fewer than 2) counts."""
    n = state["count"]
    value = np.where(n > 0, state["shift"] + state["offset"], np.nan)
    return value, np.sqrt(variance(state)[0] / np.maximum(n, 1))


def variance(state: State) -> tuple[np.ndarray, np.ndarray]:
    """(unbiased variance, standard error); NaN for fewer than 2 values.

    The standard error needs order 4 and is NaN below.
    """
    n = state["count"]
    value = np.where(n > 1, state["power"][0] / np.maximum(n - 1, 1), np.nan)
    if len(state["power"]) < 3:
        return value, np.full_like(value, np.nan)
    s = _standardised(state)
    exact = np.where(n > 1, (n - 3) / np.maximum(n - 1, 1), np.nan)
    noise = np.maximum(s[4] - exact, _ROUNDING * (s[4] + 1))
    error = value * np.sqrt(noise / np.maximum(n, 1))
    return value, np.where(value == 0, 0.0, error)


def skewness(state: State) -> tuple[np.ndarray, np.ndarray]:
    """(skewness, standard error), unbiased for Gaussian values.

    NaN for fewer than 3 values (for the error: 4) and for identical ones, where there is
    no skewness.
    """
    n = state["count"]
    s = _standardised(state)
    factor = np.sqrt(n * np.maximum(n - 1.0, 0)) / np.where(n > 2, n - 2, np.nan)
    one, zero = np.ones_like(s[3]), np.zeros_like(s[3])
    error = _error([0.5 * s[3], -3 * one, -1.5 * s[3], one, zero], s, np.where(n > 3, n, np.nan))
    return factor * s[3], factor * error


def kurtosis(state: State) -> tuple[np.ndarray, np.ndarray]:
    """(excess kurtosis, standard error), unbiased for Gaussian values.

    NaN for fewer than 4 values and for identical ones, where there is no kurtosis.
    """
    n = state["count"]
    s = _standardised(state)
    m = np.where(n > 3, n, np.nan)
    factor = (m - 1) / ((m - 2) * (m - 3))
    one, zero = np.ones_like(s[3]), np.zeros_like(s[3])
    error = _error([s[4], -4 * s[3], -2 * s[4], zero, one], s, m)
    return factor * ((m + 1) * (s[4] - 3) + 6), factor * (m + 1) * error


def _standardised(state: State) -> list[np.ndarray]:
    """s_0 .. s_order, the mean of z^p; NaN where all values are identical."""
    n = np.where(state["count"] > 0, state["count"], np.nan)
    central = state["power"] / n
    scale = np.sqrt(np.where(central[0] > 0, central[0], np.nan))
    one = np.where(np.isnan(scale), np.nan, 1.0)
    rows = [row / scale**p for p, row in enumerate(central, start=2)]
    rows[0] = one
    return [one, 0 * one, *rows]


def _error(coefficients: list[np.ndarray], s: list[np.ndarray], n: np.ndarray) -> np.ndarray:
    """sqrt(E[p(z)^2] / n) of the polynomial p with these coefficients, lowest first."""
    square, size = np.zeros_like(n, float), np.zeros_like(n, float)
    for i, a in enumerate(coefficients):
        for j, b in enumerate(coefficients):
            if i + j < len(s):
                term = a * b * s[i + j]
                square = square + term
                size = size + np.abs(term)
    return np.sqrt(np.maximum(square, _ROUNDING * size) / n)
