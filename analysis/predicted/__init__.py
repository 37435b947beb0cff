"""The predictions there are: what each closed form of `analysis.theory` says of a result.

================ ===================================================================
mean_squares     E r^2 of norms, gradients and displacements: exact
random_walk      log-norms and all their moments, for Gaussian weights: exact
fourth_powers    E r^4 for any weights: exact
isometry         norms, angles and gradients of networks in +/- pairs: exact
first_step       how far a first step moves the function: exact
silent_layers    dead networks and branches, active units: exact
log_normal_limit log-norms of deep nets with small branches, for any weights: limit
log_gaussian     log-norms of plain nets of any weights, of res1 with its memory: limit
infinite_width   correlated weights, other activations, cosines of inputs: limit
spectra          singular values of the Jacobian: mean square and rank exact, spectrum: limit
particles        blocks that activate the sum beside an identity skip: limit
================ ===================================================================

Of two with the same status, the one that was registered first is taken.
"""

# The order of these imports is the order of the registry.
from analysis.predicted import mean_squares  # noqa: F401  isort: skip
from analysis.predicted import random_walk  # noqa: F401  isort: skip
from analysis.predicted import fourth_powers  # noqa: F401  isort: skip
from analysis.predicted import isometry  # noqa: F401  isort: skip
from analysis.predicted import first_step  # noqa: F401  isort: skip
from analysis.predicted import silent_layers  # noqa: F401  isort: skip
from analysis.predicted import log_normal_limit  # noqa: F401  isort: skip
from analysis.predicted import log_gaussian  # noqa: F401  isort: skip
from analysis.predicted import infinite_width  # noqa: F401  isort: skip
from analysis.predicted import images  # noqa: F401  isort: skip
from analysis.predicted import batch_norm  # noqa: F401  isort: skip
from analysis.predicted import spectra  # noqa: F401  isort: skip
from analysis.predicted import particles  # noqa: F401  isort: skip
