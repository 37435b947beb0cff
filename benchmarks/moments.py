"""Fractional moments: deep plain nets by the chain, the scale sigma, tilted networks.

    python -m benchmarks.moments

Beside each stands plain NumPy doing the same job, timed in the same run, round by round, on a part
of it; rounds are interleaved and medians are told, as in `benchmarks.speed`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import gammaln

import sigprop
from benchmarks.speed import WORKERS, Line, machine, print_table
from sigprop.layer_factor import LayerFactor, preserving_scale

__all__ = ["main"]

WIDTH, MANY = 1024, 100_000


def chain_seconds(networks: int, depth: int, tilt: float | None = None) -> tuple[float, float]:
    """(wall, processor) time of log-norms of plain ReLU nets, with statistics at both ends."""
    law = sigprop.Ensemble(
        sigprop.Network(depth=depth, width=WIDTH, block="plain"),
        sigprop.Fractional(s=1.0),
        sigprop.Point(),
    )
    observe = "norm" if tilt is None else None
    start, used = time.perf_counter(), time.process_time()
    sigprop.simulate(law, observe, replicas=networks, layers=[0, depth], workers=WORKERS, tilt=tilt)
    return time.perf_counter() - start, time.process_time() - used


def numpy_seconds(networks: int, layers: int) -> float:
    """The same count and chi-square a layer in plain NumPy, all networks abreast."""
    generator = np.random.default_rng(0)
    log_norm = np.zeros(networks)
    start = time.perf_counter()
    for _ in range(layers):
        count = generator.binomial(WIDTH, 0.5, networks)
        log_norm += 0.5 * np.log(generator.chisquare(count))
    return (time.perf_counter() - start) / (networks * layers)


def sum_seconds(calls: int) -> float:
    """sigma by the sum over the number of active units, in plain NumPy."""
    start = time.process_time()
    for i in range(calls):
        s, n = 0.5 + 1e-3 * i, np.arange(1, WIDTH + 1)
        log = gammaln(WIDTH + 1) - gammaln(n + 1) - gammaln(WIDTH - n + 1) - WIDTH * np.log(2)
        log += s / 2 * np.log(2) + gammaln((n + s) / 2) - gammaln(n / 2)
        np.exp(-np.log(np.exp(log).sum()) / s)
    return (time.process_time() - start) / calls


def sigma_seconds(calls: int, width: int) -> float:
    """sigma of layers never met before; processor time, of one core."""
    layers = [LayerFactor(width=width + i, slopes=(0.0, 0.0)) for i in range(calls)]
    start = time.process_time()
    for layer in layers:
        preserving_scale(layer, 0.7)
    return (time.process_time() - start) / calls


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds, not minutes; proves nothing")
    given = parser.parse_args(arguments)
    depth, rounds, many, calls = (50, 1, 1024, 20) if given.quick else (1000, 5, 25_600, 200)
    print(machine() + "\n")
    seen: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        seen.setdefault(name, []).append(seconds)

    chain_seconds(512, depth)  # compiles
    chain_seconds(1024, 2, tilt=1.0)
    jobs: dict[str, Callable[[], float]] = {
        "numpy": lambda: numpy_seconds(10_000, max(2, depth // 100)),
        "sum": lambda: sum_seconds(calls),
        "sigma": lambda: sigma_seconds(calls, WIDTH),
        "narrow": lambda: sigma_seconds(calls, 2),
        "wide": lambda: sigma_seconds(calls, 10**6),
    }
    for _ in range(rounds):
        for name, job in jobs.items():
            note(name, job())
        wall, used = chain_seconds(many, depth)
        note("chain", wall)
        note("used", used)
        note("tilted", chain_seconds(max(1024, many // 10), depth, tilt=1.0)[0])
    middle = {name: float(np.median(values)) for name, values in seen.items()}
    work = MANY * depth * middle["numpy"]
    ratio = np.median(np.array(seen["numpy"]) * many * depth / np.array(seen["chain"]))
    sums = np.median(np.array(seen["sum"]) / np.array(seen["sigma"]))
    draws = many * depth
    tilted = middle["tilted"] / (max(1024, many // 10) * depth)
    print_table(
        [
            Line(f"{MANY} nets, width {WIDTH}, depth {depth}", middle["chain"] * MANY / many, "s",
                 3 * depth / 1000, 1.5 * depth / 1000),
            Line("  processor time over workers", middle["used"] * MANY / many / WORKERS, "s",
                 3 * depth / 1000, 1.5 * depth / 1000),
            Line("  plain NumPy, one core", work, "s"),
            Line("  against plain NumPy", float(ratio), "x"),
            Line("  a layer of a network", 1e9 * middle["used"] / draws, "ns", note="floor 20 ns"),
            Line(f"tilted nets, width {WIDTH}, a layer", 1e9 * tilted, "ns"),
            Line(f"sigma, width {WIDTH}", 1e6 * middle["sigma"], "us", 100),
            Line("  sum over active units, NumPy", 1e6 * middle["sum"], "us"),
            Line("  against plain NumPy", float(sums), "x"),
            Line("sigma, width 2 and more", 1e6 * middle["narrow"], "us", 200),
            Line("sigma, width 10^6", 1e6 * middle["wide"], "us", 100),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
