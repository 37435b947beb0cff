"""Balance: how much of a layer comes through its branch, how much past it?"""

from dataclasses import dataclass
from typing import ClassVar

from sigprop.observables.group import Group
from sigprop.observables.observable import observables
from sigprop.observables.quantity import PlainQuantity, Quantity

__all__ = ["Balance"]


@observables.register("balance")
@dataclass(frozen=True, kw_only=True)
class Balance(Group):
    """|branch F(h)|^2 and |skip h|^2 (or of S h) over |h|^2, before any activation of the sum."""

    quantities: ClassVar[tuple[Quantity, ...]] = (
        PlainQuantity("branch_energy", "branch_energy", "|branch F(h)|^2 / |h|^2"),
        PlainQuantity("skip_energy", "skip_energy", "|skip h|^2 / |h|^2"),
    )
