"""A loss at other values of a network's tensors: right, and nothing of the network is moved."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from sigprop.modules.loss_at import LossAt
from tests.modules.kinds_of_networks import assert_same_state, state

torch.set_num_threads(1)


class Net(nn.Module):
    """A tensor in two modules, a parametrised module, a buffer that is counted, a hook."""

    def __init__(self, fail=False):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.normed = parametrizations.weight_norm(nn.Linear(4, 3))
        self.register_buffer("calls", torch.zeros(1))
        self.fail, self.seen = fail, []
        self.second.register_forward_hook(lambda module, *_: self.seen.append(module.weight))

    def forward(self, x):
        self.calls += 1
        h = torch.tanh(self.second(torch.tanh(self.first(x))))
        if self.fail:
            raise KeyError("in the middle")
        return self.normed(h) * self.calls


def squares(output, batch):
    return output.square().mean()


def places(model):
    """Every object that a module of the network holds, by name."""
    return [
        {name: id(value) for name, value in (module._parameters | module._buffers).items()}
        for module in model.modules()
    ]


def beside(parameters):
    return [value.detach() * (1 + 0.1 * i) for i, value in enumerate(parameters.values())]


@pytest.mark.parametrize("backend", ["functional", "inplace"])
def test_the_loss_and_its_gradient_are_those_of_a_copy_with_these_values(backend):
    model, copy, x = Net(), Net(), torch.randn(5, 4)
    parameters = dict(model.named_parameters())
    values, before, held = beside(parameters), state(model), places(model)
    loss, found = LossAt(model, squares, parameters, backend).gradient(values, (x,))
    with torch.no_grad():
        for parameter, value in zip(copy.parameters(), values):
            parameter.copy_(value)
    wanted = squares(copy(x), None)
    wanted.backward()
    assert loss == pytest.approx(wanted.item(), rel=1e-6)
    for g, parameter in zip(found, copy.parameters(), strict=True):
        torch.testing.assert_close(g, parameter.grad)
    # The hook saw the given value in the second place of the shared tensor.
    at = list(parameters).index("first.weight")
    if backend == "functional":
        assert torch.equal(model.seen[0].detach(), values[at])
    assert_same_state(before, state(model))
    assert places(model) == held


@pytest.mark.parametrize("backend", ["functional", "inplace"])
def test_an_exception_in_the_middle_leaves_every_tensor_in_its_place(backend):
    model = Net(fail=True)
    parameters = dict(model.named_parameters())
    before, held = state(model), places(model)
    with pytest.raises(KeyError, match="in the middle"):
        LossAt(model, squares, parameters, backend).gradient(
            beside(parameters), (torch.ones(2, 4),)
        )
    assert model.seen and places(model) == held
    assert_same_state(before, state(model))


@pytest.mark.parametrize("backend", ["functional", "inplace"])
def test_values_that_are_leaves_themselves_are_differentiated_by(backend):
    model = Net()
    parameters = dict(model.named_parameters())
    plain = beside(parameters)
    leaves = [value.clone().requires_grad_() for value in plain]
    loss = LossAt(model, squares, parameters, backend)
    results = [loss.gradient(values, (torch.ones(2, 4),)) for values in (plain, leaves)]
    assert results[0][0] == results[1][0]
    assert all(map(torch.equal, results[0][1], results[1][1]))
    assert all(leaf.grad is None for leaf in leaves)
