"""Small networks whose scales are known in closed form, and the golden run's network and data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn


class Chain(nn.Module):
    """y = x theta_1 theta_2 ..., all of them numbers."""

    def __init__(self, weights, registered=None):
        super().__init__()
        for i in registered or range(len(weights)):
            value = torch.tensor([weights[i]], dtype=torch.float64)
            self.register_parameter(f"theta_{i}", nn.Parameter(value))
        self.factors = len(weights)

    def forward(self, x):
        for i in range(self.factors):
            x = x * getattr(self, f"theta_{i}")
        return x


def point(x, t):
    """A batch of one example."""
    return torch.tensor([x], dtype=torch.float64), torch.tensor([t], dtype=torch.float64)


def half_square(output, batch):
    return ((output - batch[1]) ** 2).mean() / 2


def cross_entropy(output, batch):
    return F.cross_entropy(output, batch[1])


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """New tensors are float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def golden_network(zero_biases):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(384, 4),
    )
    if zero_biases:
        with torch.no_grad():
            model[4].bias.zero_()
            model[7].bias.zero_()
    return model


def golden_data():
    """A function that draws half-batches of 32, all from one generator."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(4, 1, 8, 8, generator=generator)

    def draw():
        labels = torch.randint(0, 4, (32,), generator=generator)
        return centres[labels] + torch.randn(32, 1, 8, 8, generator=generator), labels

    return draw
