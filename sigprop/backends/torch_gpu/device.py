"""A place where torch works: its free memory, its arithmetic, and what running out looks like."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sigprop import memory
from sigprop.errors import SpecError, Unsupported

__all__ = ["Cuda", "Device", "Processor", "named"]


class Device:
    """Base of the places.

    Attributes
    ----------
    kind : str
        What torch calls it.
    numbers : int
        In one array of a block; beyond so many nothing is gained.
    precisions : tuple of str
        Of products.
    """

    kind: str
    numbers: int
    precisions: tuple[str, ...]

    def free(self) -> float:
        """Bytes that a block may still take."""
        raise NotImplementedError

    def total(self) -> float:
        """Bytes that there are in all."""
        raise NotImplementedError

    def name(self) -> str:
        """Which make it is."""
        return self.kind

    def budget(self) -> float:
        """Bytes for the arrays of one block: a power of two, so that it seldom differs by the day.

        Half of what is free, and a quarter of all at most: the rest is for what is not counted.
        """
        most = min(self.free() / 2, self.total() / 4)
        return 2.0 ** math.floor(math.log2(max(most, 1.0)))

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """An array for draws; the large ones of a run are all made here."""
        return torch.empty(shape, dtype=dtype, device=self.kind)

    @contextmanager
    def hold(self, precision: str) -> Iterator[None]:
        """Do a block's work within: with ``precision``, and without gradients of torch's own."""
        with torch.no_grad():
            yield

    def exhausted(self, error: BaseException) -> bool:
        """Whether ``error`` says that memory ran out."""
        return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
            isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
        )

    def release(self) -> None:
        """Give back what torch keeps for later."""


class Processor(Device):
    """The processor: a block a worker, each on one thread."""

    kind = "cpu"
    numbers = 2**22
    precisions = ("float32", "bf16")

    _lock = threading.Lock()
    _users = 0
    _threads = 1

    def free(self) -> float:
        return memory.available() / (os.cpu_count() or 1)

    def total(self) -> float:
        return memory.available()

    @contextmanager
    def hold(self, precision: str) -> Iterator[None]:
        # The order of a sum, and with it its last bit, would depend on the number of threads.
        cls = Processor
        with cls._lock:
            if not cls._users:
                cls._threads = torch.get_num_threads()
            cls._users += 1
            torch.set_num_threads(1)
        try:
            with super().hold(precision):
                yield
        finally:
            with cls._lock:
                cls._users -= 1
                torch.set_num_threads(cls._threads)


class Cuda(Device):
    """A GPU: one block at a time, whoever asks."""

    kind = "cuda"
    numbers = 2**28
    precisions = ("float32", "tf32", "bf16")

    _lock = threading.RLock()

    def free(self) -> float:
        self.release()
        return float(torch.cuda.mem_get_info()[0])

    def total(self) -> float:
        return float(torch.cuda.mem_get_info()[1])

    def name(self) -> str:
        return str(torch.cuda.get_device_name())

    @contextmanager
    def hold(self, precision: str) -> Iterator[None]:
        with Cuda._lock, super().hold(precision):
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(before)

    def release(self) -> None:
        torch.cuda.empty_cache()


def named(kind: str, precision: str) -> Device:
    """The device called ``kind``, which can multiply in ``precision``.

    Raises
    ------
    SpecError
        If the device has not that precision.
    Unsupported
        If it is a GPU and there is none.
    """
    there = torch.cuda.is_available()
    if kind == "cuda" and not there:
        raise Unsupported(
            f"device 'cuda' was asked for, and torch {torch.__version__} finds no GPU here, so "
            "nothing could be drawn there. Use --device cpu, or a build of torch for your GPU."
        )
    device = Cuda() if kind != "cpu" and there else Processor()
    if precision not in device.precisions:
        raise SpecError(
            f"precision {precision!r} is not one of device {device.kind!r}, which has "
            f"{', '.join(device.precisions)}: no error could be measured. Use one of these."
        )
    return device
