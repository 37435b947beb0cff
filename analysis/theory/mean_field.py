r"""Wide residual nets whose weights depend on each other along depth: all mean squares at once.

In a wide net with Gaussian weights the states of two layers have an inner product that does not
fluctuate, :math:`C_{kl} = \langle h_k, h_l \rangle / |h_0|^2`. With :math:`h_{k+1} = h_k + a_k V_k
\varphi(W_k h_k)`, entries of variance 1 / fan_out, and V, W the covariances of the entries along
depth, it obeys the closed recursion

.. math:: C_{k+1, l+1} = 1 + \sum_{i \le k, j \le l} a_i a_j V_{ij} \Phi_{ij}, \qquad
          \Phi_{ij} = \sqrt{C_{ii} C_{jj}}\, K(r_{ij}), \qquad
          r_{ij} = \frac{W_{ij} C_{ij}}{\sqrt{C_{ii} C_{jj}}},

where for an activation of slope s below 0

.. math:: K(r) = s r + (1 - s)^2\,\frac{\sqrt{1 - r^2} + (\pi - \arccos r)\, r}{2\pi} .

In res1 the branch reads the state itself, and W is 1. The gradient is driven by
:math:`V_{ij} W_{ij} K'(r_{ij})` in place of :math:`V_{ij} \Phi_{ij}`. With :math:`R_{kl}` the
normalised trace of :math:`J_k^T J_l`, where :math:`J_l` leads from layer l to the top,

.. math:: R_{kl} = 1 + \sum_{i \ge k, j \ge l} a_i a_j V_{ij} W_{ij} K'(r_{ij})\, R_{i+1, j+1},
          \qquad \frac{E|p_l|^2}{|p_L|^2} = R_{ll} .

Skip coefficients :math:`c_k > 0` come to the same: states divided by :math:`\prod_{i<k} c_i` have
coefficients :math:`a_k / c_k`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.theory._entrywise import check_entrywise
from sigprop.errors import SpecError, Unsupported
from sigprop.spec import Ensemble, Process, check_count, check_number

__all__ = ["MeanField", "mean_field", "mean_field_arrays"]

_ROOM = 2**21  # cells of the backward pass that are kept: 16 MB


@dataclass(frozen=True)
class MeanField:
    """Mean squares of states and gradients in a wide net; natural logarithms, dimensionless.

    Attributes
    ----------
    log_mean_square, log_displacement_mean_square : ndarray, shape (depth + 1,)
        Of :math:`E|h_l|^2 / |h_0|^2` and :math:`E|h_l - h_0|^2 / |h_0|^2`; -inf for 0.
    log_gradient_mean_square, log_gradient_displacement_mean_square : ndarray, shape (depth + 1,)
        Of :math:`E|p_l|^2 / |p_L|^2` and :math:`E|p_l - p_L|^2 / |p_L|^2` for an isotropic
        gradient at the top; nan if they were not asked for.
    """

    status: ClassVar[str] = "limit"

    log_mean_square: np.ndarray
    log_displacement_mean_square: np.ndarray
    log_gradient_mean_square: np.ndarray
    log_gradient_displacement_mean_square: np.ndarray

    def gradient_displacement_at_width(self, width: int) -> float:
        """Log of E|p_0 - p_L|^2 / |p_L|^2 of the limit, with the part along the state.

        What ``finite_width`` does, at layer 0 alone and for any width.
        """
        across = self.log_gradient_displacement_mean_square[0] + math.log1p(-1 / width)
        along = self.log_displacement_mean_square[-1] - math.log(width)
        return float(np.logaddexp(across, along))


def mean_field(
    ensemble: Ensemble, *, finite_width: bool = False, gradient: bool = True
) -> MeanField:
    r"""Mean squares of states and gradients for any covariance of the weights along depth.

    Parameters
    ----------
    ensemble : Ensemble
        Block res3 or res1; activation linear, relu or leaky_relu.
    finite_width : bool
        Of the d directions in which a gradient may point one, along the state, grows like the
        state itself, by Euler's identity. If True it is counted with its weight of 1/d,
        which matters where states grow faster than gradients (default False: the limit).
    gradient : bool
        Whether to compute the gradient too (default True).

    Returns
    -------
    MeanField
        Arrays over layers 0 .. depth.

    Raises
    ------
    Unsupported
        For other blocks and activations; with biases, centred rows, weights without variance,
        an inner process that is not Gaussian, or skip coefficients that are not positive.

    Notes
    -----
    Status: limit as the width grows, the depth being fixed; the error of a mean square is
    O(1/d). With independent layers of res3 it is `log_mean_square` and the like, exact at every
    width. Assumes, for res1 with a kink, inputs that do not prefer a sign, as points on a sphere
    do not.

    Cost: O(depth^2) time, 10 ms at depth 1000 and 1 s at 10 000, and O(depth^(3/2)) memory, of
    processes that are stationary; others have a covariance matrix.

    References
    ----------
    The kernels K and K' are those of Cho and Saul (2009), Kernel methods for deep learning;
    the setting is that of Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> net = Network(depth=2000, width=100, block="res1", activation="linear")
    >>> tied = mean_field(Ensemble(net, Power(beta=1, process="tied")))
    >>> round(float(np.exp(tied.log_mean_square[-1])), 4)  # I_0(2) = 2.2796 in the limit
    2.2792
    """
    network, table = ensemble.network, ensemble.table
    _check(ensemble)
    size = np.prod(table.scale * np.sqrt(network.fans[1]), axis=1)
    coefficients = table.branch * table.input_scale * size / table.skip
    outer = _covariance(table.processes[-1], network.depth)
    inner = _covariance(table.processes[0], network.depth) if network.block == "res3" else None
    slope = network.phi.negative_slope
    found = mean_field_arrays(
        coefficients,
        outer,
        inner,
        negative_slope=1.0 if slope is None else slope,
        width=network.width if finite_width else None,
        gradient=gradient,
    )
    if np.all(table.skip == 1):
        return found
    trunk = np.concatenate([[0.0], np.cumsum(np.log(table.skip))])
    above = trunk[-1] - trunk
    return MeanField(
        found.log_mean_square + 2 * trunk,
        _displaced(found.log_displacement_mean_square, trunk),
        found.log_gradient_mean_square + 2 * above,
        _displaced(found.log_gradient_displacement_mean_square, above),
    )


def mean_field_arrays(
    coefficients: np.ndarray,
    outer: np.ndarray,
    inner: np.ndarray | None = None,
    *,
    negative_slope: float = 0.0,
    width: int | None = None,
    gradient: bool = True,
    room: int = _ROOM,
) -> MeanField:
    r"""`mean_field` of covariances given as arrays, with skip coefficients 1.

    Parameters
    ----------
    coefficients : ndarray, shape (depth,)
        :math:`a_k`, for entries of variance 1 / fan_out; they may have either sign.
    outer, inner : ndarray, shape (depth,) or (depth, depth)
        Covariance along depth of the entries of V and of W, positive semi-definite; one axis
        for the autocovariance of a stationary process. ``inner`` None is res1.
    negative_slope : float
        Of the activation below 0: 0 for ReLU, 1 for a linear net.
    width : int, optional
        Of a net for which gradients are refined as by ``finite_width`` (default: the limit).
    gradient : bool
        Whether to compute the gradient too.
    room : int
        Numbers of the backward pass to keep at a time. Less room takes half as long again.

    Returns
    -------
    MeanField

    Raises
    ------
    SpecError
        If shapes do not fit, a number is not finite, or a variance is not positive.

    Notes
    -----
    Status, assumptions and cost as `mean_field`.

    Examples
    --------
    >>> a, eye = np.full(50, 50**-0.5), np.eye(50)
    >>> found = mean_field_arrays(a, eye, eye)
    >>> bool(np.isclose(found.log_mean_square[-1], 50 * np.log1p(0.5 / 50)))
    True
    """
    from analysis.theory._mean_field_kernel import sweep  # Numba is imported when it is needed

    a = np.array(coefficients, float)
    if a.ndim != 1 or not len(a) or not np.isfinite(a).all():
        raise SpecError(
            f"coefficients must be one finite number for each layer, got an array of shape "
            f"{a.shape}. Give the branch coefficients, shape (depth,)."
        )
    slope, room = check_number("negative_slope", negative_slope), check_count("room", room)
    v, w = _array("outer", outer, len(a)), np.ones(len(a))
    if inner is not None:
        # phi(c u) = c phi(u): a deviation of W other than 1 is a coefficient.
        w = _array("inner", inner, len(a))
        deviation = np.sqrt(np.full(len(a), w[0]) if w.ndim == 1 else np.diag(w))
        a *= deviation
        w = w / w[0] if w.ndim == 1 else w / np.outer(deviation, deviation)

    shape = len(a) + 1
    log_square, log_rest, log_gradient = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    log_moved, log_gradient_moved = np.full(shape, -np.inf), np.full(shape, -np.inf)
    outputs = (log_square, log_moved, log_rest, log_gradient, log_gradient_moved)
    sweep(a, *_as_rows(v), *_as_rows(w), slope, gradient, room, *outputs)
    if not gradient:
        log_gradient[:] = log_gradient_moved[:] = np.nan
    elif width is not None:
        d = check_count("width", width)
        across = math.log1p(-1 / d) if d > 1 else -math.inf
        along = log_square[-1] - log_square - math.log(d)
        log_gradient = np.logaddexp(across + log_gradient, along)
        log_gradient_moved = np.logaddexp(across + log_gradient_moved, log_rest - math.log(d))
    return MeanField(log_square, log_moved, log_gradient, log_gradient_moved)


def _displaced(log_moved: np.ndarray, log_trunk: np.ndarray) -> np.ndarray:
    """log of P^2 (C - 1) + (P - 1)^2, from log(C - 1) and log P."""
    with np.errstate(divide="ignore"):
        apart = np.maximum(log_trunk, 0.0) + np.log(-np.expm1(-np.abs(log_trunk)))
    return np.logaddexp(2 * log_trunk + log_moved, 2 * apart)


def _covariance(process: Process, depth: int) -> np.ndarray:
    lags = process.autocovariance(depth)
    return process.covariance(depth) if lags is None else lags


def _array(name: str, value: np.ndarray, depth: int) -> np.ndarray:
    array = np.asarray(value, float)
    if array.shape not in ((depth,), (depth, depth)) or not np.isfinite(array).all():
        raise SpecError(
            f"{name} has shape {array.shape}, but depth is {depth}: give an autocovariance of "
            f"{depth} finite lags or a matrix of {depth} x {depth}."
        )
    variance = array[:1] if array.ndim == 1 else np.diag(array)
    if not (variance > 0).all():
        raise SpecError(
            f"{name} has the variance {variance.min():g} at layer {int(variance.argmin())}: a "
            "weight needs a positive one. Set a coefficient to 0 to switch a layer off."
        )
    return array


def _as_rows(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(lags in reverse, rows), one of them empty."""
    if covariance.ndim == 1:
        return np.ascontiguousarray(covariance[::-1]), np.empty((0, 0))
    return np.empty(0), np.ascontiguousarray(covariance)


def _check(ensemble: Ensemble) -> None:
    network, table = ensemble.network, ensemble.table
    check_entrywise(ensemble, "mean_field")
    if network.block not in ("res1", "res3"):
        raise Unsupported(
            f"mean_field is of blocks 'res1' and 'res3', got {network.block!r}. Simulate it, or "
            "for independent layers use log_mean_square, which is exact."
        )
    if network.phi.kind != "linear" and network.phi.negative_slope is None:
        raise Unsupported(
            f"mean_field needs an activation that is linear on either side of 0, got "
            f"{network.phi.kind!r}: for others there is no closed recursion. Simulate it."
        )
    if table.biased:
        raise Unsupported(
            "mean_field needs a net without biases: they do not follow the norm of the state. "
            "Simulate it, or for independent layers use log_mean_square."
        )
    if table.centred:
        raise Unsupported(
            f"mean_field needs independent entries, but scheme {ensemble.scheme.kind!r} makes "
            "every row sum to zero. Simulate it."
        )
    if not np.isfinite(table.law.variance):
        raise Unsupported(
            f"mean_field is infinite for law {table.law.kind!r}, whose entries have no variance. "
            "Measure quantiles, or moments of a lower order."
        )
    if np.any(table.skip <= 0):
        raise Unsupported(
            f"mean_field needs positive skip coefficients, got {table.skip.min():g}: behind any "
            "other the activation sees a state of another sign. Simulate it."
        )
    if network.block == "res3" and not table.processes[0].gaussian:
        raise Unsupported(
            f"mean_field needs Gaussian inner weights, got process {table.processes[0].kind!r}: "
            "it takes the arguments of the activation in two layers as jointly normal. Use it "
            "as the outer process alone."
        )
