"""The law of a module: exact recursions where there are some, and measured networks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="modules are those of torch", exc_type=ImportError)

from analysis.module_law import predict_module  # noqa: E402
from analysis.theory.correlation import kernel  # noqa: E402
from sigprop.activations import ReLU  # noqa: E402
from sigprop.modules import anatomy, probe  # noqa: E402
from tests.stat import assert_agrees  # noqa: E402

nn = torch.nn


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(5)
    yield
    torch.set_num_threads(threads)


def mlp(widths, gains, bias=0.0):
    layers = []
    for (a, b), gain in zip(itertools.pairwise(widths), gains, strict=True):
        made = nn.Linear(a, b)
        nn.init.normal_(made.weight, std=gain * math.sqrt(2 / a))
        nn.init.normal_(made.bias, std=bias) if bias else nn.init.zeros_(made.bias)
        layers += [made, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


WIDTHS, GAINS = (30, 60, 40, 90, 40), (1.6, 0.7, 1.7, 1.0)


def test_second_moments_and_gradients_of_an_mlp_follow_the_exact_recursion():
    """E of a mean square is exact at every width: g^2 a layer, biases added; one input, 300
    networks. Fires by chance once in a million; sees a factor 1.6 in any row: a
    forgotten gain or half."""
    bias, x = 0.7, torch.randn(1, 30)
    found = probe(lambda: mlp(WIDTHS, GAINS, bias), x, ensemble=300, seed=1)
    square, truth = float(x.square().mean()), []
    for gain in GAINS:
        square = (2 * square if not truth else square) * gain**2 + bias**2
        truth.append(square)  # a ReLU halves, and He's 2 undoes it; the input is not halved
    rows = slice(0, None, 2)
    ratio = found.second_moment[rows] / truth
    assert_agrees(ratio, 1.0, found.second_moment_se[rows] / truth, resolution=0.6)
    lengths, length = [1.0], 1.0  # squared lengths of the gradient, from the output on
    for gain in GAINS[:0:-1]:
        length *= gain**2
        lengths.append(length)
    entries = found.entries[rows].values
    truth = np.array(lengths[::-1]) / entries
    ratio = found.gradient_second_moment[rows] / truth
    error = found.gradient_second_moment_se[rows] / truth + 1e-6  # rounding of the last row
    assert_agrees(ratio, 1.0, error, resolution=0.6)


def test_cosines_of_a_wide_mlp_follow_the_map_of_the_kernel():
    """Width 800, 12 networks: the bias is of order 1 / width; sees 0.07."""
    x = torch.randn(6, 30)
    found = probe(lambda: mlp((30, 800, 800, 800), (1.0,) * 3), x, ensemble=12, seed=2)
    unit = (x / x.norm(dim=1, keepdim=True)).double().numpy()
    i, j = np.triu_indices(6, 1)
    rho, phi = (unit @ unit.T)[i, j], ReLU()
    truth = [rho.mean()]
    for _ in range(2):
        rho = kernel(rho, phi)
        truth += [rho.mean()] * 2
    error = np.hypot(found.cosine_mean_se, 2e-3)
    assert_agrees(found.cosine_mean, truth, error, resolution=0.07)


class Block(nn.Module):
    """Type B with a branch of its own scale."""

    def __init__(self, width, scale):
        super().__init__()
        self.one, self.two = nn.Linear(width, width), nn.Linear(width, width)
        self.scale = nn.Parameter(torch.tensor(scale))
        for layer in (self.one, self.two):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / width))
            nn.init.zeros_(layer.bias)

    def forward(self, h):
        return torch.relu(h + self.scale * self.two(torch.relu(self.one(h))))


@pytest.mark.parametrize(
    "build",
    [
        lambda: mlp((20, 300, 300, 300, 10), (1.0, 1.2, 0.9, 1.0)),
        lambda: nn.Sequential(nn.Linear(20, 300), *(Block(300, 0.5) for _ in range(4))),
        lambda: nn.Sequential(
            nn.Linear(20, 300), nn.BatchNorm1d(300), nn.Tanh(), nn.Linear(300, 300), nn.SiLU()
        ),
    ],
    ids=["plain", "type B", "normalised"],
)
def test_wide_modules_are_where_the_limit_says(build):
    """Within the slack and five errors, in every row that is known; and no slack is idle."""
    x = torch.randn(24, 20)
    model, found = build(), probe(build, x, ensemble=8, seed=3)
    theory = predict_module(model, found, anatomy(model, x[:1]), x)
    known = 0
    for name in theory.data_vars:
        if str(name).endswith("_slack"):
            continue
        here = np.isfinite(theory[name].values)
        gap = np.abs(found[name] - theory[name]).values[here]
        allowed = (theory[f"{name}_slack"] + 5 * found[f"{name}_se"].fillna(0)).values[here]
        assert (gap <= allowed).all(), (name, gap, allowed)
        assert theory[name].attrs["status"] == "limit"
        known += here.sum()
    assert known >= 10


def test_a_branch_of_zero_leaves_the_mask_of_the_trunk_as_it_is():
    """relu(relu(h)) = relu(h): gradients pass the second one whole, not halved."""
    model = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), *(Block(400, 0.0) for _ in range(3)))
    x = torch.randn(4, 20)
    found = probe(model, x)
    theory = predict_module(model, found, anatomy(model, x[:1]), x)
    told = np.exp(theory.log_sum_gradient_second_moment_mean.values) * 400
    np.testing.assert_allclose(told, 0.5, atol=0.02)
    np.testing.assert_allclose(found.sum_gradient_second_moment * 400, 0.5, atol=0.1)


def test_taps_on_the_border_are_counted_exactly():
    """A kernel of ones on an image of ones: the mean over outputs of the taps that see it."""
    from analysis.module_law import _taps_seen

    for kernel_size, stride, padding, size in (
        (3, 1, 1, 5),
        (3, 2, 1, 8),
        (5, 2, 2, 7),
        (1, 2, 0, 6),
    ):
        conv = nn.Conv2d(1, 1, kernel_size, stride, padding, bias=False)
        x = torch.ones(1, 1, size, size)
        nn.init.ones_(conv.weight)
        seen = float(conv(x).detach().mean()) / kernel_size**2
        found = anatomy(conv, x)
        node = next(node for node in found.graph.nodes if node.op == "conv2d")
        assert _taps_seen(node, found.layers[0], (1, 1, size, size)) == pytest.approx(seen)


def test_where_nothing_is_known_there_is_no_band():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU())
    x = torch.randn(2, 3, 12, 12)
    found = probe(model, x)
    theory = predict_module(model, found, anatomy(model, x[:1]), x)
    assert np.isfinite(theory.log_second_moment_mean[0])
    assert np.isnan(theory.log_second_moment_mean[1:]).all()


def _pairs(weight):
    half = weight.shape[0] // 2
    weight[half:] = -weight[:half]


def _centre(weight):
    weight[..., 0, :] = 0
    weight[..., 2, :] = 0


@pytest.mark.parametrize("change", [_pairs, _centre])
def test_behind_weights_that_are_not_independent_there_is_no_prediction(change):
    model = nn.Sequential(nn.Conv2d(4, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 6, 3))
    x = torch.randn(3, 4, 12, 12)

    def known():
        return np.isfinite(
            predict_module(model, probe(model, x), anatomy(model, x[:1]), x).log_second_moment_mean
        ).values.tolist()

    assert known() == [True, True, True]
    with torch.no_grad():
        change(model[2].weight)
    assert known() == [True, True, False]
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.fill_(0.3)
    assert known() == [True, True, True]  # of a weight of 0 nothing is left to depend on


def test_a_matrix_that_is_used_twice_is_not_independent_of_what_it_reads():
    model = nn.Sequential(nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU())
    x = torch.randn(3, 30)
    model[2].weight = model[0].weight
    theory = predict_module(model, probe(model, x), anatomy(model, x[:1]), x)
    assert np.isnan(theory.log_second_moment_mean).all()


def test_a_learnable_scalar_of_a_branch_counts():
    """The branch of 0.5 W_2 relu(W_1 h) adds a quarter of what it would add by itself."""
    from sigprop.modules import init

    model = nn.Sequential(nn.Linear(20, 400), *(Block(400, 1.0) for _ in range(2)))
    x = torch.randn(16, 20)
    init.skipinit_(model, x[:1], initial=0.5, add_scalars=True)
    theory = predict_module(model, probe(model, x), anatomy(model, x[:1]), x)
    found = probe(model, x)
    gap = np.log(found.sum_second_moment) - theory.log_sum_second_moment_mean
    assert (np.abs(gap) <= theory.log_sum_second_moment_mean_slack + 0.05).all(), gap
    assert np.isfinite(gap).all()
