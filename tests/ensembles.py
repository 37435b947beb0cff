"""Ensembles in which nothing is constant and nothing is 1, so that no mistake can hide.

Skip and branch coefficients, variances of every matrix and hidden widths all differ from
layer to layer, with both signs; hidden layers of one and two units are dead often.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sigprop.inputs import Point
from sigprop.schemes import GivenScheme
from sigprop.spec import Ensemble, Inputs, Network

__all__ = ["BLOCKS", "gentle", "uneven"]

BLOCKS = ("plain", "res1", "res3", "inner", "preact")

SKIP = (0.8, 1.1, 0.6, -0.9)
BRANCH = (0.7, -1.1, 0.5, 0.9)
VARIANCE = (0.5, 0.78, 0.6, 0.4, 0.7, 0.45, 0.8, 0.35, 0.55, 0.65, 0.3, 0.9)
HIDDEN = (4, 7, 3, 5, 6, 2, 4, 3)  # as they come, by layer and matrix
STATES = (4, 6, 3, 5, 4)  # of a plain net


def uneven(
    block: str,
    activation: Any = "relu",
    *,
    width: int = 4,
    hidden: tuple[int, ...] = HIDDEN,
    states: tuple[int, ...] = STATES,
    inner_layers: int | None = None,
    law: Any = "gaussian",
    bias_variance: float = 0.0,
    inputs: Inputs | None = None,
    **processes: Any,
) -> Ensemble:
    """Four layers of one block; see the module. ``processes`` are those of a scheme."""
    shape: dict[str, Any] = {"depth": 4, "block": block, "activation": activation}
    if block == "plain":
        shape["widths"] = states
    else:
        shape["width"] = width
        shape["inner_layers"] = inner_layers
    bare = Network(**shape)
    if bare.matrices > 1:
        rows = np.resize(hidden, (4, bare.matrices - 1)).tolist()
        bare = Network(**shape, inner_width=tuple(map(tuple, rows)))
    variance = np.resize(VARIANCE, (4, bare.matrices)).tolist()
    scheme = GivenScheme(
        skip=SKIP,
        branch=BRANCH,
        variance=tuple(map(tuple, variance)),
        law=law,
        bias_variance=bias_variance,
        **processes,
    )
    return Ensemble(bare, scheme, Point() if inputs is None else inputs)


def gentle() -> Ensemble:
    """Six res3 layers of small branches, where joint mistakes show most.

    Where every layer turns the state by little, the displacement remembers the direction of
    the branches, and the gradient meets the same directions on its way back.
    """
    scheme = GivenScheme(
        skip=(0.75, 0.9, 0.6, 0.85, 0.7, 0.95),
        branch=(0.4, -0.3, 0.35, 0.45, -0.35, 0.3),
        variance=((0.2, 0.3), (0.25, 0.4), (0.15, 0.35), (0.3, 0.2), (0.22, 0.33), (0.18, 0.3)),
    )
    hidden = (9, 12, 14, 10, 8, 11)
    return Ensemble(Network(depth=6, width=3, inner_width=hidden), scheme, Point())
