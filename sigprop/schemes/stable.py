"""Stable ResNet: branches whose squares have a bounded sum, uniform or decreasing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.errors import SpecError
from sigprop.registry import did_you_mean
from sigprop.spec import LayerTable, Network, Scheme, check_number

__all__ = ["StableResNet"]

_FORMS = ("uniform", "decreasing")


@Scheme.family.register("stable")
@dataclass(frozen=True, kw_only=True)
class StableResNet(Scheme):
    r"""Branch :math:`\lambda_l` with :math:`\sup_L \sum_l \lambda_l^2 < \infty`.

    A block adds :math:`\lambda_l^2` times a constant to the log of the mean square, so the
    network is stable at any depth if and only if the squares have a bounded sum.

    * ``uniform``: :math:`\lambda_l = 1/\sqrt L`, every layer alike; the network to be
      trained must know its depth.
    * ``decreasing``: :math:`\lambda_l = 1 / (\sqrt l \log(l + 1))`, l = 1 .. L, the same
      at any depth; layers can be added without touching the others.

    Parameters
    ----------
    form : str
        ``"uniform"`` (default) or ``"decreasing"``.
    weight_variance : float
        Variance of a weight times its fan-in, default 2, as in the paper's block res1.
    """

    formula: ClassVar[str] = (
        "branch = depth^-1/2 (uniform) or 1/(sqrt(l) log(l+1)), l = 1..depth (decreasing); "
        "Var w = weight_variance / fan_in."
    )
    source: ClassVar[str] = (
        "Hayou, Clerico, He, Deligiannidis, Doucet and Rousseau (2021), Stable ResNet, "
        "arXiv:2010.12859"
    )
    blocks: ClassVar[tuple[str, ...]] = ("res1", "res3", "inner", "preact")
    default_block: ClassVar[str] = "res1"

    form: str = "uniform"
    weight_variance: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in _FORMS:
            raise SpecError(
                f"form must be one of {', '.join(_FORMS)}, got {self.form!r}: it says how the "
                f"branch depends on the layer.{did_you_mean(self.form, list(_FORMS))}"
            )
        variance = check_number(
            "weight_variance",
            self.weight_variance,
            low=0.0,
            open_low=True,
            why="It is the variance of a weight times its fan-in.",
        )
        object.__setattr__(self, "weight_variance", variance)

    def layers(self, network: Network) -> LayerTable:
        layer = np.arange(1, network.depth + 1, dtype=float)
        if self.form == "uniform":
            branch = np.full(network.depth, network.depth**-0.5)
        else:
            branch = 1 / (np.sqrt(layer) * np.log1p(layer))
        return self.table(
            network,
            variance=lambda fan_in, fan_out: self.weight_variance / fan_in,
            branch=branch,
        )
