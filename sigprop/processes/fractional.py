"""Fractional Gaussian noise: rough, independent or persistent weights by one number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.processes.stationary import Stationary
from sigprop.spec import Process, check_number

__all__ = ["FractionalGaussianNoise"]


@Process.family.register("fgn")
@dataclass(frozen=True, kw_only=True)
class FractionalGaussianNoise(Stationary):
    """Increments of fractional Brownian motion: N of them add up to variance N^(2 hurst).

    At 1/2 layers are independent, above it they persist (tied in the limit 1), below it
    neighbours oppose each other.

    Parameters
    ----------
    hurst : float
        Hurst index, strictly between 0 and 1. Required.
    """

    formula: ClassVar[str] = (
        "E v_i v_(i+k) = (|k+1|^2H - 2 |k|^2H + |k-1|^2H) / 2, H = hurst, k in layers."
    )
    source: ClassVar[str] = (
        "Mandelbrot and Van Ness (1968), Fractional Brownian motions, fractional noises and "
        "applications; drawn as in Davies and Harte (1987), Tests for Hurst effect"
    )

    hurst: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "hurst", check_hurst(self.hurst))

    def correlation(self, lags: np.ndarray, depth: int) -> np.ndarray:
        return fractional_correlation(lags, self.hurst)


def check_hurst(value: float) -> float:
    """Return a Hurst index, or raise SpecError."""
    return check_number(
        "hurst",
        value,
        low=0.0,
        high=1.0,
        open_low=True,
        open_high=True,
        why="It is the exponent of a fractional Brownian motion: 1/2 for independent layers; "
        "at 1 all layers are one, which is process 'tied'.",
    )


def fractional_correlation(lags: np.ndarray, hurst: float) -> np.ndarray:
    """Autocovariance of unit fractional Gaussian noise at non-negative lags.

    The second difference of k^(2H) loses all digits at large lags; there it is written
    ``k^(2H) ((1 + 1/k)^(2H) - 1 + (1 - 1/k)^(2H) - 1) / 2`` with expm1 and log1p.
    """
    power = 2 * hurst
    k = np.asarray(lags, float)
    rho = (np.abs(k + 1) ** power - 2 * np.abs(k) ** power + np.abs(k - 1) ** power) / 2
    far = k >= 2
    x = 1 / np.where(far, k, 2.0)
    change = np.expm1(power * np.log1p(x)) + np.expm1(power * np.log1p(-x))
    return np.where(far, x**-power * change / 2, rho)
