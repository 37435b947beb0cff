"""Long memory without Gaussian paths: a polynomial of a Gaussian process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy

from sigprop.errors import SpecError
from sigprop.processes.cauchy import Cauchy, check_decay
from sigprop.spec import Process, check_count

__all__ = ["Hermite"]

_HIGHEST = 20


@Process.family.register("hermite")
@dataclass(frozen=True, kw_only=True)
class Hermite(Process):
    """The Hermite polynomial of a Cauchy path, with variance 1: v = He_rank(x) / sqrt(rank!).

    Weights are not Gaussian (a centred chi-square at rank 2), though made of Gaussian
    numbers. For rank * decay < 1 sums of N layers have variance of order N^(2H),
    H = 1 - rank decay / 2, and their limit is a Hermite process instead of fractional
    Brownian motion.

    Parameters
    ----------
    rank : int
        Degree of the polynomial, 1 .. 20 (1: the Gaussian path itself). Required.
    decay : float
        Exponent of the Gaussian path, E x_i x_(i+k) = (1 + k)^-decay, above 0. Required.
    """

    formula: ClassVar[str] = (
        "v = He_rank(x) / sqrt(rank!), x Gaussian with E x_i x_(i+k) = (1 + |k|)^-decay; "
        "E v_i v_(i+k) = (1 + |k|)^-(rank decay)."
    )
    source: ClassVar[str] = (
        "Benning, Nourdin and Peccati (2026), Correlated initialization of deep residual "
        "networks (recalled); Taqqu (1979), Convergence of integrated processes of arbitrary "
        "Hermite rank"
    )
    gaussian: ClassVar[bool] = False

    rank: int
    decay: float

    def __post_init__(self) -> None:
        rank = check_count("rank", self.rank, why="It is the degree of a polynomial.")
        if rank > _HIGHEST:
            raise SpecError(
                f"rank must be at most {_HIGHEST}, got {rank}: polynomials of higher degree have "
                "tails that no number of draws shows. Use a smaller rank."
            )
        object.__setattr__(self, "rank", rank)
        object.__setattr__(self, "decay", check_decay(self.decay))

    @property
    def driver(self) -> Cauchy:
        """The Gaussian process x."""
        return Cauchy(decay=self.decay)

    def autocovariance(self, depth: int) -> np.ndarray:
        return self.driver.autocovariance(depth) ** self.rank

    def covariance(self, depth: int) -> np.ndarray:
        return scipy.linalg.toeplitz(self.autocovariance(depth))

    def draws(self, depth: int) -> int:
        return self.driver.draws(depth)

    def paths(self, normals: np.ndarray, depth: int) -> np.ndarray:
        x = self.driver.paths(normals, depth)
        before, polynomial = np.ones_like(x), x
        # Normalised: sqrt(n + 1) e_(n+1) = x e_n - sqrt(n) e_(n-1), with E e_n^2 = 1.
        for n in range(1, self.rank):
            following = (x * polynomial - math.sqrt(n) * before) / math.sqrt(n + 1)
            before, polynomial = polynomial, following
        return polynomial
