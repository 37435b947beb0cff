"""A module as `sigprop.modules.probe` found it: states, gradients and angles, layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures._style import PALETTE, STATUS_LINE, frame, styled

__all__ = ["draw"]

_NAMED = 24  # rows whose names are all written out


@styled
def draw(found: xr.Dataset) -> Figure:
    """Draw what was probed against the layers, and against the residual sums if there are any.

    Parameters
    ----------
    found : Dataset
        Of `sigprop.modules.probe`; what is predicted of a variable, if anything, stands beside it
        as ``<variable>_predicted`` with its slack, as `sigprop probe --out` writes it.

    Returns
    -------
    Figure
    """
    dims = [("layer", "")] + ([("sum", "sum_")] if "sum" in found.sizes else [])
    picture = Figure(figsize=(10.2, 3.9 * len(dims)))
    rows = picture.subplots(len(dims), 3, squeeze=False)
    for axes, (dim, prefix) in zip(rows, dims):
        _row(axes, found, dim, prefix)
    about = found.attrs
    setting = f"{about['title']} {about['batch']}, {about['mode']} mode, seed {about['seed']}"
    caption = (
        f"Gradients: {about['backward']}; squared length for each input. Cosines are over pairs of "
        "inputs. Bars are two standard errors over the networks, where there are several."
    )
    if any(str(name).endswith("_predicted") for name in found):
        caption += (
            " Dashed: theory in the limit of great width, the band as wide as the correction for "
            "finite width; no line where it is silent."
        )
    frame(picture, "States, gradients and angles in order of execution", setting, caption)
    return picture


def _row(axes: Any, found: xr.Dataset, dim: str, prefix: str) -> None:
    place = np.arange(1, found.sizes[dim] + 1)
    entries = found[f"{prefix}entries"].values
    panels = (
        (f"{prefix}second_moment", 1.0, "mean square of an entry"),
        (f"{prefix}gradient_second_moment", entries, "squared length of a gradient"),
        (f"{prefix}cosine_mean", 1.0, "cosine of two inputs"),
    )
    for panel, (name, scale, title) in zip(axes, panels):
        value, error = found[name].values * scale, found[f"{name}_se"].values * scale
        bars = np.nan_to_num(2 * error)
        panel.errorbar(place, value, bars, color=PALETTE[0], marker="o", ms=3.2, lw=0.8)
        _theory(panel, place, found, name, scale)
        panel.set_title(title)
        if "cosine" not in name and (value[np.isfinite(value)] > 0).any():
            panel.set_yscale("log", nonpositive="mask")
        step = max(1, len(place) // _NAMED)
        labels = [str(label) for label in found[dim].values[::step]]
        panel.set_xticks(place[::step], labels, rotation=90, fontsize=6)
    axes[0].set_ylabel("layers" if dim == "layer" else "residual sums")


def _theory(panel: Any, place: np.ndarray, found: xr.Dataset, name: str, scale: Any) -> None:
    """The line that is predicted, and its band."""
    variable = name if name.endswith("_mean") else f"log_{name}_mean"
    if f"{variable}_predicted" not in found:
        return
    line = found[f"{variable}_predicted"].values
    slack = found[f"{variable}_slack_predicted"].values
    curves = (line, line - slack, line + slack)
    if name == variable:
        middle, low, high = curves
    else:
        middle, low, high = (scale * np.exp(curve) for curve in curves)
    panel.plot(place, middle, STATUS_LINE["limit"], color=PALETTE[1], lw=1)
    panel.fill_between(place, low, high, color=PALETTE[1], alpha=0.15, lw=0)
