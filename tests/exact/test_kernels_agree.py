"""The kernels of the conditional sampler agree on the same draws.

The general kernel orthonormalises its inputs and forms every vector; `single` and `pair`
carry products instead. What they draw has the same addresses, so they must agree to
rounding, and a wrong coefficient shows in the first digits.
"""

import numpy as np
import pytest

from sigprop import Ensemble, Given, LeakyReLU, Network, Pair, Point
from sigprop.backends import applicable
from sigprop.backends.numba_cpu import Conditional
from sigprop.schemes import GivenScheme

DEPTH = 9


class General(Conditional):
    def kernel(self, ensemble):
        return "many"


class One(Conditional):
    def kernel(self, ensemble):
        return "one"


def scheme(**values):
    """One scheme, whichever tests ran before."""
    generator = np.random.default_rng(5)
    law = {
        "skip": tuple(generator.uniform(0.6, 1.2, DEPTH)),
        "branch": tuple(generator.normal(0.0, 0.8, DEPTH)),
        "variance": 1.3,
        "variance_over_fan_in": True,
    }
    return GivenScheme(**{**law, **values})


def traces(ensemble, *samplers):
    fields = applicable(ensemble)
    key = np.array([11, 12], np.uint32)
    return [s.sample(ensemble, fields, np.arange(DEPTH + 1), key, 3, 40) for s in samplers]


def assert_agree(one, other):
    """To rounding; a few numbers come out of sums that cancel, and agree to its square root.

    A network in which two hidden states all but coincide keeps the loss in every layer below, and
    of 40 networks a few do so, whatever the coefficients: hence nine numbers in ten.
    """
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_allclose(
            one[name], other[name], rtol=1e-6, atol=1e-6, equal_nan=True, err_msg=name
        )
        close = np.isclose(one[name], other[name], rtol=1e-9, atol=1e-10, equal_nan=True)
        assert close.mean() > 0.9, name


NETWORKS = {
    "relu": Network(depth=DEPTH, width=7, inner_width=5),
    "linear": Network(depth=DEPTH, width=6, activation="linear"),
    "leaky": Network(depth=DEPTH, width=18, activation="leaky_relu"),
    "narrow": Network(depth=DEPTH, width=3, inner_width=1),
    "one unit": Network(depth=DEPTH, width=1, activation="leaky_relu"),
    "deep branch": Network(
        depth=DEPTH, width=4, block="inner", inner_layers=4, inner_width=3, activation="leaky_relu"
    ),
    "bottleneck": Network(depth=DEPTH, width=5, block="inner", inner_layers=3, inner_width=40),
}


@pytest.mark.parametrize("bias_variance", [0.0, 0.3])
@pytest.mark.parametrize("name", NETWORKS)
def test_single_is_the_general_kernel(name, bias_variance):
    network = NETWORKS[name]
    law = Ensemble(network, scheme(bias_variance=bias_variance), Point())
    assert Conditional().kernel(law) == "single"
    fast, general, one = traces(law, Conditional(), General(), One())
    assert_agree(fast, general)
    assert_agree(fast, one)


def test_single_passes_layers_that_add_nothing():
    branch = (0.5, 0.0, 0.0, -0.4, 0.0, 1.0, 0.0, 0.0, 0.3)
    law = Ensemble(NETWORKS["relu"], scheme(branch=branch), Given(vectors=((1, 2, 3, 0, 0, 1, 5),)))
    assert_agree(*traces(law, Conditional(), General()))


@pytest.mark.parametrize("inputs", [Point(), Pair(cosine=0.3)], ids=["single", "pair"])
def test_a_gradient_passes_where_the_state_is_zero(inputs):
    """One layer makes it 0; behind it all units sit at 0, with the slope of the negative side."""
    skip = (0.9, 1.1, 0.0, 0.8, 0.7, 1.2, 0.6, 1.0, 0.9)
    branch = (0.5, -0.6, 0.0, 0.8, -0.4, 0.7, 1.0, 0.9, 0.3)
    network = Network(depth=DEPTH, width=4, activation=LeakyReLU(slope=-0.7))
    fast, general = traces(
        Ensemble(network, scheme(skip=skip, branch=branch), inputs), Conditional(), General()
    )
    assert np.isneginf(fast["log_norm"][:, 3:]).all()
    assert np.isfinite(fast["log_gradient"][:, 3:]).all()
    assert np.ptp(fast["log_gradient"][:, 3]) > 0.1
    assert_agree(fast, general)


@pytest.mark.parametrize("segment", [None, 1, 4])
def test_single_crosses_groups_and_segments(segment, monkeypatch):
    """Layers drawn two by two, and states stored every ``segment`` layers or not at all."""
    law = Ensemble(NETWORKS["leaky"], scheme(bias_variance=0.1), Point())
    monkeypatch.setattr("sigprop.backends.numba_cpu._GROUP_DRAWS", 2 * 36 if segment != 1 else 1)
    if segment is not None:
        monkeypatch.setattr("sigprop.backends.numba_cpu._segment", lambda *sizes: segment)
    assert_agree(*traces(law, Conditional(), General()))


PAIRS = {
    **NETWORKS,
    "plain": Network(depth=DEPTH, width=6, block="plain", activation="tanh"),
    "preact": Network(depth=DEPTH, width=6, block="preact", activation="gelu"),
    "random slopes": Network(depth=DEPTH, width=6, activation="randomised_leaky_relu"),
}


@pytest.mark.parametrize("bias_variance", [0.0, 0.3])
@pytest.mark.parametrize("name", PAIRS)
def test_pair_is_the_general_kernel(name, bias_variance):
    network = PAIRS[name]
    inputs = Given(vectors=((0.7,), (-1.1,))) if network.width == 1 else Pair(cosine=0.3)
    law = Ensemble(network, scheme(bias_variance=bias_variance), inputs)
    assert Conditional().kernel(law) == "pair"
    assert_agree(*traces(law, Conditional(), General()))
