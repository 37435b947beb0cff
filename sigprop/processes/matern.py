"""Weights of any smoothness, from a random walk that forgets to a smooth curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy

from sigprop.processes.rbf import check_bandwidth
from sigprop.processes.stationary import Stationary
from sigprop.spec import Process, check_number

__all__ = ["Matern"]

_SMOOTHEST = 30.0


@Process.family.register("matern")
@dataclass(frozen=True, kw_only=True)
class Matern(Stationary):
    """Paths with ``smoothness`` derivatives, which change over ``bandwidth`` of the depth.

    At smoothness 1/2 it is the Ornstein-Uhlenbeck process, with paths as rough as Brownian
    motion; towards infinity it is ``rbf``.

    Parameters
    ----------
    smoothness : float
        The index nu, in (0, 30]; paths are k times differentiable for k < nu. Required.
        Beyond 30 the kernel is that of ``rbf`` to about a hundredth.
    bandwidth : float
        In units of the depth, above 0. Required.
    """

    formula: ClassVar[str] = (
        "E v_i v_(i+k) = 2^(1-nu) / Gamma(nu) x^nu K_nu(x), nu = smoothness, "
        "x = sqrt(2 nu) t / bandwidth, t = k / depth."
    )
    source: ClassVar[str] = (
        "Matern (1960), Spatial variation; the form of Rasmussen and Williams (2006), Gaussian "
        "processes for machine learning"
    )

    smoothness: float
    bandwidth: float

    def __post_init__(self) -> None:
        why = "It counts derivatives of a path; for smoother ones use process 'rbf'."
        smoothness = check_number(
            "smoothness", self.smoothness, low=0.0, high=_SMOOTHEST, open_low=True, why=why
        )
        object.__setattr__(self, "smoothness", smoothness)
        object.__setattr__(self, "bandwidth", check_bandwidth(self.bandwidth))

    def correlation(self, lags: np.ndarray, depth: int) -> np.ndarray:
        nu = self.smoothness
        x = math.sqrt(2 * nu) * np.asarray(lags, float) / (depth * self.bandwidth)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            log = (
                nu * np.log(x / 2)
                - scipy.special.gammaln(nu)
                - x
                + np.log(2 * scipy.special.kve(nu, x))
            )
        # K_nu overflows at x where the correlation is 1 to the last digit, for nu up to 30.
        return np.where(np.isnan(log) | np.isposinf(log), 1.0, np.exp(np.minimum(log, 0.0)))
