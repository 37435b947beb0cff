r"""Mean squares at infinite width for any covariance of the weights along depth.

When the layers depend on each other, the mean square of a state is no product over layers, but
at infinite width the covariance of the states of two layers closes: with
:math:`C_{kl} = E\langle h_k, h_l\rangle / |h_0|^2`, skip coefficients 1 and branches
:math:`a_k V_k \varphi(W_k h)` of unit scale,

.. math:: C_{k+1,l+1} = 1 + \sum_{i \le k,\, j \le l} a_i a_j K_V(i,j)\,
          \sqrt{C_{ii} C_{jj}}\; \kappa\!\left(K_W(i,j)\, C_{ij} / \sqrt{C_{ii} C_{jj}}\right)

where :math:`\kappa(r) = E\varphi(X)\varphi(Y)` for standard normals of correlation r. Gradients
obey the linear recursion with :math:`\kappa'` and :math:`K_V K_W` in place of :math:`\kappa` and
:math:`K_V`. Swept row by row this costs O(depth^2), and O(depth) memory if nothing is stored;
rows are carried relative to the lengths of their states, so no regime overflows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba as nb
import numpy as np

from sigprop.errors import SpecError, Unsupported
from sigprop.spec import Ensemble, Process

__all__ = ["MeanField", "mean_field", "mean_field_arrays"]

# Up to this depth the derivatives of all pairs of layers are stored (64 MB), and gradients are
# known at every layer; beyond, at the bottom.
STORED_DEPTH = 4000

_TAU = 2.0 * math.pi


@dataclass(frozen=True)
class MeanField:
    """What `mean_field` returns: natural logarithms over layers 0 .. depth.

    Attributes
    ----------
    log_mean_square : ndarray, shape (depth + 1,)
        E|h_l|^2 / |h_0|^2.
    log_displacement_mean_square : ndarray
        E|h_l - h_0|^2 / |h_0|^2, -inf at layer 0.
    log_gradient_mean_square : ndarray
        E|p_l|^2 / |p_L|^2, p_L isotropic. NaN where it was not computed, see `mean_field`.
    log_gradient_displacement_mean_square : ndarray
        E|p_l - p_L|^2 / |p_L|^2, -inf at the top.
    """

    log_mean_square: np.ndarray
    log_displacement_mean_square: np.ndarray
    log_gradient_mean_square: np.ndarray
    log_gradient_displacement_mean_square: np.ndarray

    def gradient_displacement_at_width(self, width: int) -> float:
        """Log of E|p_0 - p_L|^2 / |p_L|^2 with the correction of order 1 / width.

        An isotropic gradient has one part in ``width`` along the state, and that part moves as
        the state does: ((d - 1) (Q - 1) + (C - 1)) / d in place of Q - 1.
        """
        across, along = (
            self.log_gradient_displacement_mean_square[0],
            self.log_displacement_mean_square[-1],
        )
        return float(np.logaddexp(across + math.log1p(-1.0 / width), along - math.log(width)))


def mean_field(ensemble: Ensemble) -> MeanField:
    r"""Mean squares of state and gradient at infinite width, for any processes along depth.

    Parameters
    ----------
    ensemble : Ensemble
        Block res3, or res1, with activation linear, relu or leaky_relu; positive skip
        coefficients, no biases.

    Returns
    -------
    MeanField
        Gradients at all layers up to depth 4000, beyond at layers 0 and depth.

    Raises
    ------
    Unsupported
        If the recursion does not close: another block or activation, biases, a skip
        coefficient that is not positive, centred rows, weights without variance, or an inner
        process that is not Gaussian.

    Notes
    -----
    Status: limit, width to infinity; the error is O(1 / width). For independent layers of res3 it
    is exact at every width. In res1 it assumes a sign-symmetric input. Cost O(depth^2).

    References
    ----------
    Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929, for the setting; the recursion is
    that of two inputs at infinite width, with layers for inputs.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=100, width=10), Power(beta=0.5))
    >>> round(float(np.exp(mean_field(law).log_mean_square[-1])), 6)  # (1 + 1/2 / 100)^100
    1.646668
    """
    coefficients, slope = _coefficients(ensemble)
    table, depth = ensemble.table, ensemble.network.depth
    *inner, last = table.processes
    outer = _covariance(last, depth)
    within = _covariance(inner[0], depth) if inner else None
    if inner and not inner[0].gaussian:
        raise Unsupported(
            f"mean_field needs Gaussian inner weights, got process {inner[0].kind!r}: a sum of "
            "two layers' arguments is then jointly normal. Use it as the outer process only."
        )
    found = mean_field_arrays(
        coefficients / table.skip, outer, within, negative_slope=slope
    )  # fmt: skip
    if bool((table.skip == 1.0).all()):
        return found
    # h = P h~ with P the product of the skip coefficients so far; h~ has skip 1.
    product = np.concatenate([[0.0], np.cumsum(np.log(table.skip))])
    above = product[-1] - product
    return MeanField(
        found.log_mean_square + 2 * product,
        _shifted(found.log_mean_square, product),
        found.log_gradient_mean_square + 2 * above,
        _shifted(found.log_gradient_mean_square, above),
    )


def mean_field_arrays(
    coefficients: np.ndarray,
    outer: np.ndarray,
    inner: np.ndarray | None = None,
    *,
    negative_slope: float = 0.0,
) -> MeanField:
    """The recursion itself, for raw arrays.

    Parameters
    ----------
    coefficients : ndarray, shape (depth,)
        Branch coefficients of matrices of unit scale (entries of variance 1 / fan_out).
    outer, inner : ndarray, shape (depth,) or (depth, depth)
        Covariance along depth of the last and of the first matrix: an autocovariance or a
        whole matrix. ``inner`` None is res1: an activation of the state itself.
    negative_slope : float
        Of the activation: 0 ReLU, 1 linear.

    Returns
    -------
    MeanField

    Raises
    ------
    SpecError
        If shapes do not fit or a variance is not positive.
    """
    a = np.ascontiguousarray(coefficients, float)
    depth = len(a)
    kv, v_base = _rows(outer, depth, "outer")
    if inner is None:
        kw, w_base, deviation = np.ones(depth), np.zeros(depth, np.int64), np.ones(depth)
    else:
        kw, w_base = _rows(inner, depth, "inner")
        deviation = np.sqrt(kw[w_base + np.arange(depth)])
    # The deviation of the argument is a factor of the branch; what is left is a correlation.
    a = a * deviation
    unit = bool((deviation == 1.0).all())
    stored = np.empty(depth * (depth + 1) // 2 if depth <= STORED_DEPTH else 0)
    log_c, log_q = _sweep(a, kv, v_base, kw, w_base, deviation, unit, float(negative_slope), stored)
    gradient = np.full(depth + 1, math.nan)
    gradient[0], gradient[-1] = log_q, 0.0
    if len(stored):
        gradient = _back(stored, depth)[::-1]
    with np.errstate(divide="ignore"):
        return MeanField(
            log_c, _log_expm1(log_c), gradient, _log_expm1(gradient)
        )  # fmt: skip


# --------------------------------------------------------------------- pieces


def _coefficients(ensemble: Ensemble) -> tuple[np.ndarray, float]:
    """Branch coefficients of matrices of unit scale, and the slope of the activation."""
    network, table = ensemble.network, ensemble.table
    slope = network.phi.negative_slope
    why = None
    if network.block not in ("res1", "res3"):
        why = f"block {network.block!r}: it is derived for branches of one or two matrices"
    elif slope is None:
        why = f"activation {network.phi.kind!r}: only for linear pieces it is known in closed form"
    elif table.biased:
        why = "biases"
    elif table.centred:
        why = "centred rows"
    elif not math.isfinite(table.law.variance):
        why = f"weights of law {table.law.kind!r}, which has no variance"
    elif bool((table.skip <= 0).any()):
        why = "a skip coefficient that is not positive"
    if why is not None:
        raise Unsupported(
            f"mean_field cannot follow {why}. Use sigprop.simulate, or block 'res3' with relu, "
            "leaky_relu or linear and no biases."
        )
    assert slope is not None
    fan_out = network.fans[1]
    scale = np.prod(table.scale * np.sqrt(fan_out), axis=1)
    return table.branch * table.input_scale * scale, float(slope)


def _covariance(process: Process, depth: int) -> np.ndarray:
    if process.independent:
        return np.eye(1, depth)[0]
    stationary = process.autocovariance(depth)
    return process.covariance(depth) if stationary is None else stationary


def _rows(covariance: np.ndarray, depth: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A flat array and where row k starts in it: entry (k, l), l <= k, is at base[k] + l."""
    array = np.asarray(covariance, float)
    if array.shape == (depth,):
        flat, base = array[::-1].copy(), np.arange(depth - 1, -1, -1)
    elif array.shape == (depth, depth):
        flat, base = array.ravel().copy(), depth * np.arange(depth)
    else:
        raise SpecError(
            f"{name} has shape {array.shape}, but depth is {depth}: give an autocovariance of "
            f"{depth} lags or a matrix of {depth} x {depth}."
        )
    variance = flat[base + np.arange(depth)]
    if not bool((variance > 0).all()):
        raise SpecError(
            f"{name} has the variance {variance.min()!r} at layer {int(variance.argmin())}: a "
            "weight needs a positive one. Set the branch coefficient to 0 to switch a layer off."
        )
    return flat, base.astype(np.int64)


def _log_expm1(x: np.ndarray) -> np.ndarray:
    """log(e^x - 1) for x >= 0."""
    with np.errstate(divide="ignore"):
        small = np.log(np.expm1(np.minimum(x, 30.0)))
    return np.where(x > 30.0, x + np.log1p(-np.exp(-np.maximum(x, 30.0))), small)


def _shifted(log_square: np.ndarray, log_product: np.ndarray) -> np.ndarray:
    """log E|P h~ - h_0|^2 = log((P - 1)^2 + P^2 (E|h~|^2 - 1)), E h~ = h_0."""
    with np.errstate(divide="ignore"):
        apart = 2 * np.log(np.abs(np.expm1(log_product)))
    return np.logaddexp(apart, 2 * log_product + _log_expm1(log_square))


@nb.njit(nogil=True, cache=True, error_model="numpy")
def _sweep(a, kv, v_base, kw, w_base, deviation, unit, slope, stored):  # type: ignore[no-untyped-def]
    """Log of C_kk for all k and of Q at the top; fills ``stored`` with the terms of Q.

    With s_k = log(C_kk) / 2 and x_kl = C_kl e^(-s_k - s_l) a row obeys, g_l = e^(s_l - s_(l+1)),

        U_l = g_l (U_(l-1) + a_k a_l K kappa(x_kl)),    x_(k+1, l+1) = g_k (x_(k, l+1) + U_l),
        C_(k+1, k+1) / C_kk = 1 + 2 U_(k-1) + a_k^2 K kappa(1),

    and Q the same with its own lengths.
    """
    depth = len(a)
    keep = len(stored) > 0
    x, z = np.zeros(depth + 1), np.zeros(depth + 1)
    g, f = np.zeros(depth), np.zeros(depth)
    log_c = np.zeros(depth + 1)
    log_q = 0.0
    x[0], z[0] = 1.0, 1.0
    squeeze = (1.0 - slope) * (1.0 - slope)
    linear = slope == 1.0
    at = 0
    for k in range(depth):
        # x and z hold row k, entries 0 .. k.
        u, w = 0.0, 0.0
        held_x, held_z = x[0], z[0]
        for l in range(k + 1):
            here_x, here_z = held_x, held_z
            correlation = kw[w_base[k] + l]
            if not unit:
                correlation /= deviation[k] * deviation[l]
            outer = a[k] * a[l] * kv[v_base[k] + l]
            r = min(max(correlation * here_x, -1.0), 1.0)
            if linear:
                value, slope_value = r, 1.0
            else:
                angle = math.asin(r)
                arc = 0.25 + angle / _TAU
                value = slope * r + squeeze * (math.sqrt((1.0 - r) * (1.0 + r)) / _TAU + r * arc)
                slope_value = slope + squeeze * arc
            term = outer * value
            push = outer * correlation * slope_value
            if keep:
                stored[at] = push
                at += 1
            if l < k:
                u = g[l] * (u + term)
                w = f[l] * (w + push * here_z)
                held_x, held_z = x[l + 1], z[l + 1]
                x[l + 1] = held_x + u
                z[l + 1] = held_z + w
            else:
                grown_x = math.log1p(2.0 * u + term)
                grown_z = math.log1p(2.0 * w + push)
        log_c[k + 1] = log_c[k] + grown_x
        log_q += grown_z
        down_x, down_z = math.exp(-0.5 * grown_x), math.exp(-0.5 * grown_z)
        g[k], f[k] = down_x, down_z
        for l in range(k + 1):
            x[l] *= down_x
            z[l] *= down_z
        x[k + 1], z[k + 1] = 1.0, 1.0
    return log_c, log_q


@nb.njit(nogil=True, cache=True, error_model="numpy")
def _back(stored, depth):  # type: ignore[no-untyped-def]
    """Log mean square of the gradient, counted from the top: the same sums from above."""
    z, f = np.zeros(depth + 1), np.zeros(depth)
    log_q = np.zeros(depth + 1)
    z[0] = 1.0
    for k in range(depth):
        i = depth - 1 - k
        w = 0.0
        held = z[0]
        grown = 0.0
        for l in range(k + 1):
            here = held
            # Entry (j, i) of the lower triangle, j = depth - 1 - l >= i.
            j = depth - 1 - l
            push = stored[j * (j + 1) // 2 + i]
            if l < k:
                w = f[l] * (w + push * here)
                held = z[l + 1]
                z[l + 1] = held + w
            else:
                grown = math.log1p(2.0 * w + push)
        log_q[k + 1] = log_q[k] + grown
        down = math.exp(-0.5 * grown)
        f[k] = down
        for l in range(k + 1):
            z[l] *= down
        z[k + 1] = 1.0
    return log_q
