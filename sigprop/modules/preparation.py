"""One network prepared in several ways from one start, and what each way is worth.

`compare_preparations` measures, for every method on its own copy of the network: seconds, gradient
norm, loss after one step of the optimiser, and the variance of signals forward and of gradients
backward at every linear or convolutional layer, all on one batch that no method has seen.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from sigprop.errors import SigpropError, SpecError, UnknownName
from sigprop.modules.batches import Batches, HalfBatches, joined, model_arguments
from sigprop.modules.gradinit_objective import Objective
from sigprop.modules.gradinit_settings import Settings
from sigprop.modules.init_result import InitResult
from sigprop.modules.loss_at import LossAt, LossFunction
from sigprop.modules.restoring import measuring, trainable
from sigprop.modules.weight_layers import weight_layers
from sigprop.registry import did_you_mean

__all__ = ["PREPARATIONS", "Task", "compare_preparations", "require_preparations"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What a network is prepared for.

    Parameters
    ----------
    batches : iterable or callable
        Half-batches of (x, labels) for the methods that look at data.
    held : batch
        (x, labels) by which all methods are judged.
    loss_fn : callable
    input_shape : tuple of int
        Of one input.
    classes : int
    settings : Settings
        Of GradInit; its optimiser and learning rate take the step by which methods are judged.
    seed : int
        Of what methods draw themselves.
    """

    batches: Batches
    held: Any
    loss_fn: LossFunction
    input_shape: tuple[int, ...]
    classes: int
    settings: Settings
    seed: int = 0

    @property
    def sample(self) -> Any:
        """Inputs of one batch, two half-batches joined."""
        halves = HalfBatches(self.batches)
        return joined(halves.draw(), halves.draw())[0]


def _none(model: nn.Module, task: Task) -> InitResult | None:
    return None


def _gradinit(model: nn.Module, task: Task) -> InitResult:
    from sigprop.modules.gradinit import gradinit

    return gradinit(model, task.batches, task.loss_fn, **task.settings.given())


def _lsuv(model: nn.Module, task: Task) -> InitResult:
    from sigprop.modules.lsuv import lsuv

    return lsuv(model, task.sample, seed=task.seed)


def _metainit(model: nn.Module, task: Task) -> InitResult:
    from sigprop.modules.metainit import metainit

    return metainit(model, task.input_shape, task.classes, seed=task.seed)


def _autoinit_jacobian(model: nn.Module, task: Task) -> InitResult:
    from sigprop.modules.autoinit_jacobian import autoinit_jacobian
    from sigprop.modules.partial_jacobian import blocks_of

    if not isinstance(model, nn.Sequential):
        raise SpecError(
            f"{type(model).__name__} is no sequence of blocks, so that it is not known what a "
            "partial Jacobian is of. Call autoinit_jacobian with blocks of your own."
        )
    return autoinit_jacobian(blocks_of(model), task.sample, seed=task.seed)


def _autoinit_analytic(model: nn.Module, task: Task) -> InitResult:
    from sigprop.modules.autoinit_analytic import autoinit_analytic

    return autoinit_analytic(model, example=task.sample, seed=task.seed)


def _kraehenbuehl(model: nn.Module, task: Task) -> InitResult:
    from sigprop.modules.kraehenbuehl import kraehenbuehl

    return kraehenbuehl(model, task.sample, seed=task.seed)


Preparation = Callable[[nn.Module, Task], InitResult | None]

#: Name on a command line -> what prepares a network in place, with the settings of its paper.
PREPARATIONS: dict[str, Preparation] = {
    "none": _none,
    "gradinit": _gradinit,
    "lsuv": _lsuv,
    "metainit": _metainit,
    "autoinit-jacobian": _autoinit_jacobian,
    "autoinit-analytic": _autoinit_analytic,
    "kraehenbuehl": _kraehenbuehl,
}


def require_preparations(names: Iterable[str]) -> None:
    """Raise UnknownName, before any work, if a method is not known."""
    for name in names:
        if name not in PREPARATIONS:
            raise UnknownName(
                f"no method of preparation is called {name!r}."
                f"{did_you_mean(name, PREPARATIONS)} Known: {', '.join(PREPARATIONS)}."
            )


def compare_preparations(
    model: nn.Module,
    names: Sequence[str],
    task: Task,
    *,
    progress: Callable[[str], None] | None = None,
) -> xr.Dataset:
    """Prepare copies of ``model`` by every method and measure each.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    names : sequence of str
        Keys of `PREPARATIONS`.
    progress : callable, optional
        Called with the name of a method before it runs.

    Returns
    -------
    xarray.Dataset
        Over ``preparation``: ``seconds``, ``grad_norm``, ``loss``, ``stepped_loss``, and
        ``refused``, the words of a method that cannot prepare this network (its numbers are then
        NaN). Over ``preparation`` and ``layer``: ``forward_variance`` of the outputs, and
        ``backward_variance`` of the gradient of one example's loss by them.

    Raises
    ------
    UnknownName
        Before any work.
    """
    require_preparations(names)
    layers = [layer.name for layer in weight_layers(model, "the comparison")[0]]
    empty: dict[str, Any] = dict.fromkeys(("grad_norm", "loss", "stepped_loss"), math.nan)
    empty |= {f"{way}_variance": np.full(len(layers), np.nan) for way in ("forward", "backward")}
    rows = []
    for name in names:
        if progress is not None:
            progress(name)
        prepared, started = copy.deepcopy(model), time.perf_counter()
        row: dict[str, Any] = {"refused": ""}
        try:
            PREPARATIONS[name](prepared, task)
            row["seconds"] = time.perf_counter() - started
            row |= _measured(prepared, layers, task)
        except SigpropError as error:
            row |= empty | {"refused": str(error), "seconds": time.perf_counter() - started}
        rows.append(row)
    across = ("grad_norm", "loss", "stepped_loss", "seconds", "refused")
    data = {name: ("preparation", [row[name] for row in rows]) for name in across}
    along = ("forward_variance", "backward_variance")
    signals = {
        name: (("preparation", "layer"), np.array([row[name] for row in rows])) for name in along
    }
    found = xr.Dataset(data | signals, {"preparation": list(names), "layer": layers})
    units = {"seconds": "s", "grad_norm": "1", "loss": "nat", "stepped_loss": "nat"}
    for variable, values in found.data_vars.items():
        values.attrs["units"] = units.get(str(variable), "1")
    settings = task.settings
    return found.assign_attrs(optimizer=settings.optimizer, lr=settings.lr, gamma=settings.gamma)


def _measured(model: nn.Module, layers: list[str], task: Task) -> dict[str, Any]:
    parameters = trainable(model, "the comparison")
    with measuring(model) as measured, torch.enable_grad():
        batch = tuple(measured.inputs(part) for part in task.held)
        loss = LossAt(model, task.loss_fn, parameters, "inplace")
        start = [value.data for value in parameters.values()]
        objective = Objective(loss, start, [], task.settings)
        row: dict[str, Any] = dict(objective.measured(np.ones(0), batch, batch))
        return row | _variances(model, layers, batch, task.loss_fn)


def _variances(
    model: nn.Module, layers: list[str], batch: Any, loss_fn: LossFunction
) -> dict[str, np.ndarray]:
    """Variance of every layer's output, and of the gradient of an example's loss by it."""
    outputs: dict[str, torch.Tensor] = {}
    modules = dict(model.named_modules())

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            outputs.setdefault(name, output)

        return hook

    handles = [modules[name].register_forward_hook(keep(name)) for name in layers]
    try:
        arguments, named = model_arguments(model, batch)
        loss = loss_fn(model(*arguments, **named), batch)
    finally:
        for handle in handles:
            handle.remove()
    gradients = torch.autograd.grad(loss, list(outputs.values()), allow_unused=True)
    found = {way: np.full(len(layers), np.nan) for way in ("forward", "backward")}
    for (name, output), gradient in zip(outputs.items(), gradients):
        at, examples = layers.index(name), len(batch[1])
        found["forward"][at] = float(output.detach().double().var(correction=0))
        if gradient is not None:  # of the mean over the batch
            found["backward"][at] = float((examples * gradient.double()).var(correction=0))
    return {f"{way}_variance": values for way, values in found.items()}
