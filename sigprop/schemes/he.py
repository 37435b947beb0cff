"""He initialisation: weights that keep the mean square of a signal through a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.errors import SpecError
from sigprop.spec import LayerTable, Network, Scheme

__all__ = ["He", "he_variance"]


@Scheme.family.register("he")
@dataclass(frozen=True, kw_only=True)
class He(Scheme):
    r"""Variance :math:`1 / (n\, E\varphi(Z)^2)`, n the fan-in, Z standard normal.

    A layer averages over its n inputs the squares of activated Gaussian numbers; dividing
    by their mean keeps E|h|^2 of a plain net constant in depth. For ReLU this is 2/n, for
    leaky ReLU 2/((1 + slope^2) n), for a linear net 1/n: the definition of the paper. For
    other activations, which remember the size of their argument, it is the extension that
    preserves *unit* variance.

    In a residual network nothing is said of the skip connection: branch = 1, and the
    mean square grows geometrically with depth. That is the explosion which every other
    scheme here is an answer to.
    """

    formula: ClassVar[str] = "Var w = 1 / (fan_in E phi(Z)^2), so 2/fan_in for ReLU; branch 1."
    source: ClassVar[str] = (
        "He, Zhang, Ren and Sun (2015), Delving deep into rectifiers, arXiv:1502.01852"
    )

    def layers(self, network: Network) -> LayerTable:
        return self.table(network, variance=he_variance(network))


def he_variance(network: Network) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return He's entry variance as a function of (fan_in, fan_out)."""
    gain = network.phi.second_moment()
    if not gain > 0:
        raise SpecError(
            f"He's variance divides by E phi(Z)^2, but activation {network.phi.kind!r} has "
            f"{gain:g}: it is zero almost everywhere. Use another scheme or activation."
        )
    return lambda fan_in, fan_out: 1 / (gain * fan_in)
