"""Order and chaos of plain nets: the known numbers, closed forms, and networks that are drawn."""

from __future__ import annotations

import doctest
import importlib
import math

import numpy as np
import pytest

import sigprop
from analysis.compare import compare
from analysis.prediction import predict
from analysis.theory import (
    cosine_map,
    cosine_map_slope,
    critical_weight_variance,
    edge_of_chaos,
    infinite_width_gradient,
    infinite_width_gram,
    log_gradient_mean_square,
    mean_square_fixed_points,
    mean_square_map,
    mean_square_map_slope,
    phase,
    phase_diagram,
    tangent_gain,
)
from sigprop.activations import LeakyReLU, function
from sigprop.errors import SpecError, Unsupported
from sigprop.inputs import Given, Pair, Point
from sigprop.processes import Tied
from sigprop.schemes import GivenScheme, NFResNet, Power
from sigprop.spec import Ensemble, Network
from tests.stat import assert_agrees


@pytest.mark.parametrize("module", ["phase", "phase_diagram"])
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"analysis.theory.{module}"))
    assert found.attempted > 0 and found.failed == 0


# ------------------------------------------------------------------- known numbers

# activation, sw2, sb2: q*, chi_1, c*, chi_c, slope of the map of q
KNOWN = {
    ("tanh", 3.0, 0.2): (1.65993, 1.13545, 0.692720, 0.907056, 0.326215),
    ("tanh", 1.3, 0.05): (0.315316, 0.880164, 1.0, 0.880164, 0.571123),
}


@pytest.mark.parametrize("law", KNOWN, ids=str)
def test_tanh_has_the_known_fixed_points_and_slopes(law):
    """To the digits in which they are known, six."""
    found = phase(*law)
    numbers = (found.mean_square, found.chi_1, found.cosine, found.chi_c, found.mean_square_slope)
    np.testing.assert_allclose(numbers, KNOWN[law], rtol=4e-6)
    assert found.kind == ("chaotic" if found.chi_1 > 1 else "ordered")
    assert found.xi_c == pytest.approx(-1 / math.log(found.chi_c), rel=1e-12)
    assert found.xi_q == pytest.approx(-1 / math.log(found.mean_square_slope), rel=1e-12)


def test_the_edge_of_tanh_is_where_it_is_known():
    assert critical_weight_variance("tanh", 0.05) == pytest.approx(1.760955, abs=5e-7)
    weight, bias = edge_of_chaos("tanh", [1e-6, 0.3, 2.0])
    assert weight[0] == pytest.approx(1.0, abs=1e-5) and bias[0] == pytest.approx(0.0, abs=1e-6)
    for w, b in zip(weight[1:], bias[1:]):
        assert critical_weight_variance("tanh", float(b)) == pytest.approx(w, rel=1e-9)
        assert phase("tanh", float(w), float(b)).kind == "critical"


# erf has closed forms: (2/pi) asin, and its derivative.
def erf_kernel(q1, q2, k):
    return 2 / math.pi * math.asin(2 * k / math.sqrt((1 + 2 * q1) * (1 + 2 * q2)))


def test_the_maps_of_erf_are_the_arcsine_law():
    w, b, q1, q2, c = 2.3, 0.1, 0.7, 1.9, -0.4
    squares = [w * erf_kernel(q, q, q) + b for q in (q1, q2)]
    assert mean_square_map("erf", q1, w, b) == pytest.approx(squares[0], rel=1e-12)
    expected = (w * erf_kernel(q1, q2, c * math.sqrt(q1 * q2)) + b) / math.sqrt(np.prod(squares))
    assert cosine_map("erf", c, w, b, mean_squares=(q1, q2)) == pytest.approx(expected, rel=1e-11)
    # E erf'(u1) erf'(u2) = (4/pi) / sqrt((1 + 2q)^2 - (2qc)^2)
    slope = w * 4 / math.pi / math.sqrt((1 + 2 * q1) ** 2 - (2 * q1 * c) ** 2)
    assert cosine_map_slope("erf", c, w, mean_square=q1) == pytest.approx(slope, rel=1e-11)
    turn = w * 2 / math.pi * 2 / ((1 + 2 * q1) * math.sqrt(1 + 4 * q1))
    assert mean_square_map_slope("erf", q1, w) == pytest.approx(turn, rel=1e-11)


@pytest.mark.parametrize("name", ["tanh", "gelu", "silu"])
def test_slopes_are_those_of_the_maps(name):
    """Central differences: their error is the step squared, 1e-8, beside 1e-9 of rounding."""
    q, w, c, step = 0.8, 1.7, 0.35, 1e-4
    ahead, behind = (mean_square_map(name, q + s, w) for s in (step, -step))
    assert mean_square_map_slope(name, q, w) == pytest.approx(
        (ahead - behind) / (2 * step), rel=1e-6
    )
    squares = mean_square_map(name, q, w) / q
    ahead, behind = (cosine_map(name, c + s, w, mean_squares=(q, q)) for s in (step, -step))
    slope = cosine_map_slope(name, c, w, mean_square=q) / squares
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-6)
    assert cosine_map_slope(name, 1.0, w, mean_square=q) == pytest.approx(tangent_gain(name, q, w))


# ----------------------------------------------------------- what is special, and refused


def test_relu_is_critical_at_one_point_only():
    assert phase("relu", 2.0).kind == "critical" and math.isinf(phase("relu", 2.0).xi_c)
    assert math.isnan(phase("relu", 2.0).mean_square)  # every one is fixed
    weight, bias = edge_of_chaos("relu", [0.1, 3.0])
    assert weight.tolist() == [2.0, 2.0] and bias.tolist() == [0.0, 0.0]
    found = phase("relu", 1.5, 0.1)
    assert (found.kind, found.cosine) == ("ordered", 1.0)
    assert found.mean_square == pytest.approx(0.1 / 0.25)
    assert found.chi_1 == pytest.approx(0.75) and found.mean_square_slope == pytest.approx(0.75)
    below = phase("relu", 1.5)  # the angle knows nothing of the size: k_1, whose slope at 1 is 1
    assert (below.kind, below.mean_square, below.cosine) == ("ordered", 0.0, 1.0)
    assert math.isinf(below.xi_c)
    assert phase(LeakyReLU(slope=0.5), 1 / 0.625).kind == "critical"
    with pytest.raises(Unsupported, match=r"grows by a factor 1\.1 a layer, for ever"):
        phase("relu", 2.2)
    with pytest.raises(Unsupported, match="no fixed point"):
        phase("relu", 2.0, 0.1)
    with pytest.raises(Unsupported, match=r"single point \(2, 0\)"):
        critical_weight_variance("relu", 0.1)
    with pytest.raises(Unsupported, match="keeps every mean square"):
        mean_square_fixed_points("relu", 2.0)


def test_a_signal_that_vanishes_has_no_angle_left():
    found = phase("tanh", 0.7)
    assert (found.kind, found.mean_square, found.chi_1) == ("ordered", 0.0, 0.7)
    assert math.isnan(found.cosine) and math.isnan(found.xi_c)
    assert found.xi_q == pytest.approx(-1 / math.log(0.7))


def test_an_odd_activation_without_biases_leads_to_orthogonal_states():
    found = phase("tanh", 2.0)
    assert found.kind == "chaotic" and found.cosine == 0.0 and 0 < found.chi_c < 1


def test_where_several_fixed_points_are_stable_the_start_decides():
    """gelu at 2.05 without biases: 0 attracts small signals, a large one grows for ever."""
    points = mean_square_fixed_points("gelu", 2.05)
    assert [point.stable for point in points] == [True, False]
    middle = points[1].mean_square
    assert phase("gelu", 2.05, start=0.9 * middle).mean_square == 0.0
    with pytest.raises(Unsupported, match="smaller start"):
        phase("gelu", 2.05, start=1.1 * middle)


def test_a_falling_map_of_the_mean_square_still_settles():
    """u exp(-u^2): E phi^2 = q (1 + 4q)^-3/2 falls like q^-1/2, the most that it can."""
    bump = function(
        "phase_bump",
        lambda u: u * math.exp(-u * u),
        lambda u: (1 - 2 * u * u) * math.exp(-u * u),
    )
    found = phase(bump, 400.0)
    q = found.mean_square
    assert 400 * (1 + 4 * q) ** -1.5 == pytest.approx(1.0)
    assert found.mean_square_slope == pytest.approx(1 - 6 * q / (1 + 4 * q))
    assert -0.5 < found.mean_square_slope < -0.4 and found.xi_q < 1.5


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: phase("tanh", 0.0), "weight_variance"),
        (lambda: phase("tanh", 1.0, -0.1), "bias_variance"),
        (lambda: phase("tanh", 1.0, start=0.0), "start"),
        (lambda: edge_of_chaos("tanh", [1.0, 0.0]), "mean_square must be positive"),
        (lambda: phase_diagram("tanh", [1.0, 0.5], [0.1]), "weight_variances must be increasing"),
        (lambda: phase_diagram("tanh", [1.0], [-0.1]), "bias_variances must be increasing"),
        (lambda: phase_diagram("tanh", np.arange(1, 999), np.arange(999)), "at most 141 a side"),
    ],
)
def test_bad_numbers_are_named(call, says):
    with pytest.raises(SpecError, match=says):
        call()


# -------------------------------------------------------------------------- diagram


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu"])
def test_the_diagram_says_of_every_point_what_phase_says(name):
    """To 1e-9, the error of a bisection; nearer the edge than here series need more terms."""
    grid = phase_diagram(name, [0.6, 1.5, 2.4, 3.6], [0.0, 0.07, 0.4])
    seen = set()
    for w in grid.weight_variance.values:
        for b in grid.bias_variance.values:
            at = grid.sel(weight_variance=w, bias_variance=b)
            kind = str(at.kind.values)
            seen.add(kind)
            try:
                found = phase(name, float(w), float(b))
            except Unsupported:
                assert kind == "unbounded" and np.isnan(at.chi_1)
                continue
            assert kind == found.kind
            for number in ("mean_square", "mean_square_slope", "chi_1", "cosine", "chi_c", "xi_c"):
                got, wanted = float(at[number]), getattr(found, number)
                assert got == pytest.approx(wanted, rel=1e-9, abs=1e-9, nan_ok=True), number
    assert seen == {"ordered", "chaotic"} if name == "tanh" else {"ordered", "unbounded"} <= seen
    assert grid.attrs["doubt"] < 1e-9


# --------------------------------------------- the recursions of any block, and gradients


def test_a_plain_net_follows_the_maps_layer_by_layer():
    """The state is what is behind the activation: its square is (q' - sb2) / sw2."""
    w, b, cosine = 2.1, 0.15, 0.3
    network = Network(depth=4, block="plain", activation="tanh", widths=(8, 5, 9, 9, 7))
    scheme = GivenScheme(variance=w, variance_over_fan_in=True, bias_variance=b)
    law = Ensemble(network, scheme, Pair(cosine=cosine))
    gram = infinite_width_gram(law)
    q, c = w + b, (w * cosine + b) / (w + b)
    gains = []
    for layer in range(1, 5):
        gains.append(tangent_gain("tanh", q, w))
        c = cosine_map("tanh", c, w, b, mean_squares=(q, q))
        q = mean_square_map("tanh", q, w, b)
        state = (q - b) / w
        np.testing.assert_allclose(gram[layer, 0, 0], state, rtol=1e-11)
        np.testing.assert_allclose(gram[layer, 0, 1], (c * q - b) / w, rtol=1e-11)
    found = np.exp(infinite_width_gradient(law))
    expected = np.append(np.cumprod(gains[::-1])[::-1], 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    names = ["kernel_norm", "kernel_distance"]
    norm = predict(law, names=names, orders=(2,)).norm_moment_log[0, :, 0]
    np.testing.assert_allclose(
        np.exp(norm), gram[:, 0, 0] / gram[0, 0, 0] * network.state_widths / 8
    )


def test_gradients_off_the_trunk_are_the_exact_ones():
    network = Network(depth=5, width=7, block="inner", inner_layers=3, inner_width=9)
    scheme = Power(beta=0.3, skip=(1.0, 0.9, -0.5, 1.0, 1.2), bias_variance=0.3)
    law = Ensemble(network, scheme, Pair(cosine=-0.3))
    np.testing.assert_allclose(
        infinite_width_gradient(law, 1), log_gradient_mean_square(law), rtol=1e-12, atol=1e-14
    )


def test_what_has_no_kernel_is_refused():
    given = Ensemble(Network(depth=2, width=2, block="preact"), NFResNet(), Given([[1.0, 2.0]]))
    with pytest.raises(Unsupported, match="not Gaussian"):
        infinite_width_gram(given)
    tied = Ensemble(Network(depth=2, width=2), Power(beta=0.5, process=Tied()), Point())
    with pytest.raises(Unsupported, match="independent layers"):
        infinite_width_gradient(tied)
    with pytest.raises(SpecError, match=r"input must be within 0 \.\. 0"):
        infinite_width_gradient(Ensemble(Network(depth=2), Power(beta=0.5), Point()), 1)


# ----------------------------------------------------------------- drawn networks

DRAWN = {
    "chaotic tanh": ("tanh", 3.0, 0.2, 0.9),
    "ordered erf": ("erf", 1.2, 0.1, -0.5),
    "gelu": ("gelu", 1.4, 0.1, 0.2),
    "relu": ("relu", 1.6, 0.2, 0.0),
}


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_plain_nets_with_biases_are_where_the_theory_says(name):
    """Width 3000, where it is off by a thousandth: fires by chance once in a million a quantity.

    Sees 0.03 in the cosine, 6% in the mean square, 25% in that of the gradient.
    """
    activation, w, b, cosine = DRAWN[name]
    network = Network(depth=8, width=3000, block="plain", activation=activation)
    scheme = GivenScheme(variance=w, variance_over_fan_in=True, bias_variance=b)
    law = Ensemble(network, scheme, Pair(cosine=cosine))
    run = {"replicas": 320, "orders": [2.0], "seed": 5, "layers": [0, 1, 4, 8]}
    result = sigprop.simulate(law, ["norm", "gradient", "separability"], **run)
    theory = predict(law, [0, 1, 4, 8], orders=(2,))
    assert theory.cosine_mean.attrs["status"] == "limit"
    for variable, at, resolution in (
        ("cosine_mean", {"pair": 0}, 0.03),
        ("norm_moment_log", {"input": 0, "order": 0}, 0.06),
        ("gradient_moment_log", {"input": 0, "order": 0}, 0.25),
    ):
        got, se = (result[name].isel(at).values for name in (variable, f"{variable}_se"))
        wanted = theory[variable].isel(at).values
        # A thousandth a layer, measured at widths 20 and 100 as at most 3 / width.
        assert_agrees(got, wanted, np.hypot(se, 1e-3), resolution=resolution)
    assert compare(result, family_error=1e-6).verdict == "agree"


def test_two_inputs_part_in_chaos_by_chi_1_and_merge_in_order():
    """The slope of the cosine's map at 1, seen in networks: fires once in a million, sees 5%."""
    for w, b in ((3.0, 0.2), (1.3, 0.05)):
        found = phase("tanh", w, b)
        q = found.mean_square
        network = Network(depth=5, width=2000, block="plain", activation="tanh")
        scheme = GivenScheme(variance=w, variance_over_fan_in=True, bias_variance=b)
        # Inputs whose pre-activations have the mean square q* from the first layer on.
        size = math.sqrt((q - b) / w)
        frame = np.zeros((2, 2000))
        frame[0, 0], frame[1, 0], frame[1, 1] = 1.0, math.cos(0.03), math.sin(0.03)
        law = Ensemble(network, scheme, Given(frame * size * math.sqrt(2000)))
        result = sigprop.simulate(law, ["separability"], replicas=640, orders=[2.0], seed=8)
        log = result.distance_moment_log[0, :, 0].values
        se = result.distance_moment_log_se[0, :, 0].values[-1]
        assert_agrees(
            log[-1] - log[0], 5 * math.log(found.chi_1), np.hypot(se, 2e-3), resolution=0.06
        )
