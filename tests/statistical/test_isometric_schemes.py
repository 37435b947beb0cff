"""What the schemes of blocks identity and projection keep, against exact values at small width.

Every estimate is an average over networks, and every test says what it would see; false alarms
are 1e-6 a test.
"""

from __future__ import annotations

import numpy as np
import pytest

from sigprop import rng
from sigprop.backends import choose
from sigprop.inputs import Equiangular, Given, Pair, Point
from sigprop.schemes import Fixup, GivenScheme, He, Normal, Risotto, SkipInit
from sigprop.spec import Ensemble, Network
from tests.stat import assert_agrees


def drawn(sampler, ensemble, fields, layers, count, seed=0):
    fields = frozenset(fields)
    chosen = choose(sampler, ensemble, fields)
    key = rng.key(seed, ensemble.digest, sampler, chosen.version)
    parts = [
        chosen.sample(
            ensemble, fields, np.array(layers), key, first, min(chosen.block, count - first)
        )
        for first in range(0, count, chosen.block)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in fields}


def assert_mean(values, truth, resolution):
    error = values.std(axis=0) / np.sqrt(len(values))
    assert_agrees(values.mean(axis=0), truth, error, resolution=resolution)


def growth(ensemble):
    """E |h_l|^2 / |h_0|^2 of block projection with a ReLU, one row a layer: exact at any width.

    Of a symmetric sum half of the square passes the activation, and sums of independent
    matrices add.
    """
    table, network = ensemble.table, ensemble.network
    fan_out = network.fans[1]
    total = [1.0]
    for layer in range(network.depth):
        half = table.scale[layer] ** 2 * fan_out[layer] / 2
        branch = table.branch[layer] ** 2 * np.prod(half[:-1])
        skip = table.skip[layer] ** 2 * half[-1]
        total.append(total[-1] * (branch + skip))
    return np.array(total)


PROJECTIONS = {
    "normal": Ensemble(
        Network(depth=3, width=6, inner_width=9, block="projection"), Normal(alpha=0.8), Point()
    ),
    "uneven": Ensemble(
        Network(depth=3, widths=(6, 5, 8, 7), inner_width=(9, 4, 6), block="projection"),
        GivenScheme(
            skip=(0.8, -1.1, 0.6),
            branch=(0.7, 0.9, -0.5),
            variance=((0.3, 0.2, 0.25), (0.15, 0.4, 0.3), (0.35, 0.25, 0.2)),
        ),
        Point(),
    ),
}


@pytest.mark.parametrize("case", PROJECTIONS)
def test_mean_squares_of_a_projection_are_exact_at_any_width(case):
    """Forward and backward, 2e5 networks, to 8%: normal keeps both."""
    ensemble = PROJECTIONS[case]
    trace = drawn("conditional", ensemble, {"log_norm", "log_gradient"}, range(4), 200_000)
    truth, widths = growth(ensemble), ensemble.network.state_widths
    alive = 1 - 0.5 ** int(widths[0])  # a network that is dead at its stem stays dead
    assert_mean(np.exp(2 * trace["log_norm"][:, :, 0]), alive * truth, 0.08)
    # An isotropic gradient at the top sees the same factors, and the ratio of widths.
    back = truth[-1] / truth[:-1] * widths[:-1] / widths[-1]
    # Where the state is dead there is no gradient: every layer below the top counts those alive.
    assert_mean(np.exp(2 * trace["log_gradient"][:, :1, 0]), alive * back[:1], 0.08)
    if case == "normal":
        np.testing.assert_allclose(truth, 1.0, rtol=1e-14)


def test_the_product_of_two_inputs_after_one_block_is_exact():
    """E <x', x~'> given h_0, h~_0: by first averaging over all matrices but the first of a branch.

    Given what the branch's hidden layer says, the two sums are Gaussian with products V, V~, C,
    and E phi(u) phi(v) = sqrt(V V~) k(C / sqrt(V V~)) / 2. 4e4 networks, to 0.15.
    """
    network = Network(depth=1, width=6, inner_width=5, block="projection", input_width=3)
    ensemble = Ensemble(network, Normal(alpha=0.8), Given([[1.0, 0.2, -0.7], [0.9, 0.8, -0.3]]))
    count = 40_000
    trace = drawn("dense", ensemble, {"log_norm", "cosine", "log_distance"}, [0, 1], count)
    # |h_1 - h~_1|^2 / |h_0 - h~_0|^2 is known by the same averages.
    table, rng_0 = ensemble.table, np.random.default_rng(5)
    s1, s2, s = table.scale[0]
    a, b = table.branch[0], table.skip[0]
    x = np.array(ensemble.inputs.vectors)
    h = np.maximum(x @ (table.stem.scale * rng_0.standard_normal((count, 3, 6))), 0.0)
    y = np.maximum(h @ (s1 * rng_0.standard_normal((count, 6, 5))), 0.0)
    gram = (a * s2) ** 2 * y @ y.swapaxes(1, 2) + (b * s) ** 2 * h @ h.swapaxes(1, 2)
    square = gram[:, 0, 0] + gram[:, 1, 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.sqrt(gram[:, 0, 0] * gram[:, 1, 1])
        c = np.clip(np.where(size > 0, gram[:, 0, 1] / size, 0.0), -1, 1)
    kernel = (np.sqrt(1 - c * c) + c * (np.pi - np.arccos(c))) / np.pi
    apart = 6 * (square / 2 - size * kernel)
    start = ((h[:, 0] - h[:, 1]) ** 2).sum(axis=1)
    truth = np.where(start > 0, apart / np.where(start > 0, start, 1.0), 0.0)
    found = np.exp(2 * trace["log_distance"][:, 1, 0])
    error = np.sqrt((found.var() + truth.var()) / count)
    assert_agrees(found.mean(), truth.mean(), error, resolution=0.15)


@pytest.mark.parametrize("alpha, half, hidden", [(1.0, 10, 10), (0.6, 10, 6), (1.3, 6, 10)])
def test_branch_and_skip_of_a_risotto_projection_are_balanced_as_alpha_says(alpha, half, hidden):
    """Branch 2 a^2 h and skip 2 (1 + a^2 h), h the share of pairs that the branch carries."""
    network = Network(depth=4, width=2 * half, inner_width=2 * hidden, block="projection")
    ensemble = Ensemble(network, Risotto(alpha=alpha), Point())
    trace = drawn("dense", ensemble, {"branch_energy", "skip_energy"}, [1, 2, 4], 600)
    share = min(half / hidden, hidden / half)
    assert_mean(trace["branch_energy"][..., 0], 2 * alpha**2 * share, 0.35)
    assert_mean(trace["skip_energy"][..., 0], 2 * (1 + alpha**2 * share), 0.9)


def test_branch_and_skip_of_a_risotto_identity_block_do_not_depend_on_alpha():
    """Branch 2 + beta^2, skip beta^2: three to one at beta = 1."""
    network = Network(depth=4, width=20, block="identity")
    for alpha, beta in ((0.4, 1.0), (1.7, 0.7)):
        ensemble = Ensemble(network, Risotto(alpha=alpha, skip=beta), Point())
        trace = drawn("dense", ensemble, {"branch_energy", "skip_energy"}, [1, 2, 4], 600)
        assert_mean(trace["branch_energy"][..., 0], 2 + beta**2, 0.3)
        np.testing.assert_allclose(trace["skip_energy"], beta**2, rtol=1e-12)


def test_risotto_keeps_the_angle_in_looks_linear_coordinates_and_its_image_on_average():
    """cos z to 1e-12 at depth 1000; the raw cosine stays where the stem put it, to 0.04."""
    network = Network(depth=1000, width=24, block="projection")
    ensemble = Ensemble(network, Risotto(), Pair(cosine=0.2))
    fields = {"cosine", "looks_linear_cosine", "log_looks_linear_distance", "log_norm"}
    trace = drawn("dense", ensemble, fields, [0, 500, 1000], 320)
    np.testing.assert_allclose(trace["looks_linear_cosine"], 0.2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(trace["log_looks_linear_distance"], 0.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(trace["log_norm"], 0.0, rtol=0, atol=1e-12)
    assert_mean(trace["cosine"][:, 1:, 0] - trace["cosine"][:, :1, 0], 0.0, 0.09)


def test_fixup_takes_a_first_step_that_does_not_know_the_depth():
    """|df|/eta = Nm/N |h_0|^2 |p_L|^2, whatever the depth; without the scaling depth times it."""
    for depth in (5, 20, 80):
        network = Network(depth=depth, width=20, inner_width=12)
        for scheme, factor in ((Fixup(), 1.0), (Fixup(variant="unscaled"), depth)):
            ensemble = Ensemble(network, scheme, Point())
            trace = drawn("dense", ensemble, {"log_first_step"}, [0, depth], 600)
            assert np.isneginf(trace["log_first_step"][:, 0]).all()
            step = np.exp(trace["log_first_step"][:, 1, 0]) / factor
            assert_mean(step, 12 / 20, 0.15)


def test_the_first_step_of_skipinit_grows_with_depth():
    """|df|/eta = 2 L / N |h_0|^2 |p_L|^2: the branch coefficients alone, each by F . p."""
    for depth in (5, 20, 80):
        ensemble = Ensemble(Network(depth=depth, width=20, block="res3"), SkipInit(), Point())
        trace = drawn("dense", ensemble, {"log_first_step"}, [depth], 4000)
        step = np.exp(trace["log_first_step"][:, 0, 0])
        assert_mean(step / depth, 2 / 20, 0.03)


def test_the_first_step_is_the_sum_of_squares_of_all_derivatives():
    """By moving every weight and every branch coefficient of a small network a little."""
    from sigprop.backends import reference

    ensemble = Ensemble(
        Network(depth=2, width=3, inner_width=2, block="identity", input_width=2),
        SkipInit(initial=0.6),
        Point(),
    )
    for seed in range(40):
        draws = reference.draw(ensemble, [np.random.default_rng(seed)])
        signal = reference.forward(ensemble, draws)
        fields = frozenset({"log_first_step"})
        found = reference.measure(ensemble, draws, np.array([2]), fields)["log_first_step"]
        if not np.isfinite(found).all():  # dead
            continue

        def readout(ensemble=ensemble, draws=draws):
            end = reference.forward(ensemble, draws, differentiate=False)
            return float(np.sum(draws.top * np.ldexp(end.states[-1], end.exponents[-1][..., None])))

        total, step = 0.0, 1e-6
        for matrices in draws.weights:
            for w in matrices:
                for at in np.ndindex(w.shape):
                    kept = w[at]
                    w[at] = kept + step
                    up = readout()
                    w[at] = kept - step
                    total += ((up - readout()) / (2 * step)) ** 2
                    w[at] = kept
        branch = ensemble.table.branch
        for layer in range(2):
            kept = branch[layer]
            branch[layer] = kept + step
            up = readout()
            branch[layer] = kept - step
            total += ((up - readout()) / (2 * step)) ** 2
            branch[layer] = kept
        unit = np.sum(signal.states[0] ** 2) * np.sum(draws.top**2)
        np.testing.assert_allclose(np.exp(found.item()), total / unit, rtol=1e-6)


def test_diversity_is_one_where_half_of_the_inputs_turn_every_unit_on():
    """Two opposite inputs: each unit of the first layer is on for one of them exactly."""
    network = Network(depth=2, width=7, block="plain")
    ensemble = Ensemble(network, He(), Pair(cosine=-1.0))
    trace = drawn("dense", ensemble, {"diversity"}, [1], 16)
    np.testing.assert_array_equal(trace["diversity"], 1.0)
    many = Ensemble(network, He(), Equiangular(count=5, cosine=0.9))
    assert (drawn("dense", many, {"diversity"}, [1], 64)["diversity"].mean()) < 0.5
