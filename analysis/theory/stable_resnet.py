r"""Branches that differ from layer to layer: stable if their squares have a bounded sum.

A branch :math:`\lambda_l` multiplies the mean square by :math:`1 + g \lambda_l^2`, so after L
layers it is between :math:`1 + gS` and :math:`e^{gS}` with :math:`S = \sum_l \lambda_l^2`. Depth
does no harm if and only if S stays bounded (Hayou et al. 2021): for
:math:`\lambda_l = L^{-1/2}`, where S = 1, as for :math:`\lambda_l = 1/(\sqrt l \log(l+1))`, which
does not know the depth.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad

from sigprop.errors import SpecError
from sigprop.spec import check_number

__all__ = ["decreasing_log_mean_square", "stable_log_mean_square"]

_SUMMED = 1000  # layers that are added one by one; the rest is an integral


def stable_log_mean_square(branches: ArrayLike, gain: float = 1.0) -> np.ndarray:
    r"""Log of the product :math:`\prod_{k \le l} (1 + g \lambda_k^2)`, for states and gradients.

    Parameters
    ----------
    branches : array_like, shape (depth,)
        :math:`\lambda_1 .. \lambda_L`.
    gain : float
        g, weight variance times width times :math:`E\varphi(Z)^2`: 1 for ReLU with weights of
        variance 2/width.

    Returns
    -------
    ndarray, shape (depth + 1,)
        :math:`\log E|h_l|^2 / |h_0|^2`.

    Raises
    ------
    SpecError
        If the gain is negative or a branch not finite.

    Notes
    -----
    Status: limit, as the width grows, for block res1 with ReLU, inputs of random directions;
    at a finite width it is too low, since a state with many units on grows faster. Exact for
    res3, see `log_mean_square`. Assumes independent weights. Cost O(depth).

    References
    ----------
    Hayou, Clerico, He, Deligiannidis, Doucet, Rousseau (2021), *Stable ResNet*,
    arXiv:2010.12859.

    Examples
    --------
    >>> float(stable_log_mean_square(np.full(10**4, 0.01))[-1].round(3))  # e^1
    1.0
    """
    g = check_number("gain", gain, low=0.0)
    square = np.asarray(branches, float) ** 2
    if square.ndim != 1 or not np.isfinite(square).all():
        raise SpecError(
            f"branches must be a row of finite numbers, one a layer, got shape {square.shape}."
        )
    return np.concatenate([[0.0], np.cumsum(np.log1p(g * square))])


def decreasing_log_mean_square(gain: float = 1.0) -> float:
    r"""Log of :math:`\prod_{l \ge 1} (1 + g / (l \log^2(l+1)))`: the decreasing form at any depth.

    The sum over l converges slowly, like 1 / log L, so a depth of 10^6 is still 7% of g away.
    What follows the first thousand layers is an integral.

    Parameters
    ----------
    gain : float
        As in `stable_log_mean_square`.

    Returns
    -------
    float
        An upper bound of the value at every depth, to 1e-8 of the gain.

    Raises
    ------
    SpecError
        If the gain is negative.

    Notes
    -----
    Status: limit, as depth grows; as `stable_log_mean_square`. Cost O(1).

    References
    ----------
    Hayou et al. (2021), arXiv:2010.12859, for the branches.

    Examples
    --------
    >>> round(decreasing_log_mean_square(1.0), 6)  # at most 10.4 times the mean square
    2.341602
    """
    g = check_number("gain", gain, low=0.0)

    def term(l: float) -> float:
        return math.log1p(g / (l * math.log1p(l) ** 2))

    summed = math.fsum(term(l) for l in range(1, _SUMMED))
    # With l = e^x - 1 the integrand g e^x / (e^x - 1) / x^2 is tame; its tail is taken on 1/x.
    start = math.log1p(_SUMMED)
    tail, _ = quad(lambda y: _in_reciprocal(y, g), 0.0, 1 / start, epsabs=1e-13, epsrel=1e-12)
    return summed + tail + term(_SUMMED) / 2  # the trapezoidal rule: off by term' / 12


def _in_reciprocal(y: float, gain: float) -> float:
    """The integrand over l, in y = 1 / log(l + 1): finite down to y = 0, where it is the gain."""
    if y < 1 / 600:  # l beyond e^600: log1p is its argument and e^x / (e^x - 1) is 1
        return gain
    x = 1 / y
    l = math.expm1(x)
    return math.log1p(gain / (l * x * x)) * (l + 1) * x * x
