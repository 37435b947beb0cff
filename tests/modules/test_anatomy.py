"""Weight layers and residual sums are found in modules that know nothing of this project."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sigprop.errors import SpecError, Unsupported
from sigprop.modules.anatomy import anatomy
from tests.vision import models

torch.set_num_threads(1)


def _names(layers) -> list[str]:
    return [layer.name for layer in layers]


def _vision(name: str, norm: bool = True) -> nn.Module:
    layer = {} if norm else {"norm_layer": lambda channels: nn.Identity()}
    return getattr(models(), name)(num_classes=10, **layer)


# --------------------------------------------------------- modules of torchvision and torch


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("name", "inner"), [("resnet18", 2), ("resnet50", 3)])
def test_resnets_of_torchvision_have_a_sum_a_block(name, inner, norm):
    model = _vision(name, norm)

    found = anatomy(model, torch.randn(1, 3, 32, 32))

    blocks = [n for n, m in model.named_modules() if hasattr(m, "downsample")]
    assert [s.name for s in found.sums] == blocks
    for s in found.sums:
        block = model.get_submodule(s.name)
        assert _names(s.layers) == [f"{s.name}.conv{j + 1}" for j in range(inner)]
        projected = block.downsample is not None
        assert _names(s.shortcut_layers) == [f"{s.name}.downsample.0"] * projected
        assert s.type == ("C" if projected else "B")
        assert s.activation == "relu" and s.activations == ("relu",) * (inner - 1)
        assert s.ends == (f"{s.name}.bn{inner}" if norm else None)
    convolutions = [n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert sorted(_names(found.layers)) == sorted(convolutions)
    assert _names(found.layers)[0] == "conv1" and _names(found.layers)[-1] == "fc"
    assert found.activations == ("relu",) and found.unused == ()


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_transformer_encoder_has_two_sums_a_layer(norm_first):
    layer = nn.TransformerEncoderLayer(8, 2, 12, norm_first=norm_first, activation="gelu")
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    found = anatomy(model, torch.randn(5, 2, 8))

    assert [s.name for s in found.sums] == [f"layers.{k}:{i}" for k in range(3) for i in (1, 2)]
    attention, mlp = found.sums[2:4]
    assert [x.kind for x in attention.layers] == ["attention_in", "attention_out"]
    assert [x.weight for x in attention.layers] == [
        "layers.1.self_attn.in_proj_weight",
        "layers.1.self_attn.out_proj.weight",
    ]
    assert _names(mlp.layers) == ["layers.1.linear1", "layers.1.linear2"]
    assert [(x.fan_in, x.fan_out) for x in mlp.layers] == [(8, 12), (12, 8)]
    assert mlp.activations == ("gelu",) and mlp.activation is None
    assert mlp.norm == (None if norm_first else "layers.1.norm2")
    assert ("layers.1.norm2" in mlp.branch) == norm_first


def test_the_fast_path_of_a_transformer_is_not_taken():
    """In evaluation torch would run the layer as one operation, in which nothing is seen."""
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 2)
    model.eval()
    assert len(anatomy(model, torch.randn(2, 5, 8)).sums) == 4


def test_concatenations_are_no_residual_sums():
    model = _vision("squeezenet1_0")
    assert anatomy(model, torch.randn(1, 3, 64, 64)).sums == ()


# ------------------------------------------------------------------- anybody's own modules


class _Residual(nn.Module):
    """A residual MLP that adds in the way it is told."""

    def __init__(self, way: str, depth: int = 3) -> None:
        super().__init__()
        self.way = way
        self.first = nn.Linear(4, 6)
        self.one = nn.ModuleList(nn.Linear(6, 5) for _ in range(depth))
        self.two = nn.ModuleList(nn.Linear(5, 6) for _ in range(depth))
        self.gain = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in range(depth))
        self.shift = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in range(depth))

    def forward(self, x):
        h = self.first(x)
        for one, two, gain, shift in zip(self.one, self.two, self.gain, self.shift):
            f = gain * two(F.leaky_relu(one(h + shift), 0.25))
            if self.way == "a + b":
                h = h + f
            elif self.way == "a += b":
                f += h
                h = f
            elif self.way == "torch.add":
                h = torch.add(h, f, alpha=0.5)
            elif self.way == "sum":
                h = sum([h, f])
            else:
                h = torch.relu(f.add(h))
        return {"state": h, "both": (h, x)}


@pytest.mark.parametrize("way", ["a + b", "a += b", "torch.add", "sum", "relu of add"])
def test_a_sum_is_found_however_it_is_written(way):
    found = anatomy(_Residual(way), torch.randn(2, 4))

    assert [s.name for s in found.sums] == [":1", ":2", ":3"]
    for k, s in enumerate(found.sums):
        assert _names(s.layers) == [f"one.{k}", f"two.{k}"]
        assert s.shortcut_layers == () and s.activations == ("leaky_relu",)
        assert s.multipliers == (f"gain.{k}",) and s.biases == (f"shift.{k}",)
        assert s.type == ("B" if way == "relu of add" else "identity")
    assert found.layers[2].reads == "leaky_relu" and found.layers[2].slope == 0.25
    assert found.layers[0].reads is None


class _Pair(nn.Module):
    """Two ways from the input, each a function of its own."""

    def __init__(self, left: nn.Module, right: nn.Module, act: bool = False) -> None:
        super().__init__()
        self.left, self.right, self.act = left, right, act

    def forward(self, x):
        z = self.left(x) + self.right(x)
        return torch.relu(z) if self.act else z


def _two(a: int = 4, b: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, a), nn.ReLU(), nn.Linear(a, b))


def test_the_branch_is_the_way_with_more_weight_layers_on_either_side():
    for sides in ((_two(b=3), nn.Linear(4, 3)), (nn.Linear(4, 3), _two(b=3))):
        (s,) = anatomy(_Pair(*sides, act=True), torch.randn(2, 4)).sums
        assert len(s.layers) == 2 and len(s.shortcut_layers) == 1 and s.type == "C"


def test_two_ways_that_are_alike_are_no_residual_sum():
    assert anatomy(_Pair(nn.Linear(4, 3), nn.Linear(4, 3)), torch.randn(2, 4)).sums == ()


def test_parallel_branches_are_two_sums_of_one_trunk():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = _two(5), _two(6)

        def forward(self, x):
            return x + self.left(x) + self.right(x)

    sums = anatomy(nn.Sequential(Parallel()), torch.randn(2, 4)).sums
    assert [s.name for s in sums] == ["0.left", "0.right"]
    assert [x.fan_out for s in sums for x in s.layers] == [5, 4, 6, 4]
    assert all(s.shortcut_layers == () and not s.nested for s in sums)


def test_a_sum_within_a_branch_is_told():
    inner = nn.Sequential(_Pair(nn.Identity(), _two()), nn.Linear(4, 4))
    sums = anatomy(_Pair(nn.Identity(), inner), torch.randn(2, 4)).sums
    assert [s.nested for s in sums] == [False, True]
    assert [len(s.layers) for s in sums] == [2, 3]


def test_what_is_no_function_of_the_input_is_no_operand():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(9, 4), nn.Embedding(7, 4)
            self.out = nn.Linear(4, 9)

        def forward(self, index):
            return self.out(self.words(index) + self.places(torch.arange(index.shape[1])))

    found = anatomy(Positions(), torch.randint(9, (2, 5)))
    assert found.sums == ()
    assert [(x.name, x.kind) for x in found.layers] == [
        ("words", "embedding"),
        ("places", "embedding"),
        ("out", "linear"),
    ]


def test_a_weight_multiplied_by_hand_is_a_layer_with_the_right_fans():
    class ByHand(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 7))
            self.v = nn.Parameter(torch.randn(4, 7))

        def forward(self, x):
            return x + torch.relu(x @ self.w) @ self.v.T

    (s,) = anatomy(ByHand(), torch.randn(2, 4)).sums
    assert [(x.weight, x.fan_in, x.fan_out) for x in s.layers] == [("w", 4, 7), ("v", 7, 4)]


def test_a_weight_that_is_computed_says_of_what():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), nn.ReLU())
    (layer,) = anatomy(model, torch.randn(2, 4)).layers
    assert layer.weight is None and all("parametrizations" in name for name in layer.made_of)


def test_branches_may_be_named_where_none_is_found():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = _two()

        def forward(self, x):
            return torch.lerp(x, self.f(x), 0.5)

    model = nn.Sequential(Gate(), Gate())
    x = torch.randn(2, 4)
    assert anatomy(model, x).sums == ()
    assert [s.name for s in anatomy(model, x, branches="*.f").sums] == ["0.f", "1.f"]
    with pytest.raises(SpecError, match="no module of Sequential"):
        anatomy(model, x, branches="*.g")


# ----------------------------------------------------------------------- left as it was


def test_the_module_is_left_exactly_as_it_was():
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 2)
    )
    model[2].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    state, python = torch.get_rng_state(), random.getstate()

    anatomy(model, torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)))

    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()] == hooks
    assert torch.equal(state, torch.get_rng_state()) and python == random.getstate()
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[4].weight.grad is None


def test_the_module_is_left_as_it_was_by_a_forward_that_fails():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(3, 3))
    with pytest.raises(
        SpecError, match=r"module '1' \(Linear\) failed on an input of shape \(2, 4"
    ):
        anatomy(model, torch.randn(2, 4))
    assert all(m.training and not m._forward_hooks for m in model.modules())


def test_the_example_is_left_as_it_was_by_a_module_that_works_in_place():
    x = torch.tensor([[-1.0, 2.0, -3.0, 4.0]])
    found = anatomy(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)), x)
    assert x.tolist() == [[-1.0, 2.0, -3.0, 4.0]] and found.layers[0].reads == "relu"


def test_a_buffer_that_the_forward_changes_is_put_back():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))
            self.register_buffer("last", torch.full((1,), float("nan")))
            self.f = nn.Linear(4, 4)

        def forward(self, x):
            self.calls += 1
            self.last = x.mean()[None]
            return self.f(x)

    model = Counts()
    held = model.last
    anatomy(model, torch.randn(2, 4))
    assert float(model.calls) == 0 and model.last is held and bool(model.last.isnan())


# --------------------------------------------------------------------------- bad input


def test_what_cannot_be_read_is_refused_in_a_sentence():
    x = torch.randn(2, 4)
    with pytest.raises(SpecError, match="has no parameters"):
        anatomy(nn.Sequential(nn.ReLU()), x)
    with pytest.raises(SpecError, match=r"module '0' \(LazyLinear\) is lazily initialised"):
        anatomy(nn.Sequential(nn.LazyLinear(3)), x)
    with pytest.raises(Unsupported, match=r"module '0' \(Linear\) is on the meta device"):
        anatomy(nn.Sequential(nn.Linear(4, 3, device="meta")), x)
    with pytest.raises(SpecError, match="needs an example input"):
        anatomy(nn.Linear(4, 3))
    with pytest.raises(SpecError, match="is needed, got function"):
        anatomy(lambda x: x, x)
    with pytest.raises(SpecError, match="no weight layer of LayerNorm"):
        anatomy(nn.LayerNorm(4), x)


def test_a_quantised_module_is_refused_by_name():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self._packed_params = object()

    with pytest.raises(Unsupported, match=r"module '1' \(Packed\) is quantised"):
        anatomy(nn.Sequential(nn.Linear(4, 3), Packed()), torch.randn(2, 4))
