"""What `sigprop.modules.probe` costs over a plain forward and backward pass of the same module.

    python -m benchmarks.probe

The plain pass is that of training: the model on the batch, the sum of its output, ``backward()``
with its gradients of all parameters. Both are timed in one run on one thread, rounds interleaved;
the ratio is the median of those of one round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.speed import Line, machine, print_table
from sigprop.modules import probe

__all__ = ["JOBS", "bottlenecks", "main", "ratio", "wide"]


class Bottleneck(torch.nn.Module):
    """The block of a ResNet-50: 1x1, 3x3, 1x1, batch normalisation after each."""

    def __init__(self, channels: int, hidden: int, out: int, stride: int) -> None:
        super().__init__()
        conv, norm = torch.nn.Conv2d, torch.nn.BatchNorm2d
        self.branch = torch.nn.Sequential(
            conv(channels, hidden, 1, bias=False),
            norm(hidden),
            torch.nn.ReLU(inplace=True),
            conv(hidden, hidden, 3, stride, 1, bias=False),
            norm(hidden),
            torch.nn.ReLU(inplace=True),
            conv(hidden, out, 1, bias=False),
            norm(out),
        )
        self.skip = torch.nn.Sequential()
        if stride != 1 or channels != out:
            self.skip = torch.nn.Sequential(conv(channels, out, 1, stride, bias=False), norm(out))
        self.relu = torch.nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.branch(x) + self.skip(x))


def bottlenecks() -> tuple[torch.nn.Module, torch.Tensor]:
    """All 16 blocks of a ResNet-50 on eight images of 64x64 pixels."""
    stem = [torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False), torch.nn.BatchNorm2d(64)]
    layers: list[torch.nn.Module] = [*stem, torch.nn.ReLU(inplace=True)]
    layers.append(torch.nn.MaxPool2d(3, 2, 1))
    channels = 64
    for stage, (blocks, hidden) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            layers.append(Bottleneck(channels, hidden, 4 * hidden, stride))
            channels = 4 * hidden
    layers += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(2048, 1000)]
    return torch.nn.Sequential(*layers), torch.randn(8, 3, 64, 64)


def wide() -> tuple[torch.nn.Module, torch.Tensor]:
    """Eight layers of 2048 ReLUs on 64 inputs."""
    layers = [m for _ in range(8) for m in (torch.nn.Linear(2048, 2048), torch.nn.ReLU())]
    return torch.nn.Sequential(*layers), torch.randn(64, 2048)


JOBS: dict[str, Callable[[], tuple[torch.nn.Module, torch.Tensor]]] = {
    "ResNet-50 of 64x64 pixels, 8 images": bottlenecks,
    "8 layers of width 2048, 64 inputs": wide,
}


def ratio(model: torch.nn.Module, batch: torch.Tensor, rounds: int) -> tuple[float, float]:
    """Median ratio of probe to plain, and seconds of the plain pass."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    try:
        for _ in range(rounds + 1):
            start = time.perf_counter()
            model(batch).sum().backward()
            middle = time.perf_counter()
            model.zero_grad(set_to_none=True)
            again = time.perf_counter()
            probe(model, batch)
            times.append((middle - start, time.perf_counter() - again))
    finally:
        torch.set_num_threads(threads)
    plain, probed = np.array(times[1:]).T  # the first round warms up
    return float(np.median(probed / plain)), float(np.median(plain))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args(arguments).rounds
    print(machine())
    lines = []
    for name, make in JOBS.items():
        torch.manual_seed(0)
        found, seconds = ratio(*make(), rounds)
        lines.append(Line(f"{name}: plain", 1e3 * seconds, "ms"))
        lines.append(Line(f"{name}: probe over plain", found, "x", 1.3, 1.3))
    print_table(lines)


if __name__ == "__main__":
    main()
