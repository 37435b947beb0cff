"""Weight laws have the moments that they state, and their samples have the law."""

import math

import numpy as np
import pytest
from scipy import stats

from sigprop.errors import SpecError
from sigprop.laws import Gaussian, Rademacher, Stable, StudentT, Uniform
from sigprop.schemes import He

ALPHA = 1e-6  # false-alarm probability of one assertion
N = 200_000

CONTINUOUS = [
    (Gaussian(), stats.norm()),
    (Uniform(), stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))),
    (StudentT(dof=5.0), stats.t(5, scale=math.sqrt(3 / 5))),
    (StudentT(dof=2.2), stats.t(2.2, scale=math.sqrt(0.2 / 2.2))),
    (StudentT(dof=2.0), stats.t(2)),
    (StudentT(dof=0.7), stats.t(0.7)),
    (Stable(stability=1.0), stats.cauchy()),
]


@pytest.mark.parametrize(("law", "reference"), CONTINUOUS, ids=lambda x: repr(x)[:25])
def test_samples_have_the_law(law, reference):
    """Kolmogorov-Smirnov: sees a distance of 0.007 between distribution functions."""
    drawn = law.sample(np.random.default_rng(1), (N,))
    assert drawn.dtype == np.float64
    assert stats.kstest(drawn, reference.cdf).pvalue > ALPHA


@pytest.mark.parametrize(("law", "reference"), CONTINUOUS[:4], ids=lambda x: repr(x)[:25])
def test_variance_is_one_and_kurtosis_as_stated(law, reference):
    mean, variance, _, excess = reference.stats(moments="mvsk")
    assert mean == 0 and law.variance == 1.0
    np.testing.assert_allclose(variance, 1.0, rtol=1e-13)
    if math.isfinite(law.kurtosis):
        np.testing.assert_allclose(law.kurtosis, excess + 3, rtol=1e-13)
    else:
        assert law.moment_limit <= 4


def test_rademacher_is_a_fair_coin_of_plus_and_minus_one():
    drawn = Rademacher().sample(np.random.default_rng(2), (N,))
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    assert abs(drawn.mean()) < stats.norm.isf(ALPHA / 2) / math.sqrt(N)
    assert (Rademacher().kurtosis, Rademacher().variance) == (1.0, 1.0)


@pytest.mark.parametrize("stability", [0.3, 0.8, 1.2, 1.5, 1.95])
def test_a_stable_sample_has_its_characteristic_function(stability):
    """E cos(t w) = exp(-|t|^stability), at several t; cosines are bounded, so a mean exists."""
    drawn = Stable(stability=stability).sample(np.random.default_rng(3), (N,))
    for t in (0.3, 1.0, 2.0):
        cosines = np.cos(t * drawn)
        se = cosines.std() / math.sqrt(N)
        z = (cosines.mean() - math.exp(-(t**stability))) / se
        assert abs(z) < stats.norm.isf(ALPHA / 2), (t, z)


def test_a_sum_of_stable_weights_is_stable_and_wider_by_its_index():
    law = Stable(stability=1.5)
    drawn = law.sample(np.random.default_rng(4), (N, 4))
    one, four = drawn[:, 0], drawn[:, 1:].sum(axis=1) / 3 ** (1 / 1.5)
    assert stats.ks_2samp(one, four).pvalue > ALPHA
    # The wrong exponent, that of a finite variance, is seen.
    assert stats.ks_2samp(one, drawn[:, 1:].sum(axis=1) / 3**0.5).pvalue < ALPHA


def test_every_law_is_symmetric():
    for law in (*(law for law, _ in CONTINUOUS), Stable(stability=0.6)):
        drawn = law.sample(np.random.default_rng(5), (N,))
        assert stats.ks_2samp(drawn[: N // 2], -drawn[N // 2 :]).pvalue > ALPHA


@pytest.mark.parametrize(
    ("law", "limit", "variance", "kurtosis", "text"),
    [
        (Gaussian(), math.inf, 1.0, 3.0, "every moment"),
        (Uniform(), math.inf, 1.0, 1.8, "every moment"),
        (Rademacher(), math.inf, 1.0, 1.0, "every moment"),
        (StudentT(dof=6), 6.0, 1.0, 6.0, "below 6 exist; variance 1"),
        (StudentT(dof=4), 4.0, 1.0, math.inf, "below 4 exist; variance 1"),
        (StudentT(dof=2), 2.0, math.inf, math.nan, "below 2 exist; infinite variance"),
        (Stable(stability=1.3), 1.3, math.inf, math.nan, "below 1.3 exist; infinite variance"),
    ],
    ids=repr,
)
def test_a_law_says_which_moments_exist(law, limit, variance, kurtosis, text):
    assert (law.moment_limit, law.variance) == (limit, variance)
    np.testing.assert_equal(law.kurtosis, kurtosis)
    assert text in law.moments_text


def test_parameters_out_of_range_are_refused_with_a_way_out():
    for dof in (0.0, -1.0, math.inf, math.nan, "many"):
        with pytest.raises(SpecError, match="dof"):
            StudentT(dof=dof)
    for stability in (0.0, 2.0, 2.5):
        with pytest.raises(SpecError, match="use the law gaussian"):
            Stable(stability=stability)


def test_a_law_of_one_parameter_cannot_be_asked_for_by_name_alone():
    with pytest.raises(SpecError, match=r"StudentT\(dof=\.\.\.\)"):
        He(law="student_t")
    with pytest.raises(SpecError, match="law must be a WeightLaw"):
        He(law=3)


def test_a_size_is_a_shape():
    for law in (*(law for law, _ in CONTINUOUS), Rademacher()):
        assert law.sample(np.random.default_rng(0), (2, 3)).shape == (2, 3)
