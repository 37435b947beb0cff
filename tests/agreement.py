"""The ensembles on which samplers are compared, and how.

Widths are small, where nothing is asymptotic; coefficients are those of `tests.ensembles`,
where nothing is constant; hidden layers of one and two units are dead often.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sigprop import rng
from sigprop.activations import BalancedReLU, LeakyReLU, RandomisedLeakyReLU
from sigprop.backends import Sampler, Torch, applicable, choose
from sigprop.inputs import Given, Pair
from sigprop.laws import Stable, StudentT
from sigprop.processes import FractionalGaussianNoise, Hermite, Tied
from sigprop.schemes import NFResNet
from sigprop.spec import Ensemble, Network
from tests.ensembles import gentle, uneven
from tests.stat import assert_same_joint_law

__all__ = [
    "AGREEMENTS",
    "AGREEMENTS_OF_TORCH",
    "CASES",
    "assert_agreement",
    "networks",
    "recorded",
    "truth",
]

ALL, VECTORS, DENSE = ("chain", "conditional", "dense"), ("conditional", "dense"), ("dense",)

LONE = Given([[2.0, -0.5, 0.1, 1.0]])
SUM = Given([[1.0, 0.2, -0.7, 0.4], [-0.3, 1.1, 0.5, 0.9], [0.7, 1.3, -0.2, 1.3]])
TWICE = Given([[1.0, 0.2, -0.7, 0.4], [2.0, 0.4, -1.4, 0.8]])
CROWD = Given([[1.0, 0.3], [-0.4, 1.2], [0.6, 1.5]])  # more inputs than dimensions


@dataclass(frozen=True)
class Case:
    """One law, and the samplers that must be able to draw from it."""

    ensemble: Ensemble
    samplers: tuple[str, ...]


SUM_OF_3 = Given([[1.0, 0.2, -0.7], [-0.3, 1.1, 0.5], [0.7, 1.3, -0.2]])
ROUGH, LONG = FractionalGaussianNoise(hurst=0.2), FractionalGaussianNoise(hurst=0.9)
LEAKY, STEEP = LeakyReLU(slope=0.3), LeakyReLU(slope=-0.7)
BALANCED = BalancedReLU(low=0.2, high=0.2)
RANDOMISED = RandomisedLeakyReLU(low=-0.2, high=0.9)
NARROW, SLIM = (1, 2, 1, 3), (2, 1, 3, 2, 1, 2, 2, 3)
MIXED = (3, 5, 2, 4, 3)  # widths of a plain net


def dropped(ensemble: Ensemble, dropout: float) -> Ensemble:
    """The same with units that are dropped."""
    network = dataclasses.replace(ensemble.network, dropout=dropout)
    return Ensemble(network, ensemble.scheme, ensemble.inputs)


CASES = {
    # one input, Gaussian: all three
    "res3 relu": Case(uneven("res3", "relu"), ALL),
    "res3 relu narrow": Case(uneven("res3", "relu", width=3, hidden=NARROW), ALL),
    "res3 relu width 1": Case(uneven("res3", "relu", width=1), ALL),
    "res3 relu width 2": Case(uneven("res3", "relu", width=2, hidden=NARROW), ALL),
    "res3 leaky": Case(uneven("res3", LEAKY, hidden=NARROW), ALL),
    "res3 steep": Case(uneven("res3", STEEP), ALL),
    "res3 gentle": Case(gentle(), ALL),
    "res3 linear": Case(uneven("res3", "linear", width=3, hidden=NARROW), ALL),
    "res3 relu biased": Case(uneven("res3", "relu", hidden=NARROW, bias_variance=0.3), ALL),
    "res3 leaky biased": Case(uneven("res3", LEAKY, width=2, bias_variance=0.2), ALL),
    "inner relu": Case(uneven("inner", "relu", hidden=SLIM), ALL),
    "inner leaky biased": Case(uneven("inner", STEEP, width=3, bias_variance=0.3), ALL),
    "inner of four": Case(uneven("inner", LEAKY, inner_layers=4, hidden=SLIM), ALL),
    "plain relu": Case(uneven("plain", "relu", states=MIXED), ALL),
    "plain leaky": Case(uneven("plain", LEAKY, states=(2, 1, 3, 2, 4)), ALL),
    "plain linear": Case(uneven("plain", "linear", states=MIXED), ALL),
    "plain relu biased": Case(uneven("plain", "relu", states=MIXED, bias_variance=0.4), ALL),
    "res1 linear": Case(uneven("res1", "linear"), ALL),
    # phi on the trunk, or not piecewise linear, or random: vectors
    "res1 relu": Case(uneven("res1", "relu", inputs=LONE), VECTORS),
    "res1 tanh biased": Case(uneven("res1", "tanh", width=3, bias_variance=0.2), VECTORS),
    "preact relu": Case(uneven("preact", "relu", hidden=NARROW), VECTORS),
    "preact gelu biased": Case(uneven("preact", "gelu", width=2, bias_variance=0.3), VECTORS),
    "res3 tanh": Case(uneven("res3", "tanh"), VECTORS),
    "res3 randomised": Case(uneven("res3", RANDOMISED, hidden=NARROW), VECTORS),
    "res1 randomised": Case(uneven("res1", RANDOMISED), VECTORS),
    "inner randomised": Case(uneven("inner", RANDOMISED, hidden=SLIM), VECTORS),
    "preact randomised": Case(uneven("preact", RANDOMISED, bias_variance=0.2), VECTORS),
    "plain silu biased": Case(uneven("plain", "silu", states=MIXED, bias_variance=0.4), VECTORS),
    # units that are dropped or turned about
    # (wider than MIXED, where two networks in three die and too few logarithms are left to judge)
    "plain relu dropout": Case(
        dropped(uneven("plain", "relu", states=(3, 6, 4, 5, 7)), 0.3), VECTORS
    ),
    "res3 leaky dropout": Case(dropped(uneven("res3", STEEP, hidden=NARROW), 0.4), VECTORS),
    "inner randomised dropout": Case(
        dropped(uneven("inner", RANDOMISED, bias_variance=0.2), 0.2), VECTORS
    ),
    "pair preact dropout": Case(dropped(uneven("preact", "relu", inputs=Pair()), 0.3), VECTORS),
    "three in res1 dropout": Case(dropped(uneven("res1", LEAKY, inputs=SUM), 0.3), VECTORS),
    "balanced": Case(uneven("res1", BALANCED, inputs=LONE), VECTORS),
    "pair preact balanced": Case(
        uneven("preact", BALANCED, hidden=NARROW, inputs=Pair(cosine=0.3)), VECTORS
    ),
    "uniform dropout": Case(
        dropped(uneven("plain", LEAKY, states=MIXED, law="uniform"), 0.3), ("dense",)
    ),
    # several inputs
    "pair res3 relu": Case(uneven("res3", "relu", inputs=Pair(cosine=-0.3)), VECTORS),
    "pair inner erf": Case(
        uneven("inner", "erf", hidden=SLIM, bias_variance=0.3, inputs=Pair(cosine=0.6)), VECTORS
    ),
    "pair plain relu": Case(
        uneven("plain", "relu", states=(2, 5, 3, 4, 6), inputs=Pair()), VECTORS
    ),
    "pair inner randomised": Case(
        uneven("inner", RANDOMISED, hidden=SLIM, inputs=Pair(cosine=0.2)), VECTORS
    ),
    "pair res1 randomised": Case(uneven("res1", RANDOMISED, inputs=Pair(cosine=0.2)), VECTORS),
    "three, third a sum": Case(uneven("res3", "relu", inputs=SUM), VECTORS),
    "three in preact": Case(uneven("preact", RANDOMISED, hidden=NARROW, inputs=SUM), VECTORS),
    "three in the plane": Case(
        uneven("res3", "relu", width=2, bias_variance=0.2, inputs=CROWD), VECTORS
    ),
    "one and its double": Case(uneven("res3", "tanh", inputs=TWICE), VECTORS),
    # other laws
    "uniform": Case(uneven("res3", "relu", width=3, hidden=NARROW, law="uniform"), DENSE),
    "rademacher": Case(uneven("res3", LEAKY, law="rademacher", inputs=LONE), DENSE),
    "rademacher plain": Case(
        uneven("plain", "relu", states=(3, 5, 6, 4, 5), law="rademacher"), DENSE
    ),
    "student": Case(uneven("inner", "relu", law=StudentT(dof=5.0), inputs=Pair()), DENSE),
    "cauchy-like": Case(uneven("res1", "tanh", law=StudentT(dof=1.5)), DENSE),
    "stable": Case(uneven("preact", LEAKY, law=Stable(stability=1.3), bias_variance=0.1), DENSE),
    # layers that depend on each other: matrices of one shape
    "rough res3": Case(uneven("res3", "relu", hidden=(3,), process=ROUGH), DENSE),
    "smooth around rough": Case(
        uneven(
            "inner",
            STEEP,
            hidden=(2, 3),
            bias_variance=0.3,
            process=LONG,
            inner_process=ROUGH,
            inputs=Pair(cosine=0.3),
        ),
        DENSE,
    ),
    "tied res1": Case(uneven("res1", "tanh", width=3, process=Tied(), inputs=SUM_OF_3), DENSE),
    "hermite plain": Case(
        uneven("plain", "relu", states=(4,) * 5, process=Hermite(rank=2, decay=0.3)), DENSE
    ),
    "rough among shapes": Case(
        uneven("preact", "gelu", hidden=(3,), process="independent", inner_process=LONG), DENSE
    ),
    # rows that sum to zero
    "centred": Case(
        Ensemble(Network(depth=4, width=4, block="preact"), NFResNet(), Pair()), VECTORS
    ),
    "centred uniform": Case(
        Ensemble(
            Network(depth=4, width=5, block="preact", inner_layers=3, inner_width=3),
            NFResNet(law="uniform", bias_variance=0.1),
            Pair(),
        ),
        DENSE,
    ),
}

# Sampler torch has two methods, and here a name for each; in some cases, by what can go wrong:
# biases, phi on the trunk, smooth units, units that differ, dependent inputs, exact zeros.
_OF_TORCH = {
    "inner leaky biased": ("torch conditional",),
    "plain relu biased": ("torch conditional",),
    "preact gelu biased": ("torch dense",),
    "inner randomised dropout": ("torch dense",),
    "three, third a sum": ("torch conditional",),
    "rademacher plain": ("torch dense",),
    "centred uniform": ("torch dense",),
}
AGREEMENTS_OF_TORCH = [(case, sampler) for case in _OF_TORCH for sampler in _OF_TORCH[case]]
AGREEMENTS = [
    (case, sampler)
    for case in CASES
    for sampler in (*CASES[case].samplers, *_OF_TORCH.get(case, ()))
]


def recorded(ensemble: Ensemble) -> np.ndarray:
    """The first layer, the middle and the last."""
    depth = ensemble.network.depth
    return np.array([0, depth // 2, depth])


def networks(
    name: str,
    ensemble: Ensemble,
    count: int,
    seed: int = 0,
    fields: frozenset[str] | None = None,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """Draw ``count`` networks by a sampler: every field that it gives, where `recorded`.

    ``torch dense`` and ``torch conditional`` are the methods of sampler torch, on ``device``.
    """
    possible = applicable(ensemble)
    if fields is None and name != "chain":
        fields = possible
    elif fields is None:  # it declares what it carries along
        chain = choose(name, ensemble, frozenset({"log_norm", "log_gradient"}))
        fields = frozenset(f for f in possible if chain.refusal(ensemble, frozenset({f})) is None)
        least = {"log_norm", "log_gradient", "log_displacement", "log_gradient_displacement"}
        assert fields >= least & possible, sorted(least & possible - fields)
    layers = recorded(ensemble)
    if name.startswith("torch"):
        sampler: Sampler = Torch(device, method=name.removeprefix("torch ")).planned(
            ensemble, fields, len(layers), count
        )
    else:
        sampler = choose(name, ensemble, fields)
    key = rng.key(seed, ensemble.digest, sampler.name, sampler.version)
    parts = [
        sampler.sample(ensemble, fields, layers, key, first, min(sampler.block, count - first))
        for first in range(0, count, sampler.block)
    ]
    return {field: np.concatenate([part[field] for part in parts]) for field in fields}


@lru_cache(maxsize=2)  # samplers of one case follow each other
def truth(case: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """What the reference draws from a case."""
    from sigprop.backends.reference import Reference

    ensemble = CASES[case].ensemble
    key = rng.key(seed, ensemble.digest, "reference", Reference.version)
    # All in one block: the reference keys every replica, so its numbers stay the same.
    return Reference().sample(ensemble, applicable(ensemble), recorded(ensemble), key, 0, count)


def assert_agreement(
    case: str,
    sampler: str,
    count: int,
    *,
    resolution: float,
    scores: float,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """``sampler`` and the reference draw from one joint law."""
    assert_same_joint_law(
        truth(case, count, seed),
        networks(sampler, CASES[case].ensemble, count, seed, device=device),
        resolution=resolution,
        scores=scores,
        jitter=1e-4,  # above single-precision rounding, which cancellation magnifies
    )
