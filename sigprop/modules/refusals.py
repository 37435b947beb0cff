"""What no function of this package can work on: said before any work, naming the module."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import functional
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from sigprop.errors import SpecError, Unsupported

__all__ = ["check_loss", "check_module", "where"]


def where(model: nn.Module, name: str) -> str:
    """``module 'layer1.0' (BasicBlock)``, for a message."""
    if not name:
        return f"the module {type(model).__name__}"
    return f"module {name!r} ({type(model.get_submodule(name)).__name__})"


def check_module(model: nn.Module) -> None:
    """Raise unless ``model`` is a module of plain, initialised parameters.

    Raises
    ------
    SpecError
        If it is no module, or has no parameters, or lazily initialised ones.
    Unsupported
        If a module in it is quantised, or its parameters are on the meta device.
    """
    if not isinstance(model, nn.Module):
        raise SpecError(
            f"a torch.nn.Module is needed, got {type(model).__name__}: layers are found and named "
            "by it. Wrap a function in a module."
        )
    for name, module in model.named_modules():
        if hasattr(module, "_packed_params") or hasattr(module, "weight_fake_quant"):
            raise Unsupported(
                f"{where(model, name)} is quantised: its weights are no floating-point "
                "parameters. Use the model before its quantisation."
            )
        own = {**dict(module.named_parameters(recurse=False)), **_buffers(module)}
        for key, tensor in own.items():
            if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
                raise SpecError(
                    f"{where(model, name)} is lazily initialised: its {key} has no shape yet. Run "
                    "the model once on an example input first."
                )
            if tensor.is_meta:
                raise Unsupported(
                    f"{where(model, name)} is on the meta device: its {key} has a shape and no "
                    "numbers. Move it with to_empty(device='cpu') first."
                )
            if isinstance(tensor, nn.Parameter) and not tensor.is_floating_point():
                raise Unsupported(
                    f"{where(model, name)} has a {key} of type {tensor.dtype}: integer and complex "
                    "weights have no scale of the schemes here. Use the model before its "
                    "quantisation."
                )
    if next(model.parameters(), None) is None:
        raise SpecError(
            f"{where(model, '')} has no parameters: there is nothing to read, initialise or "
            "probe. Give a module with weight layers."
        )


def _buffers(module: nn.Module) -> dict[str, object]:
    return dict(module.named_buffers(recurse=False))


def check_loss(loss_fn: Any) -> None:
    """Raise SpecError unless ``loss_fn`` may be called with an output and a batch.

    A loss of torch takes labels, which only the caller can find in a batch.
    """
    name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    if not callable(loss_fn):
        raise SpecError(
            f"loss_fn must be a function of an output and a batch, got {name}: it is what is "
            "differentiated. Give for example lambda output, batch: "
            "torch.nn.functional.cross_entropy(output, batch[1])."
        )
    if isinstance(loss_fn, nn.modules.loss._Loss) or getattr(functional, name, 0) is loss_fn:
        raise SpecError(
            f"loss_fn is called with an output and a whole batch, and torch's {name} takes labels. "
            "Say where they are: lambda output, batch: loss(output, batch[1])."
        )
