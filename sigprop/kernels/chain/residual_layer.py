"""One layer of a residual net, ahead and back, for all lanes.

Rows of the tape of one layer: 0, 1, 2 the output of the branch (along h, [along the rest of
h_0's plane,] the rest); 3, 4 the state (x, xi) in the frame of h_0; 5 e^-lambda; then for each
hidden layer count, A, ct, sn; then kappa of every matrix.
"""

import numpy as np

from sigprop.kernels import lanes, philox
from sigprop.kernels.chain import by_frame, by_norm, hidden, lengths
from sigprop.kernels.compiled import inner
from sigprop.kernels.lanes import LANES

__all__ = ["ROWS_FIXED", "ahead", "back"]

_f32 = np.float32
ROWS_FIXED = 6


@inner()
def ahead(
    slope, table, layer, width, hidden_widths, frame, key, first, word, z, cumulative, tables,
    tape, work, state, log_size, far, inverse, biased,
):  # fmt: skip
    """One residual layer ahead for all lanes."""
    skip, branch, scale, bias = table
    m = scale.shape[1]
    leaky = slope != 0.0
    per_hidden = 2 if leaky else 1
    squared, degrees, plus, minus, ratio, change, rest, size = (
        work[0], work[1], work[2], work[3], work[4], work[5], work[6], work[7],
    )  # fmt: skip
    x, xi = state[0], state[1]
    inner = m - 1
    bits = 0
    for j in range(inner):
        n = hidden_widths[layer, j]
        bits += (n + 31) // 32 if n <= lanes.TABLE_FROM else 1
    count_normals = inner * per_hidden + (3 if frame else 2)
    word_at = hidden.draw(
        key, layer, first, philox.FORWARD, count_normals, inner * per_hidden + 1 + bits, word, z
    )
    z_at = 0
    lift = tape[5]
    if biased:
        lengths.lift(log_size, lift)
    if frame:
        tape[3, :] = x
        tape[4, :] = xi
    lengths.fill(size, 1.0)
    kappa_at = ROWS_FIXED + 4 * inner
    for j in range(inner):
        n = hidden_widths[layer, j]
        row = ROWS_FIXED + 4 * j
        hidden.radius(scale[layer, j], bias[layer, j], size, lift, tape[kappa_at + j], squared)
        used, words = hidden.ahead(
            slope, n, squared, word, z, z_at, word_at, cumulative, tables[layer, j, 0],
            tables[layer, j, 1], key, layer, first, 2 * j, tape, row, degrees, plus, minus,
        )  # fmt: skip
        z_at += used
        word_at += words
        size[:] = tape[row + 1]
    hidden.radius(
        scale[layer, m - 1], bias[layer, m - 1], size, lift, tape[kappa_at + inner], squared
    )
    c, a = skip[layer], branch[layer]
    if frame:
        lanes.chi_square_same(
            width - 2, z[z_at + 2], word[word_at], key, layer, first, philox.FORWARD, 2 * m, rest
        )
        by_frame.step(
            c, a, squared, z[z_at], z[z_at + 1], rest, width >= 2, tape[0], tape[1], tape[2], x,
            xi, log_size, ratio, change, degrees, far, inverse,
        )  # fmt: skip
    else:
        lanes.chi_square_same(
            width - 1, z[z_at + 1], word[word_at], key, layer, first, philox.FORWARD, 2 * m, rest
        )
        by_norm.step(
            c, a, squared, z[z_at], rest, tape[0], tape[2], log_size, ratio, change, degrees
        )


@inner()
def back(
    slope, table, layer, width, hidden_widths, frame, key, first, word, z, tape, work, gradient,
    log_gradient, inverse, biased,
):  # fmt: skip
    """One residual layer back for all lanes; ``gradient`` holds it with |p| = 1."""
    skip, branch, scale, bias = table
    m = scale.shape[1]
    leaky = slope != 0.0
    inner = m - 1
    c, a = skip[layer], branch[layer]
    squared, degrees, plus, minus, ratio, change, rest, size = (
        work[0], work[1], work[2], work[3], work[4], work[5], work[6], work[7],
    )  # fmt: skip
    ph, r2, eta, ek, rd, rpd, unit = (
        work[8], work[9], work[10], work[11], work[12], work[13], work[14],
    )  # fmt: skip
    count_normals = (3 + 4 if frame else 2 + 2) + inner * (3 if leaky else 1)
    count_normals += m if biased else 0
    count_words = 2 + inner * (2 if leaky else 1)
    word_at = hidden.draw(key, layer, first, philox.BACKWARD, count_normals, count_words, word, z)
    z_at = 0
    if frame:
        pe, pk, pp, de, dk, dd, pd = (
            gradient[0], gradient[1], gradient[2], gradient[3], gradient[4], gradient[5],
            gradient[6],
        )  # fmt: skip
        lanes.chi_square_same(
            width - 4, z[2], word[word_at], key, layer, first, philox.BACKWARD, 0, rest
        )
        by_frame.turn(
            c, a, tape[4], tape[0], tape[1], tape[2], pe, pk, pp, de, dk, dd, pd, z[0], z[1], rest,
            width, ph, r2, eta, ek, rd, rpd,
        )  # fmt: skip
        z_at = 3
    else:
        lanes.chi_square_same(
            width - 2, z[1], word[word_at], key, layer, first, philox.BACKWARD, 0, rest
        )
        by_norm.turn(
            c, a, tape[0], tape[2], gradient[0], gradient[2], z[0], rest, width >= 2, ph, r2, eta
        )
        z_at = 2
    word_at += 1
    # |q| at the output of the last matrix is |p'| = 1.
    lengths.fill(size, 1.0)
    kappa_at = ROWS_FIXED + 4 * inner
    if biased:
        hidden.bias_eta(eta, tape[kappa_at + inner], tape[5], bias[layer, inner], size, z[z_at])
        z_at += 1
    for j in range(inner - 1, -1, -1):
        n = hidden_widths[layer, j]
        row = ROWS_FIXED + 4 * j
        count = tape[row]
        s2 = _f32(scale[layer, j + 1] * scale[layer, j + 1])
        for i in range(LANES):
            squared[i] = s2 * size[i]
        for i in range(LANES):
            degrees[i] = count[i] - _f32(1.0)
        lanes.chi_square(
            degrees, z[z_at], word[word_at], key, layer, first, philox.BACKWARD, 2 + 2 * j, plus
        )
        z_at += 1
        word_at += 1
        if leaky:
            # Where no unit is on, the first axis lies among the units that are off.
            for i in range(LANES):
                degrees[i] = _f32(n - 1) - count[i]
            lanes.chi_square(
                degrees, z[z_at], word[word_at], key, layer, first, philox.BACKWARD, 3 + 2 * j,
                minus,
            )  # fmt: skip
            z_at += 1
            word_at += 1
        hidden.back(
            slope, n, count, tape[row + 1], tape[row + 2], tape[row + 3], eta, squared, z[z_at],
            plus, minus, size,
        )  # fmt: skip
        if leaky:
            z_at += 1
        if biased:
            hidden.bias_eta(eta, tape[kappa_at + j], tape[5], bias[layer, j], size, z[z_at])
            z_at += 1
    if frame:
        lanes.chi_square_same(
            width - 4, z[z_at + 3], word[word_at], key, layer, first, philox.BACKWARD, 1, rest
        )
        for i in range(LANES):
            unit[i] = _f32(min(1.0, 1.0 / inverse[i]))
        by_frame.land(
            c, a, scale[layer, 0], size, tape[3], tape[4], pe, ph, r2, eta, de, ek, rd, rpd,
            z[z_at], z[z_at + 1], z[z_at + 2], rest, width, unit, pk, pp, dk, dd, pd, change,
        )  # fmt: skip
        for i in range(LANES):
            degrees[i] = pe[i] * pe[i] + pk[i] * pk[i] + pp[i]
        lengths.grow(c, change, degrees, log_gradient, ratio)
        for i in range(LANES):
            down = _f32(1.0) / ratio[i]
            pe[i] *= down
            pk[i] *= down
            pp[i] *= down * down
            before = inverse[i]
            after = before / np.float64(ratio[i])
            if before < 1.0 and after < 1.0:
                factor = down
            else:
                factor = _f32(min(after, 1.0) / min(before, 1.0))
            inverse[i] = after
            de[i] *= factor
            dk[i] *= factor
            dd[i] *= factor * factor
            pd[i] *= factor * down
    else:
        lanes.chi_square_same(
            width - 2, z[z_at + 1], word[word_at], key, layer, first, philox.BACKWARD, 1, rest
        )
        by_norm.land(
            c, a, scale[layer, 0], size, ph, r2, eta, z[z_at], rest, width >= 2, gradient[0],
            gradient[2], change,
        )  # fmt: skip
        for i in range(LANES):
            degrees[i] = gradient[0, i] * gradient[0, i] + gradient[2, i]
        lengths.grow(c, change, degrees, log_gradient, ratio)
        for i in range(LANES):
            down = _f32(1.0) / ratio[i]
            gradient[0, i] *= down
            gradient[2, i] *= down * down
