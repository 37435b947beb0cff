"""Orthogonal initialisation: matrices that keep lengths, times what the activation takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.errors import Unsupported
from sigprop.schemes.he import he_variance
from sigprop.spec import LayerTable, Network, Scheme, WeightLaw

__all__ = ["OrthogonalScheme"]


@Scheme.family.register("orthogonal")
@dataclass(frozen=True, kw_only=True)
class OrthogonalScheme(Scheme):
    r"""W = gain times an orthogonal matrix, gain^2 = 1 / E phi(Z)^2: sqrt(2) for ReLU.

    A linear net is then an isometry. With a ReLU each layer drops about half of the length and
    the gain restores it on average only: norms fluctuate, and singular values spread with
    depth, more slowly than those of Gaussian weights. A rectangular matrix has orthonormal
    rows or columns, whichever are fewer.
    """

    formula: ClassVar[str] = (
        "W = Q / sqrt(E phi(Z)^2), so sqrt(2) Q for ReLU, Q orthogonal (orthonormal rows or "
        "columns); branch 1."
    )
    source: ClassVar[str] = (
        "Saxe, McClelland and Ganguli (2014), Exact solutions to the nonlinear dynamics of "
        "learning in deep linear neural networks, arXiv:1312.6120"
    )
    default_block: ClassVar[str] = "plain"

    law: WeightLaw | str = "orthogonal"

    kernels: ClassVar[bool] = False  # whether it says what becomes of the taps of a kernel

    def layers(self, network: Network) -> LayerTable:
        if network.convolutional and not self.kernels:
            raise Unsupported(
                "scheme 'orthogonal' is of matrices, and a kernel of several taps that is "
                "orthogonal as one matrix is no isometry as a convolution. Use scheme "
                "'delta_orthogonal', which puts it at the centre."
            )
        he = he_variance(network)
        return self.table(
            network, variance=lambda fan_in, fan_out: he(np.maximum(fan_in, fan_out), fan_in)
        )
