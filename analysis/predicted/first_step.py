"""How far a first step of gradient descent moves the function: exact at any width and depth."""

from __future__ import annotations

import numpy as np

from analysis import theory
from analysis.prediction import Prediction, predictions
from sigprop.spec import Ensemble

__all__: list[str] = []


@predictions.register("first_step")
class FirstStep(Prediction):
    """E|df| / eta, by the layers up to here."""

    variable = "first_step_moment_log"
    orders = (1.0,)
    status = "exact"
    on_request = True
    assumptions = (
        "independent symmetric weights of finite variance, a positively homogeneous activation, "
        "an isotropic gradient at the top"
    )
    source = "Zhang, Dauphin, Ma (2019), arXiv:1901.09321, for the goal; elementary"

    def alike(self, ensemble: Ensemble) -> bool:
        return True

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return theory.log_first_step(ensemble)
