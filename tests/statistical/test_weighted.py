"""Moments that plain samples miss: tilted networks and splitting populations against the truth.

Where an estimator is unbiased its error is known from theory or from many independent runs; every
assertion fires by chance with probability 1e-6 (tests/stat.py).
"""

import json
import math

import numpy as np
import pytest
from scipy.special import gammaln

import sigprop
from analysis.theory import log_norm_moment
from sigprop import Ensemble, GivenScheme, He, Network, Point, rng
from sigprop.activations import LeakyReLU, RandomisedLeakyReLU
from sigprop.backends.population import Population, _estimate
from sigprop.backends.tilted import FIELDS, Tilted, _log_power, _tilted_counts
from sigprop.errors import SpecError, Unsupported
from sigprop.inputs import Given
from sigprop.layer_factor import LayerFactor
from tests.ensembles import uneven
from tests.stat import assert_agrees, assert_same_law


def weighted(ensemble, tilt, by, replicas, seed=0):
    """(log |h_l| / |h_0|, log weight) at every layer."""
    sampler = Tilted(tilt, by)
    assert sampler.refusal(ensemble, FIELDS) is None
    layers = np.arange(ensemble.network.depth + 1)
    key = rng.key(seed, ensemble.digest, f"tilted {by}", 1)
    parts = [
        sampler.sample(ensemble, FIELDS, layers, key, first, min(sampler.block, replicas - first))
        for first in range(0, replicas, sampler.block)
    ]
    return tuple(
        np.concatenate([part[name][..., 0] for part in parts])
        for name in ("log_tilted_norm", "log_weight")
    )


PLAIN = [
    ("chain", "relu"), ("chain", LeakyReLU(slope=0.3)), ("chain", LeakyReLU(slope=-1.6)),
    ("chain", "linear"), ("conditional", "relu"), ("conditional", RandomisedLeakyReLU(high=0.9)),
]  # fmt: skip


@pytest.mark.parametrize(("by", "phi"), PLAIN)
@pytest.mark.parametrize("tilt", [0.7, 2.0, 3.1])
def test_in_a_plain_net_the_moment_of_the_tilt_has_no_error_at_all(by, phi, tilt):
    ensemble = uneven("plain", phi, states=(3, 5, 1, 4, 3))
    log_norm, log_weight = weighted(ensemble, tilt, by, 300)
    truth = log_norm_moment(ensemble, tilt)
    np.testing.assert_allclose(tilt * log_norm + log_weight, np.tile(truth, (300, 1)), atol=1e-9)


@pytest.mark.parametrize(("by", "phi"), PLAIN)
def test_in_a_plain_net_other_moments_follow_the_closed_form(by, phi):
    """Their variance is known, E Q^(order - tilt/2) over its mean: errors come from theory."""
    widths, tilt = (3, 5, 4, 6, 3), 1.7
    ensemble = uneven("plain", phi, states=widths)
    log_norm, log_weight = weighted(ensemble, tilt, by, 30_000)
    layers = [LayerFactor.of(ensemble.network.phi, d) for d in widths[1:]]
    for order in (1.3, 2.0):
        weights = np.exp(order * log_norm[:, -1] + log_weight[:, -1])
        one = sum(f.log_moment(order / 2) for f in layers)
        square = sum(f.log_moment(order - tilt / 2) + f.log_moment(tilt / 2) for f in layers)
        se = math.sqrt(math.expm1(square - 2 * one) / len(weights))
        truth = math.exp(log_norm_moment(ensemble, order)[-1])
        assert_agrees(weights.mean() / truth, 1.0, se, resolution=0.08)


def test_the_tilted_law_of_a_layer_is_the_weighted_law():
    """Chain and conditional draw the same |h|, and plain networks weighted by |h|^theta do."""
    ensemble = uneven("plain", LeakyReLU(slope=0.3), states=(3, 4, 5, 3, 4))
    chain, _ = weighted(ensemble, 1.5, "chain", 40_000)
    vectors, _ = weighted(ensemble, 1.5, "conditional", 40_000, seed=1)
    assert_same_law(chain[:, -1], vectors[:, -1], resolution=0.04)
    free = sigprop.simulate(ensemble, "norm", replicas=200_000, keep=[4], layers=[4])
    x = free.replica_log_norm.values[:, 0, 0]
    generator = np.random.default_rng(5)
    kept = x[generator.random(len(x)) < np.exp(1.5 * (x - x.max()))]
    assert_same_law(chain[:, -1], kept, resolution=0.2)


RESIDUAL = [
    ("res3", "relu", "chain"), ("res3", "relu", "conditional"),
    ("res3", LeakyReLU(slope=0.3), "chain"), ("res3", LeakyReLU(slope=0.3), "conditional"),
    ("inner", "relu", "chain"), ("inner", "relu", "conditional"),
    ("res3", RandomisedLeakyReLU(high=0.9), "conditional"), ("res1", "linear", "conditional"),
]  # fmt: skip


@pytest.mark.parametrize(("block", "phi", "by"), RESIDUAL)
def test_tilted_residual_nets_give_the_closed_forms(block, phi, by):
    """Narrow branches, dead often, with coefficients of either sign (the atom must be hit)."""
    ensemble = uneven(block, phi, width=3, hidden=(1, 2, 1, 3))
    log_norm, log_weight = weighted(ensemble, 1.4, by, 40_000)
    for order in (1.0, 1.4, 2.0):
        log = order * log_norm + log_weight
        truth = log_norm_moment(ensemble, order)
        ratio = np.exp(log - truth)[:, 1:]
        se = ratio.std(axis=0) / math.sqrt(len(ratio))
        assert_agrees(ratio.mean(axis=0), 1.0, se, resolution=0.25)


def test_chain_and_conditional_tilts_of_res3_have_one_joint_law():
    ensemble = uneven("res3", "relu", width=3, hidden=(2, 4, 3, 2))
    one, other = (
        weighted(ensemble, 1.4, "chain", 30_000),
        weighted(ensemble, 1.4, "conditional", 30_000, 1),
    )
    for combine in ((1, 0), (0, 1), (1.4, 1), (2, 1)):
        a, b = (combine[0] * x[:, -1] + combine[1] * w[:, -1] for x, w in (one, other))
        assert_same_law(a, b, resolution=0.05)


def test_res1_remembers_and_is_still_tilted_exactly():
    """No closed form: the tilt against plain networks, in a net shallow enough for both."""
    ensemble = uneven("res1", "relu", width=4, inputs=Given(vectors=((0.3, -1.0, 2.0, 0.1),)))
    log_norm, log_weight = weighted(ensemble, 1.2, "conditional", 40_000)
    tilted = np.exp(2 * log_norm + log_weight)[:, 1:]
    free = sigprop.simulate(ensemble, "norm", replicas=200_000, seed=3)
    plain = np.exp(free.norm_moment_log.sel(order=2.0).values[1:, 0])
    error = free.norm_moment_log_se.sel(order=2.0).values[1:, 0]
    se = np.hypot(tilted.std(axis=0) / tilted.mean(axis=0) / 200, error)
    assert_agrees(tilted.mean(axis=0) / plain, 1.0, se, resolution=0.2)


def test_the_average_over_a_shifted_norm_is_the_hypergeometric_function():
    import mpmath

    for d, s in ((1, 0.3), (7, 0.7), (200, 1.0)):
        for odds in (1e-3, 0.7, 30.0, 9e3, 2e4, 1e8):
            half = mpmath.mpf(d) / 2
            with mpmath.workdps(40):
                true = mpmath.gamma(half + s) / mpmath.gamma(half)
                true = mpmath.log(true * mpmath.hyp1f1(-s, half, -mpmath.mpf(odds)))
            found = float(_log_power(np.array([odds]), d, s)[0])
            np.testing.assert_allclose(found, float(true), rtol=2e-11, atol=2e-11)


def test_tilted_counts_are_the_weighted_binomial():
    n = np.arange(1, 8)
    weight = np.array([math.comb(7, k) for k in n]) * np.exp(
        gammaln((n + 1.3) / 2) - gammaln(n / 2)
    )
    np.testing.assert_allclose(_tilted_counts(7, 1.3), np.cumsum(weight) / weight.sum(), rtol=1e-13)


# ------------------------------------------------------------------------------ populations


@pytest.mark.parametrize(
    ("ensemble", "order"),
    [
        (uneven("plain", "relu", states=(3, 5, 4, 6, 3)), 2.0),
        (uneven("res3", LeakyReLU(slope=0.3), width=3, hidden=(2, 4, 3, 2)), 1.3),
        (uneven("inner", "relu"), 1.0),
        (uneven("plain", "relu", states=(3, 5, 4, 6, 3), law="uniform"), 2.0),
    ],
    ids=["plain", "res3", "inner", "uniform weights"],
)
def test_populations_are_unbiased(ensemble, order):
    """Many populations of few networks, so that resampling happens and its bias would show."""
    replicas = 3000
    found = sigprop.simulate(ensemble, orders=[order], population=20, replicas=replicas)
    if order == 2.0:
        from analysis.theory import log_mean_square

        truth = log_mean_square(ensemble)
    else:
        truth = log_norm_moment(ensemble, order)
    ratio = np.exp(found.norm_moment_log.values[0, 1:, 0] - truth[1:])
    assert_agrees(ratio, 1.0, found.norm_moment_log_se.values[0, 1:, 0], resolution=0.3)


def test_the_error_of_a_deep_population_is_what_theory_says():
    """L Var(w) / N, and 1.2 times its root where copies are resampled late."""
    ensemble = Ensemble(Network(depth=120, width=40, block="plain"), He(), Point())
    factor = LayerFactor.of(ensemble.network.phi, 40)
    spread = math.exp(factor.log_moment(2.0) - 2 * factor.log_moment(1.0)) - 1
    expected = 1.2 * math.sqrt(120 * spread / 400)
    generator = np.random.default_rng(1)
    runs = [_estimate(ensemble, 2.0, 400, np.random.default_rng(generator.integers(2**60)))[-1]
            for _ in range(150)]  # fmt: skip
    ratio = np.exp(runs)
    assert_agrees(ratio.mean(), 1.0, expected / math.sqrt(150), resolution=0.35)
    # A standard deviation of 150 is known to 1 / sqrt(300), more where tails are heavy.
    assert_agrees(ratio.std() / expected, 1.0, 0.08, resolution=0.8)


def test_a_population_that_dies_estimates_zero_and_goes_on():
    ensemble = Ensemble(Network(depth=30, width=1, block="plain"), He(), Point())
    found = sigprop.simulate(ensemble, orders=[1.0], population=2, replicas=40)
    last = found.norm_moment_log.values[0, -1, 0]
    assert last < 5 and not np.isnan(found.norm_moment_log.values).any()


# --------------------------------------------------------- where the plain mean sees nothing

DEEP = Ensemble(Network(depth=1000, width=100, block="plain"), He(), Point())


def test_a_tilt_near_the_order_finds_the_mean_square_at_depth_1000():
    found = sigprop.estimate_moment(DEEP, 2.0, tilt=1.9, replicas=4096, layers=[1000])
    factor = LayerFactor.of(DEEP.network.phi, 100)
    square = factor.log_moment(2 - 0.95) + factor.log_moment(0.95)
    relative = math.expm1(1000 * (square - 2 * factor.log_moment(1.0)))
    se = math.sqrt(relative / 4096)
    estimate = math.exp(float(found.norm_moment_log[0, 0, 0]))
    assert_agrees(estimate, 1.0, se, resolution=0.07)
    assert 3000 < float(found.norm_moment_ess[0, 0, 0]) < 4096
    assert bool(found.norm_moment_reliable[0, 0, 0])


def test_the_plain_mean_fails_there_and_is_marked():
    found = sigprop.estimate_moment(DEEP, 2.0, method="plain", replicas=2000, layers=[1000])
    assert float(found.norm_moment_log[0, 0, 0]) < -1.5  # the truth is 0
    assert float(found.norm_moment_ess[0, 0, 0]) < 100
    assert not bool(found.norm_moment_reliable[0, 0, 0])


# --------------------------------------------------------------------- runs like any other

POST = Ensemble(Network(depth=2, width=6, block="identity"), He(), Point())


def test_a_weighted_run_extends_resumes_and_repeats_bit_for_bit(tmp_path):
    law = uneven("res3", "relu")
    for options in ({"tilt": 1.5}, {"population": 30, "orders": [1.0]}):
        whole = sigprop.simulate(law, replicas=2100 if "tilt" in options else 11, **options)
        out = tmp_path / f"{next(iter(options))}.nc"
        sigprop.simulate(law, replicas=1100 if "tilt" in options else 6, out=out, **options)
        more = sigprop.simulate(
            law, replicas=whole.attrs["replicas"], out=out, resume=True, workers=2, **options
        )
        np.testing.assert_array_equal(more.norm_moment_log, whole.norm_moment_log)
        from sigprop.simulate import arguments

        again = sigprop.simulate(law, **arguments(more))
        np.testing.assert_array_equal(again.norm_moment_log, whole.norm_moment_log)
        assert json.loads(more.attrs["sampler_options"])
        with pytest.raises(sigprop.errors.ResultError, match="cannot be resumed"):
            other = {"tilt": 1.4} if "tilt" in options else {"population": 31, "orders": [1.0]}
            sigprop.simulate(law, replicas=5000, out=out, resume=True, **other)


@pytest.mark.parametrize(
    ("law", "options", "says"),
    [
        (uneven("plain"), {"tilt": 0.0}, "tilt"),
        (uneven("plain"), {"tilt": 5.0}, "tilt"),
        (uneven("res3"), {"tilt": 2.5}, "at most 2"),
        (uneven("plain"), {"tilt": 1.0, "population": 10}, "one of the two"),
        (uneven("plain"), {"population": 10}, "one order"),
        (uneven("plain"), {"population": 10, "orders": [1.0, 2.0]}, "one order"),
        (uneven("plain"), {"population": 1, "orders": [1.0]}, "at least 2"),
        (uneven("plain", law="uniform"), {"tilt": 1.0}, "--population"),
        (uneven("res3", "tanh"), {"tilt": 1.0}, "homogeneous"),
        (uneven("res3", "relu", bias_variance=0.1), {"tilt": 1.0}, "biases"),
        (uneven("res1", "relu"), {"tilt": 1.0, "sampler": "chain"}, "conditional"),
        (uneven("plain"), {"tilt": 1.0, "sampler": "dense"}, "--population"),
        (uneven("plain"), {"tilt": 1.0, "observe": "norm"}, "does not apply"),
        (uneven("plain"), {"observe": "moment"}, "does not apply"),
        (POST, {"tilt": 1.0}, "sees? more of a state"),
        (POST, {"population": 9, "orders": [1.0]}, "plain blocks"),
    ],
)
def test_what_has_no_weighted_sampler_is_refused_with_what_has(law, options, says):
    with pytest.raises((SpecError, Unsupported), match=says):
        sigprop.simulate(law, replicas=10, **options)


def test_a_biased_plain_net_is_tilted_too():
    law = uneven("plain", "relu", states=(3, 5, 4, 6, 3), bias_variance=0.4)
    log_norm, log_weight = weighted(law, 1.0, "chain", 40_000)
    tilted = np.exp(2 * log_norm + log_weight)[:, 1:]
    free = sigprop.simulate(law, "norm", replicas=200_000, seed=3)
    plain = np.exp(free.norm_moment_log.sel(order=2.0).values[1:, 0])
    error = free.norm_moment_log_se.sel(order=2.0).values[1:, 0]
    se = np.hypot(tilted.std(axis=0) / tilted.mean(axis=0) / 200, error)
    assert_agrees(tilted.mean(axis=0) / plain, 1.0, se, resolution=0.2)


@pytest.mark.parametrize("by", ["chain", "conditional"])
def test_branches_too_small_to_tilt_keep_their_digits(by):
    law = Ensemble(Network(depth=3, width=5), GivenScheme(branch=1e-5, variance=0.3), Point())
    log_norm, log_weight = weighted(law, 2.0, by, 2000)
    log = 2 * log_norm[:, -1] + log_weight[:, -1]
    truth = log_norm_moment(law, 2.0)[-1]
    assert log.std() < 1e-4
    assert_agrees(log.mean(), truth, log.std() / math.sqrt(2000), resolution=1e-5)


def test_options_of_samplers_are_checked():
    with pytest.raises(SpecError, match="chain or conditional"):
        Tilted(1.0, "dense")
    with pytest.raises(SpecError, match="order"):
        Population(0.0)


def test_compare_judges_weighted_moments_by_their_own_errors():
    """Theory's spread is of plain networks, which would see nothing at this depth."""
    from analysis.compare import compare

    law = Ensemble(Network(depth=300, width=30, block="plain"), He(), Point())
    found = sigprop.simulate(law, tilt=1.9, orders=[2.0], replicas=4096, layers=[100, 300])
    assert compare(found).exit_status == 0
    exact = sigprop.simulate(law, tilt=2.0, orders=[2.0], replicas=1024, layers=[100, 300])
    assert compare(exact).exit_status == 0
    wrong = found.copy()
    wrong["norm_moment_log"] = found.norm_moment_log + 0.3
    assert compare(wrong).exit_status == 1
