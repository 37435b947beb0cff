"""Laws of one weight with heavy tails, some of them without a variance.

Where the variance exists the law is rescaled to variance 1, as every other. Where it is
infinite the law has unit *scale* instead, and the variance that a scheme asks for is read
as the square of a scale: ``he`` on such a law multiplies it by sqrt(2 / fan_in). Averages
of powers at or above ``moment_limit`` do not exist, and no number of replicas finds them;
logarithms and quantiles always exist.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.spec import WeightLaw, check_number

__all__ = ["Stable", "StudentT"]


class _HeavyTailed(WeightLaw):
    """What the two share: the text is made of the limit and the variance."""

    @property
    def moments_text(self) -> str:
        """One clause that says which moments of a weight exist."""
        size = "variance 1" if math.isfinite(self.variance) else "infinite variance, unit scale"
        return f"absolute moments of order below {self.moment_limit:g} exist; {size}"


@WeightLaw.family.register("student_t")
@dataclass(frozen=True, kw_only=True)
class StudentT(_HeavyTailed):
    """Student's t with ``dof`` degrees of freedom.

    Parameters
    ----------
    dof : float
        Any number above 0. Above 2 the standard t is divided by its standard deviation
        sqrt(dof / (dof - 2)); up to 2 it is left as it is (1: Cauchy).
    """

    code: ClassVar[int] = 3

    dof: float

    def __post_init__(self) -> None:
        why = "The degrees of freedom are the order at which moments stop existing."
        dof = check_number("dof", self.dof, low=0.0, open_low=True, why=why)
        object.__setattr__(self, "dof", dof)

    @property
    def parameter(self) -> float:
        return self.dof

    @property
    def moment_limit(self) -> float:
        return self.dof

    @property
    def unit(self) -> float:
        """What multiplies the standard t: 1 / its standard deviation, or 1."""
        return math.sqrt((self.dof - 2) / self.dof) if self.dof > 2 else 1.0

    @property
    def variance(self) -> float:
        return 1.0 if self.dof > 2 else math.inf

    @property
    def kurtosis(self) -> float:
        if self.dof > 4:
            return 3 + 6 / (self.dof - 4)
        return math.inf if self.dof > 2 else math.nan

    def sample(self, generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        return self.unit * generator.standard_t(self.dof, size)


@WeightLaw.family.register("stable")
@dataclass(frozen=True, kw_only=True)
class Stable(_HeavyTailed):
    """Symmetric stable law, characteristic function exp(-|t|^stability).

    Sums of n weights are again of this law, n^(1 / stability) times wider: of all laws
    with the same tail it is the one for which wide layers are exactly alike.

    Parameters
    ----------
    stability : float
        Between 0 and 2, both excluded (1: Cauchy). At 2 it would be a Gaussian of
        variance 2: use gaussian.
    """

    code: ClassVar[int] = 4

    stability: float

    def __post_init__(self) -> None:
        why = "At 2 the stable law is the Gaussian: use the law gaussian."
        stability = check_number(
            "stability", self.stability, low=0.0, high=2.0, open_low=True, open_high=True, why=why
        )
        object.__setattr__(self, "stability", stability)

    @property
    def parameter(self) -> float:
        return self.stability

    @property
    def moment_limit(self) -> float:
        return self.stability

    @property
    def variance(self) -> float:
        return math.inf

    @property
    def kurtosis(self) -> float:
        return math.nan

    def sample(self, generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        # Chambers, Mallows and Stuck (1976), symmetric case: one angle, one exponential.
        s = self.stability
        angle = generator.uniform(-math.pi / 2, math.pi / 2, size)
        wait = generator.standard_exponential(size)
        width = np.cos((1 - s) * angle) / wait
        return np.sin(s * angle) / np.cos(angle) ** (1 / s) * width ** ((1 - s) / s)
