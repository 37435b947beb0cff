"""The whole law of a log norm: against closed forms, published values and networks."""

import doctest
import importlib
import math

import numpy as np
import pytest
from scipy.special import kolmogi
from scipy.stats import binom, gamma, ncx2

import sigprop
from analysis.theory import (
    log_gradient_law,
    log_norm_kurtosis,
    log_norm_law,
    log_norm_mean,
    log_norm_moment,
    log_norm_skewness,
    log_norm_variance,
    lyapunov_exponent,
    small_norm_probability,
)
from sigprop import Ensemble, Network, Point
from sigprop.activations import LeakyReLU, Linear, ReLU
from sigprop.errors import SpecError, Unsupported
from sigprop.layer_factor import LayerFactor, preserving_scale
from sigprop.schemes import GivenScheme, He
from tests.ensembles import gentle, uneven
from tests.stat import ALPHA, detectable_distance

Z = np.linspace(-4.5, 4.5, 19)


def plain(depth, width, variance, activation="relu"):
    network = Network(depth=depth, width=width, block="plain", activation=activation)
    return Ensemble(network, GivenScheme(variance=variance), Point())


def preserving(depth, width, s):
    """ReLUs that keep E|x|^s; s = 2 is He."""
    return plain(depth, width, preserving_scale(LayerFactor.of(ReLU(), width), s) ** 2)


def test_examples_in_the_text_are_right():
    found = doctest.testmod(importlib.import_module("analysis.theory.log_norm_law"))
    assert found.attempted > 0 and found.failed == 0


# ------------------------------------------------------------------ cumulants, moments

CUMULANTS = [  # of log Q, the square of what one layer makes of a norm
    (ReLU(), 2, -0.808264725088, 4.26524883502, -14.8637048514, 89.0109262502),
    (ReLU(), 16, 1.90304421727, 0.419593394107, -0.285755023275, 0.614182794893),
    (ReLU(), 128, 4.13909668148, 0.0402339926029, -0.00203846171883, 0.000227286060609),
    (ReLU(), 1024, 6.2358793134, 0.00490053492156, -2.98333761866e-05, 3.95527681575e-07),
    (LeakyReLU(slope=0.1), 128, 4.14953263176, 0.0392151766447, -0.00188844633302, 0.00019660673),
    (Linear(), 128, 4.84419741936, 0.0157477060643, -0.000247985122164, 7.81007088314e-06),
]


@pytest.mark.parametrize("activation, width, first, second, third, fourth", CUMULANTS)
def test_cumulants_of_a_deep_plain_net(activation, width, first, second, third, fourth):
    """Seven layers: seven times the cumulants of one, halved for the norm of the square."""
    law = plain(7, width, 0.9, activation)
    assert log_norm_mean(law)[7] == pytest.approx(7 * (first + math.log(0.9)) / 2, rel=1e-11)
    assert log_norm_variance(law)[7] == pytest.approx(7 * second / 4, rel=1e-11)
    skewness = third / second**1.5 / math.sqrt(7)
    assert log_norm_skewness(law)[7] == pytest.approx(skewness, rel=1e-10)
    assert log_norm_kurtosis(law)[7] == pytest.approx(fourth / second**2 / 7, rel=3e-8)


@pytest.mark.parametrize(
    "width, mean, variance",
    [
        (10, -307.461, 866.734),
        (40, -65.2635, 138.1164),
        (100, -25.42089, 51.93999),
        (1000, -2.504095, 5.018585),
    ],
)
def test_where_minus_five_halves_stops_being_right(width, mean, variance):
    """Depth 1000, He: mean and variance of the log of the square, to the digits published."""
    he = preserving(1000, width, 2.0)
    assert 2 * log_norm_mean(he)[-1] == pytest.approx(mean, rel=2e-6)
    assert 4 * log_norm_variance(he)[-1] == pytest.approx(variance, rel=2e-6)


@pytest.mark.parametrize(
    "s, exponent", [(0.5, -0.0032286), (1.0, -0.0064227), (1.5, -0.0095830), (2.0, -0.0127104)]
)
def test_lyapunov_exponents_of_the_schemes(s, exponent):
    found = lyapunov_exponent(preserving(3, 100, s))
    np.testing.assert_allclose(found, exponent, atol=6e-8)
    assert found.shape == (3,)


@pytest.mark.parametrize(
    "s, powers",
    [
        (0.5, (-0.1748, 0, 1.3871, 4.1395, 8.2358)),
        (1.0, (-0.5216, -0.6936, 0, 2.0588, 5.4615)),
        (2.0, (-1.2043, -2.0589, -2.7308, -2.0374, 0)),
    ],
)
def test_every_other_moment(s, powers):
    """log10 E|x_L|^r at width 100, depth 1000: below 1 for r < s, above for r > s."""
    law = preserving(1000, 100, s)
    orders = (0.25, 0.5, 1.0, 1.5, 2.0)
    whole = log_norm_law(law)
    for order, want in zip(orders, powers, strict=True):
        assert log_norm_moment(law, order)[-1] / math.log(10) == pytest.approx(want, abs=6e-5)
        assert whole.log_moment(order) / math.log(10) == pytest.approx(want, abs=6e-5)


# ------------------------------------------------------------------- one layer, exactly


@pytest.mark.parametrize("width", [1, 2, 7, 50])
def test_one_layer_of_relus_is_a_mixture_of_chi_squares(width):
    law = log_norm_law(plain(1, width, 1.3))
    x = law.mean + law.deviation * Z
    on = np.arange(1, width + 1)[:, None]
    share = binom.pmf(on, width, 0.5)
    square = np.exp(2 * x) / 1.3
    below = (share * gamma.cdf(square, on / 2, scale=2)).sum(axis=0) / share.sum()
    above = (share * gamma.sf(square, on / 2, scale=2)).sum(axis=0) / share.sum()
    density = (share * gamma.pdf(square, on / 2, scale=2)).sum(axis=0) / share.sum() * 2 * square
    assert law.survival == pytest.approx(share.sum(), rel=1e-13)
    np.testing.assert_allclose(law.cdf(x), below, rtol=1e-9)
    np.testing.assert_allclose(law.sf(x), above, rtol=1e-9, atol=1e-19)
    np.testing.assert_allclose(law.pdf(x), density, rtol=1e-9, atol=1e-19)


@pytest.mark.parametrize("width", [1, 3, 50, 1000])
@pytest.mark.parametrize("u", [0.005, 0.0121, 0.3, 30.0])
def test_one_linear_block_is_a_chi_square_off_centre(width, u):
    """h' = 0.9 h + V h with entries of variance 0.81 u."""
    network = Network(depth=1, width=width, block="res1", activation="linear")
    law = log_norm_law(Ensemble(network, GivenScheme(skip=0.9, variance=0.81 * u), Point()))
    x = law.mean + law.deviation * Z
    square = np.exp(2 * x) / (0.81 * u)
    np.testing.assert_allclose(law.cdf(x), ncx2.cdf(square, width, 1 / u), rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(law.sf(x), ncx2.sf(square, width, 1 / u), rtol=1e-6, atol=1e-10)


# ----------------------------------------------------------------------------- tails


@pytest.mark.parametrize(
    "depth, s, chance",
    [
        (1000, 0.5, 0.15364),
        (1000, 1.0, 0.44587),
        (1000, 1.5, 0.77087),
        (1000, 2.0, 0.94660),
        (100, 0.5, 9.20e-9),
        (100, 1.0, 4.14e-8),
        (100, 1.5, 1.721e-7),
        (100, 2.0, 6.62e-7),
    ],
)
def test_small_outputs(depth, s, chance):
    """P(|x_L| < 1e-3) at width 100; the saddle point is right where the limit is not."""
    law = preserving(depth, 100, s)
    found = small_norm_probability(law, 1e-3)
    assert found == pytest.approx(chance, rel=1.2e-3)
    whole = log_norm_law(law)
    assert whole.saddlepoint_cdf(math.log(1e-3)) == pytest.approx(found, rel=2e-5)
    if depth == 100:
        assert whole.normal_cdf(math.log(1e-3)) < 0.6 * found


def test_far_tails_have_digits_and_match_the_saddle_point():
    law = log_norm_law(plain(400, 60, 1 / 60, Linear()))
    x = law.mean + law.deviation * np.array([-9.0, -7.0, 7.0, 9.0])
    low = law.cdf(x)
    assert 0 < low[0] < 1e-15
    np.testing.assert_allclose(low[:2], law.saddlepoint_cdf(x[:2]), rtol=1e-4)
    np.testing.assert_allclose(law.cdf(x) + law.sf(x), 1.0, rtol=1e-12)
    slope = np.log(law.cdf(x[0] * (1 + 1e-6)) / law.cdf(x[0] * (1 - 1e-6))) / (2e-6 * x[0])
    assert slope == pytest.approx(law.pdf(x[0]) / law.cdf(x[0]), rel=1e-5)


@pytest.mark.parametrize("branch", [0.02, 0.1])
def test_the_series_of_small_branches_gives_the_moments_of_gauss_rules(branch):
    """Two ways to one number: the heat equation's series, and quadrature in z and w."""
    scheme = GivenScheme(branch=branch, variance=((0.1, 0.2),) * 40)
    ensemble = Ensemble(Network(depth=40, width=7, inner_width=12), scheme, Point())
    law = log_norm_law(ensemble)
    for order in (0.5, 1.0, 2.0):
        exact = log_norm_moment(ensemble, order)[-1]
        assert law.log_moment(order) == pytest.approx(exact, rel=1e-9)


def test_dead_networks_count_as_small():
    law = plain(3, 2, 1.0)  # 1/4 of the layers of two ReLUs are dead
    assert log_norm_law(law).survival == pytest.approx(0.75**3)
    assert small_norm_probability(law, 1e-200) == pytest.approx(1 - 0.75**3)


def test_quantiles_invert_the_distribution():
    law = log_norm_law(preserving(5, 3, 1.0))  # skewed, and dead now and then
    q = np.array([1e-7, 1e-3, 0.2, 0.5, 0.9, 1 - 1e-7])
    np.testing.assert_allclose(law.cdf(law.quantile(q)), q, rtol=2e-6)
    with pytest.raises(SpecError, match="1e-12"):
        law.quantile(0.0)


# -------------------------------------------------------------------- distance to normal


@pytest.mark.parametrize(
    "width, depth, distance, leading",
    [(40, 1000, 0.0010264, 0.0010265), (10, 50, 0.01657, 0.01720)],
)
def test_distance_to_the_normal_law(width, depth, distance, leading):
    law = log_norm_law(preserving(depth, width, 2.0))
    assert law.distance == pytest.approx(distance, rel=2e-4)
    assert law.leading_distance == pytest.approx(leading, rel=3e-4)
    assert law.distance < law.distance_bound


def test_two_terms_of_edgeworth_are_right_to_eight_digits():
    law = log_norm_law(preserving(1000, 40, 2.0))
    x = law.mean + law.deviation * np.linspace(-5, 5, 401)
    errors = [np.abs(law.edgeworth_cdf(x, terms) - law.cdf(x)).max() for terms in (1, 2)]
    assert errors[1] < 9e-8 < 1e-6 < errors[0] < law.distance
    middle = np.abs(law.edgeworth_pdf(x) - law.pdf(x)).max() * law.deviation
    assert middle < 1e-6
    with pytest.raises(SpecError, match="terms"):
        law.edgeworth_cdf(0.0, 3)


# --------------------------------------------------------------------------- networks

CASES = {
    "plain relu": uneven("plain"),  # dead now and then
    "plain leaky": uneven("plain", LeakyReLU(slope=0.3)),
    "res3 relu": gentle(),
    "inner linear": uneven("inner", "linear"),
}


@pytest.mark.parametrize("name", CASES)
def test_networks_drawn_follow_the_law_forward_and_backward(name):
    """Kolmogorov's test, known law: fires by chance in 1e-6; sees a distance of 0.026."""
    ensemble, replicas = CASES[name], 40_000
    depth = ensemble.network.depth
    result = sigprop.simulate(
        ensemble, ["norm", "gradient"], replicas=replicas, layers=[0, depth], keep=[0, depth]
    )
    assert detectable_distance(replicas, 10**12) < 0.026
    for name, law, layer in (
        ("norm", log_norm_law(ensemble), depth),
        ("gradient", log_gradient_law(ensemble), 0),
    ):
        kept = result[f"replica_log_{name}"].sel(kept_layer=layer).isel(input=0).values
        alive = np.sort(kept[np.isfinite(kept)])
        deviation = math.sqrt(law.survival * (1 - law.survival) / replicas)
        assert abs(len(alive) / replicas - law.survival) <= 5.5 * deviation + 1e-15
        count = np.arange(1, len(alive) + 1) / len(alive)
        every = slice(50, None, 100)  # within 100 / 40,000 of the distance at all places
        distance = np.abs(count[every] - law.cdf(alive[every])).max()
        assert distance < kolmogi(ALPHA) / math.sqrt(len(alive))


def test_a_state_at_an_inner_layer_and_a_gradient_there():
    ensemble = uneven("plain")
    for layer in (1, 2, 3):
        assert log_norm_law(ensemble, layer).mean == pytest.approx(log_norm_mean(ensemble)[layer])
    assert log_gradient_law(ensemble, 3).variance < log_gradient_law(ensemble, 1).variance


@pytest.mark.parametrize("function, layer", [(log_norm_law, 0), (log_norm_law, 8)])
def test_layers_that_have_no_law(function, layer):
    with pytest.raises(SpecError, match="layer"):
        function(preserving(7, 5, 1.0), layer)


def test_what_does_not_vary_has_no_law():
    still = Ensemble(Network(depth=3, width=4), GivenScheme(branch=0.0, variance=1.0), Point())
    with pytest.raises(Unsupported, match="does not vary"):
        log_norm_law(still)
    with pytest.raises(Unsupported, match="Gaussian weights"):
        log_norm_law(Ensemble(Network(depth=3, width=4, block="plain"), He(law="uniform"), Point()))


def test_a_short_net_of_few_units_has_jumps_and_is_refused():
    """Some layers of two ReLUs add nothing at all, so the transform never dies out."""
    with pytest.raises(Unsupported, match="jumps"):
        log_norm_law(uneven("res3")).cdf(0.0)


def test_moments_that_are_not_there_are_refused():
    with pytest.raises(SpecError, match="order"):
        log_norm_law(preserving(3, 5, 1.0)).log_moment(-5.0)
