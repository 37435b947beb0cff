"""The displacement of the state: how far from the identity is the network?"""

from dataclasses import dataclass
from typing import ClassVar

from sigprop.observables.group import Group
from sigprop.observables.observable import observables
from sigprop.observables.quantity import LogQuantity, Quantity

__all__ = ["Displacement"]


@observables.register("displacement")
@dataclass(frozen=True, kw_only=True)
class Displacement(Group):
    """|h_l - h_0| / |h_0|: statistics of its logarithm and moments."""

    quantities: ClassVar[tuple[Quantity, ...]] = (LogQuantity("log_displacement", "displacement"),)
