"""The layers of a network that multiply by a weight, in the order in which they run.

The order of ``model.modules()`` is that in which layers were written down, which need not be
that in which they act. Here one pass with forward hooks finds out, and a visitor may change a
layer at the moment when its input stands, before anything reads its output: one pass through the
network then sets all layers one after the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from sigprop.errors import SpecError, Unsupported
from sigprop.modules.nested import call

__all__ = ["WeightLayer", "acting", "names_of", "visit", "weight_layers"]

_KINDS = (nn.Linear, nn.modules.conv._ConvNd)

Again = Callable[[], torch.Tensor]
Visitor = Callable[["WeightLayer", torch.Tensor, Again], torch.Tensor]


@dataclass(frozen=True, eq=False)
class WeightLayer:
    """A linear or convolutional layer whose weight may be set.

    Attributes
    ----------
    name : str
        As in ``named_modules``.
    weight_name : str
        As in ``named_parameters``, which names a shared tensor once.
    bias_name : str or None
        None if there is no bias or it may not be set.
    bias_frozen : bool
        Whether there is a bias that may not be set.
    """

    name: str
    module: nn.Module
    weight_name: str
    bias_name: str | None
    bias_frozen: bool

    @property
    def weight(self) -> nn.Parameter:
        """Its weight."""
        return self.module.weight  # type: ignore[return-value]

    @property
    def bias(self) -> nn.Parameter | None:
        """Its bias, if it may be set."""
        return None if self.bias_name is None else self.module.bias  # type: ignore[return-value]

    @property
    def weight_channels(self) -> int:
        """Dimension of the weight that counts output channels."""
        return 1 if getattr(self.module, "transposed", False) else 0

    @property
    def fan_in(self) -> float:
        """How many products one output sums, borders aside."""
        weight, module = self.weight, self.module
        if not isinstance(module, nn.modules.conv._ConvNd):
            return weight.shape[1]
        taps = weight[0, 0].numel()
        if not module.transposed:
            return weight.shape[1] * taps
        steps = 1
        for stride in module.stride:
            steps *= stride
        return weight.shape[0] / module.groups * taps / steps

    def output_channels(self, output: torch.Tensor) -> int:
        """Dimension of ``output`` that counts channels."""
        if isinstance(self.module, nn.modules.conv._ConvNd):
            return output.ndim - 1 - len(self.module.kernel_size)
        return output.ndim - 1


def names_of(model: nn.Module) -> dict[int, str]:
    """Identity of every parameter -> the one name that ``named_parameters`` gives it."""
    return {id(value): name for name, value in model.named_parameters()}


def weight_layers(model: nn.Module, method: str) -> tuple[list[WeightLayer], list[str]]:
    """Return the layers that ``method`` may set, as written down, and sentences of what it may not.

    Layers with a frozen weight are left out. Layers that share a weight are all there: `visit`
    shows the one that acts first.

    Raises
    ------
    SpecError
        If there is no such layer.
    Unsupported
        If the weight of a layer is computed from other tensors, as by a parametrisation.
    """
    names = names_of(model)
    found: list[WeightLayer] = []
    frozen, shared, seen = [], [], set()
    for name, module in model.named_modules():
        if not isinstance(module, _KINDS):
            continue
        weight = module._parameters.get("weight")
        if weight is None or parametrize.is_parametrized(module):
            raise Unsupported(
                f"layer {name!r} computes its weight from other tensors (a parametrisation such "
                f"as weight or spectral normalisation): {method} cannot set it. Remove the "
                "parametrisation, initialise, and put it back."
            )
        if not weight.requires_grad:
            frozen.append(name)
            continue
        if id(weight) in seen:
            shared.append(name)
        seen.add(id(weight))
        bias = module._parameters.get("bias")
        free = bias is not None and bias.requires_grad
        found.append(
            WeightLayer(
                name=name,
                module=module,
                weight_name=names[id(weight)],
                bias_name=names[id(bias)] if free else None,
                bias_frozen=bias is not None and not free,
            )
        )
    if not found:
        raise SpecError(
            f"{type(model).__name__} has no linear or convolutional layer with a trainable "
            f"weight: {method} has nothing to set. Give the network whose layers it should set."
        )
    words = []
    if frozen:
        words.append(f"Frozen and left as they are: {', '.join(frozen)}.")
    if shared:
        words.append(
            f"Sharing the weight of another layer, set where it acts first: {', '.join(shared)}."
        )
    held = {layer.weight_name for layer in found}
    others = [
        name
        for name, value in model.named_parameters()
        if value.requires_grad and value.ndim >= 2 and name not in held
    ]
    if others:
        words.append(f"No weight of a linear or convolutional layer: {', '.join(others)}.")
    return found, words


@contextlib.contextmanager
def _hooked(layers: list[WeightLayer], visitor: Visitor) -> Iterator[list[WeightLayer]]:
    order: list[WeightLayer] = []
    handles: list[Any] = []

    def watch(layer: WeightLayer) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: torch.Tensor) -> Any:
            # A layer that acts again, or whose weight did, is as it was set.
            if any(layer.weight is one.weight for one in order):
                return None
            order.append(layer)
            return visitor(layer, output, lambda: module.forward(*args, **kwargs))

        return layer.module.register_forward_hook(hook, with_kwargs=True, prepend=True)

    try:
        for layer in layers:
            handles.append(watch(layer))
        yield order
    finally:
        for handle in handles:
            handle.remove()


def acting(
    model: nn.Module, inputs: Any, layers: list[WeightLayer], method: str
) -> tuple[list[WeightLayer], list[str]]:
    """Return those of ``layers`` whose weight acts on these inputs, and sentences of the others.

    A layer that is called as a function, past its hooks, is not seen: no method could tell what
    it puts out, so its weight is better left alone.

    Raises
    ------
    SpecError
        If none acts.
    """
    order = visit(model, inputs, layers, lambda layer, output, again: output)
    weights = {layer.weight_name for layer in layers if layer.name in order}
    found = [layer for layer in layers if layer.weight_name in weights]
    if not found:
        raise SpecError(
            f"no linear or convolutional layer of {type(model).__name__} is called as a module: "
            f"{method} has nothing to set. Give the network that calls them."
        )
    unseen = sorted({layer.weight_name for layer in layers} - weights)
    words = [f"Seen by no forward pass and left as they are: {', '.join(unseen)}."]
    return found, words if unseen else []


def visit(model: nn.Module, inputs: Any, layers: list[WeightLayer], visitor: Visitor) -> list[str]:
    """Run ``model`` once and let ``visitor`` see every layer when it acts for the first time.

    Parameters
    ----------
    visitor : callable
        Takes the layer, its output, and a function that computes the output again with the
        weights as they then are; returns the output that the rest of the network shall read.

    Returns
    -------
    list of str
        Names of the layers in the order in which they acted. A layer that is called as a
        function, past its hooks, or not at all, is missing.
    """
    with torch.no_grad(), _hooked(layers, visitor) as order:
        call(model, inputs)
    return [layer.name for layer in order]
