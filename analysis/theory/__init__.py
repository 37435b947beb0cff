"""Closed forms, each with its status, its assumptions and a test that could fail.

=============== ========================================================================
second_moment   E|h_l|^2, E|p_l|^2 and both displacements: exact at any width and depth
fourth_moment   the same for fourth powers, hence the error of a measured mean square
dead            the probability that a layer of ReLUs is silent
=============== ========================================================================

None needs the width to be large. All need a positively homogeneous activation, since for
others no power of the norm has a closed recursion.
"""

from analysis.theory.dead import dead_probability, expected_dead_layers
from analysis.theory.fourth_moment import (
    displacement_relative_variance,
    gradient_displacement_relative_variance,
    gradient_relative_variance,
    log_fourth_moment,
    log_gradient_fourth_moment,
    relative_variance,
)
from analysis.theory.second_moment import (
    log_displacement_mean_square,
    log_gradient_displacement_mean_square,
    log_gradient_mean_square,
    log_mean_square,
)

__all__ = [
    "dead_probability",
    "displacement_relative_variance",
    "expected_dead_layers",
    "gradient_displacement_relative_variance",
    "gradient_relative_variance",
    "log_displacement_mean_square",
    "log_fourth_moment",
    "log_gradient_displacement_mean_square",
    "log_gradient_fourth_moment",
    "log_gradient_mean_square",
    "log_mean_square",
    "relative_variance",
]
