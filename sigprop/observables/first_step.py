"""The first step: how far does one step of gradient descent move the function?

For f = p_L . h_L one step of size eta on f itself, on all weights of the layers (and on the
branch coefficients where a scheme trains them), changes f by eta times the sum of squares of
its derivatives. Fixup makes this independent of depth; without its scaling it grows with depth.
"""

from dataclasses import dataclass
from typing import ClassVar

from sigprop.observables.group import Group
from sigprop.observables.observable import observables
from sigprop.observables.quantity import LogQuantity, Quantity

__all__ = ["FirstStep"]


@observables.register("first_step")
@dataclass(frozen=True, kw_only=True)
class FirstStep(Group):
    """|df| / (eta |h_0|^2 |p_L|^2) of one step, by the layers up to here: whole at the top."""

    quantities: ClassVar[tuple[Quantity, ...]] = (LogQuantity("log_first_step", "first_step"),)
