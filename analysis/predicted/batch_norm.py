"""Batch normalisation: mean squares of states and gradients in the limit of a large batch.

Theory is of the average over the batch. One input of it may be longer than the others, or turn
on more units, in all layers alike, since the trunk remembers: that is what most of the slack
is for. In the logarithm, with T the logarithm of the gradient's mean square, N units and a batch
of B inputs (times pixels), it is

========= ==============================================
gradients :math:`T\\,(3 / \\sqrt N + 1/N + 6/B)`
states    :math:`3 \\sqrt{5 / N} + 2 / N + 4 / B`
========= ==============================================

the parts without a root being 2 to 4 times the largest differences of averages that were seen at
depth 30 with N = 50 .. 400 and B = 300 .. 3000, those with one three deviations of an input.
"""

from __future__ import annotations

import functools

import numpy as np

from analysis.prediction import Prediction, predictions
from analysis.theory.batch_norm import BatchNormalised, batch_normalised
from sigprop.spec import Ensemble

__all__: list[str] = []


@functools.lru_cache(maxsize=4)
def _computed(digest: str, ensemble: Ensemble) -> BatchNormalised:
    return batch_normalised(ensemble)


class _Normalised(Prediction):
    """Base: one mean square of `analysis.theory.batch_norm`."""

    status = "limit"
    orders = (2.0,)
    assumptions = "width and batch to infinity, inputs independent of each other"
    own_law = True

    def field(self, ensemble: Ensemble) -> BatchNormalised:
        return _computed(ensemble.digest, ensemble)

    def shares(self, ensemble: Ensemble) -> tuple[float, float]:
        """(1 / N, 1 / B)."""
        network = ensemble.network
        units = min(network.state_widths.min(), *(fan.min() for fan in network.fans))
        return 1 / float(units), 1 / (ensemble.inputs.count * float(np.prod(network.images[-1])))


@predictions.register("batch_norm_mean_square")
class BatchNormMeanSquare(_Normalised):
    """E|h_l|^2, growing by the same amount at every layer."""

    variable = "norm_moment_log"
    source = "De and Smith (2020), arXiv:2002.10444"

    def alike(self, ensemble: Ensemble) -> bool:
        return ensemble.inputs.frame() is not None and super().alike(ensemble)

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.field(ensemble).log_mean_square[:, index]

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        units, batch = self.shares(ensemble)
        moved = np.arange(ensemble.network.depth + 1) > 0
        return moved * (3 * (5 * units) ** 0.5 + 2 * units + 4 * batch)


@predictions.register("batch_norm_gradient")
class BatchNormGradient(_Normalised):
    """E|p_l|^2, a power of the depth in a residual net."""

    variable = "gradient_moment_log"
    assumptions = f"{_Normalised.assumptions}, a top gradient of its own for every input"
    source = "elementary; plain nets: Yang et al. (2019), arXiv:1902.08129"

    def alike(self, ensemble: Ensemble) -> bool:
        return True

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.field(ensemble).log_gradient_mean_square

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        units, batch = self.shares(ensemble)
        return np.abs(self.field(ensemble).log_gradient_mean_square) * (
            3 * units**0.5 + units + 6 * batch
        )
