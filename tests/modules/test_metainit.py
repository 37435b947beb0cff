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
from tests.stat import assert_agrees

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


def mlp(gain, seed, hidden=1.0):
    """tanh, 16 - (6 x 32) - 4; W ~ N(0, gain^2 / fan_in), times ``hidden`` but in the last."""
    torch.manual_seed(seed)
    sizes = [16, *[32] * 6, 4]
    layers = []
    for place, (a, b) in enumerate(itertools.pairwise(sizes)):
        layer = nn.Linear(a, b)
        with torch.no_grad():
            layer.weight.normal_(0, gain * ((hidden if place < 6 else 1.0) / a) ** 0.5)
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


def test_at_a_gain_of_2_of_he_the_first_steps_see_a_quotient_of_68_to_96():
    """Known of three networks: 68 to 96 in the mean of ten steps.

    The quotient grows as batches shrink and weights grow, so the number tells which network and
    which batch it is of: variance gain^2 2 / fan_in but in the last layer, batches of 64. Single
    seeds give 43 to 129 (a deviation of 0.36 in the logarithm), the geometric mean of eight is
    known to 13 %. Means of other readings: gain^2 / fan_in 27 (batches of 64) or 15 (128); the
    factor 2 in the last layer too 110 (64) or 63 (128); the factor 2 at batches of 32 or 128, 130
    and 40; orthogonal 12 and torch's default times 2, 3 (128); biases and precision play no part.
    """
    firsts = [
        metainit(mlp(2.0, seed, 2.0), (16,), 4, steps=10, batch_size=64, seed=seed, apply=False)
        for seed in range(8)
    ]
    means = [result.history["objective"].mean() for result in firsts]
    assert 68 < np.exp(np.mean(np.log(means))) < 96
    assert 30 < min(means) and max(means) < 190


@pytest.mark.parametrize("seed", [0, 8])
def test_norms_that_ran_away_come_back(seed):
    """At such a gain steps overshoot, and one run of five is worse after 200 steps than before.

    All ten seeds have fallen a hundredfold at the 500 steps of the paper, to 0.27 to 0.45.
    """
    result = metainit(mlp(2.0, seed, 2.0), (16,), 4, steps=500, batch_size=64, seed=seed)
    course = result.history["objective"]
    assert course[:10].mean() > 100 * course[-10:].mean()
    assert 0.1 < course[-10:].mean() < 2.99


def test_the_quotient_counts_every_trainable_entry_of_the_same_batch():
    model = mlp(1.0, 3)
    for layer in model[::2]:
        with torch.no_grad():
            layer.bias.normal_()
    batch = (torch.randn(30, 16), torch.randint(4, (30,)))
    cross_entropy = lambda output, b: nn.functional.cross_entropy(output, b[1])  # noqa: E731
    expected = float(gradient_quotient(model, [batch], cross_entropy).gradient_quotient)
    result = metainit(model, (16,), 4, draw=lambda generator: batch, steps=1, apply=False)
    found = [result.history["objective"][0], result.before["gradient_quotient"]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_before_and_after_are_of_the_same_four_unseen_batches():
    """Steps of 1e-7 change nothing; other batches of 4 would give another number."""
    result = metainit(mlp(1.0, 0), (16,), 4, steps=2, lr=1e-7, batch_size=4)
    before, after = (part["gradient_quotient"] for part in (result.before, result.after))
    np.testing.assert_allclose(after, before, rtol=1e-3)
    assert abs(result.history["objective"][0] / before - 1) > 1e-2


def test_inputs_are_standard_normal_and_labels_uniform():
    """10 240 numbers and 1 280 labels; sees 0.1 in mean and variance, and 0.1 of a frequency."""
    seen = []

    def watched(output, batch):
        seen.append(batch)
        return nn.functional.cross_entropy(output, batch[1])

    metainit(nn.Sequential(nn.Linear(8, 5)), (8,), 5, watched, steps=1, batch_size=256)
    x = torch.cat([x for x, _ in seen[1:6]]).double().numpy()  # the first is for a test
    y = torch.cat([y for _, y in seen[1:6]]).numpy()
    assert x.shape == (1280, 8) and y.shape == (1280,)
    assert_agrees(x.mean(), 0.0, x.size**-0.5, resolution=0.1)
    assert_agrees((x**2).mean(), 1.0, (2 / x.size) ** 0.5, resolution=0.15)
    assert_agrees((x**4).mean(), 3.0, (96 / x.size) ** 0.5, resolution=1.0)
    shares = np.bincount(y, minlength=5) / y.size
    assert_agrees(shares, 0.2, (0.16 / y.size) ** 0.5, resolution=0.125)


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
    # The first step goes up, past the minimum: the quotient is near 6 |w - 1|.
    up = metainit(model, (2,), 2, loss, draw=draw, steps=1, lr=9.0, apply=False)
    assert "norms ran away" in up.warnings[0]
    # Of a fourth power it is near 12 w^2: down, to no less than 1e-6, and not through 0.
    fourth = lambda output, batch: (output**4).sum()  # noqa: E731
    down = metainit(model, (2,), 2, fourth, draw=draw, steps=1, lr=9.0)
    np.testing.assert_allclose(down.scales["0.weight"] * norm, 1e-6, rtol=1e-9)
    np.testing.assert_allclose(float(model[0].weight.detach().norm()), 1e-6, rtol=1e-9)
    assert (model[0].weight.diag() > 0).all() and down.warnings == ()


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
