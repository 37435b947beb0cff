"""The generators: published vectors, addresses, and the laws of everything drawn from them.

Statistical assertions fire by chance once in 10^6 (`tests.stat.ALPHA`) and say what they
would see; the seed is fixed, so that they do so once for all. `tests/verification` repeats
the tests of normals and uniforms on 10^8 numbers.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from sigprop import rng
from sigprop.kernels import lanes, philox, weights
from tests.draws import (
    KEY,
    assert_chances,
    assert_event,
    assert_law,
    assert_moments,
    binomials,
    chi_squares,
    counter_words,
    normals,
    uniforms,
    weight_sample,
)
from tests.stat import assert_agrees

# Of the Random123 distribution (kat_vectors, philox4x32 10): counter, key, words.
ONES = 0xFFFFFFFF
PUBLISHED = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)
N = 10**7  # normals and uniforms


# -------------------------------------------------------------------- known answers


@pytest.mark.parametrize("counter, key, words", PUBLISHED)
def test_words_are_the_published_ones(counter, key, words):
    position, layer, replica, purpose = counter
    found = counter_words(key, layer, replica, purpose, position, 1)
    assert found.tolist() == [list(words)]


@pytest.mark.parametrize("counter, key, words", PUBLISHED)
def test_words_across_lanes_are_the_published_ones(counter, key, words):
    position, layer, replica, purpose = counter
    out = np.zeros((4, lanes.LANES), np.uint32)
    a, b = (np.uint64(k) for k in key)
    # Lane 0 alone: the others belong to the replicas that follow.
    lanes.words(a, b, position, layer, np.uint64(replica), purpose, 0, out)
    assert out[:, 0].tolist() == list(words)
    one = lanes._philox_scalar(np.array(key, np.uint32), position, layer, replica, purpose)
    assert [int(x) for x in one] == list(words[:3])


def test_lanes_and_blocks_are_one_generator():
    out = np.zeros((4, lanes.LANES), np.uint32)
    a, b = (np.uint64(k) for k in KEY)
    lanes.words(a, b, 5, 6, np.uint64(1000), 7, 0, out)
    for lane in (0, 1, 100, lanes.LANES - 1):
        assert out[:, lane].tolist() == counter_words(KEY, 6, 1000 + lane, 7, 5, 1)[0].tolist()


# ------------------------------------------------------------------------ addresses


def test_every_part_of_an_address_gives_other_words():
    here = {"key": KEY.tolist(), "layer": 3, "replica": 4, "purpose": 5, "start": 0, "count": 50}
    other = (
        {"key": [int(KEY[0]) ^ 1, int(KEY[1])]},
        {"key": [int(KEY[0]), int(KEY[1]) ^ 1]},
        {"layer": 4},
        {"replica": 5},
        {"replica": 4 + 2**31},
        {"purpose": 6},
        {"purpose": 5 + 256},
        {"start": 50},
    )
    drawn = [counter_words(**{**here, **change}) for change in ({}, *other)]
    words = np.concatenate(drawn).ravel()
    # A counter gives four words that differ from others' by chance alone: of 1800 words two
    # are equal with probability 4e-4.
    assert len(np.unique(words)) == words.size


@pytest.mark.parametrize("start, count", [(0, 1), (17, 3), (100, 141), (240, 100), (0, 1000)])
def test_a_counter_gives_the_same_words_in_every_stretch(start, count):
    whole = counter_words(KEY, 1, 2, 3, 0, 1000)
    stretch = counter_words(KEY, 1, 2, 3, start, count)
    assert (stretch == whole[start : start + count]).all()


def test_normals_and_uniforms_depend_on_address_and_count_alone():
    """And a whole chunk stays as it is, however many chunks follow."""
    chunk = 4 * philox.CHUNK
    for draw in (philox.normals, philox.uniforms):

        def drawn(count, fill=0, draw=draw):
            scratch = philox.new_scratch()
            scratch[0][:], scratch[1][:] = fill, fill
            out = np.full(philox.padded(count) + 16, 1e9 + fill)
            draw(KEY, 1, 2, 3, count, scratch, out)
            assert (out[philox.padded(count) :] == 1e9 + fill).all(), "wrote beyond its block"
            assert (np.abs(out[:count]) < 10).all(), "left something out"
            return out[:count]

        for count in (1, 16, 17, chunk - 1, chunk, chunk + 1, 3 * chunk + 100):
            assert (drawn(count) == drawn(count, fill=7)).all()
        assert (drawn(3 * chunk + 100)[: 3 * chunk] == drawn(5 * chunk)[: 3 * chunk]).all()


def test_keys_differ_by_seed_label_sampler_and_version():
    keys = [
        rng.key(*run)
        for run in (
            (0, "a", "chain", 1),
            (1, "a", "chain", 1),
            (0, "b", "chain", 1),
            (0, "a", "dense", 1),
            (0, "a", "chain", 2),
        )
    ]
    assert len({tuple(k) for k in map(np.ndarray.tolist, keys)}) == len(keys)
    assert (rng.key(0, "a", "chain", 1) == keys[0]).all()


def test_neighbours_share_nothing():
    """Normals at neighbouring layers, replicas, purposes and positions are uncorrelated.

    So are their squares, which see what a common radius would do. Seen: correlations of 0.015.
    """
    n = 500_000
    scratch = philox.new_scratch()

    def at(layer, replica, purpose):
        out = np.empty(philox.padded(n))
        philox.normals(KEY, layer, replica, purpose, n, scratch, out)
        return out[:n]

    x = at(3, 4, philox.FORWARD)
    others = [at(4, 4, 1), at(3, 5, 1), at(3, 4, 2), at(3, 4, 1 + 256)]
    chunk, size = 4 * philox.CHUNK, philox.CHUNK
    # Within a chunk: next position, words of one counter (size apart), a Box-Muller pair.
    whole = x[: n // chunk * chunk].reshape(-1, chunk)
    pairs = [(x, y) for y in others]
    pairs += [(whole[:, :-k].ravel(), whole[:, k:].ravel()) for k in (1, 2, size, 2 * size)]
    correlation = [np.mean(a * b) for a, b in pairs]
    squares = [np.mean((a**2 - 1) * (b**2 - 1)) / 2 for a, b in pairs]
    sizes = np.array([len(a) for a, _ in pairs])
    assert_agrees(correlation, 0.0, sizes**-0.5, resolution=0.022)
    assert_agrees(squares, 0.0, sizes**-0.5, resolution=0.022)


# -------------------------------------------------------------------------- normals


def test_normals_are_box_muller_to_single_precision():
    """The whole map, its ends included: the only errors are rounding, below 4e-7 of r."""
    words = counter_words(KEY, 0, 0, 0, 0, 250_000).ravel()
    ends = [0, 1, 2, 3, 2**29, 2**30, 0xC0000000, 0xC0000002, 0xC0000004, 2**32 - 2, 2**32 - 1]
    ends += [round(2**32 * x) for x in (0.5, math.sqrt(0.5), 0.7499999, 0.7500001, 0.999999)]
    radial, angular = np.meshgrid(ends, [*ends, 2**31, 2**31 - 1, 2**31 + 2**29, 2**30 - 1])
    half = len(words) // 2
    radial = np.concatenate([words[:half], radial.ravel().astype(np.uint32)])
    angular = np.concatenate([words[half:], angular.ravel().astype(np.uint32)])
    size = len(radial)
    out = np.empty(2 * size, np.float32)
    philox.box_muller(size, np.concatenate([radial, angular]), out)
    found = out[:size].astype(float) + 1j * out[size:]

    r = np.sqrt(-2 * np.log(((radial >> 1) + 0.5) / 2.0**31))
    t = np.pi / 4 * ((angular << 2).view(np.int32) / 2.0**31)
    cosine, sine = np.where(angular >> 31, -1, 1) * np.cos(t), np.sin(t)
    swap = (angular >> 30) & 1 == 1
    truth = r * np.where(swap, sine + 1j * cosine, cosine + 1j * sine)
    error = np.abs(found - truth) / r
    assert error.max() < 4e-7, f"{error.max():.2g} at word {radial[error.argmax()]:#x}"
    assert r.max() == pytest.approx(math.sqrt(2 * math.log(2.0**32)))  # the stated truncation


@pytest.fixture(scope="module")
def many_normals():
    return normals(N)


def test_normals_have_the_normal_law(many_normals):
    """Seen: a distance of 0.0017 between distribution functions."""
    assert_law(many_normals, ndtr, resolution=0.0017)


def test_normals_have_the_moments_of_the_normal_law(many_normals):
    """To the eighth. Seen: 0.0036 deviations of a power: 0.5% of the fourth, 5% of the eighth."""
    moments = [0 if k % 2 else math.prod(range(k - 1, 0, -2)) for k in range(17)]
    assert_moments(many_normals, moments, resolution=0.0036)


def test_normals_have_the_tails_of_the_normal_law(many_normals):
    """Beyond 3, 4, 5 on either side. Seen: 1.06, 1.42 and 9.1 times as many."""
    for at, factor in ((3, 1.06), (4, 1.42), (5, 9.1)):
        count = int((np.abs(many_normals) > at).sum())
        assert_event(count, N, 2 * float(ndtr(-at)), factor=factor)


# ------------------------------------------------------------------------- uniforms


def test_uniforms_have_the_uniform_law():
    """Seen: a distance of 0.0017; 0.0036 deviations of each of eight powers."""
    x = uniforms(N)
    assert_law(x, lambda u: (u + 1) / 2, resolution=0.0017)
    assert_moments(x, [0 if k % 2 else 1 / (k + 1) for k in range(17)], resolution=0.0036)
    assert np.abs(x).max() < 1 and np.abs(x).min() > 0


def test_uniforms_are_odd_multiples_of_one_step():
    k = uniforms(10**6) * 2.0**23 - 0.5
    assert (k == np.rint(k)).all() and k.min() >= -(2**23) and k.max() < 2**23


# ----------------------------------------------------------------------- chi-square


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 50, 100_000])
@pytest.mark.parametrize("each", [False, True], ids=["same", "each"])
def test_chi_squares_have_their_law(degrees, each):
    """Seen: a distance of 0.0037."""
    sample = chi_squares(np.full(lanes.LANES, degrees) if each else degrees, 2_000_000)
    assert_law(sample, stats.chi2(degrees).cdf, resolution=0.0037)


def test_chi_squares_of_lanes_that_differ():
    """Seen: a distance of 0.008 in every kind of lane."""
    kinds = (0, 1, 2, 3, 5, 50, 100_000)
    degrees = np.resize(kinds, lanes.LANES)
    sample = chi_squares(degrees, 3_000_000)
    assert (sample[:, degrees == 0] == 0).all()
    for kind in kinds[1:]:
        assert_law(sample[:, degrees == kind], stats.chi2(kind).cdf, resolution=0.008)


def test_no_degrees_no_chi_square():
    assert (chi_squares(0, 1) == 0).all()
    assert (chi_squares(np.full(lanes.LANES, -1.0), 1) == 0).all()


@pytest.mark.parametrize("degrees", [2, 3, 50])
def test_a_chi_square_belongs_to_its_replica(degrees):
    """Further attempts after a refusal included: lane i of 0 .. is lane i - 40 of 40 .."""
    for kind in (degrees, np.full(lanes.LANES, degrees)):
        here, there = chi_squares(kind, 10_000), chi_squares(kind, 10_000, first=40)
        assert (here[:, 40:] == there[:, :-40]).all()


@pytest.mark.parametrize("each", [False, True], ids=["same", "each"])
def test_further_attempts_have_addresses_of_their_own(each):
    """After a refusal (2% at two degrees) no two lanes, slots or purposes share a draw."""
    degrees = np.full(lanes.LANES, 2) if each else 2
    here = chi_squares(degrees, 100_000)
    others = [
        chi_squares(degrees, 100_000, **change)
        for change in ({"slot": 4}, {"purpose": philox.BACKWARD})
    ]
    refused = here != others[0]
    assert 0.01 < refused.mean() < 0.05
    assert (refused == (here != others[1])).all()
    values = np.concatenate([x[refused] for x in (here, *others)])
    # Single-precision numbers coincide by chance, too: one in a few hundred of these.
    assert len(np.unique(values)) > 0.98 * values.size


def test_one_kernel_for_equal_lanes_is_the_other():
    """Two ways to one law from the same words: equal to rounding of single precision."""
    for degrees in (1, 2, 3, 5, 50, 100_000):
        one = chi_squares(degrees, 100_000)
        other = chi_squares(np.full(lanes.LANES, degrees), 100_000)
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-7)


# ------------------------------------------------------------------------- binomial


@pytest.mark.parametrize("trials", [1, 2, 31, 32, 33, 100, 128, 129, 1000, 100_000])
def test_binomials_have_their_law(trials):
    """Seen: chances off by 2.3% in root mean square."""
    sample = binomials(trials, 1_000_000)
    counts = np.bincount(sample, minlength=trials + 1)
    chances = stats.binom.pmf(np.arange(trials + 1), trials, 0.5)
    assert_chances(counts, chances / chances.sum(), resolution=0.023)


@pytest.mark.parametrize("trials", [1000, 100_000])
def test_the_table_of_a_binomial_is_read_at_the_right_place(trials):
    """Every word finds the first count whose distribution function exceeds it."""
    from sigprop.backends.numba_cpu import _binomial_tables

    cumulative, places = _binomial_tables((7, trials), lanes.TABLE_FROM)
    at, lowest = places[trials]
    edges = (np.arange(256, dtype=np.uint64) << np.uint64(24)).astype(np.uint32)
    for word in (edges, edges - np.uint32(1), counter_words(KEY, 0, 0, 0, 0, 64).ravel()):
        found = np.empty(lanes.LANES, np.float32)
        lanes.binomial_half(trials, word[None], 0, cumulative, at, lowest, found)
        truth = stats.binom.ppf((word.astype(float) + 0.5) * 2.0**-32, trials, 0.5)
        assert (found == truth).all()


# -------------------------------------------------------------------------- weights

CAUCHY = stats.cauchy.cdf
CONTINUOUS = {
    "gaussian": (weights.GAUSSIAN, 0.0, ndtr),
    "uniform": (weights.UNIFORM, 0.0, lambda x: (x / math.sqrt(3) + 1) / 2),
    "student 3": (weights.STUDENT_T, 3.0, stats.t(3.0).cdf),
    "student 1": (weights.STUDENT_T, 1.0, CAUCHY),
    "student 0.7": (weights.STUDENT_T, 0.7, stats.t(0.7).cdf),
    "stable 1": (weights.STABLE, 1.0, CAUCHY),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_weights_have_their_law(name):
    """Seen: a distance of 0.0052."""
    law, parameter, distribution = CONTINUOUS[name]
    assert_law(weight_sample(law, parameter, 1_000_000), distribution, resolution=0.0052)


@pytest.mark.parametrize("dof", [3.0, 1.0, 0.7])
def test_heavy_tails_are_heavy(dof):
    """Where 1, 0.1 and 0.01 in a thousand should be. Seen: 1.4, 2.3 and 7 times as many."""
    n = 1_000_000
    x = np.abs(weight_sample(weights.STUDENT_T, dof, n))
    for chance, factor in ((1e-3, 1.4), (1e-4, 2.3), (1e-5, 7)):
        beyond = float(stats.t(dof).isf(chance / 2))
        assert_event(int((x > beyond).sum()), n, chance, factor=factor)


@pytest.mark.parametrize("stability", [1.5, 1.0, 0.5])
def test_stable_weights_have_their_characteristic_function(stability):
    """E cos(t w) = exp(-|t|^stability), from the tail (small t) to the centre (large t).

    Seen: errors of 0.012.
    """
    n = 1_000_000
    x = weight_sample(weights.STABLE, stability, n)
    t = np.array([1e-4, 1e-3, 0.01, 0.1, 0.3, 1.0, 2.0, 5.0, 20.0])
    truth = np.exp(-(t**stability))
    se = np.sqrt(((1 + np.exp(-((2 * t) ** stability))) / 2 - truth**2) / n)
    wave = [np.cos(s * x).mean() for s in t]
    assert_agrees(wave, truth, se, resolution=0.012)
    assert_agrees([np.sin(s * x).mean() for s in t], 0.0, n**-0.5, resolution=0.012)


def test_rademacher_weights_are_independent_fair_coins():
    """All patterns of eight neighbours alike. Seen: chances off by 3% in root mean square."""
    x = weight_sample(weights.RADEMACHER, 0.0, 8_000_000 // 2000 * 2000)
    assert (np.abs(x) == 1).all()
    for step in (1, 32):  # within a word and across words
        rows = x.reshape(-1, 2000)[:, : 2000 // (8 * step) * 8 * step]
        bits = rows.reshape(-1, 8, step).swapaxes(1, 2).reshape(-1, 8) > 0
        patterns = np.bincount(bits @ (1 << np.arange(8)), minlength=256)
        assert_chances(patterns, np.full(256, 1 / 256), resolution=0.03)


@pytest.mark.parametrize("law", range(5))
def test_weights_of_different_rows_are_different(law):
    """Blocks laid out by `counters` never overlap, and a block is what its address says."""
    scratch = philox.new_scratch()
    for count in (1, 127, 128, 129, 2000):
        step = weights.counters(law, count)
        rows = []
        for start in (0, step, 2 * step, 0):
            out = np.full(philox.padded(count) + 128, np.nan)
            weights.fill(law, 1.3, KEY, 1, 2, philox.WEIGHT, start, count, scratch, out)
            assert np.isfinite(out[:count]).all()
            rows.append(out[:count])
        assert (rows[0] == rows[3]).all()
        if law != weights.RADEMACHER or count > 100:
            assert (rows[0] != rows[1]).any() and (rows[1] != rows[2]).any()
        if law in (weights.GAUSSIAN, weights.STABLE, weights.STUDENT_T):
            assert len(np.unique(np.concatenate(rows[:3]))) > 2.99 * count
