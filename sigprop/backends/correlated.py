"""Dense sampling where weights depend on each other along depth.

All layers of a network are drawn at once, since the entries at one place of a matrix are one
path through all of them. What is dear is drawing them, so one draw serves many ensembles
that differ in their coefficients only, and all of their inputs: the states of all are the
columns of one matrix, and a layer is a product of matrices.

States are in units of a power of two, one for each ensemble, as in the compiled kernels.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from sigprop.kernels import philox
from sigprop.spec import Ensemble, Process

__all__ = ["one_blas_thread", "sample", "weight_bytes"]

_PATH_NUMBERS = 2**20  # normals turned into paths at a time
_TAPE_BYTES = 2**28  # derivatives kept for the way back, a worker
_WEIGHT_NUMBERS = 2**20  # of the small networks that are walked together
_RENEW = 16  # layers between two looks at the size of the states, of usual coefficients
_LOG_2 = math.log(2.0)


def weight_bytes(ensemble: Ensemble) -> int:
    """Memory that the weights of one network take, in bytes."""
    fan_in, fan_out = ensemble.network.fans
    return int(8 * (fan_in * fan_out).sum())


def sample(
    ensembles: Sequence[Ensemble],
    fields: frozenset[str],
    layers: np.ndarray,
    key: np.ndarray,
    first: int,
    count: int,
) -> list[dict[str, np.ndarray]]:
    """Draw replicas ``first ..`` of ensembles that share all but the columns of their tables.

    Returns one trace an ensemble, as `Sampler.sample_coupled`.
    """
    walk = _Walk(ensembles, fields, layers)
    at_once = max(1, min(count, _WEIGHT_NUMBERS * 8 // max(weight_bytes(ensembles[0]), 1)))
    with one_blas_thread():
        for start in range(0, count, at_once):
            walk.replicas(key, first + start, min(at_once, count - start))
            walk.record(start, count)
    return walk.traces()


class _Walk:
    """Some networks at a time, forward and backward, for all ensembles and inputs at once.

    States are arrays (network, unit, column), a column an ensemble and an input; what is
    known of a column has shape (network, column).
    """

    def __init__(
        self, ensembles: Sequence[Ensemble], fields: frozenset[str], layers: np.ndarray
    ) -> None:
        law = ensembles[0]
        self.law, self.fields, self.layers = law, fields, layers
        self.network, self.phi = law.network, law.network.phi
        self.members, self.inputs = len(ensembles), law.inputs.count
        self.columns = self.members * self.inputs
        self.gradient = bool(fields & {"log_gradient", "log_gradient_displacement", "alignment"})
        tables = [e.table for e in ensembles]
        self.table = tables[0]
        # Coefficients of one layer over the columns, or a number where all columns agree.
        self.skip = _over_columns([t.skip for t in tables], self.inputs)
        self.branch = _over_columns([t.branch for t in tables], self.inputs)
        self.input_scale = _over_columns([t.input_scale for t in tables], self.inputs)
        # The first ensemble's scales are multiplied into the weights, the others' are ratios.
        own = np.where(self.table.scale == 0.0, 1.0, self.table.scale)
        silent = self.table.scale == 0.0
        self.shared_scale = np.where(silent, 1.0, self.table.scale)
        self.scale = [
            _over_columns([(t.scale / own)[:, j] for t in tables], self.inputs)
            for j in range(self.network.matrices)
        ]
        self.slots = {int(layer): slot for slot, layer in enumerate(layers)}
        self.slope = self.phi.negative_slope
        sizes = np.abs(np.concatenate([
            column.ravel() for t in tables for column in (t.skip, t.branch, t.input_scale, t.scale)
        ]))  # fmt: skip
        sizes = sizes[sizes > 0]
        usual = bool(sizes.size == 0 or (sizes.min() > 1e-6 and sizes.max() < 1e6))
        self.renew_every = _RENEW if usual else 1
        self.seen: list[dict[str, np.ndarray]] = []

    # ------------------------------------------------------------------ draws

    def _normals(self, key: np.ndarray, row: int, replica: int, purpose: int, n: int) -> Any:
        from sigprop.kernels import correlated

        out = np.empty(philox.padded(n), np.float32)
        correlated.normals(key, row, replica, purpose, n, out)
        return out[:n].astype(float)

    def _draw(self, key: np.ndarray, first: int, count: int) -> None:
        depth = self.network.depth
        fan_in, fan_out = self.network.fans
        replicas = range(first, first + count)
        self.weights: list[Any] = []
        for j, process in enumerate(self.table.processes):
            purpose = philox.WEIGHT + 256 * j
            rows, columns = int(fan_out[0, j]), int(fan_in[0, j])
            if bool((fan_in[:, j] == columns).all() and (fan_out[:, j] == rows).all()):
                whole = np.empty((depth, count, rows, columns))
                for r in replicas:
                    self._paths(process, key, r, purpose, whole[:, r - first])
                whole *= self.shared_scale[:, j, None, None, None]
                self.weights.append(whole)
                continue
            # Only independent layers may change their shape.
            self.weights.append([
                self.shared_scale[layer, j] * np.stack([
                    self._normals(key, layer, r, purpose, rows * columns).reshape(rows, columns)
                    for r in replicas
                ])
                for layer, (rows, columns) in enumerate(
                    zip(fan_out[:, j].tolist(), fan_in[:, j].tolist(), strict=True)
                )
            ])  # fmt: skip
        self.biases: list[list[np.ndarray]] | None = None
        if self.table.biased:
            self.biases = [
                [
                    b * np.stack([
                        self._normals(key, layer, r, philox.BIAS + 256 * j, int(n))[:, None]
                        for r in replicas
                    ])
                    for j, (b, n) in enumerate(
                        zip(self.table.bias_scale[layer], fan_out[layer], strict=True)
                    )
                ]
                for layer in range(depth)
            ]  # fmt: skip

    def _paths(
        self, process: Process, key: np.ndarray, replica: int, purpose: int, out: np.ndarray
    ) -> None:
        """Fill ``out``, shape (depth, rows, columns), with weights at unit scale."""
        depth, rows, columns = out.shape
        draws = process.draws(depth)
        need = columns * draws
        at_once = max(1, _PATH_NUMBERS // max(need, 1))
        for start in range(0, rows, at_once):
            stop = min(start + at_once, rows)
            normals = np.concatenate(
                [self._normals(key, row, replica, purpose, need) for row in range(start, stop)]
            )
            paths = process.paths(normals.reshape(-1, draws), depth)
            out[:, start:stop] = paths.T.reshape(depth, stop - start, columns)

    def _inputs(self, key: np.ndarray, replica: int) -> np.ndarray:
        """The inputs of one network, shape (width, K)."""
        width = int(self.network.state_widths[0])
        frame = self.law.inputs.frame()
        if frame is None:
            given = self.law.inputs.array(width)
            assert given is not None
            return np.ascontiguousarray(given.T)
        normals = self._normals(key, 0, replica, philox.INPUT, len(frame) * width).reshape(
            -1, width
        )
        orthonormal, upper = np.linalg.qr(normals.T)
        # With a positive diagonal the frame is uniformly distributed.
        orthonormal *= np.sign(np.diagonal(upper))
        return math.sqrt(width) * (orthonormal @ frame.T)

    # ----------------------------------------------------------------- passes

    def replicas(self, key: np.ndarray, first: int, count: int) -> None:
        """Walk some networks; what is recorded of them stands in ``out``."""
        self._draw(key, first, count)
        depth = self.network.depth
        start = np.stack([self._inputs(key, r) for r in range(first, first + count)])
        self.origin = np.frexp(np.abs(start).max(axis=(1, 2)))[1].astype(np.int64)[:, None]
        self.start = np.ldexp(start, -self.origin[:, :, None])
        self.start_norm = _norm(self.start)
        h = np.tile(self.start, self.members)
        shift = np.zeros((count, self.members), np.int64)
        shape = (count, len(self.layers), self.members, self.inputs)
        pairs = (*shape, self.inputs)
        self.out = {
            "log_norm": np.empty(shape), "log_displacement": np.empty(shape),
            "activity": np.full(shape, np.nan), "dead": np.zeros(shape),
            "gram": np.empty(pairs), "log_distance": np.full(pairs, -np.inf),
            "log_gradient": np.empty(shape), "log_gradient_displacement": np.empty(shape),
            "alignment": np.empty(shape),
        }  # fmt: skip
        self.states: dict[int, np.ndarray] = {}
        dead = np.zeros((count, self.columns))
        self._see(0, h, shift, None, dead)
        numbers = count * self.columns * int(self.network.fans[1].sum(1).max())
        bytes_a_layer = numbers * (1 if self.slope is not None else 8)
        segment = depth if not self.gradient else max(1, min(depth, _TAPE_BYTES // bytes_a_layer))
        stored = []
        tape: list[Any] = []
        for begin in range(0, depth, segment):
            stored.append((begin, h, shift))
            tape = []
            last = begin + segment >= depth
            for layer in range(begin, min(begin + segment, depth)):
                h, shift = self._ahead(layer, h, shift, tape if last else None, dead)
        if not self.gradient:
            return
        width = int(self.network.state_widths[-1])
        self.top = np.stack(
            [
                self._normals(key, 0, r, philox.TOP, width)[:, None]
                for r in range(first, first + count)
            ]
        )
        self.top_norm = _norm(self.top)
        p = np.repeat(self.top, self.columns, axis=2)
        lift = np.zeros((count, self.members), np.int64)
        self._see_gradient(depth, p, lift)
        for begin, h, shift in reversed(stored):
            if begin + segment < depth:
                tape = []
                for layer in range(begin, begin + segment):
                    h, shift = self._ahead(layer, h, shift, tape, None)
            for layer in range(begin + len(tape) - 1, begin - 1, -1):
                p, lift = self._back(layer, p, lift, tape[layer - begin])
                self._see_gradient(layer, p, lift)

    def _ahead(
        self, layer: int, h: np.ndarray, shift: np.ndarray, tape: list[Any] | None,
        dead: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """One layer; its derivatives go on the tape, ``dead`` is None on a repeated walk."""
        form, m = self.network.form, self.network.matrices
        up = None if self.phi.homogeneous else self._units(shift)
        kept: list[np.ndarray] = []
        active: list[np.ndarray] = []
        silent = np.zeros((len(h), self.columns), bool)
        recorded = dead is not None and layer + 1 in self.slots

        def activate(u: np.ndarray) -> np.ndarray:
            nonlocal silent
            x = self._activation(u, up, kept if tape is not None else None)
            if recorded:
                active.append(u > 0)
            if dead is not None:
                silent |= ~x.any(axis=1)
            return x

        x = _times(h, self.input_scale[layer])
        if form.pre:
            x = activate(x)
        for j in range(m):
            if self.table.centred:
                x = x - x.mean(axis=1, keepdims=True)
            x = _times(self.weights[j][layer] @ x, self.scale[j][layer])
            if self.biases is not None:
                x = x + self.biases[layer][j] * self._down(shift)
            if form.trunk and j == m - 1:
                break
            x = activate(x)
        branch = _times(x, self.branch[layer])
        new = branch + _times(h, self.skip[layer]) if form.trunk else branch
        if tape is not None:
            tape.append(kept)
        if (layer + 1) % self.renew_every == 0:
            new, shift = self._renew(new, shift)
        if dead is not None:
            dead += silent
            if recorded:
                on = np.concatenate(active, axis=1).mean(axis=1) if active else None
                self._see(layer + 1, new, shift, on, dead)
        return new, shift

    def _back(
        self, layer: int, p: np.ndarray, lift: np.ndarray, kept: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        form, m = self.network.form, self.network.matrices
        place = len(kept) - 1
        q = _times(p, self.branch[layer])
        if not form.trunk:
            q = self._through(q, kept[place])
            place -= 1
        for j in range(m - 1, -1, -1):
            q = self.weights[j][layer].swapaxes(1, 2) @ _times(q, self.scale[j][layer])
            if self.table.centred:
                q = q - q.mean(axis=1, keepdims=True)
            if j > 0 or form.pre:
                q = self._through(q, kept[place])
                place -= 1
        q = _times(q, self.input_scale[layer])
        new = q + _times(p, self.skip[layer]) if form.trunk else q
        if layer % self.renew_every == 0:
            new, lift = self._renew(new, lift)
        return new, lift

    def _activation(
        self, u: np.ndarray, up: np.ndarray | None, kept: list[np.ndarray] | None
    ) -> np.ndarray:
        """phi(u), in units of ``up``; what the way back needs of it is kept."""
        if self.slope is not None:
            positive = u > 0
            if kept is not None:
                kept.append(positive)
            if self.slope == 0.0:
                return np.maximum(u, 0.0)
            return u if self.slope == 1.0 else np.where(positive, u, self.slope * u)
        whole = u if up is None else u * up
        if kept is not None:
            kept.append(self.phi.derivative(whole))
        values = self.phi(whole)
        return values if up is None else values / up

    def _through(self, q: np.ndarray, kept: np.ndarray) -> np.ndarray:
        if self.slope is None:
            return q * kept
        if self.slope == 0.0:
            return q * kept
        return q if self.slope == 1.0 else np.where(kept, q, self.slope * q)

    def _units(self, shift: np.ndarray) -> np.ndarray:
        return self._over(np.ldexp(1.0, np.clip(shift + self.origin, -1000, 1000)))[:, None]

    def _down(self, shift: np.ndarray) -> np.ndarray:
        """The unit of a bias."""
        return self._over(np.ldexp(1.0, np.clip(-(shift + self.origin), -1070, 1000)))[:, None]

    def _over(self, values: np.ndarray) -> np.ndarray:
        """What is known of each ensemble, for each of its columns."""
        return np.repeat(values, self.inputs, axis=1)

    def _renew(self, h: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bring the largest entry of every ensemble back to about 1, exactly."""
        largest = np.abs(h).max(axis=1).reshape(len(h), self.members, self.inputs).max(axis=2)
        exponent = np.frexp(np.where(np.isfinite(largest), largest, 0.0))[1].astype(np.int64)
        exponent = np.where(np.abs(exponent) > 20, exponent, 0)
        if not exponent.any():
            return h, shift
        return h * self._over(np.ldexp(1.0, -exponent))[:, None], shift + exponent

    # ------------------------------------------------------------- recording

    def _see(
        self, layer: int, h: np.ndarray, shift: np.ndarray, on: np.ndarray | None, dead: np.ndarray
    ) -> None:
        if layer not in self.slots:
            return
        slot = self.slots[layer]
        count = len(h)
        shape = (count, self.members, self.inputs)
        start, norms = np.tile(self.start, self.members), np.tile(self.start_norm, self.members)
        size, far = _compare(h, self._over(shift), start, norms, self.network.form.trunk)
        self.out["log_norm"][:, slot] = size.reshape(shape)
        self.out["log_displacement"][:, slot] = far.reshape(shape)
        if on is not None:
            self.out["activity"][:, slot] = on.reshape(shape)
        self.out["dead"][:, slot] = dead.reshape(shape)
        if self.inputs > 1:
            each = h.reshape(count, -1, self.members, self.inputs)
            self.out["gram"][:, slot] = each.transpose(0, 2, 3, 1) @ each.transpose(0, 2, 1, 3)
            for one in range(self.inputs):
                for other in range(one + 1, self.inputs):
                    apart = _norm(each[..., one] - each[..., other])
                    begun = _norm(self.start[..., one, None] - self.start[..., other, None])
                    with np.errstate(divide="ignore"):
                        ratio = np.log(apart) + shift * _LOG_2 - np.log(begun)
                    self.out["log_distance"][:, slot, :, one, other] = ratio
        if self.gradient:
            self.states[slot] = h

    def _see_gradient(self, layer: int, p: np.ndarray, lift: np.ndarray) -> None:
        if layer not in self.slots:
            return
        slot = self.slots[layer]
        shape = (len(p), self.members, self.inputs)
        trunk = self.network.form.trunk
        size, far = _compare(p, self._over(lift), self.top, self.top_norm, trunk)
        self.out["log_gradient"][:, slot] = size.reshape(shape)
        self.out["log_gradient_displacement"][:, slot] = far.reshape(shape)
        h = self.states[slot]
        with np.errstate(invalid="ignore", divide="ignore"):
            along = np.add.reduce(p * h, axis=1) / (_norm(p) * _norm(h))
        self.out["alignment"][:, slot] = along.reshape(shape)

    def record(self, start: int, count: int) -> None:
        """Put what was seen of some networks beside the others."""
        if not self.seen:
            self.seen = [
                {
                    name: np.empty((count, *np.delete(v.shape[1:], 1)))
                    for name, v in self.out.items()
                }
                for _ in range(self.members)
            ]
        for member, trace in enumerate(self.seen):
            for name, values in self.out.items():
                trace[name][start : start + len(values)] = values[:, :, member]

    def traces(self) -> list[dict[str, np.ndarray]]:
        """One trace an ensemble."""
        from sigprop.backends.numba_cpu import _cosine, _effective_rank

        one, other = np.triu_indices(self.inputs, 1)
        traces = []
        for seen in self.seen:
            trace = {}
            for name in self.fields:
                if name == "cosine":
                    trace[name] = _cosine(seen["gram"])
                elif name == "effective_rank":
                    trace[name] = _effective_rank(seen["gram"])
                elif name == "log_distance":
                    trace[name] = seen[name][..., one, other]
                else:
                    trace[name] = seen[name]
            traces.append(trace)
        return traces


def _over_columns(columns: list[np.ndarray], inputs: int) -> Any:
    """Per layer a number where all ensembles agree, else an array over the columns."""
    stacked = np.stack(columns, axis=1)
    if bool((stacked == stacked[:, :1]).all()):
        return stacked[:, 0].tolist()
    return np.repeat(stacked, inputs, axis=1)


def _times(x: np.ndarray, factor: Any) -> np.ndarray:
    return x if isinstance(factor, float) and factor == 1.0 else x * factor


def _norm(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.add.reduce(x * x, axis=1))


def _compare(
    x: np.ndarray, shift: np.ndarray, y: np.ndarray, norms: np.ndarray, displaced: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(log |x| / |y|, log |x - y| / |y|) by column, x in units 2^shift, ``norms`` = |y|."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        size = np.log(_norm(x)) + shift * _LOG_2 - np.log(norms)
        if not displaced:
            return size, np.zeros_like(size)
        # Units in which neither of the two overflows.
        lift = np.maximum(shift, 0)
        f = np.ldexp(1.0, np.maximum(shift - lift, -1070))[:, None]
        g = np.ldexp(1.0, np.maximum(-lift, -1070))
        base = g[:, None] * y
        apart = f * x - base
        far = _norm(apart)
        # Close by, the norm is read off the displacement, without cancellation.
        along = np.add.reduce(apart * (2.0 * base + apart), axis=1)
        size = np.where(far < 1e-3 * norms * g, 0.5 * np.log1p(along / (norms * g) ** 2), size)
        return size, np.log(far) + lift * _LOG_2 - np.log(norms)


# ------------------------------------------------------------------------ BLAS

_lock = threading.Lock()
_users = 0
_limits: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS on one thread as long as any worker is in here: the parallelism is over replicas."""
    from threadpoolctl import threadpool_limits

    global _users, _limits
    with _lock:
        if not _users:
            _take_control()
            _limits = threadpool_limits(limits=1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _take_control()
                _limits.restore_original_limits()
                _take_control()


def _take_control() -> None:
    """Let this thread set the number of BLAS threads, and the next one too.

    threadpoolctl (3.8 does) lets the first thread that asks have the say and silently ignores
    all others, until that thread is gone: a worker would then run BLAS on all processors, against
    its fellows, and in another order of summation than alone. Here a lock sees to it that threads
    do not set the number at cross purposes.
    """
    import threadpoolctl

    openblas = getattr(threadpoolctl, "OpenBLASController", None)
    if openblas is not None and hasattr(openblas, "clear_controlling_thread"):
        openblas.clear_controlling_thread(force=True)
