"""The regimes of alpha_L: figures at the paper's full budget against plain code, and the oracle.

    python -m benchmarks.regimes

What a full budget takes is measured on a part of it, in the same run as a slice of the plain
implementation; rounds are interleaved and medians are told, as in `benchmarks.speed`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import sigprop
from analysis.theory import mean_field
from benchmarks.baseline_paths import cell_seconds
from benchmarks.speed import WORKERS, Line, baseline_seconds, machine, print_table
from sigprop.inputs import Equiangular
from sigprop.processes import FractionalGaussianNoise

__all__ = ["main"]

HURSTS, BETAS, NETWORKS, INPUTS, WIDTH = 51, 70, 5, 10, 40  # of Figure 7
MANY, WIDE = 10_000, 100  # of Figure 2


def histogram_seconds(networks: int, depth: int) -> float:
    """Figure 2: norm and gradient of critical networks, all of them."""
    law = sigprop.Ensemble(
        sigprop.Network(depth=depth, width=WIDE), sigprop.Power(beta=0.5), sigprop.Point()
    )
    start = time.perf_counter()
    sigprop.simulate(
        law, ["norm", "gradient"], replicas=networks, keep=[0, depth], layers=[0, depth],
        workers=WORKERS,
    )  # fmt: skip
    return time.perf_counter() - start


def heat_map_seconds(depth: int, hursts: int) -> float:
    """Figure 7: seconds a network of all betas and inputs, workers side by side."""
    from sigprop.backends import choose

    fields = frozenset({"log_displacement", "log_gradient_displacement"})

    def column(i: int) -> None:
        process = FractionalGaussianNoise(hurst=0.05 + 0.9 * i / max(hursts, 2))
        laws = [
            sigprop.Ensemble(
                sigprop.Network(depth=depth, width=WIDTH),
                sigprop.Power(beta=float(beta), process=process),
                Equiangular(count=INPUTS, cosine=0.75),
            )
            for beta in np.linspace(0, 1.3, BETAS)
        ]
        sampler = choose("dense", laws[0], fields)
        key = np.array([1, i], np.uint32)
        sampler.sample_coupled(laws, fields, np.array([0, depth]), key, 0, 1)

    column(0)
    with ThreadPoolExecutor(WORKERS) as pool:
        start = time.perf_counter()
        list(pool.map(column, range(hursts)))
        return (time.perf_counter() - start) / hursts


def oracle_seconds(depth: int) -> float:
    """The mean-field oracle for rough weights, forward and backward."""
    law = sigprop.Ensemble(
        sigprop.Network(depth=depth, width=WIDTH),
        sigprop.Power(beta=0.5, process=FractionalGaussianNoise(hurst=0.7)),
        sigprop.Point(),
    )
    start = time.perf_counter()
    mean_field(law)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds, not minutes; proves nothing")
    given = parser.parse_args(arguments)
    depth, rounds, many = (50, 1, 512) if given.quick else (1000, 5, MANY)
    hursts = WORKERS if given.quick else 4 * WORKERS
    print(machine() + "\n")
    seen: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        seen.setdefault(name, []).append(seconds)

    histogram_seconds(256, depth)  # compiles
    oracle_seconds(depth)
    for _ in range(rounds):
        note("plain network", baseline_seconds(1, depth))
        note("histogram", histogram_seconds(many, depth))
        note("plain column", cell_seconds(depth, WIDTH, betas=BETAS, inputs=INPUTS, rounds=1))
        note("column", heat_map_seconds(depth, hursts))
        note("oracle", oracle_seconds(depth))
        note("deep oracle", oracle_seconds(10 * depth))
    middle = {name: float(np.median(values)) for name, values in seen.items()}
    columns = HURSTS * NETWORKS
    ratios = {
        "histogram": np.median(
            np.array(seen["plain network"]) * many / np.array(seen["histogram"])
        ),
        "column": np.median(np.array(seen["plain column"]) / np.array(seen["column"])),
    }
    print_table(
        [
            Line("Figure 2, full budget", middle["histogram"] * MANY / many, "s", 5),
            Line("  against plain torch", float(ratios["histogram"]), "x"),
            Line("Figure 7, full budget", middle["column"] * columns, "s", 120),
            Line("  plain code, full budget", middle["plain column"] * columns / 3600, "hours"),
            Line("  against plain code", float(ratios["column"]), "x"),
            Line(f"oracle, depth {depth}", 1e3 * middle["oracle"], "ms", 20),
            Line(f"oracle, depth {10 * depth}", middle["deep oracle"], "s", 2),
        ]
    )


if __name__ == "__main__":
    main()
