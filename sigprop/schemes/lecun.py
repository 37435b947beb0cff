"""LeCun initialisation: weights that preserve the variance of a sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sigprop.spec import LayerTable, Network, Scheme

__all__ = ["LeCun"]


@Scheme.family.register("lecun")
@dataclass(frozen=True, kw_only=True)
class LeCun(Scheme):
    """Variance 1 / fan_in, whatever the activation.

    A weighted sum of unit-variance inputs then has unit variance. It is what theory papers
    write as W ~ N(0, 1/d), and the right choice for a linear net.
    """

    formula: ClassVar[str] = "Var w = 1 / fan_in; branch 1."
    source: ClassVar[str] = (
        "LeCun, Bottou, Orr and Mueller (1998), Efficient BackProp, in Neural networks: tricks "
        "of the trade"
    )

    def layers(self, network: Network) -> LayerTable:
        return self.table(network, variance=lambda fan_in, fan_out: 1 / fan_in)
