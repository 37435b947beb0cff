"""What an initialisation found can be applied once, written, read and drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from sigprop.errors import ResultError, SpecError
from sigprop.modules.init_result import InitResult, kinds, norms

torch.set_num_threads(1)


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def result_for(model, **more):
    scales = {"0.weight": 0.5, "0.bias": 3.0, "1.weight": 0.25, "1.bias": 1.0, "3.weight": 2.0}
    history = {
        "iteration": np.arange(3),
        "case": np.array(["c", "o", "c"]),
        "grad_norm": np.array([3.0, 0.5, 2.0]),
        "loss1": np.array([np.nan, 0.25, np.nan]),
    }
    return InitResult(
        method="gradinit",
        scales=scales | {"3.bias": 1.0},
        norms=norms(model),
        kinds=kinds(model),
        history=history,
        before={"grad_norm": 7.0, "stepped_loss": np.inf},
        settings={"gamma": 1.0, "lr": 0.1},
        seconds=1.5,
        warnings=("A sentence.",),
        **more,
    )


def test_a_gain_is_known_by_its_layer_and_a_bias_by_its_name():
    assert kinds(network()) == {
        "0.weight": "weight",
        "0.bias": "bias",
        "1.weight": "gain",
        "1.bias": "bias",
        "3.weight": "weight",
        "3.bias": "bias",
    }


def test_applying_multiplies_the_tensors_in_place():
    model = network()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    places = {name: value.data_ptr() for name, value in model.named_parameters()}
    result = result_for(model)
    result.apply(model)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name] * result.scales[name])
        assert value.data_ptr() == places[name]


def test_a_result_is_applied_once():
    model = network()
    result = result_for(model)
    result.apply(model)
    kept = [value.detach().clone() for value in model.parameters()]
    with pytest.raises(SpecError, match="applied already"):
        result.apply(model)
    assert all(torch.equal(a, b) for a, b in zip(kept, model.parameters()))
    with pytest.raises(SpecError, match=r"no tensor '0\.weight'"):
        result.apply(nn.Linear(2, 2))


def test_weights_that_were_set_are_put_there():
    model = network()
    value = torch.arange(24.0).reshape(2, 12)
    result = result_for(model, weights={"3.weight": value})
    result.apply(model)
    assert torch.equal(model[3].weight, value)
    again = InitResult.from_json(result.to_json())
    with pytest.raises(ResultError, match="sets weights anew"):
        again.apply(network())


def test_json_is_strict_and_says_everything():
    model = network()
    result = result_for(model)
    text = result.to_json()
    plain = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert plain["history"]["loss1"] == [None, 0.25, None]
    again = InitResult.from_json(text)
    assert again.to_json() == text
    assert again.before["stepped_loss"] == np.inf and np.isnan(again.history["loss1"][0])
    again.apply(model)
    assert float(model[3].weight.detach().norm()) == pytest.approx(2 * result.norms["3.weight"])


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"method": "gradinit"}'])
def test_what_is_no_result_is_refused(text):
    with pytest.raises(ResultError, match="no result of an initialisation"):
        InitResult.from_json(text)


def test_columns_of_a_history_are_of_one_length():
    model = network()
    with pytest.raises(SpecError, match="one length"):
        InitResult(
            method="lsuv", scales={}, norms=norms(model), kinds={}, history={"a": [1], "b": [1, 2]}
        )


def test_pictures_show_kinds_of_tensors_and_cases():
    model = network()
    with torch.no_grad():
        model[1].bias.zero_()
    left, right = Figure().subplots(1, 2)
    result = result_for(model)
    result.plot_scales(left)
    result.plot_history(right)
    lines = {line.get_label(): line.get_xydata().tolist() for line in left.get_lines()[:3]}
    assert lines == {
        "weights": [[1, 0.5], [2, 2.0]],
        "gains of normalisation": [[1, 0.25]],
        "biases": [[1, 3.0], [2, 1.0]],
    }
    drawn = {line.get_label(): line.get_ydata() for line in right.get_lines()}
    assert list(drawn["case c: lower the norm"]) == [3.0, 2.0]
    assert list(drawn["$\\gamma$ = 1"]) == [1.0, 1.0]
    with pytest.raises(SpecError, match="no course to draw"):
        InitResult(method="lsuv", scales={}, norms={}, kinds={}).plot_history(right)
