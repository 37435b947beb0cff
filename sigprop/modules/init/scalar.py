"""A scalar for a branch that has none: a parameter that multiplies its last weight and bias."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from sigprop.modules.roles import WeightLayer

__all__ = ["BranchScalar", "add_scalar", "name_of_scalar"]


class BranchScalar(nn.Module):
    """scale times a tensor; the same scale for the weight and the bias of a layer."""

    def __init__(self, value: float, like: torch.Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((), value, dtype=like.dtype, device=like.device))

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.scale * tensor


def _attribute(name: str) -> str:
    return name.rpartition(".")[2]


def name_of_scalar(layer: WeightLayer) -> str:
    """What the parameter is called that `add_scalar` makes."""
    assert layer.weight is not None
    return f"{layer.weight.rpartition('.')[0]}.parametrizations.{_attribute(layer.weight)}.0.scale"


def add_scalar(model: nn.Module, layer: WeightLayer, value: float) -> None:
    """Multiply a layer by a parameter, by a parametrisation of torch."""
    assert layer.weight is not None
    owner = model.get_submodule(layer.weight.rpartition(".")[0])
    scalar = BranchScalar(value, model.get_parameter(layer.weight))
    parametrize.register_parametrization(owner, _attribute(layer.weight), scalar)
    if layer.bias is not None:
        parametrize.register_parametrization(owner, _attribute(layer.bias), scalar)
