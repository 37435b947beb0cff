"""Adam on a few positive numbers, the factors of tensors, with two kinds of steps in one run."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

__all__ = ["Moments", "ScaleSteps"]

Moments = Literal["shared", "split"]


class ScaleSteps:
    """Steps of the factors ``m`` against a derivative of either case, kept in bounds.

    Each case has a first moment and a counter of its own, by which it is corrected for starting
    from zero. The second moment is one for both cases (``shared``), corrected by the sum of the
    counters, or one for each (``split``).

    Parameters
    ----------
    lower, upper : ndarray, shape (factors,)
        Bounds of every factor.
    tau : float
        Size of a step.
    clip : float
        Bound of every derivative, before the moments; infinity for none.
    betas, eps : floats
        Of Adam; eps is added after the root.
    """

    def __init__(
        self,
        lower: np.ndarray,
        upper: np.ndarray,
        *,
        tau: float,
        clip: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        moments: str = "shared",
    ) -> None:
        self._bounds = list(zip(lower.tolist(), upper.tolist()))
        self._tau, self._clip, self._betas, self._eps = tau, clip, betas, eps
        self._split = moments == "split"
        self._first = {case: [0.0] * len(lower) for case in "co"}
        self._second = {case: [0.0] * len(lower) for case in ("c", "o", "both")}
        self._count = {"c": 0, "o": 0}

    def step(self, scales: np.ndarray, derivative: np.ndarray, case: str) -> np.ndarray:
        """Return the factors after one step against ``derivative`` in ``case`` "c" or "o"."""
        (slow, slower), clip, tau, eps = self._betas, self._clip, self._tau, self._eps
        root = math.sqrt
        self._count[case] += 1
        seen = self._count[case] if self._split else sum(self._count.values())
        grown, spread = 1 - slow ** self._count[case], math.sqrt(1 - slower**seen)
        first, second = self._first[case], self._second[case if self._split else "both"]
        new, slower_new = 1 - slow, 1 - slower
        stepped = []
        # Number by number: of a few dozen, a loop costs less than twenty calls of NumPy, and a
        # comparison less than a call of min.
        numbers = zip(scales.tolist(), derivative.tolist(), self._bounds)
        for i, (scale, slope, (lower, upper)) in enumerate(numbers):
            q = -clip if slope < -clip else clip if slope > clip else slope
            first[i] = mean = slow * first[i] + new * q
            second[i] = square = slower * second[i] + slower_new * q * q
            moved = scale - tau * ((mean / grown) / (root(square) / spread + eps))
            stepped.append(lower if moved < lower else upper if moved > upper else moved)
        return np.array(stepped)
