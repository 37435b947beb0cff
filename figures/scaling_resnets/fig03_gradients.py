"""Figure 3: how far the gradient moves on its way down, against depth; the twin of Figure 1."""

from __future__ import annotations

from typing import ClassVar

from figures._base import Figure
from figures.scaling_resnets._against_depth import AgainstDepth

__all__ = ["Gradients"]


@Figure.family.register("scaling_resnets/fig03")
class Gradients(AgainstDepth):
    """Displacement of the gradient against depth for beta = 1, 0.25 and 0.5."""

    title: ClassVar[str] = "displacement of the gradient against depth, independent weights"
    quantity: ClassVar[str] = "gradient_displacement"
    headline: ClassVar[str] = "Going down, the gradient fares as the state going up"
    caption: ClassVar[str] = (
        "After Figure 3 of Marion, Fermanian, Biau and Vert (2022). For Gaussian weights and an "
        "isotropic gradient at the top, both ratios have the same law at every depth and width, "
        "so the theory is that of Figure 1."
    )
