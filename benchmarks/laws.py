"""Exact laws of log-norms against plain NumPy: curves at width 10^4 and depth 1000, one scale.

    python -m benchmarks.laws

The baseline writes the formulas of a textbook out: the number of active ReLUs is binomial, the
square of a layer given it a chi-square, and a moment or a cumulant a sum over the number. Both give
the same numbers, which is checked before they are timed. Rounds are interleaved and medians of the
processor's time are told, so that a busy machine does not matter. The baseline of the curves treats
every layer by itself, as code that knows of no equal layers does; it is timed on one layer and
multiplied, and the time of that one layer is told too.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import numpy as np
from scipy.special import gammaln, polygamma

import sigprop
from analysis import theory
from sigprop import branch_factor
from sigprop.layer_factor import LayerFactor, preserving_scale

__all__ = ["main"]

WIDTH, DEPTH, ROUNDS = 10_000, 1000, 7
REQUIRED = 0.050  # seconds, of the curves


def curves() -> np.ndarray:
    """Mean and variance of log|x_k| for k = 0 .. depth, nothing kept from before."""
    branch_factor.hidden_law.cache_clear()
    branch_factor._square_law.cache_clear()
    network = sigprop.Network(depth=DEPTH, width=WIDTH, block="plain")
    law = sigprop.Ensemble(network, sigprop.He(), sigprop.Point())
    return np.stack([theory.log_norm_mean(law), theory.log_norm_variance(law)])


def plain_curves() -> np.ndarray:
    """One layer of the same by the mixture: mean and variance of log|x_1|."""
    on = np.arange(1, WIDTH + 1)
    log_share = gammaln(WIDTH + 1) - gammaln(on + 1) - gammaln(WIDTH - on + 1)
    share = np.exp(log_share - WIDTH * math.log(2))
    first = polygamma(0, on / 2) + math.log(2) + math.log(2 / WIDTH)
    mean = share @ first
    return np.array([mean / 2, (share @ (polygamma(1, on / 2) + (first - mean) ** 2)) / 4])


def scale() -> float:
    """sigma(1, d), nothing kept from before."""
    return preserving_scale(LayerFactor(width=WIDTH, slopes=(0.0, 0.0)), 1.0)


def plain_scale() -> float:
    """The same by the sum over the number of active units."""
    on = np.arange(1, WIDTH + 1)
    log_term = gammaln(WIDTH + 1) - gammaln(on + 1) - gammaln(WIDTH - on + 1)
    log_term += gammaln((on + 1) / 2) - gammaln(on / 2) + math.log(2) / 2 - WIDTH * math.log(2)
    return float(1 / np.exp(log_term).sum())


def seconds(job: Callable[[], object]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


def main() -> None:
    """Print the table."""
    np.testing.assert_allclose(curves()[:, -1], DEPTH * plain_curves(), rtol=1e-6)
    assert math.isclose(scale(), plain_scale(), rel_tol=1e-9)
    jobs = (curves, plain_curves, scale, plain_scale)
    times: dict[str, list[float]] = {job.__name__: [] for job in jobs}
    for _ in range(ROUNDS):
        for job in jobs:
            times[job.__name__].append(seconds(job))
    middle = {name: statistics.median(found) for name, found in times.items()}
    print(f"ReLU, width {WIDTH}, depth {DEPTH}; medians of {ROUNDS} interleaved rounds")
    one = middle["plain_curves"]
    print(
        f"mean and variance of log-norms, all layers: {1e3 * middle['curves']:.3g} ms; plain NumPy "
        f"{1e3 * one:.3g} ms a layer, {DEPTH * one / middle['curves']:.0f} times as long in all"
    )
    print(
        f"sigma: {1e3 * middle['scale']:.3g} ms; plain NumPy {1e3 * middle['plain_scale']:.3g} ms, "
        f"{middle['plain_scale'] / middle['scale']:.1f} times as long"
    )
    met = "met" if middle["curves"] < REQUIRED else "not met"
    print(f"required of the curves: below {1e3 * REQUIRED:.0f} ms, {met}")


if __name__ == "__main__":
    main()
