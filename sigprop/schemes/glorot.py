"""Glorot (Xavier) initialisation: a compromise between forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sigprop.spec import LayerTable, Network, Scheme

__all__ = ["Glorot"]


@Scheme.family.register("glorot")
@dataclass(frozen=True, kw_only=True)
class Glorot(Scheme):
    """Variance 2 / (fan_in + fan_out), whatever the activation.

    1/fan_in keeps the mean square of the signal of a linear net, 1/fan_out that of its
    gradient; where the two widths differ no variance keeps both, and this is the harmonic
    mean of the two. ReLU halves the mean square at every layer, which is not made up for.
    """

    formula: ClassVar[str] = "Var w = 2 / (fan_in + fan_out); branch 1."
    source: ClassVar[str] = (
        "Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward "
        "neural networks, AISTATS"
    )

    def layers(self, network: Network) -> LayerTable:
        return self.table(network, variance=lambda fan_in, fan_out: 2 / (fan_in + fan_out))
