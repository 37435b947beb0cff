"""One input through a residual net of piecewise linear units, in the fewest sweeps.

The law is that of `sigprop.kernels.conditional`. With phi(u) = u (u > 0), s u (u <= 0),

    x = phi(rho z) = rho m z,   m = 1 or s by the sign of z,

so a hidden layer is its normals z and one scale rho, and a gradient that comes through it,
q = m (f zeta + b x) with fresh normals zeta, is known by two numbers: its square and its
product with z, both of them sums over the two signs of z^2, z zeta and zeta^2,

    |q|^2 = f^2 (Q+ + s^2 Q-) + 2 f b rho (X+ + s^3 X-) + (b rho)^2 (N+ + s^4 N-)
    q.z   = f (X+ + s X-) + b rho (N+ + s^2 N-).

No hidden vector is ever formed: a layer takes one sweep over each z and one over the state
ahead, two sweeps over each pair (z, zeta) and one over the gradient back. Draws stay in
single precision, sums and states are in double.
"""

import math

import numpy as np

from sigprop.kernels import passes, philox, vectors
from sigprop.kernels.borrow import borrow, hold
from sigprop.kernels.compiled import entry, inner

__all__ = ["sample"]

_LOOSE = ("reassoc", "contract")
# |q|^2 below this part of its terms is summed again, unit by unit: it has cancelled.
_CANCELLED = 1e-4


@inner(*_LOOSE)
def _norms(slope, counted, z, z_at, n):
    """Sums of z^2 over z > 0 and over the rest (0 for a ReLU), and how many are > 0.

    A ReLU's are counted only if ``counted``.
    """
    z = z[z_at : z_at + n]
    plus, minus, on = 0.0, 0.0, 0.0
    if slope == 0.0:
        if counted:
            for i in range(n):
                on += 1.0 if z[i] > np.float32(0.0) else 0.0
        for i in range(n):
            v = np.float64(max(z[i], np.float32(0.0)))
            plus += v * v
    else:
        for i in range(n):
            v = np.float64(z[i])
            square = v * v
            above = square if v > 0.0 else 0.0
            plus += above
            minus += square - above
            on += 1.0 if v > 0.0 else 0.0
    return plus, minus, on


@inner(*_LOOSE)
def _crossed(slope, z, z_at, zeta, zeta_at, n):
    """X+, X-, Q+, Q-: sums of z zeta and of zeta^2 by the sign of z; for a ReLU only the +."""
    z, zeta = z[z_at : z_at + n], zeta[zeta_at : zeta_at + n]
    plus, minus, fresh, left = 0.0, 0.0, 0.0, 0.0
    if slope == 0.0:
        for i in range(n):
            v = np.float64(z[i])
            y = np.float64(zeta[i]) if v > 0.0 else 0.0
            plus += v * y
            fresh += y * y
    else:
        for i in range(n):
            v, w = np.float64(z[i]), np.float64(zeta[i])
            y = w if v > 0.0 else 0.0
            w -= y
            plus += v * y
            minus += v * w
            fresh += y * y
            left += w * w
    return plus, minus, fresh, left


@inner(*_LOOSE)
def _square(slope, fresh, along, z, z_at, zeta, zeta_at, n):
    """|q|^2, q = m (fresh zeta + along m z), unit by unit."""
    z, zeta = z[z_at : z_at + n], zeta[zeta_at : zeta_at + n]
    total = 0.0
    for i in range(n):
        v = np.float64(z[i])
        m = 1.0 if v > 0.0 else slope
        g = m * (fresh * np.float64(zeta[i]) + along * m * v)
        total += g * g
    return total


@inner(*_LOOSE)
def _dot(x, x_at, y, y_at, n):
    """x.y of doubles and singles."""
    x, y = x[x_at : x_at + n], y[y_at : y_at + n]
    total = 0.0
    for i in range(n):
        total += x[i] * np.float64(y[i])
    return total


@inner(*_LOOSE)
def _ahead(out, out_at, c, h, h_at, a, z, z_at, n):
    """``out = c h + a z``; returns its square sum."""
    out, h, z = out[out_at : out_at + n], h[h_at : h_at + n], z[z_at : z_at + n]
    total = 0.0
    for i in range(n):
        v = c * h[i] + a * np.float64(z[i])
        out[i] = v
        total += v * v
    return total


@inner(*_LOOSE)
def _land(p, c, a, zeta, zeta_at, b, h, h_at, z, z_at, n):
    """``p = c p + a zeta + b h``; returns its square sum and its product with z."""
    p, zeta, h, z = p[0:n], zeta[zeta_at : zeta_at + n], h[h_at : h_at + n], z[z_at : z_at + n]
    total, product = 0.0, 0.0
    for i in range(n):
        v = c * p[i] + a * np.float64(zeta[i]) + b * h[i]
        p[i] = v
        total += v * v
        product += v * np.float64(z[i])
    return total, product


@inner()
def _layer(
    slope, counted, table, layer, fan_out, unit, z, z_at, h, h_at, longest, size, radius, sums,
    local, units_on,
):  # fmt: skip
    """One layer ahead; returns the square sum of the new state and whether a hidden one died.

    ``radius[local, j]`` becomes the scale of the normals at matrix j and ``sums[local, j]``
    the sums of their squares over either sign; the new state is written behind ``h_at``.
    """
    m = (table.shape[1] - 3) // 2
    f = table[layer, 2]
    square = size * f * f
    dead = False
    units, on = 0, 0.0
    offset = z_at
    for j in range(m - 1):
        b = table[layer, 3 + m + j] * unit
        rho = math.sqrt(table[layer, 3 + j] * table[layer, 3 + j] * square + b * b)
        radius[local, j] = rho
        n = fan_out[layer, j]
        plus, minus, count = _norms(slope, counted, z, offset, n)
        if rho == 0.0:
            plus, count = 0.0, 0.0
        sums[local, j, 0], sums[local, j, 1] = plus, minus
        square = rho * rho * (plus + slope * slope * minus)
        units += n
        on += count
        dead = dead or square == 0.0
        offset += n
    units_on[0] = on / units if units else math.nan
    b = table[layer, 3 + 2 * m - 1] * unit
    rho = math.sqrt(table[layer, 2 + m] * table[layer, 2 + m] * square + b * b)
    radius[local, m - 1] = rho
    c, a = table[layer, 0], table[layer, 1] * rho
    n = fan_out[layer, m - 1]
    if a != 0.0 or c != 1.0:
        size = _ahead(h, h_at + longest, c, h, h_at, a, z, offset, n)
    else:
        vectors.copy(h, h_at + longest, 1.0, h, h_at, n)
    return size, dead


@inner()
def _back(
    slope, biased, table, layer, fan_in, fan_out, unit, z, z_at, zeta, zeta_at, h, h_at, radius,
    sums, local, p, size, t, next_at,
):  # fmt: skip
    """One layer back: ``p`` becomes the gradient at the layer's input.

    ``size`` is its square and ``t`` its product with the normals of the last matrix.
    Returns the new square and the product with the normals at ``next_at``.
    """
    m = (table.shape[1] - 3) // 2
    s2 = slope * slope
    start = z_at
    for j in range(m - 1):
        start += fan_out[layer, j]
    q2 = size
    draws = zeta_at
    fresh, along = 0.0, 0.0
    for j in range(m - 1, -1, -1):
        n = fan_in[layer, j]
        s, r = table[layer, 3 + j], radius[local, j]
        fresh = math.sqrt(q2)
        if j > 0:
            start -= n
            rho = radius[local, j - 1]
            x_plus, x_minus, q_plus, q_minus = _crossed(slope, z, start, zeta, draws, n)
            n_plus, n_minus = sums[local, j - 1, 0], sums[local, j - 1, 1]
            if rho == 0.0:
                # All units sit at 0, where the slope is that of the negative side.
                q_minus += q_plus
                x_plus, x_minus, q_plus = 0.0, 0.0, 0.0
            crossed = rho * (x_plus + slope * x_minus)
        else:
            rho = table[layer, 2]
            crossed = rho * _dot(h, h_at, zeta, draws, n)
        along = 0.0
        if r > 0.0:
            product = s / r * crossed
            if biased:
                product += table[layer, 3 + m + j] * unit / r * np.float64(zeta[draws + n])
            along = s / r * (t - fresh * product)
        fresh, along = s * fresh, s * along * rho
        if j > 0:
            first = fresh * fresh * (q_plus + s2 * q_minus)
            third = along * along * (n_plus + s2 * s2 * n_minus)
            q2 = first + 2.0 * fresh * along * (x_plus + slope * s2 * x_minus) + third
            if q2 < _CANCELLED * (first + third):
                q2 = _square(slope, fresh, along, z, start, zeta, draws, n)
            t = fresh * (x_plus + slope * x_minus) + along * (n_plus + s2 * n_minus)
            draws += n + biased
    a = table[layer, 1]
    return _land(
        p, table[layer, 0], a * table[layer, 2] * fresh, zeta, draws, a * along, h, h_at, z,
        next_at, fan_in[layer, 0],
    )  # fmt: skip


@entry
def sample(
    slope, biased, table, fan_in, fan_out, widths, plan, slots, frame, given, random_input, key,
    first, wanted, states, gradients, activity, dead_count,
):  # fmt: skip
    """Sample replicas ``first ..`` and fill the outputs at the recorded layers.

    ``slope`` is that of the negative side; the other arguments are those of
    `conditional.sample_one`.
    """
    forward_offset, backward_offset, group, segment, stride, stride_back = plan
    gradient_wanted, displaced = wanted
    depth, m = table.shape[0], (table.shape[1] - 3) // 2
    # Not literals: Numba would compile a callee once more for every literal that it is given.
    zero, one = np.int64(0), np.int64(1)
    longest = passes.longest(fan_in, fan_out)
    kept_layers = segment if gradient_wanted else group
    segments = (depth + kept_layers - 1) // kept_layers
    stores = segments if gradient_wanted else 1

    words = philox.new_words()
    scratch = philox.new_scratch()
    tape = np.zeros(kept_layers // group * stride, philox.DRAW)
    zeta = np.zeros(stride_back, philox.DRAW)
    trail = np.zeros((kept_layers + 1) * longest)
    trail_shift = np.zeros(kept_layers, np.int64)
    radius, sums = np.zeros((kept_layers, m)), np.zeros((kept_layers, m, 2))
    kept, kept_shift = np.zeros(stores * longest), np.zeros(stores, np.int64)
    raw = np.zeros(longest + 16)
    basis, start = np.zeros(longest), np.zeros(longest)
    start_norm, start_distance = np.zeros(1), np.zeros(1)
    p, top = np.zeros(longest), np.zeros(longest)
    units_on, one_dead = np.zeros(1), np.zeros(1)
    owners = (
        tape, zeta, trail, trail_shift, radius, sums, kept, kept_shift, raw, basis,
        start, start_norm, start_distance, p, top, units_on, one_dead, words, scratch[0],
        scratch[1],
    )  # fmt: skip
    tape, zeta, trail, words = borrow(tape), borrow(zeta), borrow(trail), borrow(words)
    trail_shift, radius, sums = borrow(trail_shift), borrow(radius), borrow(sums)
    kept, kept_shift, raw = borrow(kept), borrow(kept_shift), borrow(raw)
    basis, start = borrow(basis), borrow(start)
    start_norm, start_distance = borrow(start_norm), borrow(start_distance)
    p, top, units_on, one_dead = borrow(p), borrow(top), borrow(units_on), borrow(one_dead)
    table, fan_in, fan_out, widths = borrow(table), borrow(fan_in), borrow(fan_out), borrow(widths)
    slots, activity, dead_count = borrow(slots), borrow(activity), borrow(dead_count)
    forward_offset, backward_offset = borrow(forward_offset), borrow(backward_offset)
    scratch = (borrow(scratch[0]), borrow(scratch[1]))

    for r in range(states[0].shape[0]):
        replica = first + r
        d = widths[0]
        passes.draw_inputs(
            frame, given, random_input, key, replica, d, scratch, raw, basis, longest, start
        )
        origin = passes.measure_inputs(start, one, longest, d, start_norm, start_distance)
        for i in range(d):
            trail[i] = start[i]
        shift = 0
        size = vectors.square_sum(start, zero, d)
        one_dead[0] = 0.0
        if slots[0] >= 0:
            units_on[0] = math.nan
            passes.record_state(
                start, zero, longest, one, zero, start, start_norm, start_distance, d, displaced,
                slots[0], r, states, units_on, activity, one_dead, dead_count,
            )  # fmt: skip
        p_shift, p_size, top_norm = 0, 0.0, 0.0
        t = 0.0
        for step in range(2 * segments - 1 if gradient_wanted else segments):
            ahead = step < segments
            s = step if ahead else 2 * segments - 2 - step
            begin, end = s * kept_layers, min((s + 1) * kept_layers, depth)
            walked = end - begin
            if ahead and step > 0:
                for i in range(d):
                    trail[i] = trail[kept_layers * longest + i]
            if ahead and gradient_wanted:
                for i in range(d):
                    kept[s * longest + i] = trail[i]
                kept_shift[s] = shift
            elif not ahead:
                for i in range(d):
                    trail[i] = kept[s * longest + i]
                shift = kept_shift[s]
                size = vectors.square_sum(trail, zero, d)
            places = (walked + group - 1) // group
            for place in range(places):
                low = begin + place * group
                high = min(low + group, end)
                base = place * stride
                first_draw = forward_offset[low]
                philox.singles(
                    key, low // group, replica, philox.FORWARD, forward_offset[high] - first_draw,
                    words, tape[base:],
                )  # fmt: skip
                for layer in range(low, high):
                    local = layer - begin
                    here = local * longest
                    trail_shift[local] = shift
                    unit = passes.inverse_power(shift + origin) if biased else 0.0
                    size, dead = _layer(
                        slope, slots[layer + 1] >= 0, table, layer, fan_out, unit, tape,
                        base + forward_offset[layer] - first_draw, trail, here, longest, size,
                        radius, sums, local, units_on,
                    )  # fmt: skip
                    lifted = passes.rescale(
                        trail, here + longest, one, longest, d, shift, math.sqrt(size)
                    )
                    if lifted != shift:
                        size = math.ldexp(size, int(-2 * (lifted - shift)))
                        shift = lifted
                    if ahead:
                        one_dead[0] += dead
                        if slots[layer + 1] >= 0:
                            passes.record_state(
                                trail, here + longest, longest, one, shift, start, start_norm,
                                start_distance, d, displaced, slots[layer + 1], r, states,
                                units_on, activity, one_dead, dead_count,
                            )  # fmt: skip
            if not gradient_wanted or step < segments - 1:
                continue
            if step == segments - 1:
                philox.normals(key, 0, replica, philox.TOP, d, scratch, raw)
                for i in range(d):
                    top[i] = raw[i]
                    p[i] = raw[i]
                p_shift = 0
                p_size = vectors.square_sum(p, zero, d)
                top_norm = math.sqrt(p_size)
                if slots[depth] >= 0:
                    passes.record_gradient(
                        p, one, longest, zero, top, top_norm, trail, walked * longest, d,
                        displaced, slots[depth], r, gradients,
                    )  # fmt: skip
            # t is the product of p with the normals that made the output of the layer above.
            known = False
            for place in range(places - 1, -1, -1):
                low = begin + place * group
                high = min(low + group, end)
                base = place * stride
                first_draw, first_back = forward_offset[low], backward_offset[low]
                philox.singles(
                    key, low // group, replica, philox.BACKWARD,
                    backward_offset[high] - first_back, words, zeta,
                )  # fmt: skip
                for layer in range(high - 1, low - 1, -1):
                    local = layer - begin
                    here = local * longest
                    c = table[layer, 0]
                    if table[layer, 1] == 0.0 or table[layer, 2 + m] == 0.0:
                        if c != 1.0:
                            p_size = vectors.scale(c, p, zero, d)
                        known = False
                    else:
                        # Those normals are the last d of a layer. The layer below has them
                        # before this one's on the tape, if it is in this group.
                        z_at = base + forward_offset[layer] - first_draw
                        if not known:
                            last = base + forward_offset[layer + 1] - first_draw - d
                            t = _dot(p, zero, tape, last, d)
                        known = layer > low
                        unit = 0.0
                        if biased:
                            unit = passes.inverse_power(trail_shift[local] + origin)
                        p_size, t = _back(
                            slope, biased, table, layer, fan_in, fan_out, unit, tape, z_at, zeta,
                            backward_offset[layer] - first_back, trail, here, radius, sums,
                            local, p, p_size, t, z_at - d if known else z_at,
                        )  # fmt: skip
                    lifted = passes.rescale(p, zero, one, longest, d, p_shift, math.sqrt(p_size))
                    if lifted != p_shift:
                        p_size = math.ldexp(p_size, int(-2 * (lifted - p_shift)))
                        t = math.ldexp(t, int(-(lifted - p_shift)))
                        p_shift = lifted
                    if slots[layer] >= 0:
                        passes.record_gradient(
                            p, one, longest, p_shift, top, top_norm, trail, here, d, displaced,
                            slots[layer], r, gradients,
                        )  # fmt: skip
    hold(owners)
