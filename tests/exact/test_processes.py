"""Processes along depth: the covariance on arrival, at every lag, and the published mistakes.

A Gaussian path is a matrix times normals, so its covariance is that of the matrix and needs
no sampling: the tests here are deterministic to rounding, but for those that say otherwise.
"""

import math
import pickle

import numpy as np
import pytest
from scipy import special

from sigprop import processes
from sigprop.backends import reference, samplers
from sigprop.backends.base import applicable
from sigprop.errors import SpecError, Unsupported
from sigprop.inputs import Point
from sigprop.processes import (
    Cauchy,
    FractionalGaussianNoise,
    FunctionCovariance,
    GivenCovariance,
    Hermite,
    Independent,
    LegacyFractionalGaussianNoise,
    LegacyRbf,
    Matern,
    Rbf,
    Tied,
    require_stationary,
)
from sigprop.schemes import He, Power
from sigprop.simulate import simulate
from sigprop.spec import Ensemble, Network
from tests.stat import assert_agrees

HURSTS = (0.05, 0.5, 0.97)


def fractional_noise(hurst, layers):
    """The autocovariance as it is defined, in long double: its terms cancel at large lags."""
    k = np.arange(layers, dtype=np.longdouble)
    power = np.longdouble(2 * hurst)
    return ((abs(k + 1) ** power + abs(k - 1) ** power) / 2 - k**power).astype(float)


# Kernels written apart from the package: (process, E v_i v_(i+k) at lag k in depth N).
KERNELS = {
    **{
        f"fgn {h}": (
            FractionalGaussianNoise(hurst=h),
            lambda k, n, h=h: fractional_noise(h, k + 1)[-1],
        )
        for h in HURSTS
    },
    **{
        f"rbf {b}": (Rbf(bandwidth=b), lambda k, n, b=b: math.exp(-((k / n / b) ** 2) / 2))
        for b in (0.003, 0.1, 1.0, 4.0)
    },
    "matern 1/2": (
        Matern(smoothness=0.5, bandwidth=0.2),
        lambda k, n: math.exp(-k / n / 0.2),
    ),
    "matern 3/2": (
        Matern(smoothness=1.5, bandwidth=0.4),
        lambda k, n: (1 + math.sqrt(3) * k / n / 0.4) * math.exp(-math.sqrt(3) * k / n / 0.4),
    ),
    "matern 5/2": (
        Matern(smoothness=2.5, bandwidth=3.0),
        lambda k, n: (
            (1 + math.sqrt(5) * k / n / 3 + 5 / 3 * (k / n / 3) ** 2)
            * math.exp(-math.sqrt(5) * k / n / 3)
        ),
    ),
    "cauchy": (Cauchy(decay=0.3), lambda k, n: (1 + k) ** -0.3),
    "tied": (Tied(), lambda k, n: 1.0),
    "independent": (Independent(), lambda k, n: float(k == 0)),
}


def drawn_covariance(process, depth):
    matrix = process.paths(np.eye(process.draws(depth)), depth)
    return matrix.T @ matrix


def toeplitz(rho):
    return np.array(rho)[np.abs(np.subtract.outer(np.arange(len(rho)), np.arange(len(rho))))]


@pytest.mark.parametrize("depth", [1, 2, 3, 50, 97])
@pytest.mark.parametrize("name", list(KERNELS))
def test_paths_have_their_covariance_at_every_lag(name, depth):
    process, kernel = KERNELS[name]
    wanted = toeplitz([kernel(k, depth) for k in range(depth)])
    np.testing.assert_allclose(process.covariance(depth), wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(drawn_covariance(process, depth), wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("hurst", HURSTS)
def test_fractional_noise_is_right_in_a_deep_network(hurst):
    """Depth 1000, every pair of layers; and the sum of N layers has variance N^(2H)."""
    process, depth = FractionalGaussianNoise(hurst=hurst), 1000
    matrix = process.paths(np.eye(process.draws(depth)), depth)
    wanted = toeplitz(fractional_noise(hurst, depth))
    np.testing.assert_allclose(matrix.T @ matrix, wanted, rtol=0, atol=1e-10)
    for layers in (10, 1000):
        variance = np.sum(matrix[:, :layers].sum(axis=1) ** 2)
        assert variance == pytest.approx(layers ** (2 * hurst), rel=1e-9)


def test_fractional_correlations_keep_their_digits_at_large_lags():
    """rho(k) = H (2H - 1) k^(2H - 2) (1 + (2H-2)(2H-3) / (12 k^2) + O(k^-4))."""
    for hurst in (0.05, 0.3, 0.8, 0.97):
        rho = FractionalGaussianNoise(hurst=hurst).autocovariance(100_001)
        for lag in (10_000, 100_000):
            slope = (2 * hurst - 2) * (2 * hurst - 3) / 12 / lag**2
            leading = hurst * (2 * hurst - 1) * lag ** (2 * hurst - 2)
            # Two terms of size 1/k are left to cancel, so rounding is about k eps.
            assert rho[lag] == pytest.approx(leading * (1 + slope), rel=1e-10)


def test_a_hundred_thousand_layers_are_drawn_without_a_matrix():
    process, depth = FractionalGaussianNoise(hurst=0.7), 100_000
    paths = process.paths(
        np.random.default_rng(0).standard_normal((2, process.draws(depth))), depth
    )
    assert paths.shape == (2, depth) and 0.5 < paths.std() < 1.5
    smooth = Rbf(bandwidth=0.1)
    assert smooth.draws(depth) < 100  # few frequencies carry a smooth path


def test_matern_is_rough_at_one_end_and_smooth_at_the_other():
    lags = np.arange(1000.0)
    near = Matern(smoothness=30.0, bandwidth=0.1).correlation(lags, 1000)
    np.testing.assert_allclose(near, Rbf(bandwidth=0.1).correlation(lags, 1000), atol=0.01)
    for smoothness in (0.01, 0.5, 7.0, 30.0):
        for bandwidth in (1e-6, 1e-2, 1e4):
            rho = Matern(smoothness=smoothness, bandwidth=bandwidth).correlation(lags, 1000)
            assert rho[0] == 1.0 and np.isfinite(rho).all()
            assert (np.diff(rho) <= 0).all() and (rho >= 0).all()


# ------------------------------------------------------------------- not Gaussian


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_a_hermite_path_is_the_polynomial_of_its_gaussian_path(rank):
    process, depth = Hermite(rank=rank, decay=0.2), 7
    normals = np.random.default_rng(1).standard_normal((50, process.draws(depth)))
    x = Cauchy(decay=0.2).paths(normals, depth)
    wanted = special.eval_hermitenorm(rank, x) / math.sqrt(math.factorial(rank))
    np.testing.assert_allclose(process.paths(normals, depth), wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_covariance_of_a_hermite_path_is_that_of_its_polynomial(rank):
    """E He_q(x) He_q(y) / q! by Gauss-Hermite quadrature, exact for polynomials."""
    process = Hermite(rank=rank, decay=0.7)
    z, weight = np.polynomial.hermite_e.hermegauss(20)
    weight = np.outer(weight, weight) / weight.sum() ** 2
    for lag, stated in enumerate(process.autocovariance(4)):
        r = (1 + lag) ** -0.7
        x, y = z[:, None], r * z[:, None] + math.sqrt(1 - r**2) * z
        product = special.eval_hermitenorm(rank, x) * special.eval_hermitenorm(rank, y)
        assert stated == pytest.approx(np.sum(weight * product) / math.factorial(rank), abs=1e-12)


def hermite_products(decay, depth):
    """Mean and standard deviation of v_1 v_j for rank 2, and of v_1^3, by quadrature."""
    z, weight = np.polynomial.hermite_e.hermegauss(20)
    weight = np.outer(weight, weight) / weight.sum() ** 2
    found = []
    for lag in range(depth):
        r = (1 + lag) ** -decay
        x, y = np.broadcast_arrays(z[:, None], r * z[:, None] + math.sqrt(1 - r**2) * z)
        product = (x**2 - 1) * (y**2 - 1) / 2
        found.append((np.sum(weight * product), np.sum(weight * product**2)))
    cube = ((z**2 - 1) / math.sqrt(2)) ** 3
    one = weight.sum(axis=1)
    found.append((np.sum(one * cube), np.sum(one * cube**2)))
    mean, square = np.array(found).T
    return mean, np.sqrt(square - mean**2)


def test_sampled_hermite_paths_have_their_moments():
    """Monte Carlo: false alarm 1e-6, sees 0.1 in a covariance and 1.2 in E v^3 = 2 sqrt 2.

    Gaussian paths of the same covariance would have E v^3 = 0.
    """
    process, depth, count = Hermite(rank=2, decay=0.4), 4, 200_000
    normals = np.random.default_rng(2).standard_normal((count, process.draws(depth)))
    v = process.paths(normals, depth)
    mean, deviation = hermite_products(0.4, depth)
    measured = [*(np.mean(v[:, 0] * v[:, j]) for j in range(depth)), np.mean(v[:, 2] ** 3)]
    se = deviation / math.sqrt(count)
    assert mean[-1] == pytest.approx(2 * math.sqrt(2))
    assert_agrees(measured[:depth], mean[:depth], se[:depth], resolution=0.1)
    assert_agrees(measured[-1:], mean[-1:], se[-1:], resolution=1.2)


# ------------------------------------------------------------------- as published


def published_fractional_noise(normals, hurst):
    """Davies and Harte as in the published code, place by place, real parts taken at the end."""
    depth = normals.shape[-1] // 2
    rho = [((k + 1) ** (2 * hurst) + abs(k - 1) ** (2 * hurst)) / 2 - k ** (2 * hurst)
           for k in range(depth)]  # fmt: skip
    circle = np.array([*rho, 0.0, *rho[:0:-1]])
    root = np.sqrt(np.fft.fft(circle).real.astype(complex))
    w = np.zeros((len(normals), 2 * depth), complex)
    w[:, 0] = root[0] * normals[:, 0] / math.sqrt(2 * depth)
    w[:, depth] = root[0] * normals[:, depth] / math.sqrt(2 * depth)  # root[depth] was meant
    for f in range(1, depth):
        one, other = normals[:, f], normals[:, depth + f]
        w[:, f] = root[f] * (one + 1j * other) / math.sqrt(4 * depth)
        w[:, -f] = root[-f] * (one - 1j * other) / math.sqrt(4 * depth)
    return np.fft.fft(w, axis=1)[:, :depth].real


@pytest.mark.parametrize("depth", [1, 2, 7, 50])
@pytest.mark.parametrize("hurst", [*HURSTS, 0.9])
def test_legacy_noise_has_the_covariance_of_the_published_generator(hurst, depth):
    published = published_fractional_noise(np.eye(2 * depth), hurst)
    process = LegacyFractionalGaussianNoise(hurst=hurst)
    wanted = published.T @ published
    np.testing.assert_allclose(process.covariance(depth), wanted, rtol=0, atol=1e-11)
    np.testing.assert_allclose(drawn_covariance(process, depth), wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("hurst", "error"), [(0.8, 0.05), (0.9, 0.226), (0.97, 0.641)])
def test_legacy_noise_has_too_much_of_the_highest_frequency(hurst, error):
    """Var A = 2H N^(2H-1) / 2N of the error A (-1)^k at depth 1000; the true noise has none."""
    depth = 1000
    assert 2 * hurst * depth ** (2 * hurst - 1) / (2 * depth) == pytest.approx(error, abs=1e-3)
    right = toeplitz(fractional_noise(hurst, depth))
    alternating = (-1.0) ** np.arange(depth) / depth
    for process, wanted in (
        (LegacyFractionalGaussianNoise(hurst=hurst), error),
        (FractionalGaussianNoise(hurst=hurst), 0.0),
    ):
        excess = process.covariance(depth) - right
        # The quadratic form is Var A plus O(1 / depth) from the negative eigenvalues.
        assert alternating @ excess @ alternating == pytest.approx(wanted, abs=2e-3)


def test_negative_eigenvalues_of_the_published_circle_add_variance_near_hurst_one():
    """At H = 0.97 the variance is 1.85: 1, 0.64 of the highest frequency and 0.21 of these."""
    variance = LegacyFractionalGaussianNoise(hurst=0.97).autocovariance(1000)[0]
    assert variance == pytest.approx(1 + 0.6408 + 0.2123, abs=1e-3)
    variance = LegacyFractionalGaussianNoise(hurst=0.8).autocovariance(1000)[0]
    assert variance == pytest.approx(1.0503, abs=1e-4)


@pytest.mark.parametrize("depth", [1, 2, 3, 50, 1000])
def test_legacy_smooth_weights_are_increments_of_a_smooth_path(depth):
    process = LegacyRbf(variance=0.01)
    t = np.linspace(0, 1, depth + 1)
    gram = np.exp(-(np.subtract.outer(t, t) ** 2) / 0.02)
    step = np.diff(np.eye(depth + 1), axis=0)
    wanted = step @ gram @ step.T
    wanted /= wanted[0, 0]
    # The published second difference loses digits: 1e-16 over the variance of an increment.
    lost = 4e-16 / (1 - gram[0, 1])
    np.testing.assert_allclose(process.covariance(depth), wanted, rtol=0, atol=1e-13 + 4 * lost)
    drawn = drawn_covariance(process, depth)
    np.testing.assert_allclose(drawn, process.covariance(depth), rtol=0, atol=1e-10)
    if depth == 1000:
        tau = np.arange(depth) / depth
        limit = (1 - tau**2 / 0.01) * np.exp(-(tau**2) / 0.02)
        np.testing.assert_allclose(process.autocovariance(depth), limit, atol=1e-3)
        # The sum is what is left between the ends of the path: 2 (1 - g(1)) of 1e4 increments.
        assert drawn.sum() == pytest.approx(2 / 1e-4, rel=1e-3)
        assert drawn.sum() < 0.1 * drawn_covariance(Rbf(bandwidth=0.1), depth).sum()


# -------------------------------------------------------------------------- given


def brownian(depth):
    layer = np.arange(1, depth + 1)
    return np.minimum.outer(layer, layer) / depth


def decaying(depth):
    return [0.9**k for k in range(depth)]


def alternating(depth):
    return [1.0, -0.9, -0.9, *[0.0] * depth][:depth]


NO_CIRCLE = tuple(np.exp(-(np.arange(5) ** 2) / 18))  # wrapped around, it is not definite


def test_a_covariance_may_be_a_matrix():
    matrix = [[2.0, 0.5, 0.0], [0.5, 1.0, -0.7], [0.0, -0.7, 1.0]]
    process = GivenCovariance(matrix=matrix)
    np.testing.assert_array_equal(process.covariance(3), matrix)
    np.testing.assert_allclose(drawn_covariance(process, 3), matrix, atol=1e-14)
    assert process == GivenCovariance(matrix=np.array(matrix))
    assert hash(process) == hash(GivenCovariance(matrix=np.array(matrix)))
    rounded = GivenCovariance(matrix=[[1.0, 0.5 + 1e-13], [0.5, 1.0]]).covariance(2)
    assert (rounded == rounded.T).all()
    assert process.autocovariance(3) is None
    with pytest.raises(Unsupported, match="'covariance' is not stationary"):
        require_stationary(process, 3)
    with pytest.raises(SpecError, match="covers 3 layers, but depth is 5"):
        Ensemble(Network(depth=5, width=2), He(process=process))


@pytest.mark.parametrize("rho", [(1.0,), (1.0, 0.5), (1.0, 0.6, 0.2, -0.1), NO_CIRCLE])
def test_a_covariance_may_be_an_autocovariance(rho):
    process = GivenCovariance(matrix=rho)
    np.testing.assert_array_equal(require_stationary(process, len(rho)), rho)
    np.testing.assert_allclose(drawn_covariance(process, len(rho)), toeplitz(rho), atol=1e-13)


@pytest.mark.parametrize("scale", [0.0, 1e-200, 1e200])
def test_a_covariance_may_be_of_any_size_and_rank(scale):
    process = GivenCovariance(matrix=scale * np.ones((4, 4)))
    assert process.draws(4) == (1 if scale else 0)
    np.testing.assert_allclose(drawn_covariance(process, 4), scale * np.ones((4, 4)), rtol=1e-14)


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], "not positive definite: its smallest eigenvalue is -1 "),
        ([1.0, 0.9, -0.9], "not positive definite: its smallest eigenvalue is -0.8"),
        (-np.eye(2), "smallest eigenvalue is -1"),
        ([[1.0, 0.5], [0.4, 1.0]], r"not symmetric: 0.5 at \(0, 1\) but 0.4"),
        ([[1.0, math.nan], [math.nan, 1.0]], r"nan at \(0, 1\)"),
        ([[1.0, 2.0, 3.0]], r"shape \(1, 3\)"),
        ([[1.0], [2.0, 3.0]], "table of real numbers"),
        ([], "shape"),
        ("rbf", "table of real numbers"),
        (1.0, "shape"),
    ],
)
def test_what_is_no_covariance_is_refused(matrix, says):
    with pytest.raises(SpecError, match=says):
        GivenCovariance(matrix=matrix)


def test_a_covariance_may_be_a_function_of_the_depth():
    process = processes.function("brownian_for_this_test", brownian)
    assert processes.function("brownian_for_this_test", brownian) == process
    for depth in (1, 2, 9):
        drawn = drawn_covariance(process, depth)
        np.testing.assert_allclose(drawn, brownian(depth), atol=1e-14)
    assert process.autocovariance(4) is None
    law = Ensemble(Network(depth=3, width=2), Power(beta=1.0, process="brownian_for_this_test"))
    assert law.table.processes == (process, process)
    assert "np.minimum.outer(layer, layer) / depth" in law.to_dict()["scheme"]["process"]["text"]
    assert Ensemble.from_dict(law.to_dict()) == law == pickle.loads(pickle.dumps(law))
    stationary = processes.function("decaying_for_this_test", decaying)
    np.testing.assert_allclose(require_stationary(stationary, 4), [1, 0.9, 0.81, 0.729])
    np.testing.assert_allclose(
        drawn_covariance(stationary, 30), toeplitz(decaying(30)), rtol=0, atol=1e-12
    )


def test_a_function_that_is_no_covariance_is_refused_before_anything_is_drawn():
    processes.function("alternating_for_this_test", alternating)
    law = {"beta": 0.5, "process": "alternating_for_this_test"}
    Ensemble(Network(depth=1, width=2), Power(**law))
    with pytest.raises(SpecError, match=r"at depth 8 is not positive definite: .* eigenvalue is -"):
        Ensemble(Network(depth=8, width=2), Power(**law))
    processes.function("failing_for_this_test", failing)
    with pytest.raises(SpecError, match="failed at depth 8: ZeroDivisionError"):
        Ensemble(Network(depth=8, width=2), Power(beta=0.5, process="failing_for_this_test"))


def failing(depth):
    return [depth / 0]


def test_the_name_and_the_text_of_a_function_say_which_law_it_is():
    made = processes.function("named_for_this_test", decaying)
    with pytest.raises(SpecError, match="registered already"):
        processes.function("named_for_this_test", brownian)
    with pytest.raises(SpecError, match="registered already"):
        processes.function("rbf", brownian)
    with pytest.raises(SpecError, match="the text recorded for process 'named_for_this_test'"):
        type(made)(text="def decaying(depth): ...")
    with pytest.raises(SpecError, match="lower-case"):
        processes.function("No name", decaying)
    with pytest.raises(SpecError, match="must be a function of the depth"):
        processes.function("constant_for_this_test", 3)
    with pytest.raises(SpecError, match=r"made by sigprop\.processes\.function"):
        FunctionCovariance()


# ------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: FractionalGaussianNoise(hurst=0.0), "hurst must be .* got 0.0"),
        (lambda: FractionalGaussianNoise(hurst=1.0), "process 'tied'"),
        (lambda: FractionalGaussianNoise(hurst=math.nan), "hurst must be"),
        (lambda: FractionalGaussianNoise(hurst="rough"), "got 'rough'"),
        (lambda: LegacyFractionalGaussianNoise(hurst=1.2), "hurst must be"),
        (lambda: Rbf(bandwidth=0.0), "bandwidth must be"),
        (lambda: Rbf(bandwidth=-1.0), "bandwidth must be"),
        (lambda: Matern(smoothness=0.0, bandwidth=1.0), "smoothness must be"),
        (lambda: Matern(smoothness=31.0, bandwidth=1.0), "use process 'rbf'"),
        (lambda: Matern(smoothness=1.0, bandwidth=math.inf), "bandwidth must be"),
        (lambda: Cauchy(decay=0.0), "decay must be"),
        (lambda: Hermite(rank=0, decay=0.5), "rank must be an integer of at least 1"),
        (lambda: Hermite(rank=1.5, decay=0.5), "rank must be an integer"),
        (lambda: Hermite(rank=21, decay=0.5), "rank must be at most 20"),
        (lambda: Hermite(rank=2, decay=-0.5), "decay must be"),
        (lambda: LegacyRbf(variance=0.0), "variance must be"),
        (lambda: He(process=0.7), "process must be a Process or the name of one, got 0.7"),
        (lambda: He(process="fgn"), "no default hurst"),
    ],
)
def test_parameters_out_of_range_are_refused(make, says):
    with pytest.raises(SpecError, match=says):
        make()


# --------------------------------------------------------------- schemes and samplers


def test_independent_layers_leave_a_law_as_it_was():
    """The digest is the default stream of random numbers: it must not move."""
    assert "process" not in He().to_dict() and "inner_process" not in He().to_dict()
    assert He(inner_process="independent") == He(process="independent") == He()
    law = Ensemble(Network(depth=3, width=4), Power(beta=0.5))
    assert law.digest.startswith("291d982c5557")
    assert law.table.processes == (Independent(), Independent()) and not law.table.correlated


def test_the_last_matrix_has_its_own_process():
    fgn = FractionalGaussianNoise(hurst=0.3)
    network = Network(depth=4, width=3, block="inner", inner_layers=3)
    table = Ensemble(network, He(process="tied", inner_process=fgn)).table
    assert table.processes == (fgn, fgn, Tied())
    one = Network(depth=4, width=3, block="res1")
    assert Ensemble(one, He(process="tied", inner_process=fgn)).table.processes == (Tied(),)
    assert He(process=fgn, inner_process=fgn) == He(process=fgn)


def test_entries_are_followed_only_through_matrices_of_one_shape():
    tapered = Network(depth=3, widths=(4, 4, 4, 3), block="plain")
    with pytest.raises(Unsupported, match="matrix 1 changes its shape with depth"):
        Ensemble(tapered, He(process="tied"))
    hidden = Network(depth=2, width=4, inner_width=(2, 3))
    with pytest.raises(Unsupported, match="matrix 1 changes its shape"):
        Ensemble(hidden, He(process="tied"))
    Ensemble(Network(depth=2, width=4, inner_width=3), He(process="tied"))


@pytest.mark.parametrize("sampler", ["chain", "conditional"])
def test_samplers_without_matrices_refuse_dependent_layers(sampler):
    law = Ensemble(Network(depth=3, width=4), He(inner_process="tied"), Point())
    fields = frozenset({"log_norm"})
    said = samplers[sampler]().refusal(law, fields)
    assert said is not None and "'tied'" in said and said.endswith("Use --sampler dense.")
    independent = Ensemble(Network(depth=3, width=4), He(), Point())
    assert samplers[sampler]().refusal(independent, fields) is None
    with pytest.raises(Unsupported, match="independent layers, got process 'tied'"):
        simulate(law, sampler=sampler, replicas=2)


PROCESSES = (
    FractionalGaussianNoise(hurst=0.9),
    FractionalGaussianNoise(hurst=0.1),
    Tied(),
    LegacyRbf(variance=0.2),
    LegacyFractionalGaussianNoise(hurst=0.97),
    GivenCovariance(matrix=((1.0, 0.5, 0.0), (0.5, 2.0, -0.6), (0.0, -0.6, 0.5))),
    Hermite(rank=2, decay=0.2),
)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: p.kind)
def test_the_reference_draws_weights_of_the_covariance(process):
    """Monte Carlo over 64,000 entries: false alarm 1e-6 a process, sees 0.3 in E v_i v_j."""
    law = Ensemble(
        Network(depth=3, width=40, inner_width=4), Power(beta=0.0, process=process), Point()
    )
    draws = reference.draw(law, [np.random.default_rng(r) for r in range(400)])
    scale = law.table.scale
    covariance = process.covariance(3)
    for j in range(2):
        v = np.stack([draws.weights[layer][j].ravel() / scale[layer, j] for layer in range(3)])
        measured = v @ v.T / v.shape[1]
        if process.gaussian:  # Isserlis
            diagonal = np.diagonal(covariance)
            spread = np.sqrt(np.outer(diagonal, diagonal) + covariance**2)
        else:
            _, deviation = hermite_products(process.decay, 3)
            spread = toeplitz(deviation[:3])
        se = np.maximum(spread / math.sqrt(v.shape[1]), 1e-12)
        assert_agrees(measured, covariance, se, resolution=0.3)
    # Two matrices have nothing to do with each other.
    one, other = (np.concatenate([w.ravel() for w in draws.weights[k][j]])[: 400 * 160]
                  / scale[k, j] for k, j in ((0, 0), (2, 1)))  # fmt: skip
    size = math.sqrt(covariance[0, 0] * covariance[2, 2])
    assert_agrees(np.mean(one * other), 0.0, size / math.sqrt(one.size), resolution=0.3)


@pytest.mark.parametrize("hurst", [0.9, 0.1])
def test_two_linear_layers_of_the_reference_have_their_mean_square(hurst):
    """E|h_2|^2 / |h_0|^2 = 1 + 2 b^2 (1 + r + r/d) + b^4 (1 + 2 r^2 / d^2), by Isserlis.

    h_2 = (I + b V_2)(I + b V_1) h_0 with entries of variance 1/d and correlation r between
    the layers. Monte Carlo over 20,000 networks: false alarm 1e-6, sees 0.4; a sampler of
    independent layers would be off by 2 b^2 r (1 + 1/d) = 1.26 at hurst 0.9.
    """
    b, d, count = 0.8, 3, 20_000
    r = 2 ** (2 * hurst - 1) - 1
    law = Ensemble(
        Network(depth=2, width=d, block="res1", activation="linear"),
        Power(beta=-math.log2(b), process=FractionalGaussianNoise(hurst=hurst)),
        Point(),
    )
    draws = reference.draw(law, [np.random.default_rng((7, i)) for i in range(count)])
    trace = reference.measure(law, draws, np.array([2]), applicable(law))
    square = np.exp(2 * trace["log_norm"][:, 0, 0])
    truth = 1 + 2 * b**2 * (1 + r + r / d) + b**4 * (1 + 2 * r**2 / d**2)
    # A ratio of chi-square type: its deviation is that of the sample to a few percent.
    assert_agrees(square.mean(), truth, square.std() / math.sqrt(count), resolution=0.4)
