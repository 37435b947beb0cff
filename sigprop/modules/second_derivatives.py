"""Products of the Hessian of a loss with a vector, for networks that can and cannot give them.

By a second backward pass (``double``) where every kernel of the network has one; with attention
computed plainly where a fused kernel has none; or from gradients at two points (``fd``).

A kernel whose backward pass cannot be differentiated does not always say so: asked for gradients
by given tensors, torch leaves out a branch that does not lead to them, and the product lacks a
term. A Hessian without a term is not symmetric, which is checked once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sigprop.errors import Unsupported
from sigprop.modules.loss_at import LossAt, Tensors, dense

__all__ = ["Curvature", "Hvp", "Product"]

Hvp = Literal["auto", "double", "fd"]
Product = Callable[[Tensors], Tensors]

# h = STEP |theta| / |u|: the error of rounding, eps / h, beside that of the third derivative, h^2.
STEP = {torch.float64: 1e-5, torch.float32: 1e-3}

# <v, H u> and <u, H v> differ by rounding, far below this share of |v| |H u|.
_SYMMETRIC = 1e-2


class Curvature:
    """Gradient and Hessian of a loss at one point after the other.

    Parameters
    ----------
    loss : LossAt
    hvp : {"auto", "double", "fd"}
        ``auto`` tries a second backward pass, then plain attention, then finite differences, and
        stays with the first that works.
    """

    def __init__(self, loss: LossAt, hvp: str) -> None:
        self._loss = loss
        self._ways = {"double": ["double"], "fd": ["fd"]}.get(hvp, ["double", "plain", "fd"])
        self._trusted = False

    @property
    def way(self) -> str:
        """How products are computed: ``double``, ``plain`` (attention) or ``fd``."""
        return self._ways[0]

    @contextmanager
    def point(
        self, values: Sequence[torch.Tensor], batch: Any, expected: bool
    ) -> Iterator[tuple[float, Tensors, Product]]:
        """Yield loss, gradient and the product with the Hessian, which may be asked for inside.

        Parameters
        ----------
        expected : bool
            Whether a product will probably be asked for: then the graph of the gradient is kept,
            which costs memory. Otherwise the gradient is computed again where one is asked for.
        """
        if expected and self.way != "fd":
            with self._graph(values, batch) as (loss, leaves, found):
                product = self._product_of(values, batch, leaves, found)
                plain = [g.detach() for g in dense(found, values)]
                yield loss, plain, product
            return
        loss, plain = self._loss.gradient(values, batch)
        yield loss, plain, lambda vector: self.product(values, batch, vector)

    def product(self, values: Sequence[torch.Tensor], batch: Any, vector: Tensors) -> Tensors:
        """Hessian times ``vector`` at ``values``, in the first way that works."""
        if self.way == "fd":
            return self._difference(values, batch, vector)
        with self._graph(values, batch) as (_, leaves, found):
            return self._product_of(values, batch, leaves, found)(vector)

    @contextmanager
    def _graph(
        self, values: Sequence[torch.Tensor], batch: Any
    ) -> Iterator[tuple[float, Any, Sequence[torch.Tensor | None]]]:
        attention = sdpa_kernel(SDPBackend.MATH) if self.way == "plain" else nullcontext()
        with attention, self._loss.at(values, batch) as (loss, leaves):
            found = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
            yield loss.item(), leaves, found

    def _product_of(
        self, values: Sequence[torch.Tensor], batch: Any, leaves: Any, found: Any
    ) -> Product:
        def product(vector: Tensors) -> Tensors:
            # A gradient that does not depend on any tensor, as of a linear loss, has no graph.
            curved = [(g, u) for g, u in zip(found, vector) if g is not None and g.requires_grad]
            if not curved:
                return [torch.zeros_like(value) for value in values]
            try:
                once = self._trusted
                second = _backward(curved, leaves, values, keep=not once)
                if not once:
                    self._require_symmetry(vector, second, found, leaves, values)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self._next_way(error)
                return self.product(values, batch, vector)
            return second

        return product

    def _require_symmetry(
        self,
        u: Tensors,
        hu: Tensors,
        found: Sequence[torch.Tensor | None],
        leaves: Any,
        values: Sequence[torch.Tensor],
    ) -> None:
        """Compare <v, H u> with <u, H v>; v is u, times a number of its own for every tensor."""
        v = [part * (1.0 - (2 * (0.38 + at * 0.618034)) % 2) for at, part in enumerate(u)]
        curved = [(g, part) for g, part in zip(found, v) if g is not None and g.requires_grad]
        hv = _backward(curved, leaves, values, keep=True)
        off = abs(_dot(v, hu) - _dot(u, hv))
        if off > _SYMMETRIC * max(_norm(v) * _norm(hu), _norm(u) * _norm(hv)):
            raise RuntimeError(
                "a kernel has a backward pass without a derivative: the Hessian is not symmetric"
            )
        self._trusted = True

    def _next_way(self, error: RuntimeError) -> None:
        if len(self._ways) == 1:
            raise Unsupported(
                "a kernel of this network has no second derivative, which hvp='double' asks for "
                f"({str(error).splitlines()[0]}). Use hvp='auto' or hvp='fd'."
            ) from error
        del self._ways[0]

    def _difference(self, values: Sequence[torch.Tensor], batch: Any, vector: Tensors) -> Tensors:
        """H u = (g(theta + h u) - g(theta - h u)) / 2h, to order h^2."""
        values = [value.detach() for value in values]
        length = _norm(vector)
        if length == 0:
            return [torch.zeros_like(value) for value in values]
        step = STEP.get(values[0].dtype, 1e-3) * (_norm(values) or 1.0) / length
        sides = []
        for signed in (step, -step):
            gpus = [value.device for value in values if value.device.type == "cuda"]
            with torch.random.fork_rng(gpus):
                moved = [value + signed * u for value, u in zip(values, vector)]
                sides.append(self._loss.gradient(moved, batch)[1])
        return [(a - b) / (2 * step) for a, b in zip(*sides)]


def _backward(
    curved: Sequence[tuple[torch.Tensor, torch.Tensor]],
    leaves: Any,
    values: Sequence[torch.Tensor],
    keep: bool,
) -> Tensors:
    """The derivative by the leaves of the sum of <gradient, direction>, all directions fixed."""
    gradients, directions = zip(*curved)
    second = torch.autograd.grad(
        gradients, leaves, directions, allow_unused=True, retain_graph=keep
    )
    return dense(second, values)


def _dot(a: Tensors, b: Tensors) -> float:
    return math.fsum(float((x * y).sum(dtype=torch.float64)) for x, y in zip(a, b))


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    squares = [torch.linalg.vector_norm(t, dtype=torch.float64).square() for t in tensors]
    return math.sqrt(float(torch.stack([s.to(squares[0].device) for s in squares]).sum()))
