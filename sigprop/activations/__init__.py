"""Activations: one real function each, and the Gaussian averages that a law needs of it.

===================== ============================== ==============================
name                  phi(u)                         moments
===================== ============================== ==============================
linear                u                              closed form
relu                  max(u, 0)                      closed form
leaky_relu            u, or slope u for u <= 0       closed form
randomised_leaky_relu the same, a slope a unit       closed form
tanh                  tanh u                         quadrature
erf                   erf u                          closed form
gelu                  u F(u), F normal               closed form
silu                  u / (1 + exp(-u))              quadrature
===================== ============================== ==============================

Any Python function of one number joins them through `function`.
"""

from sigprop.activations.erf import Erf
from sigprop.activations.gelu import GELU
from sigprop.activations.leaky_relu import LeakyReLU, ReLU
from sigprop.activations.linear import Linear
from sigprop.activations.randomised_leaky_relu import RandomisedLeakyReLU
from sigprop.activations.silu import SiLU
from sigprop.activations.tanh import Tanh
from sigprop.activations.uneven import BalancedReLU
from sigprop.activations.user import FunctionActivation, function

__all__ = [
    "GELU",
    "BalancedReLU",
    "Erf",
    "FunctionActivation",
    "LeakyReLU",
    "Linear",
    "RandomisedLeakyReLU",
    "ReLU",
    "SiLU",
    "Tanh",
    "function",
]
