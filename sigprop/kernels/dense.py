"""Whole matrices, any law of weights, without ever storing one.

A matrix-vector product is fused with the draw: a few rows at a time are filled from their
addresses and multiplied with all K inputs. The backward pass fills the same rows again
from the same addresses and multiplies with the gradients: regenerating a weight costs less
than writing it to memory and reading it back. Memory is that of the states, O(depth width)
with a gradient and O(width) without.
"""

import math

import numpy as np

from sigprop.kernels import activation as act
from sigprop.kernels import passes, philox, vectors, weights
from sigprop.kernels.borrow import borrow, hold
from sigprop.kernels.compiled import entry, inner

__all__ = ["sample"]

# Weights filled at once: 16 KiB or so, half of the first-level cache.
_BLOCK = 2048

# A sum of weights of one size may cancel exactly, and then the order in which a processor adds
# would decide on which side of the kink it lies. Below this part of |x| it is the 0 that it is;
# a sum that does not cancel falls there with probability 1e-12.
TIE = 2.0**-40


@inner()
def _times(
    law, parameter, s, n_in, n_out, key, layer, replica, which, count, longest, x, x_at, scratch,
    rows, y, y_at, transposed,
):  # fmt: skip
    """``y[k] = s W x[k]``, or with ``transposed`` ``y[k] = s W^T x[k]``, for K vectors."""
    height = max(1, _BLOCK // n_in)
    step = weights.counters(law, height * n_in)
    wide = n_in if transposed else n_out
    for k in range(count):
        for i in range(wide):
            y[y_at + k * longest + i] = 0.0
    block = 0
    for o in range(0, n_out, height):
        tall = min(height, n_out - o)
        weights.fill(
            law, parameter, key, layer, replica, philox.WEIGHT + 256 * which, block * step,
            tall * n_in, scratch, rows,
        )  # fmt: skip
        block += 1
        for k in range(count):
            row = k * longest
            if transposed:
                for i in range(tall):
                    vectors.add_scaled(
                        y, y_at + row, s * x[x_at + row + o + i], rows, i * n_in, n_in
                    )
            else:
                for i in range(tall):
                    y[y_at + row + o + i] = s * vectors.dot(rows, i * n_in, x, x_at + row, n_in)
    if law == weights.RADEMACHER and not transposed:
        for k in range(count):
            row = k * longest
            least = TIE * s * math.sqrt(vectors.square_sum(x, x_at + row, n_in))
            for i in range(n_out):
                if abs(y[y_at + row + i]) < least:
                    y[y_at + row + i] = 0.0


@entry
def sample(
    law, parameter, activation, slope, scaled, random_slopes, pre, trunk, centred, biased, table,
    fan_in, fan_out, widths, segment, slots, frame, given, random_input, key, first, wanted,
    states, gradients, activity, dead_count,
):  # fmt: skip
    """Sample replicas ``first ..``; ``law`` and ``parameter`` say what a weight is, ``segment``
    how many layers stand between two stored states; the rest as in `conditional.sample_one`.
    """
    gradient_wanted, displaced = wanted
    depth, m = table.shape[0], (table.shape[1] - 3) // 2
    count = states[0].shape[2]
    longest = passes.longest(fan_in, fan_out)
    plane = count * longest
    kept_layers = segment if gradient_wanted else 1
    segments = (depth + kept_layers - 1) // kept_layers
    stores = segments if gradient_wanted else 1

    scratch = philox.new_scratch()
    rows = np.empty(max(_BLOCK, longest) + 256)
    trail = np.empty(kept_layers * plane)
    trail_shift = np.zeros(kept_layers, np.int64)
    arguments = np.empty(kept_layers * m * plane)
    kept = np.empty(stores * plane)
    kept_shift = np.zeros(stores, np.int64)
    slopes = np.zeros((m + 1) * longest if random_slopes else 1)
    raw = np.empty(plane + 16)
    start = np.empty(plane)
    basis = np.empty(plane)
    start_norm, start_distance = np.empty(count), np.empty(count * (count - 1) // 2)
    h, p, top = np.zeros(plane), np.zeros(plane), np.zeros(longest)
    hidden, q = np.zeros(plane), np.zeros(plane)
    units_on, dead, dead_so_far = np.zeros(count), np.zeros(count, np.bool_), np.zeros(count)

    owners = (
        rows,
        trail,
        trail_shift,
        arguments,
        kept,
        kept_shift,
        slopes,
        raw,
        start,
        basis,
        start_norm,
        start_distance,
        h,
        p,
        top,
        hidden,
        q,
        units_on,
        dead,
        dead_so_far,
        scratch[0],
        scratch[1],
    )
    rows, trail, trail_shift, arguments = (
        borrow(rows),
        borrow(trail),
        borrow(trail_shift),
        borrow(arguments),
    )
    kept, kept_shift, slopes, raw = borrow(kept), borrow(kept_shift), borrow(slopes), borrow(raw)
    start, basis, start_norm = borrow(start), borrow(basis), borrow(start_norm)
    start_distance, h, p, top = borrow(start_distance), borrow(h), borrow(p), borrow(top)
    hidden, q, units_on, dead = borrow(hidden), borrow(q), borrow(units_on), borrow(dead)
    dead_so_far = borrow(dead_so_far)
    table, fan_in, fan_out, widths = borrow(table), borrow(fan_in), borrow(fan_out), borrow(widths)
    slots, activity, dead_count = borrow(slots), borrow(activity), borrow(dead_count)
    scratch = (borrow(scratch[0]), borrow(scratch[1]))

    for r in range(states[0].shape[0]):
        replica = first + r
        d = widths[0]
        passes.draw_inputs(
            frame, given, random_input, key, replica, d, scratch, raw, basis, longest, start
        )
        origin = passes.measure_inputs(start, count, longest, d, start_norm, start_distance)
        h[:] = start
        shift = 0
        dead_so_far[:] = 0.0
        if slots[0] >= 0:
            units_on[:] = math.nan
            passes.record_state(
                h, 0, longest, count, shift, start, start_norm, start_distance, d, displaced,
                slots[0], r, states, units_on, activity, dead_so_far, dead_count,
            )  # fmt: skip
        p_shift, top_norm = 0, 0.0
        for step in range(2 * segments - 1 if gradient_wanted else segments):
            ahead = step < segments
            s = step if ahead else 2 * segments - 2 - step
            begin, end = s * kept_layers, min((s + 1) * kept_layers, depth)
            if ahead and gradient_wanted:
                kept[s * plane : (s + 1) * plane] = h
                kept_shift[s] = shift
            elif not ahead:
                h[:] = kept[s * plane : (s + 1) * plane]
                shift = kept_shift[s]
            for layer in range(begin, end):
                local = layer - begin
                trail[local * plane : (local + 1) * plane] = h
                trail_shift[local] = shift
                up, down = act.units(scaled, shift + origin)
                unit = passes.inverse_power(shift + origin)
                units = 0
                for k in range(count):
                    row = k * longest
                    n = fan_in[layer, 0]
                    units_on[k] = 0.0
                    dead[k] = False
                    if pre:
                        if random_slopes and k == 0:
                            passes.draw_slopes(key, slope, layer, replica, 0, n, scratch, slopes)
                        square, on = act.apply(
                            activation, slope[0], up, down, slopes, 0, table[layer, 2], h, row,
                            n, hidden, row,
                        )  # fmt: skip
                        units_on[k] = on
                        dead[k] = square == 0.0
                        units = n
                    else:
                        vectors.copy(hidden, row, table[layer, 2], h, row, n)
                silent_branch = trunk and (table[layer, 1] == 0.0)
                for j in range(m):
                    n_in, n = fan_in[layer, j], fan_out[layer, j]
                    at = (local * m + j) * plane
                    last = trunk and j == m - 1
                    if last and silent_branch:
                        break
                    if centred:
                        for k in range(count):
                            passes.subtract_mean(hidden, k * longest, n_in)
                    _times(
                        law, parameter, table[layer, 3 + j], n_in, n, key, layer, replica, j, count,
                        longest, hidden, 0, scratch, rows, arguments, at, False,
                    )  # fmt: skip
                    if table[layer, 3 + m + j] != 0.0:
                        philox.normals(key, layer, replica, philox.BIAS + 256 * j, n, scratch, raw)
                        for k in range(count):
                            vectors.add_scaled(
                                arguments,
                                at + k * longest,
                                table[layer, 3 + m + j] * unit,
                                raw,
                                0,
                                n,
                            )
                    if last:
                        break
                    which = j + 1 if pre else j
                    if random_slopes:
                        passes.draw_slopes(
                            key, slope, layer, replica, which, n, scratch,
                            slopes[which * longest :],
                        )  # fmt: skip
                    for k in range(count):
                        row = k * longest
                        square, on = act.apply(
                            activation, slope[0], up, down, slopes, which * longest, 1.0,
                            arguments, at + row, n, hidden, row,
                        )  # fmt: skip
                        units_on[k] += on
                        dead[k] = dead[k] or square == 0.0
                    units += n
                n = widths[layer + 1]
                size = 0.0
                at = (local * m + m - 1) * plane
                for k in range(count):
                    row = k * longest
                    units_on[k] = units_on[k] / units if units else math.nan
                    if not trunk:
                        square = vectors.copy(h, row, table[layer, 1], hidden, row, n)
                    elif silent_branch:
                        square = vectors.scale(table[layer, 0], h, row, n)
                    else:
                        square = vectors.advance(
                            table[layer, 0], h, row, table[layer, 1], arguments, at + row, n
                        )
                    size = max(size, square)
                shift = passes.rescale(h, 0, count, longest, n, shift, math.sqrt(size))
                if ahead:
                    for k in range(count):
                        dead_so_far[k] += dead[k]
                    if slots[layer + 1] >= 0:
                        passes.record_state(
                            h, 0, longest, count, shift, start, start_norm, start_distance, n,
                            displaced, slots[layer + 1], r, states, units_on, activity,
                            dead_so_far, dead_count,
                        )  # fmt: skip
            if not gradient_wanted or step < segments - 1:
                continue
            if step == segments - 1:
                n = widths[depth]
                philox.normals(key, 0, replica, philox.TOP, n, scratch, raw)
                top[:n] = raw[:n]
                for k in range(count):
                    p[k * longest : k * longest + n] = raw[:n]
                p_shift = 0
                top_norm = math.sqrt(vectors.square_sum(top, 0, n))
                if slots[depth] >= 0:
                    passes.record_gradient(
                        p, count, longest, 0, top, top_norm, h, 0, n, displaced, slots[depth], r,
                        gradients,
                    )  # fmt: skip
            for layer in range(end - 1, begin - 1, -1):
                local = layer - begin
                up, _ = act.units(scaled, trail_shift[local] + origin)
                a = table[layer, 1]
                n = widths[layer]
                size = 0.0
                if random_slopes:
                    for which in range(m + 1):
                        width = fan_out[layer, which - 1] if which else fan_in[layer, 0]
                        if not pre:
                            width = fan_out[layer, min(which, m - 1)]
                        passes.draw_slopes(
                            key, slope, layer, replica, which, width, scratch,
                            slopes[which * longest :],
                        )  # fmt: skip
                if trunk and a == 0.0:
                    for k in range(count):
                        row = k * longest
                        square = vectors.scale(table[layer, 0], p, row, n)
                        size = max(size, square)
                else:
                    q[:] = p
                    for j in range(m - 1, -1, -1):
                        n_in, wide = fan_in[layer, j], fan_out[layer, j]
                        at = (local * m + j) * plane
                        if j < m - 1 or not trunk:
                            which = j + 1 if pre else j
                            for k in range(count):
                                row = k * longest
                                act.back(
                                    activation, slope[0], up, slopes, which * longest, 1.0,
                                    arguments, at + row, wide, 1.0, q, row, 0.0, q, row, q, row,
                                )  # fmt: skip
                        _times(
                            law, parameter, table[layer, 3 + j], n_in, wide, key, layer, replica, j,
                            count, longest, q, 0, scratch, rows, hidden, 0, True,
                        )  # fmt: skip
                        q[:] = hidden
                        if centred:
                            for k in range(count):
                                passes.subtract_mean(q, k * longest, n_in)
                    f = a * table[layer, 2]
                    c = table[layer, 0] if trunk else 0.0
                    for k in range(count):
                        row = k * longest
                        if pre:
                            act.back(
                                activation, slope[0], up, slopes, 0, table[layer, 2], trail,
                                local * plane + row, n, 1.0, q, row, 0.0, q, row, q, row,
                            )  # fmt: skip
                        square = vectors.advance(c, p, row, f, q, row, n)
                        size = max(size, square)
                p_shift = passes.rescale(p, 0, count, longest, n, p_shift, math.sqrt(size))
                if slots[layer] >= 0:
                    passes.record_gradient(
                        p, count, longest, p_shift, top, top_norm, trail, local * plane, n,
                        displaced, slots[layer], r, gradients,
                    )  # fmt: skip
    hold(owners)
