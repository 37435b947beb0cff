"""The reference sampler is what it says: checked where the answer is known exactly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sigprop import rng
from sigprop.activations import LeakyReLU, RandomisedLeakyReLU
from sigprop.backends import reference
from sigprop.backends.base import applicable
from sigprop.backends.reference import Draws, Reference, backward, draw, forward
from sigprop.inputs import Given, Pair, Point
from sigprop.schemes import GivenScheme, He, NFResNet, Power
from sigprop.spec import Ensemble, Network
from sigprop.trace import FIELDS
from tests.ensembles import BLOCKS, uneven


def generators(count):
    return [np.random.default_rng(r) for r in range(count)]


def sample(ensemble, layers, count, first=0, seed=0):
    key = rng.key(seed, ensemble.digest, "reference", 1)
    fields = applicable(ensemble)
    return Reference().sample(ensemble, fields, np.asarray(layers), key, first, count)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("activation", ["relu", LeakyReLU(slope=-0.4), RandomisedLeakyReLU()])
def test_gradient_times_state_is_constant_in_depth(block, activation):
    """Euler: p_l . h_l does not depend on l for homogeneous activations without biases."""
    ensemble = uneven(block, activation)
    trace = sample(ensemble, range(ensemble.network.depth + 1), 32)
    size = np.exp(trace["log_norm"] + trace["log_gradient"])
    invariant = trace["alignment"] * size
    gap = np.abs(invariant - invariant[:, -1:])
    assert np.nanmax(gap / np.maximum(size, size[:, -1:])) < 1e-12
    assert np.isfinite(invariant).mean() > 0.5


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("activation", ["tanh", "silu", "relu", "erf", RandomisedLeakyReLU()])
@pytest.mark.parametrize("biased", [False, True])
def test_gradient_is_the_derivative_of_the_readout(block, activation, biased):
    """p_l . v is the change of p_L . h_L when h_l moves along v, at every l."""
    ensemble = uneven(block, activation, bias_variance=0.3 * biased)
    assert_gradient_is_derivative(ensemble)


def test_gradient_is_the_derivative_of_a_scaled_and_centred_net():
    """NF-ResNet divides what a branch reads by the expected deviation, here up to 1.6."""
    network = Network(depth=5, width=4, block="preact", activation="tanh")
    assert_gradient_is_derivative(Ensemble(network, NFResNet(alpha=0.7), Pair()))


def assert_gradient_is_derivative(ensemble):
    draws = draw(ensemble, generators(8))
    signal = forward(ensemble, draws)
    gradients, exponents = backward(ensemble, draws, signal.derivatives)
    p_0 = np.ldexp(gradients[0], exponents[0][..., None])
    direction = np.random.default_rng(1).standard_normal(draws.inputs.shape)

    def readout(step):
        moved = Draws(
            draws.inputs + step * direction, draws.weights, draws.biases, draws.slopes, draws.top
        )
        end = forward(ensemble, moved)
        h = np.ldexp(end.states[-1], end.exponents[-1][..., None])
        return np.sum(draws.top * h, axis=-1)

    step = 1e-6
    numerical = (readout(step) - readout(-step)) / (2 * step)
    exact = np.sum(p_0 * direction, axis=-1)
    # Central differences: step^2 of curvature, and rounding over step.
    np.testing.assert_allclose(exact, numerical, rtol=1e-6, atol=1e-6 * np.abs(exact).max())


FORMULAS = {
    "plain": lambda f, h, c, a, w, b: a * f(w[0] @ h + b[0]),
    "res1": lambda f, h, c, a, w, b: c * h + a * (w[0] @ f(h) + b[0]),
    "res3": lambda f, h, c, a, w, b: c * h + a * (w[1] @ f(w[0] @ h + b[0]) + b[1]),
    "inner": lambda f, h, c, a, w, b: (
        c * h + a * (w[2] @ f(w[1] @ f(w[0] @ h + b[0]) + b[1]) + b[2])
    ),
    "preact": lambda f, h, c, a, w, b: c * h + a * (w[1] @ f(w[0] @ f(h) + b[0]) + b[1]),
}


@pytest.mark.parametrize("bias_variance", [0.0, 0.3])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_layers_are_the_formulas_of_their_blocks(activation, bias_variance):
    """One step of every block, written out; the second layer reads what the first one left."""
    for block in BLOCKS:
        ensemble = uneven(block, activation, inner_layers=3 if block == "inner" else None)
        scheme = dataclasses.replace(ensemble.scheme, bias_variance=bias_variance)
        ensemble = Ensemble(ensemble.network, scheme, Point())
        phi, table = ensemble.network.phi, ensemble.table
        draws = draw(ensemble, generators(1))
        h = draws.inputs[0, 0]
        for layer in range(2):
            w = [x[0] for x in draws.weights[layer]]
            b = [x[0, 0] for x in draws.biases[layer]]
            h = FORMULAS[block](phi, h, table.skip[layer], table.branch[layer], w, b)
            signal = forward(ensemble, draws)
            state = np.ldexp(signal.states[layer + 1], signal.exponents[layer + 1][..., None])
            np.testing.assert_allclose(state[0, 0], h, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_replica_does_not_depend_on_its_block(block):
    ensemble = uneven(block, "relu", law="uniform")
    layers = [0, 2, 4]
    whole = sample(ensemble, layers, 40)
    for first, count in ((0, 3), (16, 16), (32, 1)):
        part = sample(ensemble, layers, count, first)
        for name, values in part.items():
            np.testing.assert_array_equal(values, whole[name][first : first + count], err_msg=name)
    other = sample(ensemble, layers, 40, seed=1)
    assert not np.any(other["activity"] == whole["activity"], axis=(1, 2)).all()


@pytest.mark.parametrize("block", BLOCKS)
def test_one_network_is_a_row_of_many(block):
    ensemble = uneven(block, "relu")
    many = reference.measure(
        ensemble, draw(ensemble, generators(3)), np.arange(5), applicable(ensemble)
    )
    one = reference.simulate_one(ensemble, generators(3)[2], range(5))
    assert one.keys() == many.keys() == applicable(ensemble)
    for name, values in one.items():
        np.testing.assert_array_equal(values, many[name][2])
        assert values.ndim == 1 + bool(FIELDS[name].axis)


def test_rescaling_changes_no_bit(monkeypatch):
    ensemble = uneven("res3", "relu")
    rescaled = sample(ensemble, range(5), 20)
    plain = lambda x: (x, np.zeros(x.shape[:-1], np.int64))  # noqa: E731
    monkeypatch.setattr(reference, "_rescale", plain)
    for name, values in sample(ensemble, range(5), 20).items():
        np.testing.assert_allclose(values, rescaled[name], rtol=1e-13, atol=1e-13, err_msg=name)


def test_depth_neither_overflows_nor_underflows():
    for scale, sign in ((100.0, 1), (0.001, -1)):
        scheme = GivenScheme(variance=scale, skip=0.01)
        ensemble = Ensemble(Network(depth=400, width=3), scheme, Pair())
        trace = sample(ensemble, [0, 200, 400], 2)
        for name in ("log_norm", "log_gradient", "log_distance"):
            values = trace[name]
            assert np.isfinite(values).all()
            assert (sign * values[:, {"log_gradient": 0}.get(name, -1)] > 700).all()


def test_a_branch_that_adds_nothing_leaves_no_trace():
    """Exact zeros stay exact: the displacement of an untouched state is -inf, not 1e-16."""
    scheme = GivenScheme(variance=((1.0, 0.0),) * 6)
    trace = sample(Ensemble(Network(depth=6, width=5), scheme, Point()), range(7), 9)
    assert np.isneginf(trace["log_displacement"]).all()
    assert np.isneginf(trace["log_gradient_displacement"]).all()
    assert (trace["log_norm"] == 0).all()


def test_inputs_are_as_declared():
    width, cosine = 6, -0.3
    pair = Ensemble(Network(depth=1, width=width), He(), Pair(cosine=cosine))
    h = draw(pair, generators(200)).inputs
    np.testing.assert_allclose(np.sum(h**2, axis=-1), width, rtol=1e-12)
    np.testing.assert_allclose(np.sum(h[:, 0] * h[:, 1], axis=-1), cosine * width, rtol=1e-11)
    # Uniform on the sphere: every coordinate of variance 1 and mean 0, to 6 standard errors.
    assert (h.std(axis=0) > 0.7).all() and (np.abs(h.mean(axis=0)) < 6 / np.sqrt(200)).all()
    vectors = np.arange(1.0, 13.0).reshape(2, 6) ** 2
    given = Ensemble(Network(depth=1, width=width), He(), Given(vectors))
    assert (draw(given, generators(3)).inputs == vectors).all()


def test_weights_are_scaled_and_centred_as_the_table_says():
    ensemble = uneven("inner", "relu", bias_variance=0.7)
    draws = draw(ensemble, generators(3000))
    for layer in range(4):
        for j in range(3):
            w = draws.weights[layer][j]
            assert w.shape[1:] == tuple(f[layer, j] for f in ensemble.network.fans[::-1])
            spread = w.std() / ensemble.table.scale[layer, j]
            assert abs(spread - 1) < 6 / np.sqrt(2 * w.size)  # 6 standard errors
            b = draws.biases[layer][j]
            assert abs(b.std() / np.sqrt(0.7) - 1) < 6 / np.sqrt(2 * b.size)
    centred = Ensemble(Network(depth=2, width=7, block="preact"), NFResNet(), Pair())
    w = draw(centred, generators(4)).weights[1][1]
    assert np.abs(w.sum(axis=-1)).max() < 1e-13 and w.std() > 0.1


def test_dead_layers_are_counted_once_each():
    """Of three branches of two activations the first dies at one, the second at both."""
    ensemble = Ensemble(
        Network(depth=3, width=1, block="inner"), GivenScheme(variance=1.0), Given([[1.0]])
    )
    one, minus = np.ones((1, 1, 1)), -np.ones((1, 1, 1))
    weights = [[one, minus, one], [minus, one, one], [one, one, minus]]
    zero = [[np.zeros((1, 1, 1))] * 3] * 3
    draws = Draws(np.ones((1, 1, 1)), weights, zero, [[], [], []], np.ones((1, 1, 1)))
    trace = reference.measure(ensemble, draws, np.arange(4), applicable(ensemble))
    assert trace["dead"][0, :, 0].tolist() == [0, 1, 2, 2]
    np.testing.assert_array_equal(trace["activity"][0, :, 0], [np.nan, 0.5, 0.0, 1.0])
    np.testing.assert_array_equal(trace["log_norm"][0, :, 0], [0, 0, 0, -np.inf])
    assert np.isneginf(trace["log_gradient"][0, :3, 0]).all()  # p = 1 - 1 in the last branch


def test_a_dead_plain_net_stays_dead():
    net = Ensemble(Network(depth=4, width=2, block="plain"), He(), Pair())
    trace = sample(net, range(5), 200)
    dead = np.isneginf(trace["log_norm"])
    assert 0.5 < dead[:, -1].mean() < 1
    assert (np.diff(dead.astype(int), axis=1) >= 0).all()
    np.testing.assert_array_equal(trace["dead"], np.cumsum(dead, axis=1))
    both = dead.all(axis=-1)
    np.testing.assert_array_equal(np.isnan(trace["effective_rank"]), both)
    np.testing.assert_array_equal(np.isnan(trace["cosine"][..., 0]), dead.any(axis=-1))
    alone = dead.sum(axis=-1) == 1
    np.testing.assert_allclose(trace["effective_rank"][alone], 1.0, rtol=1e-12)
    assert np.isneginf(trace["log_gradient"][:, 0][dead[:, -1]]).all()


def test_a_state_that_dies_leaves_the_others_their_scale():
    """Zero has no scale: distances from it are the norms of the rest, however large."""
    n = 300
    scheme = GivenScheme(variance=1e-9, skip=(1e2,) * n + (0.0,))
    net = Ensemble(Network(depth=n + 1, width=1), scheme, Point())
    trace = sample(net, [0, n, n + 1], 50)
    dead = np.isneginf(trace["log_norm"][:, -1, 0])
    assert 0.2 < dead.mean() < 0.8
    assert (trace["log_norm"][:, 1] > 1000).all()
    assert (trace["log_displacement"][dead, -1] == 0).all()

    # A plain net that passes 1 and not -1, and multiplies by 1000 or divides.
    n = 400
    plain = Network(depth=n, width=1, block="plain")
    net = Ensemble(plain, GivenScheme(variance=1.0), Given([[1.0], [-1.0]]))
    for weight in (1e3, 1e-3):
        weights, zeros = [[np.full((1, 1, 1), weight)]] * n, [[np.zeros((1, 1, 1))]] * n
        inputs = np.array([[[1.0], [-1.0]]])
        draws = Draws(inputs, weights, zeros, [[]] * n, np.ones((1, 1, 1)))
        trace = reference.measure(net, draws, np.array([n]), applicable(net))
        grown = n * np.log(weight)
        assert trace["log_norm"][0, 0, 0] == pytest.approx(grown, rel=1e-12)
        assert trace["log_distance"][0, 0, 0] == pytest.approx(grown - np.log(2), rel=1e-12)
        assert trace["effective_rank"][0, 0] == pytest.approx(1.0, rel=1e-12)


def test_distances_and_ranks_are_those_of_the_states():
    ensemble = uneven("res3", "relu", inputs=Given([[1.0, 2, 0, -1], [0, 1, 1, 3], [1, 3, 1, 2]]))
    draws = draw(ensemble, generators(5))
    signal = forward(ensemble, draws)
    trace = reference.measure(ensemble, draws, np.array([0, 4]), applicable(ensemble))
    h = np.ldexp(signal.states[4], signal.exponents[4][..., None])
    h_0 = draws.inputs
    for pair, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        ratio = np.linalg.norm(h[:, i] - h[:, j], axis=-1)
        ratio /= np.linalg.norm(h_0[:, i] - h_0[:, j], axis=-1)
        np.testing.assert_allclose(np.exp(trace["log_distance"][:, 1, pair]), ratio, rtol=1e-12)
        cosine = np.sum(h[:, i] * h[:, j], axis=-1)
        cosine /= np.linalg.norm(h[:, i], axis=-1) * np.linalg.norm(h[:, j], axis=-1)
        np.testing.assert_allclose(trace["cosine"][:, 1, pair], cosine, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(
        np.exp(trace["log_displacement"][:, 1]),
        np.linalg.norm(h - h_0, axis=-1) / np.linalg.norm(h_0, axis=-1),
        rtol=1e-12,
    )
    values = np.linalg.svd(h, compute_uv=False) ** 2
    share = values / values.sum(axis=-1, keepdims=True)
    share = np.where(share > 1e-14, share, 1.0)
    rank = np.exp(-np.sum(share * np.log(share), axis=-1))
    np.testing.assert_allclose(trace["effective_rank"][:, 1], rank, rtol=1e-10)
    # The third input is the sum of the others: two directions enter.
    assert (trace["effective_rank"][:, 0] < 2).all()


def test_it_says_what_it_cannot_do():
    plain = Ensemble(Network(depth=3, width=4, block="plain"), He(), Point())
    assert "log_displacement" in str(Reference().refusal(plain, frozenset({"log_displacement"})))
    deep = Ensemble(Network(depth=10_000, width=1000), Power(beta=0.5), Point())
    assert "dense" in str(Reference().refusal(deep, frozenset({"log_norm"})))
    assert Reference().refusal(plain, applicable(plain)) is None
