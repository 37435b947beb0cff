"""probe: what it measures is what stands in the layers, and it leaves no trace."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="modules are those of torch", exc_type=ImportError)

from sigprop.errors import NonFinite, SpecError, UnknownName, Unsupported  # noqa: E402
from sigprop.modules import probe  # noqa: E402
from tests.vision import models  # noqa: E402

nn = torch.nn


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(3)
    yield
    torch.set_num_threads(threads)


def mlp(*widths, inplace=True):
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(m for a, b in pairs for m in (nn.Linear(a, b), nn.ReLU(inplace))))


def state(model):
    """Everything of a module that could be left changed."""
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), m.training)
        for m in model.modules()
    ]
    tensors = {k: v.clone() for k, v in model.state_dict().items()}
    objects = {k: id(v) for k, v in (*model.named_parameters(), *model.named_buffers())}
    grads = {k: p.grad for k, p in model.named_parameters()}
    return hooks, tensors, objects, grads, torch.get_rng_state(), random.getstate()


def assert_unchanged(before, after):
    assert before[0] == after[0] and before[2] == after[2] and before[5] == after[5]
    assert all(torch.equal(before[1][k], after[1][k]) for k in before[1])
    assert all(before[3][k] is after[3][k] for k in before[3])
    assert torch.equal(before[4], after[4])


# --------------------------------------------------------------------- the numbers


def by_hand(model, x):
    """Outputs of the layers of a Sequential, which keep their gradients."""
    outputs, h = [], x.clone().requires_grad_()
    for layer in model:
        h = layer(h.clone())  # an inplace layer then writes to the copy
        h.retain_grad()
        outputs.append(h)
    return outputs


def test_every_number_is_that_of_the_activations_and_gradients_kept_whole():
    """Up to the rounding of float64: 3 layers of odd widths, 5 inputs, a loss."""
    model, x = mlp(3, 7, 6, 5).double(), torch.randn(5, 3, dtype=torch.float64)
    weight = torch.randn(5, 5, dtype=torch.float64)

    def loss(y):
        return (y * weight).sum() ** 2

    found = probe(model, x, loss=loss)
    outputs = by_hand(model, x)
    loss(outputs[-1]).backward()
    for l, y in enumerate(outputs):
        y, g = y.detach().numpy(), y.grad.numpy()
        rows = y / np.where((n := np.linalg.norm(y, axis=1, keepdims=True)) > 0, n, np.nan)
        cosine = np.nanmean((rows @ rows.T)[np.triu_indices(5, 1)])
        for name, truth in (
            ("second_moment", np.mean(y**2)),
            ("gradient_second_moment", np.mean(g**2)),
            ("log_second_moment_mean", np.log(np.mean(y**2))),
            ("second_moment_batch_se", np.mean(y**2, 1).std(ddof=1) / 5**0.5),
            ("cosine_mean", cosine),
            ("dead_fraction", np.mean(np.all(y <= 0, axis=0))),
            ("entries", y.shape[1]),
        ):
            np.testing.assert_allclose(found[name][l], truth, rtol=1e-13, err_msg=f"{name} {l}")
    assert list(found.layer.values) == ["0", "1", "2", "3", "4", "5"]
    assert list(found.kind.values[:2]) == ["Linear", "ReLU"]
    assert np.isnan(found.second_moment_se).all()  # one network has no spread


def test_the_cotangent_has_unit_length_for_every_input():
    """So the gradient at the last layer has second moment 1 / entries; to rounding of float32."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    found = probe(model, torch.randn(4, 2, 6, 5))
    assert found.entries[-1] == 3 * 4 * 3
    np.testing.assert_allclose(found.gradient_second_moment[-1] * 36, 1, rtol=1e-6)


def test_units_of_convolutions_are_channels_and_of_linear_layers_features():
    conv = nn.Conv2d(1, 4, 1, bias=True)
    line = nn.Linear(3, 5)
    with torch.no_grad():
        conv.weight.zero_(), line.weight.zero_()
        conv.bias.copy_(torch.tensor([1.0, -1, -1, -1]))
        line.bias.copy_(torch.tensor([-1.0, 1, 1, -1, -1]))
    assert probe(nn.Sequential(conv, nn.ReLU()), torch.randn(2, 1, 3, 3)).dead_fraction[1] == 0.75
    words = probe(nn.Sequential(line, nn.ReLU()), torch.randn(2, 7, 3))
    assert float(words.dead_fraction[1]) == pytest.approx(0.6, abs=1e-15)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_squares_beyond_float32_are_taken_in_float64(scale):
    layer = nn.Linear(3, 3, bias=False)
    nn.init.eye_(layer.weight)
    found = probe(layer, scale * torch.tensor([[1.0, 2.0, 2.0], [2.0, -2.0, 1.0], [2.0, 4.0, 4.0]]))
    np.testing.assert_allclose(found.second_moment, scale**2 * (3 + 3 + 12) / 3, rtol=1e-6)
    np.testing.assert_allclose(found.cosine_mean, 1 / 3, rtol=1e-6)


def test_channels_last_gives_the_same_numbers():
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.randn(3, 3, 8, 7)
    a, b = probe(model, x), probe(model, x.to(memory_format=torch.channels_last))
    for name in a.data_vars:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-5)


def test_an_ensemble_averages_networks_and_tells_its_error():
    model, x = mlp(4, 9, 3), torch.randn(6, 4)
    every = [probe(lambda: mlp(4, 9, 3), x, ensemble=n, seed=5) for n in (1, 2, 3)]
    values = np.array(
        [
            (k + 1) * every[k].second_moment - k * every[k - 1].second_moment * (k > 0)
            for k in range(3)
        ]
    )
    np.testing.assert_allclose(every[2].second_moment_se, values.std(0, ddof=1) / 3**0.5, rtol=1e-6)
    again = probe(model, x, ensemble=3, seed=5)
    assert again.equals(probe(model, x, ensemble=3, seed=5))
    assert not np.allclose(again.second_moment, probe(model, x, ensemble=3, seed=6).second_moment)
    assert (again.second_moment_se[:-1] > 0).all()


# --------------------------------------------------------------------- modules of all kinds


def test_a_layer_called_twice_has_two_rows():
    model = models().resnet18(num_classes=5)
    found = probe(model, torch.randn(2, 3, 32, 32), names=["layer1.*.relu", "layer1.0"])
    names = ["layer1.0.relu", "layer1.0.relu#2", "layer1.0", "layer1.1.relu", "layer1.1.relu#2"]
    assert list(found.layer.values) == names
    np.testing.assert_allclose(  # the block ends with its relu
        found.second_moment[1], found.second_moment[2], rtol=1e-12
    )


class Odd(nn.Module):
    """Returns a mapping, has a module that returns a tuple, one that none calls, and attention."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.read = nn.GRU(8, 6, batch_first=True)
        self.spare = nn.Linear(2, 2)
        self.last = nn.Linear(6, 3)

    def forward(self, tokens):
        h = self.words(tokens)
        h = h + self.attention(h, h, h)[0]
        h, _ = self.read(h)
        return {"index": tokens, "logits": self.last(h)}


@pytest.mark.parametrize("mode", [True, False])
def test_tokens_tuples_mappings_and_modules_that_none_calls(mode):
    model = Odd().train(mode)
    found = probe(model, torch.randint(11, (3, 5)))
    assert list(found.layer.values) == ["words", "attention", "read", "last"]
    assert found.never_called == "spare" and found.read_elsewhere == "attention.out_proj"
    assert (found.gradient_second_moment > 0).all() and (found.second_moment > 0).all()
    assert list(found.entries.values) == [40, 40, 30, 15]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", [True, False])
def test_the_transformer_of_torch(frozen, mode):
    """Whose fast path would run no layer."""
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(mode)
    model.requires_grad_(not frozen)
    found = probe(model, torch.randn(3, 5, 8))
    assert {"layers.0.self_attn", "layers.1.linear2", "layers.1.norm2"} <= set(found.layer.values)
    assert (found.gradient_second_moment > 0).all()


def test_frozen_layers_fed_by_tokens_have_gradients():
    model = nn.Sequential(nn.Embedding(7, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    before = probe(model, torch.arange(6))
    after = probe(model.requires_grad_(False), torch.arange(6))
    assert before.equals(after)


def test_sequences_first():
    model, x = nn.Linear(4, 3), torch.randn(5, 2, 4)
    a = probe(model, x, axis=1)
    assert a.entries == 15
    b = probe(model, x.transpose(0, 1).contiguous())
    for name in ("second_moment", "cosine_mean", "dead_fraction"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-6)


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.first, self.block, self.reentrant = nn.Linear(4, 6), mlp(6, 6, 6), reentrant

    def forward(self, x):
        from torch.utils.checkpoint import checkpoint

        return checkpoint(self.block, self.first(x), use_reentrant=self.reentrant)


def test_activation_checkpointing_is_seen_through_or_refused_by_name():
    model, x = Checkpointed(False), torch.randn(3, 4)
    found = probe(model, x)
    plain = probe(nn.Sequential(model.first, *model.block), x)
    np.testing.assert_array_equal(found.gradient_second_moment, plain.gradient_second_moment)
    assert list(found.layer.values) == ["first", "block.0", "block.1", "block.2", "block.3"]
    with pytest.raises(Unsupported, match=r"^block\.0 is under activation checkpointing"):
        probe(Checkpointed(True), x)


# --------------------------------------------------------------------- residual sums


class Block(nn.Module):
    """Pre-activation by function, a scaled branch, a sum that the branch is written to."""

    def __init__(self, width, scale, way):
        super().__init__()
        self.norm, self.scale, self.way = nn.BatchNorm1d(width), scale, way
        self.one, self.two = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, h):
        branch = self.scale * self.two(torch.relu(self.one(torch.relu(self.norm(h)))))
        if self.way == "into the branch":
            branch += h
            return branch
        return h + branch if self.way == "trunk first" else torch.add(branch, h)


@pytest.mark.parametrize("way", ["trunk first", "branch first", "into the branch"])
def test_trunk_and_branch_are_those_that_are_added(way):
    """By whatever expression, in training mode, where batch normalisation adds on its own."""
    model = nn.Sequential(nn.Linear(3, 6), Block(6, 0.3, way), Block(6, 2.0, way)).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    found = probe(model, x)
    assert list(found["sum"].values) == ["1", "2"] and found.no_sums_because == ""
    h = model[0](x)
    for l, block in enumerate(model[1:]):
        branch = block(h) - h
        for name, truth in (
            ("trunk_second_moment", h.square().mean()),
            ("branch_second_moment", branch.square().mean()),
            ("branch_ratio", branch.square().mean() / h.square().mean()),
            ("sum_second_moment", (h + branch).square().mean()),
        ):
            np.testing.assert_allclose(found[name][l], truth.item(), rtol=1e-11, err_msg=name)
        h = h + branch
    np.testing.assert_allclose(found.sum_gradient_second_moment[-1], 1 / 6, rtol=1e-12)
    # The gradient of the first sum comes through the second block's skip and branch.
    inner, outer = (found.sel(sum=s).sum_gradient_second_moment for s in ("1", "2"))
    assert inner > outer


def test_residual_sums_of_networks_that_nobody_here_wrote():
    resnet = models().resnet50(num_classes=2)
    found = probe(resnet, torch.randn(2, 3, 32, 32))
    assert found.sizes["sum"] == 16 and list(found["sum"].values[:2]) == ["layer1.0", "layer1.1"]
    # Batch normalisation ends a branch and a projected shortcut alike.
    np.testing.assert_allclose(found.branch_ratio.sel(sum="layer2.0"), 1, rtol=1e-2)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    words = probe(model, torch.randn(3, 5, 8))
    assert words.sizes["sum"] == 4
    # The trunk of all sums but the first has passed a normalisation of layers.
    np.testing.assert_allclose(words.trunk_second_moment[1:], 1, rtol=1e-3)


def test_a_cotangent_may_enter_at_any_row():
    """Ahead of an output layer of zeros, and of an activation in place that follows the row."""
    model = mlp(4, 9, 7, 3)
    with torch.no_grad():
        model[4].weight.zero_(), model[4].bias.zero_()
    x = torch.randn(5, 4)
    assert (probe(model, x).gradient_second_moment[:4] == 0).all()
    found = probe(model, x, end="2")
    np.testing.assert_allclose(found.gradient_second_moment[2] * 7, 1, rtol=1e-6)
    assert (found.gradient_second_moment[:2] > 0).all()
    assert np.isnan(found.gradient_second_moment[3:]).all()
    with pytest.raises(UnknownName, match="called '9'"):
        probe(model, x, end="9")
    with pytest.raises(SpecError, match="one of the two"):
        probe(model, x, end="2", loss=lambda y: y.sum())


# --------------------------------------------------------------------- no trace


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("networks", [1, 2])
def test_nothing_of_the_module_is_changed(mode, networks):
    model = models().resnet18(num_classes=3).train(mode)
    model.layer2.eval()
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    x = torch.randn(2, 3, 32, 32)
    kept, before = x.clone(), state(model)
    probe(model, x, ensemble=networks)
    assert_unchanged(before, state(model))
    assert torch.equal(x, kept) and not x.requires_grad


def test_nothing_is_changed_where_a_pass_fails():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3), nn.Linear(4, 3))
    x, before = torch.randn(5, 4), state(model)
    with pytest.raises(SpecError, match=r"3 \(Linear\) says"):
        probe(model, x, ensemble=2)
    assert_unchanged(before, state(model))

    def redraw(model, generator):
        model[0].weight.data.fill_(7)
        raise KeyError("no")

    with pytest.raises(KeyError):
        probe(model, x, redraw=redraw)
    assert_unchanged(before, state(model))


def test_what_python_draws_within_a_module_is_put_back():
    class Coin(nn.Linear):
        def forward(self, x):
            return super().forward(x) * random.choice([1.0, 2.0])

    model = Coin(4, 3)
    x, before = torch.randn(2, 4), state(model)
    probe(model, x)
    assert_unchanged(before, state(model))


def test_a_batch_that_is_written_to_is_the_callers_no_more():
    x = torch.randn(3, 4)
    kept = x.clone()
    probe(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2)), x)
    assert torch.equal(x, kept)


# --------------------------------------------------------------------- refusals


class Loose(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.scale


@pytest.mark.parametrize(
    "model, batch, options, error, words",
    [
        (nn.Linear(4, 3), torch.zeros(2, 5), {}, SpecError, "Linear says mat1 and mat2 shapes"),
        (nn.LazyLinear(3), torch.zeros(2, 5), {}, SpecError, "LazyLinear is lazily initialised"),
        (nn.ReLU(), torch.zeros(2, 5), {}, SpecError, "ReLU has no parameters"),
        (nn.BatchNorm1d(4), torch.zeros(1, 4), {}, SpecError, "more than 1 value per channel"),
        (nn.Linear(4, 3), "x", {}, SpecError, "batch must be a tensor"),
        (nn.Linear(4, 3), torch.zeros(0, 4), {}, SpecError, "holds no input"),
        (nn.Linear(4, 3), torch.full((2, 4), torch.nan), {}, NonFinite, "batch holds numbers"),
        (nn.Linear(4, 3), torch.zeros(2, 4), {"names": "fc"}, UnknownName, "called 'fc'"),
        (nn.Linear(4, 3), torch.zeros(2, 4), {"ensemble": 0}, SpecError, "ensemble must be"),
        (nn.Linear(4, 3), torch.zeros(2, 4), {"loss": lambda y: y}, SpecError, "one number"),
        (Loose(), torch.zeros(2, 3), {"ensemble": 2}, SpecError, "parameter 'scale' and no"),
        (3, torch.zeros(2, 3), {}, SpecError, "got int"),
        (lambda: 3, torch.zeros(2, 3), {}, SpecError, "returned int"),
        (torch.jit.script, None, {}, Unsupported, "compiled by torch.jit"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_cannot_be_probed_is_refused_by_one_sentence(model, batch, options, error, words):
    if batch is None:
        model, batch = model(nn.Sequential(nn.Linear(4, 3))), torch.zeros(2, 4)
    with pytest.raises(error, match=words):
        probe(model, batch, **options)


def test_the_first_layer_that_is_not_finite_is_named():
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))
    with torch.no_grad():
        model[1].weight.fill_(1e38), model[2].weight.fill_(1e38)
    with pytest.raises(NonFinite, match=r"output of 2 \(Linear\) is not finite"):
        probe(model, torch.ones(2, 3))


def test_an_output_without_a_graph_is_refused():
    class Closed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            with torch.no_grad():
                return self.inner(x)

    with pytest.raises(Unsupported, match="inner ran without a graph"):
        probe(Closed(), torch.ones(2, 3))
