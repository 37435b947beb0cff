"""The paper's bounds: where their ends are exact, and that simulated networks keep them."""

import numpy as np
import pytest

import sigprop
from analysis.theory import (
    critical_bound,
    log_displacement_mean_square,
    markov_bound,
    mean_bound,
    scaling_bound,
)
from sigprop import Ensemble, Network, Point, Power
from sigprop.errors import SpecError


@pytest.mark.parametrize("activation, end", [("relu", "lower"), ("linear", "upper")])
def test_the_ends_of_the_mean_are_reached(activation, end):
    law = Ensemble(Network(depth=70, width=9, activation=activation), Power(beta=0.4), Point())
    exact = np.exp(log_displacement_mean_square(law)[-1])
    found = mean_bound(70, 70**-0.4)
    assert getattr(found, end) == pytest.approx(exact, rel=1e-12)
    assert found.lower < found.upper and found.holds and not found.recalled


@pytest.mark.parametrize("beta", [0.5, 0.6, 0.8])
def test_simulated_networks_keep_the_bounds(beta):
    """Of 4000 networks at most a share delta breaks them; at delta = 1/2 none ever did."""
    depth, width = 200, 400
    law = Ensemble(Network(depth=depth, width=width), Power(beta=beta), Point())
    result = sigprop.simulate(law, ["displacement"], replicas=4000, keep=[depth], layers=[depth])
    moved = np.exp(2 * result.replica_log_displacement.values.ravel())
    branch = depth**-beta
    for delta in (0.2, 0.5):
        for bound in (
            markov_bound(depth, branch, delta), scaling_bound(depth, branch, width, delta),
        ):  # fmt: skip
            assert bound.holds
            outside = np.mean((moved < bound.lower) | (moved > bound.upper))
            assert outside <= delta
    if beta == 0.5:
        bound = critical_bound(width, 0.5)
        assert bound.lower > 0.0  # not vacuous
        assert np.mean((moved < bound.lower) | (moved > bound.upper)) <= 0.5


def test_the_intervals_are_those_of_the_paper():
    """L a^2 = 1/4 and d delta = 44, where the roots can be drawn by hand.

    Lower exp(3/32 - 1/4) - 1, upper exp(1/4 + (5/176)^(1/2)) + 1; Markov 2 L a^2 / delta.
    """
    found = scaling_bound(100, 0.05, 220, 0.2)
    assert (found.lower, found.upper) == pytest.approx((-0.14465, 2.51976), abs=1e-5)
    assert found.probability == pytest.approx(0.8)
    found = markov_bound(100, 0.05, 0.2)
    assert found.upper == pytest.approx(2.5, rel=1e-12) and found.lower <= 0


def test_a_condition_that_fails_is_told():
    assert not markov_bound(100, 1.0, 0.1).holds
    narrow = scaling_bound(100, 0.1, 10, 0.1)
    assert not narrow.holds and narrow.recalled
    assert ("width >= 64", False) in narrow.conditions
    assert not critical_bound(32, 0.5).holds
    # Large branches break the tail condition.
    assert not scaling_bound(1000, 1.0, 100, 0.1).holds


def test_the_lower_end_is_vacuous_where_it_is_said_to_be():
    assert critical_bound(100, 1 - 1e-9).lower < 0 < critical_bound(157, 1 - 1e-9).lower
    assert mean_bound(10**6, 1.0).upper == np.inf


@pytest.mark.parametrize("failure", [0.0, 1.0, -0.1, float("nan")])
def test_no_probability_is_refused(failure):
    with pytest.raises(SpecError, match="failure"):
        markov_bound(10, 0.1, failure)
    with pytest.raises(SpecError, match="failure"):
        critical_bound(100, failure)
