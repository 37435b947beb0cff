"""Narrow linear nets of opposing weights: the input fades, as in networks drawn in full."""

import doctest
import importlib
import math

import numpy as np
import pytest

from analysis.theory import log_linear_alignment
from sigprop import Ensemble, Network, Point, Power
from sigprop.errors import Unsupported
from sigprop.processes import FractionalGaussianNoise, Tied
from sigprop.schemes import GivenScheme
from tests.stat import assert_agrees


def law(depth, width, beta, process, **network):
    network = {"block": "res1", "activation": "linear", **network}
    return Ensemble(
        Network(depth=depth, width=width, **network), Power(beta=beta, process=process), Point()
    )


def opposing(hurst):
    return FractionalGaussianNoise(hurst=hurst)


def test_examples_in_the_text_are_right():
    found = doctest.testmod(importlib.import_module("analysis.theory.contraction"))
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize(("width", "known", "se"), [(5, 0.451, 0.006), (2, 0.142, 0.002)])
def test_known_networks_of_depth_1000(width, known, se):
    """Monte Carlo of others at beta = 0.35, and exp(-L^(1 - 2 beta) / 2d), its limit of depth."""
    found = math.exp(log_linear_alignment(law(1000, width, 0.35, opposing(0.2)))[-1])
    assert abs(found - known) < 4 * se
    limit = math.exp(-(1000**0.3) / (2 * width))
    assert found == pytest.approx(limit, rel=0.04)


@pytest.mark.parametrize(("hurst", "width", "beta"), [(0.2, 5, 0.35), (0.4, 3, 0.4)])
def test_networks_drawn_in_full_fade_as_fast(hurst, width, beta):
    """False alarm 1e-6; sees 0.2, where at the top a fifth or more has faded."""
    depth, replicas = 100, 3000
    process = opposing(hurst)
    generator = np.random.default_rng(3)
    normals = generator.standard_normal((replicas * width**2, process.draws(depth)))
    v = process.paths(normals, depth).reshape(replicas, width, width, depth)
    h = np.zeros((replicas, width))
    h[:, 0] = 1.0
    along = [h[:, 0]]
    for layer in range(depth):
        h = h + depth**-beta / math.sqrt(width) * np.einsum("rij,rj->ri", v[..., layer], h)
        along.append(h[:, 0])
    predicted = np.exp(log_linear_alignment(law(depth, width, beta, process)))
    for layer in (2, 50, depth):
        se = along[layer].std() / math.sqrt(replicas)
        assert_agrees(along[layer].mean(), predicted[layer], se, resolution=0.2)
    assert 1 - predicted[-1] > 0.2


def test_uneven_layers_follow_the_sum_over_pairs():
    process = opposing(0.3)
    scheme = GivenScheme(
        branch=(0.3, -1.0, 0.5, 2.0, 0.1, 0.7, 1.3), variance=0.4, process=process
    )  # fmt: skip
    network = Network(depth=7, width=4, block="res1", activation="linear")
    ensemble = Ensemble(network, scheme, Point())
    size = ensemble.table.branch * ensemble.table.scale[:, -1]
    k = process.covariance(7) * np.outer(size, size)
    pairs = [np.triu(k[:n, :n], 1).sum() for n in range(8)]
    np.testing.assert_allclose(log_linear_alignment(ensemble), pairs, atol=1e-14)
    np.testing.assert_array_equal(log_linear_alignment(law(7, 4, 0.2, "independent")), 0.0)


@pytest.mark.parametrize(
    ("ensemble", "words"),
    [
        (law(5, 3, 0.4, opposing(0.3), activation="relu"), "linear units"),
        (law(5, 3, 0.4, opposing(0.3), block="res3"), "linear units"),
        (law(5, 3, 0.4, opposing(0.7)), "oppose"),
        (law(5, 3, 0.4, Tied()), "oppose"),
    ],
)
def test_what_does_not_fade_so_is_refused(ensemble, words):
    with pytest.raises(Unsupported, match=words):
        log_linear_alignment(ensemble)
