"""Closed forms against the truth: all networks enumerated, or the formula of a paper."""

from __future__ import annotations

import doctest
import importlib
import inspect
import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest

from analysis import theory
from analysis.theory import (
    dead_probability,
    displacement_relative_variance,
    expected_dead_layers,
    gradient_displacement_relative_variance,
    gradient_relative_variance,
    log_displacement_mean_square,
    log_fourth_moment,
    log_gradient_displacement_mean_square,
    log_gradient_fourth_moment,
    log_gradient_mean_square,
    log_mean_square,
    relative_variance,
)
from sigprop.activations import LeakyReLU, Linear, RandomisedLeakyReLU
from sigprop.backends.reference import Draws, backward, forward
from sigprop.errors import SpecError, Unsupported
from sigprop.inputs import Given, Pair, Point
from sigprop.laws import Stable, StudentT
from sigprop.schemes import Fixup, GivenScheme, He, NFResNet, Power
from sigprop.spec import Ensemble, Network, WeightLaw
from tests.ensembles import BLOCKS, uneven

FORWARD = (log_mean_square, log_fourth_moment, relative_variance)
GRADIENT = (log_gradient_mean_square, log_gradient_fourth_moment, gradient_relative_variance)
DISPLACEMENT = (log_displacement_mean_square, displacement_relative_variance)
GRADIENT_DISPLACEMENT = (
    log_gradient_displacement_mean_square,
    gradient_displacement_relative_variance,
)
ALL = FORWARD + GRADIENT + DISPLACEMENT + GRADIENT_DISPLACEMENT


@pytest.mark.parametrize("module", ["second_moment", "fourth_moment", "dead"])
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"analysis.theory.{module}"))
    assert found.attempted > 0 and found.failed == 0


def test_every_function_states_its_status():
    for name in theory.__all__:
        member = getattr(theory, name)
        if not inspect.isfunction(member):
            continue  # what a function returns
        text = member.__doc__.lower()
        assert "status" in text and "cost" in text, name
        assert "raises" in text and "examples" in text, name


# ------------------------------------------- every network of a small law, enumerated


@dataclass(frozen=True, kw_only=True)
class Values(WeightLaw):
    """A law on the points -b, -a, a, b, so that all networks of it can be listed."""

    inner: float
    share: float  # probability of -a or a

    kind = "four points"

    @property
    def points(self):
        a, q = self.inner, self.share
        b = math.sqrt((1 - q * a**2) / (1 - q))  # unit variance
        if q == 1:
            return np.array([-1.0, 1.0]), np.array([0.5, 0.5])
        return np.array([-b, -a, a, b]), np.array([1 - q, q, q, 1 - q]) / 2

    @property
    def kurtosis(self):
        x, p = self.points
        return float(p @ x**4)


RADEMACHER, LIGHT, HEAVY = (
    type("Coin", (Values,), {"points": (np.array([-1.0, 1.0]), np.array([0.5, 0.5]))})(
        inner=1.0, share=1.0
    ),
    Values(inner=0.6, share=0.4),
    Values(inner=0.5, share=0.85),
)


# Averages of polynomials up to degree 5 over a Gaussian bias: three nodes are exact.
NODES = np.array([-math.sqrt(3), 0.0, math.sqrt(3)]), np.array([1 / 6, 2 / 3, 1 / 6])


def everything(ensemble):
    """All networks of the ensemble: (weights, biases, probabilities)."""
    network, table = ensemble.network, ensemble.table
    fan_in, fan_out = (f.tolist() for f in network.fans)
    shapes = [list(zip(rows, columns)) for rows, columns in zip(fan_out, fan_in)]
    entries = sum(rows * columns for layer in shapes for rows, columns in layer)
    units = sum(rows for layer in shapes for rows, _ in layer) if table.biased else 0
    axes = [range(len(table.law.points[0]))] * entries + [range(3)] * units
    assert math.prod(map(len, axes)) <= 300_000
    index = np.array(list(itertools.product(*axes)))
    drawn, nodes = index[:, :entries], index[:, entries:]
    flat, shift = table.law.points[0][drawn], NODES[0][nodes]
    probability = table.law.points[1][drawn].prod(axis=1) * NODES[1][nodes].prod(axis=1)
    weights, biases, at, unit = [], [], 0, 0
    for layer, matrices in enumerate(shapes):
        weights.append([])
        biases.append([])
        for j, (rows, columns) in enumerate(matrices):
            entry = flat[:, at : at + rows * columns].reshape(-1, rows, columns)
            weights[-1].append(table.scale[layer, j] * entry)
            at += rows * columns
            bias = shift[:, None, unit : unit + rows] if units else np.zeros((1, 1, rows))
            biases[-1].append(table.bias_scale[layer, j] * bias)
            unit += rows
    return weights, biases, probability


def moments_by_enumeration(ensemble, h_0):
    """Mean second and fourth powers: of h_l, h_l - h_0 given h_0, and of p_l for isotropic p_L."""
    network = ensemble.network
    weights, biases, probability = everything(ensemble)
    count, top = len(probability), int(network.state_widths[-1])
    inputs = np.broadcast_to(h_0, (count, 1, len(h_0)))
    none = [[] for _ in weights]
    signal = forward(ensemble, Draws(inputs, weights, biases, none, np.ones((count, 1, top))))
    unscaled = lambda x, e: np.ldexp(x, e[..., None])[:, 0]  # noqa: E731
    states = [unscaled(*x) for x in zip(signal.states, signal.exponents)]
    jacobians = [[] for _ in states]  # rows: basis vectors at the top
    for basis in np.eye(top):
        draws = Draws(inputs, weights, biases, none, np.broadcast_to(basis, (count, 1, top)))
        for l, x in enumerate(zip(*backward(ensemble, draws, signal.derivatives))):
            jacobians[l].append(unscaled(*x))

    def powers(x):
        square = np.sum(x**2, axis=-1) / np.sum(h_0**2)
        return probability @ square, probability @ square**2

    def traces(jacobian):
        gram = jacobian @ jacobian.swapaxes(1, 2)
        trace = np.trace(gram, axis1=1, axis2=2)
        second = 2 * np.sum(gram**2, axis=(1, 2)) + trace**2
        return probability @ trace / top, probability @ second / (top * (top + 2))

    j = [np.stack(rows, axis=1) for rows in jacobians]
    found = {"state": [powers(h) for h in states], "gradient": [traces(x) for x in j]}
    if network.form.trunk:
        found["displacement"] = [powers(h - h_0) for h in states]
        found["gradient_displacement"] = [traces(x - np.eye(top)) for x in j]
    return {name: np.array(pairs).T for name, pairs in found.items()}


SMALL = {
    "res3": (dict(depth=2, width=2, inner_width=1), Values(inner=0.6, share=0.4)),
    "res3 wide": (dict(depth=1, width=2, inner_width=2), HEAVY),
    "res3 coin": (dict(depth=2, width=2, inner_width=2), RADEMACHER),
    "res3 line": (dict(depth=3, width=1, inner_width=1), HEAVY),
    "inner": (dict(depth=1, width=2, block="inner", inner_width=((1, 2),)), LIGHT),
    "inner coin": (dict(depth=2, width=1, block="inner", inner_width=((2, 2), (1, 3))), RADEMACHER),
    "plain": (dict(depth=3, block="plain", widths=(2, 1, 1, 2)), HEAVY),
    "plain ties": (dict(depth=3, block="plain", widths=(2, 3, 2, 2)), RADEMACHER),
    "res1 linear": (dict(depth=2, width=2, block="res1", activation="linear"), HEAVY),
    "preact linear": (dict(depth=1, width=2, block="preact", activation="linear"), LIGHT),
    "res1 modulus": (
        dict(depth=2, width=2, block="res1", activation=LeakyReLU(slope=-1.0)),
        HEAVY,
    ),
    "res3 leaky": (
        dict(depth=2, width=2, inner_width=1, activation=LeakyReLU(slope=-0.3)),
        LIGHT,
    ),
}


BIASED = {
    "res3": (dict(depth=2, width=2, inner_width=1, activation="linear"), RADEMACHER),
    "res3 line": (dict(depth=2, width=1, inner_width=1, activation="linear"), HEAVY),
    "res1": (dict(depth=2, width=2, block="res1", activation="linear"), RADEMACHER),
    "inner": (dict(depth=1, width=2, block="inner", inner_width=1, activation="linear"), LIGHT),
    "plain": (dict(depth=2, block="plain", widths=(2, 1, 2), activation="linear"), HEAVY),
}


def ensemble_of(case, bias_variance, h_0):
    shape, law = (BIASED if bias_variance else SMALL)[case]
    network = Network(**shape)
    depth, m = network.depth, network.matrices
    variance = np.resize((0.5, 0.78, 0.6, 0.4, 0.7), (depth, m)).tolist()
    scheme = GivenScheme(
        skip=(0.8, -1.1, 0.6)[:depth],
        branch=(0.7, -1.1, 0.5)[:depth],
        variance=tuple(map(tuple, variance)),
        law=law,
        bias_variance=bias_variance,
    )
    return Ensemble(network, scheme, Given(h_0[None, : network.width]))


@pytest.mark.parametrize("case", SMALL)
def test_moments_equal_the_mean_over_all_networks(case):
    """Every weight of every layer listed: equal to rounding, for kurtosis 1, 1.2 and 2.5."""
    h_0 = np.array([1.0, 0.31])  # no sum of signs cancels
    given = ensemble_of(case, 0.0, h_0)
    assert_equal_to_enumeration(given, atoms=case == "plain ties")


@pytest.mark.parametrize("case", BIASED)
def test_moments_with_biases_equal_the_mean_over_all_networks(case):
    """The same with Gaussian biases, where all is polynomial and quadrature is exact."""
    assert_equal_to_enumeration(ensemble_of(case, 0.4, np.array([1.0, 0.31])))


def assert_equal_to_enumeration(given, atoms=False):
    network = given.network
    h_0 = given.inputs.array(network.width)[0]
    found = moments_by_enumeration(given, h_0)

    second, fourth = found["state"]
    np.testing.assert_allclose(np.exp(log_mean_square(given)), second, rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_fourth_moment(given)), fourth, rtol=1e-12)
    second, fourth = found["gradient"]
    # Behind layer 0 atoms let states sit on kinks; there the closed form does not hold.
    sound = slice(0, 1) if atoms else slice(None)
    ours = np.exp([log_gradient_mean_square(given), log_gradient_fourth_moment(given)])
    np.testing.assert_allclose(ours[0][sound], second[sound], rtol=1e-12)
    np.testing.assert_allclose(ours[1][sound], fourth[sound], rtol=1e-12)
    if network.form.trunk:
        for name, mean, variance_of in (
            ("displacement", *DISPLACEMENT),
            ("gradient_displacement", *GRADIENT_DISPLACEMENT),
        ):
            second, fourth = found[name]
            np.testing.assert_allclose(np.exp(mean(given)), second, rtol=1e-12, err_msg=name)
            expected = second**2 * (1 + variance_of(given))
            np.testing.assert_allclose(expected, fourth, rtol=1e-11, err_msg=name)


# ------------------------------------------------------------- formulas of the papers


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_gaussian_fourth_moments_are_the_published_products(slope):
    """E|h'|^4 = (c^4 + 2 c^2 a^2 t mu (d+2) + a^4 t^2 nu d (d+2)) |h|^4, any number of layers."""
    ensemble = uneven("inner", LeakyReLU(slope=slope), width=5)
    d, table, fans = 5, ensemble.table, ensemble.network.fans
    expected, second = [1.0], [1.0]
    for c, a, sigma, n in zip(table.skip, table.branch, table.scale, fans[1][:, :-1]):
        t = np.prod(sigma**2)
        mu_j = n * (1 + slope**2) / 2
        mu = np.prod(mu_j)
        nu = np.prod(mu_j**2 + n * (3 * (1 + slope**4) / 2 - (1 + slope**2) ** 2 / 4))
        expected.append(
            expected[-1]
            * (c**4 + 2 * c**2 * a**2 * t * mu * (d + 2) + a**4 * t**2 * nu * d * (d + 2))
        )
        second.append(second[-1] * (c**2 + a**2 * t * mu * d))
    np.testing.assert_allclose(np.exp(log_mean_square(ensemble)), second, rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_fourth_moment(ensemble)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "depth, width, beta, deviation", [(50, 20, 0.5, 0.28108), (30, 10, 0.25, None)]
)
def test_displacement_variance_is_the_published_one(depth, width, beta, deviation):
    """E D^2 = m4^L - 4 (1 + c a^2 (1 + 2/d))^L + 4 (1 + (M - 1)/d) + 1 + 2M - 4."""
    scheme = GivenScheme(variance=1 / width, branch=float(depth) ** -beta)
    ensemble = Ensemble(Network(depth=depth, width=width), scheme)
    a2, c, d = depth ** (-2 * beta), 0.5, width
    m_4 = 1 + 2 * c * a2 + 4 * c * a2 / d + a2**2 * (1 / 4 + 5 / (4 * d)) * (1 + 2 / d)
    m = (1 + c * a2) ** depth
    mean_square = (
        m_4**depth - 4 * (1 + c * a2 * (1 + 2 / d)) ** depth + 4 * (1 + (m - 1) / d) + 2 * m - 3
    )
    ours = displacement_relative_variance(ensemble)[-1]
    assert np.exp(log_displacement_mean_square(ensemble)[-1]) == pytest.approx(m - 1, rel=1e-12)
    assert ours == pytest.approx(mean_square / (m - 1) ** 2 - 1, rel=1e-9)
    if deviation:
        assert math.sqrt(ours) * (m - 1) == pytest.approx(deviation, abs=1e-5)


@pytest.mark.parametrize("m, width, hidden", [(2, 6, 9), (3, 5, 4)])
def test_he_blocks_have_the_published_fourth_moment(m, width, hidden):
    """r4 = 1 + a^2 kap (2 + 4/N) + a^4 kap^2 (1 + 2/N) prod (1 + 5/Nm), kap = 2."""
    scheme = GivenScheme(variance=2.0, variance_over_fan_in=True, branch=0.7)
    network = Network(depth=1, width=width, block="inner", inner_layers=m, inner_width=hidden)
    kappa, a2 = 2.0, 0.49
    inner = (1 + 5 / hidden) ** (m - 1)
    expected = 1 + a2 * kappa * (2 + 4 / width) + a2**2 * kappa**2 * (1 + 2 / width) * inner
    ensemble = Ensemble(network, scheme, Point())
    assert np.exp(log_fourth_moment(ensemble)[-1]) == pytest.approx(expected, rel=1e-12)


def test_gradients_of_gaussian_nets_have_the_forward_law():
    for block in ("res3", "inner"):
        ensemble = uneven(block, LeakyReLU(slope=0.2))
        backward_net = Ensemble(ensemble.network, ensemble.scheme, Point())
        # Layer by layer the factors are those of the forward pass, from the top down.
        steps = np.diff(log_mean_square(backward_net))
        np.testing.assert_allclose(np.diff(log_gradient_mean_square(ensemble)), -steps, rtol=1e-12)
        total = gradient_relative_variance(ensemble)[0]
        assert total == pytest.approx(relative_variance(ensemble)[-1], rel=1e-12)


def test_the_second_moment_knows_only_the_variance_of_a_weight():
    for f in (log_mean_square, log_gradient_mean_square, log_displacement_mean_square):
        laws = ["gaussian", "uniform", "rademacher", StudentT(dof=2.5)]
        values = [f(uneven("res3", "relu", law=law)) for law in laws]
        for other in values[1:]:
            np.testing.assert_array_equal(other, values[0])
    spread = [
        relative_variance(uneven("res3", "relu", law=law))[-1]
        for law in ("rademacher", "uniform", "gaussian", StudentT(dof=5))
    ]
    assert np.all(np.diff(spread) > 0.05 * spread[0])  # the fourth moment knows more


# --------------------------------------------------------------------- extreme numbers


def test_small_branches_lose_no_digits():
    """Variances of the size 1e-16 against their leading order, known by hand."""
    a, d = 1e-8, 10
    ensemble = Ensemble(Network(depth=3, width=d), GivenScheme(variance=1 / d, branch=a), Point())
    t = 0.5 * a**2
    leading = 3 * 4 * t / d
    for f in (relative_variance, gradient_relative_variance):
        assert f(ensemble)[[0, -1]].max() == pytest.approx(leading, rel=1e-6)
    for f in (log_displacement_mean_square, log_gradient_displacement_mean_square):
        assert np.exp(f(ensemble)[[0, -1]].max()) == pytest.approx(3 * t, rel=1e-6)
    # h - h_0 is then a sum of three independent steps: one step's spread over three.
    one = (1 + 5 / d) * (1 + 2 / d) - 1
    expected = (3 * (1 + one) + 6 * (1 + 2 / d)) / 9 - 1
    for f in (displacement_relative_variance, gradient_displacement_relative_variance):
        assert f(ensemble)[[0, -1]].max() == pytest.approx(expected, rel=1e-6)


def test_depth_does_not_overflow():
    explosive = Ensemble(Network(depth=3000, width=3), Power(beta=0.0), Point())
    shrinking = Ensemble(Network(depth=3000, width=3), GivenScheme(variance=0.1, skip=0.3), Point())
    for ensemble in (explosive, shrinking):
        for f in ALL:
            if f is not gradient_displacement_relative_variance:
                assert not np.isnan(f(ensemble)).any(), f.__name__
    assert np.isfinite(log_fourth_moment(explosive)).all()
    assert np.isfinite(log_gradient_fourth_moment(explosive)).all()
    assert log_mean_square(explosive)[-1] > 800 and log_mean_square(shrinking)[-1] < -800
    # A state that shrank to nothing is at distance |h_0|, surely.
    assert log_displacement_mean_square(shrinking)[-1] == 0
    assert displacement_relative_variance(shrinking)[-1] == 0


def test_a_state_that_shrinks_and_recovers_is_refused():
    n = 400
    scheme = GivenScheme(variance=1e-3, skip=(0.1,) * n + (10.0,) * n)
    with pytest.raises(Unsupported, match="recovers"):
        displacement_relative_variance(Ensemble(Network(depth=2 * n, width=3), scheme, Point()))


def test_fixup_stands_still():
    still = Ensemble(Network(depth=20, width=5), Fixup(), Point())
    assert (log_mean_square(still) == 0).all() and (log_gradient_mean_square(still) == 0).all()
    assert np.isneginf(log_displacement_mean_square(still)).all()
    for f in (relative_variance, gradient_relative_variance, displacement_relative_variance):
        assert (f(still) == 0).all()


def test_a_layer_of_zeros_kills_a_plain_net():
    net = uneven("plain", "relu")
    scheme = GivenScheme(variance=(0.5, 0.4, 0.0, 0.6))
    silent = Ensemble(net.network, scheme, Point())
    assert np.isneginf(log_mean_square(silent)).tolist() == [False, False, False, True, True]
    assert (relative_variance(silent)[3:] == 0).all()


def test_biases_outlive_the_signal():
    """A signal that is lost in biases leaves the moments of the biases alone."""

    def net(skip):
        scheme = GivenScheme(variance=0.05, skip=skip, bias_variance=0.2)
        return Ensemble(Network(depth=60, width=4), scheme, Point())

    lost, kept = (relative_variance(net(skip))[-1] for skip in (1e-3, 1e-200))
    assert lost == pytest.approx(kept, rel=1e-4) and lost > 0.1


def test_the_input_matters_where_it_should():
    vectors = [[1.0, 0, 0, 0], [1.0, 1, 1, 1], [3.0, 1, 2, -1]]
    biased = uneven("res3", "relu", law="uniform", bias_variance=0.4, inputs=Given(vectors))
    values = [log_mean_square(biased, k)[-1] for k in range(3)]
    assert values[0] > values[1] > values[2]  # the same biases against larger inputs
    bare = uneven("res3", "relu", law="uniform", inputs=Given(vectors))
    concentrated, even = (relative_variance(bare, k)[1] for k in range(2))
    assert concentrated < even  # sums of few uniform numbers have light tails
    with pytest.raises(SpecError, match="input"):
        log_mean_square(bare, 3)


# ---------------------------------------------------------------- what it cannot do


@pytest.mark.parametrize("function", ALL, ids=lambda f: f.__name__)
def test_what_has_no_closed_form_is_refused(function):
    cases = {
        "homogeneous": uneven("res3", "tanh"),
        "trunk": uneven("res1", "relu"),
        "row": Ensemble(Network(depth=2, width=4, block="preact"), NFResNet(), Point()),
        "variance": uneven("res3", "relu", law=Stable(stability=1.5)),
    }
    for word, ensemble in cases.items():
        with pytest.raises(Unsupported, match=word):
            function(ensemble)
    heavy = uneven("res3", "relu", law=StudentT(dof=4.0))
    if "mean_square" in function.__name__:
        assert np.isfinite(function(heavy)[2])
    else:
        with pytest.raises(Unsupported, match="fourth moment"):
            function(heavy)
    if "displacement" in function.__name__:
        with pytest.raises(Unsupported, match="unrelated"):
            function(uneven("plain", "relu"))
    if "gradient" in function.__name__:
        kinked = uneven("res3", "relu", law="rademacher", inputs=Given([[1.0, 1.0, 1.0, 1.0]]))
        with pytest.raises(Unsupported, match="kink"):
            function(kinked)
        function(uneven("res3", Linear(), law="rademacher", inputs=Given([[1.0] * 4])))
        with pytest.raises(Unsupported, match="skip"):
            function(Ensemble(Network(depth=2), GivenScheme(variance=1.0, skip=0.0), Pair()))
    if "gradient" in function.__name__ and "displacement" not in function.__name__:
        with pytest.raises(Unsupported, match="kink"):
            function(uneven("plain", "relu", law="rademacher"))


@pytest.mark.parametrize("block", BLOCKS)
def test_linear_nets_are_served_in_every_block(block):
    for f in ALL:
        if block != "plain" or "displacement" not in f.__name__:
            assert np.isfinite(f(uneven(block, "linear", bias_variance=0.1))[2])


def test_random_slopes_enter_by_their_moments():
    narrow = uneven("res3", RandomisedLeakyReLU(low=0.3, high=0.3 + 1e-9))
    fixed = uneven("res3", LeakyReLU(slope=0.3))
    for f in ALL:
        np.testing.assert_allclose(f(narrow), f(fixed), rtol=1e-7)


def test_dead_layers():
    net = Ensemble(Network(depth=5, block="plain", widths=(6, 5, 8, 4, 7, 5)), He(), Point())
    chances = np.concatenate([[0], 1 - np.cumprod([1 - 2.0**-n for n in (5, 8, 4, 7, 5)])])
    np.testing.assert_allclose(dead_probability(net), chances, rtol=1e-13)
    np.testing.assert_allclose(expected_dead_layers(net), np.cumsum(chances), rtol=1e-13)
    inner = uneven("inner", "relu", hidden=(1, 2, 3, 4, 5, 6, 7, 8))
    steps = [1 - (1 - 2.0**-n) * (1 - 2.0 ** -(n + 1)) for n in (1, 3, 5, 7)]
    np.testing.assert_allclose(np.diff(expected_dead_layers(inner)), steps, rtol=1e-12)
    biased = uneven("plain", "relu", bias_variance=0.2)
    rows = biased.network.fans[1][:, 0]
    np.testing.assert_allclose(np.diff(expected_dead_layers(biased)), 0.5**rows, rtol=1e-12)
    for ensemble, word in (
        (biased, "biases"),
        (inner, "plain"),
        (uneven("plain", LeakyReLU(slope=0.1)), "relu"),
        (uneven("plain", "relu", law="rademacher"), "exactly zero"),
    ):
        with pytest.raises(Unsupported, match=word):
            dead_probability(ensemble)
    for ensemble, word in (
        (uneven("res1", "relu"), "trunk"),
        (Ensemble(Network(depth=2), GivenScheme(variance=1.0, skip=0.0), Pair()), "never zero"),
        (Ensemble(Network(depth=2), GivenScheme(variance=((0.0, 1.0),) * 2), Pair()), "dead"),
    ):
        with pytest.raises(Unsupported, match=word):
            expected_dead_layers(ensemble)
