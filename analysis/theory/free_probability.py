r"""Spectra of long products of large random matrices, from their S-transforms.

Let :math:`\lambda` be the squared singular values of a matrix J of width N as N grows, and
:math:`m_k` the mean of :math:`\lambda^k`. With :math:`y = \sum_k m_k z^{-k}` the law is known by
the curve

.. math:: z(y) = \frac{1 + y}{y\, S(y)},

where the S-transform S of a product of free factors is the product of theirs (Voiculescu). From
the curve follow, without any random number:

* moments, :math:`m_k = \frac1k \frac1{2 \pi i} \oint z(y)^k\, dy` (Lagrange), by the trapezoidal
  rule on a small circle, which converges geometrically;
* the right edge, the minimum of z over y > 0;
* the density, :math:`\rho(\lambda) = -\mathrm{Im}\, y / (\pi \lambda)` on the curve where z is
  real: it leaves the real axis at the right edge and is followed by Newton's method from there.

A `Curve` may be given by another variable than y itself, where y has no closed inverse.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from sigprop.errors import SpecError, Unsupported

__all__ = ["Curve", "Spectrum", "moments", "right_edge", "spectrum"]

_CIRCLE = 256  # points on the circle of the moments
_NEWTON = 60
_STEP = 0.02  # of ln lambda from one point of the curve to the next, at most
_LOST = 2e-3  # of the mass, which quadrature may miss
_FLAT = 1e-10  # of the density of ln lambda, below which the support has ended


@dataclass(frozen=True)
class Curve:
    """The law of squared singular values, as a curve (y(t), log z(t)).

    Attributes
    ----------
    log_z, y : callable
        Of the variable t, a complex number or an array of them; y(t) = t for most laws.
    end : float
        Largest real t up to which log z is regular (inf for none).
    atom : float
        Mass at lambda = 0.
    near : float
        Radius about t = 0 within which y(t) and t z(t) are regular.
    """

    log_z: Callable[[complex], complex]
    y: Callable[[complex], complex] = lambda t: t
    end: float = math.inf
    atom: float = 0.0
    near: float = 0.2


@dataclass(frozen=True)
class Spectrum:
    """The law of the logarithm of a singular value, where it is not 0.

    Attributes
    ----------
    logs : ndarray, shape (points,)
        ln sigma = (ln lambda) / 2, ascending; the ends are the edges, or where the density has
        fallen below 1e-10 on the way to 0.
    density : ndarray, shape (points,)
        Of ln sigma; its integral is 1 - atom.
    atom : float
        Mass at sigma = 0.
    mean, variance : float
        Of ln sigma, given that it is not 0.
    """

    logs: np.ndarray
    density: np.ndarray
    atom: float
    mean: float
    variance: float

    @property
    def edges(self) -> tuple[float, float]:
        """(smallest, largest) ln sigma."""
        return float(self.logs[0]), float(self.logs[-1])

    def at(self, logs: np.ndarray) -> np.ndarray:
        """The density at other ln sigma, 0 outside."""
        return np.interp(logs, self.logs, self.density, left=0.0, right=0.0)

    def distribution(self, logs: np.ndarray) -> np.ndarray:
        """The share of values (the atom included) at or below ln sigma."""
        steps = np.diff(self.logs) * (self.density[1:] + self.density[:-1]) / 2
        below = np.concatenate([[0.0], np.cumsum(steps)])
        below *= (1 - self.atom) / below[-1]
        return self.atom + np.interp(logs, self.logs, below)


def moments(curve: Curve, count: int) -> np.ndarray:
    r"""Moments :math:`m_1 .. m_{count}` of the squared singular values.

    Parameters
    ----------
    curve : Curve
    count : int
        At most 20: beyond, the circle would have to be finer.

    Returns
    -------
    ndarray, shape (count,)
        Dimensionless.

    Raises
    ------
    SpecError
        If ``count`` is out of range.

    Notes
    -----
    Status: exact for the law of the curve, to about 1e-12. Cost O(count).

    References
    ----------
    Lagrange inversion; Voiculescu (1987) for S.

    Examples
    --------
    A square Gaussian matrix of unit variance: the Catalan numbers.

    >>> gaussian = Curve(lambda y: np.log((1 + y) ** 2 / y), near=0.5)
    >>> moments(gaussian, 4).round(9).tolist()
    [1.0, 2.0, 5.0, 14.0]
    """
    if not 1 <= count <= 20:
        raise SpecError(f"count must be within 1 .. 20, got {count}. Ask for fewer moments.")
    angle = 2 * np.pi * (np.arange(_CIRCLE) + 0.5) / _CIRCLE
    circle = np.exp(1j * angle)
    found = np.empty(count)
    for k in range(1, count + 1):
        t = curve.near * circle
        y = np.asarray(curve.y(t))
        log_z = np.asarray(curve.log_z(t))
        # dy = y'(t) dt by differences on the circle: spectral, since y is analytic there.
        modes = np.fft.fftfreq(_CIRCLE, 1 / _CIRCLE)
        slope = np.fft.ifft(np.fft.fft(y) * modes * 1j)
        top = (k * log_z).real.max()
        terms = np.exp(k * log_z - top) * slope / 1j
        found[k - 1] = (terms.mean().real) * math.exp(top) / k
    return found


def right_edge(curve: Curve) -> tuple[float, float]:
    """(t, ln lambda) at the right edge of the support: the minimum of z.

    Notes
    -----
    Status: exact for the law of the curve, to about 1e-12. Cost O(1).
    """

    def place(u: float) -> float:
        if math.isinf(curve.end):
            return math.exp(u)
        return curve.end / (1 + math.exp(-u))

    found = minimize_scalar(
        lambda u: curve.log_z(complex(place(u))).real, bounds=(-30.0, 30.0), method="bounded",
        options={"xatol": 1e-11, "maxiter": 500},
    )  # fmt: skip
    return place(float(found.x)), float(found.fun)


def _slope(curve: Curve, t: complex) -> complex:
    step = 1e-6 * (1e-3 + abs(t))
    return (curve.log_z(t + step) - curve.log_z(t - step)) / (2 * step)


def _newton(curve: Curve, t: complex, target: float) -> complex | None:
    """Solve log z(t) = target (modulo 2 pi i) near ``t``; None if that fails."""
    for _ in range(_NEWTON):
        gap = curve.log_z(t) - target
        gap = complex(gap.real, math.remainder(gap.imag, 2 * math.pi))
        slope = _slope(curve, t)
        if slope == 0 or not cmath.isfinite(gap):
            return None
        step = gap / slope
        if abs(step) > 0.3 * abs(t):
            step *= 0.3 * abs(t) / abs(step)
        t -= step
        if abs(step) < 1e-13 * (1e-3 + abs(t)):
            return t
    return t if abs(gap) < 1e-9 else None


def spectrum(curve: Curve, *, floor: float = -1e4) -> Spectrum:
    r"""The density of ln sigma over its whole support.

    Parameters
    ----------
    curve : Curve
    floor : float
        ln lambda, relative to the right edge, at which a tail toward 0 is cut.

    Returns
    -------
    Spectrum

    Raises
    ------
    Unsupported
        If the support is in several pieces, as that of one or two sparse layers may be.

    Notes
    -----
    Status: exact for the law of the curve; the density to about 1e-8 at the points, the mass to
    1e-4, mean and variance to 1e-4. Cost: one or two thousand Newton steps, some 50 ms.

    References
    ----------
    Tarnowski, Warchol, Jastrzebski, Tabor, Nowak (2019), arXiv:1809.08848, and Pennington,
    Schoenholz, Ganguli (2018), arXiv:1802.09979, for the setting.

    Examples
    --------
    >>> gaussian = Curve(lambda y: 2 * cmath.log(1 + y) - cmath.log(y))
    >>> law = spectrum(gaussian)
    >>> round(law.edges[1], 9) == round(math.log(2), 9)  # the largest singular value is 2
    True
    """
    start, edge = right_edge(curve)
    # Near the edge log z = edge + z2 (t - start)^2 / 2: the curve leaves at a right angle.
    h = 1e-4 * start
    sides = curve.log_z(complex(start + h)) + curve.log_z(complex(start - h))
    bend = (sides - 2 * curve.log_z(complex(start))).real / h**2
    if not 1e-9 < bend < math.inf:
        raise Unsupported(
            "the density has no edge of the usual kind: all singular values are equal, or nearly. "
            "Take moments instead."
        )
    logs, density = [edge], [0.0]
    depth = 1e-5
    t = complex(start, -math.sqrt(2 * depth / bend))
    while depth < -floor:
        found = _newton(curve, t, edge - depth)
        if found is None:
            break
        here = -curve.y(found).imag / math.pi
        if here < _FLAT or found.imag >= 0:
            break
        logs.append(edge - depth)
        density.append(here)
        slope = _slope(curve, found)
        # The square root at a left edge is approached by steps in proportion to what is left.
        step = min(max(_STEP, 0.01 * depth), 0.05 * depth, 0.1 * abs(found.imag) * abs(slope))
        if step < 1e-9:
            break
        depth += step
        t = found - step / slope
    if density[-1] > _FLAT and len(density) > 2 and density[-1] < density[-2]:
        # Squares of the density are linear near an edge: its place follows from two of them.
        a, b = density[-2] ** 2, density[-1] ** 2
        logs.append(logs[-1] + (logs[-1] - logs[-2]) * b / (a - b))
        density.append(0.0)
    x = np.array(logs)[::-1] / 2
    rho = 2 * np.maximum(np.array(density)[::-1], 0.0)
    lost = 1 - curve.atom - float(np.trapezoid(rho, x))
    if lost > _LOST:
        raise Unsupported(
            f"the density has a gap or a pole, and a share of {lost:.3f} of its mass beyond: "
            "layers that together do not reach every direction leave some alone. Take moments "
            "instead, or a greater depth."
        )
    return described(x, rho, curve.atom)


def described(x: np.ndarray, rho: np.ndarray, atom: float) -> Spectrum:
    """Put together a law of which ``rho`` is the density of ln sigma at the ascending ``x``."""
    mass = np.trapezoid(rho, x)
    mean = float(np.trapezoid(x * rho, x) / mass)
    variance = float(np.trapezoid((x - mean) ** 2 * rho, x) / mass)
    return Spectrum(x, rho, atom, mean, variance)
