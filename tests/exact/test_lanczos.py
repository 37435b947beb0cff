"""Spectra from products with vectors: quadrature that is exact where it must be."""

import numpy as np
import pytest

from analysis.theory.jacobian_spectrum import jacobian_spectrum
from sigprop import rng
from sigprop.backends import reference
from sigprop.backends.jacobian import Jacobian, draws_of, walk_of
from sigprop.errors import SpecError
from sigprop.inputs import Point
from sigprop.lanczos import bidiagonal, lanczos_spectrum
from sigprop.schemes import Power, Risotto
from sigprop.spec import Ensemble, Network
from tests.ensembles import BLOCKS, uneven
from tests.exact.test_spectrum import KEY, activated


@pytest.mark.parametrize("block", [*BLOCKS, "identity", "projection"])
def test_products_with_vectors_are_those_of_the_jacobian_and_its_transpose(block):
    ensemble = activated(block) if block in ("identity", "projection") else uneven(block)
    generator = np.random.default_rng(3)
    for replica in range(5):
        draws = draws_of(ensemble, KEY, replica)
        signal = reference.forward(ensemble, draws)
        full, exponents = reference.jacobians(
            ensemble, draws, signal.derivatives, signal.stem_derivative
        )
        j = full[-1][0] * 2.0 ** exponents[-1][0]
        walk = walk_of(ensemble, draws, signal)
        v, u = generator.standard_normal((j.shape[1], 2)), generator.standard_normal((len(j), 3))
        np.testing.assert_allclose(walk.forward(v), j @ v, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(walk.backward(u), j.T @ u, rtol=1e-11, atol=1e-13)


class Matrix:
    """A matrix as what `bidiagonal` takes."""

    def __init__(self, j):
        self.forward, self.backward = (lambda v: j @ v), (lambda u: j.T @ u)


def test_the_quadrature_is_exact_for_polynomials_and_with_all_steps():
    """k steps integrate powers of sigma^2 up to 2k - 1 exactly; as many as values find them."""
    generator = np.random.default_rng(1)
    j = generator.standard_normal((9, 7))
    start = generator.standard_normal((7, 4))
    theta, share = bidiagonal(Matrix(j), start, 3)
    unit = start / np.linalg.norm(start, axis=0)
    np.testing.assert_allclose(share.sum(axis=1), 1.0, rtol=1e-12)
    power = np.eye(7)
    for degree in range(1, 6):
        power = j.T @ j @ power
        truth = (unit * (power @ unit)).sum(axis=0)
        np.testing.assert_allclose((share * theta ** (2 * degree)).sum(axis=1), truth, rtol=1e-10)
    theta, _ = bidiagonal(Matrix(j), start, 7)
    np.testing.assert_allclose(
        theta, np.tile(np.linalg.svd(j, compute_uv=False), (4, 1)), rtol=1e-9
    )


def test_the_estimate_is_that_of_the_network_and_of_free_probability():
    """Width 120: the same networks decomposed whole; 5 errors, alpha 1e-6 a number."""
    ensemble = Ensemble(Network(depth=10, width=120), Power(beta=0.5), Point())
    result = lanczos_spectrum(ensemble, replicas=6, probes=10, steps=20)
    sampler, fields = Jacobian(), frozenset({"log_singular"})
    key = rng.key(0, ensemble.digest, sampler.name, sampler.version)
    logs = np.concatenate([
        sampler.sample(ensemble, fields, np.array([10]), key, first, count)["log_singular"]
        for first, count in ((0, 4), (4, 2))
    ])[:, 0]  # fmt: skip
    # Directions of one network fluctuate by sqrt(2 var / (width probes)) about its mean.
    noise = np.sqrt(2 * logs.var() / (120 * 60))
    assert abs(float(result.log_singular_mean) - logs.mean()) < 5 * noise
    square = np.exp(2 * logs)
    noise = np.sqrt(2 * square.var() / (120 * 60))
    assert abs(float(result.singular_mean_square) - square.mean()) < 5 * noise
    assert float(result.log_singular_largest) == pytest.approx(logs.max(axis=1).mean(), abs=0.02)
    assert float(result.log_singular_largest) <= logs.max(axis=1).mean() + 1e-9
    law = jacobian_spectrum(ensemble)
    assert float(result.log_singular_variance) == pytest.approx(law.variance, rel=0.15)
    width = float(np.diff(result.singular_bin.values)[0])
    assert float(result.singular_density.sum()) * width == pytest.approx(1.0, abs=1e-9)


def test_an_isometry_is_seen_as_one():
    ensemble = Ensemble(Network(depth=5, width=20, block="projection"), Risotto(), Point())
    result = lanczos_spectrum(ensemble, replicas=2, probes=3, steps=2)
    assert float(result.singular_mean_square) == pytest.approx(1.0, abs=1e-12)


def test_what_cannot_be_is_said_before_any_work():
    ensemble = Ensemble(Network(depth=3, width=12), Power(beta=0.5), Point())
    with pytest.raises(SpecError, match="Use at most 12"):
        lanczos_spectrum(ensemble, steps=20)
    wide = Ensemble(Network(depth=3, width=9000), Power(beta=0.5), Point())
    with pytest.raises(SpecError, match="steps would fit"):
        lanczos_spectrum(wide, steps=1000, probes=100)
