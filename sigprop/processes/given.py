"""Any dependence of your own: a covariance given as a matrix or as a function of the depth.

>>> import numpy as np
>>> from sigprop import processes
>>> def fading(depth):
...     layer = np.arange(1, depth + 1)
...     return np.minimum.outer(layer, layer) / depth  # Brownian motion
>>> processes.function("fading", fading)  # doctest: +SKIP

From then on ``Power(beta=0.5, process="fading")`` knows it. The source text of the function is
part of the law that a result records, with the values of everything that it refers to.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
import scipy

from sigprop.errors import SpecError
from sigprop.processes.stationary import Plan, factor, on_circle
from sigprop.source import text
from sigprop.spec import Process

__all__ = ["FunctionCovariance", "GivenCovariance", "function"]

_ASYMMETRY = 1e-10  # of the largest entry: rounding of a user's computation


def _checked(value: Any, depth: int | None, name: str) -> np.ndarray:
    """The covariance matrix (2 axes) or autocovariance (1 axis) that ``value`` is."""
    try:
        array = np.array(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"entries of type {array.dtype}")
        array = array.astype(float)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"{name} must be a table of real numbers: {error}. Give an array of shape "
            "(depth, depth), or (depth,) for a stationary one."
        ) from error
    size = array.shape[0] if array.ndim else 0
    if array.shape not in {(size,), (size, size)} or size == 0:
        raise SpecError(
            f"{name} has shape {array.shape}, but a covariance of layers is square. Give an array "
            "of shape (depth, depth), or (depth,) for a stationary one."
        )
    if depth is not None and size != depth:
        raise SpecError(
            f"{name} covers {size} layers, but depth is {depth}. Give one row for each layer, or "
            "a function of the depth (sigprop.processes.function)."
        )
    for place in np.argwhere(~np.isfinite(array))[:1]:
        raise SpecError(
            f"{name} has {array[tuple(place)]} at {tuple(map(int, place))}: covariances are "
            "finite. Correct the entry."
        )
    if array.ndim == 2:
        gap = np.abs(array - array.T)
        if gap.max() > _ASYMMETRY * np.abs(array).max():
            i, j = map(int, np.unravel_index(gap.argmax(), gap.shape))
            raise SpecError(
                f"{name} is not symmetric: {array[i, j]:.6g} at ({i}, {j}) but {array[j, i]:.6g} "
                f"at ({j}, {i}). E v_i v_j has no order: make it symmetric."
            )
        array = (array + array.T) / 2
    return array


def _drawn_by(array: np.ndarray, name: str) -> Plan:
    """How to draw paths with a checked covariance; SpecError if it is not positive definite."""
    if array.ndim == 2:
        return factor(array, name)
    plan = on_circle(array) if len(array) > 1 else None
    return plan or factor(scipy.linalg.toeplitz(array), name)


class _ByArray(Process):
    """What a matrix and a function share, once there is an array."""

    def _array(self, depth: int) -> np.ndarray:
        raise NotImplementedError

    def _plan(self, depth: int) -> Plan:
        raise NotImplementedError

    def covariance(self, depth: int) -> np.ndarray:
        array = self._array(depth)
        return array.copy() if array.ndim == 2 else scipy.linalg.toeplitz(array)

    def autocovariance(self, depth: int) -> np.ndarray | None:
        array = self._array(depth)
        return array.copy() if array.ndim == 1 else None

    def draws(self, depth: int) -> int:
        return self._plan(depth).draws

    def paths(self, normals: np.ndarray, depth: int) -> np.ndarray:
        return self._plan(depth).paths(normals, depth)

    def check(self, depth: int) -> None:
        self._plan(depth)


@Process.family.register("covariance")
@dataclass(frozen=True, kw_only=True)
class GivenCovariance(_ByArray):
    """A Gaussian process with a given covariance matrix, for networks of that one depth.

    Parameters
    ----------
    matrix : array_like, shape (depth, depth) or (depth,)
        E v_i v_j of layers 1 .. depth: symmetric and positive semi-definite; its diagonal
        multiplies the variances of the scheme. One axis is the
        autocovariance of a stationary process. Kept as nested tuples and written into every
        result; for a deep network a function of the depth is smaller (`function`).

    Raises
    ------
    SpecError
        If it is no such matrix; of one that is not positive definite the smallest
        eigenvalue is named.
    """

    formula: ClassVar[str] = (
        "E v_i v_j as given: a matrix (--process FILE.npy), or a function of the depth "
        "(sigprop.processes.function)."
    )
    source: ClassVar[str] = "the user"

    matrix: Any

    def __post_init__(self) -> None:
        array = _checked(self.matrix, None, "the given covariance")
        rows = array.tolist()
        nested = tuple(map(tuple, rows)) if array.ndim == 2 else tuple(rows)
        object.__setattr__(self, "matrix", nested)
        _ = self._drawn  # refused here, where the matrix is at hand

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, Plan]:
        array = np.array(self.matrix)
        return array, _drawn_by(array, "process 'covariance'")

    @cached_property
    def _hash(self) -> int:
        return hash(self.matrix)

    def __hash__(self) -> int:
        return self._hash  # a million entries are hashed once

    def _array(self, depth: int) -> np.ndarray:
        return _checked(self._drawn[0], depth, "the given covariance")

    def _plan(self, depth: int) -> Plan:
        self._array(depth)
        return self._drawn[1]


@dataclass(frozen=True, kw_only=True)
class FunctionCovariance(_ByArray):
    """A covariance that is a Python function of the depth; `function` makes one.

    Attributes
    ----------
    text : str
        Source of the function, written into every result. Given explicitly (as when a result
        is read back), it must be that of the function registered in this process.
    function : callable
        From a depth to an array as in `GivenCovariance`.
    """

    formula: ClassVar[str] = "E v_i v_j as registered."
    source: ClassVar[str] = "the user"
    function: ClassVar[Callable[[int], Any]]
    registered_text: ClassVar[str] = ""

    text: str | None = None

    def __post_init__(self) -> None:
        if not self.kind:
            raise SpecError(
                "FunctionCovariance is made by sigprop.processes.function(name, f), which also "
                "registers the name: a result could not say how it was made otherwise."
            )
        if self.text not in (None, self.registered_text):
            raise SpecError(
                f"the text recorded for process {self.kind!r} is not that of the function "
                "registered here under this name, so the law is another one. Register the "
                "function that the result was made with, or a new name."
            )
        object.__setattr__(self, "text", self.registered_text)

    def _array(self, depth: int) -> np.ndarray:
        return _of_depth(self, depth)

    def _plan(self, depth: int) -> Plan:
        return _plan_of_depth(self, depth)

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made at run time, so a pickle names the function instead.
        return function, (self.kind, type(self).function)


@lru_cache(maxsize=16)
def _of_depth(process: FunctionCovariance, depth: int) -> np.ndarray:
    name = f"the covariance of process {process.kind!r}"
    try:
        value = type(process).function(depth)
    except Exception as error:
        raise SpecError(
            f"{name} failed at depth {depth}: {type(error).__name__}: {error}. It must take a "
            "depth and return an array of shape (depth, depth), or (depth,)."
        ) from error
    return _checked(value, depth, name)


@lru_cache(maxsize=16)
def _plan_of_depth(process: FunctionCovariance, depth: int) -> Plan:
    return _drawn_by(_of_depth(process, depth), f"process {process.kind!r} at depth {depth}")


def function(name: str, covariance: Callable[[int], Any]) -> FunctionCovariance:
    """Make a process of a Python function of the depth, and register it under ``name``.

    Parameters
    ----------
    name : str
        Lower-case letters, digits and underscores. Registering the same function twice is
        harmless; another one under a name that is taken is refused.
    covariance : callable
        From a depth to E v_i v_j, shape (depth, depth), or for a stationary process to its
        autocovariance, shape (depth,). It is called when an ensemble of that depth is made.

    Returns
    -------
    FunctionCovariance

    Raises
    ------
    SpecError
        If the name is taken, or if the source text cannot be had; on an ensemble, if the
        function returns no covariance.

    Notes
    -----
    Status: exact; paths are drawn by circulant embedding or by eigenvectors, see
    `sigprop.processes.stationary`. Cost O(depth^3) once for a matrix.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise SpecError(
            f"a process's name must be lower-case letters, digits and underscores, got {name!r}: "
            "it is typed on command lines and stands in file names."
        )
    if not callable(covariance):
        raise SpecError(
            f"process {name!r} must be a function of the depth, got {covariance!r}. For a matrix "
            "use GivenCovariance(matrix=...)."
        )
    source = text(covariance)
    if name in Process.family:
        standing = Process.family[name]
        if getattr(standing, "registered_text", None) != source:
            raise SpecError(
                f"the process {name!r} is registered already and is another one: one name would "
                "stand for two laws. Choose another name."
            )
        return standing()
    members = {
        "__doc__": f"The covariance registered as {name!r}.",
        "function": staticmethod(covariance),
        "registered_text": source,
    }
    made = type(name, (FunctionCovariance,), members)
    return Process.family.register(name)(made)()
