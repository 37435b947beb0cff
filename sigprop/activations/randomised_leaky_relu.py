r"""A leaky rectifier whose negative slope is drawn anew for every unit.

Given its slopes a layer is positively homogeneous, so Euler's identity p.h = constant
holds network by network; but its units are not alike, so no two of their squares add up
to a chi-square and the chain sampler does not apply.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.activations import _codes
from sigprop.errors import SpecError, Unsupported
from sigprop.spec import Activation, check_number

__all__ = ["RandomisedLeakyReLU"]


@Activation.family.register("randomised_leaky_relu")
@dataclass(frozen=True, kw_only=True)
class RandomisedLeakyReLU(Activation):
    r"""phi(u) = u for u > 0, A u otherwise, A uniform on [low, high], one for each unit.

    A slope belongs to a unit of one layer of one network: it is the same for every input,
    and in the backward pass. Moments average over A too, with
    :math:`E A^2 = (low^2 + low\, high + high^2) / 3`.

    Parameters
    ----------
    low, high : float
        Default [1/8, 1/3], the usual reading of Xu, Wang, Chen and Li (2015),
        arXiv:1505.00853, who draw 1/A uniformly on [3, 8].
    """

    code: ClassVar[int] = _codes.RANDOMISED
    homogeneous: ClassVar[bool] = True
    kinks: ClassVar[tuple[float, ...]] = (0.0,)

    low: float = 1 / 8
    high: float = 1 / 3

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            object.__setattr__(self, name, check_number(name, getattr(self, name)))
        if self.low > self.high:
            raise SpecError(
                f"low must not exceed high, got low = {self.low:g}, high = {self.high:g}: "
                "slopes are uniform between the two. Swap them."
            )

    @property
    def parameters(self) -> tuple[float, float]:
        return (self.low, self.high)

    def slopes(self, generator: np.random.Generator, size: int | tuple[int, ...]) -> np.ndarray:
        """Draw negative slopes with NumPy, one a unit."""
        return generator.uniform(self.low, self.high, size)

    def __call__(self, u: np.ndarray, slopes: np.ndarray | None = None) -> np.ndarray:
        """phi(u), given the slope of every unit."""
        u = np.asarray(u, float)
        return np.where(u > 0, u, self._drawn(slopes) * u)

    def derivative(self, u: np.ndarray, slopes: np.ndarray | None = None) -> np.ndarray:
        """phi'(u), given the slope of every unit."""
        return np.where(np.asarray(u) > 0, 1.0, self._drawn(slopes))

    def _drawn(self, slopes: np.ndarray | None) -> np.ndarray:
        if slopes is None:
            raise Unsupported(
                f"{self.kind} is no function of u alone: every unit has a slope of "
                "its own. Draw them with its method slopes and pass them."
            )
        return np.asarray(slopes, float)

    @property
    def _mean_square_slope(self) -> float:
        return (self.low**2 + self.low * self.high + self.high**2) / 3

    def mean(self, variance: float = 1.0) -> float:
        variance = check_number("variance", variance, low=0.0)
        return (1 - (self.low + self.high) / 2) * math.sqrt(variance / (2 * math.pi))

    def second_moment(self, variance: float = 1.0) -> float:
        variance = check_number("variance", variance, low=0.0)
        return variance * self.derivative_second_moment()

    def derivative_second_moment(self, variance: float = 1.0) -> float:
        check_number("variance", variance, low=0.0)
        return (1 + self._mean_square_slope) / 2
