"""The sigmoid-weighted linear unit, also called swish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.activations import _codes
from sigprop.activations._quadrature import ByQuadrature
from sigprop.spec import Activation

__all__ = ["SiLU"]


@Activation.family.register("silu")
@dataclass(frozen=True, kw_only=True)
class SiLU(ByQuadrature):
    """phi(u) = u / (1 + exp(-u)). Moments by quadrature.

    Hendrycks and Gimpel (2016), arXiv:1606.08415.
    """

    code: ClassVar[int] = _codes.SILU

    def __call__(self, u: np.ndarray) -> np.ndarray:
        u = np.asarray(u, float)
        return u * _sigmoid(u)

    def derivative(self, u: np.ndarray) -> np.ndarray:
        u = np.asarray(u, float)
        gate = _sigmoid(u)
        return gate * (1 + u * _sigmoid(-u))


def _sigmoid(u: np.ndarray) -> np.ndarray:
    decay = np.exp(-np.abs(u))  # at most 1, so nothing overflows
    return np.where(u > 0, 1.0, decay) / (1 + decay)
