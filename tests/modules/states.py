"""All that a method may not change about a module, as plain values that can be compared."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def bits(tensor: torch.Tensor | None) -> str | None:
    """The identity of a tensor's type and bits."""
    if tensor is None:
        return None
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(raw).hexdigest()}"


def picture(model: nn.Module) -> dict:
    """Parameters, gradients, buffers, modes, hooks, identities and the random state of torch."""
    return {
        "parameters": {name: bits(value) for name, value in model.named_parameters()},
        "objects": [(id(value), value.data_ptr()) for value in model.parameters()],
        "required": [value.requires_grad for value in model.parameters()],
        "gradients": [bits(value.grad) for value in model.parameters()],
        "buffers": {name: bits(value) for name, value in model.named_buffers()},
        "buffer_objects": [id(value) for value in model.buffers()],
        "modes": [module.training for module in model.modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
        "random": bits(torch.get_rng_state()),
    }
