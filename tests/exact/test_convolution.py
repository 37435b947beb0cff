"""Convolutions: what a tap reads, against another library, and what the definition makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from sigprop.backends.reference import _matrix_of_kernel
from sigprop.errors import SigpropError, SpecError, Unsupported
from sigprop.image import PADDINGS, reached, strided, taps
from sigprop.inputs import Batch, Given, Pair
from sigprop.schemes import BatchNorm, He, NFResNet
from sigprop.spec import Ensemble, Network

SIZES = [(4, 6), (5, 3), (1, 4), (2, 2), (1, 1)]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", SIZES)
def test_the_matrix_of_a_kernel_convolves_as_another_library_does(size, kernel, stride, padding):
    """An image with all pixels and channels different, no square, against torch's conv2d."""
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(kernel * stride)
    images = generator.standard_normal((2, 3, *size))
    kernels = generator.standard_normal((4, 3, kernel, kernel))

    matrix = _matrix_of_kernel(kernels.reshape(1, 4, -1), 4, size, kernel, stride, padding)[0]
    found = images.reshape(2, -1) @ matrix.T

    reach = ((0, 0), (0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2)
    wide = np.pad(images, reach, mode={"zero": "constant", "circular": "wrap"}[padding])
    wanted = torch.nn.functional.conv2d(
        torch.tensor(wide), torch.tensor(kernels), stride=stride
    ).numpy()
    assert wanted.shape[2:] == strided(size, stride)
    np.testing.assert_allclose(found, wanted.reshape(2, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_reached_is_what_is_read_turned_round(size, stride, padding):
    """Tap by tap the two tables hold the same pairs of pixels, each once."""
    forward, backward = taps(size, 3, stride, padding), reached(size, 3, stride, padding)
    for tap in range(9):
        read = {(p, q) for p, q in enumerate(forward[:, tap].tolist()) if q >= 0}
        back = {(p, q) for q, p in enumerate(backward[:, tap].tolist()) if p >= 0}
        assert read == back
        assert len({q for _, q in read}) == len(read)


def test_an_image_of_one_pixel_is_a_fully_connected_network():
    """With kernels of one tap, to the last bit of the definition."""
    from sigprop.backends.reference import simulate_one

    shape = {"depth": 3, "width": 4, "inner_width": 3}
    traces = []
    for image in ({}, {"image": 1, "kernel": 1}):
        ensemble = Ensemble(Network(**shape, **image), He(), Pair(cosine=0.3))
        traces.append(simulate_one(ensemble, np.random.default_rng(7), [0, 1, 3]))
    for name in traces[0]:
        np.testing.assert_array_equal(traces[0][name], traces[1][name])


def test_shapes_of_a_convolutional_network():
    network = Network(
        depth=3, block="plain", widths=(2, 3, 4, 5), image=(7, 4), kernel=3, stride=(1, 2, 2)
    )
    assert network.images == ((7, 4), (7, 4), (4, 2), (2, 1))
    assert network.state_sizes.tolist() == [56, 84, 32, 10]
    assert [fan.ravel().tolist() for fan in network.connections] == [[18, 27, 36], [27, 36, 45]]
    assert Network.from_dict(network.to_dict()) == network
    assert network.shape_of_image == "7x4"


def test_the_digest_of_a_fully_connected_network_knows_no_image():
    """Its stream of random numbers and its file are what they were before there were images."""
    ensemble = Ensemble(Network(depth=10, width=8), He())
    assert not {"image", "kernel", "padding", "stride"} & set(ensemble.to_dict()["network"])
    assert ensemble.digest.startswith("a304ad11b96f")


def test_rows_that_sum_to_zero_do_so_over_all_taps():
    """NF-ResNet divides by the connections of a unit, not by its channels."""
    network = Network(depth=1, width=3, block="preact", image=4, kernel=3)
    table = NFResNet().layers(network)
    spread = (1 - 1 / np.pi) / 2
    np.testing.assert_allclose(table.scale**2, 1 / (spread * (27 - 1)), rtol=1e-12)


@pytest.mark.parametrize(
    "shape, words",
    [
        ({"kernel": 5}, ("kernel = 5", "image = 8")),
        ({"padding": "circular"}, ("padding", "image")),
        ({"image": 8, "kernel": 4}, ("odd", "3 or 5")),
        ({"image": 8, "padding": "circluar"}, ("Did you mean 'circular'",)),
        ({"image": (8, 8, 3)}, ("(rows, columns)", "image = 8")),
        ({"image": 0}, ("at least 1",)),
        ({"image": 8, "stride": 2}, ("stride 2", "identity", "block 'projection'")),
        ({"image": 8, "kernel": (3, 1, 3)}, ("names 3 matrices in a branch", "there are 2")),
        ({"image": 8, "block": "plain", "stride": (1, 2)}, ("names 2 layers", "there are 3")),
    ],
)
def test_a_shape_that_makes_no_sense_is_told_with_what_does(shape, words):
    with pytest.raises(SpecError) as told:
        Network(depth=3, width=4, **shape)
    for word in words:
        assert word in str(told.value)


def test_inputs_of_the_wrong_size_are_told_the_number_of_all_pixels():
    with pytest.raises(SigpropError, match="reads 16"):
        Ensemble(Network(depth=1, width=4, image=2), He(), Given([[1.0, 2.0, 3.0, 4.0]]))


@pytest.mark.parametrize("name", ["chain", "conditional", "dense"])
@pytest.mark.parametrize(
    "ensemble, word",
    [
        (Ensemble(Network(depth=2, width=4, image=3), He()), "convolutional"),
        (Ensemble(Network(depth=2, width=4, block="preact"), BatchNorm()), "batch norm"),
    ],
    ids=["image", "batch"],
)
def test_samplers_of_single_rows_refuse_images_and_batches_and_name_the_one_that_serves(
    name, ensemble, word
):
    from sigprop.backends import choose

    with pytest.raises(Unsupported, match=rf"(?s){word}.*--sampler batch"):
        choose(name, ensemble, frozenset({"log_norm"}))
    assert choose("auto", ensemble, frozenset({"log_norm"})).name == "batch"


def test_a_batch_of_one_number_cannot_be_normalised():
    from sigprop.inputs import Point

    with pytest.raises(Unsupported, match="inputs 'batch'"):
        Ensemble(Network(depth=2, width=4, block="preact"), BatchNorm(), Point())
    Ensemble(Network(depth=2, width=4, block="preact", image=2), BatchNorm(), Point())


def test_a_batch_too_large_is_refused_with_the_number_that_fits():
    from sigprop.backends import choose

    ensemble = Ensemble(
        Network(depth=2, width=100, block="preact", image=64), BatchNorm(), Batch(count=10_000)
    )
    with pytest.raises(Unsupported, match=r"GiB.*about (\d+) inputs"):
        choose("batch", ensemble, frozenset({"log_norm"}))


def test_a_batch_is_part_of_the_law_and_named_by_its_draw():
    one, other = Batch(count=3), Batch(count=3, draw=1)
    assert (one.array(5) == Batch(count=3).array(5)).all()
    assert (one.array(5) != other.array(5)).all()
    values = Batch(count=2000).array(50)
    # 10^5 normals: a mean within 5 deviations, a mean square within 5.
    assert abs(values.mean()) < 5 / np.sqrt(1e5) and abs((values**2).mean() - 1) < 5 * np.sqrt(2e-5)
