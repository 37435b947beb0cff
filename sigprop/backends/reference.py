r"""Random networks drawn matrix by matrix: the definition that every sampler is held to.

Nothing here is clever. All weights of a network are drawn, the inputs are sent forward and
the states kept, one Gaussian gradient at the top is sent backward through the transposed
matrices. A few networks are stacked in one array, which changes no number: every network
has a generator of its own.

A layer reads :math:`s h`, with ``s`` its input scale, and alternates matrices and
activations; what a block adds to the trunk is

====== ==========================================================================
plain  :math:`h' = a\,\varphi(W s h + b)`
res1   :math:`h' = c h + a (V \varphi(s h) + b)`
res3   :math:`h' = c h + a (V \varphi(W s h + b_1) + b_2)`
inner  :math:`h' = c h + a F(s h)`, an activation between two matrices
preact the same, an activation before every matrix
====== ==========================================================================

Two blocks activate the sum, and their first state is the output of a stem,
:math:`h_0 = \varphi(W_0 x + b)`:

========== ======================================================================
identity   :math:`h' = \varphi(c h + a F(s h))`, F as in inner
projection :math:`h' = \varphi(c (S h + b) + a F(s h))`
========== ======================================================================

A convolution is no exception: it is a matrix from all channels of all pixels to all channels
of all pixels, in which an entry of the kernel stands wherever an output pixel reads an input
pixel through its tap. States are images channel by channel.

With batch normalisation an activation reads, in place of u,

.. math:: \hat u = (u - \bar u) / \sqrt{\overline{(u - \bar u)^2}}, \qquad
   \partial\hat u:\; q \mapsto (q - \bar q - \hat u\, \overline{\hat u q}) / \mathrm{std}(u),

bars being means over the inputs and pixels, unit by unit; a unit that is the same for all of
them passes 0 on, and no gradient back. Where the sum is activated, trunk and branch are
normalised before they are added, the products by the last matrix of a branch and by a skip
matrix, and the sum is not.

The read-out is linear, so the gradient :math:`p_L` at the last state is a vector of its own,
the same for all inputs of a network; :math:`p_l = \partial\,(p_L \cdot h_L) / \partial h_l`. With
batch normalisation every input k has one of its own, and :math:`p_l^k` is the derivative of
:math:`\sum_j p_L^j \cdot h_L^j` by :math:`h_l^k`.

Where the activation is positively homogeneous and there is no bias, states are rescaled by
powers of two, which is exact, so that no depth overflows. Gradients always are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import scipy

from sigprop import looks_linear
from sigprop.activations.randomised_leaky_relu import RandomisedLeakyReLU
from sigprop.backends.base import Sampler, applicable
from sigprop.image import Size, strided, taps
from sigprop.processes.hermite import Hermite
from sigprop.spec import Activation, Ensemble, Process, Structure

__all__ = [
    "GRADIENT_FIELDS",
    "Draws",
    "Normalised",
    "Reference",
    "Scaled",
    "assembled",
    "backward",
    "draw",
    "forward",
    "generator_of",
    "jacobians",
    "measure",
    "part_size",
    "share",
    "simulate_one",
    "trace_of",
]

GRADIENT_FIELDS = frozenset({"log_gradient", "log_gradient_displacement", "alignment"})

_PAIR_FIELDS = frozenset({
    "cosine", "log_distance", "effective_rank",
    "looks_linear_cosine", "log_looks_linear_distance", "looks_linear_effective_rank",
})  # fmt: skip

Scaled = tuple[np.ndarray, np.ndarray]  # (x, e) stands for x * 2**e, e one number a row

_GROUP_BYTES = 64 * 2**20
_LARGEST_NETWORK_BYTES = 4 * 2**30


# -------------------------------------------------------------------- drawing


@dataclass(frozen=True)
class Draws:
    """All that is random in R networks; the first axis of every array runs over them.

    Attributes
    ----------
    inputs : ndarray, shape (R, K, input size)
    weights : list (layer) of lists (matrix) of ndarray, shape (R, rows, columns)
        A skip matrix is the last of its layer.
    biases : the same, of shape (R, 1, rows)
    slopes : list (layer) of lists (activation) of ndarray, shape (R, 1, units)
        Negative slopes of the randomised leaky ReLU, one a unit and layer, the same for all
        inputs of a network; no arrays for other activations.
    top : ndarray, shape (R, 1, last size), or (R, K, last size) with batch normalisation
        Gradient at the last state.
    stem, stem_bias, stem_slopes : ndarray, optional
        Where the block has a stem: its matrix, bias and slopes, shaped as those of a layer.
    """

    inputs: np.ndarray
    weights: list[list[np.ndarray]]
    biases: list[list[np.ndarray]]
    slopes: list[list[np.ndarray]]
    top: np.ndarray
    stem: np.ndarray | None = None
    stem_bias: np.ndarray | None = None
    stem_slopes: np.ndarray | None = None


def draw(
    ensemble: Ensemble, generators: Sequence[np.random.Generator], *, kernels: bool = False
) -> Draws:
    """Draw one network from each generator.

    With ``kernels`` a convolution is left as its kernel, of shape (R, rows, columns x taps), and a
    bias as one number a channel.

    The order within a network: the frame of the inputs; the stem, its bias and slopes; matrix
    by matrix the paths of weights that depend on each other along depth; layer by layer and
    matrix by matrix the other weights, then the biases; layer by layer the slopes; the top
    gradient.
    """
    network, table = ensemble.network, ensemble.table
    fan_in, fan_out = network.fans
    shapes = [list(zip(rows, columns)) for rows, columns in zip(fan_out.tolist(), fan_in.tolist())]

    inputs = _inputs(ensemble, generators)
    stem = _stem(ensemble, generators, kernels)
    paths = {
        j: np.stack([_paths(process, g, network.depth, shapes[0][j]) for g in generators])
        for j, process in enumerate(table.processes)
        if not process.independent
    }
    weights, biases = [], []
    for layer, matrices in enumerate(shapes):
        layer_weights: list[np.ndarray] = []
        layer_biases: list[np.ndarray] = []
        for j, (rows, _) in enumerate(matrices):
            if j in paths:
                w = paths[j][:, layer]
            else:
                w = np.stack([_random_part(ensemble, layer, j, g) for g in generators])
            if table.centred:
                w -= w.mean(axis=-1, keepdims=True)
            w = table.scale[layer, j] * w
            layer_weights.append(assembled(ensemble, layer, j, w, layer_weights))
            b = np.zeros((len(generators), 1, rows))
            if table.bias_scale[layer, j] != 0:
                b = np.stack([g.standard_normal((1, rows)) for g in generators])
            b = table.bias_scale[layer, j] * b
            layer_biases.append(b if kernels else _on_images(ensemble, b, layer, j))
        if network.convolutional and not kernels:
            layer_weights = [
                _matrix_of_kernel(w, rows, *ensemble.convolution(layer, j))
                for j, (w, (rows, _)) in enumerate(zip(layer_weights, matrices))
            ]
        weights.append(layer_weights)
        biases.append(layer_biases)

    slopes: list[list[np.ndarray]] = [[] for _ in shapes]
    phi = network.phi
    if isinstance(phi, RandomisedLeakyReLU):
        slopes = [
            [np.stack([phi.slopes(g, (1, n)) for g in generators]) for n in units]
            for units in _activation_widths(ensemble)
        ]
    last = int(network.state_sizes[-1])
    tops = ensemble.inputs.count if table.batch_norm else 1
    top = np.stack([g.standard_normal((tops, last)) for g in generators])
    return Draws(inputs, weights, biases, slopes, top, *stem)


def _matrix_of_kernel(
    kernel: np.ndarray, rows: int, size: Size, side: int, stride: int, padding: str
) -> np.ndarray:
    """The matrix of a convolution, shape (R, rows x output pixels, columns x input pixels).

    Parameters
    ----------
    kernel : ndarray, shape (R, rows, columns x taps)
    size, side, stride, padding
        Of the input image and of the kernel, see `sigprop.image.taps`.
    """
    reads = taps(size, side, stride, padding)
    outputs, inputs = len(reads), size[0] * size[1]
    kernel = kernel.reshape(len(kernel), rows, -1, side * side)
    matrix = np.zeros((len(kernel), rows, outputs, kernel.shape[2], inputs))
    for output, tap in np.argwhere(reads >= 0):
        matrix[:, :, output, :, reads[output, tap]] += kernel[:, :, :, tap]
    return matrix.reshape(len(kernel), rows * outputs, -1)


def _on_images(ensemble: Ensemble, bias: np.ndarray, layer: int | None, j: int = 0) -> np.ndarray:
    """A bias, one number a channel, at all pixels of the image that a matrix makes."""
    size, _, stride, _ = ensemble.convolution(layer, j)
    return np.repeat(bias, math.prod(strided(size, stride)), axis=-1)


def _random_part(
    ensemble: Ensemble, layer: int, j: int, generator: np.random.Generator
) -> np.ndarray:
    """X of a matrix, see `sigprop.spec.Structure`, at unit scale."""
    if ensemble.table.structure[layer, j] == Structure.ROUTED:
        fan_in, fan_out = ensemble.network.fans
        return looks_linear.routed(fan_out[layer, j], fan_in[layer, j])
    return ensemble.table.law.sample(generator, part_size(ensemble, layer, j))


def part_size(ensemble: Ensemble, layer: int | None, j: int = 0) -> tuple[int, int]:
    """Rows and columns, taps included, of the X of a matrix; of the stem for ``layer`` None."""
    network, table = ensemble.network, ensemble.table
    if layer is None:
        assert table.stem is not None
        rows, columns = int(network.state_widths[0]), network.input_channels
        structure = table.stem.structure
    else:
        fan_in, fan_out = network.fans
        rows, columns = int(fan_out[layer, j]), int(fan_in[layer, j])
        structure = Structure(table.structure[layer, j])
        if structure == Structure.COMPLEMENT and not network.form.projected:
            rows = columns = int(min(fan_in[layer].min(), fan_out[layer].min()))
    if structure != Structure.ENTRIES:
        rows //= 2
    if structure not in (Structure.ENTRIES, Structure.MIRRORED):
        columns //= 2
    return rows, columns * ensemble.convolution(layer, j)[1] ** 2


def assembled(
    ensemble: Ensemble, layer: int, j: int, x: np.ndarray, earlier: list[np.ndarray]
) -> np.ndarray:
    """The matrix that is made of ``x``, s X of `Structure`, beside the layer's earlier ones."""
    network, table = ensemble.network, ensemble.table
    structure = table.structure[layer, j]
    if structure == Structure.MIRRORED:
        return looks_linear.mirrored(x)
    if structure == Structure.LOOKS_LINEAR:
        return looks_linear.looks_linear(x)
    if structure != Structure.COMPLEMENT:
        return x
    skip, branch = table.skip[layer], table.branch[layer] * table.input_scale[layer]
    if network.form.projected:
        halves = [w[..., : w.shape[-2] // 2, : w.shape[-1] // 2] for w in earlier]
        return looks_linear.skip_matrix(x, halves, skip, branch)
    fan_in, fan_out = network.fans
    return looks_linear.top_matrix(x, fan_out[layer, j], fan_in[layer, j], skip, branch)


def _stem(
    ensemble: Ensemble, generators: Sequence[np.random.Generator], kernels: bool = False
) -> tuple[Any, ...]:
    """Matrix, bias and slopes of the stem; nothing where there is none."""
    network, table, stem = ensemble.network, ensemble.table, ensemble.table.stem
    if stem is None:
        return ()
    width = int(network.state_widths[0])
    mirrored = stem.structure == Structure.MIRRORED
    size = part_size(ensemble, None)
    w = stem.scale * np.stack([table.law.sample(g, size) for g in generators])
    b = np.zeros((len(generators), 1, width))
    if stem.bias_scale != 0:
        b = stem.bias_scale * np.stack([g.standard_normal((1, width)) for g in generators])
    slopes = None
    if isinstance(network.phi, RandomisedLeakyReLU):
        units = int(network.state_sizes[0])
        slopes = np.stack([network.phi.slopes(g, (1, units)) for g in generators])
    w = looks_linear.mirrored(w) if mirrored else w
    if network.convolutional and not kernels:
        place = ensemble.convolution(None)
        w, b = _matrix_of_kernel(w, width, *place), _on_images(ensemble, b, None)
    return w, b, slopes


def _paths(
    process: Process, generator: np.random.Generator, depth: int, shape: tuple[int, int]
) -> np.ndarray:
    """Weights at unit scale along depth, shape (depth, *shape), from the covariance alone.

    A root of the covariance matrix times normals, which shares nothing with the way in which
    the process itself draws; a Hermite process is the polynomial of such a path.
    """
    gaussian: Process = process.driver if isinstance(process, Hermite) else process
    if not gaussian.gaussian:
        size = (math.prod(shape), process.draws(depth))
        return process.paths(generator.standard_normal(size), depth).T.reshape(depth, *shape)
    x = np.tensordot(_root(gaussian, depth), generator.standard_normal((depth, *shape)), 1)
    if isinstance(process, Hermite):
        return scipy.special.eval_hermitenorm(process.rank, x) / math.sqrt(
            math.factorial(process.rank)
        )
    return x


@lru_cache(maxsize=8)
def _root(process: Process, depth: int) -> np.ndarray:
    """The symmetric root of the covariance, shape (depth, depth)."""
    values, vectors = np.linalg.eigh(process.covariance(depth))
    return vectors * np.sqrt(values.clip(0.0)) @ vectors.T


def _inputs(ensemble: Ensemble, generators: Sequence[np.random.Generator]) -> np.ndarray:
    width, count = ensemble.network.input_size, ensemble.inputs.count
    coefficients = ensemble.inputs.frame()
    if coefficients is None:
        given = np.asarray(ensemble.inputs.array(width), float)
        return np.broadcast_to(given, (len(generators), count, width)).copy()
    gaussian = np.stack([g.standard_normal((width, count)) for g in generators])
    q, r = np.linalg.qr(gaussian)
    # The sign makes the frame Haar: without it Q depends on the convention of the library.
    frame = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    return np.sqrt(width) * np.asarray(coefficients) @ frame.swapaxes(1, 2)


def _activation_widths(ensemble: Ensemble) -> list[list[int]]:
    """Number of units of every activation of every layer, in the order of the signal."""
    form = ensemble.network.form
    fan_in, fan_out = ensemble.network.fans
    pixels = np.prod(ensemble.network.images, axis=1)[:, None]
    if not form.trunk:
        return (fan_out * pixels[1:]).tolist()
    if form.post:
        return (fan_out[:, : ensemble.network.branch_matrices] * pixels[1:]).tolist()
    return ((fan_in if form.pre else fan_in[:, 1:]) * pixels[1:]).tolist()


# -------------------------------------------------------------------- passing


@dataclass(frozen=True)
class Signal:
    """What a forward pass leaves; arrays of shape (R, K, ..).

    Attributes
    ----------
    states, exponents : list (layer 0 .. depth) of ndarray
        ``h_l = states[l] * 2 ** exponents[l]``.
    derivatives : list (layer) of lists (activation) of ndarray
        phi' at every unit, in the order of the signal; empty lists if not asked for.
    activity : list (layer 0 .. depth) of ndarray, shape (R, K)
        NaN at layer 0 where there is no stem.
    silent : list (layer 0 .. depth) of ndarray of bool, shape (R, K)
        Whether the output of one of the activations is the zero vector.
    stem_derivative : ndarray, optional
        phi' at the units of the stem.
    diversity : list (layer 0 .. depth) of ndarray, shape (R,)
        Mean over the units of a layer of 4 p (1 - p), p the share of the inputs that turn it on.
    read : list (layer) of lists (matrix) of ndarray
        What every matrix multiplies; a skip matrix is last.
    branches, skips : list (layer) of ndarray
        What is added, ``F`` and the state or ``S h``, before their coefficients.
    normalised : list (layer) of lists of `Normalised`
        Of batch normalisation: what was normalised, in the order of the signal, the branch's
        end before the skip connection.
    stem_normalised : Normalised, optional
        That of the stem.
    """

    states: list[np.ndarray]
    exponents: list[np.ndarray]
    derivatives: list[list[np.ndarray]]
    activity: list[np.ndarray]
    silent: list[np.ndarray]
    stem_derivative: np.ndarray | None
    diversity: list[np.ndarray]
    read: list[list[np.ndarray]]
    branches: list[np.ndarray]
    skips: list[np.ndarray]
    normalised: list[list[Normalised]] = field(default_factory=list)
    stem_normalised: Normalised | None = None


@dataclass(frozen=True)
class Normalised:
    """Numbers of mean 0 and variance 1 over the batch, shape (R, K, units x pixels).

    ``deviation`` is what they were divided by, shape (R, 1, units, 1).
    """

    values: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, u: np.ndarray, units: int) -> Normalised:
        x = u.reshape(*u.shape[:2], units, -1)
        x = x - _over_batch(x)
        deviation = np.sqrt(_over_batch(x * x))
        return cls(_divided(x, deviation).reshape(u.shape), deviation)

    def back(self, q: np.ndarray) -> np.ndarray:
        """The gradient before the normalisation, from that behind it."""
        shape = (*q.shape[:2], self.deviation.shape[2], -1)
        x, u = q.reshape(shape), self.values.reshape(shape)
        x = x - _over_batch(x) - u * _over_batch(u * x)
        return _divided(x, self.deviation).reshape(q.shape)


def _over_batch(x: np.ndarray) -> np.ndarray:
    """Mean over inputs and pixels of an array (R, K, units, pixels)."""
    return x.mean(axis=(1, 3), keepdims=True)


def _divided(x: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Their quotient, 0 where nothing deviates."""
    return np.divide(x, deviation, where=deviation > 0, out=np.zeros_like(x))


@dataclass(frozen=True)
class _Passed:
    """One activation of one layer: which units are active, phi(u), phi'(u)."""

    active: np.ndarray
    output: np.ndarray
    derivative: np.ndarray


def _activate(
    phi: Activation,
    u: np.ndarray,
    slopes: list[np.ndarray],
    passed: list[_Passed],
    differentiate: bool,
) -> np.ndarray:
    """phi(u), noted at the end of ``passed``."""
    more = slopes[len(passed) : len(passed) + 1]
    derivative = phi.derivative(u, *more) if differentiate else np.empty(0)
    passed.append(_Passed(phi.active(u, *more), phi(u, *more), derivative))
    return passed[-1].output


def forward(ensemble: Ensemble, draws: Draws, *, differentiate: bool = True) -> Signal:
    """Send the inputs through the networks, one input a row."""
    network, table = ensemble.network, ensemble.table
    phi, form = network.phi, network.form
    rescaled = phi.homogeneous and not table.biased and not table.batch_norm
    fan_in, fan_out = network.fans
    noted: list[Normalised] = []

    def normal(u: np.ndarray, units: int) -> np.ndarray:
        """u, normalised over the batch if that is the law, which is then noted."""
        if not table.batch_norm:
            return u
        noted.append(Normalised.of(u, int(units)))
        return noted[-1].values

    h, exponent = draws.inputs, np.zeros(draws.inputs.shape[:2], np.int64)
    entered: list[_Passed] = []
    if draws.stem is not None and draws.stem_bias is not None:
        slopes = [] if draws.stem_slopes is None else [draws.stem_slopes]
        product = h @ draws.stem.swapaxes(1, 2)
        if table.law.discrete and table.stem is not None:
            product = _cancelled(product, h, table.stem.scale)
        h = normal(product + draws.stem_bias, network.state_widths[0])
        h = _activate(phi, h, slopes, entered, differentiate)
    stem_normalised = noted[0] if noted else None
    states, exponents = [h], [exponent]
    derivatives, normalised = [], []
    activity = [share([unit.active for unit in entered], h.shape[:2])]
    silent = [_silent(entered, h.shape[:2])]
    diversity = [_diversity([unit.active for unit in entered], len(h))]
    read, branches, skips = [], [], []

    for layer in range(network.depth):
        passed: list[_Passed] = []
        layer_read: list[np.ndarray] = []
        noted = []
        x = table.input_scale[layer] * h
        for j in range(network.branch_matrices):
            if form.pre or j > 0:
                x = normal(x, fan_in[layer, j])
                x = _activate(phi, x, draws.slopes[layer], passed, differentiate)
            layer_read.append(x)
            product = x @ draws.weights[layer][j].swapaxes(1, 2)
            if table.law.discrete:
                product = _cancelled(product, x, table.scale[layer, j])
            x = product + draws.biases[layer][j]
        if not form.trunk:
            x = normal(x, fan_out[layer, -1])
            x = _activate(phi, x, draws.slopes[layer], passed, differentiate)
        if form.post:
            x = normal(x, fan_out[layer, -1])
        carried = h
        if form.projected:
            layer_read.append(h)
            carried = h @ draws.weights[layer][-1].swapaxes(1, 2)
            if table.law.discrete:
                carried = _cancelled(carried, h, table.scale[layer, -1])
            carried = normal(carried + draws.biases[layer][-1], fan_out[layer, -1])
        read.append(layer_read)
        branches.append(x)
        skips.append(carried)
        h = table.branch[layer] * x + (table.skip[layer] * carried if form.trunk else 0.0)
        if form.post:
            h = _activate(phi, h, draws.slopes[layer], passed, differentiate)

        if rescaled:
            h, shift = _rescale(h)
            exponent = exponent + shift
        states.append(h)
        exponents.append(exponent)
        derivatives.append([unit.derivative for unit in passed])
        normalised.append(noted)
        activity.append(share([unit.active for unit in passed], h.shape[:2]))
        silent.append(_silent(passed, h.shape[:2]))
        diversity.append(_diversity([unit.active for unit in passed], len(h)))
    stem = entered[0].derivative if entered else None
    return Signal(
        states,
        exponents,
        derivatives,
        activity,
        silent,
        stem,
        diversity,
        read,
        branches,
        skips,
        normalised,
        stem_normalised,
    )


def _cancelled(product: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
    """The product with the sums that cancel set to 0, whatever rounding left of them.

    With weights of one size this happens with a probability of its own, and whether a unit is
    active must not be decided by the order in which a processor adds.
    """
    least = 2.0**-40 * scale * np.linalg.norm(x, axis=-1, keepdims=True)
    return np.where(np.abs(product) < least, 0.0, product)


def backward(
    ensemble: Ensemble,
    draws: Draws,
    derivatives: list[list[np.ndarray]],
    arriving: list[list[np.ndarray]] | None = None,
    normalised: Sequence[Sequence[Normalised]] = (),
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Send the top gradient back; ``p_l = gradients[l] * 2 ** exponents[l]``.

    ``derivatives`` and ``normalised`` are what `forward` left. ``arriving`` is filled, the last
    layer first: the gradients at the outputs of the matrices of a layer in order, a skip matrix
    last, then that at the sum, all in units of p_l.
    """
    network, table = ensemble.network, ensemble.table
    form = network.form
    count = draws.inputs.shape[1]

    together = table.batch_norm  # then a gradient is one vector over all inputs
    p = draws.top if together else np.repeat(draws.top, count, axis=1)
    exponent = np.zeros(p.shape[:2], np.int64)
    gradients, exponents = [p], [exponent]
    for layer in reversed(range(network.depth)):
        slopes = list(derivatives[layer])
        norms = list(normalised[layer]) if together else []
        if form.post:
            p = slopes.pop() * p
        q, carried = table.branch[layer] * p, p
        if form.projected:
            carried = norms.pop().back(p) if norms else p
            carried = carried @ draws.weights[layer][-1]
        if norms and form.post:
            q = norms.pop().back(q)
        if not form.trunk:
            q = slopes.pop() * q
            q = norms.pop().back(q) if norms else q
        outputs = [table.skip[layer] * p, p] if form.projected else [p]
        for j in reversed(range(network.branch_matrices)):
            outputs.insert(0, q)
            q = q @ draws.weights[layer][j]
            if form.pre or j > 0:
                q = slopes.pop() * q
                q = norms.pop().back(q) if norms else q
        q = table.input_scale[layer] * q
        if arriving is not None:
            arriving.append(outputs)
        p = table.skip[layer] * carried + q if form.trunk else q
        p, shift = _rescale_together(p) if together else _rescale(p)
        exponent = exponent + shift
        gradients.append(p)
        exponents.append(exponent)
    return gradients[::-1], exponents[::-1]


def jacobians(
    ensemble: Ensemble,
    draws: Draws,
    derivatives: list[list[np.ndarray]],
    stem_derivative: np.ndarray | None = None,
    normalised: Sequence[Sequence[Normalised]] = (),
    stem_normalised: Normalised | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """dh_l / dx at the first input x, l = 0 .. depth, as ``j * 2 ** exponent``.

    Shapes (R, size of h_l, input size) and (R,). The columns are pushed forward through the
    linearised layers, just as gradients are pulled back. With batch normalisation the means and
    deviations of the batch are held fixed.
    """
    network, table = ensemble.network, ensemble.table
    form = network.form
    count, _, start = draws.inputs.shape
    j = np.broadcast_to(np.eye(start), (count, start, start)).copy()
    if draws.stem is not None and stem_derivative is not None:
        j = stem_derivative[:, 0, :, None] * _frozen(draws.stem, stem_normalised)
    exponent = np.zeros(count, np.int64)
    found, exponents = [j], [exponent]
    for layer in range(network.depth):
        slopes = [d[:, 0, :, None] for d in derivatives[layer]]
        norms = list(normalised[layer]) if normalised else []
        x = table.input_scale[layer] * j
        for at, weight in enumerate(draws.weights[layer][: network.branch_matrices]):
            if form.pre or at > 0:
                x = slopes.pop(0) * _frozen(x, norms.pop(0) if norms else None)
            x = weight @ x
        if not form.trunk:
            x = slopes.pop(0) * _frozen(x, norms.pop(0) if norms else None)
        if form.post:
            x = _frozen(x, norms.pop(0) if norms else None)
        carried = j
        if form.projected:
            carried = _frozen(draws.weights[layer][-1] @ j, norms.pop(0) if norms else None)
        j = table.branch[layer] * x + (table.skip[layer] * carried if form.trunk else 0.0)
        if form.post:
            j = slopes.pop(0) * j
        flat, shift = _rescale(j.reshape(count, -1))
        j, exponent = flat.reshape(j.shape), exponent + shift
        found.append(j)
        exponents.append(exponent)
    return found, exponents


def _frozen(x: np.ndarray, normalised: Normalised | None) -> np.ndarray:
    """Columns of a Jacobian, shape (R, units x pixels, columns), over the fixed deviations."""
    if normalised is None:
        return x
    networks, units = normalised.deviation.shape[0], normalised.deviation.shape[2]
    by_unit = x.reshape(networks, units, -1)
    return _divided(by_unit, normalised.deviation[:, 0]).reshape(x.shape)


def _log_singular(
    ensemble: Ensemble, draws: Draws, signal: Signal, layers: list[int]
) -> Iterator[np.ndarray]:
    """Logarithms of the singular values at ``layers``, each of shape (R, input size).

    +inf stands where there is none. Values below 1e-16 of the largest are noise, and so are
    those that would be exact zeros: this is for small networks of little depth.
    """
    found, exponents = jacobians(
        ensemble,
        draws,
        signal.derivatives,
        signal.stem_derivative,
        signal.normalised if ensemble.table.batch_norm else (),
        signal.stem_normalised,
    )
    for layer in layers:
        with np.errstate(divide="ignore"):
            values = np.log(np.linalg.svd(found[layer], compute_uv=False))
        logs = np.full((len(values), found[0].shape[2]), np.inf)
        logs[:, : values.shape[1]] = values + np.log(2) * exponents[layer][:, None]
        yield logs


def _rescale(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(y, e) with x = y * 2**e exactly and the largest |y_i| of a row in [1/2, 1)."""
    exponent = np.frexp(np.abs(x).max(axis=-1))[1].astype(np.int64)
    return np.ldexp(x, -exponent[..., None]), exponent


def _rescale_together(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same, all rows of a network sharing the exponent of its largest."""
    exponent = np.frexp(np.abs(x).max(axis=(1, 2), keepdims=True))[1].astype(np.int64)
    return np.ldexp(x, -exponent), np.broadcast_to(exponent[..., 0], x.shape[:2])


def _silent(passed: list[_Passed], shape: tuple[int, ...]) -> np.ndarray:
    """Whether the output of any of these activations is the zero vector."""
    if not passed:
        return np.zeros(shape, bool)
    return np.sum([np.all(unit.output == 0, axis=-1) for unit in passed], axis=0) > 0


def _diversity(active: list[np.ndarray], replicas: int) -> np.ndarray:
    """Mean over all units of 4 p (1 - p), p the share of inputs; NaN where there is no unit."""
    if not active:
        return np.full(replicas, np.nan)
    p = np.concatenate([a.mean(axis=1) for a in active], axis=-1)
    return (4 * p * (1 - p)).mean(axis=-1)


def share(active: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Fraction of True over all units; NaN where there is no unit."""
    units = sum(a.shape[-1] for a in active)
    if not units:
        return np.full(shape, np.nan)
    return sum(a.sum(axis=-1) for a in active) / units


# ------------------------------------------------------------------ measuring


def measure(
    ensemble: Ensemble, draws: Draws, layers: np.ndarray, fields: frozenset[str]
) -> dict[str, np.ndarray]:
    """Pass the signal both ways and read off ``fields`` at ``layers``."""
    differentiate = bool(fields & (GRADIENT_FIELDS | {"log_singular", "log_first_step"}))
    signal = forward(ensemble, draws, differentiate=differentiate)
    recorded = [int(layer) for layer in layers]
    states = list(zip(signal.states, signal.exponents))
    gradients: list[Scaled] = []
    if differentiate:
        back = backward(ensemble, draws, signal.derivatives, normalised=signal.normalised)
        gradients = list(zip(*back))
    silent = np.cumsum(signal.silent, axis=0)
    trace = trace_of(
        ensemble,
        layers,
        fields,
        {at: states[at] for at in recorded},
        states[0],
        {at: gradients[at] for at in recorded if gradients},
        gradients[-1] if gradients else states[0],
        {at: signal.activity[at] for at in recorded},
        {at: silent[at] for at in recorded},
    )
    if {"branch_energy", "skip_energy"} & fields:
        for name, energies in zip(
            ("branch_energy", "skip_energy"), _energies(ensemble, signal, recorded), strict=True
        ):
            if name in fields:
                trace[name] = np.stack(energies, axis=1)
    if "diversity" in fields:
        trace["diversity"] = np.stack([signal.diversity[at] for at in recorded], axis=1)
    if "log_first_step" in fields:
        steps = _first_steps(ensemble, draws, signal)
        trace["log_first_step"] = np.stack([steps[at] for at in recorded], axis=1)
    if "log_singular" in fields:
        singular = list(_log_singular(ensemble, draws, signal, recorded))
        trace["log_singular"] = np.stack(singular, axis=1)
    return trace


def trace_of(
    ensemble: Ensemble,
    layers: np.ndarray,
    fields: frozenset[str],
    states: Mapping[int, Scaled],
    h_0: Scaled,
    gradients: Mapping[int, Scaled],
    p_top: Scaled,
    activity: Mapping[int, np.ndarray],
    silent: Mapping[int, np.ndarray],
) -> dict[str, np.ndarray]:
    """Read ``fields`` off vectors to which a sampler has walked.

    Parameters
    ----------
    states, gradients : mapping from recorded layers to (x, e), x of shape (R, K, size)
        ``x * 2**e``; gradients may be left out where no field needs them.
    h_0, p_top : the same, of the first layer and of the last
    activity, silent : mapping from recorded layers to ndarray, shape (R, K)
        Share of active units in the branch that ends there; dead branches so far.
    """
    recorded = [int(layer) for layer in layers]
    h = [states[at] for at in recorded]
    trace = {
        "log_norm": [_log_ratio(_log_norm(*x), _log_norm(*h_0)) for x in h],
        "activity": [activity[at] for at in recorded],
        "dead": [silent[at] + 0.0 for at in recorded],
    }
    if "log_displacement" in fields:
        trace["log_displacement"] = [
            _log_ratio(_log_norm(*_minus(x, h_0)), _log_norm(*h_0)) for x in h
        ]
    if fields & GRADIENT_FIELDS:
        p = [gradients[at] for at in recorded]
        trace["log_gradient"] = [_log_norm(*x) - _log_norm(*p_top) for x in p]
        trace["alignment"] = [_cosine(x[0], y[0]) for x, y in zip(p, h)]
        if "log_gradient_displacement" in fields:
            trace["log_gradient_displacement"] = [
                _log_norm(*_minus(x, p_top)) - _log_norm(*p_top) for x in p
            ]
    if fields & _PAIR_FIELDS:
        first, second = np.triu_indices(ensemble.inputs.count, 1)
        start = _log_norm(*_minus(_pick(h_0, first), _pick(h_0, second)))
        pairs = [(_pick(x, first), _pick(x, second)) for x in h]
        trace["cosine"] = [_cosine(a[0], b[0]) for a, b in pairs]
        trace["log_distance"] = [_log_ratio(_log_norm(*_minus(a, b)), start) for a, b in pairs]
        trace["effective_rank"] = [_effective_rank(*x) for x in h]
        if ensemble.table.paired:
            z_0 = _coordinates(ensemble, 0, h_0)
            start = _log_norm(*_minus(_pick(z_0, first), _pick(z_0, second)))
            z = [_coordinates(ensemble, at, x) for at, x in zip(recorded, h)]
            pairs = [(_pick(x, first), _pick(x, second)) for x in z]
            trace["looks_linear_cosine"] = [_cosine(a[0], b[0]) for a, b in pairs]
            trace["log_looks_linear_distance"] = [
                _log_ratio(_log_norm(*_minus(a, b)), start) for a, b in pairs
            ]
            trace["looks_linear_effective_rank"] = [_effective_rank(*x) for x in z]
    return {name: np.stack(trace[name], axis=1) for name in trace if name in fields}


def _log_ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """log of a ratio, whose zero numerator makes it 0 even over 0: a network dead at its stem."""
    return np.where(top == -np.inf, -np.inf, top - np.where(top == -np.inf, 0.0, bottom))


def _coordinates(ensemble: Ensemble, layer: int, h: Scaled) -> Scaled:
    """The looks-linear coordinates of a state; the input of a plain net is no pair."""
    if layer == 0 and not ensemble.network.form.post:
        return h
    return looks_linear.coordinates(h[0]), h[1]


def _energies(
    ensemble: Ensemble, signal: Signal, layers: list[int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """|branch F|^2 / |h|^2 and |skip h|^2 / |h|^2; NaN at layer 0 and where h is 0."""
    table = ensemble.table
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for at in layers:
        for terms, coefficient, part in (
            (found[0], table.branch, signal.branches),
            (found[1], table.skip, signal.skips),
        ):
            if at == 0:
                terms.append(np.full(signal.exponents[0].shape, np.nan))
                continue
            square = np.sum(signal.states[at - 1] ** 2, axis=-1)
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                ratio = np.sum(part[at - 1] ** 2, axis=-1) / square
            ratio = np.where(np.isinf(square), np.inf, ratio)  # a failure, not a dead network
            terms.append(coefficient[at - 1] ** 2 * ratio)
    return found


def _first_steps(ensemble: Ensemble, draws: Draws, signal: Signal) -> list[np.ndarray]:
    r"""Log of the first change of f = p_L . h_L per step size, by the layers up to each.

    One step of gradient descent of size :math:`\eta` on f itself, for one input, changes it by
    :math:`-\eta \sum (\partial f / \partial \theta)^2 + O(\eta^2)`, the sum over all weights
    of the layers, and the branch coefficients where they are trained; biases and stem are left
    alone. A weight of row i and column k has the derivative :math:`q_i x_k`, so a matrix counts
    :math:`|q|^2 |x|^2`. Of :math:`|h_0|^2 |p_L|^2`.
    """
    network, table = ensemble.network, ensemble.table
    arriving: list[list[np.ndarray]] = []
    _, p_exponents = backward(ensemble, draws, signal.derivatives, arriving)
    unit = 2 * (
        _log_norm(signal.states[0], signal.exponents[0]) + _log_norm(draws.top, np.zeros((1, 1)))
    )
    steps = [np.full(unit.shape, -np.inf)]
    for layer in range(network.depth):
        # The gradients that arrive are in units of p_{l+1}, what is read in those of h_l.
        exponent = p_exponents[layer + 1] + signal.exponents[layer]
        *outputs, at_sum = arriving[network.depth - 1 - layer]
        step = steps[-1]
        for q, x in zip(outputs, signal.read[layer], strict=True):
            if table.centred:
                x = x - x.mean(axis=-1, keepdims=True)
            zero = np.zeros(exponent.shape, np.int64)
            size = 2 * (_log_norm(q, zero) + _log_norm(x, exponent))
            step = np.logaddexp(step, _log_ratio(size, unit))
        if table.gain:
            with np.errstate(divide="ignore"):
                along = np.log(np.abs(np.sum(at_sum * signal.branches[layer], axis=-1)))
            size = 2 * (along + np.log(2) * exponent)
            step = np.logaddexp(step, _log_ratio(size, unit))
        steps.append(step)
    return steps


def _pick(x: Scaled, rows: np.ndarray) -> Scaled:
    return x[0][:, rows], x[1][:, rows]


def _log_norm(x: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    y, shift = _rescale(x)
    with np.errstate(divide="ignore"):  # the logarithm of an exact zero is -inf
        return np.log(np.sqrt(np.sum(y * y, axis=-1))) + np.log(2) * (exponent + shift)


def _minus(a: Scaled, b: Scaled) -> Scaled:
    """a - b, without a loss where both have the same scale."""
    # A zero vector has no scale of its own and must not hide the other one.
    a_exponent = np.where(np.any(a[0] != 0, axis=-1), a[1], b[1])
    b_exponent = np.where(np.any(b[0] != 0, axis=-1), b[1], a_exponent)
    top = np.maximum(a_exponent, b_exponent)
    x = np.ldexp(a[0], (a_exponent - top)[..., None])
    y = np.ldexp(b[0], (b_exponent - top)[..., None])
    return x - y, top


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the angle between rows, NaN where one of them is zero."""
    a, b = _rescale(a)[0], _rescale(b)[0]
    product = np.sqrt(np.sum(a * a, axis=-1) * np.sum(b * b, axis=-1))
    alive = product > 0
    return np.where(alive, np.sum(a * b, axis=-1) / np.where(alive, product, 1.0), np.nan)


def _effective_rank(x: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """exp(entropy) of the normalised Gram eigenvalues, NaN where all K states are zero."""
    alive = np.any(x != 0, axis=-1)
    lowest = np.iinfo(np.int64).min // 4
    y, shift = _rescale(x)
    scale = np.where(alive, exponent + shift, lowest)
    y = np.ldexp(y, (scale - scale.max(axis=-1, keepdims=True))[..., None])
    values = np.linalg.eigvalsh(y @ y.swapaxes(1, 2)).clip(0.0)
    total = values.sum(axis=-1, keepdims=True)
    share = values / np.where(total > 0, total, 1.0)
    entropy = -np.sum(share * np.log(np.where(share > 0, share, 1.0)), axis=-1)
    return np.where(total[..., 0] > 0, np.exp(entropy), np.nan)


# ----------------------------------------------------------------- the sampler


def simulate_one(
    ensemble: Ensemble, generator: np.random.Generator, layers: Sequence[int] | np.ndarray
) -> dict[str, np.ndarray]:
    """Draw one network and return every field that it has, at ``layers``.

    Returns
    -------
    dict of str to ndarray
        As `Sampler.sample`, without the axis of replicas.
    """
    draws = draw(ensemble, [generator])
    trace = measure(ensemble, draws, np.asarray(layers), applicable(ensemble))
    return {name: values[0] for name, values in trace.items()}


def generator_of(key: np.ndarray, replica: int) -> np.random.Generator:
    """NumPy's Philox stream of one replica, at counter ``replica * 2**192`` of the run's key."""
    words = np.array([int(key[0]) | int(key[1]) << 32, 0], np.uint64)
    counter = np.array([0, 0, 0, replica], np.uint64)
    return np.random.Generator(np.random.Philox(key=words, counter=counter))


class Reference(Sampler):
    """Dense matrices in NumPy, float64. Slow; it says what the others must reproduce.

    Replica ``r`` owns NumPy's Philox stream at counter ``r * 2**192`` of the run's key.
    """

    name = "reference"
    version = 2
    block = 16
    about = "every matrix drawn, in NumPy: the definition, slow; for checking the others"

    def refusal(self, ensemble: Ensemble, fields: frozenset[str]) -> str | None:
        absent = sorted(fields - applicable(ensemble, on_request=True))
        if absent:
            return f"this ensemble has no {', '.join(absent)}. Leave it out."
        size = _bytes(ensemble)
        if size > _LARGEST_NETWORK_BYTES:
            return (
                f"it keeps all matrices of a network, here {size / 2**30:.0f} GiB. Use sampler "
                "'dense', which draws them again on the way back."
            )
        return None

    def sample(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        first: int,
        count: int,
    ) -> dict[str, np.ndarray]:
        group = max(1, min(count, _GROUP_BYTES // _bytes(ensemble)))
        parts = []
        for start in range(first, first + count, group):
            replicas = range(start, min(start + group, first + count))
            generators = [generator_of(key, r) for r in replicas]
            parts.append(measure(ensemble, draw(ensemble, generators), layers, fields))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _bytes(ensemble: Ensemble) -> int:
    """Memory that the matrices and states of one network take, roughly."""
    network = ensemble.network
    fan_in, fan_out = network.fans
    pixels = np.prod(network.images, axis=1)[:-1, None]  # at most, of what a layer reads
    units = (3 + network.matrices) * int((fan_in * pixels).max()) * network.depth
    stem = network.input_size * int(network.state_sizes[0])
    entries = int(np.sum(fan_in * fan_out * pixels**2))
    return 8 * (stem + entries + ensemble.inputs.count * units)
