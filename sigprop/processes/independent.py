"""Independent layers: every layer draws its weights anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.spec import Process

__all__ = ["Independent"]


@Process.family.register("independent")
@dataclass(frozen=True, kw_only=True)
class Independent(Process):
    """Every layer is drawn anew: the default, and the only process for any law of a weight."""

    formula: ClassVar[str] = "E v_i v_j = 1 if i = j, else 0."
    source: ClassVar[str] = "the usual initialisation of every library"
    independent: ClassVar[bool] = True

    def covariance(self, depth: int) -> np.ndarray:
        return np.eye(depth)

    def autocovariance(self, depth: int) -> np.ndarray:
        return np.eye(1, depth)[0]

    def draws(self, depth: int) -> int:
        return depth

    def paths(self, normals: np.ndarray, depth: int) -> np.ndarray:
        return np.array(normals, float)
