"""The plain sentence says what happened, in every regime, from the numbers alone."""

import numpy as np
import pytest

from sigprop.sentence import sentence
from tests.synthetic import result, trace


def test_zero_branches_are_called_the_identity():
    said = sentence(result(spread=0.0))
    assert said.startswith(
        "The signal is the identity at initialisation: norm, gradient and the angle between "
        "inputs are all preserved;"
    )
    assert "Warning" not in said


def test_the_identity_claims_only_what_was_measured():
    measured = result(spread=0.0)
    kept = [name for name in measured if "gradient" not in name and "cosine" not in name]
    said = sentence(measured[kept])
    assert "identity at initialisation: norm is preserved" in said
    assert "gradient" not in said and "angle" not in said


def test_a_gradient_that_moves_is_not_part_of_the_identity():
    traces = trace(spread=0.0)
    traces["gradient"] = traces["gradient"] - 1.0
    traces["gradient"][:, -1] = 0.0
    said = sentence(result(traces))
    assert "norm and the angle between inputs are both preserved" in said


def test_a_small_change_is_preserved_within_its_size_and_error():
    said = sentence(result(log_rate=0.0002, spread=0.05, seed=3))
    assert said.startswith("Norm and gradient are both preserved within ")
    assert "on average" in said and "%" in said


@pytest.mark.parametrize(("rate", "verb"), [(0.3, "grows"), (-0.3, "vanishes")])
def test_an_exponential_is_told_by_its_rate(rate, verb):
    said = sentence(result(log_rate=rate, spread=0.2)).lower()
    assert f"the norm {verb} like e^{rate:g} per layer (a factor 10^{'-' * (rate < 0)}13" in said


def test_the_gradient_is_judged_where_it_arrives():
    said = sentence(result(log_rate=0.0, gradient_rate=-0.2, spread=0.05))
    # gradient_rate is of the walk that ends at the top, so it is read at layer 0
    assert "the gradient, followed back to the input, vanishes like e^-0.2 per layer" in said
    assert "the norm is preserved" in said.lower()


def test_a_change_that_is_not_at_one_rate_is_not_called_exponential():
    traces = trace(spread=0.05)
    layer = traces["layers"]
    traces["norm"] = traces["norm"] + 6 * np.sqrt(layer / layer[-1])[None, :, None]
    said = sentence(result(traces))
    assert "The norm grows, though not at one rate" in said


def test_a_moderate_factor_is_of_order_one():
    assert "stays of order one: typically 2.7" in sentence(result(log_rate=0.01, spread=0.1))


def test_networks_that_differ_widely_are_told():
    assert "networks differ around it by a factor e^2" in sentence(result(spread=2.0))


@pytest.mark.parametrize(
    ("cosine", "verb"),
    [
        ((0.5, 0.5), "is preserved"),
        ((0.5, 0.99), "collapses (cosine 0.5 to 0.99)"),
        ((0.5, 0.5), "is preserved (cosine 0.5 to 0.5)"),
        ((0.5, 0.7), "narrows (cosine 0.5 to 0.7)"),
        ((0.5, 0.2), "spreads (cosine 0.5 to 0.2)"),
    ],
)
def test_what_becomes_of_the_angle(cosine, verb):
    assert f"the angle between inputs {verb}" in sentence(result(cosine=cosine))


def test_a_change_of_the_angle_within_its_error_is_no_change():
    measured = result(cosine=(0.5, 0.53), replicas=400)
    measured["cosine_mean_se"] = measured.cosine_mean_se * 0 + 0.02
    said = sentence(measured)
    assert "angle between inputs changes by less than can be told from chance" in said
    assert "(cosine 0.5 to 0.53 ± 0.02)" in said
    measured["cosine_mean_se"] = measured.cosine_mean_se * 0 + 0.001
    assert "the angle between inputs narrows (cosine 0.5 to 0.53)" in sentence(measured)


def test_dead_networks_are_counted():
    assert "25% of the networks are dead" in sentence(result(dead=0.25))


def test_when_every_network_is_dead_no_rate_is_invented():
    said = sentence(result(dead=1.0))
    assert "The norm is exactly 0 in every network at the far end" in said
    assert "nan" not in said and "Warning: E|h|" not in said


def test_dead_branches_alone_are_told_as_such():
    measured = result()
    measured["dead_layers_mean"] = measured.dead_layers_mean + 0.3
    assert "a network has 0.3 dead branches on average" in sentence(measured)


def test_a_moment_that_few_replicas_carry_is_warned_of():
    said = sentence(result(spread=2.5))
    assert "Warning: E|h|^1 rests on" in said and "effective replicas of 400" in said
    assert "Warning" not in sentence(result(spread=0.1))


def test_a_heavy_tail_says_which_moments_exist():
    measured = result(spread=0.1)
    heavy = '"law": {"kind": "student_t", "dof": 1.5}'
    measured.attrs["ensemble"] = measured.attrs["ensemble"].replace(
        '"law": {"kind": "gaussian"}', heavy
    )
    assert "order below 1.5 exist" in sentence(measured)


def test_nothing_to_judge_is_said_and_is_no_error():
    measured = result()
    assert "nothing was observed" in sentence(measured[["activity_mean"]]).lower()


def test_a_moment_that_every_network_shares_needs_no_warning():
    assert "Warning" not in sentence(result(spread=0.0, replicas=20))
    assert "Warning: E|h|^1 rests on" in sentence(result(spread=0.2, replicas=20))


def test_a_cosine_close_to_one_is_told_by_its_distance():
    measured = result(cosine=(0.5, 0.99))
    measured["cosine_mean"] = measured.cosine_mean.where(measured.layer < 100, 1 - 2e-5)
    assert "collapses (cosine 0.5 to 1 - 2.0e-05)" in sentence(measured)
