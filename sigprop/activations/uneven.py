r"""Units that are switched off or turned about at random: dropout, and balanced rectifiers.

A unit keeps what is drawn for it in all passes of one network, as a random slope does: the same for
all its inputs and for the gradient. A draw is one number a unit: a finite one is a slope below 0,
``DROPPED`` says that the unit gives 0, ``TURNED`` that it acts on -u:

===========  ===================
draw         phi(u)
===========  ===================
slope a      u, or a u below 0
``DROPPED``  0
``TURNED``   a u, or u below 0
===========  ===================

(A turned unit is s phi(s u) with s = -1 rather than phi(s u); the matrix that reads it has a
symmetric law, so that the two networks have one law.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.activations import _codes
from sigprop.activations.randomised_leaky_relu import RandomisedLeakyReLU
from sigprop.errors import SpecError, Unsupported
from sigprop.spec import Activation

__all__ = ["DROPPED", "TURNED", "BalancedReLU", "DroppedOut", "Uneven"]

DROPPED, TURNED = math.inf, -math.inf


@dataclass(frozen=True, kw_only=True)
class Uneven(RandomisedLeakyReLU):
    """Base of activations whose units differ in more than a slope."""

    code: ClassVar[int] = _codes.UNEVEN

    @property
    def keep(self) -> float:
        """Probability that a unit is kept; kept ones are divided by it."""
        return 1.0

    @property
    def turned(self) -> float:
        """Probability that a unit is turned."""
        return 0.0

    @property
    def unit(self) -> tuple[float, float, float, float]:
        """What kernels receive: the two ends of the slope, keep and turned."""
        return (self.low, self.high, self.keep, self.turned)

    def slopes(self, generator: np.random.Generator, size: int | tuple[int, ...]) -> np.ndarray:
        """Draw with NumPy what a unit does: a slope, ``DROPPED`` or ``TURNED``."""
        drawn = generator.uniform(self.low, self.high, size)
        chance = generator.random(size)
        drawn = np.where(chance < self.turned, TURNED, drawn)
        return np.where(chance >= self.keep, DROPPED, drawn)

    def __call__(self, u: np.ndarray, slopes: np.ndarray | None = None) -> np.ndarray:
        """phi(u), given what every unit does; kept units are divided by ``keep``."""
        u = np.asarray(u, float)
        return self.derivative(u, slopes) * u

    def derivative(self, u: np.ndarray, slopes: np.ndarray | None = None) -> np.ndarray:
        """phi'(u), given what every unit does."""
        s = self._drawn(slopes)
        turned = s == TURNED
        above = np.where(turned, self.low, 1.0)
        below = np.where(turned, 1.0, np.where(np.isfinite(s), s, 0.0))
        kept = np.where(s == DROPPED, 0.0, 1 / self.keep)
        return kept * np.where(np.asarray(u) > 0, above, below)

    def active(self, u: np.ndarray, slopes: np.ndarray | None = None) -> np.ndarray:
        """Which units pass u on: not the dropped, and of a turned one those with u <= 0."""
        s, above = self._drawn(slopes), np.asarray(u) > 0
        return np.where(s == TURNED, ~above, above) & (s != DROPPED)

    def mean(self, variance: float = 1.0) -> float:
        return super().mean(variance) * (1 - 2 * self.turned)

    def derivative_second_moment(self, variance: float = 1.0) -> float:
        return super().derivative_second_moment(variance) / self.keep


@Activation.family.register("balanced_relu")
@dataclass(frozen=True, kw_only=True)
class BalancedReLU(Uneven):
    """max(s u, 0), s a random sign for each unit of each layer.

    Where it acts on the trunk itself (res1, preact) a state does not remember which of its
    coordinates were positive: neither the correlation between layers nor the excess of negative
    coordinates of a ReLU network arises. Elsewhere it is ReLU in law.
    """

    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low != self.high:
            raise SpecError(
                f"low and high must be equal, got {self.low:g} and {self.high:g}: a turned unit "
                "has the slope on its other side. Give one slope below 0."
            )

    @property
    def turned(self) -> float:
        return 0.5


@dataclass(frozen=True, kw_only=True)
class DroppedOut(Uneven):
    """An activation linear on either side of 0 under dropout; `sigprop.Network` makes it."""

    kind: ClassVar[str] = "dropout"

    kept: float = 1.0

    @property
    def parameters(self) -> tuple[float, float]:
        raise Unsupported(
            f"activation {self.kind!r} has units that are dropped, and this closed form is of "
            "slopes alone. Simulate it."
        )

    @property
    def keep(self) -> float:
        return self.kept

    @classmethod
    def of(cls, base: Activation, dropout: float) -> DroppedOut:
        """``base`` whose units are dropped with probability ``dropout``."""
        if isinstance(base, Uneven) or not base.homogeneous:
            raise Unsupported(
                f"dropout is offered for linear, relu, leaky_relu and randomised_leaky_relu, not "
                f"for {base.kind!r}. Leave out dropout."
            )
        low, high = base.parameters
        fixed = base.negative_slope
        if fixed is not None:
            low = high = fixed
        return cls(low=low, high=high, kept=1 - dropout)
