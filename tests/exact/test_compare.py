"""Verdicts: called by chance as rarely as promised, and seeing what they say they see."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
import xarray as xr
from scipy.stats import binom, norm, pearson3

import sigprop
from analysis.compare import SKEWED, _holm, _moment, compare, sentence, table
from analysis.design import design
from analysis.prediction import predict, predictions
from sigprop.errors import ResultError, SpecError, UnknownName, Unsupported
from sigprop.inputs import Pair, Point
from sigprop.observables import observables
from sigprop.schemes import Fixup, He, Power
from sigprop.spec import Ensemble, Network
from tests.stat import ALPHA

ORDERS = (1.0, 2.0)
LAW = Ensemble(Network(depth=20, width=50), Power(beta=0.5), Point())


def within(count, trials, chance):
    """Whether ``count`` of ``trials`` is no surprise at this chance, two-sided at `ALPHA`."""
    return binom.isf(1 - ALPHA / 2, trials, chance) <= count <= binom.isf(ALPHA / 2, trials, chance)


def measured(logs, field="log_norm", orders=ORDERS):
    """A result made of these logarithms, shape (replicas, layers, inputs), by the real sums."""
    observable = observables["norm"](orders=orders)
    variables = observable.finalize(observable.observe({field: logs}))
    replicas, layers, inputs = logs.shape
    coords = {
        "layer": np.arange(layers),
        "input": np.arange(inputs),
        "order": np.array(orders),
        "quantile": np.array(observable.quantiles),
    }
    return xr.Dataset(variables, coords, {"replicas": replicas})


def believed(mean, variance, *, exact=True, slack=0.0, orders=ORDERS, **attrs):
    """What theory says of log-normal r: arrays of shape (layers, inputs)."""
    s = np.array(orders)[:, None, None]
    dims, full = ("layer", "input"), ("order", "layer", "input")
    attrs = {"status": "exact", "prediction": "log-normal", **attrs}
    variables = {
        "norm_moment_log": (full, s * mean + s**2 * variance / 2, attrs),
        "log_norm_mean": (dims, mean, attrs),
        "log_norm_variance": (dims, variance, attrs),
    }
    variables |= {f"{k}_slack": (v[0], np.full_like(v[1], slack)) for k, v in variables.items()}
    if exact:
        spread = np.sqrt(np.expm1(s**2 * variance))
        variables["norm_moment_log_spread"] = (full, spread)
        variables["log_norm_mean_spread"] = (dims, np.sqrt(variance))
    layers, inputs = mean.shape
    coords = {"layer": np.arange(layers), "input": np.arange(inputs), "order": np.array(orders)}
    return xr.Dataset(variables, coords)


def gaussian(layers, deviation, inputs=1):
    """(mean, variance) of layers that share no chance, 0 at the input."""
    variance = np.full((layers, inputs), deviation**2)
    variance[0] = 0.0
    return np.zeros_like(variance) + 0.1 * (variance > 0), variance


def draw(generator, replicas, mean, variance):
    return mean + np.sqrt(variance) * generator.standard_normal((replicas, *mean.shape))


def verdicts(trials, replicas, truth, theory, **options):
    """The verdict of every variable, over independent samples of the truth."""
    generator = np.random.default_rng(7)
    return [
        {c.label: c for c in compare(measured(draw(generator, replicas, *truth)), theory, **options)
         .comparisons}
        for _ in range(trials)
    ]  # fmt: skip


# --------------------------------------------------------------------- false alarms


@pytest.mark.parametrize("exact", [True, False], ids=["errors of theory", "errors of the sample"])
def test_agreement_is_called_disagreement_as_rarely_as_promised(exact):
    """A chance of 20% over 4 x 8 numbers, whose layers share no chance; 500 replicas.

    The moments and the mean of one layer do share theirs, so that less is expected: about 14%.
    Of 120 trials 1% .. 34% come out, so a rate of 45% would be found.
    """
    truth = gaussian(9, 0.1)
    found = verdicts(120, 500, truth, believed(*truth, exact=exact), family_error=0.2)
    alarms = sum(any(c.verdict == "disagree" for c in trial.values()) for trial in found)
    assert within(alarms, 120, 0.14)
    for label in found[0]:
        assert {trial[label].verdict for trial in found} <= {"agree", "disagree"}


@pytest.mark.parametrize("deviation", [0.2, 0.4])
def test_skewed_moments_alarm_as_rarely_as_promised(deviation):
    """Order 2 of a log-normal of deviation 0.4 has relative variance 0.9: averages are skewed."""
    truth = gaussian(13, deviation)
    theory = believed(*truth, orders=(2.0,))[["norm_moment_log", "norm_moment_log_spread"]]
    generator = np.random.default_rng(3)
    alarms = 0
    for _ in range(150):
        result = measured(draw(generator, 400, *truth), orders=(2.0,))
        (row,) = compare(result, theory, family_error=0.2, resolution=1).comparisons
        assert row.verdict != "inconclusive" and row.judged == 13
        alarms += row.verdict == "disagree"
    assert within(alarms, 150, 0.18)


def test_the_normal_law_in_place_of_pearsons_would_alarm_too_often():
    """The skewness correction is needed: the normal law is off by a factor 2 at one in 1000."""
    relative = np.expm1(4 * 0.4**2)
    skew = (relative + 3) * np.sqrt(relative / 400)
    assert 0.1 < skew < SKEWED
    generator = np.random.default_rng(0)
    sums = np.concatenate([generator.lognormal(0, 0.8, (2000, 400)).mean(axis=1)
                           for _ in range(20)])  # fmt: skip
    z = (sums / np.exp(0.32) - 1) / np.sqrt(relative / 400)
    tail = 1e-3
    beyond = {law: (z > at).sum() for law, at in
              (("normal", norm.isf(tail)), ("pearson", pearson3.isf(tail, skew)))}  # fmt: skip
    assert beyond["normal"] > binom.isf(ALPHA, 40_000, tail)
    assert within(beyond["pearson"], 40_000, tail)


def test_an_average_over_its_own_error_is_skewed_the_other_way():
    """A sample that misses the tail is low and sure of itself: the low side needs more room."""
    replicas, relative = 400, np.expm1(4 * 0.25**2)
    ess = np.full((1, 1), replicas / (1 + relative))
    _, skew, sound = _moment(
        np.zeros((1, 1)), ess, (ess, np.ones((1, 1))), known=False, replicas=replicas
    )
    assert -0.3 < skew < -0.1 and sound
    generator = np.random.default_rng(0)
    z = []
    for _ in range(20):
        squares = generator.lognormal(0, 0.5, (2000, replicas))
        average = squares.mean(axis=1)
        error = squares.std(axis=1, ddof=1) / np.sqrt(replicas) / average
        z.append((np.log(average) - 0.125) / error)
    low = (np.concatenate(z) < pearson3.ppf(1e-3, skew[0, 0])).sum()
    assert within(low, 40_000, 1e-3)
    assert not within(low, 40_000, pearson3.cdf(pearson3.ppf(1e-3, skew[0, 0]), -skew[0, 0]))


# ---------------------------------------------------------------------------- power


@pytest.mark.parametrize("label", ["norm_moment_log[2]", "log_norm_mean", "log_norm_variance"])
def test_a_planted_error_of_2_percent_is_found(label):
    """Errors at one layer of twenty, in one variable; 20 000 replicas see 2%, in 3 of 3 runs."""
    truth = gaussian(20, 0.05)
    theory = believed(*truth)
    name, _, order = label.partition("[")
    at = {"layer": 11, **({"order": 2.0} if order else {})}
    relative = name == "log_norm_variance"  # an error of 1/10 there: a variance is seen less well
    wrong = theory.copy(deep=True)
    wrong[name].loc[at] = wrong[name].loc[at] * 1.1 if relative else wrong[name].loc[at] + 0.02
    for trial in verdicts(3, 20_000, truth, wrong):
        row = trial[label]
        assert row.verdict == "disagree" and row.layer == 11
        assert row.z < 0 and row.resolution < (0.1 if relative else 0.02)
        assert all(c.verdict == "agree" for key, c in trial.items() if key != label)


@pytest.mark.parametrize("exact", [True, False], ids=["errors of theory", "errors of the sample"])
def test_the_resolution_that_is_told_is_the_one_there_is(exact):
    """An error of the size of the resolution is found in 90% of samples (67% .. 100% of 60).

    Were the resolution understated by a third, power would be 53%. One error a variable, each at
    a layer of its own.
    """
    truth = gaussian(9, 0.1)
    theory = believed(*truth, exact=exact)
    first = verdicts(5, 1000, truth, theory)
    told = {label: np.median([trial[label].resolution for trial in first]) for label in first[0]}
    wrong = theory.copy(deep=True)
    wrong.norm_moment_log.loc[{"layer": 2, "order": 2.0}] += told["norm_moment_log[2]"]
    wrong.log_norm_mean.loc[{"layer": 4}] += told["log_norm_mean"]
    wrong.log_norm_variance.loc[{"layer": 6}] *= np.exp(told["log_norm_variance"])
    found = verdicts(60, 1000, truth, wrong)
    for label in ("norm_moment_log[2]", "log_norm_mean", "log_norm_variance"):
        assert within(sum(trial[label].verdict == "disagree" for trial in found), 60, 0.9), label


# ------------------------------------------------------------- what cannot be judged


@pytest.mark.parametrize("exact", [True, False], ids=["errors of theory", "errors of the sample"])
def test_a_heavy_tailed_moment_is_inconclusive_and_never_wrong(exact):
    """E r^2 of log r ~ N(0, 4): 1000 replicas average about e^4.6 where the truth is e^8."""
    mean, variance = np.zeros((2, 1)), np.array([[0.0], [4.0]])
    theory = believed(mean, variance, exact=exact)
    for trial in verdicts(20, 1000, (mean, variance), theory, family_error=ALPHA):
        row = trial["norm_moment_log[2]"]
        assert row.verdict == "inconclusive"
        assert "too few of 1000 replicas carry it at layer 1" in row.reason
        assert trial["log_norm_mean"].verdict == "agree"


def test_even_a_heavy_tail_is_refuted_where_chebyshev_suffices():
    """What is far above the truth is so whatever the law: 10^6 standard errors are no chance."""
    mean, variance = np.zeros((2, 1)), np.array([[0.0], [4.0]])
    theory = believed(mean - 20 * (variance > 0), variance)
    (trial,) = verdicts(1, 1000, (mean, variance), theory)
    assert trial["norm_moment_log[2]"].verdict == "disagree"


def test_where_the_first_layers_can_be_judged_an_error_there_is_found():
    """A norm that explodes is carried by few replicas at the top, and by all at the bottom."""
    layers = np.arange(40)[:, None]
    truth = 0.0 * layers, 0.05 * layers
    row = verdicts(1, 4000, truth, believed(*truth))[0]["norm_moment_log[2]"]
    assert row.verdict == "inconclusive" and 0 < row.judged < row.numbers
    wrong = believed(0.03 * layers, 0.05 * layers)
    row = verdicts(1, 4000, truth, wrong)[0]["norm_moment_log[2]"]
    assert row.verdict == "disagree"


def test_what_could_not_be_judged_has_no_resolution():
    """Layer 0 is met for certain; that is no power where chance moves what cannot be judged."""
    logs = np.zeros((40, 2, 1))
    logs[:, 1] = 3 * np.random.default_rng(0).standard_normal((40, 1))
    theory = believed(np.zeros((2, 1)), np.array([[0.0], [9.0]]), exact=False, orders=(2.0,))
    found = compare(measured(logs, orders=(2.0,)), theory, variables=["norm_moment_log"])
    (row,) = found.comparisons
    assert row.verdict == "inconclusive" and row.judged == 1 and np.isinf(row.resolution)
    assert table(found).splitlines()[2].split()[-1] == "-"


def test_an_agreement_that_saw_too_little_is_inconclusive():
    truth = gaussian(5, 0.1)
    (trial,) = verdicts(1, 400, truth, believed(*truth), resolution=0.02)
    row = trial["log_norm_mean"]
    assert row.verdict == "inconclusive" and "would have missed an error of 0.02" in row.reason
    (trial,) = verdicts(1, 400, truth, believed(*truth), resolution=0.05)
    assert trial["log_norm_mean"].verdict == "agree"


def test_few_replicas_do_not_know_their_own_error():
    truth = gaussian(5, 0.001)
    (trial,) = verdicts(1, 12, truth, believed(*truth, exact=False))
    assert trial["log_norm_mean"].verdict == "inconclusive"
    (trial,) = verdicts(1, 12, truth, believed(*truth))
    assert trial["log_norm_mean"].verdict == "agree"


def test_an_error_that_the_result_itself_distrusts_is_not_relied_on():
    """As where the squares of the weights have no variance."""
    truth = gaussian(5, 0.05)
    result = measured(draw(np.random.default_rng(0), 1000, *truth))
    theory = believed(*truth, exact=False)[["norm_moment_log"]]
    assert compare(result, theory).verdict == "agree"
    result["norm_moment_reliable"] = result.norm_moment_reliable & (result.layer < 3)
    verdict = compare(result, theory)
    assert {c.verdict for c in verdict.comparisons} == {"inconclusive"}
    assert "at 2 layers from 3" in verdict.comparisons[0].reason


def test_where_networks_are_dead_the_logarithm_is_of_the_others():
    """Of 1000 networks 750 dead, the error of the mean is twice that of 1000."""
    truth = gaussian(3, 0.1)
    logs = draw(np.random.default_rng(0), 1000, *truth)
    theory = believed(*truth)[["log_norm_mean", "log_norm_mean_spread"]]
    (whole,) = compare(measured(logs), theory).comparisons
    logs[:750] = -np.inf
    (rest,) = compare(measured(logs), theory).comparisons
    assert rest.resolution == pytest.approx(2 * whole.resolution, rel=1e-3)


# ------------------------------------------------------------- statuses, and certainty


def test_a_limit_is_contradicted_beyond_its_slack_only():
    truth = gaussian(5, 0.05)
    shifted = (truth[0] + 0.05 * (truth[1] > 0), truth[1])
    for slack, verdict in ((0.0, "disagree"), (0.03, "disagree"), (0.06, "agree")):
        theory = believed(*truth, slack=slack, status="limit")[
            ["log_norm_mean", "log_norm_mean_slack", "log_norm_mean_spread"]
        ]
        row = verdicts(1, 4000, shifted, theory)[0]["log_norm_mean"]
        assert (row.verdict, row.status) == (verdict, "limit")
        assert row.slack == slack and row.resolution > slack


@pytest.mark.parametrize(
    ("side", "above", "verdict"),
    [
        ("upper", True, "disagree"),
        ("upper", False, "agree"),
        ("lower", True, "agree"),
        ("lower", False, "disagree"),
    ],
)
def test_a_bound_is_contradicted_on_one_side_only(side, above, verdict):
    truth = gaussian(5, 0.05)
    bound = truth[0] + (-0.1 if above else 0.1) * (truth[1] > 0)
    theory = believed(bound, truth[1], status="bound", side=side)[["log_norm_mean"]]
    (trial,) = verdicts(1, 2000, truth, theory)
    assert trial["log_norm_mean"].verdict == verdict


def test_what_no_chance_moves_must_be_met_to_rounding():
    certain = np.full((3, 1), 0.25), np.zeros((3, 1))
    (trial,) = verdicts(1, 50, certain, believed(*certain))
    assert {c.verdict for c in trial.values()} == {"agree"}
    assert trial["log_norm_mean"].resolution == 0.0
    wrong = believed(certain[0] + 1e-4, certain[1])
    (trial,) = verdicts(1, 50, certain, wrong)
    assert trial["log_norm_mean"].verdict == "disagree"
    assert trial["norm_moment_log[2]"].verdict == "disagree"


def test_a_state_that_is_zero_agrees_with_zero_and_with_nothing_else():
    dead = np.full((100, 3, 1), -np.inf)
    theory = believed(*gaussian(3, 0.1))[["norm_moment_log"]]
    theory.norm_moment_log[:] = -np.inf
    assert compare(measured(dead), theory).verdict == "agree"
    assert compare(measured(0 * dead.clip(-1)), theory).verdict == "disagree"
    theory.norm_moment_log[:] = 0.0
    # All replicas dead where the mean is 1: without an error of theory this cannot be judged.
    assert compare(measured(dead), theory).verdict == "inconclusive"
    theory["norm_moment_log_spread"] = 0.0 * theory.norm_moment_log + 1.0
    assert compare(measured(dead), theory).verdict == "disagree"


@pytest.mark.parametrize(("rate", "verdict"), [(0.25, "agree"), (0.4, "disagree")])
def test_a_fraction_is_judged_by_the_binomial_law(rate, verdict):
    logs = np.where(np.random.default_rng(5).random((1000, 2, 1)) < rate, -np.inf, 0.0)
    logs[:, 0] = 0.0
    p = np.array([[0.0], [0.25]])
    about = {"status": "exact", "prediction": "p", "spread_status": "exact"}
    dims = ("layer", "input")
    coords = {"layer": [0, 1], "input": [0]}
    theory = xr.Dataset(
        {
            "norm_zero_fraction": (dims, p, about),
            "norm_zero_fraction_spread": (dims, np.sqrt(p * (1 - p))),
        },
        coords,
    )
    result = measured(logs)
    (row,) = compare(result, theory).comparisons
    assert row.verdict == verdict
    k = int(result.norm_zero_fraction[1, 0] * 1000 + 0.5)
    tails = min(binom.cdf(k, 1000, 0.25), binom.sf(k - 1, 1000, 0.25))
    np.testing.assert_allclose(row.p, min(1.0, 2 * tails))
    # One dead network where none should be: no chance at all.
    theory.norm_zero_fraction[1], theory.norm_zero_fraction_spread[1] = 0.0, 0.0
    assert compare(result, theory).verdict == "disagree"


def test_holm_rejects_at_the_level_that_is_left():
    class Table:
        def __init__(self, p):
            self.p = np.array(p)[:, None]
            self.random = self.compared = np.ones_like(self.p, bool)

    # 0.05/4, 0.05/3, 0.05/2, 0.05/1: Bonferroni alone would take the first only.
    bad = _holm([Table([0.016, 0.9]), Table([0.001, 0.03])], 0.05)
    assert [b.ravel().tolist() for b in bad] == [[True, False], [True, False]]
    bad = _holm([Table([0.02, 0.9]), Table([0.013, 0.001])], 0.05)
    assert [b.ravel().tolist() for b in bad] == [[True, False], [True, True]]


# -------------------------------------------------------------------- on real results


@pytest.mark.parametrize(
    "law",
    [
        LAW,
        Ensemble(Network(depth=6, width=20, activation="linear"), Power(beta=1.0, law="uniform")),
        Ensemble(Network(depth=8, width=6, block="plain"), He(), Point()),
        Ensemble(Network(depth=6, width=10), Fixup(), Pair()),
    ],
    ids=["power", "uniform", "plain", "identity"],
)
def test_the_simulator_agrees_with_what_is_exact(law):
    verdict = compare(sigprop.simulate(law, replicas=3000, seed=1), family_error=ALPHA)
    assert not verdict.of("disagree"), str(verdict)
    assert "norm_moment_log[2]" in {c.label for c in verdict.of("agree")} | {
        c.label for c in verdict.of("inconclusive")
    }


def test_dead_layers_are_counted_as_a_share_of_the_layers_so_far():
    law = Ensemble(Network(depth=40, width=4, block="plain"), He(), Point())
    result = sigprop.simulate(law, replicas=3000)
    (row,) = compare(result, variables=["dead_layers_mean"]).comparisons
    assert row.verdict == "agree" and row.resolution < 0.06
    planned = design(law, row.resolution, variables=["dead_layers_mean"])
    assert planned.replicas == pytest.approx(3000, rel=0.04)


def test_the_wrong_law_is_told():
    """Branches 2% larger than the theory thinks: found, and at the layer where it shows."""
    result = sigprop.simulate(
        Ensemble(LAW.network, Power(beta=0.49), Point()), replicas=60_000, layers=[0, 10, 20]
    )
    verdict = compare(result, predict(LAW, orders=(1, 2)))
    assert verdict.exit_status == 1
    assert {c.variable for c in verdict.of("disagree")} >= {"displacement_moment_log"}
    assert compare(result).exit_status == 0


def test_the_verdict_is_the_gravest_and_carries_the_exit_status():
    truth = gaussian(3, 0.1)
    result = measured(draw(np.random.default_rng(0), 1000, *truth))
    fine = compare(result, believed(*truth))
    assert (fine.verdict, fine.exit_status) == ("agree", 0)
    vague = compare(result, believed(*truth), resolution=1e-4)
    assert (vague.verdict, vague.exit_status) == ("inconclusive", 3)
    wrong = compare(result, believed(truth[0] + 1, truth[1]), resolution=1e-4)
    assert (wrong.verdict, wrong.exit_status) == ("disagree", 1)
    assert fine.numbers == 2 * 4  # two layers that chance moves, of four variables and orders


# ------------------------------------------------------------------------- sweeps


@pytest.fixture(scope="module")
def swept():
    """Two scalings at two depths, points independent of each other."""
    grid = {"beta": [0.4, 0.6], "depth": [6, 9]}
    law = {"scheme": "power", "width": 50, "inputs": "point"}
    return sigprop.sweep(law, grid, ["norm", "gradient"], replicas=400, coupled=False)


def test_examples_in_the_text_of_points():
    found = doctest.testmod(importlib.import_module("analysis.points"))
    assert found.attempted > 0 and found.failed == 0


def test_a_point_of_a_sweep_is_judged_as_the_run_that_it_is(swept):
    law = Ensemble(Network(depth=9, width=50), Power(beta=0.4), Point())
    alone = sigprop.simulate(law, ["norm", "gradient"], replicas=400, layers=[0, 9])
    one, other = compare(swept.sel(beta=0.4).isel(depth=1)), compare(alone)
    assert one == other and one.numbers == other.numbers > 5


def test_of_a_sweep_every_point_counts_and_the_numbers_of_all(swept):
    whole = compare(swept)
    alone = [compare(swept.isel(beta=i, depth=j)) for i in (0, 1) for j in (0, 1)]
    assert whole.verdict == "agree" and (whole.points, whole.without_theory) == (4, 0)
    assert whole.numbers == sum(v.numbers for v in alone) == 4 * alone[0].numbers
    for at, row in enumerate(whole.comparisons):
        rows = [v.comparisons[at] for v in alone]
        assert row.p == min(r.p for r in rows) and row.numbers == sum(r.numbers for r in rows)
        # With four times as many numbers an error must be larger to be found.
        assert row.resolution > max(r.resolution for r in rows)
        assert row.point in {f"beta={b:g}, depth={d}" for b in (0.4, 0.6) for d in (6, 9)}
    assert f"{whole.numbers} numbers of 4 points were compared" in " ".join(str(whole).split())


def test_one_wrong_point_of_a_sweep_is_found_and_named(swept):
    laws = swept.ensemble.values.copy()
    laws[1, 0] = laws[1, 0].replace('"beta":0.6', '"beta":0.5')
    assert laws[1, 0] != swept.ensemble.values[1, 0]
    found = compare(swept.assign_coords(ensemble=(swept.ensemble.dims, laws)))
    wrong = {c.variable for c in found.of("disagree")}
    assert "log_norm_mean" in wrong and "dead_layers_mean" not in wrong
    assert {c.point for c in found.of("disagree")} == {"beta=0.6, depth=6"}
    assert ", input 0, beta=0.6, depth=6 " in " ".join(sentence(found).split())


def test_points_without_a_theory_are_counted():
    """Of a branch that reads the trunk, with weights correlated along depth, nothing is known."""
    law = {"depth": 5, "width": 20, "inputs": "point", "scheme": "he"}
    law |= {"process": "fgn", "hurst": 0.7}
    found = compare(sigprop.sweep(law, {"block": ["res3", "preact"]}, "norm", replicas=40))
    assert (found.points, found.without_theory) == (1, 1)
    assert "Theory says nothing of one point more." in " ".join(sentence(found).split())
    law = {key: value for key, value in law.items() if key != "hurst"} | {"block": "preact"}
    with pytest.raises(Unsupported, match="no theory applies"):
        compare(sigprop.sweep(law, {"hurst": [0.7, 0.8]}, "norm", replicas=40))


def test_variables_and_predictions_can_be_chosen():
    result = sigprop.simulate(LAW, replicas=500)
    chosen = compare(result, variables=["norm_moment_log", "activity_mean"])
    assert {c.variable for c in chosen.comparisons} == {"norm_moment_log", "activity_mean"}
    named = compare(result, names=["mean_square"])
    assert {c.prediction for c in named.comparisons} == {"mean_square"}
    assert set(predictions) >= {c.prediction for c in compare(result).comparisons}


def test_shapes_are_judged_only_if_they_are_asked_for():
    """The error that a sample states of its kurtosis needs far more replicas than others do."""
    result = sigprop.simulate(LAW, replicas=500)
    assert not any("ness" in c.variable or "kurtosis" in c.variable
                   for c in compare(result).comparisons)  # fmt: skip
    (row,) = compare(result, variables=["log_norm_skewness"]).comparisons
    assert row.variable == "log_norm_skewness" and row.verdict != "disagree"


def test_where_all_is_within_the_slack_the_nearest_to_its_edge_is_told():
    truth = np.zeros((3, 1)), np.array([[0.0], [1e-3], [1e-7]])
    theory = believed(np.array([[0.0], [0.02], [0.01]]), truth[1], slack=0.03)
    theory = theory[["log_norm_mean", "log_norm_mean_slack", "log_norm_mean_spread"]]
    (trial,) = verdicts(1, 1000, truth, theory)
    assert trial["log_norm_mean"].layer == 1 and trial["log_norm_mean"].p == 1.0


def test_the_error_that_is_told_has_the_unit_of_the_variable():
    truth = gaussian(2, 0.1)
    (trial,) = verdicts(1, 1000, truth, believed(*truth))
    row = trial["log_norm_variance"]
    assert row.se == pytest.approx(0.01 * np.sqrt(2 / 1000), rel=0.2)
    assert row.z == pytest.approx((row.measured - row.predicted) / row.se, rel=0.2)


def test_several_inputs_and_selected_layers_are_matched_by_coordinate():
    law = Ensemble(Network(depth=9, width=30), Power(beta=0.5), Pair())
    result = sigprop.simulate(law, replicas=400, layers=[2, 5, 9], orders=(2, 3))
    verdict = compare(result, variables=["norm_moment_log"])
    assert [row.order for row in verdict.comparisons] == [2, 3]
    for row in verdict.comparisons:
        assert row.numbers == 6 and row.layer in (2, 5, 9)
        assert row.place in ("input 0", "input 1")


def test_words_say_what_was_found():
    truth = gaussian(4, 0.1)
    result = measured(draw(np.random.default_rng(0), 1000, *truth))
    theory = believed(*truth)
    said = " ".join(sentence(compare(result, theory)).split())
    assert said.startswith("Measurement and theory agree: all 4 variables agree with theory; an")
    assert "12 numbers were compared at once" in said and "probability 1% at most" in said
    wrong = believed(truth[0] + 1, truth[1])
    said = " ".join(sentence(compare(result, wrong)).split())
    assert said.startswith("Measurement and theory disagree: at layer")
    assert "the prediction 'log-normal' (exact) is" in said
    said = " ".join(sentence(compare(result, theory, resolution=0.1)).split())
    assert said.startswith("Inconclusive: 3 of 4 variables agree") and "Not judged: " in said
    lines = table(compare(result, theory)).splitlines()
    assert lines[0].split() == (
        "variable theory verdict z at layer measured predicted sees".split()
    )
    assert [line.split()[0] for line in lines[2:6]] == [
        "norm_moment_log[1]", "norm_moment_log[2]", "log_norm_mean", "log_norm_variance",
    ]  # fmt: skip
    assert "*" in lines[2] and "*" not in lines[5]


# -------------------------------------------------------------------------- refusals


def test_what_cannot_be_compared_is_said():
    result = sigprop.simulate(LAW, replicas=50)
    with pytest.raises(SpecError, match="Did you mean 'log_norm_mean'"):
        compare(result, variables=["log_norm_men"])
    with pytest.raises(UnknownName, match="Did you mean 'mean_square'"):
        compare(result, names=["mean_sqare"])
    with pytest.raises(SpecError, match="family_error"):
        compare(result, family_error=0.0)
    with pytest.raises(SpecError, match="resolution"):
        compare(result, resolution=-1)
    with pytest.raises(Unsupported, match="no theory applies"):
        compare(result, variables=["log_norm_quantile"])
    theory = believed(*gaussian(3, 0.1))
    with pytest.raises(Unsupported, match="nothing that was measured is predicted"):
        compare(result.drop_vars(["norm_moment_log", "log_norm_mean", "log_norm_variance"]), theory)
    bare = result.copy()
    bare.attrs = {"replicas": 50}
    with pytest.raises(ResultError, match="of which ensemble it is"):
        compare(bare)
    swept = result.expand_dims(beta=[0.5])
    with pytest.raises(SpecError, match="dimension 'beta'"):
        compare(swept, predict(LAW))


# --------------------------------------------------------------------------- design


@pytest.mark.parametrize("law", [LAW, Ensemble(LAW.network, Power(beta=0.2), Point())],
                         ids=["stable", "explosive"])  # fmt: skip
def test_a_design_gives_the_resolution_it_was_asked_for(law):
    """Not more replicas than needed, and not fewer: within 1% of the resolution."""
    names = ["norm_moment_log", "displacement_moment_log", "activity_mean"]
    planned = design(law, 0.05, variables=names)
    result = sigprop.simulate(law, replicas=int(planned.replicas))
    verdict = compare(result, variables=names)
    assert verdict.numbers == planned.numbers
    assert not verdict.of("inconclusive")
    reached = {c.label: c.resolution for c in verdict.comparisons}
    most = planned.requirements[0]
    skew_limited = most.spread**2 > 0.3
    assert max(reached.values()) <= 0.05 * 1.001
    assert skew_limited or reached[most.label] >= 0.0495
    assert compare(result, variables=names, resolution=0.0501).verdict == "agree"


def test_a_design_grows_with_what_is_asked_and_says_what_decides():
    coarse, fine = design(LAW, 0.1), design(LAW, 0.01)
    assert 80 < fine.replicas / coarse.replicas < 101
    replicas = {r.label: r.replicas for r in fine.requirements}
    assert fine.requirements[0].label == "log_norm_variance"  # sqrt(2) of one network
    assert replicas["log_norm_variance"] == fine.replicas
    assert replicas["log_norm_mean"] < replicas["norm_moment_log[2]"] < fine.replicas
    said = " ".join(str(fine).split())
    assert f"(--replicas {fine.replicas:.0f})" in said and "log_norm_variance asks for most" in said


def test_what_no_sample_reaches_is_out_of_reach():
    law = Ensemble(Network(depth=500, width=20), He(), Point())
    planned = design(law, 0.01)
    assert planned.replicas == np.inf
    far = {r.label: r for r in planned.requirements if r.replicas == np.inf}
    assert "norm_moment_log[2]" in far and far["norm_moment_log[2]"].reason
    assert "Out of reach: " in str(planned)
    assert 1e6 < design(law, 0.01, variables=["log_norm_mean"]).replicas < 1e7
    assert design(law, 0.01, variables=["activity_mean"]).replicas < 1e5


def test_a_design_for_an_identity_needs_one_network():
    law = Ensemble(Network(depth=5, width=10), Fixup(), Point())
    assert design(law, 0.01, variables=["norm_moment_log"]).replicas == 1


def test_a_design_without_a_variance_is_refused():
    from sigprop.laws import StudentT

    law = Ensemble(Network(depth=5, width=10), Power(beta=0.5, law=StudentT(dof=3.0)), Point())
    with pytest.raises(Unsupported, match="not how much one network differs"):
        design(law, 0.01, variables=["norm_moment_log"], orders=(2.0,))
    for bad in (0.0, 2.0, "much"):
        with pytest.raises(SpecError, match="resolution"):
            design(LAW, bad)
