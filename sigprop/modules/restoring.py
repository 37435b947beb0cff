"""A module is measured or initialised, and everything else about it is left as it was.

Data-driven methods run a network many times. Here is what they owe to its owner: the mode of
every submodule, every buffer, the global random numbers and ``p.grad`` are as before whatever
happens, no parameter is replaced by another object, and if anything goes wrong the values of all
parameters are as before too.

While measured, a module is in evaluation mode (no dropout), except that batch normalisation takes
the statistics of the batch. Half-precision parameters are widened to float32 meanwhile and the
outcome is rounded once, at the end; autocast is off.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sigprop.errors import SpecError
from sigprop.modules.init_result import InitResult, kinds, norms
from sigprop.modules.nested import mapped

__all__ = ["Measured", "Run", "initialising", "measuring", "trainable"]

BatchNorm = Literal["batch", "initial"]
_HALF = (torch.float16, torch.bfloat16)
_NORM = nn.modules.batchnorm._BatchNorm


def trainable(model: nn.Module, method: str) -> dict[str, nn.Parameter]:
    """Return the parameters that ``method`` may change: those that require a gradient.

    A parameter that two modules share is there once.

    Raises
    ------
    SpecError
        If there is none, or if a layer has not made its parameters yet.
    """
    for name, value in model.named_parameters():
        if is_lazy(value):
            raise SpecError(
                f"parameter {name!r} is not made yet (a lazy layer): {method} has no weights to "
                "look at. Run one batch through the model first: model(x)."
            )
    found = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not found:
        raise SpecError(
            f"{type(model).__name__} has no trainable parameter: {method} has nothing to change "
            "or to measure. Set requires_grad on what it may change."
        )
    return found


@dataclass
class Measured:
    """A module while it is measured."""

    model: nn.Module
    widened: bool

    def inputs(self, value: Any) -> Any:
        """Widen half-precision tensors in ``value``, as the module itself is widened.

        Tensors of inference mode are copied: others can be differentiated through.
        """
        return mapped(self.input, value)

    def input(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same for one tensor."""
        wide = tensor.float() if tensor.dtype in _HALF else tensor
        return wide.clone() if wide.is_inference() else wide


@contextlib.contextmanager
def measuring(model: nn.Module, batch_norm: BatchNorm = "batch") -> Iterator[Measured]:
    """Within the context ``model`` may be run at will; after it all but parameters is as before.

    Parameters
    ----------
    batch_norm : {"batch", "initial"}
        Whether batch normalisation takes the statistics of the batch, or mean 0 and variance 1 as
        a network that has seen no data does in evaluation mode.

    Notes
    -----
    Parameters are not restored: see `initialising`.
    """
    if batch_norm not in ("batch", "initial"):
        raise SpecError(
            f"batch_norm is 'batch' or 'initial', got {batch_norm!r}: it says which statistics "
            "normalisation takes while a network is measured. Write batch_norm='batch'."
        )
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, value, None if value is None else value.detach().clone())
        for module in model.modules()
        for name, value in module._buffers.items()
    ]
    halves = [(p, p.data) for p in model.parameters() if p.dtype in _HALF]
    devices = {p.device for p in model.parameters()}
    gpus = [d for d in devices if d.type == "cuda"]
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.random.fork_rng(devices=gpus))
        for kind in sorted({"cpu", *(device.type for device in devices)}):
            stack.enter_context(torch.autocast(kind, enabled=False))
        try:
            for module, _ in modes:
                module.training = isinstance(module, _NORM) and batch_norm == "batch"
                if isinstance(module, _NORM) and batch_norm == "initial":
                    module.reset_running_stats()
            for parameter, data in halves:
                parameter.data = data.float()
            if halves:
                _widen_buffers(model)
            yield Measured(model, bool(halves))
        finally:
            for module, training in modes:
                module.training = training
            with torch.no_grad():
                for parameter, data in halves:
                    data.copy_(parameter.data)
                    parameter.data = data
                for module, name, value, copy in buffers:
                    module._buffers[name] = value
                    if value is not None and copy is not None and not torch.equal(value, copy):
                        value.copy_(copy)


def _widen_buffers(model: nn.Module) -> None:
    for module in model.modules():
        for name, value in module._buffers.items():
            if value is not None and value.dtype in _HALF:
                module._buffers[name] = value.float()


@dataclass
class Run:
    """One run of a method that initialises a module: what it notes on its way.

    Attributes
    ----------
    scales : dict
        Tensor name -> factor, of a method that only scales.
    changed : set
        Names of tensors that the method set anew.
    history : dict
        Column -> list.
    """

    measured: Measured
    settings: dict[str, Any]
    scales: dict[str, float] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    history: dict[str, list[Any]] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _result: InitResult | None = None

    def note(self, **row: Any) -> None:
        """Add a row to the history."""
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)

    @property
    def result(self) -> InitResult:
        """The result, once the context is left."""
        assert self._result is not None, "the run has not ended"
        return self._result


@contextlib.contextmanager
def initialising(
    model: nn.Module,
    method: str,
    settings: Mapping[str, Any],
    *,
    apply: bool,
    batch_norm: BatchNorm = "batch",
) -> Iterator[Run]:
    """Within the context a method may run ``model`` and write its parameters.

    On leaving it ``run.result`` stands. Parameters keep what the method wrote if ``apply`` is
    true and nothing was raised, and have their old values to the last bit otherwise.
    """
    parameters = dict(model.named_parameters())
    old = {name: value.detach().clone() for name, value in parameters.items()}
    start = time.perf_counter()
    keep = False
    try:
        with measuring(model, batch_norm) as measured:
            run = Run(measured, dict(settings))
            yield run
        run._result = _result(model, method, run, old, time.perf_counter() - start)
        keep = apply
    finally:
        if not keep:
            with torch.no_grad():
                for name, value in parameters.items():
                    value.copy_(old[name])


def _result(
    model: nn.Module, method: str, run: Run, old: Mapping[str, torch.Tensor], seconds: float
) -> InitResult:
    before = {name: float(value.double().norm()) for name, value in old.items()}
    after = norms(model)
    scales = {name: run.scales.get(name, _ratio(after[name], before[name])) for name in before}
    return InitResult(
        method=method,
        scales=scales,
        norms=before,
        kinds=kinds(model),
        history={name: np.array(column) for name, column in run.history.items()},
        before=run.before,
        after=run.after,
        settings=run.settings,
        seconds=seconds,
        warnings=tuple(run.warnings),
        weights={
            name: value.detach().clone()
            for name, value in model.named_parameters()
            if name in run.changed
        },
    )


def _ratio(after: float, before: float) -> float:
    if after == before:
        return 1.0
    return after / before if before > 0 else math.inf
