r"""Deep networks of a given width, block res1: random norms that no width averages away.

At :math:`L^{-1/2}` the limit of depth is :math:`dX = n^{-1/2} \|\varphi(X)\|\, dB` (Hayou 2022), a
diffusion in n dimensions. With a linear activation its norm is a geometric Brownian motion.
With ReLU it is the norm of what passes the activation that nearly is one: between two changes
of the set of active units,

.. math:: d \log \|\varphi(X_t)\| = n^{-1/2}\, d\hat B_t
          + \frac1n \Bigl(\frac{N_t}{2} - 1\Bigr) dt, \qquad N_t = \#\{i : X_t^i > 0\},

so a network with few units on falls silent and one with many grows. As the width grows too,
:math:`N_t / n \to 1/2`: see `analysis.theory.wide_kernels`.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammaln
from scipy.stats import binom

from sigprop.errors import SpecError
from sigprop.spec import check_count, check_number

__all__ = [
    "geometric_log_norm",
    "quasi_geometric_drift",
    "quasi_geometric_log_mean",
]


# --------------------------------------------------------------- norms at finite width


def geometric_log_norm(width: int, time: float = 1.0) -> tuple[float, float]:
    r"""Mean and variance of :math:`\log \|X_t\| / \|X_0\|` for a linear activation.

    .. math:: \log\frac{\|X_t\|}{\|X_0\|} \sim
              N\Bigl(\bigl(\tfrac12 - \tfrac1n\bigr) t, \tfrac tn\Bigr)

    At width 1 and :math:`X_0 > 0` it is the law for ReLU, too: :math:`X_0 e^{-t/2 + B_t}` never
    leaves the positive side. The mean is 0 at width 2, below at 1, above from 3 on, though
    :math:`E\|X_t\|^2 = e^t \|X_0\|^2` at every width.

    Parameters
    ----------
    width : int
        n.
    time : float
        t = layer / depth, for a branch of :math:`L^{-1/2}`.

    Raises
    ------
    SpecError
        If the width is not a positive integer, or the time negative.

    Notes
    -----
    Status: exact for the diffusion, limit for a network, with an error of O(1/L). Assumes
    independent weights of mean 0 and variance 1/n. Cost O(1).

    References
    ----------
    Hayou (2022), *On the infinite-depth limit of finite-width neural networks*,
    arXiv:2210.00688.

    Examples
    --------
    >>> geometric_log_norm(4)
    (0.25, 0.25)
    """
    width, time = _check(width, time)
    return (0.5 - 1 / width) * time, time / width


def quasi_geometric_drift(active: int, width: int) -> float:
    r"""Drift of :math:`\log \|\varphi(X)\|` while ``active`` of ``width`` ReLUs are on.

    :math:`(N/2 - 1)/n`; the diffusion coefficient is :math:`n^{-1/2}` whatever N. One unit alone
    loses :math:`1/(2n)` per unit of time, two stand still.

    Raises
    ------
    SpecError
        If ``active`` is not between 1 and the width. With none on, nothing moves any more.

    Notes
    -----
    Status: exact for the diffusion; N changes with time. Cost O(1).

    References
    ----------
    Hayou (2022), arXiv:2210.00688.

    Examples
    --------
    >>> quasi_geometric_drift(1, 4), quasi_geometric_drift(4, 4)
    (-0.125, 0.25)
    """
    width = check_count("width", width)
    if check_count("active", active) > width:
        raise SpecError(f"active must be at most the width {width}, got {active}: it counts units.")
    return (active / 2 - 1) / width


def quasi_geometric_log_mean(width: int, time: float = 1.0) -> float:
    r"""Mean of :math:`\log \|\varphi(X_t)\| / \|\varphi(X_0)\|` for ReLU: two terms in time.

    For :math:`X_0 \sim N(0, I)` given that some coordinate is positive, with p = 1 - 2^-n,

    .. math:: \Bigl(\frac{1}{4p} - \frac1n\Bigr)\, t
              - \frac{\kappa}{15 \pi\, n^{3/2}\, p}\, t^{5/2} + O(t^3), \\
              \kappa = E\|\varphi(Z_{n-1})\|
                     = \sum_{k=1}^{n-1} \binom{n-1}{k} 2^{-(n-1)}\, E \chi_k .

    The first term is the drift (N/2 - 1)/n at the start. Then the share of active units falls:
    where :math:`x_i > 0` the density :math:`\rho` grows faster than below by
    :math:`\rho / n` per unit of time, since the squared volatility :math:`\|\varphi(x)\|^2 / n` is
    convex there and flat below. That is a step of height :math:`\rho s / n` at
    :math:`x_i = 0`, which diffusion smooths, and a flow
    :math:`-(\rho/n)\,\|\varphi\| \sqrt{s / (2 \pi n)}` of mass across 0. Integrated over the
    other coordinates and twice over time, this is the second term.

    The sign changes between width 3 and 4: a network of ReLUs that starts at a Gaussian input
    fades, in the mean of the logarithm, up to width 3, and grows from 4 on. From another
    input the change is elsewhere.

    Parameters
    ----------
    width : int
        n, at least 2 (at width 1 the law is `geometric_log_norm`).
    time : float
        Between 0 and 1.

    Raises
    ------
    SpecError
        If the width is below 2 or the time not within [0, 1].

    Notes
    -----
    Status: limit, for short times, of the diffusion; at t = 1 it is within 0.001 of simulation
    at every width tried (2, 3, 4, 5, 200). Assumes a Gaussian input. Cost O(n).

    References
    ----------
    Hayou (2022), arXiv:2210.00688, for the drift and the change of sign.

    Examples
    --------
    >>> [round(quasi_geometric_log_mean(n), 3) for n in (2, 3, 4, 5)]
    [-0.171, -0.051, 0.014, 0.056]
    """
    width, time = _check(width, time)
    if width < 2 or time > 1.0:
        raise SpecError(
            f"quasi_geometric_log_mean is an expansion for short times at width 2 or more, got "
            f"width {width} and time {time:g}. At width 1 use geometric_log_norm; for longer times "
            "simulate."
        )
    alive = -math.expm1(-width * math.log(2))
    k = np.arange(1, width)
    chi_mean = math.sqrt(2) * np.exp(gammaln((k + 1) / 2) - gammaln(k / 2))
    kappa = float(binom.pmf(k, width - 1, 0.5) @ chi_mean)
    first = (1 / (4 * alive) - 1 / width) * time
    return first - kappa / (15 * math.pi * width**1.5 * alive) * time**2.5


def _check(width: int, time: float) -> tuple[int, float]:
    return check_count("width", width), check_number("time", time, low=0.0)
