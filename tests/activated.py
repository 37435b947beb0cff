"""Ensembles of the blocks that activate the sum, and of matrices that are not entry by entry.

Nothing is constant, and coefficients have both signs, as in `tests.ensembles`; hidden layers and
states are so narrow that branches and whole networks are dead often.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sigprop.activations import LeakyReLU, RandomisedLeakyReLU
from sigprop.inputs import Equiangular, Given, Pair, Point
from sigprop.schemes import GivenScheme, LooksLinear, NFResNet, OrthogonalScheme, Risotto, SkipInit
from sigprop.spec import Ensemble, Inputs, Network

__all__ = ["CASES", "activated"]

SKIP = (0.8, -1.1, 0.6)
BRANCH = (0.7, 0.9, -0.5)
VARIANCE = (0.5, 0.78, 0.6, 0.4, 0.7, 0.45, 0.8, 0.35)
HIDDEN = (4, 3, 5, 2, 6)
THREE = Given([[1.0, 0.2, -0.7], [-0.3, 1.1, 0.5], [0.7, 1.3, -0.2]])  # the third is their sum


def activated(
    block: str,
    activation: Any = "relu",
    *,
    widths: tuple[int, ...] = (4, 5, 3, 6),
    branch_matrices: int = 2,
    input_width: int = 3,
    law: Any = "gaussian",
    bias_variance: float = 0.0,
    inputs: Inputs | None = None,
) -> Ensemble:
    """Three layers of block ``identity`` or ``projection``; the former of the first width."""
    hidden = np.resize(HIDDEN, (3, branch_matrices - 1)).tolist()
    shape: dict[str, Any] = {"widths": widths} if block == "projection" else {"width": widths[0]}
    network = Network(
        depth=3,
        block=block,
        activation=activation,
        inner_layers=branch_matrices,
        inner_width=tuple(map(tuple, hidden)) if branch_matrices > 1 else None,
        input_width=input_width,
        **shape,
    )
    variance = np.resize(VARIANCE, (3, network.matrices)).tolist()
    scheme = GivenScheme(
        skip=SKIP,
        branch=BRANCH,
        variance=tuple(map(tuple, variance)),
        law=law,
        bias_variance=bias_variance,
    )
    return Ensemble(network, scheme, Pair(cosine=0.3) if inputs is None else inputs)


def _plain(scheme: Any, *widths: int, inputs: Inputs | None = None) -> Ensemble:
    network = Network(depth=len(widths) - 1, block="plain", widths=widths)
    return Ensemble(network, scheme, Pair(cosine=-0.2) if inputs is None else inputs)


CASES = {
    "projection": activated("projection"),
    "projection of three": activated("projection", LeakyReLU(slope=-0.4), branch_matrices=3),
    "projection biased": activated(
        "projection", "tanh", widths=(6, 4, 5, 3), bias_variance=0.3, inputs=THREE
    ),
    "projection of one": activated("projection", branch_matrices=1, inputs=Point()),
    "identity": activated("identity", widths=(5,)),
    "identity randomised": activated("identity", RandomisedLeakyReLU(), branch_matrices=3),
    "identity of orthogonal": activated("identity", law="orthogonal", inputs=THREE),
    "identity of signs": activated("identity", law="rademacher"),
    "risotto projection": Ensemble(
        Network(
            depth=3, block="projection", widths=(6, 6, 8, 10), inner_width=(4, 10, 6),
            input_width=2,
        ),
        Risotto(alpha=(0.7, -1.2, 0.4), skip=(0.8, 1.1, -0.6)),
        Pair(cosine=0.3),
    ),
    "risotto identity": Ensemble(
        Network(depth=3, block="identity", width=6, inner_width=4, inner_layers=3, input_width=3),
        Risotto(alpha=0.7),
        Equiangular(count=3, cosine=0.1),
    ),
    "risotto identity padded": Ensemble(
        Network(depth=3, block="identity", width=4, inner_width=8), Risotto(alpha=0.7, skip=-0.8)
    ),
    "risotto of Gaussians": Ensemble(
        Network(depth=3, block="projection", width=6), Risotto(law="gaussian", alpha=0.6)
    ),
    "looks-linear": _plain(LooksLinear(), 2, 4, 6, 6),
    "orthogonal plain": _plain(OrthogonalScheme(), 4, 6, 3, 5),
    "orthogonal leaky": Ensemble(
        Network(depth=3, width=4, block="inner", inner_width=3, activation=LeakyReLU(slope=0.3)),
        OrthogonalScheme(skip=SKIP),
        Given([[1.0, 0.2, -0.7, 0.4], [-0.3, 1.1, 0.5, 0.9]]),
    ),
    "orthogonal plain, one input": _plain(OrthogonalScheme(), 3, 5, 2, 4, inputs=Point()),
    "orthogonal preact": Ensemble(
        Network(depth=3, width=3, block="preact", inner_width=5, activation="tanh"),
        OrthogonalScheme(skip=SKIP, bias_variance=0.2),
        THREE,
    ),
    "orthogonal dropped": Ensemble(
        Network(depth=3, width=4, block="inner", inner_width=3, dropout=0.3), OrthogonalScheme()
    ),
    # blocks that the kernels know, fields that they do not
    "res3": Ensemble(Network(depth=3, width=4, inner_width=3), SkipInit(initial=0.7)),
    "preact centred": Ensemble(
        Network(depth=3, width=4, inner_width=5, block="preact", activation="gelu"),
        NFResNet(alpha=0.8, bias_variance=0.2),
    ),
}  # fmt: skip
