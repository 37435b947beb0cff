"""The bases of what a network is made of: activations, laws of weights, processes and inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sigprop.registry import Registry
from sigprop.spec.member import Member, nested

if TYPE_CHECKING:
    from sigprop.spec.network import Network

__all__ = ["Activation", "Inputs", "Process", "WeightLaw"]


@dataclass(frozen=True, kw_only=True)
class Activation(Member):
    """Base of activations: a function of one real variable and what a law needs of it.

    Class attributes
    ----------------
    code : int
        What kernels switch on, see `sigprop.kernels.activation`.
    homogeneous : bool
        Whether phi(c u) = c phi(u) for every c > 0.
    kinks : tuple of float
        Where the function or its derivative jumps, for quadrature.
    """

    family: ClassVar[Registry[Any]] = Registry("activation")
    code: ClassVar[int]
    homogeneous: ClassVar[bool] = False
    kinks: ClassVar[tuple[float, ...]] = ()

    @property
    def negative_slope(self) -> float | None:
        """The fixed slope s of ``phi(u) = u (u > 0), s u (u <= 0)``, or None."""
        return None

    @property
    def parameters(self) -> tuple[float, float]:
        """The two numbers that kernels receive beside the code."""
        return (0.0, 0.0)

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """phi(u), elementwise."""
        raise NotImplementedError

    def active(self, u: np.ndarray, slopes: np.ndarray | None = None) -> np.ndarray:
        """Which units pass their argument on as it is: those with u > 0."""
        return np.asarray(u) > 0

    def derivative(self, u: np.ndarray) -> np.ndarray:
        """phi'(u), elementwise; at a kink the value for u <= 0."""
        raise NotImplementedError

    def mean(self, variance: float = 1.0) -> float:
        """E phi(sqrt(variance) Z), Z standard normal."""
        raise NotImplementedError

    def second_moment(self, variance: float = 1.0) -> float:
        """E phi(sqrt(variance) Z)^2, Z standard normal."""
        raise NotImplementedError

    def derivative_second_moment(self, variance: float = 1.0) -> float:
        """E phi'(sqrt(variance) Z)^2, Z standard normal."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class WeightLaw(Member):
    """Base of the laws of one weight: symmetric, and of unit variance where it has one.

    A law without variance is of unit scale instead, and ``moment_limit`` says which
    absolute moments exist: those of order below it (inf: all).

    Class attributes
    ----------------
    code : int
        What the dense kernel switches on.
    independent : bool
        Whether the entries of one matrix are independent.
    """

    family: ClassVar[Registry[Any]] = Registry("weight law")
    code: ClassVar[int]
    discrete: ClassVar[bool] = False  # takes few values, so that sums of weights may cancel
    independent: ClassVar[bool] = True

    @property
    def parameter(self) -> float:
        """The number that kernels receive beside the code."""
        return 0.0

    @property
    def moment_limit(self) -> float:
        return math.inf

    @property
    def variance(self) -> float:
        """1.0, or inf for a heavy-tailed law."""
        return 1.0

    @property
    def kurtosis(self) -> float:
        """E w^4 / (E w^2)^2: 3 for the Gaussian; inf or nan where it does not exist.

        Where it depends on the size of the matrix, its limit for large ones.
        """
        raise NotImplementedError

    def sample(self, generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        """Draw with NumPy, float64: the readable definition that kernels are held to."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Process(Member):
    """Base of the dependence of weights along depth.

    The entries at one place of one matrix, layers 1 .. depth, are one path
    ``(v_1 .. v_depth)`` of the process times their standard deviations in the table; the
    entries at two places are independent. Biases are independent from layer to layer.

    Class attributes
    ----------------
    formula, source : str
        What ``sigprop list processes`` prints.
    independent : bool
        Whether the layers are independent, so that every sampler may ignore the process.
    gaussian : bool
        Whether paths are jointly Gaussian, ``paths`` then being a linear map.
    """

    family: ClassVar[Registry[Any]] = Registry("process")
    formula: ClassVar[str]
    source: ClassVar[str]
    independent: ClassVar[bool] = False
    gaussian: ClassVar[bool] = True

    def covariance(self, depth: int) -> np.ndarray:
        """E v_i v_j of the entries at unit scale, shape (depth, depth), layers 1 .. depth."""
        raise NotImplementedError

    def autocovariance(self, depth: int) -> np.ndarray | None:
        """E v_i v_{i+k} for k = 0 .. depth - 1, shape (depth,); None if not stationary."""
        return None

    def draws(self, depth: int) -> int:
        """The number of standard normals that one path consumes."""
        raise NotImplementedError

    def paths(self, normals: np.ndarray, depth: int) -> np.ndarray:
        """Turn independent standard normals into paths; deterministic, row by row.

        Parameters
        ----------
        normals : ndarray, shape (count, draws(depth))
        depth : int

        Returns
        -------
        ndarray, float64, shape (count, depth)
            A new array; column ``i`` belongs to layer ``i + 1``.
        """
        raise NotImplementedError

    def check(self, depth: int) -> None:
        """Raise SpecError if there is no such process on ``depth`` layers."""


@dataclass(frozen=True, kw_only=True)
class Inputs(Member):
    """Base of what enters layer 0: ``count`` vectors, each of norm sqrt(width) unless given."""

    family: ClassVar[Registry[Any]] = Registry("input")

    @property
    def count(self) -> int:
        """K, the number of inputs that one network is given."""
        raise NotImplementedError

    def frame(self) -> np.ndarray | None:
        """Coefficients C, shape (K, K), or None for given vectors.

        With C, ``h_k = sqrt(width) sum_j C[k, j] u_j`` and (u_1 .. u_K) a uniformly random
        orthonormal frame, drawn anew for every replica.
        """
        raise NotImplementedError

    def array(self, width: int) -> np.ndarray | None:
        """The given vectors, shape (K, width), float64, or None where `frame` serves."""
        raise NotImplementedError

    def check(self, network: Network) -> None:
        """Raise SpecError if these inputs cannot enter ``network``."""


nested |= {
    "law": WeightLaw,
    "activation": Activation,
    "process": Process,
    "inner_process": Process,
}
