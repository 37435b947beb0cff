"""The cosine of two inputs at infinite width: against the definition, simulation and limits."""

import numpy as np
import pytest
from scipy import integrate, stats

import sigprop
from analysis.theory.correlation import correlation_limit, correlation_map, kernel
from sigprop import Ensemble, Network, Pair, Point, Power
from sigprop.activations import LeakyReLU, Linear, ReLU, Tanh
from sigprop.errors import SpecError, Unsupported
from sigprop.processes import Tied


@pytest.mark.parametrize(
    "activation", [ReLU(), LeakyReLU(slope=0.3), LeakyReLU(slope=-0.7), Linear()]
)
@pytest.mark.parametrize("cosine", [-0.6, 0.0, 0.85])
def test_the_kernel_is_the_expectation(activation, cosine):
    """Against a plane integral in polar angle: E phi(X) phi(Y) of two directions."""

    def at(angle):
        x, y = np.cos(angle), np.cos(angle - np.arccos(cosine))
        return float(activation(np.array(x)) * activation(np.array(y)))

    breaks = [
        np.pi / 2,
        3 * np.pi / 2,
        np.arccos(cosine) + np.pi / 2,
        np.arccos(cosine) - np.pi / 2,
    ]
    value = integrate.quad(at, 0, 2 * np.pi, points=np.sort(np.mod(breaks, 2 * np.pi)))[0] / np.pi
    square = 0.5 * (1 + activation.negative_slope**2)
    assert kernel(cosine, activation) == pytest.approx(value / square, abs=1e-10)


def test_the_ends_of_the_kernel():
    assert kernel(1.0, ReLU()) == pytest.approx(1.0, abs=1e-15)
    assert kernel(0.0, ReLU()) == pytest.approx(1 / np.pi, abs=1e-15)
    assert kernel(-1.0, ReLU()) == pytest.approx(0.0, abs=1e-15)
    assert kernel(0.37, Linear()) == pytest.approx(0.37, abs=1e-15)


CASES = {
    "plain": (Network(depth=12, width=300, block="plain"), sigprop.He()),
    "res1": (Network(depth=12, width=300, block="res1"), Power(beta=0.4)),
    "inner": (Network(depth=12, width=300, block="inner", inner_layers=4), Power(beta=0.3)),
    "leaky": (
        Network(depth=12, width=300, activation="leaky_relu", inner_width=500),
        Power(beta=0.2, skip=0.7),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_simulation_agrees(name):
    """At width 300, to chance (one in 10^6) and 0.01 of the range; sees a wrong bend count."""
    network, scheme = CASES[name]
    law = Ensemble(network, scheme, Pair(cosine=-0.3))
    result = sigprop.simulate(law, ["separability"], replicas=128)
    expected = correlation_map(law)
    error = result.cosine_mean_se.values[:, 0]
    gap = np.abs(result.cosine_mean.values[:, 0] - expected)
    assert (gap < stats.norm.isf(5e-7) * error + 0.012).all()
    assert abs(expected[-1] - expected[0]) > 0.1


def test_depth_goes_to_the_limit():
    """The map approaches the equation like 1 / depth."""
    gaps = []
    for depth in (50, 100, 200):
        law = Ensemble(Network(depth=depth, width=5), Power(beta=0.5), Pair(cosine=0.2))
        gaps.append(abs(correlation_map(law)[-1] - correlation_limit(0.2)))
    assert gaps[0] / gaps[1] == pytest.approx(2.0, abs=0.1)
    assert gaps[1] / gaps[2] == pytest.approx(2.0, abs=0.1)
    assert correlation_limit(0.2) == pytest.approx(0.3012, abs=5e-5)
    assert correlation_limit(0.2, 0.0) == 0.2
    assert correlation_limit(0.4, 3.0, "linear") == pytest.approx(0.4, abs=1e-9)


def test_what_does_not_close_is_refused():
    network = Network(depth=3, width=4)
    with pytest.raises(Unsupported, match="tanh"):
        kernel(0.1, Tanh())
    with pytest.raises(Unsupported, match="biases"):
        correlation_map(Ensemble(network, Power(beta=0.5, bias_variance=0.1), Pair()))
    with pytest.raises(Unsupported, match="depend on each other"):
        correlation_map(Ensemble(network, Power(beta=0.5, process=Tied()), Pair()))
    with pytest.raises(SpecError, match="two inputs"):
        correlation_map(Ensemble(network, Power(beta=0.5), Point()))
    with pytest.raises(SpecError, match="cosine"):
        correlation_map(Ensemble(network, Power(beta=0.5), Point()), 1.5)
