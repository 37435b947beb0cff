"""Figures of the fractional paper: numbers that are published, beside what is drawn."""

import math

import numpy as np
import pytest

from figures._base import named, obtain
from tests.stat import ALPHA, assert_agrees


@pytest.fixture(scope="session")
def content(tmp_path_factory):
    """What a figure is drawn from at the smoke budget, made once and read from disk."""
    made = {}

    def of(name):
        if name not in made:
            path = tmp_path_factory.mktemp("figures") / "numbers.nc"
            obtain(named(name), "smoke", path, workers=2)
            made[name], standing = obtain(named(name), "smoke", path)
            assert standing
        return made[name]

    return of


def test_figure_1_has_the_published_factors_between_schemes():
    exact = named("fractional_moments/fig01").predict("paper")["moments"]
    factors = np.exp(exact.log_factor.sel(s=[1.5, 1.0, 0.5]).values)
    published = np.exp(exact.log_factor_published.sel(s=[1.5, 1.0, 0.5]).values)
    np.testing.assert_allclose(factors, [11.52, 138.3, 1730], rtol=5e-4)
    np.testing.assert_allclose(published, [11.35, 125.9, 1365], rtol=5e-4)
    # The curve of scheme s at q = s is that of a preserved moment: E|x_i|^2 = 1 under He.
    assert float(exact.log_moment.sel(s=2.0, order=2.0)) == pytest.approx(0.0, abs=1e-9)


def test_figure_1_right_has_slope_minus_two():
    slopes = named("fractional_moments/fig04").predict("smoke")["scale"].slope
    np.testing.assert_allclose(slopes, -2, atol=0.06)


@pytest.mark.parametrize(
    "name, he, kept, deviation", [("relu", 0.066, 1.052, 1.443), ("linear", 1.286, 1.677, 0.895)]
)
def test_figures_2_and_5_have_the_means_of_the_paper(name, he, kept, deviation, content):
    """x_0 is drawn from N(0, I) there, on a sphere here: the difference is known."""
    predictions = content("fractional_moments/fig02").predictions
    lower = -1 / 128  # of E log|x_0|, to first order
    for s, mean in ((2, he), (1, kept)):
        law = predictions[f"{name} {s}"].attrs
        assert law["mean"] + lower == pytest.approx(mean, abs=6e-4)
        assert math.hypot(law["deviation"], 1 / math.sqrt(128)) == pytest.approx(
            deviation, abs=6e-4
        )


def test_the_networks_of_figure_2_follow_the_curves(content):
    """100 networks a curve; Bonferroni over six means, 1e-6 in all; sees one unit."""
    numbers = content("fractional_moments/fig02")
    gaps, errors = [], []
    for name, exact in numbers.predictions.items():
        kept = numbers.results[name].replica_log_norm.isel(kept_layer=-1, input=0).values
        gaps.append(kept.mean() + math.log(8) - exact.attrs["mean"])
        errors.append(exact.attrs["deviation"] / math.sqrt(len(kept)))
    assert_agrees(gaps, 0.0, errors, resolution=1.6)
    assert ALPHA == 1e-6


def test_tails_with_biases_have_the_index_of_the_scheme(content):
    for name, law in content("fractional_moments/bias_tail").predictions.items():
        assert law.attrs["tail_index"] == pytest.approx(float(name), rel=1e-9)
        assert float(law.survival[-1]) == pytest.approx(float(law["tail"][-1]), rel=0.01)


def test_where_five_over_the_width_stops_being_right():
    """At depth 1000, of the square: exact beside the rule."""
    predictions = named("fractional_moments/log_norm_by_layer").predict("smoke")
    for width, mean, variance in (("10", -307.461, 866.734), ("100", -25.42089, 51.93999)):
        last = predictions[width].isel(layer=-1)
        np.testing.assert_allclose([last["mean"], last["variance"]], [mean, variance], rtol=1e-6)
        beta = 5000 / int(width)
        np.testing.assert_allclose([last.limit_mean, last.limit_variance], [-beta / 2, beta])


def test_networks_follow_the_exact_cumulants_by_layer(content):
    """Four means, 1e-6 in all; the distance of the rule at width 10 is 57."""
    numbers = content("fractional_moments/log_norm_by_layer")
    for width, resolution in (("10", 33), ("100", 2.6)):
        exact = numbers.predictions[width].sel(layer=[500, 1000])
        there = numbers.results[width].isel(input=0).sel(layer=[500, 1000])
        assert_agrees(
            2 * there.log_norm_mean,
            exact["mean"],
            2 * there.log_norm_mean_se,
            resolution=resolution,
        )


def test_moments_of_heavy_weights_are_kept_and_end_at_their_stability(content):
    """Four means of a logarithm, 1e-6 in all; sees 7 of the 49 that separate the laws."""
    numbers = content("fractional_moments/heavy_weights")
    for name, exact in numbers.predictions.items():
        assert float(exact.order.max()) < float(name)
        assert np.isfinite(exact.log_moment).all()
        kept = np.interp(0.5, exact.order, exact.log_moment)
        assert abs(kept) < 0.1  # the kept order lies between two of the curve
        last = numbers.results[name].isel(input=0, layer=-1)
        se = math.sqrt(float(exact.log_variance[-1]) / numbers.results[name].attrs["replicas"])
        assert_agrees(last.log_alpha_norm_mean, exact.log_mean[-1], se, resolution=7)
