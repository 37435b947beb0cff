"""Sums and sweeps over one vector, vectorised by the compiler.

Reassociation is allowed in the sums of this file and nowhere else: a float sum in strict
order costs more than drawing its terms. The order is then fixed by the compiled program,
so the last bit is the same on every run of machines of one type, not across types.
"""

import numpy as np

from sigprop.kernels.compiled import inner

__all__ = [
    "add_scaled",
    "advance",
    "combine",
    "copy",
    "dot",
    "mean",
    "orthonormalise",
    "scale",
    "square_sum",
    "step",
]

_LOOSE = ("reassoc", "contract")


@inner(*_LOOSE)
def dot(x, x_at, y, y_at, n):
    """Sum of ``x[x_at + i] * y[y_at + i]`` over i < n."""
    x = x[x_at : x_at + n]
    y = y[y_at : y_at + n]
    total = 0.0
    for i in range(n):
        total += x[i] * y[i]
    return total


@inner(*_LOOSE)
def square_sum(x, x_at, n):
    """Sum of ``x[x_at + i]^2`` over i < n."""
    x = x[x_at : x_at + n]
    total = 0.0
    for i in range(n):
        total += x[i] * x[i]
    return total


@inner(*_LOOSE)
def mean(x, x_at, n):
    """Mean of ``x[x_at + i]`` over i < n."""
    x = x[x_at : x_at + n]
    total = 0.0
    for i in range(n):
        total += x[i]
    return total / n


@inner("contract")
def add_scaled(x, x_at, a, y, y_at, n):
    """``x += a y`` over i < n."""
    x = x[x_at : x_at + n]
    y = y[y_at : y_at + n]
    for i in range(n):
        x[i] += a * y[i]


@inner(*_LOOSE)
def combine(c, out, out_at, a, x, x_at, b, y, y_at, n):
    """``out = c out + a x + b y`` over i < n, x and y apart from out; returns its square sum.

    (Where an output may be an input under another name, the compiler falls back to one
    entry at a time. Hence this function beside `step`.)
    """
    out = out[out_at : out_at + n]
    x = x[x_at : x_at + n]
    y = y[y_at : y_at + n]
    total = 0.0
    for i in range(n):
        v = c * out[i] + a * x[i] + b * y[i]
        out[i] = v
        total += v * v
    return total


@inner(*_LOOSE)
def advance(c, out, out_at, a, x, x_at, n):
    """``out = c out + a x`` over i < n, x apart from out; returns its square sum."""
    out = out[out_at : out_at + n]
    x = x[x_at : x_at + n]
    total = 0.0
    for i in range(n):
        v = c * out[i] + a * x[i]
        out[i] = v
        total += v * v
    return total


@inner(*_LOOSE)
def scale(c, out, out_at, n):
    """``out = c out`` over i < n; returns its square sum."""
    out = out[out_at : out_at + n]
    total = 0.0
    for i in range(n):
        v = c * out[i]
        out[i] = v
        total += v * v
    return total


@inner(*_LOOSE)
def step(out, out_at, c, w, w_at, a, x, x_at, n):
    """``out = c w + a x`` over i < n, w and x apart from out; returns its square sum."""
    out = out[out_at : out_at + n]
    w = w[w_at : w_at + n]
    x = x[x_at : x_at + n]
    total = 0.0
    for i in range(n):
        v = c * w[i] + a * x[i]
        out[i] = v
        total += v * v
    return total


@inner(*_LOOSE)
def copy(out, out_at, a, x, x_at, n):
    """``out = a x`` over i < n, x apart from out; returns its square sum."""
    out = out[out_at : out_at + n]
    x = x[x_at : x_at + n]
    total = 0.0
    for i in range(n):
        v = a * x[i]
        out[i] = v
        total += v * v
    return total


@inner()
def orthonormalise(rows, rows_at, stride, count, n, tolerance, basis, basis_at, factor, factor_at):
    """Gram-Schmidt, twice: ``rows[k] = sum_i factor[i, k] basis[i]``, flat arrays.

    Row k of ``rows`` and ``basis`` starts at ``_at + k stride``, entry (i, k) of ``factor``
    is at ``factor_at + i count + k``. A row that the earlier ones span to within
    ``tolerance`` of its length gets a zero basis vector and a zero diagonal entry: it has
    no direction of its own.
    """
    for k in range(count):
        here = basis_at + k * stride
        for i in range(n):
            basis[here + i] = rows[rows_at + k * stride + i]
        size = np.sqrt(square_sum(basis, here, n))
        for i in range(count):
            factor[factor_at + i * count + k] = 0.0
        for _ in range(2):
            for i in range(k):
                if factor[factor_at + i * count + i] != 0.0:
                    there = basis_at + i * stride
                    c = dot(basis, there, basis, here, n)
                    factor[factor_at + i * count + k] += c
                    add_scaled(basis, here, -c, basis, there, n)
        left = np.sqrt(square_sum(basis, here, n))
        if left > tolerance * size:
            factor[factor_at + k * count + k] = left
            for i in range(n):
                basis[here + i] /= left
        else:
            for i in range(n):
                basis[here + i] = 0.0
