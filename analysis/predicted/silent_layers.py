"""Dead networks, dead branches and active units: exact, by the symmetry of the weights."""

from __future__ import annotations

import numpy as np

from analysis import theory
from analysis.prediction import Prediction, predictions
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__: list[str] = []


class _Symmetry(Prediction):
    status = "exact"
    assumptions = "independent symmetric weights without atoms"
    source = "elementary: each of n units is off with probability 1/2, or dropped"

    def alike(self, ensemble: Ensemble) -> bool:
        return True


@predictions.register("dead_fraction")
class DeadFraction(_Symmetry):
    """How often a plain ReLU net is dead."""

    variable = "norm_zero_fraction"
    assumptions = f"{_Symmetry.assumptions}, no biases"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return theory.dead_probability(ensemble)

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        p = theory.dead_probability(ensemble)
        return np.sqrt(p * (1 - p))


@predictions.register("dead_layers")
class DeadLayers(_Symmetry):
    """How many branches are dead, on average."""

    variable = "dead_layers_mean"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return theory.expected_dead_layers(ensemble)

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        each = np.diff(theory.expected_dead_layers(ensemble))
        if ensemble.network.form.trunk or ensemble.table.biased:
            variance = np.cumsum(each * (1 - each))  # branches die independently
        else:
            # Dead layers are counted by 1_k, k <= l, and a dead net stays dead: for j < k,
            # 1_j 1_k = 1_j. So E N_l^2 = sum_k E 1_k (2 (l - k) + 1).
            below = 2 * np.cumsum(np.concatenate([[0.0], np.cumsum(each)[:-1]])) + np.cumsum(each)
            variance = below - np.cumsum(each) ** 2
        return np.sqrt(np.concatenate([[0.0], np.maximum(variance, 0.0)]))


@predictions.register("half_active")
class HalfActive(_Symmetry):
    """A unit off the trunk is on half of the time, if it is kept."""

    variable = "activity_mean"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        self._check(ensemble)
        on = (1 - ensemble.network.dropout) / 2
        return np.concatenate([[np.nan], np.full(ensemble.network.depth, on)])

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        self._check(ensemble)
        units, on = ensemble.network.fans[1][:, 0], (1 - ensemble.network.dropout) / 2
        return np.concatenate([[np.nan], np.sqrt(on * (1 - on) / units)])

    def _check(self, ensemble: Ensemble) -> None:
        network, table = ensemble.network, ensemble.table
        if (
            network.block not in ("res3", "inner")
            or network.matrices != 2
            or table.law.kind == "rademacher"
            or table.centred
            or (table.scale[:, 0] == 0).any()
            or (table.skip == 0).any()
        ):
            raise Unsupported(
                f"{self.kind} is of branches with one hidden layer, off a trunk that is never "
                "zero, whose first matrix is not zero and has no atoms."
            )
