"""Figures of dynamical isometry and separability (Gadhikar and Burkholz, 2022, and around it).

One module draws one figure, with the theory beside every measurement. ``README.md`` in this
folder tells the parameters.
"""

from figures.dynamical_isometry.condition_number import ConditionNumber
from figures.dynamical_isometry.fig01b_images import ImageCorrelation
from figures.dynamical_isometry.spectra import Spectra

__all__ = ["ConditionNumber", "ImageCorrelation", "Spectra"]
