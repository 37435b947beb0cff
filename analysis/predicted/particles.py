"""Blocks that activate the sum beside an identity skip, as the width grows: by particles.

The averages of `analysis.theory.identity_mean_field` with a fixed seed, so that a prediction is a
function of the law. The slack holds four standard errors of the particles and what a finite width
adds, (1 + T) / width for norms and cosines and three times that for gradients, T the growth of the
log of the mean square along the way of the signal: 2 to 9 times the largest differences that were
seen at widths 20 and 100 (He at depth 6, branches depth^-1/2 at depth 20).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from analysis.prediction import Prediction, predictions
from analysis.theory.identity import IdentityMeanField, identity_mean_field
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__: list[str] = []

_PARTICLES = 80_000
_MOST = 200_000_000  # particles times layers: some ten seconds
_SEED = 2210_02411


@dataclass(frozen=True)
class _Law:
    digest: str
    cosine: float
    ensemble: Ensemble = field(compare=False)


@functools.lru_cache(maxsize=8)
def _computed(law: _Law) -> IdentityMeanField:
    return identity_mean_field(law.ensemble, law.cosine, particles=_PARTICLES, seed=_SEED)


class _Particles(Prediction):
    """Base: one of the averages."""

    status = "limit"
    post = True
    assumptions = "width to infinity; independent layers, weights of finite variance, ReLU"
    source = "derived for the type B blocks of Gadhikar, Burkholz (2022), arXiv:2210.02411"

    def found(self, ensemble: Ensemble, cosine: float = 0.5) -> IdentityMeanField:
        if _PARTICLES * ensemble.network.depth > _MOST:
            raise Unsupported(
                f"identity_mean_field takes minutes at depth {ensemble.network.depth}; it is "
                f"consulted by itself up to depth {_MOST // _PARTICLES}. Call "
                "analysis.theory.identity_mean_field if you can wait."
            )
        return _computed(_Law(ensemble.digest, cosine, ensemble))

    def alike(self, ensemble: Ensemble) -> bool:
        return self.axis == "input"

    def finite(self, ensemble: Ensemble, found: IdentityMeanField) -> np.ndarray:
        """What a finite width may add, by the layers up to here."""
        width = min(ensemble.network.width, int(ensemble.network.fans[0].min()))
        growth = np.abs(np.diff(found.log_mean_square))
        return np.concatenate([[1.0], 1.0 + np.cumsum(growth)]) / width


@predictions.register("particles_norm")
class ParticlesNorm(_Particles):
    """E|h_l|^2."""

    variable = "norm_moment_log"
    orders = (2.0,)

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.found(ensemble).log_mean_square

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        found = self.found(ensemble)
        slack = self.finite(ensemble, found) + 4 * found.log_mean_square_se
        slack[0] = 0.0
        return slack


@predictions.register("particles_gradient")
class ParticlesGradient(_Particles):
    """E|p_l|^2 for an isotropic gradient at the top."""

    variable = "gradient_moment_log"
    orders = (2.0,)

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.found(ensemble).log_gradient_mean_square

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        found = self.found(ensemble)
        finite = 3 * self.finite(ensemble, found)
        slack = finite[-1] - finite + finite[0]
        slack += 4 * found.log_gradient_mean_square_se
        slack[-1] = 0.0
        return slack


@predictions.register("particles_cosine")
class ParticlesCosine(_Particles):
    """Mean cosine of the angle between two states."""

    variable = "cosine_mean"
    axis = "pair"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.found(ensemble, self.start(ensemble, index)).cosine

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        found = self.found(ensemble, self.start(ensemble, index))
        return self.finite(ensemble, found) + 4 * found.cosine_se

    def start(self, ensemble: Ensemble, index: int) -> float:
        rows = ensemble.inputs.array(ensemble.network.input_size)
        rows = np.asarray(ensemble.inputs.frame() if rows is None else rows, float)
        i, j = (int(at[index]) for at in np.triu_indices(ensemble.inputs.count, 1))
        square = (rows[i] @ rows[i]) * (rows[j] @ rows[j])
        return float(np.clip(rows[i] @ rows[j] / np.sqrt(square), -1.0, 1.0))
