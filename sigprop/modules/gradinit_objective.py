"""What GradInit lowers: the norm of a gradient, or the loss after one step along it.

All of it is a function of the scales m alone, theta_i = m_i theta_i^0. A derivative by m_i is
q_i = <d_i, theta_i^0> with d_i that by theta_i, so no factor is ever divided out and a scale of 0
has a derivative like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sigprop.errors import NonFinite
from sigprop.modules.block_arithmetic import block_arithmetic
from sigprop.modules.gradinit_settings import Settings
from sigprop.modules.loss_at import LossAt, Tensors
from sigprop.modules.second_derivatives import Curvature, Product

__all__ = ["Objective", "Row"]

Row = dict[str, Any]


class Objective:
    """Norm and stepped loss of one network, and their derivatives by the scales.

    Parameters
    ----------
    start : sequence of Tensor
        theta^0: every tensor that is counted in the norm and moved by the step.
    places : sequence of int
        Which of them are scaled.
    """

    def __init__(
        self, loss: LossAt, start: Sequence[torch.Tensor], places: Sequence[int], settings: Settings
    ) -> None:
        assert settings.lr is not None and settings.gamma is not None
        self.curvature = Curvature(loss, settings.hvp)
        self._loss = loss
        self._blocks = block_arithmetic(start, places)
        self._lr, self._gamma = settings.lr, settings.gamma
        self._adam = settings.optimizer == "adam"
        self._order = 1 if self._adam else 2
        self._raw = settings.optimizer == "sgd" and not settings.normalize
        self._second_order = settings.second_order and not self._adam

    def derivative(
        self, scales: np.ndarray, step: Any, after: Callable[[], Any], expected: bool
    ) -> tuple[np.ndarray, Row]:
        """Derivative, by every scale, of what this iteration looks at.

        Parameters
        ----------
        step : batch
            S.
        after : callable
            Returns S~; called in case o only.
        expected : bool
            Whether case c is likely: the graph of the gradient is then kept.

        Returns
        -------
        (ndarray, dict)
            ``case`` "c": of the norm; "o": of the stepped loss, over eta. With it ``loss0``, of
            S, ``grad_norm`` and in case o ``loss1``.

        Raises
        ------
        NonFinite
            If any of these is not finite.
        """
        values = self._blocks.scaled(scales)
        if expected:
            with self.curvature.point(values, step, expected) as (loss0, g, product):
                size, found = self._lowered(loss0, g, product)
        else:
            loss0, g = self._loss.gradient(values, step)
            size, found = self._lowered(
                loss0, g, lambda vector: self.curvature.product(values, step, vector)
            )
        case = "o" if found is None else "c"
        row: Row = {"case": case, "loss0": loss0, "loss1": math.nan, "grad_norm": size}
        if found is None:
            row["loss1"], found = self._stepped(scales, values, step, after(), g, size)
            _require_finite("loss after the step", row["loss1"])
        q = self._blocks.products(found) / (1.0 if row["case"] == "c" else self._lr)
        what = "norm" if row["case"] == "c" else "stepped loss"
        _require_finite(f"derivative of the {what}", sum(q.tolist()))
        return q, row

    def _lowered(self, loss0: float, g: Tensors, product: Product) -> tuple[float, Tensors | None]:
        """The norm, and where it is above gamma its derivative by theta."""
        size = self._blocks.norm(g, self._order)
        _require_finite("loss", loss0)
        _require_finite("gradient norm", size)
        return size, product(self._direction(g, size)) if size > self._gamma else None

    def measured(self, scales: np.ndarray, step: Any, after: Any) -> dict[str, float]:
        """``grad_norm`` and ``loss`` of S, ``stepped_loss`` of S~; infinite where they are."""
        values = self._blocks.scaled(scales)
        loss0, g = self._loss.gradient(values, step)
        size = self._blocks.norm(g, self._order)
        stepped = self._loss.loss(self._moved(values, g, size), after)
        return {"grad_norm": size, "loss": loss0, "stepped_loss": stepped}

    def _stepped(
        self,
        scales: np.ndarray,
        values: Tensors,
        step: Any,
        after: Any,
        g: Tensors,
        size: float,
    ) -> tuple[float, Tensors]:
        """Stepped loss, and its derivative by theta; ``values`` and g are used up."""
        moved = self._moved(values, g, size)
        u = self._direction(g, size) if self._second_order and size > 0 else None
        g.clear()  # its memory, still in the cache, serves the next gradient
        loss1, found = self._loss.gradient(moved, after)
        if u is not None:
            # u = g / |g| turns with theta: its derivative is (1 - u u^T) H / |g|; that of g is H.
            along = 0.0 if self._raw else sum(float((d * v).sum()) for d, v in zip(found, u))
            across = [d - along * v for d, v in zip(found, u)]
            bent = self.curvature.product(self._blocks.scaled(scales), step, across)
            eta = self._lr / (1.0 if self._raw else size)
            found = [d - eta * h for d, h in zip(found, bent)]
        return loss1, found

    def _moved(self, values: Tensors, g: Tensors, size: float) -> Tensors:
        """theta - eta A[g]."""
        length = None if self._adam else 1.0 if self._raw else size or 1.0
        return self._blocks.stepped(values, g, self._lr, length)

    def _direction(self, g: Tensors, size: float) -> Tensors:
        """u: the normalised step, which is the derivative of the norm by g as well."""
        if self._adam:
            return list(torch._foreach_sign(g))
        return list(torch._foreach_div(g, size or 1.0))


def _require_finite(what: str, value: float) -> None:
    if not math.isfinite(value):
        raise NonFinite(
            f"the {what} is {value}: no scale can be learned from it, and nothing was changed. "
            "Use float64 (model.double()), a smaller lr, or prepare the network with "
            "sigprop.modules.lsuv first."
        )
