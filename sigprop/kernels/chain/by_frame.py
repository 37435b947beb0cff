"""A branch added to the trunk and taken back, in the plane of h_0 and h: displacements too."""

import math

import numpy as np

from sigprop.kernels.chain import lengths
from sigprop.kernels.compiled import inner
from sigprop.kernels.lanes import LANES

__all__ = ["land", "step", "turn"]

_f32 = np.float32
_FAST = ("contract",)


@inner(*_FAST)
def step(
    c, a, sigma2, z, z2, rest, has_plane, yx, yk, yz, x, xi, log_size, ratio, change, square, far,
    inverse,
):  # fmt: skip
    """The same with the displacement: h = x e + xi eps, far = h.e - |h_0| in its own units.

    ``inverse`` is e^-lambda in double precision; ``far`` is in units of max(1, e^lambda).
    """
    g, f, cc = _f32(a), _f32(2.0 * c * a), _f32(c)
    plane = _f32(1.0 if has_plane else 0.0)
    for i in range(LANES):
        sigma = math.sqrt(sigma2[i])
        yx[i] = sigma * z[i]
        yk[i] = sigma * z2[i] * plane
        yz[i] = sigma * math.sqrt(rest[i])
        change[i] = f * (x[i] * yx[i] + xi[i] * yk[i]) + g * g * (
            yx[i] * yx[i] + yk[i] * yk[i] + yz[i] * yz[i]
        )
        u, v, w = cc * x[i] + g * yx[i], cc * xi[i] + g * yk[i], g * yz[i]
        square[i] = u * u + v * v + w * w
    lengths.grow(c, change, square, log_size, ratio)
    for i in range(LANES):
        before = inverse[i]
        after = before / np.float64(ratio[i])
        unit = 1.0 / before if before > 1.0 else 1.0
        one = before if before < 1.0 else 1.0
        value = c * far[i] + (c - 1.0) * one + a * np.float64(yx[i]) * unit
        if before < 1.0 and after < 1.0:
            factor = 1.0 / np.float64(ratio[i])
        else:
            factor = min(after, 1.0) / one
        far[i] = value * factor
        inverse[i] = after
    for i in range(LANES):
        v = cc * xi[i] + g * yk[i]
        w = g * yz[i]
        down = _f32(1.0) / ratio[i]
        x[i] = (cc * x[i] + g * yx[i]) * down
        xi[i] = math.sqrt(v * v + w * w) * down


@inner(*_FAST)
def turn(
    c, a, xi, yx, yk, yz, pe, pk, pp, de, dk, dd, pd, z, z2, rest, dimensions, qk, rp, eta, ek,
    rd, rpd,
):  # fmt: skip
    """Rotate the gradient p and its displacement D = p - p_L into the plane of (eps, y).

    (pe, pk, pp) and (de, dk, dd) are the parts along h_0, along eps' and the square of the
    rest, pd the product of the two rests; qk, rp and ek, rd, rpd are the same afterwards.
    """
    cc, g = _f32(c), _f32(a)
    third = _f32(1.0 if dimensions >= 3 else 0.0)
    fourth = _f32(1.0 if dimensions >= 4 else 0.0)
    for i in range(LANES):
        u, v = cc * xi[i] + g * yk[i], g * yz[i]
        square = u * u + v * v
        inverse = _f32(1.0) / math.sqrt(square) if square > _f32(0.0) else _f32(0.0)
        cosine = u * inverse if square > _f32(0.0) else _f32(1.0)
        sine = v * inverse
        norm = z[i] * z[i] + fourth * z2[i] * z2[i] + rest[i]
        scale = third / math.sqrt(norm) if norm > _f32(0.0) else _f32(0.0)
        t1, t2 = z[i] * scale, z2[i] * scale * fourth
        length = math.sqrt(pp[i])
        along = pd[i] / length if length > _f32(0.0) else _f32(0.0)
        tau = length * t1
        tau_d = along * t1 + math.sqrt(max(dd[i] - along * along, _f32(0.0))) * t2
        qk[i] = pk[i] * cosine - tau * sine
        qz = pk[i] * sine + tau * cosine
        ek[i] = dk[i] * cosine - tau_d * sine
        ez = dk[i] * sine + tau_d * cosine
        eta[i] = yx[i] * pe[i] + yk[i] * qk[i] + yz[i] * qz
        rp[i] = max(pp[i] - tau * tau, _f32(0.0)) + qz * qz
        rd[i] = max(dd[i] - tau_d * tau_d, _f32(0.0)) + ez * ez
        rpd[i] = pd[i] - tau * tau_d + qz * ez


@inner(*_FAST)
def land(
    c, a, scale, q2, x, xi, pe, qk, rp, eta, de, ek, rd, rpd, z0, z1, z2, rest, dimensions,
    unit, pk, pp, dk, dd, pd, change,
):  # fmt: skip
    """p = c p' + a W_1^T q_1 and D = p - p_L, in the frame of (h_0, eps).

    ``unit`` is the unit of p over that of D. Overwrites pe, de and fills the rest.
    """
    cc, g, s = _f32(c), _f32(a), _f32(abs(a) * scale)
    less = _f32(c - 1.0)
    second = _f32(1.0 if dimensions >= 2 else 0.0)
    third = _f32(1.0 if dimensions >= 3 else 0.0)
    fourth = _f32(1.0 if dimensions >= 4 else 0.0)
    for i in range(LANES):
        r2 = x[i] * x[i] + xi[i] * xi[i]
        inverse = _f32(1.0) / r2
        root = math.sqrt(inverse)
        k = s * math.sqrt(q2[i])
        b = g * eta[i] * inverse
        w = k * z0[i] * second * root
        to_e = b * x[i] - w * xi[i]
        to_k = b * xi[i] + w * x[i]
        f = unit[i]
        before_e, before_k = pe[i], qk[i]
        pe[i] = cc * before_e + to_e
        pk[i] = cc * before_k + to_k
        de[i] = de[i] + f * (less * before_e + to_e)
        dk[i] = ek[i] + f * (less * before_k + to_k)
        # The rest, with p along the first axis.
        length = math.sqrt(rp[i])
        along = rpd[i] / length if length > _f32(0.0) else _f32(0.0)
        across = math.sqrt(max(rd[i] - along * along, _f32(0.0))) * fourth
        u, v = k * z1[i] * third, k * z2[i] * fourth
        fresh = k * k * rest[i]
        p_u = cc * length + u
        pp[i] = p_u * p_u + v * v + fresh
        d_u = along + f * (less * length + u)
        d_v = across + f * v
        dd[i] = d_u * d_u + d_v * d_v + f * f * fresh
        pd[i] = p_u * d_u + v * d_v + f * fresh
        change[i] = (
            to_e * (_f32(2.0) * cc * before_e + to_e)
            + to_k * (_f32(2.0) * cc * before_k + to_k)
            + u * (_f32(2.0) * cc * length + u)
            + v * v
            + fresh
        )
