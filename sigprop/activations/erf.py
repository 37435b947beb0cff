r"""The error function, whose Gaussian moments are all elementary.

With :math:`u = \sigma Z`, :math:`E\,\mathrm{erf}(u)^2 = \frac{2}{\pi} \arcsin
\frac{2\sigma^2}{1 + 2\sigma^2}` (Williams, 1997) and :math:`E\,\mathrm{erf}'(u)^2 =
\frac{4}{\pi} (1 + 4\sigma^2)^{-1/2}`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.activations import _codes
from sigprop.spec import Activation, check_number

__all__ = ["Erf"]


@Activation.family.register("erf")
@dataclass(frozen=True, kw_only=True)
class Erf(Activation):
    """phi(u) = erf(u), the plain error function: no factor sqrt(pi)/2 or 1/sqrt(2)."""

    code: ClassVar[int] = _codes.ERF

    def __call__(self, u: np.ndarray) -> np.ndarray:
        from scipy.special import erf

        return np.asarray(erf(np.asarray(u, float)))

    def derivative(self, u: np.ndarray) -> np.ndarray:
        return 2 / math.sqrt(math.pi) * np.exp(-np.square(np.asarray(u, float)))

    def mean(self, variance: float = 1.0) -> float:
        check_number("variance", variance, low=0.0)
        return 0.0

    def second_moment(self, variance: float = 1.0) -> float:
        v = check_number("variance", variance, low=0.0)
        # asin(2v / (1 + 2v)), in a form that keeps its digits for large v.
        return 2 / math.pi * math.atan2(2 * v, math.sqrt(1 + 4 * v))

    def derivative_second_moment(self, variance: float = 1.0) -> float:
        v = check_number("variance", variance, low=0.0)
        return 4 / (math.pi * math.sqrt(1 + 4 * v))
