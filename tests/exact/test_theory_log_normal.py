"""The random walk of log-norms: closed forms, a second method, simulation, its normal limit."""

import doctest
import importlib
import math

import numpy as np
import pytest
from scipy.special import exp1, polygamma
from scipy.stats import binom, gamma

import sigprop
from analysis.theory import log_normal
from analysis.theory.fourth_moment import (
    gradient_relative_variance,
    log_fourth_moment,
    log_gradient_fourth_moment,
    relative_variance,
)
from analysis.theory.log_normal import (
    gradient_moment_relative_variance,
    log_gradient_kurtosis,
    log_gradient_mean,
    log_gradient_moment,
    log_gradient_skewness,
    log_gradient_variance,
    log_norm_kurtosis,
    log_norm_mean,
    log_norm_moment,
    log_norm_skewness,
    log_norm_variance,
    log_normal_limit,
    norm_moment_relative_variance,
)
from analysis.theory.second_moment import log_gradient_mean_square, log_mean_square
from sigprop import Ensemble, Network, Point, Power, branch_factor
from sigprop.activations import LeakyReLU
from sigprop.branch_factor import gamma_cumulants, hidden_law
from sigprop.errors import SpecError, Unsupported
from sigprop.laws import StudentT
from sigprop.processes import Tied
from sigprop.schemes import GivenScheme, NFResNet
from tests.ensembles import uneven
from tests.stat import assert_agrees

RELU, LINEAR = (0.0, 0.0), (1.0, 1.0)
ALONE = hidden_law((), LINEAR)  # no hidden layer: u is fixed

CASES = [("plain", a) for a in ("relu", "linear", "leaky_relu", "randomised_leaky_relu")]
CASES += [("res3", a) for a in ("relu", "linear", "leaky_relu", "randomised_leaky_relu")]
CASES += [("inner", "relu"), ("inner", "leaky_relu"), ("res1", "linear"), ("preact", "linear")]


def test_examples_in_the_text_are_right():
    found = doctest.testmod(importlib.import_module("analysis.theory.log_normal"))
    assert found.attempted > 0 and found.failed == 0


# ---------------------------------------------------------------------- hidden units


@pytest.mark.parametrize("n", [1, 2, 7, 20, 100, 3000])
def test_linear_units_have_a_chi_square(n):
    law = hidden_law((n,), LINEAR)
    q = np.exp(law.logs)
    density = q * gamma.pdf(q, n / 2, scale=2)
    inside = density > 1e-15 * density.max()
    np.testing.assert_allclose(law.weights[inside] / law.step, density[inside], rtol=1e-9)
    np.testing.assert_allclose(
        law.cumulants(), gamma_cumulants(n / 2) + np.array([math.log(2), 0, 0, 0]), rtol=2e-9
    )


@pytest.mark.parametrize("n", [1, 2, 7, 20, 100])
def test_relus_have_a_mixture_of_chi_squares(n):
    """Of as many degrees as are on; with probability 2^-n none is, which is left out."""
    law = hidden_law((n,), RELU)
    on = np.arange(1, n + 1)
    share = binom.pmf(on, n, 0.5)
    assert law.alive == pytest.approx(share.sum(), rel=1e-14)
    share = share / share.sum()
    first, second = polygamma(0, on / 2) + math.log(2), polygamma(1, on / 2)
    mean = share @ first
    found = law.cumulants()
    assert found[0] == pytest.approx(mean, rel=1e-12)
    assert found[1] == pytest.approx(share @ (second + (first - mean) ** 2), rel=1e-12)


@pytest.mark.parametrize("slopes", [(0.01, 0.01), (-3.0, -3.0), (0.1, 0.4), (0.0, 1.0)])
@pytest.mark.parametrize("n", [1, 3, 40])
def test_slopes_of_any_kind_have_the_right_powers(n, slopes):
    """E Q^k from the moments of one unit, (2k - 1)!! (1 + mean of s^2k) / 2, k to 4."""
    low, high = slopes
    s = np.linspace(low, high, 2001)
    unit = [
        odd * (1 + (np.trapezoid(s**power, s) / (high - low) if high > low else low**power)) / 2
        for power, odd in ((2, 1), (4, 3), (6, 15), (8, 105))
    ]
    moments = np.array([1.0, *unit])
    total = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    for _ in range(n):
        total = np.array(
            [
                sum(math.comb(k, j) * total[j] * moments[k - j] for j in range(k + 1))
                for k in range(5)
            ]
        )
    law = hidden_law((n,), slopes)
    found = [law.weights @ np.exp(k * law.logs) for k in range(5)]
    np.testing.assert_allclose(found, total, rtol=3e-6 if high > low else 1e-11)


def test_hidden_layers_multiply():
    """log Q of two layers in a row is a sum of independent ones; ReLUs die in either."""
    both, one, other = (hidden_law(units, RELU) for units in ((3, 40), (3,), (40,)))
    assert both.alive == pytest.approx(one.alive * other.alive, rel=1e-12)
    np.testing.assert_allclose(both.cumulants(), one.cumulants() + other.cumulants(), rtol=1e-9)


# ------------------------------------------------------------------------- one layer

VARIANCES = [1e-12, 1e-6, 1e-3, 0.0119, 0.0121, 0.3, 1.0, 50.0, 1e6]


@pytest.mark.parametrize("u", VARIANCES)
def test_the_mean_in_even_dimensions_is_an_exponential_integral(u):
    """E log |e + Z sqrt u|^2 is E_1(v), v = 1/2u, for d = 2 (a harmonic function), and for
    d = 4 it is E_1(v) + (1 - e^-v) / v; known to rounding even where it is 1e-12."""
    v = 1 / (2 * u)
    two, four = (branch_factor.cumulants(ALONE, np.log([u]), d)[0, 0] for d in (2, 4))
    assert two == pytest.approx(float(exp1(v)), rel=1e-12, abs=1e-13 * u)
    assert four == pytest.approx(float(exp1(v) - math.expm1(-v) / v), rel=1e-13)


@pytest.mark.parametrize("d", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("u", [0.004, 0.01])
def test_two_methods_agree_where_both_work(u, d, monkeypatch):
    """Gauss rules about a state that hardly moves, and a Poisson mixture of chi-squares."""
    found = []
    for small in (0.02, 0.002):
        monkeypatch.setattr(branch_factor, "_SMALL", small)
        branch_factor._cumulants.cache_clear()
        branch_factor._log_power.cache_clear()
        row = branch_factor.cumulants(ALONE, np.log([u]), d)[0]
        scale = row[1] ** (np.arange(1, 5) / 2)
        powers = [branch_factor.log_power(ALONE, np.log([u]), d, p)[0] for p in (0.25, 1.0, 4.5)]
        found.append([*(row / scale), *powers])
    branch_factor._cumulants.cache_clear()
    branch_factor._log_power.cache_clear()
    np.testing.assert_allclose(*found, rtol=1e-10, atol=2e-12)


@pytest.mark.parametrize("branch", [1e-2, 1e-4, 1e-7])
def test_small_branches_keep_their_digits(branch):
    r"""E log X = (d - 2) u + (d - 2)(4 - d) u^2 / 2 + .. by the Laplacian of log |x|^2, and
    Var log X = 4u + .. ; u = a^2 Q / d n with E Q = n/2, E Q^2 = n(n + 5)/4 for n ReLUs."""
    d, n = 7, 5
    law = Ensemble(
        Network(depth=1, width=d, inner_width=n),
        GivenScheme(branch=branch, variance=((1 / d, 1 / n),)),
        Point(),
    )
    u = branch**2 / n / d * n / 2
    second = (branch**2 / n / d) ** 2 * n * (n + 5) / 4
    mean, variance = 2 * log_norm_mean(law)[1], 4 * log_norm_variance(law)[1]
    expected = (d - 2) * u + (d - 2) * (4 - d) / 2 * second
    assert mean == pytest.approx(expected, rel=max(1e-12, 20 * branch**4))
    assert variance == pytest.approx(4 * u, rel=max(1e-12, 3 * branch**2))


def test_many_unlike_layers_are_interpolated_to_rounding():
    generator = np.random.default_rng(2)
    log_variance = np.concatenate([generator.uniform(-9, 3, 400), [-np.inf]])
    law = hidden_law((6,), RELU)
    found = branch_factor.cumulants(law, log_variance, 5)
    misses = branch_factor._cumulants.cache_info().misses
    direct = np.array([branch_factor._cumulants(law, v, 5) for v in log_variance[::40].tolist()])
    assert branch_factor._cumulants.cache_info().misses == misses + len(direct)
    np.testing.assert_array_equal(found[-1], 0.0)  # no branch
    scale = direct[:-1, 1:2] ** (np.arange(1, 5) / 2)
    np.testing.assert_allclose(found[:-1:40] / scale, direct[:-1] / scale, rtol=0, atol=1e-11)


def test_equal_layers_are_computed_once():
    branch_factor._cumulants.cache_clear()
    log_norm_mean(Ensemble(Network(depth=1000, width=11), Power(beta=0.5), Point()))
    assert branch_factor._cumulants.cache_info().misses == 1


# -------------------------------------------------------------------- whole networks


@pytest.mark.parametrize("block, activation", CASES)
def test_second_and_fourth_powers_are_those_of_the_recursions(block, activation):
    """The walk, integrated, against the linear recursions of moments: nothing is shared."""
    law = uneven(block, activation)
    close = {"rtol": 1e-11, "atol": 1e-12}
    for order, norm, gradient in (
        (2, log_mean_square, log_gradient_mean_square),
        (4, log_fourth_moment, log_gradient_fourth_moment),
    ):
        np.testing.assert_allclose(log_norm_moment(law, order), norm(law), **close)
        np.testing.assert_allclose(log_gradient_moment(law, order), gradient(law), **close)
    np.testing.assert_allclose(
        norm_moment_relative_variance(law, 2), relative_variance(law), **close
    )
    np.testing.assert_allclose(
        gradient_moment_relative_variance(law, 2), gradient_relative_variance(law), **close
    )


def test_a_fractional_order_lies_where_the_cumulants_say():
    """log E |h|^s = s k_1 + s^2 k_2 / 2 + s^3 k_3 / 6 + s^4 k_4 / 24 + .. for small s."""
    law, s = Ensemble(Network(depth=5, width=2), Power(beta=0.0), Point()), 0.02
    k = [log_norm_mean(law)[-1], log_norm_variance(law)[-1]]
    k += [log_norm_skewness(law)[-1] * k[1] ** 1.5, log_norm_kurtosis(law)[-1] * k[1] ** 2]
    terms = [s**i / math.factorial(i) * cumulant for i, cumulant in enumerate(k, 1)]
    rest = abs(log_norm_moment(law, s)[-1] - sum(terms))
    assert rest < 0.1 * abs(terms[3]) and rest < 0.1 * abs(terms[2])
    np.testing.assert_array_equal(log_norm_moment(law, 0), 0.0)


@pytest.mark.parametrize("block, activation", CASES[4:])
def test_a_gradient_makes_the_same_steps_downward(block, activation):
    law = uneven(block, activation)
    for forward, backward in (
        (log_norm_mean, log_gradient_mean),
        (log_norm_variance, log_gradient_variance),
    ):
        norm = forward(law)
        np.testing.assert_allclose(backward(law), norm[-1] - norm, rtol=1e-12, atol=1e-13)


def walk(width, depth, branch, replicas, generator):
    """The scalar recursion: log |h_L| of ReLU networks with variances 1/d, d = hidden width."""
    log_square = np.zeros(replicas)
    for _ in range(depth):
        on = generator.binomial(width, 0.5, replicas)
        r = np.where(on > 0, generator.chisquare(np.maximum(on, 1)), 0.0) / width
        z, w = generator.standard_normal(replicas), generator.chisquare(width - 1, replicas)
        t = branch**2 * r / width
        log_square += np.log((1 + np.sqrt(t) * z) ** 2 + t * w)
    return log_square / 2


@pytest.mark.parametrize("width, branch", [(2, 1.0), (3, 0.3), (30, 1.5)])
def test_the_scalar_recursion_agrees(width, branch):
    """Mean, variance and mean norm; an error of 0.03 deviations is seen. (A variance of z for
    a chi-square of d - 1 moves the mean at width 2 by more than that.)"""
    depth, replicas = 4, 400_000
    law = Ensemble(
        Network(depth=depth, width=width), GivenScheme(branch=branch, variance=1 / width), Point()
    )
    sample = walk(width, depth, branch, replicas, np.random.default_rng(7))
    mean, variance = log_norm_mean(law)[-1], log_norm_variance(law)[-1]
    se = math.sqrt(variance / replicas)
    assert_agrees(
        (sample.mean() - mean) / math.sqrt(variance), 0.0, se / math.sqrt(variance), resolution=0.03
    )
    relative_se = math.sqrt((2 + log_norm_kurtosis(law)[-1]) / replicas)
    assert_agrees(sample.var() / variance, 1.0, relative_se, resolution=0.04)
    ratio = np.exp(sample).mean() / math.exp(log_norm_moment(law, 1)[-1])
    se = math.sqrt(norm_moment_relative_variance(law, 1)[-1] / replicas)
    assert_agrees(ratio, 1.0, se, resolution=0.03)


@pytest.mark.parametrize("block, activation", [("plain", "relu"), ("res3", "leaky_relu")])
def test_networks_drawn_in_full_agree(block, activation):
    """All four numbers, forward and backward, at every layer; in the plain net a state is dead
    with probability 0.2, and is left out. Sees errors of 0.15 deviations or relative 0.25."""
    replicas = 12_000
    law = uneven(block, activation)
    result = sigprop.simulate(
        law, ["norm", "gradient"], replicas=replicas, seed=3, sampler="dense", orders=[1.0],
        quantiles=[],
    )  # fmt: skip
    alive = 1 - result.norm_zero_fraction[1:, 0].values
    gradient_alive = 1 - result.gradient_zero_fraction[:-1, 0].values
    for name, mean, variance, kurtosis, inside, counted in (
        ("norm", log_norm_mean, log_norm_variance, log_norm_kurtosis, slice(1, None), alive),
        (
            "gradient", log_gradient_mean, log_gradient_variance, log_gradient_kurtosis,
            slice(None, -1), gradient_alive,
        ),
    ):  # fmt: skip
        n = replicas * counted
        deviation = np.sqrt(variance(law)[inside])
        gap = (result[f"log_{name}_mean"][inside, 0].values - mean(law)[inside]) / deviation
        assert_agrees(gap, 0.0, 1 / np.sqrt(n), resolution=0.15)
        ratio = result[f"log_{name}_variance"][inside, 0].values / deviation**2
        assert_agrees(ratio, 1.0, np.sqrt((2 + kurtosis(law)[inside]) / n), resolution=0.35)


@pytest.mark.parametrize("activation", ["relu", "linear", LeakyReLU(slope=0.5)])
@pytest.mark.parametrize("width", [3, 50])
def test_the_walk_tends_to_its_normal_limit(width, activation):
    """At beta = 1/2 all four are off by O(1/depth): the skewness too, not O(depth^-1/2), since to
    first order a step is symmetric."""
    c = {"relu": 0.5, "linear": 1.0}.get(activation, 0.625)
    gaps = []
    for depth in (400, 4000):
        law = Ensemble(Network(depth=depth, width=width, activation=activation), Power(beta=0.5))
        mean, variance = log_normal_limit(law)
        assert mean == pytest.approx(c / 2 - c / width, rel=1e-12)
        assert variance == pytest.approx(c / width, rel=1e-12)
        gaps.append(
            [
                log_norm_mean(law)[-1] - mean,
                log_norm_variance(law)[-1] - variance,
                log_gradient_skewness(law)[0],
                log_gradient_kurtosis(law)[0],
            ]
        )
    near, far = np.abs(gaps)
    assert (near[:2] < 5 / 400).all()
    np.testing.assert_allclose(near[:2] / far[:2], 10, rtol=0.1)
    np.testing.assert_allclose(near[2:] / far[2:], 10, rtol=0.1)


def test_the_limit_follows_unlike_layers_and_other_laws():
    """Skip coefficients shift the mean and divide the branches."""
    skip, branch = (0.5, 2.0, -1.0), (0.01, -0.02, 0.03)
    variance = ((0.3, 0.1), (0.2, 0.2), (0.1, 0.4))
    net = Network(depth=3, width=4, inner_width=6)
    law = Ensemble(net, GivenScheme(skip=skip, branch=branch, variance=variance))
    mean, spread = log_normal_limit(law)
    assert mean == pytest.approx(log_norm_mean(law)[-1], rel=3e-3)
    assert spread == pytest.approx(log_norm_variance(law)[-1], rel=3e-3)
    uniform = GivenScheme(skip=skip, branch=branch, variance=variance, law="uniform")
    assert log_normal_limit(Ensemble(net, uniform)) == (mean, spread)


# ------------------------------------------------------------------ zeros and refusals


def test_a_state_that_is_zero_has_no_logarithm():
    scheme = GivenScheme(skip=(1.0, 0.0, 1.0), branch=(1.0, 0.0, 1.0), variance=0.2)
    law = Ensemble(Network(depth=3, width=4, activation="linear"), scheme, Point())
    assert np.isnan(log_norm_mean(law)[2:]).all() and np.isfinite(log_norm_mean(law)[:2]).all()
    np.testing.assert_array_equal(log_norm_moment(law, 1.0)[2:], -np.inf)


def test_behind_a_skip_of_zero_dead_branches_are_left_out():
    """One step: |h'|^2 = a^2 Q chi_d^2, given that Q > 0; the moment counts the zeros."""
    scheme = GivenScheme(skip=0.0, branch=2.0, variance=1.0)
    law = Ensemble(Network(depth=1, width=3, inner_width=2), scheme, Point())
    on = np.array([1, 2])
    share = np.array([2, 1]) / 3
    expected = math.log(4) + share @ polygamma(0, on / 2) + polygamma(0, 1.5) + 2 * math.log(2)
    assert 2 * log_norm_mean(law)[1] == pytest.approx(expected, rel=1e-12)
    assert log_norm_moment(law, 2)[1] == pytest.approx(math.log(4 * 3 * 1.0), rel=1e-12)


NET = Network(depth=3, width=4)


@pytest.mark.parametrize("function", [log_norm_mean, log_gradient_variance])
@pytest.mark.parametrize(
    "law, words",
    [
        (Ensemble(Network(depth=3, width=4, activation="tanh"), Power(beta=0.5)), "homogeneous"),
        (Ensemble(Network(depth=3, width=4, block="res1"), Power(beta=0.5)), "direction"),
        (Ensemble(NET, Power(beta=0.5, law="uniform")), "Gaussian"),
        (Ensemble(NET, Power(beta=0.5, process=Tied())), "random walk"),
        (Ensemble(NET, Power(beta=0.5, bias_variance=1.0)), "biases"),
        (
            Ensemble(Network(depth=3, width=4, block="preact", activation="linear"), NFResNet()),
            "row",
        ),
    ],
)
def test_what_is_no_random_walk_is_refused(law, words, function):
    with pytest.raises(Unsupported, match=words):
        function(law)


@pytest.mark.parametrize(
    "law, words",
    [
        (Ensemble(Network(depth=3, width=4, block="plain"), GivenScheme(variance=1.0)), "trunk"),
        (Ensemble(NET, GivenScheme(skip=0.0, variance=1.0)), "trunk"),
        (Ensemble(NET, Power(beta=0.5, bias_variance=1.0)), "biases"),
        (Ensemble(NET, Power(beta=0.5, process=Tied())), "independent"),
        (Ensemble(NET, Power(beta=0.5, law=StudentT(dof=1.5))), "infinite"),
    ],
)
def test_what_has_no_normal_limit_is_refused(law, words):
    with pytest.raises(Unsupported, match=words):
        log_normal_limit(law)


def test_orders_out_of_range_are_refused():
    law = Ensemble(NET, Power(beta=0.5))
    for function in (log_norm_moment, log_gradient_moment):
        with pytest.raises(SpecError, match="order"):
            function(law, -1.0)
    with pytest.raises(SpecError, match="order"):
        norm_moment_relative_variance(law, 11)


def test_every_function_is_listed():
    assert set(log_normal.__all__) >= {"log_norm_mean", "log_gradient_moment", "log_normal_limit"}
