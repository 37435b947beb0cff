"""Two inputs through the conditional sampler, in the fewest sweeps.

The law is that of `sigprop.kernels.conditional`; here the two inputs x_1, x_2 of a matrix
are never made orthonormal. Their 2 x 2 Gram matrix comes out of the sweep that made them,
its Cholesky factor r gives the outputs,

    u_1 = r_11 z_1,   u_2 = r_12 z_1 + r_22 z_2,

and going back the orthonormal basis is written in the inputs themselves, so that

    g_k = s (draws mixed to the Gram of the gradients + a combination of x_1 and x_2)

takes one sweep for its products and one to be formed, sent through the activation and
multiplied with what the next matrix needs. Where the inputs are nearly parallel x_2 is replaced
by what is across x_1, formed and measured entry by entry, since a difference of two multiples
would lose the digits; below an angle of 1e-10 they count as parallel.
"""

import math

import numpy as np

from sigprop.activations._codes import LEAKY, LINEAR, RANDOMISED, RELU
from sigprop.kernels import activation as act
from sigprop.kernels import passes, philox, vectors
from sigprop.kernels.borrow import borrow, hold
from sigprop.kernels.compiled import entry, inner

__all__ = ["sample"]

_LOOSE = ("reassoc", "contract")
# Squared sines below which r_22 is zero for gradients, is measured for states, is zero.
_SAME, _CLOSE, _PARALLEL = 1e-13, 1e-4, 1e-20


@inner()
def _factor(a, b, c):
    """Cholesky factor (r_11, r_12, r_22) of [[a, b], [b, c]], zero where it is singular."""
    first = math.sqrt(a)
    across = b / first if first > 0.0 else 0.0
    left = c - across * across
    return first, across, math.sqrt(left) if left > _SAME * c else 0.0


@inner(*_LOOSE)
def _split(out, out_at, x, x_at, x_next, ratio, n):
    """``out = x_2 - ratio x_1``, which may stand where x_2 did; returns its square sum."""
    one, two, out = x[x_at : x_at + n], x[x_next : x_next + n], out[out_at : out_at + n]
    total = 0.0
    for i in range(n):
        v = two[i] - ratio * one[i]
        out[i] = v
        total += v * v
    return total


@inner(*_LOOSE)
def _products(x, x_at, x_next, y, y_at, y_next, n):
    """The four products of two rows with two rows: x_1.y_1, x_1.y_2, x_2.y_1, x_2.y_2."""
    one, two = x[x_at : x_at + n], x[x_next : x_next + n]
    left, right = y[y_at : y_at + n], y[y_next : y_next + n]
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        a += one[i] * left[i]
        b += one[i] * right[i]
        c += two[i] * left[i]
        d += two[i] * right[i]
    return a, b, c, d


@inner(*_LOOSE)
def _gram(x, x_at, x_next, n):
    """Gram matrix (11, 12, 22) of two rows."""
    one, two = x[x_at : x_at + n], x[x_next : x_next + n]
    a, b, c = 0.0, 0.0, 0.0
    for i in range(n):
        a += one[i] * one[i]
        b += one[i] * two[i]
        c += two[i] * two[i]
    return a, b, c


@inner(*_LOOSE)
def _mix(
    c, w, w_at, w_next, p, q, r, x, x_at, x_next, n, out, out_at, out_next
):  # fmt: skip
    """``out_1 = c w_1 + p x_1``, ``out_2 = c w_2 + q x_1 + r x_2``; returns their Gram matrix."""
    w_one, w_two = w[w_at : w_at + n], w[w_next : w_next + n]
    one, two = x[x_at : x_at + n], x[x_next : x_next + n]
    first, second = out[out_at : out_at + n], out[out_next : out_next + n]
    a, b, d = 0.0, 0.0, 0.0
    for i in range(n):
        u = c * w_one[i] + p * one[i]
        v = c * w_two[i] + q * one[i] + r * two[i]
        first[i] = u
        second[i] = v
        a += u * u
        b += u * v
        d += v * v
    return a, b, d


@inner(*_LOOSE)
def _activate(
    activation, slope, up, down, curved, slopes, slope_at, p, q, r, z, z_at, z_next, n, out,
    out_at, out_next,
):  # fmt: skip
    """``out_1 = phi_up(p z_1)``, ``out_2 = phi_up(q z_1 + r z_2)``.

    Returns their Gram matrix and the numbers of active units; see `activation.apply`.
    """
    code = act.code_of(activation)
    one, two = z[z_at : z_at + n], z[z_next : z_next + n]
    first, second = out[out_at : out_at + n], out[out_next : out_next + n]
    a, b, d = 0.0, 0.0, 0.0
    on, also = 0.0, 0.0
    if curved is not None:
        factor, inverse = act.limits(code, up, down)
        for i in range(n):
            u, v = p * one[i], q * one[i] + r * two[i]
            on += 1.0 if u > 0.0 else 0.0
            also += 1.0 if v > 0.0 else 0.0
            u = inverse * act.value_of(activation, factor * u)
            v = inverse * act.value_of(activation, factor * v)
            first[i] = u
            second[i] = v
            a += u * u
            b += u * v
            d += v * v
    elif slopes is None and code == RELU:
        for i in range(n):
            u, v = p * one[i], q * one[i] + r * two[i]
            u, v = max(u, 0.0), max(v, 0.0)
            on += 1.0 if u > 0.0 else 0.0
            also += 1.0 if v > 0.0 else 0.0
            first[i] = u
            second[i] = v
            a += u * u
            b += u * v
            d += v * v
    elif slopes is None:
        s = 1.0 if code == LINEAR else slope
        for i in range(n):
            u, v = p * one[i], q * one[i] + r * two[i]
            on += 1.0 if u > 0.0 else 0.0
            also += 1.0 if v > 0.0 else 0.0
            u = u if u > 0.0 else s * u
            v = v if v > 0.0 else s * v
            first[i] = u
            second[i] = v
            a += u * u
            b += u * v
            d += v * v
    elif code == RANDOMISED:
        own = slopes[slope_at : slope_at + n]
        for i in range(n):
            u, v = p * one[i], q * one[i] + r * two[i]
            on += 1.0 if u > 0.0 else 0.0
            also += 1.0 if v > 0.0 else 0.0
            u = u if u > 0.0 else own[i] * u
            v = v if v > 0.0 else own[i] * v
            first[i] = u
            second[i] = v
            a += u * u
            b += u * v
            d += v * v
    else:  # uneven
        own = slopes[slope_at : slope_at + n]
        for i in range(n):
            u, v = p * one[i], q * one[i] + r * two[i]
            above, below = act.uneven(own[i], slope)
            m = above if u > 0.0 else below
            k = above if v > 0.0 else below
            turned, lost = own[i] == -math.inf, own[i] == math.inf
            on += 1.0 if (u > 0.0) != turned and not lost else 0.0
            also += 1.0 if (v > 0.0) != turned and not lost else 0.0
            u, v = m * u, k * v
            first[i] = u
            second[i] = v
            a += u * u
            b += u * v
            d += v * v
    return a, b, d, on, also


@inner(*_LOOSE)
def _combine(
    c, out, out_at, out_next, draws, draws_at, draws_next, x, x_at, x_next, n, weight
):  # fmt: skip
    """``out_k = c out_k + weights of the draws and of x``; returns the Gram matrix of out.

    ``weight`` is (g_1 from draws_1; g_2 from draws_1, draws_2; g_1 from x_1, x_2; g_2 from
    x_1, x_2).
    """
    first, second = out[out_at : out_at + n], out[out_next : out_next + n]
    zeta, eta = draws[draws_at : draws_at + n], draws[draws_next : draws_next + n]
    one, two = x[x_at : x_at + n], x[x_next : x_next + n]
    w0, w1, w2, w3, w4, w5, w6 = weight
    a, b, d = 0.0, 0.0, 0.0
    for i in range(n):
        g = c * first[i] + w0 * zeta[i] + w3 * one[i] + w4 * two[i]
        h = c * second[i] + w1 * zeta[i] + w2 * eta[i] + w5 * one[i] + w6 * two[i]
        first[i] = g
        second[i] = h
        a += g * g
        b += g * h
        d += h * h
    return a, b, d


@inner(*_LOOSE)
def _through(
    activation, slope, up, curved, slopes, slope_at, p, q, r, z, z_at, z_next, out, out_at,
    out_next, n
):  # fmt: skip
    """``out_1 *= phi'(up p z_1)``, ``out_2 *= phi'(up (q z_1 + r z_2))``.

    Returns the Gram matrix of out.
    """
    code = act.code_of(activation)
    one, two = z[z_at : z_at + n], z[z_next : z_next + n]
    first, second = out[out_at : out_at + n], out[out_next : out_next + n]
    a, b, d = 0.0, 0.0, 0.0
    if curved is not None:
        factor, _ = act.limits(code, up, 1.0)
        for i in range(n):
            g = first[i] * act.slope_of(activation, factor * (p * one[i]))
            h = second[i] * act.slope_of(activation, factor * (q * one[i] + r * two[i]))
            first[i] = g
            second[i] = h
            a += g * g
            b += g * h
            d += h * h
    elif slopes is None:
        s = 0.0
        if code == LINEAR:
            s = 1.0
        elif code == LEAKY:
            s = slope
        for i in range(n):
            g, h = first[i], second[i]
            g = g if p * one[i] > 0.0 else s * g
            h = h if q * one[i] + r * two[i] > 0.0 else s * h
            first[i] = g
            second[i] = h
            a += g * g
            b += g * h
            d += h * h
    elif code == RANDOMISED:
        own = slopes[slope_at : slope_at + n]
        for i in range(n):
            g, h = first[i], second[i]
            g = g if p * one[i] > 0.0 else own[i] * g
            h = h if q * one[i] + r * two[i] > 0.0 else own[i] * h
            first[i] = g
            second[i] = h
            a += g * g
            b += g * h
            d += h * h
    else:  # uneven
        own = slopes[slope_at : slope_at + n]
        for i in range(n):
            g, h = first[i], second[i]
            above, below = act.uneven(own[i], slope)
            g = g * above if p * one[i] > 0.0 else g * below
            h = h * above if q * one[i] + r * two[i] > 0.0 else h * below
            first[i] = g
            second[i] = h
            a += g * g
            b += g * h
            d += h * h
    return a, b, d


@inner()
def _weights(s, radius, at, split, gram, seen, crossed):
    """Weights of draws and inputs in the gradients at the inputs of a matrix.

    Parameters
    ----------
    s : float
        Scale of the matrix.
    radius[at : at + 3]
        Cholesky factor of its (scaled) inputs.
    split : bool
        Whether the second input stands for what is across the first.
    gram : (11, 12, 22) of the gradients at its outputs
    seen : z_1.q_1, z_1.q_2, z_2.q_1, z_2.q_2
    crossed : products of the scaled inputs with the fresh draws, x_1.d_1, x_1.d_2, ...
    """
    a, b, c = _factor(gram[0], gram[1], gram[2])
    p, q, r = radius[at], radius[at + 1], radius[at + 2]
    if split:
        q = 0.0
    one = 1.0 / p if p > 0.0 else 0.0
    two = 1.0 / r if r > 0.0 else 0.0
    # Coordinates of the draws along the orthonormal basis e_1, e_2 of the inputs.
    d11, d12 = crossed[0] * one, crossed[1] * one
    d21, d22 = (crossed[2] - q * d11) * two, (crossed[3] - q * d12) * two
    # What the basis must carry beyond the draws: Z^T Q minus the draws' own part.
    e1 = (seen[0] if p > 0.0 else 0.0) - a * d11
    e2 = (seen[2] if r > 0.0 else 0.0) - a * d21
    f1 = (seen[1] if p > 0.0 else 0.0) - (b * d11 + c * d12)
    f2 = (seen[3] if r > 0.0 else 0.0) - (b * d21 + c * d22)
    if p == 0.0:
        e1, f1 = 0.0, 0.0
    if r == 0.0:
        e2, f2 = 0.0, 0.0
    # e_1 = x_1 / p, e_2 = (x_2 - q e_1) / r, in the unscaled inputs.
    return (
        s * a, s * b, s * c,
        s * s * one * (e1 - q * two * e2), s * s * two * e2,
        s * s * one * (f1 - q * two * f2), s * s * two * f2,
    )  # fmt: skip


@inner()
def _layer(
    activation, slope, scaled, curved, pre, trunk, centred, biased, table, layer, fan_in,
    fan_out, key, replica, scratch, slopes, longest, z, z_at, shift, trail, here, there, gram,
    hidden, radius, advance, units_on, dead,
):  # fmt: skip
    """One layer. ``hidden`` plane j becomes the inputs of matrix j, ``radius`` their factors.

    (Plane 0 is written only if the branch does not begin with the state as it is.) Where two
    inputs are nearly parallel, the second row holds what is across the first, and ``radius``
    says so behind the factors.
    ``gram`` holds the Gram matrix of the state on entry and, with ``advance``, that of the
    next one, which is written at ``there``, on exit.
    """
    m = (table.shape[1] - 3) // 2
    plane = 2 * longest
    zero = np.int64(0)  # see `sample`
    up, down = act.units(scaled, shift)
    unit = passes.inverse_power(shift) if biased else 0.0
    d = fan_in[layer, 0]
    f = table[layer, 2]
    units = 0
    which = 0
    on, also = 0.0, 0.0
    silent, quiet = False, False
    if pre is not None:
        if slopes is not None:
            passes.draw_slopes(key, slope, layer, replica, zero, d, scratch, slopes)
        a, b, c, on, also = _activate(
            activation, slope[0], up, down, curved, slopes, zero, f, 0.0, f, trail, here,
            here + longest, d, hidden, zero, longest,
        )  # fmt: skip
        which = 1
        units = d
        silent, quiet = a == 0.0, c == 0.0
    else:
        if centred:
            vectors.copy(hidden, zero, f, trail, here, d)
            vectors.copy(hidden, longest, f, trail, here + longest, d)
        a, b, c = f * f * gram[0], f * f * gram[1], f * f * gram[2]
    offset = z_at
    for j in range(m):
        n_in, n = fan_in[layer, j], fan_out[layer, j]
        at = j * plane
        if centred:
            passes.subtract_mean(hidden, at, n_in)
            passes.subtract_mean(hidden, at + longest, n_in)
            a, b, c = _gram(hidden, at, at + longest, n_in)
        s2 = table[layer, 3 + j] * table[layer, 3 + j]
        bias = table[layer, 3 + m + j] * unit
        bias *= bias
        p, q, r = _factor(s2 * a + bias, s2 * b + bias, s2 * c + bias)
        radius[3 * m + j] = 0.0
        if p > 0.0 and r * r < _CLOSE * (s2 * c + bias):
            ratio = q / p
            next_at, scale = at + longest, s2
            if j == 0 and pre is None and not centred:
                vectors.copy(hidden, at, 1.0, trail, here, n_in)
                vectors.copy(hidden, next_at, 1.0, trail, here + longest, n_in)
                scale = f * f * s2
            # Twice: what rounding leaves along x_1 is small beside x_2, not beside the rest.
            for _ in range(2):
                _split(hidden, next_at, hidden, at, next_at, ratio, n_in)
                along = scale * vectors.dot(hidden, at, hidden, next_at, n_in)
                ratio = (along + bias * (1.0 - q / p)) / (p * p)
                q += ratio * p
            ratio = q / p
            left = scale * vectors.square_sum(hidden, next_at, n_in)
            radius[3 * m + j] = 1.0
            left += bias * (1.0 - ratio) * (1.0 - ratio)
            r = math.sqrt(left) if left > _PARALLEL * (s2 * c + bias) else 0.0
        radius[3 * j] = p
        radius[3 * j + 1] = q
        radius[3 * j + 2] = r
        if j == m - 1 and trunk:
            break
        if slopes is not None:
            passes.draw_slopes(
                key, slope, layer, replica, which, n, scratch, slopes[which * longest :]
            )
        a, b, c, x, y = _activate(
            activation, slope[0], up, down, curved, slopes, which * longest, p, q, r, z, offset,
            offset + n, n, hidden, at + plane, at + plane + longest,
        )  # fmt: skip
        on += x
        also += y
        silent, quiet = silent or a == 0.0, quiet or c == 0.0
        which += 1
        units += n
        offset += 2 * n
    if advance:
        units_on[0] = on / units if units else math.nan
        units_on[1] = also / units if units else math.nan
        dead[0] += silent
        dead[1] += quiet
        f = table[layer, 1]
        n = fan_out[layer, m - 1]
        if trunk:
            at = 3 * (m - 1)
            c = table[layer, 0]
            p, q, r = f * radius[at], f * radius[at + 1], f * radius[at + 2]
            if c != 1.0 or p != 0.0 or q != 0.0 or r != 0.0:
                a, b, c = _mix(
                    c, trail, here, here + longest, p, q, r, z, offset, offset + n, n, trail,
                    there, there + longest,
                )  # fmt: skip
                gram[0], gram[1], gram[2] = a, b, c
            else:
                vectors.copy(trail, there, 1.0, trail, here, plane)
        else:
            at = m * plane
            vectors.copy(trail, there, f, hidden, at, n)
            vectors.copy(trail, there + longest, f, hidden, at + longest, n)
            gram[0], gram[1], gram[2] = f * f * a, f * f * b, f * f * c


@inner()
def _back(
    activation, slope, scaled, curved, pre, trunk, centred, biased, table, layer, fan_in, fan_out,
    slopes, longest, z, z_at, zeta, zeta_at, shift, trail, here, hidden, radius, work, p, gram,
):  # fmt: skip
    """One layer back: ``p`` becomes the gradients at the layer's inputs, ``gram`` theirs."""
    m = (table.shape[1] - 3) // 2
    plane = 2 * longest
    zero = np.int64(0)  # see `sample`
    a = table[layer, 1]
    d = fan_in[layer, 0]
    if trunk and (a == 0.0 or table[layer, 3 + m - 1] == 0.0):
        c = table[layer, 0]
        if c != 1.0:
            vectors.scale(c, p, zero, plane)
            gram[0], gram[1], gram[2] = c * c * gram[0], c * c * gram[1], c * c * gram[2]
        return
    up, _ = act.units(scaled, shift)
    unit = passes.inverse_power(shift) if biased else 0.0
    start = z_at
    for j in range(m - 1):
        start += 2 * fan_out[layer, j]
    n = fan_out[layer, m - 1]
    f = table[layer, 2]
    # Gradients at the outputs of matrix j stand in two rows of work from q on.
    q = zero
    if trunk:
        g11, g12, g22 = gram[0], gram[1], gram[2]
        seen = _products(z, start, start + n, p, zero, longest, n)
    else:
        vectors.copy(work, zero, a, p, zero, n)
        vectors.copy(work, longest, a, p, longest, n)
        at = 3 * (m - 1)
        g11, g12, g22 = _through(
            activation, slope[0], up, curved, slopes, (m - 1) * longest, radius[at], radius[at + 1],
            radius[at + 2], z, start, start + n, work, zero, longest, n,
        )  # fmt: skip
        seen = _products(z, start, start + n, work, zero, longest, n)
    draws = zeta_at
    for j in range(m - 1, -1, -1):
        n = fan_in[layer, j]
        length = n + biased
        s = table[layer, 3 + j]
        at = j * plane
        split = radius[3 * m + j] > 0.0
        unity = f if j == 0 and pre is None and not centred else 1.0
        if j == 0 and pre is None and not centred and not split:
            x, at, following = trail, here, here + longest
        else:
            x, following = hidden, at + longest
        x11, x12, x21, x22 = _products(x, at, following, zeta, draws, draws + length, n)
        k = s * unity
        x11, x12, x21, x22 = k * x11, k * x12, k * x21, k * x22
        if biased:
            bias = table[layer, 3 + m + j] * unit
            one, two = bias * zeta[draws + n], bias * zeta[draws + length + n]
            x11, x12 = x11 + one, x12 + two
            if split:
                across = 1.0 - radius[3 * j + 1] / radius[3 * j]
                one, two = across * one, across * two
            x21, x22 = x21 + one, x22 + two
        weight = _weights(
            s, radius, 3 * j, split, (g11, g12, g22), seen, (x11, x12, x21, x22)
        )  # fmt: skip
        if j == 0 and pre is None and not centred and trunk:
            k = a * f
            g = k * unity
            gram[0], gram[1], gram[2] = _combine(
                table[layer, 0], p, zero, longest, zeta, draws, draws + length, x, at, following,
                n,
                (
                    k * weight[0], k * weight[1], k * weight[2], g * weight[3], g * weight[4],
                    g * weight[5], g * weight[6],
                ),
            )  # fmt: skip
            return
        q = plane - q
        _combine(
            0.0, work, q, q + longest, zeta, draws, draws + length, x, at, following, n,
            (
                weight[0], weight[1], weight[2], unity * weight[3], unity * weight[4],
                unity * weight[5], unity * weight[6],
            ),
        )  # fmt: skip
        if centred:
            passes.subtract_mean(work, q, n)
            passes.subtract_mean(work, q + longest, n)
        draws += 2 * length
        if j > 0:
            below = fan_out[layer, j - 1]
            start -= 2 * below
            made = j * longest if pre is not None else (j - 1) * longest
            at = 3 * (j - 1)
            g11, g12, g22 = _through(
                activation, slope[0], up, curved, slopes, made, radius[at], radius[at + 1],
                radius[at + 2], z, start, start + below, work, q, q + longest, n,
            )  # fmt: skip
            seen = _products(z, start, start + below, work, q, q + longest, n)
        elif pre is not None:
            _through(
                activation, slope[0], up, curved, slopes, zero, f, 0.0, f, trail, here,
                here + longest, work, q, q + longest, n,
            )  # fmt: skip
    c = table[layer, 0] if trunk else 0.0
    k = a * f if trunk else f
    vectors.advance(c, p, zero, k, work, q, d)
    vectors.advance(c, p, longest, k, work, q + longest, d)
    gram[0], gram[1], gram[2] = _gram(p, zero, longest, d)


@entry
def sample(
    activation, slope, scaled, curved, random_slopes, pre, trunk, centred, biased, table, fan_in,
    fan_out, widths, plan, slots, frame, given, random_input, key, first, wanted, states, gradients,
    activity, dead_count,
):  # fmt: skip
    """Sample replicas ``first ..``; the arguments are those of `conditional.sample_one`.

    ``curved`` (the activation is neither piecewise linear nor of random slopes),
    ``random_slopes`` and ``pre`` are True or None, not False: what stands behind
    ``is not None`` is compiled only where it is needed, which halves the time of the first run.
    """
    forward_offset, backward_offset, group, segment, stride, stride_back = plan
    gradient_wanted, displaced = wanted
    depth, m = table.shape[0], (table.shape[1] - 3) // 2
    # Not literals: Numba would compile a callee once more for every literal that it is given.
    zero, two = np.int64(0), np.int64(2)
    longest = passes.longest(fan_in, fan_out)
    plane = 2 * longest
    kept_layers = segment if gradient_wanted else group
    segments = (depth + kept_layers - 1) // kept_layers
    stores = segments if gradient_wanted else 1

    scratch = philox.new_scratch()
    tape = np.zeros(kept_layers // group * stride, philox.DRAW)
    zeta = np.zeros(stride_back, philox.DRAW)
    words = philox.new_words()
    trail = np.zeros((kept_layers + 1) * plane)
    trail_shift, trail_gram = np.zeros(kept_layers, np.int64), np.zeros(3 * kept_layers)
    kept, kept_shift, kept_gram = (
        np.zeros(stores * plane),
        np.zeros(stores, np.int64),
        np.zeros(3 * stores),
    )
    drawn = np.zeros((m + 1) * longest if random_slopes is not None else 1)
    raw = np.zeros(plane + 16)
    start, basis = np.zeros(plane), np.zeros(plane)
    start_norm, start_distance = np.zeros(2), np.zeros(1)
    p, top, work = np.zeros(plane), np.zeros(longest), np.zeros(2 * plane)
    hidden, radius = np.zeros((m + 1) * plane), np.zeros(4 * m)
    units_on, dead_so_far = np.zeros(2), np.zeros(2)
    gram, p_gram = np.zeros(3), np.zeros(3)
    owners = (
        tape, zeta, trail, trail_shift, trail_gram, kept, kept_shift, kept_gram, drawn, raw,
        start, basis, start_norm, start_distance, p, top, work, hidden, radius, units_on,
        dead_so_far, gram, p_gram, words, scratch[0], scratch[1],
    )  # fmt: skip
    tape, zeta, trail = borrow(tape), borrow(zeta), borrow(trail)
    slopes = borrow(drawn) if random_slopes is not None else None
    trail_shift, trail_gram = borrow(trail_shift), borrow(trail_gram)
    kept, kept_shift, kept_gram = borrow(kept), borrow(kept_shift), borrow(kept_gram)
    raw, start, basis = borrow(raw), borrow(start), borrow(basis)
    start_norm, start_distance = borrow(start_norm), borrow(start_distance)
    p, top, work, hidden = borrow(p), borrow(top), borrow(work), borrow(hidden)
    radius, units_on, dead_so_far = borrow(radius), borrow(units_on), borrow(dead_so_far)
    gram, p_gram, table = borrow(gram), borrow(p_gram), borrow(table)
    fan_in, fan_out, widths, slots = borrow(fan_in), borrow(fan_out), borrow(widths), borrow(slots)
    forward_offset, backward_offset = borrow(forward_offset), borrow(backward_offset)
    activity, dead_count = borrow(activity), borrow(dead_count)
    words, scratch = borrow(words), (borrow(scratch[0]), borrow(scratch[1]))

    for r in range(states[0].shape[0]):
        replica = first + r
        d = widths[0]
        passes.draw_inputs(
            frame, given, random_input, key, replica, d, scratch, raw, basis, longest, start
        )
        origin = passes.measure_inputs(start, two, longest, d, start_norm, start_distance)
        for i in range(plane):
            trail[i] = start[i]
        shift = 0
        gram[0], gram[1], gram[2] = _gram(start, zero, longest, d)
        dead_so_far[0], dead_so_far[1] = 0.0, 0.0
        if slots[0] >= 0:
            units_on[0], units_on[1] = math.nan, math.nan
            passes.record_state(
                start, zero, longest, two, zero, start, start_norm, start_distance, d, displaced,
                slots[0], r, states, units_on, activity, dead_so_far, dead_count,
            )  # fmt: skip
        p_shift, top_norm = 0, 0.0
        for step in range(2 * segments - 1 if gradient_wanted else segments):
            ahead = step < segments
            s = step if ahead else 2 * segments - 2 - step
            begin, end = s * kept_layers, min((s + 1) * kept_layers, depth)
            walked = end - begin
            if ahead and step > 0:
                for i in range(plane):
                    trail[i] = trail[kept_layers * plane + i]
            if ahead and gradient_wanted:
                for i in range(plane):
                    kept[s * plane + i] = trail[i]
                for i in range(3):
                    kept_gram[3 * s + i] = gram[i]
                kept_shift[s] = shift
            elif not ahead:
                for i in range(plane):
                    trail[i] = kept[s * plane + i]
                for i in range(3):
                    gram[i] = kept_gram[3 * s + i]
                shift = kept_shift[s]
            places = (walked + group - 1) // group
            for turn in range(2 if gradient_wanted and step >= segments - 1 else 1):
                advance = turn == 0
                if not advance and step == segments - 1:
                    n = widths[depth]
                    philox.normals(key, 0, replica, philox.TOP, n, scratch, raw)
                    square = 0.0
                    for i in range(n):
                        top[i] = raw[i]
                        p[i] = raw[i]
                        p[longest + i] = raw[i]
                        square += raw[i] * raw[i]
                    p_gram[0], p_gram[1], p_gram[2] = square, square, square
                    p_shift = 0
                    top_norm = math.sqrt(square)
                    if slots[depth] >= 0:
                        passes.record_gradient(
                            p, two, longest, zero, top, top_norm, trail, walked * plane, n,
                            displaced, slots[depth], r, gradients,
                        )  # fmt: skip
                for visit in range(places):
                    place = visit if advance else places - 1 - visit
                    low = begin + place * group
                    high = min(low + group, end)
                    base = place * stride
                    first_draw, first_back = forward_offset[low], backward_offset[low]
                    if advance:
                        philox.singles(
                            key, low // group, replica, philox.FORWARD,
                            forward_offset[high] - first_draw, words, tape[base:],
                        )  # fmt: skip
                    else:
                        philox.singles(
                            key, low // group, replica, philox.BACKWARD,
                            backward_offset[high] - first_back, words, zeta,
                        )  # fmt: skip
                    for step_in in range(high - low):
                        layer = low + step_in if advance else high - 1 - step_in
                        local = layer - begin
                        z_at = base + forward_offset[layer] - first_draw
                        here = local * plane
                        if advance:
                            trail_shift[local] = shift
                            for i in range(3):
                                trail_gram[3 * local + i] = gram[i]
                        else:
                            for i in range(3):
                                gram[i] = trail_gram[3 * local + i]
                        n = widths[layer + 1]
                        _layer(
                            activation, slope, scaled, curved, pre, trunk, centred, biased,
                            table, layer, fan_in, fan_out, key, replica, scratch, slopes, longest,
                            tape, z_at, trail_shift[local] + origin, trail, here, here + plane,
                            gram, hidden, radius, advance, units_on, dead_so_far,
                        )  # fmt: skip
                        if advance:
                            lifted = passes.rescale(
                                trail, here + plane, two, longest, n, shift,
                                math.sqrt(max(gram[0], gram[2])),
                            )  # fmt: skip
                            if lifted != shift:
                                for i in range(3):
                                    gram[i] = math.ldexp(gram[i], int(-2 * (lifted - shift)))
                                shift = lifted
                            if ahead and slots[layer + 1] >= 0:
                                passes.record_state(
                                    trail, here + plane, longest, two, shift, start, start_norm,
                                    start_distance, n, displaced, slots[layer + 1], r, states,
                                    units_on, activity, dead_so_far, dead_count,
                                )  # fmt: skip
                            continue
                        _back(
                            activation, slope, scaled, curved, pre, trunk, centred, biased, table,
                            layer, fan_in, fan_out, slopes, longest, tape, z_at, zeta,
                            backward_offset[layer] - first_back, trail_shift[local] + origin,
                            trail, here, hidden, radius, work, p, p_gram,
                        )  # fmt: skip
                        n = widths[layer]
                        lifted = passes.rescale(
                            p, zero, two, longest, n, p_shift, math.sqrt(max(p_gram[0], p_gram[2]))
                        )
                        if lifted != p_shift:
                            for i in range(3):
                                p_gram[i] = math.ldexp(p_gram[i], int(-2 * (lifted - p_shift)))
                            p_shift = lifted
                        if slots[layer] >= 0:
                            passes.record_gradient(
                                p, two, longest, p_shift, top, top_norm, trail, here, n, displaced,
                                slots[layer], r, gradients,
                            )  # fmt: skip
    hold(owners)
