"""Single weights of any law, from addresses: what a dense matrix is made of.

Gaussian and uniform weights take a word each, Rademacher weights a bit. Heavy-tailed laws
take a whole counter each, so that their uniforms have 53 bits and the tail is not cut at
2^32 draws: Student's t by Bailey's polar formula (1994), which rejects nothing, the
symmetric stable law by Chambers, Mallows and Stuck (1976).
"""

import math

import numpy as np

from sigprop.kernels import philox
from sigprop.kernels.compiled import strict

__all__ = ["counters", "fill"]

_u32, _u64, _i32 = np.uint32, np.uint64, np.int32
GAUSSIAN, UNIFORM, RADEMACHER, STUDENT_T, STABLE = range(5)
_UNIFORM_STEP = math.sqrt(3.0) * 2.0**-31


@strict
def counters(law, count):
    """Counters that ``count`` weights of a law consume."""
    if law == STUDENT_T or law == STABLE:
        return (count + 3) // 4 * 4
    if law == RADEMACHER:
        return (count + 127) // 128 * 4
    return (count + 15) // 16 * 4


@strict
def _heavy(law, parameter, size, word, out, wanted):
    """Turn ``size`` counters into weights of a heavy-tailed law, one each."""
    for i in range(min(size, wanted)):
        high, low = _u64(word[i]), _u64(word[size + i])
        u = (np.float64(((high << _u64(32)) | low) >> _u64(11)) + 0.5) * 2.0**-53
        high, low = _u64(word[2 * size + i]), _u64(word[3 * size + i])
        v = (np.float64(((high << _u64(32)) | low) >> _u64(11)) + 0.5) * 2.0**-53
        if law == STUDENT_T:
            radius = math.sqrt(parameter * math.expm1(-2.0 / parameter * math.log(u)))
            out[i] = radius * math.cos(2.0 * math.pi * v)
        else:
            angle = math.pi * (v - 0.5)
            if parameter == 1.0:
                out[i] = math.tan(angle)
            else:
                rest = 1.0 - parameter
                out[i] = (
                    math.sin(parameter * angle)
                    / math.cos(angle) ** (1.0 / parameter)
                    * (math.cos(rest * angle) / -math.log(u)) ** (rest / parameter)
                )


@strict
def fill(law, parameter, key, layer, replica, purpose, start, count, scratch, out):
    """Fill ``out[:count]`` (and some padding) with weights at unit variance or scale.

    Parameters
    ----------
    law, parameter : int, float
        Code and parameter of the law; a Student t comes out standard.
    key, layer, replica, purpose : uint32[2], int, int, int
    start : int
        First counter; `counters` of ``count`` are consumed.
    out : float64[>= philox.padded(count) + 128]
    """
    word, single = scratch
    total = counters(law, count)
    done = 0
    made = 0
    while done < total:
        size = min(philox.CHUNK, total - done)
        philox.words(
            _u64(key[0]), _u64(key[1]), _u64(layer), _u64(replica), _u64(purpose),
            _u64(start + done), size, word,
        )  # fmt: skip
        if law == GAUSSIAN:
            philox.box_muller(2 * size, word, single)
            target = out[made : made + 4 * size]
            for i in range(4 * size):
                target[i] = single[i]
            made += 4 * size
        elif law == UNIFORM:
            target = out[made : made + 4 * size]
            for i in range(4 * size):
                target[i] = (np.float64(_i32(word[i])) + 0.5) * _UNIFORM_STEP
            made += 4 * size
        elif law == RADEMACHER:
            for i in range(4 * size):
                if made >= count:
                    break
                bits = word[i]
                target = out[made : made + 32]
                for b in range(32):
                    target[b] = 1.0 - 2.0 * np.float64(_i32(_u32(bits >> _u32(b)) & _u32(1)))
                made += 32
        else:
            _heavy(law, parameter, size, word, out[made:], count - made)
            made += size
        done += size
