"""Random walk initialisation: weights for which the logarithm of the norm has no drift."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.errors import Unsupported
from sigprop.spec import LayerTable, Network, Scheme

__all__ = ["RandomWalk"]


@Scheme.family.register("random_walk")
@dataclass(frozen=True, kw_only=True)
class RandomWalk(Scheme):
    r"""Standard deviation g / sqrt(fan_in) with g fitted so that log|h| is a random walk.

    A linear net has :math:`g = e^{1/(2d)}`, a ReLU net :math:`g = \sqrt 2\, e^{1.2 / (d - 2.4)}`,
    d the width (6 for less). It is scheme ``fractional`` at s = 0 to first order in 1/d; exact for
    ReLU would be :math:`e^{1.25/d}`.
    """

    formula: ClassVar[str] = (
        "sd w = g / sqrt(fan_in), g = exp(1/(2 d)) (linear), sqrt(2) exp(1.2 / (max(d, 6) - 2.4)) "
        "(relu)."
    )
    source: ClassVar[str] = (
        "Sussillo and Abbott (2014), Random walk initialization for training very deep feedforward "
        "networks, arXiv:1412.6558"
    )
    blocks: ClassVar[tuple[str, ...]] = ("plain",)
    default_block: ClassVar[str] = "plain"

    def layers(self, network: Network) -> LayerTable:
        self.check_block(network)
        fan_in, fan_out = network.fans
        if network.convolutional:
            raise Unsupported(
                f"scheme 'random_walk' is of fully connected layers ({network.phi.kind}), got an "
                f"image of {network.image}. Leave out image, or use scheme 'he'."
            )
        if network.phi.kind == "relu":
            log_gain = 0.5 * math.log(2) + 1.2 / (np.maximum(fan_out, 6) - 2.4)
        elif network.phi.kind == "linear":
            log_gain = 0.5 / fan_out
        else:
            raise Unsupported(
                f"scheme 'random_walk' is known for linear and relu, not for {network.phi.kind!r}. "
                "Use scheme 'fractional' with s = 0, which has no drift at all."
            )
        return self.table(network, variance=np.exp(2 * log_gain) / fan_in)
