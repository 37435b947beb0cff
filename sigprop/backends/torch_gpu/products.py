r"""A matrix of weights and what it does to the inputs of a layer and to their gradients.

`Dense` draws every entry, and again on the way back where the networks are large. `Conditional`
forms no Gaussian matrix. Let the columns of X be the K inputs that W sees, and G = X^T X. With
G = V L V^T, R = L^{1/2} V^T and C = V L^{-1/2} the columns of E = X C are orthonormal and X = E R,
so that, for entries of W of unit variance, W X = Z R with Z = W E of standard normals; and for
gradients Q that depend on W through its outputs alone

.. math:: W^T Q = E Z^T Q + (I - E E^T) Z' R_Q, \qquad R_Q^T R_Q = Q^T Q,

with Z' fresh: what was seen of W is repeated, the rest is drawn. A bias is one more coordinate of
the input, the same for all K. G is taken of inputs of length 1 and directions in which it is below
1e-13 are left out: they are rounding, of inputs that depend on each other.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from sigprop.backends.torch_gpu.draws import Draws

__all__ = ["Conditional", "Dense"]

_LEAST = 1e-13
_KEPT_BYTES = 2**27  # of the matrices of a block that are not drawn again on the way back


class Dense:
    """Every weight of every matrix.

    Parameters
    ----------
    draws : Draws
    dtype : torch.dtype
        Of weights and of what they multiply.
    lowered : torch.dtype, optional
        To which both are rounded first.
    """

    def __init__(self, draws: Draws, dtype: torch.dtype, lowered: torch.dtype | None) -> None:
        self.draws, self.dtype, self.lowered = draws, dtype, lowered
        network = draws.ensemble.network
        fan_in, fan_out = network.fans
        numbers = fan_in * fan_out
        self.keeps = draws.block * int(numbers.sum()) * dtype.itemsize <= _KEPT_BYTES
        self.kept: dict[tuple[int, int], torch.Tensor] = {}
        # Where they are not kept all matrices are drawn into one place, one after another.
        stem = int(network.state_widths[0]) * network.input_size if network.form.post else 0
        self.largest = draws.block * max(int(numbers.max()), stem)
        self.place: torch.Tensor | None = None

    def _matrix(self, layer: int, j: int, rows: int, columns: int) -> torch.Tensor:
        if (layer, j) in self.kept:
            return self.kept[layer, j]
        shape = (self.draws.block, rows, columns)
        if self.keeps:
            out = self.draws.device.empty(shape, self.dtype)
        else:
            if self.place is None:
                self.place = self.draws.device.empty((self.largest,), self.dtype)
            out = self.place[: math.prod(shape)].view(shape)
        w = self.draws.entries(layer, j, out)
        if self.lowered is not None:
            w = w.to(self.lowered)
        if self.keeps:
            self.kept[layer, j] = w
        return w

    def times(
        self,
        layer: int,
        j: int,
        rows: int,
        x: torch.Tensor,
        scale: float,
        bias: torch.Tensor | None,
    ) -> tuple[torch.Tensor, Any]:
        """``scale`` W x plus a bias, and what `back` needs.

        Parameters
        ----------
        x : Tensor, shape (networks, columns, K)
        bias : Tensor, shape (networks, 1, 1), optional
            Its standard deviation, in the units of the network.
        """
        columns = x.shape[1]
        w = self._matrix(layer, j, rows, columns)
        y = scale * _times(w, x.to(w.dtype)).to(self.dtype)
        if self.draws.ensemble.table.law.discrete and self.dtype is torch.float64:
            # What cancels is exactly 0, whatever the order of the sum.
            least = 2.0**-40 * abs(scale) * torch.linalg.vector_norm(x, dim=1, keepdim=True)
            y = torch.where(y.abs() < least, 0.0, y)
        if bias is not None:
            drawn = self.draws.normals(layer, "bias", j, rows, 1, torch.float64)
            y = y + (bias * drawn).to(y.dtype)
        return y, columns

    def back(self, layer: int, j: int, q: torch.Tensor, scale: float, seen: Any) -> torch.Tensor:
        """``scale`` W^T q."""
        w = self._matrix(layer, j, q.shape[1], seen)
        return scale * _times(w.mT, q.to(w.dtype)).to(self.dtype)


def _times(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """W x by rows: on the processor up to ten times faster where columns are few."""
    return (x.mT @ w.mT).mT


class Conditional:
    """Gaussian matrices, of which only what is seen is drawn; all in double precision."""

    dtype = torch.float64

    def __init__(self, draws: Draws) -> None:
        self.draws = draws

    def times(
        self,
        layer: int,
        j: int,
        rows: int,
        x: torch.Tensor,
        scale: float,
        bias: torch.Tensor | None,
    ) -> tuple[torch.Tensor, Any]:
        """As `Dense.times`."""
        x = scale * x.double()
        gram = x.mT @ x
        if bias is not None:
            gram = gram + bias**2
        root, inverse = _root(gram)
        z = self.draws.normals(layer, "forward", j, rows, x.shape[2], torch.float32)
        return z.double() @ root, (x, bias, inverse, z)

    def back(self, layer: int, j: int, q: torch.Tensor, scale: float, seen: Any) -> torch.Tensor:
        """As `Dense.back`."""
        x, bias, inverse, z = seen
        rows, extra = x.shape[1], int(bias is not None)
        fresh = self.draws.normals(layer, "backward", j, rows + extra, q.shape[2], torch.float64)
        fresh = fresh @ _root(q.mT @ q)[0]
        along = z.double().mT @ q - inverse.mT @ (x.mT @ fresh[:, :rows])
        if bias is not None:
            along = along - inverse.mT @ (bias * fresh[:, rows:]).expand(-1, x.shape[2], -1)
        return scale * (x @ (inverse @ along) + fresh[:, :rows])


def _root(gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """R and C of G = R^T R, shape (networks, K, K): C is what makes X C orthonormal."""
    if gram.shape[-1] == 1:
        root = gram.sqrt()
        return root, torch.where(root > 0, 1 / root, 0.0)
    length = torch.diagonal(gram, dim1=1, dim2=2).sqrt()
    shorten = torch.where(length > 0, 1 / length, 0.0)
    values, vectors = torch.linalg.eigh(shorten[:, :, None] * gram * shorten[:, None, :])
    there = values > _LEAST * values[:, -1:]
    size = torch.where(there, values, 0.0).sqrt()
    root = size[:, :, None] * vectors.mT * length[:, None, :]
    inverse = shorten[:, :, None] * vectors * torch.where(there, 1 / size, 0.0)[:, None, :]
    return root, inverse
