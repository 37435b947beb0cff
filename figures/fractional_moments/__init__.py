"""Figures of "Fractional moment-preserving initialization schemes" (Gurbuzbalaban and Hu).

One module draws one figure, with the parameters of the paper and exact curves over what is
measured. ``README.md`` in this folder tells the parameters and the known errata.
"""

from figures.fractional_moments.bias_tail import BiasTail
from figures.fractional_moments.fig01_moments import EntryMoments
from figures.fractional_moments.fig02_log_norms import LogNorms
from figures.fractional_moments.fig04_scale import Scale
from figures.fractional_moments.heavy_weights import HeavyWeights
from figures.fractional_moments.log_norm_by_layer import LogNormByLayer
from figures.fractional_moments.log_norm_law import LogNormByDepth
from figures.fractional_moments.memory import Memory
from figures.fractional_moments.moments_by_depth import MomentsByDepth
from figures.fractional_moments.small_outputs import SmallOutputs
from figures.fractional_moments.training import (
    ConvolutionalTraining,
    FractionalTraining,
    LeakyTraining,
    LinearTraining,
)

__all__ = [
    "BiasTail",
    "ConvolutionalTraining",
    "EntryMoments",
    "FractionalTraining",
    "HeavyWeights",
    "LeakyTraining",
    "LinearTraining",
    "LogNormByDepth",
    "LogNormByLayer",
    "LogNorms",
    "Memory",
    "MomentsByDepth",
    "Scale",
    "SmallOutputs",
]
