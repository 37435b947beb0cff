r"""Stationary Gaussian paths, drawn exactly from their autocovariance.

**Circulant embedding.** Let :math:`\rho(0), \rho(1), ..` be the autocovariance and wrap it
around a circle of m = 2M >= 2 (depth - 1) places, :math:`c_k = \rho(\min(k, m - k))`. A
circulant covariance is diagonal in the Fourier basis, with eigenvalues

.. math:: \lambda_f = \sum_{k < m} c_k\, e^{-2\pi i f k / m} .

Where none is negative, the real Fourier series with independent normal coefficients of
variance :math:`\lambda_f / m` has this covariance on the circle, and any depth neighbours of
it are an exact path. This costs O(m log m) a path instead of O(depth^2) (Davies and Harte
1987; Wood and Chan 1994; Dietrich and Newsam 1997). The circle is enlarged up to eight
times if an eigenvalue is negative.

**Eigenvectors.** If that does not help, :math:`v = U \Lambda^{1/2} Z` with the eigenvalues of
the covariance matrix itself.

**What is cut off.** Rounding leaves eigenvalues of either sign where the true ones vanish.
Those below 2e-15 of the largest one are set to 0, and so are negative ones down to -1e-12 of
it, with which a circle still passes. An entry of the covariance changes by no more than the
largest absolute value that is cut, since the squares of one coordinate of all eigenvectors add
up to 1; for the kernels here the change is below 1e-11 of a variance. Smooth kernels keep few
eigenvalues, and a path then takes few normals.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Protocol

import numpy as np
import scipy

from sigprop.errors import SpecError, Unsupported
from sigprop.spec import Process

__all__ = ["Factor", "Plan", "Series", "Stationary", "factor", "on_circle", "require_stationary"]

_NEGATIVE = 1e-12  # of the largest eigenvalue: beyond rounding, the embedding is invalid
_BATCH = 2**16  # numbers in one batch of transforms
_CIRCLES = (1, 2, 4, 8)  # sizes tried, in multiples of the depth
_CUT = 2e-15  # of the largest eigenvalue: smaller ones are rounding
_ROUNDING = 1e-10  # of the largest eigenvalue of a matrix: rounding of a user's entries


# ------------------------------------------------------------------------ plans


class Plan(Protocol):
    """A way from normals to paths: see `Process.draws` and `Process.paths`."""

    draws: int

    def paths(self, normals: np.ndarray, depth: int) -> np.ndarray: ...


class Series:
    """Paths by a Fourier series on a circle.

    Parameters
    ----------
    eigenvalues : ndarray, shape (places / 2 + 1,)
        Of the circulant covariance, at frequencies 0 .. places / 2; 0 for those left out.
    places : int
        Number of places on the circle, even.
    """

    def __init__(self, eigenvalues: np.ndarray, places: int) -> None:
        present = eigenvalues > 0
        ends = np.isin(np.arange(len(eigenvalues)), (0, places // 2))
        # Frequency 0 and the highest one have no partner: one normal each, of full variance;
        # the others a real and an imaginary part, of half of it.
        self.alone = np.flatnonzero(present & ends)
        paired = np.flatnonzero(present & ~ends)
        self.paired = _as_slice(paired)
        amplitude = np.sqrt(places * np.where(present, eigenvalues, 0.0))
        self.alone_amplitude = amplitude[self.alone]
        self.paired_amplitude = amplitude[paired] / math.sqrt(2)
        self.places = places
        self.draws = 2 * len(paired) + len(self.alone)

    def paths(self, normals: np.ndarray, depth: int) -> np.ndarray:
        """The paired normals stand first, as real and imaginary parts."""
        paired = 2 * len(self.paired_amplitude)
        path = np.empty((len(normals), depth))
        # A batch of rows stays in the cache of a core; zeros stay zeros from batch to batch.
        batch = max(1, _BATCH // self.places)
        spectrum = np.zeros((batch, self.places // 2 + 1), complex)
        for first in range(0, len(normals), batch):
            z = np.ascontiguousarray(normals[first : first + batch], float)
            rows = spectrum[: len(z)]
            pairs = np.ascontiguousarray(z[:, :paired]).view(complex)
            rows[:, self.paired] = self.paired_amplitude * pairs
            rows[:, self.alone] = self.alone_amplitude * z[:, paired:]
            path[first : first + batch] = scipy.fft.irfft(rows, n=self.places, axis=1)[:, :depth]
        return path


def _as_slice(indices: np.ndarray) -> slice | np.ndarray:
    """The same places as a slice, if they have no gap: it is copied faster."""
    if len(indices) and indices[-1] - indices[0] == len(indices) - 1:
        return slice(int(indices[0]), int(indices[-1]) + 1)
    return indices


class Factor:
    """Paths as a matrix times normals: ``matrix``, shape (depth, draws)."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.rows = np.ascontiguousarray(matrix.T)
        self.draws = matrix.shape[1]

    def paths(self, normals: np.ndarray, depth: int) -> np.ndarray:
        # Not a BLAS product, whose last bits depend on the number of rows and of threads.
        return np.einsum("nk,kl->nl", np.asarray(normals, float), self.rows)


def _kept(eigenvalues: np.ndarray) -> np.ndarray:
    """Eigenvalues with those that are nothing but rounding set to 0."""
    return np.where(eigenvalues > _CUT * eigenvalues.max(), eigenvalues, 0.0)


def on_circle(rho: np.ndarray) -> Series | None:
    """The plan on the circle of 2 M places, or None if it has a negative eigenvalue.

    Parameters
    ----------
    rho : ndarray, shape (M + 1,)
        Autocovariance at lags 0 .. M, M at least 1. Paths may have M + 1 layers.
    """
    eigenvalues = scipy.fft.rfft(np.concatenate([rho, rho[-2:0:-1]])).real
    if eigenvalues.min() < -_NEGATIVE * eigenvalues.max():
        return None
    return Series(_kept(eigenvalues), 2 * (len(rho) - 1))


def factor(covariance: np.ndarray, name: str) -> Factor:
    """The plan for any covariance matrix, shape (depth, depth), by its eigenvectors.

    Raises
    ------
    SpecError
        If the matrix has an eigenvalue that is negative beyond rounding; ``name`` says
        whose it is.
    """
    values, vectors = scipy.linalg.eigh(covariance)
    lowest, highest = float(values[0]), float(max(values[-1], 0.0))
    if lowest < -_ROUNDING * highest or highest == 0.0 > lowest:
        raise SpecError(
            f"the covariance of {name} is not positive definite: its smallest eigenvalue is "
            f"{lowest:.6g} (the largest {highest:.6g}), so no random path has it. Correct it, "
            f"for instance by adding {-lowest:.3g} to its diagonal."
        )
    kept = _kept(values)
    used = np.flatnonzero(kept)[::-1]
    return Factor(vectors[:, used] * np.sqrt(kept[used]))


# -------------------------------------------------------------------- processes


class Stationary(Process):
    """Base of stationary Gaussian processes: a subclass gives its `correlation`."""

    def correlation(self, lags: np.ndarray, depth: int) -> np.ndarray:
        """E v_i v_(i+k) at any non-negative lags k, 1 at lag 0; ``depth`` is the unit of time."""
        raise NotImplementedError

    def autocovariance(self, depth: int) -> np.ndarray:
        return self.correlation(np.arange(float(depth)), depth)

    def covariance(self, depth: int) -> np.ndarray:
        return scipy.linalg.toeplitz(self.autocovariance(depth))

    def draws(self, depth: int) -> int:
        return _plan(self, depth).draws

    def paths(self, normals: np.ndarray, depth: int) -> np.ndarray:
        return _plan(self, depth).paths(normals, depth)


@lru_cache(maxsize=64)
def _plan(process: Stationary, depth: int) -> Plan:
    if depth == 1:
        return Factor(np.sqrt(process.autocovariance(1))[:, None])
    half = scipy.fft.next_fast_len(depth, real=True)
    for size in _CIRCLES:
        plan = on_circle(process.correlation(np.arange(size * half + 1.0), depth))
        if plan is not None:
            return plan
    return factor(process.covariance(depth), f"process {process.kind!r}")


def require_stationary(process: Process, depth: int) -> np.ndarray:
    """Return ``process.autocovariance(depth)``, shape (depth,).

    Raises
    ------
    Unsupported
        If the process is not stationary, so that it has none.
    """
    rho = process.autocovariance(depth)
    if rho is None:
        raise Unsupported(
            f"process {process.kind!r} is not stationary: its covariance depends on the layers "
            "themselves and not on their distance, so there is no autocovariance. Use a "
            "stationary process, such as 'fgn' or 'rbf', or a method for any covariance."
        )
    return rho
