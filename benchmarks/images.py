"""Convolutional networks and batch normalisation against the same job in plain torch.

    python -m benchmarks.images

Both draw every network anew, send a pair of images (or a batch) forward and a gradient back, and
take the norms at every layer; both use double precision and as many threads as there are workers.
Rounds are interleaved and ratios are medians of the ratios of one round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

import sigprop
from benchmarks.speed import WORKERS, Line, machine, print_table

__all__ = ["main"]

CHANNELS, SIDE = 64, 8


def sampled_seconds(law: sigprop.Ensemble, networks: int) -> float:
    """A network of the law, observed as the baseline observes it."""
    start = time.perf_counter()
    sigprop.simulate(law, ["norm", "gradient"], replicas=networks, workers=WORKERS)
    return (time.perf_counter() - start) / networks


def plain_images(depth: int) -> list[torch.Tensor]:
    """One network h' = h + V phi(W h) of two 3x3 convolutions a block, forward and back."""
    std = (2 / (9 * CHANNELS)) ** 0.5
    h = torch.randn(2, CHANNELS, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    states = [h]
    for _ in range(depth):
        w, v = (std * torch.randn(CHANNELS, CHANNELS, 3, 3, dtype=torch.float64) for _ in range(2))
        inner = torch.relu(torch.nn.functional.conv2d(states[-1], w, padding=1))
        states.append(states[-1] + torch.nn.functional.conv2d(inner, v, padding=1))
        states[-1].retain_grad()
    _norms_of(states)
    return states


def plain_batch(depth: int, width: int, count: int) -> None:
    """One network h' = h + V phi(N(W phi(N(h)))), N the normalised batch, forward and back."""
    std = (2 / width) ** 0.5
    h = torch.randn(count, width, dtype=torch.float64, requires_grad=True)
    states = [h]

    def normal(u: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.batch_norm(u, None, None, training=True, eps=1e-12)

    for _ in range(depth):
        w, v = (std * torch.randn(width, width, dtype=torch.float64) for _ in range(2))
        inner = torch.relu(normal(torch.relu(normal(states[-1])) @ w.T))
        states.append(states[-1] + inner @ v.T)
        states[-1].retain_grad()
    _norms_of(states)


def _norms_of(states: list[torch.Tensor]) -> None:
    states[-1].backward(torch.randn_like(states[-1]))
    for state in states:
        state.detach().flatten(1).norm(dim=1)
        assert state.grad is not None
        state.grad.flatten(1).norm(dim=1)


def seconds(job: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        job()
    return (time.perf_counter() - start) / times


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds, not minutes; proves nothing")
    given = parser.parse_args(arguments)
    depth, networks, rounds, width, count = (
        (2, 2, 1, 20, 30) if given.quick else (20, 32, 3, 400, 1000)
    )
    torch.set_num_threads(WORKERS)
    image = sigprop.Ensemble(sigprop.Network(depth=depth, width=CHANNELS, image=SIDE), sigprop.He())
    batch = sigprop.Ensemble(
        sigprop.Network(depth=depth // 2, width=width, block="preact"),
        sigprop.BatchNorm(),
        sigprop.Batch(count=count),
    )
    print(machine() + "\n")
    sampled_seconds(image, 1)  # compiles
    seen: dict[str, list[float]] = {"image": [], "plain image": [], "batch": [], "plain batch": []}
    for _ in range(rounds):
        seen["image"].append(sampled_seconds(image, networks))
        seen["plain image"].append(seconds(lambda: plain_images(depth), max(1, networks // 16)))
        seen["batch"].append(sampled_seconds(batch, max(2, networks // 16)))
        seen["plain batch"].append(seconds(lambda: plain_batch(depth // 2, width, count), 1))
    ratio = {
        name: float(np.median(np.array(seen[f"plain {name}"]) / np.array(seen[name])))
        for name in ("image", "batch")
    }
    print_table(
        [
            Line(f"{CHANNELS} channels, {SIDE}x{SIDE}, depth {depth}",
                 1e3 * float(np.median(seen["image"])), "ms"),
            Line("  against plain torch", ratio["image"], "x"),
            Line(f"batch of {count}, width {width}, depth {depth // 2}",
                 1e3 * float(np.median(seen["batch"])), "ms"),
            Line("  against plain torch", ratio["batch"], "x"),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
