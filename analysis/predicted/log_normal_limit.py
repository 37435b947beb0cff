r"""Log-norms of deep nets with small branches, whatever the law of the weights: a limit.

With :math:`t_k` what branch k adds to the mean square of a state of norm 1, over the square of its
skip coefficient, :math:`T = \sum t_k` and :math:`S = \sum t_k^2`, the logarithm of the norm
tends to a normal law of mean :math:`\sum \log|c_k| + (1/2 - 1/d) T` and variance :math:`T/d`. For
the weights and widths tried (Gaussian, uniform, Rademacher; 3 to 100) the mean was off by at most
S/3 and the variance by S/d; the slacks are S and 2S/d.
"""

from __future__ import annotations

import numpy as np

from analysis import theory
from analysis.prediction import Prediction, predictions
from analysis.theory.log_normal import log_normal_limit
from sigprop.spec import Ensemble

__all__: list[str] = []


class _Limit(Prediction):
    """Base: sums over layers, upward for the norm and downward for the gradient."""

    status = "limit"
    assumptions = "independent symmetric weights of finite variance; many small branches"
    source = "Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929, for the scaling"
    spread_status = "approximate"
    backward = False

    def alike(self, ensemble: Ensemble) -> bool:
        return True

    def sums(self, ensemble: Ensemble) -> tuple[np.ndarray, np.ndarray, float]:
        """(mean, S, d), arrays of shape (depth + 1,)."""
        log_normal_limit(ensemble)  # refuses where there is no such limit
        log_skip = np.log(np.abs(ensemble.table.skip))
        t = np.expm1(np.diff(theory.log_mean_square(ensemble)) - 2 * log_skip)
        d = float(ensemble.network.width)
        mean, square = log_skip + (0.5 - 1 / d) * t, t**2
        return self._summed(mean), self._summed(square), d

    def total(self, ensemble: Ensemble) -> np.ndarray:
        """T, shape (depth + 1,)."""
        log_skip = np.log(np.abs(ensemble.table.skip))
        return self._summed(np.expm1(np.diff(theory.log_mean_square(ensemble)) - 2 * log_skip))

    def _summed(self, steps: np.ndarray) -> np.ndarray:
        if self.backward:
            return np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])
        return np.concatenate([[0.0], np.cumsum(steps)])


class _Mean(_Limit):
    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.sums(ensemble)[0]

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.sums(ensemble)[1]

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return np.sqrt(self.total(ensemble) / ensemble.network.width)


class _Variance(_Limit):
    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        _, _, d = self.sums(ensemble)
        return self.total(ensemble) / d

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        _, square, d = self.sums(ensemble)
        return 2 * square / d

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return np.sqrt(2.0) * (self.total(ensemble) > 0)


class _Moment(_Limit):
    orders = ()

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        assert order is not None
        mean, _, d = self.sums(ensemble)
        return order * mean + order**2 * self.total(ensemble) / (2 * d)

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        assert order is not None
        _, square, d = self.sums(ensemble)
        return (order + order**2 / d) * square

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        assert order is not None
        with np.errstate(over="ignore"):
            relative = np.expm1(order**2 * self.total(ensemble) / ensemble.network.width)
        return np.sqrt(relative)


@predictions.register("log_norm_mean_limit")
class LogNormMeanLimit(_Mean):
    """E log|h_l| of a log-normal norm."""

    variable = "log_norm_mean"


@predictions.register("log_norm_variance_limit")
class LogNormVarianceLimit(_Variance):
    """Var log|h_l| of a log-normal norm."""

    variable = "log_norm_variance"


@predictions.register("norm_moment_limit")
class NormMomentLimit(_Moment):
    """E|h_l|^s of a log-normal norm."""

    variable = "norm_moment_log"


@predictions.register("log_gradient_mean_limit")
class LogGradientMeanLimit(_Mean):
    """E log|p_l| of a log-normal gradient."""

    variable = "log_gradient_mean"
    backward = True


@predictions.register("log_gradient_variance_limit")
class LogGradientVarianceLimit(_Variance):
    """Var log|p_l| of a log-normal gradient."""

    variable = "log_gradient_variance"
    backward = True


@predictions.register("gradient_moment_limit")
class GradientMomentLimit(_Moment):
    """E|p_l|^s of a log-normal gradient."""

    variable = "gradient_moment_log"
    backward = True
