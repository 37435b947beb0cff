r"""Branches that end in their activation: why its curvature at 0 stays in the limit.

For :math:`h_{k+1} = h_k + L^{-a} \varphi(A_k h_k + b_k)` the argument of the activation shrinks as
depth grows, and with it all of :math:`\varphi` but its behaviour at 0. With

.. math:: A_k = L^{-b} \bar A(k/L) + W^A_{(k+1)/L} - W^A_{k/L}

and likewise :math:`b_k`, where :math:`\bar A, \bar b` are smooth and the entries of :math:`W`
Brownian motions of variance :math:`\sigma_w^2/d` and :math:`\sigma_b^2`, the limits are

=================== ========= ========================================================
exponents           noise     limit
=================== ========= ========================================================
a = 1, b = 0        none      neural ODE, dH = phi(A H + b) dt
a + b = 1, a < 1    none      linear ODE, dH = phi'(0) (A H + b) dt
a = 0, b = 1        Brownian  SDE: `outer_activation_drift`, `outer_activation_volatility`
=================== ========= ========================================================

(Cohen, Cont, Rossier and Xu 2021; Cont, Rossier and Xu 2022; without :math:`\bar A, \bar b`
Peluchetti and Favaro 2020). The activation must be smooth at 0, with value 0: not ReLU. Blocks
of `sigprop` end in a matrix instead and have other limits, see `analysis.theory.limits`.

Below, ``slope`` is :math:`\varphi'(0)` and ``curvature`` :math:`\varphi''(0)`: 1 and 0 for tanh.
"""

from __future__ import annotations

import cmath
import math

import numpy as np

from sigprop.errors import SpecError, Unsupported
from sigprop.spec import check_number

__all__ = [
    "outer_activation_drift",
    "outer_activation_limit",
    "outer_activation_mean_field",
    "outer_activation_mean_square",
    "outer_activation_volatility",
]


def outer_activation_limit(branch_exponent: float, weight_exponent: float, *, noisy: bool) -> str:
    """Which limit a pair of exponents has.

    Parameters
    ----------
    branch_exponent, weight_exponent : float
        a and b.
    noisy : bool
        Whether the weights have a Brownian part.

    Returns
    -------
    str
        ``neural ODE``, ``linear ODE`` or ``SDE``.

    Raises
    ------
    Unsupported
        For exponents of which nothing is stated here.

    Notes
    -----
    Status: limit, as depth grows at fixed width. Assumes an activation that is 0 and twice
    differentiable at 0. Cost O(1).

    References
    ----------
    Cohen, Cont, Rossier, Xu (2021), arXiv:2105.12245; Cont, Rossier, Xu (2022),
    arXiv:2212.08199 (both recalled).

    Examples
    --------
    >>> outer_activation_limit(0.5, 0.5, noisy=False)
    'linear ODE'
    """
    a = check_number("branch_exponent", branch_exponent)
    b = check_number("weight_exponent", weight_exponent)
    if noisy and a == 0.0 and b == 1.0:
        return "SDE"
    if not noisy and a == 1.0 and b == 0.0:
        return "neural ODE"
    if not noisy and 0.0 <= a < 1.0 and math.isclose(a + b, 1.0, rel_tol=1e-12):
        return "linear ODE"
    raise Unsupported(
        f"no limit is stated here for branch exponent {a:g}, weight exponent {b:g} and "
        f"{'noisy' if noisy else 'smooth'} weights. Use (1, 0) or a + b = 1 for smooth weights, "
        "(0, 1) for noisy ones."
    )


def outer_activation_drift(
    state: np.ndarray,
    weights: np.ndarray,
    biases: np.ndarray,
    *,
    slope: float,
    curvature: float,
    weight_variance: float = 0.0,
    bias_variance: float = 0.0,
) -> np.ndarray:
    r"""Drift of the linear ODE and of the SDE.

    .. math:: \varphi'(0) (\bar A h + \bar b) + \tfrac12 \varphi''(0)
              \Bigl(\sigma_b^2 + \sigma_w^2 \frac{|h|^2}{d}\Bigr) \mathbf 1

    The second part is what Itô's formula leaves of the curvature: the square of a Brownian
    increment is of the order of the step.

    Parameters
    ----------
    state : ndarray, shape (.., d)
    weights : ndarray, shape (d, d)
        :math:`\bar A(t)`.
    biases : ndarray, shape (d,)
        :math:`\bar b(t)`.
    slope, curvature : float
    weight_variance, bias_variance : float
        :math:`\sigma_w^2, \sigma_b^2`; 0 for smooth weights.

    Returns
    -------
    ndarray, shape (.., d)

    Raises
    ------
    SpecError
        If a variance is negative.

    Notes
    -----
    Status: limit, as depth grows at fixed width. Cost O(d^2).

    References
    ----------
    Peluchetti, Favaro (2020), *Infinitely deep neural networks as diffusion processes*,
    arXiv:1905.11065; Cont, Rossier, Xu (2022), arXiv:2212.08199 (recalled).

    Examples
    --------
    >>> h = np.array([1.0, -1.0])
    >>> law = {"slope": 1.0, "curvature": 0.5, "weight_variance": 1.0, "bias_variance": 1.0}
    >>> outer_activation_drift(h, np.eye(2), np.zeros(2), **law).tolist()
    [1.5, -0.5]
    """
    h = np.asarray(state, float)
    rate = _rate(h, weight_variance, bias_variance)
    smooth = h @ np.asarray(weights, float).T + np.asarray(biases, float)
    return slope * smooth + curvature / 2 * rate[..., None]


def outer_activation_volatility(
    state: np.ndarray, *, slope: float, weight_variance: float, bias_variance: float = 0.0
) -> np.ndarray:
    r"""Volatility of the SDE, the same for all coordinates, which move independently.

    .. math:: |\varphi'(0)|\, \Bigl(\sigma_b^2 + \sigma_w^2 \frac{|h|^2}{d}\Bigr)^{1/2}

    Parameters
    ----------
    state : ndarray, shape (.., d)
    slope, weight_variance, bias_variance : float

    Returns
    -------
    ndarray, shape (..)

    Raises
    ------
    SpecError
        If a variance is negative.

    Notes
    -----
    Status: limit, as depth grows at fixed width. Cost O(d).

    References
    ----------
    Peluchetti, Favaro (2020), arXiv:1905.11065.

    Examples
    --------
    >>> float(outer_activation_volatility(np.ones(3), slope=0.5, weight_variance=4.0))
    1.0
    """
    rate = _rate(np.asarray(state, float), weight_variance, bias_variance)
    return abs(slope) * np.sqrt(rate)


def outer_activation_mean_square(
    mean_square: float,
    *,
    slope: float,
    weight_variance: float,
    bias_variance: float = 0.0,
    time: float = 1.0,
) -> float:
    r""":math:`E|H_t|^2 / d` of the SDE, for an activation without curvature and no smooth part.

    .. math:: (q_0 + \sigma_b^2/\sigma_w^2)\, e^{\varphi'(0)^2 \sigma_w^2 t} - \sigma_b^2/\sigma_w^2

    Parameters
    ----------
    mean_square : float
        :math:`q_0 = |h_0|^2 / d`.
    slope, weight_variance, bias_variance, time : float

    Raises
    ------
    SpecError
        If a variance, the time or ``mean_square`` is negative.

    Notes
    -----
    Status: exact for the SDE at any width, limit for a network, with an error of O(1/L).
    Assumes curvature 0, as of tanh or erf. Cost O(1).

    References
    ----------
    Peluchetti, Favaro (2020), arXiv:1905.11065; the form is elementary.

    Examples
    --------
    >>> round(outer_activation_mean_square(1.0, slope=1, weight_variance=1, bias_variance=0.5), 3)
    3.577
    """
    law = (slope, 0.0, weight_variance, bias_variance)
    return outer_activation_mean_field(0.0, mean_square, *law, time=time)[1]


def outer_activation_mean_field(
    mean: float,
    mean_square: float,
    slope: float,
    curvature: float,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    time: float = 1.0,
) -> tuple[float, float]:
    r"""Mean m and mean square q of a coordinate of the SDE, as the width grows.

    .. math:: m' = \tfrac12 \varphi''(0) (\sigma_b^2 + \sigma_w^2 q), \qquad
              q' = (\varphi''(0)\, m + \varphi'(0)^2)(\sigma_b^2 + \sigma_w^2 q)

    Their quotient makes q a quadratic function of m, so m obeys a Riccati equation and both
    have closed forms. With curvature they may reach infinity at a finite time.

    Parameters
    ----------
    mean, mean_square : float
        At time 0: averages over the coordinates of the input, and of their squares.
    slope, curvature : float
    weight_variance, bias_variance : float
    time : float

    Returns
    -------
    (m, q) : tuple of float
        At ``time``.

    Raises
    ------
    SpecError
        If a variance or the time is negative, or the mean square below the squared mean.
    Unsupported
        If the solution has reached infinity before ``time``.

    Notes
    -----
    Status: limit, as the width grows; exact for q at any width if the curvature is 0. Cost O(1).

    References
    ----------
    Peluchetti, Favaro (2021), *Doubly infinite residual neural networks*, arXiv:2007.03253; the
    closed form is elementary.

    Examples
    --------
    The activation (e^x - 1) / 2, and softplus less log 2, from the input (1, .., 1):

    >>> round(outer_activation_mean_field(1.0, 1.0, 0.5, 0.5, 1.0, 0.5)[0], 4)
    1.5854
    >>> round(outer_activation_mean_field(1.0, 1.0, 0.5, 0.25, 1.0, 0.5)[0], 4)
    1.2457
    """
    w = check_number("weight_variance", weight_variance, low=0.0)
    b = check_number("bias_variance", bias_variance, low=0.0)
    t = check_number("time", time, low=0.0)
    if not mean_square >= mean**2 * (1 - 1e-12):
        raise SpecError(
            f"mean_square must be at least the squared mean {mean**2:g}, got {mean_square!r}: it "
            "is an average of squares."
        )
    gain, bend = slope**2, curvature
    if w == 0.0:
        m = mean + bend / 2 * b * t
        return m, mean_square + b * t * (gain + bend * (mean + m) / 2)
    if bend == 0.0:
        growth = math.expm1(gain * w * t)
        return mean, mean_square + (mean_square + b / w) * growth
    # y = m + gain / bend obeys y' = rate (y^2 + level): y = -u' / (rate u), u'' = -rate^2 level u.
    rate, shift = bend * w / 2, gain / bend
    start = mean + shift
    level = b / w + mean_square - start**2
    root = cmath.sqrt(level)
    angle = root * rate * t
    cosine = cmath.cos(angle).real
    sine = (cmath.sin(angle) / root).real if root != 0 else rate * t
    # u starts at 1 and reaches 0 where y is infinite; beyond its first zero there is nothing.
    reached = cosine - start * sine <= 0.0
    if level > 0:
        reached = abs(angle) >= math.pi / 2 - math.copysign(1, rate) * math.atan(start / root.real)
    if reached:
        raise Unsupported(
            f"the mean of a coordinate reaches infinity before time {t:g}: an activation of "
            f"curvature {bend:g} feeds the mean square back into the mean. Use a shorter time or "
            "smaller variances."
        )
    y = (start * cosine + level * sine) / (cosine - start * sine)
    return float(y - shift), float(mean_square + y**2 - start**2)


def _rate(h: np.ndarray, weight_variance: float, bias_variance: float) -> np.ndarray:
    """Squared increments of a pre-activation per unit of time."""
    w = check_number("weight_variance", weight_variance, low=0.0)
    return check_number("bias_variance", bias_variance, low=0.0) + w * np.mean(h**2, axis=-1)
