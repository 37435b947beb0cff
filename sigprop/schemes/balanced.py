"""Balanced ResNet: every unit of every layer reads its input with a random sign."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

from sigprop.activations.uneven import BalancedReLU
from sigprop.errors import SpecError, Unsupported
from sigprop.schemes.he import he_variance
from sigprop.spec import LayerTable, Network, Scheme, check_number

__all__ = ["Balanced"]


@Scheme.family.register("balanced")
@dataclass(frozen=True, kw_only=True)
class Balanced(Scheme):
    r"""h' = alpha h + lambda V phi(s h), s random signs, alpha^2 + lambda^2 = 1.

    A ReLU on the trunk itself sees a state that remembers which of its coordinates were positive:
    fewer than half of the units are active, and layers are correlated. Random signs, drawn once for
    each unit of each layer, remove both at finite depth and width, so that log|h| is a sum of
    layers that do not remember each other.

    Parameters
    ----------
    alpha : float
        The skip coefficient, in (0, 1); default :math:`1/\sqrt 2`. The branch is sqrt(1 - alpha^2).
        Weights are He's.
    """

    formula: ClassVar[str] = (
        "h' = alpha h + sqrt(1 - alpha^2) V phi(s h), s random signs; Var w = He's; alpha = 2^-1/2."
    )
    source: ClassVar[str] = (
        "Li, Nica and Roy (2021), The future is log-Gaussian: ResNets and their infinite-depth-and-"
        "width limit at initialization, arXiv:2106.04013"
    )
    blocks: ClassVar[tuple[str, ...]] = ("res1",)
    default_block: ClassVar[str] = "res1"

    alpha: float = math.sqrt(0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        why = "Its square and that of the branch add up to 1."
        alpha = check_number(
            "alpha", self.alpha, low=0.0, high=1.0, open_low=True, open_high=True, why=why
        )
        object.__setattr__(self, "alpha", alpha)
        if self.skip != 1.0:
            raise SpecError(
                f"scheme 'balanced' takes its skip from alpha, got skip = {self.skip!r}. Leave out "
                "skip."
            )

    def prepared(self, network: Network) -> Network:
        phi = network.activation
        if isinstance(phi, BalancedReLU):
            return network
        slope = getattr(phi, "negative_slope", None)
        if slope is None or network.dropout or network.convolutional:
            raise Unsupported(
                f"scheme 'balanced' gives random signs to units with one slope below 0, not to "
                f"{getattr(phi, 'kind', phi)!r}, units under dropout or pixels. Use relu or "
                "leaky_relu in a fully connected network."
            )
        return dataclasses.replace(network, activation=BalancedReLU(low=slope, high=slope))

    def layers(self, network: Network) -> LayerTable:
        self.check_block(network)
        table = self.table(
            network, variance=he_variance(network), branch=math.sqrt(1 - self.alpha**2)
        )
        return dataclasses.replace(table, skip=0 * table.skip + self.alpha)
