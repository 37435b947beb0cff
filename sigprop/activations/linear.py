"""The identity: a network of matrices alone, where much is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.activations import _codes
from sigprop.spec import Activation, check_number

__all__ = ["Linear"]


@Activation.family.register("linear")
@dataclass(frozen=True, kw_only=True)
class Linear(Activation):
    """phi(u) = u."""

    code: ClassVar[int] = _codes.LINEAR
    homogeneous: ClassVar[bool] = True

    @property
    def negative_slope(self) -> float:
        return 1.0

    def __call__(self, u: np.ndarray) -> np.ndarray:
        return np.array(u, float)

    def derivative(self, u: np.ndarray) -> np.ndarray:
        return np.ones_like(u, float)

    def mean(self, variance: float = 1.0) -> float:
        check_number("variance", variance, low=0.0)
        return 0.0

    def second_moment(self, variance: float = 1.0) -> float:
        return check_number("variance", variance, low=0.0)

    def derivative_second_moment(self, variance: float = 1.0) -> float:
        check_number("variance", variance, low=0.0)
        return 1.0
