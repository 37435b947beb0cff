"""What GradInit refuses or tells: settings, networks and batches, the network left as it was."""

from __future__ import annotations

import math
from collections import namedtuple

import pytest
import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError, UnknownName, Unsupported
from sigprop.modules.batches import BatchPair, HalfBatches, joined, model_arguments
from sigprop.modules.gradinit import gradinit
from sigprop.modules.gradinit_settings import Settings
from tests.modules.chains import Chain, half_square, point
from tests.modules.kinds_of_networks import assert_same_state, network, state

torch.set_num_threads(1)


@pytest.mark.parametrize(
    "settings, error, says",
    [
        ({"optimizer": "adm"}, UnknownName, "Did you mean 'adam'"),
        ({"optimizer": "adam"}, SpecError, "gamma was not given"),
        ({"gamma": -1.0}, SpecError, "gamma must be positive"),
        ({"gamma": math.nan}, SpecError, "gamma must be positive"),
        ({"lr": 0.0}, SpecError, "lr must be positive"),
        ({"lr": math.inf}, SpecError, "lr must be positive"),
        ({"tau": -0.1}, SpecError, "tau must be positive"),
        ({"steps": 0}, SpecError, "steps must be a whole number"),
        ({"steps": 1.5}, SpecError, "steps must be a whole number"),
        ({"clip": 0.0}, SpecError, "clip must be positive or None"),
        ({"overlap": 0.3}, SpecError, "overlap is 0, 0.5 or 1"),
        ({"betas": (0.9, 1.0)}, SpecError, "betas must be two numbers"),
        ({"min_scale": 2.0}, SpecError, "min_scale must be between 0 and 1"),
        ({"min_scale_bias": -1.0}, SpecError, "min_scale_bias must be between"),
        ({"max_scale": 0.5}, SpecError, "max_scale must be 1 or more"),
        ({"moments": "both"}, UnknownName, "shared, split"),
        ({"hvp": "duoble"}, UnknownName, "Did you mean 'double'"),
        ({"backend": "functionl"}, UnknownName, "Did you mean 'functional'"),
        ({"final": "best"}, UnknownName, "best_feasible"),
        ({"exclude": ["4.wieght"]}, SpecError, "Did you mean '4.weight'"),
        ({"exclude": "*"}, SpecError, "zero or excluded"),
    ],
)
def test_settings_are_refused_before_any_work(settings, error, says):
    model, data, loss_fn = network("frozen layer")
    before, drawn = state(model), []
    with pytest.raises(error, match=says):
        gradinit(model, lambda: drawn.append(0) or data(), loss_fn, **settings)
    assert_same_state(before, state(model))
    assert not drawn


def test_a_bias_is_known_by_the_last_part_of_its_name():
    settings = Settings(min_scale=0.02, min_scale_bias=0.001)
    names = ("0.bias", "lstm.bias_ih_l0", "bias_net.weight", "debias.0.weight", "gain")
    assert [settings.lower(name) for name in names] == [0.001, 0.001, 0.02, 0.02, 0.02]


def all_frozen():
    return nn.Linear(6, 3).requires_grad_(False)


def all_zero():
    model = nn.Linear(6, 3)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    return model


@pytest.mark.parametrize(
    "make, error, says",
    [
        (nn.Identity, SpecError, "no parameters"),
        (all_frozen, SpecError, "no trainable parameter"),
        (all_zero, SpecError, "zero or excluded"),
        (lambda: nn.LazyLinear(3), SpecError, "lazily initialised"),
        (lambda: nn.Linear(6, 3, device="meta"), Unsupported, "meta device"),
        (lambda: nn.Linear(6, 3, dtype=torch.complex64), Unsupported, "complex"),
    ],
)
def test_networks_without_a_scale_are_refused(make, error, says):
    _, data, loss_fn = network("frozen layer")
    with pytest.raises(error, match=says):
        gradinit(make(), data, loss_fn)


def test_a_loss_that_is_not_finite_at_the_start():
    model, data, loss_fn = network("frozen layer")
    before = state(model)
    with pytest.raises(NonFinite, match="iteration 0: the loss is nan"):
        gradinit(model, data, lambda output, batch: loss_fn(output, batch) * math.nan)
    assert_same_state(before, state(model))


def test_a_step_that_overflows_is_told_and_not_clamped():
    with pytest.raises(NonFinite, match="iteration 0: the loss after the step is inf"):
        gradinit(Chain((1.0, 1.0)), [point(1.0, 2.0)], half_square, lr=1e160, gamma=1e9)


@pytest.mark.parametrize(
    "loss_fn, says",
    [
        (lambda output, batch: output, "one number, got"),
        (lambda output, batch: 1.0, "one number, got float"),
        (lambda output, batch: output.detach().sum(), "depends on no trainable tensor"),
    ],
)
def test_a_loss_of_no_use_is_refused(loss_fn, says):
    model, data, _ = network("frozen layer")
    before = state(model)
    with pytest.raises(SpecError, match=says):
        gradinit(model, data, loss_fn)
    assert_same_state(before, state(model))


def test_a_gamma_that_is_never_reached_is_told():
    model, data, loss_fn = network("frozen layer")
    result = gradinit(model, data, loss_fn, steps=5, gamma=1e-6)
    assert set(result.history["case"]) == {"c"}
    (told,) = [warning for warning in result.warnings if "was never reached" in warning]
    assert told.startswith("gamma = 1e-06 (given)")
    assert f"{min(result.history['grad_norm']):.4g} at the lowest" in told


# ------------------------------------------------------------------ batches


def test_a_list_starts_again_and_an_iterator_that_ends_is_told():
    model, data, loss_fn = network("frozen layer")
    gradinit(model, [data() for _ in range(3)], loss_fn, steps=4, gamma=1e9)
    before = state(model)
    with pytest.raises(SpecError, match="ended after 7 half-batches and cannot be started again"):
        gradinit(model, (data() for _ in range(7)), loss_fn, steps=3, gamma=1e9)
    assert_same_state(before, state(model))


def test_batches_that_end_with_the_last_iteration_suffice():
    model, data, loss_fn = network("frozen layer")
    result = gradinit(model, (data() for _ in range(6)), loss_fn, steps=2, gamma=1e9)
    assert any("was learned from" in warning for warning in result.warnings)
    assert result.after["stepped_loss"] > 0


def test_a_short_last_batch_is_dropped_and_told():
    model, data, loss_fn = network("frozen layer")
    full = [data() for _ in range(3)]
    short = [*full, tuple(part[:3] for part in data())]
    with_short, without = (
        gradinit(model, batches, loss_fn, steps=5, gamma=1e9, apply=False)
        for batches in (short, full)
    )
    assert dict(with_short.scales) == dict(without.scales)
    assert any("shorter than 8 examples" in warning for warning in with_short.warnings)


@pytest.mark.parametrize(
    "source, says",
    [
        (3, "an iterable or a function"),
        ([], "batches is empty"),
        ([torch.ones(2), torch.ones(4)], "4 examples follows one of 2"),
        (["words"], "no tensor with a first dimension"),
        ([torch.tensor(1.0)], "no tensor with a first dimension"),
    ],
)
def test_batches_of_no_use_are_refused(source, says):
    with pytest.raises(SpecError, match=says):
        batches = HalfBatches(source)
        for _ in range(2):
            batches.draw()


def test_a_source_that_only_grows_shorter_is_refused():
    sizes = iter([4, *[2] * 2000])
    batches = HalfBatches(lambda: torch.ones(next(sizes)))
    batches.draw()
    with pytest.raises(SpecError, match="every half-batch after the first is shorter"):
        batches.draw()
    listed = HalfBatches([torch.ones(4)])
    assert [len(listed.draw()) for _ in range(3)] == [4, 4, 4]


def test_batches_are_joined_leaf_by_leaf():
    named = namedtuple("named", "x y")
    ones, twos = torch.ones(2, 3), 2 * torch.ones(1, 3)
    whole = joined({"a": (ones, [named(ones, 1)])}, {"a": (twos, [named(twos, 1)])})
    assert whole["a"][0].shape == (3, 3) and whole["a"][1][0].x[-1, 0] == 2
    assert whole["a"][1][0].y == 1
    with pytest.raises(SpecError, match=r"\(2, 3\) and \(2, 4\).*BatchPair"):
        joined(ones, torch.ones(2, 4))
    for other in ((ones,), {"a": ones}, {"b": ones}, 7):
        with pytest.raises(SpecError, match="differ in structure"):
            joined({"a": ones, "b": ones}, other)
    assert isinstance(HalfBatches([BatchPair(ones, twos)]).draw(), BatchPair)


def test_what_the_model_reads_of_a_batch():
    class Two(nn.Module):
        def forward(self, x, mask=None):
            return x

    x, y = torch.ones(2), torch.zeros(2)
    assert model_arguments(Two(), x)[0][0] is x
    assert model_arguments(Two(), (x, y))[0] == (x,)
    assert len(model_arguments(Two(), ((x, y), y))[0]) == 2
    assert set(model_arguments(Two(), ({"mask": y}, y))[1]) == {"mask"}
    assert set(model_arguments(Two(), {"x": x, "mask": y, "labels": y})[1]) == {"x", "mask"}
    with pytest.raises(SpecError, match="names none"):
        model_arguments(Two(), {"labels": y})
    with pytest.raises(SpecError, match="empty tuple"):
        model_arguments(Two(), ())
