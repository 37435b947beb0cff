"""Blocks that activate the sum, and structured matrices: every sampler draws from one law."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from sigprop import rng
from sigprop.backends import Sampler, Torch, applicable, choose
from sigprop.backends.numba_cpu import Conditional, Dense
from sigprop.backends.reference import Reference
from sigprop.inputs import Equiangular, Pair, Point
from sigprop.schemes import OrthogonalScheme
from sigprop.spec import Ensemble, Network
from tests.activated import CASES
from tests.stat import assert_same_joint_law

REPLICAS = 5000


def drawn(name, ensemble, count, seed=0):
    """Every field that the sampler gives, at the first layer, the middle and the last."""
    usual = name == "conditional" or name.startswith("torch")
    possible = applicable(ensemble, on_request=not usual) - {"log_singular"}
    depth = ensemble.network.depth
    if name.startswith("torch"):
        torch = Torch("cpu", method=name.removeprefix("torch "))
        assert torch.refusal(ensemble, possible) is None
        sampler: Sampler = torch.planned(ensemble, possible, 3, count)
    else:
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


@lru_cache(maxsize=2)  # samplers of one case follow each other
def truth(case):
    return drawn("reference", CASES[case], REPLICAS)


def offered():
    """The pairs of case and sampler; other kernels of the conditional one are tested elsewhere."""
    return [
        (case, name)
        for case, ensemble in CASES.items()
        for name, sampler in (("conditional", Conditional()), ("dense", Dense()))
        if sampler.refusal(ensemble, frozenset({"log_norm", "log_gradient"})) is None
        and (name == "dense" or sampler.kernel(ensemble) == "frames")
    ]


# Sampler torch has two methods, and here a name for each; a few of the cases that it offers.
OF_TORCH = [
    ("projection biased", "torch conditional"),
    ("identity randomised", "torch dense"),
    ("identity of signs", "torch dense"),
    ("projection of three", "torch conditional"),
]


@pytest.mark.parametrize("case, name", sorted([*offered(), *OF_TORCH]))
def test_sampler_draws_from_the_law_of_the_reference(case, name):
    """False alarms 1e-6 a case; sees distances of distribution functions of 0.2."""
    if name.startswith("torch"):
        pytest.importorskip("torch", reason="sampler torch needs it", exc_type=ImportError)
    found = drawn(name, CASES[case], REPLICAS)
    expected = {field: truth(case)[field] for field in found}
    assert_same_joint_law(expected, found, resolution=0.2, scores=0.55, jitter=1e-4)


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


@pytest.mark.parametrize("inputs", [Point(), Pair(cosine=-0.4), Equiangular(count=3)])
@pytest.mark.parametrize("name", ["conditional", "dense"])
def test_orthogonal_linear_nets_keep_lengths_and_angles_both_ways(inputs, name):
    """Square matrices exactly; wider states too, going forward, and narrower ones going back."""
    network = Network(depth=40, widths=(5, 5, 5, 8, *(8,) * 37), activation="linear", block="plain")
    ensemble = Ensemble(network, OrthogonalScheme(), inputs)
    trace = drawn(name, ensemble, 3)
    np.testing.assert_allclose(trace["log_norm"], 0.0, rtol=0, atol=1e-12)
    if inputs.count > 1:
        assert np.abs(trace["cosine"] - trace["cosine"][:, :1]).max() < 1e-12
    assert np.abs(trace["log_gradient"][:, 1]).max() < 1e-12  # from 8 to 8 units
    assert (trace["log_gradient"][:, 0] < -1e-6).all()  # from 8 to 5: a projection


@pytest.mark.parametrize(
    "case, name",
    [
        ("risotto projection", "dense"), ("preact centred", "dense"), ("identity", "dense"),
        ("identity", "conditional"), ("orthogonal leaky", "conditional"),
    ],
)  # fmt: skip
def test_a_network_does_not_depend_on_its_neighbours(case, name):
    """Bit for bit: the first 5 of 64, and those of the middle."""
    ensemble = CASES[case]
    whole, few = drawn(name, ensemble, 64), drawn(name, ensemble, 5)
    for field, values in few.items():
        np.testing.assert_array_equal(values, whole[field][:5])
