r"""Rectifiers with a fixed negative slope s: ``phi(u) = u`` for u > 0, ``s u`` otherwise.

They are the positively homogeneous activations that are the identity on one side. A
standard normal number is positive half of the time, so every moment is the average of the
two sides: :math:`E\varphi(\sigma Z)^2 = \sigma^2 (1 + s^2) / 2`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.activations import _codes
from sigprop.spec import Activation, check_number

__all__ = ["LeakyReLU", "ReLU"]


class _Rectifier(Activation):
    """What ReLU and leaky ReLU share: everything follows from the slope."""

    homogeneous: ClassVar[bool] = True
    kinks: ClassVar[tuple[float, ...]] = (0.0,)

    @property
    def negative_slope(self) -> float:
        raise NotImplementedError

    def __call__(self, u: np.ndarray) -> np.ndarray:
        u = np.asarray(u, float)
        return np.where(u > 0, u, self.negative_slope * u)

    def derivative(self, u: np.ndarray) -> np.ndarray:
        return np.where(np.asarray(u) > 0, 1.0, self.negative_slope)

    def mean(self, variance: float = 1.0) -> float:
        variance = check_number("variance", variance, low=0.0)
        return (1 - self.negative_slope) * math.sqrt(variance / (2 * math.pi))

    def second_moment(self, variance: float = 1.0) -> float:
        variance = check_number("variance", variance, low=0.0)
        return variance * self.derivative_second_moment()

    def derivative_second_moment(self, variance: float = 1.0) -> float:
        check_number("variance", variance, low=0.0)
        return (1 + self.negative_slope**2) / 2


@Activation.family.register("relu")
@dataclass(frozen=True, kw_only=True)
class ReLU(_Rectifier):
    """phi(u) = max(u, 0). Its derivative at 0 is taken as 0."""

    code: ClassVar[int] = _codes.RELU

    @property
    def negative_slope(self) -> float:
        return 0.0


@Activation.family.register("leaky_relu")
@dataclass(frozen=True, kw_only=True)
class LeakyReLU(_Rectifier):
    """phi(u) = u for u > 0, slope u otherwise (Maas, Hannun and Ng, 2013).

    Parameters
    ----------
    slope : float
        Any real number; 1 is linear, 0 is ReLU, -1 the absolute value. Default 0.01, as
        in the paper.
    """

    code: ClassVar[int] = _codes.LEAKY

    slope: float = 0.01

    def __post_init__(self) -> None:
        slope = check_number("slope", self.slope, why="It multiplies negative numbers.")
        object.__setattr__(self, "slope", slope)

    @property
    def negative_slope(self) -> float:
        return self.slope

    @property
    def parameters(self) -> tuple[float, float]:
        return (self.slope, 0.0)
