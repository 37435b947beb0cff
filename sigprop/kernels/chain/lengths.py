"""Lengths as logarithms, accumulated from the relative change of a layer."""

import math

import numpy as np

from sigprop.kernels import lanes
from sigprop.kernels.compiled import inner
from sigprop.kernels.lanes import LANES

__all__ = ["fill", "grow", "lift", "log_length"]

_f32 = np.float32
_FAST = ("contract",)


@inner(*_FAST)
def grow(c, change, square, log_size, ratio):
    """``log_size += log |h'| / |h|`` from |h'|^2 / |h|^2 = square = c^2 + change, given both
    ways because either may cancel; ratio = |h'| / |h|."""
    inverse = _f32(1.0 / (c * c))
    base = math.log(abs(c))
    for i in range(LANES):
        log_size[i] += base + 0.5 * np.float64(
            lanes.log1p(change[i] * inverse, square[i] * inverse)
        )
        ratio[i] = math.sqrt(square[i])


@inner()
def lift(log_size, out):
    """exp(-log_size) in single precision."""
    for i in range(LANES):
        out[i] = math.exp(-log_size[i])


@inner(*_FAST)
def fill(row, value):
    v = _f32(value)
    for i in range(LANES):
        row[i] = v


@inner()
def log_length(parts, logarithm):
    """log sqrt(parts) + max(logarithm, 0), -inf for 0."""
    return (
        0.5 * math.log(parts) + max(logarithm, 0.0)
        if parts > 0.0
        else (-math.inf if parts == 0.0 else math.nan)
    )
