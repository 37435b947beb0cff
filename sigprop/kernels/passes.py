"""What the passes of conditional and dense samplers share: inputs, units, recording.

States and gradients of K inputs are flat float64 arrays, row k starting at k ``longest``,
in units of a power of two, ``h = array 2^shift``: rescaling is exact, and no depth
overflows or underflows.
"""

import math

from sigprop.kernels import philox, vectors
from sigprop.kernels.compiled import inner, strict

__all__ = [
    "compare",
    "cosine",
    "draw_inputs",
    "draw_slopes",
    "inverse_power",
    "log_norm",
    "longest",
    "measure_inputs",
    "record_gradient",
    "record_state",
    "rescale",
    "subtract_mean",
]

_SMALL, _LARGE = 2.0**-20, 2.0**20
_LOG_2 = math.log(2.0)


@inner()
def inverse_power(shift):
    """2^-shift, the unit of a bias; finite, so that no bias (0) stays none at any depth."""
    return math.ldexp(1.0, int(min(-shift, 1000)))


@strict
def longest(fan_in, fan_out):
    """Size of a row: the widest layer, one more for a bias, padded for the generator."""
    widest = 1
    for layer in range(fan_in.shape[0]):
        for j in range(fan_in.shape[1]):
            widest = max(widest, fan_in[layer, j], fan_out[layer, j])
    return (widest + 16) // 16 * 16


@inner()
def rescale(rows, rows_at, count, stride, n, shift, size):
    """Bring the largest row, of norm ``size``, back to about 1; returns the new exponent."""
    if size == 0.0 or not size < math.inf or _SMALL < size < _LARGE:
        return shift
    exponent = math.frexp(size)[1]
    factor = math.ldexp(1.0, int(-exponent))
    for k in range(count):
        for i in range(n):
            rows[rows_at + k * stride + i] *= factor
    return shift + exponent


@inner()
def subtract_mean(x, x_at, n):
    """Centre n entries; returns their square sum."""
    m = vectors.mean(x, x_at, n)
    for i in range(n):
        x[x_at + i] -= m
    return vectors.square_sum(x, x_at, n)


@strict
def draw_slopes(key, bounds, layer, replica, which, n, scratch, out):
    """What the units of activation ``which`` of a layer do: negative slopes, as a rule.

    The bounds are (low, high, keep, turned): a slope is uniform between the first two, a unit
    that is dropped gets inf, a turned one -inf. One uniform tells both what happens and, stretched
    over the chance that the unit is kept, its slope.
    """
    philox.uniforms(key, layer, replica, philox.SLOPE + 256 * which, n, scratch, out)
    low, high, keep, turned = bounds
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    if keep == 1.0 and turned == 0.0:
        for i in range(n):
            out[i] = middle + half * out[i]
        return
    for i in range(n):
        chance = 0.5 + 0.5 * out[i]
        value = low + (high - low) * (chance / keep)
        value = -math.inf if chance < turned else value
        out[i] = math.inf if chance >= keep else value


# What is done once a replica or at recorded layers only is strict, so that it is compiled once
# and not merged into every kernel; several partial sums keep it from waiting for every addition.


@strict
def _dot(x, x_at, y, y_at, n):
    """Sum of ``x y`` over n entries."""
    x, y = x[x_at : x_at + n], y[y_at : y_at + n]
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    e, f, g, h = 0.0, 0.0, 0.0, 0.0
    whole = n // 8 * 8
    for i in range(0, whole, 8):
        a += x[i] * y[i]
        b += x[i + 1] * y[i + 1]
        c += x[i + 2] * y[i + 2]
        d += x[i + 3] * y[i + 3]
        e += x[i + 4] * y[i + 4]
        f += x[i + 5] * y[i + 5]
        g += x[i + 6] * y[i + 6]
        h += x[i + 7] * y[i + 7]
    for i in range(whole, n):
        a += x[i] * y[i]
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@strict
def _apart(x, x_at, f, y, y_at, g, n):
    """|f x - g y| and |f x|^2 - |g y|^2, the second without cancellation when they are close."""
    square, along = 0.0, 0.0
    other, further = 0.0, 0.0
    whole = n // 2 * 2
    for i in range(0, whole, 2):
        u, v = g * y[y_at + i], g * y[y_at + i + 1]
        a, b = f * x[x_at + i] - u, f * x[x_at + i + 1] - v
        square += a * a
        other += b * b
        along += a * (2.0 * u + a)
        further += b * (2.0 * v + b)
    if whole < n:
        u = g * y[y_at + whole]
        a = f * x[x_at + whole] - u
        square += a * a
        along += a * (2.0 * u + a)
    return math.sqrt(square + other), along + further


@strict
def _orthonormal(rows, stride, count, n, basis):
    """Gram-Schmidt, twice: an orthonormal basis of linearly independent rows."""
    for k in range(count):
        here = k * stride
        for i in range(n):
            basis[here + i] = rows[here + i]
        for _ in range(2):
            for other in range(k):
                there = other * stride
                c = _dot(basis, there, basis, here, n)
                for i in range(n):
                    basis[here + i] -= c * basis[there + i]
        size = math.sqrt(_dot(basis, here, basis, here, n))
        for i in range(n):
            basis[here + i] /= size


@strict
def draw_inputs(frame, given, random, key, replica, n, scratch, raw, basis, stride, out):
    """Rows of ``out``: given vectors, or sqrt(n) times a frame of random orthonormal ones."""
    if not random:
        for k in range(given.shape[0]):
            for i in range(n):
                out[k * stride + i] = given[k, i]
        return
    count = frame.shape[0]
    philox.normals(key, 0, replica, philox.INPUT, count * n, scratch, raw)
    for k in range(count):
        for i in range(n):
            out[k * stride + i] = raw[k * n + i]
    _orthonormal(out, stride, count, n, basis)
    root = math.sqrt(n)
    for k in range(count):
        for i in range(n):
            total = 0.0
            for j in range(count):
                total += frame[k, j] * basis[j * stride + i]
            out[k * stride + i] = root * total


@strict
def measure_inputs(start, count, stride, n, norms, distances):
    """Bring the inputs to a norm about 1 by a power of two, and measure them there.

    Fills their norms and the distances of their pairs, in these units; returns the exponent.
    """
    largest = 0.0
    for k in range(count):
        for i in range(n):
            largest = max(largest, abs(start[k * stride + i]))
    origin = math.frexp(largest)[1]
    for k in range(count):
        for i in range(n):
            start[k * stride + i] = math.ldexp(start[k * stride + i], int(-origin))
    pair = 0
    for k in range(count):
        norms[k] = math.sqrt(_dot(start, k * stride, start, k * stride, n))
        for other in range(k + 1, count):
            distances[pair] = _apart(start, k * stride, 1.0, start, other * stride, 1.0, n)[0]
            pair += 1
    return origin


@strict
def log_norm(square, shift, norm):
    """log |x| / norm, where |x|^2 is ``square`` in units of 2^shift."""
    if square > 0.0:
        return 0.5 * math.log(square) + shift * _LOG_2 - math.log(norm)
    return -math.inf if square == 0.0 else math.nan


@strict
def compare(x, x_at, square, shift, y, y_at, y_norm, n, displaced):
    """(log |x| / |y|, log |x - y| / |y|) for x in units 2^shift; the second if ``displaced``.

    ``square`` is |x|^2.
    """
    log_size = log_norm(square, shift, y_norm)
    if not displaced:
        return log_size, 0.0
    # Units in which neither of the two overflows.
    lift = max(shift, 0)
    f, g = math.ldexp(1.0, int(max(shift - lift, -1070))), math.ldexp(1.0, int(max(-lift, -1070)))
    far, along = _apart(x, x_at, f, y, y_at, g, n)
    if far == 0.0:
        return 0.0, -math.inf
    if far < 1e-3 * y_norm * g:
        # Close by, the norm is read off the displacement, without cancellation.
        base = y_norm * g
        log_size = 0.5 * math.log1p(along / (base * base))
    return log_size, math.log(far) + lift * _LOG_2 - math.log(y_norm)


@strict
def record_state(
    h, h_at, stride, count, shift, start, norms, distances, n, displaced, slot, r, outputs,
    units_on, activity, dead, dead_count,
):  # fmt: skip
    """Write what is known of the states of one recorded layer.

    ``outputs`` is (log_norm, log_displacement, log_distance, gram), the last in the units
    of the state.
    """
    log_norm, log_displacement, log_distance, gram = outputs
    pair = 0
    for k in range(count):
        row = h_at + k * stride
        square = _dot(h, row, h, row, n)
        size, far = compare(h, row, square, shift, start, k * stride, norms[k], n, displaced)
        log_norm[r, slot, k] = size
        if displaced:
            log_displacement[r, slot, k] = far
        activity[r, slot, k] = units_on[k]
        dead_count[r, slot, k] = dead[k]
        gram[r, slot, k, k] = square
        for other in range(k + 1, count):
            there = h_at + other * stride
            gram[r, slot, k, other] = _dot(h, row, h, there, n)
            gram[r, slot, other, k] = gram[r, slot, k, other]
            far = _apart(h, row, 1.0, h, there, 1.0, n)[0]
            log_distance[r, slot, pair] = (
                math.log(far) + shift * _LOG_2 - math.log(distances[pair])
                if far > 0.0
                else -math.inf
            )
            pair += 1


@strict
def cosine(square, p, row, h, there, n):
    """Cosine of a gradient with this square and a state; NaN if one of them is 0."""
    squares = square * _dot(h, there, h, there, n)
    return _dot(p, row, h, there, n) / math.sqrt(squares) if squares > 0.0 else math.nan


@strict
def record_gradient(
    p, count, stride, shift, top, top_norm, h, h_at, n, displaced, slot, r, outputs
):  # fmt: skip
    """Write what is known of the gradients at one recorded layer.

    ``outputs`` is (log_gradient, log_gradient_displacement, alignment).
    """
    log_gradient, log_displacement, alignment = outputs
    for k in range(count):
        row, there = k * stride, h_at + k * stride
        square = _dot(p, row, p, row, n)
        size, far = compare(p, row, square, shift, top, 0, top_norm, n, displaced)
        log_gradient[r, slot, k] = size
        if displaced:
            log_displacement[r, slot, k] = far
        alignment[r, slot, k] = cosine(square, p, row, h, there, n)
