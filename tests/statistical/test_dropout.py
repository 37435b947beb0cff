"""What theory says of nets under dropout: exact laws, against sums and against simulation."""

import dataclasses
import json
import math

import numpy as np
import pytest

from analysis.prediction import predict
from analysis.theory import dead_probability, log_gradient_mean
from analysis.theory.log_norm_law import log_norm_law
from sigprop import Ensemble, simulate
from sigprop.activations import LeakyReLU, RandomisedLeakyReLU
from sigprop.branch_factor import hidden_law
from sigprop.errors import Unsupported
from sigprop.layer_factor import LayerFactor
from tests.ensembles import uneven
from tests.stat import assert_agrees

STEEP, RANDOMISED = LeakyReLU(slope=-0.3), RandomisedLeakyReLU(low=-0.2, high=0.9)
WIDE = (3, 6, 4, 5, 7)


def dropped(block, activation, dropout, **shape):
    ensemble = uneven(block, activation, **shape)
    network = dataclasses.replace(ensemble.network, dropout=dropout)
    return Ensemble(network, ensemble.scheme, ensemble.inputs)


CASES = {
    "relu": dropped("plain", "relu", 0.3, states=WIDE),
    "leaky": dropped("plain", STEEP, 0.25, states=WIDE),
    "linear": dropped("plain", "linear", 0.4, states=WIDE),
    "randomised": dropped("plain", RANDOMISED, 0.2, states=WIDE),
    "res3": dropped("res3", STEEP, 0.3),
    "inner": dropped("inner", "relu", 0.2),
}
NORM = {"log_norm_mean", "log_norm_variance", "log_norm_skewness", "log_norm_kurtosis"}
NORM |= {"norm_moment_log"}
GRADIENT = {name.replace("norm", "gradient") for name in NORM}
DEAD = {"norm_zero_fraction", "dead_layers_mean"}
KNOWN = {
    "relu": NORM | GRADIENT | DEAD,
    "leaky": NORM | DEAD,
    "linear": NORM | GRADIENT | DEAD,
    "randomised": NORM | DEAD,
    "res3": NORM | GRADIENT | {"activity_mean", "dead_layers_mean"},
    "inner": NORM | GRADIENT | {"dead_layers_mean"},
}


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (1.0, 1.0), (-0.3, -0.3), (-0.2, 0.9)])
@pytest.mark.parametrize(("n", "keep"), [(1, 0.6), (2, 0.9), (7, 0.3), (300, 0.8)])
def test_the_grid_of_a_layer_has_the_cumulants_and_moments_of_its_integral(slopes, n, keep):
    law = hidden_law((n,), slopes, keep=keep)
    layer = LayerFactor(width=n, slopes=slopes, keep=keep)
    expected = layer.log_cumulants()
    expected[0] += 2 * math.log(keep)
    scale = expected[1] ** (np.arange(1, 5) / 2)
    np.testing.assert_allclose(law.cumulants() / scale, expected / scale, rtol=0, atol=3e-9)
    assert law.alive == pytest.approx(1 - layer.silence, rel=1e-13)
    for p in (0.25, 1.0, 1.7):
        found = np.log(law.weights @ np.exp(p * law.logs)) - 2 * p * math.log(keep)
        assert found == pytest.approx(layer.log_moment(p), abs=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_predictions_are_what_a_simulation_finds(name):
    """Every exact prediction, at every layer: of a mean or log moment 0.1 is seen."""
    ensemble, replicas = CASES[name], 100_000
    orders = [0.5, 1.0]
    theory = predict(ensemble, orders=orders)
    known = {v for v in theory.data_vars if not v.endswith(("_slack", "_spread"))}
    known = {v for v in known if theory[v].attrs["status"] == "exact"}
    assert known == KNOWN[name]
    found = simulate(ensemble, replicas=replicas, orders=orders, seed=3)
    assert json.loads(found.attrs["ensemble"])["network"]["dropout"] > 0
    for variable in sorted(known):
        # No log of a network that died is in a sample, nor of one whose gradient did.
        value, truth = np.squeeze(found[variable].values), np.squeeze(theory[variable].values)
        se = np.squeeze(found[f"{variable}_se"].values)
        seen = np.isfinite(truth) & (se > 1e-9)  # at its own end a norm is 1 but for rounding
        assert seen.sum() >= 3
        ending = variable.rpartition("_")[2]
        resolution = {"kurtosis": 10.0, "skewness": 0.7, "variance": 0.3}.get(ending, 0.1)
        assert_agrees(value[seen], truth[seen], se[seen], resolution=resolution)


def test_the_whole_law_is_that_of_a_simulation():
    """The distribution function at its quantiles, of living networks: 5% of probability is seen."""
    ensemble = CASES["relu"]
    found = simulate(ensemble, replicas=20_000, keep=[4], seed=4)
    log = found.replica_log_norm.values.ravel()
    log = log[np.isfinite(log)]
    law = log_norm_law(ensemble)
    q = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    share = (log[:, None] < law.quantile(q)).mean(axis=0)
    assert_agrees(share, q, np.sqrt(q * (1 - q) / len(log)), resolution=0.05)
    survival = 1 - dead_probability(ensemble)[-1]
    assert law.survival == pytest.approx(survival, rel=1e-12)
    assert survival == pytest.approx(math.prod(1 - 0.65**n for n in WIDE[1:]), rel=1e-12)


def test_a_gradient_that_passes_a_dropped_layer_is_refused():
    with pytest.raises(Unsupported, match="all dropped"):
        log_gradient_mean(CASES["leaky"])
