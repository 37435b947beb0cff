"""The hyperbolic tangent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.activations import _codes
from sigprop.activations._quadrature import ByQuadrature
from sigprop.spec import Activation, check_number

__all__ = ["Tanh"]


@Activation.family.register("tanh")
@dataclass(frozen=True, kw_only=True)
class Tanh(ByQuadrature):
    """phi(u) = tanh(u). Odd, so its mean is 0; other moments by quadrature."""

    code: ClassVar[int] = _codes.TANH

    def __call__(self, u: np.ndarray) -> np.ndarray:
        return np.tanh(np.asarray(u, float))

    def derivative(self, u: np.ndarray) -> np.ndarray:
        # 1 - tanh^2 loses all its digits for large u; this form loses none.
        decay = np.exp(-2 * np.abs(np.asarray(u, float)))
        return 4 * decay / (1 + decay) ** 2

    def mean(self, variance: float = 1.0) -> float:
        check_number("variance", variance, low=0.0)
        return 0.0
