"""What Figures 4 and 5 share: weights that change smoothly along depth, drawn in two ways.

The published code first differenced a smooth path and divided the increments by their empirical
standard deviation; it was later changed to the values of the path themselves. The two are
different processes, the parameter changed its meaning from a variance to a bandwidth, and the
curves moved by half. Both are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from analysis.theory.mean_field import mean_field
from figures.scaling_resnets._against_depth import DEPTHS, AgainstDepth
from sigprop.processes import LegacyRbf, Rbf
from sigprop.spec import Ensemble, Process

__all__ = ["Smooth"]


class Smooth(AgainstDepth):
    """Base: Gaussian processes with a squared exponential covariance, panels 2, 0.5 and 1."""

    critical: ClassVar[float] = 1.0
    processes: ClassVar[Mapping[str, Process]] = {
        "rbf": Rbf(bandwidth=0.1),
        "legacy_rbf": LegacyRbf(variance=0.01),
    }
    labels: ClassVar[tuple[str, ...]] = (
        "corrected: values, bandwidth 0.1",
        "as published: increments, variance 0.01",
    )
    weights: ClassVar[str] = "weights smooth along depth"
    statuses: ClassVar[Mapping[str, str]] = {"root_mean_square": "limit"}
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {
            "width": 40,
            "betas": [2.0, 0.5, 1.0],
            "depths": depths,
            "networks": networks,
            "seed": 0,
        }
        for budget, networks, depths in (
            ("smoke", 16, [10, 120, 1000]),
            ("draft", 50, DEPTHS),
            ("paper", 500, DEPTHS),
        )
    }

    def numbers(self, law: Ensemble) -> dict[str, float]:
        limit = mean_field(law)
        forward = float(limit.log_displacement_mean_square[-1])
        if self.quantity == "displacement":
            return {"root_mean_square": math.exp(forward / 2)}
        # Of the directions of a gradient one is along the state, and grows as the state does.
        backward = float(limit.log_gradient_displacement_mean_square[0])
        width = law.network.width
        square = np.logaddexp(backward + math.log1p(-1 / width), forward - math.log(width))
        return {"root_mean_square": math.exp(square / 2)}
