"""A module is lent, not given: what a measurement may change is put back, whatever happens.

Kept are modes, buffers, parameters (their values where asked for, the objects always) and the
states of the random number generators of torch and of Python. Gradients need no care, for nothing
here calls ``backward``.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import torch

__all__ = ["seeded", "untouched"]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators of torch, all devices, and put them and that of Python back at the end."""
    python = random.getstate()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)


@contextlib.contextmanager
def untouched(model: torch.nn.Module, *, values: bool = False) -> Iterator[None]:
    """Put everything of ``model`` back at the end.

    Parameters
    ----------
    model : Module
    values : bool
        Whether parameters may be written to: then a copy of them is kept, which takes the memory
        of the model once more.
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    buffers = [_kept(module._buffers, True) for module in modules]
    parameters = [_kept(module._parameters, values) for module in modules]
    try:
        yield
    finally:
        for module, mode, kept, held in zip(modules, modes, buffers, parameters):
            module.training = mode
            _put_back(module._buffers, kept)
            _put_back(module._parameters, held)


_Kept = dict[str, tuple[torch.Tensor | None, torch.Tensor | None]]


def _kept(tensors: dict, values: bool) -> _Kept:
    """By name: the tensor itself and, where there is one, a copy of its values."""
    kept: _Kept = {}
    for name, tensor in tensors.items():
        lazy = tensor is None or torch.nn.parameter.is_lazy(tensor)
        copy = tensor.detach().clone() if values and not lazy else None
        kept[name] = (tensor, copy)
    return kept


def _put_back(tensors: dict, kept: _Kept) -> None:
    for name in [name for name in tensors if name not in kept]:
        del tensors[name]
    for name, (tensor, copy) in kept.items():
        tensors[name] = tensor
        # Written only where it differs, since a graph that the caller holds notices any write;
        # the counter of writes does not tell, for batch normalisation bypasses it.
        if tensor is not None and copy is not None and not torch.equal(tensor, copy):
            with torch.no_grad():
                tensor.copy_(copy)
