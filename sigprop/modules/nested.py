"""The tensors inside whatever a network takes or gives: tuples, dicts, dataclasses, or one tensor.

A network of somebody else may return a tuple, a dict or a small class of its own. What is asked
of it here is always asked of its tensors, one after the other, in a fixed order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from sigprop.errors import Unsupported

__all__ = ["call", "examples", "floating", "mapped"]


def mapped(function: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """Return ``value`` with every tensor in it replaced by ``function`` of it.

    Containers are made anew, the tensors in them are not copied; what is neither a tensor nor a
    container stands as it is.
    """
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        return type(value)(*(mapped(function, part) for part in value))
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(function, part) for part in value)
    if isinstance(value, Mapping):
        return {key: mapped(function, part) for key, part in value.items()}
    return value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))


def floating(value: Any, whose: str) -> list[torch.Tensor]:
    """Return the real floating-point tensors in ``value``, in order.

    Parameters
    ----------
    value : any
    whose : str
        Subject of the error, such as ``"the output of the model"``.

    Raises
    ------
    Unsupported
        If there are none.
    """
    found = [tensor for tensor in _tensors(value) if tensor.is_floating_point()]
    if not found:
        raise Unsupported(
            f"{whose} holds no floating-point tensor (it is a {type(value).__name__}): there is "
            "nothing to measure or to differentiate. Return tensors, alone or in tuples, dicts or "
            "dataclasses."
        )
    return found


def examples(batch: Any) -> int:
    """Return how many examples a batch holds: the length of its first tensor; 0 if it has none."""
    for tensor in _tensors(batch):
        return len(tensor) if tensor.ndim else 0
    return 0


def call(model: nn.Module, inputs: Any) -> Any:
    """Return ``model(inputs)``; a tuple or list gives the arguments in order, a dict by name."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)
