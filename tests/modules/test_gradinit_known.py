"""GradInit where the answer is known: chains of numbers, symmetries, the authors' own code."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from sigprop.modules.batches import BatchPair
from sigprop.modules.gradinit import gradinit
from sigprop.modules.gradinit_objective import Objective
from sigprop.modules.gradinit_settings import Settings
from sigprop.modules.loss_at import LossAt
from tests.modules.chains import (
    Chain,
    cross_entropy,
    golden_data,
    golden_network,
    half_square,
    in_float64,
    point,
)

torch.set_num_threads(1)

# Settings -> value, and derivative by m, of w = (1.3, .7, 2) at m = (.9, 1.1, .8).
NORMS = {
    "sgd": (1.544942978988, (0.302884866258, -0.230449201701, 0.574520687968)),
    "adam": (2.561694236000, (0.36716888, -0.07174328, 0.677795995)),
}
STEPPED = [
    ({}, 0.010449576440, (-0.208625763537, -0.161844799062, -0.239356294073)),
    (
        {"second_order": True},
        0.010449576440,
        (-0.208367608123, -0.162247837192, -0.239092541486),
    ),
    (
        {"normalize": False},
        0.000352587557,
        (-0.040731609599, -0.030783429842, -0.047209134955),
    ),
    (
        {"normalize": False, "second_order": True},
        0.000352587557,
        (-0.042400507291, -0.029606459033, -0.050472719012),
    ),
    (
        {"optimizer": "adam", "lr": 0.1},
        0.000003548448,
        (0.00409765824, 0.00322088256, 0.00470952576),
    ),
    (
        {"optimizer": "adam", "lr": 0.1, "second_order": True},
        0.000003548448,
        (0.00409765824, 0.00322088256, 0.00470952576),
    ),
]


def objective(model, loss_fn, backend="functional", **settings):
    parameters = dict(model.named_parameters())
    start = [value.detach() for value in parameters.values()]
    loss = LossAt(model, loss_fn, parameters, backend)
    return Objective(loss, start, range(len(start)), Settings(**settings))


def chain_derivative(**settings):
    model = Chain((1.3, 0.7, 2.0))
    found = objective(model, half_square, **settings)
    m = np.array([0.9, 1.1, 0.8])
    return found.derivative(m, point(0.5, 2.0), lambda: point(0.8, 1.5), False)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("hvp, rounding", [("double", 1e-10), ("fd", 1e-8)])
def test_the_norm_of_a_chain_and_its_derivative(optimizer, hvp, rounding):
    value, derivative = NORMS[optimizer]
    q, row = chain_derivative(optimizer=optimizer, gamma=1e-3, hvp=hvp)
    assert row["case"] == "c" and math.isnan(row["loss1"])
    assert row["grad_norm"] == pytest.approx(value, abs=1e-10)
    np.testing.assert_allclose(q, derivative, rtol=0, atol=rounding)


@pytest.mark.parametrize("settings, value, derivative", STEPPED)
def test_the_stepped_loss_of_a_chain_and_its_derivative(settings, value, derivative):
    q, row = chain_derivative(lr=0.1, gamma=1e9, **{k: v for k, v in settings.items() if k != "lr"})
    assert row["case"] == "o"
    assert row["loss1"] == pytest.approx(value, abs=1e-10)
    np.testing.assert_allclose(0.1 * q, derivative, rtol=0, atol=1e-10)


def test_differences_are_taken_over_a_step_that_fits_the_tensors():
    """theta a million times larger, x as much smaller a factor: the same chain in other units."""
    c, m = 1e6, np.array([0.9, 1.1, 0.8])
    model = Chain((1.3 * c, 0.7 * c, 2.0 * c))
    for optimizer, (value, derivative) in NORMS.items():
        found = objective(model, half_square, optimizer=optimizer, gamma=1e-12, hvp="fd")
        q, row = found.derivative(m, point(0.5 / c**3, 2.0), lambda: None, False)
        np.testing.assert_allclose(c * row["grad_norm"], value, rtol=1e-10)
        np.testing.assert_allclose(c * q, derivative, rtol=0, atol=1e-8)


# ------------------------------------------------------------------ central differences


def small_network(activation):
    torch.manual_seed(5)
    layers = [nn.Linear(8, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 3)]
    return nn.Sequential(*layers)


def small_batch(seed, examples=32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, 8, generator=generator)
    return x, torch.randint(0, 3, (examples,), generator=generator)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize(
    "settings",
    [
        {"gamma": 1e-9},
        {"gamma": 1e-9, "optimizer": "adam"},
        {"gamma": 1e9, "second_order": True},
        {"gamma": 1e9, "second_order": True, "normalize": False},
        {"gamma": 1e9, "optimizer": "adam", "lr": 0.01},
    ],
)
def test_exact_derivatives_are_those_of_central_differences(activation, settings):
    """By every scale, to 1e-6 of the largest; the dropped term of first order is a third."""
    with in_float64():
        model = small_network(activation)
        found = objective(model, cross_entropy, **settings)
        s, after = small_batch(1), small_batch(2)
        m = np.linspace(0.8, 1.2, 6)
        q, row = found.derivative(m, s, lambda: after, False)
        column, factor = ("grad_norm", 1.0)
        if row["case"] == "o":
            column, factor = "loss1", 1 / Settings(**settings).lr
        slopes = []
        for i in range(6):
            sides = []
            for h in (1e-6, -1e-6):
                _, moved = found.derivative(m + h * np.eye(6)[i], s, lambda: after, False)
                sides.append(moved[column])
            slopes.append(factor * (sides[0] - sides[1]) / 2e-6)
    np.testing.assert_allclose(q, slopes, rtol=0, atol=1e-6 * np.abs(slopes).max())


def test_first_order_drops_a_term_of_the_size_that_is_known():
    with in_float64():
        model, s, after = small_network(nn.Tanh), small_batch(1), small_batch(2)
        first, exact = (
            objective(model, cross_entropy, gamma=1e9, second_order=order).derivative(
                np.ones(6), s, lambda: after, False
            )[0]
            for order in (False, True)
        )
    off = np.linalg.norm(first - exact) / np.linalg.norm(exact)
    assert 0.05 < off < 0.6  # .33 on the networks of the specification


# ------------------------------------------------------------------ iterations


def run(weights, x, t, **settings):
    model = Chain(weights)
    result = gradinit(model, [point(x, t)], half_square, overlap=1, **settings)
    return model, result, np.array(list(result.scales.values()))


def test_the_first_step_is_tau_against_the_sign():
    _, result, m = run((1.3, 0.7, 2.0), 0.5, 2.0, gamma=1.0, steps=1)
    assert result.history["grad_norm"][0] == pytest.approx(1.68405, abs=5e-6)
    assert list(result.history["case"]) == ["c"]
    np.testing.assert_allclose(m, [1.01, 1.01, 0.99], rtol=0, atol=1e-7)
    _, result, m = run((1.3, 0.7, 2.0), 0.5, 2.0, gamma=1e9, steps=1)
    assert list(result.history["case"]) == ["o"]
    assert result.history["loss1"][0] == pytest.approx(0.4320352236, abs=1e-10)
    np.testing.assert_allclose(m, [1.01, 1.01, 1.01], rtol=0, atol=1e-7)


@pytest.mark.parametrize("optimizer, end", [("sgd", 2 - 0.1 / 2**0.5), ("adam", 1.9)])
def test_without_a_bound_two_layers_end_one_step_from_the_fit(optimizer, end):
    """y = theta_1 theta_2 = 4 after the step, to 1e-9."""
    settings = {"optimizer": optimizer, "lr": 0.1, "gamma": math.inf, "steps": 800}
    model, *_ = run((1.5, 1.5), 1.0, 4.0, **settings)
    for theta in model.parameters():
        assert theta.item() == pytest.approx(end, abs=1e-9)


@pytest.mark.parametrize(
    "start, tau, edge, slope", [(1.5, 1e-2, 1.954247853, 10.5), (1.0, 1e-2, 0.088562, 5.7)]
)
def test_a_binding_bound_is_straddled_in_either_basin(start, tau, edge, slope):
    """Edges of sqrt(2) s (4 - s^2) = 0.5; the norm stays within 20 tau, half of it case c."""
    model, result, _ = run((start, start), 1.0, 4.0, gamma=0.5, tau=tau, steps=round(8 / tau))
    last = slice(-200, None)
    assert np.abs(result.history["grad_norm"][last] - 0.5).max() <= 20 * tau
    assert (result.history["case"][last] == "c").sum() == pytest.approx(100, abs=10)
    assert model.theta_0.item() == pytest.approx(edge, abs=20 * tau / slope / 2)
    assert math.sqrt(2) * edge * (4 - edge**2) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(
    "start, tau, steps, end, ends",
    [
        (1.5, 1e-2, 1000, 1.95, (0.386, 0.545)),
        (1.5, 1e-3, 1500, 1.953, (0.497, 0.513)),
        (1.0, 1e-2, 1000, 0.0817, None),
    ],
)
def test_the_cycle_that_straddles_the_bound_is_the_known_one(start, tau, steps, end, ends):
    """To the digits that are known; exactly half of the iterations are case c."""
    model, result, _ = run((start, start), 1.0, 4.0, gamma=0.5, tau=tau, steps=steps)
    last = slice(-200, None)
    norm = result.history["grad_norm"][last]
    assert model.theta_0.item() == pytest.approx(end, abs=5e-5)
    assert (result.history["case"][last] == "c").sum() == 100
    if ends is not None:
        assert (norm.min(), norm.max()) == pytest.approx(ends, abs=6e-4)


def test_the_numbers_told_are_those_of_the_known_chain():
    """Before: norm on S and loss after a step on S~ of w = (1.17, .77, 1.6); scales stay at 1."""
    model = Chain((1.17, 0.77, 1.6))
    pair = BatchPair(point(0.5, 2.0), point(0.8, 1.5))
    result = gradinit(model, [pair], half_square, steps=2, tau=0.1, gamma=1e9)
    assert result.before["grad_norm"] == pytest.approx(NORMS["sgd"][0], abs=1e-10)
    assert result.before["stepped_loss"] == pytest.approx(STEPPED[0][1], abs=1e-10)
    assert result.before["loss"] == pytest.approx((0.5 * 1.17 * 0.77 * 1.6 - 2) ** 2 / 2, abs=1e-12)
    again = gradinit(model, [pair], half_square, steps=1, tau=1e-12, gamma=1e9)
    assert dict(result.after) == pytest.approx(dict(again.before), abs=1e-14)


def test_a_loss_that_rises_so_that_a_step_may_lower_it_is_no_shrinking():
    """Past the best start, 2 - eta / sqrt 2: the loss rises from 0.0008, after a step it is 0."""
    _, result, _ = run((1.99, 1.99), 1.0, 4.0, gamma=math.inf, steps=100)
    assert result.after["loss"] > 10 * result.before["loss"]
    assert result.after["stepped_loss"] < 0.1 * result.before["stepped_loss"]
    assert result.warnings == ()


def test_scales_at_their_floor_are_told():
    _, result, m = run((1.0, 1.0), 1.0, 4.0, gamma=1e-9, steps=150)
    assert (m == 0.01).all()
    assert any(
        "2 scales ended at their floor (theta_0, theta_1)" in words for words in result.warnings
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_norm_of_many_tensors_does_not_depend_on_their_order(seed):
    """To the last bit; a sum from left to right does, in four of five such chains."""
    weights = tuple(np.random.default_rng(seed).normal(1, 0.2, 14))
    orders = (None, tuple(reversed(range(14))), (*range(1, 14, 2), *range(0, 14, 2)))
    found = {
        gradinit(
            Chain(weights, order), [point(1.0, 4.0)], half_square, gamma=1e9, steps=1, overlap=1
        ).history["grad_norm"][0]
        for order in orders
    }
    assert len(found) == 1


def test_the_edge_is_reached_as_the_step_shrinks():
    model, *_ = run((1.5, 1.5), 1.0, 4.0, gamma=0.5, tau=1e-3, steps=1000, optimizer="adam", lr=0.1)
    assert model.theta_0.item() == pytest.approx(1.967985, abs=1e-4)


def test_a_norm_above_gamma_may_shrink_the_network_and_is_reported():
    """The vanishing basin: all scales fall together, and the loss with them rises."""
    _, result, m = run((1.0, 1.0, 1.0, 1.0), 1.0, 4.0, gamma=1.0, steps=200)
    assert result.history["grad_norm"][0] == pytest.approx(6.0, abs=1e-12)
    assert np.ptp(m) == 0 and m[0] == pytest.approx(0.5, abs=0.03)
    assert any("shrinking" in warning for warning in result.warnings)


def test_permuting_the_tensors_permutes_their_scales_bit_for_bit():
    """No place in the network is favoured, be it by the order of a sum."""
    models = [Chain((1.3, 0.7, 2.0)), Chain((1.3, 0.7, 2.0), registered=(2, 0, 1))]
    scales = [
        gradinit(m, [point(1.0, 4.0)], half_square, gamma=1.0, steps=200, overlap=1).scales
        for m in models
    ]
    assert list(scales[0].values()) == pytest.approx([1.33372277, 1.32, 1.17268268], abs=1e-8)
    assert list(scales[1]) == ["theta_2", "theta_0", "theta_1"]
    assert dict(scales[0]) == dict(scales[1])


def test_only_the_product_of_scale_and_tensor_matters_to_a_derivative():
    weights, c, m = np.array([1.3, 0.7, 2.0]), np.array([2.0, 0.5, 4.0]), np.array([0.9, 1.1, 0.8])
    s, after = point(0.5, 2.0), point(0.8, 1.5)
    for gamma in (1e-3, 1e9):
        first = objective(Chain(weights), half_square, gamma=gamma)
        second = objective(Chain(c * weights), half_square, gamma=gamma)
        q, _ = first.derivative(m, s, lambda: after, False)
        r, _ = second.derivative(m / c, s, lambda: after, False)
        np.testing.assert_allclose(m * q, m / c * r, rtol=1e-13)


def test_identities_of_homogeneous_layers():
    """Bias-free ReLU nets: <theta_l, grad_l> the same in all layers; before BN: zero."""
    with in_float64():
        torch.manual_seed(2)
        sizes = (8, 16, 12, 3)
        layers = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes)]
        model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        loss = LossAt(model, cross_entropy, dict(model.named_parameters()), "functional")
        values = [value.detach() for value in model.parameters()]
        _, g = loss.gradient(values, small_batch(1))
        products = [float((a * b).sum()) for a, b in zip(values, g)]
        assert abs(products[0]) > 1e-3 and np.ptp(products) < 1e-15

        model = golden_network(True)
        model.train()
        loss = LossAt(model, cross_entropy, dict(model.named_parameters()), "functional")
        values = [value.detach() for value in model.parameters()]
        _, g = loss.gradient(values, golden_data()())
        # batch normalisation adds eps = 1e-5 to a variance of order 1
        assert abs(float((values[0] * g[0]).sum())) < 1e-4 < float(g[0].norm())


# ------------------------------------------------------------------ the authors' code

GOLDEN = [
    (True, {"tau": 0.01}, (1.291421158, 0.663974209, 0.671137293, 0.766035001), 68),
    (True, {"tau": 0.05}, (1.815291691, 0.660104557, 0.682848136, 1.059314461), 53),
    (True, {"optimizer": "adam", "gamma": 20.0}, (1.273357731, 0.78, 0.78, 0.78), 61),
    (
        False,
        {"tau": 0.01},
        (1.286534685, 0.704285811, 0.714429834, 1.043209233, 0.734331506, 0.666773718),
        66,
    ),
]


@pytest.mark.parametrize("zero_biases, settings, scales, case_c", GOLDEN)
def test_the_scales_are_those_of_the_authors_code(zero_biases, settings, scales, case_c):
    """Convolutions, batch normalisation and dropout; float64, a hundred iterations, to 1e-6."""
    with in_float64():
        result = gradinit(
            golden_network(zero_biases),
            golden_data(),
            cross_entropy,
            **{"gamma": 0.5, "tau": 0.01, "steps": 100} | settings,
        )
    moved = [s for name, s in result.scales.items() if result.norms[name] > 0]
    np.testing.assert_allclose(moved, scales, rtol=0, atol=1e-6)
    assert (result.history["case"] == "c").sum() == case_c
    assert all(s == 1 for name, s in result.scales.items() if result.norms[name] == 0)
