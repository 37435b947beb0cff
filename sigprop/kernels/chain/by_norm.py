"""A branch added to the trunk and taken back, where only lengths are wanted."""

import math

import numpy as np

from sigprop.kernels.chain import lengths
from sigprop.kernels.compiled import inner
from sigprop.kernels.lanes import LANES

__all__ = ["land", "step", "turn"]

_f32 = np.float32
_FAST = ("contract",)


@inner(*_FAST)
def step(c, a, sigma2, z, rest, along, across, log_size, ratio, change, square):
    """h' = c h + a y with y = (sigma z, sigma sqrt(X)) along and across h."""
    cc, g, f = _f32(c), _f32(a), _f32(2.0 * c * a)
    for i in range(LANES):
        sigma = math.sqrt(sigma2[i])
        along[i] = sigma * z[i]
        across[i] = sigma * math.sqrt(rest[i])
        change[i] = f * along[i] + g * g * (along[i] * along[i] + across[i] * across[i])
        u, v = cc + g * along[i], g * across[i]
        square[i] = u * u + v * v
    lengths.grow(c, change, square, log_size, ratio)


@inner(*_FAST)
def turn(c, a, along, across, p1, p2, z, rest, has_rest, ph, r2, eta):
    """Rotate the gradient from h' to the plane of (h, y): norms only.

    p1 is the part along h', p2 the square of the rest; afterwards ph is the part along h,
    r2 the square of what is across it, eta = y.p.
    """
    cc, g = _f32(c), _f32(a)
    flag = _f32(1.0 if has_rest else 0.0)
    for i in range(LANES):
        u, v = cc + g * along[i], g * across[i]
        inverse = _f32(1.0) / math.sqrt(u * u + v * v)
        cosine, sine = u * inverse, v * inverse
        norm = z[i] * z[i] + rest[i]
        t = z[i] / math.sqrt(norm) * flag if norm > _f32(0.0) else _f32(0.0)
        tau2 = p2[i] * t * t
        tau = math.sqrt(p2[i]) * t
        ph[i] = p1[i] * cosine - tau * sine
        pe = p1[i] * sine + tau * cosine
        eta[i] = along[i] * ph[i] + across[i] * pe
        r2[i] = max(p2[i] - tau2, _f32(0.0)) + pe * pe


@inner(*_FAST)
def land(c, a, scale, q2, ph, r2, eta, z, rest, has_rest, p1, p2, change):
    """p = c p' + a W_1^T q_1, norms only; ``change`` is |p|^2 - c^2 for |p'| = 1."""
    cc, g, s = _f32(c), _f32(a), _f32(abs(a) * scale)
    flag = _f32(1.0 if has_rest else 0.0)
    for i in range(LANES):
        k = s * math.sqrt(q2[i])
        b = g * eta[i]
        w = k * z[i] * flag
        r = cc * math.sqrt(r2[i])
        p1[i] = cc * ph[i] + b
        fresh = k * k * rest[i]
        p2[i] = (r + w) * (r + w) + fresh
        change[i] = b * (_f32(2.0) * cc * ph[i] + b) + w * (_f32(2.0) * r + w) + fresh
