"""Theory against numbers that were computed elsewhere, to the digits in which they were given.

Each was found by other programs: recursions in plain NumPy, quadrature, or Monte Carlo of full
networks, whose standard error is then the tolerance. A number here is never one of our own.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from analysis.theory import (
    contour_exponent,
    correlation_limit,
    critical_bound,
    displacement_relative_variance,
    local_exponent,
    log_displacement_mean_square,
    log_fourth_moment,
    log_norm_mean,
    log_norm_variance,
    log_normal_limit,
    mean_field,
    mean_field_arrays,
    outer_activation_mean_field,
    outer_activation_mean_square,
    quasi_geometric_log_mean,
    weak_limit,
)
from sigprop.inputs import Point
from sigprop.processes import FractionalGaussianNoise, LegacyRbf, Rbf, Tied
from sigprop.schemes import Power
from sigprop.spec import Ensemble, Network


def law(depth, beta, process="independent", *, width=40, **network):
    return Ensemble(
        Network(depth=depth, width=width, **network), Power(beta=beta, process=process), Point()
    )


def noise(hurst):
    return FractionalGaussianNoise(hurst=hurst)


def displacements(ensemble):
    """Mean square of the displacement of the state, and of the gradient."""
    found = mean_field(ensemble)
    return math.exp(found.log_displacement_mean_square[-1]), math.exp(
        found.log_gradient_displacement_mean_square[0]
    )


# ------------------------------------------------------------------------ mean field

MEAN_FIELD = [  # process, beta, forward and backward at depth 200; half a digit
    (noise(0.1), 0.5, (0.5235, 0.758), (5e-5, 5e-4)),
    (noise(0.7), 0.7, (0.241, 0.0829), (5e-4, 5e-5)),
    (noise(0.9), 0.75, (2.01, 0.704), (5e-3, 5e-4)),
    (Rbf(bandwidth=0.1), 1.0, (0.0944, 0.0725), (5e-5, 5e-5)),
    (LegacyRbf(variance=0.01), 1.0, (0.0405, 0.0456), (5e-5, 6e-5)),
]


@pytest.mark.parametrize(
    ("process", "beta", "known", "digits"), MEAN_FIELD, ids=lambda x: getattr(x, "kind", "")
)
def test_mean_squares_of_dependent_weights(process, beta, known, digits):
    found = displacements(law(200, beta, process))
    for value, reference, half in zip(found, known, digits):
        assert value == pytest.approx(reference, abs=half)


def test_the_highest_frequency_of_the_published_noise_moves_its_mean_squares():
    """At H = 0.97, beta = 0.9, depth 1000, by the error A (-1)^k alone: to three digits."""
    depth, hurst = 1000, 0.97
    a, rho = np.full(depth, depth**-0.9), noise(hurst).autocovariance(depth)
    excess = 2 * hurst * depth ** (2 * hurst - 1) / (2 * depth)
    published = rho + excess * (-1.0) ** np.arange(depth)
    for lags, known in ((rho, (1.25, 0.75)), (published, (2.85, 1.81))):
        found = mean_field_arrays(a, lags, lags)
        assert np.exp(found.log_displacement_mean_square[-1]) == pytest.approx(known[0], abs=5e-3)
        backward = np.exp(found.log_gradient_displacement_mean_square[0])
        assert backward == pytest.approx(known[1], abs=6e-3)


@pytest.mark.parametrize(
    ("hurst", "beta", "slope", "digit"), [(0.2, 0.3, -0.205, 1e-3), (0.1, 0.4, -0.600, 2e-3)]
)
def test_rough_weights_of_one_matrix_fall_by_the_larger_of_two_powers(hurst, beta, slope, digit):
    """Of the square, max(L^(2H - 2 beta), L^(1 - 4 beta)); fitted from depth 1000 to 4000."""
    logs = [
        mean_field(law(depth, beta, noise(hurst), block="res1"), gradient=False)
        for depth in (1000, 4000)
    ]
    low, high = (found.log_displacement_mean_square[-1] for found in logs)
    assert (high - low) / math.log(4) == pytest.approx(slope, abs=digit)
    assert slope == pytest.approx(max(2 * hurst - 2 * beta, 1 - 4 * beta), abs=6e-3)


YOUNG = {  # E|H_1|^2 / |H_0|^2 at beta = H, infinite width and depth: linear and ReLU res1
    0.6: (2.545, 1.620), 0.7: (2.440, 1.601), 0.8: (2.368, 1.587), 0.9: (2.317, 1.576),
    1.0: (2.2796, 1.568),
}  # fmt: skip


@pytest.mark.parametrize("hurst", YOUNG)
def test_on_the_critical_line_one_matrix_tends_to_a_young_equation(hurst):
    """At depth 1000 the limit is met to 0.1%."""
    process = Tied() if hurst == 1.0 else noise(hurst)
    for activation, known in zip(("linear", "relu"), YOUNG[hurst]):
        ensemble = law(1000, hurst, process, block="res1", activation=activation)
        found = math.exp(mean_field(ensemble, gradient=False).log_mean_square[-1])
        assert found == pytest.approx(known, rel=1e-3)
        # Apart from their neighbours: the test would see another index.
        assert all(abs(found - other[activation == "relu"]) > 0.005 for h, other in YOUNG.items()
                   if h != hurst)  # fmt: skip


# ----------------------------------------------------------------- critical exponents

LOCAL = {  # at depths beyond two million, forward and backward
    0.6: (0.590, 0.500), 0.7: (0.698, 0.502), 0.8: (0.798, 0.598), 0.9: (0.892, 0.796),
    0.97: (0.956, 0.933),
}  # fmt: skip


def test_local_exponents_of_very_deep_networks():
    for hurst, known in LOCAL.items():
        for quantity, reference in zip(("displacement", "gradient_displacement"), known):
            found = local_exponent(hurst, 2_000_000, quantity)
            assert found == pytest.approx(reference, abs=6e-4)
    assert local_exponent(0.7, 10_000, block="res1") == pytest.approx(0.7, abs=5e-4)
    assert local_exponent(0.5, 1000) == pytest.approx(0.5, abs=1e-12)


def test_a_local_exponent_is_what_mean_field_shows_where_branches_are_small():
    """The displacement grows by L^(2 (exponent - beta)) when the depth doubles.

    The branch is 8e-8, and the next order that much smaller (an arc sine near 1 has a root).
    """
    for block in ("res3", "res1"):
        for hurst in (0.3, 0.85):
            logs = [mean_field(law(n, 4.0, noise(hurst), block=block)) for n in (60, 120)]
            for quantity, at in (("displacement", -1), ("gradient_displacement", 0)):
                name = f"log_{quantity}_mean_square"
                low, high = (getattr(found, name)[at] for found in logs)
                grown = (high - low) / (2 * math.log(2)) + 4.0
                found = local_exponent(hurst, 60, quantity, block)
                assert found == pytest.approx(grown, abs=1e-6)


@pytest.mark.parametrize(
    ("hurst", "beta"), [(0.05, 0.192), (0.2, 0.229), (0.35, 0.337), (0.5, 0.476), (0.6, 0.573)]
)
def test_the_contour_of_one_matrix_at_depth_1000(hurst, beta):
    assert contour_exponent(noise(hurst), 1000, block="res1") == pytest.approx(beta, abs=6e-4)


def test_the_contour_of_one_depth_is_shifted_from_the_critical_exponent():
    """By up to log(2 pi) / (2 log L), and less at every larger depth."""
    shifts = [0.8 - contour_exponent(noise(0.8), depth) for depth in (100, 1000, 4000)]
    bound = [math.log(2 * math.pi) / (2 * math.log(depth)) for depth in (100, 1000, 4000)]
    assert np.all(np.diff(shifts) < 0) and 0 < shifts[-1]
    assert shifts[1] == pytest.approx(0.1, abs=1e-3) and np.all(np.array(shifts) < bound)


# -------------------------------------------------------------- exact moments, one layer


def test_fourth_moments_of_full_networks():
    """Depth 30, width 10, one matrix in the second: Monte Carlo, with its standard error."""
    cases = [
        (law(30, 0.5, width=10), 3.2887, 0.0037),
        (law(30, 0.5, width=10, block="res1", activation="linear"), 10.435, 0.019),
        (law(30, 0.5, width=10, activation="linear"), 10.542, 0.021),
    ]
    for ensemble, known, se in cases:
        assert abs(math.exp(log_fourth_moment(ensemble)[-1]) - known) < 4 * se
    exact = [math.exp(log_fourth_moment(ensemble)[-1]) for ensemble, *_ in cases]
    np.testing.assert_allclose(exact, [3.2905, 10.442, 10.520], atol=6e-4)


@pytest.mark.parametrize(
    ("width", "beta", "mean", "deviation"), [(20, 0.5, 0.64463, 0.28108), (10, 0.25, 29.45, 51.86)]
)
def test_mean_and_deviation_of_the_squared_displacement(width, beta, mean, deviation):
    ensemble = law(50, beta, width=width)
    found = math.exp(log_displacement_mean_square(ensemble)[-1])
    assert found == pytest.approx(mean, rel=1e-4)
    spread = math.sqrt(displacement_relative_variance(ensemble)[-1]) * found
    assert spread == pytest.approx(deviation, rel=1e-4)


@pytest.mark.parametrize(
    ("width", "leading", "known"),
    [(1, -0.0158, -0.0187), (2, 0.0, -0.0001), (3, 0.0053, 0.0053), (9, 0.0123, 0.0122)],
)
def test_the_typical_norm_of_a_narrow_net_collapses_up_to_width_2(width, leading, known):
    """E log of |h'|^2 / |h|^2 at beta = 1/4, depth 1000: Monte Carlo, and c (1 - 2/d) a^2."""
    found = 2 * log_norm_mean(law(1000, 0.25, width=width))[-1] / 1000
    assert found == pytest.approx(known, abs=1.5e-4)
    assert 0.5 * (1 - 2 / width) * 1000**-0.5 == pytest.approx(leading, abs=6e-5)


@pytest.mark.parametrize(
    ("width", "mean", "mean_se", "variance"),
    [(10, 0.2018, 0.001, 0.0496), (100, 0.2451, 3e-4, 0.005)],
)
def test_log_norms_of_deep_networks(width, mean, mean_se, variance):
    ensemble = law(1000, 0.5, width=width)
    assert abs(log_norm_mean(ensemble)[-1] - mean) < 4 * mean_se
    assert log_norm_variance(ensemble)[-1] == pytest.approx(variance, rel=0.02)
    assert log_normal_limit(ensemble) == pytest.approx((0.25 - 0.5 / width, 0.5 / width))


@pytest.mark.parametrize(("width", "cosine"), [(3, 0.8465), (10, 0.7985), (40, 0.7837)])
def test_the_direction_is_a_brownian_motion_on_the_sphere(width, cosine):
    assert weak_limit(law(1000, 0.5, width=width)).cosine_mean[-1] == pytest.approx(
        cosine, abs=5e-5
    )


# ---------------------------------------------------------------------- other papers


@pytest.mark.parametrize(("width", "known"), [(2, -0.170), (3, -0.050), (4, 0.014), (5, 0.056)])
def test_the_mean_logarithm_changes_sign_between_width_3_and_4(width, known):
    """Monte Carlo to 0.0005; the expansion is good to 0.001."""
    assert quasi_geometric_log_mean(width) == pytest.approx(known, abs=0.001 + 4 * 0.0005)


def test_numbers_of_other_papers():
    assert correlation_limit(0.2) == pytest.approx(0.3012, abs=5e-5)
    square = outer_activation_mean_square(1.0, slope=1, weight_variance=1, bias_variance=0.5)
    assert square == pytest.approx(3.577, abs=5e-4)
    for curvature, known in ((0.5, 1.5854), (0.25, 1.2457)):
        mean, _ = outer_activation_mean_field(1.0, 1.0, 0.5, curvature, 1.0, 0.5)
        assert mean == pytest.approx(known, abs=5e-5)
    bound = critical_bound(100, 0.5)
    assert (bound.lower, bound.upper) == pytest.approx((-0.25, 5.25), abs=5e-3)
    # The exact law has its middle half within (0.563, 0.724), far inside.
    variance = displacement_relative_variance(law(1000, 0.5, width=100))[-1]
    mean = math.exp(log_displacement_mean_square(law(1000, 0.5, width=100))[-1])
    sigma = math.sqrt(math.log1p(variance))
    middle = mean * np.exp(-(sigma**2) / 2 + sigma * norm.ppf([0.25, 0.75]))
    np.testing.assert_allclose(middle, [0.563, 0.724], atol=3e-3)
