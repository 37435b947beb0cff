"""Activation diversity: do different inputs turn on different units?"""

from dataclasses import dataclass
from typing import ClassVar

from sigprop.observables.group import Group
from sigprop.observables.observable import observables
from sigprop.observables.quantity import PlainQuantity, Quantity

__all__ = ["Diversity"]


@observables.register("diversity")
@dataclass(frozen=True, kw_only=True)
class Diversity(Group):
    """Mean over units of 4 p (1 - p), p the share of inputs that turn it on: 1 if half do."""

    quantities: ClassVar[tuple[Quantity, ...]] = (
        PlainQuantity("diversity", "diversity", "mean over units of 4 p (1 - p)"),
    )
