"""What does not fit into memory is refused before anything is allocated."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import sigprop
from sigprop import Ensemble, Given, Network, Point, memory
from sigprop.errors import SpecError
from sigprop.request import defaults, requested
from sigprop.schemes import He


def asked(inputs, **run):
    network = Network(depth=30, width=50)
    return requested(Ensemble(network, He(), inputs), **{**defaults(), **run})


def many(count):
    return Given(np.random.default_rng(0).normal(size=(count, 50)))


def test_an_ensemble_of_too_many_layers_is_refused(monkeypatch):
    network = Network(depth=1000)
    Ensemble(network, He())
    monkeypatch.setattr(memory, "available", lambda: memory.of_network(network) - 1.0)
    with pytest.raises(SpecError, match=r"a table of 1000 layers takes .* GiB of memory by estim"):
        Ensemble(network, He())


def test_a_run_that_does_not_fit_is_refused_and_draws_nothing(monkeypatch, tmp_path):
    request = asked(many(40), replicas=200)
    need = memory.of_request(request, 2)
    assert need > 1.5 * memory.of_request(request, 1)  # nearly all of it is the workers'
    monkeypatch.setattr(memory, "available", lambda: need - 1.0)
    monkeypatch.setattr(type(request.sampler), "sample", lambda *_: pytest.fail("drew"))
    out = tmp_path / "a.nc"
    with pytest.raises(SpecError, match=r"40 input.* GiB of memory by estimate"):
        sigprop.simulate(request.ensemble, replicas=200, workers=2, out=out)
    assert not list(tmp_path.iterdir())


def test_workers_that_have_nothing_to_do_take_no_memory():
    request = asked(Point(), replicas=100)
    assert memory.of_request(request, 10**6) == memory.of_request(request, 1)


@pytest.mark.parametrize("count", [20, 60])
def test_the_estimate_is_that_of_a_block(count):
    """Within a factor of three of what NumPy takes; vectors of a kernel are few here."""
    request = asked(many(count))
    where = (request.fields, request.layers, request.key, 0, request.block)
    request.sampler.sample(request.ensemble, *where)  # what is compiled once is not a block's
    tracemalloc.start()
    try:
        request.sampler.sample(request.ensemble, *where)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / 3 < memory.of_request(request, 1) < 3 * peak


def test_there_is_memory():
    assert 2**20 < memory.available() < 2**60
