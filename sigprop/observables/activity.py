"""Activity: how many units are on, and how many branches are dead?"""

from dataclasses import dataclass
from typing import ClassVar

from sigprop.observables.group import Group
from sigprop.observables.observable import observables
from sigprop.observables.quantity import PlainQuantity, Quantity

__all__ = ["Activity"]


@observables.register("activity")
@dataclass(frozen=True, kw_only=True)
class Activity(Group):
    """Mean fraction of active units in a branch, mean number of dead branches up to a layer."""

    quantities: ClassVar[tuple[Quantity, ...]] = (
        PlainQuantity("activity", "activity", "fraction of active units", spread=False),
        PlainQuantity("dead", "dead_layers", "number of dead branches", spread=False),
    )
