"""SkipInit: one scalar at the end of every branch, 0 at initialisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sigprop.schemes.he import he_variance
from sigprop.spec import LayerTable, Network, Scheme, check_number

__all__ = ["SkipInit"]


@Scheme.family.register("skipinit")
@dataclass(frozen=True, kw_only=True)
class SkipInit(Scheme):
    """Branch = a learnable scalar that starts at ``initial``; He weights.

    Batch normalisation makes the branch of layer l smaller than the trunk by sqrt(l), so
    that deep normalised networks are close to the identity. SkipInit keeps that property
    and drops the normalisation.

    Parameters
    ----------
    initial : float
        Default 0, which is the identity. The paper finds that anything up to
        1/sqrt(depth) trains.
    """

    formula: ClassVar[str] = "branch = initial (default 0); Var w = He."
    source: ClassVar[str] = (
        "De and Smith (2020), Batch normalization biases residual blocks towards the identity "
        "function in deep networks, arXiv:2002.10444"
    )
    blocks: ClassVar[tuple[str, ...]] = (
        "res1", "res3", "inner", "preact", "identity", "projection"
    )  # fmt: skip
    default_block: ClassVar[str] = "preact"

    initial: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        why = "It is the value of the branch's scalar at initialisation."
        object.__setattr__(self, "initial", check_number("initial", self.initial, why=why))

    def layers(self, network: Network) -> LayerTable:
        return self.table(network, variance=he_variance(network), branch=self.initial, gain=True)
