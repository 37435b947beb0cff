"""How tests tell chance from error: every assertion states what it would miss.

A statistical test has two ways to be worthless: to fire by chance, and to be unable to see
what it looks for. Every assertion here fires by chance with probability ``ALPHA``, all its
entries together, and refuses to pass (``underpowered``) unless a difference as large as
``resolution`` would be seen almost surely.

========================= ===================================================================
assert_agrees             estimates against a truth, with known standard errors
assert_same_law           two samples of one number (Kolmogorov-Smirnov)
assert_same_chance        two counts of one event (Fisher's exact test)
assert_same_joint_law     two traces: every number, products, ratios, correlations, zeros
========================= ===================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import kolmogi, kolmogorov, ndtri
from scipy.stats import hypergeom, norm, rankdata

__all__ = [
    "ALPHA",
    "assert_agrees",
    "assert_same_chance",
    "assert_same_joint_law",
    "assert_same_law",
    "columns",
    "detectable_distance",
]

ALPHA = 1e-6  # false-alarm probability of one assertion

# ------------------------------------------------------------- against a truth


def assert_agrees(
    estimate: ArrayLike, truth: ArrayLike, se: ArrayLike, *, resolution: float
) -> None:
    """Two-sided z-test of ``estimate`` against ``truth``, Bonferroni over entries.

    Parameters
    ----------
    se : array_like
        Standard errors, from theory wherever tails are heavy.
    resolution : float
        The smallest error that must be seen.
    """
    estimate, truth, se = np.atleast_1d(*np.broadcast_arrays(estimate, truth, se))
    critical = norm.isf(ALPHA / 2 / estimate.size)
    detectable = 2 * critical * se  # seen with probability >= 1 - ALPHA / 2
    assert (detectable <= resolution).all(), (
        f"underpowered: smallest detectable error {detectable.max():.2g} exceeds the "
        f"declared resolution {resolution:.2g}; raise the number of replicas by "
        f"{(detectable.max() / resolution) ** 2:.1f}x"
    )
    gap = estimate - truth
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(gap == 0, 0.0, gap / se)  # an error of 0 allows no difference at all
    worst = np.unravel_index(np.abs(z).argmax(), z.shape)
    assert abs(z[worst]) <= critical, (
        f"disagreement at {tuple(map(int, worst))}: estimate {estimate[worst]:.6g}, "
        f"truth {truth[worst]:.6g}, z = {z[worst]:+.1f} (critical {critical:.1f})"
    )


# ----------------------------------------------------------------- two samples


def detectable_distance(n: int, m: int, alpha: float = ALPHA) -> float:
    """Distance between two distribution functions that the two-sample test surely sees.

    It fires beyond ``kolmogi(alpha) / sqrt(k)``, k = nm/(n+m). Where the functions are
    farthest apart the measured distance is normal with a deviation of at most
    ``1 / (2 sqrt(k))``, so one more ``norm.isf(ALPHA / 2)`` of those gives probability
    1 - ALPHA / 2.
    """
    return float((kolmogi(alpha) + norm.isf(ALPHA / 2) / 2) / math.sqrt(n * m / (n + m)))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.sort(a), np.sort(b)
    pooled = np.concatenate([a, b])
    below_a = np.searchsorted(a, pooled, side="right") / len(a)
    below_b = np.searchsorted(b, pooled, side="right") / len(b)
    return float(np.abs(below_a - below_b).max())


def _jittered(sample: np.ndarray, jitter: float, stream: str) -> np.ndarray:
    """Break ties that differ by rounding: without this, exact relations report p = 0."""
    noise = np.random.default_rng(list(stream.encode())).standard_normal(len(sample))
    return sample + jitter * noise


def assert_same_law(
    sample_a: ArrayLike,
    sample_b: ArrayLike,
    *,
    resolution: float,
    jitter: float = 1e-9,
    alpha: float = ALPHA,
    name: str = "the sample",
) -> None:
    """Two-sample Kolmogorov-Smirnov test, two-sided.

    Fires by chance with probability ``alpha``; sees any difference of ``resolution`` or more
    between the distribution functions, or refuses to pass.
    """
    a, b = np.asarray(sample_a, float), np.asarray(sample_b, float)
    assert np.isfinite(a).all() and np.isfinite(b).all(), f"{name}: entries that are not finite"
    detectable = detectable_distance(len(a), len(b), alpha)
    assert detectable <= resolution, (
        f"underpowered for {name}: smallest detectable distance {detectable:.2g} exceeds the "
        f"declared resolution {resolution:.2g}; raise the number of replicas by "
        f"{(detectable / resolution) ** 2:.1f}x"
    )
    distance = _distance(_jittered(a, jitter, f"a {name}"), _jittered(b, jitter, f"b {name}"))
    p = kolmogorov(distance * math.sqrt(len(a) * len(b) / (len(a) + len(b))))
    assert p >= alpha, (
        f"{name}: two laws, distance {distance:.4f}, p = {p:.1g} (alpha {alpha:.1g}); medians "
        f"{np.median(a):.6g} and {np.median(b):.6g}, deviations {a.std():.4g} and {b.std():.4g}"
    )


def assert_same_chance(
    count_a: int, n: int, count_b: int, m: int, *, alpha: float = ALPHA, name: str = "the event"
) -> None:
    """Fisher's exact test, two-sided, that an event seen ``count`` times in n has one chance."""
    law = hypergeom(n + m, count_a + count_b, n)
    p = min(1.0, 2 * min(law.cdf(count_a), law.sf(count_a - 1)))
    assert p >= alpha, (
        f"{name}: {count_a} of {n} against {count_b} of {m}, p = {p:.1g} (alpha {alpha:.1g})"
    )


# ------------------------------------------------------------------ two traces

# Which layers of a field are looked at, among those recorded: a gradient starts at the top.
_FORWARD, _BACKWARD = ("middle", "last"), ("first", "middle")
_LOOKED_AT = {
    "log_norm": _FORWARD,
    "log_displacement": _FORWARD,
    "log_gradient": _BACKWARD,
    "log_gradient_displacement": _BACKWARD,
    "alignment": _BACKWARD,
    "cosine": _FORWARD,
    "log_distance": _FORWARD,
    "effective_rank": _FORWARD,
    "activity": _FORWARD,
}


def columns(trace: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Name every number of a trace that is compared: ``{"log_norm[last, 0]": (replicas,)}``.

    The first and last recorded layers should be 0 and the depth.
    """
    found = {}
    for field, places in _LOOKED_AT.items():
        if field not in trace:
            continue
        values = trace[field]
        values = values[..., None] if values.ndim == 2 else values
        at = {"first": 0, "middle": values.shape[1] // 2, "last": values.shape[1] - 1}
        for place in places:
            for i in range(values.shape[2]):
                found[f"{field}[{place}, {i}]"] = values[:, at[place], i]
    return found


def assert_same_joint_law(
    trace_a: Mapping[str, np.ndarray],
    trace_b: Mapping[str, np.ndarray],
    *,
    resolution: float,
    scores: float,
    jitter: float = 1e-9,
) -> None:
    """Two traces come from one law, jointly over all fields that both have.

    Tested, Bonferroni over all of it: the law of every column (`columns`), its location and
    spread; the law of the product and the ratio of norms, gradients and displacements of one
    input; the correlation of every two columns; the chance of zeros and of dead layers. The
    joint part matters: the classical mistake of a chain leaves every marginal right.

    Parameters
    ----------
    resolution : float
        Difference of distribution functions that must be seen, in every column and product.
    scores : float
        Difference that must be seen between normal scores: in their mean, in the logarithm
        of their deviation, in their correlations.
    jitter : float
        Above the rounding of both samplers.
    """
    shared = trace_a.keys() & trace_b.keys()
    a = columns({f: trace_a[f] for f in shared})
    b = columns({f: trace_b[f] for f in shared})
    sizes = len(next(iter(a.values()))), len(next(iter(b.values())))
    finite_a = {name: np.isfinite(x) for name, x in a.items()}
    finite_b = {name: np.isfinite(x) for name, x in b.items()}

    # A sum of logarithms is a product; one of other columns serves as well.
    combined = [(x, y, sign) for x, y in _pairs_of_one_input(a) for sign in (1, -1)]
    correlated = [(x, y) for i, x in enumerate(a) for y in list(a)[:i]]
    dead = _dead_events(trace_a, trace_b) if "dead" in shared else []
    tests = 4 * len(a) + len(combined) + len(correlated) + len(dead)
    alpha = ALPHA / tests
    same = {"resolution": resolution, "jitter": jitter, "alpha": alpha}

    for name in a:
        assert_same_chance(
            int((~finite_a[name]).sum()),
            sizes[0],
            int((~finite_b[name]).sum()),
            sizes[1],
            alpha=alpha,
            name=f"{name} is not finite",
        )
        assert_same_law(a[name][finite_a[name]], b[name][finite_b[name]], name=name, **same)
    for x, y, sign in combined:
        both_a, both_b = finite_a[x] & finite_a[y], finite_b[x] & finite_b[y]
        assert_same_law(
            a[x][both_a] + sign * a[y][both_a],
            b[x][both_b] + sign * b[y][both_b],
            name=f"{x} {'+' if sign > 0 else '-'} {y}",
            **same,
        )
    _assert_same_scores(a, b, finite_a, finite_b, correlated, scores, jitter, alpha)
    for name, count_a, count_b in dead:
        assert_same_chance(count_a, sizes[0], count_b, sizes[1], alpha=alpha, name=name)


def _pairs_of_one_input(names: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Products and ratios that see a wrong dependence of forward and backward passes."""
    wanted = (
        ("log_norm[last", "log_gradient[first"),
        ("log_norm[middle", "log_gradient[first"),
        ("log_norm[middle", "log_gradient[middle"),
        ("log_displacement[last", "log_gradient[first"),
        ("log_displacement[middle", "log_gradient[middle"),
        ("log_displacement[last", "log_norm[last"),
        ("log_displacement[last", "log_gradient_displacement[first"),
        ("log_gradient[first", "log_gradient_displacement[first"),
        ("log_norm[last", "activity[last"),
        ("log_norm[last", "log_distance[last"),
        ("log_gradient[first", "cosine[last"),
    )
    pairs = [(f"{x}, 0]", f"{y}, 0]") for x, y in wanted]
    return [pair for pair in pairs if pair[0] in names and pair[1] in names]


def _dead_events(
    trace_a: Mapping[str, np.ndarray], trace_b: Mapping[str, np.ndarray]
) -> list[tuple[str, int, int]]:
    """How often at least 1, 2, .. layers are dead at the middle and at the end."""
    events = []
    middle, most = trace_a["dead"].shape[1] // 2, 4
    for place, at in (("middle", middle), ("last", -1)):
        for i in range(trace_a["dead"].shape[2]):
            for k in range(1, most + 1):
                counts = [int((t["dead"][:, at, i] >= k).sum()) for t in (trace_a, trace_b)]
                events.append((f"dead[{place}, {i}] >= {k}", *counts))
    return events


def _assert_same_scores(
    a: Mapping[str, np.ndarray],
    b: Mapping[str, np.ndarray],
    finite_a: Mapping[str, np.ndarray],
    finite_b: Mapping[str, np.ndarray],
    pairs: list[tuple[str, str]],
    resolution: float,
    jitter: float,
    alpha: float,
) -> None:
    """Permutation tests of every location, spread and correlation of normal scores.

    Columns are replaced by the normal scores u, v of their ranks in the *pooled* sample, so
    heavy tails do not matter. What is compared is a mean over replicas: of u; of u^2 / 2, the
    influence of a replica on the log deviation; of ``u v - r (u^2 + v^2) / 2``, its influence on
    the pooled correlation r. Under one law the labels a, b are exchangeable, so the variance
    of the difference of means is that of the pooled numbers.
    """
    n = len(next(iter(a.values())))
    finite = {name: np.concatenate([finite_a[name], finite_b[name]]) for name in a}
    critical = norm.isf(alpha / 2)

    def check(influence: np.ndarray, both: np.ndarray, name: str) -> None:
        k_a = int(both[:n].sum())
        k_b = len(influence) - k_a
        se = influence.std() * math.sqrt(1 / k_a + 1 / k_b)
        assert 2 * critical * se <= resolution, (
            f"underpowered for the {name}: smallest detectable difference "
            f"{2 * critical * se:.2g} exceeds {resolution:.2g}"
        )
        gap = influence[:k_a].mean() - influence[k_a:].mean()
        assert abs(gap) <= critical * se, (
            f"{name}: it differs by {gap:+.4f}, z = {gap / se:+.1f} (critical {critical:.1f})"
        )

    scores = {}
    for name in a:
        sides = ((a[name], "a"), (b[name], "b"))
        x = np.concatenate([_jittered(x, jitter, f"{side} {name}") for x, side in sides])
        u = ndtri(rankdata(x[finite[name]]) / (finite[name].sum() + 1))
        check(u, finite[name], f"location of {name}")
        check(u**2 / 2, finite[name], f"spread of {name}")
        scores[name] = np.zeros(len(x))
        scores[name][finite[name]] = u
    for x, y in pairs:
        both = finite[x] & finite[y]
        u, v = scores[x][both], scores[y][both]
        r = float(np.mean(u * v) / math.sqrt(np.mean(u**2) * np.mean(v**2)))
        influence = u * v - r * (u**2 + v**2) / 2
        check(influence, both, f"correlation {r:.3f} of {x} and {y}")
