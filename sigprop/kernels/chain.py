"""The O(1) chain: a few scalars a layer carry the joint law of norm, displacement, gradient.

With Gaussian weights and phi(u) = u (u > 0), s u (u <= 0), a branch sees of its input x
only the length |x|, and whatever comes back sees of a matrix only what the forward pass
has seen of it. So a layer is described by a binomial count of active units and a few
normals and chi-squares, at every width. In units where the state has length 1:

forward, hidden layer with n rows, T^2 = s_w^2 A^2 + s_b^2:
    m ~ Bin(n, 1/2),  P = T^2 X(m),  Q = T^2 X(n - m),  A_new^2 = P + s^2 Q;
output y of the branch: one normal along h, (with displacement) one along the rest of
    h_0's plane, a chi for the rest; h' = c h + a y.

backward, from q at the output of a matrix, with eta = u.q = F.g, e = eta / A, k = s_w |q|:
    |q_new|^2 = (ct e - sn w)^2 + Xp + s^2 ((sn e + ct w)^2 + Xm),
    w = k z,  Xp = k^2 X(m - 1),  Xm = k^2 X(n - m - 1),  ct^2 A^2 = P,  sn^2 A^2 = s^2 Q;
a bias turns eta into (1 - kappa) eta - s_b sqrt(1 - kappa) |q| z, kappa = s_b^2 / T^2.
On the trunk the gradient is (p_1, rest) with respect to h alone, or, jointly with the
displacement, (p_e, p_k, rest) with respect to the plane of h_0 and h: with fewer
coordinates the joint law would be wrong though every marginal is right.

Lengths are carried as logarithms, accumulated from log1p of the relative change, so that
neither a change of 1e-9 nor a growth to e^1000 is lost; the displacement and the gradient's
own displacement are carried as differences, never formed by subtraction.

One call walks `lanes.LANES` replicas abreast; every loop below is over lanes, in single
precision, but for the accumulators.
"""

import math

import numpy as np

from sigprop.kernels import lanes, philox
from sigprop.kernels.compiled import entry, inner
from sigprop.kernels.lanes import LANES

__all__ = ["plain", "residual"]

_f32, _u64 = np.float32, np.uint64
_FAST = ("contract",)


@inner()
def _draw(key, layer, first, purpose, count_normals, count_rest, word, z):
    """Words of a layer: normals in rows 0 .., then ``count_rest`` rows of plain words."""
    pairs = (count_normals + 1) // 2
    rows = 2 * pairs + count_rest
    for slot in range((rows + 3) // 4):
        lanes.words(_u64(key[0]), _u64(key[1]), slot, layer, _u64(first), purpose, 4 * slot, word)
    lanes.normals(pairs, word, z)
    return 2 * pairs


@inner(*_FAST)
def _activate(slope, n, squared, count, plus, minus, out, cosine, sine):
    """A_new, and for a leaky unit ct and sn, from T^2 and the two chi-squares."""
    s = _f32(slope)
    if slope == 0.0:
        for i in range(LANES):
            out[i] = math.sqrt(squared[i] * plus[i])
    else:
        for i in range(LANES):
            p, q = plus[i], s * s * minus[i]
            total = p + q
            out[i] = math.sqrt(squared[i] * total)
            inverse = _f32(1.0) / total if total > _f32(0.0) else _f32(0.0)
            cosine[i] = math.sqrt(p * inverse)
            sine[i] = math.sqrt(q * inverse)


@inner(*_FAST)
def _count_rest(n, count, drop, out):
    """``n - count - drop`` degrees of freedom."""
    total = _f32(n - drop)
    for i in range(LANES):
        out[i] = total - count[i]


@inner()
def _hidden(
    slope, n, squared, word, z, z_at, word_at, cumulative, table_at, table_low, key, layer, first,
    slot, tape, row, degrees, plus, minus,
):  # fmt: skip
    """One hidden layer: writes count, A (, ct, sn) to ``tape[row ..]``; T^2 is ``squared``.

    Returns the rows of normals and of words consumed.
    """
    leaky = slope != 0.0
    count = tape[row]
    used = lanes.binomial_half(n, word, word_at, cumulative, table_at, table_low, count)
    for i in range(LANES):
        # Where nothing comes in, nothing is on.
        count[i] = count[i] if squared[i] > _f32(0.0) else _f32(0.0)
    lanes.chi_square(
        count, z[z_at], word[word_at + used], key, layer, first, philox.FORWARD, slot, plus
    )
    if not leaky:
        _activate(slope, n, squared, count, plus, plus, tape[row + 1], plus, plus)
        return 1, used + 1
    _count_rest(n, count, 0, degrees)
    lanes.chi_square(
        degrees, z[z_at + 1], word[word_at + used + 1], key, layer, first, philox.FORWARD,
        slot + 1, minus,
    )  # fmt: skip
    _activate(slope, n, squared, count, plus, minus, tape[row + 1], tape[row + 2], tape[row + 3])
    return 2, used + 2


@inner(*_FAST)
def _through(slope, n, count, a, cosine, sine, eta, k2, z, plus, minus, out):
    """|q_new|^2 of a hidden layer from eta and k^2 = s_w^2 |q|^2; dead lanes give 0."""
    s = _f32(slope)
    full = _f32(n)
    if slope == 0.0:
        for i in range(LANES):
            alive = a[i] > _f32(0.0)
            e = eta[i] / a[i] if alive else _f32(0.0)
            out[i] = e * e + k2[i] * plus[i] if alive else _f32(0.0)
    else:
        for i in range(LANES):
            alive = a[i] > _f32(0.0)
            e = eta[i] / a[i] if alive else _f32(0.0)
            mixed = (count[i] > _f32(0.0)) & (count[i] < full)
            w = math.sqrt(k2[i]) * z[i] if mixed else _f32(0.0)
            x = cosine[i] * e - sine[i] * w
            y = sine[i] * e + cosine[i] * w
            q = x * x + k2[i] * plus[i] + s * s * (y * y + k2[i] * minus[i])
            out[i] = q if alive else _f32(0.0)


@inner(*_FAST)
def _bias_eta(eta, kappa, lift, bias, q2, z):
    """(1 - kappa) eta - s_b sqrt(1 - kappa) |q| z, in place; ``lift`` is e^-lambda."""
    b = _f32(bias)
    for i in range(LANES):
        left = max(_f32(1.0) - kappa[i], _f32(0.0))
        eta[i] = left * eta[i] - b * lift[i] * math.sqrt(left * q2[i]) * z[i]


@inner(*_FAST)
def _radius(scale, bias, size, lift, kappa, out):
    """T^2 = s_w^2 A^2 + s_b^2 e^-2lambda and, with a bias, kappa."""
    s, b = _f32(scale), _f32(bias)
    if bias == 0.0:
        for i in range(LANES):
            out[i] = s * s * size[i] * size[i]
            kappa[i] = _f32(0.0)
    else:
        for i in range(LANES):
            w, f = s * size[i], b * lift[i]
            total = w * w + f * f
            out[i] = total
            kappa[i] = f * f / total if total > _f32(0.0) else _f32(0.0)


@inner(*_FAST)
def _grow(c, change, square, log_size, ratio):
    """``log_size += log |h'| / |h|`` from |h'|^2 / |h|^2 = square = c^2 + change, given both
    ways because either may cancel; ratio = |h'| / |h|."""
    inverse = _f32(1.0 / (c * c))
    base = math.log(abs(c))
    for i in range(LANES):
        log_size[i] += base + 0.5 * np.float64(
            lanes.log1p(change[i] * inverse, square[i] * inverse)
        )
        ratio[i] = math.sqrt(square[i])


@inner()
def _lift(log_size, out):
    """exp(-log_size) in single precision."""
    for i in range(LANES):
        out[i] = math.exp(-log_size[i])


@inner(*_FAST)
def _fill(row, value):
    v = _f32(value)
    for i in range(LANES):
        row[i] = v


# -------------------------------------------------------------------- residual
#
# Rows of the tape of one layer: 0, 1, 2 the output of the branch (along h, [along the rest
# of h_0's plane,] the rest); 3, 4 the state (x, xi) in the frame of h_0; 5 e^-lambda; then
# for each hidden layer count, A, ct, sn; then kappa of every matrix.

_ROWS_FIXED = 6


@inner(*_FAST)
def _step_norm(c, a, sigma2, z, rest, along, across, log_size, ratio, change, square):
    """h' = c h + a y with y = (sigma z, sigma sqrt(X)) along and across h."""
    cc, g, f = _f32(c), _f32(a), _f32(2.0 * c * a)
    for i in range(LANES):
        sigma = math.sqrt(sigma2[i])
        along[i] = sigma * z[i]
        across[i] = sigma * math.sqrt(rest[i])
        change[i] = f * along[i] + g * g * (along[i] * along[i] + across[i] * across[i])
        u, v = cc + g * along[i], g * across[i]
        square[i] = u * u + v * v
    _grow(c, change, square, log_size, ratio)


@inner(*_FAST)
def _step_frame(
    c, a, sigma2, z, z2, rest, has_plane, yx, yk, yz, x, xi, log_size, ratio, change, square, far,
    inverse,
):  # fmt: skip
    """The same with the displacement: h = x e + xi eps, far = h.e - |h_0| in its own units.

    ``inverse`` is e^-lambda in double precision; ``far`` is in units of max(1, e^lambda).
    """
    g, f, cc = _f32(a), _f32(2.0 * c * a), _f32(c)
    plane = _f32(1.0 if has_plane else 0.0)
    for i in range(LANES):
        sigma = math.sqrt(sigma2[i])
        yx[i] = sigma * z[i]
        yk[i] = sigma * z2[i] * plane
        yz[i] = sigma * math.sqrt(rest[i])
        change[i] = f * (x[i] * yx[i] + xi[i] * yk[i]) + g * g * (
            yx[i] * yx[i] + yk[i] * yk[i] + yz[i] * yz[i]
        )
        u, v, w = cc * x[i] + g * yx[i], cc * xi[i] + g * yk[i], g * yz[i]
        square[i] = u * u + v * v + w * w
    _grow(c, change, square, log_size, ratio)
    for i in range(LANES):
        before = inverse[i]
        after = before / np.float64(ratio[i])
        unit = 1.0 / before if before > 1.0 else 1.0
        one = before if before < 1.0 else 1.0
        value = c * far[i] + (c - 1.0) * one + a * np.float64(yx[i]) * unit
        if before < 1.0 and after < 1.0:
            factor = 1.0 / np.float64(ratio[i])
        else:
            factor = min(after, 1.0) / one
        far[i] = value * factor
        inverse[i] = after
    for i in range(LANES):
        v = cc * xi[i] + g * yk[i]
        w = g * yz[i]
        down = _f32(1.0) / ratio[i]
        x[i] = (cc * x[i] + g * yx[i]) * down
        xi[i] = math.sqrt(v * v + w * w) * down


@inner()
def _forward_residual(
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
    word_at = _draw(
        key, layer, first, philox.FORWARD, count_normals, inner * per_hidden + 1 + bits, word, z
    )
    z_at = 0
    lift = tape[5]
    if biased:
        _lift(log_size, lift)
    if frame:
        tape[3, :] = x
        tape[4, :] = xi
    _fill(size, 1.0)
    kappa_at = _ROWS_FIXED + 4 * inner
    for j in range(inner):
        n = hidden_widths[layer, j]
        row = _ROWS_FIXED + 4 * j
        _radius(scale[layer, j], bias[layer, j], size, lift, tape[kappa_at + j], squared)
        used, words = _hidden(
            slope, n, squared, word, z, z_at, word_at, cumulative, tables[layer, j, 0],
            tables[layer, j, 1], key, layer, first, 2 * j, tape, row, degrees, plus, minus,
        )  # fmt: skip
        z_at += used
        word_at += words
        size[:] = tape[row + 1]
    _radius(scale[layer, m - 1], bias[layer, m - 1], size, lift, tape[kappa_at + inner], squared)
    c, a = skip[layer], branch[layer]
    if frame:
        lanes.chi_square_same(
            width - 2, z[z_at + 2], word[word_at], key, layer, first, philox.FORWARD, 2 * m, rest
        )
        _step_frame(
            c, a, squared, z[z_at], z[z_at + 1], rest, width >= 2, tape[0], tape[1], tape[2], x,
            xi, log_size, ratio, change, degrees, far, inverse,
        )  # fmt: skip
    else:
        lanes.chi_square_same(
            width - 1, z[z_at + 1], word[word_at], key, layer, first, philox.FORWARD, 2 * m, rest
        )
        _step_norm(c, a, squared, z[z_at], rest, tape[0], tape[2], log_size, ratio, change, degrees)


@inner(*_FAST)
def _turn_norm(c, a, along, across, p1, p2, z, rest, has_rest, ph, r2, eta):
    """Rotate the gradient from h' to the plane of (h, y): norms only.

    p1 is the part along h', p2 the square of the rest; afterwards ph is the part along h,
    r2 the square of what is across it, eta = y.p.
    """
    cc, g = _f32(c), _f32(a)
    flag = _f32(1.0 if has_rest else 0.0)
    for i in range(LANES):
        u, v = cc + g * along[i], g * across[i]
        inverse = _f32(1.0) / math.sqrt(u * u + v * v)
        cosine, sine = u * inverse, v * inverse
        norm = z[i] * z[i] + rest[i]
        t = z[i] / math.sqrt(norm) * flag if norm > _f32(0.0) else _f32(0.0)
        tau2 = p2[i] * t * t
        tau = math.sqrt(p2[i]) * t
        ph[i] = p1[i] * cosine - tau * sine
        pe = p1[i] * sine + tau * cosine
        eta[i] = along[i] * ph[i] + across[i] * pe
        r2[i] = max(p2[i] - tau2, _f32(0.0)) + pe * pe


@inner(*_FAST)
def _land_norm(c, a, scale, q2, ph, r2, eta, z, rest, has_rest, p1, p2, change):
    """p = c p' + a W_1^T q_1, norms only; ``change`` is |p|^2 - c^2 for |p'| = 1."""
    cc, g, s = _f32(c), _f32(a), _f32(abs(a) * scale)
    flag = _f32(1.0 if has_rest else 0.0)
    for i in range(LANES):
        k = s * math.sqrt(q2[i])
        b = g * eta[i]
        w = k * z[i] * flag
        r = cc * math.sqrt(r2[i])
        p1[i] = cc * ph[i] + b
        fresh = k * k * rest[i]
        p2[i] = (r + w) * (r + w) + fresh
        change[i] = b * (_f32(2.0) * cc * ph[i] + b) + w * (_f32(2.0) * r + w) + fresh


@inner(*_FAST)
def _turn_frame(
    c, a, xi, yx, yk, yz, pe, pk, pp, de, dk, dd, pd, z, z2, rest, dimensions, qk, rp, eta, ek,
    rd, rpd,
):  # fmt: skip
    """Rotate the gradient p and its displacement D = p - p_L into the plane of (eps, y).

    (pe, pk, pp) and (de, dk, dd) are the parts along h_0, along eps' and the square of the
    rest, pd the product of the two rests; qk, rp and ek, rd, rpd are the same afterwards.
    """
    cc, g = _f32(c), _f32(a)
    third = _f32(1.0 if dimensions >= 3 else 0.0)
    fourth = _f32(1.0 if dimensions >= 4 else 0.0)
    for i in range(LANES):
        u, v = cc * xi[i] + g * yk[i], g * yz[i]
        square = u * u + v * v
        inverse = _f32(1.0) / math.sqrt(square) if square > _f32(0.0) else _f32(0.0)
        cosine = u * inverse if square > _f32(0.0) else _f32(1.0)
        sine = v * inverse
        norm = z[i] * z[i] + fourth * z2[i] * z2[i] + rest[i]
        scale = third / math.sqrt(norm) if norm > _f32(0.0) else _f32(0.0)
        t1, t2 = z[i] * scale, z2[i] * scale * fourth
        length = math.sqrt(pp[i])
        along = pd[i] / length if length > _f32(0.0) else _f32(0.0)
        tau = length * t1
        tau_d = along * t1 + math.sqrt(max(dd[i] - along * along, _f32(0.0))) * t2
        qk[i] = pk[i] * cosine - tau * sine
        qz = pk[i] * sine + tau * cosine
        ek[i] = dk[i] * cosine - tau_d * sine
        ez = dk[i] * sine + tau_d * cosine
        eta[i] = yx[i] * pe[i] + yk[i] * qk[i] + yz[i] * qz
        rp[i] = max(pp[i] - tau * tau, _f32(0.0)) + qz * qz
        rd[i] = max(dd[i] - tau_d * tau_d, _f32(0.0)) + ez * ez
        rpd[i] = pd[i] - tau * tau_d + qz * ez


@inner(*_FAST)
def _land_frame(
    c, a, scale, q2, x, xi, pe, qk, rp, eta, de, ek, rd, rpd, z0, z1, z2, rest, dimensions,
    unit, pk, pp, dk, dd, pd, change,
):  # fmt: skip
    """p = c p' + a W_1^T q_1 and D = p - p_L, in the frame of (h_0, eps).

    ``unit`` is the unit of p over that of D. Overwrites pe, de and fills the rest.
    """
    cc, g, s = _f32(c), _f32(a), _f32(abs(a) * scale)
    less = _f32(c - 1.0)
    second = _f32(1.0 if dimensions >= 2 else 0.0)
    third = _f32(1.0 if dimensions >= 3 else 0.0)
    fourth = _f32(1.0 if dimensions >= 4 else 0.0)
    for i in range(LANES):
        r2 = x[i] * x[i] + xi[i] * xi[i]
        inverse = _f32(1.0) / r2
        root = math.sqrt(inverse)
        k = s * math.sqrt(q2[i])
        b = g * eta[i] * inverse
        w = k * z0[i] * second * root
        to_e = b * x[i] - w * xi[i]
        to_k = b * xi[i] + w * x[i]
        f = unit[i]
        before_e, before_k = pe[i], qk[i]
        pe[i] = cc * before_e + to_e
        pk[i] = cc * before_k + to_k
        de[i] = de[i] + f * (less * before_e + to_e)
        dk[i] = ek[i] + f * (less * before_k + to_k)
        # The rest, with p along the first axis.
        length = math.sqrt(rp[i])
        along = rpd[i] / length if length > _f32(0.0) else _f32(0.0)
        across = math.sqrt(max(rd[i] - along * along, _f32(0.0))) * fourth
        u, v = k * z1[i] * third, k * z2[i] * fourth
        fresh = k * k * rest[i]
        p_u = cc * length + u
        pp[i] = p_u * p_u + v * v + fresh
        d_u = along + f * (less * length + u)
        d_v = across + f * v
        dd[i] = d_u * d_u + d_v * d_v + f * f * fresh
        pd[i] = p_u * d_u + v * d_v + f * fresh
        change[i] = (
            to_e * (_f32(2.0) * cc * before_e + to_e)
            + to_k * (_f32(2.0) * cc * before_k + to_k)
            + u * (_f32(2.0) * cc * length + u)
            + v * v
            + fresh
        )


@inner()
def _back_residual(
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
    word_at = _draw(key, layer, first, philox.BACKWARD, count_normals, count_words, word, z)
    z_at = 0
    if frame:
        pe, pk, pp, de, dk, dd, pd = (
            gradient[0], gradient[1], gradient[2], gradient[3], gradient[4], gradient[5],
            gradient[6],
        )  # fmt: skip
        lanes.chi_square_same(
            width - 4, z[2], word[word_at], key, layer, first, philox.BACKWARD, 0, rest
        )
        _turn_frame(
            c, a, tape[4], tape[0], tape[1], tape[2], pe, pk, pp, de, dk, dd, pd, z[0], z[1], rest,
            width, ph, r2, eta, ek, rd, rpd,
        )  # fmt: skip
        z_at = 3
    else:
        lanes.chi_square_same(
            width - 2, z[1], word[word_at], key, layer, first, philox.BACKWARD, 0, rest
        )
        _turn_norm(
            c, a, tape[0], tape[2], gradient[0], gradient[2], z[0], rest, width >= 2, ph, r2, eta
        )
        z_at = 2
    word_at += 1
    # |q| at the output of the last matrix is |p'| = 1.
    _fill(size, 1.0)
    kappa_at = _ROWS_FIXED + 4 * inner
    if biased:
        _bias_eta(eta, tape[kappa_at + inner], tape[5], bias[layer, inner], size, z[z_at])
        z_at += 1
    for j in range(inner - 1, -1, -1):
        n = hidden_widths[layer, j]
        row = _ROWS_FIXED + 4 * j
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
        _through(
            slope, n, count, tape[row + 1], tape[row + 2], tape[row + 3], eta, squared, z[z_at],
            plus, minus, size,
        )  # fmt: skip
        if leaky:
            z_at += 1
        if biased:
            _bias_eta(eta, tape[kappa_at + j], tape[5], bias[layer, j], size, z[z_at])
            z_at += 1
    if frame:
        lanes.chi_square_same(
            width - 4, z[z_at + 3], word[word_at], key, layer, first, philox.BACKWARD, 1, rest
        )
        for i in range(LANES):
            unit[i] = _f32(min(1.0, 1.0 / inverse[i]))
        _land_frame(
            c, a, scale[layer, 0], size, tape[3], tape[4], pe, ph, r2, eta, de, ek, rd, rpd,
            z[z_at], z[z_at + 1], z[z_at + 2], rest, width, unit, pk, pp, dk, dd, pd, change,
        )  # fmt: skip
        for i in range(LANES):
            degrees[i] = pe[i] * pe[i] + pk[i] * pk[i] + pp[i]
        _grow(c, change, degrees, log_gradient, ratio)
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
        _land_norm(
            c, a, scale[layer, 0], size, ph, r2, eta, z[z_at], rest, width >= 2, gradient[0],
            gradient[2], change,
        )  # fmt: skip
        for i in range(LANES):
            degrees[i] = gradient[0, i] * gradient[0, i] + gradient[2, i]
        _grow(c, change, degrees, log_gradient, ratio)
        for i in range(LANES):
            down = _f32(1.0) / ratio[i]
            gradient[0, i] *= down
            gradient[2, i] *= down * down


@inner()
def _log_length(parts, logarithm):
    """log sqrt(parts) + max(logarithm, 0), -inf for 0."""
    return (
        0.5 * math.log(parts) + max(logarithm, 0.0)
        if parts > 0.0
        else (-math.inf if parts == 0.0 else math.nan)
    )


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
    rows = _ROWS_FIXED + 4 * inner + m
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
    _fill(state[0], 1.0)
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
            _forward_residual(
                slope, table, layer, width, hidden_widths, frame, key, first, word, z, cumulative,
                tables, here, work, state, log_size, far, inverse, biased,
            )  # fmt: skip
            if not ahead:
                continue
            if inner > 0 and slope == 0.0:
                for j in range(inner):
                    size = here[_ROWS_FIXED + 4 * j + 1]
                    low = size[0]
                    for i in range(LANES):
                        low = min(low, size[i])
                    if low == 0.0:
                        for i in range(LANES):
                            if size[i] == 0.0:
                                already = False
                                for other in range(j):
                                    if here[_ROWS_FIXED + 4 * other + 1, i] == 0.0:
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
                        row = _ROWS_FIXED + 4 * j
                        on += here[row, i]
                    activity[i, slot, 0] = on / units if units else math.nan
                    if frame:
                        value = inverse[i]
                        across = np.float64(state[1, i]) * (1.0 / value if value > 1.0 else 1.0)
                        states[1][i, slot, 0] = _log_length(
                            far[i] * far[i] + across * across, log_size[i] - log_start
                        )
        if not gradient_wanted or step < segments - 1:
            continue
        if step == segments - 1:
            _draw(key, 0, first, philox.TOP, 3, 1, word, z)
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
            _back_residual(
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
                        gradients[1][i, slot, 0] = _log_length(
                            parts + np.float64(gradient[5, i]), log_gradient[i]
                        )
                    else:
                        gradients[2][i, slot, 0] = gradient[0, i]


# ----------------------------------------------------------------------- plain
#
# Rows of the tape of one layer: 0 e^-lambda, 1 |x_{l-1}| in its units (1, or 0 if dead),
# 2 count, 3 A, 4 ct, 5 sn, 6 kappa.


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
    _fill(size, 1.0)
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
            word_at = _draw(
                key, layer, first, philox.FORWARD, 2 if leaky else 1, (2 if leaky else 1) + bits,
                word, z,
            )  # fmt: skip
            if biased:
                _lift(log_size, here[0])
            here[1, :] = size
            _radius(scale[layer, 0], bias[layer, 0], size, here[0], here[6], squared)
            _hidden(
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
            _draw(key, 0, first, philox.TOP, 2, 0, word, z)
            for i in range(LANES):
                along[i] = z[0, i] if size[i] > _f32(0.0) else _f32(0.0)
                normal2[i] = _f32(1.0)
                log_gradient[i] = 0.0
        for layer in range(end - 1, begin - 1, -1):
            here = tape[layer - begin]
            n = widths[layer + 1]
            word_at = _draw(key, layer, first, philox.BACKWARD, 4 if biased else 3, 2, word, z)
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
                _bias_eta(eta, here[6], here[0], bias[layer, 0], q2, z[3])
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
            word_at = _draw(key, depth, first, philox.BACKWARD, 1, 1, word, z)
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
