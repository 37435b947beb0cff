"""Inputs: lengths and angles as asked for, and nothing that would make a ratio 0/0."""

import math

import numpy as np
import pytest

from sigprop.backends import samplers
from sigprop.errors import SpecError
from sigprop.inputs import Equiangular, Given, Pair, Point
from sigprop.schemes import He
from sigprop.spec import Ensemble, Inputs, Network


@pytest.mark.parametrize("cosine", [-1.0, -0.3, 0.0, 0.5, 1 - 1e-12])
def test_a_pair_has_unit_lengths_and_its_cosine(cosine):
    frame = Pair(cosine=cosine).frame()
    np.testing.assert_allclose(frame @ frame.T, [[1, cosine], [cosine, 1]], rtol=1e-15)


def test_a_point_is_one_unit_vector():
    assert Point().count == 1
    np.testing.assert_array_equal(Point().frame(), [[1.0]])
    assert Point().array(5) is None and Pair().array(5) is None


def test_the_inputs_of_an_ensemble_are_a_pair_at_cosine_one_half_by_default():
    assert Ensemble(Network(depth=1, width=3), He()).inputs == Pair(cosine=0.5)


@pytest.mark.parametrize("cosine", [1.0, 1.5, -1.1, math.nan, "wide"])
def test_a_cosine_that_is_none_of_two_inputs_is_refused(cosine):
    with pytest.raises(SpecError, match="cosine must be"):
        Pair(cosine=cosine)


def test_a_pair_needs_a_plane():
    with pytest.raises(SpecError, match="at least 2"):
        Ensemble(Network(depth=1, width=1), He(), Pair())
    Ensemble(Network(depth=1, width=1), He(), Point())


@pytest.mark.parametrize(
    ("count", "cosine"),
    [(2, -1.0), (2, 0.3), (3, -0.5), (4, -1 / 3), (10, 0.75), (5, 0.0), (7, -0.1)],
)
def test_equiangular_inputs_have_unit_lengths_and_one_cosine(count, cosine):
    inputs = Equiangular(count=count, cosine=cosine)
    frame = inputs.frame()
    wanted = np.full((count, count), cosine)
    np.fill_diagonal(wanted, 1.0)
    np.testing.assert_allclose(frame @ frame.T, wanted, rtol=0, atol=1e-14)
    assert inputs.count == count and inputs.array(count) is None
    if count == 2:
        np.testing.assert_allclose(frame, Pair(cosine=cosine).frame(), atol=1e-15)


def test_equiangular_inputs_are_ten_at_the_cosine_of_uniform_data_by_default():
    assert Equiangular() == Equiangular(count=10, cosine=0.75)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"count": 1}, "count must be an integer of at least 2"),
        ({"count": 2.5}, "count must be"),
        ({"count": 3, "cosine": -0.51}, "cosine must be .* No 3 vectors"),
        ({"count": 3, "cosine": 1.0}, "cosine must be"),
    ],
)
def test_equiangular_inputs_that_cannot_be_are_refused(values, says):
    with pytest.raises(SpecError, match=says):
        Equiangular(**values)


def test_equiangular_inputs_need_a_direction_each():
    Ensemble(Network(depth=1, width=4), He(), Equiangular(count=4))
    with pytest.raises(SpecError, match="4 equiangular inputs need a width of at least 4, got 3"):
        Ensemble(Network(depth=1, width=3), He(), Equiangular(count=4))


@pytest.mark.parametrize("sampler", ["reference", "conditional", "dense"])
def test_samplers_start_from_equiangular_inputs(sampler):
    law = Ensemble(Network(depth=1, width=5), He(), Equiangular(count=3, cosine=-0.4))
    fields = frozenset({"cosine"})
    key = np.array([1, 2], np.uint32)
    trace = samplers[sampler]().sample(law, fields, np.array([0, 1]), key, 0, 4)
    assert trace["cosine"].shape == (4, 2, 3)
    np.testing.assert_allclose(trace["cosine"][:, 0], -0.4, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, bool])
def test_given_vectors_are_kept_as_they_are(kind):
    table = np.array([[1, 0, 1], [0, 1, 1]], kind)
    inputs = Given(table)
    assert inputs.count == 2 and inputs.frame() is None
    np.testing.assert_array_equal(inputs.array(3), table.astype(float))
    assert Inputs.from_dict(inputs.to_dict()) == inputs == Given(vectors=table.tolist())
    table[0, 0] = 0  # a later change of the caller's array changes nothing
    assert inputs.array(3)[0, 0] == 1.0
    hash(inputs)


def test_one_vector_is_one_input():
    assert Given([3.0, 4.0]) == Given([[3.0, 4.0]])


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, math.nan]], r"input 0 has nan at position 1"),
        ([[1.0, 2.0], [-math.inf, 1.0]], r"input 1 has -inf at position 0"),
        ([[1.0, 2.0], [0.0, 0.0]], r"input 1 has norm 0"),
        ([[1e200, 2.0]], r"input 0 has norm inf"),
        ([[1e-200, 0.0]], r"input 0 has norm 0"),
        ([[1.0, 2.0], [3.0, 1.0], [1.0, 2.0]], r"inputs 0 and 2 are equal"),
        ([[1.0, 2.0], [3.0]], "equal length"),
        ([["a", "b"]], "real numbers"),
        ([[1j, 2.0]], "real numbers"),
        (np.zeros((2, 2, 2)), "shape"),
        (np.zeros((0, 3)), "shape"),
        (1.0, "shape"),
    ],
)
def test_vectors_that_cannot_be_measured_are_refused(vectors, message):
    with pytest.raises(SpecError, match=message):
        Given(vectors)


def test_given_vectors_must_have_the_width_of_the_network():
    inputs = Given(np.eye(3))
    Ensemble(Network(depth=2, width=3), He(), inputs)
    Ensemble(Network(depth=2, widths=(3, 5, 4), block="plain"), He(), inputs)
    with pytest.raises(SpecError, match="3 numbers each, but the network reads 4"):
        Ensemble(Network(depth=2, width=4), He(), inputs)
