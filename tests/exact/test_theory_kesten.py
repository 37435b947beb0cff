"""Biases: the stationary law of a plain net, its tail index and Goldie's constant."""

import doctest
import importlib
import math

import numpy as np
import pytest
from scipy.special import digamma
from scipy.stats import binom

import sigprop
from analysis.theory import stationary_law, tail_index
from sigprop import Ensemble, Network, Point
from sigprop.activations import LeakyReLU
from sigprop.errors import Unsupported
from sigprop.schemes import Fractional, GivenScheme, He
from tests.stat import assert_agrees


def biased(width, s, bias=1.0, depth=9, activation="relu"):
    network = Network(depth=depth, width=width, block="plain", activation=activation)
    return Ensemble(network, Fractional(s=s, bias_variance=bias), Point())


def test_examples_in_the_text_are_right():
    found = doctest.testmod(importlib.import_module("analysis.theory.kesten"))
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize("s", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize(
    "width, activation", [(4, "relu"), (30, "linear"), (9, LeakyReLU(slope=0.3))]
)
def test_the_tail_index_is_the_order_that_is_preserved(width, activation, s):
    assert tail_index(biased(width, s, activation=activation)) == pytest.approx(s, rel=1e-10)


def test_any_other_variance_has_an_index_too():
    """Linear, width 2: E A^p = (2 sigma^2)^p Gamma(1 + p) = 1, solved here for sigma^2 at p = 3."""
    variance = 6 ** (-1 / 3) / 2
    network = Network(depth=1, width=2, block="plain", activation="linear")
    law = Ensemble(network, GivenScheme(variance=variance, bias_variance=1.0), Point())
    assert tail_index(law) == pytest.approx(6.0, rel=1e-11)


@pytest.mark.parametrize("bias", [1.0, 0.01])
def test_goldies_constant(bias):
    """d = 4, s = 1: simulation 1.5020(3); a bias of another size scales |x| by its deviation."""
    law = stationary_law(biased(4, 1.0, bias))
    assert law.goldie == pytest.approx(1.5020 * math.sqrt(bias), rel=6e-4)


@pytest.mark.parametrize("width, s", [(4, 1.0), (10, 1.5), (3, 0.5)])
def test_the_tail_of_the_law_is_goldies(width, s):
    """Two ways to one number: the law found on the grid, far out, and the constant."""
    law = stationary_law(biased(width, s))
    far = 10 ** (5.0 / s)
    assert law.sf(far) == pytest.approx(law.tail(far), rel=2e-4)
    assert law.alive == pytest.approx(1 - 0.5**width)


def test_the_law_is_stationary_under_explicit_layers():
    """E log of the next state given the law, by quadrature over chi-squares, is E log."""
    law = stationary_law(biased(3, 1.0))
    step = law.log_square[1] - law.log_square[0]
    variance = (biased(3, 1.0).table.scale[0, 0]) ** 2
    weights = step * law.density
    assert weights.sum() == pytest.approx(law.alive, rel=1e-9)
    mean = weights @ law.log_square / law.alive
    log_gain = np.log(variance * np.exp(law.log_square) + 1.0)
    on = np.arange(1, 4)
    log_q = binom.pmf(on, 3, 0.5) @ (digamma(on / 2) + math.log(2)) / law.alive
    assert weights @ log_gain + log_q == pytest.approx(mean, abs=1e-8)


def test_deep_networks_with_biases_are_stationary():
    """Dense layers drawn by the simulator, 40 of them, 7 relaxation times; 1e-6 false alarms."""
    ensemble, replicas = biased(4, 1.0, depth=40), 40_000
    law = stationary_law(ensemble)
    result = sigprop.simulate(ensemble, ["norm"], replicas=replicas, layers=[40], keep=[40])
    # Norms are over that of the input, sqrt(4).
    norms = 2 * np.exp(result.replica_log_norm.values.ravel())
    for place in (1.0, 3.0, 20.0):
        exact = float(law.sf(place))
        share = float((norms > place).mean())
        assert_agrees(share, exact, math.sqrt(exact * (1 - exact) / replicas), resolution=0.03)


def test_layers_that_die_always_have_a_limit():
    """Width 2 of ReLUs, s = 1/2: the living grow on average, and one layer in four forgets."""
    law = stationary_law(biased(2, 0.5))
    assert law.lyapunov > 0
    assert law.tail_index == pytest.approx(0.5)
    assert law.relaxation_depth == pytest.approx(-1 / math.log(0.75))


def test_how_long_the_input_is_remembered():
    """Width 100, s = 1: about 160 layers."""
    assert stationary_law(biased(100, 1.0)).relaxation_depth == pytest.approx(156, abs=0.5)


def test_what_has_no_stationary_law():
    with pytest.raises(Unsupported, match="grows on average"):
        tail_index(biased(6, 0.0, activation="linear"))
    with pytest.raises(Unsupported, match="biases"):
        stationary_law(biased(6, 1.0, 0.0))
    with pytest.raises(Unsupported, match="above 20"):
        network = Network(depth=1, width=6, block="plain")
        tail_index(Ensemble(network, GivenScheme(variance=1e-3), Point()))
    with pytest.raises(Unsupported, match="plain"):
        tail_index(Ensemble(Network(depth=1, width=6), He(), Point()))
    with pytest.raises(Unsupported, match="Gaussian"):
        tail_index(Ensemble(Network(depth=1, width=6, block="plain"), He(law="uniform"), Point()))
