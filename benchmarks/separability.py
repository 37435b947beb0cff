"""Two inputs through 10^4 networks of types B and C to depth 1000, against plain torch.

    python -m benchmarks.separability

The job is the cosine of two inputs against depth, with statistics and labels, through
`sigprop.simulate` with the conditional sampler; the baseline builds every network of
`torch.nn.Linear` anew, sends both inputs forward and keeps the cosine at every block, on one
thread; as many of them as there are workers are taken to run side by side at no loss. (With more
threads a product of so small matrices waits for them longer than it takes.) Slices of both are
timed in one run, rounds interleaved, and the ratio is the median of those of one round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

import sigprop
from benchmarks.speed import WORKERS, Line, machine, print_table

__all__ = ["Plain", "job_seconds", "main", "plain_seconds"]

MANY, WIDTH, COSINE = 10_000, 100, 0.2
SCHEMES = {"projection": sigprop.Normal(), "identity": sigprop.SkipInit(initial=0.05)}


def job_seconds(block: str, networks: int, depth: int) -> float:
    """The job on ``networks``, workers side by side."""
    law = sigprop.Ensemble(
        sigprop.Network(depth=depth, width=WIDTH, block=block),
        SCHEMES[block],
        sigprop.Pair(cosine=COSINE),
    )
    start = time.perf_counter()
    sigprop.simulate(
        law, ["separability"], replicas=networks, sampler="conditional", workers=WORKERS
    )
    return time.perf_counter() - start


def plain_seconds(block: str, depth: int) -> float:
    """Seconds a network in torch, built and passed, of `WORKERS` side by side; see `Plain`."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.perf_counter()
        Plain(block, depth).cosines()
        return (time.perf_counter() - start) / WORKERS
    finally:
        torch.set_num_threads(threads)


class Plain:
    """A network of type B or C in plain torch: two linear layers a block, one more to skip."""

    def __init__(self, block: str, depth: int) -> None:
        import torch
        from torch import nn

        def linear(width: int, std: float) -> nn.Linear:
            layer = nn.Linear(width, WIDTH, bias=False)
            nn.init.normal_(layer.weight, std=std)
            return layer

        law = sigprop.Ensemble(
            sigprop.Network(depth=depth, width=WIDTH, block=block),
            SCHEMES[block],
            sigprop.Pair(cosine=COSINE),
        )
        self.torch, self.table, self.projected = torch, law.table, block == "projection"
        assert law.table.stem is not None
        self.first = linear(law.network.input_size, law.table.stem.scale)
        self.blocks = [[linear(WIDTH, float(std)) for std in row] for row in law.table.scale]
        self.inputs = law.network.input_size

    def cosines(self) -> np.ndarray:
        """Of the two states after the stem and after every block."""
        torch = self.torch
        with torch.no_grad():
            one, two = torch.linalg.qr(torch.randn(self.inputs, 2))[0].T
            two = COSINE * one + (1 - COSINE**2) ** 0.5 * two
            h = torch.relu(self.first(self.inputs**0.5 * torch.stack([one, two])))
            found = [torch.cosine_similarity(h[0], h[1], dim=0)]
            for layer, matrices in enumerate(self.blocks):
                skip, branch = float(self.table.skip[layer]), float(self.table.branch[layer])
                past = matrices[2](h) if self.projected else h
                h = torch.relu(skip * past + branch * matrices[1](torch.relu(matrices[0](h))))
                found.append(torch.cosine_similarity(h[0], h[1], dim=0))
            return np.array(torch.stack(found).numpy())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds, not minutes; proves nothing")
    given = parser.parse_args(arguments)
    depth, rounds, networks = (20, 1, 128) if given.quick else (1000, 3, 1024)
    print(machine() + "\n")
    lines = []
    for block, letter in (("projection", "C"), ("identity", "B")):
        job_seconds(block, 2, depth)  # compiles
        plain_seconds(block, depth)
        seconds, plain = [], []
        for _ in range(rounds):
            plain.append(plain_seconds(block, depth))
            seconds.append(job_seconds(block, networks, depth))
        ratio = float(np.median(np.array(plain) * networks / np.array(seconds)))
        whole = float(np.median(seconds)) * MANY / networks
        lines += [
            Line(f"type {letter}, {MANY} networks", whole, "s"),
            Line(f"  plain torch, {MANY} networks", float(np.median(plain)) * MANY / 60, "min"),
            Line("  against plain torch", ratio, "x", 100, more_is_better=True),
        ]
    print_table(lines)


if __name__ == "__main__":
    main()
