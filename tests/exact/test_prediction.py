"""What theory says carries the names, dimensions and coordinates of what is measured."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
import xarray as xr

import sigprop
from analysis import theory
from analysis.compare import compare
from analysis.prediction import STATUSES, Prediction, predict, predictions
from analysis.theory import log_normal
from analysis.theory.mean_field import mean_field
from analysis.theory.wide_kernels import infinite_width_gram
from sigprop.errors import SpecError, UnknownName, Unsupported
from sigprop.inputs import Given, Pair, Point
from sigprop.laws import StudentT
from sigprop.schemes import He, Power
from sigprop.spec import Ensemble, Network
from tests.ensembles import uneven
from tests.stat import ALPHA

POWER = Power(beta=0.5)
GIVEN = Given([[1.0, 2.0, 0.0, 1.0], [0.5, -1.0, 3.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
LAWS = {
    "pair": uneven("res3", inputs=Pair()),
    "point": uneven("inner", inputs=Point()),
    "given with biases": uneven("res3", bias_variance=0.3, inputs=GIVEN),
    "plain": uneven("plain"),
    "res1": uneven("res1", "linear", inputs=Pair(cosine=-0.2)),
    "heavy": uneven("res3", law=StudentT(dof=3.0)),
}
every_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)


@pytest.fixture
def register():
    """Register predictions for one test."""
    before = dict(predictions._members)
    yield predictions.register
    predictions._members.clear()
    predictions._members.update(before)


@pytest.mark.parametrize("module", ["prediction", "design", "fit", "gaussianity"])
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"analysis.{module}"))
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize("name", list(predictions))
def test_a_prediction_says_what_it_is_and_how_far_to_trust_it(name):
    prediction = predictions[name]()
    assert prediction.kind == name and prediction.status in STATUSES
    assert prediction.axis in ("input", "pair", "")
    assert prediction.assumptions and prediction.source
    assert (prediction.side in ("upper", "lower")) == (prediction.status == "bound")
    assert (prediction.orders is not None) == prediction.variable.endswith("_moment_log")


@every_law
def test_a_prediction_has_the_names_and_coordinates_of_a_result(law):
    result = sigprop.simulate(law, replicas=3, sampler="reference")
    prediction = predict(law)
    estimates = [v for v in prediction if f"{v}_slack" in prediction]
    assert estimates
    for name in estimates:
        for part in (name, f"{name}_slack", f"{name}_spread"):
            if part in prediction:
                assert prediction[part].dims == result[name].dims, part
                assert prediction[part].attrs["long_name"] and prediction[part].attrs["units"]
        assert prediction[name].attrs["units"] == result[name].attrs["units"]
    xr.testing.assert_identical(
        result.coords.to_dataset()[sorted(prediction.coords)].drop_attrs(),
        prediction.coords.to_dataset()[sorted(prediction.coords)].drop_attrs(),
    )
    assert prediction.attrs["ensemble"] == result.attrs["ensemble"]


def test_the_values_are_those_of_the_theory_for_every_input_and_order():
    law = LAWS["given with biases"]
    found = predict(law, orders=(1, 2, 4))
    for index in range(3):
        square = theory.log_mean_square(law, index)
        spread = np.sqrt(theory.relative_variance(law, index))
        moment = found.norm_moment_log.sel(input=index)
        np.testing.assert_array_equal(moment.sel(order=2), square)
        np.testing.assert_allclose(moment.sel(order=4), theory.log_fourth_moment(law, index))
        assert np.isnan(moment.sel(order=1)).all()
        one = found.norm_moment_log_spread.sel(input=index)
        np.testing.assert_array_equal(one.sel(order=2), spread)
        np.testing.assert_array_equal(
            found.displacement_moment_log.sel(input=index, order=2),
            theory.log_displacement_mean_square(law, index),
        )
    gradient = found.gradient_moment_log
    np.testing.assert_array_equal(gradient[1, :, 2], theory.log_gradient_mean_square(law))
    np.testing.assert_allclose(gradient[2, :, 2], theory.log_gradient_fourth_moment(law))
    back = found.gradient_displacement_moment_log[1, :, 1]
    np.testing.assert_array_equal(back, theory.log_gradient_displacement_mean_square(law))
    assert (found.norm_moment_log_slack.sel(order=2) == 0).all()
    # The three inputs differ in norm, which matters beside a bias.
    assert np.ptp(found.norm_moment_log.sel(order=2, layer=4).values) > 0.01


def test_a_law_without_fourth_moments_keeps_its_mean_square_without_a_spread():
    found = predict(LAWS["heavy"], orders=(2,))
    assert np.isfinite(found.norm_moment_log).all()
    assert "norm_moment_log_spread" not in found


def test_the_spread_of_dead_layers_is_that_of_the_time_of_death():
    law = LAWS["plain"]
    p = np.diff(theory.dead_probability(law))  # of dying at layer 1, 2, ..
    found = predict(law)
    for layer in range(1, 5):
        count = np.array([layer - k for k in range(layer)])  # dead layers, by time of death
        mean = (p[:layer] * count).sum()
        variance = (p[:layer] * count**2).sum() - mean**2
        at = found.sel(layer=layer, input=0)
        np.testing.assert_allclose(at.dead_layers_mean, mean)
        np.testing.assert_allclose(at.dead_layers_mean_spread, np.sqrt(variance))
        dead = p[:layer].sum()
        np.testing.assert_allclose(at.norm_zero_fraction, dead)
        np.testing.assert_allclose(at.norm_zero_fraction_spread, np.sqrt(dead * (1 - dead)))


def test_dead_branches_of_a_residual_net_are_independent():
    law = LAWS["pair"]
    p = np.diff(theory.expected_dead_layers(law))
    found = predict(law).dead_layers_mean_spread[:, 0]
    np.testing.assert_allclose(found[1:], np.sqrt(np.cumsum(p * (1 - p))))


def test_units_off_the_trunk_are_on_half_of_the_time():
    law = LAWS["pair"]
    found = predict(law)
    assert np.isnan(found.activity_mean[0]).all() and (found.activity_mean[1:] == 0.5).all()
    units = law.network.fans[1][:, 0]
    np.testing.assert_allclose(found.activity_mean_spread[1:, 0], 0.5 / np.sqrt(units))
    assert "activity_mean" not in predict(uneven("inner"))  # a layer behind a dead one is off
    assert "activity_mean" not in predict(LAWS["plain"])


# ------------------------------------------------------------------ which one is taken


class Constant(Prediction):
    """A number at every layer."""

    variable, status = "log_norm_mean", "conjecture"
    assumptions, source = "none", "none"
    number = 1.0

    def value(self, ensemble, index, order):
        return np.full(ensemble.network.depth + 1, self.number + index)


def test_the_strongest_prediction_wins_and_the_others_go_by_name(register):
    for name, status, number in (
        ("weak", "conjecture", 1.0),
        ("firm", "limit", 2.0),
        ("one-sided", "bound", 3.0),
    ):
        body = {"status": status, "number": number, "variable": "log_norm_median"}
        register(name)(type("New", (Constant,), body))
    law = LAWS["point"]
    found = predict(law).log_norm_median
    assert (found == 2.0).all() and found.attrs["status"] == "limit"
    assert found.attrs["prediction"] == "firm"
    assert (predict(law, names=["weak"]).log_norm_median == 1.0).all()
    assert "norm_moment_log" in predict(law, names=["weak", "mean_square"])


def test_orders_are_filled_each_by_the_strongest_that_knows_it(register):
    body = {"variable": "displacement_moment_log", "orders": ()}
    register("every order")(type("New", (Constant,), body))
    found = predict(LAWS["pair"], orders=(1, 2)).displacement_moment_log
    assert found.attrs["status"] == ["conjecture", "exact"]
    assert found.attrs["prediction"] == ["every order", "displacement_mean_square"]
    assert (found.sel(order=1, input=0) == 1.0).all()
    assert found.sel(order=2, layer=0, input=0) == -np.inf
    norm = predict(LAWS["pair"], orders=(1, 2)).norm_moment_log
    assert norm.attrs["status"] == "exact"
    assert norm.attrs["prediction"] == ["norm_moment", "mean_square"]


def test_inputs_at_random_directions_are_computed_once(register):
    body = {"variable": "log_norm_median"}
    register("by index")(type("New", (Constant,), body))
    alike = predict(LAWS["pair"]).log_norm_median
    apart = predict(LAWS["given with biases"]).log_norm_median
    assert (alike == 1.0).all()
    assert apart.isel(layer=0).values.tolist() == [1.0, 2.0, 3.0]


def test_pairs_have_their_coordinate(register):
    body = {"variable": "cosine_mean", "axis": "pair"}
    register("cosine")(type("New", (Constant,), body))
    found = predict(LAWS["given with biases"], names=["cosine"]).cosine_mean
    assert found.dims == ("layer", "pair") and found.pair.values.tolist() == ["0-1", "0-2", "1-2"]
    assert found[0].values.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(Unsupported, match="there is one input"):
        predict(LAWS["point"], names=["cosine"])


def test_a_variable_of_the_whole_network_has_no_last_dimension(register):
    register("rank")(type("New", (Constant,), {"variable": "effective_rank_mean", "axis": ""}))
    found = predict(LAWS["pair"], names=["rank"]).effective_rank_mean
    assert found.dims == ("layer",) and (found == 1.0).all()


# -------------------------------------------------------------------------- refusals


def test_layers_are_selected_sorted_and_checked():
    law = LAWS["pair"]
    found = predict(law, [3, 1, 3])
    assert found.layer.values.tolist() == [1, 3]
    np.testing.assert_array_equal(
        found.norm_moment_log, predict(law).norm_moment_log.sel(layer=[1, 3])
    )
    with pytest.raises(SpecError, match="layer 5, but the network has"):
        predict(law, [5])
    with pytest.raises(SpecError, match="at least 0"):
        predict(law, [-1])


def test_where_no_theory_applies_the_reasons_are_told_once():
    heavy = He(law=StudentT(dof=1.5))
    law = Ensemble(Network(depth=3, width=4, block="preact"), heavy, Pair())
    with pytest.raises(Unsupported) as caught:
        predict(law, variables=["norm_moment_log", "displacement_moment_log"])
    said = str(caught.value)
    assert said.startswith("no theory applies to what was asked.")
    assert said.count("no variance") == 1
    with pytest.raises(Unsupported, match="no theory applies"):
        predict(LAWS["pair"], variables=["log_norm_quantile"])


def test_an_unknown_name_is_answered_by_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'mean_square'"):
        predict(LAWS["pair"], names=["mean_sqare"])


def test_weights_correlated_along_depth_are_refused_by_what_needs_independence():
    law = Ensemble(Network(depth=4, width=5), Power(beta=0.5, process="tied"), Pair())
    with pytest.raises(Unsupported, match="independent from layer to layer"):
        predict(law, names=["mean_square"])
    found = [name for name in predictions if not predictions[name].correlated]
    with pytest.raises(Unsupported):
        predict(law, names=found)


def test_depth_beyond_the_square_cost_leaves_one_spread_out():
    law = Ensemble(Network(depth=3500, width=10), He(), Point())
    names = ["gradient_displacement_mean_square"]
    found = predict(law, [0, 3500], names=names)
    assert "gradient_displacement_moment_log_spread" not in found
    assert "gradient_displacement_moment_log" in found


# -------------------------------------------------------------------- the members


def test_the_random_walk_gives_log_norms_and_every_moment_of_gaussian_nets():
    law = LAWS["pair"]
    found = predict(law, orders=(1, 2, 3.5))
    for name, mean, variance, kurtosis in (
        ("norm", "log_norm_mean", "log_norm_variance", "log_norm_kurtosis"),
        ("gradient", "log_gradient_mean", "log_gradient_variance", "log_gradient_kurtosis"),
    ):
        expected = {v: getattr(log_normal, v)(law) for v in (mean, variance, kurtosis)}
        for variable, values in expected.items():
            assert found[variable].attrs["status"] == "exact"
            np.testing.assert_array_equal(found[variable][:, 1], values)
        np.testing.assert_allclose(found[f"{mean}_spread"][:, 0], np.sqrt(expected[variance]))
        relative = found[f"{variance}_spread"][:, 0]
        moving = expected[variance] > 0
        np.testing.assert_allclose(relative[moving], np.sqrt(2 + expected[kurtosis][moving]))
        assert (relative[~moving] == 0).all()
        moment = found[f"{name}_moment_log"]
        assert moment.attrs["status"] == "exact" and np.isfinite(moment).all()
        at = moment.sel(order=3.5)[:, 0]
        np.testing.assert_array_equal(at, getattr(log_normal, f"log_{name}_moment")(law, 3.5))
        one = found[f"{name}_moment_log_spread"].sel(order=1.0)[:, 0]
        variance_of_one = getattr(log_normal, f"{name}_moment_relative_variance")(law, 1.0)
        np.testing.assert_allclose(one, np.sqrt(variance_of_one))


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize(("width", "depth", "beta"), [(3, 40, 0.5), (30, 20, 0.25), (8, 10, 0.0)])
def test_the_slack_of_the_log_normal_limit_covers_what_is_exact(activation, width, depth, beta):
    """And is no more than 30 times too large, where it is not 0."""
    law = Ensemble(Network(depth=depth, width=width, activation=activation), Power(beta=beta))
    names = [name for name in predictions if name.endswith("_limit")]
    limit, exact = predict(law, names=names), predict(law)
    for name in ("log_norm_mean", "log_norm_variance", "log_gradient_mean",
                 "log_gradient_variance", "norm_moment_log", "gradient_moment_log"):  # fmt: skip
        assert limit[name].attrs["status"] == "limit"
        error = np.abs(limit[name] - exact[name]).values
        slack = limit[f"{name}_slack"].values
        assert (error <= slack + 1e-12).all(), name
        assert (slack <= 30 * error + 1e-12).any(), name


def test_the_spread_of_the_log_normal_limit_is_for_planning_only():
    law = Ensemble(Network(depth=100, width=30), Power(beta=0.5, law="uniform"), Point())
    found = predict(law)
    assert found.log_norm_mean.attrs["status"] == "limit"
    assert found.log_norm_mean.attrs["spread_status"] == "approximate"
    exact = predict(Ensemble(law.network, POWER, Point()))
    for name in ("log_norm_mean", "log_norm_variance", "norm_moment_log"):
        ratio = found[f"{name}_spread"] / exact[f"{name}_spread"]
        assert abs(float(ratio[..., -1, 0].max()) - 1) < 0.05, name


def test_weights_correlated_along_depth_are_followed_at_infinite_width():
    law = Ensemble(Network(depth=30, width=50), Power(beta=0.75, process="tied"), Pair())
    found, field = predict(law, orders=(2,)), mean_field(law)
    for name, values in (
        ("norm_moment_log", field.log_mean_square),
        ("displacement_moment_log", field.log_displacement_mean_square),
        ("gradient_moment_log", field.log_gradient_mean_square),
        ("gradient_displacement_moment_log", field.log_gradient_displacement_mean_square),
    ):
        assert found[name].attrs["status"] == "limit"
        np.testing.assert_array_equal(found[name][0, :, 1], values)
        slack = found[f"{name}_slack"][0, :, 0]
        start = -1 if name.startswith("gradient") else 0
        assert slack[start] == 0 and (np.delete(slack.values, start) > 0).all()
        # Of the order of 1/width, and smaller for a norm than for its displacement.
        wide = Ensemble(Network(depth=30, width=500), law.scheme, Pair())
        np.testing.assert_allclose(predict(wide, orders=(2,))[f"{name}_slack"][0, :, 0], slack / 10)
    assert (found.norm_moment_log_slack < found.displacement_moment_log_slack)[0, 1:].all()
    with pytest.raises(Unsupported, match="minutes at depth 20000"):
        deep = Ensemble(Network(depth=20_000, width=50), law.scheme, Pair())
        predict(deep, names=["mean_field"])


def test_the_slack_of_the_mean_field_is_the_one_that_is_stated():
    law = Ensemble(Network(depth=30, width=50), Power(beta=0.75, process="tied"), Point())
    found, field = predict(law, orders=(2,)), mean_field(law)
    whole, moved = field.log_mean_square, np.exp(field.log_displacement_mean_square)
    slack = 4 * (1 + whole[1:]) / 50
    np.testing.assert_allclose(found.displacement_moment_log_slack[0, 1:, 0], slack)
    apart = 2 * np.log1p(0.5 * 30**-1.5) * np.arange(1, 31) / 50
    moved = moved[1:]
    expected = (slack * moved + apart) / (1 + moved)
    np.testing.assert_allclose(found.norm_moment_log_slack[0, 1:, 0], expected)


def test_where_the_mean_field_is_exact_it_has_no_slack():
    law = Ensemble(Network(depth=9, width=5), POWER, Point())
    limit, exact = predict(law, names=["mean_field"]), predict(law, names=["mean_square"])
    np.testing.assert_allclose(limit.norm_moment_log[1], exact.norm_moment_log[1], rtol=1e-9)
    assert (limit.norm_moment_log_slack[1] == 0).all()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_products_of_states_give_norms_cosines_and_distances(activation):
    network = Network(depth=6, width=40, activation=activation)
    law = Ensemble(network, POWER, Pair(cosine=-0.3))
    names = ["kernel_norm", "kernel_displacement", "kernel_cosine", "kernel_distance"]
    found, gram = predict(law, names=names, orders=(2,)), infinite_width_gram(law)
    one, other, product = gram[:, 0, 0], gram[:, 1, 1], gram[:, 0, 1]
    at = {name: found[name].values.reshape(7, -1)[:, 0] for name in (
        "norm_moment_log", "displacement_moment_log", "cosine_mean", "distance_moment_log")
    }  # fmt: skip
    np.testing.assert_allclose(np.exp(at["norm_moment_log"]), one / one[0])
    np.testing.assert_allclose(np.exp(at["displacement_moment_log"]), one / one[0] - 1, atol=1e-15)
    np.testing.assert_allclose(at["cosine_mean"], product / np.sqrt(one * other))
    apart = one + other - 2 * product
    np.testing.assert_allclose(np.exp(at["distance_moment_log"]), apart / apart[0])
    assert at["cosine_mean"][0] == pytest.approx(-0.3)
    added = np.log(one / one[0])  # T, the skip coefficients being 1
    np.testing.assert_allclose(found.cosine_mean_slack[:, 0], 1.5 * added / 40, atol=1e-15)
    np.testing.assert_allclose(found.norm_moment_log_slack[0, :, 0], added / 40, atol=1e-15)
    if activation == "relu":
        mapped = predict(law, names=["correlation_map"])
        np.testing.assert_allclose(mapped.cosine_mean, found.cosine_mean)
        np.testing.assert_allclose(mapped.cosine_mean_slack, found.cosine_mean_slack, atol=1e-15)


def test_unlike_inputs_are_told_apart_and_a_changed_trunk_is_left_alone():
    law = LAWS["given with biases"]
    gram = infinite_width_gram(law)
    found = predict(law, names=["kernel_cosine", "kernel_norm"], orders=(2,))
    for at, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
        expected = gram[:, i, j] / np.sqrt(gram[:, i, i] * gram[:, j, j])
        np.testing.assert_allclose(found.cosine_mean[:, at], expected)
    squares = np.einsum("lii->li", gram)
    np.testing.assert_allclose(np.exp(found.norm_moment_log[0]), squares / squares[0])
    with pytest.raises(Unsupported, match="skip coefficients of 1"):
        predict(law, names=["kernel_displacement"])


def test_several_given_inputs_have_their_own_cosines():
    network = Network(depth=3, width=4)
    law = Ensemble(network, POWER, GIVEN)
    found = predict(law).cosine_mean
    rows = np.array(GIVEN.vectors)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(found[0], [unit[0] @ unit[1], unit[0] @ unit[2], unit[1] @ unit[2]])
    assert found.attrs["prediction"] == "correlation_map"


def test_long_computations_are_left_to_the_caller():
    law = Ensemble(Network(depth=500, width=9, activation="tanh"), POWER, Pair())
    assert "cosine_mean" not in predict(law)  # 500 double integrals
    assert "norm_moment_log" in predict(law)


LIMITS = {
    "tanh": Ensemble(Network(depth=20, width=20, activation="tanh"), POWER, Pair()),
    "relu on the trunk": Ensemble(Network(depth=30, width=20, block="res1"), POWER, Pair()),
    "coins": Ensemble(Network(depth=30, width=10), Power(beta=0.5, law="rademacher"), Pair()),
    "plain": Ensemble(Network(depth=6, width=20, block="plain"), He(), Pair(cosine=-0.5)),
    "tied": Ensemble(
        Network(depth=10, width=12, block="res1", activation="linear"),
        Power(beta=1.0, process="tied"),
        Point(),
    ),
}


@pytest.mark.parametrize("law", LIMITS.values(), ids=LIMITS)
def test_limits_hold_within_their_slack(law):
    """1000 networks see an error of 10% and more beyond the slack, and there is none."""
    result = sigprop.simulate(law, replicas=1000, seed=3)
    verdict = compare(result, family_error=ALPHA)
    assert "limit" in {c.status for c in verdict.comparisons}
    assert not verdict.of("disagree"), str(verdict)
