"""One run of GradInit: draws batches, steps the scales, keeps the course and what to say of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError
from sigprop.modules.batches import Batches, BatchesEnded, BatchPair, HalfBatches, joined
from sigprop.modules.gradinit_objective import Objective, Row
from sigprop.modules.gradinit_settings import Settings
from sigprop.modules.loss_at import LossAt, LossFunction, agreed
from sigprop.modules.restoring import Measured
from sigprop.modules.scale_steps import ScaleSteps

__all__ = ["Log", "Run"]

Log = Callable[[Row], None]

_COLUMNS = ("iteration", "case", "loss0", "loss1", "grad_norm", "smallest_scale", "largest_scale")
# Memory of the stepped loss by which the best feasible scales are chosen: about ten iterations.
_SMOOTH = 0.9


class Run:
    """A network that is measured, its batches, and the settings.

    Parameters
    ----------
    parameters : dict
        The trainable tensors by name.
    """

    def __init__(
        self,
        measured: Measured,
        batches: Batches,
        loss_fn: LossFunction,
        parameters: dict[str, nn.Parameter],
        settings: Settings,
    ) -> None:
        start = {name: value.data for name, value in parameters.items()}
        devices = {value.device for value in start.values()}
        device = next(iter(devices)) if len(devices) == 1 else None

        def place(leaf: torch.Tensor) -> torch.Tensor:
            widened: torch.Tensor = measured.input(leaf)
            return widened if device in (None, widened.device) else widened.to(device)

        self._names = [
            name
            for name, value in start.items()
            if bool(value.any()) and not settings.excludes(name, parameters[name])
        ]
        if not self._names:
            raise SpecError(
                "every trainable tensor is zero or excluded, so there is no scale to learn "
                f"(exclude={settings.plain()['exclude']}). Initialise the network, or exclude less."
            )
        self._settings = settings
        self._batches = HalfBatches(batches, place)
        self._start = start
        self._loss = LossAt(measured.model, loss_fn, parameters, "inplace")
        self._objective: Objective | None = None
        self._last: tuple[Any, Any] | None = None
        self._rows: list[Row] = []
        self.warnings: list[str] = []

    @property
    def way(self) -> str:
        """How products with the Hessian were computed in the end: double, plain or fd."""
        assert self._objective is not None
        return self._objective.curvature.way

    @property
    def backend(self) -> str:
        """The back-end that was chosen."""
        return self._loss.backend

    def iterate(self, log: Log | None = None) -> dict[str, float]:
        """Return the learned scale of every scaled tensor.

        Raises
        ------
        NonFinite
            With the number of the iteration.
        """
        settings = self._settings
        optimiser = self._optimiser()
        scales = np.ones(len(self._names))
        best, least, smooth, feasible = scales, math.inf, 0.0, 0
        for iteration in range(settings.steps):
            step, after = self._draw()
            objective = self._objective or self._choose(step)
            # A norm that was above gamma twice will be so again; one that straddles it alternates.
            expected = [row["case"] for row in self._rows[-2:]] == ["c", "c"]
            try:
                derivative, row = objective.derivative(scales, step, after, expected)
            except NonFinite as error:
                raise NonFinite(f"iteration {iteration}: {error}") from error
            if row["case"] == "o":
                feasible += 1
                smooth = _SMOOTH * smooth + (1 - _SMOOTH) * row["loss1"]
                if smooth / (1 - _SMOOTH**feasible) < least:
                    best, least = scales, smooth / (1 - _SMOOTH**feasible)
            scales = optimiser.step(scales, derivative, row["case"])
            reached = scales.tolist()
            row["iteration"] = iteration
            row["smallest_scale"], row["largest_scale"] = min(reached), max(reached)
            self._rows.append(row)
            if log is not None:
                log(dict(row))
        if settings.final == "best_feasible" and feasible:
            scales = best
        self._floored(scales)
        return dict(zip(self._names, scales.tolist()))

    def held_out(self, scales: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
        """Norm, loss and stepped loss at scales 1 and at ``scales``, on batches not yet drawn."""
        assert self._objective is not None and self._last is not None
        try:
            step, draw = self._draw()
            after = draw()
        except BatchesEnded:
            step, after = self._last
            self.warnings.append(
                "The batches ended with the last iteration: the numbers before and after are of "
                "a batch that was learned from."
            )
        found = np.array([scales[name] for name in self._names])
        return (
            self._objective.measured(np.ones_like(found), step, after),
            self._objective.measured(found, step, after),
        )

    def history(self) -> dict[str, np.ndarray]:
        """Columns of equal length, a row an iteration; ``loss1`` is NaN in case c."""
        return {name: np.array([row[name] for row in self._rows]) for name in _COLUMNS}

    # ------------------------------------------------------------------ parts of an iteration

    def _optimiser(self) -> ScaleSteps:
        settings = self._settings
        return ScaleSteps(
            np.array([settings.lower(name) for name in self._names]),
            np.full(len(self._names), settings.max_scale or math.inf),
            tau=settings.tau,
            clip=settings.clip or math.inf,
            betas=settings.betas,
            eps=settings.eps,
            moments=settings.moments,
        )

    def _choose(self, step: Any) -> Objective:
        backend, start = self._settings.backend, list(self._start.values())
        self._loss, why = agreed(self._loss, backend, start, step)
        self.warnings += [why] if why else []
        scaled = set(self._names)
        places = [at for at, name in enumerate(self._start) if name in scaled]
        self._objective = Objective(self._loss, start, places, self._settings)
        return self._objective

    def _draw(self) -> tuple[Any, Callable[[], Any]]:
        """S, and what draws S~ if it is asked for."""
        first = self._batches.draw()
        if isinstance(first, BatchPair):
            self._last = first.step, first.after
            return first.step, lambda: first.after
        whole = joined(first, self._batches.draw())
        self._last = whole, whole

        def after() -> Any:
            if self._settings.overlap == 1:
                return whole
            shared = first if self._settings.overlap else self._batches.draw()
            return joined(shared, self._batches.draw())

        return whole, after

    # ------------------------------------------------------------------ what to say of it

    def judge(self, before: dict[str, float], after: dict[str, float]) -> None:
        """Add a warning where the outcome is not what the method promises."""
        settings = self._settings
        assert settings.gamma is not None
        if not any(row["case"] == "o" for row in self._rows):
            lowest = min(row["grad_norm"] for row in self._rows)
            source = "default" if "gamma" in settings.defaults else "given"
            self.warnings.append(
                f"gamma = {settings.gamma:g} ({source}) was never reached: in {settings.steps} "
                f"iterations the gradient norm of a batch was {lowest:.4g} at the lowest and "
                f"{self._rows[0]['grad_norm']:.4g} at the start, so the loss was never looked at. "
                "A scale moves by at most about steps x tau = "
                f"{settings.steps * settings.tau:.3g}: raise either, or gamma."
            )
        if after["loss"] > before["loss"] and after["stepped_loss"] > before["stepped_loss"]:
            self.warnings.append(
                f"After one step the loss is {after['stepped_loss']:.4g}, and it would have been "
                f"{before['stepped_loss']:.4g} at scales of 1: the norm was lowered by shrinking "
                "the network, away from its fit. Raise gamma, or start from other weights."
            )
        if self._batches.dropped:
            self.warnings.append(
                f"{self._batches.dropped} half-batches shorter than {self._batches.size} examples "
                "were dropped."
            )

    def _floored(self, scales: np.ndarray) -> None:
        pairs = zip(self._names, scales.tolist())
        low = [name for name, scale in pairs if scale <= self._settings.lower(name)]
        if low:
            self.warnings.append(
                f"{len(low)} scales ended at their floor ({', '.join(low[:4])}"
                f"{', ...' if len(low) > 4 else ''})."
            )
