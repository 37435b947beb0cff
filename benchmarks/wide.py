"""Wide dense networks by sampler torch, over the floor: drawing the weights, and multiplying.

    python -m benchmarks.wide [--device auto|cpu|cuda] [--width N]

The job is a block of res3 ReLU networks of uniform weights and depth 5, forward and back, with
norm, gradient and displacement observed, at width 8192 on a GPU and 2048 on the processor, with 1
and with 64 inputs a draw. So many weights are not kept but drawn on the way forward and again on
the way back: the floor is, for every matrix, two fills of an array by torch's own generator, one
product W x and one W^T q, timed in the same run on the same device (on one thread of a processor,
as a worker has). Beside it stand the share of a floor that draws once and keeps all weights, and
the compiled sampler `dense` on one thread. Rounds are interleaved, and shares are medians of those
of one round.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence

import numpy as np

import sigprop
from benchmarks.speed import Line, machine, print_table
from sigprop import rng
from sigprop.backends.numba_cpu import Dense
from sigprop.backends.torch_gpu import Torch

__all__ = ["Floor", "main", "networks"]

FIELDS = frozenset({"log_norm", "log_gradient", "log_displacement"})
INPUTS = (1, 64)
WIDTH = {"cuda": 8192, "cpu": 2048}
REQUIRED = 0.6  # of the floor, on a GPU


def networks(width: int, depth: int, inputs: int) -> sigprop.Ensemble:
    """The law of the job."""
    network = sigprop.Network(depth=depth, width=width, block="res3")
    many = sigprop.Point() if inputs == 1 else sigprop.Equiangular(count=inputs)
    return sigprop.Ensemble(network, sigprop.He(law="uniform"), many)


class Job:
    """A block of networks by one sampler."""

    def __init__(self, law: sigprop.Ensemble, sampler: Torch | Dense, count: int) -> None:
        self.law, self.sampler, self.count = law, sampler, count
        self.layers = np.array([0, law.network.depth])
        self.key = rng.key(0, law.digest, sampler.name, sampler.version)

    def __call__(self) -> None:
        self.sampler.sample(self.law, FIELDS, self.layers, self.key, 0, self.count)


class Floor:
    """Drawing alone and products alone, of the matrices of a block of networks."""

    def __init__(self, law: sigprop.Ensemble, device: str, block: int) -> None:
        import torch

        from sigprop.backends.torch_gpu.device import named

        width = law.network.width
        self.place = named(device, "float32")
        self.matrices = law.network.depth * law.network.matrices
        self.w = torch.empty((block, width, width), device=device)
        self.x = torch.randn((block, width, law.inputs.count), device=device)
        self.generator = torch.Generator(device=device)

    def draw(self) -> None:
        """Every weight of every matrix, once."""
        with self.place.hold("float32"):
            for _ in range(self.matrices):
                self.w.uniform_(-math.sqrt(3), math.sqrt(3), generator=self.generator)

    def multiply(self) -> None:
        """W x and W^T q of every matrix, as rows: of several ways the fastest."""
        with self.place.hold("float32"):
            for _ in range(self.matrices):
                _ = self.x.mT @ self.w.mT
                _ = self.x.mT @ self.w


def timed(work: Callable[[], None], device: str) -> float:
    """Seconds, until the device is done."""
    import torch

    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(device: str, width: int, depth: int, inputs: int, rounds: int) -> list[Line]:
    """Shares of the floor, and times a network."""
    law = networks(width, depth, inputs)
    sampler = Torch(device).planned(law, FIELDS, 2, 8)
    block = sampler.block
    floor = Floor(law, device, block)
    jobs: dict[str, Callable[[], None]] = {
        "draw": floor.draw,
        "multiply": floor.multiply,
        "torch": Job(law, sampler, block),
    }
    if device == "cpu":
        jobs["dense"] = Job(law, Dense(), 1)
    for work in jobs.values():
        timed(work, device)  # compiles, and fills caches
    seen = {name: np.empty(rounds) for name in jobs}
    for done in range(rounds):
        for name, work in jobs.items():
            seen[name][done] = timed(work, device)
    draw, multiply, whole = (seen[name] for name in ("draw", "multiply", "torch"))
    title = f"width {width}, {inputs} input{'s' * (inputs > 1)}"
    required = REQUIRED if device == "cuda" else None
    lines = [
        Line(f"{title}, a network", 1e3 * float(np.median(whole)) / block, "ms"),
        Line("  drawing alone, once", 1e3 * float(np.median(draw)) / block, "ms"),
        Line("  products alone", 1e3 * float(np.median(multiply)) / block, "ms"),
        Line(
            "  share of the floor", float(np.median((2 * draw + multiply) / whole)), "",
            required, more_is_better=True, note=f"{block} networks a block",
        ),
        Line("  of one with weights kept", float(np.median((draw + multiply) / whole)), ""),
    ]  # fmt: skip
    if "dense" in seen:
        ratio = float(np.median(seen["dense"] * block / whole))
        lines.append(Line("  against the compiled sampler", ratio, "x"))
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="seconds, not a minute; proves nothing"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    parser.add_argument("--width", type=int, help="(default 8192 on a GPU, 2048 on the processor)")
    given = parser.parse_args(arguments)
    placed = Torch(given.device).placed()
    device = placed.options["device"]
    width = given.width or (256 if given.quick else WIDTH[device])
    print(machine())
    print(f"device {device}: {placed.made_of()['device']}\n")
    lines = []
    for inputs in INPUTS:
        lines += measure(device, width, 5, inputs, 1 if given.quick else 3)
    print_table(lines)


if __name__ == "__main__":
    main()
