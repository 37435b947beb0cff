"""What an initialiser leaves in a module is the law of its scheme."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import nn

import sigprop
from sigprop.layer_factor import LayerFactor
from sigprop.modules import anatomy, init
from tests.modules.residual import conv_net, mlp, residual_mlp
from tests.stat import ALPHA, assert_agrees
from tests.vision import models

torch.set_num_threads(1)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@lru_cache(maxsize=4)
def _resnet(name: str, norm: bool) -> nn.Module:
    """One of each for all tests: an initialiser sets whatever is in it."""
    layer = {} if norm else {"norm_layer": lambda channels: nn.Identity()}
    return getattr(models(), name)(num_classes=10, **layer)


def assert_as_reported(model: nn.Module, report: init.InitReport) -> None:
    """Every tensor is what its line says: the constant, or a mean square within a chi-square.

    The mean square of n independent normals is std^2 chi^2_n / n; all lines together fire by
    chance with probability ALPHA. A wrong factor of 1.1 in a tensor of 2000 entries is seen.
    """
    parameters = dict(model.named_parameters())
    random = [s for s in report.set if s.value is None]
    for s in report.set:
        values = parameters[s.tensor].detach().double()
        if s.value is not None:
            assert (values == torch.tensor(s.value, dtype=parameters[s.tensor].dtype)).all(), s
            continue
        assert s.std is not None
        total = float((values**2).sum()) / s.std**2
        tail = ALPHA / 2 / len(random)
        low, high = chi2.ppf(tail, values.numel()), chi2.isf(tail, values.numel())
        assert low <= total <= high, (s, total / values.numel())


# -------------------------------------------------------------------- of every weight alone


@pytest.mark.parametrize("norm", [True, False])
def test_he_in_a_resnet_is_two_over_the_fan_in(norm):
    model = _resnet("resnet18", norm)
    report = init.he_(model, torch.ones(1, 3, 32, 32), generator=_generator())
    assert_as_reported(model, report)
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            taps = math.prod(getattr(module, "kernel_size", (1,)))
            columns = module.weight.shape[1] * taps
            assert report[f"{name}.weight"].std == pytest.approx(math.sqrt(2 / columns), rel=1e-14)
    assert not report.left


@pytest.mark.parametrize(
    ("function", "scheme", "options"),
    [
        (init.he_, sigprop.He(), {}),
        (init.glorot_, sigprop.Glorot(), {}),
        (init.lecun_, sigprop.LeCun(), {}),
        (init.fixup_, sigprop.Fixup(), {}),
        (init.skipinit_, sigprop.SkipInit(initial=0.3), {"initial": 0.3}),
        (init.rezero_, sigprop.ReZero(), {}),
        (init.scaled_, sigprop.Power(beta=0.7), {"beta": 0.7}),
    ],
)
def test_an_initialiser_is_the_table_of_its_scheme(function, scheme, options):
    """Standard deviations and branch coefficients are those by which the samplers draw."""
    depth, width, hidden = 5, 6, (9, 7)
    network = sigprop.Network(
        depth=depth, width=width, block="inner", inner_layers=3, inner_width=(hidden,) * depth
    )
    table = scheme.layers(network)
    model = residual_mlp((width,) * (depth + 1), hidden, kind="inner", gain=True)

    report = function(model, torch.ones(1, width), generator=_generator(), **options)

    assert_as_reported(model, report)
    for layer in range(depth):
        for j in range(3):
            std = report[f"{layer}.layers.{j}.weight"].std
            assert std == pytest.approx(table.scale[layer, j], rel=1e-14)
        assert report[f"{layer}.gain"].value == pytest.approx(table.branch[layer], rel=1e-14)


@pytest.mark.parametrize("phi", [nn.LeakyReLU(0.3), nn.Tanh(), nn.GELU(), nn.SiLU()])
def test_he_takes_the_gain_of_the_activation_that_is_read(phi):
    model = nn.Sequential(nn.Linear(4, 5), phi, nn.Linear(5, 3))
    kinds = {"LeakyReLU": sigprop.LeakyReLU(slope=0.3), "Tanh": sigprop.Tanh()}
    kinds |= {"GELU": sigprop.GELU(), "SiLU": sigprop.SiLU()}
    square = kinds[type(phi).__name__].second_moment()
    report = init.he_(model, torch.ones(1, 4))
    assert report["2.weight"].std == pytest.approx(math.sqrt(1 / (5 * square)), rel=1e-14)


def test_several_activations_are_refused_unless_one_is_named():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2))
    with pytest.raises(sigprop.errors.SpecError, match=r"several activations \(relu, tanh\)"):
        init.he_(model, torch.ones(1, 4))
    assert init.he_(model, torch.ones(1, 4), nonlinearity="relu").options["activation"] == "relu"


def test_a_matrix_is_orthogonal_times_its_gain_and_a_kernel_at_its_centre():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5)
    ).double()
    init.orthogonal_(model, torch.ones(1, 3, 3, 3, dtype=torch.float64), generator=_generator())
    kernel, matrix = model[0].weight.detach(), model[3].weight.detach()
    q = kernel[:, :, 1, 1]
    assert torch.allclose(q.T @ q, 2 * torch.eye(3, dtype=torch.float64), atol=1e-14, rtol=0)
    assert (kernel != 0).sum() == q.numel()
    assert torch.allclose(matrix @ matrix.T, 2 * torch.eye(5, dtype=torch.float64), atol=1e-14)


def test_queries_keys_and_values_are_three_matrices():
    layer = nn.TransformerEncoderLayer(6, 2, 10)
    model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    x = torch.ones(2, 1, 6)
    report = init.glorot_(model, x)
    assert report["layers.0.self_attn.in_proj_weight"].std == pytest.approx(math.sqrt(1 / 6))
    init.orthogonal_(model, x)
    for w in model.layers[0].self_attn.in_proj_weight.detach().double().chunk(3):
        assert torch.allclose(w @ w.T, torch.eye(6, dtype=torch.float64), atol=1e-6)


# ----------------------------------------------------------------------- residual networks


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("name", "m", "blocks"), [("resnet18", 2, 8), ("resnet50", 3, 16)])
def test_fixup_scales_resnets_with_the_number_of_their_branches(name, m, blocks, norm):
    model = _resnet(name, norm)
    report = init.fixup_(model, torch.ones(1, 3, 32, 32), generator=_generator())
    assert report.sums == blocks
    scale = blocks ** (-1 / (2 * m - 2))
    for block in (b for b, module in model.named_modules() if hasattr(module, "downsample")):
        for j in range(1, m):
            weight = model.get_parameter(f"{block}.conv{j}.weight")
            he = math.sqrt(2 / weight[0].numel())
            assert report[f"{block}.conv{j}.weight"].std == pytest.approx(he * scale, rel=1e-14)
        zero = f"{block}.bn{m}.weight" if norm else f"{block}.conv{m}.weight"
        assert (model.get_parameter(zero) == 0).all()
    assert (model.fc.weight == 0).all() and (model.fc.bias == 0).all()
    if name == "resnet18":
        assert_as_reported(model, report)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("function", [init.fixup_, init.skipinit_, init.rezero_])
def test_a_resnet_whose_branches_are_zero_is_its_shortcuts(function, norm):
    model = _resnet("resnet18", norm)
    x = torch.randn(2, 3, 32, 32, generator=_generator(3))
    extra = {"classifier": "he"} if function is init.fixup_ else {}
    function(model, x, generator=_generator(), **extra)

    with torch.no_grad():
        found = model(x)  # in training: statistics of the batch
        h = model.maxpool(model.relu(model.bn1(model.conv1(x))))
        for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
            for block in stage:
                h = torch.relu(h if block.downsample is None else block.downsample(h))
        expected = model.fc(torch.flatten(model.avgpool(h), 1))

    assert torch.equal(found, expected) and (found != 0).all()


@pytest.mark.parametrize("gain", [True, False])
@pytest.mark.parametrize("function", [init.fixup_, init.skipinit_, init.rezero_])
def test_a_residual_mlp_whose_branches_are_zero_is_the_identity(function, gain):
    model = residual_mlp((5,) * 9, kind="inner", gain=gain)
    x = torch.randn(4, 5, generator=_generator(1))
    function(model, x, generator=_generator())
    assert torch.equal(model(x), x)


def test_fixup_leaves_the_multiplier_one_and_the_last_weight_zero():
    model = residual_mlp((5,) * 3, kind="inner", gain=True)
    report = init.fixup_(model, torch.ones(1, 5))
    assert report["0.gain"].value == 1.0 and report["0.layers.1.weight"].value == 0.0


def test_skipinit_leaves_the_weights_and_closes_the_scalar():
    model = residual_mlp((5,) * 3, kind="inner", gain=True)
    report = init.skipinit_(model, torch.ones(1, 5))
    assert report["0.gain"].value == 0.0 and report["0.layers.1.weight"].std > 0.3
    assert not any("no scalar" in note for note in report.notes)


@pytest.mark.parametrize("function", [init.skipinit_, init.rezero_])
def test_a_scalar_is_added_on_request_and_trains_and_is_found_again(function):
    model = residual_mlp((5,) * 4, kind="inner")
    x = torch.randn(4, 5, generator=_generator(1))
    report = function(model, x, add_scalars=True, generator=_generator())
    name = "1.layers.1.parametrizations.weight.0.scale"
    assert report[name].value == 0.0 and report["1.layers.1.weight"].std == pytest.approx(
        math.sqrt(2 / 8)
    )
    assert torch.equal(model(x), x)
    model(x).square().sum().backward()
    assert model.get_parameter(name).grad != 0

    # Found again: all branches are closed by the scalars that are there, and none is added.
    again = init.scaled_(model, x, beta=1.0, add_scalars=True, generator=_generator())
    assert again[name].value == pytest.approx(1 / 3)
    assert [s.tensor for s in again] == [n for n, _ in model.named_parameters()]
    assert_as_reported(model, again)
    assert [s.layers[1].name for s in anatomy(model, x).sums] == [f"{i}.layers.1" for i in range(3)]


def test_an_added_scalar_in_an_encoder_closes_attention():
    layer = nn.TransformerEncoderLayer(6, 2, 10, dropout=0.0, norm_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x = torch.randn(4, 2, 6, generator=_generator(2))
    init.rezero_(model, x, add_scalars=True)
    assert torch.equal(model(x), x)
    assert "layers.1.self_attn.out_proj.parametrizations.weight.0.scale" in model.state_dict()
    with torch.no_grad():
        model.layers[1].linear2.parametrizations.bias.original.fill_(1.0)
    assert torch.equal(model(x), x)  # the bias is of the branch too


@pytest.mark.parametrize(("norm", "beta"), [(True, 0.25), (False, 1.0), (False, 0.5)])
def test_scaled_branches_are_a_power_of_their_number(norm, beta):
    model = _resnet("resnet18", norm)
    report = init.scaled_(model, torch.ones(1, 3, 32, 32), beta=beta, generator=_generator())
    for block in (b for b, module in model.named_modules() if hasattr(module, "downsample")):
        lecun = 1 / math.sqrt(model.get_parameter(f"{block}.conv2.weight")[0].numel())
        std = report[f"{block}.conv2.weight"].std
        if norm:
            assert std == pytest.approx(lecun, rel=1e-14)
            assert report[f"{block}.bn2.weight"].value == pytest.approx(8**-beta, rel=1e-14)
        else:
            assert std == pytest.approx(lecun * 8**-beta, rel=1e-14)
    assert_as_reported(model, report)


@pytest.mark.parametrize("norm_first", [True, False])
def test_rezero_in_an_encoder_closes_both_branches_of_a_layer(norm_first):
    layer = nn.TransformerEncoderLayer(6, 2, 10, dropout=0.0, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    x = torch.randn(4, 2, 6, generator=_generator(2))
    report = init.rezero_(model, x)
    expected = x
    if not norm_first:
        for _ in range(6):
            expected = nn.functional.layer_norm(expected, (6,))
        assert any("normalised again" in note for note in report.notes)
    assert torch.allclose(model(x), expected, atol=1e-6)


# ----------------------------------------------------------------------------------- pairs


def _singular_values(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    jacobian = torch.func.jacrev(lambda z: model(z[None]).flatten())(x).detach()
    return torch.linalg.svdvals(jacobian.reshape(jacobian.shape[0], -1)).numpy()


_ISOMETRIC = {
    "type B": lambda: residual_mlp((8,) * 13, (10, 8)),
    "type B, narrow branch": lambda: residual_mlp((8,) * 13, (6,)),
    "type B, 200 blocks": lambda: residual_mlp((8,) * 201),
    "type C, 200 blocks": lambda: residual_mlp((8,) * 201, kind="C"),
    "type C": lambda: residual_mlp((8, 8, 10, 10, 14), (6, 12), kind="C"),
    "type C, branch scalar": lambda: residual_mlp((8, 8, 10), kind="C", gain=True),
    "type B, branch scalar": lambda: residual_mlp((8, 8, 8), kind="B", gain=True),
    "kernels, type B": lambda: conv_net((8, 8, 8, 8), kind="B"),
    "kernels, type C": lambda: conv_net((4, 6, 8), kind="C", hidden=6),
}


@pytest.mark.parametrize("alpha", [1.0, 0.4, 2.0])
@pytest.mark.parametrize("name", list(_ISOMETRIC))
def test_risotto_makes_an_isometry_of_anybodys_residual_network(name, alpha):
    """Norms forward and singular values of the Jacobian are 1 to rounding."""
    model = _ISOMETRIC[name]().double()
    shape = (2, 4, 5) if name.startswith("kernels") else (3,)
    x = torch.randn(shape, dtype=torch.float64, generator=_generator(4))

    init.risotto_(model, x[None], alpha=alpha, generator=_generator(5))

    y = model(x[None]).detach()
    assert abs(float(y.norm() / x.norm()) - 1) < 1e-12
    values = _singular_values(model, x)[: x.numel()]
    assert len(values) == x.numel() and np.abs(values - 1).max() < 1e-12


def test_risotto_reads_out_the_pairs_as_one_orthogonal_matrix():
    model = residual_mlp((8, 8, 8), classes=3).double()
    x = torch.randn(3, dtype=torch.float64, generator=_generator())
    init.risotto_(model, x[None], generator=_generator(1))
    # 3 logits of 4 pairs, of which 3 directions are used: a projection of what was kept.
    halves = model[-1].weight.detach()
    assert torch.equal(halves[:, :4], -halves[:, 4:])
    values = _singular_values(model, x)
    assert values.max() <= 1 + 1e-12


def test_strides_leave_singular_values_of_zero_and_one():
    model = conv_net((8, 8, 8), kind="C", stride=2).double()
    x = torch.randn(2, 5, 5, dtype=torch.float64, generator=_generator())
    with pytest.raises(sigprop.errors.SpecError, match=r"module '2.layers.0' \(Conv2d\) has a str"):
        init.risotto_(model, x[None])
    init.risotto_(model, x[None], lossy=True, generator=_generator(1))
    values = _singular_values(model, x)
    ones = np.abs(values - 1) < 1e-12
    assert (ones | (values < 1e-12)).all() and ones.sum() == 2 * 2 * 2


def test_looks_linear_acts_as_a_linear_map_that_keeps_lengths():
    model = mlp(3, 8, 8, 10, 5).double()
    x = torch.randn(3, 2, dtype=torch.float64, generator=_generator()).T
    init.looks_linear_(model, x, generator=_generator(1))
    with torch.no_grad():
        hidden = model[:-1]
        for z in x:
            assert abs(float(hidden(z).norm() / z.norm()) - 1) < 1e-13
        assert torch.allclose(model(2 * x[0] - 3 * x[1]), 2 * model(x[0]) - 3 * model(x[1]))


def test_risotto_says_what_of_torchvisions_resnets_is_no_isometry():
    x = torch.ones(1, 3, 32, 32)
    model = _resnet("resnet18", True)
    with pytest.raises(sigprop.errors.SpecError, match=r"module 'bn1' \(BatchNorm2d\) normalises"):
        init.risotto_(model, x)
    for name in ("resnet18", "resnet50"):
        for norm in (True, False):
            if (name, norm) == ("resnet50", True):
                continue
            report = init.risotto_(_resnet(name, norm), x, lossy=True, batch_norm=norm)
            assert any("Max pooling" in note for note in report.notes)
            assert any("Normalisations are kept" in note for note in report.notes) == norm
            assert not report.left


# ------------------------------------------------------------------------------ fractional


@pytest.mark.parametrize("s", [0.5, 1.0])
def test_fractional_keeps_its_moment(s):
    """E|h_L|^s per coordinate, through layers of changing width; the error from exact moments."""
    widths, replicas = (4, 7, 5, 6), 1500
    model = mlp(*widths).double()
    x = torch.tensor([[1.0, -2.0, 0.5, 0.25]], dtype=torch.float64)
    found, generator = anatomy(model, x), _generator(8)
    report = init.fractional_(model, s=s, anatomy=found, generator=generator)
    sigma = [report[f"{2 * i}.weight"].std for i in range(3)]
    # One draw of the initialiser a network; the scales do not change.
    norms = np.empty(replicas)
    with torch.no_grad():
        for r in range(replicas):
            for i in range(3):
                model[2 * i].weight.normal_(0, sigma[i], generator=generator)
            norms[r] = float(model(x).norm())
    phi = [sigprop.ReLU(), sigprop.ReLU(), sigprop.Linear()]
    factors = [LayerFactor.of(f, n) for f, n in zip(phi, widths[1:])]
    unit = math.sqrt(widths[-1] / widths[0]) * float(x.norm())
    log_square = sum(2 * s * math.log(w) + f.log_moment(s) for w, f in zip(sigma, factors))
    square = math.exp(log_square) * (float(x.norm()) / unit) ** (2 * s)
    se = math.sqrt((square - 1) / replicas)

    assert_agrees(np.mean((norms / unit) ** s), 1.0, se, resolution=0.4)
    assert_as_reported(model, report)


def test_fractional_is_the_scale_of_its_scheme():
    model = mlp(6, 9, 5, 8)
    report = init.fractional_(model, torch.ones(1, 6), s=1.2)
    network = sigprop.Network(depth=2, widths=(6, 9, 5), block="plain")
    scale = sigprop.Fractional(s=1.2).layers(network).scale[:, 0]
    assert [report[f"{2 * i}.weight"].std for i in range(2)] == pytest.approx(scale, rel=1e-14)


# --------------------------------------------------------------------------------- manners


def test_draws_come_from_the_generator_and_from_nowhere_else():
    model, x = residual_mlp((6, 6, 6)), torch.ones(1, 3)
    state = torch.get_rng_state()
    init.he_(model, x, generator=_generator(1))
    first = model[2].layers[0].weight.detach().clone()
    init.he_(model, x, generator=_generator(2))
    assert not torch.equal(first, model[2].layers[0].weight)
    init.he_(model, x, generator=_generator(1))
    assert torch.equal(first, model[2].layers[0].weight)
    assert torch.equal(state, torch.get_rng_state())


def test_a_report_has_a_line_for_every_parameter_and_says_it_all_as_data():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.BatchNorm1d(3), nn.PReLU(3))
    model[1].bias.requires_grad_(False)
    report = init.he_(model, torch.ones(2, 3, dtype=torch.long), nonlinearity="relu")
    assert [s.tensor for s in report] == [name for name, _ in model.named_parameters()]
    assert {s.tensor: s.why for s in report.left} == {
        "0.weight": "an embedding: its rows are read one by one, and no sum has a scale to keep",
        "1.bias": "frozen: requires_grad is False",
        "3.weight": "no part of the scheme",
    }
    data = report.to_dict()
    assert data["settings"][1]["std"] == pytest.approx(math.sqrt(2 / 4))
    assert "1.weight" in str(report) and "left alone" in str(report)


def test_orthogonal_matrices_prefer_no_sign():
    """The first entry of Q is positive half of the time; a bare QR makes it negative always."""
    model, x, generator = nn.Linear(3, 3), torch.ones(1, 3), _generator(2)
    found = anatomy(model, x)
    positive = 0
    for _ in range(60):
        init.orthogonal_(model, anatomy=found, generator=generator)
        positive += bool(model.weight[0, 0] > 0)
    # A fair coin leaves these bounds with probability 3e-6, one of 0.99 stays with 1e-40.
    assert 12 < positive < 48
