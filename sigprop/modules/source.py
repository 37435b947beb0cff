"""A module named on a command line, ``package.models:build`` or ``mlp:depth=20``, and its inputs.

What a person writes is checked word by word, so that a typing error is one sentence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from sigprop.errors import SigpropError, SpecError, UnknownName
from sigprop.modules._pass import failed
from sigprop.modules._untouched import seeded
from sigprop.modules.architectures import Architecture, Shape, architecture
from sigprop.modules.probe import network_seed
from sigprop.modules.recording import undisturbed
from sigprop.modules.refusals import check_module
from sigprop.registry import did_you_mean

__all__ = [
    "Source",
    "as_measured",
    "as_trained",
    "load_source",
    "named_source",
    "random_batch",
    "scores",
]


class Source:
    """What a command line names: a callable that builds modules, or one module.

    Attributes
    ----------
    target : str
        As it was written.
    fixed : Module or None
        The module, if it is one and nothing builds it anew.
    line : str or None
        The network of `sigprop.modules.architecture`, if it is one, with all its options.
    """

    line: str | None = None

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

    def drawn(self, seed: int) -> torch.nn.Module:
        """A module whose random numbers are of this seed."""
        with seeded(seed):
            return self.build()

    def told(self, model: torch.nn.Module) -> dict[str, str]:
        """What it builds, in plain values by which a result knows it again.

        Of a callable: its name, and a digest of the modules that it makes and of the files in
        which they and it are written.
        """
        if self.line is not None:
            return {}
        digest = hashlib.sha256(repr(model).encode())
        for name, value in model.named_parameters():
            digest.update(f"{name} {tuple(value.shape)}".encode())
        for path in sorted(_files(self._call, *map(type, model.modules()))):
            digest.update(Path(path).read_bytes())
        return {"network": self.target, "source": digest.hexdigest()[:16]}

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


def _files(*written: Any) -> set[str]:
    """Where these are written, as far as it is known; what torch has is told by its version."""
    found = set()
    for one in written:
        with contextlib.suppress(TypeError, OSError):
            found.add(inspect.getsourcefile(inspect.unwrap(one)) or "")
    own = os.path.dirname(torch.__file__) + os.sep
    return {path for path in found if os.path.isfile(path) and not path.startswith(own)}


class _Line(Source):
    """A small network by its line of text, for images of one shape."""

    def __init__(
        self, made: Architecture, shape: Shape, classes: int, device: torch.device
    ) -> None:
        def build(**options: Any) -> torch.nn.Module:
            chosen = dataclasses.replace(made, **options)
            return chosen.build(shape, classes, seed=int(torch.randint(2**62, ())))

        super().__init__(str(made), build, device)
        self.line, self._made, self._shape, self._classes = str(made), made, shape, classes

    def drawn(self, seed: int) -> torch.nn.Module:
        return self._made.build(self._shape, self._classes, seed=seed).to(self.device)

    def require(self, *options: str) -> None:
        known = [field.name for field in dataclasses.fields(self._made)]
        for option in options:
            if option not in known:
                raise SpecError(
                    f"{self._made.kind} has no {option} to be varied: its options are "
                    f"{', '.join(known)}. Name mlp, resmlp or stacked, or a function of your own "
                    f"with a parameter {option}."
                )


def named_source(
    spec: str, shape: tuple[int, ...], *, classes: int = 10, device: str = "auto"
) -> Source:
    """What a command line names: a network by a line of text, or what builds a module.

    Parameters
    ----------
    spec : str
        ``mlp:depth=20``, as `sigprop.modules.architecture` reads it, or ``package.models:build``.
    shape : tuple of int
        Of one input, for a network by a line of text: (channels, height, width).
    classes : int
        Likewise, of its outputs.
    device : str
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    SpecError, UnknownName
        Before anything is built.
    """
    import sigprop.modules.stacked  # noqa: F401  one more kind

    place = _device(device)
    kind, colon, rest = (part.strip() for part in spec.partition(":"))
    if kind not in Architecture.family and not colon:
        raise UnknownName(
            f"{spec!r} is no network that is known here, and does not say what builds a module."
            f"{did_you_mean(kind, Architecture.family)} Known: {', '.join(Architecture.family)}. "
            "Of your own, write the module of Python, a colon, and the function: "
            "my_package.models:build"
        )
    # An option has "=", the name of a function has not.
    if kind not in Architecture.family and "=" not in rest:
        return load_source(spec, device)
    made = architecture(spec)
    if len(shape) != 3:
        raise SpecError(
            f"{kind} takes images, and inputs of shape {shape} are none: an image has channels, "
            "height and width. Write for example: --input 8,1,8,8"
        )
    channels, height, width = shape
    return _Line(made, (channels, height, width), classes, place)


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
        if name.endswith(".py"):
            raise UnknownName(
                f"{name!r} is a file, and modules of Python are named without .py and with points "
                f"for slashes. Write {name.removesuffix('.py').replace('/', '.')}:{attribute}"
            ) from error
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


def as_measured(model: torch.nn.Module) -> tuple[torch.nn.Module, torch.dtype, str]:
    """``model`` in a type in which it can be measured, the type of its inputs, and what to tell.

    Parameters of less than 32 bits are widened to float32, with all others: a copy of its numbers,
    whose sums are not rounded to a few digits. Other modules are left alone; inputs are of the
    type of the first parameter.

    Parameters
    ----------
    model : Module
        Its parameters are replaced where they are widened.

    Returns
    -------
    (Module, dtype, str)
        The words are empty where all is float32.

    Raises
    ------
    SpecError, Unsupported
        If it has no parameters, or such as cannot be read.
    """
    check_module(model)
    types = Counter(parameter.dtype for parameter in model.parameters())
    told = " and ".join(_words(dtype) for dtype in types)
    if min(dtype.itemsize for dtype in types) < torch.float32.itemsize:
        words = (
            f"Its parameters are {told}: measured was a copy in float32, so what their own "
            "rounding does on the way is not seen."
        )
        return model.float(), torch.float32, words
    first = next(iter(types))
    words = "" if first is torch.float32 else f"Parameters and inputs are {told}."
    if len(types) > 1:
        words = (
            f"Its parameters are of several types, {told}; inputs are {_words(first)}, as the "
            "first of them."
        )
    return model, first, words


def as_trained(model: torch.nn.Module) -> tuple[torch.nn.Module, str]:
    """``model`` in float32, in which images are, and what is to be told where it was not.

    Raises
    ------
    SpecError, Unsupported
        If it has no parameters, or such as cannot be read.
    """
    check_module(model)
    types = Counter(parameter.dtype for parameter in model.parameters())
    if set(types) == {torch.float32}:
        return model, ""
    told = " and ".join(_words(dtype) for dtype in types)
    return model.float(), f"Its parameters are {told}; used was a copy in float32, as images are."


def scores(target: str, model: torch.nn.Module, images: torch.Tensor, classes: int) -> torch.Tensor:
    """What ``model`` returns for a few images, in evaluation mode; it is left as it was.

    Raises
    ------
    SpecError
        If it cannot be run on them, or returns no score for every image and class.
    """
    with undisturbed(model), torch.no_grad():
        for module in model.modules():
            module.training = False
        try:
            output = model(images)
        except SigpropError:
            raise
        except Exception as error:
            shape = ", ".join(map(str, images.shape[1:]))
            instead = f"Let {target} take images of shape (n, {shape})."
            raise failed(model, error, instead) from error
    found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if not isinstance(found, tuple) or len(found) != 2 or found[1] < classes:
        raise SpecError(
            f"{target} returned {found} for {len(images)} images with labels up to {classes - 1}, "
            "so there is no cross-entropy. Let it return one tensor, a score for every image and "
            f"class: ({len(images)}, {classes})."
        )
    return output


def _words(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def random_batch(
    shape: tuple[int, ...],
    *,
    tokens: int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: torch.dtype = torch.float32,
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
    dtype : dtype
        Of the normal numbers, which are drawn in float32 whatever it is.

    Returns
    -------
    Tensor, of ``shape``
    """
    generator = torch.Generator().manual_seed(seed)
    if tokens is None:
        made = torch.randn(shape, generator=generator).to(dtype)
    else:
        made = torch.randint(tokens, shape, generator=generator)
    return made.to(_device(device))
