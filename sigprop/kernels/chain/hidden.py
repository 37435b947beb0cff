"""One hidden layer, ahead and back, and the draws of a layer: see the package for the equations."""

import math

import numpy as np

from sigprop.kernels import lanes, philox
from sigprop.kernels.compiled import inner
from sigprop.kernels.lanes import LANES

__all__ = ["activate", "ahead", "back", "bias_eta", "draw", "radius"]

_f32, _u64 = np.float32, np.uint64
_FAST = ("contract",)


@inner()
def draw(key, layer, first, purpose, count_normals, count_rest, word, z):
    """Words of a layer: normals in rows 0 .., then ``count_rest`` rows of plain words."""
    pairs = (count_normals + 1) // 2
    rows = 2 * pairs + count_rest
    for slot in range((rows + 3) // 4):
        lanes.words(_u64(key[0]), _u64(key[1]), slot, layer, _u64(first), purpose, 4 * slot, word)
    lanes.normals(pairs, word, z)
    return 2 * pairs


@inner(*_FAST)
def activate(slope, n, squared, count, plus, minus, out, cosine, sine):
    """A_new, and for a leaky unit ct and sn, from T^2 and the two chi-squares."""
    s = _f32(slope)
    if slope == 0.0:
        for i in range(LANES):
            out[i] = math.sqrt(squared[i] * plus[i])
    else:
        for i in range(LANES):
            p, q = plus[i], s * s * minus[i]
            total = p + q
            out[i] = math.sqrt(squared[i] * total)
            inverse = _f32(1.0) / total if total > _f32(0.0) else _f32(0.0)
            cosine[i] = math.sqrt(p * inverse)
            sine[i] = math.sqrt(q * inverse)


@inner(*_FAST)
def _count_rest(n, count, drop, out):
    """``n - count - drop`` degrees of freedom."""
    total = _f32(n - drop)
    for i in range(LANES):
        out[i] = total - count[i]


@inner()
def ahead(
    slope, n, squared, word, z, z_at, word_at, cumulative, table_at, table_low, key, layer, first,
    slot, tape, row, degrees, plus, minus,
):  # fmt: skip
    """One hidden layer: writes count, A (, ct, sn) to ``tape[row ..]``; T^2 is ``squared``.

    Returns the rows of normals and of words consumed.
    """
    leaky = slope != 0.0
    count = tape[row]
    used = lanes.binomial_half(n, word, word_at, cumulative, table_at, table_low, count)
    for i in range(LANES):
        # Where nothing comes in, nothing is on.
        count[i] = count[i] if squared[i] > _f32(0.0) else _f32(0.0)
    lanes.chi_square(
        count, z[z_at], word[word_at + used], key, layer, first, philox.FORWARD, slot, plus
    )
    if not leaky:
        activate(slope, n, squared, count, plus, plus, tape[row + 1], plus, plus)
        return 1, used + 1
    _count_rest(n, count, 0, degrees)
    lanes.chi_square(
        degrees, z[z_at + 1], word[word_at + used + 1], key, layer, first, philox.FORWARD,
        slot + 1, minus,
    )  # fmt: skip
    activate(slope, n, squared, count, plus, minus, tape[row + 1], tape[row + 2], tape[row + 3])
    return 2, used + 2


@inner(*_FAST)
def back(slope, n, count, a, cosine, sine, eta, k2, z, plus, minus, out):
    """|q_new|^2 of a hidden layer from eta and k^2 = s_w^2 |q|^2; dead lanes give 0."""
    s = _f32(slope)
    full = _f32(n)
    if slope == 0.0:
        for i in range(LANES):
            alive = a[i] > _f32(0.0)
            e = eta[i] / a[i] if alive else _f32(0.0)
            out[i] = e * e + k2[i] * plus[i] if alive else _f32(0.0)
    else:
        for i in range(LANES):
            alive = a[i] > _f32(0.0)
            e = eta[i] / a[i] if alive else _f32(0.0)
            mixed = (count[i] > _f32(0.0)) & (count[i] < full)
            w = math.sqrt(k2[i]) * z[i] if mixed else _f32(0.0)
            x = cosine[i] * e - sine[i] * w
            y = sine[i] * e + cosine[i] * w
            q = x * x + k2[i] * plus[i] + s * s * (y * y + k2[i] * minus[i])
            out[i] = q if alive else _f32(0.0)


@inner(*_FAST)
def bias_eta(eta, kappa, lift, bias, q2, z):
    """(1 - kappa) eta - s_b sqrt(1 - kappa) |q| z, in place; ``lift`` is e^-lambda."""
    b = _f32(bias)
    for i in range(LANES):
        left = max(_f32(1.0) - kappa[i], _f32(0.0))
        eta[i] = left * eta[i] - b * lift[i] * math.sqrt(left * q2[i]) * z[i]


@inner(*_FAST)
def radius(scale, bias, size, lift, kappa, out):
    """T^2 = s_w^2 A^2 + s_b^2 e^-2lambda and, with a bias, kappa."""
    s, b = _f32(scale), _f32(bias)
    if bias == 0.0:
        for i in range(LANES):
            out[i] = s * s * size[i] * size[i]
            kappa[i] = _f32(0.0)
    else:
        for i in range(LANES):
            w, f = s * size[i], b * lift[i]
            total = w * w + f * f
            out[i] = total
            kappa[i] = f * f / total if total > _f32(0.0) else _f32(0.0)
