"""The factor of a plain layer: against sums in forty digits, published numbers and its own laws."""

import doctest
import importlib
import math
from functools import cache

import mpmath
import numpy as np
import pytest

from sigprop.activations import GELU, LeakyReLU, Linear, RandomisedLeakyReLU, ReLU
from sigprop.branch_factor import hidden_law
from sigprop.errors import SpecError, Unsupported
from sigprop.layer_factor import LayerFactor, preserving_scale

# ------------------------------------------------------------------ the definition, in 40 digits


def _chi(n: int, p):
    """E (chi^2_n)^p."""
    return (
        mpmath.mpf(2) ** p * mpmath.gamma(mpmath.mpf(n) / 2 + p) / mpmath.gamma(mpmath.mpf(n) / 2)
    )


@cache
def definition(slope: float, d: int, keep: float, p, alive: bool):
    """E Q^p by the sum over what the units do, in 40 digits."""
    with mpmath.workdps(40):
        q, a, p = mpmath.mpf(keep), mpmath.mpf(slope), mpmath.mpmathify(p)
        total, silent = mpmath.mpf(0), mpmath.mpf(0)
        if slope in (0.0, 1.0):
            on = q / 2 if slope == 0 else q
            for n in range(d + 1):
                chance = mpmath.binomial(d, n) * on**n * (1 - on) ** (d - n)
                if n == 0:
                    silent = chance
                else:
                    total += chance * _chi(n, p)
        else:
            assert keep == 1.0
            for n in range(d + 1):  # n units on the side of slope 1: a Beta mixture
                half = mpmath.mpf(d - n) / 2
                mixed = mpmath.hyp2f1(-p, half, mpmath.mpf(d) / 2, 1 - a * a)
                total += mpmath.binomial(d, n) * mpmath.mpf(2) ** -d * mixed * _chi(d, p)
        total *= q ** (-2 * p)
        return complex(total / (1 - silent) if alive else total)


def layer(slope: float, d: int, keep: float = 1.0) -> LayerFactor:
    return LayerFactor(width=d, slopes=(slope, slope), keep=keep)


@pytest.mark.parametrize("slope", [0.0, 1.0])
@pytest.mark.parametrize("d", [1, 2, 7, 63, 64, 300])
@pytest.mark.parametrize("keep", [1.0, 0.7])
def test_moments_are_those_of_the_sum_over_active_units(slope, d, keep):
    """Powers on both sides of 1, where the formula changes, and widths on both of 64."""
    for p in (-0.2, 1e-3, 0.05, 0.5, 0.97, 1.0, 1.03, 1.5, 1.9, 2.0, 3.4):
        true = definition(slope, d, keep, p, True).real
        found = math.exp(layer(slope, d, keep).log_moment(p, alive=True))
        np.testing.assert_allclose(found, true, rtol=3e-13 if p <= 2 else 1e-11)


@pytest.mark.parametrize(("slope", "d"), [(0.01, 1), (0.01, 12), (0.3, 2), (-0.3, 40), (2.5, 5)])
def test_moments_of_leaky_layers_are_hypergeometric_sums(slope, d):
    for p in (-0.2, 0.05, 0.5, 1.0, 1.5, 2.0):
        true = definition(slope, d, 1.0, p, False).real
        np.testing.assert_allclose(math.exp(layer(slope, d).log_moment(p)), true, rtol=2e-13)


def test_powers_near_the_pole_take_a_longer_grid():
    for slope, d in ((0.0, 1), (1.0, 1), (0.0, 9)):
        true = definition(slope, d, 1.0, -0.4, True).real
        found = math.exp(layer(slope, d).log_moment(-0.4, alive=True))
        np.testing.assert_allclose(found, true, rtol=1e-12)


def test_complex_powers_are_the_characteristic_function_of_the_logarithm():
    p = np.array([0.5j, -1j, 3j, 0.3 + 2j, -0.1 + 5j])
    for slope, d in ((0.0, 3), (1.0, 20), (0.3, 8)):
        true = np.array([definition(slope, d, 1.0, complex(q), True) for q in p])
        found = np.exp(layer(slope, d).log_moment(p, alive=True))
        # 1 / Gamma(1 - p) magnifies rounding; the value itself falls as fast.
        assert (np.abs(found - true) < 1e-14 * np.exp(math.pi / 2 * np.abs(p.imag))).all()


def test_an_array_of_powers_is_what_its_entries_are():
    p = np.array([[-0.3, 1e-5, 0.2], [0.9, 1.2, 3.1]])
    found = layer(0.3, 6).log_moment(p)
    assert found.shape == p.shape
    each = [layer(0.3, 6).log_moment(float(q)) for q in p.ravel()]
    np.testing.assert_allclose(found.ravel(), each, rtol=1e-14)


@pytest.mark.parametrize("bounds", [(1 / 8, 1 / 3), (0.0, 0.5), (-0.2, 0.9), (1e-5, 1.0)])
def test_random_slopes_average_to_their_mixture(bounds):
    """One unit: E Q^p = (1 + E |A|^2p) E |Z|^2p / 2, A uniform."""
    low, high = bounds
    for p in (-0.1, 0.25, 0.7, 1.0, 1.6):
        q = 2 * p + 1
        slope = (abs(high) ** q - math.copysign(abs(low) ** q, low)) / (q * (high - low))
        true = (1 + slope) / 2 * float(_chi(1, p))
        found = math.exp(LayerFactor(width=1, slopes=bounds).log_moment(p))
        np.testing.assert_allclose(found, true, rtol=1e-12)


# --------------------------------------------------------------------- the published numbers

RANDOMISED = RandomisedLeakyReLU()
TABLE = [  # sigma at s = 0, 0.5, 1, 1.5, 2, from the specification, 13 digits
    (ReLU(), 2, 1.0, (1.49800221322, 2.159043317762, 1.403960374789, 1.144768825145, 1)),
    (ReLU(), 16, 1.0, (0.3861528093791, 0.3766682409284, 0.3682033233848, 0.360549783694, 8**-0.5)),
    (ReLU(), 128, 1.0, (0.1262427875543, 0.1259270608701, 0.1256147364354, 0.1253057400338, 0.125)),
    (ReLU(), 1024, 1.0, (
        0.04424824113419, 0.04423469757385, 0.04422117186722, 0.04420766396651, 0.04419417382416)),
    (ReLU(), 10**6, 1.0, (
        0.001414215330144, 0.0014142148882, 0.001414214446257, 0.001414214004315, 0.001414213562373
    )),
    (LeakyReLU(slope=0.1), 16, 1.0, (
        0.3828822701186, 0.3739718966019, 0.3659155545667, 0.3585623949866, 0.3517987723651)),
    (LeakyReLU(slope=0.1), 1024, 1.0, (
        0.04402737257175, 0.04401421613296, 0.04400107634379, 0.04398795316204, 0.04397484654564)),
    (LeakyReLU(slope=0.3), 128, 1.0, (
        0.1206942867241, 0.1204500805811, 0.1202076939648, 0.1199671033602, 0.1197282856526)),
    (RANDOMISED, 128, 1.0, (
        0.122691079468, 0.1224230969287, 0.1221574015404, 0.1218939570684, 0.1216327281119)),
    (ReLU(), 128, 0.8, (
        0.1132577904126, 0.1128863368382, 0.1125202232221, 0.11215929352, 0.111803398875)),
    (Linear(), 16, 1.0, (0.258103572903, 0.2559880008299, 0.2539343559478, 0.2519393631891, 0.25)),
]  # fmt: skip


@pytest.mark.parametrize(("phi", "d", "keep", "sigma"), TABLE)
def test_scales_are_the_reference_values(phi, d, keep, sigma):
    factor = LayerFactor.of(phi, d, keep=keep)
    found = [preserving_scale(factor, s) for s in (0, 0.5, 1, 1.5, 2)]
    np.testing.assert_allclose(found, sigma, rtol=6e-13)


CUMULANTS = [
    (ReLU(), 16, (1.90304421727, 0.419593394107, -0.285755023275, 0.614182794893)),
    (ReLU(), 128, (4.13909668148, 0.0402339926029, -0.00203846171883, 0.000227286060609)),
    (ReLU(), 1024, (6.2358793134, 0.00490053492156, -2.98333761866e-05, 3.95527681575e-07)),
    (LeakyReLU(slope=0.1), 128, (
        4.14953263176, 0.0392151766447, -0.00188844633302, 0.000196606733327)),
    (Linear(), 128, (4.84419741936, 0.0157477060643, -0.000247985122164, 7.81007088314e-06)),
    (ReLU(), 2, (-0.808264725088, 4.26524883502, -14.8637048514, 89.0109262502)),
]  # fmt: skip


@pytest.mark.parametrize(("phi", "d", "kappa"), CUMULANTS)
def test_cumulants_are_the_reference_values(phi, d, kappa):
    found = LayerFactor.of(phi, d).log_cumulants()
    np.testing.assert_allclose(found, kappa, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (1.0, 1.0), (0.3, 0.3), (1 / 8, 1 / 3)])
def test_cumulants_agree_with_the_density(slopes):
    """A second method: the density itself, by an inverse transform."""
    for d in (1, 5, 70):
        found = LayerFactor(width=d, slopes=slopes).log_cumulants()
        np.testing.assert_allclose(found, hidden_law((d,), slopes).cumulants(), rtol=1e-9)


# ------------------------------------------------------------------------------ consequences


def test_the_series_for_small_powers_joins_the_integral():
    for factor in (layer(0.0, 2), layer(0.1, 16)):
        below, above = 0.999e-4, 1.001e-4
        slope = factor.log_cumulants()[0]
        for p in (below, above):
            true = slope * p + factor.log_cumulants()[1] * p**2 / 2
            assert abs(factor.log_moment(p, alive=True) - true) < 1e-11


def test_the_scale_at_zero_is_the_limit_given_that_the_layer_is_alive():
    for factor in (layer(0.0, 2), layer(0.1, 16), layer(0.0, 3, 0.5)):
        limit = preserving_scale(factor, 0.0)
        np.testing.assert_allclose(preserving_scale(factor, 1e-7, alive=True), limit, rtol=1e-6)
    # Without the condition there is none: (1 - A)^(-1/s) has left every bound.
    assert preserving_scale(layer(0.0, 2), 0.01) > 1e12


def test_he_is_the_member_of_order_two():
    for phi in (ReLU(), Linear(), LeakyReLU(slope=-0.4), RANDOMISED):
        found = preserving_scale(LayerFactor.of(phi, 37), 2.0)
        np.testing.assert_allclose(found, (37 * phi.second_moment()) ** -0.5, rtol=1e-14)


def test_orthogonal_layers_divide_the_radius_out():
    """Linear and square: an isometry. ReLU, d = 2: |phi(v)|^2 of an angle, by quadrature."""
    square = LayerFactor.of(Linear(), 7, orthogonal=7)
    assert abs(square.log_moment(0.3)) < 1e-13 and np.abs(square.log_cumulants()).max() < 1e-12
    angle = (np.arange(200_000) + 0.5) * (2 * math.pi / 200_000)
    squares = np.maximum(np.cos(angle), 0) ** 2 + np.maximum(np.sin(angle), 0) ** 2
    found = math.exp(LayerFactor.of(ReLU(), 2, orthogonal=2).log_moment(0.35))
    np.testing.assert_allclose(found, (squares**0.35).mean(), rtol=1e-6)
    # Two rows of an orthogonal matrix of side 3 see two coordinates of a sphere: E v_i^2 = 1/3.
    wide = LayerFactor.of(ReLU(), 2, orthogonal=3)
    np.testing.assert_allclose(math.exp(wide.log_moment(1.0)), 2 / 3 / 2, rtol=1e-13)


def test_examples_in_the_text_are_right():
    found = doctest.testmod(importlib.import_module("sigprop.layer_factor"))
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: layer(0.0, 0), "at least 1"),
        (lambda: layer(math.nan, 3), "slopes"),
        (lambda: layer(1e-60, 3), "degenerate"),
        (lambda: layer(0.0, 3, 0.0), "keep"),
        (lambda: layer(0.0, 3, 1.2), "keep"),
        (lambda: LayerFactor(width=3, slopes=(0.4, 0.1)), "Swap"),
        (lambda: LayerFactor(width=3, slopes=(0.0, 0.0), orthogonal=2), "orthogonal"),
        (lambda: layer(0.0, 3).log_moment(-0.5), "real part"),
        (lambda: layer(0.0, 3).log_moment(-0.1), "alive=True"),
        (lambda: layer(0.0, 3).log_moment(math.nan), "real part"),
        (lambda: preserving_scale(layer(0.0, 3), -0.1), "s must be"),
        (lambda: preserving_scale(layer(0.0, 3), 2.1), "s must be"),
    ],
)
def test_what_has_no_meaning_is_refused(wrong, says):
    with pytest.raises(SpecError, match=says):
        wrong()


def test_an_activation_that_is_not_homogeneous_is_refused():
    with pytest.raises(Unsupported, match="independent"):
        LayerFactor.of(GELU(), 4)
