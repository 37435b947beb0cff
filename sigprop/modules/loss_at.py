"""The loss of a network at any values of its tensors, and its gradient there.

Two back-ends give the same numbers. ``functional`` calls the network on other tensors and writes
nothing. ``inplace`` points the parameters at other values while the loss and its gradient are
computed, and back again; a parameter's own storage is never written. Recomputation of activations
(checkpointing) happens in the backward pass, when a functional call is already undone: it then
reads the original values and the gradient is wrong without a word, at any values but the original
ones. Hence `chosen`, which compares the two at values that are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from sigprop.errors import SpecError, Unsupported
from sigprop.modules.batches import model_arguments

__all__ = ["Backend", "LossAt", "LossFunction", "agreed", "dense"]

Backend = Literal["auto", "functional", "inplace"]
LossFunction = Callable[[Any, Any], torch.Tensor]
Tensors = list[torch.Tensor]

# Two back-ends do the same operations in the same order; checkpointing is off by 0.25 or more.
TOLERANCE = 1e-4


class LossAt:
    """Loss of ``model`` on a batch, with its trainable tensors at given values.

    Parameters
    ----------
    model : nn.Module
        Within `sigprop.modules.restoring.measuring`.
    loss_fn : callable
        (output, batch) -> tensor of one number.
    parameters : mapping
        The trainable tensors; all others stay as they are.
    backend : {"functional", "inplace"}
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        parameters: dict[str, nn.Parameter],
        backend: str,
    ) -> None:
        self.backend = backend
        self._model = model
        self._loss_fn = loss_fn
        self._parameters = parameters
        self._own = {name: value.data for name, value in parameters.items()}
        self._buffers = [(b, b.detach().clone()) for b in model.buffers()]
        self._versions = [b._version for b, _ in self._buffers]
        self._places, self._buffer_places = _places(model, parameters), _buffer_places(model)

    def with_backend(self, backend: str) -> LossAt:
        """The same loss by another back-end."""
        return LossAt(self._model, self._loss_fn, self._parameters, backend)

    @contextmanager
    def at(self, values: Sequence[torch.Tensor], batch: Any) -> Iterator[tuple[torch.Tensor, Any]]:
        """Yield the loss and the leaves to differentiate by; gradients are taken inside.

        Parameters
        ----------
        values : sequence of Tensor
            One for every trainable tensor, in their order. One that requires a gradient is a leaf
            itself.

        Raises
        ------
        SpecError
            If the loss is not one number that depends on a trainable tensor.
        """
        if self.backend == "functional":
            yield self._functional(values, batch)
            return
        arguments, named = model_arguments(self._model, batch)
        try:
            for parameter, value in zip(self._parameters.values(), values):
                parameter.data = value.detach()
            output = self._model(*arguments, **named)
            loss = self._checked(self._loss_fn(output, batch))
            yield loss, list(self._parameters.values())
        finally:
            for parameter, value in zip(self._parameters.values(), self._own.values()):
                parameter.data = value
            self._restore_buffers()

    def _functional(
        self, values: Sequence[torch.Tensor], batch: Any
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        leaves = [v if v.requires_grad else v.detach().requires_grad_() for v in values]
        return self._checked(self._loss_fn(self._called(leaves, batch), batch)), leaves

    def _called(self, leaves: Sequence[torch.Tensor], batch: Any) -> Any:
        """What torch.func.functional_call does, without looking up every name at every call."""
        arguments, named = model_arguments(self._model, batch)
        if isinstance(self._model, (torch.jit.ScriptModule, nn.DataParallel)):
            raise RuntimeError(f"{type(self._model).__name__} cannot be called on other tensors")
        kept = [(tensors, name, tensors[name]) for tensors, name in self._buffer_places]
        copies = {id(own): own.detach().clone() for _, _, own in kept if own is not None}
        try:
            for tensors, name, own in kept:
                tensors[name] = copies.get(id(own))
            for tensors, name, at, _ in self._places:
                tensors[name] = leaves[at]
            return self._model(*arguments, **named)
        finally:
            for tensors, name, own in kept:
                tensors[name] = own
            for tensors, name, _, parameter in self._places:
                tensors[name] = parameter

    def _restore_buffers(self) -> None:
        """A network whose answer depends on its buffers must not remember an earlier call."""
        with torch.no_grad():
            for at, (buffer, bits) in enumerate(self._buffers):
                if buffer._version != self._versions[at]:
                    buffer.copy_(bits)
                    self._versions[at] = buffer._version

    def gradient(self, values: Sequence[torch.Tensor], batch: Any) -> tuple[float, Tensors]:
        """Loss and gradient by every trainable tensor; no graph is left."""
        if self.backend == "functional":  # nothing to undo, and no context to pay for
            loss, leaves = self._functional(values, batch)
            return loss.item(), dense(_by(loss, leaves), values)
        with self.at(values, batch) as (loss, leaves):
            return loss.item(), dense(_by(loss, leaves), values)

    def loss(self, values: Sequence[torch.Tensor], batch: Any) -> float:
        """The loss alone."""
        with self.at(values, batch) as (loss, _):
            return loss.item()

    @staticmethod
    def _checked(loss: Any) -> torch.Tensor:
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            shown = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise SpecError(
                f"loss_fn(output, batch) must return a tensor of one number, got {shown}: its "
                "gradient is what is bounded. Return a mean over the batch."
            )
        if not loss.requires_grad:
            raise SpecError(
                "the loss depends on no trainable tensor: it has no gradient to bound. Let "
                "loss_fn use the output of the model, without detach or no_grad."
            )
        return loss.reshape(()) if loss.ndim else loss


def _by(loss: torch.Tensor, leaves: Sequence[torch.Tensor]) -> Sequence[torch.Tensor | None]:
    found: Sequence[torch.Tensor | None] = torch.autograd.grad(loss, leaves, allow_unused=True)
    return found


def _places(
    model: nn.Module, parameters: dict[str, nn.Parameter]
) -> list[tuple[dict[str, Any], str, int, nn.Parameter]]:
    """Where modules hold trainable tensors, with their numbers; a shared one is held repeatedly."""
    numbers = {id(value): at for at, value in enumerate(parameters.values())}
    return [
        (module._parameters, name, numbers[id(value)], value)
        for module in model.modules()
        for name, value in module._parameters.items()
        if value is not None and id(value) in numbers
    ]


def _buffer_places(model: nn.Module) -> list[tuple[dict[str, Any], str]]:
    return [(module._buffers, name) for module in model.modules() for name in module._buffers]


def dense(found: Sequence[torch.Tensor | None], values: Sequence[torch.Tensor]) -> Tensors:
    """Gradients as they are used: zero where a tensor is unused, dense where one is sparse."""
    return [
        torch.zeros_like(value) if g is None else g.to_dense() if g.is_sparse else g
        for g, value in zip(found, values)
    ]


def agreed(loss: LossAt, backend: str, values: Tensors, batch: Any) -> tuple[LossAt, str]:
    """Choose a back-end by one gradient of both, and say why if it is not the one preferred.

    Parameters
    ----------
    backend : {"auto", "functional", "inplace"}
        What was asked for. ``inplace`` is taken without a test.
    values : list of Tensor
        The original values; the test is made beside them.

    Returns
    -------
    (LossAt, str)
        The second is empty, or a warning.

    Raises
    ------
    Unsupported
        If the functional back-end is forced and gives another gradient.
    """
    if backend == "inplace":
        return loss.with_backend("inplace"), ""
    # Tensor i is multiplied by a number of its own in 0.9 .. 1.1: at the original values
    # checkpointing would pass.
    beside = [value * (0.9 + 0.2 * (i * 0.618034 % 1)) for i, value in enumerate(values)]
    functional, inplace = loss.with_backend("functional"), loss.with_backend("inplace")
    _, right = _repeatable(inplace, beside, batch)
    try:
        _, found = _repeatable(functional, beside, batch)
        why = _difference(found, right)
    except RuntimeError as error:
        why = f"it fails ({str(error).splitlines()[0]})"
    if not why:
        return functional, ""
    if backend == "functional":
        raise Unsupported(
            f"the functional back-end does not give the gradient of this network: {why}, as with "
            "activation checkpointing. Use backend='inplace'."
        )
    return inplace, f"The functional back-end was not used: {why}. Parameters are set in place."


def _repeatable(loss: LossAt, values: Tensors, batch: Any) -> tuple[float, Tensors]:
    """A gradient with the random numbers that the next one gets too."""
    gpus = [value.device for value in values if value.device.type == "cuda"]
    with torch.random.fork_rng(gpus):
        return loss.gradient(values, batch)


def _difference(found: Tensors, right: Tensors) -> str:
    off = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(found, right))
    size = sum(float(b.double().square().sum()) for b in right)
    if off > TOLERANCE**2 * size:  # not finite: the first iteration will say so
        return f"its gradient differs by {(off / size) ** 0.5 if size else off:.2g} of the norm"
    return ""
