r"""Weights whose correlation falls like a power of the lag: the scaling they need, and their sum.

Let :math:`v_k = f(x_k)` with x stationary Gaussian, :math:`E x_i x_{i+k} \sim k^{-\alpha}`, and let
:math:`c_q He_q` be the first term of the Hermite series of f: q is its rank. Then
:math:`E v_i v_{i+k} \sim c_q^2\, q!\, k^{-\alpha q}`. For :math:`\alpha q < 1` this is not
summable: the sum of L weights grows like :math:`L^H`,

.. math:: H = 1 - \frac{\alpha q}{2} \in (\tfrac12, 1), \qquad
          \operatorname{Var} \sum_{k \le L} v_k \sim \gamma^2 L^{2H}, \qquad
          \gamma^2 = \frac{c_q^2\, q!}{H (2H - 1)},

and :math:`L^{-H} \sum_{k \le tL} v_k` tends to :math:`\gamma` times a Hermite process, fractional
Brownian motion at rank 1 (Taqqu 1979). A residual network with branches :math:`L^{-H}` then
tends to the Young equation :math:`dh = \gamma\, \sigma(w, h)\, dZ` (Benning, Nourdin and Peccati
2026). With smaller branches it tends to the identity, which is proved; with larger ones it is
believed to explode. That needs a bounded and smooth :math:`\sigma` and inner weights w that are
smooth in depth: not ReLU, and not res3 with rough W.
"""

from __future__ import annotations

import math

from sigprop.errors import Unsupported
from sigprop.spec import check_count, check_number

__all__ = ["driver_exponent", "driver_variance"]


def driver_exponent(rank: int, decay: float) -> float:
    r"""H, the exponent of the branch at which memory keeps a network stable.

    Parameters
    ----------
    rank : int
        q, the Hermite rank of the function that makes weights of Gaussian numbers.
    decay : float
        :math:`\alpha`, of the Gaussian numbers.

    Returns
    -------
    float
        :math:`1 - \alpha q / 2`.

    Raises
    ------
    SpecError
        If the rank is not a positive integer or the decay not positive.
    Unsupported
        If rank times decay is 1 or more: memory is short and the exponent 1/2.

    Notes
    -----
    Status: limit for the sum of weights, and for a network for the identity above H; that it
    explodes below H is a conjecture. Assumes block res1 or smooth inner weights, and a
    bounded, smooth activation. Cost O(1).

    References
    ----------
    Benning, Nourdin, Peccati (2026), *Correlated initialization of deep residual networks*
    (recalled); Taqqu (1979) for the sum.

    Examples
    --------
    >>> driver_exponent(2, 0.25)
    0.75
    """
    q = check_count("rank", rank, why="It counts the first term of a Hermite series.")
    alpha = check_number("decay", decay, low=0.0, open_low=True)
    if q * alpha >= 1.0:
        raise Unsupported(
            f"rank {q} times decay {alpha:g} is {q * alpha:g}: at 1 or more correlations fall so "
            "fast that weights add up like independent ones. Use exponent 1/2."
        )
    return 1 - q * alpha / 2


def driver_variance(rank: int, decay: float, coefficient: float | None = None) -> float:
    r""":math:`\gamma^2`, the variance of the sum of L weights over :math:`L^{2H}`, L large.

    Parameters
    ----------
    rank, decay
        As in `driver_exponent`.
    coefficient : float, optional
        :math:`c_q`, of the polynomial :math:`He_q` itself. Default :math:`1/\sqrt{q!}`, of weights
        of variance 1 (process ``hermite``).

    Raises
    ------
    SpecError, Unsupported
        As `driver_exponent`.

    Notes
    -----
    Status: limit. At L layers the variance of process ``hermite`` misses a relative
    :math:`O(L^{-(2H - 1)})`, which may be slow. Cost O(1).

    References
    ----------
    Benning, Nourdin, Peccati (2026) (recalled); the form is elementary.

    Examples
    --------
    >>> round(driver_variance(2, 0.25), 6)  # 1 / (0.75 * 0.5)
    2.666667
    """
    hurst = driver_exponent(rank, decay)
    factorial = float(math.factorial(rank))
    squared = 1 / factorial if coefficient is None else check_number("c", coefficient) ** 2
    return squared * factorial / (hurst * (2 * hurst - 1))
