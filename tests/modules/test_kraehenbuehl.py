"""Channels of mean beta and deviation 1, then layers that change at one rate."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError, Unsupported
from sigprop.modules.kraehenbuehl import kraehenbuehl
from tests.modules.states import bits, picture
from tests.stat import assert_agrees

torch.set_num_threads(1)


def chain(bias, seed=0):
    """ReLU layers of uneven widths."""
    torch.manual_seed(seed)
    widths = (12, 30, 17, 41, 23, 5)
    layers = [nn.Linear(a, b, bias=bias) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*[m for layer in layers for m in (layer, nn.ReLU())][:-1]).double()


def inputs(n=50, seed=1):
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed)).double() - 0.2


def unevenness(model, x, probes=40):
    """Largest over smallest sqrt(mean grad^2 / mean W^2), by probes that the method never saw."""
    weights = [m.weight for m in model if isinstance(m, nn.Linear)]
    y = model(x)
    generator, squares = torch.Generator().manual_seed(77), np.zeros(len(weights))
    for _ in range(probes):
        probe = torch.randn(y.shape, generator=generator).to(y)
        found = torch.autograd.grad(y, weights, probe, retain_graph=True)
        squares += [
            float(g.square().mean() / w.detach().square().mean()) for g, w in zip(found, weights)
        ]
    return float(np.sqrt(squares.max() / squares.min()))


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_every_channel_has_mean_beta_and_deviation_one(beta):
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3), nn.ReLU(), nn.ConvTranspose2d(5, 3, 2, stride=2), nn.Tanh(),
        nn.Conv2d(3, 6, 3, groups=3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 4),
    ).double()  # fmt: skip
    x = torch.randn(9, 2, 8, 8).double() + 0.4
    kraehenbuehl(model, x, between=False, beta=beta)
    seen = 0
    for layer in model:
        x = layer(x).detach()
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            channels = x.movedim(1, 0).flatten(1)
            torch.testing.assert_close(
                channels.mean(dim=1),
                torch.full((len(channels),), beta, dtype=torch.float64),
                rtol=0,
                atol=1e-14,
            )
            deviations = channels.std(dim=1, correction=0)
            torch.testing.assert_close(deviations, torch.ones_like(deviations), rtol=0, atol=2e-14)
            seen += 1
    assert seen == 4


def test_one_sweep_without_damping_is_exact_in_a_chain_and_leaves_its_function():
    x = inputs()
    for bias in (False, True):
        model, within = chain(bias), chain(bias)
        kraehenbuehl(within, x, between=False, beta=0.3)
        result = kraehenbuehl(model, x, tolerance=1e-10, beta=0.3)
        assert len(result.history["objective"]) == 2
        assert result.history["objective"][0] > 2
        np.testing.assert_allclose(result.history["objective"][1], 1, rtol=1e-12)
        torch.testing.assert_close(model(x), within(x), rtol=0, atol=1e-13)
        assert result.warnings == () if bias else "not centred: 0, 2, 4, 6, 8" in result.warnings[0]


def test_fresh_probes_see_rates_that_are_alike():
    """A square of one probe in 50 inputs has relative deviation 0.3 or so; averages of 40, 0.05."""
    x, model, within = inputs(), chain(True), chain(True)
    kraehenbuehl(within, x, between=False)
    kraehenbuehl(model, x, probes=40)
    before, after = unevenness(within, x), unevenness(model, x)
    assert before > 2.5 and after < 1.2, (before, after)


def test_one_sweep_evens_a_deep_chain_for_a_probe_that_it_did_not_see():
    """40 hidden layers of 64: rates differ thirtyfold and more, then by what one probe leaves.

    Known: 8.3-725 to 87-126, f unchanged to 2e-15, of a chain that is not named. Of 36 normalised
    ones on digits (depth 5 to 40, width 64 or 128, batches of 128 to 1437) a ratio of 1.2 to 2.2
    is left, less the shallower and wider, and f moves by 1e-15 (depth 5) to 2e-13 (40) of itself.
    """
    torch.manual_seed(3)
    sizes = [12, *[64] * 40, 10]
    layers = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes)]
    model = nn.Sequential(*[m for layer in layers for m in (layer, nn.ReLU())][:-1]).double()
    x = inputs(256)
    kraehenbuehl(model, x, between=False)
    within, before = model(x).detach(), unevenness(model, x, 1)
    kraehenbuehl(model, x, sweeps=1)
    assert before > 30 and unevenness(model, x, 1) < 3
    off = (model(x).detach() - within).abs().max() / within.abs().max()
    assert float(off) < 1e-12


def test_the_rate_of_one_layer_is_in_closed_form():
    """f = W x: E grad_ij^2 = sum_b x_bj^2. 400 probes of 6 outputs; sees 6 % of the rate."""
    model, x = nn.Sequential(nn.Linear(12, 6, bias=False)).double(), inputs()
    result = kraehenbuehl(model, x, probes=400)
    squares = x.square().sum(dim=0).mean() / model[0].weight.detach().square().mean()
    # Entries of one row share their probe: at the worst 6 x 400 independent squares.
    se = float(squares) ** 0.5 * (2 / 2400) ** 0.5 / 2
    assert_agrees(
        result.history["C[0]"][0],
        float(squares) ** 0.5,
        se,
        resolution=0.15 * float(squares) ** 0.5,
    )


def test_damping_takes_its_exponent_of_the_way():
    """In a chain every sweep multiplies the log-rates by 1 - exponent."""
    result = kraehenbuehl(chain(False), inputs(), exponent=0.25, sweeps=3, tolerance=0)
    logs = np.log(result.history["objective"])
    np.testing.assert_allclose(logs[1:] / logs[:-1], 0.75, rtol=1e-10)
    assert any("still differ" in words for words in result.warnings)


def test_the_outputs_become_of_deviation_one_if_asked():
    """The published rule halves ln sd a sweep."""
    x, model = inputs(), chain(False)
    result = kraehenbuehl(model, x, unit_output=True, sweeps=30, tolerance=1e-9)
    y = model(x).detach()
    np.testing.assert_allclose(float(y.std(correction=0)), 1, atol=5e-8)
    assert result.history["objective"][-1] < 1 + 1e-8


def test_the_seed_is_the_whole_randomness_and_the_rest_is_as_it_was():
    model, x = chain(True), inputs()
    before = picture(model)
    result = kraehenbuehl(model, x, apply=False)
    assert picture(model) == before
    result.apply(model)
    other = chain(True, seed=9)
    kraehenbuehl(other, x)
    assert [bits(p) for p in other.parameters()] == [bits(p) for p in model.parameters()]
    kraehenbuehl(other, x, seed=1)
    assert bits(other[0].weight) != bits(model[0].weight)


def test_structured_outputs_shared_and_frozen_layers():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.b, self.a = nn.Linear(8, 8), nn.Linear(12, 8)
            self.frozen = nn.Linear(8, 3).requires_grad_(False)

        def forward(self, x):
            h = torch.relu(self.b(torch.relu(self.a(x))))
            return {"again": self.b(h), "more": (self.frozen(h), h.argmax(dim=1))}

    torch.manual_seed(0)
    model = Model().double()
    kept = bits(model.frozen.weight)
    result = kraehenbuehl(model, inputs())
    assert bits(model.frozen.weight) == kept
    assert [name for name in result.history if name.startswith("C[")] == ["C[a]", "C[b]"]
    assert result.after["rate_ratio"] < 1.1


def test_layers_that_no_hook_sees_are_left_alone_and_inference_mode_is_no_obstacle():
    torch.manual_seed(0)
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), nn.Linear(8, 3))
    kept = bits(model[0].self_attn.out_proj.weight)
    with torch.inference_mode():
        result = kraehenbuehl(model, torch.randn(6, 4, 8))
    assert bits(model[0].self_attn.out_proj.weight) == kept
    assert "left as they are: 0.self_attn.out_proj.weight." in " ".join(result.warnings)
    assert [p.is_inference() for p in model.parameters()] == [False] * 14


def grouped():
    return nn.Sequential(nn.ConvTranspose2d(4, 4, 2, groups=2))


BAD = {
    "dead": (SpecError, "channel 0 of layer '0' is dead"),
    "cut off": (SpecError, "do not depend on layer '0'"),
    "infinite": (NonFinite, "outputs of layer '0' are not finite"),
    "no tensors": (Unsupported, "the output of the model holds no floating-point tensor"),
    "groups": (Unsupported, "transposed convolution with groups"),
    "none": (SpecError, "no linear or convolutional layer"),
    "frozen": (SpecError, "no trainable parameter"),
}


class Sign(nn.Module):
    """A step has derivative 0."""

    def forward(self, x):
        return torch.sign(x)


class Index(nn.Module):
    """No floating-point output."""

    def forward(self, x):
        return x.argmax(dim=1)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_error_and_the_model_is_as_it_was(case):
    x = inputs()
    model = chain(True)
    if case == "dead":
        x = x[:1]
    elif case == "cut off":
        model = nn.Sequential(nn.Linear(12, 6), Sign(), nn.Linear(6, 2)).double()
    elif case == "infinite":
        x[2, 3] = torch.nan
    elif case == "no tensors":
        model.append(Index())
    elif case == "groups":
        model = grouped()
    elif case == "none":
        model = nn.Sequential(nn.LayerNorm(12))
    elif case == "frozen":
        model.requires_grad_(False)
    before = picture(model)
    error, words = BAD[case]
    with pytest.raises(error, match=words):
        kraehenbuehl(model, x)
    assert picture(model) == before
