"""ReZero: every layer a residual layer, whose weight starts at zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sigprop.schemes.he import he_variance
from sigprop.spec import LayerTable, Network, Scheme, check_number

__all__ = ["ReZero"]


@Scheme.family.register("rezero")
@dataclass(frozen=True, kw_only=True)
class ReZero(Scheme):
    """h' = h + a_l F(h), one scalar a_l a layer, all 0 at initialisation; He weights.

    The input-output Jacobian is then the identity: all its singular values are 1
    (dynamical isometry) at any depth. At initialisation it is the same law as SkipInit;
    the papers differ in where they put the scalar and what they train.

    Parameters
    ----------
    initial : float
        Default 0, the definition. Another value asks what would happen without it.
    """

    formula: ClassVar[str] = "branch = initial (default 0), one scalar a layer; Var w = He."
    source: ClassVar[str] = (
        "Bachlechner, Majumder, Mao, Cottrell and McAuley (2020), ReZero is all you need, "
        "arXiv:2003.04887"
    )
    blocks: ClassVar[tuple[str, ...]] = (
        "res1", "res3", "inner", "preact", "identity", "projection"
    )  # fmt: skip

    initial: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        why = "It is the value of every layer's scalar at initialisation."
        object.__setattr__(self, "initial", check_number("initial", self.initial, why=why))

    def layers(self, network: Network) -> LayerTable:
        return self.table(network, variance=he_variance(network), branch=self.initial, gain=True)
