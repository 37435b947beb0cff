"""Activations: their moments, their derivatives, and functions that a user registers."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

from sigprop import activations
from sigprop.activations import GELU, Erf, LeakyReLU, Linear, RandomisedLeakyReLU, ReLU, SiLU, Tanh
from sigprop.activations._codes import USER
from sigprop.errors import SpecError, UnknownName, Unsupported
from sigprop.gaussian import expectation
from sigprop.spec import Activation, Ensemble, Network

# Quadrature of 30 digits: name, variance, E phi, E phi^2, E phi'^2.
REFERENCE = [
    ("tanh", 0.01, 0.0, 0.0098054687555324056, 0.98067024346498152),
    ("tanh", 1, 0.0, 0.39429449039784117, 0.46440290244826824),
    ("tanh", 30, 0.0, 0.85626860511610122, 0.09659845066270764),
    ("tanh", 1e4, 0.0, 0.99202148248051304, 0.0053191446440146221),
    ("silu", 0.01, 0.0024937810306418609, 0.0025185952815587472, 0.25247528776878615),
    ("silu", 1, 0.20662096414190704, 0.35577551981735216, 0.37948235163282931),
    ("silu", 30, 2.0771270651774003, 14.804523981959005, 0.50801883176777252),
    ("silu", 1e4, 39.887667968355803, 4999.9868843854492, 0.50085612793083837),
    ("gelu", 0.01, 0.0039696240574660719, 0.0025469634945774959, 0.25624131882887736),
    ("gelu", 1, 0.28209479177387814, 0.42522148257029867, 0.45585086564928712),
    ("gelu", 30, 2.1495644628824891, 14.967175542654989, 0.50892767224448079),
    ("gelu", 1e4, 39.89223347833215, 4999.9981245829413, 0.5005624679562025),
]

SMOOTH = [Linear(), Tanh(), Erf(), GELU(), SiLU()]
PIECEWISE = [ReLU(), LeakyReLU(slope=0.3), LeakyReLU(slope=-0.7)]


def softplus(u):
    return max(u, 0.0) + math.log1p(math.exp(-abs(u)))


def logistic(u):
    return 1 / (1 + math.exp(-u))


@pytest.mark.parametrize(("name", "variance", "mean", "second", "slope"), REFERENCE)
def test_moments_match_a_reference_of_thirty_digits(name, variance, mean, second, slope):
    phi = Activation.family[name]()
    found = phi.mean(variance), phi.second_moment(variance), phi.derivative_second_moment(variance)
    np.testing.assert_allclose(found, (mean, second, slope), rtol=1e-13)


@pytest.mark.parametrize("phi", SMOOTH + PIECEWISE, ids=repr)
@pytest.mark.parametrize("variance", [1e-3, 0.5, 1.0, 7.0, 1e3])
def test_closed_forms_are_the_averages_that_they_claim_to_be(phi, variance):
    averages = [
        expectation(f, variance=variance, kinks=phi.kinks)
        for f in (phi, lambda u: phi(u) ** 2, lambda u: phi.derivative(u) ** 2)
    ]
    moments = (
        phi.mean(variance),
        phi.second_moment(variance),
        phi.derivative_second_moment(variance),
    )
    for average, moment in zip(averages, moments, strict=True):
        assert abs(average.value - moment) <= average.error + 1e-13 * abs(moment)


def test_the_moments_of_a_randomised_slope_average_over_the_slope():
    low, high, variance = -0.2, 0.9, 2.5
    phi = RandomisedLeakyReLU(low=low, high=high)
    slopes, weights = np.polynomial.legendre.leggauss(8)
    slopes, weights = low + (high - low) * (1 + slopes) / 2, weights / 2
    for moment in ("mean", "second_moment", "derivative_second_moment"):
        averaged = sum(
            w * getattr(LeakyReLU(slope=s), moment)(variance)
            for s, w in zip(slopes, weights, strict=True)
        )
        np.testing.assert_allclose(getattr(phi, moment)(variance), averaged, rtol=1e-13)


def test_a_randomised_slope_is_drawn_uniformly_and_must_be_given():
    phi = RandomisedLeakyReLU(low=0.1, high=0.6)
    u = np.array([-2.0, 3.0, -1.0])
    slopes = np.array([0.2, 0.3, 0.5])
    np.testing.assert_array_equal(phi(u, slopes), [-0.4, 3.0, -0.5])
    np.testing.assert_array_equal(phi.derivative(u, slopes), [0.2, 1.0, 0.5])
    with pytest.raises(Unsupported, match="slopes"):
        phi(u)
    drawn = np.sort(phi.slopes(np.random.default_rng(0), 100_000))
    # Kolmogorov-Smirnov at a false-alarm probability of 1e-6: 2 exp(-2 n d^2) = 1e-6.
    distance = np.abs((drawn - 0.1) / 0.5 - np.arange(1, 100_001) / 100_000).max()
    assert distance < math.sqrt(math.log(2e6) / 2e5) + 1e-5


@pytest.mark.parametrize("phi", SMOOTH + PIECEWISE, ids=repr)
def test_derivatives_are_those_of_the_functions(phi):
    u = np.array([-5.0, -1.3, -0.2, 0.1, 0.8, 4.0])
    h = 1e-5
    slope = (phi(u + h) - phi(u - h)) / (2 * h)
    np.testing.assert_allclose(phi.derivative(u), slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("phi", SMOOTH + PIECEWISE, ids=repr)
def test_homogeneity_is_what_the_class_says(phi):
    u = np.array([-3.0, -0.5, 0.7, 2.0])
    scales = np.allclose(phi(3 * u), 3 * phi(u), rtol=1e-12)
    assert scales == phi.homogeneous
    assert (phi.negative_slope is not None) == phi.homogeneous
    if phi.homogeneous:
        np.testing.assert_array_equal(phi(u), np.where(u > 0, u, phi.negative_slope * u))


@pytest.mark.parametrize("phi", PIECEWISE, ids=repr)
def test_at_a_kink_the_derivative_is_that_of_the_left(phi):
    assert phi.derivative(np.zeros(1))[0] == phi.negative_slope


@pytest.mark.parametrize("phi", SMOOTH + PIECEWISE, ids=repr)
def test_large_arguments_overflow_nowhere(phi):
    u = np.array([-1e300, -800.0, 800.0, 1e300])
    with np.errstate(all="raise", under="ignore"):
        if phi.kind in ("erf", "gelu", "tanh"):
            u = u[1:3]  # exp(-u^2) squares its argument
        assert np.isfinite(phi(u)).all()
        assert np.isfinite(phi.derivative(u)).all()


def test_parameters_out_of_range_are_refused_with_their_name():
    with pytest.raises(SpecError, match="slope"):
        LeakyReLU(slope=math.nan)
    with pytest.raises(SpecError, match=r"low = 0\.5, high = 0\.1"):
        RandomisedLeakyReLU(low=0.5, high=0.1)
    for phi in (*SMOOTH, *PIECEWISE, RandomisedLeakyReLU()):
        for moment in (phi.mean, phi.second_moment, phi.derivative_second_moment):
            with pytest.raises(SpecError, match="variance"):
                moment(-1.0)


# ------------------------------------------------------------- user functions


def test_a_python_function_becomes_an_activation_by_name_and_by_object():
    phi = activations.function("test_softplus", softplus, derivative=logistic)
    assert Network(depth=2, activation="test_softplus") == Network(depth=2, activation=phi)
    assert phi.code == USER and phi.differentiable
    assert phi.function is softplus and phi.derivative_function is logistic
    u = np.array([[-1.0, 0.0], [0.5, 3.0]])
    np.testing.assert_allclose(phi(u), np.log1p(np.exp(u)), rtol=1e-14)
    np.testing.assert_allclose(phi.derivative(u), 1 / (1 + np.exp(-u)), rtol=1e-14)
    # E softplus'(Z)^2 by the same quadrature on an independent expression.
    truth = expectation(lambda u: 0.25 * (1 + np.tanh(u / 2)) ** 2).value
    np.testing.assert_allclose(phi.derivative_second_moment(), truth, rtol=1e-13)


def test_a_registered_function_survives_writing_reading_and_pickling():
    phi = activations.function("test_softplus", softplus, derivative=logistic)
    assert "math.log1p" in phi.to_dict()["source"]
    assert Activation.from_dict(phi.to_dict()) == phi
    assert pickle.loads(pickle.dumps(phi)) == phi
    assert activations.function("test_softplus", softplus, derivative=logistic) == phi


def test_a_record_of_another_source_is_not_read_as_this_one():
    data = activations.function("test_softplus", softplus, derivative=logistic).to_dict()
    for field in ("source", "derivative_source"):
        with pytest.raises(SpecError, match="another one"):
            Activation.from_dict({**data, field: "def softplus(u):\n    return u"})
    # A result made without derivative is another law: it had no gradients.
    with pytest.raises(SpecError, match="another one"):
        Activation.from_dict({**data, "derivative_source": ""})


def scaled(factor):
    def bent(u):
        return factor * u if u > 0 else 0.0

    return bent


def test_two_functions_of_one_text_but_other_constants_have_other_digests():
    from sigprop.schemes import LeCun

    twice = activations.function("test_twice", scaled(2.0), kinks=(0.0,))
    thrice = activations.function("test_thrice", scaled(3.0), kinks=(0.0,))
    assert twice.source != thrice.source and "factor = 2.0" in twice.source
    digests = {Ensemble(Network(depth=1, activation=p), LeCun()).digest for p in (twice, thrice)}
    assert len(digests) == 2
    with pytest.raises(SpecError, match="registered already"):
        activations.function("test_twice", scaled(4.0), kinks=(0.0,))


def test_a_function_without_derivative_says_so_when_one_is_needed():
    phi = activations.function("test_square", lambda u: u * u)
    assert not phi.differentiable and phi.derivative_function is None
    np.testing.assert_allclose(phi.second_moment(2.0), 12.0, rtol=1e-13)
    for ask in (lambda: phi.derivative(np.zeros(1)), phi.derivative_second_moment):
        with pytest.raises(Unsupported, match="derivative"):
            ask()


def test_claims_about_a_function_are_checked():
    with pytest.raises(SpecError, match="slope is"):
        activations.function("test_wrong", math.tanh, derivative=math.tanh)
    with pytest.raises(SpecError, match="not positively homogeneous"):
        activations.function("test_wrong", math.tanh, homogeneous=True)
    with pytest.raises(SpecError, match="not a finite number"):
        activations.function("test_wrong", lambda u: math.inf if u > 5 else u)
    with pytest.raises(SpecError, match="failed at"):
        activations.function("test_wrong", lambda u: math.sqrt(u))
    with pytest.raises(SpecError, match="lower-case"):
        activations.function("Not a name", math.tanh)
    assert "test_wrong" not in Activation.family


def absolute(u):
    return abs(u)


def test_a_homogeneous_function_has_its_kink_at_zero_without_being_told():
    phi = activations.function("test_absolute", absolute, homogeneous=True)
    assert phi.kinks == (0.0,)
    np.testing.assert_allclose(phi.mean(), math.sqrt(2 / math.pi), rtol=1e-14)


def test_a_function_that_overflows_far_out_is_refused_with_its_range():
    def naive(u):
        return math.log(1 + math.exp(u))

    phi = activations.function("test_naive", naive)
    assert math.isfinite(phi.second_moment(1.0))
    with pytest.raises(SpecError, match="overflow"):
        phi.second_moment(1e6)


table = {"a": 1.0}


def uses_table(u):
    return table["a"] * u


def test_a_function_whose_meaning_cannot_be_recorded_is_refused():
    with pytest.raises(SpecError, match="'table', a dict"):
        activations.function("test_table", uses_table)
    with pytest.raises(SpecError, match="source"):
        activations.function("test_builtin", math.tanh)


def test_an_activation_of_another_process_is_asked_for_by_name():
    with pytest.raises(UnknownName, match="test_softplis"):
        Activation.from_dict({"kind": "test_softplis", "source": ""})


def test_importing_the_specification_loads_nothing_heavy():
    code = (
        "import sys, sigprop.activations, sigprop.laws, sigprop.schemes, sigprop.inputs;"
        "print([m for m in ('scipy', 'numba', 'xarray', 'torch', 'matplotlib')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
