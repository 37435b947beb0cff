"""Closed forms, each with its status, its assumptions and a test that could fail.

================ =========================================================================
second_moment    E|h_l|^2, E|p_l|^2 and both displacements: exact at any width and depth
fourth_moment    the same for fourth powers, hence the error of a measured mean square
dead             the probability that a layer of ReLUs is silent
mean_field       mean squares at infinite width for any covariance of weights along depth
bounds           the scaling paper's intervals, with their conditions
critical         the critical exponent: predicted, shifted at one depth, fitted across depths
contraction      narrow linear nets whose weights oppose each other: the input fades
correlation      two inputs at infinite width: map of a layer, equation in the limit of depth
log_normal       log norms and moments of any order, exact for Gaussian weights; the normal limit
log_norm_law     the same as a distribution: tails, quantiles, distance to the normal law
log_gaussian     plain nets of any weights (Hanin, Nica), res1 with memory between layers
kesten           plain nets with biases: the limit of depth and its heavy tail
limits           regimes, equations in the limit of depth, strong orders as measured
finite_width     deep narrow nets: log norms of linear and ReLU res1
wide_kernels     wide nets of any block and activation: products of states, gradients
phase            order and chaos of plain nets: fixed points, edge of chaos, depth scales
phase_diagram    the same over a grid of variances
projection       blocks with a skip matrix (type C): products of two states, exact and bounded
identity         blocks that activate the sum (type B): one block, wide ones by particles, limits
first_step       how far the first step of training moves the function
outer_activation branches that end in their activation: drift, volatility, moments
stable_resnet    branches that differ by layer: their product at any depth
long_memory      weights of long memory: critical exponent and size of the driver
convolution      mean squares of images, pixel by pixel: exact with any border and stride
batch_norm       mean squares of state and gradient under batch normalisation, for large batches
free_probability the curve z(y) of a law of singular values: moments, edges, density
spectral_laws    the laws: universal, finite depth, plain, projection; limits of great width
jacobian_spectrum which of them an ensemble has, at every layer; the law of the rank, exact
================ =========================================================================

The first three and log_normal hold at every width, for a positively homogeneous activation, since
for others no power of the norm has a closed recursion. The others are limits, and say of what.
"""

from analysis.theory.batch_norm import BatchNormalised, batch_normalised
from analysis.theory.bounds import (
    Bound,
    critical_bound,
    markov_bound,
    mean_bound,
    scaling_bound,
)
from analysis.theory.contraction import log_linear_alignment
from analysis.theory.convolution import (
    image_log_gradient_mean_square,
    image_log_mean_square,
    pixel_log_mean_square,
)
from analysis.theory.correlation import correlation_limit, correlation_map
from analysis.theory.critical import (
    CriticalExponent,
    contour_exponent,
    critical_exponent,
    fit_critical_exponent,
    local_exponent,
)
from analysis.theory.dead import dead_probability, expected_dead_layers
from analysis.theory.finite_width import (
    geometric_log_norm,
    quasi_geometric_drift,
    quasi_geometric_log_mean,
)
from analysis.theory.first_step import log_first_step
from analysis.theory.fourth_moment import (
    displacement_relative_variance,
    gradient_displacement_relative_variance,
    gradient_relative_variance,
    log_fourth_moment,
    log_gradient_fourth_moment,
    relative_variance,
)
from analysis.theory.identity import (
    IdentityMeanField,
    identity_block_bounds,
    identity_block_mean_square,
    identity_mean_field,
    reflected_norm,
    reflected_tangent,
    reflected_tangent_rate,
)
from analysis.theory.kesten import StationaryLaw, stationary_law, tail_index
from analysis.theory.limits import (
    limit_equation,
    linear_strong_mean_square,
    measured_order,
    regime,
    scaling_exponent,
    weak_limit,
)
from analysis.theory.log_gaussian import (
    excess_kurtosis_variance,
    hypoactivation,
    log_gaussian_plain,
    log_gaussian_residual,
    unit_variance,
)
from analysis.theory.log_norm_law import (
    LogLaw,
    log_gradient_law,
    log_norm_law,
    lyapunov_exponent,
    small_norm_probability,
)
from analysis.theory.log_normal import (
    gradient_moment_relative_variance,
    log_gradient_kurtosis,
    log_gradient_mean,
    log_gradient_moment,
    log_gradient_skewness,
    log_gradient_variance,
    log_norm_kurtosis,
    log_norm_mean,
    log_norm_moment,
    log_norm_skewness,
    log_norm_variance,
    log_normal_limit,
    norm_moment_relative_variance,
)
from analysis.theory.long_memory import (
    driver_exponent,
    driver_variance,
)
from analysis.theory.mean_field import MeanField, mean_field, mean_field_arrays
from analysis.theory.outer_activation import (
    outer_activation_drift,
    outer_activation_limit,
    outer_activation_mean_field,
    outer_activation_mean_square,
    outer_activation_volatility,
)
from analysis.theory.phase import (
    FixedPoint,
    Phase,
    cosine_map,
    cosine_map_slope,
    critical_weight_variance,
    edge_of_chaos,
    mean_square_fixed_points,
    mean_square_map,
    mean_square_map_slope,
    phase,
    tangent_gain,
)
from analysis.theory.phase_diagram import phase_diagram
from analysis.theory.projection import (
    ProjectionBlock,
    arc_kernel,
    collapse_rate,
    product_bound,
    product_estimate,
    recalled_deep_bound,
)
from analysis.theory.second_moment import (
    log_displacement_mean_square,
    log_gradient_displacement_mean_square,
    log_gradient_mean_square,
    log_mean_square,
)
from analysis.theory.stable_resnet import (
    decreasing_log_mean_square,
    stable_log_mean_square,
)
from analysis.theory.wide_kernels import (
    commutation_rate,
    infinite_width_gradient,
    infinite_width_gram,
    kernel_ode,
)

__all__ = [
    "BatchNormalised",
    "Bound",
    "CriticalExponent",
    "FixedPoint",
    "IdentityMeanField",
    "LogLaw",
    "MeanField",
    "Phase",
    "ProjectionBlock",
    "StationaryLaw",
    "arc_kernel",
    "batch_normalised",
    "collapse_rate",
    "commutation_rate",
    "contour_exponent",
    "correlation_limit",
    "correlation_map",
    "cosine_map",
    "cosine_map_slope",
    "critical_bound",
    "critical_exponent",
    "critical_weight_variance",
    "dead_probability",
    "decreasing_log_mean_square",
    "displacement_relative_variance",
    "driver_exponent",
    "driver_variance",
    "edge_of_chaos",
    "excess_kurtosis_variance",
    "expected_dead_layers",
    "fit_critical_exponent",
    "geometric_log_norm",
    "gradient_displacement_relative_variance",
    "gradient_moment_relative_variance",
    "gradient_relative_variance",
    "hypoactivation",
    "identity_block_bounds",
    "identity_block_mean_square",
    "identity_mean_field",
    "image_log_gradient_mean_square",
    "image_log_mean_square",
    "infinite_width_gradient",
    "infinite_width_gram",
    "kernel_ode",
    "limit_equation",
    "linear_strong_mean_square",
    "local_exponent",
    "log_displacement_mean_square",
    "log_first_step",
    "log_fourth_moment",
    "log_gaussian_plain",
    "log_gaussian_residual",
    "log_gradient_displacement_mean_square",
    "log_gradient_fourth_moment",
    "log_gradient_kurtosis",
    "log_gradient_law",
    "log_gradient_mean",
    "log_gradient_mean_square",
    "log_gradient_moment",
    "log_gradient_skewness",
    "log_gradient_variance",
    "log_linear_alignment",
    "log_mean_square",
    "log_norm_kurtosis",
    "log_norm_law",
    "log_norm_mean",
    "log_norm_moment",
    "log_norm_skewness",
    "log_norm_variance",
    "log_normal_limit",
    "lyapunov_exponent",
    "markov_bound",
    "mean_bound",
    "mean_field",
    "mean_field_arrays",
    "mean_square_fixed_points",
    "mean_square_map",
    "mean_square_map_slope",
    "measured_order",
    "norm_moment_relative_variance",
    "outer_activation_drift",
    "outer_activation_limit",
    "outer_activation_mean_field",
    "outer_activation_mean_square",
    "outer_activation_volatility",
    "phase",
    "phase_diagram",
    "pixel_log_mean_square",
    "product_bound",
    "product_estimate",
    "quasi_geometric_drift",
    "quasi_geometric_log_mean",
    "recalled_deep_bound",
    "reflected_norm",
    "reflected_tangent",
    "reflected_tangent_rate",
    "regime",
    "relative_variance",
    "scaling_bound",
    "scaling_exponent",
    "small_norm_probability",
    "stable_log_mean_square",
    "stationary_law",
    "tail_index",
    "tangent_gain",
    "unit_variance",
    "weak_limit",
]
