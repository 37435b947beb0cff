"""Averaged partial Jacobian norms in closed form, and the scales that make them 1."""

import numpy as np
import pytest
import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError, Unsupported
from sigprop.modules.autoinit_jacobian import autoinit_jacobian
from sigprop.modules.partial_jacobian import apjn, blocks_of
from tests.modules.states import bits, picture

torch.set_num_threads(1)


def relu_blocks(width, gain, depth, seed=0):
    """Linear and ReLU, Var W = (sqrt(2) gain)^2 / fan_in."""
    torch.manual_seed(seed)
    blocks = [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(depth)]
    with torch.no_grad():
        for block in blocks:
            block[0].weight.normal_(0, gain * (2 / width) ** 0.5)
            block[0].bias.zero_()
    return blocks


def normal(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("gain, expected", [(1.0, 1.0), (1.5, 2.25), (0.7, 0.49)])
def test_of_linear_and_relu_it_is_half_the_squared_gain(gain, expected):
    """Width 512, four probes, 64 inputs: within 5 percent."""
    found = apjn(relu_blocks(512, gain, 2), normal(64, 512))
    np.testing.assert_allclose(found.jacobian_norm, expected, rtol=0.05)
    assert (found.jacobian_norm_se < 0.02 * expected).all()


def test_it_is_the_frobenius_norm_of_the_jacobian_that_autograd_writes_out():
    """A nonlinear block of 5 -> 3 numbers; its error is that between examples and probes."""
    torch.manual_seed(1)
    block = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    x = normal(40, 5).double()
    exact = [float(torch.autograd.functional.jacobian(block, row).square().sum()) / 3 for row in x]
    probes = 3000
    found = apjn([block], x, probes=probes)
    # Probes alone: |J^T v|^2 of 3 numbers has relative deviation below sqrt(2).
    tolerance = 5 * np.sqrt(2 * np.mean(np.square(exact)) / (probes * 40))
    np.testing.assert_allclose(found.jacobian_norm[0], np.mean(exact), atol=tolerance)
    spread = np.std(exact, ddof=1) / np.sqrt(40)
    np.testing.assert_allclose(found.jacobian_norm_se[0], spread, rtol=0.1)


def test_a_residual_block_has_1_more_than_its_branch():
    """1.64 predicted for a branch of 0.64, width 256."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch = nn.Sequential(nn.ReLU(), nn.Linear(256, 256))

        def forward(self, x):
            return x + self.branch(x)

    torch.manual_seed(0)
    model = nn.Sequential(*[Residual() for _ in range(3)])
    with torch.no_grad():
        for block in model:
            block.branch[1].weight.normal_(0, (2 * 0.64 / 256) ** 0.5)
    x = normal(64, 256)
    whole = apjn(model, x).jacobian_norm
    branches = apjn([block.branch for block in model], x, model=model)
    np.testing.assert_allclose(branches.jacobian_norm, 0.64, rtol=0.08)
    np.testing.assert_allclose(whole, 1.64, rtol=0.05)
    assert branches.block.values.tolist() == ["0.branch", "1.branch", "2.branch"]
    # Branches are tuned to a target of their own, by the names of the model.
    before = picture(model)
    result = autoinit_jacobian(
        [block.branch for block in model], x, model=model, target=[0.1, 0.2, 0.3], apply=False
    )
    assert picture(model) == before
    result.apply(model)
    assert set(result.scales) == set(dict(model.named_parameters()))
    tuned = apjn([block.branch for block in model], x, model=model).jacobian_norm
    np.testing.assert_allclose(tuned, [0.1, 0.2, 0.3], rtol=0.08)


@pytest.mark.parametrize("gain, low, high", [(1.5, 0.652, 0.693), (0.7, 1.397, 1.485)])
def test_homogeneous_blocks_end_at_the_inverse_root(gain, low, high):
    """a = J(1)^-1/2 to rounding of the same probes, and near 1/gain at width 256."""
    blocks = relu_blocks(256, gain, 3)
    result = autoinit_jacobian(
        [block.double() for block in blocks], normal(32, 256).double(), steps=60
    )
    for i in range(3):
        scale = result.scales[f"{i}.0.weight"]
        assert low - 0.03 < scale < high + 0.03
        np.testing.assert_allclose(scale, result.history[f"J[{i}]"][0] ** -0.5, rtol=1e-9)
        assert result.scales[f"{i}.0.bias"] == 1
    assert result.warnings == ()
    np.testing.assert_allclose(list(result.after.values()), 1, rtol=1e-9)


def test_every_step_is_the_one_of_its_loss_and_variable():
    """log a <- a - 2 lr ln(a^2 J) / a; square a <- a - 2 lr a J (a^2 J - 1); ln a by 4 lr."""
    lr = 0.02
    steps = {
        ("log", "scale"): lambda a, j: a - 2 * lr * np.log(a * a * j) / a,
        ("square", "scale"): lambda a, j: a - 2 * lr * a * j * (a * a * j - 1),
        ("log", "log_scale"): lambda a, j: a * np.exp(-2 * lr * np.log(a * a * j)),
        ("square", "log_scale"): lambda a, j: a * np.exp(-2 * lr * a * a * j * (a * a * j - 1)),
    }
    x = normal(8, 20).double()
    for (loss, variable), step in steps.items():
        (block,) = relu_blocks(20, 1.3, 1)
        result = autoinit_jacobian(
            [block.double()], x, loss=loss, variable=variable, lr=lr, steps=3
        )
        a, j = 1.0, result.history["J[0]"][0]
        for _ in range(3):
            a = step(a, j)
        np.testing.assert_allclose(result.scales["0.0.weight"], a, rtol=1e-10)


def test_both_losses_contract_by_1_minus_4_lr_j():
    """0.6 at lr = 0.1 / J near the end; in ln a by 1 - 4 lr whatever J."""
    for loss in ("log", "square"):
        (block,) = relu_blocks(20, 0.8, 1, seed=4)
        block, x = block.double(), normal(8, 20).double()
        j = float(apjn([block], x, probes=1).jacobian_norm[0])
        found = autoinit_jacobian([block], x, loss=loss, variable="scale", lr=0.1 / j, steps=30)
        off = np.log(found.history["J[0]"])
        np.testing.assert_allclose(off[20] / off[19], 0.6, atol=1e-3)


def test_behind_batch_normalisation_a_scale_changes_nothing():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(20, 30), nn.BatchNorm1d(30, eps=1e-14), nn.ReLU()).double()
    before = picture(block)
    result = autoinit_jacobian([block], normal(40, 20).double(), steps=10)
    # Rounding of J, divided by nothing and added up ten times.
    np.testing.assert_allclose(result.scales["0.0.weight"], 1, rtol=0, atol=1e-12)
    assert picture(block)["buffers"] == before["buffers"]
    assert "no scale reaches it (as behind batch normalisation" in result.warnings[0]


def test_a_sequence_is_cut_before_every_weight():
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    model = nn.Sequential(
        nn.Identity(), inner, nn.Flatten(), nn.Linear(8, 3), nn.Tanh(), nn.Linear(3, 2)
    )
    kinds = [[type(m).__name__ for m in block] for block in blocks_of(model)]
    assert kinds == [
        ["Identity", "Conv2d", "BatchNorm2d", "ReLU", "Flatten"],
        ["Linear", "Tanh"],
        ["Linear"],
    ]
    x = normal(4, 1, 4, 4)
    by_hand, cut = apjn(blocks_of(model), x), apjn(model, x)
    assert cut.block.values.tolist() == ["1.0", "3", "5"]
    np.testing.assert_array_equal(cut.jacobian_norm, by_hand.jacobian_norm)
    found = autoinit_jacobian(model, x, steps=2)
    assert list(found.scales) == [name for name, _ in model.named_parameters()]
    assert found.scales["3.weight"] != 1 and found.history["J[5]"].size == 3
    with pytest.raises(SpecError, match=r"Linear is no nn.Sequential"):
        blocks_of(nn.Linear(2, 2))


def test_works_with_in_place_layers_tuples_and_a_frozen_block():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.inplace = nn.LSTM(4, 4, batch_first=True), nn.ReLU(inplace=True)

        def forward(self, x):
            self.inplace(x)
            return self.lstm(x)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), Pair(), nn.Linear(4, 2)

        def forward(self, x, more=None):
            return self.c(self.b(self.a(x))[0])

    torch.manual_seed(0)
    model = Model()
    model.a.requires_grad_(False)
    frozen = bits(model.a.weight)
    found = autoinit_jacobian(
        [model.a, model.b, model.c], {"x": normal(6, 3, 4), "more": 1}, model=model, steps=40
    )
    assert bits(model.a.weight) == frozen
    assert "Block 'a' has no tensor to scale." in found.warnings
    np.testing.assert_allclose(found.history["J[c]"][-1], 1, rtol=1e-4)
    assert found.scales["b.lstm.weight_ih_l0"] == found.scales["b.lstm.weight_hh_l0"] != 1


class Cube(torch.autograd.Function):
    """Its backward pass reads the input without a derivative, and says nothing."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return (3 * x.detach() ** 2) * g


class Hidden(nn.Module):
    def forward(self, x):
        return Cube.apply(x)


BAD = {
    "dead": (SpecError, "block '1' is dead"),
    "hidden": (Unsupported, "the Jacobian of block '1' changes with its scale by"),
    "infinite": (NonFinite, "block '0' is not finite at step 0"),
    "unstable": (NonFinite, "the descent is not stable"),
    "shared": (SpecError, "blocks '0' and '1' share tensor '0.0.weight'"),
    "vectors": (SpecError, "no block has a trainable tensor of two dimensions"),
    "targets": (SpecError, "2 targets for 3 blocks"),
    "indices": (Unsupported, "block '0' reads no floating-point tensor"),
    "stranger": (SpecError, r"block 1 .* is no part of model"),
    "empty": (SpecError, "one or more torch modules, got list of 0"),
    "frozen": (SpecError, "no trainable parameter"),
    "loss": (SpecError, "loss is 'log' or 'square', got 'abs'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_error_and_the_blocks_are_as_they_were(case):
    blocks, x, options = relu_blocks(6, 1.5, 3), normal(5, 6), {}
    if case == "dead":
        with torch.no_grad():
            blocks[1][0].bias.fill_(-1e3)
    elif case == "hidden":
        blocks[1].append(Hidden())
    elif case == "infinite":
        with torch.no_grad():
            blocks[0][0].weight[0, 0] = torch.inf
    elif case == "unstable":
        options = {"loss": "square", "variable": "scale", "lr": 3.0}
    elif case == "shared":
        blocks[1] = blocks[0]
    elif case == "vectors":
        blocks = [nn.LayerNorm(6)]
    elif case == "targets":
        options = {"target": [1.0, 2.0]}
    elif case == "indices":
        blocks, x = [nn.Embedding(3, 6), *blocks], torch.tensor([[0], [2]])
    elif case == "stranger":
        options = {"model": nn.Sequential(blocks[0])}
    elif case == "empty":
        blocks = []
    elif case == "frozen":
        for block in blocks:
            block.requires_grad_(False)
    elif case == "loss":
        options = {"loss": "abs"}
    held = nn.ModuleList(blocks)
    before = picture(held)
    error, words = BAD[case]
    with pytest.raises(error, match=words):
        autoinit_jacobian(blocks, x, steps=5, **options)
    assert picture(held) == before


@pytest.mark.parametrize("measure", [apjn, autoinit_jacobian])
def test_a_module_that_is_no_sequence_is_no_list_of_blocks(measure):
    with pytest.raises(SpecError, match="GRUCell is no nn"):
        measure(nn.GRUCell(3, 4), normal(5, 3))


def test_a_block_that_is_never_called_is_named():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].extra = nn.Linear(3, 3)
    with pytest.raises(SpecError, match=r"block '0.extra' was never called"):
        apjn([model[0].extra], normal(4, 3), model=model)


def test_a_block_that_acts_twice_is_measured_where_it_acts_first():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(6, 6), nn.Tanh())

        def forward(self, x):
            return self.block(5 * self.block(x))

    torch.manual_seed(0)
    model, x = Twice(), normal(20, 6)
    first, second = apjn([model.block], x), apjn([model.block], 5 * model.block(x).detach())
    found = apjn([model.block], x, model=model)
    np.testing.assert_array_equal(found.jacobian_norm, first.jacobian_norm)
    assert abs(float(second.jacobian_norm[0] / first.jacobian_norm[0]) - 1) > 0.1
