"""Networks of several depths on one path come together, at the rates that theory says."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import norm

from analysis.theory import limit_equation, linear_strong_mean_square, measured_order
from sigprop import coupling
from sigprop.coupling import strong_error
from sigprop.errors import NonFinite, SpecError
from sigprop.inputs import Pair, Point
from sigprop.processes import FractionalGaussianNoise, Matern, Rbf, Tied
from sigprop.schemes import Power
from sigprop.spec import Ensemble, Network
from tests.stat import ALPHA, assert_agrees


def law(beta, block="res1", activation="tanh", depth=512, width=8, inputs=None, **scheme):
    network = Network(depth=depth, width=width, block=block, activation=activation)
    return Ensemble(network, Power(beta=beta, **scheme), inputs or Point())


def test_linear_networks_are_as_far_apart_as_pythagoras_says():
    """Exact at every width, and for the squares of all depths."""
    fine, depths = 256, (1, 4, 16, 64)
    result = strong_error(law(0.5, activation="linear", depth=fine, width=16), depths, replicas=300)
    square = result.replica_last_error.values[:, :, 0] ** 2
    truth = [linear_strong_mean_square(depth, fine)[-1] for depth in depths]
    se = square.std(axis=0) / math.sqrt(300) / truth
    assert_agrees(square.mean(axis=0) / truth, 1.0, se, resolution=0.5)


BRANCHES = {
    "brownian tanh": law(0.5),
    "brownian relu": law(0.5, activation="relu"),
    "brownian linear": law(0.5, activation="linear"),
    "brownian, smooth inside": law(0.5, "res3", "relu", inner_process=Rbf(bandwidth=1.0)),
    "rbf tanh": law(1.0, process=Rbf(bandwidth=0.2)),
    "rbf relu": law(1.0, "res3", "relu", process=Rbf(bandwidth=0.2)),
    "matern": law(1.0, process=Matern(smoothness=1.5, bandwidth=0.2)),
    "tied": law(1.0, activation="relu", process=Tied()),
    "fractional": law(
        0.75, activation="linear", width=1, process=FractionalGaussianNoise(hurst=0.75)
    ),
}


@pytest.mark.parametrize("case", BRANCHES)
def test_the_order_on_one_path_is_that_of_the_limit(case):
    """1/2, 1 and 2H - 1; an order that is off by 0.25 would be seen.

    The largest of few distances is smaller than that of many, and small depths have not
    reached their limit: that bends the line by no more than 0.05.
    """
    ensemble = BRANCHES[case]
    replicas = 250 if case.startswith("brownian") else 80
    replicas = 1000 if case == "fractional" else replicas
    result = strong_error(ensemble, (8, 16, 32, 64), replicas=replicas)
    order = limit_equation(ensemble).order
    for variable in ("error", "last_error"):
        fit = measured_order(result, variable)
        chance = norm.isf(ALPHA / 4) * fit.order_se
        assert 2 * chance + 0.05 < 0.25, f"underpowered: {fit}"
        assert abs(fit.order - order) < chance + 0.05, f"{fit.order:.3f}, not {order}: {fit}"


def test_paths_that_are_not_shared_do_not_come_together(monkeypatch):
    """The order is a matter of the coupling: read every depth off a path of its own."""
    shared = coupling.coupled_weights

    def apart(path, process, depth):
        unit = shared(path, process, depth)
        return unit if depth == 256 else np.roll(unit, 1, axis=0)  # another replica's path

    monkeypatch.setattr(coupling, "coupled_weights", apart)
    result = strong_error(law(0.5, depth=256), (8, 16, 32), replicas=40)
    with pytest.raises(SpecError, match="do not come together"):
        measured_order(result)


def test_more_replicas_extend_fewer_and_other_depths_meet_the_same_paths():
    ensemble = law(0.5, depth=64, inputs=Pair())
    few = strong_error(ensemble, (4, 16), replicas=5)
    many = strong_error(ensemble, (2, 16), replicas=9)
    assert few.replica_error.dims == ("replica", "depth", "input")
    np.testing.assert_array_equal(
        many.replica_error.values[:5, 1], few.replica_error.values[:, 1], strict=True
    )
    other = strong_error(ensemble, (4, 16), replicas=5, seed=1)
    assert not np.any(other.replica_error.values == few.replica_error.values)
    assert np.all(few.replica_error.values >= few.replica_last_error.values)


def test_groups_of_replicas_change_no_number(monkeypatch):
    ensemble = law(1.0, "res3", "relu", depth=64, process=Rbf(bandwidth=0.2))
    whole = strong_error(ensemble, (4, 16), replicas=7)
    monkeypatch.setattr(coupling, "_GROUP_BYTES", 3 * coupling._path_bytes(ensemble))
    parts = strong_error(ensemble, (4, 16), replicas=7)
    np.testing.assert_array_equal(parts.replica_error.values, whole.replica_error.values)


def test_a_result_says_how_it_was_made_and_bounds_its_estimates():
    ensemble = law(0.5, depth=64)
    result = strong_error(ensemble, (4, 16), replicas=50)
    assert result.attrs["digest"] == ensemble.digest and result.attrs["fine_depth"] == 64
    assert all({"long_name", "units"} <= v.attrs.keys() for v in result.data_vars.values())
    errors = result.replica_error.values
    np.testing.assert_allclose(result.error_mean.values, errors.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(
        result.error_mean_se.values, errors.std(axis=0, ddof=1) / math.sqrt(50), rtol=1e-14
    )
    # Of a mean square m with error s, the root has error s / (2 sqrt(m)).
    square = errors**2
    np.testing.assert_allclose(
        result.error_root_mean_square_se.values * 2 * np.sqrt(square.mean(axis=0)),
        square.std(axis=0, ddof=1) / math.sqrt(50),
        rtol=1e-13,
    )


def test_a_network_that_overflows_is_an_error_and_not_a_number():
    explosive = law(0.5, depth=64, width=2)
    loud = dataclasses.replace(explosive.scheme, skip=1.0)
    network = dataclasses.replace(explosive.network, activation=_cubic())
    with pytest.raises(NonFinite, match="overflow"):
        strong_error(Ensemble(network, loud, Point()), (4, 16), replicas=100)


def _cubic():
    from sigprop.activations import function

    return function("cubic_for_coupling", cubic)


def cubic(u):
    return 30.0 * u * u * u
