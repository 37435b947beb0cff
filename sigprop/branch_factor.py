r"""By how much one residual layer multiplies the square of a norm: its law, to rounding.

**Hidden layers.** n units that read a vector of norm 1 through weights of variance 1 have the
squared norm :math:`Q = \sum_{i \le n} \varphi(Z_i)^2`, whose Laplace transform is elementary,

.. math:: E e^{-tQ} = M(t)^n, \qquad
          M(t) = \tfrac12 (1 + 2t)^{-1/2} + \tfrac12 (1 + 2 s^2 t)^{-1/2},

s the slope of :math:`\varphi` below 0, averaged over it where it is random; under dropout of keep
probability q it is 1 - q + q M(t). The density is the
inverse transform along a parabola through the saddle point, where the trapezoid rule converges
exponentially, far into both tails. The law is kept as weights on an even grid of log Q: the
density is analytic in log Q, so sums over the grid are integrals to rounding, and hidden layers
in a row, whose Q are independent factors, are a convolution.

**The trunk.** Let u be the variance that a branch adds to a coordinate, in units of
:math:`c^2 |h|^2`. Then :math:`|h'|^2 = c^2 |h|^2 X`,

.. math:: X = |e + \sqrt u Z|^2 = (1 + \sqrt u z)^2 + u w, \qquad
          z \sim N(0, 1), \quad w \sim \chi^2_{d-1} .

For small u: Gauss rules in z and w, both signs of z taken together, so that a mean of order u
is not the difference of terms of order :math:`\sqrt u`. For large u: :math:`X / 2u` is a Gamma
variable of shape :math:`d/2 + J`, J Poisson of mean :math:`1/2u`, and the cumulants of its
logarithm are polygamma functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.special import expit, expm1, gammaln, log1p, loggamma, polygamma

from sigprop.errors import Unsupported

__all__ = [
    "Slopes",
    "SquareLaw",
    "cumulants",
    "gamma_cumulants",
    "hidden_law",
    "log_power",
    "log_transform",
]

Slopes = tuple[float, float]  # of the activation below 0: uniform between the two

_ORDER = 16  # of the Gauss rules in z and w
_FINE = 120  # of that in z for powers with large imaginary parts, which oscillate
_FINE_SMALL = 5e-4  # of u: so far the Poisson mixture, which may oscillate, takes its place
_TERMS = 18  # of the series in u
_SLOW = 2.5  # of 2 |p| sqrt u: so fast an oscillation the coarse rule sums to rounding
_SMALL = 0.012  # of u: log X is singular 9 deviations of z away, beyond all nodes that matter
_STEP = 0.19  # of the grid of log Q, at most
_CUT = (-44.0, -72.0)  # log of the density, over its peak, where the grid ends; high moments
# are carried by the right end
_NEGLIGIBLE = -30.0  # log of the density at an end of the grid over its peak
_PANEL, _NODES = 2.0, 24  # of log u: interpolation in panels, exact to rounding


# --------------------------------------------------------------------- hidden layers


@dataclass(frozen=True, eq=False)  # kept by `hidden_law`, so that identity will do
class SquareLaw:
    """The law of Q, or of a product of several, on an even grid of its logarithm.

    Attributes
    ----------
    first : int
        The lowest place: log Q = first * step.
    step : float
    weights : ndarray
        Probabilities of the places from ``first`` on, which add up to ``alive``.
    alive : float
        Probability that Q > 0.
    """

    first: int
    step: float
    weights: np.ndarray
    alive: float

    @property
    def logs(self) -> np.ndarray:
        return self.step * (self.first + np.arange(len(self.weights)))

    def cumulants(self) -> np.ndarray:
        """The first four of log Q given that Q > 0."""
        share = self.weights / self.alive
        middle = float(share @ self.logs)
        away = self.logs - middle
        return _about(middle, np.array([share @ away**k for k in range(1, 5)]))

    def power_range(self) -> tuple[float, float]:
        """Powers p between which E Q^p is not carried by what lies beyond the grid."""
        return self._last_power(self.logs[0], -1.0), self._last_power(self.logs[-1], 1.0)

    def _last_power(self, end: float, sign: float) -> float:
        log_weights = np.log(np.maximum(self.weights, 1e-300))

        def share(power: float) -> float:
            tilted = log_weights + sign * power * self.logs
            peak = tilted.max()
            at = tilted[0] if sign < 0 else tilted[-1]
            return float(at - peak)

        low, high = 0.0, 400.0
        if share(high) < _NEGLIGIBLE:
            return sign * high
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if share(middle) < _NEGLIGIBLE else (low, middle)
        return sign * low


@lru_cache(maxsize=256)
def hidden_law(
    units: tuple[int, ...], slopes: Slopes, finer: float = 1.0, *, keep: float = 1.0
) -> SquareLaw:
    """The law of the product of Q over hidden layers of these widths; 1 for no layer.

    A unit is 0 with probability 1 - ``keep``, whatever it reads; kept ones are not divided by it,
    since that is a scale, which the caller adds. The grid is fine enough for integrals of smooth
    functions; ``finer`` times finer, it is so for functions that oscillate as fast.
    """
    if not units:
        return SquareLaw(0, _STEP, np.ones(1), 1.0)
    step = min(_STEP, 0.55 * math.sqrt(2 / max(units))) / finer
    law = _square_law(units[0], slopes, step, keep)
    for n in units[1:]:
        factor = _square_law(n, slopes, step, keep)
        law = SquareLaw(
            law.first + factor.first,
            step,
            np.convolve(law.weights, factor.weights),
            law.alive * factor.alive,
        )
    return law


@lru_cache(maxsize=256)
def _square_law(n: int, slopes: Slopes, step: float, keep: float = 1.0) -> SquareLaw:
    steepest = _steepest(slopes)
    # Real saddle points t in the form x = 1 + 2 steepest t, the cut being x < 0, and their
    # q = -K'(t): the whole law from right to left, most densely about its mean, x = 1.
    scale = 1 / math.sqrt(n)
    ends = -math.asinh(15 / scale), math.asinh(170 / scale)
    v = scale * np.sinh(np.linspace(*ends, 8000))
    x = np.exp(v)
    q = -2 * steepest * _log_transform(x * (1 + 1e-30j), n, slopes, keep).imag / (1e-30 * x)
    t = np.expm1(v) / (2 * steepest)
    curvature = -np.gradient(q, x) * 2 * steepest
    # Its density in log q by the saddle point alone says where the grid ends.
    log_density = (
        _log_transform(x + 0j, n, slopes, keep).real + t * q + np.log(q) - np.log(curvature) / 2
    )
    side = np.where(np.arange(len(v)) > log_density.argmax(), *_CUT)
    kept = np.flatnonzero(log_density > log_density.max() + side)[::-1]
    v, log_q, log_curvature = v[kept], np.log(q[kept]), np.log(curvature[kept])
    first = math.ceil(log_q[0] / step)
    logs = step * np.arange(first, math.floor(log_q[-1] / step) + 1)

    v = np.interp(logs, log_q, v)[:, None]
    deviation = np.exp(-np.interp(logs, log_q, log_curvature) / 2)[:, None]
    q = np.exp(logs)[:, None]
    alive = 1 - _silence(slopes, keep) ** n
    mean = keep * n * (1 + _mean_square(slopes)) / 2
    bend, spacing = 0.4 / (q * deviation), 0.25
    # Slopes of unlike size give a law of several scales, which takes a finer rule: mass and
    # mean, which are known, tell whether it is fine enough.
    error = math.inf
    while error > 1e-13 + 1e-15 * n and spacing > 0.01:
        spacing /= 2
        y = np.arange(0.0, 10.0, spacing)
        path = deviation * (1j * y - bend * y**2)  # t less its vertex
        exponent = _log_transform(np.exp(v) + 2 * steepest * path, n, slopes, keep)
        exponent += q * (np.expm1(v) / (2 * steepest) + path)
        integrand = np.exp(exponent) * (1 + 2j * bend * y)
        integrand[:, 0] /= 2
        weights = (q * deviation)[:, 0] * integrand.real.sum(axis=1) * spacing * step / math.pi
        error = abs(weights.sum() / alive - 1) + abs(weights @ q[:, 0] / mean - 1)
    if error > 1e-8:
        raise Unsupported(
            f"the law of a layer of {n} units with a slope of {slopes[0]:g} was computed to "
            f"{error:.1g} only: the two sides of the activation are too unlike. Simulate it."
        )
    return SquareLaw(first, step, weights * (alive / weights.sum()), alive)


def _mean_square(slopes: Slopes) -> float:
    low, high = slopes
    return (low**2 + low * high + high**2) / 3


def _silence(slopes: Slopes, keep: float = 1.0) -> float:
    """Probability that a unit is exactly 0."""
    return 1 - keep / 2 if slopes == (0.0, 0.0) else 1 - keep


def _steepest(slopes: Slopes) -> float:
    return max(1.0, slopes[0] ** 2, slopes[1] ** 2)


def _log_transform(x: np.ndarray, n: int, slopes: Slopes, keep: float = 1.0) -> np.ndarray:
    """Log of E e^{-tQ} 1{Q > 0} at x = 1 + 2 steepest t, complex, off the cut.

    (The expm1 and log1p of SciPy keep the digits of small complex numbers; NumPy's do not.)
    """
    silent, heard = _silence(slopes, keep), keep * _transform(x, slopes)
    if silent == 0:
        return n * np.log(heard)
    return n * np.log(silent + heard) + np.log(-expm1(-n * log1p(heard / silent)))


def _transform(x: np.ndarray, slopes: Slopes) -> np.ndarray:
    """M(t), of the units that are not silent."""
    (low, high), steepest = slopes, _steepest(slopes)

    def root(square: float) -> np.ndarray:
        return (1 - square / steepest + square / steepest * x) ** -0.5  # (1 + 2 square t)^-1/2

    if low == high:
        return (root(1.0) + root(high**2)) / 2 if high else root(1.0) / 2
    # The mean of (1 + g s^2)^-1/2, g = 2 t, is that of d/ds asinh(s sqrt g) / sqrt g.
    g = np.sqrt((x - 1) / steepest + (x == 1) * 1e-30)
    return (root(1.0) + (np.arcsinh(high * g) - np.arcsinh(low * g)) / ((high - low) * g)) / 2


# ------------------------------------------------------------------------- the trunk


def gamma_cumulants(shape: np.ndarray | float) -> np.ndarray:
    """The first four cumulants of the logarithm of a Gamma variable; shape (4, ...)."""
    shape = np.asarray(shape, float)
    return np.stack([polygamma(k, shape) for k in range(4)])


def cumulants(law: SquareLaw, log_variance: np.ndarray, d: int) -> np.ndarray:
    """The first four cumulants of log X, with u = Q exp(log_variance); X = 1 where Q = 0.

    Shape (len(log_variance), 4); relative to its size each is exact to rounding.
    """
    return _along(lambda v: _cumulants(law, v, d), log_variance)


def log_power(law: SquareLaw, log_variance: np.ndarray, d: int, power: float) -> np.ndarray:
    """log E X^power, with u and X as in `cumulants`; shape (len(log_variance),)."""
    return _along(lambda v: np.array([_log_power(law, v, d, power)]), log_variance)[:, 0]


def log_transform(
    law: SquareLaw, log_variance: np.ndarray, d: int, powers: np.ndarray
) -> np.ndarray:
    """log E X^p for complex p; shape (len(log_variance), len(powers))."""
    return _along(lambda v: _log_transforms(law, v, d, powers), log_variance)


def _along(function: Callable[[float], np.ndarray], log_variance: np.ndarray) -> np.ndarray:
    """The function, of the size of u for small u, at many points.

    Where these are more than the nodes that interpolation takes, it is interpolated.
    """
    points, place = np.unique(log_variance, return_inverse=True)
    low, high = points[np.isfinite(points)][[0, -1]] if np.isfinite(points).any() else (0.0, 0.0)
    panels = max(1, math.ceil((high - low) / _PANEL))
    if len(points) <= panels * _NODES:
        return np.stack([function(v) for v in points.tolist()])[place.ravel()]
    first = function(low)
    found = np.zeros((len(points), len(first)), first.dtype)
    panel = np.clip((points - low) / (high - low) * panels, 0, panels - 1)
    panel = np.where(np.isfinite(points), panel, 0).astype(int)
    angle = (np.arange(_NODES) + 0.5) * math.pi / _NODES
    half = (high - low) / panels / 2
    for i in np.unique(panel[np.isfinite(points)]).tolist():
        inside = (panel == i) & np.isfinite(points)
        middle = low + (2 * i + 1) * half
        nodes = middle + half * np.cos(angle)
        values = np.stack([function(v) / expit(v) for v in nodes.tolist()])
        fit = np.polynomial.chebyshev.chebvander(np.cos(angle), _NODES - 1)
        at = np.polynomial.chebyshev.chebvander((points[inside] - middle) / half, _NODES - 1)
        scaled = 2 / _NODES * fit.T @ values
        scaled[0] /= 2
        found[inside] = at @ scaled * expit(points[inside])[:, None]
    return found[place.ravel()]


@lru_cache(maxsize=4096)
def _cumulants(law: SquareLaw, log_variance: float, d: int) -> np.ndarray:
    u = np.exp(log_variance + law.logs)
    shift = math.log1p(d * float(law.weights @ u))  # near the mean of log X
    small = u < _SMALL
    moments = (1 - law.alive) * np.power(-shift, np.arange(1, 5))

    even, odd, rule = _nodes(u[small], d, shift)
    for k, power in enumerate(
        (
            even,
            even**2 + odd**2,
            even**3 + 3 * even * odd**2,
            even**4 + 6 * (even * odd) ** 2 + odd**4,
        )
    ):
        moments[k] += law.weights[small] @ (power @ rule)

    count, chance = _poisson(u[~small])
    first, second, third, fourth = gamma_cumulants(d / 2 + count)
    a = first + np.log(2 * u[~small])[:, None] - shift
    for k, power in enumerate(
        (
            a,
            a**2 + second,
            a**3 + 3 * a * second + third,
            a**4 + 6 * a**2 * second + 4 * a * third + 3 * second**2 + fourth,
        )
    ):
        moments[k] += law.weights[~small] @ np.sum(chance * power, axis=1)
    return _about(shift, moments)


@lru_cache(maxsize=4096)
def _log_power(law: SquareLaw, log_variance: float, d: int, power: float) -> float:
    u = np.exp(log_variance + law.logs)
    shift = math.log1p(d * float(law.weights @ u))
    small = u < _SMALL
    total = (1 - law.alive) * math.expm1(-power * shift)

    even, odd, rule = _nodes(u[small], d, shift)
    grown = np.expm1(power * even) + 2 * np.exp(power * even) * np.sinh(power * odd / 2) ** 2
    total += law.weights[small] @ (grown @ rule)

    count, chance = _poisson(u[~small])
    exponent = gammaln(d / 2 + count + power) - gammaln(d / 2 + count)
    exponent = exponent + power * (np.log(2 * u[~small])[:, None] - shift)
    total += law.weights[~small] @ np.sum(chance * np.expm1(exponent), axis=1)
    return power * shift + math.log1p(total)


def _log_transforms(law: SquareLaw, log_variance: float, d: int, powers: np.ndarray) -> np.ndarray:
    r"""`_log_power` at many complex powers.

    Where u is small beside 1 / |p|^2, the heat equation gives a series that needs no nodes,

    .. math:: E X^p = e^{u \Delta / 2} |x|^{2p} \Big|_{|x| = 1}
              = \sum_k \frac{(2u)^k}{k!} \prod_{i < k} (p - i) (p - i + d/2 - 1) .
    """
    u = np.exp(log_variance + law.logs)
    shift = math.log1p(d * float(law.weights @ u))
    seen = law.weights > 1e-19 * law.weights.max()
    # Where a single layer makes up much of a walk, the powers that matter oscillate within it.
    size = float(np.abs(powers).max(initial=0.0))
    slow = 2 * size * math.sqrt(min(_SMALL, u.max())) <= _SLOW
    smallest, order = (_SMALL, _ORDER) if slow else (_FINE_SMALL, _FINE)
    tiny = min(0.5 / ((size + 1) * (size + d / 2 + 1)), 0.25 / (_TERMS + d / 2 + size), smallest)
    small, large = seen & (u >= tiny) & (u < smallest), seen & (u >= smallest)
    dead = 1 - law.alive
    total = dead * expm1(-powers * shift) if dead else np.zeros(len(powers), complex)

    weights, squares = law.weights[u < tiny], 2 * u[u < tiny]
    if len(weights):
        term, grown = np.ones(len(powers), complex), np.zeros(len(powers), complex)
        for k in range(_TERMS):
            term = term * (powers - k) * (powers - k + d / 2 - 1) / (k + 1)
            weights = weights * squares
            grown += term * weights.sum()
        total += law.weights[u < tiny].sum() * expm1(-powers * shift)
        total += np.exp(-powers * shift) * grown

    if small.any():
        even, odd, rule = _nodes(u[small], d, shift, order)
        weights = np.outer(law.weights[small], rule).ravel()
        even, odd = even.ravel(), odd.ravel()
        kept = weights > 1e-40
        weights, even, odd = weights[kept], even[kept], odd[kept]
        for at, p in enumerate(powers):
            grown = expm1(p * even) + 2 * np.exp(p * even) * np.sinh(p * odd / 2) ** 2
            total[at] += np.sum(weights * grown)

    if large.any():
        count, chance = _poisson(u[large])
        unit = math.log(d / 2 + count.mean())  # so that no power overflows
        gammas = loggamma(d / 2 + count[:, None] + powers) - gammaln(d / 2 + count)[:, None]
        gammas = gammas - powers * unit
        powered = np.exp(powers * (np.log(2 * u[large])[:, None] + unit - shift))
        total += law.weights[large] @ (powered * (chance @ np.exp(gammas)) - 1)
    return powers * shift + log1p(total)


def _nodes(
    u: np.ndarray, d: int, shift: float, order: int = _ORDER
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log X - shift = even +- odd, either sign with probability 1/2.

    Shapes (len(u), nodes) and, of the weights, (nodes,).
    """
    z, w, rule = _rule(d, order)
    grown = math.expm1(shift)
    away = (u[:, None] * (z**2 + w) - grown) / (1 + grown)
    across = 2 * np.sqrt(u)[:, None] * z / (1 + grown)
    even = np.log1p(2 * away + away**2 - across**2) / 2
    return even, np.arctanh(across / (1 + away)), rule


@lru_cache(maxsize=64)
def _rule(d: int, order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes z > 0, w and weights: Gauss and Hermite, times Gauss and Laguerre."""
    z, z_weight = _gauss(np.zeros(order), np.arange(1.0, order))
    z, z_weight = z[z > 0], 2 * z_weight[z > 0]
    if d == 1:
        return z, np.zeros_like(z), z_weight
    shape = (d - 1) / 2
    k = np.arange(1, _ORDER)
    # About the mean, so that no digits are lost where d is large.
    x, w_weight = _gauss(2.0 * np.arange(_ORDER), k * (k + shape - 1))
    grid = np.meshgrid(z, 2 * (shape + x), indexing="ij")
    return grid[0].ravel(), grid[1].ravel(), np.outer(z_weight, w_weight).ravel()


def _gauss(diagonal: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Gauss rule of the orthogonal polynomials with this recurrence (Golub, Welsch)."""
    nodes, vectors = eigh_tridiagonal(diagonal, np.sqrt(squares))
    return nodes, vectors[0] ** 2


def _poisson(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of J, shape (count,), and their chances, shape (len(u), count)."""
    mean = 1 / (2 * u)
    most = mean.max(initial=0.0)
    count = np.arange(math.ceil(most + 12 * math.sqrt(most) + 40))
    return count, np.exp(count * np.log(mean)[:, None] - mean[:, None] - gammaln(count + 1))


def _about(middle: float, moments: np.ndarray) -> np.ndarray:
    """Cumulants, from the first four moments about a number near the mean."""
    m, second, third, fourth = moments
    variance = second - m**2
    skew = third - 3 * m * second + 2 * m**3
    kurt = fourth - 4 * m * third + 6 * m**2 * second - 3 * m**4 - 3 * variance**2
    return np.array([middle + m, variance, skew, kurt])
