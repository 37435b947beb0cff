"""Figures of GradInit and of other initialisations that look at data (Zhu et al., 2021).

One module draws one figure. ``README.md`` in this folder tells the parameters.
"""

from figures.gradinit.comparison import Comparison
from figures.gradinit.gradient_variance import GradientVariance
from figures.gradinit.mlp_training import MLPTraining
from figures.gradinit.scales import LearnedScales
from figures.gradinit.transformer_training import TransformerTraining
from figures.gradinit.vgg_training import VGGTraining

__all__ = [
    "Comparison",
    "GradientVariance",
    "LearnedScales",
    "MLPTraining",
    "TransformerTraining",
    "VGGTraining",
]
