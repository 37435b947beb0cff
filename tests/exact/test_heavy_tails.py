"""Estimators for samples whose mean cannot be trusted, against laws that are known."""

import doctest
import importlib
import math

import numpy as np
import pytest
from scipy.stats import binom

import sigprop
from analysis.heavy_tails import median_of_means, tail_index_of
from sigprop import Ensemble, Network, Point
from sigprop.errors import SpecError
from sigprop.schemes import Fractional


def test_examples_in_the_text_are_right():
    found = doctest.testmod(importlib.import_module("analysis.heavy_tails"))
    assert found.attempted > 0 and found.failed == 0


def test_median_of_means_by_hand():
    values = np.arange(24.0)[[3, 1, 2, 0, *range(4, 24)]]  # six groups of four
    found = median_of_means(values, groups=6)
    assert found.value == (9.5 + 13.5) / 2 and (found.low, found.high) == (1.5, 21.5)
    assert found.ess == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert found.mean == 11.5 and not found.reliable


@pytest.mark.parametrize("groups", [6, 7, 11, 30, 101])
def test_the_interval_holds_the_median_as_often_as_it_says(groups):
    """Exactly, by the binomial law of how many means lie below their median."""
    size = 1
    values = np.arange(1.0, groups + 1)
    found = median_of_means(np.tile(values, size), groups=groups)
    low, high = int(found.low), int(found.high)  # ranks, as the means are 1 .. groups
    below = binom(groups, 0.5)
    chance = below.cdf(high - 1) - below.cdf(low - 1)
    assert chance >= 0.95
    assert low == groups + 1 - high
    if low > 1:  # one step further in it would not
        assert below.cdf(high) - below.cdf(low - 2) >= chance


def test_the_mean_fails_and_says_so_where_its_median_is_low_too():
    """He at width 20, depth 100: E|x|^2 = 1 is carried by giants that nobody drew."""
    law = Ensemble(Network(depth=100, width=20, block="plain"), Fractional(s=2.0), Point())
    result = sigprop.simulate(law, ["norm"], replicas=3000, layers=[100], keep=[100])
    found = median_of_means(np.exp(2 * result.replica_log_norm.values.ravel()))
    assert not found.reliable and found.value < 0.5 and found.high < 1


def test_hill_by_hand():
    """The k largest are 2^j above the next: the mean of log(x_i / x_(k+1)) is (k + 1)/2 log 2."""
    values = np.concatenate([2.0 ** -np.arange(50), np.full(10, 1e-30)])
    found = tail_index_of(values, [12, 20])
    np.testing.assert_allclose(found.hill, 2 / (np.array([13, 21]) * math.log(2)), rtol=1e-12)
    np.testing.assert_allclose(found.hill_se, found.hill / np.sqrt([12, 20]), rtol=1e-12)


@pytest.mark.parametrize("index", [0.5, 1.0, 2.5])
def test_the_index_of_an_exact_power(index):
    """All counts of a Pareto law are right: z of the largest count, 1e-6 false alarms."""
    values = np.random.default_rng(3).pareto(index, 100_000) + 1
    found = tail_index_of(values)
    assert abs(found.hill[-1] / index - 1) < 4.9 / math.sqrt(found.counts[-1])
    assert found.stable
    np.testing.assert_allclose(found.pareto[-1], index, rtol=0.15)
    assert "±" in str(found) and "drifts" not in str(found)


def test_a_law_without_a_power_tail_is_not_given_one():
    found = tail_index_of(np.random.default_rng(3).exponential(size=200_000))
    assert not found.stable and "no power" in str(found)


def test_networks_with_biases_have_the_index_of_their_scheme():
    """Width 4, depth 60: the index is s by Kesten; three errors, spread of the range included."""
    for s in (1.0, 1.5):
        scheme = Fractional(s=s, bias_variance=1.0)
        law = Ensemble(Network(depth=60, width=4, block="plain"), scheme, Point())
        result = sigprop.simulate(law, ["norm"], replicas=60_000, layers=[60], keep=[60])
        found = tail_index_of(np.exp(result.replica_log_norm.values.ravel()))
        assert abs(found.value - s) < 4 * found.se < 0.4


def test_samples_that_have_no_tail():
    with pytest.raises(SpecError, match="too few"):
        tail_index_of(np.ones(10))
    with pytest.raises(SpecError, match="counts"):
        tail_index_of(np.ones(100), [5, 20])
    with pytest.raises(SpecError, match="positive"):
        tail_index_of(np.zeros(100), [20])
    with pytest.raises(SpecError, match="logarithms"):
        median_of_means([-1.0] * 100)
    with pytest.raises(SpecError, match="groups"):
        median_of_means(np.ones(10))
