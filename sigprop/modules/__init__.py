"""Networks as torch knows them: any module built, initialised, probed and prepared.

Everything here works on modules that nobody of this project wrote. What is measured is
measured by hooks and put in a Dataset; no theorem is believed here (`analysis` adds what is
predicted). Needs the extra ``torch``, and loads it when a name is first used.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

from sigprop.extras import require_torch

# Public name -> the module of this package that holds it.
_HOME: dict[str, str] = {
    "Anatomy": "anatomy",
    "BatchPair": "batches",
    "Case": "study",
    "InitReport": "init.report",
    "InitResult": "init_result",
    "Recipe": "train",
    "Seeds": "train",
    "anatomy": "anatomy",
    "apjn": "partial_jacobian",
    "architecture": "architectures",
    "build": "build",
    "autoinit_analytic": "autoinit_analytic",
    "autoinit_jacobian": "autoinit_jacobian",
    "blocks_of": "partial_jacobian",
    "gradient_noise": "gradient_noise",
    "gradient_quotient": "gradient_quotient",
    "gradinit": "gradinit",
    "initialised": "initialised",
    "kraehenbuehl": "kraehenbuehl",
    "load_data": "data",
    "lsuv": "lsuv",
    "metainit": "metainit",
    "probe": "probe",
    "run_study": "study",
    "train_network": "train",
    "weights_before_and_after": "trained_weights",
}

# Modules that are reached as attributes: `sigprop.modules.init`.
_MODULES: tuple[str, ...] = ("init",)

__all__ = sorted({*_HOME, *_MODULES})


def __getattr__(name: str) -> Any:
    if name not in _HOME and name not in _MODULES:
        raise AttributeError(f"module 'sigprop.modules' has no attribute {name!r}")
    require_torch("sigprop.modules")
    if name in _MODULES:
        return importlib.import_module(f"sigprop.modules.{name}")
    value = getattr(importlib.import_module(f"sigprop.modules.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(types.ModuleType):
    """The package, on which a function keeps its name when its module of that name is loaded."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, types.ModuleType) and _HOME.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
