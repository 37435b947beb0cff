"""Power laws: exact on exact data, with errors that are what they say, and a test that fires."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, chi2, linregress

from analysis.fit import fit_power_law, local_exponents
from sigprop.errors import SpecError
from tests.stat import ALPHA, assert_agrees

DEPTHS = np.array([100.0, 200.0, 500.0, 1000.0, 3000.0, 10_000.0])


def within(count, trials, chance):
    return binom.isf(1 - ALPHA / 2, trials, chance) <= count <= binom.isf(ALPHA / 2, trials, chance)


def test_exact_data_are_met_exactly():
    law = fit_power_law(DEPTHS, math.log(7) - 0.3 * np.log(DEPTHS), 0.01)
    assert law.exponent == pytest.approx(-0.3, rel=1e-12)
    assert law.log_factor == pytest.approx(math.log(7), rel=1e-12)
    assert law.chi_square < 1e-20 and law.degrees == 4 and law.fits()
    assert math.isnan(law.correction) and math.isnan(law.omega)
    np.testing.assert_allclose(law.log_value([10.0, 20.0]), np.log(7 * np.array([10, 20]) ** -0.3))


def test_a_correction_is_fitted_along():
    log_y = 0.5 + 0.4 * np.log(DEPTHS) - 2.0 * DEPTHS**-0.5
    law = fit_power_law(DEPTHS, log_y, 0.01, correction=0.5)
    found = (law.exponent, law.log_factor, law.correction)
    assert found == pytest.approx((0.4, 0.5, -2.0), rel=1e-9)
    np.testing.assert_allclose(law.log_value(DEPTHS), log_y)
    # Without it the fit is wrong, and says so.
    bare = fit_power_law(DEPTHS, log_y, 0.005)
    assert abs(bare.exponent - 0.4) > 5 * bare.exponent_se and not bare.fits()


def test_the_errors_cover_the_truth_and_the_fit_is_refused_as_rarely_as_promised():
    """400 samples of unequal errors: pulls of variance 1, p-values below 10% in 10% of them."""
    se = np.array([0.02, 0.01, 0.03, 0.02, 0.05, 0.01])
    generator = np.random.default_rng(0)
    truth = 1.0 - 0.5 * np.log(DEPTHS)
    noise = generator.standard_normal((400, len(se)))
    laws = [fit_power_law(DEPTHS, truth + se * z, se) for z in noise]
    for name, value in (("exponent", -0.5), ("log_factor", 1.0)):
        pulls = np.array(
            [(getattr(law, name) - value) / getattr(law, f"{name}_se") for law in laws]
        )
        assert_agrees(pulls.mean(), 0.0, 1 / 20, resolution=0.5)
        total = float((pulls**2).sum())
        assert min(chi2.cdf(total, 400), chi2.sf(total, 400)) > ALPHA / 2
    assert within(sum(not law.fits(0.1) for law in laws), 400, 0.1)
    inside = sum(law.interval(0.9)[0] < -0.5 < law.interval(0.9)[1] for law in laws)
    assert within(inside, 400, 0.9)


def test_without_errors_they_are_estimated_from_the_scatter():
    generator = np.random.default_rng(4)
    log_y = 2 - np.log(DEPTHS) + 0.1 * generator.standard_normal(len(DEPTHS))
    law = fit_power_law(DEPTHS, log_y)
    usual = linregress(np.log(DEPTHS), log_y)
    assert law.exponent == pytest.approx(usual.slope, rel=1e-12)
    assert law.exponent_se == pytest.approx(usual.stderr, rel=1e-12)
    assert law.log_factor_se == pytest.approx(usual.intercept_stderr, rel=1e-12)
    assert math.isnan(law.p) and math.isnan(law.chi_square) and not law.fits()
    low, high = law.interval(0.95)
    assert high - low == pytest.approx(2 * 2.7764451 * usual.stderr, rel=1e-6)  # t, 4 degrees


def test_a_point_weighs_by_its_error():
    log_y = np.array([0.0, 1.0, 2.0, 9.0])
    law = fit_power_law(np.exp(np.arange(4)), log_y, [1e-3, 1e-3, 1e-3, 1e3])
    assert law.exponent == pytest.approx(1.0, abs=1e-6)
    assert law.exponent_se == pytest.approx(1e-3 / math.sqrt(2), rel=1e-5)


def test_local_exponents_show_the_drift():
    log_y = 0.4 * np.log(DEPTHS) - 2.0 * DEPTHS**-0.5
    middle, exponent, se = local_exponents(DEPTHS, log_y, 0.01)
    assert (np.diff(exponent) < 0).all() and exponent[-1] == pytest.approx(0.4, abs=0.02)
    np.testing.assert_allclose(middle, np.sqrt(DEPTHS[1:] * DEPTHS[:-1]))
    np.testing.assert_allclose(se, 0.01 * math.sqrt(2) / np.diff(np.log(DEPTHS)))
    assert np.isnan(local_exponents(DEPTHS, log_y)[2]).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([1.0, 2.0], [1.0, 2.0, 3.0], 1.0), "shapes"),
        (
            ([1.0, -2.0, 3.0], [1.0, 2.0, 3.0], 1.0),
            "x must be finite and positive, got -2.0 at pos",
        ),
        (([1.0, 2.0, 3.0], [1.0, np.inf, 3.0], 1.0), "log_y must be finite, got inf at position 1"),
        (([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 0.0, 1.0]), "log_se must be finite and pos"),
        (([2.0, 2.0, 2.0], [1.0, 2.0, 3.0], 1.0), "needs 2 different x, got 1"),
        (([1.0, 2.0], [1.0, 2.0]), "needs 3 different x if no errors are given, got 2"),
    ],
)
def test_bad_input_is_refused(arguments, says):
    with pytest.raises(SpecError, match=says):
        fit_power_law(*arguments)


def test_neighbours_must_be_in_order():
    with pytest.raises(SpecError, match="must increase"):
        local_exponents([2.0, 1.0], [0.0, 1.0])
    with pytest.raises(SpecError, match="correction"):
        fit_power_law(DEPTHS, DEPTHS, 1.0, correction=-1.0)
