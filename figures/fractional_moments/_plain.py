"""What the figures of this folder share: plain nets that keep a moment, and how they are cited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from figures._base import Progress
from sigprop.inputs import Point
from sigprop.schemes import Fractional
from sigprop.simulate import simulate
from sigprop.spec import Ensemble, Network

__all__ = ["PAPER", "ensemble", "he_norms", "told"]

PAPER = "Gurbuzbalaban and Hu"


def ensemble(depth: int, width: int, s: float, activation: Any = "relu", **scheme: Any) -> Ensemble:
    """Plain net in which E|x|^s is kept; s = 2 is He's scheme."""
    network = Network(depth=depth, width=width, block="plain", activation=activation)
    return Ensemble(network, Fractional(s=s, **scheme), Point())


def he_norms(
    effort: Mapping[str, Any], workers: int | None, progress: Progress | None
) -> xr.Dataset:
    """Norms under He's scheme at the depths of a figure, those of every network kept."""
    depths = effort["depths"]
    return simulate(
        ensemble(depths[-1], effort["width"], 2.0),
        ["norm"],
        replicas=effort["networks"],
        seed=effort["seed"],
        layers=[0, *depths],
        keep=depths,
        workers=workers,
        progress=progress,
    )


def told(s: float) -> str:
    """What a legend calls scheme s."""
    return "He (s = 2)" if s == 2 else f"s = {s:g}"
