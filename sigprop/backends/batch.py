r"""All inputs and all pixels of a network at once, layer by layer, through products of BLAS.

Where a matrix meets many vectors, as a kernel does that passes over an image, drawing the
matrix is cheap beside applying it, and a product of matrices is the fastest way to do that. A
state is an array (network, input x pixel, channel). A convolution gathers for every output
pixel the pixels that its taps read, side by side, and multiplies by the kernel as one matrix
of (taps x channels) rows; backward it gathers for every input pixel the output pixels that it
reaches. A kernel of one tap gathers nothing.

Everything is in one place at one time, so that a layer may look at all inputs together: batch
normalisation takes its means over the rows of that array.

Draws are single weights in double precision arithmetic; states are float64, in units of a
power of two, one for each input, moved every few layers. Weights are drawn again on the way
back, from the same addresses. A deep network keeps states at some layers and walks each
segment again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sigprop import looks_linear
from sigprop.backends import reference
from sigprop.backends.base import Sampler, applicable
from sigprop.backends.correlated import one_blas_thread
from sigprop.image import reached, taps
from sigprop.kernels import philox
from sigprop.laws.orthogonal import Orthogonal
from sigprop.spec import Ensemble, Structure

__all__ = ["Batch"]

_NETWORK_BYTES = 2**31  # states and derivatives of one network, beyond which it is refused
_TAPE_BYTES = 2**28  # what is kept for the way back, a worker
_GROUP_NUMBERS = 2**18  # numbers of a layer of the networks that are walked together
_STEM = philox.WEIGHT + 255 * 256  # its matrix; its bias has the next purpose
_RENEW = 8  # layers between two looks at the size of the states


class Batch(Sampler):
    """Every weight, all inputs and pixels at once: convolutions and batch normalisation."""

    name = "batch"
    version = 1
    block = 16
    about = "every weight, all inputs and pixels at once by BLAS: images, batch normalisation"

    def refusal(self, ensemble: Ensemble, fields: frozenset[str]) -> str | None:
        phi = ensemble.network.phi
        if ensemble.table.correlated:
            return (
                "it draws every layer by itself, and a process ties them together along depth. "
                "Use --sampler dense."
            )
        if phi.homogeneous and phi.negative_slope is None:
            return (
                f"activation {phi.kind!r} draws its slopes unit by unit, which is not offered "
                "with images and batches. Use leaky_relu."
            )
        absent = sorted(fields - applicable(ensemble))
        if absent:
            return (
                f"it does not give {', '.join(absent)}. Use --sampler reference, or leave it out."
            )
        need = layer_bytes(ensemble)
        if need > _NETWORK_BYTES:
            fits = max(1, ensemble.inputs.count * _NETWORK_BYTES // need)
            return (
                f"one layer of {ensemble.inputs.count} inputs takes {need / 2**30:.1f} GiB, and "
                f"{_NETWORK_BYTES / 2**30:.0f} GiB are allowed. Use about {fits} inputs, or a "
                "smaller image or width."
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
        at_once = max(1, min(count, _GROUP_NUMBERS * 8 // layer_bytes(ensemble)))
        parts = []
        with one_blas_thread():
            for start in range(first, first + count, at_once):
                replicas = range(start, min(start + at_once, first + count))
                parts.append(_Walk(ensemble, fields, layers, key, replicas).trace())
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def layer_bytes(ensemble: Ensemble) -> int:
    """Memory that the largest layer of one network takes: gathered pixels, and the kernels."""
    network = ensemble.network
    area = np.array([ensemble.convolution(0, j)[1] ** 2 for j in range(network.matrices)])
    columns, rows = network.fans
    pixels = np.prod(network.images, axis=1)[:-1, None]
    numbers = ensemble.inputs.count * pixels * np.maximum(columns, rows)
    return int(8 * (area * (numbers + columns * rows)).max())


# ------------------------------------------------------------------------ matrices


@dataclass(frozen=True)
class _Reads:
    """What a convolution reads and reaches; ``None`` for a kernel of one tap at stride 1."""

    forward: np.ndarray | None
    backward: np.ndarray | None

    @classmethod
    def of(cls, size: tuple[int, int], kernel: int, stride: int, padding: str) -> _Reads:
        if kernel == 1 and stride == 1:
            return cls(None, None)
        place = (size, kernel, stride, padding)
        return cls(taps(*place), reached(*place))


def _gathered(x: np.ndarray, index: np.ndarray | None, inputs: int) -> np.ndarray:
    """What each pixel reads, side by side: (R, K pixels, C) to (R, K pixels', taps C)."""
    if index is None:
        return x
    networks, rows, channels = x.shape
    pixels = rows // inputs
    images = x.reshape(networks * inputs, pixels, channels)
    if (index < 0).any():  # a pixel of zeros at the end, where -1 points
        images = np.concatenate([images, np.zeros((len(images), 1, channels))], axis=1)
    found = images.take(index.ravel(), axis=1)
    return found.reshape(networks, inputs * len(index), -1)


@dataclass(frozen=True)
class _Kernel:
    """One matrix of some networks, (R, rows, taps, columns), and what it reads."""

    weights: np.ndarray
    reads: _Reads
    inputs: int
    cutoff: float | None = None  # below it, relative to what is read, a sum is one that cancels

    def ahead(self, x: np.ndarray) -> np.ndarray:
        networks, rows, _, _ = self.weights.shape
        matrix = self.weights.reshape(networks, rows, -1)
        x = _gathered(x, self.reads.forward, self.inputs)
        product = x @ matrix.swapaxes(1, 2)
        if self.cutoff is None:
            return product
        least = self.cutoff * np.linalg.norm(x, axis=-1, keepdims=True)
        return np.where(np.abs(product) < least, 0.0, product)

    def back(self, q: np.ndarray) -> np.ndarray:
        networks, rows, taps_, columns = self.weights.shape
        matrix = self.weights.swapaxes(1, 2).reshape(networks, taps_ * rows, columns)
        return _gathered(q, self.reads.backward, self.inputs) @ matrix


# ---------------------------------------------------------------------- activations


@dataclass(frozen=True)
class _Kept:
    """What the way back needs of one activation, or of one normalisation over the batch."""

    derivative: Any  # bool where the unit is active, or phi'(u), or None for the identity
    normalised: np.ndarray | None = None
    deviation: np.ndarray | None = None

    def unnormalised(self, q: np.ndarray) -> np.ndarray:
        """The gradient before the normalisation, from that behind it."""
        u, deviation = self.normalised, self.deviation
        assert u is not None and deviation is not None
        along = np.einsum("rkc,rkc->rc", u, q)[:, None] / q.shape[1]
        q = q - q.mean(axis=1, keepdims=True) - u * along
        return np.divide(q, deviation, where=deviation > 0, out=np.zeros_like(q))


class _Walk:
    """Some networks, forward and backward."""

    def __init__(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        replicas: range,
    ) -> None:
        self.law, self.fields, self.layers = ensemble, fields, layers
        self.network, self.table = ensemble.network, ensemble.table
        self.phi, self.form = self.network.phi, self.network.form
        self.key, self.replicas = key, replicas
        self.inputs = ensemble.inputs.count
        self.slope = self.phi.negative_slope
        self.gradient = bool(fields & reference.GRADIENT_FIELDS)
        table = self.table
        self.rescaled = self.phi.homogeneous and not table.biased and not table.batch_norm
        self.slots = {int(layer) for layer in layers}
        sizes = np.abs(np.concatenate([
            table.skip, table.branch, table.input_scale,
            (table.scale * np.sqrt(self.network.connections[0])).ravel(),
        ]))  # fmt: skip
        sizes = sizes[sizes > 0]
        usual = bool(sizes.size == 0 or (sizes.min() > 1e-6 and sizes.max() < 1e6))
        self.renew_every = _RENEW if usual else 1

    # -------------------------------------------------------------------- draws

    def _singles(self, row: int, purpose: int, size: int) -> np.ndarray:
        """Standard normals of one address of every network, shape (R, size)."""
        from sigprop.kernels import correlated

        out = np.empty((len(self.replicas), philox.padded(size)), np.float32)
        for place, r in enumerate(self.replicas):
            correlated.normals(self.key, row, r, purpose, size, out[place])
        return out[:, :size].astype(float)

    def _part(self, row: int, purpose: int, size: tuple[int, int]) -> np.ndarray:
        """A matrix of the law at unit scale, shape (R, *size)."""
        from sigprop.kernels import correlated

        law, count = self.table.law, size[0] * size[1]
        if law.kind == "gaussian":
            return self._singles(row, purpose, count).reshape(-1, *size)
        if isinstance(law, Orthogonal):
            tall = self._singles(row, purpose, count).reshape(-1, max(size), min(size))
            return law.of_normals(tall, *size)
        out = np.empty((len(self.replicas), philox.padded(count) + 128))
        for place, r in enumerate(self.replicas):
            correlated.entries(
                law.code, law.parameter, self.key, row, r, purpose, count, out[place]
            )
        return (out[:, :count] * getattr(law, "unit", 1.0)).reshape(-1, *size)

    def _kernels(self, layer: int) -> list[_Kernel]:
        """All matrices of a layer; of some the last is made of the others."""
        law, table = self.law, self.table
        found: list[np.ndarray] = []
        for j in range(self.network.matrices):
            size = reference.part_size(law, layer, j)
            scale = table.scale[layer, j]
            if table.structure[layer, j] == Structure.ROUTED:
                columns, rows = (int(fan[layer, j]) for fan in self.network.fans)
                w = np.tile(looks_linear.routed(rows, columns), (len(self.replicas), 1, 1))
            elif scale == 0.0:
                w = np.zeros((len(self.replicas), *size))
            else:
                w = self._part(layer, philox.WEIGHT + 256 * j, size)
            if table.centred:
                w -= w.mean(axis=-1, keepdims=True)
            w *= scale
            found.append(reference.assembled(law, layer, j, w, found))
        return [self._placed(w, layer, j) for j, w in enumerate(found)]

    def _placed(self, w: np.ndarray, layer: int | None, j: int = 0) -> _Kernel:
        """A matrix (R, rows, columns x taps) as a kernel."""
        place = self.law.convolution(layer, j)
        by_tap = w.reshape(*w.shape[:2], -1, place[1] ** 2).swapaxes(2, 3)
        cutoff = None
        if self.table.law.discrete and layer is not None:
            cutoff = 2.0**-40 * float(self.table.scale[layer, j])
        return _Kernel(np.ascontiguousarray(by_tap), _Reads.of(*place), self.inputs, cutoff)

    def _stem(self) -> tuple[_Kernel, Any]:
        """The stem and its bias."""
        stem = self.table.stem
        assert stem is not None
        w = stem.scale * self._part(0, _STEM, reference.part_size(self.law, None))
        if stem.structure == Structure.MIRRORED:
            w = looks_linear.mirrored(w)
        bias: Any = 0.0
        if stem.bias_scale != 0:
            width = int(self.network.state_widths[0])
            bias = stem.bias_scale * self._singles(0, _STEM + 256, width)[:, None]
        return self._placed(w, None), bias

    def _bias(self, layer: int, j: int) -> Any:
        scale = self.table.bias_scale[layer, j]
        if scale == 0.0:
            return 0.0
        rows = int(self.network.fans[1][layer, j])
        return scale * self._singles(layer, philox.BIAS + 256 * j, rows)[:, None]

    def _start(self) -> np.ndarray:
        """The inputs, shape (R, K, size), channel by channel."""
        size = self.network.input_size
        frame = self.law.inputs.frame()
        if frame is None:
            given = self.law.inputs.array(size)
            assert given is not None
            return np.broadcast_to(given, (len(self.replicas), *given.shape)).copy()
        normals = self._singles(0, philox.INPUT, len(frame) * size)
        q, r = np.linalg.qr(normals.reshape(len(normals), -1, size).swapaxes(1, 2))
        # With a positive diagonal the frame is uniformly distributed.
        q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
        return np.sqrt(size) * (np.asarray(frame) @ q.swapaxes(1, 2))

    # ------------------------------------------------------------------- layout

    def _rows(self, x: np.ndarray, channels: int) -> np.ndarray:
        """(R, K, channel x pixel) to (R, K x pixel, channel)."""
        networks, inputs, _ = x.shape
        images = x.reshape(networks, inputs, channels, -1).swapaxes(2, 3)
        return np.ascontiguousarray(images).reshape(networks, -1, channels)

    def _vectors(self, x: np.ndarray) -> np.ndarray:
        """(R, K x pixel, channel) to (R, K, channel x pixel)."""
        networks, _, channels = x.shape
        images = x.reshape(networks, self.inputs, -1, channels).swapaxes(2, 3)
        return np.ascontiguousarray(images).reshape(networks, self.inputs, -1)

    # ------------------------------------------------------------------- passes

    def trace(self) -> dict[str, np.ndarray]:
        """Walk, and read off what is asked for."""
        network = self.network
        depth, count = network.depth, len(self.replicas)
        start = self._start()
        unit = np.zeros((count, self.inputs), np.int64)
        h, shift = self._rows(start, network.input_channels), unit
        active: list[np.ndarray] = []
        silent = np.zeros((count, self.inputs))
        if self.table.stem is not None:
            stem, bias = self._stem()
            h, argument = self._activate(self._normal(stem.ahead(h) + bias, None), None)
            start = self._vectors(h)
            active.append(self._vectors(argument > 0))
            silent += ~start.any(axis=-1)
        self.seen: dict[int, tuple[np.ndarray, np.ndarray]] = {0: (start, unit)}
        self.activity = {0: reference.share(active, silent.shape)}
        self.dead = {0: silent.copy()}
        segment = depth if not self.gradient else self._segment()
        stored = []
        tape: list[list[_Kept]] = []
        for begin in range(0, depth, segment):
            stored.append((begin, h, shift))
            tape = []
            keep = self.gradient and begin + segment >= depth
            for layer in range(begin, min(begin + segment, depth)):
                h, shift = self._ahead(layer, h, shift, tape if keep else None, silent)
        gradients: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        top = (np.empty(0), unit)
        if self.gradient:
            top, gradients = self._return(stored, segment, tape)
        return reference.trace_of(
            self.law, self.layers, self.fields, self.seen, (start, unit),
            gradients, top, self.activity, self.dead,
        )  # fmt: skip

    def _segment(self) -> int:
        """Layers between two stored states."""
        network = self.network
        pixels = np.prod(network.images, axis=1)
        numbers = self.inputs * len(self.replicas) * int(pixels[0]) * network.fans[1].sum(1).max()
        bytes_a_layer = int(numbers) * (1 if self.slope is not None else 8)
        if self.table.batch_norm:
            bytes_a_layer = int(numbers) * 9
        return max(1, min(network.depth, _TAPE_BYTES // bytes_a_layer))

    def _return(
        self, stored: list[Any], segment: int, tape: list[list[_Kept]]
    ) -> tuple[tuple[np.ndarray, np.ndarray], dict[int, tuple[np.ndarray, np.ndarray]]]:
        depth, count = self.network.depth, len(self.replicas)
        last = int(self.network.state_sizes[-1])
        tops = self.inputs if self.table.batch_norm else 1
        drawn = self._singles(0, philox.TOP, tops * last).reshape(count, tops, last)
        top = np.broadcast_to(drawn, (count, self.inputs, last))
        lift = np.zeros((count, self.inputs), np.int64)
        p = self._rows(top, int(self.network.state_widths[-1]))
        found = {depth: (self._vectors(p), lift)}
        for begin, h, shift in reversed(stored):
            if begin + segment < depth:
                tape = []
                for layer in range(begin, begin + segment):
                    h, shift = self._ahead(layer, h, shift, tape, None)
            for layer in range(begin + len(tape) - 1, begin - 1, -1):
                p, lift = self._back(layer, p, lift, tape[layer - begin])
                if layer in self.slots:
                    found[layer] = (self._vectors(p), lift)
        return (top, np.zeros_like(lift)), found

    def _ahead(
        self,
        layer: int,
        h: np.ndarray,
        shift: np.ndarray,
        tape: list[list[_Kept]] | None,
        silent: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """One layer; its derivatives go on the tape, ``silent`` is None on a repeated walk."""
        form, table = self.form, self.table
        kernels = self._kernels(layer)
        kept: list[_Kept] | None = None if tape is None else []
        active: list[np.ndarray] = []
        quiet = np.zeros((len(h), self.inputs), bool)
        recorded = silent is not None and layer + 1 in self.slots

        def activate(u: np.ndarray) -> np.ndarray:
            nonlocal quiet
            x, u = self._activate(u, kept)
            if recorded:
                active.append(self._vectors(u > 0))
            if silent is not None:
                quiet |= ~self._vectors(x != 0).any(axis=-1)
            return x

        def through(j: int, x: np.ndarray) -> np.ndarray:
            x = kernels[j].ahead(x)
            return x + self._bias(layer, j) if table.bias_scale[layer, j] != 0 else x

        x = h if table.input_scale[layer] == 1.0 else table.input_scale[layer] * h
        for j in range(self.network.branch_matrices):
            if form.pre or j > 0:
                x = activate(self._normal(x, kept))
            x = through(j, x)
        if not form.trunk:
            x = activate(self._normal(x, kept))
        carried = h
        if form.post:
            x = self._normal(x, kept)
        if form.projected:
            carried = self._normal(through(self.network.matrices - 1, h), kept)
        new = table.branch[layer] * x
        if form.trunk:
            new += table.skip[layer] * carried
        if form.post:
            new = activate(new)
        if tape is not None and kept is not None:
            tape.append(kept)
        if self.rescaled and (layer + 1) % self.renew_every == 0:
            new, shift = self._renew(new, shift)
        if silent is not None:
            silent += quiet
            if recorded:
                self.seen[layer + 1] = (self._vectors(new), shift)
                self.activity[layer + 1] = reference.share(active, quiet.shape)
                self.dead[layer + 1] = silent.copy()
        return new, shift

    def _back(
        self, layer: int, p: np.ndarray, lift: np.ndarray, kept: list[_Kept]
    ) -> tuple[np.ndarray, np.ndarray]:
        form, table = self.form, self.table
        normal = table.batch_norm
        kernels, kept = self._kernels(layer), list(kept)
        if form.post:
            p = self._through(p, kept.pop())
        carried = p
        if form.projected:
            carried = kept.pop().unnormalised(p) if normal else p
            carried = kernels[-1].back(carried)
        q = table.branch[layer] * p
        if form.post and normal:
            q = kept.pop().unnormalised(q)
        if not form.trunk:
            q = self._through(q, kept.pop())
            q = kept.pop().unnormalised(q) if normal else q
        for j in range(self.network.branch_matrices - 1, -1, -1):
            q = kernels[j].back(q)
            if form.pre or j > 0:
                q = self._through(q, kept.pop())
                q = kept.pop().unnormalised(q) if normal else q
        if table.input_scale[layer] != 1.0:
            q = table.input_scale[layer] * q
        if form.trunk:
            q = q + table.skip[layer] * carried
        return self._renew(q, lift) if layer % self.renew_every == 0 else (q, lift)

    def _normal(self, u: np.ndarray, kept: list[_Kept] | None) -> np.ndarray:
        """u, normalised over the batch if that is the law; what the way back needs is kept."""
        if not self.table.batch_norm:
            return u
        u = u - u.mean(axis=1, keepdims=True)
        deviation = np.sqrt(np.einsum("rkc,rkc->rc", u, u)[:, None] / u.shape[1])
        np.divide(u, deviation, where=deviation > 0, out=u)
        if kept is not None:
            kept.append(_Kept(None, u, deviation))
        return u

    def _activate(self, u: np.ndarray, kept: list[_Kept] | None) -> tuple[np.ndarray, np.ndarray]:
        """(phi(u), u); what the way back needs is kept."""
        derivative: Any = None
        if self.slope is None:
            derivative = self.phi.derivative(u) if kept is not None else None
            x = self.phi(u)
        elif self.slope == 1.0:
            x = u
        else:
            derivative = u > 0 if kept is not None else None
            x = np.maximum(u, 0.0) if self.slope == 0.0 else np.where(u > 0, u, self.slope * u)
        if kept is not None:
            kept.append(_Kept(derivative))
        return x, u

    def _through(self, q: np.ndarray, kept: _Kept) -> np.ndarray:
        if self.slope is None or self.slope == 0.0:
            return q * kept.derivative
        return q if self.slope == 1.0 else np.where(kept.derivative, q, self.slope * q)

    def _renew(self, x: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bring the largest entry of every input back to about 1, exactly."""
        each = np.abs(x).reshape(len(x), self.inputs, -1).max(axis=2)
        if self.table.batch_norm:  # a gradient is one vector over all inputs
            each = np.broadcast_to(each.max(axis=1, keepdims=True), each.shape)
        exponent = np.frexp(np.where(np.isfinite(each), each, 0.0))[1].astype(np.int64)
        exponent = np.where(np.abs(exponent) > 20, exponent, 0)
        if not exponent.any():
            return x, shift
        factor = np.repeat(np.ldexp(1.0, -exponent), x.shape[1] // self.inputs, axis=1)
        return x * factor[:, :, None], shift + exponent
