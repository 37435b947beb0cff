"""Mean squares of images: pixel by pixel against networks, and what does not hold for them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from analysis import theory
from analysis.prediction import predict
from sigprop import rng
from sigprop.backends import batch
from sigprop.errors import Unsupported
from sigprop.inputs import Given, Point
from sigprop.schemes import BatchNorm, DeltaOrthogonal, He, NFResNet, Normal
from sigprop.spec import Ensemble, Network
from tests.exact.test_batch_sampler import KEY, uneven_images
from tests.stat import assert_agrees

IMAGE = Given([np.random.default_rng(3).standard_normal(2 * 12).round(2).tolist()])
WIDE = Given([np.random.default_rng(4).standard_normal(3 * 12).round(2).tolist()])

PIXELS = {
    "plain with strides": uneven_images("plain", stride=(1, 2, 1, 2), inputs=IMAGE),
    "plain around": uneven_images("plain", padding="circular", stride=(2, 1, 1, 1), inputs=IMAGE),
    "res3": uneven_images("res3", kernel=(1, 3), inputs=WIDE),
    "inner biased": uneven_images("inner", kernel=(3, 1, 5), bias_variance=0.3, inputs=WIDE),
    "projection": uneven_images("projection", stride=(2, 1, 1, 2), input_width=2, inputs=IMAGE),
}


@pytest.mark.parametrize("case", PIXELS)
def test_the_mean_square_of_every_pixel_is_exact(case):
    """Against 16 000 networks on one given image, whose pixels are all unlike.

    Fires by chance once in 10^6; sees 30 % of a pixel's mean square, where a tap too many or too
    few at a border is 33 % or more.
    """
    ensemble, replicas = PIXELS[case], 16_000
    layers = np.array([0, 1, 2])
    walk = batch._Walk(ensemble, frozenset({"log_norm"}), layers, KEY, range(replicas))
    walk.trace()
    logs = theory.pixel_log_mean_square(ensemble)
    network = ensemble.network
    for layer in (0, 1, 2):
        state, exponent = walk.seen[layer]
        h = np.ldexp(state, exponent[..., None])[:, 0]
        squares = (h.reshape(replicas, network.state_widths[layer], -1) ** 2).sum(axis=1)
        mean, se = squares.mean(axis=0), squares.std(axis=0, ddof=1) / math.sqrt(replicas)
        wanted = np.exp(logs[layer]).ravel()
        if layer == 0 and not network.form.post:
            np.testing.assert_allclose(mean, wanted, rtol=1e-12)
            continue
        assert_agrees(mean / wanted, 1.0, se / wanted, resolution=0.3)


GRADIENTS = {
    "res3": uneven_images("res3", kernel=(1, 3), inputs=Point()),
    "inner around": uneven_images("inner", padding="circular", inputs=Point()),
    "projection": uneven_images(
        "projection", stride=(1, 2, 1, 1), widths=(9, 12, 10, 11, 12), inputs=Point()
    ),
}


@pytest.mark.parametrize("case", GRADIENTS)
def test_the_mean_square_of_a_gradient_is_exact(case):
    """E |p_l|^2 / |p_L|^2 of the two top layers, with borders of zeros and strides."""
    ensemble, replicas = GRADIENTS[case], 12_000
    fields, layers = frozenset({"log_gradient"}), np.array([2, 3, 4])
    key = rng.key(3, ensemble.digest, "batch", 1)
    trace = batch.Batch().sample(ensemble, fields, layers, key, 0, replicas)
    squares = np.exp(2 * trace["log_gradient"][:, :2, 0])
    mean, se = squares.mean(axis=0), squares.std(axis=0, ddof=1) / math.sqrt(replicas)
    wanted = np.exp(theory.image_log_gradient_mean_square(ensemble))[2:4]
    assert_agrees(mean / wanted, 1.0, se / wanted, resolution=0.15)


def test_around_a_torus_an_image_counts_as_a_vector_with_k_squared_times_the_variance():
    """Kernels 3 and 5 at once: every mean square is that of the fully connected network."""
    shape: dict[str, Any] = {"depth": 6, "width": 7, "inner_width": 5}
    image = {"image": (4, 3), "kernel": (3, 5), "padding": "circular"}
    for scheme in (He(), Normal(alpha=0.6)):
        shape["block"] = scheme.default_block
        one = Ensemble(Network(**shape, **image), scheme, Point())
        other = Ensemble(Network(**shape), scheme, Point())
        if not one.network.form.post:
            np.testing.assert_allclose(
                theory.image_log_mean_square(one), theory.log_mean_square(other), rtol=1e-12
            )
            np.testing.assert_allclose(
                theory.image_log_gradient_mean_square(one),
                theory.log_gradient_mean_square(other),
                rtol=1e-12,
            )
        else:  # normal keeps the mean square, forward and backward
            for log in (
                theory.image_log_mean_square(one),
                theory.image_log_gradient_mean_square(one),
            ):
                np.testing.assert_allclose(log, 0.0, atol=1e-12)


def test_a_fourth_moment_that_counts_pixels_as_independent_is_far_off():
    """One block on 3x3 pixels, kernels of 3x3: the fully connected formula is 1.77 times too high.

    The mean square, of the same networks, is right. Pixels share their weights: where one is
    large all are. 40 000 networks; fires by chance once in 10^6.
    """
    network = Network(
        depth=1, block="projection", widths=(2, 4), inner_width=3, input_width=2,
        image=3, kernel=3, padding="circular",
    )  # fmt: skip
    alpha = math.sqrt(0.5)
    ensemble = Ensemble(network, Normal(alpha=alpha), Point())
    replicas = 40_000
    key, fields = rng.key(1, ensemble.digest, "batch", 1), frozenset({"log_norm"})
    trace = batch.Batch().sample(ensemble, fields, np.array([0, 1]), key, 0, replicas)
    square = np.exp(2 * trace["log_norm"][:, 1, 0])
    square = square[np.isfinite(square) & (trace["log_norm"][:, 0, 0] == 0)]  # not dead at its stem
    root = math.sqrt(len(square))
    assert_agrees(square.mean(), 1.0, square.std() / root, resolution=0.05)
    formula = (1 + 5 / 4) * (1 + 5 * alpha**4 / 3)
    fourth, se = (square**2).mean(), (square**2).std() / root
    assert formula / (fourth + 5 * se) > 1.6


def test_fourth_moments_of_images_are_refused_and_their_mean_squares_predicted():
    ensemble = Ensemble(Network(depth=3, width=5, image=4), He(), Point())
    for function in (theory.log_mean_square, theory.log_fourth_moment, theory.relative_variance):
        with pytest.raises(Unsupported, match="share their weights"):
            function(ensemble)
    found = predict(ensemble, orders=[2.0, 4.0])
    assert found.norm_moment_log.attrs["prediction"] == ["image_mean_square", ""]
    assert found.gradient_moment_log.attrs["prediction"] == ["image_gradient_mean_square", ""]
    np.testing.assert_allclose(
        found.norm_moment_log.values[0, :, 0], theory.image_log_mean_square(ensemble)
    )
    assert {str(name).split("_")[0] for name in found.data_vars} == {"norm", "gradient"}
    plain = Ensemble(Network(depth=3, width=5, image=4, block="plain"), He(), Point())
    limit = predict(plain, orders=[2.0]).gradient_moment_log
    assert limit.attrs["status"] == "limit"
    assert limit.attrs["prediction"] == "image_gradient_many_channels"


@pytest.mark.parametrize(
    "ensemble, words",
    [
        (Ensemble(Network(depth=2, width=4), He()), "fully connected"),
        (Ensemble(Network(depth=2, width=4, image=3, activation="tanh"), He()), "'tanh'"),
        (Ensemble(Network(depth=2, width=4, image=3, block="preact"), He()), "'preact'"),
        (Ensemble(Network(depth=2, width=4, image=3, block="identity"), He()), "'identity'"),
        (Ensemble(Network(depth=2, width=4, image=3, block="preact"), NFResNet()), "sum to zero"),
        (Ensemble(Network(depth=2, width=4, image=3), BatchNorm()), "batch normalisation"),
        (Ensemble(Network(depth=2, width=4, image=3), DeltaOrthogonal()), "delta_orthogonal"),
    ],
)
def test_what_has_no_closed_recursion_is_refused_by_name(ensemble, words):
    with pytest.raises(Unsupported, match=words):
        theory.image_log_mean_square(ensemble)
