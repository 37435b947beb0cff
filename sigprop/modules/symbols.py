"""Sequences of symbols to learn a rule from: the smallest task that needs attention.

A sequence is an image of one row: at every place the channel of its symbol is on and the others
are off, and every place has a label of its own. All is drawn from a seed, and nothing is read.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from sigprop.errors import SpecError
from sigprop.modules.data import ImageSet, Part

__all__ = ["reversal"]


def reversal(
    *,
    length: int = 8,
    vocabulary: int = 8,
    train: int = 3200,
    validation: int = 0,
    test: int = 1000,
    seed: int = 0,
) -> ImageSet:
    """Sequences of independent symbols, each to be told backwards.

    The label of place i is the symbol at place ``length - 1 - i``, of which the place itself says
    nothing: a network that does not look elsewhere stays at chance, ln ``vocabulary`` nat.

    Parameters
    ----------
    length, vocabulary : int
        Places of a sequence, and symbols, uniform.
    train, validation, test : int
        Sequences in each part, drawn independently.
    seed : int

    Returns
    -------
    ImageSet
        Pixels of shape (n, vocabulary, 1, length), 0 or 1; taken, they are scaled to a mean square
        of 1. Labels have shape (n, length).

    Raises
    ------
    SpecError
        If a number is out of its range.

    Examples
    --------
    >>> images, labels = reversal(length=3, vocabulary=4).test.take(slice(1))
    >>> images.argmax(1).flatten().tolist(), labels[0].tolist()
    ([3, 3, 1], [1, 3, 3])
    """
    numbers = {"length": (length, 1), "vocabulary": (vocabulary, 2), "train": (train, 1),
               "validation": (validation, 0), "test": (test, 1), "seed": (seed, 0)}  # fmt: skip
    for name, (value, least) in numbers.items():
        if value < least:
            raise SpecError(f"{name} of a reversal must be {least} or more, got {value}.")
    sizes = (train, validation, test)
    drawn = np.random.default_rng(seed).integers(0, vocabulary, (sum(sizes), length))
    kept, chosen, told = (
        _part(symbols, vocabulary) for symbols in torch.from_numpy(drawn).split(sizes)
    )
    whole = f"reversal {length} {vocabulary} {sizes} ".encode() + drawn.tobytes()
    digest = hashlib.sha256(whole).hexdigest()
    return ImageSet("reversal", kept, chosen, told, classes=vocabulary, digest=digest)


def _part(symbols: torch.Tensor, vocabulary: int) -> Part:
    rows = torch.nn.functional.one_hot(symbols, vocabulary).to(torch.uint8)
    pixels = rows.transpose(1, 2).unsqueeze(2).contiguous()
    return Part(pixels, symbols.flip(1), mean=0.0, deviation=vocabulary**-0.5)
