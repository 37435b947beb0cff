"""Power scaling: every branch multiplied by the same power of the depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sigprop.spec import LayerTable, Network, Scheme, check_number

__all__ = ["Power"]


@Scheme.family.register("power")
@dataclass(frozen=True, kw_only=True)
class Power(Scheme):
    """Branch depth^-beta, weight variance 1 / fan_in.

    What a deep network does is decided by depth * branch^2, the total variance that the
    branches add. At beta = 1/2 it is constant: norms stay random and of order 1 at any
    depth. For beta > 1/2 the network tends to the identity, for beta < 1/2 it explodes.

    Parameters
    ----------
    beta : float
        The exponent, at least 0. Required: it is the question that the paper asks.
    """

    formula: ClassVar[str] = "branch = depth^-beta; Var w = 1 / fan_in."
    source: ClassVar[str] = (
        "Marion, Fermanian, Biau and Vert (2022), Scaling ResNets in the large-depth regime, "
        "arXiv:2206.06929"
    )
    blocks: ClassVar[tuple[str, ...]] = ("res1", "res3", "inner", "preact")

    beta: float

    def __post_init__(self) -> None:
        super().__post_init__()
        why = "The branch is depth^-beta: 0 is no scaling, 1/2 the critical exponent."
        object.__setattr__(self, "beta", check_number("beta", self.beta, low=0.0, why=why))

    def layers(self, network: Network) -> LayerTable:
        return self.table(
            network,
            variance=lambda fan_in, fan_out: 1 / fan_in,
            branch=float(network.depth) ** -self.beta,
        )
