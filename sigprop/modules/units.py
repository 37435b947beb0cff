"""Activations, batch normalisation and matrices as modules, each the function that `sigprop` means.

Where a unit has something of its own (a random slope, a random sign, whether it is dropped) it is a
buffer: drawn once with the network, and the same for all inputs and for the gradient.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sigprop.activations import GELU, Erf, Linear, SiLU, Tanh
from sigprop.activations.uneven import DROPPED, TURNED, Uneven
from sigprop.errors import Unsupported
from sigprop.spec import Activation

__all__ = ["BatchNormalised", "ErfUnit", "UnevenUnit", "cancelled", "unit_of"]


class ErfUnit(nn.Module):
    """erf(u)."""

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return torch.erf(u)


class UnevenUnit(nn.Module):
    """phi(u) = above u for u > 0, below u otherwise, two numbers a unit.

    Buffers
    -------
    above, below : Tensor, of the shape of the state without its batch axis
    """

    above: torch.Tensor
    below: torch.Tensor

    def __init__(self, above: np.ndarray, below: np.ndarray, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("above", torch.tensor(above, dtype=dtype))
        self.register_buffer("below", torch.tensor(below, dtype=dtype))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return torch.where(u > 0, self.above, self.below) * u


class BatchNormalised(nn.Module):
    """Mean 0 and variance 1 over the batch at hand (and the pixels), channel by channel.

    No gain, no shift, nothing added to the variance and no running statistics: a channel that is
    the same for the whole batch passes 0 on, and no gradient back.
    """

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        axes = (0, *range(2, u.ndim))
        x = u - u.mean(axes, keepdim=True)
        variance = (x * x).mean(axes, keepdim=True)
        alive = variance > 0
        return torch.where(alive, x / torch.where(alive, variance, 1.0).sqrt(), 0.0)


def unit_of(
    phi: Activation, drawn: np.ndarray | None, shape: tuple[int, ...], dtype: torch.dtype
) -> nn.Module:
    """The module of an activation; ``drawn`` is what each unit has of its own, if it has.

    Raises
    ------
    Unsupported
        If the activation is a Python function of one number, which torch cannot differentiate.
    """
    if drawn is not None:
        slopes = np.asarray(drawn, float).reshape(shape)
        if isinstance(phi, Uneven):
            return UnevenUnit(*_sides(phi, slopes), dtype)
        return UnevenUnit(np.ones(shape), slopes, dtype)
    slope = phi.negative_slope
    if isinstance(phi, Linear):
        return nn.Identity()
    if slope is not None:
        return nn.ReLU() if slope == 0.0 else nn.LeakyReLU(slope)
    for known, made in ((Tanh, nn.Tanh), (Erf, ErfUnit), (GELU, nn.GELU), (SiLU, nn.SiLU)):
        if isinstance(phi, known):
            return made()
    raise Unsupported(
        f"activation {phi.kind!r} is a Python function of one number, and a module needs one of "
        "tensors. Build the ensemble with a built-in activation, and put your unit in its place."
    )


def _sides(phi: Uneven, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The slopes above and below 0 of units that may be turned or dropped."""
    turned = s == TURNED
    kept = np.where(s == DROPPED, 0.0, 1 / phi.keep)
    below = np.where(turned, 1.0, np.where(np.isfinite(s), s, 0.0))
    return kept * np.where(turned, phi.low, 1.0), kept * below


def cancelled(product: torch.Tensor, x: torch.Tensor, scale: float) -> torch.Tensor:
    """Sums of weights of one size that cancel, set to 0 whatever rounding left of them.

    Whether a unit is active must not be decided by the order in which a processor adds. The
    gradient goes through as if nothing had been done.
    """
    least = (
        2.0**-40
        * scale
        * torch.linalg.vector_norm(x.detach().flatten(1), dim=1).reshape(-1, *(1,) * (x.ndim - 1))
    )
    rest = torch.where(product.detach().abs() < least, product.detach(), 0.0)
    return product - rest


def fits(size: tuple[int, int], kernel: int, padding: str) -> bool:
    """Whether torch can pad an image of that size for a kernel."""
    return padding != "circular" or kernel // 2 <= min(size)
