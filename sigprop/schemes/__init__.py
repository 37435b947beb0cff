"""Schemes: how weights and branch coefficients are set at initialisation.

Each is defined as in the paper that introduced it and lowers to one table of numbers, so
that schemes are compared as laws and not as code.

================ =============================================== ==========================
name             idea                                            branch
================ =============================================== ==========================
he               keep the mean square through a layer            1
glorot           a compromise of forward and backward            1
lecun            unit variance of a sum                          1
power            one power of the depth                          depth^-beta
stable           squares of the branches have a bounded sum      depth^-1/2, or decreasing
fixup            last matrix 0, the others scaled with depth     1
batch_norm       every activation reads the normalised batch     1
skipinit         a scalar that starts at 0                       0
rezero           a scalar that starts at 0                       0
layerscale       a small diagonal                                0.1, 1e-5 or 1e-6
nf               known variance of the trunk divided out         0.2
normal           branch and skip on the unit circle              alpha
orthogonal       matrices that keep lengths                      1
delta_orthogonal the same at the centre of kernels               1
looks_linear     units in pairs: a ReLU net that acts linearly   1
risotto          looks-linear residual blocks: an isometry       alpha, 1
balanced         random signs of units                          sqrt(1 - alpha^2)
fractional       keep a moment of order s < 2, or log|h|         found for block and s
random_walk      log|h| without drift, to first order            1
given            every number explicit                           as given
================ =============================================== ==========================
"""

from sigprop.schemes.balanced import Balanced
from sigprop.schemes.batch_norm import BatchNorm
from sigprop.schemes.delta_orthogonal import DeltaOrthogonal
from sigprop.schemes.fixup import Fixup
from sigprop.schemes.fractional import Fractional
from sigprop.schemes.given import GivenScheme
from sigprop.schemes.glorot import Glorot
from sigprop.schemes.he import He
from sigprop.schemes.layerscale import LayerScale
from sigprop.schemes.lecun import LeCun
from sigprop.schemes.looks_linear import LooksLinear
from sigprop.schemes.nf import NFResNet
from sigprop.schemes.normal import Normal
from sigprop.schemes.orthogonal import OrthogonalScheme
from sigprop.schemes.power import Power
from sigprop.schemes.random_walk import RandomWalk
from sigprop.schemes.rezero import ReZero
from sigprop.schemes.risotto import Risotto
from sigprop.schemes.skipinit import SkipInit
from sigprop.schemes.stable import StableResNet

__all__ = [
    "Balanced",
    "BatchNorm",
    "DeltaOrthogonal",
    "Fixup",
    "Fractional",
    "GivenScheme",
    "Glorot",
    "He",
    "LayerScale",
    "LeCun",
    "LooksLinear",
    "NFResNet",
    "Normal",
    "OrthogonalScheme",
    "Power",
    "RandomWalk",
    "ReZero",
    "Risotto",
    "SkipInit",
    "StableResNet",
]
