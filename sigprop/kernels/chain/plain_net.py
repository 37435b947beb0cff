"""A plain net of any depth, ahead and back.

Rows of the tape of one layer: 0 e^-lambda, 1 |x_{l-1}| in its units (1, or 0 if dead),
2 count, 3 A, 4 ct, 5 sn, 6 kappa.
"""

import math

import numpy as np

from sigprop.kernels import lanes, philox
from sigprop.kernels.chain import hidden, lengths
from sigprop.kernels.compiled import entry
from sigprop.kernels.lanes import LANES

__all__ = ["plain"]

_f32 = np.float32


@entry
def plain(
    slope, table, widths, cumulative, tables, segment, slots, key, first, start_norm,
    gradient_wanted, biased, states, gradients, activity, dead_count,
):  # fmt: skip
    """Sample replicas ``first .. first + LANES - 1`` of a plain chain.

    Backward, p_l = e xhat_l + k (isotropic across xhat_l, not yet drawn), with the overall
    scale in ``log_gradient``; otherwise as `residual`.
    """
    _, branch, scale, bias = table
    depth = scale.shape[0]
    rows = 7
    leaky = slope != 0.0
    kept_layers = segment if gradient_wanted else 1
    segments = (depth + kept_layers - 1) // kept_layers
    stores = segments if gradient_wanted else 1
    tape = np.zeros((kept_layers, rows, LANES), np.float32)
    bits = 1
    for layer in range(depth):
        n = widths[layer + 1]
        bits = max(bits, (n + 31) // 32 if n <= lanes.TABLE_FROM else 1)
    word = np.empty((24 + bits, LANES), np.uint32)
    z = np.empty((16, LANES), np.float32)
    work = np.zeros((10, LANES), np.float32)
    squared, degrees, plus, minus, eta, q2, along, normal2, length2 = (
        work[0], work[1], work[2], work[3], work[4], work[5], work[6], work[7], work[8],
    )  # fmt: skip
    size, log_size, log_gradient = np.zeros(LANES, np.float32), np.zeros(LANES), np.zeros(LANES)
    log_top = np.zeros(LANES)
    dead = np.zeros(LANES)
    kept_size = np.zeros((stores, LANES), np.float32)
    kept_log = np.zeros((stores, LANES))
    log_start = math.log(start_norm)
    lengths.fill(size, 1.0)
    log_size[:] = log_start
    count = states[0].shape[0]

    if slots[0] >= 0:
        for i in range(count):
            states[0][i, slots[0], 0] = 0.0
            activity[i, slots[0], 0] = math.nan
            dead_count[i, slots[0], 0] = 0.0
    for step in range(2 * segments - 1 if gradient_wanted else segments):
        ahead = step < segments
        s = step if ahead else 2 * segments - 2 - step
        begin, end = s * kept_layers, min((s + 1) * kept_layers, depth)
        if ahead and gradient_wanted:
            kept_size[s] = size
            kept_log[s] = log_size
        elif not ahead:
            size[:] = kept_size[s]
            log_size[:] = kept_log[s]
        for layer in range(begin, end):
            here = tape[layer - begin]
            n = widths[layer + 1]
            bits = (n + 31) // 32 if n <= lanes.TABLE_FROM else 1
            word_at = hidden.draw(
                key, layer, first, philox.FORWARD, 2 if leaky else 1, (2 if leaky else 1) + bits,
                word, z,
            )  # fmt: skip
            if biased:
                lengths.lift(log_size, here[0])
            here[1, :] = size
            hidden.radius(scale[layer, 0], bias[layer, 0], size, here[0], here[6], squared)
            hidden.ahead(
                slope, n, squared, word, z, 0, word_at, cumulative, tables[layer, 0],
                tables[layer, 1], key, layer, first, 0, here, 2, degrees, plus, minus,
            )  # fmt: skip
            a = abs(branch[layer])
            for i in range(LANES):
                value = a * np.float64(here[3, i])
                silent = squared[i] == _f32(0.0)
                here[2, i] = _f32(0.0) if silent else here[2, i]
                if value > 0.0:
                    log_size[i] += math.log(value)
                    size[i] = _f32(1.0)
                else:
                    log_size[i] = 0.0
                    size[i] = _f32(0.0)
            if not ahead:
                continue
            slot = slots[layer + 1]
            for i in range(LANES):
                dead[i] += 1.0 if size[i] == _f32(0.0) else 0.0
            if slot >= 0:
                for i in range(count):
                    alive = size[i] > 0.0
                    states[0][i, slot, 0] = log_size[i] - log_start if alive else -math.inf
                    activity[i, slot, 0] = here[2, i] / n
                    dead_count[i, slot, 0] = dead[i]
        if not gradient_wanted or step < segments - 1:
            continue
        if step == segments - 1:
            hidden.draw(key, 0, first, philox.TOP, 2, 0, word, z)
            for i in range(LANES):
                along[i] = z[0, i] if size[i] > _f32(0.0) else _f32(0.0)
                normal2[i] = _f32(1.0)
                log_gradient[i] = 0.0
        for layer in range(end - 1, begin - 1, -1):
            here = tape[layer - begin]
            n = widths[layer + 1]
            word_at = hidden.draw(
                key, layer, first, philox.BACKWARD, 4 if biased else 3, 2, word, z
            )
            number, size_here = here[2], here[3]
            # Across xhat there are n - 1 dimensions, or n where the state is 0.
            for i in range(LANES):
                degrees[i] = number[i] - _f32(1.0)
            lanes.chi_square(
                degrees, z[1], word[word_at], key, layer, first, philox.BACKWARD, 0, plus
            )
            for i in range(LANES):
                degrees[i] = _f32(n - 1) - number[i]
            lanes.chi_square(
                degrees, z[2], word[word_at + 1], key, layer, first, philox.BACKWARD, 1, minus
            )
            s2 = _f32(slope) * _f32(slope)
            for i in range(LANES):
                e, k2 = along[i], normal2[i]
                alive = size_here[i] > _f32(0.0)
                mixed = ((number[i] > _f32(0.0)) & (number[i] < _f32(n))) | (not alive)
                w = math.sqrt(k2) * z[0, i] if mixed else _f32(0.0)
                ct = here[4, i] if leaky else _f32(1.0)
                sn = here[5, i] if leaky else _f32(0.0)
                x, y = ct * e - sn * w, sn * e + ct * w
                length2[i] = e * e + w * w + k2 * (plus[i] + minus[i])
                q = x * x + k2 * plus[i] + s2 * (y * y + k2 * minus[i])
                q2[i] = q if alive else _f32(0.0)
                eta[i] = e * size_here[i] if alive else _f32(0.0)
            top = layer == depth - 1
            for i in range(LANES):
                if top:
                    log_top[i] = 0.5 * math.log(np.float64(length2[i]))
            slot = slots[layer + 1]
            if slot >= 0:
                for i in range(count):
                    gradients[0][i, slot, 0] = (
                        0.5 * math.log(np.float64(length2[i])) + log_gradient[i] - log_top[i]
                        if length2[i] > 0.0
                        else -math.inf
                    )
                    gradients[2][i, slot, 0] = (
                        along[i] / math.sqrt(length2[i])
                        if length2[i] > 0.0 and size_here[i] > 0.0
                        else math.nan
                    )
            a = _f32(branch[layer])
            for i in range(LANES):
                q2[i] *= a * a
                eta[i] *= abs(a)  # the state turns with a, and its scalar product with p does not
            if biased:
                hidden.bias_eta(eta, here[6], here[0], bias[layer, 0], q2, z[3])
            sw = _f32(scale[layer, 0])
            for i in range(LANES):
                alive = here[1, i] > _f32(0.0)
                e = eta[i] if alive and q2[i] > _f32(0.0) else _f32(0.0)
                k2 = sw * sw * q2[i]
                total = e * e + k2
                if total > _f32(0.0):
                    log_gradient[i] += 0.5 * math.log(np.float64(total))
                    along[i] = e / math.sqrt(total)
                    normal2[i] = k2 / total
                else:
                    along[i] = _f32(0.0)
                    normal2[i] = _f32(0.0)
        if begin == 0 and slots[0] >= 0:
            n = widths[0]
            word_at = hidden.draw(key, depth, first, philox.BACKWARD, 1, 1, word, z)
            lanes.chi_square_same(
                n - 1, z[0], word[word_at], key, depth, first, philox.BACKWARD, 0, plus
            )
            for i in range(count):
                total = along[i] * along[i] + normal2[i] * plus[i]
                gradients[0][i, slots[0], 0] = (
                    0.5 * math.log(np.float64(total)) + log_gradient[i] - log_top[i]
                    if total > 0.0
                    else -math.inf
                )
                gradients[2][i, slots[0], 0] = (
                    along[i] / math.sqrt(total) if total > 0.0 else math.nan
                )
