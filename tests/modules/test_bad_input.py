"""What an initialiser cannot work on is refused in a sentence, and nothing is touched."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from sigprop import modules
from sigprop.errors import SpecError, Unsupported
from sigprop.modules import anatomy, init
from tests.modules.residual import Block, conv_net, mlp, residual_mlp

torch.set_num_threads(1)


@contextmanager
def refused(model: nn.Module, error: type[Exception], match: str) -> Iterator[None]:
    """The error is raised, and every number and mode of the module is what it was."""
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    with pytest.raises(error, match=match):
        yield
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes


def test_no_example_input():
    model = mlp(3, 4, 2)
    with refused(model, SpecError, r"he_ of Sequential needs an example input"):
        init.he_(model)


def test_no_parameters():
    with refused(model := nn.Sequential(nn.ReLU()), SpecError, "Sequential has no parameters"):
        init.he_(model, torch.ones(1, 3))


def test_lazily_initialised_parameters():
    model = nn.Sequential(nn.Linear(3, 4), nn.LazyLinear(2))
    with pytest.raises(SpecError, match=r"module '1' \(LazyLinear\) is lazily initialised"):
        init.he_(model, torch.ones(1, 3))
    assert model[1].has_uninitialized_params()
    model(torch.ones(1, 3))
    assert init.he_(model, torch.ones(1, 3))["1.weight"].rule == "He"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_weights():
    from torch.ao.quantization import quantize_dynamic

    model = quantize_dynamic(mlp(3, 4, 2), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(Unsupported, match=r"module '0' \(Linear\) is quantised"):
        init.he_(model, torch.ones(1, 3))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_module_compiled_by_jit_is_named():
    model = nn.Sequential(nn.ReLU(), torch.jit.script(nn.Linear(3, 4)))
    with refused(model, Unsupported, r"module '1' \(.*\) is compiled by torch.jit"):
        init.he_(model, torch.ones(1, 3))
    with refused(model, Unsupported, r"Give the module from which it was made"):
        anatomy(model, torch.ones(1, 3))


def test_a_generator_that_is_a_number():
    model = mlp(3, 4, 2)
    with refused(model, SpecError, r"generator must be a torch.Generator, got 7"):
        init.he_(model, torch.ones(1, 3), generator=7)


def test_integer_weights():
    model = nn.Sequential(nn.Linear(3, 4))
    model[0].code = nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)
    with refused(model, Unsupported, r"module '0' \(Linear\) has a code of type torch.int8"):
        init.he_(model, torch.ones(1, 3))


@pytest.mark.parametrize("function", [init.he_, init.skipinit_, init.risotto_, init.scaled_])
def test_a_frozen_weight_of_a_branch(function):
    model = residual_mlp((8, 8, 8))
    model[3].layers[1].weight.requires_grad_(False)
    before = model[3].layers[1].weight.clone()
    if function is init.he_:
        report = function(model, torch.ones(1, 3))
        assert report["3.layers.1.weight"].why == "frozen: requires_grad is False"
        assert torch.equal(model[3].layers[1].weight, before)
        assert report["3.layers.0.weight"].rule == "He"
        return
    with refused(model, Unsupported, r"module '3.layers.1' \(Linear\)"):
        function(model, torch.ones(1, 3))


def test_a_frozen_gain_that_ends_a_branch():
    model = Block([nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))])
    model.layers[1][1].weight.requires_grad_(False)
    with refused(model, Unsupported, r"'layers.1.1.weight', of module 'layers.1.1' \(BatchNorm1d"):
        init.skipinit_(model, torch.ones(2, 4))


def test_a_normalisation_without_a_gain_ends_a_branch():
    end = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False))
    model = Block([nn.Linear(4, 4), end])
    with refused(model, Unsupported, r"module '0.layers.1.1' \(BatchNorm1d\), which ends it, has"):
        init.scaled_(nn.Sequential(model, model), torch.ones(2, 4))


def test_shared_parameters_that_a_scheme_sets_alike_are_set_once():
    block = Block([nn.Linear(8, 8), nn.Linear(8, 8)])
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), block, block)
    report = init.fixup_(model, torch.ones(1, 3), generator=torch.Generator().manual_seed(0))
    assert report.sums == 2
    assert report["2.layers.0.weight"].std == pytest.approx((2 / 8) ** 0.5 * 2**-0.5)
    assert (block.layers[1].weight == 0).all()


def test_shared_parameters_that_a_scheme_sets_in_two_ways():
    model = residual_mlp((8, 8, 8))
    model[3].layers[0].weight = model[2].layers[1].weight
    with refused(model, SpecError, r"parameter '2.layers.1.weight' is shared: scheme 'fixup'"):
        init.fixup_(model, torch.ones(1, 3))
    with refused(model, Unsupported, r"'2.layers.1.weight' is shared: module '2.layers.1'"):
        init.risotto_(model, torch.ones(1, 3))


def test_a_read_out_tied_to_an_embedding_is_left_alone():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
            self.out.weight = self.words.weight
            self.inner = Block([nn.Linear(4, 6), nn.Linear(6, 4)])

        def forward(self, index):
            return self.out(self.inner(self.words(index)))

    model = Tied()
    before = model.words.weight.clone()
    report = init.he_(model, torch.ones(2, 3, dtype=torch.long))
    assert torch.equal(model.words.weight, before)
    assert report["words.weight"].why.startswith("an embedding")


def test_a_weight_that_is_computed_of_others():
    model = residual_mlp((8, 8))
    nn.utils.parametrizations.weight_norm(model[2].layers[1])
    with refused(model, Unsupported, r"the weight of module '2.layers.1'.* which is computed of"):
        init.fixup_(model, torch.ones(1, 3))
    left = {s.tensor for s in init.he_(model, torch.ones(1, 3)).left}
    assert left == {
        "2.layers.1.parametrizations.weight.original0",
        "2.layers.1.parametrizations.weight.original1",
    }


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_outputs_that_are_no_tensor_are_supported(kind):
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block([nn.Linear(4, 6), nn.Linear(6, 4)])

        def forward(self, x):
            y = self.block(x)
            return (y, {"x": x}) if kind == "tuple" else {"y": y, "rest": [x]}

    report = init.skipinit_(Many(), torch.ones(1, 4))
    assert report.sums == 1 and report["block.layers.1.weight"].value == 0.0


def test_an_input_of_the_wrong_shape():
    model = conv_net((8, 8), kind="B")
    with refused(
        model, SpecError, r"module '0' \(Conv2d\) failed on an input of shape \(1, 5, 4, 4"
    ):
        init.he_(model, torch.ones(1, 5, 4, 4))


def test_a_batch_of_one_is_enough_where_batch_norm_is_in_training():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    before = copy.deepcopy(dict(model.named_buffers()))
    with pytest.raises(ValueError, match="more than 1 value"):
        model(torch.ones(1, 3))  # what torch itself says
    assert init.he_(model, torch.ones(1, 3))["1.weight"].value == 1.0
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.named_buffers() if "tracked" not in k)


def test_an_anatomy_of_another_module():
    found = anatomy(mlp(3, 4, 4, 2), torch.ones(1, 3))
    model = mlp(3, 4, 2)
    with refused(model, SpecError, "the anatomy given is of another module: Sequential has no"):
        init.he_(model, anatomy=found)


def test_an_activation_without_moments():
    model = nn.Sequential(nn.Linear(3, 4), nn.Hardswish(), nn.Linear(4, 2))
    with refused(
        model, Unsupported, "activation 'hardswish' of Sequential has no Gaussian moments"
    ):
        init.he_(model, torch.ones(1, 3))


def test_recurrent_weights_are_left_alone():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = nn.LSTM(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(self.lstm(x)[0])

    report = init.lecun_(Last(), torch.ones(5, 2, 3))
    assert report["out.weight"].rule == "LeCun"
    assert all(s.why.startswith("recurrent") for s in report.left if "weight" in s.tensor)


def test_a_plain_network_has_no_branch():
    model = mlp(3, 4, 4, 2)
    for function in (init.fixup_, init.skipinit_, init.rezero_, init.scaled_, init.risotto_):
        with refused(model, Unsupported, "no residual sum was found in Sequential"):
            function(model, torch.ones(1, 3))


@pytest.mark.parametrize("function", [init.fractional_, init.looks_linear_])
def test_a_scheme_of_plain_networks_refuses_a_trunk(function):
    with refused(model := residual_mlp((8, 8)), Unsupported, r"module '2' \(Block\) adds a branch"):
        function(model, torch.ones(1, 3))


def test_fixup_refuses_what_its_exponent_is_not_for():
    model = residual_mlp((8, 8), (), kind="inner")
    why = r"at least 2 weight layers, and that of residual sum '0' has 1"
    with refused(model, Unsupported, why):
        init.fixup_(model, torch.ones(1, 8))
    layer = nn.TransformerEncoderLayer(4, 2, 6)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    with refused(encoder, Unsupported, r"the branch 'layers.0:1', which is attention"):
        init.fixup_(encoder, torch.ones(3, 1, 4))

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.gate = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, h):
            f = self.two(torch.relu(self.one(h)))
            return h + f * torch.sigmoid(self.gate(f))

    with refused(gated := nn.Sequential(Gated()), Unsupported, "branch '0', which is no chain of"):
        init.fixup_(gated, torch.ones(1, 4))
    with refused(model, SpecError, r"classifier must be one of zero, he, got 'zeros'"):
        init.fixup_(model, torch.ones(1, 8), classifier="zeros")


def test_risotto_refuses_what_pairs_are_not_for():
    x = torch.ones(1, 3)
    cases = [
        (residual_mlp((7, 7)), SpecError, "an even number of units", x),
        (residual_mlp((8, 8), (5,)), SpecError, r"module '2.layers.0' \(Linear\) writes 5", x),
        (residual_mlp((8, 6), kind="C"), SpecError, "from 8 to 6 units at '2'", x),
        (residual_mlp((4, 4)), SpecError, "a first layer of at least 6 units", x),
        (residual_mlp((3, 3), kind="inner"), Unsupported, "is followed by no activ", x),
    ]  # fmt: skip
    for model, error, match, example in cases:
        with refused(model, error, match):
            init.risotto_(model, example)
    model = residual_mlp((8, 8))
    with refused(model, SpecError, "alpha = 0 needs a projection in every block, and '2' has none"):
        init.risotto_(model, x, alpha=0.0)
    even = nn.Sequential(
        nn.Conv2d(2, 8, 4, padding=2), nn.ReLU(), Block([nn.Conv2d(8, 8, 1)] * 2, post=True)
    )
    with refused(even, Unsupported, r"module '0' \(Conv2d\) has a kernel of \(4, 4\) without"):
        init.risotto_(even, torch.ones(1, 2, 5, 5))


def test_fractional_refuses_kernels_and_normalisation():
    kernels = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    with refused(kernels, Unsupported, r"module '0' \(Conv2d\) is of kind 'conv'"):
        init.fractional_(kernels, torch.ones(1, 2, 3, 3))
    normalised = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2))
    with refused(normalised, Unsupported, r"module '1' \(LayerNorm\) divides the norm out"):
        init.fractional_(normalised, torch.ones(1, 3))
    plain = mlp(3, 4, 2)
    with refused(plain, SpecError, "s must be a number in"):
        init.fractional_(plain, torch.ones(1, 3), s=3.0)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.functional.mse_loss, None, "mse"])
@pytest.mark.parametrize("method", ["gradinit", "metainit", "gradient_quotient", "gradient_noise"])
def test_a_loss_that_takes_labels_is_refused_before_any_work(method, loss):
    """It would be called with a whole batch, and torch's own words do not say so."""
    model, batches = nn.Linear(3, 2), [(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64))] * 16
    if method == "metainit":
        if loss is None:  # cross-entropy
            return
        call = lambda: modules.metainit(model, (3,), 2, loss)  # noqa: E731
    else:
        call = lambda: getattr(modules, method)(model, batches, loss)  # noqa: E731
    with pytest.raises(SpecError, match="lambda output, batch: "):
        call()


def test_a_number_where_a_sequence_is_needed_is_refused():
    model, batches = nn.Linear(3, 2), [(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64))]
    with pytest.raises(SpecError, match=r"Write \(3,\)"):
        modules.metainit(model, 3, 2)
    with pytest.raises(SpecError, match="betas must be two numbers"):
        modules.gradinit(model, batches, lambda o, b: o.sum(), betas=0.9)
