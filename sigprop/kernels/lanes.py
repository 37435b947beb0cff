"""Draws for 256 replicas at a time: one replica a lane, each from its own address.

The chain sampler needs a handful of draws a layer and replica, so it walks many replicas
abreast. Row i of a draw belongs to a lane each; a lane's numbers depend on its replica and
not on its neighbours.

Chi-squares are sampled by Marsaglia and Tsang (2000). The cheap acceptance test here is
sharper than theirs: with eps = c x the exact criterion is

    -log u > 3 d (eps^4 / 4 - eps^5 / 5 + ...),

whose right side is at most x^4 / (27 d) (1/4 + 2 |eps| / 5) for |eps| <= 1/2, so that at
50 degrees of freedom one draw in a thousand goes on to the logarithm, in double precision,
and to further attempts at addresses of its own.
"""

import math

import numpy as np

from sigprop.kernels import philox
from sigprop.kernels.compiled import inner, strict

__all__ = [
    "LANES",
    "TABLE_FROM",
    "binomial_half",
    "chi_square",
    "chi_square_same",
    "log1p",
    "normals",
    "words",
]

LANES = 256
# Binomials of more trials are found in a table of their distribution function.
TABLE_FROM = 128

_u32, _u64, _i32, _f32 = np.uint32, np.uint64, np.int32, np.float32
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@strict
def words(key0, key1, slot, layer, first, purpose, row, out):
    """Four rows of words, ``out[row .. row + 3]``: lane i at address (slot, layer, first + i)."""
    a_row, b_row, c_row, d_row = out[row], out[row + 1], out[row + 2], out[row + 3]
    for i in range(LANES):
        x0, x1, x2, x3 = _u64(slot), _u64(layer), first + _u64(i), _u64(purpose)
        a, b = key0, key1
        for _ in range(10):
            p0 = (x0 & _LOW) * _u64(0xD2511F53)
            p1 = (x2 & _LOW) * _u64(0xCD9E8D57)
            x0, x1 = (p1 >> _HALF) ^ x1 ^ a, p1
            x2, x3 = (p0 >> _HALF) ^ x3 ^ b, p0
            a, b = a + _u64(0x9E3779B9), b + _u64(0xBB67AE85)
        a_row[i], b_row[i], c_row[i], d_row[i] = _u32(x0), _u32(x1), _u32(x2), _u32(x3)


@strict
def normals(pairs, word, out):
    """Rows ``0 .. 2 pairs - 1`` of words to as many rows of normals."""
    half = pairs * LANES
    philox.box_muller(half, word.reshape(-1), out.reshape(-1))


@inner()
def log1p(t, u):
    """log(u), u = 1 + t, to single precision relative to t where t is small, to u elsewhere."""
    bits = philox.float_bits(u) + _i32(0x3F800000 - 0x3F3504F3)
    exponent = _f32((bits >> _i32(23)) - _i32(127))
    mantissa = philox.bits_float((bits & _i32(0x007FFFFF)) + _i32(0x3F3504F3))
    near = abs(t) < _f32(0.29)
    f = t if near else mantissa - _f32(1.0)
    exponent = _f32(0.0) if near else exponent
    p = _f32(7.0376836292e-2)
    p = philox.fma(p, f, _f32(-1.1514610310e-1))
    p = philox.fma(p, f, _f32(1.1676998740e-1))
    p = philox.fma(p, f, _f32(-1.2420140846e-1))
    p = philox.fma(p, f, _f32(1.4249322787e-1))
    p = philox.fma(p, f, _f32(-1.6668057665e-1))
    p = philox.fma(p, f, _f32(2.0000714765e-1))
    p = philox.fma(p, f, _f32(-2.4999993993e-1))
    p = philox.fma(p, f, _f32(3.3333331174e-1))
    g = f * f
    return philox.fma(
        exponent, _f32(0.6931471805599453), philox.fma(p * f, g, philox.fma(_f32(-0.5), g, f))
    )


@strict
def _philox_scalar(key, slot, layer, replica, purpose):
    x0, x1, x2, x3 = _u64(slot), _u64(layer), _u64(replica), _u64(purpose)
    a, b = _u64(key[0]), _u64(key[1])
    for _ in range(10):
        p0 = (x0 & _LOW) * _u64(0xD2511F53)
        p1 = (x2 & _LOW) * _u64(0xCD9E8D57)
        x0, x1 = (p1 >> _HALF) ^ x1 ^ a, p1
        x2, x3 = (p0 >> _HALF) ^ x3 ^ b, p0
        a, b = a + _u64(0x9E3779B9), b + _u64(0xBB67AE85)
    return x0 & _LOW, x1 & _LOW, x2 & _LOW


@strict
def _chi_square_slowly(degrees, x, u, key, layer, replica, purpose, slot):
    """Finish one chi-square in double precision: exact test, then further attempts."""
    if degrees <= 0.0:
        return 0.0
    if degrees == 1.0:
        return x * x
    d = 0.5 * degrees - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    attempt = 0
    while True:
        v = 1.0 + c * x
        if v > 0.0:
            v = v * v * v
            if math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
                return 2.0 * d * v
        attempt += 1
        a, b, e = _philox_scalar(
            key, slot * 1024 + attempt, layer, replica, philox.RETRY + 256 * purpose
        )
        radius = math.sqrt(-2.0 * math.log((np.float64(a) + 0.5) * 2.0**-32))
        x = radius * math.cos(2.0 * math.pi * (np.float64(b) + 0.5) * 2.0**-32)
        u = (np.float64(e) + 0.5) * 2.0**-32


@strict
def chi_square(degrees, x, word, key, layer, first, purpose, slot, out):
    """``out[i]`` chi-square with ``degrees[i]`` degrees of freedom (0 where <= 0), float32.

    Consumes a row ``x`` of normals and a row ``word`` of words; ``slot`` tells the draws of
    one layer and purpose apart in the addresses of further attempts.
    """
    failures = 0
    for i in range(LANES):
        d = max(_f32(0.5) * degrees[i] - _f32(1.0 / 3.0), _f32(0.25))
        c = _f32(1.0) / math.sqrt(_f32(9.0) * d)
        eps = c * x[i]
        v = _f32(1.0) + eps
        square = x[i] * x[i]
        size = abs(eps)
        bound = square * square * (_f32(0.25) + _f32(0.4) * size) / (_f32(27.0) * d)
        u = (_f32(_i32(word[i] >> _u32(8))) + _f32(0.5)) * _f32(2.0**-24)
        fine = (u < _f32(1.0) - bound) & (size < _f32(0.5)) & (degrees[i] > _f32(1.5))
        out[i] = _f32(2.0) * d * v * v * v if fine else _f32(-1.0)
        failures += _i32(0) if fine else _i32(1)
    if failures:
        for i in range(LANES):
            if out[i] < 0.0:
                u = (np.float64(word[i] >> _u32(8)) + 0.5) * 2.0**-24
                out[i] = _chi_square_slowly(
                    np.float64(degrees[i]), np.float64(x[i]), u, key, layer, first + i, purpose,
                    slot,
                )  # fmt: skip


@strict
def chi_square_same(degrees, x, word, key, layer, first, purpose, slot, out):
    """`chi_square` where all lanes have the same ``degrees``."""
    if degrees <= 0:
        for i in range(LANES):
            out[i] = _f32(0.0)
        return
    if degrees == 1:
        for i in range(LANES):
            out[i] = x[i] * x[i]
        return
    d = _f32(0.5 * degrees - 1.0 / 3.0)
    c = _f32(1.0 / math.sqrt(9.0 * (0.5 * degrees - 1.0 / 3.0)))
    inverse = _f32(1.0) / (_f32(27.0) * d)
    failures = 0
    for i in range(LANES):
        eps = c * x[i]
        v = _f32(1.0) + eps
        square = x[i] * x[i]
        size = abs(eps)
        bound = square * square * (_f32(0.25) + _f32(0.4) * size) * inverse
        u = (_f32(_i32(word[i] >> _u32(8))) + _f32(0.5)) * _f32(2.0**-24)
        fine = (u < _f32(1.0) - bound) & (size < _f32(0.5))
        out[i] = _f32(2.0) * d * v * v * v if fine else _f32(-1.0)
        failures += _i32(0) if fine else _i32(1)
    if failures:
        for i in range(LANES):
            if out[i] < 0.0:
                u = (np.float64(word[i] >> _u32(8)) + 0.5) * 2.0**-24
                out[i] = _chi_square_slowly(
                    float(degrees), np.float64(x[i]), u, key, layer, first + i, purpose, slot
                )


@strict
def _add_bits(word, mask, out):
    """``out += popcount(word & mask)``, by adding neighbours."""
    for i in range(LANES):
        v = word[i] & mask
        v = _u32(v - (_u32(v >> _u32(1)) & _u32(0x55555555)))
        v = _u32((v & _u32(0x33333333)) + (_u32(v >> _u32(2)) & _u32(0x33333333)))
        v = _u32(_u32(v + _u32(v >> _u32(4))) & _u32(0x0F0F0F0F))
        v = _u32(_u32(v * _u32(0x01010101)) >> _u32(24))
        out[i] += _f32(_i32(v))


@strict
def binomial_half(n, word, row, cumulative, at, lowest, out):
    """``out[i]`` ~ Bin(n, 1/2); returns the number of rows of words consumed.

    Up to TABLE_FROM trials the coins are tossed, 32 a word. Beyond, one word is looked up in
    ``cumulative[at:]``, P(count <= lowest + k) for k = 0, 1, ..., to within 2^-32.
    """
    if n <= TABLE_FROM:
        for i in range(LANES):
            out[i] = _f32(0.0)
        used = (n + 31) // 32
        for w in range(used):
            left = n - 32 * w
            mask = _u32(0xFFFFFFFF) if left >= 32 else _u32((1 << left) - 1)
            _add_bits(word[row + w], mask, out)
        return used
    source = word[row]
    size = np.int64(cumulative[at])
    guide = at + 1
    table = guide + 257
    for i in range(LANES):
        u = (np.float64(source[i]) + 0.5) * 2.0**-32
        bucket = np.int64(source[i] >> _u32(24))
        low, high = np.int64(cumulative[guide + bucket]), np.int64(cumulative[guide + bucket + 1])
        high = min(high, size - 1)
        while low < high:
            middle = (low + high) // 2
            if cumulative[table + middle] > u:
                high = middle
            else:
                low = middle + 1
        out[i] = _f32(lowest + low)
    return 1
