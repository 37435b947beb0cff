"""The sums behind every estimate, held to exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from sigprop.accumulate import histogram, moments, powers


def fold(module, values, cuts, *arguments, merge_arguments=()):
    blocks = np.split(values, cuts)
    state = module.observe(blocks[0], *arguments)
    for block in blocks[1:]:
        state = module.merge(state, module.observe(block, *arguments), *merge_arguments)
    return state


def exact_moments(values):
    """Mean and central power sums 2 .. 8 in rational arithmetic."""
    x = [Fraction(float(v)) for v in values]
    mean = sum(x) / len(x)
    return mean, [sum((v - mean) ** p for v in x) for p in range(2, 9)]


@pytest.mark.parametrize("cuts", [[], [1], [3, 40], [7, 8, 9, 60]])
@pytest.mark.parametrize(
    ("place", "spread"), [(0.0, 1.0), (1e9, 1e-3), (-3e15, 8.0), (1e-30, 1e-35), (1e5, 1e-6)]
)
def test_central_moments_are_exact_far_from_zero(place, spread, cuts):
    """A mean a billion spreads away costs no digit: against rational arithmetic."""
    skewed = np.random.default_rng(0).gamma(0.7, spread, 80)
    values = place + skewed
    state = fold(moments, values[:, None], cuts)
    mean, sums = exact_moments(values)
    assert float(mean) == pytest.approx(moments.mean(state)[0][0], rel=1e-15)
    found = [float(s) for s in sums]
    np.testing.assert_allclose(state["power"][:, 0], found, rtol=1e-12)
    # The mean itself is known far better than its own last digit.
    offset = mean - Fraction(float(state["shift"][0]))
    assert float(state["offset"][0]) == pytest.approx(float(offset), rel=1e-12)


def test_a_missing_value_counts_nowhere():
    x = np.random.default_rng(1).normal(5, 2, (50, 3))
    x[x < 4] = -np.inf
    x[:, 2] = -np.inf
    state = fold(moments, x, [0, 11, 12, 30])
    for c in range(2):
        alive = x[np.isfinite(x[:, c]), c]
        assert state["count"][c] == alive.size
        mean, sums = exact_moments(alive)
        assert moments.mean(state)[0][c] == pytest.approx(float(mean), rel=1e-14)
        np.testing.assert_allclose(state["power"][:, c], [float(s) for s in sums], rtol=1e-11)
    assert state["count"][2] == 0
    assert np.isnan(moments.mean(state)[0][2]) and np.isnan(moments.variance(state)[0][2])


def test_skewness_and_kurtosis_are_the_usual_unbiased_ones():
    from scipy import stats

    x = np.random.default_rng(2).gamma(1.3, 1, (40, 2))
    state = fold(moments, x, [9, 21])
    np.testing.assert_allclose(moments.skewness(state)[0], stats.skew(x, bias=False), rtol=1e-12)
    np.testing.assert_allclose(
        moments.kurtosis(state)[0], stats.kurtosis(x, bias=False), rtol=1e-12
    )
    np.testing.assert_allclose(moments.variance(state)[0], x.var(0, ddof=1), rtol=1e-13)


@pytest.mark.parametrize(
    "read", [moments.mean, moments.variance, moments.skewness, moments.kurtosis]
)
@pytest.mark.parametrize("law", ["uniform", "skewed", "two_humps"])
def test_standard_errors_are_the_spread_of_the_estimate(read, law):
    """Over 2000 samples of 1000 the estimates spread as each sample says that they do.

    Bounded laws: high moments of a heavy tail are themselves known late.
    """
    generator = np.random.default_rng(3)
    shape = (1000, 2000)
    x = {
        "uniform": lambda: generator.random(shape),
        "skewed": lambda: generator.beta(1.0, 3.0, shape),
        "two_humps": lambda: generator.beta(3.0, 2.0, shape) + (generator.random(shape) < 0.3),
    }[law]()
    value, error = read(moments.observe(x))
    # The spread of 2000 estimates is known to 1.6 %; 7 % is beyond 4 of that.
    assert np.median(error) == pytest.approx(value.std(), rel=0.07)


def test_moments_of_the_wrong_order_have_no_error_rather_than_a_wrong_one():
    state = moments.observe(np.random.default_rng(0).normal(size=(30, 2)), 2)
    assert np.isfinite(moments.mean(state)[1]).all()
    assert np.isnan(moments.variance(state)[1]).all()


# ------------------------------------------------------------------------ powers


@pytest.mark.parametrize("cuts", [[], [1], [0, 13, 50], [30, 31, 32]])
def test_log_moments_are_exact_where_the_moment_overflows(cuts):
    """E r^s for log r of some thousands is that of log r near 0, shifted."""
    x = np.random.default_rng(4).normal(0, 1, 64)
    x[5] = -np.inf
    orders = (0.5, 1.0, 2.0, 3.7)
    plain = [np.mean(np.exp(s * x)) for s in orders]
    for place in (0.0, 5000.0, -5000.0):
        state = fold(powers, (x + place)[:, None], cuts, orders, merge_arguments=(orders,))
        value, error = powers.log_moment(state, orders)
        expected = np.log(plain) + np.array(orders) * place
        np.testing.assert_allclose(value[:, 0], expected, rtol=1e-11)
        relative = [
            np.std(np.exp(s * x), ddof=1) / 8 / m for s, m in zip(orders, plain, strict=True)
        ]
        np.testing.assert_allclose(error[:, 0], relative, rtol=1e-9)
        size = [np.exp(s * x).sum() ** 2 / np.exp(2 * s * x).sum() for s in orders]
        np.testing.assert_allclose(powers.effective_size(state)[:, 0], size, rtol=1e-9)


def test_effective_size_sees_a_moment_carried_by_one_replica():
    x = np.zeros((1000, 1))
    x[7] = 50.0
    state = powers.observe(x, (2.0,))
    assert powers.effective_size(state)[0, 0] == pytest.approx(1.0)
    even = powers.observe(np.zeros((1000, 1)), (2.0,))
    assert powers.effective_size(even)[0, 0] == 1000.0


def test_the_error_of_a_nearly_constant_quantity_keeps_its_digits():
    """Spreads of 1e-7: sums of squares without centring would have lost all digits."""
    d = 1e-7 * np.random.default_rng(5).normal(size=200)
    state = fold(powers, d[:, None], [77], (1.0,), merge_arguments=((1.0,),))
    _, error = powers.log_moment(state, (1.0,))
    assert error[0, 0] == pytest.approx(d.std(ddof=1) / np.sqrt(200), rel=1e-6)


# --------------------------------------------------------------------- histogram


@pytest.mark.parametrize("cuts", [[], [1], [100, 3000]])
def test_quantiles_are_within_their_bound(cuts):
    """Quantiles of 5000 values are those of the sorted sample to within one bin."""
    generator = np.random.default_rng(6)
    x = np.stack([generator.normal(0, 1, 5000), generator.gamma(0.3, 1e6, 5000)], axis=1)
    bins = histogram.bins_from_pilot(x[:32])
    probabilities = (0.001, 0.05, 0.5, 0.75, 0.999)
    state = fold(histogram, x, cuts, bins)
    value, error, width = histogram.quantiles(state, bins, probabilities)
    exact = np.quantile(x, probabilities, axis=0, method="inverted_cdf")
    assert (np.abs(value - exact) <= width * (1 + 1e-9)).all()
    assert (width > 0).all() and (width[1:4, 0] < 0.06).all()
    # 1.25 / sqrt(n) is the error of the median of a Gaussian.
    assert error[2, 0] == pytest.approx(1.2533 / np.sqrt(5000), rel=0.2)


def test_values_beyond_the_bins_are_counted_and_bounded():
    """A pilot that saw nothing of the tail: quantiles there are wide, and say so."""
    x = np.concatenate([np.zeros(32), np.full(60, 1000.0), [1500.0], np.full(40, -7.0)])[:, None]
    bins = histogram.bins_from_pilot(x[:32])
    state = histogram.observe(x, bins)
    value, _, width = histogram.quantiles(state, bins, (0.1, 0.4, 0.9))
    assert state["counts"][0, -1] == 61 and state["counts"][0, 0] == 40
    assert abs(value[0, 0] + 7) <= width[0, 0] <= 7.01
    assert abs(value[1, 0]) <= width[1, 0] <= 1e-8
    assert abs(value[2, 0] - 1000) <= width[2, 0] and width[2, 0] == pytest.approx(1500)


def test_exact_zeros_come_first():
    x = np.concatenate([np.full(30, -np.inf), np.linspace(1, 2, 70)])[:, None]
    bins = histogram.bins_from_pilot(x[::3])
    value, error, width = histogram.quantiles(
        histogram.observe(x, bins), bins, (0.1, 0.3, 0.31, 0.65, 0.999)
    )
    assert (value[:2, 0] == -np.inf).all() and np.isnan(error[1, 0]) and error[0, 0] == 0.0
    assert value[2, 0] == pytest.approx(1, abs=0.02) and value[3, 0] == pytest.approx(1.5, abs=0.02)
    dead = histogram.observe(x[:30], histogram.bins_from_pilot(x[:30]))
    value, error, width = histogram.quantiles(dead, histogram.bins_from_pilot(x[:30]), (0.5,))
    assert value[0, 0] == -np.inf and error[0, 0] == 0.0 and width[0, 0] == 0.0


def test_bins_are_finer_than_memory_is_large():
    """Ten thousand pairs of inputs must not ask for gigabytes of counts."""
    assert histogram.generic_bins((101, 2)).number == 1024
    many = histogram.generic_bins((101, 4950))
    assert 16 <= many.number and many.number * many.low.size <= 2**23
