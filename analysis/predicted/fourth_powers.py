"""Mean fourth powers, for any law of weights that has them: exact at any width and depth."""

from __future__ import annotations

import numpy as np

from analysis.predicted.mean_squares import (
    DisplacementMeanSquare,
    GradientDisplacementMeanSquare,
    GradientMeanSquare,
    MeanSquare,
    Square,
)
from analysis.prediction import predictions
from sigprop.spec import Ensemble

__all__: list[str] = []


class _Fourth(Square):
    """Of a mean square M with relative variance w: M^2 (1 + w). Its own error is not known."""

    orders = (4.0,)

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        relative = self.relative_variance(ensemble, index)
        with np.errstate(invalid="ignore"):
            fourth = 2 * super().value(ensemble, index, order) + np.log1p(relative)
        return np.where(fourth == np.inf, np.nan, fourth)  # beyond float64

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> None:
        return None


@predictions.register("mean_fourth_power")
class MeanFourthPower(_Fourth, MeanSquare):
    """E|h_l|^4."""


@predictions.register("gradient_mean_fourth_power")
class GradientMeanFourthPower(_Fourth, GradientMeanSquare):
    """E|p_l|^4."""


@predictions.register("displacement_mean_fourth_power")
class DisplacementMeanFourthPower(_Fourth, DisplacementMeanSquare):
    """E|h_l - h_0|^4."""


@predictions.register("gradient_displacement_mean_fourth_power")
class GradientDisplacementMeanFourthPower(_Fourth, GradientDisplacementMeanSquare):
    """E|p_l - p_L|^4."""
