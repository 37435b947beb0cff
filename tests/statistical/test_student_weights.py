"""Plain nets of Student weights without variance: the scale that keeps a moment of one layer."""

import math

import numpy as np
import pytest
from scipy.special import kv

from sigprop import Ensemble, Fractional, Network, Point, gain, simulate
from sigprop.activations import LeakyReLU, Linear, ReLU
from sigprop.errors import SpecError
from sigprop.laws import StudentT
from sigprop.layer_factor import LayerFactor, preserving_scale
from sigprop.student_factor import STUDENT_ERROR, _exponent, student_memory, student_scale
from tests.stat import assert_agrees

GENTLE = LeakyReLU(slope=-0.3)
# (dof, activation, fan_in, fan_out, s): 2 s < dof, so that a simulation's error is sound
LAYERS = [
    (1.5, ReLU(), 7, 3, 0.6),
    (2.0, GENTLE, 12, 5, 0.9),
    (1.0, Linear(), 5, 9, 0.4),
    (0.7, GENTLE, 3, 6, 0.3),
]


def test_one_weight_has_the_moments_of_its_law():
    r"""E|t|^s = nu^(s/2) Gamma((1+s)/2) Gamma((nu-s)/2) / (sqrt(pi) Gamma(nu/2))."""
    for nu in (0.5, 1.0, 1.7, 2.0):
        for share in (0.1, 0.5, 0.95):
            s = share * nu
            logs = [math.lgamma((1 + s) / 2), math.lgamma((nu - s) / 2), -math.lgamma(nu / 2)]
            log = s / 2 * math.log(nu) + sum(logs) - math.log(math.pi) / 2
            # The rules of the integral err by 1e-4 where s is near nu.
            found = student_scale(nu, Linear(), 1, 1, s)
            np.testing.assert_allclose(found, math.exp(-log / s), rtol=STUDENT_ERROR / 4)


def test_the_exponent_is_continuous_where_its_formulas_meet():
    for nu in (0.7, 1.0, 1.999, 2.0, 50.5):
        logs, found = _exponent(nu)
        second = np.diff(found, 2)
        assert np.isfinite(found).all() and np.abs(second).max() < 1e-4
    logs, found = _exponent(1.3)
    x = np.exp(logs + math.log(1.3) / 2)
    at = np.searchsorted(x, [0.01, 1.0, 5.0])
    chi = x[at] ** 0.65 * kv(0.65, x[at]) / (2**-0.35 * math.gamma(0.65))
    np.testing.assert_allclose(np.exp(-np.exp(found[at])), chi, rtol=1e-10)


@pytest.mark.parametrize(("dof", "phi", "fan_in", "fan_out", "s"), LAYERS)
def test_the_scale_is_that_of_explicit_layers(dof, phi, fan_in, fan_out, s):
    """Fed from an isotropic input: seen are 5% of the moment, 0.1% being the scale's own error."""
    generator = np.random.default_rng(5)
    sigma = student_scale(dof, phi, fan_in, fan_out, s)
    log = []
    for _ in range(20):
        u = generator.standard_normal((10_000, fan_in))
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        w = sigma * generator.standard_t(dof, (10_000, fan_out, fan_in))
        log.append(np.linalg.norm(phi(np.einsum("nij,nj->ni", w, u)), axis=1) ** s)
    kept = np.concatenate(log)
    se = math.hypot(kept.std() / math.sqrt(len(kept)), s * STUDENT_ERROR / 4)
    assert_agrees(kept.mean(), 1.0, se, resolution=0.05)


def test_of_many_degrees_of_freedom_it_is_the_gaussian_one():
    """At nu = 50.5 the excess kurtosis of a sum of 64 is 6 / 46.5 * 3 / 64: 0.6%, of which a few
    percent reach the scale."""
    for phi in (ReLU(), GENTLE):
        found = student_scale(50.5, phi, 64, 40, 1.0) * math.sqrt(50.5 / 48.5)
        gaussian = preserving_scale(LayerFactor.of(phi, 40), 1.0)
        np.testing.assert_allclose(found, gaussian, rtol=2e-4)


def test_the_scheme_keeps_its_moment_in_the_first_layer_of_a_network():
    """Order 0.6 of 1.5 degrees of freedom, both meanings of keeping it, by sampler dense."""
    for preserve, power in (("norm", 0.0), ("coordinate", 0.5)):
        scheme = Fractional(s=0.6, law=StudentT(dof=1.5), preserve=preserve)
        network = Network(depth=1, widths=(6, 9), block="plain")
        found = simulate(Ensemble(network, scheme, Point()), replicas=40_000, orders=[0.6])
        truth = power * math.log(9 / 6) * 0.6
        log, se = (found[f"norm_moment_log{end}"].values[0, 1, 0] for end in ("", "_se"))
        assert_agrees(log, truth, math.hypot(se, 0.6e-3 / 4), resolution=0.05)


def test_the_slack_is_what_a_second_layer_misses():
    """Of 12 units, dof 1.8, s = 0.5: against explicit pairs of layers."""
    dof, s, d = 1.8, 0.5, 12
    network = Network(depth=2, width=d, block="plain")
    law = Ensemble(network, Fractional(s=s, law=StudentT(dof=dof), preserve="norm"), Point())
    found = simulate(law, replicas=100_000, orders=[s])
    log, se = (found[f"norm_moment_log{end}"].values[0, 2, 0] for end in ("", "_se"))
    slack = s * student_memory(dof, ReLU(), d, s)
    assert_agrees(log, slack, math.hypot(se, 0.05 * slack), resolution=abs(slack))


def test_gain_tells_the_error_the_seed_and_the_slack():
    scheme = Fractional(s=0.75, law=StudentT(dof=1.5))
    law = Ensemble(Network(depth=1, width=6, block="plain"), scheme)
    found = gain.describe(law)
    assert found["sigma"] == student_scale(1.5, ReLU(), 6, 6, 0.75)
    assert (found["relative_error"], found["moments_below"]) == (STUDENT_ERROR, 1.5)
    text = gain.text(found)
    assert "relative 1e-03" in text and "seed 20110" in text
    assert f"{found['log_slack']:+.2g} a layer" in text and found["log_slack"] < 0


def test_orders_that_do_not_exist_are_refused_with_those_that_do():
    network = Network(depth=1, width=5, block="plain")
    for s in (0.0, 1.43, 1.5, 1.8):
        with pytest.raises(SpecError, match=r"below 1\.5.*\(0, 1\.42"):
            Fractional(s=s, law=StudentT(dof=1.5)).layers(network)
