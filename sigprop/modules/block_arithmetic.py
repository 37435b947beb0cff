"""What GradInit computes from tensors themselves, between passes through the network.

A block is one parameter tensor. Of all blocks there are asked: values at given scales, the size of
a gradient, values after a step along it, and inner products with the starting values. Torch does
this by a call a tensor, which on a network of small layers costs as much as half a pass; on the
processor one compiled call does it for all tensors.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence

import numba
import numpy as np
import torch

from sigprop.kernels import tensors as kernels
from sigprop.modules.loss_at import Tensors

_contiguous, _address = torch.Tensor.is_contiguous, torch.Tensor.data_ptr

__all__ = ["BlockArithmetic", "CompiledBlocks", "ListedBlocks", "block_arithmetic"]


class BlockArithmetic(abc.ABC):
    """Arithmetic on theta_i = m_i theta_i^0 and on gradients by theta.

    Parameters
    ----------
    start : sequence of Tensor
        theta^0.
    places : sequence of int
        Which of them are scaled; the others keep m = 1.
    """

    @abc.abstractmethod
    def scaled(self, scales: np.ndarray) -> Tensors:
        """theta, for scales of shape (scaled tensors,); the next call may overwrite it."""

    @abc.abstractmethod
    def stepped(self, values: Tensors, g: Tensors, rate: float, size: float | None) -> Tensors:
        """theta - rate g / size, for None theta - rate sign g, of what `scaled` gave last.

        It may stand where ``values`` stood, which is then lost.
        """

    @abc.abstractmethod
    def products(self, derivative: Tensors) -> np.ndarray:
        """<d_i, theta_i^0> of every scaled tensor, float64, shape (scaled tensors,)."""

    @abc.abstractmethod
    def _powers(self, gradient: Tensors, order: int) -> np.ndarray:
        """Sum of |g|^order over every tensor, float64."""

    def norm(self, gradient: Tensors, order: int) -> float:
        """``||g||_order`` over all tensors, order 1 or 2."""
        # fsum rounds once, so that the order of the tensors does not matter to a bit.
        return math.fsum(self._powers(gradient, order).tolist()) ** (1 / order)


def block_arithmetic(start: Sequence[torch.Tensor], places: Sequence[int]) -> BlockArithmetic:
    """The faster arithmetic that ``start`` allows."""
    able = CompiledBlocks.serves(start) and not numba.config.DISABLE_JIT  # type: ignore[attr-defined]
    return CompiledBlocks(start, places) if able else ListedBlocks(start, places)


class ListedBlocks(BlockArithmetic):
    """By operations of torch on lists: on any device, for tensors of any layout and type."""

    def __init__(self, start: Sequence[torch.Tensor], places: Sequence[int]) -> None:
        self._start, self._places = list(start), list(places)

    def scaled(self, scales: np.ndarray) -> Tensors:
        values = list(self._start)
        if not self._places:
            return values
        scaled = torch._foreach_mul([values[at] for at in self._places], scales.tolist())
        for place, value in zip(self._places, scaled):
            values[place] = value
        return values

    def stepped(self, values: Tensors, g: Tensors, rate: float, size: float | None) -> Tensors:
        # Not g times rate / size, which overflows where the norm is very small.
        step = torch._foreach_sign(g) if size is None else torch._foreach_div(g, size)
        return list(torch._foreach_sub(values, step, alpha=rate))

    def products(self, derivative: Tensors) -> np.ndarray:
        found = [(derivative[at].double() * self._start[at].double()).sum() for at in self._places]
        return _gathered(found)

    def _powers(self, gradient: Tensors, order: int) -> np.ndarray:
        return _gathered(torch._foreach_norm(gradient, order, dtype=torch.float64)) ** order


class CompiledBlocks(BlockArithmetic):
    """By one compiled call for all tensors, in memory that is kept from call to call.

    Values are leaves of a graph, made once: torch does not see that they are written, so a graph
    that was built on them must be done with. That is so when the next point is asked for.
    """

    def __init__(self, start: Sequence[torch.Tensor], places: Sequence[int]) -> None:
        assert self.serves(start)
        self._start, self._places = list(start), list(places)
        self._theta = [torch.empty_like(value).requires_grad_() for value in self._start]
        self._kind = np.empty(0, start[0].numpy().dtype)
        self._lengths = np.array([value.numel() for value in self._start])
        self._own, self._at = _addresses(self._start), _addresses(self._theta)
        self._scales = np.ones(len(self._start))
        self._last: tuple[Tensors, Tensors, np.ndarray] = [], [], self._own
        self._scaled_lengths, self._scaled_own = (
            array[np.array(self._places, np.intp)] for array in (self._lengths, self._own)
        )

    @staticmethod
    def serves(start: Sequence[torch.Tensor]) -> bool:
        """Whether all tensors are on the processor, contiguous, of one type, single or double."""
        return all(
            value.device.type == "cpu"
            and value.layout is torch.strided
            and value.is_contiguous()
            and value.dtype is start[0].dtype
            and value.dtype in (torch.float32, torch.float64)
            for value in start
        )

    def scaled(self, scales: np.ndarray) -> Tensors:
        self._scales[self._places] = scales
        kernels.scaled(self._scales, self._own, self._lengths, self._kind, self._at)
        return self._theta

    def stepped(self, values: Tensors, g: Tensors, rate: float, size: float | None) -> Tensors:
        by, signs = rate / (size or 1.0), size is None
        kernels.step(by, signs, self._at, self._where(g), self._lengths, self._kind)
        return values

    def products(self, derivative: Tensors) -> np.ndarray:
        self._last = ([], [], self._own)
        held, found = _held([derivative[at] for at in self._places]), np.empty(len(self._places))
        own, lengths = self._scaled_own, self._scaled_lengths
        kernels.products(_addresses(held), own, lengths, self._kind, found)
        return found

    def _powers(self, gradient: Tensors, order: int) -> np.ndarray:
        found = np.empty(len(gradient))
        kernels.sizes(order, self._where(gradient), self._lengths, self._kind, found)
        return found

    def _where(self, gradient: Tensors) -> np.ndarray:
        """Addresses of a gradient: its norm is asked for, and then mostly a step along it."""
        if gradient is not self._last[0]:
            held = _held(gradient)
            self._last = gradient, held, _addresses(held)
        return self._last[2]


def _held(tensors: Tensors) -> Tensors:
    """The same numbers laid out one after the other."""
    return tensors if all(map(_contiguous, tensors)) else [t.contiguous() for t in tensors]


def _addresses(tensors: Tensors) -> np.ndarray:
    return np.fromiter(map(_address, tensors), np.int64, len(tensors))


def _gathered(numbers: Sequence[torch.Tensor]) -> np.ndarray:
    """Numbers from wherever they are, in one transfer where they are in one place."""
    if len({number.device for number in numbers}) == 1:
        return torch.stack(list(numbers)).cpu().numpy()
    return np.array([float(number) for number in numbers])
