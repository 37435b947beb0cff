"""How the weights of one place depend on each other from layer to layer.

Whether layers are independent, tied or something between decides how the branches of a
deep residual network add up: independent ones like a random walk, tied ones in one
direction. A process says the covariance of a path ``v_1 .. v_depth`` and how to draw it.

=========== ==================== ===================================================
name        parameters           E v_i v_(i+k), k >= 0; t = k / depth
=========== ==================== ===================================================
independent                      1 at k = 0, else 0
fgn         hurst                ((k+1)^2H - 2 k^2H + |k-1|^2H) / 2
rbf         bandwidth            exp(-t^2 / (2 bandwidth^2))
matern      smoothness,          between a rough and a smooth curve
            bandwidth
cauchy      decay                (1 + k)^-decay
hermite     rank, decay          (1 + k)^-(rank decay), not Gaussian
tied                             1
covariance  matrix               as given; a function of the depth by `function`
legacy_fgn  hurst                as in the published code, see `sigprop.processes.legacy`
legacy_rbf  variance             as in the published code
=========== ==================== ===================================================

A process of your own with a formula is a subclass of `Stationary` that gives its
``correlation``; one without is a function of the depth (`function`) or a matrix.
"""

from sigprop.processes.cauchy import Cauchy
from sigprop.processes.fractional import FractionalGaussianNoise
from sigprop.processes.given import FunctionCovariance, GivenCovariance, function
from sigprop.processes.hermite import Hermite
from sigprop.processes.independent import Independent
from sigprop.processes.legacy import LegacyFractionalGaussianNoise, LegacyRbf
from sigprop.processes.matern import Matern
from sigprop.processes.rbf import Rbf
from sigprop.processes.stationary import Stationary, require_stationary
from sigprop.processes.tied import Tied

__all__ = [
    "Cauchy",
    "FractionalGaussianNoise",
    "FunctionCovariance",
    "GivenCovariance",
    "Hermite",
    "Independent",
    "LegacyFractionalGaussianNoise",
    "LegacyRbf",
    "Matern",
    "Rbf",
    "Stationary",
    "Tied",
    "function",
    "require_stationary",
]
