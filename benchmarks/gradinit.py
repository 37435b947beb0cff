"""What GradInit costs: units of one forward and backward pass, and seconds of a whole run.

    python -m benchmarks.gradinit

Case o looks at a gradient and at a stepped loss; case c at a gradient and a product with the
Hessian. Each is timed as a run of one case only (gamma above or below every norm), next to plain
gradients of the same network on the same batches, alternating, and told as the median of ratios.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from sigprop.modules.architectures import architecture
from sigprop.modules.data import load_data
from sigprop.modules.gradinit import gradinit

NETWORKS = {
    "MLP, 12 hidden layers of 64": "mlp:depth=12,width=64,gain=1.5",
    "ResNet, 3 x 1 blocks, BN": "resnet:stages=3,blocks=1,widths=8/16/32",
}
HALF = 64


@dataclass(frozen=True)
class Line:
    """A row of the table: what, how much, and what is required."""

    name: str
    value: float
    unit: str
    required: float

    def row(self) -> str:
        verdict = "met" if self.value <= self.required else "MISSED"
        return f"{self.name:44s} {self.value:8.2f} {self.unit:10s} {self.required:6.1f}  {verdict}"


def _loss(output: Any, batch: Any) -> torch.Tensor:
    return cross_entropy(output, batch[1])


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def units(spec: str, gamma: float, steps: int, rounds: int, hvp: str = "auto") -> float:
    """Cost of an iteration over that of one gradient on as many examples."""
    images = load_data("digits")
    model = architecture(spec).build(images.shape, images.classes, seed=0)
    half = list(images.train.batches(HALF, seed=0))[: 3 * (len(images.train) // HALF // 3)]
    whole = [tuple(torch.cat(p) for p in zip(a, b)) for a, b in itertools.pairwise(half)]
    parameters = list(model.parameters())

    def iterate(count: int) -> None:
        gradinit(model, half, _loss, gamma=gamma, steps=count, tau=1e-9, hvp=hvp, apply=False)

    def plain() -> None:
        for step in range(steps):
            batch = whole[step % len(whole)]
            torch.autograd.grad(_loss(model(batch[0]), batch), parameters)

    model.train()
    iterate(3)
    plain()
    ratios = []
    for _ in range(rounds):
        # The difference of two runs leaves out the test of the back-ends and what is told.
        long, short, unit = _seconds(lambda: iterate(steps + 3)), _seconds(lambda: iterate(3)), 0.0
        unit = _seconds(plain)
        ratios.append((long - short) / unit)
    return statistics.median(ratios)


def preparation(steps: int) -> float:
    """Wall seconds of a whole run on 12 hidden layers of 64."""
    images = load_data("digits")
    model = architecture("mlp:depth=12,width=64,gain=1.5").build(images.shape, seed=0)
    batches = images.train.batches(HALF, seed=0, epochs=None)
    start = time.perf_counter()
    gradinit(model, batches, _loss, steps=steps)
    return time.perf_counter() - start


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds; proves that it runs")
    quick = parser.parse_args(arguments).quick
    steps, rounds = (3, 1) if quick else (60, 5)
    lines = []
    for name, spec in list(NETWORKS.items())[: 1 if quick else None]:
        lines.append(Line(f"case o, {name}", units(spec, 1e9, steps, rounds), "passes", 2.2))
        lines.append(Line(f"case c, {name}", units(spec, 1e-9, steps, rounds), "passes", 6.0))
    whole = preparation(20 if quick else 390)
    lines.append(Line("a whole run, MLP, 390 iterations", whole, "s", 1.5))
    print(f"{torch.get_num_threads()} threads of torch; units of one gradient of the whole batch")
    for line in lines:
        print(line.row())


if __name__ == "__main__":
    main()
