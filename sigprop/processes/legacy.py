r"""Weights as the published code drew them, mistakes included: to see how its figures moved.

The figures of Marion, Fermanian, Biau and Vert on regular weights were drawn by programs
that did not draw what their text says. The laws that they did draw are members here, in
closed form, beside the right ones.

**Fractional noise.** On a circle of 2N places, N the depth, the published eigenvalues are

.. math:: \lambda_f = \sum_k c_k e^{-\pi i f k / N}, \qquad
          c = (\rho(0), .., \rho(N-1), 0, \rho(N-1), .., \rho(1)),

with 0 where the right circle has :math:`\rho(N)`. That changes no covariance at lags below N,
as long as no eigenvalue is negative; for hurst near 1 every other one is. The square root of
a negative number being imaginary, such a frequency falls out when the real part is taken,
which is as if its eigenvalue were 0. Second, the highest frequency N is drawn with
:math:`\lambda_0` in place of :math:`\lambda_N`, which adds :math:`A (-1)^k`, with

.. math:: \operatorname{Var} A = (\lambda_0 - \lambda_N) / 2N \approx 2H N^{2H-1} / 2N

for H above 1/2. At N = 1000 that is 0.05, 0.226 and 0.641 for H = 0.8, 0.9 and 0.97; the
negative eigenvalues, which appear at H = 0.9, add another 0.21 to the variance at H = 0.97.

**Smooth weights.** The published code draws a smooth path at depth + 1 points and takes its
*increments*, rescaled to variance 1: a path of the derivative, whose integral nearly
vanishes, in place of the path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import scipy

from sigprop.processes.fractional import check_hurst, fractional_correlation
from sigprop.processes.stationary import Series, Stationary
from sigprop.spec import Process, check_number

__all__ = ["LegacyFractionalGaussianNoise", "LegacyRbf"]

_SOURCE = (
    "the code published with Marion, Fermanian, Biau and Vert (2022), Scaling ResNets in the "
    "large-depth regime, arXiv:2206.06929"
)


@Process.family.register("legacy_fgn")
@dataclass(frozen=True, kw_only=True)
class LegacyFractionalGaussianNoise(Process):
    """Fractional noise as published: too much of the highest frequency for hurst above 0.8.

    For the right law use ``fgn``. What is wrong stands in this module's text.

    Parameters
    ----------
    hurst : float
        Hurst index, strictly between 0 and 1. Required.
    """

    formula: ClassVar[str] = (
        "fgn plus an error A (-1)^k, Var A = 2H depth^(2H-1) / (2 depth) for H = hurst > 1/2, "
        "and a second error near H = 1."
    )
    source: ClassVar[str] = _SOURCE

    hurst: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "hurst", check_hurst(self.hurst))

    def autocovariance(self, depth: int) -> np.ndarray:
        return scipy.fft.irfft(_published_eigenvalues(self.hurst, depth), n=2 * depth)[:depth]

    def covariance(self, depth: int) -> np.ndarray:
        return scipy.linalg.toeplitz(self.autocovariance(depth))

    def draws(self, depth: int) -> int:
        return _published_series(self.hurst, depth).draws

    def paths(self, normals: np.ndarray, depth: int) -> np.ndarray:
        return _published_series(self.hurst, depth).paths(normals, depth)


def _published_eigenvalues(hurst: float, depth: int) -> np.ndarray:
    """At frequencies 0 .. depth, with both mistakes; none is negative."""
    rho = fractional_correlation(np.arange(float(depth)), hurst)
    eigenvalues = scipy.fft.rfft(np.concatenate([rho, [0.0], rho[:0:-1]])).real.clip(0.0)
    eigenvalues[depth] = eigenvalues[0]
    return eigenvalues


@lru_cache(maxsize=64)
def _published_series(hurst: float, depth: int) -> Series:
    return Series(_published_eigenvalues(hurst, depth), 2 * depth)


@Process.family.register("legacy_rbf")
@dataclass(frozen=True, kw_only=True)
class LegacyRbf(Stationary):
    """Smooth weights as published: rescaled increments of a smooth path, hence its derivative.

    For smooth weights use ``rbf``, with bandwidth sqrt(variance) for the same kernel. Increments
    are divided by their exact deviation. The published code divides by the one that it finds
    among the width^2 entries of a matrix, averaged over layers: a factor common to the whole
    matrix, whose relative standard deviation is about 0.8 variance^(1/4) / width, 0.6% at
    width 40 and variance 0.01. It is left out, so that entries are independent.

    Parameters
    ----------
    variance : float
        Of the kernel exp(-t^2 / (2 variance)), t = k / depth, above 0 (default 0.01, as
        published).
    """

    formula: ClassVar[str] = (
        "increments of a path with kernel g(k) = exp(-t^2 / (2 variance)), t = k / depth: "
        "E v_i v_(i+k) = (2 g(k) - g(k+1) - g(k-1)) / (2 - 2 g(1))."
    )
    source: ClassVar[str] = _SOURCE

    variance: float = 0.01

    def __post_init__(self) -> None:
        why = "It is the square of the bandwidth, in units of the depth."
        variance = check_number("variance", self.variance, low=0.0, open_low=True, why=why)
        object.__setattr__(self, "variance", variance)

    def correlation(self, lags: np.ndarray, depth: int) -> np.ndarray:
        k = np.asarray(lags, float)
        step = 1 / (depth**2 * self.variance)
        g = np.exp(-0.5 * step * k**2)
        before, after = (np.exp(-0.5 * step * (k + shift) ** 2) for shift in (-1, 1))
        # g(k + 1) + g(k - 1) = 2 g(k) exp(-step / 2) cosh(k step): where the three are close,
        # their second difference is written without subtracting them.
        near = np.minimum(k * step, 1.0)
        close = -math.expm1(-step / 2) - 2 * math.exp(-step / 2) * np.sinh(near / 2) ** 2
        second = np.where(k * step < 1, g * close, g - (before + after) / 2)
        return second / -math.expm1(-step / 2)
