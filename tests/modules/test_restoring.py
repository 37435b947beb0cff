"""A module that is measured or initialised is left as it was, but for what it was asked for."""

import pytest
import torch
from torch import nn

from sigprop.errors import SpecError
from sigprop.modules.restoring import initialising, measuring, trainable
from tests.modules.states import picture

torch.set_num_threads(1)


@pytest.fixture
def network():
    torch.manual_seed(3)
    made = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 3)
    )
    made[1].eval()  # modes differ from layer to layer
    made(torch.randn(5, 2, 4, 4))
    made[4].weight.grad = torch.full((3, 16), 0.25)
    return made


def test_measuring_leaves_modes_buffers_gradients_and_random_numbers(network):
    before = picture(network)
    with measuring(network) as measured:
        assert [m.training for m in network] == [False, True, False, False, False]
        network(measured.inputs(torch.randn(5, 2, 4, 4)))
        assert int(network[1].num_batches_tracked) == 1  # it was in evaluation mode until now
    assert picture(network) == before


def test_batch_normalisation_as_it_was_before_any_data(network):
    x = torch.randn(5, 2, 4, 4)
    network.train()(x)
    moved = network[1].running_mean.clone()
    with measuring(network, "initial"):
        y = network[0](x)
        torch.testing.assert_close(network[1](y), y, rtol=1e-5, atol=1e-6)
    assert torch.equal(network[1].running_mean, moved)
    with pytest.raises(SpecError, match="'batch' or 'initial', got 'sample'"):
        with measuring(network, "sample"):
            pass


def test_half_weights_are_wide_while_measured_and_as_they_were_after():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(torch.bfloat16)
    x = torch.randn(6, 3).bfloat16()
    before = picture(network)
    with measuring(network) as measured:
        assert network(measured.inputs(x)).dtype == torch.float32
        assert {b.dtype for b in network.buffers()} == {torch.float32, torch.int64}
    assert picture(network) == before


def test_autocast_of_the_caller_is_off():
    network = nn.Linear(3, 4)
    with torch.autocast("cpu", torch.bfloat16), measuring(network):
        assert network(torch.randn(2, 3)).dtype == torch.float32


@pytest.mark.parametrize("end", ["raised", "not applied", "applied"])
def test_initialising_keeps_the_parameters_only_if_all_went_well(network, end):
    before = picture(network)
    try:
        with initialising(network, "doubling", {}, apply=end == "applied") as run:
            with torch.no_grad():
                network[0].weight.mul_(2)
                network[4].bias.fill_(0.5)
            run.changed.add("4.bias")
            if end == "raised":
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert end == "raised"
    after = picture(network)
    changed = {n for n, bits in after["parameters"].items() if bits != before["parameters"][n]}
    assert changed == ({"0.weight", "4.bias"} if end == "applied" else set())
    assert {**after, "parameters": 0} == {**before, "parameters": 0}
    if end != "raised":
        assert run.result.scales["0.weight"] == pytest.approx(2, rel=1e-12)
        assert run.result.scales["4.weight"] == 1
        assert torch.equal(run.result.weights["4.bias"], torch.full((3,), 0.5))
    if end == "not applied":
        run.result.apply(network)
        assert torch.equal(network[4].bias.detach(), torch.full((3,), 0.5))


def test_a_module_without_trainable_or_with_lazy_parameters_is_refused():
    with pytest.raises(SpecError, match=r"Linear has no trainable parameter: LSUV"):
        trainable(nn.Linear(2, 2).requires_grad_(False), "LSUV")
    with pytest.raises(SpecError, match=r"'1.weight' is not made yet \(a lazy layer\)"):
        trainable(nn.Sequential(nn.Linear(2, 3), nn.LazyLinear(2)), "LSUV")
