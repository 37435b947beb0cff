"""What enters a network: a point on the sphere, inputs at one angle, a batch, or given vectors.

For rotation-invariant weights only the lengths and angles of the inputs matter, and for
other weights a random orientation, drawn anew for every network, makes a result a
property of the law and not of a direction. Hence a point, a pair and equiangular inputs are
drawn uniformly on the sphere of radius sqrt(width); given vectors are taken as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sigprop.errors import SpecError
from sigprop.spec import Inputs, Network, check_count, check_number

__all__ = ["Batch", "Equiangular", "Given", "Pair", "Point"]


@Inputs.family.register("point")
@dataclass(frozen=True, kw_only=True)
class Point(Inputs):
    """One input, uniform on the sphere of radius sqrt(width)."""

    @property
    def count(self) -> int:
        return 1

    def frame(self) -> np.ndarray:
        return np.ones((1, 1))

    def array(self, width: int) -> None:
        return None


@Inputs.family.register("pair")
@dataclass(frozen=True, kw_only=True)
class Pair(Inputs):
    """Two inputs at a given angle, uniform on the sphere of radius sqrt(width) otherwise.

    Parameters
    ----------
    cosine : float
        Cosine of the angle between them, from -1 to below 1 (default 0.5). At 1 they
        would be one input, whose distance stays 0.
    """

    cosine: float = 0.5

    def __post_init__(self) -> None:
        cosine = check_number(
            "cosine",
            self.cosine,
            low=-1.0,
            high=1.0,
            open_high=True,
            why="It is that of the angle between two different inputs; for one input use Point.",
        )
        object.__setattr__(self, "cosine", cosine)

    @property
    def count(self) -> int:
        return 2

    def frame(self) -> np.ndarray:
        across = math.sqrt((1 - self.cosine) * (1 + self.cosine))
        return np.array([[1.0, 0.0], [self.cosine, across]])

    def array(self, width: int) -> None:
        return None

    def check(self, network: Network) -> None:
        width = network.input_size
        if width < 2:
            raise SpecError(
                f"a pair of inputs at an angle needs a width of at least 2, got {width}: on a "
                "line there is no angle. Use inputs Point, or Given with two numbers."
            )


@Inputs.family.register("equiangular")
@dataclass(frozen=True, kw_only=True)
class Equiangular(Inputs):
    """Several inputs, every two at the same angle, in a uniformly random position.

    A cone of inputs, as data are: vectors with independent entries, uniform on [0, 1], have
    cosines near 3/4, which is the default.

    Parameters
    ----------
    count : int
        K, at least 2 (default 10).
    cosine : float
        Cosine of the angle between any two, from -1 / (K - 1), below which there are no K
        such vectors, to below 1 (default 0.75).
    """

    count: int = 10
    cosine: float = 0.75

    def __post_init__(self) -> None:
        count = check_count("count", self.count, least=2, why="For one input use Point.")
        cosine = check_number(
            "cosine",
            self.cosine,
            low=-1 / (count - 1),
            high=1.0,
            open_high=True,
            why=f"No {count} vectors have a smaller cosine between every two, and at 1 they would "
            "be one input.",
        )
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "cosine", cosine)

    def frame(self) -> np.ndarray:
        # The Cholesky factor of (1 - c) I + c 11^T: below its diagonal a column is constant.
        factor = np.zeros((self.count, self.count))
        used = 0.0
        for j in range(self.count):
            factor[j, j] = math.sqrt(max(0.0, 1.0 - used))
            if j + 1 < self.count:
                below = (self.cosine - used) / factor[j, j]
                factor[j + 1 :, j] = below
                used += below**2
        return factor

    def array(self, width: int) -> None:
        return None

    def check(self, network: Network) -> None:
        width = network.input_size
        if width < self.count:
            raise SpecError(
                f"{self.count} equiangular inputs need a width of at least {self.count}, got "
                f"{width}: they are made of as many orthogonal directions. Use a smaller count "
                "or a larger width."
            )


@Inputs.family.register("batch")
@dataclass(frozen=True, kw_only=True)
class Batch(Inputs):
    """Many inputs of independent standard normal entries, drawn once for all networks.

    A batch is what batch normalisation takes its means over. It is part of the law: the
    ``draw`` fixes it, whatever the seed of the run.

    Parameters
    ----------
    count : int
        K, at least 1 (default 100).
    draw : int
        Which batch, 0 .. 2^64 - 1 (default 0).
    """

    count: int = 100
    draw: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", check_count("count", self.count))
        draw = check_count("draw", self.draw, least=0, why="It names the batch.")
        if draw >= 2**64:
            raise SpecError(f"draw must be below 2**64, got {draw}: it is a 64-bit word.")
        object.__setattr__(self, "draw", draw)

    def frame(self) -> None:
        return None

    def array(self, width: int) -> np.ndarray:
        words = np.array([self.draw, 0], np.uint64)
        generator = np.random.Generator(np.random.Philox(key=words))
        return generator.standard_normal((self.count, width))


@Inputs.family.register("given")
@dataclass(frozen=True)
class Given(Inputs):
    """K given vectors, the same for every network.

    Parameters
    ----------
    vectors : array_like, shape (K, width) or (width,)
        Finite numbers; no row zero and no two rows equal, since norms and distances are
        measured relative to those at layer 0. Kept as nested tuples.
    """

    vectors: Any

    def __post_init__(self) -> None:
        try:
            array = np.array(self.vectors)
            if array.dtype.kind not in "biuf":
                raise TypeError(f"entries of type {array.dtype}")
            array = array.astype(float)
        except (TypeError, ValueError) as error:
            raise SpecError(
                f"given inputs must be a table of real numbers, K rows of equal length: {error}. "
                "Give an array of shape (K, width)."
            ) from error
        array = array[None, :] if array.ndim == 1 else array
        if array.ndim != 2 or 0 in array.shape:
            raise SpecError(
                f"given inputs must have shape (K, width), got {np.shape(self.vectors)}: one row "
                "an input. Reshape the array."
            )
        self._check_rows(array)
        object.__setattr__(self, "vectors", tuple(map(tuple, array.tolist())))

    @staticmethod
    def _check_rows(array: np.ndarray) -> None:
        for row, column in np.argwhere(~np.isfinite(array))[:1]:
            raise SpecError(
                f"given input {row} has {array[row, column]} at position {column}: nothing that "
                "is not finite can be propagated. Remove or replace it."
            )
        with np.errstate(over="ignore", under="ignore"):
            squares = (array**2).sum(axis=1)
        for row in np.flatnonzero((squares == 0) | ~np.isfinite(squares))[:1]:
            raise SpecError(
                f"given input {row} has norm {math.sqrt(squares[row]):g}, but norms are measured "
                "relative to it, in double precision. Remove the row or rescale it."
            )
        distinct, first = np.unique(array, axis=0, return_index=True)
        if len(distinct) < len(array):
            row = min(set(range(len(array))) - set(first.tolist()))
            twin = int(np.flatnonzero((array == array[row]).all(axis=1))[0])
            raise SpecError(
                f"given inputs {twin} and {row} are equal, so their distance stays 0 and "
                "separability means nothing. Remove one of them."
            )

    @property
    def count(self) -> int:
        return len(self.vectors)

    def frame(self) -> None:
        return None

    def array(self, width: int) -> np.ndarray:
        return np.array(self.vectors)

    def check(self, network: Network) -> None:
        width, columns = network.input_size, len(self.vectors[0])
        if columns != width:
            raise SpecError(
                f"given inputs have {columns} numbers each, but the network reads {width}. Set "
                f"width = {columns}, or give rows of {width}."
            )
