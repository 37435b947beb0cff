"""The norm in which a layer of stable weights is an independent factor."""

from dataclasses import dataclass
from typing import ClassVar

from sigprop.observables.group import Group
from sigprop.observables.observable import observables
from sigprop.observables.quantity import LogQuantity, Quantity

__all__ = ["AlphaNorm"]


@observables.register("alpha_norm")
@dataclass(frozen=True, kw_only=True)
class AlphaNorm(Group):
    """|x_l| / |x_0| in l_alpha, of stable weights: with sampler alpha_chain only."""

    quantities: ClassVar[tuple[Quantity, ...]] = (LogQuantity("log_alpha_norm", "alpha_norm"),)
