"""Log-norms of nets with Gaussian weights, whose steps are independent: exact at any size."""

from __future__ import annotations

import numpy as np

from analysis.prediction import Prediction, predictions
from analysis.theory import log_normal
from sigprop.spec import Ensemble

__all__: list[str] = []


class _Walk(Prediction):
    """Base: independent steps of log|h| upward, or of log|p| downward."""

    status = "exact"
    assumptions = "Gaussian weights, no biases, a positively homogeneous activation off the trunk"
    source = "random walk of the log-norm; elementary"

    def alike(self, ensemble: Ensemble) -> bool:
        return True  # a walk does not see where it starts


class _BackwardWalk(_Walk):
    assumptions = f"{_Walk.assumptions}, an isotropic gradient at the top"


@predictions.register("log_norm_mean")
class LogNormMean(_Walk):
    """E log|h_l|."""

    variable = "log_norm_mean"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return log_normal.log_norm_mean(ensemble)

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return np.sqrt(log_normal.log_norm_variance(ensemble))


@predictions.register("log_norm_variance")
class LogNormVariance(_Walk):
    """Var log|h_l|."""

    variable = "log_norm_variance"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return log_normal.log_norm_variance(ensemble)

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return _of_a_variance(log_normal.log_norm_kurtosis(ensemble))


@predictions.register("log_norm_skewness")
class LogNormSkewness(_Walk):
    """Skewness of log|h_l|."""

    variable = "log_norm_skewness"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return log_normal.log_norm_skewness(ensemble)


@predictions.register("log_norm_kurtosis")
class LogNormKurtosis(_Walk):
    """Excess kurtosis of log|h_l|."""

    variable = "log_norm_kurtosis"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return log_normal.log_norm_kurtosis(ensemble)


@predictions.register("norm_moment")
class NormMoment(_Walk):
    """E|h_l|^s for any s."""

    variable = "norm_moment_log"
    orders = ()

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        assert order is not None
        return log_normal.log_norm_moment(ensemble, order)

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        assert order is not None
        return _of_a_moment(log_normal.norm_moment_relative_variance(ensemble, order))


@predictions.register("log_gradient_mean")
class LogGradientMean(_BackwardWalk):
    """E log|p_l|."""

    variable = "log_gradient_mean"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return log_normal.log_gradient_mean(ensemble)

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return np.sqrt(log_normal.log_gradient_variance(ensemble))


@predictions.register("log_gradient_variance")
class LogGradientVariance(_BackwardWalk):
    """Var log|p_l|."""

    variable = "log_gradient_variance"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return log_normal.log_gradient_variance(ensemble)

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return _of_a_variance(log_normal.log_gradient_kurtosis(ensemble))


@predictions.register("log_gradient_skewness")
class LogGradientSkewness(_BackwardWalk):
    """Skewness of log|p_l|."""

    variable = "log_gradient_skewness"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return log_normal.log_gradient_skewness(ensemble)


@predictions.register("log_gradient_kurtosis")
class LogGradientKurtosis(_BackwardWalk):
    """Excess kurtosis of log|p_l|."""

    variable = "log_gradient_kurtosis"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return log_normal.log_gradient_kurtosis(ensemble)


@predictions.register("gradient_moment")
class GradientMoment(_BackwardWalk):
    """E|p_l|^s for any s."""

    variable = "gradient_moment_log"
    orders = ()

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        assert order is not None
        return log_normal.log_gradient_moment(ensemble, order)

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        assert order is not None
        return _of_a_moment(log_normal.gradient_moment_relative_variance(ensemble, order))


def _of_a_variance(kurtosis: np.ndarray) -> np.ndarray:
    """Relative error of a variance from one sample; 0 where nothing varies."""
    return np.sqrt(np.where(np.isnan(kurtosis), 0.0, 2.0 + kurtosis))


def _of_a_moment(relative: np.ndarray) -> np.ndarray:
    """Below rounding, a relative variance of 0 may come out slightly negative."""
    return np.sqrt(np.maximum(relative, 0.0))
