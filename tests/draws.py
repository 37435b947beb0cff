"""Many numbers from the generators, and tests of one sample against an exact law.

Every assertion here fires by chance with probability `ALPHA` of `tests.stat`, and refuses to
pass where an error as large as ``resolution`` could escape it.

=================== ========================================================================
assert_law          a sample against a distribution function (Kolmogorov-Smirnov, one sample)
assert_chances      counts against exact probabilities (chi-square, thin cells pooled)
assert_event        the count of a rare event against its chance (exact binomial)
assert_moments      means of powers against exact moments, in deviations of each power
=================== ========================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import kolmogi, kolmogorov
from scipy.stats import binom, chi2, ncx2, norm

from sigprop.kernels import lanes, philox, weights
from tests.stat import ALPHA, assert_agrees

__all__ = [
    "KEY",
    "assert_chances",
    "assert_event",
    "assert_law",
    "assert_moments",
    "binomials",
    "chi_squares",
    "counter_words",
    "normals",
    "uniforms",
    "weight_sample",
]

KEY = np.array([0x243F6A88, 0x85A308D3], np.uint32)

# ------------------------------------------------------------------------ draws


def counter_words(
    key: Sequence[int], layer: int, replica: int, purpose: int, start: int, count: int
) -> np.ndarray:
    """Words of `philox.words`, uint32, shape (count, 4): row i is counter ``start + i``."""
    out = np.empty(4 * count, np.uint32)
    address = (np.uint64(x) for x in (*key, layer, replica, purpose, start))
    philox.words(*address, count, out)
    return out.reshape(4, count).T


def _of_generator(generator: Callable[..., None], count: int, replica: int) -> np.ndarray:
    """``count`` numbers, 10^6 an address at most."""
    scratch, found = philox.new_scratch(), np.empty(philox.padded(count))
    for layer, start in enumerate(range(0, count, 10**6)):
        size = min(10**6, count - start)
        generator(KEY, layer, replica, philox.FORWARD, size, scratch, found[start:])
    return found[:count]


def normals(count: int, replica: int = 0) -> np.ndarray:
    return _of_generator(philox.normals, count, replica)


def uniforms(count: int, replica: int = 0) -> np.ndarray:
    return _of_generator(philox.uniforms, count, replica)


def weight_sample(law: int, parameter: float, count: int, replica: int = 0) -> np.ndarray:
    """``count`` weights of a law, 2000 an address as in a matrix."""
    scratch, found = philox.new_scratch(), np.empty(count)
    size = 2000
    step, out = weights.counters(law, size), np.empty(philox.padded(size) + 128)
    for block, start in enumerate(range(0, count, size)):
        wanted = min(size, count - start)
        weights.fill(
            law, parameter, KEY, 0, replica, philox.WEIGHT, block * step, wanted, scratch, out
        )
        found[start : start + wanted] = out[:wanted]
    return found


def _rows(layer: int, first: int, slots: int) -> np.ndarray:
    word = np.empty((4 * slots, lanes.LANES), np.uint32)
    key = [np.uint64(k) for k in KEY]
    for slot in range(slots):
        lanes.words(*key, slot, layer, np.uint64(first), philox.FORWARD, 4 * slot, word)
    return word


def chi_squares(
    degrees: float | np.ndarray,
    count: int,
    *,
    first: int = 0,
    purpose: int = philox.FORWARD,
    slot: int = 3,
) -> np.ndarray:
    """Chi-squares of lanes ``first ..`` at one layer after another, (layers, LANES).

    A number takes the kernel for one number of degrees, an array (LANES,) that for many.
    First attempts do not depend on ``purpose`` and ``slot``, further ones do.
    """
    same = np.ndim(degrees) == 0
    kernel = lanes.chi_square_same if same else lanes.chi_square
    argument = int(degrees) if same else np.asarray(degrees, np.float32)
    z = np.empty((2, lanes.LANES), np.float32)
    found = np.empty((-(-count // lanes.LANES), lanes.LANES), np.float32)
    for layer in range(len(found)):
        word = _rows(layer, first, 1)
        lanes.normals(1, word, z)
        kernel(argument, z[0], word[2], KEY, layer, np.uint64(first), purpose, slot, found[layer])
    return found


def binomials(trials: int, count: int) -> np.ndarray:
    """Bin(trials, 1/2), int64; at least ``count`` of them."""
    from sigprop.backends.numba_cpu import _binomial_tables

    cumulative, places = _binomial_tables((trials,), lanes.TABLE_FROM)
    at, lowest = places.get(trials, (0, 0))
    slots = -(-lanes.TABLE_FROM // 128)
    found = np.empty((-(-count // lanes.LANES), lanes.LANES), np.float32)
    for layer in range(len(found)):
        word = _rows(layer, 0, slots)
        used = lanes.binomial_half(trials, word, 0, cumulative, at, lowest, found[layer])
        assert used == (-(-trials // 32) if trials <= lanes.TABLE_FROM else 1)
    return found.ravel().astype(np.int64)


# ------------------------------------------------------------------- assertions


def assert_law(
    sample: np.ndarray, distribution: Callable[..., np.ndarray], *, resolution: float
) -> None:
    """One-sample Kolmogorov-Smirnov test; conservative for a law with atoms.

    Sees any law whose distribution function is ``resolution`` away somewhere.
    """
    x = np.sort(sample, axis=None).astype(float)
    assert np.isfinite(x).all(), "entries that are not finite"
    n = len(x)
    detectable = (kolmogi(ALPHA) + norm.isf(ALPHA / 2) / 2) / math.sqrt(n)
    assert detectable <= resolution, f"underpowered: sees {detectable:.2g} from {n} numbers"
    distance = 0.0
    for start in range(0, n, 10**6):  # a long sample fills the memory once, not five times
        chance = distribution(x[start : start + 10**6])
        rank = start + np.arange(len(chance))
        distance = max(distance, ((rank + 1) / n - chance).max(), (chance - rank / n).max())
    p = kolmogorov(distance * math.sqrt(n))
    assert p >= ALPHA, f"another law: distance {distance:.2g} of {n} numbers, p = {p:.1g}"


def assert_chances(counts: np.ndarray, chances: np.ndarray, *, resolution: float) -> None:
    """Chi-square test of all cells together, cells of fewer than 100 expected pooled.

    Sees errors of chances whose relative size is ``resolution`` in root mean square.
    """
    counts, chances = np.asarray(counts, float), np.asarray(chances, float)
    n = counts.sum()
    np.testing.assert_allclose(chances.sum(), 1.0, rtol=1e-9)
    assert (counts[chances == 0] == 0).all(), "something impossible was drawn"
    # Cells are joined, thinnest first, until each pool is thick.
    expected, seen = [0.0], [0.0]
    for cell in np.argsort(chances, kind="stable"):
        if expected[-1] >= 100:
            expected.append(0.0)
            seen.append(0.0)
        expected[-1] += n * chances[cell]
        seen[-1] += counts[cell]
    freedom = len(expected) - 1
    critical = chi2.isf(ALPHA, freedom)
    needed = brentq(lambda x: ncx2.cdf(critical, freedom, x) - ALPHA / 2, 1.0, 40 * critical + 1000)
    detectable = math.sqrt(needed / n)
    assert detectable <= resolution, f"underpowered: sees {detectable:.2g} from {n:.0f} numbers"
    deviations = (np.array(seen) - expected) / np.sqrt(expected)
    statistic = float((deviations**2).sum())
    assert statistic <= critical, (
        f"other chances: chi-square {statistic:.4g} of {freedom} cells (critical {critical:.4g}); "
        f"worst {np.abs(deviations).max():.1f} deviations"
    )


def assert_event(count: int, n: int, chance: float, *, factor: float) -> None:
    """Exact binomial test, two-sided, of how often a rare event was seen in n.

    Sees chances ``factor`` times too large; too small ones where enough events are expected.
    """
    law = binom(n, chance)
    missed = binom.cdf(law.isf(ALPHA / 2), n, factor * chance)
    assert missed <= ALPHA, f"underpowered: an event {factor} times as frequent may escape"
    p = 2 * min(law.cdf(count), law.sf(count - 1))
    assert p >= ALPHA, f"{count} events, {n * chance:.4g} expected, p = {p:.1g}"


def assert_moments(sample: np.ndarray, moments: Sequence[float], *, resolution: float) -> None:
    """Means of x, x^2, .., x^m; ``moments`` are the exact ones to order 2 m, order 0 first.

    Told in standard deviations of each power, so that one resolution serves all.
    """
    half = (len(moments) - 1) // 2
    estimate, truth = [], []
    power = np.ones_like(sample)
    for k in range(1, half + 1):
        power = power * sample
        deviation = math.sqrt(moments[2 * k] - moments[k] ** 2)
        estimate.append(power.mean() / deviation)
        truth.append(moments[k] / deviation)
    assert_agrees(estimate, truth, 1 / math.sqrt(len(sample)), resolution=resolution)
