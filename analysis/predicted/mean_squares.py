"""Mean squares of norms, gradients and displacements: exact at any width and depth."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from analysis import theory
from analysis.prediction import Prediction, predictions
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__ = [
    "DisplacementMeanSquare",
    "GradientDisplacementMeanSquare",
    "GradientMeanSquare",
    "MeanSquare",
]

_CLOSED = "independent symmetric weights of finite variance, a positively homogeneous activation"
_TOP = f"{_CLOSED}, an isotropic gradient at the top"
_DEEPEST = 3000  # beyond, an error that takes O(depth^2) is left to the sample


class Square(Prediction):
    """Base: E r^2, and its error from the relative variance of r^2."""

    orders = (2.0,)
    status = "exact"
    assumptions = _CLOSED
    source = "Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929; elementary"
    backward: ClassVar[bool] = False
    post = True  # of block projection; the theory refuses the other

    def alike(self, ensemble: Ensemble) -> bool:
        return self.backward or super().alike(ensemble)

    def relative_variance(self, ensemble: Ensemble, index: int) -> np.ndarray:
        """Variance of r^2 over its squared mean, shape (depth + 1,)."""
        raise NotImplementedError

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray | None:
        try:
            return np.sqrt(self.relative_variance(ensemble, index))
        except Unsupported:  # no fourth moment: the sample must tell its own error
            return None


@predictions.register("mean_square")
class MeanSquare(Square):
    """E|h_l|^2."""

    variable = "norm_moment_log"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return theory.log_mean_square(ensemble, index)

    def relative_variance(self, ensemble: Ensemble, index: int) -> np.ndarray:
        return theory.relative_variance(ensemble, index)


@predictions.register("gradient_mean_square")
class GradientMeanSquare(Square):
    """E|p_l|^2."""

    variable = "gradient_moment_log"
    assumptions = _TOP
    backward = True

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return theory.log_gradient_mean_square(ensemble)

    def relative_variance(self, ensemble: Ensemble, index: int) -> np.ndarray:
        return theory.gradient_relative_variance(ensemble)


@predictions.register("displacement_mean_square")
class DisplacementMeanSquare(Square):
    """E|h_l - h_0|^2."""

    variable = "displacement_moment_log"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return theory.log_displacement_mean_square(ensemble, index)

    def relative_variance(self, ensemble: Ensemble, index: int) -> np.ndarray:
        return theory.displacement_relative_variance(ensemble, index)


@predictions.register("gradient_displacement_mean_square")
class GradientDisplacementMeanSquare(Square):
    """E|p_l - p_L|^2."""

    variable = "gradient_displacement_moment_log"
    assumptions = _TOP
    backward = True

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return theory.log_gradient_displacement_mean_square(ensemble)

    def relative_variance(self, ensemble: Ensemble, index: int) -> np.ndarray:
        if ensemble.network.depth > _DEEPEST:
            raise Unsupported(
                f"the fourth power of a gradient's displacement takes O(depth^2) time, and depth "
                f"{ensemble.network.depth} is beyond {_DEEPEST}. Use the second moment."
            )
        return theory.gradient_displacement_relative_variance(ensemble)
