"""Pixels: which of them a convolution reads, and how large the image is afterwards.

An image of rows x columns pixels carries a vector of channels at each of them. A kernel of
k x k taps, k odd, is centred on a pixel; tap t of output pixel p reads one input pixel, or
nothing where it falls over a border of zeros. That is all that a convolution knows of the
plane, and here it is one table of integers. With stride s the output pixels are those input
pixels whose row and column are multiples of s, so nothing moves.

Pixels are numbered row by row, and taps alike.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["PADDINGS", "Size", "reached", "strided", "taps"]

Size = tuple[int, int]

PADDINGS = ("zero", "circular")


def strided(size: Size, stride: int) -> Size:
    """The size of the image that is left of ``size`` by a stride: rounded up."""
    return (-(-size[0] // stride), -(-size[1] // stride))


@lru_cache(maxsize=256)
def taps(size: Size, kernel: int, stride: int, padding: str) -> np.ndarray:
    """Which input pixel every tap of every output pixel reads.

    Returns
    -------
    ndarray, int64, shape (output pixels, kernel ** 2), read-only
        -1 where the tap falls beyond a border of zeros. No input pixel stands twice in a
        column.

    Examples
    --------
    >>> taps((1, 4), 3, 1, "zero")[:, 3:6].tolist()  # the middle row of the kernel
    [[-1, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, -1]]
    >>> taps((1, 4), 3, 2, "circular")[:, 3:6].tolist()
    [[3, 0, 1], [1, 2, 3]]
    """
    reach = np.arange(kernel) - kernel // 2
    row = (np.arange(0, size[0], stride)[:, None] + reach)[:, None, :, None]
    column = (np.arange(0, size[1], stride)[:, None] + reach)[None, :, None, :]
    if padding == "circular":
        found = (row % size[0]) * size[1] + column % size[1]
    else:
        inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
        found = np.where(inside, row * size[1] + column, -1)
    index = np.ascontiguousarray(found.reshape(-1, kernel * kernel), np.int64)
    index.flags.writeable = False
    return index


@lru_cache(maxsize=256)
def reached(size: Size, kernel: int, stride: int, padding: str) -> np.ndarray:
    """Which output pixel every input pixel reaches through every tap: `taps` turned round.

    Returns
    -------
    ndarray, int64, shape (input pixels, kernel ** 2), read-only
        -1 where no output pixel reads it through that tap.

    Examples
    --------
    >>> reached((1, 4), 3, 2, "circular")[:, 3:6].tolist()
    [[-1, 0, -1], [1, -1, 0], [-1, 1, -1], [0, -1, 1]]
    """
    forward = taps(size, kernel, stride, padding)
    index = np.full((size[0] * size[1], forward.shape[1]), -1, np.int64)
    output, tap = np.nonzero(forward >= 0)
    index[forward[output, tap], tap] = output
    index.flags.writeable = False
    return index
