"""Long memory by a power law: correlations so slow that they never add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.processes.stationary import Stationary
from sigprop.spec import Process, check_number

__all__ = ["Cauchy"]


@Process.family.register("cauchy")
@dataclass(frozen=True, kw_only=True)
class Cauchy(Stationary):
    """Correlations that decay like a power of the number of layers between.

    For decay below 1 they have an infinite sum, and N layers add up to a variance of order
    N^(2H), H = 1 - decay / 2, as with fractional noise of that index. The covariance is
    convex and decreasing, hence positive definite for every decay.

    Parameters
    ----------
    decay : float
        The exponent, above 0. Required.
    """

    formula: ClassVar[str] = "E v_i v_(i+k) = (1 + |k|)^-decay, k in layers."
    source: ClassVar[str] = (
        "Gneiting and Schlather (2004), Stochastic models that separate fractal dimension and "
        "the Hurst effect (the family); Benning, Nourdin and Peccati (2026), Correlated "
        "initialization of deep residual networks (recalled)"
    )

    decay: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "decay", check_decay(self.decay))

    def correlation(self, lags: np.ndarray, depth: int) -> np.ndarray:
        return (1.0 + np.asarray(lags, float)) ** -self.decay


def check_decay(value: float) -> float:
    """Return an exponent of decay, or raise SpecError."""
    return check_number(
        "decay",
        value,
        low=0.0,
        open_low=True,
        why="Correlations are (1 + k)^-decay: at 0 all layers are one, which is process 'tied'.",
    )
