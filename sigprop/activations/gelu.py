r"""The Gaussian error linear unit, with the moments that Stein's lemma gives it.

With v the variance of u, F its distribution function and f its density at unit variance,

.. math::
    E\,uF(u) &= \frac{v}{\sqrt{2\pi(1+v)}}, \\
    E\,u^2F^2 &= \frac v4 + \frac{v}{2\pi}\arcsin\frac{v}{1+v}
                 + \frac{v^2}{\pi(1+v)\sqrt{1+2v}}, \\
    E\,(F+uf)^2 &= \frac14 + \frac{1}{2\pi}\arcsin\frac{v}{1+v}
                 + \frac{v}{\pi(1+v)\sqrt{1+2v}} + \frac{v}{2\pi(1+2v)^{3/2}}.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.activations import _codes
from sigprop.spec import Activation, check_number

__all__ = ["GELU"]


@Activation.family.register("gelu")
@dataclass(frozen=True, kw_only=True)
class GELU(Activation):
    """phi(u) = u F(u), F the standard normal distribution function, not its tanh fit.

    Hendrycks and Gimpel (2016), arXiv:1606.08415.
    """

    code: ClassVar[int] = _codes.GELU

    def __call__(self, u: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr

        u = np.asarray(u, float)
        return np.asarray(u * ndtr(u))

    def derivative(self, u: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr

        u = np.asarray(u, float)
        return np.asarray(ndtr(u) + u * np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi))

    def mean(self, variance: float = 1.0) -> float:
        v = check_number("variance", variance, low=0.0)
        return v / math.sqrt(2 * math.pi * (1 + v))

    def second_moment(self, variance: float = 1.0) -> float:
        v = check_number("variance", variance, low=0.0)
        return v * (_mean_square_normal(v) + v / (math.pi * (1 + v) * math.sqrt(1 + 2 * v)))

    def derivative_second_moment(self, variance: float = 1.0) -> float:
        v = check_number("variance", variance, low=0.0)
        root = math.sqrt(1 + 2 * v)
        return _mean_square_normal(v) + v / math.pi * (1 / ((1 + v) * root) + 1 / (2 * root**3))


def _mean_square_normal(v: float) -> float:
    """E F(u)^2; the arc sine as an arc tangent, which keeps its digits for large v."""
    return 1 / 4 + math.atan2(v, math.sqrt(1 + 2 * v)) / (2 * math.pi)
