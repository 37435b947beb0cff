"""Weights before and after training: what is kept, going on after a kill, what is refused."""

import numpy as np
import pytest
import torch
import xarray as xr

from sigprop.errors import ResultError, SpecError
from sigprop.modules import architecture, load_data, weights_before_and_after
from sigprop.modules.train import Recipe, Seeds, train_network

RECIPE = Recipe(optimizer="adam", lr=0.05, epochs=2, batch=32)
NETWORKS = {
    "rough": "stacked:depth=9,width=4,hurst=.3",
    "smooth": "stacked:depth=9,width=4,beta=1,bandwidth=.1",
}
WANTED = {"tensor": "outer", "entries": 5, "seeds": [3, 8]}


@pytest.fixture(scope="module")
def data():
    return load_data("digits", train=96)


@pytest.fixture(scope="module")
def found(data):
    return weights_before_and_after(NETWORKS, data, RECIPE, **WANTED)


def test_what_is_kept_are_the_entries_of_the_tensor_before_and_after(data, found):
    assert found.entry.values.tolist() == [0, 4, 8, 11, 15]
    assert found.layer.values.tolist() == list(range(1, 10))
    given = Seeds.of(8)
    network = architecture(NETWORKS["smooth"]).build(data.shape, seed=given.init)
    for part in ("before", "after"):
        own = network.outer.detach().numpy().reshape(9, 16)[:, found.entry.values]
        np.testing.assert_array_equal(found[part].sel(case="smooth", seed=8), own)
        if part == "before":
            course = train_network(network, data, RECIPE, given)
    assert float(found.accuracy.sel(case="smooth", seed=8)) == course.test_accuracy[-1]
    assert (found.before != found.after).all()
    assert (found.diverged_step == -1).all()


def test_a_killed_run_goes_on_and_ends_in_the_same_numbers(data, found, tmp_path):
    journal, epochs = tmp_path / "weights", []

    def kill(done, total):
        epochs.append((done, total))
        if len(epochs) == 5:  # in the middle of the third of four runs
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights_before_and_after(NETWORKS, data, RECIPE, **WANTED, journal=journal, progress=kill)
    assert epochs == [(1, 8), (2, 8), (3, 8), (4, 8), (5, 8)]
    threads, seen = torch.get_num_threads(), []
    again = weights_before_and_after(
        NETWORKS, data, RECIPE, **WANTED, journal=journal, progress=lambda d, t: seen.append(d)
    )
    assert seen == [5, 6, 7, 8]  # two runs stood
    assert torch.get_num_threads() == threads
    xr.testing.assert_identical(again, found)
    with pytest.raises(ResultError, match="holds the runs of other networks"):
        weights_before_and_after(
            NETWORKS, data, RECIPE, **(WANTED | {"entries": 6}), journal=journal
        )


def test_what_cannot_be_compared_is_refused_before_any_work(data):
    with pytest.raises(SpecError, match=r"no tensor 'outre'.*it has first, outer, bias, last"):
        weights_before_and_after(NETWORKS, data, RECIPE, **(WANTED | {"tensor": "outre"}))
    uneven = NETWORKS | {"deep": "stacked:depth=10,width=4"}
    with pytest.raises(SpecError, match=r"of one shape.*shapes \[\(9, 16\), \(10, 16\)\]"):
        weights_before_and_after(uneven, data, RECIPE, **WANTED)
    with pytest.raises(SpecError, match=r"seeds \[\]"):
        weights_before_and_after(NETWORKS, data, RECIPE, **(WANTED | {"seeds": []}))
