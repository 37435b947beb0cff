"""Tied weights: one matrix, used by every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.spec import Process

__all__ = ["Tied"]


@Process.family.register("tied")
@dataclass(frozen=True, kw_only=True)
class Tied(Process):
    """One draw for all layers, as in a recurrent network: the limit of hurst 1."""

    formula: ClassVar[str] = "E v_i v_j = 1: one matrix for all layers."
    source: ClassVar[str] = "weight sharing; the limit hurst -> 1 of fgn"

    def covariance(self, depth: int) -> np.ndarray:
        return np.ones((depth, depth))

    def autocovariance(self, depth: int) -> np.ndarray:
        return np.ones(depth)

    def draws(self, depth: int) -> int:
        return 1

    def paths(self, normals: np.ndarray, depth: int) -> np.ndarray:
        return np.repeat(np.asarray(normals, float), depth, axis=1)
