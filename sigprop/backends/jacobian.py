r"""Networks drawn whole, with the full singular spectrum of their input-output Jacobian.

The Jacobian :math:`J_l = \partial h_l / \partial x` at the first input x of the network (h_0, where
there is no stem) is carried along by products of matrices, a layer at a time, on the units that
the forward pass of that input turns on. A unit whose derivative is zero has a row of zeros: it is
left out of the product, which for ReLU saves half of the work of a branch and three quarters of
that of a plain net. J is in units of a power of two, so no depth overflows; a network whose
singular values reach below 1e-8 of the largest is walked again in the graded form of
`sigprop.backends.graded`.

Weights are drawn from their addresses where they are used, and kept only where they are small.
All else, the passes forward and backward and what is read off them, is that of the reference.

Convolutions are written out as matrices over all pixels: this is for small images. Networks too
wide for this are for `sigprop.lanczos`, which multiplies vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from sigprop.activations.randomised_leaky_relu import RandomisedLeakyReLU
from sigprop.backends import reference
from sigprop.backends.base import Sampler, applicable
from sigprop.backends.correlated import one_blas_thread
from sigprop.backends.graded import Graded, product_logs
from sigprop.image import strided
from sigprop.kernels import philox
from sigprop.spec import Ensemble, Structure

__all__ = ["Jacobian", "Weights", "draws_of", "need_bytes", "walk_of"]

LARGEST_BYTES = 4 * 2**30  # that one network may take, a worker
_KEPT_BYTES = 2**26  # weights of a network that are kept for the second pass
_PRESENT, _LARGE = 0.9, 20  # share of units on above which all are taken; 2^20: time to rescale


# -------------------------------------------------------------------- drawing


class Weights(Sequence[list[np.ndarray]]):
    """The matrices of one network, a list a layer, drawn from their addresses when asked for.

    An item is what the reference keeps: arrays of shape (1, rows, columns), with the scales of
    the table.
    """

    def __init__(self, ensemble: Ensemble, key: np.ndarray, replica: int) -> None:
        network, table = ensemble.network, ensemble.table
        self.law, self.table, self.key, self.replica = ensemble, table, key, replica
        fan_in, fan_out = network.fans
        self.shapes = np.stack([fan_out, fan_in], axis=-1).tolist()
        self.words = np.array([int(key[0]) | int(key[1]) << 32, 0], np.uint64)
        self.paths = {
            j: reference._paths(process, self.generator(0, j), network.depth, self.shapes[0][j])
            for j, process in enumerate(table.processes)
            if not process.independent
        }
        self.keeps = 8 * int(_entries(ensemble).sum()) <= _KEPT_BYTES
        self.kept: dict[int, list[np.ndarray]] = {}

    def generator(self, layer: int, matrix: int) -> np.random.Generator:
        """NumPy's stream for what no kernel draws, at an address of its own."""
        counter = np.array([0, layer, matrix, self.replica], np.uint64)
        return np.random.Generator(np.random.Philox(key=self.words, counter=counter))

    def __len__(self) -> int:
        return len(self.shapes)

    @overload
    def __getitem__(self, layer: int) -> list[np.ndarray]: ...
    @overload
    def __getitem__(self, layer: slice) -> list[list[np.ndarray]]: ...
    def __getitem__(self, layer: Any) -> Any:
        if isinstance(layer, slice):
            return [self[i] for i in range(*layer.indices(len(self)))]
        if layer not in self.kept:
            drawn: list[np.ndarray] = []
            for j in range(len(self.shapes[layer])):
                drawn.append(self._matrix(layer, j, drawn))
            if self.law.network.convolutional:
                drawn = [
                    reference._matrix_of_kernel(w, shape[0], *self.law.convolution(layer, j))
                    for j, (w, shape) in enumerate(zip(drawn, self.shapes[layer], strict=True))
                ]
            if not self.keeps:
                self.kept.clear()
            self.kept[layer] = drawn
        return self.kept[layer]

    def _matrix(self, layer: int, j: int, earlier: list[np.ndarray]) -> np.ndarray:
        table, scale = self.table, np.float64(self.table.scale[layer, j])
        gaussian = table.law.kind == "gaussian" and j not in self.paths
        if gaussian and table.structure[layer, j] != Structure.ROUTED:
            w = self._gaussian(layer, j, *reference.part_size(self.law, layer, j))
        elif j in self.paths:
            w = self.paths[j][layer]
        else:
            w = reference._random_part(self.law, layer, j, self.generator(1 + layer, 1 + j))
        if table.centred:
            w = w - w.mean(axis=-1, keepdims=True, dtype=float)
        w = np.multiply(w, scale, dtype=float)[None]  # one pass over the memory
        return reference.assembled(self.law, layer, j, w, earlier)

    def _gaussian(self, layer: int, j: int, rows: int, columns: int) -> np.ndarray:
        """Of unit variance, in single precision as every sampler draws them."""
        from sigprop.kernels import correlated

        size = rows * columns
        single = np.empty(philox.padded(size), np.float32)
        purpose = philox.WEIGHT + 256 * j
        correlated.normals(self.key, layer, self.replica, purpose, size, single)
        return single[:size].reshape(rows, columns)


def draws_of(ensemble: Ensemble, key: np.ndarray, replica: int) -> reference.Draws:
    """All that is random in one network, as the reference takes it."""
    weights: Any = Weights(ensemble, key, replica)
    rest = weights.generator(0, 255)
    inputs = reference._inputs(ensemble, [rest])
    stem = reference._stem(ensemble, [weights.generator(0, 254)])
    biases = [
        [
            reference._on_images(
                ensemble,
                scale * (rest.standard_normal((1, 1, n)) if scale != 0 else np.zeros((1, 1, n))),
                layer,
                j,
            )
            for j, (scale, (n, _)) in enumerate(
                zip(ensemble.table.bias_scale[layer], shapes, strict=True)
            )
        ]
        for layer, shapes in enumerate(weights.shapes)
    ]
    slopes: list[list[np.ndarray]] = [[] for _ in weights.shapes]
    phi = ensemble.network.phi
    if isinstance(phi, RandomisedLeakyReLU):
        units = reference._activation_widths(ensemble)
        slopes = [[phi.slopes(rest, (1, n))[None] for n in layer] for layer in units]
    top = rest.standard_normal((1, 1, int(ensemble.network.state_sizes[-1])))
    return reference.Draws(inputs, weights, biases, slopes, top, *stem)


# ------------------------------------------------------------------- the walk

Rows = np.ndarray | None  # which rows of a matrix are kept; None for all of them


class _Unit:
    """One activation of one layer: its derivatives, and which of them are not zero."""

    def __init__(self, derivative: np.ndarray) -> None:
        on = np.flatnonzero(derivative)
        self.size = len(derivative)
        self.on: Rows = None if len(on) > _PRESENT * len(derivative) else on
        factor = derivative if self.on is None else derivative[on]
        self.factor = None if bool((factor == 1.0).all()) else factor[:, None]

    def times(self, x: np.ndarray) -> np.ndarray:
        """diag(derivative) x, all rows."""
        y, rows = self.masked(x, None)
        return _whole(y, rows, self.size)

    def masked(self, x: np.ndarray, rows: Rows) -> tuple[np.ndarray, Rows]:
        """diag(derivative) x, on the rows that differ from zero."""
        if rows is not self.on:
            x = _whole(x, rows, self.size)
            x = x if self.on is None else x[self.on]
        return (x if self.factor is None else self.factor * x), self.on


def _whole(x: np.ndarray, rows: Rows, size: int) -> np.ndarray:
    if rows is None:
        return x
    full = np.zeros((size, x.shape[1]))
    full[rows] = x
    return full


class _Walk:
    """One network: what multiplies a Jacobian, layer by layer."""

    def __init__(
        self, ensemble: Ensemble, draws: reference.Draws, signal: reference.Signal
    ) -> None:
        self.network, self.table = ensemble.network, ensemble.table
        self.form, self.draws = ensemble.network.form, draws
        # Of the first input of the one network.
        self.units = [[_Unit(d[0, 0]) for d in layer] for layer in signal.derivatives]
        stem = signal.stem_derivative
        self.stem = None if stem is None else _Unit(stem[0, 0])

    def sizes(self, layer: int) -> int:
        """How many singular values there are at a layer."""
        return min(self.network.input_size, int(self.network.state_sizes[layer]))

    def entered(self, x: np.ndarray) -> tuple[np.ndarray, Rows]:
        """The derivative of what comes before layer 1, times ``x``."""
        if self.stem is None or self.draws.stem is None:
            return x, None
        return self.stem.masked(self.draws.stem[0] @ x, None)

    def times(self, layer: int, x: np.ndarray, rows: Rows) -> tuple[np.ndarray, Rows]:
        """The derivative of one layer, times ``x``, of which ``rows`` are kept."""
        form, table = self.form, self.table
        left = list(self.units[layer])
        matrices = self.draws.weights[layer]
        last = left[-1] if form.post or not form.trunk else None
        y, kept = x, rows
        for j in range(self.network.branch_matrices):
            if form.pre or j > 0:
                y, kept = left.pop(0).masked(y, kept)
            # Of the units that come next some are off: their rows are not needed.
            following = left[0] if j < self.network.branch_matrices - 1 else last
            wanted = None if following is None else following.on
            y, kept = _product(matrices[j][0], y, kept, wanted), wanted
        if not form.trunk:
            y, kept = left.pop(0).masked(y, kept)
        factor = table.branch[layer] * table.input_scale[layer]
        if factor != 1.0:
            y *= factor
        if not form.trunk:
            return y, kept
        skip = table.skip[layer]
        if form.projected:
            carried = _product(matrices[-1][0], x, rows, kept)
        elif rows is kept:
            carried = x
        else:
            carried = _whole(x, rows, int(self.network.state_sizes[layer]))
            carried = carried if kept is None else carried[kept]
        y += carried if skip == 1.0 else skip * carried
        return (y, kept) if last is None else last.masked(y, kept)

    def forward(self, v: np.ndarray) -> np.ndarray:
        """J v for columns v, J from the input to the last state."""
        x, rows = self.entered(v)
        for layer in range(self.network.depth):
            x, rows = self.times(layer, x, rows)
        return _whole(x, rows, int(self.network.state_sizes[-1]))

    def backward(self, u: np.ndarray) -> np.ndarray:
        """J^T u for columns u."""
        form, table = self.form, self.table
        p = u
        for layer in reversed(range(self.network.depth)):
            left = list(self.units[layer])
            matrices = self.draws.weights[layer]
            if form.post:
                p = left.pop().times(p)
            q = table.branch[layer] * table.input_scale[layer] * p
            if not form.trunk:
                q = left.pop().times(q)
            for j in reversed(range(self.network.branch_matrices)):
                q = matrices[j][0].T @ q
                if form.pre or j > 0:
                    q = left.pop().times(q)
            if form.trunk:
                carried = matrices[-1][0].T @ p if form.projected else p
                q = q + table.skip[layer] * carried
            p = q
        if self.stem is not None and self.draws.stem is not None:
            p = self.draws.stem[0].T @ self.stem.times(p)
        return p

    def plain(self, layers: np.ndarray) -> Iterator[tuple[np.ndarray, bool]]:
        """Logarithms at each of ``layers``, and whether they are right, by multiplying out."""
        exponent, rank = 0, self.network.input_size
        x, rows = self.entered(np.eye(rank))
        for layer in range(self.network.depth + 1):
            rank = min(rank, len(x))
            if layer in layers:
                logs, right = product_logs(x, exponent, rank)
                yield _filled(logs, self.sizes(layer)), right
            if layer >= layers[-1]:
                return
            x, rows = self.times(layer, x, rows)
            x, shift = _rescaled(x)
            exponent += shift

    def graded(self, layers: np.ndarray) -> Iterator[np.ndarray]:
        """Logarithms at each of ``layers``, however small."""
        product = Graded(self.network.input_size)
        rows: Rows = None
        if self.stem is not None:
            x, rows = self.entered(product.basis)
            product.absorb(x)
        for layer in range(self.network.depth + 1):
            if layer in layers:
                yield product.singular_logs(self.sizes(layer))
            if layer >= layers[-1]:
                return
            x, rows = self.times(layer, product.basis, rows)
            product.absorb(*_rescaled(x))


def walk_of(ensemble: Ensemble, draws: reference.Draws, signal: reference.Signal) -> _Walk:
    """What multiplies vectors with the Jacobian of a network, forward and backward."""
    return _Walk(ensemble, draws, signal)


def _product(w: np.ndarray, x: np.ndarray, rows: Rows, wanted: Rows) -> np.ndarray:
    """The rows ``wanted`` of w x, of which x holds ``rows``."""
    w = w if wanted is None else w[wanted]
    return (w if rows is None else w[:, rows]) @ x


def _rescaled(x: np.ndarray) -> tuple[np.ndarray, int]:
    """(y, e) with x = y * 2**e, exactly, and the size of y near 1."""
    largest = float(np.abs(x).max(initial=0.0))
    exponent = math.frexp(largest)[1] if math.isfinite(largest) else 0
    return (x, 0) if abs(exponent) <= _LARGE else (x * math.ldexp(1.0, -exponent), exponent)


def _filled(logs: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([logs, np.full(count - len(logs), -np.inf)])[:count]


def singular_logs(
    ensemble: Ensemble, draws: reference.Draws, signal: reference.Signal, layers: np.ndarray
) -> np.ndarray:
    """Logarithms of the singular values at ``layers``, shape (layers, size of the input).

    -inf is an exact zero, NaN a value too small to be known, +inf stands where there is none
    because the state is narrower than the input.
    """
    walk = _Walk(ensemble, draws, signal)
    found = np.full((len(layers), ensemble.network.input_size), np.inf)
    doubtful = False
    for row, (logs, right) in zip(found, walk.plain(layers)):
        row[: len(logs)] = logs
        doubtful |= not right
    if doubtful:
        for row, logs in zip(found, walk.graded(layers)):
            row[: len(logs)] = logs
    return found


# ---------------------------------------------------------------- the sampler


def _entries(ensemble: Ensemble) -> np.ndarray:
    """Of every matrix, written out for all pixels; shape (depth, matrices)."""
    fan_in, fan_out = ensemble.network.fans
    entries = (fan_in * fan_out).astype(float)
    if ensemble.network.convolutional:
        for layer, j in np.ndindex(entries.shape):
            size, _, stride, _ = ensemble.convolution(layer, j)
            entries[layer, j] *= math.prod(size) * math.prod(strided(size, stride))
    return entries


def need_bytes(ensemble: Ensemble) -> int:
    """Memory that one network takes, a worker, in bytes: an estimate from above."""
    network = ensemble.network
    fan_in, fan_out = network.fans
    entries = _entries(ensemble)
    pixels = max(1, int((network.state_sizes // network.state_widths).max()))
    start, widest = network.input_size, pixels * int(max(fan_in.max(), fan_out.max()))
    weights = int(entries.sum())
    whole = weights if ensemble.table.correlated else 0
    layer = int(entries.sum(axis=1).max())
    kept = min(weights, max(_KEPT_BYTES // 8, layer))
    states = ensemble.inputs.count * (network.matrices + 3) * widest * (network.depth + 1)
    # J, its successor, a product and the copy that is decomposed; a matrix drawn twice over.
    products = 5 * widest * start + 3 * int(entries.max())
    return 8 * (whole + kept + states + products)


class Jacobian(Sampler):
    """Every matrix of a network and the Jacobian of its first input: the full spectrum."""

    name = "jacobian"
    version = 1
    block = 4
    about = "O(width^3) a layer: singular values of the input-output Jacobian, and all else"

    def refusal(self, ensemble: Ensemble, fields: frozenset[str]) -> str | None:
        absent = sorted(fields - applicable(ensemble, on_request=True))
        if absent:
            return f"this ensemble has no {', '.join(absent)}. Leave it out."
        if ensemble.table.batch_norm:
            return "it knows no batch normalisation. Use --sampler reference."
        need = need_bytes(ensemble)
        if need > LARGEST_BYTES:
            fits = int(0.99 * ensemble.network.width * math.sqrt(LARGEST_BYTES / need))
            return (
                f"the Jacobian and its factors would take {need / 2**30:.1f} GiB a worker at "
                f"width {ensemble.network.width}, and {LARGEST_BYTES / 2**30:.0f} GiB are "
                f"allowed. A width of about {fits} would fit; of wider ones there are "
                "estimates: sigprop spectrum --method lanczos."
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
        parts: list[dict[str, np.ndarray]] = []
        rest = fields - {"log_singular"}
        spectrum = "log_singular" in fields
        with one_blas_thread():
            for replica in range(first, first + count):
                draws = draws_of(ensemble, key, replica)
                signal = reference.forward(ensemble, draws, differentiate=spectrum)
                part = reference.measure(ensemble, draws, layers, rest) if rest else {}
                if spectrum:
                    part["log_singular"] = singular_logs(ensemble, draws, signal, layers)[None]
                parts.append(part)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
