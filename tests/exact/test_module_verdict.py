"""The verdict on a module: known answers, and no alarm where nothing is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from scipy.special import digamma, polygamma
from scipy.stats import binom
from scipy.stats import t as student

torch = pytest.importorskip("torch", reason="modules are those of torch", exc_type=ImportError)

from analysis.depth_check import depth_laws  # noqa: E402
from analysis.module_advice import advise  # noqa: E402
from analysis.module_verdict import judge_module, trunk  # noqa: E402
from sigprop.errors import SpecError  # noqa: E402
from sigprop.modules import anatomy, init, probe  # noqa: E402
from tests.stat import assert_agrees  # noqa: E402
from tests.vision import models  # noqa: E402

nn = torch.nn


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(11)
    yield
    torch.set_num_threads(threads)


def linear(inputs, outputs, gain):
    made = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(made.weight, std=gain * math.sqrt(2 / inputs))
    return made


def plain(depth=30, gain=1.0, width=48):
    layers = [m for _ in range(depth) for m in (linear(width, width, gain), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, 5))


class Block(nn.Module):
    def __init__(self, width, scale):
        super().__init__()
        self.one, self.two = linear(width, width, 1.0), linear(width, width, 0.5**0.5)
        self.scale = scale

    def forward(self, h):
        return h + self.scale * self.two(torch.relu(self.one(h)))


def residual(depth=12, scale=1.0, width=48):
    return nn.Sequential(*(Block(width, scale) for _ in range(depth)), nn.Linear(width, 5))


def judged(build, batch=None, networks=5, **options):
    batch = torch.randn(12, 48) if batch is None else batch
    return judge_module(probe(build, batch, ensemble=networks, **options))


def test_a_plain_he_net_keeps_its_norm_and_loses_its_angles():
    found = judged(lambda: plain(50, 1.0, 128), torch.randn(12, 128), networks=8)
    assert [f.kind for f in found.findings] == ["collapsing"] and found.exit_status == 1
    assert found.findings[0].start == "0" and [c.seen for c in found.changes] == ["no", "no"]


@pytest.mark.parametrize("gain, kind", [(1.5, "exploding"), (0.7, "vanishing")])
def test_a_gain_explodes_or_vanishes_at_the_rate_of_theory_both_ways(gain, kind):
    r"""ln(g^2 2 chi^2_k / n) a layer, k binomial; one input. Sees a tenth of 0.8 nats a layer."""
    networks, depth, width = 100, 20, 48
    k = np.arange(1, width + 1)
    chance = binom.pmf(k, width, 0.5)
    log, own = digamma(k / 2), polygamma(1, k / 2)
    mean = float(chance @ log) + math.log(4 * gain**2 / width)
    variance = float(chance @ (own + (log - chance @ log) ** 2))
    batch = torch.randn(1, width)
    found = judged(lambda: plain(depth, gain), batch, networks)
    assert found.verdict == kind and {f.quantity for f in found.findings} == {"state", "gradient"}
    assert [f.start for f in found.findings] == ["0", str(2 * depth - 2)]
    se = math.sqrt(variance / (depth - 1) / networks)
    forward, backward = found.changes
    assert_agrees(forward.rate, mean, se, resolution=0.08)
    # The gradient meets the same counts; at finite width its mean log differs by O(1 / width^2).
    assert_agrees(backward.rate, mean, se, resolution=0.08)


def test_residual_nets_explode_without_a_scale_and_not_with_it():
    """(1 + 1/2)^12 against (1 + 1/24)^12, branches of gain 1/2."""
    assert judged(lambda: residual(24)).verdict == "exploding"
    assert judged(lambda: residual(24, 24**-0.5)).verdict == "healthy"


def test_fixup_is_healthy_though_its_last_layer_is_zero():
    """A classifier of zeros passes no gradient back: the cotangent enters ahead of it."""

    def build():
        model = residual(24)
        init.fixup_(model, torch.randn(2, 48))
        return model

    batch = torch.randn(12, 48)
    blind = judged(build, batch)
    assert blind.verdict == "inconclusive" and "No gradient reaches" in blind.unsure[0]
    assert judged(build, batch, end="23").verdict == "healthy"


def test_gradients_of_a_resnet_grow_under_batch_normalisation_alone():
    """Untrained, in training mode; 2 networks and ten times their spread: it is no close call."""
    batch = torch.randn(6, 3, 32, 32)

    def change(norm):
        states = trunk(probe(lambda: models().resnet50(norm_layer=norm), batch, ensemble=2))
        return states.log_gradient[0] - states.log_gradient[-1], states.log_gradient_se.max()

    with_norm, error = change(nn.BatchNorm2d)
    without, other = change(lambda channels: nn.Identity())
    assert with_norm > without + 10 * math.hypot(error, other)
    assert with_norm > math.log(20)


def test_healthy_modules_raise_no_alarm_in_a_hundred_tries():
    """Depths at half of what is tolerated. One alarm in 100 would be its stated rate at the limit;
    none may be here, where the margin is many errors wide."""
    batch = torch.randn(8, 24)
    for seed in range(100):
        build = lambda: residual(6, 0.4, 24)  # noqa: E731
        found = judge_module(probe(build, batch, ensemble=2, seed=seed), tolerance=1e4, common=0.97)
        assert not found.findings, (seed, found)


def test_dead_units_are_found_where_they_are():
    def build():
        model = plain(4)
        with torch.no_grad():
            model[4].bias = nn.Parameter(torch.full((48,), -50.0))
        return model

    found = judged(build)
    assert found.verdict == "dead" and found.findings[0].start == "5"


def probed(log_square, se=0.0, networks=4, cosine=None):
    """A Dataset such as probe makes, of a trunk of sums with a constant gradient."""
    n = len(log_square)
    y, error = np.asarray(log_square, float), np.full(n, se)
    names = {
        "sum_second_moment": (np.exp(y), error),
        "sum_gradient_second_moment": (np.ones(n), 0 * y),
    }
    data = {}
    for name, (value, one) in names.items():
        data[name], data[f"{name}_batch_se"] = ("sum", value), ("sum", one * value)
        data[f"log_{name}_mean"], data[f"log_{name}_mean_se"] = ("sum", np.log(value)), ("sum", one)
    data["sum_cosine_mean"] = ("sum", np.zeros(n) if cosine is None else np.asarray(cosine, float))
    data["sum_cosine_mean_se"] = ("sum", np.zeros(n))
    for name in ("second_moment", "dead_fraction", "dead_fraction_se"):
        data[name] = ("layer", np.ones(1))
    coords = {"sum": [f"s{i}" for i in range(n)], "sum_entries": ("sum", np.full(n, 7.0))}
    coords |= {"layer": ["a"], "kind": ("layer", ["Linear"])}
    return xr.Dataset(data, coords, {"networks": networks, "inputs": 6})


def test_the_limits_are_those_that_are_documented():
    """2 ln 10 = 4.605 in a mean square, and 5.84 errors of 4 networks at each of two ends."""
    assert judge_module(probed([0.0, 2.0, 4.59])).verdict == "healthy"
    assert judge_module(probed([0.0, 2.0, 4.62])).verdict == "exploding"
    assert judge_module(probed([0.0, -2.0, -4.62])).verdict == "vanishing"
    close = 4.605 + 5.84 * 0.1 * 2**0.5
    assert judge_module(probed([0.0, 2.0, close - 0.01], 0.1)).verdict == "inconclusive"
    assert judge_module(probed([0.0, 2.0, close + 0.01], 0.1)).verdict == "exploding"
    found = judge_module(probed([3.0, 0.0, 2.0, 9.0]))
    assert found.findings[0].start == "s1"  # the climb begins at the lowest state
    found = judge_module(probed([0.0, 3.0, 1.0, -4.9]))
    assert found.findings[0].start == "s1"  # and a fall at the highest
    angles = judge_module(probed([0.0] * 3, cosine=[0.1, 0.0, 0.96]))
    assert angles.verdict == "collapsing" and angles.findings[0].start == "s1"
    # Inputs that are alike to begin with are no fault of the module.
    assert judge_module(probed([0.0] * 3, cosine=[0.96, 0.96, 0.97])).verdict == "healthy"
    assert judge_module(probed([0.0, 2.0, 4.62]), tolerance=11).verdict == "healthy"
    with pytest.raises(SpecError, match="tolerance must be"):
        judge_module(probed([0.0, 1.0]), tolerance=1)
    with pytest.raises(SpecError, match="1 residual sums or layers"):
        judge_module(probe(nn.Linear(4, 3), torch.randn(2, 4)))


def test_laws_of_depth_are_told_apart():
    depths = [8, 16, 32, 64]
    exact = depth_laws(depths, [probed([0.0, 3 * math.log(d)], 0.01) for d in depths])[0]
    assert exact.better == "power" and exact.grows == "yes" and exact.power_p > 0.9
    assert exact.exponent == pytest.approx(3, abs=1e-9)
    exact = depth_laws(depths, [probed([0.0, 1 - 0.2 * d], 0.01) for d in depths])[0]
    assert exact.better == "exponential" and exact.grows == "yes"
    assert exact.rate == pytest.approx(-0.2, abs=1e-9)
    exact = depth_laws(depths, [probed([0.0, 0.4], 0.01) for d in depths])[0]
    assert exact.grows == "no" and "does not change with depth" in exact.words()
    with pytest.raises(SpecError, match="three depths"):
        depth_laws(depths[:2], [probed([0.0, 1.0])] * 2)
    with pytest.raises(SpecError, match="needs errors"):
        depth_laws(depths, [probed([0.0, 1.0], networks=1)] * 4)


def test_advice_names_initialisers_that_exist_and_fit_the_anatomy():
    exploding = judge_module(probed([0.0, 9.0]))
    collapsing = judge_module(probed([0.0, 0.0], cosine=[0.0, 0.99]))
    x = torch.randn(2, 48)
    image = torch.randn(2, 3, 32, 32)
    bare = models().resnet18(norm_layer=lambda channels: nn.Identity())
    cases = {
        "plain": (exploding, anatomy(plain(3), x), "he_"),
        "angles": (collapsing, anatomy(plain(3), x), "looks_linear_"),
        "residual": (exploding, anatomy(residual(3), x), "fixup_"),
        "activated": (collapsing, anatomy(bare, image), "risotto_"),
        "normalised": (exploding, anatomy(models().resnet18(), image), "skipinit_"),
    }
    for verdict, found, first in cases.values():
        words = [word.partition(":")[0] for word in advise(verdict, found)]
        assert words[0] == first and set(words) <= set(init.__all__)
    assert advise(judge_module(probed([0.0, 0.0])), None) == []


def test_the_replicas_that_are_named_decide_and_fewer_do_not():
    """The error is that of 4 networks; at n it is a root smaller, beside Student's value of n."""
    found = judge_module(probed([0.0, 4.0], se=0.2))
    (told,) = (one for one in found.unsure if "state" in one)
    assert "1/10 to 10 is tolerated: not decided" in told
    count = int(told.partition("--replicas ")[2].partition(")")[0])
    distance, error = 2 * math.log(10) - 4.0, 0.2 * math.sqrt(2)  # of both ends
    margins = [student.isf(0.005, n - 1) * error * math.sqrt(4 / n) for n in (count - 1, count)]
    assert margins[0] >= distance > margins[1]
