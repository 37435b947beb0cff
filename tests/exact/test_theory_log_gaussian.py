"""Log-Gaussian laws: Hanin and Nica's beside the exact one, res1 with memory, other weights."""

import doctest
import importlib
import math
from dataclasses import replace

import numpy as np
import pytest

import sigprop
from analysis.compare import compare
from analysis.prediction import predict
from analysis.theory import (
    hypoactivation,
    log_gaussian_plain,
    log_gaussian_residual,
    log_norm_mean,
    log_norm_variance,
    unit_variance,
)
from sigprop import Ensemble, Given, Network, Point
from sigprop.activations import LeakyReLU
from sigprop.errors import Unsupported
from sigprop.schemes import GivenScheme, He
from tests.stat import assert_agrees

FIRST = Given(vectors=np.eye(24)[:1])  # all of |x_0| on one coordinate, where weights show most


def plain(depth, width, activation="relu", inputs=None, **scheme):
    network = Network(depth=depth, width=width, block="plain", activation=activation)
    return Ensemble(network, He(**scheme), Point() if inputs is None else inputs)


def residual(depth, width, square):
    """res1 with alpha^2 = square, alpha^2 + lambda^2 = 1."""
    scheme = GivenScheme(
        skip=math.sqrt(square),
        branch=math.sqrt(1 - square),
        variance=2.0,
        variance_over_fan_in=True,
    )
    return Ensemble(Network(depth=depth, width=width, block="res1"), scheme, Point())


def test_examples_in_the_text_are_right():
    found = doctest.testmod(importlib.import_module("analysis.theory.log_gaussian"))
    assert found.attempted > 0 and found.failed == 0


# --------------------------------------------------------------------------- plain


@pytest.mark.parametrize(
    "activation, variance",
    [
        ("relu", 5.0),
        ("linear", 2.0),
        (LeakyReLU(slope=0.1), 4.88236),
        (LeakyReLU(slope=0.3), 4.09099),
    ],
)
def test_variance_of_a_unit(activation, variance):
    law = plain(1, 10_000, activation)
    assert unit_variance(law) == pytest.approx(variance, rel=1e-5)
    assert 4 * 10_000 * log_norm_variance(law)[1] == pytest.approx(variance, rel=1e-3)


@pytest.mark.parametrize("activation", ["relu", "linear", LeakyReLU(slope=0.1)])
@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 10, 40, 1000])
def test_the_slack_covers_the_exact_law_at_every_width(width, activation):
    law = plain(30, width, activation)
    names = ["log_norm_mean_hanin_nica", "log_norm_variance_hanin_nica"]
    told = predict(law, names=names)
    for name, exact in (
        ("log_norm_mean", log_norm_mean(law)),
        ("log_norm_variance", log_norm_variance(law)),
    ):
        gap = np.abs(told[name].values[:, 0] - exact)
        assert (gap <= told[f"{name}_slack"].values[:, 0] + 1e-15).all()


def test_widths_that_differ_and_gains_other_than_one():
    network = Network(depth=3, widths=(20, 60, 40, 80), block="plain")
    law = Ensemble(
        network, GivenScheme(variance=(0.01, 0.07, 0.03), branch=(1.5, 0.7, -1.1)), Point()
    )
    mean, variance = log_gaussian_plain(law)
    np.testing.assert_allclose(mean, log_norm_mean(law), atol=4e-3)
    np.testing.assert_allclose(variance, log_norm_variance(law), atol=8e-3)


@pytest.mark.parametrize(
    "law, activation, variance",
    [("uniform", "relu", 2.609), ("uniform", "linear", 0.924), ("rademacher", "relu", 2.359)],
)
def test_weights_that_are_not_gaussian(law, activation, variance):
    """Width 24, depth 12, x_0 = e_1: the exact Gaussian variance and all terms of kurtosis."""
    told = predict(plain(12, 24, activation, FIRST, law=law), variables=["log_norm_variance"])
    assert told.log_norm_variance.attrs["prediction"] == "log_norm_variance_kurtosis"
    assert 4 * told.log_norm_variance.values[-1, 0] == pytest.approx(variance, abs=6e-4)


def test_simulated_uniform_weights_agree_and_gaussian_theory_would_not():
    """Fires by chance in 1e-6; one layer shows the kurtosis best: 8% of the variance is lost."""
    ensemble = plain(2, 24, "relu", FIRST, law="uniform")
    result = sigprop.simulate(ensemble, ["norm"], replicas=60_000, layers=[2])
    measured = float(result.log_norm_variance[-1, 0])
    se = float(result.log_norm_variance_se[-1, 0])
    told = predict(ensemble, variables=["log_norm_variance"])
    slack = float(told.log_norm_variance_slack[-1, 0])
    gap = measured - float(told.log_norm_variance[-1, 0])
    assert_agrees(math.copysign(max(abs(gap) - slack, 0.0), gap), 0.0, se, resolution=0.01)
    gaussian = log_norm_variance(plain(2, 24, "relu", FIRST))[-1]
    assert gaussian - measured > 5 * se + slack


def test_what_has_no_such_law():
    with pytest.raises(Unsupported, match="plain"):
        log_gaussian_plain(residual(3, 5, 0.5))
    with pytest.raises(Unsupported, match="biases"):
        log_gaussian_plain(plain(3, 5, bias_variance=1.0))
    with pytest.raises(Unsupported, match="slope"):
        log_gaussian_plain(plain(3, 5, "tanh"))


# ---------------------------------------------------------------------------- res1


@pytest.mark.parametrize(
    "size, mean, variance", [(800, -2.548, 6.49), (200, -2.542, 6.47), (50, -2.52, 6.38)]
)
def test_memory_in_res1(size, mean, variance):
    """alpha = 1/2, depth = width: the values of the derivation."""
    found = log_gaussian_residual(residual(size, size, 0.25))
    assert 2 * found[0][-1] == pytest.approx(mean, abs=3e-3)
    assert 4 * found[1][-1] == pytest.approx(variance, abs=6e-3)


def test_without_memory_it_is_the_balanced_net():
    mean, variance = log_gaussian_residual(residual(100, 100, 0.5), memory=False)
    assert 2 * mean[-1] == pytest.approx(-1.125)
    assert 4 * variance[-1] == pytest.approx(2.25)


def test_balanced_units_have_no_memory():
    plain_one = residual(100, 100, 0.5)
    network = replace(plain_one.network, activation="balanced_relu")
    balanced = Ensemble(network, plain_one.scheme, Point())
    for found, fresh in zip(
        log_gaussian_residual(balanced), log_gaussian_residual(plain_one, memory=False), strict=True
    ):
        np.testing.assert_array_equal(found, fresh)


def test_without_a_skip_it_is_hanin_and_nica():
    mean, variance = log_gaussian_residual(residual(40, 30, 0.0))
    np.testing.assert_allclose(mean, -5 * np.arange(41) / 120, atol=1e-12)
    np.testing.assert_allclose(variance, 5 * np.arange(41) / 120, atol=1e-12)


def test_sums_over_lags_are_what_they_say():
    """The cumulative form against the double sum, written out, and a gain beside."""
    square, depth, n = 0.36, 9, 20
    alpha, lam2 = 0.6, 0.64

    def kernel(c):
        return 2 / math.pi * ((1 + 2 * c * c) * math.asin(c) + 3 * c * math.sqrt(1 - c * c))

    def slope(c):
        return 8 / math.pi * (math.sqrt(1 - c * c) + c * math.asin(c))

    ensemble = residual(depth, n, square)
    bigger = GivenScheme(skip=0.6 * 1.3, branch=0.8 * 1.3, variance=2 / n)
    scaled = Ensemble(ensemble.network, bigger, Point())
    rate = 4 * square * lam2 + 5 * lam2**2
    for layer in (1, 2, 5, 9):
        lags = range(1, layer)
        spread = 2 * lam2**2 * sum((1 - m / layer) * kernel(alpha**m) for m in lags)
        drift = lam2**2 * sum((1 - m / layer) * alpha**m * slope(alpha**m) for m in lags)
        mean, variance = log_gaussian_residual(ensemble)
        assert 4 * variance[layer] == pytest.approx(layer / n * (rate + spread), rel=1e-12)
        assert 2 * mean[layer] == pytest.approx(-layer / (2 * n) * (rate + drift), rel=1e-12)
        grown = log_gaussian_residual(scaled)[0][layer]
        assert grown - mean[layer] == pytest.approx(layer * math.log(1.3), rel=1e-9)


def test_compare_judges_res1_by_the_law_with_memory():
    """Without the sums over lags the variance is off by 1.5 of 2.25 and compare says so."""
    ensemble = residual(60, 60, 0.5)
    result = sigprop.simulate(ensemble, ["norm"], replicas=4000, layers=[0, 30, 60])
    names = ["log_norm_mean_memory", "log_norm_variance_memory"]
    told = predict(ensemble, [0, 30, 60], names=names)
    assert not compare(result, told).of("disagree")
    mean, variance = (
        moment[[0, 30, 60], None] for moment in log_gaussian_residual(ensemble, memory=False)
    )
    told.log_norm_variance.values[:], told.log_norm_mean.values[:] = variance, mean
    verdict = compare(result, told)
    assert {c.variable for c in verdict.of("disagree")} >= {"log_norm_variance"}


@pytest.mark.parametrize("square, k", [(0.25, -0.5123), (0.5, -0.8589), (0.75, -1.1843)])
def test_hypoactivation(square, k):
    assert hypoactivation(math.sqrt(square), 500) == pytest.approx(k, abs=6e-5)


def test_what_res1_law_does_not_cover():
    uneven = GivenScheme(skip=(0.5, 0.7), variance=0.1)
    with pytest.raises(Unsupported, match="same coefficients"):
        log_gaussian_residual(Ensemble(Network(depth=2, width=5, block="res1"), uneven, Point()))
    with pytest.raises(Unsupported, match="random direction"):
        network = Network(depth=2, width=24, block="res1")
        log_gaussian_residual(Ensemble(network, He(), FIRST))
    with pytest.raises(Unsupported, match="res1"):
        log_gaussian_residual(plain(2, 5))
