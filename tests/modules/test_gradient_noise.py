"""The variance of gradients across batches, against closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError
from sigprop.modules.gradient_noise import gradient_noise
from tests.modules.states import picture
from tests.stat import assert_agrees

torch.set_num_threads(1)


class Point(nn.Module):
    """(theta - x)^2 / 2: gradient theta - mean x."""

    def __init__(self, theta=3.0):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([theta], dtype=torch.float64))
        self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, x):
        return (self.theta - x).square() / 2


def mean(output, batch):
    return output.mean()


def normal(batches, size, shift=0.0, seed=5):
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(batches, size, generator=generator, dtype=torch.float64)
    return list(draws + shift)


def test_of_a_square_it_is_the_variance_of_a_mean_over_a_square():
    """theta = 3, x normal, batches of 25: (1/25) / 9. Sees 40 % of it."""
    found = gradient_noise(Point(), normal(2000, 25), mean)
    # Of a variance from B numbers, and of the square of a mean that is known to 0.2 / sqrt(B).
    se = (1 / 225) * np.sqrt(2 / 1999 + (2 * 0.2 / 3) ** 2 / 2000)
    assert_agrees(found.relvar[0], 1 / 225, se, resolution=0.4 / 225)
    np.testing.assert_allclose(found.relvar_se[0], se, rtol=0.2)
    assert_agrees(found.grad_norm[0], 3.0, 0.2 / np.sqrt(2000), resolution=0.06)
    assert found.weight_norm[0] == 3 and found.attrs["batches"] == 2000


def test_a_tensor_without_gradient_has_none():
    found = gradient_noise(Point(), normal(16, 3), mean)
    assert np.isnan(found.relvar[1]) and found.grad_norm[1] == 0


def test_pure_noise_gives_about_the_number_of_batches():
    """|mean|^2 of 300 entries is its expectation within 8 %, one deviation."""
    model = nn.Linear(300, 1, bias=False).double()
    generator = torch.Generator().manual_seed(2)
    batches = [torch.randn(300, 4, generator=generator).double().T for _ in range(20)]
    found = gradient_noise(model, batches, lambda y, x: y.mean())
    assert_agrees(found.relvar[0], 20, 20 * np.sqrt(2 / 300), resolution=20)


def test_it_is_the_direct_formula_and_the_error_that_of_leaving_batches_out():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    model[0].bias.requires_grad_(False)
    x, y = torch.randn(17, 8, 4).double() + 0.5, torch.randint(3, (17, 8))
    batches = list(zip(x, y))
    before = picture(model)
    found = gradient_noise(
        model, iter(batches), lambda out, b: nn.functional.cross_entropy(out, b[1])
    )
    assert picture(model) == before
    assert found.parameter.values.tolist() == ["0.weight", "2.weight", "2.bias"]
    weights = [model[0].weight, model[2].weight, model[2].bias]
    gradients = []
    for a, b in batches:
        loss = nn.functional.cross_entropy(model(a), b)
        gradients.append([g.numpy().ravel() for g in torch.autograd.grad(loss, weights)])

    def relvar(i, chosen):
        g = np.array([gradients[b][i] for b in chosen])
        return g.var(axis=0, ddof=1).sum() / (g.mean(axis=0) ** 2).sum()

    for i in range(3):
        np.testing.assert_allclose(found.relvar[i], relvar(i, range(17)), rtol=1e-10)
        left = np.array([relvar(i, [b for b in range(17) if b != out]) for out in range(17)])
        error = np.sqrt(16 / 17 * ((left - left.mean()) ** 2).sum())
        np.testing.assert_allclose(found.relvar_se[i], error, rtol=1e-8)


def test_batch_normalisation_takes_the_batch_and_keeps_its_averages():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.9)).double().train()
    before = picture(model)
    batches = [
        torch.randn(9, 3, generator=torch.Generator().manual_seed(i)).double() + 7
        for i in range(16)
    ]
    found = gradient_noise(model, batches, lambda y, x: (y**4).mean())
    assert picture(model) == before
    # The bias ahead of normalisation by the batch has no gradient.
    assert float(found.grad_norm.sel(parameter="0.bias")) < 1e-12


def test_bad_input_is_one_error_and_the_model_is_as_it_was():
    model = Point()
    before = picture(model)
    with pytest.raises(SpecError, match="at least 16 batches, got 15"):
        gradient_noise(model, normal(15, 3), mean)
    with pytest.raises(SpecError, match="batches of 3 and of 4 examples are mixed"):
        gradient_noise(model, [*normal(16, 3), *normal(2, 4)], mean)
    with pytest.raises(SpecError, match="at least 16 batches, got 15"):  # the last is short
        gradient_noise(model, [*normal(15, 3), *normal(1, 2)], mean)
    with pytest.raises(SpecError, match=r"a tensor of shape \(3,\): the gradient is that of one"):
        gradient_noise(model, normal(16, 3), lambda y, x: y)
    with pytest.raises(SpecError, match="does not depend on any trainable parameter"):
        gradient_noise(model, normal(16, 3), lambda y, x: x.sum())
    with pytest.raises(NonFinite, match="the loss of the model as it stands is inf"):
        gradient_noise(model, normal(16, 3), lambda y, x: y.mean() / 0.0)
    assert picture(model) == before
    with pytest.raises(SpecError, match="no trainable parameter"):
        gradient_noise(model.requires_grad_(False), normal(16, 3), mean)
