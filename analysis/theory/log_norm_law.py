r"""The whole law of a log norm at finite depth: distribution, density, tails, quantiles.

Where :math:`X = \log |h_l| / |h_0|` is a random walk (see `analysis.theory.log_normal`), its
transform is a product over layers, :math:`M(p) = E e^{pX} = \prod_k E (|h_k| / |h_{k-1}|)^p`, each
factor an integral that is exact to rounding for complex p too. So the law is its inverse: with
:math:`K = \log M` and any :math:`\theta \ne 0` between which and 0 the moments exist,

.. math:: P(X \le x) = [\theta > 0] - \frac1{2\pi}
          \int_{-\infty}^{\infty} \frac{e^{K(\theta + iw) - (\theta + iw) x}}{\theta + iw}\, dw ,

the formula of Gil-Pelaez with its contour moved off the pole at 0. Taken through the saddle
point :math:`K'(\theta) = x` nothing cancels, so a probability of 1e-20 has as many digits as one
of 1/2. (The tilts are bounded: beyond some 10 deviations, digits are lost.) The integrand is
analytic, so the trapezoid rule is exact but for a copy of the law some 64 deviations away.

What is usually put in place of it stands beside it: the normal law of the same mean and
variance, its Edgeworth expansion, the saddle point approximation, and bounds on the distance.

Where a network may die, all is **given that it is alive**, as in a result, whose logarithms are
of the networks whose norm is not zero; `LogLaw.survival` is the probability of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from analysis.theory._walk import Walk, walk
from sigprop.errors import SpecError, Unsupported
from sigprop.spec import Ensemble, check_count, check_number

__all__ = [
    "LogLaw",
    "log_gradient_law",
    "log_norm_law",
    "lyapunov_exponent",
    "small_norm_probability",
]

_PERIOD = 64.0  # standard deviations between the law and the copy that the trapezoid rule makes
_BLOCK, _MOST = 16, 640  # frequencies at a time, and in all
_SILENT = 1e-13  # where the transform ends: what follows is hardly more than rounding
_CUT = 1e-9  # of the transform where it is no longer good: the error that this leaves
_TILTS = 10.0  # the largest tilt, in standard deviations
_NEAREST = 0.5  # the smallest: the pole at 0 is as far off the contour
_WITHIN = 0.6  # of the way to where moments end, which is a pole too
_SHARE = 0.05  # of the variance in one layer, beyond which integrals take more nodes
_FINER = 3.0  # by so much is the grid of such a layer


@dataclass(frozen=True, eq=False)
class LogLaw:
    """The law of X = log |h_l| / |h_0|, or of a gradient, given that it is finite.

    Attributes
    ----------
    mean, variance, skewness, kurtosis : float
        Exact; the kurtosis is in excess of the normal one.
    survival : float
        Probability that the norm is not zero, so that X exists.
    transform : callable
        :math:`K(p) = \\log E e^{pX}` at an array of complex p.
    powers : tuple of two floats
        Between which real parts of p `transform` is good.
    lyapunov_ratio : float
        Sum over layers of E|step - mean|^3 is at most this times variance^(3/2).
    highest : float
        The imaginary part up to which `transform` is good.
    atom : tuple of two floats
        Probability that no branch adds anything, and X then. The law has no density there.
    """

    mean: float
    variance: float
    skewness: float
    kurtosis: float
    survival: float
    transform: Callable[[np.ndarray], np.ndarray]
    powers: tuple[float, float]
    lyapunov_ratio: float
    highest: float
    atom: tuple[float, float] = (0.0, 0.0)

    @property
    def deviation(self) -> float:
        """Standard deviation of X."""
        return math.sqrt(self.variance)

    # ----------------------------------------------------------------- the exact law

    def cdf(self, x: ArrayLike) -> np.ndarray:
        """P(X <= x), exact: to a relative 1e-9 down to 1e-18 or so, then to an absolute 1e-19."""
        return self._either(x, upper=False)

    def sf(self, x: ArrayLike) -> np.ndarray:
        """P(X > x), as accurate as `cdf`."""
        return self._either(x, upper=True)

    def pdf(self, x: ArrayLike) -> np.ndarray:
        """Density at x, exact; of what is not at `atom`."""
        x = np.asarray(x, float)
        found, flat = np.empty(x.size), x.ravel()
        for theta, at in self._tilts(flat):
            found[at] = self._inverted(theta, flat[at], divided=False)
        return found.reshape(x.shape)

    def quantile(self, q: ArrayLike) -> np.ndarray:
        """The x with P(X <= x) = q, for 1e-12 < q < 1 - 1e-12."""
        q = np.asarray(q, float)
        if not ((q > 1e-12) & (q < 1 - 1e-12)).all():
            raise SpecError(
                f"q must lie between 1e-12 and 1 - 1e-12, got {q.min():g} .. {q.max():g}: beyond, "
                "a double cannot tell 1 - q from 1. Use cdf and sf, which are exact in the tails."
            )
        z, low, high = self._table
        flat = np.atleast_1d(q).ravel()
        x = self.mean + self.deviation * np.where(
            flat < 0.5,
            np.interp(np.log(flat), np.log(low), z),
            np.interp(-np.log1p(-flat), -np.log(high), z),
        )
        for _ in range(40):  # Newton, on the logarithm of the nearer tail
            density = self.pdf(x)
            lower, upper = self.cdf(x), self.sf(x)
            step = np.where(
                flat < 0.5,
                lower * np.log(lower / flat) / density,
                -upper * (np.log(upper) - np.log1p(-flat)) / density,
            )
            x = x - np.clip(step, -self.deviation, self.deviation)
            if np.abs(step).max() < 1e-10 * self.deviation:
                break
        return x.reshape(q.shape)

    def log_moment(self, order: float) -> float:
        """log E e^{order X}, given that X is finite.

        Raises
        ------
        SpecError
            If the moment does not exist, or lies beyond what can be computed.
        """
        low, high = self.powers
        order = check_number(
            "order",
            order,
            low=low,
            high=high,
            why="Beyond, the moment is infinite or carried by what is not on the grid.",
        )
        return float(self.transform(np.array([order + 0j]))[0].real)

    # ------------------------------------------------------------- approximations of it

    def normal_cdf(self, x: ArrayLike) -> np.ndarray:
        """The limit of great depth: the normal law of this mean and variance."""
        return ndtr(self._standard(x))

    def edgeworth_cdf(self, x: ArrayLike, terms: int = 2) -> np.ndarray:
        r"""Edgeworth's expansion, of one or two terms beyond the normal law.

        .. math:: \Phi(z) - \varphi(z) \Bigl[\frac{\gamma_1}6 He_2 + \frac{\gamma_2}{24} He_3
                  + \frac{\gamma_1^2}{72} He_5 \Bigr](z)

        Limit: the error is of the order of L^-1 after one term, L^-3/2 after two.
        """
        z = self._standard(x)
        return ndtr(z) - _density(z) * self._correction(z, terms, 0)

    def edgeworth_pdf(self, x: ArrayLike, terms: int = 2) -> np.ndarray:
        """The derivative of `edgeworth_cdf`."""
        z = self._standard(x)
        return _density(z) * (1 + self._correction(z, terms, 1)) / self.deviation

    def saddlepoint_cdf(self, x: ArrayLike) -> np.ndarray:
        r"""P(X <= x) by Lugannani and Rice: right in the tail to a relative O(1/L).

        .. math:: \Phi(r) + \varphi(r) \Bigl(\frac1r - \frac1u\Bigr), \qquad
                  r = \pm\sqrt{2 (\theta x - K(\theta))}, \quad u = \theta \sqrt{K''(\theta)}

        at the saddle point :math:`K'(\theta) = x`. nan within 0.03 deviations of the mean, where
        its two terms cancel, and beyond the tilts that exist.
        """
        x = np.asarray(x, float)
        theta, slope, _ = self._saddles
        flat = x.ravel()
        at = np.interp(flat, slope, theta, left=np.nan, right=np.nan)
        for _ in range(3):
            k1, k2 = self._slopes(at)
            at = at - (k1 - flat) / k2
        _, k2 = self._slopes(at)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = self.transform(at + 0j).real
            r = np.sign(at) * np.sqrt(np.maximum(2 * (at * flat - value), 0.0))
            u = at * np.sqrt(k2)
            found = ndtr(r) + _density(r) * (1 / r - 1 / u)
        near = np.abs(flat - self.mean) < 0.03 * self.deviation
        return np.where(near, np.nan, found).reshape(x.shape)

    @cached_property
    def distance(self) -> float:
        """sup |F - Phi|: how far the law is from the normal one, to about 1e-9."""
        z = np.linspace(-6, 6, 1201)
        gap = np.abs(self.cdf(self.mean + self.deviation * z) - ndtr(z))
        peak = z[gap.argmax()]
        fine = np.linspace(peak - 0.02, peak + 0.02, 201)
        return float(np.abs(self.cdf(self.mean + self.deviation * fine) - ndtr(fine)).max())

    @property
    def leading_distance(self) -> float:
        r"""The limit of `distance`: :math:`|\gamma_1| / (6 \sqrt{2 \pi})`, up to O(1/L)."""
        return abs(self.skewness) / (6 * math.sqrt(2 * math.pi))

    @property
    def distance_bound(self) -> float:
        r"""Bound on `distance` by Berry and Esseen, :math:`0.56 \sum E|\xi|^3 / \sigma^3`."""
        return 0.56 * self.lyapunov_ratio

    # ------------------------------------------------------------------------- within

    def _standard(self, x: ArrayLike) -> np.ndarray:
        return np.asarray((np.asarray(x, float) - self.mean) / self.deviation)

    def _correction(self, z: np.ndarray, terms: int, raised: int) -> np.ndarray:
        if terms not in (1, 2):
            raise SpecError(f"terms must be 1 or 2, got {terms!r}: further ones are not known.")
        he = np.polynomial.hermite_e.hermeval
        series = np.zeros(6 + raised)
        series[2 + raised] = self.skewness / 6
        if terms == 2:
            series[3 + raised] = self.kurtosis / 24
            series[5 + raised] = self.skewness**2 / 72
        return np.asarray(he(z, series))

    @cached_property
    def _saddles(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tilts theta with K' and K'' there."""
        low, high = self.powers
        reach = _TILTS / self.deviation
        theta = np.linspace(max(-reach, 0.95 * low), min(reach, 0.95 * high), 121)
        return theta, *self._slopes(theta)

    def _slopes(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """K' and K'' on the real axis, by steps off it along which K is analytic."""
        step = 1e-3 / self.deviation
        beside = self.transform(theta + 1j * step)
        far = self.transform(theta + 2j * step)
        k1 = (8 * beside.imag - far.imag) / (6 * step)
        here = self.transform(theta + 0j).real
        k2 = (32 * (here - beside.real) - 2 * (here - far.real)) / (12 * step**2)
        return k1, k2

    def _tilts(self, x: np.ndarray) -> list[tuple[float, np.ndarray]]:
        """Tilts and which x each serves: those whose saddle points are near."""
        theta, slope, _ = self._saddles
        wanted = np.interp(x, slope, theta) * self.deviation
        low, high = (_WITHIN * power * self.deviation for power in self.powers)
        below = (wanted < 0) if low <= -_NEAREST else np.zeros(len(x), bool)
        nearest = np.where(below, -1.0, 1.0) * np.maximum(np.round(np.abs(wanted)), _NEAREST)
        nearest = np.where(below | (wanted > 0), nearest, _NEAREST)
        nearest = np.clip(nearest, max(low, -_TILTS), min(high, _TILTS))
        return [
            (float(tilt) / self.deviation, np.flatnonzero(nearest == tilt))
            for tilt in np.unique(nearest)
        ]

    def _inverted(self, theta: float, x: np.ndarray, *, divided: bool) -> np.ndarray:
        """The integral of the module, or the same without its denominator: the density."""
        step = 2 * math.pi / (_PERIOD * self.deviation)
        total = np.zeros(len(x), complex)
        top, end = math.nan, math.inf
        chance, place = self.atom
        most = min(_MOST, int(min(self.highest / step, _MOST)) + 1)
        for first in range(0, most, _BLOCK):
            p = theta + 1j * step * np.arange(first, min(first + _BLOCK, most))
            values = self.transform(p)
            if first == 0:
                top = values[0].real
            terms = np.exp(values - top)
            if chance:
                terms = terms - chance * np.exp(p * place - top)
            end, before = np.abs(terms[-8:]).max(), end
            if first == 0:
                terms[0] /= 2  # the ends of a symmetric sum count half
            if divided:
                terms = terms / p
            total += np.sum(np.exp(-1j * np.outer(x, p.imag)) * terms, axis=1)
            if end < _SILENT or before <= end < _CUT:  # it is noise that does not fall further
                break
        else:
            if end > _CUT:
                raise Unsupported(
                    "the law of this log norm could not be inverted: its transform does not end "
                    f"within {most} frequencies. So it is in a short residual net whose law has "
                    "jumps, since layers of few hidden units may add nothing at all, and for one "
                    "narrow layer that adds very little; simulate it."
                )
        return np.asarray(total.real * np.exp(top - theta * x) * step / math.pi)

    def _either(self, x: ArrayLike, *, upper: bool) -> np.ndarray:
        x = np.asarray(x, float)
        found, flat = np.empty(x.size), x.ravel()
        for theta, at in self._tilts(flat):
            tail = self._inverted(theta, flat[at], divided=True)
            # For theta > 0 this is P(X > x), for theta < 0 it is -P(X <= x).
            chance, place = self.atom
            if theta > 0:
                above = tail + chance * (place > flat[at])
                found[at] = above if upper else 1 - above
            else:
                below = chance * (place <= flat[at]) - tail
                found[at] = 1 - below if upper else below
        return np.clip(found, 0.0, 1.0).reshape(x.shape)

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places z with the probabilities below and above, for a first guess of quantiles."""
        z = np.linspace(-9, 9, 181)
        x = self.mean + self.deviation * z
        low, high = np.maximum(self.cdf(x), 1e-290), np.maximum(self.sf(x), 1e-290)
        kept = (np.diff(low, prepend=0) > 0) & (np.diff(high, prepend=2) < 0)
        return z[kept], low[kept], high[kept]


def _density(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi))


# ------------------------------------------------------------------------ of an ensemble


def log_norm_law(ensemble: Ensemble, layer: int | None = None) -> LogLaw:
    r"""The law of :math:`\log |h_l| / |h_0|`, given that the state is not zero.

    Parameters
    ----------
    ensemble : Ensemble
    layer : int, optional
        l, from 1; the last by default.

    Returns
    -------
    LogLaw
        Its distribution function, density, quantiles, moments and approximations.

    Raises
    ------
    Unsupported
        As `analysis.theory.log_norm_mean`; and if the norm does not vary, or is zero for sure.
    SpecError
        If there is no such layer.

    Notes
    -----
    Status: exact at any depth and width. Cost: some ms for plain nets and any depth; for
    residual ones 0.1 to 1 s for the first 100 values.

    References
    ----------
    Gil-Pelaez (1951), *Note on the inversion theorem*; Lugannani and Rice (1980); Shevtsova
    (2010) for the constant 0.56; recalled.

    Examples
    --------
    >>> import math
    >>> from sigprop import Ensemble, Network
    >>> from sigprop.schemes import He
    >>> he = Ensemble(Network(depth=1000, width=100, block="plain"), He())
    >>> law = log_norm_law(he)
    >>> round(float(law.cdf(math.log(1e-3))), 5)  # most networks have all but lost the signal
    0.9466
    """
    steps = walk(ensemble, "log_norm_law")
    at = _layer(ensemble, ensemble.network.depth if layer is None else layer, least=1)
    chosen = np.arange(ensemble.network.depth) < at
    survival = float(np.exp(steps.log_survival()[at]))
    return _law(ensemble, steps, steps.norm()[at], chosen, survival, gradient=False)


def log_gradient_law(ensemble: Ensemble, layer: int | None = None) -> LogLaw:
    r"""The law of :math:`\log |p_l| / |p_L|`, p_L isotropic, given that it is not zero.

    Parameters
    ----------
    ensemble : Ensemble
    layer : int, optional
        l, up to depth - 1; 0 by default.

    Returns, raises, status, cost and references as `log_norm_law`.

    Examples
    --------
    >>> from sigprop import Ensemble, Network
    >>> from sigprop.schemes import He
    >>> he = Ensemble(Network(depth=50, width=10, block="plain"), He())
    >>> bool(abs(log_gradient_law(he).cdf(-8.0) - log_norm_law(he).cdf(-8.0)) < 1e-12)
    True
    """
    steps = walk(ensemble, "log_gradient_law", gradient=True)
    at = _layer(ensemble, 0 if layer is None else layer, most=ensemble.network.depth - 1)
    chosen = np.arange(ensemble.network.depth) >= at
    survival = float(np.exp(steps.gradient_log_survival()[at]))
    return _law(ensemble, steps, steps.gradient()[at], chosen, survival, gradient=True)


def small_norm_probability(ensemble: Ensemble, size: float) -> float:
    r"""Probability that :math:`|h_L| / |h_0|` is below ``size``, dead networks included.

    Parameters
    ----------
    ensemble : Ensemble
    size : float
        Above 0.

    Raises
    ------
    Unsupported, SpecError
        As `log_norm_law`; if ``size`` is not positive.

    Notes
    -----
    Status: exact, as `LogLaw.cdf`: a probability of 1e-9, where the normal limit is off by a
    factor of 2, has its digits. Cost: as `log_norm_law`.

    References
    ----------
    Gurbuzbalaban and Hu (2021) compare it between schemes; the inversion is elementary.

    Examples
    --------
    >>> from sigprop import Ensemble, Network
    >>> from sigprop.schemes import He
    >>> he = Ensemble(Network(depth=100, width=100, block="plain"), He())
    >>> f"{small_norm_probability(he, 1e-3):.3g}"
    '6.62e-07'
    """
    size = check_number("size", size, low=0.0, open_low=True, why="It is compared with a norm.")
    law = log_norm_law(ensemble)
    return (1 - law.survival) + law.survival * float(law.cdf(math.log(size)))


def lyapunov_exponent(ensemble: Ensemble) -> np.ndarray:
    r"""Mean growth of :math:`\log |h|` in each layer, :math:`\lambda = \log\sigma + \kappa_1/2`.

    Where layers are alike and this is negative, almost every network loses its signal, although
    a moment may be preserved: for ReLU under the scheme that preserves :math:`E|h|^s` it is
    :math:`-5s/(8d) (1 + O(1/d))`.

    Parameters
    ----------
    ensemble : Ensemble

    Returns
    -------
    ndarray, shape (depth,)
        Dimensionless, natural logarithm a layer, given that the state stays alive.

    Raises
    ------
    Unsupported
        As `analysis.theory.log_norm_mean`.

    Notes
    -----
    Status: exact. Cost: as `analysis.theory.log_norm_mean`.

    References
    ----------
    Cohen and Newman (1984), *The stability of large random matrices and their products*;
    recalled.

    Examples
    --------
    >>> from sigprop import Ensemble, Network
    >>> from sigprop.schemes import He
    >>> he = Ensemble(Network(depth=3, width=100, block="plain"), He())
    >>> lyapunov_exponent(he).round(7).tolist()
    [-0.0127104, -0.0127104, -0.0127104]
    """
    return np.diff(walk(ensemble, "lyapunov_exponent").norm()[:, 0])


def _layer(ensemble: Ensemble, layer: int, least: int = 0, most: int | None = None) -> int:
    depth = ensemble.network.depth
    most = depth if most is None else most
    if not least <= check_count("layer", layer, least=0) <= most:
        raise SpecError(
            f"layer = {layer} has no law: at its own end a signal does not vary. Of {depth} "
            f"layers name one from {least} to {most}."
        )
    return layer


def _law(
    ensemble: Ensemble,
    steps: Walk,
    cumulants: np.ndarray,
    chosen: np.ndarray,
    survival: float,
    *,
    gradient: bool,
) -> LogLaw:
    mean, variance, third, fourth = cumulants.tolist()
    if not variance > 0:
        raise Unsupported(
            "there is no law of a log norm that does not vary or is -inf for sure: here no layer "
            "adds anything to the state. Give branches and variances other than 0."
        )
    second, fourths = (part[chosen] for part in steps.variances(gradient))
    fine = bool(second.max() > _SHARE * variance)
    # E|y|^3 is at most sqrt(E y^2 E y^4), by Cauchy and Schwarz.
    third_absolute = float(np.sqrt(second * (fourths + 3 * second**2)).sum())
    if fine:
        steps = walk(ensemble, "the law of a log norm", gradient, finer=_FINER)
    kinds = [(kind, chosen[kind.layers]) for kind in steps.kinds]
    ranges = [kind.power_range(among, gradient) for kind, among in kinds if among.any()]

    def transform(p: np.ndarray) -> np.ndarray:
        parts = [kind.log_transform(p / 2, among, gradient) for kind, among in kinds]
        return np.sum(parts, axis=0)

    silent = math.prod(kind.silence(among) for kind, among in kinds)
    place = sum(float(kind.log_skip[among].sum()) for kind, among in kinds) if silent else 0.0
    return LogLaw(
        mean=mean,
        variance=variance,
        skewness=third / variance**1.5,
        kurtosis=fourth / variance**2,
        survival=survival,
        transform=transform,
        powers=(2 * max(low for low, _ in ranges), 2 * min(high for _, high in ranges)),
        lyapunov_ratio=third_absolute / variance**1.5,
        atom=(silent, place),
        highest=min((kind.highest(among) for kind, among in kinds if among.any())),
    )
