"""Words, uniforms and normals from addresses: Philox4x32-10 and a branch-free Box-Muller.

A draw is found by its address: key (two words) and counter (position, layer, replica,
purpose). The four words of a counter go to four separate stretches of a block, so no
iteration depends on another and the ten rounds vectorise. Arithmetic is on 64-bit lanes of
which only the lower halves matter, which is the shape that one multiplication of the
processor takes.

Normals come in pairs, r (cos, sin), with r = sqrt(-2 log u). The 31 bits of u are turned
into a float both from 0 and from 1, so u has full relative accuracy at both ends; one of
the remaining bits of the second word is a sign, one exchanges the pair, 30 are the angle.
There is no rejection and no branch. The largest value is sqrt(2 log 2^32) = 6.66, which a
true normal passes with probability 3e-11 a draw: the law is truncated there and nowhere
else, and rounded to single precision.
"""

import math

import numba as nb
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sigprop.kernels.compiled import strict

__all__ = [
    "BACKWARD",
    "BIAS",
    "CHUNK",
    "DRAW",
    "FORWARD",
    "INPUT",
    "RETRY",
    "SLOPE",
    "TOP",
    "WEIGHT",
    "bits_float",
    "box_muller",
    "float_bits",
    "fma",
    "new_scratch",
    "new_words",
    "normals",
    "padded",
    "singles",
    "uniforms",
    "words",
]

# Purposes, the fourth word of the counter. A matrix or sub-stream j adds j << 8.
INPUT, FORWARD, BACKWARD, TOP, SLOPE, WEIGHT, BIAS, RETRY = range(8)

# Counters drawn at once: 1024 words, 4 KiB, stay in the first-level cache.
CHUNK = 240

# What holds draws of `singles`. Run as Python, the product of a single and a Python float is a
# single, and sums that cancel would lose what compiled kernels keep.
DRAW = np.float64 if nb.config.DISABLE_JIT else np.float32  # type: ignore[attr-defined]

_u32, _u64, _i32, _f32 = np.uint32, np.uint64, np.int32, np.float32
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


if nb.config.DISABLE_JIT:  # type: ignore[attr-defined]

    def float_bits(x):  # type: ignore[no-untyped-def]
        """The bits of a float32, as an int32."""
        return np.float32(x).view(np.int32)

    def bits_float(x):  # type: ignore[no-untyped-def]
        """The float32 of an int32's bits."""
        return np.int32(x).view(np.float32)

    def fma(x, y, z):  # type: ignore[no-untyped-def]
        """x y + z in float32, rounded once (a product of two float32 is exact in float64)."""
        return np.float32(np.float64(x) * np.float64(y) + np.float64(z))

else:

    @intrinsic
    def float_bits(typingctx, x):  # type: ignore[no-untyped-def]
        def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.bitcast(args[0], ir.IntType(32))

        return types.int32(types.float32), build

    @intrinsic
    def bits_float(typingctx, x):  # type: ignore[no-untyped-def]
        def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.bitcast(args[0], ir.FloatType())

        return types.float32(types.int32), build

    @intrinsic
    def fma(typingctx, x, y, z):  # type: ignore[no-untyped-def]
        def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.fma(*args)

        return types.float32(types.float32, types.float32, types.float32), build


def padded(count: int) -> int:
    """Smallest multiple of 16 not below ``count``: the size of a buffer of draws."""
    return -(-count // 16) * 16


@strict
def words(key0, key1, layer, replica, purpose, start, count, out):
    """Fill ``out[:4 * count]`` with the words of counters ``start .. start + count - 1``.

    All addresses are uint64 scalars; ``out`` is uint32. Word j of counter i stands at
    ``out[j * count + i]``.
    """
    first, second = out[0:count], out[count : 2 * count]
    third, fourth = out[2 * count : 3 * count], out[3 * count : 4 * count]
    for i in range(count):
        x0, x1, x2, x3 = start + _u64(i), layer, replica, purpose
        a, b = key0, key1
        for _ in range(10):
            p0, p1 = (x0 & _LOW) * _M0, (x2 & _LOW) * _M1
            # The upper halves fill with garbage that no multiplication reads.
            x0, x1 = (p1 >> _HALF) ^ x1 ^ a, p1
            x2, x3 = (p0 >> _HALF) ^ x3 ^ b, p0
            a, b = a + _W0, b + _W1
        first[i], second[i], third[i], fourth[i] = _u32(x0), _u32(x1), _u32(x2), _u32(x3)


@strict
def box_muller(half, word, out):
    """``2 half`` words to as many normals; a pair sits ``half`` apart."""
    radial, angular = word[0:half], word[half : 2 * half]
    left, right = out[0:half], out[half : 2 * half]
    for i in range(half):
        a, b = radial[i], angular[i]
        k = _i32(a >> _u32(1))
        # log((k + 1/2) / 2^31): exponent and mantissa in [sqrt(1/2), sqrt(2)) ...
        bits = float_bits(_f32(k) + _f32(0.5)) + _i32(0x3F800000 - 0x3F3504F3)
        exponent = _f32((bits >> _i32(23)) - _i32(127 + 31))
        mantissa = bits_float((bits & _i32(0x007FFFFF)) + _i32(0x3F3504F3))
        # ... or, near 1, from the distance to 1, which is exact.
        near = k > _i32(0x60000000)
        below = (_f32(_i32(0x7FFFFFFF) - k) + _f32(0.5)) * _f32(-(2.0**-31))
        f = below if near else mantissa - _f32(1.0)
        exponent = _f32(0.0) if near else exponent
        # Minimax polynomial of log(1 + f), the classical single-precision one (Cephes).
        p = _f32(7.0376836292e-2)
        p = fma(p, f, _f32(-1.1514610310e-1))
        p = fma(p, f, _f32(1.1676998740e-1))
        p = fma(p, f, _f32(-1.2420140846e-1))
        p = fma(p, f, _f32(1.4249322787e-1))
        p = fma(p, f, _f32(-1.6668057665e-1))
        p = fma(p, f, _f32(2.0000714765e-1))
        p = fma(p, f, _f32(-2.4999993993e-1))
        p = fma(p, f, _f32(3.3333331174e-1))
        g = f * f
        log = fma(exponent, _f32(0.6931471805599453), fma(p * f, g, fma(_f32(-0.5), g, f)))
        r = math.sqrt(_f32(-2.0) * log)
        # 30 bits of angle, theta in [-pi/4, pi/4).
        t = _f32(_i32(_u32(b << _u32(2)))) * _f32(math.pi / 2 * 2.0**-32)
        q = t * t
        s = _f32(-1.9515295891e-4)
        s = fma(s, q, _f32(8.3321608736e-3))
        s = fma(s, q, _f32(-1.6666654611e-1))
        s = fma(s * q, t, t)
        c = _f32(2.443315711809948e-5)
        c = fma(c, q, _f32(-1.388731625493765e-3))
        c = fma(c, q, _f32(4.166664568298827e-2))
        c = fma(c * q, q, fma(_f32(-0.5), q, _f32(1.0)))
        # The sine has both signs already; the cosine takes one from the top bit.
        cosine = c * bits_float(float_bits(r) | _i32(b & _u32(0x80000000)))
        sine = s * r
        swap = (b & _u32(0x40000000)) != _u32(0)
        left[i] = sine if swap else cosine
        right[i] = cosine if swap else sine


@strict
def normals(key, layer, replica, purpose, count, scratch, out):
    """Fill ``out[:padded(count)]`` with independent standard normals.

    Parameters
    ----------
    key : uint32[2]
    layer, replica, purpose : int
        The address; the positions 0 .. padded(count) / 4 - 1 are consumed.
    count : int
    scratch : (uint32[4 * CHUNK], float32[4 * CHUNK])
    out : float64[>= padded(count)], output
        Drawn in single precision and widened, which is cheaper than it looks: the states
        that they feed are in double precision.
    """
    word, single = scratch
    total = (count + 15) // 16 * 4
    start = 0
    while start < total:
        size = min(CHUNK, total - start)
        words(
            _u64(key[0]), _u64(key[1]), _u64(layer), _u64(replica), _u64(purpose),
            _u64(start), size, word,
        )  # fmt: skip
        box_muller(2 * size, word, single)
        target = out[4 * start : 4 * (start + size)]
        for i in range(4 * size):
            target[i] = single[i]
        start += size


@strict
def singles(key, layer, replica, purpose, count, word, out):
    """`normals` in single precision: the same numbers, ``out`` float32, ``word`` `new_words`."""
    total = (count + 15) // 16 * 4
    start = 0
    while start < total:
        size = min(CHUNK, total - start)
        words(
            _u64(key[0]), _u64(key[1]), _u64(layer), _u64(replica), _u64(purpose),
            _u64(start), size, word,
        )  # fmt: skip
        box_muller(2 * size, word, out[4 * start : 4 * (start + size)])
        start += size


@strict
def uniforms(key, layer, replica, purpose, count, scratch, out):
    """Fill ``out[:padded(count)]`` with independent uniforms on (-1, 1), float64.

    A value is (2k + 1) / 2^24 with k uniform on -2^23 .. 2^23 - 1: symmetric, never 0.
    The arguments are those of `normals`.
    """
    word = scratch[0]
    total = (count + 15) // 16 * 4
    start = 0
    while start < total:
        size = min(CHUNK, total - start)
        words(
            _u64(key[0]), _u64(key[1]), _u64(layer), _u64(replica), _u64(purpose),
            _u64(start), size, word,
        )  # fmt: skip
        target = out[4 * start : 4 * (start + size)]
        for i in range(4 * size):
            k = _i32(word[i]) >> _i32(8)
            target[i] = (_f32(k) + _f32(0.5)) * _f32(2.0**-23)
        start += size


@strict
def new_scratch():
    """Allocate what `normals` and `uniforms` work in."""
    return np.empty(4 * CHUNK, np.uint32), np.empty(4 * CHUNK, np.float32)


@strict
def new_words():
    """Allocate what `singles` works in."""
    return np.empty(4 * CHUNK, np.uint32)
