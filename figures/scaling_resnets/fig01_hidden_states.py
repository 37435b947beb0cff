"""Figure 1: how far the state moves, against depth, below, above and at the critical scaling."""

from __future__ import annotations

from typing import ClassVar

from figures._base import Figure
from figures.scaling_resnets._against_depth import AgainstDepth

__all__ = ["HiddenStates"]


@Figure.family.register("scaling_resnets/fig01")
class HiddenStates(AgainstDepth):
    """Displacement of the state against depth for beta = 1, 0.25 and 0.5."""

    title: ClassVar[str] = "displacement of the state against depth, independent weights"
    quantity: ClassVar[str] = "displacement"
    headline: ClassVar[str] = "Branches of size $L^{-1/2}$ move the state by an amount of order 1"
    caption: ClassVar[str] = (
        "After Figure 1 of Marion, Fermanian, Biau and Vert (2022), where a point is the mean of "
        "50 networks. Larger branches explode, smaller ones leave the input as it is. Where the "
        "spread is as wide as at β = 0.25, few networks make up the mean."
    )
