"""The critical exponent: what is predicted, the mean-field oracle that says so, and the fit."""

import doctest
import importlib

import numpy as np
import pytest

from analysis.theory import (
    contour_exponent,
    critical_exponent,
    fit_critical_exponent,
    local_exponent,
    mean_field,
)
from sigprop import Ensemble, Network, Point, Power
from sigprop.errors import SpecError
from sigprop.processes import FractionalGaussianNoise, GivenCovariance


def test_examples_in_the_text_are_right():
    found = doctest.testmod(importlib.import_module("analysis.theory.critical"))
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize(
    "hurst, forward, backward, one",
    [(0.1, 0.5, 0.5, 0.25), (0.4, 0.5, 0.5, 0.4), (0.7, 0.7, 0.5, 0.7), (0.9, 0.9, 0.8, 0.9)],
)
def test_what_is_predicted(hurst, forward, backward, one):
    assert critical_exponent(hurst) == pytest.approx(forward)
    assert critical_exponent(hurst, "gradient_displacement") == pytest.approx(backward)
    assert critical_exponent(hurst, block="res1") == pytest.approx(one)
    assert critical_exponent(hurst, "gradient_displacement", "res1") == pytest.approx(one)


def oracle(hurst, betas, depths, block):
    rows = []
    for beta in betas:
        row = []
        for depth in depths:
            law = Ensemble(
                Network(depth=depth, width=10, block=block),
                Power(beta=float(beta), process=FractionalGaussianNoise(hurst=hurst)), Point(),
            )  # fmt: skip
            found = mean_field(law)
            row.append((
                found.log_displacement_mean_square[-1] / 2,
                found.log_gradient_displacement_mean_square[0] / 2,
            ))  # fmt: skip
        rows.append(row)
    return np.moveaxis(np.array(rows), -1, 0)


@pytest.mark.parametrize(
    "hurst, block, allowed", [(0.9, "res3", 0.03), (0.25, "res3", 0.03), (0.8, "res1", 0.01)]
)
def test_the_oracle_has_the_predicted_exponent(hurst, block, allowed):
    """Fitted from depth 500 to 4000; a correction to scaling of ``allowed`` is left.

    The contour at one depth is 0.1 or more away for H > 1/2.
    """
    betas, depths = np.arange(0.3, 1.05, 0.1), (500, 1400, 4000)
    state, gradient = oracle(hurst, betas, depths, block)
    forward = fit_critical_exponent(betas, depths, state)
    assert forward.beta == pytest.approx(critical_exponent(hurst, block=block), abs=allowed)
    backward = fit_critical_exponent(betas, depths, gradient)
    expected = critical_exponent(hurst, "gradient_displacement", block)
    assert backward.beta == pytest.approx(expected, abs=2 * allowed)


def test_one_depth_tells_another_exponent():
    """At depth 1000 and H = 0.8 the state has moved by its length at 0.70, not at 0.8."""
    betas = np.array([0.65, 0.7, 0.75, 0.8])
    moved = oracle(0.8, betas, (1000,), "res3")[0][:, 0]
    assert np.interp(0.0, -moved, betas) == pytest.approx(0.7, abs=0.005)


def test_the_fit_finds_a_planted_exponent_within_its_error():
    """500 fits of noisy lines: chi of (beta - truth) / se is 1 to 15%, false alarm 1e-5."""
    generator = np.random.default_rng(1)
    betas, depths = np.array([0.4, 0.6, 0.7, 0.9]), np.array([50, 200, 1000])
    errors = np.full((4, 3), 0.02)
    clean = np.log(depths) * (0.66 - betas[:, None]) + 0.3
    pulls, fits = [], []
    for _ in range(500):
        found = fit_critical_exponent(
            betas, depths, clean + errors * generator.standard_normal((4, 3)), errors
        )
        pulls.append((found.beta - 0.66) / found.beta_se)
        fits.append(found.fits)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.15)
    assert abs(np.mean(pulls)) < 4.5 / np.sqrt(500)
    assert np.mean(fits) > 0.9


@pytest.mark.parametrize(
    "arguments, words",
    [
        (([0.4, 0.6], [1000, 1000], np.zeros((2, 2))), "one depth tells no exponent"),
        (([0.6, 0.4], [10, 100], np.zeros((2, 2))), "increasing"),
        (([0.4, 0.6], [10, 100], np.zeros((2, 3))), "shape"),
        (([0.4, 0.6], [10, 100], np.full((2, 2), np.inf)), "finite"),
        (([0.4, 0.6], [10, 100], np.array([[0.0, 1], [0, 2]])), "grows"),
        (([0.4, 0.6], [10, 100], np.array([[0.0, -1], [0, -2]])), "falls"),
    ],
)
def test_what_tells_no_exponent_is_refused(arguments, words):
    with pytest.raises(SpecError, match=words):
        fit_critical_exponent(*arguments)


def test_unknown_names_and_numbers_are_refused():
    with pytest.raises(SpecError, match="hurst"):
        critical_exponent(1.2)
    with pytest.raises(SpecError, match="quantity"):
        critical_exponent(0.5, "norm")
    with pytest.raises(SpecError, match="block"):
        critical_exponent(0.5, block="plain")
    with pytest.raises(SpecError, match="hurst"):
        local_exponent(0.0, 10)
    with pytest.raises(SpecError, match="depth"):
        local_exponent(0.5, 0)
    with pytest.raises(SpecError, match="quantity"):
        contour_exponent(FractionalGaussianNoise(hurst=0.5), 10, "norm")
    with pytest.raises(SpecError, match="at no beta between 0 and 3"):
        contour_exponent(GivenCovariance(matrix=[1e-30, 0.0, 0.0]), 3)
