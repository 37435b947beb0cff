"""Jacobian spectra against the bare matrix products, and the density of free probability.

    python -m benchmarks.spectrum

The floor is what the products of the same Jacobians cost in BLAS on one thread, two a layer,
timed in the same run between the rounds; medians and ratios within a round are told.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import sigprop
from analysis.theory.free_probability import spectrum
from analysis.theory.spectral_laws import plain, two_matrix, universal_density
from benchmarks.speed import WORKERS, Line, machine, print_table
from sigprop.backends.correlated import one_blas_thread

__all__ = ["main"]

NETWORKS, WIDTH, DEPTH = 100, 400, 200
POINTS = 1000


def spectrum_seconds(networks: int, depth: int) -> float:
    """All singular values at the last layer of res3 ReLU networks, float64."""
    law = sigprop.Ensemble(
        sigprop.Network(depth=depth, width=WIDTH), sigprop.Power(beta=0.5), sigprop.Point()
    )
    start = time.perf_counter()
    sigprop.simulate(law, "spectrum", replicas=networks, layers=[depth], workers=WORKERS)
    return time.perf_counter() - start


def product_seconds(networks: int, depth: int) -> float:
    """The products J <- J + V (W J) of as many networks, on as many workers, and nothing else."""
    generator = np.random.default_rng(0)
    v, w = generator.standard_normal((2, WIDTH, WIDTH))

    def one(_: int) -> None:
        j = np.eye(WIDTH)
        for _ in range(depth):
            _ = v @ (w @ j)

    with ThreadPoolExecutor(WORKERS) as pool, one_blas_thread():
        start = time.perf_counter()
        list(pool.map(one, range(networks)))
        return time.perf_counter() - start


def density_seconds(kind: str) -> float:
    """The density at 1000 points."""
    points = np.linspace(-2, 2, POINTS)
    start = time.perf_counter()
    if kind == "universal":
        universal_density(1.0, POINTS + 1).at(points)
    else:
        curve = plain(20) if kind == "plain" else two_matrix(20, 0.1)
        spectrum(curve).at(points)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds, not minutes; proves nothing")
    given = parser.parse_args(arguments)
    networks, depth, rounds = (4, 10, 1) if given.quick else (8, DEPTH, 5)
    print(machine() + "\n")
    spectrum_seconds(WORKERS, 2)  # loads
    mine, floor = [], []
    for _ in range(rounds):
        mine.append(spectrum_seconds(networks, depth))
        floor.append(product_seconds(networks, depth))
    share = NETWORKS * DEPTH / (networks * depth)
    lines = [
        Line(f"{NETWORKS} spectra, {WIDTH} x {DEPTH}", float(np.median(mine)) * share, "s", 60),
        Line("  the products alone", float(np.median(floor)) * share, "s"),
        Line("  spectra over products", float(np.median(np.array(mine) / floor)), "x", 1.5),
    ]
    for kind in ("universal", "two-matrix", "plain"):
        seconds = [density_seconds(kind) for _ in range(rounds)]
        lines.append(Line(f"density, {kind}", 1e3 * float(np.median(seconds)), "ms", 200))
    print_table(lines)


if __name__ == "__main__":
    main()
