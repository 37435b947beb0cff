"""Normal ResNet initialisation: independent Gaussians, branch and skip on the unit circle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.errors import SpecError
from sigprop.schemes.he import he_variance
from sigprop.spec import LayerTable, Network, Scheme, check_number

__all__ = ["Normal"]


@Scheme.family.register("normal")
@dataclass(frozen=True, kw_only=True)
class Normal(Scheme):
    r"""Branch alpha and skip beta with alpha^2 + beta^2 = 1, He's variance by fan-out.

    With a matrix in the skip connection that is independent of the branch the mean square
    is kept exactly, at any width: branch and skip bring alpha^2 and beta^2 of it. The angle
    between two inputs is not kept, for any alpha: it closes like 1 / depth^2.

    Parameters
    ----------
    alpha : float
        From 0 (the literature's SkipInit and Fixup on this block) to 1; default 1/sqrt(2).
    """

    formula: ClassVar[str] = (
        "branch = alpha (default 1/sqrt(2)), skip = sqrt(1 - alpha^2); Var w = 1 / (fan_out "
        "E phi(Z)^2), so 2/fan_out for ReLU."
    )
    source: ClassVar[str] = (
        "Gadhikar and Burkholz (2022), Dynamical isometry for residual networks, "
        "arXiv:2210.02411, definition 2.2 (as recalled)"
    )
    blocks: ClassVar[tuple[str, ...]] = ("projection",)
    default_block: ClassVar[str] = "projection"

    alpha: float = math.sqrt(0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        why = "Its square is the share of the branch."
        object.__setattr__(self, "alpha", check_number("alpha", self.alpha, low=0, high=1, why=why))
        if np.any(np.asarray(self.skip) != 1.0):
            raise SpecError(
                f"scheme 'normal' sets skip = sqrt(1 - alpha^2) by itself, got {self.skip!r}. "
                "Leave skip out, or use scheme 'given'."
            )

    def layers(self, network: Network) -> LayerTable:
        he = he_variance(network)
        return self.table(
            network,
            variance=lambda fan_in, fan_out: he(fan_out, fan_in),
            branch=self.alpha,
            skip=math.sqrt((1 - self.alpha) * (1 + self.alpha)),
            gain=True,
        )
