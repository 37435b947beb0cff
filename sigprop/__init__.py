"""How signals fare in random deep networks: simulated exactly in law, and fast.

A `Network` says the shape, a scheme (`Fixup`, `Power`, ...) how weights and coefficients
are initialised, an input (`Point`, `Pair`, ...) what enters layer 0. Together they are
an `Ensemble`, a probability law; `simulate` draws networks from it, sends the input forward
and a gradient backward, and returns what was measured, with error bars, as an
`xarray.Dataset`:

>>> import sigprop
>>> law = sigprop.Ensemble(sigprop.Network(depth=10, width=8), sigprop.Fixup())
>>> result = sigprop.simulate(law, replicas=100)
>>> float(result.log_norm_mean[-1, 0])
0.0

Every name is imported when it is first used, so that ``import sigprop`` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Network": "spec",
    "Ensemble": "spec",
    "simulate": "simulate",
    "simulate_coupled": "simulate",
    "sweep": "sweep",
    "estimate_moment": "moment",
    "load": "result",
    "Point": "inputs",
    "Pair": "inputs",
    "Batch": "inputs",
    "Equiangular": "inputs",
    "Given": "inputs",
    "He": "schemes",
    "Glorot": "schemes",
    "LeCun": "schemes",
    "Power": "schemes",
    "StableResNet": "schemes",
    "Fixup": "schemes",
    "SkipInit": "schemes",
    "BatchNorm": "schemes",
    "DeltaOrthogonal": "schemes",
    "ReZero": "schemes",
    "LayerScale": "schemes",
    "NFResNet": "schemes",
    "Fractional": "schemes",
    "Balanced": "schemes",
    "RandomWalk": "schemes",
    "GivenScheme": "schemes",
    "Risotto": "schemes",
    "Normal": "schemes",
    "LooksLinear": "schemes",
    "OrthogonalScheme": "schemes",
    "Linear": "activations",
    "ReLU": "activations",
    "LeakyReLU": "activations",
    "RandomisedLeakyReLU": "activations",
    "BalancedReLU": "activations",
    "Tanh": "activations",
    "Erf": "activations",
    "GELU": "activations",
    "SiLU": "activations",
    "FunctionActivation": "activations",
    "Gaussian": "laws",
    "Uniform": "laws",
    "Rademacher": "laws",
    "StudentT": "laws",
    "Stable": "laws",
    "Orthogonal": "laws",
    "Independent": "processes",
    "FractionalGaussianNoise": "processes",
    "Rbf": "processes",
    "Matern": "processes",
    "Cauchy": "processes",
    "Hermite": "processes",
    "Tied": "processes",
    "GivenCovariance": "processes",
}

# Modules that are reached as attributes: `sigprop.activations.function`, `sigprop.errors`.
_MODULES = ("activations", "errors", "inputs", "laws", "observables", "processes", "schemes")

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from sigprop.activations import (
        GELU,
        BalancedReLU,
        Erf,
        FunctionActivation,
        LeakyReLU,
        Linear,
        RandomisedLeakyReLU,
        ReLU,
        SiLU,
        Tanh,
    )
    from sigprop.inputs import Batch, Equiangular, Given, Pair, Point
    from sigprop.laws import Gaussian, Orthogonal, Rademacher, Stable, StudentT, Uniform
    from sigprop.moment import estimate_moment
    from sigprop.processes import (
        Cauchy,
        FractionalGaussianNoise,
        GivenCovariance,
        Hermite,
        Independent,
        Matern,
        Rbf,
        Tied,
    )
    from sigprop.result import load
    from sigprop.schemes import (
        Balanced,
        BatchNorm,
        DeltaOrthogonal,
        Fixup,
        Fractional,
        GivenScheme,
        Glorot,
        He,
        LayerScale,
        LeCun,
        LooksLinear,
        NFResNet,
        Normal,
        OrthogonalScheme,
        Power,
        RandomWalk,
        ReZero,
        Risotto,
        SkipInit,
        StableResNet,
    )
    from sigprop.simulate import simulate, simulate_coupled
    from sigprop.spec import Ensemble, Network
    from sigprop.sweep import sweep


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"sigprop.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'sigprop' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sigprop.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES})


class _Package(types.ModuleType):
    """Keeps ``sigprop.simulate`` the function, whoever imports the module of that name.

    The import system binds a submodule to its package after loading it, which would hide the
    public function of the same name.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, types.ModuleType) and _HOME.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
