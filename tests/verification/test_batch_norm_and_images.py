"""Batch normalisation at full size, and the draws of the batch sampler against the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sigprop import rng
from sigprop.backends import applicable, batch, reference
from sigprop.inputs import Batch, Pair
from sigprop.schemes import BatchNorm, DeltaOrthogonal, Normal, Risotto
from sigprop.spec import Ensemble, Network
from tests.exact.test_batch_sampler import uneven_images
from tests.stat import assert_agrees, assert_same_joint_law


def test_the_gradient_of_thirty_normalised_blocks_is_405_times_that_at_the_top():
    """Width 400, a batch of 1000, depth 30: within 3 %; fires by chance once in 10^6.

    The average over the batch of E|p_0|^2 / |p_L|^2; sees 4.5 %. The finite batch and width
    themselves raise it by 1 %.
    """
    ensemble = Ensemble(
        Network(depth=30, width=400, block="preact"), BatchNorm(), Batch(count=1000)
    )
    fields = frozenset({"log_norm", "log_gradient"})
    replicas = 8
    key = rng.key(1, ensemble.digest, "batch", 1)
    trace = batch.Batch().sample(ensemble, fields, np.array([0, 30]), key, 0, replicas)
    ratio = np.exp(2 * trace["log_gradient"][:, 0]).mean(axis=1) / 405.32
    mean, se = ratio.mean(), ratio.std(ddof=1) / math.sqrt(replicas)
    assert_agrees(max(abs(mean - 1) - 0.03, 0.0), 0.0, se, resolution=0.09)
    growth = np.exp(2 * trace["log_norm"][:, 1]).mean(axis=1)
    assert_agrees(
        growth.mean() / 31, 1.0, growth.std(ddof=1) / 31 / math.sqrt(replicas), resolution=0.25
    )


CASES = {
    "res3": uneven_images("res3", image=(2, 3)),
    "projection with strides": uneven_images("projection", image=(3, 2), stride=(1, 2, 1, 1)),
    "delta": Ensemble(
        Network(depth=4, block="plain", widths=(2, 4, 3, 5, 4), image=2), DeltaOrthogonal(), Pair()
    ),
    "risotto": Ensemble(
        Network(depth=4, width=6, block="projection", image=2, input_width=2),
        Risotto(alpha=0.7, skip=0.8),
        Pair(),
    ),
    "normal": Ensemble(
        Network(depth=4, width=5, block="projection", image=2, input_width=3), Normal(), Pair()
    ),
    "batch": Ensemble(
        Network(depth=4, width=5, block="preact", inner_width=4), BatchNorm(), Batch(count=3)
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_batch_sampler_draws_from_the_law_of_the_reference(case):
    """Jointly over all fields; see `tests.stat.assert_same_joint_law` for what it would miss."""
    ensemble, count = CASES[case], 20_000
    fields, depth = applicable(ensemble), ensemble.network.depth
    layers = np.array([0, depth // 2, depth])
    traces = []
    for sampler in (batch.Batch(), reference.Reference()):
        key = rng.key(5, ensemble.digest, sampler.name, sampler.version)
        traces.append(sampler.sample(ensemble, fields, layers, key, 0, count))
    if case == "risotto":  # norms and angles are constants, to rounding
        for trace in traces:
            for name in ("log_norm", "looks_linear_cosine", "log_looks_linear_distance"):
                spread = trace.pop(name).std(axis=0)
                assert spread.max() < 1e-12
            trace.pop("looks_linear_effective_rank")
    assert_same_joint_law(*traces, resolution=0.1, scores=0.5, jitter=1e-4)
