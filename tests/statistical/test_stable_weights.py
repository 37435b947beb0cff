"""Plain nets of stable weights: the chain in l_alpha, its factor, the scale of a moment."""

import math

import numpy as np
import pytest
from scipy.special import gamma

import sigprop
from sigprop import Ensemble, Fractional, He, Network, Point
from sigprop.activations import LeakyReLU, Linear, RandomisedLeakyReLU, ReLU
from sigprop.errors import SpecError, Unsupported
from sigprop.laws import Stable, StudentT
from sigprop.stable_factor import stable_log_moment, stable_scale
from tests.ensembles import uneven
from tests.stat import assert_agrees, assert_same_law


def test_moments_of_one_linear_unit_are_those_of_the_stable_law():
    for a in (0.7, 1.0, 1.5):
        for q in (0.1 * a, 0.5 * a, 0.9 * a, 0.95 * a):
            true = 2 ** (q + 1) * gamma((q + 1) / 2) * gamma(-q / a)
            true /= a * math.sqrt(math.pi) * gamma(-q / 2)
            found = math.exp(stable_log_moment(a, Linear(), 1, q / a))
            np.testing.assert_allclose(found, true, rtol=1e-11)


def test_moments_of_a_layer_are_the_reference_values():
    for d, values in ((20, (1.88555, 5.35098)), (100, (2.76032, 13.50535))):
        for p, value in zip((0.2, 0.5), values, strict=True):
            found = math.exp(stable_log_moment(1.5, ReLU(), d, p))
            np.testing.assert_allclose(found, value, rtol=3e-6)


def test_moments_of_leaky_units_and_of_the_living_are_those_of_draws():
    xi = Stable(stability=1.5).sample(np.random.default_rng(0), (200_000, 3))
    for phi in (LeakyReLU(slope=-0.3), ReLU()):
        q = np.sum(np.abs(phi(xi)) ** 1.5, axis=1)
        alive = q > 0
        weights = q[alive] ** 0.3  # q^0.6 has a mean: the error is sound
        truth = math.exp(stable_log_moment(1.5, phi, 3, 0.3, alive=True))
        se = weights.std() / math.sqrt(len(weights))
        assert_agrees(weights.mean() / truth, 1.0, se / truth, resolution=0.03)


def test_the_chain_draws_the_norm_of_explicit_matrices():
    """Every matrix drawn, by the definition of the block, at widths that differ."""
    widths, law, phi = (3, 5, 2, 4, 3), Stable(stability=1.3), LeakyReLU(slope=0.3)
    ensemble = uneven("plain", phi, states=widths, law=law)
    replicas = 20_000
    found = sigprop.simulate(
        ensemble, sampler="alpha_chain", replicas=replicas, keep=[4], layers=[0, 4]
    )
    generator = np.random.default_rng(3)
    x = np.tile([0.3, -2.0, 1.1], (replicas, 1))
    for layer, (rows, columns) in enumerate(zip(widths[1:], widths[:-1], strict=True)):
        w = ensemble.table.scale[layer, 0] * law.sample(generator, (replicas, rows, columns))
        x = ensemble.table.branch[layer] * phi(np.einsum("nij,nj->ni", w, x))
    log = np.log(np.sum(np.abs(x) ** 1.3, axis=1)) / 1.3
    log -= math.log(np.sum(np.abs([0.3, -2.0, 1.1]) ** 1.3)) / 1.3
    assert_same_law(log, found.replica_log_alpha_norm.values[:, 0, 0], resolution=0.06)


@pytest.mark.parametrize("phi", [ReLU(), Linear()])
def test_the_scale_keeps_its_moment_at_any_depth(phi):
    """Order 0.6 of stability 1.5: order 1.2 exists, so the error is sound."""
    network = Network(depth=4, widths=(6, 9, 5, 8, 7), block="plain", activation=phi)
    for preserve, power in (("norm", 0.0), ("coordinate", 0.6 / 1.5)):
        scheme = Fractional(s=0.6, law=Stable(stability=1.5), preserve=preserve)
        found = sigprop.simulate(
            Ensemble(network, scheme, Point()), sampler="alpha_chain", replicas=40_000, orders=[0.6]
        )
        truth = power * np.log(np.array([9, 5, 8, 7]) / 6)
        log = found.alpha_norm_moment_log[0, 1:, 0]
        assert_agrees(log, truth, found.alpha_norm_moment_log_se[0, 1:, 0], resolution=0.2)


def test_orders_that_do_not_exist_are_refused_with_those_that_do():
    stable = Stable(stability=1.5)
    network = Network(depth=2, width=5, block="plain")
    law = Ensemble(network, He(law=stable), Point())
    with pytest.raises(SpecError, match=r"below 1\.5"):
        sigprop.simulate(law, sampler="alpha_chain", replicas=2, orders=[1.5])
    for s in (1.5, 1.7, 0.0):
        with pytest.raises(SpecError, match=r"orders below 1\.5"):
            Fractional(s=s, law=stable).layers(network)
    with pytest.raises(SpecError, match="not computed"):
        stable_log_moment(1.5, ReLU(), 5, 0.97)
    with pytest.raises(SpecError, match=r"below 1\.2"):
        Fractional(s=1.3, law=StudentT(dof=1.2)).layers(network)
    with pytest.raises(SpecError, match="not alike"):
        stable_scale(1.5, RandomisedLeakyReLU(), 5, 1.0)


@pytest.mark.parametrize(
    ("law", "says"),
    [
        (uneven("plain"), "stable weights"),
        (uneven("res3", law=Stable(stability=1.5)), "plain net"),
        (uneven("plain", law=Stable(stability=1.5), bias_variance=0.1), "without biases"),
        (uneven("plain", "tanh", law=Stable(stability=1.5)), "tanh"),
    ],
)
def test_the_chain_refuses_what_it_does_not_follow(law, says):
    with pytest.raises(Unsupported, match=says):
        sigprop.simulate(law, sampler="alpha_chain", replicas=2)
    heavy = Ensemble(
        Network(depth=1, width=3, block="plain"), He(law=Stable(stability=1.0)), Point()
    )
    with pytest.raises(Unsupported, match="does not apply"):
        sigprop.simulate(heavy, "norm", sampler="alpha_chain", replicas=2)
