"""The torch baseline does the same job: its norms and gradients have the law of ours."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.theory import (
    gradient_relative_variance,
    log_gradient_mean_square,
    log_mean_square,
    relative_variance,
)
from sigprop import rng
from sigprop.backends.reference import Reference
from sigprop.inputs import Point
from sigprop.schemes import GivenScheme
from sigprop.spec import Ensemble, Network
from tests.stat import assert_agrees, assert_same_joint_law

pytest.importorskip("torch", reason="the baseline is written in torch", exc_type=ImportError)

DEPTH, WIDTH = 4, 3


@pytest.fixture(scope="module")
def measured():
    from benchmarks.baseline_torch import measure

    return measure(5000, DEPTH, WIDTH, beta=0.5, seed=0)


@pytest.fixture(scope="module")
def ensemble():
    scheme = GivenScheme(variance=1 / WIDTH, branch=DEPTH**-0.5)
    return Ensemble(Network(depth=DEPTH, width=WIDTH), scheme, Point())


def test_baseline_draws_from_our_law(measured, ensemble):
    fields = frozenset({"log_norm", "log_gradient"})
    key = rng.key(0, ensemble.digest, "reference", 1)
    ours = Reference().sample(ensemble, fields, np.arange(DEPTH + 1), key, 0, 5000)
    theirs = {name: values[..., None] for name, values in measured.items()}
    # Single precision there, double here: exact relations differ in the seventh digit.
    assert_same_joint_law(ours, theirs, resolution=0.12, scores=0.26, jitter=1e-5)


def test_baseline_has_the_exact_mean_squares(measured, ensemble):
    count = len(measured["log_norm"])
    for name, mean, variance, at in (
        ("log_norm", log_mean_square, relative_variance, slice(1, None)),
        ("log_gradient", log_gradient_mean_square, gradient_relative_variance, slice(0, -1)),
    ):
        ratio = np.exp(2 * measured[name] - mean(ensemble)).mean(axis=0)[at]
        se = np.sqrt(variance(ensemble)[at] / count)
        assert_agrees(ratio, 1.0, se, resolution=0.4)


def test_baseline_tells_its_time():
    from benchmarks.baseline_torch import seconds_per_network

    assert 0 < seconds_per_network(networks=2, depth=5, width=3) < 5
