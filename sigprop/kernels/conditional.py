"""Gaussian layers sampled by conditioning: O(K width) draws a layer, no weight matrix.

Let W have independent N(0, s^2) entries and let the K inputs of a layer, as columns, have
the orthonormal basis E and coordinates R. Then W E is a matrix Z of normals times s, and
the outputs are s Z R. Going back, the law of W^T Q given Z, for gradients Q that depend on
W only through its outputs, is

    W^T Q = s [ E Z^T Q + (I - E E^T) Z' R_Q ],      R_Q^T R_Q = Q^T Q,

with Z' fresh: what was seen of W is repeated, the rest is drawn. A bias is one more
coordinate of the input, the same for all K; a matrix whose rows are centred acts on the
centred input. So forward and backward passes have the joint law of the real network, at
every width, for any activation.

Draws of one layer, in this order: forward, for each matrix K vectors of its fan-out;
backward, from the last matrix, K vectors of its fan-in (one longer with biases). The
draws of ``group`` layers have one address, so that the generator works on long stretches.

`sample_one` serves one input, where E is h / |h|, in fewer sweeps; `sample_many` serves K.
All arrays of a pass are flat, with offsets, because a view costs as much as a short sweep.

Memory is flat in depth forward. Backward, states are kept at the starts of segments of
``segment`` layers, each of which is walked again, from the same addresses, before it is
walked back: O(depth / segment + segment) vectors.
"""

import math

import numpy as np

from sigprop.kernels import activation as act
from sigprop.kernels import passes, philox, vectors
from sigprop.kernels.borrow import borrow, hold
from sigprop.kernels.compiled import entry, inner

__all__ = ["sample_many", "sample_one"]


@inner()
def _layer_one(
    activation, slope, scaled, random_slopes, pre, trunk, centred, table, layer, fan_in, fan_out,
    key, replica, scratch, slopes, longest, z, z_at, shift, h, h_at, size, hidden, radius, advance,
    units_on,
):  # fmt: skip
    """One layer, one input. Returns the square sum of the new state and whether it died.

    ``hidden[j longest ..]`` becomes the input of matrix j and ``radius[j]`` the factor of
    its normals; with ``advance`` the next state is written behind this one, ``longest``
    further on.
    """
    m = (table.shape[1] - 3) // 2
    up, down = act.units(scaled, shift)
    unit = passes.inverse_power(shift)
    d = fan_in[layer, 0]
    dead = False
    units = 0
    on = 0.0
    which = 0
    f = table[layer, 2]
    if pre:
        if random_slopes:
            passes.draw_slopes(key, slope, layer, replica, 0, d, scratch, slopes)
        square, count = act.apply(
            activation, slope[0], up, down, slopes, 0, f, h, h_at, d, hidden, 0
        )
        which = 1
        units += d
        on += count
        dead = square == 0.0
    else:
        square = size * f * f
        vectors.copy(hidden, 0, f, h, h_at, d)
    offset = z_at
    for j in range(m):
        n = fan_out[layer, j]
        if centred:
            square = passes.subtract_mean(hidden, j * longest, fan_in[layer, j])
        b = table[layer, 3 + m + j] * unit
        r = math.sqrt(table[layer, 3 + j] * table[layer, 3 + j] * square + b * b)
        radius[j] = r
        if j == m - 1 and trunk:
            break
        if random_slopes:
            passes.draw_slopes(
                key, slope, layer, replica, which, n, scratch, slopes[which * longest :]
            )
        square, count = act.apply(
            activation, slope[0], up, down, slopes, which * longest, r, z, offset, n,
            hidden, (j + 1) * longest,
        )  # fmt: skip
        which += 1
        units += n
        on += count
        dead = dead or square == 0.0
        offset += n
    if advance:
        units_on[0] = on / units if units else math.nan
        a = table[layer, 1]
        n = fan_out[layer, m - 1]
        if trunk:
            a *= radius[m - 1]
            if a != 0.0 or table[layer, 0] != 1.0:
                size = vectors.step(h, h_at + longest, table[layer, 0], h, h_at, a, z, offset, n)
            else:
                h[h_at + longest : h_at + longest + n] = h[h_at : h_at + n]
        else:
            size = vectors.copy(h, h_at + longest, a, hidden, m * longest, n)
    return size, dead


@inner()
def _back_one(
    activation, slope, scaled, pre, trunk, centred, biased, table, layer, fan_in, fan_out,
    slopes, longest, z, z_at, zeta, zeta_at, shift, h, h_at, hidden, radius, work, p, size,
):  # fmt: skip
    """One layer back, one input: ``p`` becomes the gradient at the layer's input.

    ``hidden``, ``radius`` and ``slopes`` are those of `_layer_one`, ``work`` is scratch of
    two vectors. Returns the square sum of the new gradient.
    """
    m = (table.shape[1] - 3) // 2
    a = table[layer, 1]
    d = fan_in[layer, 0]
    if trunk and (a == 0.0 or table[layer, 3 + m - 1] == 0.0):
        if table[layer, 0] != 1.0:
            size = vectors.scale(table[layer, 0], p, 0, d)
        return size
    up, _ = act.units(scaled, shift)
    unit = passes.inverse_power(shift)
    start = z_at
    for j in range(m - 1):
        start += fan_out[layer, j]
    n = fan_out[layer, m - 1]
    # The gradient at the output of a matrix stands in work[q:]; q2 is its square sum, t its
    # product with the normals that made that output.
    q, spare = 0, longest
    if trunk:
        q2 = size
        t = vectors.dot(z, start, p, 0, n)
    else:
        q2, t = act.back(
            activation, slope[0], up, slopes, (m - 1) * longest, radius[m - 1], z, start, n,
            a, p, 0, 0.0, p, 0, work, q,
        )  # fmt: skip
    fresh, along = 0.0, 0.0
    x_at = 0
    draws = zeta_at
    for j in range(m - 1, -1, -1):
        n = fan_in[layer, j]
        x_at = j * longest
        s, r = table[layer, 3 + j], radius[j]
        fresh, along = math.sqrt(q2), 0.0
        if r > 0.0:
            inner = s / r * vectors.dot(hidden, x_at, zeta, draws, n)
            if biased:
                inner += table[layer, 3 + m + j] * unit / r * zeta[draws + n]
            along = s / r * (t - fresh * inner)
        # s (fresh draws + along x) is the gradient at the input of matrix j.
        fresh, along = s * fresh, s * along
        if centred:
            vectors.step(work, spare, fresh, zeta, draws, along, hidden, x_at, n)
            passes.subtract_mean(work, spare, n)
            fresh, along = 1.0, 0.0
        if j > 0:
            start -= fan_out[layer, j - 1]
            made = (j if pre else j - 1) * longest
            if centred:
                q2, t = act.back(
                    activation, slope[0], up, slopes, made, radius[j - 1], z, start, n,
                    1.0, work, spare, 0.0, work, spare, work, spare,
                )  # fmt: skip
            else:
                q2, t = act.back(
                    activation, slope[0], up, slopes, made, radius[j - 1], z, start, n,
                    fresh, zeta, draws, along, hidden, x_at, work, spare,
                )  # fmt: skip
            q, spare = spare, q
            draws += n + biased
    f = table[layer, 2]
    if trunk:
        c, a = table[layer, 0], a * f
    else:
        c, a = 0.0, f
    if pre or centred:
        if not centred:
            vectors.step(work, spare, fresh, zeta, draws, along, hidden, x_at, d)
        if pre:
            act.back(
                activation, slope[0], up, slopes, 0, f, h, h_at, d,
                1.0, work, spare, 0.0, work, spare, work, spare,
            )  # fmt: skip
        return vectors.advance(c, p, 0, a, work, spare, d)
    return vectors.combine(c, p, 0, a * fresh, zeta, draws, a * along, hidden, x_at, d)


@entry
def sample_one(
    activation, slope, scaled, random_slopes, pre, trunk, centred, biased, table, fan_in, fan_out,
    widths, plan, slots, frame, given, random_input, key, first, wanted, states, gradients,
    activity, dead_count,
):  # fmt: skip
    """Sample replicas ``first ..`` of one input and fill the outputs at the recorded layers.

    Parameters
    ----------
    activation : int or (phi, phi') of compiled functions
    slope : (float, float)
        The negative slope, or for random slopes their two bounds.
    scaled : bool
        Whether the activation must be told the units of the state (not homogeneous).
    table : (skip, branch, input_scale, scale, bias)
    plan : (forward_offset, backward_offset, group, segment, stride, stride_back)
        Cumulated draws of the layers; layers drawn together; layers kept between two stored
        states, a multiple of group; padded draws of a group, forward and backward.
    slots : int64[depth + 1]
        Place of a layer among the recorded ones, or -1.
    wanted : (gradient, displacement) of bool
    states, gradients : tuples of float64 arrays (replica, slot, input), outputs
        As `passes.record_state` and `passes.record_gradient` fill them.
    activity, dead_count : float64[replica, slot, input], outputs
    """
    forward_offset, backward_offset, group, segment, stride, stride_back = plan
    gradient, displaced = wanted
    depth, m = table.shape[0], (table.shape[1] - 3) // 2
    longest = passes.longest(fan_in, fan_out)
    kept_layers = segment if gradient else group
    segments = (depth + kept_layers - 1) // kept_layers

    scratch = philox.new_scratch()
    tape = np.empty(kept_layers // group * stride)
    zeta = np.empty(stride_back)
    trail = np.empty((kept_layers + 1) * longest)
    trail_shift, trail_size = np.zeros(kept_layers, np.int64), np.zeros(kept_layers)
    kept = np.empty((segments if gradient else 1) * longest)
    kept_shift = np.zeros(segments if gradient else 1, np.int64)
    slopes = np.zeros((m + 1) * longest if random_slopes else 1)
    raw = np.empty(longest + 16)
    basis, start = np.empty(longest), np.empty(longest)
    start_norm, start_distance = np.empty(1), np.empty(1)
    p, top = np.zeros(longest), np.zeros(longest)
    units_on = np.zeros(1)
    hidden, radius, work = np.zeros((m + 1) * longest), np.zeros(m), np.zeros(2 * longest)
    one_dead = np.zeros(1)

    owners = (
        tape,
        zeta,
        trail,
        trail_shift,
        trail_size,
        kept,
        kept_shift,
        slopes,
        raw,
        basis,
        start,
        start_norm,
        start_distance,
        p,
        top,
        units_on,
        hidden,
        radius,
        work,
        one_dead,
        scratch[0],
        scratch[1],
    )
    tape, zeta, trail, trail_shift = borrow(tape), borrow(zeta), borrow(trail), borrow(trail_shift)
    trail_size, kept, kept_shift, slopes = (
        borrow(trail_size),
        borrow(kept),
        borrow(kept_shift),
        borrow(slopes),
    )
    raw, basis, start = borrow(raw), borrow(basis), borrow(start)
    start_norm, start_distance, p, top = (
        borrow(start_norm),
        borrow(start_distance),
        borrow(p),
        borrow(top),
    )
    units_on, hidden, radius, work = borrow(units_on), borrow(hidden), borrow(radius), borrow(work)
    one_dead = borrow(one_dead)
    table, fan_in, fan_out, widths = borrow(table), borrow(fan_in), borrow(fan_out), borrow(widths)
    slots, forward_offset, backward_offset, activity = (
        borrow(slots),
        borrow(forward_offset),
        borrow(backward_offset),
        borrow(activity),
    )
    dead_count = borrow(dead_count)
    scratch = (borrow(scratch[0]), borrow(scratch[1]))

    for r in range(states[0].shape[0]):
        replica = first + r
        d = widths[0]
        passes.draw_inputs(
            frame, given, random_input, key, replica, d, scratch, raw, basis, longest, start
        )
        origin = passes.measure_inputs(start, 1, longest, d, start_norm, start_distance)
        trail[:d] = start[:d]
        shift = 0
        size = vectors.square_sum(start, 0, d)
        one_dead[0] = 0.0
        if slots[0] >= 0:
            units_on[0] = math.nan
            passes.record_state(
                start, 0, longest, 1, 0, start, start_norm, start_distance, d, displaced, slots[0],
                r, states, units_on, activity, one_dead, dead_count,
            )  # fmt: skip
        p_shift, p_size, top_norm = 0, 0.0, 0.0
        # Forward over all segments, then the last one back, then each earlier one again
        # forward and back.
        for step in range(2 * segments - 1 if gradient else segments):
            ahead = step < segments
            s = step if ahead else 2 * segments - 2 - step
            begin, end = s * kept_layers, min((s + 1) * kept_layers, depth)
            walked = end - begin
            if ahead and step > 0:
                trail[:longest] = trail[kept_layers * longest : (kept_layers + 1) * longest]
            if ahead and gradient:
                kept[s * longest : (s + 1) * longest] = trail[:longest]
                kept_shift[s] = shift
            elif not ahead:
                trail[:longest] = kept[s * longest : (s + 1) * longest]
                shift = kept_shift[s]
                size = vectors.square_sum(trail, 0, widths[begin])
            turned = gradient and step >= segments - 1
            for i in range(2 * walked if turned else walked):
                advance = i < walked
                layer = begin + i if advance else end - 1 - (i - walked)
                local = layer - begin
                low = begin + local // group * group
                high = min(low + group, depth)
                base = local // group * stride
                if advance and layer == low:
                    need = forward_offset[high] - forward_offset[low]
                    philox.normals(
                        key, low // group, replica, philox.FORWARD, need, scratch, tape[base:]
                    )
                if not advance and layer == high - 1:
                    need = backward_offset[high] - backward_offset[low]
                    philox.normals(key, low // group, replica, philox.BACKWARD, need, scratch, zeta)
                if i == walked and step == segments - 1:
                    n = widths[depth]
                    philox.normals(key, 0, replica, philox.TOP, n, scratch, raw)
                    top[:n] = raw[:n]
                    p[:n] = raw[:n]
                    p_shift = 0
                    p_size = vectors.square_sum(p, 0, n)
                    top_norm = math.sqrt(p_size)
                    if slots[depth] >= 0:
                        passes.record_gradient(
                            p, 1, longest, 0, top, top_norm, trail, walked * longest, n, displaced,
                            slots[depth], r, gradients,
                        )  # fmt: skip
                z_at = base + forward_offset[layer] - forward_offset[low]
                n = widths[layer]
                h_at = local * longest
                if advance:
                    trail_shift[local] = shift
                    trail_size[local] = size
                here = trail_shift[local] + origin
                size = trail_size[local]
                moved, dead = _layer_one(
                    activation, slope, scaled, random_slopes, pre, trunk, centred, table, layer,
                    fan_in, fan_out, key, replica, scratch, slopes, longest, tape, z_at, here,
                    trail, h_at, size, hidden, radius, advance, units_on,
                )  # fmt: skip
                if advance:
                    size = moved
                    n = widths[layer + 1]
                    lifted = passes.rescale(
                        trail, h_at + longest, 1, longest, n, shift, math.sqrt(size)
                    )
                    if lifted != shift:
                        size = math.ldexp(size, int(-2 * (lifted - shift)))
                        shift = lifted
                    if ahead:
                        one_dead[0] += dead
                        if slots[layer + 1] >= 0:
                            passes.record_state(
                                trail, h_at + longest, longest, 1, shift, start, start_norm,
                                start_distance, n, displaced, slots[layer + 1], r, states,
                                units_on, activity, one_dead, dead_count,
                            )  # fmt: skip
                    continue
                zeta_at = backward_offset[layer] - backward_offset[low]
                p_size = _back_one(
                    activation, slope, scaled, pre, trunk, centred, biased, table, layer, fan_in,
                    fan_out, slopes, longest, tape, z_at, zeta, zeta_at, here, trail, h_at, hidden,
                    radius, work, p, p_size,
                )  # fmt: skip
                lifted = passes.rescale(p, 0, 1, longest, n, p_shift, math.sqrt(p_size))
                if lifted != p_shift:
                    p_size = math.ldexp(p_size, int(-2 * (lifted - p_shift)))
                    p_shift = lifted
                if slots[layer] >= 0:
                    passes.record_gradient(
                        p, 1, longest, p_shift, top, top_norm, trail, h_at, n, displaced,
                        slots[layer], r, gradients,
                    )  # fmt: skip
    hold(owners)


# ----------------------------------------------------------------------- many


@inner()
def _layer_many(
    activation, slope, scaled, random_slopes, pre, trunk, centred, biased, table, layer, fan_in,
    fan_out, key, replica, scratch, slopes, longest, count, z, z_at, shift, h, h_at, hidden,
    argument, basis, factor, tolerance, advance, units_on, dead,
):  # fmt: skip
    """One layer, K inputs: the general form of `_layer_one`.

    Matrix j: ``hidden`` holds its scaled inputs, a bias coordinate last, ``basis`` and
    ``factor`` their orthonormal decomposition, ``argument`` its outputs.
    """
    m = (table.shape[1] - 3) // 2
    plane = count * longest
    up, down = act.units(scaled, shift)
    unit = passes.inverse_power(shift)
    d = fan_in[layer, 0]
    units = 0
    which = 0
    if pre:
        if random_slopes:
            passes.draw_slopes(key, slope, layer, replica, 0, d, scratch, slopes)
        which = 1
        units = d
    for k in range(count):
        row = k * longest
        if pre:
            square, on = act.apply(
                activation, slope[0], up, down, slopes, 0, table[layer, 2], h, h_at + row, d,
                hidden, row,
            )  # fmt: skip
        else:
            square = vectors.copy(hidden, row, table[layer, 2], h, h_at + row, d)
            square, on = 1.0, 0.0
        if advance:
            units_on[k] = on
            dead[k] = square == 0.0
    offset = z_at
    for j in range(m):
        n_in, n = fan_in[layer, j], fan_out[layer, j]
        for k in range(count):
            row = j * plane + k * longest
            if centred:
                passes.subtract_mean(hidden, row, n_in)
            s = table[layer, 3 + j]
            for i in range(n_in):
                hidden[row + i] *= s
            if biased:
                hidden[row + n_in] = table[layer, 3 + m + j] * unit
        vectors.orthonormalise(
            hidden, j * plane, longest, count, n_in + biased, tolerance, basis, j * plane, factor,
            j * count * count,
        )  # fmt: skip
        for k in range(count):
            row = j * plane + k * longest
            for i in range(n):
                argument[row + i] = 0.0
            for i in range(k + 1):
                f = factor[(j * count + i) * count + k]
                if f != 0.0:
                    vectors.add_scaled(argument, row, f, z, offset + i * n, n)
        offset += count * n
        if j == m - 1 and trunk:
            break
        if random_slopes:
            passes.draw_slopes(
                key, slope, layer, replica, which, n, scratch, slopes[which * longest :]
            )
        for k in range(count):
            row = j * plane + k * longest
            square, on = act.apply(
                activation, slope[0], up, down, slopes, which * longest, 1.0, argument, row, n,
                hidden, row + plane,
            )  # fmt: skip
            if advance:
                units_on[k] += on
                dead[k] = dead[k] or square == 0.0
        which += 1
        units += n
    size = 0.0
    if advance:
        a = table[layer, 1]
        n = fan_out[layer, m - 1]
        for k in range(count):
            units_on[k] = units_on[k] / units if units else math.nan
            row = k * longest
            if not trunk:
                square = vectors.copy(h, h_at + row, a, hidden, m * plane + row, n)
            elif a != 0.0 or table[layer, 0] != 1.0:
                at = (m - 1) * plane + row
                square = vectors.advance(table[layer, 0], h, h_at + row, a, argument, at, n)
            else:
                square = vectors.square_sum(h, h_at + row, n)
            size = max(size, square)
    return size


@inner()
def _back_many(
    activation, slope, scaled, pre, trunk, centred, biased, table, layer, fan_in, fan_out, slopes,
    longest, count, z, z_at, zeta, zeta_at, shift, h, h_at, argument, basis, factor, tolerance,
    mixed, gradient, gradient_basis, gradient_factor, p,
):  # fmt: skip
    """One layer back, K inputs: the general form of `_back_one`. Returns the largest size."""
    m = (table.shape[1] - 3) // 2
    plane = count * longest
    a = table[layer, 1]
    d = fan_in[layer, 0]
    size = 0.0
    if trunk and (a == 0.0 or table[layer, 3 + m - 1] == 0.0):
        for k in range(count):
            row = k * longest
            square = vectors.scale(table[layer, 0], p, row, d)
            size = max(size, square)
        return size
    up, _ = act.units(scaled, shift)
    start = z_at
    for j in range(m):
        start += count * fan_out[layer, j]
    n = fan_out[layer, m - 1]
    for k in range(count):
        row = k * longest
        if trunk:
            vectors.copy(gradient, row, 1.0, p, row, n)
        else:
            act.back(
                activation, slope[0], up, slopes, (m - 1) * longest, 1.0, argument,
                (m - 1) * plane + row, n, a, p, row, 0.0, p, row, gradient, row,
            )  # fmt: skip
    draws = zeta_at
    for j in range(m - 1, -1, -1):
        n_in, n = fan_in[layer, j], fan_out[layer, j]
        start -= count * n
        length = n_in + biased
        vectors.orthonormalise(
            gradient, 0, longest, count, n, tolerance, gradient_basis, 0, gradient_factor, 0
        )
        for k in range(count):
            # The fresh part: draws mixed to the Gram of the gradients, the span taken out.
            row = k * longest
            for i in range(length):
                mixed[row + i] = 0.0
            for i in range(k + 1):
                f = gradient_factor[i * count + k]
                if f != 0.0:
                    vectors.add_scaled(mixed, row, f, zeta, draws + i * length, length)
            for i in range(count):
                if factor[(j * count + i) * count + i] != 0.0:
                    at = j * plane + i * longest
                    seen = vectors.dot(z, start + i * n, gradient, row, n)
                    c = seen - vectors.dot(basis, at, mixed, row, length)
                    vectors.add_scaled(mixed, row, c, basis, at, length)
            s = table[layer, 3 + j]
            for i in range(n_in):
                mixed[row + i] *= s
            if centred:
                passes.subtract_mean(mixed, row, n_in)
        for k in range(count):
            row = k * longest
            if j > 0:
                made = (j if pre else j - 1) * longest
                act.back(
                    activation, slope[0], up, slopes, made, 1.0, argument, (j - 1) * plane + row,
                    n_in, 1.0, mixed, row, 0.0, mixed, row, gradient, row,
                )  # fmt: skip
            elif pre:
                act.back(
                    activation, slope[0], up, slopes, 0, table[layer, 2], h, h_at + row, n_in,
                    1.0, mixed, row, 0.0, mixed, row, gradient, row,
                )  # fmt: skip
            else:
                vectors.copy(gradient, row, 1.0, mixed, row, n_in)
        draws += count * length
    f = table[layer, 2]
    c = table[layer, 0] if trunk else 0.0
    f = a * f if trunk else f
    for k in range(count):
        row = k * longest
        square = vectors.advance(c, p, row, f, gradient, row, d)
        size = max(size, square)
    return size


@entry
def sample_many(
    activation, slope, scaled, random_slopes, pre, trunk, centred, biased, table, fan_in, fan_out,
    widths, plan, slots, frame, given, random_input, key, first, wanted, states, gradients,
    activity, dead_count,
):  # fmt: skip
    """Sample replicas ``first ..`` of K inputs; the arguments are those of `sample_one`."""
    forward_offset, backward_offset, group, segment, stride, stride_back = plan
    gradient_wanted, displaced = wanted
    tolerance = 1e-10
    depth, m = table.shape[0], (table.shape[1] - 3) // 2
    count = states[0].shape[2]
    longest = passes.longest(fan_in, fan_out)
    plane = count * longest
    kept_layers = segment if gradient_wanted else group
    segments = (depth + kept_layers - 1) // kept_layers

    scratch = philox.new_scratch()
    tape = np.empty(kept_layers // group * stride)
    zeta = np.empty(stride_back)
    trail = np.empty((kept_layers + 1) * plane)
    trail_shift = np.zeros(kept_layers + 1, np.int64)
    kept = np.empty((segments if gradient_wanted else 1) * plane)
    kept_shift = np.zeros(segments if gradient_wanted else 1, np.int64)
    slopes = np.zeros((m + 1) * longest if random_slopes else 1)
    raw = np.empty(plane + 16)
    start = np.empty(plane)
    start_norm, start_distance = np.empty(count), np.empty(count * (count - 1) // 2)
    h, p, top = np.zeros(plane), np.zeros(plane), np.zeros(longest)
    units_on, dead, dead_so_far = np.zeros(count), np.zeros(count, np.bool_), np.zeros(count)
    hidden, argument = np.zeros((m + 1) * plane), np.zeros(m * plane)
    basis, factor = np.zeros(m * plane), np.zeros(m * count * count)
    mixed, gradient, gradient_basis = np.zeros(plane), np.zeros(plane), np.zeros(plane)
    gradient_factor = np.zeros(count * count)

    owners = (
        tape,
        zeta,
        trail,
        trail_shift,
        kept,
        kept_shift,
        slopes,
        raw,
        start,
        start_norm,
        start_distance,
        h,
        p,
        top,
        units_on,
        dead,
        dead_so_far,
        hidden,
        argument,
        basis,
        factor,
        mixed,
        gradient,
        gradient_basis,
        gradient_factor,
        scratch[0],
        scratch[1],
    )
    tape, zeta, trail, trail_shift = borrow(tape), borrow(zeta), borrow(trail), borrow(trail_shift)
    kept, kept_shift, slopes, raw = borrow(kept), borrow(kept_shift), borrow(slopes), borrow(raw)
    start, start_norm, start_distance, h = (
        borrow(start),
        borrow(start_norm),
        borrow(start_distance),
        borrow(h),
    )
    p, top, units_on, dead = borrow(p), borrow(top), borrow(units_on), borrow(dead)
    dead_so_far, hidden, argument, basis = (
        borrow(dead_so_far),
        borrow(hidden),
        borrow(argument),
        borrow(basis),
    )
    factor, mixed, gradient, gradient_basis = (
        borrow(factor),
        borrow(mixed),
        borrow(gradient),
        borrow(gradient_basis),
    )
    gradient_factor = borrow(gradient_factor)
    table, fan_in, fan_out, widths = borrow(table), borrow(fan_in), borrow(fan_out), borrow(widths)
    slots, forward_offset, backward_offset, activity = (
        borrow(slots),
        borrow(forward_offset),
        borrow(backward_offset),
        borrow(activity),
    )
    dead_count = borrow(dead_count)
    scratch = (borrow(scratch[0]), borrow(scratch[1]))

    for r in range(states[0].shape[0]):
        replica = first + r
        d = widths[0]
        passes.draw_inputs(
            frame, given, random_input, key, replica, d, scratch, raw, gradient_basis,
            longest, start,
        )  # fmt: skip
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
        p_shift, p_size, top_norm = 0, 0.0, 0.0
        for step in range(2 * segments - 1 if gradient_wanted else segments):
            ahead = step < segments
            s = step if ahead else 2 * segments - 2 - step
            begin, end = s * kept_layers, min((s + 1) * kept_layers, depth)
            walked = end - begin
            if ahead and gradient_wanted:
                kept[s * plane : (s + 1) * plane] = h
                kept_shift[s] = shift
            elif not ahead:
                h[:] = kept[s * plane : (s + 1) * plane]
                shift = kept_shift[s]
            turned = gradient_wanted and step >= segments - 1
            for i in range(2 * walked if turned else walked):
                advance = i < walked
                layer = begin + i if advance else end - 1 - (i - walked)
                local = layer - begin
                low = begin + local // group * group
                high = min(low + group, depth)
                base = local // group * stride
                if advance and layer == low:
                    need = forward_offset[high] - forward_offset[low]
                    philox.normals(
                        key, low // group, replica, philox.FORWARD, need, scratch, tape[base:]
                    )
                if not advance and layer == high - 1:
                    need = backward_offset[high] - backward_offset[low]
                    philox.normals(key, low // group, replica, philox.BACKWARD, need, scratch, zeta)
                if i == walked and step == segments - 1:
                    n = widths[depth]
                    philox.normals(key, 0, replica, philox.TOP, n, scratch, raw)
                    top[:n] = raw[:n]
                    for k in range(count):
                        p[k * longest : k * longest + n] = raw[:n]
                    p_shift = 0
                    top_norm = math.sqrt(vectors.square_sum(top, 0, n))
                    if slots[depth] >= 0:
                        passes.record_gradient(
                            p, count, longest, 0, top, top_norm, h, 0, n, displaced, slots[depth],
                            r, gradients,
                        )  # fmt: skip
                z_at = base + forward_offset[layer] - forward_offset[low]
                n = widths[layer]
                h_at = local * plane
                if advance:
                    trail[h_at : h_at + plane] = h
                    trail_shift[local] = shift
                here = origin + (shift if advance else trail_shift[local])
                source, source_at = h, 0
                if not advance:
                    source, source_at = trail, h_at
                size = _layer_many(
                    activation, slope, scaled, random_slopes, pre, trunk, centred, biased, table,
                    layer, fan_in, fan_out, key, replica, scratch, slopes, longest, count, tape,
                    z_at, here, source, source_at, hidden, argument,
                    basis, factor, tolerance, advance, units_on, dead,
                )  # fmt: skip
                if advance:
                    n = widths[layer + 1]
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
                    continue
                p_size = _back_many(
                    activation, slope, scaled, pre, trunk, centred, biased, table, layer, fan_in,
                    fan_out, slopes, longest, count, tape, z_at, zeta,
                    backward_offset[layer] - backward_offset[low], here, trail, h_at, argument,
                    basis, factor, tolerance, mixed, gradient, gradient_basis, gradient_factor, p,
                )  # fmt: skip
                p_shift = passes.rescale(p, 0, count, longest, n, p_shift, math.sqrt(p_size))
                if slots[layer] >= 0:
                    passes.record_gradient(
                        p, count, longest, p_shift, top, top_norm, trail, h_at, n, displaced,
                        slots[layer], r, gradients,
                    )  # fmt: skip
    hold(owners)
