"""RISOTTO on images: an isometry with stride 1, and what takes that away, measured.

Singular values are those of the Jacobian from the network's input, of the definition.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import sigprop
from sigprop.backends import applicable, reference
from sigprop.backends.reference import draw, forward, jacobians
from sigprop.errors import SpecError, Unsupported
from sigprop.inputs import Batch, Pair
from sigprop.schemes import DeltaOrthogonal, Fixup, LooksLinear, Normal, OrthogonalScheme, Risotto
from sigprop.spec import Ensemble, Network


def singular_values(ensemble: Ensemble, seed: int = 0) -> np.ndarray:
    """Of the Jacobian from the input to the last state, at the first input."""
    draws = draw(ensemble, [np.random.default_rng(seed)])
    signal = forward(ensemble, draws)
    normalised = signal.normalised if ensemble.table.batch_norm else ()
    found, exponents = jacobians(
        ensemble, draws, signal.derivatives, signal.stem_derivative, normalised,
        signal.stem_normalised,
    )  # fmt: skip
    return np.linalg.svd(found[-1][0], compute_uv=False) * 2.0 ** exponents[-1][0]


GROWING = tuple([8] * 15 + [16] * 15 + [32] * 31)

ISOMETRIES = {
    "10 blocks": (
        Network(depth=10, width=8, block="projection", image=4, input_width=3), Risotto()
    ),
    "60 blocks": (
        Network(depth=60, width=8, block="projection", image=3, padding="circular", input_width=4),
        Risotto(alpha=0.7, skip=0.9),
    ),
    "60 blocks, channels 8 to 32": (
        Network(depth=60, block="projection", widths=GROWING, image=3, input_width=3),
        Risotto(),
    ),
    "three matrices, kernels 1, 3, 1": (
        Network(
            depth=20, width=8, block="projection", image=(2, 5), inner_layers=3, inner_width=4,
            kernel=(1, 3, 1), input_width=4,
        ),
        Risotto(alpha=1.3),
    ),
    "60 blocks with identity skips": (
        Network(depth=60, width=8, block="identity", image=4, input_width=3), Risotto(alpha=0.5)
    ),
    "a plain net": (
        Network(depth=30, block="plain", widths=(3, *[8] * 30), image=(4, 3)), LooksLinear()
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ISOMETRIES)
def test_all_singular_values_of_a_convolutional_network_are_one(case):
    """To 1e-10, kernels of 3x3, borders of zeros too; normal weights are far from it."""
    network, scheme = ISOMETRIES[case]
    values = singular_values(Ensemble(network, scheme))
    assert len(values) == network.input_size
    np.testing.assert_allclose(values, 1.0, rtol=0, atol=1e-10)
    if network.block == "projection" and network.widths is None:
        spread = singular_values(Ensemble(network, Normal()))
        assert spread.max() > 20 * spread.min()


@pytest.mark.parametrize("block", ["projection", "identity"])
def test_lengths_and_angles_are_kept_by_the_sampler_through_a_thousand_blocks(block):
    """In looks-linear coordinates, to 1e-11; delta kernels act on each pixel, so it is fast."""
    network = Network(depth=1000, width=8, block=block, image=4, input_width=4)
    ensemble = Ensemble(network, Risotto(), Pair(cosine=0.2))
    found = sigprop.simulate(
        ensemble, ["norm", "separability"], replicas=3, layers=[0, 10, 1000], keep=[0, 1000]
    )
    assert found.attrs["sampler"] == "batch"
    assert np.abs(found.replica_log_norm.values).max() < 1e-11
    assert np.abs(found.replica_looks_linear_cosine.values - 0.2).max() < 1e-11
    assert np.abs(found.replica_log_looks_linear_distance.values).max() < 1e-11


def test_strides_need_a_word_and_leave_ones_and_zeros():
    """Stride 2 twice on 6x6 pixels of 3 channels: 12 of 108 singular values are 1, the rest 0."""
    network = Network(
        depth=4, width=6, block="projection", image=6, input_width=3, stride=(1, 2, 1, 2)
    )
    with pytest.raises(SpecError, match=r"of 36 pixels 4 are left.*0\.889.*0\.33.*lossy"):
        Ensemble(network, Risotto())
    ensemble = Ensemble(network, Risotto(lossy=True), Pair())
    values = singular_values(ensemble)
    kept = values > 0.5
    assert kept.sum() == 12 and len(values) == 24  # rows; of 108 columns 84 have no value at all
    np.testing.assert_allclose(values[kept], 1.0, rtol=0, atol=1e-12)
    assert values[~kept].max() < 1e-12
    sampler_fields = frozenset({"log_norm"})
    draws = draw(ensemble, [np.random.default_rng(r) for r in range(200)])
    trace = reference.measure(ensemble, draws, np.array([4]), sampler_fields)
    ratio = np.exp(trace["log_norm"][:, 0])
    assert abs(np.sqrt((ratio**2).mean()) - 1 / 3) < 0.02  # a ninth of the pixels
    with pytest.raises(SpecError, match="drops pixels"):
        plain = Network(depth=2, block="plain", widths=(2, 4, 4), image=4, stride=(1, 2))
        Ensemble(plain, LooksLinear())


def test_the_mean_over_all_pixels_is_no_isometry():
    """Average pooling keeps one direction a channel, and 1/sqrt(pixels) of its length."""
    network = Network(depth=5, width=6, block="projection", image=4, input_width=3)
    ensemble = Ensemble(network, Risotto())
    draws = draw(ensemble, [np.random.default_rng(2)])
    signal = forward(ensemble, draws)
    found, exponents = jacobians(ensemble, draws, signal.derivatives, signal.stem_derivative)
    whole = found[-1][0] * 2.0 ** exponents[-1][0]
    pooled = whole.reshape(6, 16, -1).mean(axis=1)
    values = np.linalg.svd(pooled, compute_uv=False)
    assert len(values) == 6  # of 48
    assert values.max() < 1 / math.sqrt(16) + 1e-12 and values[-1] < 0.2


SPREADS = {  # half-width 32, 16 inputs, ten blocks: least, median and largest as specified
    "projection": (0.23, 0.91, 2.1),
    "identity": (1.2, 6.7, 30.0),
}


@pytest.mark.parametrize("block", SPREADS)
def test_batch_normalisation_takes_the_isometry_away_as_told(block):
    """Ten blocks, statistics of a batch of 500 held fixed, as the scheme's documentation tells.

    Told are single networks; four differ from them by the factors that are allowed here.
    """
    network = Network(depth=10, width=64, block=block, input_width=16)
    ensemble = Ensemble(network, Risotto(batch_norm=True), Batch(count=500))
    values = np.array([np.quantile(singular_values(ensemble, r), (0, 0.5, 1)) for r in range(4)])
    least, median, largest = values.mean(axis=0)
    assert largest > 5 * least
    told = SPREADS[block]
    assert max(median / told[1], told[1] / median) < 1.5
    assert max(largest / told[2], told[2] / largest) < 2
    assert not np.allclose(values, 1.0, atol=0.1)
    bare = Ensemble(network, Risotto(), Batch(count=500))
    np.testing.assert_allclose(singular_values(bare), 1.0, rtol=0, atol=1e-12)


def test_a_delta_orthogonal_kernel_keeps_every_pixel_of_a_linear_network():
    network = Network(
        depth=9, block="plain", widths=(3, *[5] * 9), image=(3, 4), activation="linear"
    )
    ensemble = Ensemble(network, DeltaOrthogonal())
    np.testing.assert_allclose(singular_values(ensemble), 1.0, rtol=0, atol=1e-12)
    relu = Ensemble(
        Network(depth=9, block="plain", widths=(3, *[5] * 9), image=(3, 4)), DeltaOrthogonal()
    )
    assert singular_values(relu).min() < 0.5  # on average only
    with pytest.raises(Unsupported, match="delta_orthogonal"):
        Ensemble(network, OrthogonalScheme())


def test_fixup_on_images_is_the_identity_at_its_start():
    ensemble = Ensemble(Network(depth=20, width=4, image=3), Fixup(), Pair())
    draws = draw(ensemble, [np.random.default_rng(0)])
    trace = reference.measure(ensemble, draws, np.array([0, 20]), applicable(ensemble))
    np.testing.assert_array_equal(trace["log_norm"], 0.0)
    np.testing.assert_array_equal(trace["log_gradient"], 0.0)
