"""RISOTTO and looks-linear networks are isometries, exactly; what looks alike is not."""

from __future__ import annotations

import numpy as np
import pytest

from sigprop import looks_linear
from sigprop.backends import reference
from sigprop.backends.reference import draw, forward
from sigprop.errors import SpecError, Unsupported
from sigprop.inputs import Equiangular, Given
from sigprop.schemes import LooksLinear, Risotto
from sigprop.spec import Ensemble, Network

THREE = Equiangular(count=3, cosine=0.2)

# alpha, beta, and what else the network is; every width differs from every other.
RISOTTOS = {
    "projection": (0.7, 0.9, {"block": "projection", "width": 20, "input_width": 7}),
    "projection, wide branch": (
        -1.3, 1.0, {"block": "projection", "width": 12, "input_width": 6, "inner_width": 18}
    ),
    "projection, bottleneck of three": (
        0.5, 0.7,
        {"block": "projection", "width": 18, "input_width": 9, "inner_width": 6, "inner_layers": 3},
    ),
    "projection, no branch": (0.0, 1.0, {"block": "projection", "width": 10, "input_width": 4}),
    "identity": (0.3, 0.9, {"block": "identity", "width": 20, "input_width": 7}),
    "identity, padded": (
        2.0, 0.7, {"block": "identity", "width": 12, "input_width": 5, "inner_width": 16}
    ),
    "identity, bottleneck": (
        0.6, 1.0,
        {"block": "identity", "width": 16, "input_width": 8, "inner_width": 6, "inner_layers": 3},
    ),
}  # fmt: skip


def gram_of_coordinates(ensemble, seed):
    """(Gram matrix of the inputs, that of z at the last layer), of one network."""
    draws = draw(ensemble, [np.random.default_rng(seed)])
    signal = forward(ensemble, draws, differentiate=False)
    h = np.ldexp(signal.states[-1], signal.exponents[-1][..., None])
    z = looks_linear.coordinates(h)
    return (draws.inputs @ draws.inputs.swapaxes(1, 2))[0], (z @ z.swapaxes(1, 2))[0]


@pytest.mark.parametrize("case", RISOTTOS)
@pytest.mark.parametrize("depth", [1, 10, 100, 1000])
def test_a_risotto_network_keeps_every_length_and_angle(case, depth):
    """To 1e-12 of the squared length, whatever the depth."""
    alpha, beta, shape = RISOTTOS[case]
    law = Ensemble(Network(depth=depth, **shape), Risotto(alpha=alpha, skip=beta), THREE)
    before, after = gram_of_coordinates(law, seed=depth)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12 * before[0, 0])


def test_a_projection_may_widen_the_state_and_stays_an_isometry():
    network = Network(depth=3, block="projection", widths=(8, 8, 14, 22), input_width=3)
    before, after = gram_of_coordinates(Ensemble(network, Risotto(alpha=0.7), THREE), seed=5)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-13 * before[0, 0])


def test_each_layer_has_a_coefficient_of_its_own():
    network = Network(depth=3, block="projection", width=12)
    scheme = Risotto(alpha=(0.3, -1.0, 2.0), skip=(0.7, 1.1, -0.9))
    before, after = gram_of_coordinates(Ensemble(network, scheme, THREE), seed=6)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-13 * before[0, 0])


def test_a_looks_linear_plain_net_keeps_every_length_and_angle():
    network = Network(depth=100, widths=(5, 10, *(16,) * 50, *(22,) * 49), block="plain")
    before, after = gram_of_coordinates(Ensemble(network, LooksLinear(), THREE), seed=7)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-13 * before[0, 0])


def test_a_lossy_network_projects():
    """Two inputs narrowed from 6 to 4 coordinates become shorter, not longer."""
    network = Network(depth=2, block="projection", widths=(12, 8, 8), input_width=6)
    before, after = gram_of_coordinates(Ensemble(network, Risotto(lossy=True), THREE), seed=8)
    gap = np.linalg.eigvalsh(before - after)
    assert gap.min() > -1e-12 * before[0, 0] and gap.max() > 0.01 * before[0, 0]


def test_the_literal_reading_of_the_identity_block_is_no_isometry():
    """With W_1 = 1 and W_2 = LL(M - 1/alpha) the norm grows more than 10 times in 10 blocks."""
    half, alpha, rng = 50, 1.0, np.random.default_rng(0)

    def haar(n):
        q, r = np.linalg.qr(rng.standard_normal((n, n)))
        return q * np.sign(np.diag(r))

    growth = []
    for _ in range(5):
        x = rng.standard_normal(half)
        h = np.maximum(looks_linear.mirrored(haar(half)) @ x, 0.0)
        for _ in range(10):
            w = looks_linear.looks_linear(haar(half) - np.eye(half) / alpha)
            h = np.maximum(h + alpha * w @ h, 0.0)
        growth.append(np.linalg.norm(h) / np.linalg.norm(x))
    assert min(growth) > 10


@pytest.mark.parametrize("scheme, shape, told", [
    (Risotto(), {"block": "projection", "width": 11}, "even width, got 11.*Use 10 or 12"),
    (Risotto(), {"block": "identity", "width": 10, "inner_width": 7}, "even inner_width, got 7"),
    (Risotto(), {"block": "projection", "width": 10, "input_width": 6},
     "at least 12 units, got 10.*width of 12.*input_width = 5"),
    (Risotto(), {"block": "projection", "widths": (8, 8, 6)}, "from 8 to 6.*at least 8"),
    (Risotto(skip=0.0), {"block": "projection"}, "skip that is not 0"),
    (Risotto(alpha=0.0), {"block": "identity"}, "alpha that is not 0"),
    (Risotto(skip=0.9), {"block": "identity", "width": 8, "inner_width": 4},
     "at least 8 units, got 4.*inner_width = 8, or skip = 1"),
    (LooksLinear(), {"block": "plain", "width": 8}, "at least 16 units, got 8"),
])  # fmt: skip
def test_what_would_lose_the_isometry_is_refused_with_the_number_that_fits(scheme, shape, told):
    with pytest.raises(SpecError, match=f"(?s){told}"):
        Ensemble(Network(depth=2, **shape), scheme)


def test_pairs_need_the_relu():
    with pytest.raises(Unsupported, match="relu, got 'tanh'"):
        Ensemble(Network(depth=2, block="projection", activation="tanh"), Risotto())


def test_other_blocks_have_no_stem():
    with pytest.raises(SpecError, match=r"input_width = 3.*'res3' has no stem"):
        Network(depth=2, block="res3", input_width=3)
    assert Network(depth=2, width=6, block="plain", input_width=3).widths == (3, 6, 6)
    assert Network(depth=2, width=7, block="identity").input_size == 3
    with pytest.raises(SpecError, match="reads 3"):
        Ensemble(Network(depth=2, width=7, block="identity"), Risotto(), Given([[1.0, 2.0]]))


@pytest.mark.parametrize("case", RISOTTOS)
def test_all_singular_values_of_a_risotto_network_are_one(case):
    """Of the Jacobian from the network's input, at every layer, to 1e-12."""
    alpha, beta, shape = RISOTTOS[case]
    law = Ensemble(Network(depth=30, **shape), Risotto(alpha=alpha, skip=beta))
    trace = reference.measure(
        law,
        draw(law, [np.random.default_rng(0)]),
        np.array([0, 1, 30]),
        frozenset({"log_singular"}),
    )
    assert trace["log_singular"].shape == (1, 3, law.network.input_size)
    np.testing.assert_allclose(trace["log_singular"], 0.0, rtol=0, atol=1e-12)
