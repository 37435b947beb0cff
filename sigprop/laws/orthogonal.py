"""Weights whose matrix is orthogonal, uniformly among all such matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.spec import WeightLaw

__all__ = ["Orthogonal"]


@WeightLaw.family.register("orthogonal")
@dataclass(frozen=True, kw_only=True)
class Orthogonal(WeightLaw):
    """Uniform (Haar) among the matrices that keep lengths, made to entries of variance 1.

    A matrix of r rows and c columns has orthonormal columns if r >= c and orthonormal rows
    otherwise, times sqrt(max(r, c)). Then an entry has variance 1, as under every law, and a
    scheme's variance means what it says: with 1 / max(r, c) the matrix is an isometry, or a
    projection if r < c. Entries of one matrix depend on each other; matrices are independent.
    """

    code: ClassVar[int] = 5
    independent: ClassVar[bool] = False

    @property
    def kurtosis(self) -> float:
        """3, in the limit of large matrices; 3 n / (n + 2) with n the larger side."""
        return 3.0

    @property
    def moments_text(self) -> str:
        """One clause that says which moments of a weight exist."""
        return "every moment exists; the entries of a matrix depend on each other"

    def sample(self, generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        rows, columns = size[-2:]
        tall = (*size[:-2], max(rows, columns), min(rows, columns))
        return self.of_normals(generator.standard_normal(tall), rows, columns)

    @staticmethod
    def of_normals(tall: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """The matrix that is made of standard normals, shape (..., longer side, shorter side)."""
        q, r = np.linalg.qr(tall)
        # The sign makes it Haar: without it Q depends on the convention of the library.
        q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
        return math.sqrt(max(rows, columns)) * (q if rows >= columns else q.swapaxes(-1, -2))
