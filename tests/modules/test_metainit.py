"""The gradient quotient in closed form, and MetaInit that lowers it."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError, Unsupported
from sigprop.modules.gradient_quotient import gradient_quotient, quotient
from sigprop.modules.metainit import metainit
from tests.modules.states import bits, picture

torch.set_num_threads(1)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def mean_quotient(loss, *parameters):
    parts = quotient(loss, parameters)
    return float(sum(parts).detach()) / sum(p.numel() for p in parameters)


def test_of_a_quadratic_loss_it_is_the_mean_curvature():
    h, theta = tensor(0.5, 1, 2, 4).detach(), tensor(1, -2, 0.5, 3)
    found = mean_quotient((h * theta**2).sum() / 2, theta)
    g = (h * theta).abs().detach()
    np.testing.assert_allclose(found, float(((h * g + 1e-5) / (g + 1e-5)).mean()), rtol=1e-14)
    np.testing.assert_allclose(found, 1.874999375, atol=5e-10)


def test_of_a_linear_loss_it_is_0_up_to_its_eps():
    theta = tensor(1, 2)
    found = mean_quotient(3 * theta[0] + theta[1], theta)
    np.testing.assert_allclose(found, 6.6666111e-6, atol=5e-14)


def test_of_a_product_of_two_weights():
    a, b = tensor(1.3), tensor(0.7)
    found = mean_quotient(((a * b * 0.5 - 2) ** 2 / 2).sum(), a, b)
    np.testing.assert_allclose(found, 0.5093275236, atol=5e-11)


def test_its_sign_is_not_differentiated_and_zero_counts_as_positive():
    theta, still = tensor(0.0, 2.0), tensor(1.0)
    parts = quotient((theta**2).sum() / 2, [theta, still])
    # g = 0: (0 - 0) / eps - 1; g = 2: (2 - 2) / (2 + eps) - 1; unused: as g = 0.
    assert [float(p.detach()) for p in parts] == [2.0, 1.0]
    a, b = tensor(1.5), tensor(0.0)  # g = (0, 1.5), Hg = (1.5, 0)
    (first, second) = quotient((a * b).sum(), [a, b])
    np.testing.assert_allclose(float(first.detach()), 1.5 / 1e-5 + 1, rtol=1e-12)
    np.testing.assert_allclose(float(second.detach()), 1e-5 / 1.50001, rtol=1e-9)


def square(output, batch):
    return (output - batch[1]).square().mean() / 2


def test_the_measurement_is_the_mean_over_batches_with_its_error():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    model[2].bias.requires_grad_(False)
    batches = [(torch.randn(5, 3).double(), torch.randn(5, 2).double()) for _ in range(4)]
    before = picture(model)
    found = gradient_quotient(model, batches, square)
    assert picture(model) == before
    weights = [p for p in model.parameters() if p.requires_grad]
    each = [quotient(square(model(b[0]), b), weights) for b in batches]
    whole = np.array([float(sum(parts).detach()) / 24 for parts in each])
    np.testing.assert_allclose(found.gradient_quotient, whole.mean(), rtol=1e-12)
    np.testing.assert_allclose(found.gradient_quotient_se, whole.std(ddof=1) / 2, rtol=1e-12)
    by_tensor = np.mean([float(parts[0].detach()) / 12 for parts in each])
    np.testing.assert_allclose(found.gradient_quotient_by_parameter[0], by_tensor, rtol=1e-12)
    assert np.isnan(gradient_quotient(model, batches[:1], square).gradient_quotient_se)


def mlp(gain, seed):
    """tanh, 16 - (6 x 32) - 4."""
    torch.manual_seed(seed)
    sizes = [16, *[32] * 6, 4]
    layers = []
    for a, b in itertools.pairwise(sizes):
        layer = nn.Linear(a, b)
        with torch.no_grad():
            layer.weight.normal_(0, gain * a**-0.5)
            layer.bias.zero_()
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_quotient_of_a_deep_chaotic_network_falls_tenfold(seed):
    model = mlp(2.0, seed)
    biases = [bits(m.bias) for m in model if isinstance(m, nn.Linear)]
    result = metainit(model, (16,), 4, steps=200, seed=seed)
    course = result.history["objective"]
    assert course[:10].mean() > 10 * course[-10:].mean()
    assert result.before["gradient_quotient"] > 10 * result.after["gradient_quotient"]
    assert result.scales["8.weight"] < 0.5  # the gain 2 is taken back
    assert [bits(m.bias) for m in model if isinstance(m, nn.Linear)] == biases


def test_a_step_moves_a_norm_by_its_velocity_and_not_below_the_least():
    """Loss linear in the tensor u, quadratic in w: the quotient does not read |u|."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.3, 0.0], [0.0, 0.4]], dtype=torch.float64))
    norm = 0.5
    draw = lambda generator: (torch.eye(2).double(), torch.ones(2, 2).double())  # noqa: E731
    loss = lambda output, batch: ((output - batch[1]) ** 3).sum()  # noqa: E731
    first = metainit(model, (2,), 2, loss, draw=draw, steps=1, lr=0.1, apply=False)
    moved = first.scales["0.weight"] * norm - norm
    np.testing.assert_allclose(abs(moved), 0.1, rtol=1e-12)
    two = metainit(model, (2,), 2, loss, draw=draw, steps=2, lr=1e-4, apply=False)
    # Same sign twice: lr + (0.9 lr + lr).
    np.testing.assert_allclose(abs(two.scales["0.weight"] * norm - norm), 2.9e-4, rtol=1e-9)
    down = metainit(model, (2,), 2, loss, draw=draw, steps=1, lr=9.0)
    expected = 1e-6 if moved < 0 else 9.5
    np.testing.assert_allclose(down.scales["0.weight"] * norm, expected, rtol=1e-9)
    np.testing.assert_allclose(float(model[0].weight.detach().norm()), expected, rtol=1e-9)
    assert (model[0].weight.diag() > 0).all()


def test_batch_normalisation_as_published_and_by_the_batch():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3)
    )
    model(3 + torch.randn(5, 1, 6, 6))
    before = picture(model)
    ends = {}
    for bn in ("initial", "batch"):
        result = metainit(model, (1, 6, 6), 3, bn=bn, steps=3, batch_size=8, apply=False)
        assert picture(model) == before
        ends[bn] = result.history["objective"]
        assert set(result.weights) == set() and result.scales["1.weight"] == 1
    assert not np.allclose(ends["initial"], ends["batch"], rtol=1e-2)
    with pytest.raises(SpecError, match="'batch' or 'initial'"):
        metainit(model, (1, 6, 6), 3, bn="running")


def test_attention_frozen_and_zero_tensors():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), nn.Flatten(), nn.Linear(24, 3)
    )
    model[0].linear1.weight.requires_grad_(False)
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.normal_()
    result = metainit(model, (3, 8), 3, steps=3, batch_size=6)
    assert "Zero, so of no norm to tune: 2.weight." in result.warnings
    assert result.scales["2.weight"] == result.scales["0.linear1.weight"] == 1
    assert result.scales["0.linear2.weight"] != 1
    rows = []
    metainit(model, (3, 8), 3, steps=2, batch_size=6, log=rows.append, apply=False)
    assert [row["iteration"] for row in rows] == [0, 1]


class Once(torch.autograd.Function):
    """A function whose gradient cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g * 2


class Kernel(nn.Module):
    def forward(self, x):
        return Once.apply(x)


BAD = {
    "kernel": (Unsupported, "an operation of this network has none"),
    "infinite": (NonFinite, "the loss of the model as it stands is nan"),
    "vectors": (SpecError, "no trainable tensor of two dimensions or more"),
    "frozen": (SpecError, "no trainable parameter: MetaInit"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_error_and_the_model_is_as_it_was(case):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    if case == "kernel":
        model.insert(1, Kernel())
    elif case == "infinite":
        with torch.no_grad():
            model[0].weight[0, 0] = torch.nan
    elif case == "vectors":
        model = nn.Sequential(nn.LayerNorm(4))
    elif case == "frozen":
        model.requires_grad_(False)
    before = picture(model)
    error, words = BAD[case]
    with pytest.raises(error, match=words):
        metainit(model, (4,), 3, steps=2)
    assert picture(model) == before


def test_a_quotient_that_explodes_names_the_step():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    before = picture(model)
    count = iter(range(100))

    def draw(generator):
        scale = 1.0 if next(count) < 6 else 1e30  # four are held out
        return torch.ones(3, 2) * scale, torch.ones(3, 2)

    with pytest.raises(NonFinite, match=r"step 2|the loss of the model"):
        metainit(model, (2,), 2, square, draw=draw, steps=5)
    assert picture(model) == before
    with pytest.raises(SpecError, match="there is no batch"):
        gradient_quotient(model, [], square)
