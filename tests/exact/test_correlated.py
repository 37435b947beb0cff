"""Dense sampling of weights that depend on each other along depth: identities and promises."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import sigprop
from sigprop import Ensemble, Network, Pair, Point
from sigprop.backends import applicable, correlated
from sigprop.backends.numba_cpu import Dense
from sigprop.errors import Unsupported
from sigprop.inputs import Given
from sigprop.processes import FractionalGaussianNoise, GivenCovariance, Independent, Rbf, Tied
from sigprop.schemes import GivenScheme
from tests.stat import assert_agrees

DEPTH = 20
KEY = np.array([7, 9], np.uint32)
ROUGH, SMOOTH = FractionalGaussianNoise(hurst=0.3), Rbf(bandwidth=0.2)


def law(block="res3", activation="relu", *, inputs=None, branch=0.4, **options):
    scheme = GivenScheme(
        skip=0.9, branch=branch, variance=0.7, process=ROUGH, inner_process=SMOOTH, **options
    )
    width = {"plain": {}, "res1": {}}.get(block, {"inner_width": 5})
    network = Network(depth=DEPTH, width=6, block=block, activation=activation, **width)
    return Ensemble(network, scheme, Pair(cosine=0.3) if inputs is None else inputs)


def draw(*ensembles, first=0, count=5, layers=None):
    layers = np.arange(DEPTH + 1) if layers is None else np.array(layers)
    fields = applicable(ensembles[0])
    return correlated.sample(ensembles, fields, layers, KEY, first, count)


def assert_bits(one, other):
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


BLOCKS = ("plain", "res1", "res3", "inner", "preact")


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "linear"])
def test_gradient_times_state_is_constant(block, activation):
    """Euler: p_l . h_l does not depend on l, to 1e-12 of |p||h|."""
    (trace,) = draw(law(block, activation))
    size = np.exp(trace["log_norm"] + trace["log_gradient"])
    invariant = trace["alignment"] * size
    gap = np.abs(invariant - invariant[:, -1:]) / np.maximum(size, size[:, -1:])
    assert np.nanmax(gap) < 1e-12
    assert np.isfinite(invariant).mean() > 0.5


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_company_does_not_matter(block, activation):
    """Ensembles that share a draw of the weights have the numbers that each has alone."""
    ensembles = [
        law(block, activation, branch=b, bias_variance=0.1) for b in (0.1, 0.4, -0.7)
    ]  # fmt: skip
    for found, ensemble in zip(draw(*ensembles), ensembles, strict=True):
        (alone,) = draw(ensemble)
        for name in alone:
            np.testing.assert_allclose(
                found[name], alone[name], rtol=1e-8, atol=1e-9, equal_nan=True, err_msg=name
            )


def test_scales_that_differ_are_told_apart():
    """Twice the variance of V is sqrt(2) times the branch."""
    one, other = (
        Ensemble(
            Network(depth=DEPTH, width=6),
            GivenScheme(branch=branch, variance=variance, process=ROUGH),
            Point(),
        )
        for branch, variance in (
            (0.4 * 2**0.5, ((0.7, 0.7),) * DEPTH),
            (0.4, ((0.7, 1.4),) * DEPTH),
        )
    )
    first, second = draw(one, other)
    np.testing.assert_allclose(first["log_norm"], second["log_norm"], atol=1e-12)
    np.testing.assert_allclose(first["log_gradient"], second["log_gradient"], atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_memory_does_not_matter(activation, monkeypatch):
    ensemble = law("inner", activation, bias_variance=0.2)
    (whole,) = draw(ensemble)
    monkeypatch.setattr(correlated, "_TAPE_BYTES", 1)
    monkeypatch.setattr(correlated, "_WEIGHT_NUMBERS", 1)
    monkeypatch.setattr(correlated, "_PATH_NUMBERS", 1)
    assert_bits(draw(ensemble)[0], whole)


def test_a_replica_is_the_same_alone_and_in_company():
    ensemble = law(bias_variance=0.2)
    (five,) = draw(ensemble)
    (one,) = draw(ensemble, first=3, count=1)
    assert_bits(one, {name: values[3:4] for name, values in five.items()})


def test_recorded_layers_do_not_matter():
    ensemble = law()
    (every,), (some,) = draw(ensemble), draw(ensemble, layers=[0, 7, DEPTH])
    assert_bits(some, {name: values[:, [0, 7, DEPTH]] for name, values in every.items()})


@pytest.mark.parametrize("factor", [1e-140, 1e140])
def test_the_size_of_the_input_does_not_matter(factor):
    given = np.array([[1.0, 2, 0, 0, 3, -1]])
    (one,), (other,) = (draw(law("inner", inputs=Given(f * given))) for f in (1.0, factor))
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_no_depth_overflows(factor):
    """Layers a factor larger or smaller, far beyond what a double holds at the top."""
    huge, unit = (
        Ensemble(
            Network(depth=DEPTH, width=6),
            GivenScheme(branch=f, skip=f, variance=0.7, process=ROUGH), Pair(cosine=0.9),
        )
        for f in (factor, 1.0)
    )  # fmt: skip
    (one,), (other,) = draw(huge), draw(unit)
    lift = np.log(factor) * np.arange(DEPTH + 1)[:, None]
    np.testing.assert_allclose(one["log_norm"] - lift, other["log_norm"], atol=1e-8)
    np.testing.assert_allclose(one["log_gradient"] - lift[::-1], other["log_gradient"], atol=1e-8)


def test_tied_linear_weights_are_a_power_of_one_matrix():
    """h_L = (I + a V)^L h_0: the direct computation, replica by replica."""
    ensemble = Ensemble(
        Network(depth=DEPTH, width=4, block="res1", activation="linear"),
        GivenScheme(branch=0.3, variance=0.25, process=Tied()),
        Given([[1.0, 0.5, -2.0, 0.1]]),
    )
    walk = correlated._Walk([ensemble], applicable(ensemble), np.arange(DEPTH + 1))
    walk.replicas(KEY, 0, 3)
    for r in range(3):
        v = walk.weights[0][0][r]
        h = np.array([1.0, 0.5, -2.0, 0.1])
        expected = np.linalg.matrix_power(np.eye(4) + 0.3 * v, DEPTH) @ h
        found = walk.out["log_norm"][r, -1, 0, 0]
        assert found == pytest.approx(
            np.log(np.linalg.norm(expected) / np.linalg.norm(h)), abs=1e-10
        )


@pytest.mark.parametrize("workers", [2, 8])
def test_threads_do_not_matter(workers):
    run = {"replicas": 40, "seed": 3, "sampler": "dense"}
    one = sigprop.simulate(law(), workers=1, **run)
    other = sigprop.simulate(law(), workers=workers, **run)
    for name in one.variables:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=name)


def test_blas_has_its_threads_back():
    from threadpoolctl import threadpool_info

    before = [(p["prefix"], p["num_threads"]) for p in threadpool_info()]
    draw(law(), count=1)
    assert [(p["prefix"], p["num_threads"]) for p in threadpool_info()] == before


def test_blas_has_one_thread_in_every_worker_and_its_threads_back_from_any():
    """Whoever set the number first, in the main thread or in another that is still alive."""
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads():
        return {p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"}

    second, leave = threading.Event(), threading.Event()

    def first():
        with correlated.one_blas_thread():
            second.wait(60)
            return threads()

    def last():
        with correlated.one_blas_thread():
            second.set()
            leave.wait(60)  # the first is out of it, and this one sets the number back
            return threads()

    with threadpool_limits(limits=2, user_api="blas"):
        if threads() != {2}:
            pytest.skip("this BLAS has one thread")
        with correlated.one_blas_thread():
            assert threads() == {1}
        assert threads() == {2}
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.submit(first), pool.submit(last)
            assert one.result() == {1}
            leave.set()
            assert other.result() == {1}
            assert threads() == {2}


def test_dense_says_what_it_shares():
    ensembles = [law(branch=b) for b in (0.1, 0.2)]
    assert Dense().coupled(ensembles)
    alike = Dense().sample_coupled(ensembles, applicable(law()), np.arange(3), KEY, 0, 2)
    assert_bits(alike[0], draw(*ensembles, count=2, layers=[0, 1, 2])[0])
    uniform = [
        Ensemble(Network(depth=3, width=4), GivenScheme(branch=b, variance=0.5, law="uniform"))
        for b in (0.1, 0.2)
    ]
    assert not Dense().coupled(uniform)
    both = Dense().sample_coupled(uniform, applicable(uniform[0]), np.arange(4), KEY, 0, 2)
    for found, ensemble in zip(both, uniform, strict=True):
        assert_bits(found, Dense().sample(ensemble, applicable(ensemble), np.arange(4), KEY, 0, 2))


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(Unsupported, match="GiB"):
        sigprop.simulate(
            Ensemble(Network(depth=1000, width=1000), sigprop.Power(beta=0.5, process=ROUGH)),
            replicas=1,
        )
    with pytest.raises(Unsupported, match="slopes"):
        sigprop.simulate(law(activation="randomised_leaky_relu"), replicas=1, sampler="dense")


def test_every_matrix_is_drawn_with_the_covariance_of_its_own_process():
    """Monte Carlo over 19,200 entries a matrix: false alarm 1e-6 each, sees 0.3 in E v_i v_j.

    The two processes differ by more, and so do their layers: neither is stationary at one size.
    """
    outer = GivenCovariance(matrix=((1.0, 0.5, 0.0), (0.5, 2.0, -0.6), (0.0, -0.6, 0.5)))
    scheme = GivenScheme(
        variance=((0.5, 1.0), (0.5, 2.0), (1.5, 1.0)), process=outer,
        inner_process=FractionalGaussianNoise(hurst=0.1),
    )  # fmt: skip
    ensemble = Ensemble(Network(depth=3, width=60, inner_width=40), scheme, Point())
    walk = correlated._Walk([ensemble], applicable(ensemble), np.arange(4))
    walk.replicas(KEY, 0, 8)
    entries = []
    for j, process in enumerate(ensemble.table.processes):
        scale = ensemble.table.scale[:, j, None]
        v = walk.weights[j].reshape(3, -1) / scale
        covariance = process.covariance(3)
        size = np.diagonal(covariance)
        se = np.sqrt((np.outer(size, size) + covariance**2) / v.shape[1])  # Isserlis
        assert_agrees(v @ v.T / v.shape[1], covariance, se, resolution=0.3)
        entries.append(v / np.sqrt(size)[:, None])
    # Another matrix, the next row, the next column, the next network: nothing to do with it.
    w, v = (x.reshape(3, 8, -1, 40 if j == 1 else 60) for j, x in enumerate(entries))
    pairs = [
        (w[0].ravel(), v[2].ravel()), (v[0, :, 1:].ravel(), v[1, :, :-1].ravel()),
        (w[0, :, :, 1:].ravel(), w[1, :, :, :-1].ravel()), (v[0, 1:].ravel(), v[0, :-1].ravel()),
    ]  # fmt: skip
    products = np.array([np.mean(one * other) for one, other in pairs])
    counts = np.array([one.size for one, _ in pairs])
    assert_agrees(products, 0.0, 1 / np.sqrt(counts), resolution=0.15)


def test_independent_layers_give_the_exact_second_moment():
    """E|h_L|^2 = (1 + c a^2)^L: false alarm 1e-5, sees 5%, on uneven columns of one draw."""
    network = Network(depth=DEPTH, width=10)
    ensembles = [
        Ensemble(network, sigprop.Power(beta=beta, process=Independent()), Point())
        for beta in (0.4, 0.6)
    ]
    traces = draw(*ensembles, count=4000, layers=[0, DEPTH])
    for trace, beta in zip(traces, (0.4, 0.6), strict=True):
        squares = np.exp(2 * trace["log_norm"][:, -1, 0])
        error = squares.std() / np.sqrt(len(squares))
        exact = (1 + 0.5 * DEPTH ** (-2 * beta)) ** DEPTH
        assert abs(squares.mean() - exact) < 4.5 * error
        assert error < 0.011 * exact
