"""Gaussian moments by quadrature, for activations that have no closed form.

The quadrature states its error; a moment whose error is not small is refused rather than
returned, since a scheme would build it into every weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sigprop.errors import SpecError
from sigprop.gaussian import Function, expectation
from sigprop.spec import Activation

__all__ = ["ByQuadrature"]

_WORST = 1e-8


@dataclass(frozen=True, kw_only=True)
class ByQuadrature(Activation):
    """Base of activations whose moments are computed, to a relative error below 1e-8.

    For the built-in ones it is below 1e-13 (mean: of ``E |phi|``), which the tests check.
    """

    def _average(self, function: Function, variance: float, *, signed: bool = False) -> float:
        found = expectation(function, variance=variance, kinks=self.kinks)
        size = found.value
        if signed:
            size = expectation(lambda u: np.abs(function(u)), variance=variance).value
        if found.error > _WORST * max(abs(size), np.finfo(float).tiny):
            raise SpecError(
                f"a Gaussian moment of {self.kind!r} at variance {variance:g} is "
                f"{found.value:.6g} with an error of {found.error:.1g}, too large for a scheme "
                "to be built on. Name the points where the function jumps as kinks."
            )
        return found.value

    def mean(self, variance: float = 1.0) -> float:
        return self._average(self, variance, signed=True)

    def second_moment(self, variance: float = 1.0) -> float:
        return self._average(lambda u: self(u) ** 2, variance)

    def derivative_second_moment(self, variance: float = 1.0) -> float:
        return self._average(lambda u: self.derivative(u) ** 2, variance)
