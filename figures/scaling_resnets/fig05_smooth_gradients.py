"""Figure 5: how far the gradient moves when weights are smooth along depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from figures._base import Figure
from figures.scaling_resnets._smooth import Smooth

__all__ = ["SmoothGradients"]


@Figure.family.register("scaling_resnets/fig05")
class SmoothGradients(Smooth):
    """Displacement of the gradient against depth for smooth weights, beta = 2, 0.5 and 1."""

    title: ClassVar[str] = "displacement of the gradient against depth, smooth weights"
    quantity: ClassVar[str] = "gradient_displacement"
    statuses: ClassVar[Mapping[str, str]] = {"root_mean_square": "approximation"}
    headline: ClassVar[str] = (
        "The gradient too: with smooth weights the critical branch is $L^{-1}$"
    )
    caption: ClassVar[str] = (
        "After Figure 5 of Marion, Fermanian, Biau and Vert (2022). Unlike for independent "
        "weights, state and gradient do not have the same law. Erratum: the first published code "
        "takes increments of a smooth path, divided by their empirical deviation, in place of its "
        "values. At β = 0.5 a width of 40 is far from the limit of great width."
    )
