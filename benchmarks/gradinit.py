"""What GradInit costs: units of one forward and backward pass, and seconds of a whole run.

    python -m benchmarks.gradinit

Case o looks at a gradient and at a stepped loss; case c at a gradient and a product with the
Hessian. Each is timed in a run of one case only (gamma above or below every norm). The unit is what
a training loop does without its optimiser, ``torch.autograd.grad(loss(model(x)), parameters)``, on
the same batches: blocks of iterations and of units alternate in one process on one thread of torch,
each is timed alone, and both are told by the same low quantile, for what else the machine does
only adds. Batches stand ready on both sides; a line tells what joining them from halves adds.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from sigprop.modules.architectures import architecture
from sigprop.modules.batches import BatchPair
from sigprop.modules.data import load_data
from sigprop.modules.gradinit import gradinit

NETWORKS = {
    "MLP, 12 hidden layers of 64": "mlp:depth=12,width=64,gain=1.5",
    "ResNet, 3 x 1 blocks, BN": "resnet:stages=3,blocks=1,widths=8/16/32",
}
HALF = 64
BLOCK = 8  # iterations, and twice as many units, that follow each other
LOW = 0.02


@dataclass(frozen=True)
class Line:
    """A row of the table: what, how much, and what is required."""

    name: str
    value: float
    unit: str
    required: float | None

    def row(self) -> str:
        row = f"{self.name:44s} {self.value:8.2f} {self.unit:10s}"
        if self.required is None:
            return row.rstrip()
        verdict = "met" if self.value <= self.required else "MISSED"
        return f"{row} {self.required:6.1f}  {verdict}"


def _loss(output: Any, batch: Any) -> torch.Tensor:
    return cross_entropy(output, batch[1])


def units(spec: str, gamma: float, steps: int, ready: bool = True) -> float:
    """Cost of an iteration over that of one gradient on as many examples.

    Parameters
    ----------
    ready : bool
        Whether GradInit is given whole batches, as the unit is, or half-batches that it joins.
    """
    images = load_data("digits")
    model = architecture(spec).build(images.shape, images.classes, seed=0)
    half = list(images.train.batches(HALF, seed=0))
    whole = [tuple(torch.cat(p) for p in zip(a, b)) for a, b in itertools.pairwise(half)]
    pairs = [BatchPair(a, b) for a, b in itertools.pairwise(whole)]
    parameters = list(model.parameters())
    model.train()
    iterations: list[float] = []
    passes: list[float] = []
    done = time.perf_counter()

    def timed(row: Any) -> None:
        nonlocal done
        iterations.append(time.perf_counter() - done)
        if row["iteration"] % BLOCK == 0:
            for batch in itertools.islice(itertools.cycle(whole), 2 * BLOCK):
                start = time.perf_counter()
                torch.autograd.grad(_loss(model(batch[0]), batch), parameters)
                passes.append(time.perf_counter() - start)
        done = time.perf_counter()

    data = pairs if ready else half
    gradinit(model, data, _loss, gamma=gamma, steps=steps, tau=1e-9, apply=False, log=timed)
    # The first iteration holds the test of the back-ends, the second the loading of kernels.
    return float(np.quantile(iterations[2:], LOW) / np.quantile(passes[2:], LOW))


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
    steps = 5 if quick else 800
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    lines = []
    for name, spec in list(NETWORKS.items())[: 1 if quick else None]:
        count = steps if "MLP" in name else steps // 4
        lines.append(Line(f"case o, {name}", units(spec, 1e9, count), "passes", 2.2))
        joins = units(spec, 1e9, count, ready=False)
        lines.append(Line("  joined from half-batches", joins, "passes", None))
        lines.append(Line(f"case c, {name}", units(spec, 1e-9, count), "passes", 6.0))
    whole = 20 if quick else 390
    lines.append(Line("a whole run, MLP, one thread", preparation(whole), "s", 1.5))
    if threads > 1:
        torch.set_num_threads(threads)
        lines.append(Line(f"a whole run, MLP, {threads} threads", preparation(whole), "s", 1.5))
    print("one thread of torch unless told; units of one gradient of the whole batch")
    for line in lines:
        print(line.row())


if __name__ == "__main__":
    main()
