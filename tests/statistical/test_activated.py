"""Blocks that activate the sum, and structured matrices: every sampler draws from one law."""

from __future__ import annotations

import numpy as np
import pytest

from sigprop import rng
from sigprop.backends import applicable, choose
from sigprop.backends.reference import Reference
from tests.activated import CASES
from tests.stat import assert_same_joint_law

REPLICAS = 5000
SAMPLERS = ("conditional", "dense")


def drawn(name, ensemble, count, seed=0):
    """Every field that the sampler gives, at the first layer, the middle and the last."""
    possible = applicable(ensemble, on_request=name != "conditional") - {"log_singular"}
    depth = ensemble.network.depth
    sampler = Reference() if name == "reference" else choose(name, ensemble, possible)
    key = rng.key(seed, ensemble.digest, name, sampler.version)
    block = count if name == "reference" else sampler.block
    parts = [
        sampler.sample(
            ensemble, possible, np.array([0, depth // 2, depth]), key, first,
            min(block, count - first),
        )
        for first in range(0, count, block)
    ]  # fmt: skip
    return {field: np.concatenate([part[field] for part in parts]) for field in possible}


def offered():
    fields = frozenset({"log_norm", "log_gradient"})
    from sigprop.backends import samplers

    return [
        (case, name)
        for case, ensemble in CASES.items()
        for name in SAMPLERS
        if name in samplers and samplers[name]().refusal(ensemble, fields) is None
    ]


@pytest.mark.parametrize("case, name", offered())
def test_sampler_draws_from_the_law_of_the_reference(case, name):
    """False alarms 1e-6 a case; sees distances of distribution functions of 0.2."""
    ensemble = CASES[case]
    truth, found = drawn("reference", ensemble, REPLICAS), drawn(name, ensemble, REPLICAS)
    truth = {field: truth[field] for field in found}
    assert_same_joint_law(truth, found, resolution=0.2, scores=0.45, jitter=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_gradient_times_state_is_constant_in_depth(case):
    """Euler: p_l . h_l does not depend on l, where phi is homogeneous and there is no bias."""
    ensemble = CASES[case]
    if not ensemble.network.phi.homogeneous or ensemble.table.biased:
        pytest.skip("not homogeneous")
    fields = frozenset({"log_norm", "log_gradient", "alignment"})
    sampler = choose("dense", ensemble, fields | {"log_first_step"})
    key = rng.key(0, ensemble.digest, "dense", sampler.version)
    trace = sampler.sample(ensemble, fields | {"log_first_step"}, np.arange(4), key, 0, 16)
    size = np.exp(trace["log_norm"] + trace["log_gradient"])
    gap = np.abs(trace["alignment"] * size - (trace["alignment"] * size)[:, -1:])
    assert np.nanmax(gap / np.maximum(size, size[:, -1:])) < 1e-12
