r"""The factor of a plain layer whose weights have no variance: moments for stable weights.

Entries of scale c with characteristic function exp(-|c t|^alpha) make
:math:`(W x)_i` stable of scale :math:`c |x|_\alpha`, so the norm in which a layer is an independent
factor is that of l_alpha,

.. math:: |\varphi(W x)|_\alpha^\alpha = c^\alpha |x|_\alpha^\alpha\, Q, \qquad
          Q = \sum_{i \le d} |\varphi(\xi_i)|^\alpha, \quad \xi_i \text{ standard stable}.

Q has a tail of index 1, so :math:`E Q^p` is finite for p < 1 and :math:`E |x|_\alpha^s` for
s < alpha. With g(t) = E(1 - exp(-t |phi(xi)|^alpha)),

.. math:: E Q^p = \frac{p}{\Gamma(1-p)} \int \bigl(1 - (1 - g(e^u))^d\bigr) e^{-pu} du ,

and g is a mean over the two variables of Chambers, Mallows and Stuck, an angle U = arctan e^v and
an exponential one e^y, both by the trapezoid rule: the tail of xi is all at U -> pi/2. Below
t = e^-30 g(t) / t is linear in log t to rounding; above t = e^50 only exact zeros are left.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.special import gammaln

from sigprop.errors import SpecError
from sigprop.layer_factor import slopes_of
from sigprop.spec import Activation, check_count, check_number

__all__ = ["stable_log_moment", "stable_scale"]

_STEP = 0.25
_LOW, _HIGH = -30.0, 50.0
_MOST = 0.95  # of p: nearer to 1 the integral converges too slowly for its digits


def stable_log_moment(
    stability: float, activation: Activation, width: int, power: float, *, alive: bool = False
) -> float:
    """log E Q^p of a layer of ``width`` units with standard symmetric stable weights.

    Parameters
    ----------
    stability : float
        alpha, in (0, 2).
    activation : Activation
        Linear on either side of 0, with one slope below it.
    width : int
    power : float
        p, in (0, 0.95]: E|x|_alpha^s is p = s / alpha. At p = 1 it is infinite.
    alive : bool
        Given that Q > 0.

    Returns
    -------
    float
        Status: exact, to a relative 1e-9. Cost: a second for a new stability, then 0.1 ms.

    Raises
    ------
    SpecError
        If p is out of range: the message says which moments exist.
    """
    width = check_count("width", width)
    limit = stability * _MOST
    why = (
        f"It is the order over the stability {stability:g}: moments of order {stability:g} and "
        f"more are infinite, and those above {limit:.3g} are not computed. Choose a lower order."
    )
    p = check_number("power", power, low=0.0, high=_MOST, open_low=True, why=why)
    slope, other = slopes_of(activation)
    if slope != other or getattr(activation, "keep", 1.0) < 1:
        raise SpecError(
            f"activation {activation.kind!r} has units that are not alike, whose factor for stable "
            "weights is not known. Use linear, relu or leaky_relu."
        )
    u, g = _transform(float(stability))
    # Where e^u has no digits left nothing is missed: at p = 0.95 the rest is e^-35.
    low = max(math.floor((_LOW - 45 / (1 - p)) / _STEP) * _STEP, -700.0)
    below = np.arange(low, _LOW, _STEP)
    places, unit = np.concatenate([below, u]), np.concatenate([_extended(below, u, g), g])
    if slope in (1.0, -1.0):
        one, atom = unit, 0.0
    else:
        shifted = np.zeros_like(unit)
        if slope:
            shift = stability * math.log(abs(slope))
            shifted = _shifted(places + shift, u, g)
        one, atom = (unit + shifted) / 2, 0.0 if slope else 0.5
    silence = atom**width
    with np.errstate(divide="ignore"):
        heard = -np.expm1(width * np.log1p(-one))
    total = _STEP * float(np.sum(heard * np.exp(-p * places)))
    # Beyond the grid a unit is either heard for sure or silent: a geometric series.
    end = places[-1] + _STEP
    total += _STEP * (1 - silence) * math.exp(-p * end) / -math.expm1(-p * _STEP)
    return (
        math.log(p)
        - float(gammaln(1 - p))
        + math.log(total)
        - (math.log1p(-silence) if alive else 0.0)
    )


def stable_scale(
    stability: float, activation: Activation, width: int, s: float, *, alive: bool = False
) -> float:
    """The scale c of stable weights that keeps E|x|_alpha^s, 0 < s < alpha.

    Examples
    --------
    >>> from sigprop.activations import ReLU
    >>> round(stable_scale(1.5, ReLU(), 20, 0.75), 5)
    0.1069
    """
    if s == 0 or s >= stability:
        raise SpecError(
            f"s = {s:g} cannot be kept with stable weights of stability {stability:g}: moments of "
            f"the norm exist for orders below {stability:g}, and order 0 is not offered. Choose s "
            f"in (0, {_MOST * stability:.3g}]."
        )
    log = stable_log_moment(stability, activation, width, s / stability, alive=alive)
    return math.exp(-log / s)


@lru_cache(maxsize=32)
def _transform(stability: float) -> tuple[np.ndarray, np.ndarray]:
    """(u, E(1 - exp(-e^u |xi|^alpha))) on the grid."""
    a = stability
    v = np.arange(-42.0, 78.0, _STEP)
    y = np.arange(-45.0, 4.8, _STEP)
    # cos U = 1 / sqrt(1 + e^2v); the rest of pi/2 keeps its digits as arctan e^-v.
    angle = np.arctan(np.exp(v))
    log_cos = -np.logaddexp(0.0, 2 * v) / 2
    log_a = a * np.log(np.sin(a * angle)) + (1 - a) * np.log(np.cos((1 - a) * angle)) - log_cos
    weight = (_STEP / math.pi / np.cosh(v))[:, None] * (_STEP * np.exp(y - np.exp(y)))
    log_y = (log_a[:, None] + (a - 1) * y).ravel()
    weight = weight.ravel()
    kept = weight > 1e-40
    log_y, weight = log_y[kept], weight[kept]
    u = np.arange(_LOW, _HIGH + _STEP / 2, _STEP)
    g = np.array([-(weight @ np.expm1(-np.exp(np.minimum(log_y + x, 700.0)))) for x in u.tolist()])
    return u, np.minimum(g / weight.sum(), 1.0)


def _extended(below: np.ndarray, u: np.ndarray, g: np.ndarray) -> np.ndarray:
    """g below the grid: e^u (b - a u)."""
    one, other = g[0] * math.exp(-u[0]), g[8] * math.exp(-u[8])
    slope = (other - one) / (u[8] - u[0])
    return np.exp(below) * (one + slope * (below - u[0]))


def _shifted(places: np.ndarray, u: np.ndarray, g: np.ndarray) -> np.ndarray:
    """g at other places: by a cubic spline of its logarithm, below and above by its ends."""
    from scipy.interpolate import CubicSpline

    inside = (places >= u[0]) & (places <= u[-1])
    found = np.ones_like(places)
    with np.errstate(divide="ignore"):
        found[inside] = np.exp(CubicSpline(u, np.log(g))(places[inside]))
    low = places < u[0]
    found[low] = _extended(places[low], u, g)
    return np.minimum(found, 1.0)
