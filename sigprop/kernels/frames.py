"""K inputs through Gaussian or orthogonal matrices, none of which is formed.

The inputs of a matrix are the columns of X, with Gram matrix G = R^T R, R upper triangular;
where an input is a combination of earlier ones (to 1e-13 of its square) it has no direction of
its own, and its row of R is zero. E = X R^-1 are the directions that there are. A matrix W sends
them to Z, of the size of its outputs, so that W X = Z R, and the gradients Q that come back at
its outputs split into what Z sees of them and the rest:

    Gaussian, entries N(0, s^2):  Z = s (normals),       W^T Q = E Z^T Q + s (1 - E E^T) zeta R_Q
    orthogonal, s times a Haar
    matrix of D rows:             Z = s (a Haar frame),  W^T Q = E Z^T Q + s F R_P

with R_Q^T R_Q = Q^T Q, zeta fresh normals, P what Q has across Z, and F a Haar frame across E.
A rectangular orthogonal matrix is a part of a square one of D = max(rows, columns): inputs and
gradients are filled up with zeros to D entries, and of the results the first are taken.

Whatever stands around a matrix is common to all blocks:

    h' = [phi] ( skip [S] h + branch F(input_scale h) ),   F = W_m phi( .. phi(W_1 [phi] .) )

with [phi] where the block has it, S the last matrix of the layer, and a stem before the first
layer. With a gradient all states and Z are kept on a tape.
"""

import math

import numpy as np

from sigprop.kernels import activation as act
from sigprop.kernels import passes, philox, vectors
from sigprop.kernels.borrow import borrow, hold
from sigprop.kernels.compiled import entry, inner, strict

__all__ = ["sample"]

_SAME = 1e-13  # share of a square below which a column is a combination of earlier ones
_NOTHING = 1e-20  # the same where the rest was measured and not left over


@inner()
def _gram(x, x_at, stride, count, n, gram):
    """Products of ``count`` rows of n entries."""
    for i in range(count):
        for k in range(i, count):
            product = vectors.dot(x, x_at + i * stride, x, x_at + k * stride, n)
            gram[i * count + k] = product
            gram[k * count + i] = product


@strict
def _cholesky(gram, scale, count, least, factor):
    """``factor`` R, upper triangular, R^T R = gram; zero rows below ``least`` of ``scale``.

    ``scale[k]`` is the square that a left-over is compared with.
    """
    for k in range(count):
        left = gram[k * count + k]
        for i in range(count):
            factor[i * count + k] = 0.0
        for i in range(k):
            pivot = factor[i * count + i]
            if pivot > 0.0:
                v = gram[i * count + k]
                for a in range(i):
                    v -= factor[a * count + i] * factor[a * count + k]
                v /= pivot
                factor[i * count + k] = v
                left -= v * v
        if left > least * scale[k]:
            factor[k * count + k] = math.sqrt(left)


@strict
def _descend(factor, count, rows):
    """``rows := R^-T rows``, K x K, the rows of absent directions becoming zero."""
    for i in range(count):
        pivot = factor[i * count + i]
        for k in range(count):
            v = rows[i * count + k]
            for a in range(i):
                v -= factor[a * count + i] * rows[a * count + k]
            rows[i * count + k] = v / pivot if pivot > 0.0 else 0.0


@strict
def _ascend(factor, count, rows):
    """``rows := R^-1 rows``, K x K, the rows of absent directions becoming zero."""
    for i in range(count - 1, -1, -1):
        pivot = factor[i * count + i]
        for k in range(count):
            v = rows[i * count + k]
            for a in range(i + 1, count):
                v -= factor[i * count + a] * rows[a * count + k]
            rows[i * count + k] = v / pivot if pivot > 0.0 else 0.0


@inner()
def _mixed(weights, first, last, count, column, x, x_at, stride, n, out, out_at):
    """``out += sum_i weights[i, column] x_i``, ``first <= i < last``, of K rows of weights."""
    for i in range(first, last):
        w = weights[i * count + column]
        if w != 0.0:
            vectors.add_scaled(out, out_at, w, x, x_at + i * stride, n)


@inner()
def _seen(x, x_at, y, y_at, stride, count, n, factor, use, out):
    """``out[i, k] = x_i . y_k``; with ``use`` 0 for the rows that ``factor`` leaves out."""
    for i in range(count):
        for k in range(count):
            out[i * count + k] = 0.0
            if not use or factor[i * count + i] > 0.0:
                out[i * count + k] = vectors.dot(x, x_at + i * stride, y, y_at + k * stride, n)


@strict
def _framed(rows, rows_at, stride, count, n, factor):
    """Gram-Schmidt, twice, of the rows that ``factor`` uses, in place; the others become zero."""
    for k in range(count):
        here = rows_at + k * stride
        if factor[k * count + k] == 0.0:
            for e in range(n):
                rows[here + e] = 0.0
            continue
        for _ in range(2):
            for i in range(k):
                there = rows_at + i * stride
                c = 0.0
                for e in range(n):
                    c += rows[there + e] * rows[here + e]
                for e in range(n):
                    rows[here + e] -= c * rows[there + e]
            square = 0.0
            for e in range(n):
                square += rows[here + e] * rows[here + e]
            scale = 1.0 / math.sqrt(square)
            for e in range(n):
                rows[here + e] *= scale


@inner()
def _forward(
    haar, s, bias, n_in, n_out, count, longest, gram, key, layer, replica, j, scratch, raw,
    diagonal, factor, z, z_at, y, y_at,
):  # fmt: skip
    """Draw Z, and ``y_k = sum_i factor[i, k] z_i`` (+ ``bias`` times a normal for each unit)."""
    for k in range(count):
        diagonal[k] = gram[k * count + k]
    _cholesky(gram, diagonal, count, _SAME, factor)
    size = max(n_in, n_out) if haar else n_out
    philox.normals(key, layer, replica, philox.FORWARD + 256 * j, count * size, scratch, raw)
    if haar:
        for i in range(count):
            vectors.copy(z, z_at + i * longest, 1.0, raw, i * size, size)
        _framed(z, z_at, longest, count, size, factor)
        s = s * math.sqrt(size)
        for i in range(count):
            vectors.scale(s, z, z_at + i * longest, size)
    else:
        for i in range(count):
            vectors.copy(z, z_at + i * longest, s, raw, i * size, size)
    for k in range(count):
        row = y_at + k * longest
        vectors.copy(y, row, factor[k * count + k], z, z_at + k * longest, n_out)
        _mixed(factor, np.int64(0), k, count, k, z, z_at, longest, n_out, y, row)
    if bias != 0.0:
        philox.normals(key, layer, replica, philox.BIAS + 256 * j, n_out, scratch, raw)
        for k in range(count):
            vectors.add_scaled(y, y_at + k * longest, bias, raw, np.int64(0), n_out)


@inner()
def _backward(
    haar, s, n_in, n_out, count, longest, x, x_at, factor, key, layer, replica, j, scratch, raw,
    diagonal, q, q_at, z, z_at, seen, crossed, gram, radius, rest, out, out_at,
):  # fmt: skip
    """``out_k = W^T q_k``; ``x`` are the inputs of the matrix and ``factor`` their R."""
    zero = np.int64(0)
    _seen(z, z_at, q, q_at, longest, count, n_out, factor, True, seen)
    for k in range(count):
        diagonal[k] = vectors.square_sum(q, q_at + k * longest, n_out)
    size = n_in
    if haar:
        size = max(n_in, n_out)
        s = s * math.sqrt(size)
        # What the gradients have across Z / s, on all entries of a square matrix.
        for k in range(count):
            row = k * longest
            for e in range(size):
                rest[row + e] = q[q_at + row + e] if e < n_out else 0.0
            for i in range(count):
                w = seen[i * count + k] / (s * s)
                if w != 0.0:
                    vectors.add_scaled(rest, row, -w, z, z_at + i * longest, size)
        _gram(rest, zero, longest, count, size, gram)
        _cholesky(gram, diagonal, count, _NOTHING, radius)
    else:
        _gram(q, q_at, longest, count, n_out, gram)
        _cholesky(gram, diagonal, count, _SAME, radius)
    philox.normals(key, layer, replica, philox.BACKWARD + 256 * j, count * size, scratch, raw)
    for k in range(count):
        vectors.copy(rest, k * longest, 1.0, raw, k * size, size)
    # Coordinates of the draws along E.
    _seen(x, x_at, rest, zero, longest, count, n_in, factor, True, crossed)
    _descend(factor, count, crossed)
    if haar:
        _ascend(factor, count, crossed)
        for k in range(count):
            for i in range(count):
                w = crossed[i * count + k]
                if w != 0.0:
                    vectors.add_scaled(rest, k * longest, -w, x, x_at + i * longest, n_in)
        _framed(rest, zero, longest, count, size, radius)
    else:
        # Z^T Q is what E carries; of it the draws bring s crossed R_Q already.
        for i in range(count):
            if factor[i * count + i] > 0.0:
                for k in range(count):
                    total = 0.0
                    for b in range(count):
                        total += crossed[i * count + b] * radius[b * count + k]
                    seen[i * count + k] -= s * total
    _ascend(factor, count, seen)
    for i in range(count * count):
        radius[i] *= s
    for k in range(count):
        row = out_at + k * longest
        vectors.copy(out, row, radius[k * count + k], rest, k * longest, n_in)
        _mixed(radius, zero, k, count, k, rest, zero, longest, n_in, out, row)
        _mixed(seen, zero, count, count, k, x, x_at, longest, n_in, out, row)


@entry
def sample(
    haar, activation, slope, scaled, random_slopes, form, biased, table, stem, fan_in, fan_out,
    widths, slots, frame, given, random_input, key, first, wanted, states, gradients, activity,
    dead_count,
):  # fmt: skip
    """Sample replicas ``first ..``.

    Parameters
    ----------
    haar : bool
        Whether matrices are orthogonal, else Gaussian.
    form : (pre, trunk, post, projected), bools
    stem : float64[4]
        1 if there is one, its scale and bias scale, and the size of the input.
    the rest
        As in `conditional.sample_one`.

    A layer is a few steps, each a matrix, or an activation, or one and then the other: step -1
    is the activation of the state itself, 0 .. m-1 the matrices of the branch, m the skip
    matrix, m + 1 the activation of the sum. The stem is step 0 of a layer -1. One call serves
    all, and so everything stands on one tape: of every layer the state (plane 0), what the
    matrices of the branch read (1 .. m), give (m + 1 .. 2 m), what S gives, the sum, and the Z
    of all matrices.
    """
    pre, trunk, post, projected = form
    gradient_wanted, displaced = wanted
    depth, total = table.shape[0], (table.shape[1] - 3) // 2
    m = total - 1 if projected else total
    count = states[0].shape[2]
    longest = max(passes.longest(fan_in, fan_out), (int(stem[3]) + 16) // 16 * 16)
    plane = count * longest
    square = count * count
    read_at, given_at, past_at, sum_at, z_plane = 1, 1 + m, 1 + 2 * m, 2 + 2 * m, 3 + 2 * m
    layer_size = (3 + 2 * m + total) * plane

    scratch = philox.new_scratch()
    raw = np.empty(plane + 1024)
    tape = np.zeros((depth if gradient_wanted else 1) * layer_size)
    tape_shift = np.zeros(depth if gradient_wanted else 1, np.int64)
    factors = np.zeros((depth if gradient_wanted else 1) * total * square)
    basis, start, h = np.zeros(plane), np.zeros(plane), np.zeros(plane)
    back = np.zeros(3 * plane)  # the gradient past the branch, that in it, and room for one more
    rest, top = np.zeros(plane), np.zeros(longest)
    slopes = np.zeros((m + 2) * longest if random_slopes else 1)
    gram, seen, crossed, radius = (
        np.zeros(square), np.zeros(square), np.zeros(square), np.zeros(square)
    )  # fmt: skip
    diagonal = np.zeros(count)
    start_norm, start_distance = np.empty(count), np.empty(count * (count - 1) // 2)
    units_on, dead, dead_so_far = np.zeros(count), np.zeros(count, np.bool_), np.zeros(count)
    owners = (
        raw, tape, factors, basis, start, h, back, rest, top, slopes, gram, seen, crossed, radius,
        diagonal, scratch[0], scratch[1],
    )  # fmt: skip
    raw, tape, factors, basis = borrow(raw), borrow(tape), borrow(factors), borrow(basis)
    start, h, back, rest, top = borrow(start), borrow(h), borrow(back), borrow(rest), borrow(top)
    slopes, gram, seen, crossed = borrow(slopes), borrow(gram), borrow(seen), borrow(crossed)
    radius, diagonal = borrow(radius), borrow(diagonal)
    scratch = (borrow(scratch[0]), borrow(scratch[1]))
    zero = np.int64(0)

    for r in range(states[0].shape[0]):
        replica = first + r
        dead_so_far[:] = 0.0
        units_on[:] = math.nan
        begin = -1 if stem[0] else 0
        n = int(stem[3]) if stem[0] else widths[0]
        passes.draw_inputs(
            frame, given, random_input, key, replica, n, scratch, raw, basis, longest, start
        )
        origin, shift = 0, 0
        for layer in range(begin, depth):
            entering = layer < 0
            if layer == 0:
                n = widths[0]
                origin = passes.measure_inputs(start, count, longest, n, start_norm, start_distance)
                h[:] = start
                if slots[0] >= 0:
                    _record(
                        h, longest, count, shift, start, start_norm, start_distance, n, displaced,
                        slots[0], r, states, units_on, activity, dead_so_far, dead_count,
                    )  # fmt: skip
            here = layer if gradient_wanted and not entering else 0
            at = here * layer_size
            address = depth if entering else layer
            for e in range(plane):
                tape[at + e] = start[e] if entering else h[e]
            tape_shift[here] = shift
            up, down = act.units(scaled, shift + origin)
            unit = passes.inverse_power(shift + origin) if biased else 0.0
            units = 0
            units_on[:] = 0.0
            dead[:] = False
            for step in range(-1, m + 2):
                matrix = 0 <= step < m or (step == m and projected)
                active = (
                    (step == -1 and pre)
                    or (0 <= step < m and (step < m - 1 or not trunk))
                    or (step == m + 1 and post)
                )
                if entering:
                    matrix, active = step == 0, step == 0
                source, target = at, at + past_at * plane
                if 0 < step < m or (step == 0 and pre and not entering):
                    source = at + (read_at + step) * plane
                if 0 <= step < m:
                    target = at + (given_at + step) * plane
                f = 1.0
                if matrix:
                    n_in, n = int(stem[3]), widths[0]
                    s, bias = stem[1], stem[2]
                    if not entering:
                        n_in, n = fan_in[layer, step], fan_out[layer, step]
                        f = table[layer, 2] if step == 0 and not pre else 1.0
                        s = f * table[layer, 3 + step]
                        bias = table[layer, 3 + total + step] * unit
                    _gram(tape, source, longest, count, n_in, gram)
                    f_at = (here * total + step) * square
                    _forward(
                        haar, s, bias, n_in, n, count, longest, gram, key, address, replica, step,
                        scratch, raw, diagonal, factors[f_at : f_at + square], tape,
                        at + (z_plane + step) * plane, tape, target,
                    )  # fmt: skip
                f = 1.0
                if step == -1 and active:
                    target, n, f = at, widths[layer], table[layer, 2]
                if step == m + 1 and not entering:
                    target, n = at + sum_at * plane, widths[layer + 1]
                    c, a = table[layer, 0], table[layer, 1]
                    y = at + (given_at + m - 1) * plane
                    for k in range(count):
                        row = k * longest
                        if not trunk:
                            continue
                        vectors.copy(tape, target + row, c, h, row, n)
                        if projected:
                            vectors.copy(tape, target + row, c, tape, at + past_at * plane + row, n)
                        vectors.add_scaled(tape, target + row, a, tape, y + row, n)
                if not active:
                    continue
                # The activation with this number among those of the layer.
                which = step + 1 if pre else min(step, m - 1)
                if random_slopes:
                    passes.draw_slopes(
                        key, slope, address, replica, which, n, scratch,
                        slopes[which * longest :],
                    )  # fmt: skip
                for k in range(count):
                    row = k * longest
                    # A step writes what the next matrix reads; the last ones, the state.
                    to = at + (read_at + step + 1) * plane + row
                    if step >= m - 1 or entering:
                        to = at + past_at * plane + row
                    size, on = act.apply(
                        activation, slope[0], up, down, slopes, which * longest, f, tape,
                        target + row, n, tape, to,
                    )  # fmt: skip
                    units_on[k] += on
                    dead[k] = dead[k] or size == 0.0
                units += n
            largest = 0.0
            for k in range(count):
                row = k * longest
                units_on[k] = units_on[k] / units if units else math.nan
                dead_so_far[k] += dead[k]
                if entering:
                    vectors.copy(start, row, 1.0, tape, at + past_at * plane + row, n)
                    continue
                n = widths[layer + 1]
                last, a = at + sum_at * plane + row, 1.0
                if post or not trunk:
                    last = at + past_at * plane + row
                if not trunk:
                    a = table[layer, 1]
                largest = max(largest, vectors.copy(h, row, a, tape, last, n))
            if entering:
                continue
            shift = passes.rescale(h, 0, count, longest, n, shift, math.sqrt(largest))
            if slots[layer + 1] >= 0:
                _record(
                    h, longest, count, shift, start, start_norm, start_distance, n, displaced,
                    slots[layer + 1], r, states, units_on, activity, dead_so_far, dead_count,
                )  # fmt: skip
        if not gradient_wanted:
            continue

        n = widths[depth]
        philox.normals(key, 0, replica, philox.TOP, n, scratch, raw)
        top[:n] = raw[:n]
        for k in range(count):
            back[k * longest : k * longest + n] = raw[:n]
        p_shift = 0
        top_norm = math.sqrt(vectors.square_sum(top, 0, n))
        if slots[depth] >= 0:
            passes.record_gradient(
                back, count, longest, 0, top, top_norm, h, 0, n, displaced, slots[depth], r,
                gradients,
            )  # fmt: skip
        for layer in range(depth - 1, -1, -1):
            at = layer * layer_size
            up, _ = act.units(scaled, tape_shift[layer] + origin)
            c, a = table[layer, 0], table[layer, 1]
            for step in range(m + 1, -2, -1):
                matrix = 0 <= step < m or (step == m and projected)
                active = (
                    (step == -1 and pre)
                    or (0 <= step < m and (step < m - 1 or not trunk))
                    or (step == m + 1 and post)
                )
                gradient = zero if step >= m else np.int64(plane)
                source = at + (given_at + step) * plane
                n, f = widths[layer], 1.0
                if step == m + 1:
                    source, n = at + sum_at * plane, widths[layer + 1]
                elif step >= 0 and matrix:
                    n = fan_out[layer, step]
                elif step == -1:
                    source, f = at, table[layer, 2]
                if active:
                    which = step + 1 if pre else min(step, m - 1)
                    if random_slopes:
                        passes.draw_slopes(
                            key, slope, layer, replica, which, n, scratch,
                            slopes[which * longest :],
                        )  # fmt: skip
                    for k in range(count):
                        row = gradient + k * longest
                        act.back(
                            activation, slope[0], up, slopes, which * longest, f, tape,
                            source + k * longest, n, f, back, row, 0.0, back, row, back, row,
                        )  # fmt: skip
                if step == m + 1:
                    for k in range(count):
                        row = k * longest
                        vectors.copy(back, plane + row, a, back, row, n)
                if not matrix:
                    continue
                n_in, f = fan_in[layer, step], 1.0
                x_at = at
                if step < m and (step > 0 or pre):
                    x_at = at + (read_at + step) * plane
                elif step == 0:
                    f = table[layer, 2]
                f_at = (layer * total + step) * square
                _backward(
                    haar, f * table[layer, 3 + step], n_in, n, count, longest, tape, x_at,
                    factors[f_at : f_at + square], key, layer, replica, step, scratch, raw,
                    diagonal, back, gradient, tape, at + (z_plane + step) * plane, seen,
                    crossed, gram, radius, rest, back, 2 * plane,
                )  # fmt: skip
                for k in range(count):
                    row = k * longest
                    vectors.copy(back, gradient + row, 1.0, back, 2 * plane + row, n_in)
            largest = 0.0
            n = widths[layer]
            for k in range(count):
                row = k * longest
                if not trunk:
                    c = 0.0
                size = vectors.advance(c, back, row, 1.0, back, plane + row, n)
                largest = max(largest, size)
            p_shift = passes.rescale(back, 0, count, longest, n, p_shift, math.sqrt(largest))
            if slots[layer] >= 0:
                passes.record_gradient(
                    back, count, longest, p_shift, top, top_norm, tape, at, n, displaced,
                    slots[layer], r, gradients,
                )  # fmt: skip
    hold(owners)


@strict
def _record(
    h, stride, count, shift, start, norms, distances, n, displaced, slot, r, outputs, units_on,
    activity, dead, dead_count,
):  # fmt: skip
    """As `passes.record_state`; a network that is dead at its stem has norm 0, not 0/0."""
    passes.record_state(
        h, 0, stride, count, shift, start, norms, distances, n, displaced, slot, r, outputs,
        units_on, activity, dead, dead_count,
    )  # fmt: skip
    for k in range(count):
        if outputs[3][r, slot, k, k] == 0.0:
            outputs[0][r, slot, k] = -math.inf
