"""Residual modules of plain torch, as somebody else would write them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

__all__ = ["Block", "conv_net", "mlp", "residual_mlp"]


class Block(nn.Module):
    """h + F(h) or S h + F(h), then perhaps a ReLU; F of layers with a ReLU between two."""

    def __init__(
        self,
        layers: list[nn.Module],
        shortcut: nn.Module | None = None,
        post: bool = False,
        gain: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.shortcut, self.post = shortcut, post
        self.gain = nn.Parameter(torch.ones(1)) if gain else None

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        x = self.layers[0](h)
        for layer in self.layers[1:]:
            x = layer(torch.relu(x))
        if self.gain is not None:
            x = self.gain * x
        z = x + (h if self.shortcut is None else self.shortcut(h))
        return torch.relu(z) if self.post else z


def residual_mlp(
    widths: tuple[int, ...],
    hidden: tuple[int, ...] = (8,),
    *,
    kind: str = "B",
    entering: int = 3,
    classes: int | None = None,
    gain: bool = False,
    bias: bool = True,
) -> nn.Sequential:
    """A residual MLP with states of ``widths``: kind B, C, or inner (no ReLU after the sum)."""
    if kind == "inner":
        modules: list[nn.Module] = []
    else:
        modules = [nn.Linear(entering, widths[0], bias=bias), nn.ReLU()]
    for before, after in pairwise(widths):
        edges = (before, *hidden, after)
        layers: list[nn.Module] = [nn.Linear(a, b, bias=bias) for a, b in pairwise(edges)]
        shortcut = nn.Linear(before, after, bias=bias) if kind == "C" else None
        modules.append(Block(layers, shortcut, post=kind != "inner", gain=gain))
    if classes is not None:
        modules.append(nn.Linear(widths[-1], classes, bias=bias))
    return nn.Sequential(*modules)


def conv_net(channels: tuple[int, ...], *, kind: str, stride: int = 1, hidden: int = 8):
    """A residual net of 3x3 kernels on images of 2 channels."""
    modules: list[nn.Module] = [nn.Conv2d(2, channels[0], 3, padding=1), nn.ReLU()]
    for before, after in pairwise(channels):
        layers: list[nn.Module] = [
            nn.Conv2d(before, hidden, 3, stride, padding=1),
            nn.Conv2d(hidden, after, 3, padding=1, padding_mode="circular"),
        ]
        shortcut = nn.Conv2d(before, after, 1, stride) if kind == "C" else None
        modules.append(Block(layers, shortcut, post=True))
    return nn.Sequential(*modules)


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """A plain network, with no activation at its end."""
    modules: list[nn.Module] = []
    for before, after in pairwise(widths):
        modules += [nn.Linear(before, after), activation()]
    return nn.Sequential(*modules[:-1])
