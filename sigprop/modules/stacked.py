"""A deep residual network whose matrices are one tensor, drawn as paths along depth.

With ``architecture("stacked:depth=1000,hurst=0.8")`` every entry of the matrices is, from layer to
layer, a path of fractional Gaussian noise, or a smooth one: how such networks train is what the
scaling paper asks. All matrices of one kind are one parameter of shape (depth, width, width),
which optimisers update at once; a thousand layers cost half of what a thousand modules do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sigprop.errors import SpecError
from sigprop.modules.architectures import Architecture, Draws, Shape
from sigprop.processes import FractionalGaussianNoise, Rbf
from sigprop.spec import Process

__all__ = ["Stacked", "StackedNetwork"]

_ENTRIES = 2**20  # normals turned into paths at a time


@Architecture.family.register("stacked")
@dataclass(frozen=True, kw_only=True)
class Stacked(Architecture):
    """Flatten, h_0 = A x, h' = h + depth^-beta (V phi(h) + b), logits B h; phi the ReLU.

    Block ``res3`` has V phi(W h) in place of V phi(h). Entries of V and W have variance 1 / width
    and follow a process along depth, independent of each other; A has N(0, 1 / fan_in), B
    N(0, 1 / width), without biases; b starts at 0 and is trained.

    Parameters
    ----------
    hurst : float
        Index of the fractional Gaussian noise; 0.5 (default): independent layers.
    bandwidth : float, optional
        If given, a smooth process in its place, covariance exp(-t² / (2 bandwidth²)) over t =
        layers / depth.
    """

    depth: int = 1000
    width: int = 30
    block: str = "res1"
    beta: float = 0.5
    hurst: float = 0.5
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bandwidth is not None and self.hurst != 0.5:
            raise SpecError(
                f"stacked has hurst={self.hurst:g} and bandwidth={self.bandwidth:g}: weights are "
                "rough or smooth. Give one of the two."
            )
        self.process  # noqa: B018  refuses an index out of its range

    @property
    def process(self) -> Process:
        """The law of an entry along depth, at variance 1."""
        if self.bandwidth is not None:
            return Rbf(bandwidth=self.bandwidth)
        return FractionalGaussianNoise(hurst=self.hurst)

    def _made(self, shape: Shape, classes: int, draws: Draws) -> nn.Module:
        inputs, width = math.prod(shape), self.width

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=draws.generator)

        kinds = 1 if self.block == "res1" else 2
        matrices = [self._paths(draws.generator) for _ in range(kinds)]
        return StackedNetwork(
            normal(width, inputs) / math.sqrt(inputs),
            matrices,
            normal(classes, width) / math.sqrt(width),
            self.depth**-self.beta,
        )

    def _paths(self, draws: torch.Generator) -> Tensor:
        """One matrix a layer: float32, shape (depth, width, width)."""
        process, entries = self.process, self.width**2
        length = process.draws(self.depth)
        out = np.empty((self.depth, entries), np.float32)
        at_once = max(1, _ENTRIES // length)
        for first in range(0, entries, at_once):
            count = min(at_once, entries - first)
            normals = torch.randn(count, length, generator=draws, dtype=torch.float64)
            out[:, first : first + count] = process.paths(normals.numpy(), self.depth).T
        scaled = out / np.float32(math.sqrt(self.width))
        return torch.from_numpy(scaled.reshape(self.depth, self.width, self.width))


class StackedNetwork(nn.Module):
    """The module: ``first`` (A), ``inner`` (W, or None), ``outer`` (V), ``bias`` (b), ``last`` (B).

    Parameters
    ----------
    first : Tensor, shape (width, inputs)
    matrices : list of Tensor, shape (depth, width, width)
        V alone, or W and V.
    last : Tensor, shape (classes, width)
    branch : float
        What multiplies V phi(W h) + b.
    """

    def __init__(self, first: Tensor, matrices: list[Tensor], last: Tensor, branch: float) -> None:
        super().__init__()
        *inner, outer = matrices
        depth, width, _ = outer.shape
        self.branch = branch
        self.first = nn.Parameter(first)
        self.inner = nn.Parameter(inner[0]) if inner else None
        self.outer = nn.Parameter(outer)
        self.bias = nn.Parameter(torch.zeros(depth, width))
        self.last = nn.Parameter(last)

    def forward(self, images: Tensor) -> Tensor:
        h = images.flatten(1) @ self.first.T
        # Unbound once: an index for each layer would cost a gradient of all layers each.
        outer, bias = self.outer.unbind(0), (self.branch * self.bias).unbind(0)
        inner = [None] * len(outer) if self.inner is None else self.inner.unbind(0)
        for w, v, b in zip(inner, outer, bias):
            x = torch.relu(h if w is None else h @ w.T)
            h = torch.addmm(h + b, x, v.T, alpha=self.branch)
        return h @ self.last.T
