"""What every data-driven method returns is of one type: it is applied, written, read and drawn."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from sigprop import modules
from sigprop.modules import InitResult
from tests.modules.states import bits, picture

torch.set_num_threads(1)


def network():
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3)
    )


def inputs():
    return torch.randn(20, 6, generator=torch.Generator().manual_seed(1)) + 0.2


METHODS = {
    "lsuv": lambda model, **more: modules.lsuv(model, inputs(), **more),
    "kraehenbuehl": lambda model, **more: modules.kraehenbuehl(model, inputs(), **more),
    "autoinit_analytic": lambda model, **more: modules.autoinit_analytic(model, **more),
    "autoinit_jacobian": lambda model, **more: modules.autoinit_jacobian(
        model, inputs(), steps=4, **more
    ),
    "metainit": lambda model, **more: modules.metainit(model, (6,), 3, steps=4, **more),
}


@pytest.mark.parametrize("method", METHODS)
def test_the_result_applied_is_what_the_method_does_itself(method):
    model, other = network(), network()
    before = picture(model)
    found = METHODS[method](model, apply=False)
    assert picture(model) == before
    METHODS[method](other)
    found.apply(model)
    assert [bits(p) for p in model.parameters()] == [bits(p) for p in other.parameters()]
    assert found.method == method and found.seconds > 0


@pytest.mark.parametrize("method", METHODS)
def test_the_scales_are_ratios_of_norms_and_the_result_is_written_and_drawn(method):
    model = network()
    before = {name: float(p.detach().norm()) for name, p in model.named_parameters()}
    found = METHODS[method](model)
    for name, value in model.named_parameters():
        if np.isfinite(found.scales[name]):
            norm = found.scales[name] * before[name]
            np.testing.assert_allclose(float(value.detach().norm()), norm, rtol=1e-5, atol=1e-6)
    assert found.scales["3.weight"] != 1 and found.scales["1.weight"] == 1
    again = InitResult.from_json(found.to_json())
    assert again.scales == dict(found.scales) and again.settings == found.settings
    for column in found.history:
        np.testing.assert_array_equal(again.history[column], found.history[column])
    panels = Figure().subplots(1, 2)
    found.plot_scales(panels[0])
    if method != "autoinit_analytic":  # which has no course
        found.plot_history(panels[1])
