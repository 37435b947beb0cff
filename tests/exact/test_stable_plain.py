"""Log-norms of plain nets of stable weights: closed forms of one unit, draws of a layer."""

import math

import numpy as np
import pytest

import sigprop
from analysis.theory.stable_plain import log_alpha_norm_cumulants, log_alpha_norm_moment
from sigprop import Ensemble, Fractional, GivenScheme, Network, Point
from sigprop.activations import LeakyReLU, ReLU
from sigprop.errors import SpecError, Unsupported
from sigprop.laws import Stable
from tests.ensembles import uneven
from tests.stat import assert_agrees


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.5, 1.9])
def test_the_logarithm_of_one_linear_unit_is_that_of_the_stable_law(alpha):
    network = Network(depth=3, width=1, block="plain", activation="linear")
    scheme = GivenScheme(variance=1.0, law=Stable(stability=alpha))
    mean, variance = log_alpha_norm_cumulants(Ensemble(network, scheme, Point()))
    layers = np.arange(4)
    np.testing.assert_allclose(mean, layers * np.euler_gamma * (1 / alpha - 1), atol=3e-9)
    true = layers * math.pi**2 * (1 / (6 * alpha**2) + 1 / 12)
    np.testing.assert_allclose(variance, true, atol=3e-6)


@pytest.mark.parametrize("phi", [ReLU(), LeakyReLU(slope=-0.3)])
def test_the_chain_has_these_cumulants_and_moments_at_widths_that_differ(phi):
    """A false alarm of 1e-6 for each of six comparisons; the mean is seen to 0.15 of log|x|."""
    law = uneven("plain", phi, states=(3, 5, 2, 4, 3), law=Stable(stability=1.3))
    found = sigprop.simulate(
        law, sampler="alpha_chain", replicas=60_000, layers=[0, 2, 4], keep=[2, 4], orders=[0.5]
    ).isel(input=0)
    mean, variance = log_alpha_norm_cumulants(law)
    for slot, layer in enumerate((2, 4)):
        x = found.replica_log_alpha_norm.values[:, slot]
        x = x[np.isfinite(x)]
        centred = (x - x.mean()) ** 2
        root = math.sqrt(len(x))
        assert_agrees(x.mean(), mean[layer], x.std() / root, resolution=0.15)
        error = centred.std() / root / variance[layer]
        assert_agrees(centred.mean() / variance[layer], 1.0, error, resolution=0.15)
    moment = log_alpha_norm_moment(law, 0.5)[[2, 4]]
    log = found.alpha_norm_moment_log.sel(order=0.5, layer=[2, 4])
    assert_agrees(
        log, moment, found.alpha_norm_moment_log_se.sel(order=0.5, layer=[2, 4]), resolution=0.15
    )


def test_what_has_no_such_law_is_refused():
    for law, says in (
        (uneven("plain"), "stable weights"),
        (uneven("res3", law=Stable(stability=1.5)), "plain net"),
    ):
        with pytest.raises(Unsupported, match=says):
            log_alpha_norm_cumulants(law)
    scheme = Fractional(s=0.5, law=Stable(stability=1.5))
    stable = Ensemble(Network(depth=2, width=5, block="plain"), scheme)
    with pytest.raises(SpecError, match=r"1\.5"):
        log_alpha_norm_moment(stable, 1.5)
