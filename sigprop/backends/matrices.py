"""Dense sampling by products of matrices, a layer at a time: any block, any structure.

Of a layer only what is random in it is drawn, from addresses, and drawn again on the way back
unless the networks are small: a matrix of +/- pairs is kept as the one of half the size that it
is made of, and multiplied as such. A few networks are walked abreast, so that the cost of a call
is shared. States are arrays (network, unit, input) in units of a power of two, one a network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sigprop.activations.randomised_leaky_relu import RandomisedLeakyReLU
from sigprop.backends.correlated import _compare, _norm
from sigprop.backends.correlated import one_blas_thread as one_blas_thread
from sigprop.kernels import philox
from sigprop.spec import Ensemble, LayerTable, Structure

__all__ = ["LARGEST_BYTES", "need_bytes", "sample"]

LARGEST_BYTES = 4 * 2**30  # what is kept of one network, a worker
_KEPT_BYTES = 2**27  # of the matrices that are not drawn again on the way back
_ABREAST = 2**20  # numbers of a layer of the networks that are walked together
_LOG_2 = math.log(2.0)
_GRADIENT_FIELDS = frozenset(
    {"log_gradient", "log_gradient_displacement", "alignment", "log_first_step"}
)
_LARGE = 20  # states leave 2^-20 .. 2^20 before their unit is moved


def need_bytes(ensemble: Ensemble, fields: frozenset[str]) -> int:
    """What is kept of one network on the way forward for the way back, and one layer."""
    fan_in, fan_out = ensemble.network.fans
    layer = int((fan_in * fan_out).sum(axis=1).max())
    tape = 0
    if fields & _GRADIENT_FIELDS:
        tape = ensemble.inputs.count * int(fan_out.sum() + ensemble.network.state_widths.sum())
    return 8 * (3 * layer + tape)


# ------------------------------------------------------------------------ matrices


@dataclass(frozen=True)
class Whole:
    """A matrix as it is, shape (network, rows, columns)."""

    w: np.ndarray

    def times(self, x: np.ndarray) -> np.ndarray:
        return self.w @ x

    def back(self, q: np.ndarray) -> np.ndarray:
        return self.w.swapaxes(1, 2) @ q


@dataclass(frozen=True)
class Pairs:
    """[[U, -U], [-U, U]], by U."""

    u: np.ndarray

    def times(self, x: np.ndarray) -> np.ndarray:
        half = self.u @ _apart(x)
        return np.concatenate([half, -half], axis=1)

    def back(self, q: np.ndarray) -> np.ndarray:
        half = self.u.swapaxes(1, 2) @ _apart(q)
        return np.concatenate([half, -half], axis=1)


@dataclass(frozen=True)
class Mirror:
    """[U; -U], by U."""

    u: np.ndarray

    def times(self, x: np.ndarray) -> np.ndarray:
        half = self.u @ x
        return np.concatenate([half, -half], axis=1)

    def back(self, q: np.ndarray) -> np.ndarray:
        return self.u.swapaxes(1, 2) @ _apart(q)


@dataclass(frozen=True)
class Route:
    """``scale`` times the identity from pairs to pairs, from ``columns`` to ``rows`` units."""

    rows: int
    columns: int
    scale: float

    def times(self, x: np.ndarray) -> np.ndarray:
        return self.scale * _moved(x, self.rows // 2)

    def back(self, q: np.ndarray) -> np.ndarray:
        return self.scale * _moved(q, self.columns // 2)


@dataclass(frozen=True)
class Top:
    """([[M, -M], [-M, M]] - skip 1) / branch on the first pairs of ``columns`` units."""

    m: np.ndarray
    rows: int
    columns: int
    skip: float
    branch: float

    def times(self, x: np.ndarray) -> np.ndarray:
        return self._both(self.m, x, self.rows)

    def back(self, q: np.ndarray) -> np.ndarray:
        return self._both(self.m.swapaxes(1, 2), q, self.columns)

    def _both(self, m: np.ndarray, x: np.ndarray, n: int) -> np.ndarray:
        x = _moved(x, m.shape[-1])
        half = m @ _apart(x)
        y = (np.concatenate([half, -half], axis=1) - self.skip * x) / self.branch
        return _moved(y, n // 2)


Matrix = Whole | Pairs | Mirror | Route | Top


def _apart(x: np.ndarray) -> np.ndarray:
    """The difference of the halves."""
    half = x.shape[1] // 2
    return x[:, :half] - x[:, half:]


def _moved(x: np.ndarray, pairs: int) -> np.ndarray:
    """The first pairs of x among ``pairs`` of them, the others 0."""
    have = x.shape[1] // 2
    if have == pairs:
        return x
    y = np.zeros((len(x), 2 * pairs, x.shape[2]))
    kept = min(have, pairs)
    y[:, :kept] = x[:, :kept]
    y[:, pairs : pairs + kept] = x[:, have : have + kept]
    return y


# --------------------------------------------------------------------------- draws


class _Draws:
    """What is random in some networks, by address."""

    def __init__(self, ensemble: Ensemble, key: np.ndarray, replicas: range) -> None:
        self.network, self.table = ensemble.network, ensemble.table
        self.ensemble, self.key, self.replicas = ensemble, key, replicas
        self.words = np.array([int(key[0]) | int(key[1]) << 32, 0], np.uint64)
        fan_in, fan_out = self.network.fans
        self.keeps = 8 * len(replicas) * int((fan_in * fan_out).sum()) <= _KEPT_BYTES
        self.kept: dict[int, list[Matrix]] = {}

    def normals(self, layer: int, purpose: int, *shape: int) -> np.ndarray:
        """Standard normals, shape (network, *shape)."""
        from sigprop.kernels import correlated

        size = math.prod(shape)
        out = np.empty((len(self.replicas), philox.padded(size)), np.float32)
        for row, replica in zip(out, self.replicas, strict=True):
            correlated.normals(self.key, layer, replica, purpose, size, row)
        return out[:, :size].astype(float).reshape(-1, *shape)

    def generator(self, layer: int, purpose: int, replica: int) -> np.random.Generator:
        """NumPy's stream for what no kernel draws, at an address of its own."""
        counter = np.array([0, 1 + layer, purpose, replica], np.uint64)
        return np.random.Generator(np.random.Philox(key=self.words, counter=counter))

    def entries(self, layer: int, j: int, rows: int, columns: int) -> np.ndarray:
        """X of the law, shape (network, rows, columns)."""
        purpose = philox.WEIGHT + 256 * j
        kind = self.table.law.kind
        if kind == "gaussian":
            return self.normals(layer, purpose, rows, columns)
        if kind == "orthogonal":
            long, short = max(rows, columns), min(rows, columns)
            q, r = np.linalg.qr(self.normals(layer, purpose, long, short))
            # With a positive diagonal Q is uniform among orthogonal matrices.
            q *= math.sqrt(long) * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]
            return q if rows >= columns else q.swapaxes(1, 2)
        return np.stack([
            self.table.law.sample(self.generator(layer, purpose, r), (rows, columns))
            for r in self.replicas
        ])  # fmt: skip

    def matrices(self, layer: int) -> list[Matrix]:
        """The matrices of a layer."""
        if layer in self.kept:
            return self.kept[layer]
        fan_in, fan_out = self.network.fans
        made: list[Matrix] = []
        for j in range(self.network.matrices):
            made.append(self._matrix(layer, j, int(fan_out[layer, j]), int(fan_in[layer, j]), made))
        if self.keeps:
            self.kept[layer] = made
        return made

    def _matrix(self, layer: int, j: int, rows: int, columns: int, earlier: list[Matrix]) -> Matrix:
        table, scale = self.table, float(self.table.scale[layer, j])
        structure = table.structure[layer, j]
        if structure == Structure.ROUTED:
            return Route(rows, columns, scale)
        if structure == Structure.ENTRIES:
            if scale == 0.0:
                return Whole(np.zeros((len(self.replicas), rows, columns)))
            w = self.entries(layer, j, rows, columns)
            if table.centred:
                w -= w.mean(axis=2, keepdims=True)
            return Whole(scale * w)
        if structure == Structure.MIRRORED:
            return Mirror(scale * self.entries(layer, j, rows // 2, columns))
        if structure == Structure.LOOKS_LINEAR:
            return Pairs(scale * self.entries(layer, j, rows // 2, columns // 2))
        skip, branch = float(table.skip[layer]), _branch(table, layer)
        if self.network.form.projected:
            product = np.eye(columns // 2)[None]
            for matrix in earlier:
                assert isinstance(matrix, Pairs)
                product = matrix.u @ product
            m = scale * self.entries(layer, j, rows // 2, columns // 2)
            return Pairs((m - branch * product) / skip)
        fan_in, fan_out = self.network.fans
        routed = int(min(fan_in[layer].min(), fan_out[layer].min())) // 2
        return Top(scale * self.entries(layer, j, routed, routed), rows, columns, skip, branch)

    def stem(self) -> Matrix | None:
        """The first matrix, at the address of a layer past the last."""
        stem = self.table.stem
        if stem is None:
            return None
        rows, columns = int(self.network.state_widths[0]), self.network.input_size
        if stem.structure == Structure.MIRRORED:
            return Mirror(stem.scale * self.entries(self.network.depth, 0, rows // 2, columns))
        return Whole(stem.scale * self.entries(self.network.depth, 0, rows, columns))

    def bias(self, layer: int, j: int, n: int, scale: float) -> np.ndarray | None:
        if scale == 0.0:
            return None
        return scale * self.normals(layer, philox.BIAS + 256 * j, n)[:, :, None]

    def slopes(self, layer: int, which: int, n: int) -> np.ndarray | None:
        """Negative slopes of one activation, shape (network, n, 1); None if they are not random."""
        phi = self.network.phi
        if not isinstance(phi, RandomisedLeakyReLU):
            return None
        purpose = philox.SLOPE + 256 * which
        drawn = [phi.slopes(self.generator(layer, purpose, r), (n, 1)) for r in self.replicas]
        return np.stack(drawn)

    def inputs(self) -> np.ndarray:
        """Shape (network, input size, K)."""
        size, given = self.network.input_size, self.ensemble.inputs.array(self.network.input_size)
        frame = self.ensemble.inputs.frame()
        if frame is None:
            assert given is not None
            return np.repeat(given.T[None], len(self.replicas), axis=0)
        normals = self.normals(0, philox.INPUT, size, len(frame))
        orthonormal, upper = np.linalg.qr(normals)
        orthonormal *= np.sign(np.diagonal(upper, axis1=1, axis2=2))[:, None]
        return math.sqrt(size) * (orthonormal @ frame.T)


def _branch(table: LayerTable, layer: int) -> float:
    return float(table.branch[layer] * table.input_scale[layer])


# --------------------------------------------------------------------------- walk


def sample(
    ensemble: Ensemble,
    fields: frozenset[str],
    layers: np.ndarray,
    key: np.ndarray,
    first: int,
    count: int,
) -> dict[str, np.ndarray]:
    """Draw replicas ``first ..``; arguments and result are those of `Sampler.sample`."""
    fan_in, fan_out = ensemble.network.fans
    numbers = int((fan_in * fan_out).sum(axis=1).max())
    # A constant of the ensemble, so that no bit depends on how replicas are divided.
    abreast = max(1, _ABREAST // numbers)
    parts = []
    with one_blas_thread():
        for start in range(first, first + count, abreast):
            replicas = range(start, min(start + abreast, first + count))
            parts.append(_Walk(ensemble, fields, layers, key, replicas).trace())
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass
class _Passed:
    """What the way back needs of one layer."""

    derivatives: list[np.ndarray]  # of its activations, in the order of the signal
    sizes: list[np.ndarray]  # logarithms of the norms that its matrices read
    branch: np.ndarray | None  # F, in units of 2^shift
    shift: np.ndarray


class _Walk:
    """Some networks, forward and backward, with all their inputs."""

    def __init__(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        replicas: range,
    ) -> None:
        self.ensemble, self.fields = ensemble, fields
        self.network, self.table = ensemble.network, ensemble.table
        self.phi, self.form = self.network.phi, self.network.form
        self.draws = _Draws(ensemble, key, replicas)
        self.slots = {int(layer): slot for slot, layer in enumerate(layers)}
        self.gradient = bool(fields & _GRADIENT_FIELDS)
        self.first_step = "log_first_step" in fields
        self.energies = bool(fields & {"branch_energy", "skip_energy"})
        self.shape = (len(replicas), ensemble.inputs.count)
        self.seen: dict[str, list[Any]] = {name: [None] * len(layers) for name in fields}
        self.dead = np.zeros(self.shape)
        self.states: dict[int, np.ndarray] = {}
        self.tape: list[_Passed] = []

    def trace(self) -> dict[str, np.ndarray]:
        """Every field, of shape (network, recorded layer, ..)."""
        h, shift = self._enter()
        for layer in range(self.network.depth):
            h, shift = self._ahead(layer, h, shift)
        if self.gradient:
            self._descend()
        return {name: np.stack(values, axis=1) for name, values in self.seen.items()}

    # ------------------------------------------------------------------ forward

    def _enter(self) -> tuple[np.ndarray, np.ndarray]:
        """The state h_0."""
        h, shift = _renewed(self.draws.inputs(), np.zeros(self.shape[0], np.int64), always=True)
        on: list[np.ndarray] = []
        stem, matrix = self.table.stem, self.draws.stem()
        if stem is not None and matrix is not None:
            top = self.network.depth
            z = self._finished(matrix.times(h), h, stem.scale, top, 0, stem.bias_scale, shift)
            h = self._activation(z, shift, self.draws.slopes(top, 0, z.shape[1]), None)
            on.append(self.phi.active(z, self.draws.slopes(top, 0, z.shape[1])))
            self.dead += ~h.any(axis=1)
        self.start, self.origin, self.start_norm = h, shift, _norm(h)
        self._see(0, h, shift, on)
        return h, shift

    def _ahead(self, layer: int, h: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One layer."""
        table, form = self.table, self.form
        matrices = self.draws.matrices(layer)
        passed = _Passed([], [], None, shift)
        on: list[np.ndarray] = []
        silent = np.zeros(self.shape, bool)

        def activate(u: np.ndarray) -> np.ndarray:
            nonlocal silent
            slopes = self.draws.slopes(layer, len(on), u.shape[1])
            y = self._activation(u, shift, slopes, passed.derivatives if self.gradient else None)
            on.append(self.phi.active(u, slopes))
            silent |= ~y.any(axis=1)
            return y

        def multiply(j: int, x: np.ndarray) -> np.ndarray:
            if self.first_step:
                read = x - x.mean(axis=1, keepdims=True) if table.centred else x
                passed.sizes.append(_log(_norm(read)) + _LOG_2 * shift[:, None])
            scale, bias = float(table.scale[layer, j]), float(table.bias_scale[layer, j])
            return self._finished(matrices[j].times(x), x, scale, layer, j, bias, shift)

        x = table.input_scale[layer] * h
        for j in range(self.network.branch_matrices):
            if form.pre or j > 0:
                x = activate(x)
            x = multiply(j, x)
        if not form.trunk:
            x = activate(x)
        passed.branch = x if self.first_step and table.gain else None
        new = table.branch[layer] * x
        if form.trunk:
            carried = multiply(len(matrices) - 1, h) if form.projected else h
            carried = table.skip[layer] * carried
            if self.energies and layer + 1 in self.slots:
                self._put("branch_energy", layer + 1, _share(new, h))
                self._put("skip_energy", layer + 1, _share(carried, h))
            new = new + carried
        if form.post:
            new = activate(new)
        if self.gradient:
            self.tape.append(passed)
        self.dead = self.dead + silent
        new, shift = _renewed(new, shift)
        self._see(layer + 1, new, shift, on)
        return new, shift

    def _finished(
        self,
        y: np.ndarray,
        x: np.ndarray,
        scale: float,
        layer: int,
        j: int,
        bias_scale: float,
        shift: np.ndarray,
    ) -> np.ndarray:
        """A product with its bias; what cancels for a law of few values is exactly 0."""
        if self.table.law.discrete:
            least = 2.0**-40 * scale * _norm(x)[:, None]
            y = np.where(np.abs(y) < least, 0.0, y)
        bias = self.draws.bias(layer, j, y.shape[1], bias_scale)
        return y if bias is None else y + bias * _power(-shift)

    def _activation(
        self,
        u: np.ndarray,
        shift: np.ndarray,
        slopes: np.ndarray | None,
        derivatives: list[np.ndarray] | None,
    ) -> np.ndarray:
        """phi of u 2^shift, over 2^shift; phi' is noted at the end of ``derivatives``."""
        more = () if slopes is None else (slopes,)
        if self.phi.homogeneous:
            if derivatives is not None:
                slope = self.phi.derivative(u, *more)
                derivatives.append(u > 0 if self.phi.negative_slope == 0.0 else slope)
            return self.phi(u, *more)
        whole = u * _power(shift)
        if derivatives is not None:
            derivatives.append(self.phi.derivative(whole))
        return self.phi(whole) / _power(shift)

    # ----------------------------------------------------------------- backward

    def _descend(self) -> None:
        """The way back of the top gradient."""
        depth = self.network.depth
        width = int(self.network.state_widths[-1])
        top = self.draws.normals(0, philox.TOP, width)[:, :, None]
        self.top, self.top_norm = top, _norm(top)
        p, lift = np.repeat(top, self.shape[1], axis=2), np.zeros(self.shape[0], np.int64)
        self._see_gradient(depth, p, lift)
        unit = _log(self.start_norm) + _LOG_2 * self.origin[:, None] + _log(self.top_norm)
        steps = np.full((depth + 1, *self.shape), -np.inf)
        for layer in range(depth - 1, -1, -1):
            passed = self.tape.pop()
            p, sizes, at_sum = self._back(layer, p, passed)
            if self.first_step:
                found = [2 * (q + x) for q, x in zip(sizes, passed.sizes, strict=True)]
                if passed.branch is not None:
                    along = _log(np.abs(np.add.reduce(at_sum * passed.branch, axis=1)))
                    found.append(2 * (along + _LOG_2 * passed.shift[:, None]))
                total = np.logaddexp.reduce(found, axis=0)
                dead = np.isneginf(total)
                rest = 2 * (_LOG_2 * lift[:, None] - unit)
                steps[layer + 1] = np.where(dead, -np.inf, total + np.where(dead, 0.0, rest))
            p, lift = _renewed(p, lift)
            self._see_gradient(layer, p, lift)
        if self.first_step:
            for layer, step in enumerate(np.logaddexp.accumulate(steps, axis=0)):
                self._put("log_first_step", layer, step)

    def _back(
        self, layer: int, p: np.ndarray, passed: _Passed
    ) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """(p below, log norms of the gradients at the matrices' outputs, p at the sum)."""
        form, table = self.form, self.table
        matrices, derivatives = self.draws.matrices(layer), list(passed.derivatives)
        if form.post:
            p = derivatives.pop() * p
        q = table.branch[layer] * p
        if not form.trunk:
            q = derivatives.pop() * q
        below = (table.skip[layer] if form.trunk else 0.0) * p
        sizes = []
        if form.projected:
            sizes.append(self._size(below))
            below = matrices[-1].back(below)
        for j in range(self.network.branch_matrices - 1, -1, -1):
            sizes.insert(0, self._size(q))
            q = matrices[j].back(q)
            if form.pre or j > 0:
                q = derivatives.pop() * q
        q = table.input_scale[layer] * q
        return (below + q if form.trunk else q), sizes, p

    def _size(self, q: np.ndarray) -> np.ndarray:
        return _log(_norm(q)) if self.first_step else q

    # ---------------------------------------------------------------- recording

    def _put(self, name: str, layer: int, values: np.ndarray) -> None:
        if name in self.fields and layer in self.slots:
            self.seen[name][self.slots[layer]] = values

    def _see(self, layer: int, h: np.ndarray, shift: np.ndarray, on: list[np.ndarray]) -> None:
        if layer not in self.slots:
            return
        displaced = self.form.trunk and not self.form.projected
        relative = (shift - self.origin)[:, None] + np.zeros(self.shape, np.int64)
        size, far = _compare(h, relative, self.start, self.start_norm, displaced)
        # A network that is dead at its stem has not moved.
        self._put("log_norm", layer, np.where(_norm(h) == 0.0, -np.inf, size))
        still = np.isneginf(size) & (self.start_norm == 0.0) | np.isnan(far)
        self._put("log_displacement", layer, np.where(still, -np.inf, far))
        units = np.concatenate(on, axis=1) if on else None
        nothing = np.full(self.shape, np.nan)
        self._put("activity", layer, nothing if units is None else units.mean(axis=1))
        self._put("dead", layer, self.dead)
        if "diversity" in self.fields:
            p = np.full((*self.shape[:1], 1), np.nan) if units is None else units.mean(axis=2)
            self._put("diversity", layer, (4 * p * (1 - p)).mean(axis=1))
        if layer == 0:
            self._put("branch_energy", layer, nothing)
            self._put("skip_energy", layer, nothing)
        self._see_pairs(layer, "", h, shift)
        if self.table.paired:
            self._see_pairs(layer, "looks_linear_", self._coordinates(layer, h), shift)
        if self.gradient:
            self.states[layer] = h

    def _see_pairs(self, layer: int, prefix: str, h: np.ndarray, shift: np.ndarray) -> None:
        """Angles, distances and rank of several inputs."""
        if self.shape[1] == 1:
            return
        from sigprop.backends.numba_cpu import _cosine, _effective_rank

        gram = h.swapaxes(1, 2) @ h
        self._put(f"{prefix}cosine", layer, _cosine(gram))
        self._put(f"{prefix}effective_rank", layer, _effective_rank(gram))
        apart = self._apart(h, shift)
        begun = self._apart(self._coordinates(0, self.start) if prefix else self.start, self.origin)
        same = np.isneginf(apart)
        ratio = np.where(same, -np.inf, apart - np.where(same, 0.0, begun))
        self._put(f"log_{prefix}distance", layer, ratio)

    def _apart(self, h: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Logarithms of the distances of all pairs."""
        one, other = np.triu_indices(self.shape[1], 1)
        return _log(_norm(h[:, :, one] - h[:, :, other])) + _LOG_2 * shift[:, None]

    def _coordinates(self, layer: int, h: np.ndarray) -> np.ndarray:
        """z of a state of pairs; the input of a plain net is z itself."""
        return _apart(h) if layer > 0 or self.form.post else h

    def _see_gradient(self, layer: int, p: np.ndarray, lift: np.ndarray) -> None:
        if layer not in self.slots:
            return
        displaced = self.form.trunk and not self.form.projected
        exponent = lift[:, None] + np.zeros(self.shape, np.int64)
        size, far = _compare(p, exponent, self.top, self.top_norm, displaced)
        self._put("log_gradient", layer, size)
        self._put("log_gradient_displacement", layer, far)
        h = self.states[layer]
        with np.errstate(invalid="ignore", divide="ignore"):
            along = np.add.reduce(p * h, axis=1) / (_norm(p) * _norm(h))
        self._put("alignment", layer, along)


def _log(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):  # the logarithm of an exact zero is -inf
        return np.asarray(np.log(x))


def _power(exponent: np.ndarray) -> np.ndarray:
    """2^exponent for the units and inputs of every network."""
    return np.ldexp(1.0, np.clip(exponent, -1000, 1000))[:, None, None]


def _share(part: np.ndarray, h: np.ndarray) -> np.ndarray:
    """|part|^2 / |h|^2, NaN where both are 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((_norm(part) / _norm(h)) ** 2)


def _renewed(
    h: np.ndarray, shift: np.ndarray, *, always: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Bring the largest entry of every network back to about 1, exactly, where it is far off."""
    largest = np.abs(h).max(axis=(1, 2))
    exponent = np.frexp(np.where(np.isfinite(largest), largest, 0.0))[1].astype(np.int64)
    if not always:
        exponent = np.where(np.abs(exponent) > _LARGE, exponent, 0)
    if not exponent.any():
        return h, shift
    return np.ldexp(h, -exponent[:, None, None]), shift + exponent
