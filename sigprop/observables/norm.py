"""The norm of the state: does the signal grow, shrink or keep its size?"""

from dataclasses import dataclass
from typing import ClassVar

from sigprop.observables.group import Group
from sigprop.observables.observable import observables
from sigprop.observables.quantity import LogQuantity, Quantity

__all__ = ["Norm"]


@observables.register("norm")
@dataclass(frozen=True, kw_only=True)
class Norm(Group):
    """|h_l| / |h_0|: statistics of its logarithm and moments."""

    quantities: ClassVar[tuple[Quantity, ...]] = (LogQuantity("log_norm", "norm"),)
