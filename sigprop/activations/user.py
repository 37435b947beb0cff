"""Any Python function of one number as an activation.

>>> import math
>>> from sigprop import activations
>>> def softplus(u):
...     return max(u, 0.0) + math.log1p(math.exp(-abs(u)))
>>> def logistic(u):
...     return 1 / (1 + math.exp(-u))
>>> activations.function("softplus", softplus, derivative=logistic)  # doctest: +SKIP

From then on ``Network(activation="softplus")`` knows it. The source text of the function
is part of the law that a result records, with the values of everything that it refers to,
so that two different functions of one name never share a digest.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sigprop.activations import _codes
from sigprop.activations._quadrature import ByQuadrature
from sigprop.errors import SpecError, Unsupported
from sigprop.source import text
from sigprop.spec import Activation, check_number

__all__ = ["FunctionActivation", "function"]

Scalar = Callable[[float], float]

_PROBES = (-7.3, -3.1, -1.4, -0.6, -0.21, 0.17, 0.5, 1.3, 2.9, 6.7)


@dataclass(frozen=True, kw_only=True)
class FunctionActivation(ByQuadrature):
    """An activation given by a Python function; `function` makes and registers one.

    Attributes
    ----------
    source, derivative_source : str
        The texts, written into every result. Given explicitly (as when a result is read
        back), they must be those of the function registered in this process.
    function, derivative_function : callable
        Scalar Python functions, which a kernel compiles once a process;
        ``derivative_function`` is None where none was given.
    differentiable : bool
        Whether a derivative was given, hence whether there are gradients to measure.
    """

    code: ClassVar[int] = _codes.USER
    function: ClassVar[Scalar]
    derivative_function: ClassVar[Scalar | None] = None
    texts: ClassVar[tuple[str, str]] = ("", "")

    source: str | None = None
    derivative_source: str | None = None

    def __post_init__(self) -> None:
        if not self.kind:
            raise SpecError(
                "FunctionActivation is made by sigprop.activations.function(name, f), which "
                "also registers the name: a result could not say how it was made otherwise."
            )
        for field, written in zip(("source", "derivative_source"), self.texts, strict=True):
            if getattr(self, field) not in (None, written):
                raise SpecError(
                    f"the {field} recorded for activation {self.kind!r} is not that of the "
                    "function registered here under this name, so the law is another one. "
                    "Register the function that the result was made with, or a new name."
                )
            object.__setattr__(self, field, written)

    @property
    def differentiable(self) -> bool:
        return type(self).derivative_function is not None

    def __call__(self, u: np.ndarray) -> np.ndarray:
        return _over(type(self).function, u, self.kind)

    def derivative(self, u: np.ndarray) -> np.ndarray:
        slope = type(self).derivative_function
        if slope is None:
            raise Unsupported(
                f"activation {self.kind!r} was registered without a derivative, so nothing can "
                "be said of gradients. Give sigprop.activations.function its derivative=."
            )
        return _over(slope, u, self.kind)

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made at run time, so a pickle names the functions instead.
        made = type(self)
        arguments = (self.kind, made.function, made.derivative_function)
        return function, (*arguments, made.kinks, made.homogeneous)


def function(
    name: str,
    function: Scalar,
    derivative: Scalar | None = None,
    kinks: Sequence[float] = (),
    homogeneous: bool = False,
) -> FunctionActivation:
    """Make an activation of a Python function, and register it under ``name``.

    Parameters
    ----------
    name : str
        Lower-case letters, digits and underscores. Registering the same function twice is
        harmless; another one under a name that is taken is refused.
    function : callable
        One float to one float, written so that Numba can compile it: ``math`` and
        ``numpy`` functions, ``if``, arithmetic.
    derivative : callable, optional
        Its derivative; without it gradients are Unsupported. It is checked against finite
        differences. At a kink it gives the value of the left side.
    kinks : sequence of float
        Where the function or its derivative jumps.
    homogeneous : bool
        Whether ``f(c u) = c f(u)`` for every c > 0; it is checked.

    Raises
    ------
    SpecError
        If the function does not return finite numbers, if the derivative or the
        homogeneity does not hold, or if the source text cannot be had.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise SpecError(
            f"an activation's name must be lower-case letters, digits and underscores, got "
            f"{name!r}: it is typed on command lines and stands in file names."
        )
    function = getattr(function, "py_func", function)
    derivative = getattr(derivative, "py_func", derivative)
    kinks = tuple(sorted({check_number("each of kinks", k) for k in kinks}))
    _check_values(name, function)
    if homogeneous:
        _check_homogeneous(name, function)
        kinks = tuple(sorted({*kinks, 0.0}))
    if derivative is not None:
        _check_derivative(name, function, derivative, kinks)
    texts = (text(function), "" if derivative is None else text(derivative))
    wanted = {"texts": texts, "kinks": kinks, "homogeneous": bool(homogeneous)}
    if name in Activation.family:
        standing = Activation.family[name]
        if any(getattr(standing, field, None) != value for field, value in wanted.items()):
            raise SpecError(
                f"the activation {name!r} is registered already and is another function: one "
                "name would stand for two laws. Choose another name."
            )
        return standing()
    members = {
        "__doc__": f"The function registered as {name!r}.",
        "function": staticmethod(function),
        "derivative_function": None if derivative is None else staticmethod(derivative),
        **wanted,
    }
    made = type(name, (FunctionActivation,), members)
    return Activation.family.register(name)(made)()


# ----------------------------------------------------------------- evaluation


def _over(function: Scalar, u: np.ndarray, name: str) -> np.ndarray:
    try:
        return np.asarray(np.vectorize(function, otypes=[float])(np.asarray(u, float)))
    except (ArithmeticError, ValueError) as error:
        raise SpecError(
            f"activation {name!r} failed between {np.min(u):.4g} and {np.max(u):.4g}: {error}. "
            "A network would meet the same values: rewrite it so that it does not overflow."
        ) from error


def _check_values(name: str, function: Scalar) -> None:
    if not callable(function):
        raise SpecError(f"activation {name!r} must be a function of one number, got {function!r}.")
    for u in (0.0, *_PROBES):
        try:
            value = function(u)
        except Exception as error:
            raise SpecError(
                f"activation {name!r} failed at {u:g}: {type(error).__name__}: {error}. It must "
                "take one float and return one."
            ) from error
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise SpecError(
                f"activation {name!r} gives {value!r} at {u:g}, not a finite number. It must "
                "take one float and return one."
            )


def _check_homogeneous(name: str, function: Scalar) -> None:
    for u in _PROBES:
        for c in (0.3, 4.0):
            if not math.isclose(function(c * u), c * function(u), rel_tol=1e-9, abs_tol=1e-12):
                raise SpecError(
                    f"activation {name!r} is not positively homogeneous: f({c:g} u) = "
                    f"{function(c * u):.6g} but {c:g} f(u) = {c * function(u):.6g} at "
                    f"u = {u:g}. Samplers rely on it: leave homogeneous=False."
                )


def _check_derivative(
    name: str, function: Scalar, derivative: Scalar, kinks: Sequence[float]
) -> None:
    step = 1e-5
    _check_values(f"{name}' (the derivative)", derivative)
    for u in _PROBES:
        if any(abs(u - kink) < 2 * step for kink in kinks):
            continue
        slope = (function(u + step) - function(u - step)) / (2 * step)
        if not math.isclose(derivative(u), slope, rel_tol=1e-4, abs_tol=1e-5):
            raise SpecError(
                f"the derivative given for activation {name!r} is {derivative(u):.6g} at "
                f"u = {u:g}, where the function's slope is {slope:.6g}. Gradients would be "
                "wrong: correct it, or name the kink."
            )
