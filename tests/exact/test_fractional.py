"""Scheme fractional keeps its moment, by formulas that it does not use; the command gain."""

import json
import math

import mpmath
import numpy as np
import pytest

import sigprop
from analysis.theory import log_norm_mean, log_norm_moment
from sigprop import Balanced, BalancedReLU, Ensemble, Fractional, He, Network, Point, RandomWalk
from sigprop.activations import LeakyReLU, Linear, RandomisedLeakyReLU, ReLU
from sigprop.cli import main
from sigprop.errors import SpecError, Unsupported
from sigprop.residual_moment import ResidualMoment, memory_slack
from tests.stat import assert_agrees

WIDTHS = (3, 5, 2, 4, 3)


def ensemble(scheme, **shape):
    return Ensemble(Network(**{"depth": 4, **shape}), scheme, Point())


@pytest.mark.parametrize("phi", [ReLU(), Linear(), LeakyReLU(slope=-0.4), RandomisedLeakyReLU()])
@pytest.mark.parametrize("s", [0.25, 1.0, 1.7, 2.0])
def test_a_plain_net_keeps_the_moment_in_every_layer(phi, s):
    """The law of the norm itself, by an inverse transform, says so at widths of 2 to 5."""
    shape = {"widths": WIDTHS, "block": "plain", "activation": phi}
    kept = log_norm_moment(ensemble(Fractional(s=s, preserve="norm"), **shape), s)
    np.testing.assert_allclose(kept, 0.0, atol=1e-10)
    by_coordinate = log_norm_moment(ensemble(Fractional(s=s), **shape), s)
    np.testing.assert_allclose(by_coordinate, s / 2 * np.log(np.array(WIDTHS) / 3), atol=1e-10)


def test_order_zero_keeps_the_mean_of_the_logarithm():
    for phi in (ReLU(), LeakyReLU(slope=0.2)):
        for shape in (
            {"width": 3, "block": "plain"},
            {"width": 3, "inner_width": 2, "block": "res3"},
            {"width": 4, "inner_width": 3, "block": "inner"},
        ):
            law = ensemble(Fractional(s=0.0, branch=0.7), activation=phi, **shape)
            np.testing.assert_allclose(log_norm_mean(law), 0.0, atol=1e-10)


def test_a_layer_that_may_die_keeps_the_moment_of_the_living_if_asked():
    alive = Fractional(s=1.0, given="alive").layers(Network(depth=1, width=2, block="plain"))
    every = Fractional(s=1.0).layers(Network(depth=1, width=2, block="plain"))
    # E Q^(1/2) counts the dead quarter as 0.
    np.testing.assert_allclose(every.scale / alive.scale, 4 / 3, rtol=1e-13)


def test_order_two_is_he_with_fan_in():
    network = Network(depth=4, widths=WIDTHS, block="plain", activation=LeakyReLU(slope=0.3))
    ours, his = Fractional(s=2.0).layers(network), He().layers(network)
    np.testing.assert_allclose(ours.scale, his.scale, rtol=1e-13)


# ----------------------------------------------------------------------- residual blocks


@pytest.mark.parametrize("adjust", ["gain", "skip", "branch"])
@pytest.mark.parametrize("s", [0.5, 1.0, 2.0])
def test_a_residual_net_keeps_the_moment_whichever_coefficient_is_found(adjust, s):
    for block, inner in (("res3", 7), ("inner", 5)):
        scheme = Fractional(s=s, adjust=adjust, branch=0.6, skip=0.8)
        law = ensemble(scheme, width=6, block=block, inner_width=inner)
        np.testing.assert_allclose(log_norm_moment(law, s), 0.0, atol=1e-10)
        c, a = law.table.skip[0], law.table.branch[0]
        fixed = {"gain": c / a - 0.8 / 0.6, "skip": a - 0.6, "branch": c - 0.8}[adjust]
        assert abs(fixed) < 1e-12
        if s == 2:
            np.testing.assert_allclose(c**2 + a**2, 1.0, rtol=1e-12)


REFERENCE = {  # d = 20, n = 30, a = 0.3, c = 1: E r^{s/2} and the gain that keeps it
    0.5: (1.020168729525, 0.96085),
    1.0: (1.041836685227, 0.95984),
    1.5: (1.065084444743, 0.95884),
    2.0: (1.09, 0.95783),
}


@pytest.mark.parametrize("s", list(REFERENCE))
def test_moments_of_a_residual_layer_are_the_reference_values(s):
    network = Network(depth=1, width=20, inner_width=30)
    layer = ResidualMoment.of(network, (30,), np.array([2 / 20, 1 / 30]), s)
    moment, gain = REFERENCE[s]
    np.testing.assert_allclose(math.exp(s * layer.log_growth(1.0, 0.3)), moment, rtol=6e-13)
    np.testing.assert_allclose(layer.gain(1.0, 0.3), gain, atol=5e-6)


@pytest.mark.parametrize(("d", "n", "a", "s"), [(3, 2, 1.5, 1.0), (20, 7, 0.9, 0.5)])
def test_moments_of_narrow_branches_are_those_of_the_mixture(d, n, a, s):
    """The atom S = 0, and for each count of active units an integral against its chi-square."""
    unit = (2 / d) * (1 / n) * a**2
    with mpmath.workdps(20):
        total = mpmath.mpf(2) ** -n  # S = 0: r = c^2 = 1
        for k in range(1, n + 1):

            def integrand(y, k=k):
                square = mpmath.exp(y)
                tau2 = unit * square
                f = mpmath.hyp1f1(-mpmath.mpf(s) / 2, mpmath.mpf(d) / 2, -1 / (2 * tau2))
                f *= (2 * tau2) ** (mpmath.mpf(s) / 2)
                f *= mpmath.gamma(mpmath.mpf(d + s) / 2) / mpmath.gamma(mpmath.mpf(d) / 2)
                half = mpmath.mpf(k) / 2
                return f * (square / 2) ** half * mpmath.exp(-square / 2) / mpmath.gamma(half)

            step = mpmath.mpf("0.125")
            places = range(int(-90 / step / max(k, 1)) - 40, int(6.5 / step))
            total += (
                mpmath.binomial(n, k)
                * mpmath.mpf(2) ** -n
                * step
                * mpmath.fsum(integrand(i * step) for i in places)
            )
    network = Network(depth=1, width=d, inner_width=n)
    layer = ResidualMoment.of(network, (n,), np.array([2 / d, 1 / n]), s)
    np.testing.assert_allclose(math.exp(s * layer.log_growth(1.0, a)), float(total), rtol=1e-9)


def test_the_memory_of_res1_is_that_of_its_log_normal_law():
    """alpha^2 = 1/2: drift and variance of log|h|^2 from section 5, in units of 1/n."""
    s, alpha = 1.3, math.sqrt(0.5)
    x = alpha ** np.arange(1, 200)
    k = 2 / np.pi * ((1 + 2 * x**2) * np.arcsin(x) + 3 * x * np.sqrt(1 - x**2))
    slope = 8 / np.pi * (np.sqrt(1 - x**2) + x * np.arcsin(x))
    mean, variance = -0.5 * 0.25 * (x * slope).sum(), 2 * 0.25 * k.sum()
    # log E|h|^s: s/2 times the mean of log|h|^2, (s/2)^2 / 2 times its variance; over s.
    growth = (s / 2 * mean + s**2 / 8 * variance) / s / 40
    np.testing.assert_allclose(memory_slack(40, (0.0, 0.0), 0.6, 0.6, s), growth, rtol=1e-12)
    assert memory_slack(40, (1.0, 1.0), 0.6, 0.6, s) == 0.0  # a linear state remembers nothing


# --------------------------------------------------------------------- the published ones


def test_the_published_expansions_are_the_papers():
    def variance(phi, s, d):
        network = Network(depth=1, width=d, block="plain", activation=phi)
        return float(Fractional(s=s, expansion="published").layers(network).scale[0, 0] ** 2)

    assert round(variance("relu", 1.0, 16) * 8, 5) == 1.07812
    assert round(variance("relu", 0.8, 64) * 32, 5) == 1.02344
    np.testing.assert_allclose(variance("linear", 0.5, 10), 1 / 10 + 1.5 / 200, rtol=1e-14)
    leaky = 2 / (1.01 * 10) + 1.0 * ((5 - 24) * 0.01 + 10) / ((6 * 0.01 + 4) * 100)
    np.testing.assert_allclose(variance(LeakyReLU(slope=0.1), 1.0, 10), leaky, rtol=1e-14)
    exact = Fractional(s=1.0).layers(Network(depth=1, width=16, block="plain"))
    assert round(float(exact.scale[0, 0] ** 2) * 8, 5) == 1.08459


def test_the_random_walk_is_order_zero_to_first_order():
    for phi, leading in (("linear", 0.5), ("relu", 1.25)):
        wide = Network(depth=1, width=4000, block="plain", activation=phi)
        ours = Fractional(s=0.0).layers(wide).scale[0, 0]
        ratio = ours / He().layers(wide).scale[0, 0]
        np.testing.assert_allclose(ratio, math.exp(leading / 4000), rtol=3 / 4000**2)
        walk = RandomWalk().layers(wide).scale[0, 0]
        np.testing.assert_allclose(walk, ours, rtol=0.06 / 4000)
    narrow = Network(depth=2, widths=(8, 2, 10), block="plain")
    expected = np.sqrt(2 / np.array([8, 2])) * np.exp(1.2 / np.array([3.6, 7.6]))
    np.testing.assert_allclose(RandomWalk().layers(narrow).scale[:, 0], expected, rtol=1e-14)


# ----------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"s": -0.1}, "s must be"),
        ({"s": 2.1}, "s must be"),
        ({"s": math.nan}, "s must be"),
        ({"s": 1.0, "preserve": "norms"}, "Did you mean 'norm'"),
        ({"s": 1.0, "given": "live"}, "dead networks"),
        ({"s": 1.0, "expansion": "first"}, "published"),
        ({"s": 1.0, "adjust": "both"}, "coefficient"),
        ({"s": 1.0, "branch": 0.0}, "branch"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(SpecError, match=says):
        Fractional(**options)


def test_what_cannot_be_kept_is_refused_with_what_can():
    network = Network(depth=2, width=5)
    with pytest.raises(SpecError, match="subharmonic"):
        Fractional(s=1.0, adjust="branch").layers(network)
    with pytest.raises(SpecError, match="smaller branch"):
        Fractional(s=1.0, adjust="skip", branch=3.0).layers(network)
    with pytest.raises(SpecError, match="skip is 0"):
        Fractional(s=1.0, skip=0.0).layers(network)
    with pytest.raises(Unsupported, match="plain nets"):
        Fractional(s=1.0, expansion="published").layers(network)
    with pytest.raises(Unsupported, match="randomised_leaky_relu"):
        Fractional(s=1.0, expansion="published").layers(
            Network(depth=1, width=5, block="plain", activation=RandomisedLeakyReLU())
        )
    steep = Network(depth=1, width=2, block="plain", activation=LeakyReLU(slope=3.0))
    with pytest.raises(SpecError, match="first order in slope"):
        Fractional(s=0.0, expansion="published").layers(steep)
    with pytest.raises(Unsupported, match="s = 0"):
        RandomWalk().layers(Network(depth=1, block="plain", activation="leaky_relu"))


# --------------------------------------------------------------------------- the command


def run(capsys, *words):
    status = main(["gain", *words])
    out, err = capsys.readouterr()
    return status, out, err


def test_gain_prints_the_scale_with_he_beside_it(capsys):
    words = "--activation leaky_relu --slope 0.1 --s 1.5 --width 1024".split()
    status, out, _ = run(capsys, *words)
    assert status == 0
    assert "0.0439879531620" in out and "0.0439748465456" in out  # the reference values
    status, out, _ = run(capsys, *words, "--format", "json")
    found = json.loads(out)
    np.testing.assert_allclose(found["sigma"], 0.04398795316204, rtol=1e-12)
    np.testing.assert_allclose(found["ratio"], 0.04398795316204 / 0.04397484654564, rtol=1e-12)


def test_gain_tells_what_keeping_a_moment_costs_the_typical_network(capsys):
    """Lyapunov exponents of section 3: ReLU, d = 100."""
    for s, exponent in ((0.5, -0.0032286), (1.0, -0.0064227), (1.5, -0.0095830), (2, -0.0127104)):
        _, out, _ = run(capsys, "--s", str(s), "--width", "100", "--format", "json")
        assert round(json.loads(out)["lyapunov_exponent"], 7) == exponent
    _, out, _ = run(capsys, "--s", "2", "--width", "100", "--format", "json")
    assert abs(json.loads(out)["log_mean_square_growth"]) < 1e-12


def test_gain_of_residual_blocks_prints_both_coefficients(capsys):
    status, out, _ = run(capsys, *"--s 1 --block res3 --width 20 --inner-width 30".split(),
                         *"--branch 0.3 --format json".split())  # fmt: skip
    found = json.loads(out)
    assert status == 0 and round(found["skip"], 5) == 0.95984 and found["status"] == "exact"
    _, out, _ = run(capsys, *"--s 1 --block res1 --width 50 --skip 0.8 --adjust branch".split())
    assert "approximation" in out and "a layer" in out


def test_gain_of_stable_weights_says_which_moments_exist(capsys):
    words = "--s 0.75 --width 20 --law stable --stability 1.5".split()
    status, out, _ = run(capsys, *words)
    assert status == 0 and "0.1068452" in out and "moments_below" in out  # 5.35098^(-1/0.75)
    status, _, err = run(capsys, *"--s 1.6 --width 20 --law stable --stability 1.5".split())
    assert status == 2 and "below 1.5" in err


def test_gain_refuses_what_has_no_meaning(capsys):
    for words, says in (
        ("--width 100", "--s 1"),
        ("--s 3", "[0, 2]"),
        ("--s 1 --width 0", "width"),
        ("--s 1 --activation gelu", "gelu"),
        ("--s 1 --activation leaky_relu --slope 1e-60", "degenerate"),
        ("--s 1 --format csv", "json"),
        ("--s 1 --beta 2", "--beta"),
    ):
        status, out, err = run(capsys, *words.split())
        assert status == 2 and out == "" and says in err


# ------------------------------------------------------------------- dropout and balance


def test_dropout_leaves_the_law_of_other_networks_alone():
    """Digests name streams and files: they are what they were before there was dropout."""
    network = Network(depth=4, width=10)
    assert "dropout" not in network.to_dict()
    law = Ensemble(Network(depth=2, width=5, block="plain", dropout=0.25), Fractional(s=1.0))
    again = Ensemble.from_dict(json.loads(json.dumps(law.to_dict())))
    assert again == law and again.digest == law.digest
    assert (
        law.digest != Ensemble(Network(depth=2, width=5, block="plain"), Fractional(s=1.0)).digest
    )


def test_under_dropout_the_moment_of_the_living_and_the_dropped_is_kept():
    """Reference value of section 2, and the measured moment: no error where tilt = order."""
    wide = Network(depth=1, width=128, block="plain", dropout=0.2)
    sigma = Fractional(s=1.0).layers(wide).scale[0, 0]
    np.testing.assert_allclose(sigma, 0.1125202232221, rtol=1e-12)
    for phi in ("relu", "linear", LeakyReLU(slope=0.3), RandomisedLeakyReLU()):
        network = Network(depth=6, width=4, block="plain", activation=phi, dropout=0.3)
        law = Ensemble(network, Fractional(s=1.3), Point())
        found = sigprop.estimate_moment(law, 1.3, replicas=50)
        np.testing.assert_allclose(found.norm_moment_log[0, :, 0], 0.0, atol=1e-9)


def test_he_under_dropout_keeps_the_mean_square():
    law = Ensemble(Network(depth=3, width=5, block="plain", dropout=0.3), He(), Point())
    found = sigprop.estimate_moment(law, 2.0, replicas=50)
    np.testing.assert_allclose(found.norm_moment_log[0, :, 0], 0.0, atol=1e-9)


def test_dropout_is_refused_where_it_has_no_law_or_no_formula():
    for wrong in (-0.1, 1.0, math.nan):
        with pytest.raises(SpecError, match="dropout"):
            Network(depth=1, dropout=wrong)
    with pytest.raises(Unsupported, match="gelu"):
        Network(depth=1, activation="gelu", dropout=0.1)
    with pytest.raises(Unsupported, match="identity"):
        Network(depth=1, block="identity", dropout=0.1)
    with pytest.raises(Unsupported, match="branch under dropout"):
        Fractional(s=1.0).layers(Network(depth=1, width=5, dropout=0.1))
    dropped = Ensemble(Network(depth=3, width=5, block="plain", dropout=0.1), He(), Point())
    with pytest.raises(Unsupported, match="conditional"):
        sigprop.simulate(dropped, "norm", replicas=2, sampler="chain")
    on_trunk = Ensemble(Network(depth=3, width=5, block="res1", dropout=0.1), He(), Point())
    for theory in (log_norm_mean, lambda law: log_norm_moment(law, 1.0)):
        with pytest.raises(Unsupported, match="res1"):
            theory(on_trunk)


def test_balanced_makes_a_state_forget_its_branches():
    """Section 5, n = 100, L layers: mean -1.125 L/n and variance 2.25 L/n of log|h|^2."""
    law = Ensemble(Network(depth=100, width=100, block="res1"), Balanced(), Point())
    assert law.network.activation == BalancedReLU()
    np.testing.assert_allclose(law.table.skip**2 + law.table.branch**2, 1.0, rtol=1e-14)
    found = sigprop.simulate(law, "norm", replicas=3000, layers=[100])
    mean, variance = 2 * found.log_norm_mean[-1, 0], 4 * found.log_norm_variance[-1, 0]
    errors = 2 * found.log_norm_mean_se[-1, 0], 4 * found.log_norm_variance_se[-1, 0]
    # The law is to leading order in 1/n: its slack of 8/n is told in the specification.
    assert_agrees(mean, -1.125, math.hypot(errors[0], 0.03), resolution=0.5)
    assert_agrees(variance, 2.25, math.hypot(errors[1], 0.06), resolution=1.2)
    active = sigprop.simulate(law, "activity", replicas=500, layers=[100], seed=1)
    assert_agrees(active.activity_mean[-1, 0], 0.5, active.activity_mean_se[-1, 0], resolution=0.05)


def test_balanced_is_refused_where_signs_mean_nothing():
    with pytest.raises(SpecError, match="alpha"):
        Balanced(alpha=1.0)
    with pytest.raises(SpecError, match="skip"):
        Balanced(skip=0.5)
    with pytest.raises(Unsupported, match="gelu"):
        Ensemble(Network(depth=1, block="res1", activation="gelu"), Balanced())
    with pytest.raises(SpecError, match="one slope"):
        BalancedReLU(low=0.0, high=0.5)


def test_orthogonal_weights_keep_the_moment_by_their_own_gain():
    """Measured: no matrix of independent entries has this law. Rows and columns in turn fewer."""
    scheme = Fractional(s=1.0, law="orthogonal", preserve="norm")
    network = Network(depth=4, widths=(3, 5, 4, 6, 3), block="plain")
    law = Ensemble(network, scheme, Point())
    found = sigprop.simulate(law, "norm", orders=[1.0], replicas=20_000)
    log, se = (found[f"norm_moment_log{end}"][0, 1:, 0] for end in ("", "_se"))
    assert_agrees(log, 0.0, se, resolution=0.1)
    gaussian = Fractional(s=1.0, preserve="norm").layers(network).scale
    assert (np.abs(law.table.scale / gaussian - 1) > 0.02).all()  # and would not do
