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

from sigprop.kernels import passes, philox, sweeps, vectors
from sigprop.kernels.borrow import borrow, hold
from sigprop.kernels.compiled import entry, inner

__all__ = ["sample"]

# |q|^2 below this part of its terms is summed again, unit by unit: it has cancelled.
_CANCELLED = 1e-4
# Squares between which a row need not be rescaled; `passes.rescale` compares norms.
_SMALL, _LARGE = 2.0**-40, 2.0**40


@inner()
def _layer(
    slope, counted, table, layer, fan_out, unit, z, z_at, h, h_at, longest, size, radius,
    sums, local, units_on,
):  # fmt: skip
    """One layer ahead; returns the square sum of the new state and whether a hidden one died.

    ``radius[local, j]`` becomes the scale of the normals at matrix j and ``sums[local, j]``
    the sums of their squares over either sign; the new state is written behind ``h_at``. How
    many units are on is told only if ``counted``.
    """
    m = (table.shape[1] - 3) // 2
    f = table[layer, 2]
    square = size * f * f
    dead = False
    units, on = 0, 0.0
    for j in range(m):
        w, n = table[layer, 3 + j], fan_out[layer, j]
        b = table[layer, 3 + m + j] * unit
        rho = math.sqrt(w * w * square + b * b)
        radius[local, j] = rho
        if j == m - 1:
            break
        if slope == 0.0:
            plus, minus = sweeps.norm(z, z_at, n), 0.0
        else:
            plus, minus = sweeps.norms(z, z_at, n)
        if counted:
            units += n
            on += sweeps.count(z, z_at, n) if rho > 0.0 else 0.0
        if rho == 0.0:
            plus = 0.0
        sums[local, j, 0], sums[local, j, 1] = plus, minus
        square = rho * rho * (plus + slope * slope * minus)
        dead = dead or square == 0.0
        z_at += n
    units_on[0] = on / units if units else math.nan
    c, a = table[layer, 0], table[layer, 1] * radius[local, m - 1]
    n = fan_out[layer, m - 1]
    if a != 0.0 or c != 1.0:
        size = sweeps.ahead(h, h_at + longest, h, h_at, z, z_at, c, a, n)
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
            if slope == 0.0:
                x_plus, q_plus = sweeps.crossed(z, start, zeta, draws, n)
                x_minus, q_minus = 0.0, 0.0
            else:
                x_plus, x_minus, q_plus, q_minus = sweeps.crossed_both(z, start, zeta, draws, n)
            n_plus, n_minus = sums[local, j - 1, 0], sums[local, j - 1, 1]
            if rho == 0.0:
                # All units sit at 0, where the slope is that of the negative side.
                q_minus += q_plus
                x_plus, x_minus, q_plus = 0.0, 0.0, 0.0
            crossed = rho * (x_plus + slope * x_minus)
        else:
            rho = table[layer, 2]
            crossed = rho * sweeps.dot(h, h_at, zeta, draws, n)
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
                q2 = sweeps.square(z, start, zeta, draws, slope, 1.0 - slope, fresh, along, n)
            t = fresh * (x_plus + slope * x_minus) + along * (n_plus + s2 * n_minus)
            draws += n + biased
    a = table[layer, 1]
    return sweeps.land(
        p, 0, zeta, draws, h, h_at, z, next_at, table[layer, 0], a * table[layer, 2] * fresh,
        a * along, fan_in[layer, 0],
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
    gradient_wanted, displaced, aligned = wanted
    depth, m = table.shape[0], (table.shape[1] - 3) // 2
    # Not literals: Numba would compile a callee once more for every literal that it is given.
    zero, one = np.int64(0), np.int64(1)
    longest = passes.longest(fan_in, fan_out)
    kept_layers = segment if gradient_wanted else group
    segments = (depth + kept_layers - 1) // kept_layers
    stores = segments if gradient_wanted else 1

    words = philox.new_words()
    scratch = philox.new_scratch()
    tape = np.empty(kept_layers // group * stride, philox.DRAW)
    zeta = np.empty(stride_back, philox.DRAW)
    trail = np.empty((kept_layers + 1) * longest)
    trail_shift = np.zeros(kept_layers, np.int64)
    radius, sums = np.zeros((kept_layers, m)), np.zeros((kept_layers, m, 2))
    kept, kept_shift = np.empty(stores * longest), np.zeros(stores, np.int64)
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
    states = (borrow(states[0]), borrow(states[1]), borrow(states[2]), borrow(states[3]))
    gradients = (borrow(gradients[0]), borrow(gradients[1]), borrow(gradients[2]))

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
                    if not _SMALL < size < _LARGE:
                        lifted = passes.rescale(
                            trail, here + longest, one, longest, d, shift, math.sqrt(size)
                        )
                        size = math.ldexp(size, int(-2 * (lifted - shift)))
                        shift = lifted
                    if ahead:
                        one_dead[0] += dead
                        slot = slots[layer + 1]
                        if slot >= 0:
                            if not displaced:
                                states[0][r, slot, 0] = passes.log_norm(size, shift, start_norm[0])
                            else:
                                states[0][r, slot, 0], states[1][r, slot, 0] = passes.compare(
                                    trail, here + longest, size, shift, start, zero,
                                    start_norm[0], d, True,
                                )  # fmt: skip
                            states[3][r, slot, 0, 0] = size
                            activity[r, slot, 0] = units_on[0]
                            dead_count[r, slot, 0] = one_dead[0]
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
                            t = sweeps.dot(p, zero, tape, last, d)
                        known = layer > low
                        unit = 0.0
                        if biased:
                            unit = passes.inverse_power(trail_shift[local] + origin)
                        p_size, t = _back(
                            slope, biased, table, layer, fan_in, fan_out, unit, tape, z_at, zeta,
                            backward_offset[layer] - first_back, trail, here, radius, sums,
                            local, p, p_size, t, z_at - d if known else z_at,
                        )  # fmt: skip
                    if not _SMALL < p_size < _LARGE:
                        lifted = passes.rescale(
                            p, zero, one, longest, d, p_shift, math.sqrt(p_size)
                        )
                        p_size = math.ldexp(p_size, int(-2 * (lifted - p_shift)))
                        t = math.ldexp(t, int(-(lifted - p_shift)))
                        p_shift = lifted
                    slot = slots[layer]
                    if slot >= 0:
                        if not displaced:
                            gradients[0][r, slot, 0] = passes.log_norm(p_size, p_shift, top_norm)
                        else:
                            gradients[0][r, slot, 0], gradients[1][r, slot, 0] = passes.compare(
                                p, zero, p_size, p_shift, top, zero, top_norm, d, True
                            )
                        if aligned:
                            gradients[2][r, slot, 0] = passes.cosine(
                                p_size, p, zero, trail, here, d
                            )
    hold(owners)
