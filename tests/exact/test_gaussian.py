"""Gaussian averages are right, and the error that they state is one."""

import doctest
import math

import numpy as np
import pytest
from scipy.special import erf

import sigprop.gaussian
from sigprop.errors import SpecError
from sigprop.gaussian import expectation, product_expectation


def relu(u):
    return np.maximum(u, 0)


def absolute_deviation(kink):
    """E |Z - kink|."""
    return kink * math.erf(kink / math.sqrt(2)) + math.sqrt(2 / math.pi) * math.exp(-(kink**2) / 2)


@pytest.mark.parametrize("variance", [1e-6, 0.3, 1.0, 50.0, 1e4, 1e10])
def test_even_moments_are_double_factorials_at_any_variance(variance):
    for order, factor in ((2, 1), (4, 3), (6, 15), (8, 105)):
        found = expectation(lambda u, n=order: u**n, variance=variance)
        np.testing.assert_allclose(found.value, factor * variance ** (order / 2), rtol=1e-13)


@pytest.mark.parametrize("variance", [1e-6, 0.3, 1.0, 50.0, 1e4, 1e10])
def test_a_bend_much_narrower_than_the_gaussian_is_seen(variance):
    """At variance 1e10 erf is a step of relative width 1e-5 at the origin."""
    found = expectation(lambda u: erf(u) ** 2, variance=variance)
    truth = 2 / math.pi * math.atan2(2 * variance, math.sqrt(1 + 4 * variance))
    assert abs(found.value - truth) <= found.error + 1e-15 < 1e-13


@pytest.mark.parametrize("kink", [-3.3, -0.7, 0.0, 0.3337, 2.0])
def test_the_error_stated_covers_the_error_made_at_a_kink_named_or_not(kink):
    truth = absolute_deviation(kink)
    for kinks in ((kink,), ()):
        found = expectation(lambda u: np.abs(u - kink), kinks=kinks)
        assert abs(found.value - truth) <= found.error + 1e-15
        assert found.error < 1e-12


def test_a_jump_named_as_a_kink_costs_no_accuracy():
    found = expectation(lambda u: np.where(u > 0.3337, 1.0, 0.0), kinks=(0.3337,))
    np.testing.assert_allclose(found.value, math.erfc(0.3337 / math.sqrt(2)) / 2, rtol=1e-14)


def test_a_function_that_no_panels_resolve_states_a_large_error():
    """A sawtooth of period 1e-5 has too many kinks to be found one by one."""
    found = expectation(lambda u: (1e5 * u) % 1.0)
    assert found.error > 1e-4
    assert abs(found.value - 0.5) <= found.error


def test_the_mean_and_a_variance_of_zero_are_used():
    np.testing.assert_allclose(
        expectation(lambda u: u**2, mean=3.0, variance=4.0).value, 13.0, rtol=1e-14
    )
    degenerate = expectation(np.tanh, mean=0.7, variance=0.0)
    assert (degenerate.value, degenerate.error) == (float(np.tanh(0.7)), 0.0)


@pytest.mark.parametrize("rho", [-1.0, -0.99, -0.3, 0.0, 0.5, 0.9, 0.999, 1 - 1e-9, 1.0])
@pytest.mark.parametrize("variances", [(1.0, 1.0), (2.0, 0.5), (1e-4, 1e4)])
def test_relu_of_two_gaussians_follows_the_arc_cosine_law(rho, variances):
    found = product_expectation(
        relu, relu, correlation=rho, variances=variances, kinks=((0,), (0,))
    )
    scale = math.sqrt(variances[0] * variances[1])
    across = math.sqrt((1 - rho) * (1 + rho))
    truth = scale * (across + math.atan2(across, -rho) * rho) / (2 * math.pi)
    assert abs(found.value - truth) <= found.error + 4e-15 * scale < 1e-12 * scale


@pytest.mark.parametrize("rho", [-0.8, 0.5, 0.999, 1 - 1e-9])
@pytest.mark.parametrize("variances", [(1.0, 3.0), (200.0, 1e4)])
def test_erf_of_two_gaussians_follows_the_arc_sine_law(rho, variances):
    found = product_expectation(erf, erf, correlation=rho, variances=variances)
    v, w = variances
    s = 2 * rho * math.sqrt(v * w) / math.sqrt((1 + 2 * v) * (1 + 2 * w))
    truth = 2 / math.pi * math.asin(s)
    assert abs(found.value - truth) <= found.error + 1e-13 < 1e-12


def test_different_functions_with_kinks_off_the_origin_keep_their_places():
    """E |Z1 - a| 1{Z2 > b} at correlation rho has a closed form by conditioning on Z2."""
    a, b, rho = 0.4, -0.9, 0.6
    found = product_expectation(
        lambda u: np.abs(u - a),
        lambda u: np.where(u > b, 1.0, 0.0),
        correlation=rho,
        kinks=((a,), (b,)),
    )
    swapped = product_expectation(
        lambda u: np.where(u > b, 1.0, 0.0),
        lambda u: np.abs(u - a),
        correlation=rho,
        kinks=((b,), (a,)),
    )
    # The truth by the one-dimensional rule: given Z1 = u, P(Z2 > b) is elementary.
    across = math.sqrt(1 - rho**2)
    given = expectation(
        lambda u: np.abs(u - a) * (1 - erf((b - rho * u) / across / math.sqrt(2))) / 2,
        kinks=(a,),
    )
    np.testing.assert_allclose([found.value, swapped.value], given.value, rtol=1e-13)


def test_tanh_of_two_gaussians_matches_a_reference_of_thirty_digits():
    found = product_expectation(np.tanh, np.tanh, correlation=0.6)
    np.testing.assert_allclose(found.value, 0.2252221535268837, rtol=1e-13)


def test_a_kink_left_out_of_a_product_shows_in_its_error():
    found = product_expectation(lambda u: np.abs(u - 0.3), relu, correlation=0.5)
    better = product_expectation(
        lambda u: np.abs(u - 0.3), relu, correlation=0.5, kinks=((0.3,), (0,))
    )
    assert better.error < 1e-13 < abs(found.value - better.value) < 10 * found.error


def test_an_average_of_something_infinite_is_refused():
    with pytest.raises(SpecError, match="finite"):
        expectation(lambda u: np.where(u > 3, np.inf, u))
    with pytest.raises(SpecError, match="one finite number for each"):
        expectation(lambda u: np.float64(1.0))
    with pytest.raises(SpecError, match="variance"):
        expectation(np.tanh, variance=-1.0)
    with pytest.raises(SpecError, match="correlation"):
        product_expectation(np.tanh, np.tanh, correlation=1.01)


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(sigprop.gaussian).failed == 0
