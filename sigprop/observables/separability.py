"""Separability of inputs: can the network still tell two of them apart?"""

from dataclasses import dataclass
from typing import ClassVar

from sigprop.observables.group import Group
from sigprop.observables.observable import observables
from sigprop.observables.quantity import LogQuantity, PlainQuantity, Quantity

__all__ = ["Separability"]


@observables.register("separability")
@dataclass(frozen=True, kw_only=True)
class Separability(Group):
    """Cosine and distance of pairs of inputs, and the effective rank of all of them.

    Where states are +/- pairs (schemes risotto, looks_linear) also in the looks-linear
    coordinates, where the angle is that of the inputs: the raw one is an image of it.
    """

    quantities: ClassVar[tuple[Quantity, ...]] = (
        PlainQuantity("cosine", "cosine", "cosine of the angle between two states", binned=True),
        LogQuantity("log_distance", "distance"),
        PlainQuantity("effective_rank", "effective_rank", "effective rank of the states"),
        PlainQuantity(
            "looks_linear_cosine",
            "looks_linear_cosine",
            "cosine of the angle between two states in looks-linear coordinates",
            binned=True,
        ),
        LogQuantity("log_looks_linear_distance", "looks_linear_distance"),
        PlainQuantity(
            "looks_linear_effective_rank",
            "looks_linear_effective_rank",
            "effective rank of the states in looks-linear coordinates",
        ),
    )
