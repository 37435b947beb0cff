"""What is derived of deep networks at a given width, against networks that are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest

import sigprop
from analysis.theory import (
    commutation_rate,
    geometric_log_norm,
    kernel_ode,
    outer_activation_mean_field,
    outer_activation_mean_square,
    quasi_geometric_drift,
    quasi_geometric_log_mean,
    stable_log_mean_square,
    weak_limit,
)
from sigprop.activations import ReLU
from sigprop.inputs import Pair, Point
from sigprop.schemes import Power, StableResNet
from sigprop.spec import Ensemble, Network
from tests.stat import assert_agrees, assert_same_law


def kept(ensemble, fields, replicas, **run):
    """Values at the last layer of every replica."""
    last = ensemble.network.depth
    result = sigprop.simulate(
        ensemble, ["norm", *fields], replicas=replicas, layers=[last], keep=[last], **run
    )
    names = {"norm": "log_norm", "displacement": "log_displacement", "separability": "cosine"}
    return [result[f"replica_{names[f]}"].values[:, 0] for f in ("norm", *fields)]


@pytest.mark.parametrize("width", [1, 2, 5])
def test_deep_linear_networks_are_geometric_brownian_motions(width):
    replicas, depth = 40_000, 1000
    network = Network(depth=depth, width=width, block="res1", activation="linear")
    (log_norm,) = kept(Ensemble(network, Power(beta=0.5), Point()), (), replicas, seed=11)
    mean, variance = geometric_log_norm(width)
    sample = np.random.default_rng(0).normal(mean, math.sqrt(variance), replicas)
    assert_same_law(log_norm[:, 0], sample, resolution=0.04)
    se = [math.sqrt(variance / replicas), variance * math.sqrt(2 / replicas)]
    assert_agrees([log_norm.mean(), log_norm.var()], [mean, variance], se, resolution=0.08)


@pytest.mark.parametrize("width, law", [(3, "gaussian"), (12, "gaussian"), (12, "rademacher")])
def test_deep_relu_networks_are_diffusions_in_norm_and_direction(width, law):
    dense = law != "gaussian"
    replicas, depth = (4_000, 150) if dense else (40_000, 600)
    ensemble = Ensemble(Network(depth=depth, width=width), Power(beta=0.5, law=law), Point())
    log_norm, log_moved = kept(ensemble, ("displacement",), replicas, seed=3)
    limit = weak_limit(ensemble)
    square = np.exp(2 * log_norm)
    cosine = (1 + square - np.exp(2 * log_moved)) / (2 * np.sqrt(square))
    variance = limit.log_norm_variance[-1]
    assert_agrees(
        [log_norm.mean(), log_norm.var(), cosine.mean()],
        [limit.log_norm_mean[-1], variance, limit.cosine_mean[-1]],
        [
            math.sqrt(variance / replicas),
            variance * math.sqrt(2 / replicas),
            cosine.std() / math.sqrt(replicas),
        ],
        resolution=0.1 if dense else 0.03,
    )


# ------------------------------------------------------------------- ReLU, block res1


def relu_paths(width, depth, replicas, seed):
    """(log of the final over the initial norm of ReLU(X), mean of N over time, initial N)."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((replicas, width))
    x = x[(x > 0).any(axis=1)]
    active = (x > 0).sum(axis=1)
    start, first, total = np.linalg.norm(np.maximum(x, 0), axis=1), active, np.zeros(len(x))
    for _ in range(depth):
        size = np.linalg.norm(np.maximum(x, 0), axis=1) / math.sqrt(width * depth)
        x += size[:, None] * generator.standard_normal(x.shape)
        before, active = active, (x > 0).sum(axis=1)
        total += (before + active) / (2 * depth)
    return np.log(np.linalg.norm(np.maximum(x, 0), axis=1) / start), total, first


@pytest.mark.parametrize("width", [2, 3, 4, 5])
def test_the_mean_logarithm_of_relu_networks_is_that_of_the_expansion(width):
    """Within 0.001, and far enough from 0 to tell its sign at widths 3 and 4.

    The drift is linear in N, whose mean at the start is known: only its change is averaged.
    """
    change, total, first = relu_paths(width, 150, 60_000, seed=width)
    p = 1 - 2.0**-width
    start = (1 / (4 * p) - 1 / width, math.sqrt(len(first)))
    drift = (total - first) / (2 * width)
    truth, allowed = quasi_geometric_log_mean(width), 0.001
    estimate, se = start[0] + drift.mean(), drift.std() / start[1]
    inside = truth + np.clip(estimate - truth, -allowed, allowed)
    assert_agrees(estimate, inside, se, resolution=0.005)
    assert np.sign(truth) == (-1 if width < 4 else 1)
    assert abs(estimate) > 10 * se

    # What the drift leaves of the logarithm is a Brownian motion of variance t / n.
    noise = change - (total / 2 - 1) / width
    count = len(noise)
    assert quasi_geometric_drift(2, width) == 0.0
    assert_agrees(
        [noise.mean(), noise.var()],
        [0.0, 1 / width],
        [math.sqrt(1 / width / count), math.sqrt(2 / count) / width],
        resolution=0.04,
    )


# --------------------------------------------------------------------- width and depth


def test_width_and_depth_limits_commute():
    """Root mean square distance of products of states from the kernel equation.

    Below twice commutation_rate, and falling like the root of the width where depth is large.
    """
    start = np.array([[1.0, 0.3], [0.3, 1.0]])
    limit = kernel_ode(ReLU(), start)[0, 1]
    distance = {}
    for width, depth in ((30, 30), (30, 120), (120, 30), (120, 120), (480, 120)):
        network = Network(depth=depth, width=width, block="res1")
        ensemble = Ensemble(network, Power(beta=0.5), Pair(cosine=0.3))
        log_norm, cosine = kept(ensemble, ("separability",), 4000, seed=5)
        product = np.exp(log_norm.sum(axis=1)) * cosine[:, 0]
        distance[width, depth] = float(np.sqrt(np.mean((product - limit) ** 2)))
        assert distance[width, depth] < 2 * commutation_rate(width, depth)
    # The root of 4000 squares of kurtosis 6 or less has an error of 1.8%, a ratio of two 0.045.
    assert abs(distance[30, 120] / distance[120, 120] - 2) < 0.3
    assert abs(distance[120, 120] / distance[480, 120] - 2) < 0.3
    # Depth does not matter where width is the larger error: the constant is one for all depths.
    assert abs(distance[30, 30] / distance[30, 120] - 1) < 0.2


@pytest.mark.parametrize("form", ["uniform", "decreasing"])
def test_stable_networks_have_the_product_of_their_branches(form):
    depth, replicas, width = 50, 4000, 300
    network = Network(depth=depth, width=width, block="res1")
    ensemble = Ensemble(network, StableResNet(form=form), Point())
    result = sigprop.simulate(
        ensemble, ["norm", "gradient"], replicas=replicas, layers=[0, depth], orders=[2.0], seed=2
    )
    truth = stable_log_mean_square(ensemble.table.branch)[-1]
    forward, backward = result.norm_moment_log[0, 1, 0], result.gradient_moment_log[0, 0, 0]
    se = [result.norm_moment_log_se[0, 1, 0], result.gradient_moment_log_se[0, 0, 0]]
    # At a finite width it is too large by O(1/width): the constant is below 10 here.
    found = np.array([forward, backward])
    inside = np.clip(found, truth, truth + 10 / width)
    assert_agrees(found, inside, se, resolution=0.15)


# ------------------------------------------------------------ branches ending in activations


def outer_network(phi, start, depth, replicas, seed):
    """States after ``depth`` layers h + phi(A h + b), Var A = 1 / (d L), Var b = 1 / (2 L)."""
    generator = np.random.default_rng(seed)
    h = np.broadcast_to(start, (replicas, len(start))).copy()
    for _ in range(depth):
        # Given h, the coordinates of A h + b are independent and normal.
        size = np.sqrt((np.mean(h**2, axis=1) + 0.5) / depth)
        h += phi(size[:, None] * generator.standard_normal(h.shape))
    return h


def test_a_tanh_branch_has_the_mean_square_of_its_equation_at_any_width():
    """Two depths, extrapolated: the network misses the equation by O(1/L)."""
    truth = outer_activation_mean_square(1.0, slope=1, weight_variance=1, bias_variance=0.5)
    replicas = 40_000
    means, variances = [], []
    for depth in (100, 200):
        square = np.mean(outer_network(np.tanh, np.ones(8), depth, replicas, depth) ** 2, axis=1)
        means.append(square.mean())
        variances.append(square.var() / replicas)
    se = math.sqrt(4 * variances[1] + variances[0])
    assert means[1] < truth  # tanh is flatter than its slope
    assert_agrees(2 * means[1] - means[0], truth, se, resolution=0.4)


@pytest.mark.parametrize(
    "phi, curvature",
    [
        (lambda u: np.expm1(u) / 2, 0.5),
        (lambda u: np.logaddexp(0.0, u) - math.log(2), 0.25),
    ],
)
def test_a_curved_branch_has_the_mean_of_its_equation(phi, curvature):
    """At width 200 and depth 200 the corrections are below 0.012."""
    mean, square = outer_activation_mean_field(1.0, 1.0, 0.5, curvature, 1.0, 0.5)
    h = outer_network(phi, np.ones(200), 200, 400, 7)
    found = np.stack([h.mean(axis=1), np.mean(h**2, axis=1)], axis=1)
    estimate, se = found.mean(axis=0), found.std(axis=0) / math.sqrt(len(h))
    truth, allowed = np.array([mean, square]), np.array([0.012, 0.06])
    inside = truth + np.clip(estimate - truth, -allowed, allowed)
    assert_agrees(estimate, inside, se, resolution=0.2)
