"""Every sampler draws from the law that the reference defines, jointly over all fields."""

from __future__ import annotations

import numpy as np
import pytest

from sigprop import rng
from sigprop.activations import LeakyReLU, RandomisedLeakyReLU
from sigprop.backends import applicable, choose
from sigprop.inputs import Given, Pair, Point
from tests.agreement import (
    AGREEMENTS,
    CASES,
    assert_agreement,
    networks,
    truth,
)
from tests.ensembles import BLOCKS, uneven
from tests.stat import assert_same_joint_law

REPLICAS = 20_000
THREE = Given([[1.0, 0.2, -0.7, 0.4], [-0.3, 1.1, 0.5, 0.9], [0.6, 1.5, -0.2, 1.1]])


@pytest.mark.parametrize("case, sampler", AGREEMENTS)
def test_sampler_draws_from_the_law_of_the_reference(case, sampler):
    if sampler.startswith("torch"):
        pytest.importorskip("torch", reason="sampler torch needs it", exc_type=ImportError)
    assert_agreement(case, sampler, REPLICAS, resolution=0.08, scores=0.17)


@pytest.mark.parametrize("case", ["res3 relu narrow", "res3 relu width 1", "inner leaky biased"])
def test_the_chain_that_carries_no_displacement_has_the_law_of_the_reference(case):
    """It has other coordinates and other draws than the chain that does."""
    fields = frozenset({"log_norm", "log_gradient", "alignment", "activity", "dead"})
    chain = networks("chain", CASES[case].ensemble, REPLICAS, fields=fields)
    known = truth(case, REPLICAS, 0)
    assert_same_joint_law(
        {name: known[name] for name in fields}, chain, resolution=0.08, scores=0.17, jitter=1e-4
    )


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("activation", ["relu", LeakyReLU(slope=-0.4), RandomisedLeakyReLU()])
@pytest.mark.parametrize("name", ["dense", "conditional"])
@pytest.mark.parametrize("inputs", [Point(), Pair(cosine=0.3), THREE], ids=["one", "two", "three"])
def test_gradient_times_state_is_constant_in_depth(block, activation, name, inputs):
    """Euler: p_l . h_l does not depend on l, to 1e-12 of |p||h|."""
    ensemble = uneven(block, activation, inputs=inputs)
    fields = applicable(ensemble)
    sampler = choose(name, ensemble, fields)
    key = rng.key(0, ensemble.digest, name, sampler.version)
    trace = sampler.sample(ensemble, fields, np.arange(5), key, 0, sampler.block)
    size = np.exp(trace["log_norm"] + trace["log_gradient"])
    invariant = trace["alignment"] * size
    gap = np.abs(invariant - invariant[:, -1:])
    assert np.nanmax(gap / np.maximum(size, size[:, -1:])) < 1e-12
    assert np.isfinite(invariant).mean() > 0.5
