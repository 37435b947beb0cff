"""What the tests prove of sampler torch on the processor, on a GPU where there is one."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sigprop
from sigprop import rng
from sigprop.activations import LeakyReLU
from sigprop.backends import Torch, applicable
from sigprop.inputs import Pair
from sigprop.schemes import He
from sigprop.spec import Ensemble, Network
from tests.agreement import AGREEMENTS_OF_TORCH, assert_agreement
from tests.ensembles import BLOCKS, uneven

torch = pytest.importorskip("torch", reason="sampler torch needs it", exc_type=ImportError)
pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that torch finds, and there is none"
)


@pytest.mark.parametrize("case, sampler", AGREEMENTS_OF_TORCH)
def test_torch_draws_from_the_law_of_the_reference(case, sampler):
    assert_agreement(case, sampler, 20_000, resolution=0.08, scores=0.17, device="cuda")


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("method, within", [("dense", 1e-6), ("conditional", 1e-10)])
def test_gradient_times_state_is_constant_in_depth(block, method, within):
    """In full single precision: with TF32 it would be off by 1e-3."""
    ensemble = uneven(block, LeakyReLU(slope=-0.4), inputs=Pair(cosine=0.3))
    sampler = Torch("cuda", method=method, block=64)
    key = rng.key(0, ensemble.digest, "torch", sampler.version)
    trace = sampler.sample(ensemble, applicable(ensemble), np.arange(5), key, 0, 64)
    size = np.exp(trace["log_norm"] + trace["log_gradient"])
    invariant = trace["alignment"] * size
    gap = np.abs(invariant - invariant[:, -1:]) / np.maximum(size, size[:, -1:])
    assert np.nanmax(gap) < within


def test_the_result_is_the_same_for_any_number_of_workers():
    law = Ensemble(Network(depth=3, width=1500), He(law="uniform"), Pair())
    run = {"sampler": Torch("cuda", block=8), "replicas": 30, "seed": 3}
    one, two = (sigprop.simulate(law, workers=workers, **run) for workers in (1, 3))
    assert one.identical(two)


@pytest.mark.parametrize("precision, most", [("tf32", 2.0**-9), ("bf16", 2.0**-6)])
def test_a_lower_precision_is_measured(precision, most):
    """Of the norm after one layer of width 1024; the caller's own precision is left alone."""
    before = torch.get_float32_matmul_precision()
    law = Ensemble(Network(depth=1, width=1024, block="plain"), He(law="uniform"), Pair())
    run = {"sampler": "torch", "device": "cuda", "precision": precision, "replicas": 32}
    result = sigprop.simulate(law, ["norm"], **run)
    error = json.loads(result.attrs["precision_error"])["log_norm"]
    assert 0 < error < most and torch.get_float32_matmul_precision() == before


def test_auto_takes_a_wide_dense_law_to_the_gpu():
    law = Ensemble(Network(depth=2, width=2048), He(law="uniform"), Pair())
    result = sigprop.simulate(law, ["norm"], replicas=4)
    assert result.attrs["sampler"] == "torch"
    assert json.loads(result.attrs["sampler_options"])["device"] == "cuda"
