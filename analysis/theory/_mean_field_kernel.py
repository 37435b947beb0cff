r"""The sums of `analysis.theory.mean_field`, compiled: O(depth^2) cells, row by row.

Layers k, l = 0 .. L; matrices belong to layers 0 .. L - 1. Only cells with l <= k are visited.

**Forward**, with :math:`C_{0l} = 1` and :math:`M_{kl} = a_k a_l V_{kl} \Phi_{kl}`,

.. math:: C_{k+1, l+1} = C_{k, l+1} + \sum_{j \le l} M_{kj} .

What is kept is :math:`D = C - 1`, which may be small, and in units: cell (k, l) in units of
:math:`2^{e_k + e_l}`, where :math:`4^{e_k}` is about :math:`C_{kk}`. So no depth overflows, and
what underflows is nothing beside its row. ``one`` is :math:`2^{-e}`.

**The correlation** :math:`r = W_{kl} C_{kl} / \sqrt{C_{kk} C_{ll}}` may be close to 1, where an arc
sine loses digits; so :math:`1 - r^2` is computed too, from D.

**Backward**, with :math:`B_{kl} = a_k a_l V_{kl} W_{kl} \dot\Phi_{kl}`, and R = 1 where an index
is L,

.. math:: R_{kl} = R_{k+1, l} + \sum_{j \ge l} B_{kj} R_{k+1, j+1} .

By symmetry the terms with j > k are those of row j and column k, which are added up in
``carried`` when row j is visited. :math:`R_{ll}` is the mean square of the gradient at layer l,
for all l at once. A column is in units of its own, of :math:`2^{q_l}`. Rows are visited from the
last to the first, so B is wanted in that order: rows are computed again, a segment at a time,
from the forward row at its start.
"""

# mypy: disable-error-code="no-untyped-def"

import math

import numpy as np

from sigprop.kernels.compiled import entry, inner

__all__ = ["sweep"]

_FAR = 2.0**300  # beyond, a column of the backward pass gets a larger unit


@inner("contract")
def _arc_sine(r, square):
    """asin r and (1 - r^2)^1/2, given r and 1 - r^2.

    For |r| > 1/2, asin |r| = pi/2 - 2 asin x with x^2 = (1 - |r|)/2 < 1/4. For x < 1/2,
    asin(x) / x is a polynomial in 8 x^2 - 1, interpolated at Chebyshev points to 2e-17.
    """
    size = abs(r)
    far = size > 0.5
    half = 0.5 * square / (1.0 + size)
    z = half if far else r * r
    x = math.sqrt(half) if far else size
    root = 2.0 * x * math.sqrt(1.0 - half) if far else math.sqrt(square)
    t = 8.0 * z - 1.0
    p = 4.639095481370581e-13
    p = p * t + 3.682454096807647e-12
    p = p * t + 2.806229837927185e-11
    p = p * t + 2.2879519988639685e-10
    p = p * t + 1.8997198592225374e-09
    p = p * t + 1.610162298899928e-08
    p = p * t + 1.4033986429553094e-07
    p = p * t + 1.2699306619707348e-06
    p = p * t + 1.2116523076359425e-05
    p = p * t + 0.0001252931333125488
    p = p * t + 0.0014859415578623767
    p = p * t + 0.023472196200223696
    p = p * t + 1.0221005752492498
    angle = x * p
    angle = 0.5 * math.pi - 2.0 * angle if far else angle
    return (angle if r > 0.0 else -angle), root


@inner("contract")
def _cells(n, d, one, diagonal, inverse_root, weight, v, w, slope, m, b):
    """Fill ``m`` and ``b`` with row k = n - 1 of M and B.

    ``weight`` is a C_ll^1/2, ``inverse_root`` C_ll^-1/2, ``v`` and ``w`` row k of V and W.
    """
    d, one, diagonal, inverse_root = d[:n], one[:n], diagonal[:n], inverse_root[:n]
    weight, v, w, m, b = weight[:n], v[:n], w[:n], m[:n], b[:n]
    k = n - 1
    one_k, d_k, inverse_k, weight_k = one[k], diagonal[k], inverse_root[k], weight[k]
    bend = (1.0 - slope) ** 2 / (2.0 * math.pi)
    for l in range(k):
        normal = inverse_k * inverse_root[l]
        spread = (
            d_k * (one[l] * one[l])
            + diagonal[l] * (one_k * one_k)
            - 2.0 * d[l] * (one_k * one[l])
            + (d_k * diagonal[l] - d[l] * d[l])
        )
        square = (1.0 - w[l]) * (1.0 + w[l]) + w[l] * w[l] * (spread * normal * normal)
        square = min(max(square, 0.0), 1.0)
        r = w[l] * ((d[l] + one_k * one[l]) * normal)
        r = min(max(r, -1.0), 1.0)
        angle, root = _arc_sine(r, square)
        angle += 0.5 * math.pi
        size = weight_k * weight[l] * v[l]
        m[l] = size * (slope * r + bend * (root + angle * r))
        b[l] = size * normal * w[l] * (slope + bend * angle)
    # Here r is 1, and rounding would leave an arc sine with half of its digits.
    size = 0.5 * (1.0 + slope * slope) * weight_k * weight_k * v[k]
    m[k], b[k] = size, size * inverse_k * inverse_k


@inner("contract")
def _linear_cells(n, d, one, inverse_root, weight, v, w, m, b):
    """`_cells` of the linear activation."""
    d, one, inverse_root = d[:n], one[:n], inverse_root[:n]
    weight, v, w, m, b = weight[:n], v[:n], w[:n], m[:n], b[:n]
    k = n - 1
    one_k, factor = one[k], inverse_root[k] * weight[k]
    for l in range(n):
        size = factor * (weight[l] * inverse_root[l]) * v[l] * w[l]
        m[l] = size * (d[l] + one_k * one[l])
        b[l] = size


@inner("contract")
def _forward(k, d, shrink, m):
    """Turn row k of D into row k + 1, all in units of row k; returns its last entry."""
    total = 0.0
    for l in range(k):
        total += m[l]
        total *= shrink[l]  # from the unit of column l to that of column l + 1
        d[l + 1] += total
    return d[k] + (total + m[k])


@inner("contract")
def _products(n, b, s, unit, carried, p):
    """The terms ``p`` of row n - 1; those below the diagonal are carried to their columns."""
    b, s, unit, carried, p = b[:n], s[1 : n + 1], unit[1 : n + 1], carried[:n], p[:n]
    for j in range(n):
        term = b[j] * (s[j] + unit[j])
        p[j] = term
        carried[j] += term


@inner("contract")
def _backward(k, s, grow, total, p):
    """Turn row k + 1 of R - 1 into row k; returns its largest entry."""
    largest = 0.0
    for l in range(k, -1, -1):
        total += p[l]
        total *= grow[l]  # from the unit of column l + 1 to that of column l
        s[l] += total
        largest = max(largest, abs(s[l]))
    return largest


@inner()
def _row(k, lags, rows):
    """Row k, columns 0 .. k, of a covariance: from its lags in reverse, or as it stands."""
    if lags.shape[0] > 0:
        return lags[lags.shape[0] - 1 - k :]
    return rows[k]


@inner()
def _log(x):
    return math.log(x) if x > 0.0 else -math.inf


@entry
def sweep(
    a, v_lags, v_rows, w_lags, w_rows, slope, gradient, room, log_square, log_moved, log_rest,
    log_gradient, log_gradient_moved,
):  # fmt: skip
    """Fill the five outputs, float64[depth + 1], but for C_00 and R_LL, which are 1.

    Parameters
    ----------
    a : float64[depth]
        Coefficients, each with the size of the weights.
    v_lags, w_lags : float64[depth] or float64[0]
        Autocovariances of last and inner matrices, the longest lag first; W has unit variance.
    v_rows, w_rows : float64[depth, depth], used where there are no lags
    slope : float
        Of the activation below 0.
    gradient : bool
        Whether to fill the last two.
    room : int
        Cells of B that are kept at a time, or about depth^(3/2) if that is more.
    log_square, log_moved : log of C_ll and of C_ll - 1
    log_rest : log of (C_LL - 2 C_Ll + C_ll) / C_ll
    log_gradient, log_gradient_moved : log of R_ll and of R_ll - 1
    """
    depth = a.shape[0]
    log_2 = math.log(2.0)
    d, diagonal, one = np.zeros(depth + 1), np.zeros(depth + 1), np.ones(depth + 1)
    inverse_root, shrink, weight = np.ones(depth + 1), np.ones(depth + 1), np.zeros(depth + 1)
    m, b, p = np.empty(depth), np.empty(depth), np.empty(depth)
    cells = depth * (depth + 1) // 2
    segments = max(1, min(cells // room, int(math.sqrt(0.5 * depth)))) if gradient else 1
    # Segment i has rows first[i] .. first[i + 1] - 1, and all about as many cells.
    first = np.empty(segments + 1, np.int64)
    for i in range(segments + 1):
        first[i] = round(depth * math.sqrt(i / segments))
    most = 0
    for i in range(segments):
        most = max(most, (first[i + 1] * (first[i + 1] + 1) - first[i] * (first[i] + 1)) // 2)
    kept = np.empty((segments, depth + 1))
    store = np.empty(most if gradient else 0)

    exponents = np.zeros(depth + 1, np.int64)
    weight[0] = a[0]
    for i in range(segments):
        for l in range(first[i] + 1):
            kept[i, l] = d[l]
        at = 0
        for k in range(first[i], first[i + 1]):
            v, w = _row(k, v_lags, v_rows), _row(k, w_lags, w_rows)
            target = store[at : at + k + 1] if gradient and segments == 1 else b[: k + 1]
            if slope == 1.0:
                _linear_cells(k + 1, d, one, inverse_root, weight, v, w, m, target)
            else:
                _cells(k + 1, d, one, diagonal, inverse_root, weight, v, w, slope, m, target)
            at += k + 1
            last = _forward(k, d, shrink, m)
            square = max(last, 0.0) + one[k] * one[k]
            shift = 0
            if square >= 4.0 or square < 0.25:
                shift = math.floor(0.5 * math.log2(square))
            exponent = exponents[k] + shift
            exponents[k + 1] = exponent
            factor = math.ldexp(1.0, -shift)
            shrink[k], one[k + 1] = factor, one[k] * factor
            diagonal[k + 1] = max(last, 0.0) * factor * factor
            root = math.sqrt(square) * factor
            inverse_root[k + 1] = 1.0 / root
            if k + 1 < depth:
                weight[k + 1] = a[k + 1] * root
            if shift != 0:
                for l in range(1, k + 1):
                    d[l] *= factor
            d[k + 1] = diagonal[k + 1]
            log_moved[k + 1] = _log(diagonal[k + 1]) + 2 * exponent * log_2
            if exponent == 0:
                log_square[k + 1] = math.log1p(diagonal[k + 1])
            else:
                log_square[k + 1] = 2 * (math.log(root) + exponent * log_2)

    for l in range(depth + 1):
        factor = math.ldexp(1.0, int(exponents[l] - exponents[depth]))
        rest = diagonal[depth] - 2.0 * factor * d[l] + factor * factor * diagonal[l]
        log_rest[l] = _log(rest) + 2 * exponents[depth] * log_2 - log_square[l]

    if not gradient:
        return
    s, unit, grow = np.zeros(depth + 1), np.ones(depth + 1), np.ones(depth + 1)
    carried, power = np.zeros(depth + 1), np.zeros(depth + 1)
    for i in range(segments - 1, -1, -1):
        at = 0
        if segments > 1:
            for l in range(first[i] + 1):
                d[l] = kept[i, l]
            for k in range(first[i], first[i + 1]):
                v, w = _row(k, v_lags, v_rows), _row(k, w_lags, w_rows)
                target = store[at : at + k + 1]
                if slope == 1.0:
                    _linear_cells(k + 1, d, one, inverse_root, weight, v, w, m, target)
                else:
                    _cells(k + 1, d, one, diagonal, inverse_root, weight, v, w, slope, m, target)
                at += k + 1
                _forward(k, d, shrink, m)
                if shrink[k] != 1.0:
                    for l in range(1, k + 1):
                        d[l] *= shrink[k]
                d[k + 1] = diagonal[k + 1]
        else:
            at = cells
        for k in range(first[i + 1] - 1, first[i] - 1, -1):
            at -= k + 1
            before = carried[k]
            _products(k + 1, store[at : at + k + 1], s, unit, carried, p)
            largest = _backward(k, s, grow, before, p)
            moved = max(s[k], 0.0)
            log_gradient_moved[k] = _log(moved) + power[k] * log_2
            if power[k] == 0.0:
                log_gradient[k] = math.log1p(moved)
            else:
                log_gradient[k] = math.log(moved + unit[k]) + power[k] * log_2
            if largest > _FAR:
                for l in range(k + 1):
                    if abs(s[l]) > 1.0:
                        shift = math.floor(math.log2(abs(s[l])))
                        factor = math.ldexp(1.0, -shift)
                        s[l] *= factor
                        unit[l] *= factor
                        power[l] += shift
                        grow[l] *= factor
                        if l > 0:
                            carried[l - 1] *= factor
                            grow[l - 1] /= factor
