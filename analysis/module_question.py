"""What ``check`` and ``probe`` ask of a module of torch: the options of both, and what they run.

The two commands take the same words, so that a verdict can be turned into its numbers by changing
one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigprop import options
from sigprop.errors import SpecError, Unsupported

if TYPE_CHECKING:
    import torch
    import xarray as xr

    from sigprop.modules.anatomy import Anatomy

__all__ = [
    "Device",
    "Measured",
    "Question",
    "Replicas",
    "Scheme",
    "Seed",
    "Shape",
    "Target",
    "Tokens",
    "heading",
]

Target = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="What builds it, my_package.models:build, or a network by a line of text, "
        "resmlp:depth=20 (mlp, resmlp, resnet, vgg, stacked).",
    ),
]
Shape = Annotated[
    str | None,
    typer.Option("--input", metavar="N,N,...", help="Shape of a batch, as in 8,3,32,32."),
]
Tokens = Annotated[
    int | None,
    typer.Option("--tokens", help="Inputs are whole numbers below this one, as of words."),
]
Scheme = Annotated[
    str | None,
    typer.Option(
        "--scheme",
        metavar="NAME",
        help="Initialise every network so: a function of sigprop.modules.init (he, fixup, ...). "
        "(default: as it is built)",
    ),
]
Replicas = Annotated[int, typer.Option("--replicas", help="Networks; each is built anew.")]
Seed = Annotated[int, typer.Option("--seed", help="Of networks and inputs.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]


@dataclass(frozen=True)
class Measured:
    """What was probed, and what of it is needed afterwards.

    Attributes
    ----------
    found : Dataset
        Of `sigprop.modules.probe`; its attribute ``types`` says what is to be told of types.
    model : Module
        The first of the networks.
    batch : Tensor
    """

    found: xr.Dataset
    model: torch.nn.Module
    batch: torch.Tensor

    def anatomy(self) -> Anatomy | None:
        """That of the first network; None where its operations cannot be recorded."""
        from sigprop.modules.anatomy import anatomy

        try:
            return anatomy(self.model, self.batch[:1])
        except (SpecError, Unsupported):
            return None

    def predicted(self) -> xr.Dataset | None:
        """What theory says of it in the limit of great width; None where it knows no row."""
        import numpy as np

        from analysis.module_law import predict_module

        graph = self.anatomy()
        if graph is None:
            return None
        try:
            theory = predict_module(self.model, self.found, graph, self.batch)
        except (SpecError, Unsupported):
            return None
        known = any(bool(np.isfinite(value).any()) for value in theory.data_vars.values())
        return theory if known else None


@dataclass(frozen=True, kw_only=True)
class Question:
    """The words of a command line, as they were written.

    Attributes
    ----------
    depth : int, optional
        What the callable is called with.
    """

    target: str
    shape: str | None
    tokens: int | None
    scheme: str | None
    replicas: int
    seed: int
    device: str
    depth: int | None = None

    def at(self, depth: int | None) -> Question:
        """The same of another depth."""
        return replace(self, depth=depth)

    def measured(self, names: list[str] | None = None) -> Measured:
        """Load, build and probe; with the cotangent ahead of an output layer that is 0.

        Raises
        ------
        SigpropError
            Before anything is built where the words are at fault.
        """
        size = self._size()
        from sigprop.extras import require_torch

        require_torch("a module of torch")
        from sigprop.modules import source as sources
        from sigprop.modules._untouched import seeded
        from sigprop.modules.initialised import initialiser
        from sigprop.modules.probe import network_seed, probe

        start = None if self.scheme is None else initialiser(self.scheme)
        source = sources.named_source(self.target, size[1:], device=self.device)
        given = {} if self.depth is None else {"depth": self.depth}
        source.require(*given)
        with seeded(network_seed(self.seed, 0)):
            model, dtype, told = sources.as_measured(source.build(**given))
            batch = sources.random_batch(
                size, tokens=self.tokens, seed=self.seed, device=self.device, dtype=dtype
            )
            if start is not None:
                start(model, batch[:2], _generator())

        def build() -> torch.nn.Module:
            built, *_ = sources.as_measured(source.build(**given))
            if start is not None:
                start(built, batch[:2], _generator())
            return built

        lent: torch.nn.Module | Callable[[], torch.nn.Module] = source.fixed or build
        asked: dict[str, Any] = {
            "ensemble": self.replicas if source.fixed is None else 1,
            "seed": self.seed,
            "names": names or "*",
        }
        found = probe(lent, batch, **asked)
        end = _end(found)
        if end is not None:
            found = probe(lent, batch, end=end, **asked)
        about = {"scheme": self.scheme} if self.scheme is not None else {}
        about |= {"types": told} if told else {}
        return Measured(found.assign_attrs(about), model, batch)

    def _size(self) -> tuple[int, ...]:
        """Shape of the batch; all that can be refused without loading torch is."""
        if self.replicas < 1:
            raise SpecError(
                f"--replicas must be 1 or more, got {self.replicas}: it counts networks, over "
                "which errors are taken. Write for example: --replicas 5"
            )
        options.seed(self.seed)
        size = options.counts("--input", self.shape)
        if size is None:
            raise SpecError(
                "no --input was given, and a module is judged by what it does to one. Write the "
                "shape of a batch, the number of inputs first: --input 8,3,32,32"
            )
        if min(size) < 1 or (self.tokens is not None and self.tokens < 1):
            raise SpecError(
                f"--input {self.shape} and --tokens must be positive: there is nothing to send "
                "otherwise. Write for example: --input 8,3,32,32"
            )
        return tuple(size)


def heading(found: xr.Dataset) -> list[str]:
    """The lines above a table: what was probed, and in which types."""
    about = found.attrs
    started = f", initialised by {about['scheme']}" if "scheme" in about else ""
    first = (
        f"{about['title']} {about['batch']}{started}, {about['mode']} mode, seed {about['seed']}"
    )
    return [first, *([about["types"]] if "types" in about else [])]


def _generator() -> torch.Generator:
    """A generator of its own, of the seed under which a network is built."""
    import torch

    return torch.Generator().manual_seed(int(torch.randint(2**62, ())))


def _end(found: xr.Dataset) -> str | None:
    """The last state of the trunk, if the output does not depend on it at first order."""
    from analysis.module_verdict import trunk

    dim, prefix = ("sum", "sum_") if found.sizes.get("sum", 0) >= 2 else ("layer", "")
    if (found[f"{prefix}gradient_second_moment"].fillna(0) > 0).any():
        return None
    try:
        return trunk(found).names[-1]
    except SpecError:
        return str(found[dim].values[-1])
