r"""Initialisation schemes for any module, in place, in the spelling of `torch.nn.init`.

>>> import torch
>>> from sigprop.modules import init
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
>>> report = init.he_(model, torch.ones(1, 8))
>>> report["0.weight"].std
0.5

Each function takes the module and an example input, by which its anatomy is found
(`sigprop.modules.anatomy`), checks everything, and only then writes. Its report has a line for
every parameter: what it was set to, or why it was left alone. The definitions are those of
`sigprop.schemes`, parameter by parameter:

============== ============================================== ===========================
function       scheme                                         needs residual sums
============== ============================================== ===========================
he_            He                                             no
glorot_        Glorot                                         no
lecun_         LeCun                                          no
orthogonal_    OrthogonalScheme, DeltaOrthogonal (kernels)    no
fractional_    Fractional                                     none allowed
looks_linear_  LooksLinear                                    none allowed
risotto_       Risotto                                        yes, activated (B and C)
fixup_         Fixup                                          yes
skipinit_      SkipInit                                       yes
rezero_        ReZero                                         yes
scaled_        Power                                          yes
============== ============================================== ===========================

A branch coefficient goes where the module has one: a parameter that multiplies the branch, else
the gain of the normalisation that ends it, else the last weight layer itself, which is the same
function at initialisation and not the same training; the report says which. ``add_scalars`` gives
a branch a scalar of its own instead.

Common parameters: ``generator``, a `torch.Generator` (default: torch's own, as in
`torch.nn.init`); ``nonlinearity``, an activation of `sigprop.activations` or its name, where it is
not the one that the weight layers read; ``anatomy``, an `Anatomy` of the same module, found
beforehand.
"""

from sigprop.modules.init.branches import fixup_, rezero_, scaled_, skipinit_
from sigprop.modules.init.entries import fractional_, glorot_, he_, lecun_, orthogonal_
from sigprop.modules.init.pairs import looks_linear_, risotto_
from sigprop.modules.init.report import InitReport, Setting

__all__ = [
    "InitReport",
    "Setting",
    "fixup_",
    "fractional_",
    "glorot_",
    "he_",
    "lecun_",
    "looks_linear_",
    "orthogonal_",
    "rezero_",
    "risotto_",
    "scaled_",
    "skipinit_",
]
