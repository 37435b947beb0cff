"""The gradient on its way back: does it explode, vanish or arrive unchanged?"""

from dataclasses import dataclass
from typing import ClassVar

from sigprop.observables.group import Group
from sigprop.observables.observable import observables
from sigprop.observables.quantity import LogQuantity, Quantity

__all__ = ["Gradient"]


@observables.register("gradient")
@dataclass(frozen=True, kw_only=True)
class Gradient(Group):
    """|p_l| / |p_L| and |p_l - p_L| / |p_L|, p_l = dLoss/dh_l, as for the norm."""

    quantities: ClassVar[tuple[Quantity, ...]] = (
        LogQuantity("log_gradient", "gradient"),
        LogQuantity("log_gradient_displacement", "gradient_displacement"),
    )
