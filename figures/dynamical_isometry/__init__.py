"""Figures of dynamical isometry and separability (Gadhikar and Burkholz, 2022, and around it).

One module draws one figure, with the theory beside every measurement. ``README.md`` in this
folder tells the parameters.
"""

from figures.dynamical_isometry.accuracy_against_alpha import AccuracyAgainstAlpha
from figures.dynamical_isometry.condition_number import ConditionNumber
from figures.dynamical_isometry.construction import Construction
from figures.dynamical_isometry.edge_of_chaos import EdgeOfChaos
from figures.dynamical_isometry.fig01b_dense import DenseCorrelation
from figures.dynamical_isometry.fig01b_images import ImageCorrelation
from figures.dynamical_isometry.first_step import FirstStep
from figures.dynamical_isometry.rivals import Rivals
from figures.dynamical_isometry.spectra import Spectra
from figures.dynamical_isometry.training_schemes import TrainingSchemes

__all__ = [
    "AccuracyAgainstAlpha",
    "ConditionNumber",
    "Construction",
    "DenseCorrelation",
    "EdgeOfChaos",
    "FirstStep",
    "ImageCorrelation",
    "Rivals",
    "Spectra",
    "TrainingSchemes",
]
