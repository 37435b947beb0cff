"""Singular values of the Jacobian are right: against exact arithmetic, the reference, by hand."""

import dataclasses
import itertools
import math

import mpmath
import numpy as np
import pytest

import sigprop
from sigprop import rng
from sigprop.backends import choose, reference
from sigprop.backends.graded import Graded, product_logs
from sigprop.backends.jacobian import Jacobian, Weights, draws_of, singular_logs
from sigprop.errors import Unsupported
from sigprop.inputs import Pair
from sigprop.observables.spectrum import Spectrum
from sigprop.processes import FractionalGaussianNoise
from sigprop.schemes import GivenScheme, He, NFResNet, ReZero, Risotto
from sigprop.spec import Ensemble, Network
from tests.ensembles import BLOCKS, BRANCH, SKIP, uneven

KEY = np.array([3, 5], np.uint32)


def exact_logs(factors, digits=130):
    """Logarithms of the singular values of a product, in arithmetic of many digits."""
    with mpmath.workdps(digits):
        product = mpmath.matrix(factors[0].tolist())
        for factor in factors[1:]:
            product = mpmath.matrix(factor.tolist()) * product
        values = mpmath.svd_r(product, compute_uv=False)
        return np.array([float(mpmath.log(v)) if v > 0 else -math.inf for v in values])


def graded_logs(factors):
    product = Graded(factors[0].shape[1])
    for factor in factors:
        product.absorb(factor @ product.basis)
    return product.singular_logs(min(factors[0].shape[1], len(factors[-1])))


# ----------------------------------------------------------------- the product


@pytest.mark.parametrize("sizes", [(5,) * 31, (5, 3, 6, 4) * 5, (3, 7, 7, 4), (6, 2, 6)])
def test_every_singular_value_of_a_long_product_is_right(sizes):
    """The smallest is 1e-45 of the largest, and all have 12 digits."""
    generator = np.random.default_rng(1)
    factors = [generator.standard_normal((b, a)) for a, b in itertools.pairwise(sizes)]
    truth, found = exact_logs(factors), graded_logs(factors)
    rank = min(sizes)
    np.testing.assert_allclose(found[:rank], truth[:rank], rtol=0, atol=1e-12)
    assert np.isneginf(found[rank:]).all()


def test_a_product_of_factors_that_are_graded_the_wrong_way_round_is_right():
    """The small columns first: sorting saves T. What is lost is the condition of one factor."""
    generator = np.random.default_rng(2)
    grades = np.array([1e-4, 1e-1, 1e1, 1e3])
    factors = [generator.standard_normal((4, 4)) * grades for _ in range(12)]
    truth = exact_logs(factors)
    assert truth[0] - truth[-1] > 80
    condition = max(np.linalg.cond(factor) for factor in factors)
    np.testing.assert_allclose(
        graded_logs(factors), truth, rtol=0, atol=12 * 4 * 2.0**-52 * condition
    )


def test_columns_are_sorted_before_they_are_orthogonalised():
    """The first factor puts the smallest first: unsorted, T would be singular to rounding."""
    generator = np.random.default_rng(6)
    factors = [np.diag([1e-20, 1e-7, 1.0, 1e18])]
    factors += [generator.standard_normal((4, 4)) for _ in range(8)]
    truth = exact_logs(factors)
    assert truth[0] - truth[-1] > 80
    np.testing.assert_allclose(graded_logs(factors), truth, rtol=0, atol=1e-10)


def test_what_is_too_small_to_be_held_is_marked_and_not_invented():
    step = np.diag([1.0, math.exp(-1.0)])
    product = Graded(2)
    for layer in range(1, 401):
        product.absorb(step @ product.basis)
        found = product.singular_logs(2)
        assert found[0] == pytest.approx(0.0, abs=1e-12)
        if layer < 300:
            assert found[1] == pytest.approx(-layer, rel=1e-12)
        elif layer > 300:
            assert np.isnan(found[1])


def test_a_product_multiplied_out_says_when_it_is_not_to_be_trusted():
    logs, right = product_logs(np.diag([1.0, 1e-9]), 3, 2)
    assert not right and logs[0] == pytest.approx(3 * math.log(2), rel=1e-14)
    logs, right = product_logs(np.diag([1.0, 1e-7, 1e-30]), 0, 2)
    assert right and logs[1] == pytest.approx(math.log(1e-7), rel=1e-9) and logs[2] == -math.inf
    assert product_logs(np.zeros((3, 2)), 0, 2)[0].tolist() == [-math.inf] * 2


# ----------------------------------------------------------------- the sampler


def walked(ensemble, replica, layers):
    draws = draws_of(ensemble, KEY, replica)
    signal = reference.forward(ensemble, draws)
    return singular_logs(ensemble, draws, signal, layers), draws, signal


def activated(block, activation="relu", **scheme):
    """An uneven ensemble of a block that activates the sum; a projection changes its width."""
    shape = {"widths": (6, 8, 5, 7, 6)} if block == "projection" else {"width": 6}
    network = Network(
        depth=4,
        block=block,
        activation=activation,
        input_width=4,
        inner_width=(5, 7, 4, 9),
        **shape,
    )
    scheme = {"variance": ((0.5, 0.78, 0.3)[: network.matrices],) * 4, **scheme}
    given = GivenScheme(skip=SKIP, branch=BRANCH, **scheme)
    return Ensemble(network, given, Pair(cosine=0.3))


CASES = {
    "identity": activated("identity"),
    "projection": activated("projection"),
    "projection tanh": activated("projection", "tanh", bias_variance=0.2),
    "identity orthogonal": activated("identity", law="orthogonal"),
    "risotto projection": Ensemble(
        Network(depth=4, block="projection", widths=(8, 8, 12, 12, 16), inner_width=6),
        Risotto(alpha=0.7, skip=0.9),
    ),
    "images": Ensemble(
        Network(depth=3, block="projection", width=4, image=4, kernel=3, input_width=2), He()
    ),
    "images, plain": Ensemble(
        Network(depth=2, block="plain", widths=(2, 5, 3), image=4, kernel=3), He(bias_variance=0.1)
    ),
    "risotto images": Ensemble(
        Network(depth=3, block="projection", width=8, image=4, kernel=3), Risotto()
    ),
    "risotto identity": Ensemble(
        Network(depth=4, block="identity", width=10, inner_width=4), Risotto(alpha=0.5)
    ),
    **{block: uneven(block) for block in BLOCKS},
    "preact tanh": uneven("preact", "tanh", bias_variance=0.3, inner_layers=3, hidden=(4, 7)),
    "inner gelu": uneven("inner", "gelu"),
    "randomised": uneven("res3", "randomised_leaky_relu"),
    "uniform": uneven("res3", law="uniform"),
    "correlated": uneven("res3", hidden=(3,), process=FractionalGaussianNoise(hurst=0.8)),
    "centred": Ensemble(Network(depth=4, width=4, block="preact"), NFResNet(), Pair()),
}


@pytest.mark.parametrize("case", CASES)
def test_the_sampler_agrees_with_dense_products_of_its_own_weights(case):
    """To rounding, at every layer and in every network, dead units and all."""
    ensemble = CASES[case]
    layers = np.arange(ensemble.network.depth + 1)
    for replica in range(40):
        found, draws, signal = walked(ensemble, replica, layers)
        full, exponents = reference.jacobians(
            ensemble, draws, signal.derivatives, signal.stem_derivative
        )
        for at, (j, exponent) in enumerate(zip(full, exponents)):
            values = np.linalg.svd(j[0], compute_uv=False) * 2.0 ** exponent[0]
            mine = found[at]
            assert (mine[len(values) :] == np.inf).all()
            small = np.exp(np.where(np.isnan(mine), -np.inf, mine[: len(mine)]))[: len(values)]
            np.testing.assert_allclose(small, values, rtol=1e-12, atol=1e-14 * values[0])


def test_the_reference_differentiates_the_network():
    """Its Jacobian is that of finite differences, which know nothing of derivatives."""
    post = [activated(b, "tanh", bias_variance=0.3) for b in ("identity", "projection")]
    for ensemble in [*(uneven(b, "tanh", bias_variance=0.3) for b in BLOCKS), *post]:
        block = ensemble.network.block
        draws = reference.draw(ensemble, [np.random.default_rng(7)])
        signal = reference.forward(ensemble, draws)
        j, exponents = reference.jacobians(
            ensemble, draws, signal.derivatives, signal.stem_derivative
        )
        step = 1e-5
        columns = []
        for i in range(draws.inputs.shape[2]):
            moved = []
            for sign in (1, -1):
                inputs = draws.inputs.copy()
                inputs[..., i] += sign * step
                at = dataclasses.replace(draws, inputs=inputs)
                moved.append(reference.forward(ensemble, at).states[-1][0, 0])
            columns.append((moved[0] - moved[1]) / (2 * step))
        truth = np.stack(columns, axis=1)
        np.testing.assert_allclose(
            j[-1][0] * 2.0 ** exponents[-1][0], truth, rtol=1e-7, atol=1e-9, err_msg=block
        )


def test_small_singular_values_of_a_deep_plain_net_are_right_and_zeros_are_counted():
    """Depth 30, width 6: what is left of the rank is known to 1e-9, 20 decades down."""
    ensemble = Ensemble(Network(depth=30, width=6, block="plain", activation="leaky_relu"), He())
    found, draws, signal = walked(ensemble, 0, np.array([30]))
    factors = []
    for layer in range(30):
        factors += [draws.weights[layer][0][0], np.diag(signal.derivatives[layer][0][0, 0])]
    truth = exact_logs(factors)
    assert truth[0] - truth[-1] > 40
    np.testing.assert_allclose(found[0], truth, rtol=0, atol=1e-9)

    dying = Ensemble(Network(depth=6, width=9, block="plain"), He())
    for replica in range(20):
        found, _, signal = walked(dying, replica, np.arange(7))
        alive = [9] + [int(np.count_nonzero(d[0][0, 0])) for d in signal.derivatives]
        rank = np.minimum.accumulate(alive)
        assert (np.isneginf(found).sum(1) == 9 - rank).all()


def test_no_depth_overflows_and_the_scale_is_kept():
    """A layer multiplies by 3 exactly; the depth of 2000 would be 3^2000."""
    ensemble = Ensemble(Network(depth=2000, width=3), ReZero(skip=3.0))
    found, _, _ = walked(ensemble, 0, np.array([0, 1000, 2000]))
    expected = np.array([0, 1000, 2000])[:, None] * math.log(3.0) * np.ones(3)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_weights_are_the_same_whenever_they_are_asked_for():
    ensemble = uneven("inner", hidden=(3, 5))
    one, other = Weights(ensemble, KEY, 4), Weights(ensemble, KEY, 4)
    other.keeps = False
    forth = [one[layer] for layer in range(4)]
    back = [other[layer] for layer in (3, 2, 1, 0)][::-1]
    for a, b in zip(forth, back):
        for x, y in zip(a, b):
            np.testing.assert_array_equal(x, y)
    assert np.abs(Weights(ensemble, KEY, 5)[0][0] - one[0][0]).min() > 0


# -------------------------------------------------------------------- isometries


@pytest.mark.parametrize("block", ["projection", "identity"])
def test_a_risotto_network_is_an_isometry_at_depth_1000(block):
    """All singular values from the network's input are 1 to 1e-10, in every network drawn."""
    ensemble = Ensemble(Network(depth=1000, width=16, block=block), Risotto())
    for replica in range(2):
        found, _, _ = walked(ensemble, replica, np.array([1, 10, 100, 1000]))
        assert found.shape == (4, 8)
        assert np.abs(np.expm1(found)).max() < 1e-10


def test_a_risotto_network_of_images_is_an_isometry():
    """3x3 kernels, 4 channels on 4 x 4 pixels, 30 blocks."""
    network = Network(depth=30, block="projection", width=4, image=4, kernel=3)
    found, _, _ = walked(Ensemble(network, Risotto()), 0, np.array([1, 30]))
    assert found.shape == (2, 32)
    assert np.abs(np.expm1(found)).max() < 1e-10


@pytest.mark.parametrize("alpha", [0.3, 2.0])
@pytest.mark.parametrize("skip", [0.7, 1.0])
@pytest.mark.parametrize("block", ["projection", "identity"])
def test_whatever_the_coefficients_a_risotto_network_is_an_isometry(block, skip, alpha):
    """Depth 100; coefficients multiply rounding by (1 + alpha / skip) or so a layer, no more."""
    ensemble = Ensemble(
        Network(depth=100, width=12, block=block, inner_layers=3), Risotto(alpha=alpha, skip=skip)
    )
    found, _, _ = walked(ensemble, 0, np.array([1, 100]))
    assert np.abs(np.expm1(found)).max() < 1e-10


def test_one_block_on_the_whole_space_is_no_isometry_and_that_is_told():
    """Its singular values are sqrt 2 and 0, half of each: pairs are an n-dimensional cone.

    The derivative must be taken at the network's input: on all of R^2n a block projects on
    the pairs first.
    """
    ensemble = Ensemble(Network(depth=3, width=14, block="projection"), Risotto())
    draws = draws_of(ensemble, KEY, 0)
    signal = reference.forward(ensemble, draws)
    w1, w2, s = (w[0] for w in draws.weights[1])
    inner, outer = (np.diag(d[0, 0]) for d in signal.derivatives[1])
    block = outer @ (s + w2 @ inner @ w1)
    values = np.linalg.svd(block, compute_uv=False)
    np.testing.assert_allclose(values[:7], math.sqrt(2), rtol=1e-13)
    np.testing.assert_allclose(values[7:], 0.0, atol=1e-14)
    whole, _, _ = walked(ensemble, 0, np.array([3]))
    np.testing.assert_allclose(whole, 0.0, atol=1e-14)


def test_narrowing_projects_and_widening_does_not():
    """The rank that is lost is counted as exact zeros, and all else stays 1."""
    wide = Network(depth=3, block="projection", widths=(8, 12, 12, 20), input_width=4)
    found, _, _ = walked(Ensemble(wide, Risotto()), 0, np.array([3]))
    np.testing.assert_allclose(found, 0.0, atol=1e-14)
    narrow = Network(depth=3, block="projection", widths=(8, 6, 10, 10), input_width=4)
    found, _, _ = walked(Ensemble(narrow, Risotto(lossy=True)), 0, np.array([3]))
    np.testing.assert_allclose(found[0, :3], 0.0, atol=1e-14)
    assert found[0, 3] == -math.inf


# ------------------------------------------------------------------ in the house


def test_every_bit_is_the_same_for_any_number_of_workers_and_after_a_resume(tmp_path):
    ensemble = uneven("res3", inputs=Pair(cosine=0.2))
    run = {"observe": ["spectrum", "separability"], "seed": 3}
    whole = sigprop.simulate(ensemble, replicas=23, workers=1, **run)
    many = sigprop.simulate(ensemble, replicas=23, workers=3, **run)
    path = tmp_path / "part.nc"
    sigprop.simulate(ensemble, replicas=9, out=path, workers=2, **run)
    resumed = sigprop.simulate(ensemble, replicas=23, out=path, resume=True, workers=2, **run)
    for name in whole.data_vars:
        np.testing.assert_array_equal(whole[name], many[name], err_msg=name)
        if not name.startswith(("cosine_quantile", "log_distance_quantile")):
            np.testing.assert_array_equal(whole[name], resumed[name], err_msg=name)


def test_the_spectrum_is_measured_on_request_only():
    ensemble = uneven("res3")
    assert "singular_density" not in sigprop.simulate(ensemble, replicas=4)
    result = sigprop.simulate(ensemble, "spectrum", replicas=4)
    assert result.attrs["sampler"] == "jacobian"
    assert result.sizes["layer"] == 5 and result.sizes["singular_bin"] == 321
    kept = sigprop.simulate(ensemble, "spectrum", replicas=3, keep=[4])
    assert kept.replica_log_singular.shape == (3, 1, 4)


def test_a_spectrum_too_large_is_refused_with_the_width_that_would_fit():
    wide = Ensemble(Network(depth=3, width=20_000), He())
    with pytest.raises(Unsupported, match=r"GiB a worker at width 20000.*width of about (\d+)"):
        sigprop.simulate(wide, "spectrum", replicas=1)
    text = Jacobian().refusal(wide, frozenset({"log_singular"}))
    fits = int(text.split("width of about ")[1].split()[0])
    narrower = Ensemble(Network(depth=3, width=fits), He())
    assert Jacobian().refusal(narrower, frozenset({"log_singular"})) is None
    with pytest.raises(Unsupported, match="--sampler jacobian"):
        choose("conditional", uneven("res3"), frozenset({"log_singular"}))


# ---------------------------------------------------------------- the observable


def told(logs, **options):
    observable = Spectrum(**options)
    found = observable.finalize(observable.observe({"log_singular": np.asarray(logs, float)}))
    return {name: values[1] for name, values in found.items()}


def test_estimates_are_those_made_by_hand():
    """Two networks of three values: a zero, an unknown one, one out of the bins."""
    logs = [[[math.log(2), 0.0, -math.inf]], [[9.0, math.log(0.5), math.nan]]]
    found = told(logs, orders=(1.0, 2.0), quantiles=(0.5,))
    expected = {
        "log_singular_mean": ((math.log(2) / 2) + (9 + math.log(0.5)) / 2) / 2,
        "log_singular_largest": (math.log(2) + 9) / 2,
        "log_singular_smallest": math.log(0.5) / 2,
        "singular_zero_fraction": 1 / 6,
        "singular_unresolved_fraction": 1 / 6,
        "singular_above_fraction": 1 / 6,
        "singular_below_fraction": 0.0,
        "isometry_max_log": math.log((1 + math.expm1(9)) / 2),
        "isometry_rms_log": math.log(
            (math.sqrt((1 + 0 + 1) / 3) + math.sqrt((math.expm1(9) ** 2 + 0.25 + 1) / 3)) / 2
        ),
    }
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, rel=1e-12), name
    assert np.isnan(found["log_singular_condition"][0])
    moment = [math.log((3 / 3 + (math.exp(9) + 0.5) / 3) / 2)]
    moment.append(math.log((5 / 3 + (math.exp(18) + 0.25) / 3) / 2))
    np.testing.assert_allclose(found["singular_moment_log"][:, 0], moment, rtol=1e-12)
    middle = ((math.log(2) / 2) + (9 + math.log(0.5)) / 2) / 2
    assert found["log_singular_quantile"][0, 0] == pytest.approx(middle, rel=1e-12)
    density = found["singular_density"][0] * 0.05
    assert density.sum() == pytest.approx(3 / 6, rel=1e-12)
    assert density[160] == pytest.approx(1 / 6, rel=1e-12)  # ln 1 = 0 is the middle of a bin


def test_an_isometry_has_distance_zero_and_all_of_its_values_in_one_bin():
    rounding = np.random.default_rng(0).normal(0, 1e-15, (5, 1, 20))
    found = told(rounding)
    assert found["singular_density"][0, 160] * 0.05 == pytest.approx(1.0, rel=1e-12)
    assert found["isometry_max_log"][0] < math.log(1e-14)
    assert told(np.zeros((5, 1, 20)))["isometry_max_log"][0] == -math.inf


def test_sums_that_would_overflow_do_not():
    found = told(np.array([[[2000.0, -2000.0]], [[1990.0, -5.0]]]))
    assert found["isometry_max_log"][0] == pytest.approx(2000 + math.log((1 + math.exp(-10)) / 2))
    assert np.isfinite(found["singular_moment_log"]).all()


def test_an_error_is_that_between_networks():
    """Values of one network repel each other, and are no sample."""
    generator = np.random.default_rng(4)
    shift = generator.normal(0, 0.3, (400, 1, 1))
    found = told(shift + np.linspace(-1, 1, 50))
    assert found["log_singular_mean_se"][0] == pytest.approx(shift.std(ddof=1) / 20, rel=1e-9)


def test_the_law_of_the_reference_is_that_of_the_sampler():
    """Two samplers of one law, on the numbers that an observable reads (KS, alpha 1e-6 / 6)."""
    from tests.stat import ALPHA, assert_same_law

    ensemble = uneven("res3", law="uniform")
    layers, fields, count = np.array([2, 4]), frozenset({"log_singular"}), 4000
    samples = {}
    for name in ("reference", "jacobian"):
        sampler = choose(name, ensemble, fields)
        key = rng.key(0, ensemble.digest, name, 1)
        parts = [
            sampler.sample(ensemble, fields, layers, key, first, sampler.block)
            for first in range(0, count, sampler.block)
        ]
        samples[name] = np.concatenate([part["log_singular"] for part in parts])
    for at in range(2):
        for place in (0, 1, 3):
            a, b = (samples[name][:, at, place] for name in ("reference", "jacobian"))
            assert_same_law(a, b, resolution=0.13, alpha=ALPHA / 6, name=f"{at}, {place}")
