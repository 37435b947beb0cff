"""Every scheme lowers to the table of the paper that introduced it."""

import doctest
import math

import numpy as np
import pytest

import sigprop.schemes.given
from sigprop.activations import LeakyReLU, RandomisedLeakyReLU
from sigprop.errors import SpecError, Unsupported
from sigprop.gaussian import expectation
from sigprop.inputs import Point
from sigprop.laws import StudentT
from sigprop.schemes import (
    Fixup,
    GivenScheme,
    Glorot,
    He,
    LayerScale,
    LeCun,
    NFResNet,
    Power,
    ReZero,
    SkipInit,
    StableResNet,
)
from sigprop.spec import Ensemble, Network, Scheme


def variances(scheme, network):
    return scheme.layers(network).scale ** 2


# A bottleneck, so that fan-in and fan-out differ everywhere.
BOTTLENECK = Network(depth=3, width=10, block="inner", inner_layers=3, inner_width=((4, 7),) * 3)
TRUNK = ("res1", "res3", "inner", "preact")


@pytest.mark.parametrize(
    ("activation", "gain"),
    [("relu", 2.0), ("linear", 1.0), (LeakyReLU(slope=0.5), 2 / 1.25)],
    ids=["relu", "linear", "leaky"],
)
def test_he_is_gain_over_fan_in(activation, gain):
    network = Network(depth=3, widths=(5, 8, 3, 4), block="plain", activation=activation)
    table = He().layers(network)
    np.testing.assert_allclose(table.scale[:, 0] ** 2, gain / np.array([5, 8, 3]), rtol=1e-15)
    np.testing.assert_array_equal(table.branch, 1.0)
    np.testing.assert_array_equal(table.skip, 0.0)


def test_he_preserves_unit_variance_through_any_activation():
    for name in ("tanh", "erf", "gelu", "silu"):
        network = Network(depth=1, width=6, activation=name)
        second = expectation(lambda u, phi=network.phi: phi(u) ** 2).value
        np.testing.assert_allclose(variances(He(), network) * 6 * second, 1.0, rtol=1e-12)
    low, high = 0.1, 0.7
    network = Network(depth=1, width=6, activation=RandomisedLeakyReLU(low=low, high=high))
    square = (high**3 - low**3) / (3 * (high - low))
    np.testing.assert_allclose(variances(He(), network), 2 / (6 * (1 + square)), rtol=1e-14)


def test_glorot_and_lecun_take_the_fans_of_each_matrix():
    fan_in, fan_out = np.array([10, 4, 7]), np.array([4, 7, 10])
    np.testing.assert_allclose(
        variances(Glorot(), BOTTLENECK), np.tile(2 / (fan_in + fan_out), (3, 1)), rtol=1e-15
    )
    np.testing.assert_allclose(
        variances(LeCun(), BOTTLENECK), np.tile(1 / fan_in, (3, 1)), rtol=1e-15
    )


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.5, 1.3])
def test_power_multiplies_every_branch_by_one_power_of_the_depth(beta):
    table = Power(beta=beta).layers(Network(depth=1000, width=40))
    np.testing.assert_allclose(table.branch, 1000.0**-beta, rtol=1e-15)
    np.testing.assert_allclose(table.scale**2, 1 / 40, rtol=1e-15)


def test_stable_squares_have_a_bounded_sum():
    network = Network(depth=4, width=7, block="res1")
    uniform = StableResNet().layers(network)
    np.testing.assert_allclose(uniform.branch, 0.5, rtol=1e-15)
    np.testing.assert_allclose(uniform.scale**2, 2 / 7, rtol=1e-15)
    decreasing = StableResNet(form="decreasing", weight_variance=0.3).layers(network)
    expected = [1 / (math.sqrt(n) * math.log(n + 1)) for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(decreasing.branch, expected, rtol=1e-15)
    np.testing.assert_allclose(decreasing.scale**2, 0.3 / 7, rtol=1e-15)
    # The decreasing form does not know the depth; its squares sum to less than 4 for ever.
    deep = StableResNet(form="decreasing").layers(Network(depth=10_000, width=2, block="res1"))
    np.testing.assert_array_equal(deep.branch[:4], decreasing.branch)
    # Beyond l the sum of 1 / (k log(k+1)^2) is below 1 / log(l).
    assert (deep.branch**2).sum() + 1 / math.log(10_000) < 4


@pytest.mark.parametrize(("m", "block"), [(2, "res3"), (3, "inner"), (4, "preact")])
def test_fixup_scales_all_but_the_last_matrix_which_is_zero(m, block):
    inner = None if block == "res3" else m
    network = Network(depth=16, width=9, block=block, inner_layers=inner)
    table = Fixup().layers(network)
    scaled = math.sqrt(2 / 9) * 16 ** (-1 / (2 * m - 2))
    np.testing.assert_allclose(table.scale[:, :-1], scaled, rtol=1e-14)
    np.testing.assert_array_equal(table.scale[:, -1], 0.0)
    np.testing.assert_array_equal(table.branch, 1.0)
    # The product of the scaled matrices carries depth^-1/2, whatever m.
    np.testing.assert_allclose(
        (table.scale[:, :-1] / math.sqrt(2 / 9)).prod(axis=1), 16**-0.5, rtol=1e-13
    )


def test_the_variants_of_fixup_differ_in_one_thing_each():
    network = Network(depth=16, width=9)
    fixup, unscaled, nonzero = (
        Fixup(variant=v).layers(network).scale[0] for v in ("fixup", "unscaled", "nonzero")
    )
    he = math.sqrt(2 / 9)
    np.testing.assert_allclose(fixup, [he / 4, 0], rtol=1e-14)
    np.testing.assert_allclose(unscaled, [he, 0], rtol=1e-14)
    np.testing.assert_allclose(nonzero, [he / 4, he], rtol=1e-14)


def test_fixup_is_refused_where_its_exponent_is_undefined():
    for block in ("res1", "plain"):
        with pytest.raises(Unsupported, match="m >= 2"):
            Fixup().layers(Network(depth=4, block=block))
    for block in ("inner", "preact"):
        with pytest.raises(Unsupported, match="divides by zero"):
            Fixup().layers(Network(depth=4, block=block, inner_layers=1))


@pytest.mark.parametrize("scheme", [SkipInit, ReZero])
def test_skipinit_and_rezero_start_at_the_identity_with_he_weights(scheme):
    network = Network(depth=4, width=9)
    table = scheme().layers(network)
    np.testing.assert_array_equal(table.branch, 0.0)
    np.testing.assert_array_equal(table.scale, He().layers(network).scale)
    np.testing.assert_array_equal(scheme(initial=-0.5).layers(network).branch, -0.5)


@pytest.mark.parametrize(
    ("depth", "epsilon"), [(1, 0.1), (18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6), (500, 1e-6)]
)
def test_layerscale_takes_its_default_from_the_depth(depth, epsilon):
    network = Network(depth=depth, width=5)
    np.testing.assert_array_equal(LayerScale().layers(network).branch, epsilon)
    np.testing.assert_array_equal(LayerScale(epsilon=0.3).layers(network).branch, 0.3)


def test_nf_divides_out_the_variance_that_the_branches_add():
    network = Network(depth=5, width=6, block="preact", inner_layers=3, inner_width=4)
    table = NFResNet(alpha=0.7).layers(network)
    trunk = 1.0
    for layer in range(5):
        np.testing.assert_allclose(table.input_scale[layer], trunk**-0.5, rtol=1e-14)
        trunk += 0.7**2
    np.testing.assert_array_equal(table.branch, 0.7)
    assert table.centred
    # gamma of ReLU, sqrt(2 / (1 - 1/pi)), is the constant in the papers' code.
    gamma_squared = 2 / (1 - 1 / math.pi)
    np.testing.assert_allclose(math.sqrt(gamma_squared), 1.71285855, rtol=1e-8)
    fan_in = np.array([6, 4, 4])
    np.testing.assert_allclose(table.scale[2] ** 2, gamma_squared / (fan_in - 1), rtol=1e-13)


def test_a_centred_row_of_nf_has_entries_of_variance_gamma_squared_over_fan_in():
    """Projection to sum zero takes exactly the factor (n - 1) / n off the variance."""
    n = 4
    projection = np.eye(n) - 1 / n
    drawn = NFResNet().layers(Network(depth=1, width=n, block="preact")).scale[0, 0] ** 2
    entry = np.diag(drawn * projection @ projection.T)
    np.testing.assert_allclose(entry, 2 / (1 - 1 / math.pi) / n, rtol=1e-13)


def test_nf_is_refused_where_it_is_not_defined():
    with pytest.raises(SpecError, match="skip = 1"):
        NFResNet(skip=0.9)
    with pytest.raises(SpecError, match="skip = 1"):
        NFResNet(skip=(1.0, 0.9))
    with pytest.raises(Unsupported, match="at least 2"):
        NFResNet().layers(Network(depth=2, width=1, block="preact"))
    with pytest.raises(Unsupported, match="preact"):
        NFResNet().layers(Network(depth=2))


def test_given_numbers_arrive_in_their_places():
    network = Network(depth=2, width=5, inner_width=3)
    scheme = GivenScheme(
        skip=np.array([0.8, -1.1]), branch=[0.5, 2], variance=np.array([[1.0, 2.0], [3.0, 0.0]])
    )
    table = scheme.layers(network)
    np.testing.assert_array_equal(table.skip, [0.8, -1.1])
    np.testing.assert_array_equal(table.branch, [0.5, 2.0])
    np.testing.assert_allclose(table.scale**2, [[1, 2], [3, 0]], rtol=1e-15)
    by_layer = GivenScheme(variance=(1.0, 2.0)).layers(network)
    np.testing.assert_allclose(by_layer.scale**2, [[1, 1], [2, 2]], rtol=1e-15)
    over = GivenScheme(variance=(1.0, (2.0, 7.0)), variance_over_fan_in=True).layers(network)
    np.testing.assert_allclose(over.scale**2, [[1 / 5, 1 / 3], [2 / 5, 7 / 3]], rtol=1e-15)
    assert hash(scheme) == hash(Scheme.from_dict(scheme.to_dict()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variance": -1.0}, "variance must be"),
        ({"variance": (1.0, (2.0, -1.0))}, "each variance must be"),
        ({"variance": (1.0, 2.0, 3.0)}, "variance names 3 layers"),
        ({"variance": ((1.0, 2.0, 3.0), 1.0)}, "names 3 matrices in layer 1"),
        ({"variance": 1.0, "branch": (1.0,)}, "branch names 1 layers"),
        ({"variance": 1.0, "branch": "wide"}, "branch must be"),
        ({"variance": 1.0, "branch": (1.0, math.nan)}, "each branch must be"),
        ({"variance": 1.0, "skip": (1.0, 2.0, 3.0)}, "skip names 3 layers"),
        ({"variance": 1.0, "variance_over_fan_in": 2}, "True or False"),
    ],
)
def test_given_numbers_that_do_not_fit_are_named(options, message):
    with pytest.raises(SpecError, match=message):
        GivenScheme(**options).layers(Network(depth=2, width=5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Power(beta=-0.1), "beta must be"),
        (lambda: Power(beta=math.inf), "beta must be"),
        (lambda: Power(beta="half"), "beta must be"),
        (lambda: StableResNet(form="uniformly"), "Did you mean 'uniform'"),
        (lambda: StableResNet(weight_variance=0.0), "weight_variance must be"),
        (lambda: Fixup(variant="unscald"), "Did you mean 'unscaled'"),
        (lambda: SkipInit(initial=math.nan), "initial must be"),
        (lambda: ReZero(initial="0,1"), "initial must be"),
        (lambda: LayerScale(epsilon=math.inf), "epsilon must be"),
        (lambda: NFResNet(alpha=-0.2), "alpha must be"),
        (lambda: He(bias_variance=-1.0), "bias_variance must be"),
    ],
)
def test_options_out_of_range_are_refused_by_name(make, message):
    with pytest.raises(SpecError, match=message):
        make()


@pytest.mark.parametrize("block", ["plain", *TRUNK])
def test_skip_and_biases_are_options_of_every_scheme(block):
    network = Network(depth=3, width=4, block=block)
    table = He(skip=(0.5, 1.0, -2.0), bias_variance=0.09, law=StudentT(dof=3)).layers(network)
    expected = [0.0, 0.0, 0.0] if block == "plain" else [0.5, 1.0, -2.0]
    np.testing.assert_array_equal(table.skip, expected)
    np.testing.assert_allclose(table.bias_scale, 0.3, rtol=1e-15)
    assert table.bias_scale.shape == (3, network.matrices)
    assert table.law == StudentT(dof=3) and table.biased


def test_an_ensemble_is_refused_when_its_scheme_does_not_fit():
    for scheme in (Power(beta=0.5), StableResNet(), SkipInit(), ReZero(), LayerScale()):
        with pytest.raises(Unsupported, match="plain"):
            Ensemble(Network(depth=2, block="plain"), scheme, Point())


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(sigprop.schemes.given).failed == 0
