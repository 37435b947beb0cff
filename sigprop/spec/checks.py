"""Checks of single numbers, which say what was wrong with which value and why it matters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sigprop.errors import SpecError

__all__ = ["ADDRESSES", "check_count", "check_number"]

# Layers, replicas and the numbers of a layer are words of 32 bits in the address of a draw.
ADDRESSES = 2**32


def check_count(
    name: str, value: Any, *, least: int = 1, addressed: bool = False, why: str = ""
) -> int:
    """Return ``value`` as an int, or raise SpecError if it is no integer >= ``least``.

    ``addressed`` says that it must be below `ADDRESSES`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        reason = f" {why}" if why else ""
        raise SpecError(f"{name} must be an integer of at least {least}, got {value!r}.{reason}")
    if addressed and value >= ADDRESSES:
        raise SpecError(
            f"{name} must be below 2**32, got {value!r}: draws are found by addresses of 32 bits, "
            "and beyond these they would repeat. Use a smaller number."
        )
    return int(value)


def check_number(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
    why: str = "",
) -> float:
    """Return ``value`` as a finite float within the bounds, or raise SpecError."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    inside = (number > low if open_low else number >= low) and (
        number < high if open_high else number <= high
    )
    if isinstance(value, bool) or not math.isfinite(number) or not inside:
        left = "(" if open_low or low == -math.inf else "["
        right = ")" if open_high or high == math.inf else "]"
        span = f"{left}{low:g}, {high:g}{right}"
        reason = f" {why}" if why else ""
        raise SpecError(f"{name} must be a number in {span}, got {value!r}.{reason}")
    return number
