"""Free probability: every number told of the laws, each against another way to it or a network."""

import math

import numpy as np
import pytest
from scipy.stats import binom

import sigprop
from analysis.compare import compare
from analysis.prediction import predict
from analysis.theory.free_probability import Curve, moments, right_edge, spectrum
from analysis.theory.jacobian_spectrum import (
    jacobian_spectrum,
    outer_strength,
    rank_fraction,
    spectral_law,
)
from analysis.theory.spectral_laws import (
    linear_branches,
    plain,
    projection,
    two_matrix,
    universal,
    universal_density,
    universal_edges,
    universal_log_variance,
    universal_moments,
)
from sigprop.activations import Tanh
from sigprop.backends import choose
from sigprop.errors import SpecError, Unsupported
from sigprop.inputs import Point
from sigprop.schemes import GivenScheme, He, Normal, OrthogonalScheme, Power, Risotto
from sigprop.spec import Ensemble, Network
from tests.stat import ALPHA, assert_agrees


def spread(curve):
    first, second = moments(curve, 2)
    return second / first**2 - 1


# ------------------------------------------------------------------- universal


@pytest.mark.parametrize("c", [0.3, 1.0, 2.7])
def test_the_universal_law_four_ways(c):
    """Closed moments, edges, variance and density agree with those of the curve z(y)."""
    curve, closed = universal(c), universal_density(c, 4001)
    np.testing.assert_allclose(moments(curve, 6), universal_moments(c, 6), rtol=1e-11)
    assert universal_moments(c, 2)[1] / math.exp(2 * c) == pytest.approx(1 + 2 * c, rel=1e-14)
    low, high = universal_edges(c)
    assert right_edge(curve)[1] / 2 == pytest.approx(float(high), abs=1e-13)
    assert closed.edges == pytest.approx((float(low), float(high)), abs=1e-13)
    lam = np.exp(2 * closed.logs)
    assert np.trapezoid(closed.density, closed.logs) == pytest.approx(1.0, abs=1e-6)
    assert np.trapezoid(lam * closed.density, closed.logs) == pytest.approx(math.exp(c), rel=1e-6)
    assert closed.variance == pytest.approx(float(universal_log_variance(c)), abs=1e-6)
    assert closed.mean == pytest.approx(0.0, abs=1e-13)  # lambda -> 1 / lambda changes nothing
    followed = spectrum(curve)
    middle = np.linspace(0.98 * float(low), 0.98 * float(high), 400)
    np.testing.assert_allclose(followed.at(middle), closed.at(middle), rtol=2e-3)
    assert followed.variance == pytest.approx(closed.variance, rel=1e-3)


def test_the_edges_that_were_published():
    """c = 1: singular values from .2177 to 4.593; c = 2: from .1007 to 9.930."""
    for c, low, high in ((1.0, 0.2177, 4.593), (2.0, 0.1007, 9.930)):
        found = np.exp(universal_edges(c))
        np.testing.assert_allclose(found, [low, high], rtol=3e-4)


def test_a_deep_network_has_the_universal_law():
    """Width 400, depth 200, c = 1: KS distance below .01, variance within 3%.

    Values of one network repel each other: its distance is .003 or so and changes by .001 from
    network to network, so that chance passes .01 with less than 1e-6.
    """
    depth = 200
    law = Ensemble(
        Network(depth=depth, width=400), GivenScheme(branch=math.sqrt(2 / depth), variance=1 / 400),
        Point(),
    )  # fmt: skip
    sampler = choose("jacobian", law, frozenset({"log_singular"}))
    key = np.array([1, 2], np.uint32)
    drawn = sampler.sample(law, frozenset({"log_singular"}), np.array([depth]), key, 0, 1)
    logs = np.sort(drawn["log_singular"].ravel())
    below = universal_density(1.0).distribution(logs)
    rank = np.arange(1, 401) / 400
    assert np.maximum(np.abs(below - rank), np.abs(below - rank + 1 / 400)).max() < 0.01
    assert logs.var() == pytest.approx(1 / 2 + 1 / 12, rel=0.03)


def test_an_activation_outside_the_weights():
    """tanh with L sigma_w^2 = 8: c = 4.602, variance of ln sigma 4.066, measured as 4.057."""
    c = outer_strength(Tanh(), 200, 8 / 200)
    assert c == pytest.approx(4.602, abs=5e-4)
    assert float(universal_log_variance(c)) == pytest.approx(4.066, abs=1e-3)


# ----------------------------------------------------------------- finite depth


def test_linear_branches_of_any_depth():
    for depth, s2 in ((1, 0.5), (4, 0.7), (30, 0.02)):
        curve = linear_branches(depth, s2)
        assert moments(curve, 1)[0] == pytest.approx((1 + s2) ** depth, rel=1e-11)
        expected = depth * s2 * (2 + s2) / (1 + s2) ** 2
        assert spread(curve) == pytest.approx(expected, rel=1e-10)
    # Many small ones: the universal law.
    np.testing.assert_allclose(
        moments(linear_branches(4000, 1 / 4000), 4), universal_moments(1.0, 4), rtol=4e-3
    )


def test_branches_of_two_matrices_have_the_moments_that_were_told():
    """L = 4, He: 7.11; L = 3, s^2 = .8, r = 2: 4.44; L = 2, s^2 = 2, r = 1/2: 2.67."""
    for depth, s2, r, told in ((4, 2.0, 1.0, 7.11), (3, 0.8, 2.0, 4.44), (2, 2.0, 0.5, 2.67)):
        found = spread(two_matrix(depth, s2, r))
        assert found == pytest.approx(told, abs=6e-3)
        exact = depth * (2 * s2 + (1 + 2 * r) * s2**2) / (1 + s2) ** 2
        assert found == pytest.approx(exact, rel=1e-9)
    curve = two_matrix(3, 0.6, 2.0)
    first, second, third = moments(curve, 3)
    assert (round(second, 1), round(third), round(first, 3)) == (75.8, 2230, 4.096)
    assert math.exp(right_edge(curve)[1]) == pytest.approx(54.1, abs=0.05)
    law = spectrum(curve)
    lam = np.exp(2 * law.logs)
    assert np.trapezoid(law.density, law.logs) == pytest.approx(1.0, abs=1e-4)
    assert np.trapezoid(lam**2 * law.density, law.logs) == pytest.approx(second, rel=1e-3)


def test_plain_networks_have_the_moments_and_edges_that_were_told():
    """2L and L for Gaussian and orthogonal ReLU nets; largest value 5.222 at L = 5."""
    for depth in (1, 3, 9):
        assert spread(plain(depth)) == pytest.approx(2 * depth, rel=1e-9)
        assert spread(plain(depth, orthogonal=True)) == pytest.approx(depth, rel=1e-9)
    assert math.exp(right_edge(plain(5))[1] / 2) == pytest.approx(5.222, abs=1e-3)
    y = np.geomspace(1e-4, 1e3, 200_001)
    for depth in (2, 7):
        gaussian = np.min((1 + y) * (1 + 2 * y) ** depth / y)
        assert math.exp(right_edge(plain(depth))[1]) == pytest.approx(gaussian, rel=1e-6)
        haar = np.min((1 + y) / y * ((1 + 2 * y) / (1 + y)) ** depth)
        found = math.exp(right_edge(plain(depth, orthogonal=True))[1])
        assert found == pytest.approx(haar, rel=1e-6)
        linear = math.exp(right_edge(plain(depth, slope=1.0, variance=1.0))[1])
        assert linear == pytest.approx((depth + 1) ** (depth + 1) / depth**depth, rel=1e-9)
    for curve in (plain(4), plain(4, orthogonal=True), plain(4, slope=0.3)):
        law = spectrum(curve)
        assert np.trapezoid(law.density, law.logs) == pytest.approx(1 - curve.atom, abs=1e-4)
        lam = np.exp(2 * law.logs)
        assert np.trapezoid(lam * law.density, law.logs) == pytest.approx(
            moments(curve, 1)[0], rel=1e-3
        )


def test_type_c_has_the_moments_that_were_told():
    """r = 1, L = 4: 8, 10, 16; r = 2, L = 3, alpha^2 = .7: 11.9; r = 3/7, L = 3, a = 1: 8.57."""
    cases = ((4, 0.0, 1.0, 8), (4, 0.5, 1.0, 10), (4, 1.0, 1.0, 16))
    cases += ((3, 0.7, 2.0, 11.88), (3, 1.0, 3 / 7, 8.571))
    for depth, share, r, told in cases:
        curve = projection(depth, math.sqrt(share), math.sqrt(1 - share), r)
        assert spread(curve) == pytest.approx(told, abs=6e-4)
        law = spectrum(curve)
        assert np.trapezoid(law.density, law.logs) == pytest.approx(1 - curve.atom, abs=1e-4)
    m = moments(projection(2, math.sqrt(0.6), math.sqrt(0.4), 2.0), 3)
    np.testing.assert_allclose(m, [1.0, 7.88, 89.33], rtol=1e-4)


def test_a_gap_in_the_spectrum_is_said_and_not_skipped():
    with pytest.raises(Unsupported, match="a gap or a pole"):
        spectrum(two_matrix(1, 0.5, 2.0))
    with pytest.raises(SpecError, match="strength"):
        two_matrix(3, 0.0)
    with pytest.raises(SpecError, match="20, got 21"):
        moments(Curve(lambda y: np.log((1 + y) / y)), 21)


# ------------------------------------------------------- laws against networks


@pytest.mark.parametrize(
    "ensemble",
    [
        Ensemble(Network(depth=3, width=120, inner_width=60), He(), Point()),
        Ensemble(Network(depth=3, width=120, block="plain"), He(), Point()),
        Ensemble(Network(depth=3, width=120, block="plain"), OrthogonalScheme(), Point()),
        Ensemble(Network(depth=2, width=120, block="projection"), Normal(alpha=0.8), Point()),
        Ensemble(
            Network(depth=2, width=120, block="projection", inner_width=60, input_width=90),
            Normal(alpha=0.8),
            Point(),
        ),
    ],
    ids=["two-matrix", "plain", "orthogonal", "projection", "projection, stem"],
)
def test_the_measured_density_is_that_of_free_probability(ensemble):
    """Distribution functions at 7 places: what is left is the bias O(1/N), below .012 at 120.

    5 standard errors between networks: alpha is 4e-6 for all places of one case together.
    """
    law, depth, replicas = jacobian_spectrum(ensemble), ensemble.network.depth, 40
    kept = sigprop.simulate(
        ensemble, "spectrum", replicas=replicas, workers=1, seed=5, layers=[depth], keep=[depth]
    ).replica_log_singular.values[:, 0]
    places = np.linspace(math.log(0.3), law.edges[1] - 0.1, 7)  # below, finite rank cuts the tail
    shares = (kept[:, :, None] <= places).mean(axis=1)
    se = shares.std(axis=0, ddof=1) / math.sqrt(replicas)
    gap = shares.mean(axis=0) - law.distribution(places)
    assert se.max() < 0.006  # so that an error of .05 anywhere would be seen
    assert (np.abs(gap) < 0.012 + 5 * se).all(), gap


def test_the_mean_square_singular_value_is_exact_at_any_width():
    """Width 6, 5 and 7 hidden units: E of the mean of sigma^2 (T2), to 3%, alpha 1e-6."""
    ensemble = Ensemble(
        Network(depth=3, width=6, inner_width=(5, 7, 4)),
        GivenScheme(branch=(0.7, -0.8, 0.5), skip=(0.9, 1.1, -0.8), variance=(0.3,) * 3),
        Point(),
    )
    replicas = 3000
    result = sigprop.simulate(
        ensemble, "spectrum", replicas=replicas, orders=[2.0], layers=[1, 2, 3], seed=1
    )
    prediction = predict(ensemble, [1, 2, 3], variables=["singular_moment_log"])
    truth = prediction.singular_moment_log.sel(order=2.0).values
    found = result.singular_moment_log.sel(order=2.0).values
    se = result.singular_moment_log_se.sel(order=2.0).values
    assert_agrees(found, truth, se, resolution=0.17)


def test_the_share_of_zeros_is_the_law_of_the_least_of_binomials():
    ensemble = Ensemble(Network(depth=3, block="plain", widths=(5, 7, 4, 6)), He(), Point())
    mean, deviation = rank_fraction(ensemble)
    # By enumeration, which knows nothing of survival functions.
    law = {5: 1.0}
    for layer, n in ((1, 7), (2, 4), (3, 6)):
        new = {}
        for rank, p in law.items():
            for k in range(n + 1):
                new[min(rank, k)] = new.get(min(rank, k), 0.0) + p * binom.pmf(k, n, 0.5)
        law, count = new, min(5, n)
        first = sum(r * p for r, p in law.items())
        second = sum(r * r * p for r, p in law.items())
        assert mean[layer] == pytest.approx(1 - first / count, rel=1e-12)
        assert deviation[layer] == pytest.approx(math.sqrt(second - first**2) / count, rel=1e-12)
    replicas = 2500
    result = sigprop.simulate(ensemble, "spectrum", replicas=replicas, layers=[1, 2, 3])
    se = deviation[1:] / math.sqrt(replicas)
    assert_agrees(result.singular_zero_fraction.values, mean[1:], se, resolution=0.05)


def test_compare_judges_a_spectrum():
    """What is measured agrees with the limits, and a wrong law would not (family error 1e-6)."""
    ensemble = Ensemble(Network(depth=16, width=40), Power(beta=0.5), Point())
    result = sigprop.simulate(ensemble, "spectrum", replicas=60, layers=[4, 16], workers=1)
    verdict = compare(result, family_error=ALPHA)
    found = {row.variable: row.verdict for row in verdict.comparisons}
    for name in ("mean", "variance", "largest", "smallest"):
        assert found[f"log_singular_{name}"] == "agree", verdict
    assert found["singular_zero_fraction"] == "agree"
    other = Ensemble(Network(depth=16, width=40), Power(beta=0.4), Point())
    wrong = predict(other, [4, 16], variables=[str(name) for name in result.data_vars])
    rows = compare(result, wrong, family_error=ALPHA).comparisons
    judged = {row.variable: row.verdict for row in rows}
    assert judged["log_singular_variance"] == "disagree"
    assert judged["log_singular_largest"] == "disagree"


def test_an_isometry_is_predicted_exactly_and_judged():
    ensemble = Ensemble(Network(depth=30, width=12, block="identity"), Risotto())
    result = sigprop.simulate(ensemble, "spectrum", replicas=30, layers=[30], workers=1)
    rows = {row.variable: row for row in compare(result).comparisons}
    assert rows["log_singular_condition"].status == "exact"
    assert all(row.verdict == "agree" for row in rows.values())


def test_what_no_law_is_known_of_is_refused_in_words():
    network = Network(depth=3, width=10)
    for ensemble, words in (
        (Ensemble(network, He(skip=0.0)), "skip coefficients"),
        (Ensemble(Network(depth=3, width=10, block="inner"), He()), "many small branches"),
        (Ensemble(Network(depth=3, width=10, block="identity"), He()), "masks persist"),
        (Ensemble(Network(depth=3, block="plain", widths=(4, 6, 6, 4)), He()), "one width"),
        (Ensemble(network, He(law="orthogonal")), "independent weights"),
    ):
        with pytest.raises(Unsupported, match=words):
            spectral_law(ensemble)
