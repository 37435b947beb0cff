"""A module is lent, not given: what a measurement may change is put back, whatever happens.

Beside what `sigprop.modules.recording.undisturbed` keeps (modes, buffers, random numbers of torch)
these are parameters, their objects always and their values where asked for, and the random
numbers of Python. Gradients need no care, for nothing here calls ``backward``.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import torch

from sigprop.modules.recording import undisturbed

__all__ = ["seeded", "untouched"]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, on all devices, and put its generators and that of Python back at the end."""
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
    held = [(module, dict(module._parameters)) for module in model.modules()]
    copies = {id(p): p.detach().clone() for p in model.parameters()} if values else {}
    try:
        with undisturbed(model):
            yield
    finally:
        for module, parameters in held:
            module._parameters.clear()
            module._parameters.update(parameters)
        with torch.no_grad():
            for parameter in model.parameters() if values else ():
                parameter.copy_(copies[id(parameter)])
