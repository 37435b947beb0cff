"""Variances of weights from moments that nothing was run to find."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sigprop.modules
from sigprop.errors import SpecError, Unsupported
from sigprop.modules import moment_rules as rules
from sigprop.modules.autoinit_analytic import autoinit_analytic
from sigprop.modules.moment_rules import Moments
from tests.modules.states import bits, picture
from tests.stat import assert_agrees

torch.set_num_threads(1)


def behind(*middle, x=None, **options):
    """What the second weight layer of (3 -> 4, middle, 4 -> 2) sees: mean, variance, n Var W."""
    model = nn.Sequential(nn.Linear(3, 4), *middle, nn.Linear(4, 2)).double()
    history = autoinit_analytic(model, **options).history
    row = {name: column[-1] for name, column in history.items()}
    return row["mean"], row["variance"], 4 * row["weight_sd"] ** 2


def test_behind_relu_it_is_the_variance_of_he():
    mean, variance, weights = behind(nn.ReLU())
    np.testing.assert_allclose(mean, 1 / math.sqrt(2 * math.pi), rtol=1e-12)
    np.testing.assert_allclose(variance, 1 / 2 - 1 / (2 * math.pi), rtol=1e-12)
    np.testing.assert_allclose(weights, 2, rtol=1e-12)


def test_behind_tanh():
    mean, variance, weights = behind(nn.Tanh())
    assert abs(mean) < 1e-12
    np.testing.assert_allclose(variance, 0.3942945, atol=5e-8)
    np.testing.assert_allclose(weights, 2.5361754, atol=5e-8)


def test_dropout_divides_the_second_moment_by_what_is_kept():
    mean, variance, weights = behind(nn.ReLU(), nn.Dropout(0.3))
    np.testing.assert_allclose(mean, 1 / math.sqrt(2 * math.pi), rtol=1e-12)
    np.testing.assert_allclose(variance + mean**2, 0.5 / 0.7, rtol=1e-12)
    np.testing.assert_allclose(weights, 2 * 0.7, rtol=1e-12)


def test_the_first_layer_reads_the_moments_of_the_inputs():
    model = nn.Sequential(nn.Linear(3, 4)).double()
    row = autoinit_analytic(model, input_mean=-0.5, input_var=2.0).history
    np.testing.assert_allclose(3 * row["weight_sd"] ** 2, 1 / 2.25, rtol=1e-12)


LAYERS = {
    "leaky": nn.LeakyReLU(0.3),
    "gelu": nn.GELU(),
    "hardtanh": nn.Hardtanh(-0.5, 0.7),
    "softshrink": nn.Softshrink(0.4),
    "threshold": nn.Threshold(0.3, -1.0),
    "prelu": nn.PReLU(3),
    "max of 4": nn.MaxPool2d(2),
    "mean of 4": nn.AvgPool2d(2),
    "dropout": nn.Dropout(0.4),
}


@pytest.mark.parametrize("name", LAYERS)
def test_rules_agree_with_samples(name):
    """1e6 numbers of mean 0.6, deviation 1.3; sees 2 % in mean and variance."""
    layer = LAYERS[name]
    if name == "prelu":
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([0.1, 0.5, -0.2]))
    generator = torch.Generator().manual_seed(11)
    x = (0.6 + 1.3 * torch.randn(25, 3, 116, 116, generator=generator)).double()
    entering = Moments(0.6, 1.69)
    if isinstance(layer, nn.Dropout):
        keep = (torch.rand(x.shape, generator=generator) < 0.6).double()
        y, found = x * keep / 0.6, rules.dropped(entering, 0.4)
    else:
        y = layer.double()(x).detach()
        if isinstance(layer, nn.PReLU):
            found = rules.parametric_relu(entering, layer.weight)
        elif isinstance(layer, nn.MaxPool2d):
            found = rules.largest(entering, 4)
        elif isinstance(layer, nn.AvgPool2d):
            found = rules.averaged(entering, 4)
        else:
            found = rules.activated(entering, *rules.elementwise(layer))
    y = y.flatten().numpy()
    n, centred = len(y), y - y.mean()
    fourth = float((centred**4).mean())
    assert_agrees(y.mean(), found.mean, y.std() / math.sqrt(n), resolution=0.03)
    se = math.sqrt((fourth - y.var() ** 2) / n)
    assert_agrees(y.var(), found.variance, se, resolution=0.06)


def test_sums_products_concatenations_and_normalisation():
    x, y = Moments(1.0, 2.0, frozenset("a")), Moments(-0.5, 3.0, frozenset("b"))
    assert rules.added(x, y) == Moments(0.5, 5.0, frozenset("ab"))
    assert rules.added(x, y, -1.0) == Moments(1.5, 5.0, frozenset("ab"))
    product = rules.multiplied(x, y)  # E x^2 = 3, E y^2 = 3.25
    assert (product.mean, product.square) == (-0.5, 9.75)
    both = rules.concatenated([(3, x), (1, y)])
    assert (both.mean, both.square) == (0.625, (9 + 3.25) / 4)
    norm = nn.BatchNorm1d(2)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 3.0]))
        norm.bias.copy_(torch.tensor([0.5, -0.5]))
    after = rules.normalised(x, norm)
    assert (after.mean, after.variance) == (0.0, 5.25)


def test_of_a_division_by_the_root_mean_square():
    after = rules.normalised(Moments(1.0, 3.0), nn.RMSNorm(4, elementwise_affine=False))
    assert (after.mean, after.variance) == (0.5, 0.75)


class Arithmetic(nn.Module):
    """Two layers with an expression between them."""

    def __init__(self, between):
        super().__init__()
        self.a, self.b, self.between = nn.Linear(3, 4), nn.Linear(4, 2), between

    def forward(self, x):
        return self.b(self.between(torch.relu(self.a(x))))


@pytest.mark.parametrize(
    "between, factor, shift",
    [
        (lambda h: 3 - h / 2, -0.5, 3.0),
        (lambda h: -h, -1.0, 0.0),
        (lambda h: (h - 0.25) * 4, 4.0, -1.0),
        (lambda h: torch.neg(1.5 + h), -1.0, -1.5),
    ],
)
def test_numbers_shift_and_multiply_the_moments(between, factor, shift):
    history = autoinit_analytic(Arithmetic(between).double()).history
    mean, variance = 1 / math.sqrt(2 * math.pi), 0.5 - 1 / (2 * math.pi)
    np.testing.assert_allclose(history["mean"][1], factor * mean + shift, rtol=1e-12)
    np.testing.assert_allclose(history["variance"][1], factor**2 * variance, rtol=1e-12)


def test_a_bias_that_may_not_be_set_adds_its_own_moments():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).double()
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([1.0, 3.0]))
    model[0].bias.requires_grad_(False)
    history = autoinit_analytic(model).history
    assert model[0].bias.tolist() == [1.0, 3.0]
    np.testing.assert_allclose([history["mean"][1], history["variance"][1]], [2, 2], rtol=1e-12)


def test_padding_mixes_its_value_in_by_area():
    """5 x 5 becomes 7 x 7: 25 of variance 1 and 24 that are 2."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ConstantPad2d(1, 2.0), nn.Conv2d(3, 2, 3)).double()
    history = autoinit_analytic(model, example=torch.zeros(1, 1, 7, 7).double()).history
    np.testing.assert_allclose(history["mean"][1], 48 / 49, rtol=1e-12)
    np.testing.assert_allclose(
        history["variance"][1] + history["mean"][1] ** 2, (25 + 4 * 24) / 49, rtol=1e-12
    )


class Net(nn.Module):
    """What a forward may write: functions, methods, sums, a gain, a frozen layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.a = nn.Conv2d(2, 6, 3, padding=1, stride=2), nn.Conv2d(6, 6, 3, padding=1)
        self.b, self.frozen = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1).requires_grad_(False)
        self.head = nn.Linear(10, 3)
        self.gain = nn.Parameter(torch.tensor([0.5]))

    def forward(self, x):
        h = F.relu(self.stem(x))
        h = 0.5 * h + self.gain * self.b(torch.tanh(self.a(h)))
        h = torch.cat([h, self.frozen(F.leaky_relu(h, 0.2))], dim=1)
        if self.training:
            h = F.dropout(h, 0.2)
        return self.head(F.max_pool2d(h, 2).mean(dim=(2, 3)).view(x.size(0), -1))


def test_a_forward_written_by_hand_is_followed():
    torch.manual_seed(0)
    model, x = Net().double().eval(), torch.randn(4, 2, 16, 16).double()
    before = picture(model)
    with pytest.raises(SpecError, match="a concatenation needs the shapes"):
        autoinit_analytic(model)
    assert picture(model) == before
    frozen = model.frozen.weight.clone()
    result = autoinit_analytic(model, example=x)
    assert torch.equal(model.frozen.weight, frozen)
    assert [m.training for m in model.modules()] == [False] * 6
    relu = (1 / math.sqrt(2 * math.pi), 0.5 - 1 / (2 * math.pi))
    history = result.history
    assert history["layer"].tolist() == ["stem", "a", "b", "head"]
    np.testing.assert_allclose(history["mean"][1], relu[0], rtol=1e-12)
    np.testing.assert_allclose(history["weight_sd"][0] ** 2, 1 / 18, rtol=1e-12)
    # Of the sum: the skip halves deviations; the branch has variance gain^2.
    mean, square = relu[0] / 2, 0.25 * 0.5 + 0.25
    h = Moments(mean, square - mean**2)
    leaky = rules.activated(h, lambda u: F.leaky_relu(u, 0.2), (0.0,))
    bias = model.frozen.bias.detach()
    own = 6 * float(frozen.square().mean()) * leaky.square + float(bias.var(correction=0))
    both = rules.concatenated([(6, h), (4, Moments(float(bias.mean()), own))])
    last = rules.averaged(rules.largest(rules.dropped(both, 0.2), 4), 16)
    np.testing.assert_allclose(history["mean"][3], last.mean, rtol=1e-12)
    np.testing.assert_allclose(history["variance"][3], last.variance, rtol=1e-12)


def test_arguments_by_name_are_followed():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(input=F.leaky_relu(input=self.a(input=x), negative_slope=0.0))

    history = autoinit_analytic(Named().double()).history
    np.testing.assert_allclose(4 * history["weight_sd"][1] ** 2, 2, rtol=1e-12)


def test_outputs_of_a_wide_network_have_the_moments_that_are_carried():
    """Variance over 400 inputs and 300 units; widths of 300 and more are off by 1/width."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(300, 500), nn.Tanh(), nn.Linear(500, 400), nn.GELU(), nn.Linear(400, 300)
    ).double()
    autoinit_analytic(model, input_mean=0.5, input_var=2.0)
    y = model(0.5 + math.sqrt(2) * torch.randn(400, 300).double())
    # Inputs share the weights: a layer's mean square has relative variance 2 / width.
    se = math.sqrt(2 / 500 + 2 / 400 + 2 / 300)
    assert_agrees(float(y.detach().square().mean()), 1.0, se, resolution=1.3)


def test_weights_have_the_standard_deviation_that_is_told():
    """1.2e5 weights; sees 5 %."""
    model = nn.Sequential(nn.Linear(300, 400))
    autoinit_analytic(model)
    w = model[0].weight.detach().double()
    ratio = float(w.square().mean()) * 300
    assert_agrees(ratio, 1.0, math.sqrt(2 / w.numel()), resolution=0.05)
    assert not model[0].bias.any()
    other = nn.Sequential(nn.Linear(300, 400))
    autoinit_analytic(other, seed=1)
    assert bits(other[0].weight) != bits(model[0].weight)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


class Dependent(Branching):
    def forward(self, x):
        h = self.layer(x)
        return h + torch.relu(h)


class Softened(Branching):
    def forward(self, x):
        return torch.softmax(self.layer(x), dim=1)


class Stacked(Branching):
    def forward(self, x):
        return torch.stack([self.layer(x), self.layer(x)])


class Shaped(Branching):
    def forward(self, x):
        return self.layer(x.shape)


BAD = {
    "stacked": (Stacked, Unsupported, "the forward calls 'stack'"),
    "shape": (Shaped, Unsupported, "layer 'layer' reads something whose mean"),
    "attention": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.MultiheadAttention(3, 1)),
        Unsupported,
        "layer '1' is a MultiheadAttention, for which analytic AutoInit has no rule",
    ),
    "softmax": (Softened, Unsupported, "the forward calls 'softmax'"),
    "branching": (Branching, Unsupported, "the forward of Branching cannot be traced"),
    "dependent": (Dependent, Unsupported, "both come from 'layer' are added"),
    "zeros": (
        lambda: nn.Sequential(nn.Threshold(100.0, 0.0), nn.Linear(3, 3)),
        SpecError,
        "what enters layer '1' has mean 0 and variance 0",
    ),
    "none": (lambda: nn.Sequential(nn.PReLU()), SpecError, "no linear or convolutional layer"),
    "frozen": (lambda: nn.Linear(3, 3).requires_grad_(False), SpecError, "no trainable parameter"),
    "adaptive": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1)),
        SpecError,
        "layer '1' needs the shapes",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_error_and_the_model_is_as_it_was(case):
    build, error, words = BAD[case]
    torch.manual_seed(0)
    model = build()
    before = picture(model)
    with pytest.raises(error, match=words):
        autoinit_analytic(model)
    assert picture(model) == before


def test_no_public_name_leaves_open_which_of_the_two_systems_is_meant():
    names = sigprop.modules.__all__
    assert {"autoinit_analytic", "autoinit_jacobian"} <= set(names) and "autoinit" not in names


def test_networks_that_nobody_here_wrote():
    """Squeeze and excitation, depthwise convolutions, residual sums, normalisation."""
    from tests.vision import models

    torch.manual_seed(0)
    model = models().mobilenet_v3_small(weights=None)
    result = autoinit_analytic(model, example=torch.randn(2, 3, 64, 64))
    assert len(result.history["layer"]) == 54 and result.warnings == ()
