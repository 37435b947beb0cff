"""Hooks that keep a few numbers of every layer that runs, and never its activations.

A layer's output y, of n inputs, leaves here n sums of squares, the mean cosine of the pairs
among its first inputs, and the share of units that no input turns on; a hook on y does the same
for its gradient on the way back. Each is one pass over y, which is what an activation costs.
Sums are those of torch in the precision of y, blockwise, so that they are good to a few units of
its last place; where squares would leave the range of float32 they are taken again in float64.
From there on everything is float64.
"""

from __future__ import annotations

import contextlib
import fnmatch
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sigprop.errors import UnknownName, Unsupported
from sigprop.modules.recording import tensors_in
from sigprop.modules.refusals import check_module, where
from sigprop.registry import did_you_mean

__all__ = ["PAIRED", "Row", "Watch", "first_tensor", "layers_of", "refuse_unreadable"]

PAIRED = 8  # inputs whose pairs are looked at: 28 pairs for the price of an activation

_CHANNELS = (
    torch.nn.modules.conv._ConvNd,
    torch.nn.modules.batchnorm._NormBase,
    torch.nn.GroupNorm,
)
_FEATURES = (torch.nn.Linear, torch.nn.LayerNorm, torch.nn.Embedding, torch.nn.MultiheadAttention)


@dataclass
class Row:
    """What one call of one layer left; tensors of float64 on the device of the layer.

    Attributes
    ----------
    name, kind, call : str, str, int
        Of the module, of its class, and the how manieth call of it this is, from 0.
    entries : int
        Numbers of the output for each input.
    squares, gradient_squares : Tensor, shape (n,)
        Sum of squares for each input, or shape (1,) over all, where the output does not run over
        the inputs. The second is None until the gradient passes.
    per_input : bool
        Which of the two.
    cosine : Tensor, shape ()
        Mean over pairs; nan where there is none.
    dead : Tensor, shape ()
    """

    name: str
    kind: str
    call: int
    entries: float
    squares: torch.Tensor
    per_input: bool
    cosine: torch.Tensor
    dead: torch.Tensor
    gradient_squares: torch.Tensor | None = None

    @property
    def label(self) -> str:
        """Name of the row: the module's, with ``#2`` on its second call."""
        return self.name if self.call == 0 else f"{self.name}#{self.call + 1}"


class Watch:
    """Rows of one pass forward and backward, in the order of execution.

    Parameters
    ----------
    layers : mapping of str to Module
        What is watched.
    inputs : int
        How many there are.
    axis : int
        Of an output, over which they run.
    end : str, optional
        Label of the row at which a cotangent is to enter.
    """

    def __init__(
        self,
        layers: Mapping[str, torch.nn.Module],
        inputs: int,
        axis: int,
        end: str | None = None,
    ) -> None:
        self.layers, self.inputs, self.axis, self.end = layers, inputs, axis, end
        # Not the tensor itself, which may be written to later, but where it stands in the graph.
        self.entrance: tuple[Any, torch.Size, torch.device, torch.dtype] | None = None
        self.rows: list[Row] = []
        self.called: set[str] = set()  # with or without a row
        self.starts: list[torch.nn.Module] = []  # layers at which the graph begins
        self.leaves: list[torch.Tensor] = []  # or begins because this watch made it
        self.severed = ""  # the first layer that ran without a graph
        self._calls: dict[str, int] = {}
        self._unit_axis = 1

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Watch within this context: the forward pass. Hooks on tensors go with the graph."""
        handles = [
            module.register_forward_hook(self._forward(name))
            for name, module in self.layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _forward(self, name: str) -> Callable[..., torch.Tensor | None]:
        def hook(module: torch.nn.Module, given: Any, output: Any) -> torch.Tensor | None:
            self.called.add(name)
            y = first_tensor(output)
            if y is None or y.numel() == 0:
                return None
            replaced = None
            if not y.requires_grad:
                if not torch.is_grad_enabled():
                    self.severed = self.severed or name
                elif output is y and not any(x.requires_grad for x in tensors_in(given)):
                    # Frozen, and fed by integers: nothing before it wants a gradient, but it does.
                    leaf = y.detach().clone().requires_grad_()
                    self.leaves.append(leaf)
                    y = replaced = leaf.clone()  # which may be written to, a leaf may not
            elif not any(x.requires_grad for x in tensors_in(given)):
                self.starts.append(module)
            row = self._row(name, module, y.detach())
            self.rows.append(row)
            self.follow(row, y)
            return replaced

        return hook

    def _row(self, name: str, module: torch.nn.Module, y: torch.Tensor) -> Row:
        call = self._calls[name] = self._calls.get(name, -1) + 1
        if isinstance(module, _CHANNELS):
            self._unit_axis = 1
        elif isinstance(module, _FEATURES):
            self._unit_axis = -1  # what acts entry by entry goes on as the layer before it
        return self.measured(name, type(module).__name__, call, y)

    def measured(self, name: str, kind: str, call: int, y: torch.Tensor) -> Row:
        """The numbers of one tensor, detached."""
        flat = self._flat(y)
        norms, rows = _norms(flat)
        unknown = norms.new_tensor(math.nan)
        runs = self._runs(y)
        return Row(
            name=name,
            kind=kind,
            call=call,
            entries=y.numel() / self.inputs,
            squares=norms**2,
            per_input=runs,
            cosine=_mean_cosine(rows, norms) if runs else unknown,
            dead=_dead(y, self.axis, self._unit_axis) if y.dim() > 1 else unknown,
        )

    def squares(self, y: torch.Tensor) -> torch.Tensor:
        """Sum of squares for each input, in float64."""
        return _norms(self._flat(y.detach()))[0] ** 2

    def follow(self, row: Row, y: torch.Tensor) -> None:
        """Wait for the gradient of y."""

        def hook(gradient: torch.Tensor) -> None:
            row.gradient_squares = self.squares(gradient)

        if y.requires_grad:
            y.register_hook(hook)
            if row.label == self.end:
                edge = torch.autograd.graph.get_gradient_edge(y)
                self.entrance = edge, y.shape, y.device, y.dtype

    def _runs(self, y: torch.Tensor) -> bool:
        return y.dim() > self.axis and y.shape[self.axis] == self.inputs

    def _flat(self, y: torch.Tensor) -> torch.Tensor:
        """Shape (n, entries) in the order of memory, for a sum of squares has no other."""
        if not self._runs(y):
            return y.reshape(1, -1)
        others = [d for d in range(y.dim()) if d != self.axis]
        others.sort(key=y.stride, reverse=True)
        return y.permute(self.axis, *others).reshape(self.inputs, -1)


def _norms(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Norm of every row in float64, and rows whose products are in range."""
    if flat.dtype in (torch.float16, torch.bfloat16):
        flat = flat.float()
    norms = torch.linalg.vector_norm(flat, dim=1).double()
    if flat.dtype == torch.float32 and not bool(((norms > 1e-15) & (norms < 1e15)).all()):
        flat = flat.double()
        norms = torch.linalg.vector_norm(flat, dim=1)
    return norms, flat


def _mean_cosine(flat: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    some, lengths = flat[:PAIRED], norms[:PAIRED]
    i, j = torch.triu_indices(len(some), len(some), 1, device=flat.device)
    products = (some @ some.T).double()[i, j]
    return torch.nanmean(products / (lengths[i] * lengths[j]))


def _dead(y: torch.Tensor, inputs: int, units: int) -> torch.Tensor:
    """Share of units that are never on, over all inputs and all places of a unit."""
    keep = units % y.dim()
    if keep == inputs:
        keep = y.dim() - 1
    most = y.amax([d for d in range(y.dim()) if d != keep])
    return (most <= 0).double().mean()


# --------------------------------------------------------------------- what is watched


def layers_of(model: torch.nn.Module, names: str | Sequence[str]) -> dict[str, torch.nn.Module]:
    """The layers whose name a pattern matches: modules with parameters of their own or no children.

    A container is watched where a pattern other than ``*`` matches its name.

    Raises
    ------
    UnknownName
        If a pattern matches nothing.
    """
    patterns = [names] if isinstance(names, str) else list(names)
    modules = dict(model.named_modules())
    if len(modules) > 1:
        modules.pop("")
    else:
        modules = {type(model).__name__: model}
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in modules if fnmatch.fnmatchcase(name, pattern)}
        if pattern == "*":
            found = {name for name in found if _is_layer(modules[name])}
        if not found:
            raise UnknownName(
                f"no module of {type(model).__name__} is called {pattern!r}, so nothing could be "
                f"measured there.{did_you_mean(pattern, modules)} Patterns are those of a shell: "
                "'layer1.*'."
            )
        chosen |= found
    return {name: module for name, module in modules.items() if name in chosen}


def _is_layer(module: torch.nn.Module) -> bool:
    return not any(True for _ in module.children()) or any(
        True for _ in module.parameters(recurse=False)
    )


def refuse_unreadable(model: torch.nn.Module) -> None:
    """Raise for modules that cannot be hooked or whose numbers cannot be read.

    Raises
    ------
    SpecError, Unsupported
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise Unsupported(
                f"{where(model, name)} is compiled by torch.jit, which runs no hooks of the layers "
                "within it. Give the module from which it was made."
            )
        if hasattr(module, "_orig_mod"):
            raise Unsupported(
                f"{where(model, name)} is compiled by torch.compile, which may fuse the layers "
                "that would be looked at. Give the module from which it was made: model._orig_mod."
            )
    check_module(model)


def first_tensor(output: Any) -> torch.Tensor | None:
    """The first tensor of floating point in what a module returned; None if there is none."""
    return next((t for t in tensors_in(output) if t.is_floating_point()), None)
