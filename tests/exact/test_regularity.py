"""The Hurst index of weights along depth: of noise of known index, of trends, and refusals."""

import doctest
import importlib

import numpy as np
import pytest

from analysis.regularity import hurst_index, structure_function
from sigprop.errors import SpecError
from sigprop.processes import FractionalGaussianNoise, Rbf
from tests.stat import assert_agrees


def test_examples_are_true():
    found = doctest.testmod(importlib.import_module("analysis.regularity"))
    assert found.attempted and not found.failed


def paths(process, depth, networks, entries, seed):
    normals = np.random.default_rng(seed).standard_normal(
        (networks * entries, process.draws(depth))
    )
    drawn = process.paths(normals, depth).reshape(networks, entries, depth)
    return drawn.transpose(0, 2, 1)


@pytest.mark.parametrize("hurst", [0.2, 0.5, 0.85])
def test_fractional_noise_has_its_index_at_every_lag(hurst):
    """Fires by chance twice in a million; sees 0.05 in the index and 20% in a mean square."""
    weights = paths(FractionalGaussianNoise(hurst=hurst), 256, 90, 12, seed=4)
    structure = structure_function(3 * weights)
    index = hurst_index(structure, 1, 32)
    assert_agrees(index.mean(), hurst, index.std(ddof=1) / 90**0.5, resolution=0.05)
    expected = 9 * structure.lag.astype(float) ** (2 * hurst)
    ratio = (structure / expected).isel(lag=slice(5))
    error = ratio.std("network", ddof=1) / 90**0.5
    assert_agrees(ratio.mean("network"), 1.0, error, resolution=0.3)


def test_a_smooth_path_is_tied_below_its_bandwidth_and_noise_with_a_trend_is_smooth_far_off():
    smooth = structure_function(paths(Rbf(bandwidth=0.1), 400, 3, 5, seed=1))
    assert (abs(hurst_index(smooth, 1, 4) - 1) < 0.01).all()
    # Between 1 and 4 layers a trend of a tenth adds 0.16 / 4 to the mean square, at 64 layers
    # 0.01 * 64: the noise is 1 a layer. Each mean square is known to a few percent.
    noise = np.random.default_rng(2).standard_normal((2, 1024, 40))
    trended = structure_function(noise + 0.1)
    lag = trended.lag.values.astype(float)
    exact = lag + 0.01 * lag**2
    assert (abs(np.log(trended / exact)).isel(lag=slice(7)) < 0.15).all()
    near, far = hurst_index(trended, 1, 4), hurst_index(trended, 32, 256)
    assert (near < 0.53).all() and (far > 0.65).all()


def test_what_has_no_index_is_refused():
    fine = np.ones((1, 16, 2))
    with pytest.raises(SpecError, match=r"8 layers or more, got \(1, 4, 2\)"):
        structure_function(fine[:, :4])
    with pytest.raises(SpecError, match="not finite"):
        structure_function(np.where(np.arange(16)[:, None] == 3, np.inf, fine))
    with pytest.raises(SpecError, match="between 1 and the depth 16"):
        structure_function(fine, [1, 17])
    with pytest.raises(SpecError, match="a slope needs two"):
        hurst_index(structure_function(fine), 3, 4)
