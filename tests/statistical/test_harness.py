"""The harness itself: silent under the null, awake to what it declares to see."""

from __future__ import annotations

import numpy as np
import pytest

from tests.stat import (
    ALPHA,
    assert_agrees,
    assert_same_chance,
    assert_same_joint_law,
    assert_same_law,
    detectable_distance,
)

N = 100_000
DEVIATION = 0.2  # of a log norm, in these self-tests


def samples(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, DEVIATION, N), np.log(scale) + rng.normal(0, DEVIATION, N)


def test_a_scale_error_of_two_per_cent_is_seen():
    """A shift of .02 in a log norm of deviation .2 moves its distribution function by .04."""
    distance = 0.02 / DEVIATION * 0.3989
    assert distance > detectable_distance(N, N)
    for seed in range(20):
        for scale in (1.02, 1 / 1.02):
            with pytest.raises(AssertionError, match="two laws"):
                assert_same_law(*samples(seed, scale), resolution=distance)
            a, b = samples(seed, scale)
            se = np.sqrt((a.var() + b.var()) / N)
            with pytest.raises(AssertionError, match="disagreement"):
                assert_agrees(a.mean() - b.mean(), 0.0, se, resolution=0.02)


def test_nothing_fires_under_the_null():
    for seed in range(50):
        a, b = samples(seed)
        assert_same_law(a, b, resolution=0.03)
        assert_agrees(a.mean(), b.mean(), np.sqrt((a.var() + b.var()) / N), resolution=0.02)


def test_the_stated_false_alarm_rate_is_kept():
    """At alpha = 2 % instead of 1e-6, about 2 % of 1000 null comparisons fire."""
    rng = np.random.default_rng(3)
    fired = np.zeros(3)
    for _ in range(1000):
        a, b = rng.normal(size=(2, 400))
        hits = rng.binomial(400, 0.3, 2)
        for i, check in enumerate(
            (
                lambda a=a, b=b: assert_same_law(a, b, resolution=1, alpha=0.02),
                lambda h=hits: assert_same_chance(h[0], 400, h[1], 400, alpha=0.02),
            )
        ):
            try:
                check()
            except AssertionError:
                fired[i] += 1
    assert 4 < fired[0] < 45 and 2 < fired[1] < 45  # beyond 5 standard errors


def test_too_few_replicas_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(AssertionError, match="underpowered"):
        assert_same_law(rng.normal(size=100), rng.normal(size=100), resolution=0.05)
    with pytest.raises(AssertionError, match="underpowered"):
        assert_agrees(1.0, 1.0, 0.01, resolution=0.02)
    small = {"log_norm": rng.normal(size=(5000, 3, 1))}
    with pytest.raises(AssertionError, match="underpowered"):
        assert_same_joint_law(small, small, resolution=0.05, scores=1.0)
    with pytest.raises(AssertionError, match="underpowered for the location"):
        assert_same_joint_law(small, small, resolution=1.0, scores=0.05)


def test_truths_without_error_must_be_met():
    assert_agrees([1.0, 2.0], [1.0, 2.0], [0.1, 0.0], resolution=2.0)
    with pytest.raises(AssertionError, match="disagreement at \\(1,\\)"):
        assert_agrees([1.0, 2.0], [1.0, 2.0 + 1e-9], [0.1, 0.0], resolution=2.0)


def test_rounding_of_exact_relations_is_no_difference():
    """Ten atoms that differ in the last digits: without jitter, p would be 0."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 10, (2, N)).astype(float)
    b *= 1 + 1e-13
    assert_same_law(a, b, resolution=0.05)
    with pytest.raises(AssertionError, match="two laws"):
        assert_same_law(a, b, resolution=0.05, jitter=0.0)


# ------------------------------------------------------------------ joint laws


def trace(seed, count=40_000):
    """A made-up trace: forward and backward passes share half of their steps."""
    rng = np.random.default_rng(seed)
    shared, *own = rng.normal(0, 0.3, (5, count, 1, 1)) * np.array([0, 1.0, 2.0])[:, None]
    parts = dict(
        zip(
            ("log_norm", "log_displacement", "log_gradient", "log_gradient_displacement"),
            (shared + x for x in own),
        )
    )
    parts["log_gradient"] = parts["log_gradient"][:, ::-1]
    parts["log_gradient_displacement"] = parts["log_gradient_displacement"][:, ::-1]
    parts["dead"] = np.cumsum(rng.random((count, 3, 1)) < 0.1, axis=1).astype(float)
    return parts


SEEN = {"resolution": 0.06, "scores": 0.1}


def test_joint_laws_agree_under_the_null():
    for seed in range(5):
        assert_same_joint_law(trace(seed), trace(seed + 100), **SEEN)


def shuffled_gradient(t):
    return t | {"log_gradient": np.random.default_rng(9).permutation(t["log_gradient"])}


def later_shuffled(t):
    """Pair each displacement with the gradient of a network of nearly the same norm."""
    order = np.argsort(t["log_norm"][:, -1, 0])
    moved = t["log_gradient"].copy()
    moved[order[:-1]] = t["log_gradient"][order[1:]]
    return t | {"log_gradient": moved}


@pytest.mark.parametrize(
    "break_it, word",
    [
        (shuffled_gradient, "log_gradient"),
        (later_shuffled, "correlation|log_gradient"),
        (lambda t: t | {"log_norm": 1.06 * t["log_norm"]}, "log_norm"),
        (lambda t: t | {"log_displacement": t["log_displacement"] + 0.05}, "log_displacement"),
        (lambda t: t | {"dead": t["dead"] * (t["log_norm"] < 0.4)}, "dead"),
        (lambda t: t | {"log_norm": np.where(t["dead"] > 1, -np.inf, t["log_norm"])}, "not finite"),
    ],
)
def test_joint_law_sees_what_is_broken(break_it, word):
    with pytest.raises(AssertionError, match=word):
        assert_same_joint_law(trace(1), break_it(trace(2)), **SEEN)


def test_alpha_is_one_in_a_million():
    assert ALPHA == 1e-6
