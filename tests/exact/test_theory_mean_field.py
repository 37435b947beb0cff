"""The mean-field oracle: closed forms, the reference contours of the heat map, simulation."""

import doctest
import importlib

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import gammaln

import sigprop
from analysis.theory.mean_field import mean_field, mean_field_arrays
from sigprop import Ensemble, Network, Point, Power
from sigprop.errors import SpecError, Unsupported
from sigprop.inputs import Equiangular
from sigprop.processes import (
    FractionalGaussianNoise,
    GivenCovariance,
    Hermite,
    Independent,
    LegacyFractionalGaussianNoise,
    Rbf,
    Tied,
)
from sigprop.schemes import GivenScheme


def critical(depth, beta, process, **network):
    network = {"width": 40, **network}
    return Ensemble(Network(depth=depth, **network), Power(beta=beta, process=process), Point())


def test_examples_in_the_text_are_right():
    found = doctest.testmod(importlib.import_module("analysis.theory.mean_field"))
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize("activation", ["relu", "linear", sigprop.activations.LeakyReLU(slope=0.3)])
def test_independent_layers_multiply(activation):
    """Where layers are independent the recursion is the exact product, layer by layer."""
    scheme = GivenScheme(
        skip=(0.8, 1.2, 0.9, 1.1), branch=(0.5, -0.7, 0.3, 0.9),
        variance=((0.2, 0.3), (0.25, 0.4), (0.15, 0.35), (0.3, 0.2)),
    )  # fmt: skip
    law = Ensemble(Network(depth=4, width=5, inner_width=7, activation=activation), scheme, Point())
    from analysis import theory

    found = mean_field(law)
    for name in (
        "log_mean_square", "log_displacement_mean_square", "log_gradient_mean_square",
        "log_gradient_displacement_mean_square",
    ):  # fmt: skip
        np.testing.assert_allclose(getattr(found, name), getattr(theory, name)(law), rtol=1e-12)


def test_tied_linear_layers_give_the_bessel_function():
    """h_L = (1 + V / L)^L h_0, whose mean square is sum_k (binom(L, k) / L^k)^2, to I_0(2)."""
    depth = 2000
    law = critical(depth, 1.0, Tied(), block="res1", activation="linear")
    ratio = np.cumprod(
        np.concatenate([[1.0], (depth - np.arange(depth)) / (1 + np.arange(depth)) / depth])
    )
    exact = np.log((ratio**2).sum())
    assert mean_field(law).log_mean_square[-1] == pytest.approx(exact, rel=1e-12)
    assert exact == pytest.approx(np.log(np.i0(2.0)), rel=1e-3)


def plain(a, kv, kw, depth):
    """The double sums of the definition, one by one."""
    c, q = np.ones((depth + 1, depth + 1)), np.ones((depth + 1, depth + 1))
    for k in range(depth):
        for l in range(k + 1):
            total, tangent = 0.0, 0.0
            for i in range(k + 1):
                for j in range(l + 1):
                    size = np.sqrt(c[i, i] * c[j, j])
                    r = np.clip(kw[i, j] * c[i, j] / size, -1, 1)
                    kappa = (np.sqrt(1 - r * r) + (np.pi - np.arccos(r)) * r) / (2 * np.pi)
                    total += a[i] * a[j] * kv[i, j] * size * kappa
                    derivative = 0.25 + np.arcsin(r) / (2 * np.pi)
                    tangent += a[i] * a[j] * kv[i, j] * kw[i, j] * q[i, j] * derivative
            c[k + 1, l + 1] = c[l + 1, k + 1] = 1 + total
            q[k + 1, l + 1] = q[l + 1, k + 1] = 1 + tangent
    return np.log(np.diag(c)), np.log(np.diag(q))


def test_the_recursion_is_the_double_sum():
    """Uneven coefficients and covariances that are not stationary, against the definition."""
    depth = 7
    generator = np.random.default_rng(3)
    a = generator.normal(0.0, 0.8, depth)
    outer, inner = (
        np.cov(generator.standard_normal((depth, 3 * depth))) for _ in range(2)
    )  # fmt: skip
    inner /= np.sqrt(np.outer(np.diag(inner), np.diag(inner)))
    log_c, log_q = plain(a, outer, inner, depth)
    found = mean_field_arrays(a, outer, inner)
    np.testing.assert_allclose(found.log_mean_square, log_c, rtol=1e-10, atol=1e-12)
    assert found.log_gradient_mean_square[0] == pytest.approx(log_q[-1], rel=1e-10)
    # The variance of the inner matrix is a factor of the branch.
    deviation = generator.uniform(0.5, 2.0, depth)
    scaled = mean_field_arrays(a / deviation, outer, inner * np.outer(deviation, deviation))
    np.testing.assert_allclose(scaled.log_mean_square, found.log_mean_square, rtol=1e-10)
    np.testing.assert_allclose(
        scaled.log_gradient_mean_square, found.log_gradient_mean_square, rtol=1e-10
    )


def test_a_gradient_at_a_layer_is_that_of_the_net_above():
    """Of a stationary process, the net above layer l has the covariance of a shorter net.

    Its states differ, since they start at h_l; with linear units the gradient does not see them.
    """
    law = critical(30, 0.8, FractionalGaussianNoise(hurst=0.8), activation="linear")
    short = Ensemble(
        Network(depth=18, width=40, activation="linear"),
        Power(beta=0.8 * np.log(30) / np.log(18), process=FractionalGaussianNoise(hurst=0.8)),
        Point(),
    )
    above = mean_field(law).log_gradient_mean_square[12]
    assert above == pytest.approx(mean_field(short).log_gradient_mean_square[0], rel=1e-10)


def by_restarts(a, kv, kw, slope):
    """Extended precision, every gradient by a recursion begun at its layer.

    Returns C - 1, R - 1 and the mean square of h_L - h_l over that of h_l.
    """
    a, kv, kw = (np.asarray(x, np.longdouble) for x in (a, kv, kw))
    depth, pi = len(a), np.longdouble("3.14159265358979323846264338328")
    d = np.zeros((depth + 1, depth + 1), np.longdouble)  # C - 1
    push = np.zeros((depth, depth), np.longdouble)
    for k in range(depth):
        for l in range(k + 1):
            size = np.sqrt((1 + d[k, k]) * (1 + d[l, l]))
            r = np.longdouble(1) if k == l else kw[k, l] * (1 + d[k, l]) / size
            angle = np.arcsin(r)
            value = slope * r + (1 - slope) ** 2 * (
                (np.sqrt((1 - r) * (1 + r)) + (pi / 2 + angle) * r) / (2 * pi)
            )
            push[k, l] = (
                a[k]
                * a[l]
                * kv[k, l]
                * kw[k, l]
                * (slope + (1 - slope) ** 2 * (0.25 + angle / (2 * pi)))
            )
            push[l, k] = push[k, l]
            term = a[k] * a[l] * kv[k, l] * size * value
            d[k + 1, l + 1] = d[l + 1, k + 1] = d[k, l + 1] + d[k + 1, l] - d[k, l] + term
    gradient = np.zeros(depth + 1, np.longdouble)
    for start in range(depth):
        q = np.zeros((depth + 1, depth + 1), np.longdouble)
        for k in range(start, depth):
            for l in range(start, depth):
                term = push[k, l] * (1 + q[k, l])
                q[k + 1, l + 1] = q[k, l + 1] + q[k + 1, l] - q[k, l] + term
        gradient[start] = q[depth, depth]
    rest = (d[depth, depth] - 2 * d[depth] + np.diag(d)) / (1 + np.diag(d))
    return np.diag(d), gradient, rest


@pytest.mark.parametrize("slope", [0.0, 0.3, -1.0, 1.0])
@pytest.mark.parametrize("size", [1e-4, 0.3, 40.0])
@pytest.mark.parametrize("kind", ["fgn", "tied", "given", "res1"])
def test_every_layer_is_that_of_extended_precision(kind, size, slope):
    """States, gradients and displacements at all layers, tiny (1e-9) and huge (e^120).

    Gradients on and beside the diagonal are where an arc sine at 1 loses its digits.
    """
    depth, width = 20, 7
    generator = np.random.default_rng(5)
    a = size * generator.uniform(0.5, 1.5, depth) * generator.choice([-1.0, 1.0], depth)
    outer = inner = FractionalGaussianNoise(hurst=0.9).covariance(depth)
    if kind == "tied":
        outer = inner = np.ones((depth, depth))
    elif kind in ("given", "res1"):
        outer, inner = (np.corrcoef(generator.standard_normal((depth, 25))) for _ in range(2))
        outer = outer * np.outer(*2 * [generator.uniform(0.5, 2.0, depth)])
    d, q, rest = by_restarts(a, outer, np.ones_like(inner) if kind == "res1" else inner, slope)

    given = None if kind == "res1" else inner
    found = mean_field_arrays(a, outer, given, negative_slope=slope)
    wide = mean_field_arrays(a, outer, given, negative_slope=slope, width=width)

    def logs(x):
        with np.errstate(divide="ignore"):
            return np.log(x).astype(float)

    refined = ((width - 1) * (1 + q) + (1 + d[-1]) / (1 + d)) / width
    moved = ((width - 1) * q + rest) / width
    close = {"rtol": 1e-13, "atol": 1e-10 if size < 1e-3 else 1e-12}
    for field, displacement in (("log", d), ("log_gradient", q)):
        got = getattr(found, f"{field}_mean_square")
        expected = np.log1p(displacement).astype(float)
        atol = 1e-20 if size < 1e-3 else 1e-14
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=atol)
        got = getattr(found, f"{field}_displacement_mean_square")
        np.testing.assert_allclose(got, logs(displacement), **close)
    np.testing.assert_allclose(wide.log_gradient_mean_square, logs(refined), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(wide.log_gradient_displacement_mean_square, logs(moved), **close)
    assert wide.log_gradient_displacement_mean_square[0] == pytest.approx(
        found.gradient_displacement_at_width(width), rel=1e-12
    )


@pytest.mark.parametrize("hurst", [0.2, 0.9])
def test_gradients_do_not_depend_on_the_room_they_are_given(hurst):
    """With little room rows are computed again, in 7 segments; the numbers are the same."""
    lags = FractionalGaussianNoise(hurst=hurst).autocovariance(101)
    a = np.full(101, 1.3)
    whole = mean_field_arrays(a, lags, lags)
    for covariance in (lags, FractionalGaussianNoise(hurst=hurst).covariance(101)):
        found = mean_field_arrays(a, covariance, covariance, room=1)
        np.testing.assert_array_equal(
            found.log_gradient_mean_square, whole.log_gradient_mean_square
        )
        np.testing.assert_array_equal(
            found.log_displacement_mean_square, whole.log_displacement_mean_square
        )


def test_the_width_of_a_network_refines_its_gradients():
    """Euler's identity: one direction in d grows as the state does."""
    law = critical(30, 0.6, FractionalGaussianNoise(hurst=0.9), width=5)
    limit, refined = mean_field(law), mean_field(law, finite_width=True)
    share = np.exp([limit.log_gradient_mean_square[0], limit.log_mean_square[-1]])
    expected = np.log(0.8 * share[0] + 0.2 * share[1])
    assert refined.log_gradient_mean_square[0] == pytest.approx(expected, rel=1e-12)
    assert refined.log_gradient_displacement_mean_square[0] == pytest.approx(
        limit.gradient_displacement_at_width(5), rel=1e-12
    )
    np.testing.assert_array_equal(refined.log_mean_square, limit.log_mean_square)


def test_a_gradient_may_be_left_out():
    found = mean_field(critical(30, 0.5, Tied()), gradient=False)
    whole = mean_field(critical(30, 0.5, Tied()))
    np.testing.assert_array_equal(found.log_mean_square, whole.log_mean_square)
    assert np.isnan(found.log_gradient_mean_square).all()


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_growth_beyond_every_float_keeps_gradients(activation):
    """A tied linear net at beta = 0: binom(2k, k) at every layer, up to e^8300."""
    depth = 6000
    law = critical(depth, 0.0, Tied(), block="res1", activation=activation)
    found = mean_field(law)
    if activation == "linear":
        k = np.arange(depth + 1)
        exact = gammaln(2 * k + 1) - 2 * gammaln(k + 1)
        np.testing.assert_allclose(found.log_mean_square, exact, rtol=1e-12)
        np.testing.assert_allclose(found.log_gradient_mean_square[::-1], exact, rtol=1e-12)
    assert (np.diff(found.log_mean_square) > 0.4).all()
    assert (np.diff(found.log_gradient_mean_square) < -0.4).all()
    assert found.log_gradient_mean_square[0] > 3000


CONTOUR = {  # hurst: beta where the displacement is as long as the state, forward and backward
    0.05: (0.466, 0.486), 0.2: (0.460, 0.483), 0.35: (0.457, 0.479), 0.5: (0.476, 0.476),
    0.6: (0.525, 0.479), 0.7: (0.604, 0.499), 0.8: (0.700, 0.576), 0.9: (0.814, 0.736),
    0.97: (0.913, 0.882),
}  # fmt: skip


@pytest.mark.parametrize("hurst", CONTOUR)
def test_the_contour_of_the_heat_map(hurst):
    """At depth 1000, to the three digits of the reference."""
    process = FractionalGaussianNoise(hurst=hurst)
    forward, backward = CONTOUR[hurst]

    def displacement(beta):
        return mean_field(critical(1000, beta, process)).log_displacement_mean_square[-1]

    def gradient(beta):
        found = mean_field(critical(1000, beta, process))
        return found.log_gradient_displacement_mean_square[0]

    assert brentq(displacement, 0.3, 1.1, xtol=1e-4) == pytest.approx(forward, abs=1e-3)
    assert brentq(gradient, 0.3, 1.1, xtol=1e-4) == pytest.approx(backward, abs=1e-3)


@pytest.mark.parametrize("hurst, beta", [(0.05, 0.192), (0.2, 0.229), (0.35, 0.337), (0.5, 0.476)])
def test_the_contour_of_one_matrix(hurst, beta):
    law = critical(1000, beta, FractionalGaussianNoise(hurst=hurst), block="res1")
    assert mean_field(law).log_displacement_mean_square[-1] == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(
    "process, beta, width",
    [
        (FractionalGaussianNoise(hurst=0.1), 0.5, 40),
        (FractionalGaussianNoise(hurst=0.8), 0.7, 80),
        (Rbf(bandwidth=0.1), 1.0, 80),
        (LegacyFractionalGaussianNoise(hurst=0.95), 0.9, 80),
    ],
    ids=["rough", "smooth noise", "smooth", "published noise"],
)
def test_simulation_agrees(process, beta, width):
    """At width d to O(1 / d): 3 / d is allowed, beside chance at one in 10^5.

    Half of a covariance's variance, or a lag more or less, moves the result by a third.
    """
    depth = 60
    law = Ensemble(
        Network(depth=depth, width=width), Power(beta=beta, process=process),
        Equiangular(count=8, cosine=0.0),
    )  # fmt: skip
    result = sigprop.simulate(
        law, ["displacement", "gradient"], replicas=150, layers=[0, depth], keep=[0, depth],
        orders=[2.0],
    )  # fmt: skip
    predicted = mean_field(law)
    for field, layer, expected in (
        ("log_displacement", depth, predicted.log_displacement_mean_square[-1]),
        ("log_gradient_displacement", 0, predicted.gradient_displacement_at_width(width)),
    ):
        squares = np.exp(2 * result[f"replica_{field}"].sel(kept_layer=layer).values).mean(axis=1)
        error = squares.std(ddof=1) / np.sqrt(len(squares))
        assert abs(squares.mean() - np.exp(expected)) < 4.4 * error + 3 / width * np.exp(expected)
        assert error < 0.06 * np.exp(expected)


def test_nothing_overflows():
    """beta = 0: a growth of e^500 at depth 1000, and the same by independent layers exactly."""
    rough = mean_field(critical(1000, 0.0, FractionalGaussianNoise(hurst=0.7)))
    assert 500 < rough.log_mean_square[-1] < 600
    assert np.isfinite(rough.log_gradient_mean_square).all()
    independent = mean_field(critical(1000, 0.0, Independent()))
    assert independent.log_mean_square[-1] == pytest.approx(1000 * np.log(1.5), rel=1e-12)


def test_small_displacements_keep_their_digits():
    """beta = 4: E|h - h_0|^2 is about 5e-22 and known to rounding."""
    law = critical(1000, 4.0, Independent())
    expected = np.log(np.expm1(1000 * np.log1p(0.5 * 1000.0**-8)))
    assert mean_field(law).log_displacement_mean_square[-1] == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    "law, words",
    [
        (lambda: critical(4, 0.5, Tied(), activation="tanh"), "tanh"),
        (lambda: critical(4, 0.5, Tied(), block="inner"), "inner"),
        (lambda: critical(4, 0.5, Hermite(rank=2, decay=0.2)), "hermite"),
        (
            lambda: Ensemble(
                Network(depth=4, width=5), Power(beta=0.5, bias_variance=0.1), Point()
            ),
            "biases",
        ),
        (lambda: Ensemble(Network(depth=4, width=5), Power(beta=0.5, skip=-1.0)), "skip"),
    ],
)
def test_what_does_not_close_is_refused(law, words):
    with pytest.raises(Unsupported, match=words):
        mean_field(law())


def test_a_hermite_process_may_stand_outside():
    scheme = Power(beta=0.5, process=Hermite(rank=2, decay=0.2), inner_process=Independent())
    law = Ensemble(Network(depth=4, width=5), scheme)
    alike = GivenCovariance(matrix=Hermite(rank=2, decay=0.2).covariance(4).tolist())
    same = Ensemble(
        Network(depth=4, width=5),
        Power(beta=0.5, process=alike, inner_process=Independent()),
    )
    np.testing.assert_allclose(
        mean_field(law).log_mean_square, mean_field(same).log_mean_square, rtol=1e-12
    )


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(SpecError, match="outer has shape"):
        mean_field_arrays(np.ones(3), np.ones(4))
    with pytest.raises(SpecError, match="variance"):
        mean_field_arrays(np.ones(3), np.zeros(3))
