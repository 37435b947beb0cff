"""Some networks abreast, forward and backward, and what is recorded of them.

States and gradients on the trunk are float64 in units of a power of two, one a network, so that
no depth overflows and a displacement keeps its digits; what matrices multiply is of the type of
the `products`. Derivatives stand on a tape of ``segment`` layers; a deeper network keeps the state
at the start of every segment and walks each again, from the same draws, before it walks it back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sigprop.backends.torch_gpu import activation
from sigprop.backends.torch_gpu.draws import Draws
from sigprop.backends.torch_gpu.plan import GRADIENT_FIELDS
from sigprop.backends.torch_gpu.products import Conditional, Dense

__all__ = ["Walk"]

_LOG_2 = math.log(2.0)
_LARGE = 20  # states leave 2^-20 .. 2^20 before their unit is moved
_REACH = 1000  # of the exponents of a unit


@dataclass
class _Passed:
    """What the way back needs of one layer."""

    state: torch.Tensor | None = None  # where it is recorded
    derivatives: list[torch.Tensor] = field(default_factory=list)
    seen: list[Any] = field(default_factory=list)  # of its matrices


class Walk:
    """The first networks of a block.

    Parameters
    ----------
    draws : Draws
    products : Dense or Conditional
    fields, layers
        As of `Sampler.sample`.
    segment : int
        Layers whose tape is there at once.
    """

    def __init__(
        self,
        draws: Draws,
        products: Dense | Conditional,
        fields: frozenset[str],
        layers: np.ndarray,
        segment: int,
    ) -> None:
        ensemble = draws.ensemble
        self.draws, self.products, self.fields = draws, products, fields
        self.network, self.table = ensemble.network, ensemble.table
        self.phi, self.form = self.network.phi, self.network.form
        distinct, self.order = np.unique(layers, return_inverse=True)
        self.slots = {int(layer): slot for slot, layer in enumerate(distinct)}
        self.gradient = bool(fields & GRADIENT_FIELDS)
        self.displaced = self.form.trunk and not self.form.projected
        self.segment = segment if self.gradient else self.network.depth
        self.shape = (draws.count, ensemble.inputs.count)
        self.seen: dict[str, list[Any]] = {name: [None] * len(distinct) for name in fields}
        powers = np.ldexp(1.0, np.arange(-_REACH, _REACH + 1))
        self.powers = torch.as_tensor(powers, device=draws.device.kind)

    def trace(self) -> dict[str, np.ndarray]:
        """Every field, of shape (network, recorded layer, ..)."""
        h, shift = self._enter()
        depth = self.network.depth
        stored: list[Any] = []
        tape: list[_Passed] = []
        for begin in range(0, depth, self.segment):
            end = min(begin + self.segment, depth)
            stored.append((begin, h, shift))
            last = self.gradient and end == depth
            tape = []
            for layer in range(begin, end):
                h, shift = self._ahead(layer, h, shift, tape if last else None, first=True)
        if self.gradient:
            self._descend(stored, tape, h)
        return {name: self._gathered(name, values) for name, values in self.seen.items()}

    def _gathered(self, name: str, values: list[torch.Tensor]) -> np.ndarray:
        found: np.ndarray = torch.stack(values, dim=1).cpu().numpy()[:, self.order]
        if name == "effective_rank":
            from sigprop.backends.numba_cpu import _effective_rank

            return _effective_rank(found)
        return found

    # ------------------------------------------------------------------ forward

    def _enter(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The state h_0."""
        kind = self.draws.device.kind
        shift = torch.zeros(self.shape[0], dtype=torch.int64, device=kind)
        h, shift = self._renewed(self.draws.inputs(), shift, always=True)
        self.dead = torch.zeros(self.shape, dtype=torch.float64, device=kind)
        on: list[torch.Tensor] = []
        stem, top = self.table.stem, self.network.depth
        if stem is not None:
            rows = int(self.network.state_widths[0])
            bias = self._bias(stem.bias_scale, shift)
            u, _ = self.products.times(top, 0, rows, h, stem.scale, bias)
            h = self._activate(u, shift, self.draws.slopes(top, 0, rows), on, None).double()
            self.dead += ~h.any(dim=1)
        self.start, self.origin, self.start_norm = h, shift, _norm(h)
        self.begun = torch.log(_apart(h)) + _logs(shift)
        self._see(0, h, shift, on)
        return h, shift

    def _ahead(
        self,
        layer: int,
        h: torch.Tensor,
        shift: torch.Tensor,
        tape: list[_Passed] | None,
        *,
        first: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One layer; nothing is recorded where it is not walked for the first time."""
        table, form, fan_out = self.table, self.form, self.network.fans[1]
        passed = _Passed(h if layer in self.slots else None)
        on: list[torch.Tensor] = []
        silent = torch.zeros(self.shape, dtype=torch.bool, device=h.device)
        which = 0

        def activate(u: torch.Tensor) -> torch.Tensor:
            nonlocal silent, which
            slopes = self.draws.slopes(layer, which, u.shape[1])
            which += 1
            noted = passed.derivatives if tape is not None else None
            y = self._activate(u, shift, slopes, on if first else None, noted)
            if first:
                silent = silent | ~y.any(dim=1)
            return y

        def multiply(j: int, x: torch.Tensor) -> torch.Tensor:
            scale = float(table.scale[layer, j])
            bias = self._bias(float(table.bias_scale[layer, j]), shift)
            if table.centred:
                x = x - x.mean(dim=1, keepdim=True)
            y, seen = self.products.times(layer, j, int(fan_out[layer, j]), x, scale, bias)
            passed.seen.append(seen)
            return y

        x = float(table.input_scale[layer]) * h
        for j in range(self.network.branch_matrices):
            if form.pre or j > 0:
                x = activate(x)
            x = multiply(j, x)
        if not form.trunk:
            x = activate(x)
        new = float(table.branch[layer]) * x.double()
        if form.trunk:
            carried = multiply(self.network.matrices - 1, h).double() if form.projected else h
            new = new + float(table.skip[layer]) * carried
        if form.post:
            new = activate(new)
        if tape is not None:
            tape.append(passed)
        new, shift = self._renewed(new, shift)
        if first:
            self.dead = self.dead + silent
            self._see(layer + 1, new, shift, on)
        return new, shift

    def _bias(self, scale: float, shift: torch.Tensor) -> torch.Tensor | None:
        return None if scale == 0.0 else scale * self._power(-shift)[:, None, None]

    def _activate(
        self,
        u: torch.Tensor,
        shift: torch.Tensor,
        slopes: torch.Tensor | None,
        on: list[torch.Tensor] | None,
        derivatives: list[torch.Tensor] | None,
    ) -> torch.Tensor:
        y, passed = activation.apply(self.phi, u, self._power(shift)[:, None, None], slopes)
        if on is not None:
            on.append(activation.active(self.phi, u, slopes))
        if derivatives is not None:
            derivatives.append(passed)
        return y

    # ----------------------------------------------------------------- backward

    def _descend(self, stored: list[Any], tape: list[_Passed], h: torch.Tensor) -> None:
        """The way back of the top gradient."""
        depth = self.network.depth
        top = self.draws.top()
        self.top, self.top_norm = top, _norm(top)
        p = top.expand(-1, -1, self.shape[1])
        lift = torch.zeros_like(self.origin)
        self._see_gradient(depth, p, lift, h)
        for begin, state, shift in reversed(stored):
            end = min(begin + self.segment, depth)
            if end < depth:
                tape = []
                for layer in range(begin, end):
                    state, shift = self._ahead(layer, state, shift, tape, first=False)
            for layer in range(end - 1, begin - 1, -1):
                passed = tape.pop()
                p, lift = self._renewed(self._back(layer, p, passed), lift)
                self._see_gradient(layer, p, lift, passed.state)

    def _back(self, layer: int, p: torch.Tensor, passed: _Passed) -> torch.Tensor:
        """p below a layer from p above."""
        form, table, derivatives = self.form, self.table, passed.derivatives

        def through(q: torch.Tensor) -> torch.Tensor:
            return activation.through(self.phi, q, derivatives.pop())

        def back(j: int, q: torch.Tensor) -> torch.Tensor:
            q = q.to(self.products.dtype)
            q = self.products.back(layer, j, q, float(table.scale[layer, j]), passed.seen.pop())
            return q - q.mean(dim=1, keepdim=True) if table.centred else q

        if form.post:
            p = through(p)
        below = float(table.skip[layer]) * p
        if form.projected:
            below = back(self.network.matrices - 1, below).double()
        q = float(table.branch[layer]) * p
        if not form.trunk:
            q = through(q)
        for j in range(self.network.branch_matrices - 1, -1, -1):
            q = back(j, q)
            if form.pre or j > 0:
                q = through(q)
        q = float(table.input_scale[layer]) * q.double()
        return below + q if form.trunk else q

    # -------------------------------------------------------------------- units

    def _power(self, exponent: torch.Tensor) -> torch.Tensor:
        """2^exponent, exactly."""
        return self.powers[exponent.clamp(-_REACH, _REACH) + _REACH]

    def _renewed(
        self, h: torch.Tensor, shift: torch.Tensor, *, always: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Bring the largest entry of every network back to about 1, exactly, where it is far."""
        largest = h.abs().amax(dim=(1, 2))
        exponent = torch.frexp(torch.where(torch.isfinite(largest), largest, 0.0))[1].long()
        if not always:
            exponent = torch.where(exponent.abs() > _LARGE, exponent, 0)
        return h * self._power(-exponent)[:, None, None], shift + exponent

    # ---------------------------------------------------------------- recording

    def _put(self, name: str, layer: int, values: torch.Tensor) -> None:
        if name in self.fields:
            self.seen[name][self.slots[layer]] = values

    def _see(
        self, layer: int, h: torch.Tensor, shift: torch.Tensor, on: list[torch.Tensor]
    ) -> None:
        if layer not in self.slots:
            return
        size, far = self._compared(h, shift - self.origin, self.start, self.start_norm)
        # A network that is dead at its stem has not moved.
        self._put("log_norm", layer, torch.where(_norm(h) == 0.0, -math.inf, size))
        still = torch.isneginf(size) & (self.start_norm == 0.0) | torch.isnan(far)
        self._put("log_displacement", layer, torch.where(still, -math.inf, far))
        share = torch.full_like(self.dead, math.nan)
        if on:
            share = torch.cat(on, dim=1).double().mean(dim=1)
        self._put("activity", layer, share)
        self._put("dead", layer, self.dead)
        if self.shape[1] > 1:
            self._see_pairs(layer, h, shift)

    def _see_pairs(self, layer: int, h: torch.Tensor, shift: torch.Tensor) -> None:
        """Angles, distances and Gram matrix of several inputs."""
        one, other = np.triu_indices(self.shape[1], 1)
        gram = h.mT @ h
        self._put("effective_rank", layer, gram)
        size = torch.diagonal(gram, dim1=1, dim2=2).sqrt()
        cosine = gram[:, one, other] / (size[:, one] * size[:, other])
        self._put("cosine", layer, cosine.clamp(-1.0, 1.0))
        if "log_distance" not in self.fields:
            return
        apart = torch.log(_apart(h)) + _logs(shift)
        same = torch.isneginf(apart)
        ratio = torch.where(same, -math.inf, apart - torch.where(same, 0.0, self.begun))
        self._put("log_distance", layer, ratio)

    def _see_gradient(
        self, layer: int, p: torch.Tensor, lift: torch.Tensor, h: torch.Tensor | None
    ) -> None:
        if layer not in self.slots:
            return
        assert h is not None
        size, far = self._compared(p, lift, self.top, self.top_norm)
        self._put("log_gradient", layer, size)
        self._put("log_gradient_displacement", layer, far)
        self._put("alignment", layer, (p * h).sum(dim=1) / (_norm(p) * _norm(h)))

    def _compared(
        self, x: torch.Tensor, shift: torch.Tensor, y: torch.Tensor, norms: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(log |x| / |y|, log |x - y| / |y|) by input, x in units of 2^shift, ``norms`` = |y|."""
        size = torch.log(_norm(x)) + _logs(shift) - torch.log(norms)
        if not self.displaced:
            return size, torch.zeros_like(size)
        lift = shift.clamp(min=0)  # units in which neither of the two overflows
        f, g = self._power(shift - lift)[:, None], self._power(-lift)[:, None]
        base = g[:, None] * y
        apart = f[:, None] * x - base
        far = _norm(apart)
        # Close by, the norm is read off the displacement, without cancellation.
        along = (apart * (2.0 * base + apart)).sum(dim=1)
        near = 0.5 * torch.log1p(along / (norms * g) ** 2)
        size = torch.where(far < 1e-3 * norms * g, near, size)
        return size, torch.log(far) + _logs(lift) - torch.log(norms)


def _norm(x: torch.Tensor) -> torch.Tensor:
    """Lengths of the columns, shape (networks, K), float64."""
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)


def _logs(exponent: torch.Tensor) -> torch.Tensor:
    """Logarithms of 2^exponent, one row a network; an integer times a number would be float32."""
    return _LOG_2 * exponent.double()[:, None]


def _apart(h: torch.Tensor) -> torch.Tensor:
    """Distances of all pairs of columns, one row of pairs at a time."""
    rows = [_norm(h[:, :, i + 1 :] - h[:, :, i : i + 1]) for i in range(h.shape[2])]
    return torch.cat(rows, dim=1)
