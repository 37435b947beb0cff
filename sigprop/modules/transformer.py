"""A small Transformer encoder that reads the places of an image, one after another, as tokens.

With ``architecture("transformer:depth=6,order=post")`` a token is the vector of channels at one
place. A sequence of symbols is an image of one row whose channels say which symbol it is
(`sigprop.modules.symbols`): then the first layer is the table of embeddings. There is no dropout,
so that a network is a function of its weights and one seed is one course.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sigprop.errors import SpecError
from sigprop.modules.architectures import Architecture, Draws, Shape

__all__ = ["Transformer"]


@Architecture.family.register("transformer")
@dataclass(frozen=True, kw_only=True)
class Transformer(Architecture):
    """Embedding and positions, ``depth`` layers of attention and of two matrices, a classifier.

    With ``order=post``, as it was first published, h' = norm(h + attention(h)) and then
    norm(h' + V relu(W h')); with ``pre``, h' = h + attention(norm(h)) and so on, and one more
    normalisation at the end. Every place attends to every other. The output is one number a class
    and image, from the mean over places, or with ``output=place`` one a class and place.

    Matrices are N(0, 2 / (fan_in + fan_out)), as Glorot's, the embedding N(0, 1 / channels),
    positions N(0, 1), the classifier N(0, 1 / width); biases are 0 and gains 1.

    Parameters
    ----------
    inner : int
        Width between the two matrices.

    References
    ----------
    Vaswani et al. (2017), *Attention is all you need*; Xiong et al. (2020), *On layer
    normalization in the Transformer architecture*, for the two orders.
    """

    depth: int = 6
    width: int = 64
    heads: int = 4
    inner: int = 256
    order: str = "post"
    output: str = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise SpecError(
                f"transformer has {self.heads} heads, which cannot share a width of {self.width} "
                "evenly. Give a width that is a multiple of heads."
            )

    def _made(self, shape: Shape, classes: int, draws: Draws) -> nn.Module:
        channels, *sides = shape
        return _Encoder(self, channels, math.prod(sides), classes, draws)


class _Encoder(nn.Module):
    """From images (n, channels, height, width) to (n, classes) or (n, classes, height * width)."""

    def __init__(
        self, options: Transformer, channels: int, places: int, classes: int, draws: Draws
    ) -> None:
        super().__init__()
        width = options.width
        self.each = options.output == "place"
        self.embedding = nn.utils.skip_init(nn.Linear, channels, width, bias=False)
        self.embedding.weight.normal_(0, channels**-0.5, generator=draws.generator)
        self.positions = nn.Parameter(torch.randn(places, width, generator=draws.generator))
        self.layers = nn.Sequential(*(_Layer(options, draws) for _ in range(options.depth)))
        self.norm = nn.LayerNorm(width) if options.order == "pre" else nn.Identity()
        self.classifier = draws.linear(width, classes, width**-0.5)

    def forward(self, images: Tensor) -> Tensor:
        h = self.embedding(images.flatten(2).transpose(1, 2)) + self.positions
        h = self.norm(self.layers(h))
        if not self.each:
            return self.classifier(h.mean(1))
        return self.classifier(h).transpose(1, 2)


class _Layer(nn.Module):
    """Attention and two matrices, each with a residual sum and a normalisation."""

    def __init__(self, options: Transformer, draws: Draws) -> None:
        super().__init__()
        width, inner = options.width, options.inner
        self.post = options.order == "post"
        self.attention = _Attention(width, options.heads, draws)
        self.norm1 = nn.LayerNorm(width)
        first, second = (
            draws.linear(*ends, math.sqrt(2 / (width + inner)))
            for ends in ((width, inner), (inner, width))
        )
        self.matrices = nn.Sequential(first, nn.ReLU(), second)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, h: Tensor) -> Tensor:
        if self.post:
            h = self.norm1(h + self.attention(h))
            return self.norm2(h + self.matrices(h))
        h = h + self.attention(self.norm1(h))
        return h + self.matrices(self.norm2(h))


class _Attention(nn.Module):
    """Of every place to all, by heads; four matrices, for their scales may differ."""

    def __init__(self, width: int, heads: int, draws: Draws) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (
            draws.linear(width, width, width**-0.5) for _ in range(4)
        )

    def forward(self, h: Tensor) -> Tensor:
        query, key, value = (
            layer(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        found = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out(found.transpose(1, 2).flatten(2))
