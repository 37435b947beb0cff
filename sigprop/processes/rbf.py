"""Smooth weights: a Gaussian process with infinitely differentiable paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.processes.stationary import Stationary
from sigprop.spec import Process, check_number

__all__ = ["Rbf"]


@Process.family.register("rbf")
@dataclass(frozen=True, kw_only=True)
class Rbf(Stationary):
    """Smooth paths: weights change over a fraction ``bandwidth`` of the depth.

    As depth grows, neighbouring layers become alike and the network a discretised
    differential equation with random coefficients.

    Parameters
    ----------
    bandwidth : float
        In units of the depth, above 0. Required; 0.1 in the paper's code.
    """

    formula: ClassVar[str] = (
        "E v_i v_(i+k) = exp(-t^2 / (2 bandwidth^2)), t = k / depth: a squared exponential."
    )
    source: ClassVar[str] = (
        "Marion, Fermanian, Biau and Vert (2022), Scaling ResNets in the large-depth regime, "
        "arXiv:2206.06929"
    )

    bandwidth: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", check_bandwidth(self.bandwidth))

    def correlation(self, lags: np.ndarray, depth: int) -> np.ndarray:
        return np.exp(-0.5 * (lags / (depth * self.bandwidth)) ** 2)


def check_bandwidth(value: float) -> float:
    """Return a bandwidth, or raise SpecError."""
    return check_number(
        "bandwidth",
        value,
        low=0.0,
        open_low=True,
        why="It is the length over which weights change, in units of the depth: 0.1 is a "
        "tenth of all layers. For no dependence use process 'independent'.",
    )
