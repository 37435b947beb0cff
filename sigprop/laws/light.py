"""Laws of one weight with all their moments: mean 0, variance 1, symmetric.

They differ in the fourth moment alone as far as a signal's mean square and fourth moment
go, and in nothing at all in the limit of infinite width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.spec import WeightLaw

__all__ = ["Gaussian", "Rademacher", "Uniform"]

_EVERY_MOMENT = "every moment exists"


@WeightLaw.family.register("gaussian")
@dataclass(frozen=True, kw_only=True)
class Gaussian(WeightLaw):
    """Standard normal: the one law for which the weights are also rotation invariant."""

    code: ClassVar[int] = 0

    @property
    def kurtosis(self) -> float:
        return 3.0

    @property
    def moments_text(self) -> str:
        """One clause that says which moments of a weight exist."""
        return _EVERY_MOMENT

    def sample(self, generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        return generator.standard_normal(size)


@WeightLaw.family.register("uniform")
@dataclass(frozen=True, kw_only=True)
class Uniform(WeightLaw):
    """Uniform on [-sqrt 3, sqrt 3], the default of many libraries; kurtosis 9/5."""

    code: ClassVar[int] = 1

    @property
    def kurtosis(self) -> float:
        return 1.8

    @property
    def moments_text(self) -> str:
        """One clause that says which moments of a weight exist."""
        return _EVERY_MOMENT

    def sample(self, generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        return generator.uniform(-math.sqrt(3), math.sqrt(3), size)


@WeightLaw.family.register("rademacher")
@dataclass(frozen=True, kw_only=True)
class Rademacher(WeightLaw):
    """-1 or 1, a fair coin: the least kurtosis there is, 1."""

    code: ClassVar[int] = 2
    discrete: ClassVar[bool] = True

    @property
    def kurtosis(self) -> float:
        return 1.0

    @property
    def moments_text(self) -> str:
        """One clause that says which moments of a weight exist."""
        return _EVERY_MOMENT

    def sample(self, generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        return 2.0 * generator.integers(0, 2, size) - 1.0
