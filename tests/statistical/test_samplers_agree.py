"""Every sampler draws from the law that the reference defines, jointly over all fields."""

from __future__ import annotations

import numpy as np
import pytest

from sigprop import rng
from sigprop.activations import LeakyReLU, RandomisedLeakyReLU
from sigprop.backends import applicable, choose
from sigprop.inputs import Pair
from tests.agreement import AGREEMENTS, assert_agreement
from tests.ensembles import BLOCKS, uneven

REPLICAS = 20_000


@pytest.mark.parametrize("case, sampler", AGREEMENTS)
def test_sampler_draws_from_the_law_of_the_reference(case, sampler):
    assert_agreement(case, sampler, REPLICAS, resolution=0.08, scores=0.17)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("activation", ["relu", LeakyReLU(slope=-0.4), RandomisedLeakyReLU()])
@pytest.mark.parametrize("name", ["dense", "conditional"])
def test_gradient_times_state_is_constant_in_depth(block, activation, name):
    """Euler: p_l . h_l does not depend on l, to 1e-12 of |p||h| in double precision."""
    ensemble = uneven(block, activation, inputs=Pair(cosine=0.3))
    fields = applicable(ensemble)
    sampler = choose(name, ensemble, fields)
    key = rng.key(0, ensemble.digest, name, sampler.version)
    trace = sampler.sample(ensemble, fields, np.arange(5), key, 0, sampler.block)
    size = np.exp(trace["log_norm"] + trace["log_gradient"])
    invariant = trace["alignment"] * size
    gap = np.abs(invariant - invariant[:, -1:])
    assert np.nanmax(gap / np.maximum(size, size[:, -1:])) < 1e-12
    assert np.isfinite(invariant).mean() > 0.5
