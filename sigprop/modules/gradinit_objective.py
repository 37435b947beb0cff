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
from sigprop.modules.gradinit_settings import Settings
from sigprop.modules.loss_at import LossAt, Tensors
from sigprop.modules.second_derivatives import Curvature

__all__ = ["Objective", "Row"]

Row = dict[str, Any]


class Objective:
    """Norm and stepped loss of one network, and their derivatives by the scales.

    Where all tensors are treated alike it is done by torch's operations on lists, for on small
    networks a call a tensor costs as much as the network.

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
        self._start, self._places = list(start), list(places)
        self._lr, self._gamma = settings.lr, settings.gamma
        self._adam = settings.optimizer == "adam"
        self._raw = settings.optimizer == "sgd" and not settings.normalize
        self._second_order = settings.second_order and not self._adam

    def at(self, scales: np.ndarray) -> Tensors:
        """theta, for scales of shape (scaled tensors,)."""
        values = list(self._start)
        if not self._places:
            return values
        scaled = torch._foreach_mul([values[at] for at in self._places], scales.tolist())
        for place, value in zip(self._places, scaled):
            values[place] = value
        return values

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
        values = self.at(scales)
        with self.curvature.point(values, step, expected) as (loss0, g, product):
            size = self._norm(g)
            row: Row = {"case": "o", "loss0": loss0, "loss1": math.nan, "grad_norm": size}
            _require_finite("loss", loss0)
            _require_finite("gradient norm", size)
            if size > self._gamma:
                row["case"] = "c"
                found = product(self._direction(g, size))
        if row["case"] == "o":
            row["loss1"], found = self._stepped(values, step, after(), g, size)
            _require_finite("loss after the step", row["loss1"])
        q = self._by_scale(found) / (1.0 if row["case"] == "c" else self._lr)
        what = "norm" if row["case"] == "c" else "stepped loss"
        _require_finite(f"derivative of the {what}", float(np.abs(q).sum()))
        return q, row

    def measured(self, scales: np.ndarray, step: Any, after: Any) -> dict[str, float]:
        """``grad_norm`` and ``loss`` of S, ``stepped_loss`` of S~; infinite where they are."""
        values = self.at(scales)
        loss0, g = self._loss.gradient(values, step)
        size = self._norm(g)
        stepped = self._loss.loss(self._moved(values, g, size), after)
        return {"grad_norm": size, "loss": loss0, "stepped_loss": stepped}

    def _stepped(
        self, values: Tensors, step: Any, after: Any, g: Tensors, size: float
    ) -> tuple[float, Tensors]:
        """Stepped loss, and its derivative by theta."""
        loss1, found = self._loss.gradient(self._moved(values, g, size), after)
        if self._second_order and size > 0:
            # u = g / |g| turns with theta: its derivative is (1 - u u^T) H / |g|; that of g is H.
            u = self._direction(g, size)
            along = 0.0 if self._raw else sum(float((d * v).sum()) for d, v in zip(found, u))
            across = [d - along * v for d, v in zip(found, u)]
            bent = self.curvature.product(values, step, across)
            eta = self._lr / (1.0 if self._raw else size)
            found = [d - eta * h for d, h in zip(found, bent)]
        return loss1, found

    def _moved(self, values: Tensors, g: Tensors, size: float) -> Tensors:
        step = g if self._raw else self._direction(g, size)
        return list(torch._foreach_sub(values, step, alpha=self._lr))

    def _direction(self, g: Tensors, size: float) -> Tensors:
        """u: the normalised step, which is the derivative of the norm by g as well."""
        if self._adam:
            return list(torch._foreach_sign(g))
        return list(torch._foreach_div(g, size or 1.0))

    def _norm(self, g: Tensors) -> float:
        order = 1 if self._adam else 2
        parts = torch._foreach_norm(g, order, dtype=torch.float64)
        # fsum rounds once, so that the order of the tensors does not matter to a bit.
        return math.fsum(part**order for part in _gathered(parts).tolist()) ** (1 / order)

    def _by_scale(self, found: Tensors) -> np.ndarray:
        pairs = [[tensors[at] for at in self._places] for tensors in (found, self._start)]
        products = torch._foreach_mul(*pairs)
        return _gathered([product.sum(dtype=torch.float64) for product in products])


def _gathered(numbers: Sequence[torch.Tensor]) -> np.ndarray:
    """Numbers from wherever they are, in one transfer where they are in one place."""
    if len({number.device for number in numbers}) == 1:
        return torch.stack(list(numbers)).cpu().numpy()
    return np.array([float(number) for number in numbers])


def _require_finite(what: str, value: float) -> None:
    if not math.isfinite(value):
        raise NonFinite(
            f"the {what} is {value}: no scale can be learned from it, and nothing was changed. "
            "Use float64 (model.double()), a smaller lr, or prepare the network with "
            "sigprop.modules.lsuv first."
        )
