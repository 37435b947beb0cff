r"""Log-Gaussian norms of plain nets of any weights, and of res1 with its memory: limits.

Plain nets with Gaussian weights have exact laws, which are stronger and are taken where they
apply. With other weights the exact variance of Gaussian ones is corrected by their kurtosis; what
is left out is of order 1 / d^2 a layer. The slacks, a layer of width d, e the excess kurtosis:

======== ===================== =============================== ==========================
block    what                  mean                            variance
======== ===================== =============================== ==========================
plain    Hanin and Nica's law  :math:`4 / d^2`                 :math:`10 / d^2`
plain    corrected by kurtosis :math:`3 |e| / d^2`             :math:`2 |e| / d^2`
res1     with memory           8 / n of the whole              16 / n of the whole
======== ===================== =============================== ==========================

The first row bounds the differences from the exact laws for every width (at most 2.9 and 9.95 in
units of 1 / d^2); the others are two to four times the largest differences seen in simulations
(1.3 and 0.6 in units of |e| / d^2; for res1 12 / n of the variance).
"""

from __future__ import annotations

import numpy as np

from analysis.prediction import Prediction, predictions
from analysis.theory import log_gaussian, log_normal
from sigprop.errors import Unsupported
from sigprop.laws import Gaussian
from sigprop.schemes import GivenScheme
from sigprop.spec import Ensemble

__all__: list[str] = []


class _Limit(Prediction):
    status = "limit"
    spread_status = "approximate"

    def moments(self, ensemble: Ensemble, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of log|h_l|."""
        raise NotImplementedError

    def slacks(self, ensemble: Ensemble, index: int) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.moments(ensemble, index)[self.at]

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.slacks(ensemble, index)[self.at]

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        variance = self.moments(ensemble, index)[1]
        return np.sqrt(variance) if self.at == 0 else np.sqrt(2.0) * (variance > 0)

    at = 0  # which of the two moments


def _squares(ensemble: Ensemble) -> np.ndarray:
    """Sums of 1 / d^2 over the layers so far."""
    widths = ensemble.network.state_widths[1:].astype(float)
    return np.concatenate([[0.0], np.cumsum(widths**-2)])


class _HaninNica(_Limit):
    assumptions = "a plain net, symmetric weights, depth / width fixed as the width grows"
    source = "Hanin, Nica (2020), Commun. Math. Phys. 376"

    def moments(self, ensemble: Ensemble, index: int) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = log_gaussian.log_gaussian_plain(ensemble)
        added = log_gaussian.excess_kurtosis_variance(ensemble, index)
        return mean - added, variance + added

    def slacks(self, ensemble: Ensemble, index: int) -> tuple[np.ndarray, np.ndarray]:
        excess = 1 + abs(ensemble.table.law.kurtosis - 3)
        return 4 * excess * _squares(ensemble), 10 * excess * _squares(ensemble)


class _Corrected(_Limit):
    """The exact law of Gaussian weights of the same variances, corrected by the kurtosis."""

    assumptions = "a plain net, symmetric weights with a fourth moment"
    source = "Hanin, Nica (2020), Commun. Math. Phys. 376, with exact terms for Gaussian weights"

    def moments(self, ensemble: Ensemble, index: int) -> tuple[np.ndarray, np.ndarray]:
        added = log_gaussian.excess_kurtosis_variance(ensemble, index)
        table = ensemble.table
        gaussian = GivenScheme(
            branch=tuple((table.branch * table.input_scale).tolist()),
            variance=tuple(map(tuple, (table.scale**2).tolist())),
            law=Gaussian(),
        )
        twin = Ensemble(ensemble.network, gaussian, ensemble.inputs)
        mean, variance = log_normal.log_norm_mean(twin), log_normal.log_norm_variance(twin)
        return mean - added, variance + added

    def slacks(self, ensemble: Ensemble, index: int) -> tuple[np.ndarray, np.ndarray]:
        excess = abs(ensemble.table.law.kurtosis - 3)
        return 3 * excess * _squares(ensemble), 2 * excess * _squares(ensemble)


class _Memory(_Limit):
    assumptions = (
        "res1 of ReLUs or balanced ones, Gaussian weights, depth / width fixed as the width grows"
    )
    source = "Li, Nica, Roy (2021) for the setting; the sums over lags derived"

    def alike(self, ensemble: Ensemble) -> bool:
        return ensemble.inputs.frame() is not None

    def moments(self, ensemble: Ensemble, index: int) -> tuple[np.ndarray, np.ndarray]:
        return log_gaussian.log_gaussian_residual(ensemble)

    def slacks(self, ensemble: Ensemble, index: int) -> tuple[np.ndarray, np.ndarray]:
        n = ensemble.network.width
        if n < 2:
            raise Unsupported("log_gaussian_residual says nothing of a state of one unit.")
        _, variance = self.moments(ensemble, index)
        return 8 / n * 2 * variance, 16 / n * variance


@predictions.register("log_norm_mean_kurtosis")
class LogNormMeanKurtosis(_Corrected):
    """E log|x_l| of a plain net whose weights are not Gaussian."""

    variable = "log_norm_mean"


@predictions.register("log_norm_variance_kurtosis")
class LogNormVarianceKurtosis(_Corrected):
    """Var log|x_l| of a plain net whose weights are not Gaussian."""

    variable, at = "log_norm_variance", 1


@predictions.register("log_norm_mean_hanin_nica")
class LogNormMeanHaninNica(_HaninNica):
    """E log|x_l| of a plain net, -beta / 4."""

    variable = "log_norm_mean"


@predictions.register("log_norm_variance_hanin_nica")
class LogNormVarianceHaninNica(_HaninNica):
    """Var log|x_l| of a plain net, beta / 4."""

    variable, at = "log_norm_variance", 1


@predictions.register("log_norm_mean_memory")
class LogNormMeanMemory(_Memory):
    """E log|h_l| of res1, hypoactivation included."""

    variable = "log_norm_mean"


@predictions.register("log_norm_variance_memory")
class LogNormVarianceMemory(_Memory):
    """Var log|h_l| of res1, correlation between layers included."""

    variable, at = "log_norm_variance", 1
