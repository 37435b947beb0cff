"""Figure 4: how far the state moves when weights are smooth along depth."""

from __future__ import annotations

from typing import ClassVar

from figures._base import Figure
from figures.scaling_resnets._smooth import Smooth

__all__ = ["SmoothStates"]


@Figure.family.register("scaling_resnets/fig04")
class SmoothStates(Smooth):
    """Displacement of the state against depth for smooth weights, beta = 2, 0.5 and 1."""

    title: ClassVar[str] = "displacement of the state against depth, smooth weights"
    quantity: ClassVar[str] = "displacement"
    headline: ClassVar[str] = "With smooth weights the critical branch is $L^{-1}$, not $L^{-1/2}$"
    caption: ClassVar[str] = (
        "After Figure 4 of Marion, Fermanian, Biau and Vert (2022), where a point is the mean of "
        "50 networks. Erratum: the first published code takes increments of a smooth path, divided "
        "by their empirical deviation, in place of its values."
    )
