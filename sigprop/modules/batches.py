"""Where a data-driven method gets its data: half-batches drawn one by one and joined leaf by leaf.

A batch is whatever the model and the loss understand: a tensor, a tuple whose first entry is
what the model reads, or a dict whose entries are arguments of its ``forward``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sigprop.errors import SpecError

__all__ = ["BatchPair", "Batches", "BatchesEnded", "HalfBatches", "joined", "model_arguments"]

Batches = Iterable[Any] | Callable[[], Any]

# A callable has no end, so that it gives nothing usable must be told from a few short batches.
_DROPPED_IN_A_ROW = 1000


class BatchesEnded(SpecError):
    """A source of batches ended and cannot be started again."""


@dataclass(frozen=True, eq=False)
class BatchPair:
    """Two batches that the caller cut: the step is taken on one, its outcome seen on the other.

    For data that cannot be joined along their first dimension, such as padded sequences.

    Parameters
    ----------
    step : batch
        S: its gradient is the one that is bounded and stepped along.
    after : batch
        S~: the loss after the step is of this one. It may share examples with ``step``.
    """

    step: Any
    after: Any


class HalfBatches:
    """Draws half-batches of one size, restarting what ends and leaving out short ones.

    Parameters
    ----------
    source : iterable or callable
        A list or loader, which is started again where it ends, an iterator, which cannot be, or
        a function without arguments.
    place : callable
        Applied to every tensor: puts it where the model is.
    """

    def __init__(
        self, source: Batches, place: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> None:
        if not callable(source) and not isinstance(source, Iterable):
            raise SpecError(
                f"batches must be an iterable or a function, got {type(source).__name__}: half-"
                "batches are drawn from it one by one. Give a list of (x, y), a DataLoader, or a "
                "function without arguments that returns the next one."
            )
        self._source = source
        self._place = place
        self._running: Iterator[Any] | None = None
        self.size: int | None = None
        self.drawn = 0
        self.dropped = 0

    def draw(self) -> Any:
        """Return the next half-batch (or `BatchPair`) of full size.

        Raises
        ------
        SpecError
            If the source has ended for good, holds nothing, or grows.
        """
        in_a_row = restarts = 0
        while True:
            batch, restarted = self._next()
            restarts += restarted
            size = _size(batch.step if isinstance(batch, BatchPair) else batch)
            if self.size is None and size > 0:
                self.size = size
            if isinstance(batch, BatchPair) or size == self.size:
                self.drawn += 1
                return _each(batch, self._place) if self._place else batch
            if self.size is not None and size > self.size:
                raise SpecError(
                    f"a half-batch of {size} examples follows one of {self.size}: gamma bounds "
                    "the norm at one size of batch. Yield batches of one size (a short last one "
                    "is dropped)."
                )
            self.dropped += 1
            in_a_row += 1
            if in_a_row > _DROPPED_IN_A_ROW or restarts > 1:
                raise SpecError(
                    f"every half-batch after the first is shorter than its {self.size} examples, "
                    "and short ones are dropped. Yield batches of one size."
                )

    def _next(self) -> tuple[Any, bool]:
        """The next batch of the source, and whether the source was started again for it."""
        if not isinstance(self._source, Iterable):
            try:
                return self._source(), False
            except StopIteration:
                raise self._ended() from None
        restarted = False
        if self._running is None:
            self._running = iter(self._source)
        try:
            return next(self._running), False
        except StopIteration:
            if self._running is self._source:  # an iterator: there is no second pass
                raise self._ended() from None
            self._running, restarted = iter(self._source), True
        try:
            return next(self._running), restarted
        except StopIteration:
            raise SpecError(
                "batches is empty: there is nothing to draw a half-batch from. Give at least one "
                "(x, y)."
            ) from None

    def _ended(self) -> BatchesEnded:
        return BatchesEnded(
            f"batches ended after {self.drawn} half-batches and cannot be started again: an "
            "iteration takes two or three of them. Give a list or a DataLoader, which is "
            "restarted, or a function that never ends."
        )


def joined(first: Any, second: Any) -> Any:
    """Join two batches of one structure, every tensor along its first dimension.

    Raises
    ------
    SpecError
        If they differ in structure or in any other dimension.
    """
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        alike = first.shape == second.shape or first.shape[1:] == second.shape[1:]
        if first.ndim == 0 or not alike:
            raise SpecError(
                f"two half-batches hold tensors of shapes {tuple(first.shape)} and "
                f"{tuple(second.shape)}, which cannot be joined along their first dimension. "
                "Pad them alike, or yield sigprop.modules.BatchPair(step, after)."
            )
        return torch.cat([first, second])
    if isinstance(first, (tuple, list)) and type(first) is type(second):
        if len(first) == len(second):
            return _like(first, [joined(a, b) for a, b in zip(first, second)])
    if isinstance(first, Mapping) and isinstance(second, Mapping) and first.keys() == second.keys():
        return {key: joined(first[key], second[key]) for key in first}
    if type(first) is type(second) and first == second:  # an option that is no data
        return first
    raise SpecError(
        f"two half-batches differ in structure: {_shown(first)} and {_shown(second)}. They are "
        "joined leaf by leaf; yield batches of one structure, or BatchPair(step, after)."
    )


def model_arguments(model: nn.Module, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What of a batch the model reads, as positional and named arguments.

    A tensor is read whole; of a tuple or list the first entry, which if it is itself a tuple or
    a dict is spread over the arguments; of a dict the entries that ``forward`` names.
    """
    if isinstance(batch, Mapping):
        named = {str(key): value for key, value in batch.items()}
        parameters = inspect.signature(model.forward).parameters
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            named = {key: value for key, value in named.items() if key in parameters}
        if not named:
            raise SpecError(
                f"a batch has the entries {', '.join(map(str, batch))}, of which forward of "
                f"{type(model).__name__} names none (it takes {', '.join(parameters)}). Name the "
                "entries as its arguments."
            )
        return (), named
    if not isinstance(batch, (tuple, list)):
        return (batch,), {}
    if not batch:
        raise SpecError("a batch is an empty tuple: its first entry is what the model reads.")
    if isinstance(batch[0], Mapping):
        return (), dict(batch[0])
    if isinstance(batch[0], (tuple, list)):
        return tuple(batch[0]), {}
    return (batch[0],), {}


def _size(batch: Any) -> int:
    """How many examples a batch holds: the length of its first tensor."""
    first = _first_tensor(batch)
    if first is None or first.ndim == 0:
        raise SpecError(
            f"a batch holds no tensor with a first dimension ({_shown(batch)}): examples are "
            "counted along it. Give tensors, or tuples or dicts of them."
        )
    return len(first)


def _first_tensor(batch: Any) -> torch.Tensor | None:
    if isinstance(batch, torch.Tensor):
        return batch
    if not isinstance(batch, (tuple, list, Mapping)):
        return None
    for part in batch.values() if isinstance(batch, Mapping) else batch:
        found = _first_tensor(part)
        if found is not None:
            return found
    return None


def _each(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if isinstance(batch, BatchPair):
        return BatchPair(_each(batch.step, change), _each(batch.after, change))
    if isinstance(batch, (tuple, list)):
        return _like(batch, [_each(value, change) for value in batch])
    if isinstance(batch, Mapping):
        return {key: _each(value, change) for key, value in batch.items()}
    return batch


def _like(sequence: Any, values: list[Any]) -> Any:
    if hasattr(sequence, "_fields"):  # a named tuple takes its entries one by one
        return type(sequence)(*values)
    return type(sequence)(values)


def _shown(batch: Any) -> str:
    if isinstance(batch, torch.Tensor):
        return f"a tensor of shape {tuple(batch.shape)}"
    if isinstance(batch, Mapping):
        return f"a dict of {', '.join(map(str, batch))}"
    if isinstance(batch, (tuple, list)):
        return f"a {type(batch).__name__} of {len(batch)}"
    return repr(batch)
