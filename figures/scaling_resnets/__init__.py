"""Figures of "Scaling ResNets in the large-depth regime" (Marion, Fermanian, Biau, Vert; 2022).

One module draws one figure, with the parameters of the paper and the theory beside every
measurement. ``README.md`` in this folder tells the parameters and the known errata.
"""

from figures.scaling_resnets.critical_exponents import CriticalExponents
from figures.scaling_resnets.fig01_hidden_states import HiddenStates
from figures.scaling_resnets.fig02_log_normal import LogNormal
from figures.scaling_resnets.fig03_gradients import Gradients
from figures.scaling_resnets.fig04_smooth_states import SmoothStates
from figures.scaling_resnets.fig05_smooth_gradients import SmoothGradients
from figures.scaling_resnets.fig06_fractional_noise import FractionalNoise
from figures.scaling_resnets.fig07_heat_map import HeatMap
from figures.scaling_resnets.fig08_trained_weights import TrainedWeights
from figures.scaling_resnets.fig09_trained_accuracy import TrainedAccuracy
from figures.scaling_resnets.phase_diagram import PhaseDiagram

__all__ = [
    "CriticalExponents",
    "FractionalNoise",
    "Gradients",
    "HeatMap",
    "HiddenStates",
    "LogNormal",
    "PhaseDiagram",
    "SmoothGradients",
    "SmoothStates",
    "TrainedAccuracy",
    "TrainedWeights",
]
