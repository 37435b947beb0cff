"""What the figures of this folder share: plain nets that keep a moment, and how they are cited."""

from __future__ import annotations

from typing import Any

from sigprop.inputs import Point
from sigprop.schemes import Fractional
from sigprop.spec import Ensemble, Network

__all__ = ["PAPER", "ensemble", "told"]

PAPER = "Gurbuzbalaban and Hu"


def ensemble(depth: int, width: int, s: float, activation: Any = "relu", **scheme: Any) -> Ensemble:
    """Plain net in which E|x|^s is kept; s = 2 is He's scheme."""
    network = Network(depth=depth, width=width, block="plain", activation=activation)
    return Ensemble(network, Fractional(s=s, **scheme), Point())


def told(s: float) -> str:
    """What a legend calls scheme s."""
    return "He (s = 2)" if s == 2 else f"s = {s:g}"
