"""The sampler of images and batches walks as the definition does, on the very same draws.

What it draws is handed to the reference, as the matrices that its kernels mean: every field
then agrees to rounding, forward and backward. So gathering, strides, borders, normalisation
and the walk in segments hold no statistical doubt, and what is left to chance are the draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sigprop
from sigprop import rng
from sigprop.activations import LeakyReLU
from sigprop.backends import applicable, batch, reference
from sigprop.image import taps
from sigprop.inputs import Batch, Given, Pair, Point
from sigprop.laws import StudentT
from sigprop.schemes import (
    BatchNorm,
    DeltaOrthogonal,
    GivenScheme,
    LooksLinear,
    NFResNet,
    Risotto,
)
from sigprop.spec import Ensemble, Network
from tests.ensembles import BRANCH, SKIP, VARIANCE

KEY = np.array([0x13198A2E, 0x03707344], np.uint32)


def uneven_images(
    block: str, activation: Any = "relu", inputs: Any = None, **more: Any
) -> Ensemble:
    """Four layers in which no coefficient, variance, side or width equals another."""
    scheme = {name: more.pop(name) for name in ("bias_variance", "law") if name in more}
    shape: dict[str, Any] = {"depth": 4, "block": block, "activation": activation}
    shape |= {"image": (3, 4), "kernel": 3, "width": 3, **more}
    if block in ("plain", "projection"):
        shape |= {"widths": (2, 4, 3, 5, 4)}
        del shape["width"]
    bare = Network(**shape)
    if bare.branch_matrices > 1:
        rows = np.resize((4, 2, 5, 3, 6), (4, bare.branch_matrices - 1)).tolist()
        bare = Network(**shape, inner_width=tuple(map(tuple, rows)))
    variance = (np.resize(VARIANCE, (4, bare.matrices)) / 3).tolist()
    values = {"skip": SKIP, "branch": BRANCH, "variance": tuple(map(tuple, variance)), **scheme}
    return Ensemble(bare, GivenScheme(**values), Pair(cosine=0.3) if inputs is None else inputs)


def normalised(block: str, inputs: Any, **shape: Any) -> Ensemble:
    return Ensemble(Network(depth=4, width=5, block=block, **shape), BatchNorm(), inputs)


CASES = {
    "res3": uneven_images("res3"),
    "res3 circular": uneven_images("res3", padding="circular", kernel=(3, 5)),
    "res3 one tap": uneven_images("res3", kernel=(1, 3)),
    "res3 biased": uneven_images("res3", "tanh", bias_variance=0.3),
    "res1": uneven_images("res1", LeakyReLU(slope=-0.7), padding="circular"),
    "inner": uneven_images("inner", LeakyReLU(slope=0.3), kernel=(1, 3, 1), bias_variance=0.2),
    "preact": uneven_images("preact", "gelu"),
    "plain": uneven_images("plain"),
    "plain with strides": uneven_images("plain", image=(7, 5), stride=(1, 2, 1, 2)),
    "plain with strides around": uneven_images(
        "plain", "erf", image=(6, 5), stride=(2, 1, 3, 1), padding="circular"
    ),
    "one input": uneven_images("res3", "linear", inputs=Point()),
    "given images": uneven_images(
        "plain", image=(2, 1), inputs=Given([[1.0, 0.2, -0.7, 0.4], [-0.3, 1.1, 0.5, 0.9]])
    ),
    "heavy tails": uneven_images("res3", law=StudentT(dof=4.0)),
    "uniform": uneven_images("inner", law="uniform"),
    "no image": Ensemble(Network(depth=3, width=5, inner_width=4), GivenScheme(
        skip=SKIP[:3], branch=BRANCH[:3], variance=0.3), Pair()),
    "centred": Ensemble(
        Network(depth=4, width=3, block="preact", image=(3, 2)), NFResNet(), Pair()
    ),
    "identity": uneven_images("identity", padding="circular", input_width=3),
    "identity biased": uneven_images("identity", "tanh", bias_variance=0.2, input_width=2),
    "projection": uneven_images("projection", kernel=(1, 3), image=(6, 5), stride=(1, 2, 1, 2)),
    "projection of three": uneven_images(
        "projection", LeakyReLU(slope=0.3), inner_layers=3, kernel=(3, 1, 3), bias_variance=0.3
    ),
    "rademacher": uneven_images("projection", law="rademacher"),
    "delta kernels": Ensemble(
        Network(depth=4, block="plain", widths=(2, 4, 3, 5, 4), image=(5, 3), stride=(1, 2, 1, 1)),
        DeltaOrthogonal(),
    ),
    "orthogonal blocks": Ensemble(
        Network(depth=3, width=4, block="projection", image=3, inner_width=6), DeltaOrthogonal()
    ),
    "pairs": Ensemble(
        Network(depth=3, block="plain", widths=(2, 4, 6, 8), image=(2, 3)), LooksLinear()
    ),
    "risotto": Ensemble(
        Network(depth=3, block="projection", widths=(4, 6, 6, 8), image=3, inner_layers=3),
        Risotto(alpha=(0.7, -1.2, 1.0), skip=(0.9, 1.0, 0.8)),
    ),
    "risotto identity": Ensemble(
        Network(depth=3, width=6, block="identity", image=3, inner_width=4), Risotto(alpha=0.6)
    ),
    "normalised projection": normalised("projection", Batch(count=5), inner_width=4),
    "normalised identity": normalised("identity", Pair(), image=(2, 3)),
    "normalised preact": normalised("preact", Batch(count=6), inner_width=4),
    "normalised res3": normalised("res3", Batch(count=3)),
    "normalised plain": normalised("plain", Batch(count=4), activation=LeakyReLU(slope=0.2)),
    "normalised images": normalised("preact", Pair(), image=(2, 3), activation="tanh"),
    "one normalised image": normalised("inner", Point(), image=3, kernel=(3, 1, 3)),
}  # fmt: skip


def on_the_same_draws(ensemble: Ensemble, replicas: range) -> tuple[dict, dict]:
    """Every field at every layer: from the sampler, and from the reference on its draws."""
    network, table = ensemble.network, ensemble.table
    fields, layers = applicable(ensemble), np.arange(network.depth + 1)
    walk = batch._Walk(ensemble, fields, layers, KEY, replicas)
    shape = (len(replicas), 1)

    def matrix(kernel: batch._Kernel, layer: int | None, j: int = 0) -> np.ndarray:
        by_column = kernel.weights.swapaxes(2, 3)  # rows, columns, taps
        rows = by_column.shape[1]
        flat = by_column.reshape(len(replicas), rows, -1)
        return reference._matrix_of_kernel(flat, rows, *ensemble.convolution(layer, j))

    def on_pixels(bias: Any, rows: int, layer: int | None, j: int = 0) -> np.ndarray:
        whole = np.broadcast_to(bias, (*shape, rows))
        return np.repeat(whole, len(taps(*ensemble.convolution(layer, j))), axis=2)

    weights, biases = [], []
    for layer in range(network.depth):
        rows = network.fans[1][layer]
        kernels = walk._kernels(layer)
        weights.append([matrix(kernel, layer, j) for j, kernel in enumerate(kernels)])
        biases.append(
            [on_pixels(walk._bias(layer, j), rows[j], layer, j) for j in range(len(kernels))]
        )
    stem: tuple = ()
    if table.stem is not None:
        kernel, bias = walk._stem()
        stem = (matrix(kernel, None), on_pixels(bias, int(network.state_widths[0]), None))
    last = int(network.state_sizes[-1])
    tops = ensemble.inputs.count if table.batch_norm else 1
    from sigprop.kernels import philox

    top = walk._singles(0, philox.TOP, tops * last).reshape(len(replicas), tops, last)
    slopes: list[list[np.ndarray]] = [[] for _ in range(network.depth)]
    draws = reference.Draws(walk._start(), weights, biases, slopes, top, *stem)
    return walk.trace(), reference.measure(ensemble, draws, layers, fields)


def assert_equal_to_rounding(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys() and len(found) > 6
    for name in wanted:
        scale = 1e-11 if not name.endswith("displacement") else 1e-9  # it cancels
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=scale, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_on_its_own_draws_the_sampler_agrees_with_the_definition(case):
    assert_equal_to_rounding(*on_the_same_draws(CASES[case], range(3, 6)))


@pytest.mark.parametrize("case", ["res3 biased", "plain with strides", "normalised images"])
def test_a_walk_in_segments_has_the_same_bits(case, monkeypatch):
    ensemble, layers = CASES[case], np.arange(5)
    fields = applicable(ensemble)
    whole = batch._Walk(ensemble, fields, layers, KEY, range(2)).trace()
    for length in (1, 2, 3):
        monkeypatch.setattr(batch._Walk, "_segment", lambda walk, length=length: length)
        pieces = batch._Walk(ensemble, fields, layers, KEY, range(2)).trace()
        for name in whole:
            np.testing.assert_array_equal(pieces[name], whole[name], err_msg=name)


@pytest.mark.parametrize("case", ["res3", "plain with strides", "normalised preact"])
def test_no_bit_depends_on_how_many_networks_are_walked_together(case):
    ensemble, layers = CASES[case], np.array([0, 2, 4])
    fields = applicable(ensemble)
    whole = batch._Walk(ensemble, fields, layers, KEY, range(7)).trace()
    for replicas in (range(0, 1), range(1, 3), range(3, 7)):
        part = batch._Walk(ensemble, fields, layers, KEY, replicas).trace()
        for name in part:
            np.testing.assert_array_equal(part[name], whole[name][replicas], err_msg=name)


def test_no_bit_of_a_result_depends_on_workers_or_on_an_interruption(tmp_path):
    ensemble = CASES["plain with strides"]
    one = sigprop.simulate(ensemble, replicas=70, seed=4, workers=1)
    assert one.attrs["sampler"] == "batch"
    first = tmp_path / "first.nc"
    sigprop.simulate(ensemble, replicas=33, seed=4, workers=3, out=first)
    resumed = sigprop.simulate(ensemble, replicas=70, seed=4, workers=2, out=first, resume=True)
    for other in (sigprop.simulate(ensemble, replicas=70, seed=4, workers=3), resumed):
        for name in one.data_vars:
            np.testing.assert_array_equal(other[name].values, one[name].values, err_msg=name)


def test_gradients_of_a_batch_share_one_scale_however_they_grow():
    """Normalised plain layers multiply them by 1.2 each: past 2^20, where states are rescaled.

    Rounding grows with them, so this is to 1e-4; inputs in units of their own would differ by 2.
    """
    ensemble = Ensemble(Network(depth=110, width=30, block="plain"), BatchNorm(), Batch(count=30))
    found, wanted = on_the_same_draws(ensemble, range(2))
    assert wanted["log_gradient"][:, 0].min() > 14  # 20 powers of two
    for name in ("log_gradient", "alignment"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=1e-4)


def test_a_thousand_layers_neither_overflow_nor_lose_the_invariant():
    """He's mean square grows as 3^l, beyond float64; Euler: p_l . h_l does not depend on l."""
    from sigprop.schemes import He

    ensemble = Ensemble(Network(depth=1500, width=4, image=2, padding="circular"), He(), Point())
    fields = frozenset({"log_norm", "log_gradient", "alignment"})
    layers = np.array([0, 1, 700, 1499, 1500])
    trace = batch.Batch().sample(ensemble, fields, layers, rng.key(0, "x", "batch", 1), 0, 3)
    assert (trace["log_norm"][:, -1] > 500).all() and np.isfinite(trace["log_norm"]).all()
    size = trace["log_norm"] + trace["log_gradient"]
    ratio = np.exp(size[:, -1:] - size)  # of |p||h| at the top to that here
    gap = np.abs(trace["alignment"] - ratio * trace["alignment"][:, -1:])
    assert (gap / np.maximum(1.0, ratio)).max() < 1500 * 1e-13  # of rounding, a layer
