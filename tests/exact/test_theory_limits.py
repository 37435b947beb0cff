"""Limits of depth: laws of coupled weights, regimes, equations, and what papers derive of them."""

from __future__ import annotations

import doctest
import importlib
import json
import math

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp
from scipy.stats import chi2

from analysis.theory import (
    commutation_rate,
    decreasing_log_mean_square,
    driver_exponent,
    driver_variance,
    geometric_log_norm,
    infinite_width_gram,
    kernel_ode,
    limit_equation,
    linear_strong_mean_square,
    log_mean_square,
    measured_order,
    outer_activation_drift,
    outer_activation_limit,
    outer_activation_mean_field,
    outer_activation_mean_square,
    outer_activation_volatility,
    quasi_geometric_drift,
    quasi_geometric_log_mean,
    regime,
    scaling_exponent,
    stable_log_mean_square,
    weak_limit,
)
from sigprop.activations import LeakyReLU, Linear, RandomisedLeakyReLU, ReLU, Tanh
from sigprop.coupling import coupled_weights, strong_error
from sigprop.errors import SpecError, Unsupported
from sigprop.gaussian import expectation, product_expectation
from sigprop.inputs import Given, Pair, Point
from sigprop.laws import StudentT
from sigprop.processes import (
    Cauchy,
    FractionalGaussianNoise,
    Hermite,
    Matern,
    Rbf,
    Tied,
)
from sigprop.schemes import Fixup, GivenScheme, He, Power, ReZero, StableResNet
from sigprop.spec import Ensemble, Network, Process
from tests.stat import ALPHA

MODULES = (
    "analysis.theory.limits",
    "analysis.theory.finite_width",
    "analysis.theory.wide_kernels",
    "analysis.theory.outer_activation",
    "analysis.theory.stable_resnet",
    "analysis.theory.long_memory",
    "sigprop.coupling",
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0 and found.failed == 0


def power(beta, block="res1", depth=64, width=8, activation="tanh", **scheme):
    network = Network(depth=depth, width=width, block=block, activation=activation)
    return Ensemble(network, Power(beta=beta, **scheme), Point())


# ---------------------------------------------------------------------- coupled weights

COUPLED = [
    Process.named("independent"),
    *(FractionalGaussianNoise(hurst=h) for h in (0.5, 0.6, 0.8, 0.97)),
    Rbf(bandwidth=0.1),
    Matern(smoothness=1.5, bandwidth=0.3),
    Tied(),
]


@pytest.mark.parametrize("process", COUPLED, ids=lambda p: p.kind)
@pytest.mark.parametrize("depth", [1, 3, 12, 48])
def test_weights_read_off_a_finer_path_have_the_law_of_their_own_depth(process, depth):
    """Paths are linear in their normals, so the covariance is known without a draw."""
    fine = 48
    paths = process.paths(np.eye(process.draws(fine)), fine)
    factor = coupled_weights(paths, process, depth)
    np.testing.assert_allclose(factor.T @ factor, process.covariance(depth), atol=2e-12)


def test_a_smooth_path_is_read_where_a_layer_ends_and_increments_add_up():
    path = np.arange(1.0, 9.0)  # at t = 1/8 .. 1
    assert coupled_weights(path, Rbf(bandwidth=0.1), 2).tolist() == [4.0, 8.0]
    assert coupled_weights(path, Process.named("independent"), 2).tolist() == [5.0, 13.0]


def test_linear_networks_of_two_depths_differ_by_products_of_increments():
    # One coarse step against two fine ones: (1 + y)(1 + x) - (1 + x + y) = x y, variances 1/2.
    assert math.isclose(linear_strong_mean_square(1, 2)[-1], 1 / 4, rel_tol=1e-14)
    assert linear_strong_mean_square(10, 10) == pytest.approx(0.0, abs=1e-15)
    fine, limit = linear_strong_mean_square(100, 10**9)[-1], linear_strong_mean_square(100)[-1]
    assert math.isclose(fine, limit, rel_tol=1e-6) and math.isclose(
        limit, math.e - 1.01**100, rel_tol=1e-10
    )
    with pytest.raises(SpecError, match="multiple"):
        linear_strong_mean_square(10, 25)


# --------------------------------------------------------------------- measured orders


def synthetic(order, orthogonal, noise, replicas=200, depths=(8, 16, 32, 64), fine=256):
    """A result whose errors follow the law that is fitted, times random factors."""
    q = 2 if orthogonal else 1
    depth = np.array(depths, float)
    law = 0.3 * (depth ** (-q * order) - fine ** (-q * order)) ** (1 / q)
    process = {} if orthogonal else {"process": Rbf(bandwidth=0.1)}
    return xr.Dataset(
        {"replica_error": (("replica", "depth", "input"), (law * noise)[..., None])},
        {"depth": np.array(depths)},
        {
            "schema": "sigprop-coupling",
            "fine_depth": fine,
            "ensemble": json.dumps(power(0.5, **process).to_dict()),
        },
    )


@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize("order", [0.2, 0.5, 1.0])
def test_an_order_is_found_and_a_factor_common_to_all_depths_does_no_harm(order, orthogonal):
    common = np.exp(np.random.default_rng(1).normal(size=(200, 1)) * np.ones(4))
    fit = measured_order(synthetic(order, orthogonal, common))
    assert abs(fit.order - order) < 1e-7 and fit.order_se < 1e-7 and fit.worst < 1e-9
    assert math.isclose(fit.log_constant, math.log(0.3 * common.mean()), rel_tol=1e-6)


def test_the_standard_error_of_an_order_is_the_deviation_of_orders():
    generator = np.random.default_rng(2)
    runs = 300
    fits = []
    for _ in range(runs):
        shared, own = generator.normal(size=(200, 1)), generator.normal(size=(200, 4))
        noise = np.exp(0.5 * shared + [0.2, 0.2, 0.4, 0.8] * own - [0.02, 0.02, 0.08, 0.32])
        fits.append(measured_order(synthetic(0.5, True, noise)))
    z = [(fit.order - 0.5) / fit.order_se for fit in fits]
    # A variance of normal numbers: chi-square, both sides with ALPHA / 2. It sees 0.6 and 1.5.
    low, high = chi2.ppf([ALPHA / 2, 1 - ALPHA / 2], runs) / runs
    assert 0.6 < low < np.mean(np.square(z)) < high < 1.5


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda r: r.assign_attrs(schema="other"), "strong_error"),
        (lambda r: r.isel(depth=[0, 1]), "at least 3 depths"),
        (lambda r: r.isel(replica=range(5)), "10 replicas"),
        (lambda r: r * 0, "exactly 0"),
        (lambda r: r.assign(replica_error=r.replica_error * 0 + 1), "does not vary"),
    ],
)
def test_what_has_no_order_is_refused(change, words):
    result = synthetic(0.5, True, np.random.default_rng(3).uniform(1, 2, (200, 4)))
    attrs = result.attrs
    changed = change(result)
    changed.attrs = changed.attrs or attrs
    with pytest.raises(SpecError, match=words):
        measured_order(changed)
    with pytest.raises(SpecError, match="input 1"):
        measured_order(result, input=1)
    with pytest.raises(SpecError, match="moment"):
        measured_order(result, moment=3)


# --------------------------------------------------------------- coupled runs, refused


@pytest.mark.parametrize(
    "ensemble, depths, error, words",
    [
        (power(0.5), [4, 24], SpecError, "depth 24 does not fit"),
        (power(0.5), [4, 64], SpecError, "depth 64 does not fit"),
        (power(0.5), [4], SpecError, "at least two"),
        (power(0.5), [4, 4], SpecError, "at least two"),
        (power(1.0), [4, 8], SpecError, r"beta=0\.5"),
        (power(0.5, process=Tied()), [4, 8], SpecError, "beta=1"),
        (power(0.5, skip=0.9), [4, 8], SpecError, "skip 1"),
        (power(0.5, "res3"), [4, 8], Unsupported, "inside an activation"),
        (power(0.5, law="uniform"), [4, 8], Unsupported, "uniform"),
        (power(0.5, bias_variance=0.1), [4, 8], Unsupported, "biases"),
        (power(0.8, process=Cauchy(decay=0.4)), [4, 8], Unsupported, "cauchy"),
        (power(0.3, process=FractionalGaussianNoise(hurst=0.3)), [4, 8], Unsupported, "1/2"),
        (power(0.5, activation=RandomisedLeakyReLU()), [4, 8], Unsupported, "slopes"),
        (Ensemble(Network(depth=64, block="plain"), He()), [4, 8], Unsupported, "trunk"),
    ],
)
def test_networks_that_share_no_path_are_refused(ensemble, depths, error, words):
    with pytest.raises(error, match=words):
        strong_error(ensemble, depths, replicas=10)


# ---------------------------------------------------------------------------- regimes

FGN = FractionalGaussianNoise


@pytest.mark.parametrize(
    "process, inner, block, quantity, critical",
    [
        ("independent", None, "res3", "forward", 0.5),
        ("independent", Rbf(bandwidth=0.1), "res3", "backward", 0.5),
        (Rbf(bandwidth=0.1), None, "res3", "forward", 1.0),
        (Matern(smoothness=2.5, bandwidth=0.1), None, "res1", "backward", 1.0),
        (Tied(), None, "res3", "forward", 1.0),
        (FGN(hurst=0.8), None, "res3", "forward", 0.8),
        (FGN(hurst=0.8), None, "res3", "backward", 0.6),
        (FGN(hurst=0.7), None, "res3", "backward", 0.5),
        (FGN(hurst=0.3), None, "res3", "forward", 0.5),
        (FGN(hurst=0.8), None, "res1", "backward", 0.8),
        (FGN(hurst=0.3), None, "res1", "forward", 0.3),
        (FGN(hurst=0.1), None, "res1", "forward", 0.25),
        (FGN(hurst=0.8), Rbf(bandwidth=0.1), "res3", "backward", 0.8),
        (Hermite(rank=2, decay=0.25), None, "res1", "forward", 0.75),
        (Cauchy(decay=0.6), None, "res1", "forward", 0.7),
        (Cauchy(decay=1.5), None, "res1", "forward", 0.5),
    ],
)
def test_a_regime_is_named_by_its_side_of_the_critical_exponent(
    process, inner, block, quantity, critical
):
    for shift, name in ((-0.1, "explosion"), (0.0, "stable"), (0.1, "identity")):
        law = power(critical + shift, block, process=process, inner_process=inner)
        found = regime(law, quantity)
        assert found.name == name
        assert math.isclose(found.critical_exponent, critical, rel_tol=1e-12)
        assert math.isclose(found.exponent, critical + shift, rel_tol=1e-12)


def test_what_is_not_proved_is_called_a_conjecture():
    smooth = {"process": Rbf(bandwidth=0.1)}
    assert regime(power(0.5)).status == "limit"
    assert regime(power(1.0, **smooth)).status == "limit"
    assert regime(power(0.9, **smooth)).status == "conjecture"
    memory = {"process": Hermite(rank=2, decay=0.25)}
    assert regime(power(0.8, **memory)).status == "limit"
    assert regime(power(0.7, **memory)).status == "conjecture"
    assert regime(power(0.9, "res3", process=FGN(hurst=0.8))).status == "conjecture"


def test_the_exponent_of_a_scheme_is_that_of_its_branches():
    network = Network(depth=30, width=5)
    assert scaling_exponent(Ensemble(network, StableResNet())) == pytest.approx(0.5)
    assert scaling_exponent(Ensemble(network, He())) == 0.0
    assert scaling_exponent(Ensemble(network, ReZero())) == math.inf
    assert regime(Ensemble(network, Fixup())).name == "identity"  # its last matrix is zero
    for scheme in (StableResNet(form="decreasing"), GivenScheme(variance=(1.0,) * 30)):
        with pytest.raises(Unsupported, match="depth"):
            scaling_exponent(Ensemble(network, scheme))
    with pytest.raises(Unsupported, match="trunk"):
        scaling_exponent(Ensemble(Network(depth=3, width=5, block="plain"), He()))
    mixed = power(0.8, "res3", process=FGN(hurst=0.8), inner_process=FGN(hurst=0.6))
    with pytest.raises(Unsupported, match="no critical exponent"):
        regime(mixed)
    with pytest.raises(SpecError, match="quantity"):
        regime(power(0.5), "sideways")


@pytest.mark.parametrize(
    "law, equation, order",
    [
        (power(0.5), "dH = d^-1/2 dB phi(H)", 0.5),
        (power(0.5, "res3"), "dH = (c/d)^1/2 |H| dw, c = E phi(Z)^2", math.nan),
        (
            power(0.5, "res3", inner_process=Tied()),
            "dH = d^-1/2 dB phi(d^-1/2 W(t) H)",
            0.5,
        ),
        (power(1.0, process=Tied()), "dH = d^-1/2 V(t) phi(H) dt", 1.0),
        (
            power(1.0, process=Matern(smoothness=0.5, bandwidth=0.1)),
            "dH = d^-1/2 V(t) phi(H) dt",
            math.nan,
        ),
        (power(0.8, process=FGN(hurst=0.8)), "dH = d^-1/2 dB^H phi(H)", 0.6),
        (power(0.75, process=Hermite(rank=2, decay=0.25)), "dH = gamma d^-1/2 dZ phi(H)", math.nan),
        (power(0.7), "dH = 0", 0.2),
    ],
)
def test_the_limit_is_the_equation_of_its_weights(law, equation, order):
    found = limit_equation(law)
    assert found.equation == equation
    np.testing.assert_allclose(found.order, order, rtol=1e-12)
    assert found.sense == ("weak" if "gamma" in equation or "c/d" in equation else "strong")


def test_an_explosion_and_rough_inner_weights_have_no_equation():
    with pytest.raises(Unsupported, match="explode"):
        limit_equation(power(0.4))
    with pytest.raises(Unsupported, match="inside the activation"):
        limit_equation(power(0.8, "res3", process=FGN(hurst=0.8)))
    with pytest.raises(Unsupported, match="variance 1 / width"):
        limit_equation(Ensemble(Network(depth=8, width=5, block="res1"), StableResNet()))


def test_the_diffusion_has_the_mean_square_of_deep_networks():
    for block, activation in (("res1", "linear"), ("res3", "relu"), ("res3", LeakyReLU(slope=0.5))):
        law = power(0.5, block, depth=4000, activation=activation)
        gap = weak_limit(law).log_mean_square - log_mean_square(law)
        gain = weak_limit(law).clock[-1]
        # log(1 + t) = t - t^2/2 a layer
        np.testing.assert_allclose(gap[-1], gain**2 / 2 / 4000, rtol=1e-3)


def test_laws_that_are_no_geometric_brownian_motion_are_refused():
    for law in (
        power(0.5, activation="relu"),
        power(0.5, "res3", activation="relu", process=Tied()),
        power(0.5, "res3", activation="relu", bias_variance=1.0),
        power(0.5, "res3", activation="relu", skip=0.9),
    ):
        with pytest.raises(Unsupported):
            weak_limit(law)


# ------------------------------------------------------------------------ finite width


def test_the_mean_logarithm_of_deep_relu_networks_changes_sign_after_width_3():
    assert quasi_geometric_log_mean(3) < 0 < quasi_geometric_log_mean(4)
    # The start of the expansion is the drift at a random input with a unit on: E N, n = 2.
    assert math.isclose(quasi_geometric_log_mean(2, 1e-9) * 1e9, 1 / 3 - 1 / 2, rel_tol=1e-4)
    assert abs(quasi_geometric_log_mean(10**4) - 1 / 4) < 2e-4
    for width, time in ((1, 1.0), (4, 1.5)):
        with pytest.raises(SpecError):
            quasi_geometric_log_mean(width, time)
    # All units on: the drift is that of a linear network.
    assert quasi_geometric_drift(5, 5) == pytest.approx(geometric_log_norm(5)[0], rel=1e-15)
    with pytest.raises(SpecError, match="at most"):
        quasi_geometric_drift(6, 5)


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0, -1.0])
def test_products_of_leaky_units_are_those_of_quadrature(slope):
    phi = LeakyReLU(slope=slope) if slope not in (0.0, 1.0) else (ReLU(), Linear())[int(slope)]
    gram = np.array([[1.3, -0.6], [-0.6, 0.9]])
    law = power(0.0, depth=1, activation=phi)
    added = infinite_width_gram(law, gram)[1] - gram
    for i, j in ((0, 0), (0, 1)):
        expected = product_expectation(
            phi,
            phi,
            correlation=gram[i, j] / math.sqrt(gram[i, i] * gram[j, j]),
            variances=(gram[i, i], gram[j, j]),
            kinks=((0.0,), (0.0,)),
        )
        assert added[i, j] == pytest.approx(expected.value, abs=1e-10)


def test_the_diagonal_of_the_gram_matrix_is_the_exact_mean_square_of_res3():
    network = Network(depth=5, width=7, inner_width=9)
    scheme = GivenScheme(
        branch=(0.3, -1.0, 0.5, 2.0, 0.1),
        skip=(1.0, 0.9, -0.5, 1.0, 1.0),
        variance=((0.1, 0.2), (0.3, 0.1), (0.2, 0.2), (0.1, 0.5), (0.3, 0.3)),
        bias_variance=0.2,
    )
    law = Ensemble(network, scheme, Pair(cosine=-0.3))
    gram = infinite_width_gram(law)
    np.testing.assert_allclose(np.log(gram[:, 0, 0]), log_mean_square(law), rtol=1e-12)
    given = Ensemble(network, scheme, Given(np.ones((1, 7))))
    np.testing.assert_allclose(infinite_width_gram(given)[:, 0, 0], gram[:, 0, 0], rtol=1e-12)


@pytest.mark.parametrize("activation", [ReLU(), Tanh()])
def test_deep_kernels_meet_their_differential_equation_at_rate_one_over_depth(activation):
    start = np.array([[1.0, 0.2], [0.2, 0.7]])
    limit = kernel_ode(activation, start)
    gaps = []
    for depth in (8, 16):
        law = power(0.5, depth=depth, activation=activation)
        gaps.append(np.abs(infinite_width_gram(law, start)[-1] - limit).max())
    assert gaps[0] < 0.05 and 1.8 < gaps[0] / gaps[1] < 2.2


def test_the_cosine_of_relu_kernels_obeys_its_own_equation():
    def slope(t, r):
        r = np.minimum(r, 1.0)
        return ((r * np.arcsin(r) + np.sqrt(1 - r**2)) / np.pi + r / 2 - r) / 2

    alone = solve_ivp(slope, (0, 1), [0.2], rtol=1e-10, atol=1e-12).y[0, -1]
    whole = kernel_ode(ReLU(), np.array([[4.0, 0.4], [0.4, 1.0]]))  # of unlike norms
    assert whole[0, 1] / math.sqrt(whole[0, 0] * whole[1, 1]) == pytest.approx(alone, abs=1e-7)
    assert whole[0, 0] == pytest.approx(4 * math.exp(0.5), rel=1e-7)
    assert kernel_ode(ReLU(), np.eye(2), 0.0).tolist() == np.eye(2).tolist()


@pytest.mark.parametrize(
    "law, error",
    [
        (power(0.5, law=StudentT(dof=1.5)), Unsupported),
        (power(0.5, process=Tied()), Unsupported),
        (power(0.5, activation=RandomisedLeakyReLU()), Unsupported),
        (
            Ensemble(Network(depth=3, width=2, block="res1"), Power(beta=0.5), Given([[1.0, 2.0]])),
            Unsupported,
        ),
    ],
)
def test_ensembles_without_a_gaussian_kernel_are_refused(law, error):
    with pytest.raises(error):
        infinite_width_gram(law)


@pytest.mark.parametrize(
    "gram", [[[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.1], [0.2, 1.0]], [1.0], [[0.0]]]
)
def test_what_is_no_gram_matrix_is_refused(gram):
    with pytest.raises(SpecError, match="gram"):
        kernel_ode(ReLU(), np.array(gram))


def test_the_rate_at_which_width_and_depth_commute_is_symmetric():
    assert commutation_rate(100, 25) == commutation_rate(25, 100) == pytest.approx(0.3)


# ------------------------------------------------------------ branches ending in activations


@pytest.mark.parametrize("phi, slope, curvature", [
    (np.tanh, 1.0, 0.0),
    (lambda u: np.expm1(u) / 2, 0.5, 0.5),
    (lambda u: np.logaddexp(0, u) - math.log(2), 0.5, 0.25),
])  # fmt: skip
def test_one_step_of_a_network_has_the_drift_and_volatility_of_the_equation(phi, slope, curvature):
    """Mean and variance of phi(A h + b), exactly, by quadrature; they meet at rate 1/L."""
    generator = np.random.default_rng(0)
    h, weights, biases = (generator.normal(size=s) for s in (3, (3, 3), 3))
    noise = {"weight_variance": 1.7, "bias_variance": 0.4}
    drift = outer_activation_drift(h, weights, biases, slope=slope, curvature=curvature, **noise)
    volatility = outer_activation_volatility(h, slope=slope, **noise)
    for depth in (10**3, 10**4):
        mean = (weights @ h + biases) / depth
        variance = (0.4 + 1.7 * h @ h / 3) / depth
        for i in range(3):
            first = expectation(phi, mean=mean[i], variance=variance).value
            second = expectation(lambda u: phi(u) ** 2, mean=mean[i], variance=variance).value
            assert abs(first * depth - drift[i]) < 60 / depth
            assert abs((second - first**2) * depth - volatility**2) < 60 / depth


@pytest.mark.parametrize("a, b, kind", [
    (1.0, 0.0, "neural ODE"), (0.5, 0.5, "linear ODE"), (0.0, 1.0, "linear ODE"),
])  # fmt: skip
def test_smooth_weights_have_the_limit_that_their_exponents_name(a, b, kind):
    assert outer_activation_limit(a, b, noisy=False) == kind
    generator = np.random.default_rng(1)
    weights, biases = generator.normal(size=(2, 3, 3)), generator.normal(size=(2, 3))

    def at(t):
        return weights[0] + t * weights[1], biases[0] + t * biases[1]

    def equation(t, h):
        if kind == "neural ODE":
            return np.tanh(at(t)[0] @ h + at(t)[1])
        return outer_activation_drift(h, *at(t), slope=1.0, curvature=0.0)

    start = np.array([0.3, -0.2, 0.5])
    limit = solve_ivp(equation, (0, 1), start, rtol=1e-10, atol=1e-12).y[:, -1]
    gaps = []
    for depth in (2000, 4000):
        h = start
        for k in range(depth):
            A, c = at(k / depth)
            h = h + depth**-a * np.tanh(depth**-b * (A @ h + c))
        gaps.append(np.abs(h - limit).max())
    assert gaps[1] < 0.02 and 1.7 < gaps[0] / gaps[1] < 2.3


@pytest.mark.parametrize("a, b, noisy", [(0.0, 0.5, False), (1.0, 0.0, True), (1.0, 1.0, False)])
def test_exponents_without_a_limit_are_refused(a, b, noisy):
    assert outer_activation_limit(0.0, 1.0, noisy=True) == "SDE"
    with pytest.raises(Unsupported, match="no limit"):
        outer_activation_limit(a, b, noisy=noisy)


@pytest.mark.parametrize(
    "law",
    [
        (1.0, 1.0, 0.5, 0.5, 1.0, 0.5),
        (0.2, 1.5, 1.0, -0.7, 2.0, 0.1),
        (-1.0, 1.0, 0.3, -1.0, 0.5, 3.0),
        (0.0, 1.0, 1.0, 0.0, 1.3, 0.4),
        (0.5, 1.0, 0.8, 0.6, 0.0, 0.9),
        (-2.0, 4.0, 0.5, 1.0, 1.0, 0.0),  # a mean that is pulled to rest
    ],
)
def test_the_mean_field_of_outer_activations_solves_its_equations(law):
    mean, square, slope, curvature, w, b = law

    def equations(t, y):
        rate = b + w * y[1]
        return [curvature / 2 * rate, (curvature * y[0] + slope**2) * rate]

    exact = solve_ivp(equations, (0, 0.6), [mean, square], rtol=1e-11, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(outer_activation_mean_field(*law, time=0.6), exact, rtol=1e-8)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("b", [0.0, 5.0])
def test_a_curved_activation_may_reach_infinity_in_finite_time(b, sign):
    law = (sign * 1.0, 1.0, 0.7, sign * 1.5, 1.0, b)

    def escape(t, y):
        return abs(y[0]) - 1e8

    escape.terminal = True

    def equations(t, y):
        rate = b + y[1]
        return [law[3] / 2 * rate, (law[3] * y[0] + 0.49) * rate]

    blow_up = solve_ivp(equations, (0, 9), law[:2], rtol=1e-10, events=escape).t[-1]
    assert abs(outer_activation_mean_field(*law, time=blow_up * (1 - 1e-6))[0]) > 1e4
    for late in (1 + 1e-6, 2.0, 50.0):
        with pytest.raises(Unsupported, match="infinity"):
            outer_activation_mean_field(*law, time=blow_up * late)


def test_the_mean_square_without_curvature_is_exponential():
    found = outer_activation_mean_square(
        2.0, slope=0.5, weight_variance=3.0, bias_variance=0.6, time=0.8
    )
    assert found == pytest.approx(2.2 * math.exp(0.25 * 3 * 0.8) - 0.2, rel=1e-14)
    with pytest.raises(SpecError, match="mean_square"):
        outer_activation_mean_field(2.0, 1.0, 1.0, 0.0, 1.0)


# ------------------------------------------------------ varying branches and long memory


def test_a_product_over_branches_is_stable_if_their_squares_have_a_bounded_sum():
    depths = (10**2, 10**4, 10**6)
    for depth in depths:
        l = np.arange(1, depth + 1.0)
        uniform = stable_log_mean_square(np.full(depth, depth**-0.5), 0.5)[-1]
        decreasing = stable_log_mean_square(1 / (np.sqrt(l) * np.log1p(l)), 0.5)[-1]
        unscaled = stable_log_mean_square(np.ones(depth), 0.5)[-1]
        assert uniform == pytest.approx(0.5 - 0.125 / depth, abs=0.05 / depth**2 + 1e-9)
        assert unscaled == pytest.approx(depth * math.log(1.5), rel=1e-9)
        # What is left beyond the depth: the integral of 0.5 / (l log^2 l), by the middle rule.
        left = 0.5 / math.log(depth + 1.5)
        assert decreasing + left == pytest.approx(decreasing_log_mean_square(0.5), abs=1 / depth)
    assert decreasing + left == pytest.approx(decreasing_log_mean_square(0.5), abs=1e-7)
    with pytest.raises(SpecError, match="branches"):
        stable_log_mean_square([[1.0]])


@pytest.mark.parametrize("rank, decay", [(1, 0.3), (1, 0.6), (2, 0.2), (3, 0.15)])
def test_sums_of_weights_with_long_memory_grow_like_their_driver(rank, decay):
    hurst, process = driver_exponent(rank, decay), Hermite(rank=rank, decay=decay)
    gaps = []
    for depth in (10**5, 10**6):
        lags = np.arange(1.0, depth)
        rho = (1 + lags) ** (-rank * decay)  # as the process has it, see below
        sums = depth + 2 * np.sum((depth - lags) * rho)
        gaps.append(sums / depth ** (2 * hurst) / driver_variance(rank, decay) - 1)
    np.testing.assert_allclose(process.autocovariance(9)[1:], rho[:8], rtol=1e-12)
    # It falls like L^-(2H - 1), so one step of extrapolation leaves little.
    factor = 10 ** (2 * hurst - 1)
    assert abs((factor * gaps[1] - gaps[0]) / (factor - 1)) < 1e-3 < 0.2 > abs(gaps[1])


def test_short_memory_has_no_driver():
    assert driver_variance(2, 0.25, coefficient=1.0) == pytest.approx(16 / 3, rel=1e-14)
    for rank, decay in ((1, 1.0), (4, 0.25)):
        with pytest.raises(Unsupported, match="independent"):
            driver_exponent(rank, decay)
    with pytest.raises(SpecError):
        driver_exponent(0, 0.1)
