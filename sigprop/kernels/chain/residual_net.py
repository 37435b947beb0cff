"""A residual net of any depth: all layers ahead and, for a gradient, all back."""

import math

import numpy as np

from sigprop.kernels import lanes, philox
from sigprop.kernels.chain import hidden, lengths, residual_layer
from sigprop.kernels.chain.residual_layer import ROWS_FIXED
from sigprop.kernels.compiled import entry
from sigprop.kernels.lanes import LANES

__all__ = ["residual"]

_f32 = np.float32


@entry
def residual(
    slope, table, width, hidden_widths, frame, cumulative, tables, segment, slots, key, first,
    start_norm, gradient_wanted, biased, states, gradients, activity, dead_count,
):  # fmt: skip
    """Sample replicas ``first .. first + LANES - 1`` of a residual chain.

    Parameters
    ----------
    slope : float
        Negative slope s of the activation: 0 ReLU, 1 linear.
    table : (skip, branch, scale, bias), float64
        Skip coefficients are not 0.
    hidden_widths : int64[depth, matrices - 1]
    frame : bool
        Whether the displacements are wanted.
    cumulative, tables : float64[:], int64[depth, matrices - 1, 2]
        See `lanes.binomial_half`.
    segment : int
        Layers between two stored states.
    slots : int64[depth + 1]
    states : (log_norm, log_displacement), gradients : (log_gradient,
    log_gradient_displacement, alignment), activity, dead_count : float64[LANES, slot, 1]
    """
    depth, m = table[2].shape
    inner = m - 1
    rows = ROWS_FIXED + 4 * inner + m
    kept_layers = segment if gradient_wanted else 1
    segments = (depth + kept_layers - 1) // kept_layers
    stores = segments if gradient_wanted else 1
    tape = np.zeros((kept_layers, rows, LANES), np.float32)
    bits = 0
    for layer in range(depth):
        need = 0
        for j in range(inner):
            n = hidden_widths[layer, j]
            need += (n + 31) // 32 if n <= lanes.TABLE_FROM else 1
        bits = max(bits, need)
    word = np.empty((24 + 12 * m + bits, LANES), np.uint32)
    z = np.empty((24 + 8 * m, LANES), np.float32)
    work = np.zeros((15, LANES), np.float32)
    state = np.zeros((2, LANES), np.float32)
    gradient = np.zeros((7, LANES), np.float32)
    far, inverse, log_size = np.zeros(LANES), np.ones(LANES), np.zeros(LANES)
    log_gradient, back_inverse = np.zeros(LANES), np.ones(LANES)
    dead = np.zeros(LANES)
    kept_single = np.zeros((stores, 2, LANES), np.float32)
    kept_double = np.zeros((stores, 3, LANES))
    log_start = math.log(start_norm)
    lengths.fill(state[0], 1.0)
    log_size[:] = log_start
    count = states[0].shape[0]
    units = 0

    if slots[0] >= 0:
        for i in range(count):
            states[0][i, slots[0], 0] = 0.0
            activity[i, slots[0], 0] = math.nan
            dead_count[i, slots[0], 0] = 0.0
            if frame:
                states[1][i, slots[0], 0] = -math.inf
    for step in range(2 * segments - 1 if gradient_wanted else segments):
        ahead = step < segments
        s = step if ahead else 2 * segments - 2 - step
        begin, end = s * kept_layers, min((s + 1) * kept_layers, depth)
        if ahead and gradient_wanted:
            kept_single[s] = state
            kept_double[s, 0] = log_size
            kept_double[s, 1] = far
            kept_double[s, 2] = inverse
        elif not ahead:
            state[:] = kept_single[s]
            log_size[:] = kept_double[s, 0]
            far[:] = kept_double[s, 1]
            inverse[:] = kept_double[s, 2]
        for layer in range(begin, end):
            if layer % 64 == 0:
                # The running product e^-lambda is renewed before rounding or range matter.
                for i in range(LANES):
                    inverse[i] = math.exp(min(log_start - log_size[i], 700.0))
            here = tape[layer - begin]
            residual_layer.ahead(
                slope, table, layer, width, hidden_widths, frame, key, first, word, z, cumulative,
                tables, here, work, state, log_size, far, inverse, biased,
            )  # fmt: skip
            if not ahead:
                continue
            if inner > 0 and slope == 0.0:
                for j in range(inner):
                    size = here[ROWS_FIXED + 4 * j + 1]
                    low = size[0]
                    for i in range(LANES):
                        low = min(low, size[i])
                    if low == 0.0:
                        for i in range(LANES):
                            if size[i] == 0.0:
                                already = False
                                for other in range(j):
                                    if here[ROWS_FIXED + 4 * other + 1, i] == 0.0:
                                        already = True
                                if not already:
                                    dead[i] += 1.0
            slot = slots[layer + 1]
            if slot >= 0:
                units = 0
                for j in range(inner):
                    units += hidden_widths[layer, j]
                for i in range(count):
                    states[0][i, slot, 0] = log_size[i] - log_start
                    dead_count[i, slot, 0] = dead[i]
                    on = 0.0
                    for j in range(inner):
                        row = ROWS_FIXED + 4 * j
                        on += here[row, i]
                    activity[i, slot, 0] = on / units if units else math.nan
                    if frame:
                        value = inverse[i]
                        across = np.float64(state[1, i]) * (1.0 / value if value > 1.0 else 1.0)
                        states[1][i, slot, 0] = lengths.log_length(
                            far[i] * far[i] + across * across, log_size[i] - log_start
                        )
        if not gradient_wanted or step < segments - 1:
            continue
        if step == segments - 1:
            hidden.draw(key, 0, first, philox.TOP, 3, 1, word, z)
            rest = work[6]
            drop = 2 if frame else 1
            lanes.chi_square_same(width - drop, z[2], word[4], key, 0, first, philox.TOP, 0, rest)
            for i in range(LANES):
                second = z[1, i] if frame and width >= 2 else _f32(0.0)
                norm = math.sqrt(z[0, i] * z[0, i] + second * second + rest[i])
                gradient[0, i] = z[0, i] / norm
                gradient[1, i] = second / norm
                gradient[2, i] = rest[i] / (norm * norm)
                for k in range(3, 7):
                    gradient[k, i] = _f32(0.0)
                log_gradient[i] = 0.0
                back_inverse[i] = 1.0
            if slots[depth] >= 0:
                for i in range(count):
                    gradients[0][i, slots[depth], 0] = 0.0
                    gradients[2][i, slots[depth], 0] = gradient[0, i]
                    if frame:
                        gradients[1][i, slots[depth], 0] = -math.inf
                        gradients[2][i, slots[depth], 0] = (
                            gradient[0, i] * state[0, i] + gradient[1, i] * state[1, i]
                        )
        for layer in range(end - 1, begin - 1, -1):
            if layer % 64 == 0:
                for i in range(LANES):
                    back_inverse[i] = math.exp(min(-log_gradient[i], 700.0))
            here = tape[layer - begin]
            residual_layer.back(
                slope, table, layer, width, hidden_widths, frame, key, first, word, z, here, work,
                gradient, log_gradient, back_inverse, biased,
            )  # fmt: skip
            slot = slots[layer]
            if slot >= 0:
                for i in range(count):
                    gradients[0][i, slot, 0] = log_gradient[i]
                    if frame:
                        gradients[2][i, slot, 0] = (
                            gradient[0, i] * here[3, i] + gradient[1, i] * here[4, i]
                        )
                        parts = np.float64(gradient[3, i]) ** 2 + np.float64(gradient[4, i]) ** 2
                        gradients[1][i, slot, 0] = lengths.log_length(
                            parts + np.float64(gradient[5, i]), log_gradient[i]
                        )
                    else:
                        gradients[2][i, slot, 0] = gradient[0, i]
