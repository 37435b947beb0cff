"""The look of every figure, applied within a context and never to the process."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib.style

__all__ = ["PALETTE", "style"]

PALETTE = ("#0b5394", "#c8553d", "#3c8d5a", "#7a5195", "#b8860b", "#555555")
_SHEET = Path(__file__).with_name("sigprop.mplstyle")


def style() -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws as the package does, and not after it."""
    context: AbstractContextManager[None] = matplotlib.style.context(["default", str(_SHEET)])
    return context
