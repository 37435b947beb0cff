"""A module named on a command line, ``package.models:build``, and a batch made to fit it.

What a person writes is checked word by word, so that a typing error is one sentence.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import torch

from sigprop.errors import SigpropError, SpecError, UnknownName
from sigprop.modules._untouched import seeded
from sigprop.modules.probe import network_seed
from sigprop.registry import did_you_mean

__all__ = ["Source", "load_source", "random_batch"]


class Source:
    """What a command line names: a callable that builds modules, or one module.

    Attributes
    ----------
    target : str
        As it was written.
    fixed : Module or None
        The module, if it is one and nothing builds it anew.
    """

    def __init__(self, target: str, value: Any, device: torch.device) -> None:
        self.target, self.device = target, device
        self.fixed = value.to(device) if isinstance(value, torch.nn.Module) else None
        self._call = value

    def build(self, **options: Any) -> torch.nn.Module:
        """Make a module on the device; its random numbers are those of torch.

        Raises
        ------
        SpecError
            If it raises, or returns anything but a Module.
        """
        if self.fixed is not None:
            return self.fixed
        try:
            model = self._call(**options)
        except SigpropError:
            raise
        except Exception as error:
            raise SpecError(
                f"{self.target} raised {type(error).__name__}: {str(error).strip() or 'no words'}. "
                "No module was built, so nothing was measured. Mend it, or name another."
            ) from error
        if not isinstance(model, torch.nn.Module):
            raise SpecError(
                f"{self.target} returned {type(model).__name__} and not a torch.nn.Module, so "
                "there is nothing to measure. Name a callable that returns the module itself."
            )
        return model.to(self.device)

    def first(self, seed: int, **options: Any) -> torch.nn.Module:
        """The first of the networks that `probe` builds under this seed."""
        with seeded(network_seed(seed, 0)):
            return self.build(**options)

    def at(self, depth: int) -> Callable[[], torch.nn.Module]:
        """The callable for one depth."""
        return lambda: self.build(depth=depth)

    def require(self, *options: str) -> None:
        """Raise SpecError unless it can be called with these options and nothing else."""
        if self.fixed is not None:
            if options:
                raise SpecError(
                    f"{self.target} is a module and not a callable, so it has one depth. Name a "
                    "function with a parameter depth that returns a module."
                )
            return
        try:
            signature = inspect.signature(self._call)
        except (TypeError, ValueError):
            return  # built in: the call itself will tell
        try:
            signature.bind(**dict.fromkeys(options))
        except TypeError as error:
            how = f"with {', '.join(f'{o}=' for o in options)}" if options else "without arguments"
            raise SpecError(
                f"{self.target} cannot be called {how}: {error}. It is called once for every "
                f"network. Write a function build({', '.join(options)}) that returns the module."
            ) from None


def load_source(target: str, device: str = "auto") -> Source:
    """Import ``package.module:attribute``, the current directory first on the path.

    Parameters
    ----------
    target : str
    device : str
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    SpecError, UnknownName
        Before anything is built.
    """
    place = _device(device)
    name, colon, attribute = target.partition(":")
    if not (colon and name and attribute):
        raise SpecError(
            f"{target!r} does not say what builds the module. Write the module of Python, a colon, "
            "and the function: my_package.models:build"
        )
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        held: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and not (name == error.name or name.startswith(error.name + ".")):
            raise SpecError(
                f"{name} imports {error.name}, which is not installed. Install it here."
            ) from error
        raise UnknownName(
            f"there is no module {error.name!r} of Python, neither in {here} nor among those "
            "installed. Run the command where it can be imported, or install its package."
        ) from error
    except Exception as error:
        raise SpecError(
            f"importing {name} raised {type(error).__name__}: {str(error).strip()}. Nothing was "
            "built. See that it can be imported."
        ) from error
    for part in attribute.split("."):
        if not hasattr(held, part):
            known = [n for n in dir(held) if not n.startswith("_")]
            raise UnknownName(f"{name} has no {part!r}.{did_you_mean(part, known)}")
        held = getattr(held, part)
    if not callable(held):
        raise SpecError(
            f"{target} is {type(held).__name__} and neither a module of torch nor a callable that "
            "builds one. Name the function that builds it."
        )
    return Source(target, held, place)


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise UnknownName(
            f"{name!r} is not a device.{did_you_mean(name, ('auto', 'cpu', 'cuda'))} Known: auto, "
            "cpu, cuda."
        )
    if name == "cuda" and not torch.cuda.is_available():
        raise SpecError(
            "--device cuda was asked for, and torch sees no GPU here. Write --device cpu, or auto."
        )
    there = torch.cuda.is_available() and name != "cpu"
    return torch.device("cuda" if there else "cpu")


def random_batch(
    shape: tuple[int, ...], *, tokens: int | None = None, seed: int = 0, device: str = "auto"
) -> torch.Tensor:
    """Inputs of standard normal numbers, or of token numbers drawn evenly below ``tokens``.

    Parameters
    ----------
    shape : tuple of int
        The first is the number of inputs.
    tokens : int, optional
        How many different ones there are.
    seed : int
    device : str

    Returns
    -------
    Tensor, of ``shape``
    """
    generator = torch.Generator().manual_seed(seed)
    if tokens is None:
        made = torch.randn(shape, generator=generator)
    else:
        made = torch.randint(tokens, shape, generator=generator)
    return made.to(_device(device))
