"""The loops of `moments`, `powers` and `histogram`: arrays in, sums out, nothing else.

Each walks the columns of a (replicas, columns) array one by one with its sums in
registers, always in the order of the replicas, so that bits depend on the block alone.
The lock of the interpreter is released, so that threads observe side by side.
"""

import math

import numba as nb
import numpy as np

__all__ = ["central_powers", "counts", "weights"]


@nb.njit(nogil=True, cache=True, error_model="numpy")
def central_powers(
    x: np.ndarray,
    missing: float,
    order: int,
    count: np.ndarray,
    shift: np.ndarray,
    offset: np.ndarray,
    power: np.ndarray,
) -> None:
    """Fill count, shift, offset (columns,) and power (order - 1, columns).

    A value equal to ``missing`` does not count, nor does NaN if ``missing`` is NaN.
    """
    replicas, columns = x.shape
    skip_nan = math.isnan(missing)
    sums = np.empty(7)
    for c in range(columns):
        n = 0
        first = 0.0
        total = 0.0
        for r in range(replicas):
            v = x[r, c]
            if v == missing or (skip_nan and math.isnan(v)):
                continue
            if n == 0:
                first = v
            n += 1
            total += v - first
        middle = total / n if n > 0 else 0.0
        s2 = s3 = s4 = s5 = s6 = s7 = s8 = 0.0
        for r in range(replicas):
            v = x[r, c]
            if v == missing or (skip_nan and math.isnan(v)):
                continue
            d = (v - first) - middle
            d2 = d * d
            d4 = d2 * d2
            s2 += d2
            s3 += d2 * d
            s4 += d4
            s5 += d4 * d
            s6 += d4 * d2
            s7 += d4 * d2 * d
            s8 += d4 * d4
        sums[0], sums[1], sums[2], sums[3], sums[4], sums[5], sums[6] = s2, s3, s4, s5, s6, s7, s8
        count[c] = n
        shift[c] = first
        offset[c] = middle
        for p in range(order - 1):
            power[p, c] = sums[p]


@nb.njit(nogil=True, cache=True, error_model="numpy")
def weights(
    x: np.ndarray, orders: np.ndarray, top: np.ndarray, mean: np.ndarray, spread: np.ndarray
) -> None:
    """Fill top (columns,), mean and spread (orders, columns) of exp(order (x - top))."""
    replicas, columns = x.shape
    w = np.empty((orders.size, replicas))
    for c in range(columns):
        most = -np.inf
        for r in range(replicas):
            most = max(most, x[r, c])
        top[c] = most
        level = most if most > -np.inf else 0.0
        for i in range(orders.size):
            double = i > 0 and orders[i] == 2.0 * orders[i - 1]  # saves the exponential
            total = 0.0
            for r in range(replicas):
                if double:
                    w[i, r] = w[i - 1, r] * w[i - 1, r]
                else:
                    w[i, r] = math.exp(orders[i] * (x[r, c] - level))
                total += w[i, r]
            middle = total / max(replicas, 1)
            square = 0.0
            for r in range(replicas):
                square += (w[i, r] - middle) ** 2
            mean[i, c] = middle
            spread[i, c] = square


@nb.njit(nogil=True, cache=True, error_model="numpy")
def counts(
    x: np.ndarray,
    low: np.ndarray,
    width: np.ndarray,
    number: int,
    zeros: np.ndarray,
    least: np.ndarray,
    most: np.ndarray,
    count: np.ndarray,
) -> None:
    """Add to zeros, least, most (columns,) and count (columns, number + 2)."""
    replicas, columns = x.shape
    for c in range(columns):
        rate = 1.0 / width[c]
        for r in range(replicas):
            v = x[r, c]
            if v == -np.inf:
                zeros[c] += 1
                continue
            least[c] = min(least[c], v)
            most[c] = max(most[c], v)
            place = (v - low[c]) * rate
            if place >= 0.0 and place < number:
                count[c, 1 + int(place)] += 1
            elif place >= number:
                count[c, number + 1] += 1
            else:
                count[c, 0] += 1
