"""A user's Python function goes the same way as a built-in activation."""

import math

import numpy as np
import pytest
from scipy import special

import sigprop
from sigprop import activations
from sigprop.errors import SpecError
from sigprop.spec import Activation


def tangent(u):
    return math.tanh(u)


def tangent_slope(u):
    t = math.tanh(u)
    return 1.0 - t * t


def beyond_numba(u):
    return special.erf(u)


def measured(activation, inputs):
    network = sigprop.Network(depth=6, width=7, block="res3", activation=activation)
    law = sigprop.Ensemble(network, sigprop.LeCun(), inputs)
    return sigprop.simulate(law, replicas=40, coupled=True)


@pytest.mark.parametrize("inputs", [sigprop.Point(), sigprop.Pair(cosine=0.3)])
def test_a_function_of_the_user_gives_the_numbers_of_the_built_in_one(inputs):
    """On shared draws, forward and backward, to rounding."""
    if "tangent" not in Activation.family:
        activations.function("tangent", tangent, derivative=tangent_slope)
    mine, theirs = measured("tangent", inputs), measured("tanh", inputs)
    for name in ("log_norm_mean", "log_gradient_mean", "log_displacement_variance"):
        np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_function_that_cannot_be_compiled_is_one_clear_error():
    if "beyond_numba" not in Activation.family:
        activations.function("beyond_numba", beyond_numba)
    with pytest.raises(SpecError, match="cannot be compiled by Numba"):
        measured("beyond_numba", sigprop.Point())
