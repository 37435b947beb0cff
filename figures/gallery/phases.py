"""Order and chaos in the plane of weight and bias variance: how deep a signal lives, where it dies.

The colour is the depth scale of the cosine of two inputs, which diverges at the edge of chaos.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures._style import STATUS_LINE, THEORY, frame, styled

__all__ = ["draw", "paint"]

_DEEPEST = 300.0
_UNBOUNDED = "#d9d9d9"


@styled
def draw(grid: xr.Dataset) -> Figure:
    """Draw a diagram of `analysis.theory.phase_diagram`.

    Parameters
    ----------
    grid : Dataset

    Returns
    -------
    Figure
    """
    picture = Figure(figsize=(6.4, 4.6))
    axes = picture.subplots()
    mesh = paint(axes, grid)
    if mesh is not None:
        bar = picture.colorbar(mesh, ax=axes, extend="both", pad=0.02)
        bar.set_label(r"depth scale $\xi_c$ of the cosine, layers")
    point = grid.sizes["edge"] == 1
    look: dict[str, Any] = {"marker": "*", "ls": ""} if point else {"ls": STATUS_LINE["limit"]}
    edge = Line2D([], [], color=THEORY, label=r"edge of chaos, $\chi_1 = 1$", **look)
    handles: list[Any] = [edge]
    if (grid.kind == "unbounded").any():
        handles.append(Patch(color=_UNBOUNDED, lw=0, label="no fixed point: signals grow for ever"))
    picture.legend(handles=handles, ncols=2)
    setting = f"{grid.attrs['activation']}, plain net h' = W φ(h) + b, infinite width (limit)"
    caption = (
        "Right of the edge alike inputs part and gradients explode; left of it all inputs merge "
        "and gradients vanish. Deeper than some multiples of the depth scale a net says nothing of "
        "its input. White: the depth scale is infinite, or the signal itself vanishes."
    )
    frame(picture, "How deep a signal lives", setting, caption, legend_rows=1)
    return picture


def paint(axes, grid: xr.Dataset):  # type: ignore[no-untyped-def]
    """Colour the plane by depth scale and draw the edge; return the mesh, None if all is blank."""
    weights, biases = grid.weight_variance.values, grid.bias_variance.values
    scale = grid.xi_c.values.T
    blank = np.where((grid.kind.values == "unbounded").T, 1.0, np.nan)
    many = min(len(weights), len(biases)) > 1
    mesh = None
    if many and np.isfinite(blank).any():
        axes.pcolormesh(weights, biases, blank, cmap=_flat(_UNBOUNDED), shading="nearest")
    shown = np.where(np.isfinite(scale), scale, np.nan)
    if many and np.isfinite(shown).any():
        mesh = axes.pcolormesh(
            weights, biases, shown, norm=LogNorm(1.0, _DEEPEST), cmap="viridis", shading="nearest"
        )
    edge = grid.edge_weight_variance.values, grid.edge_bias_variance.values
    if len(edge[0]) == 1:
        axes.plot(*edge, "*", color=THEORY, ms=9, clip_on=False, zorder=5)
    else:
        axes.plot(*edge, STATUS_LINE["limit"], color="w", lw=2.6)
        axes.plot(*edge, STATUS_LINE["limit"], color=THEORY, lw=1.5)
    axes.set_xlim(weights[0], weights[-1])
    axes.set_ylim(biases[0], biases[-1])
    axes.set_xlabel(r"weight variance $\sigma_w^2$ (times fan-in)")
    axes.set_ylabel(r"bias variance $\sigma_b^2$")
    axes.grid(False)
    return mesh


def _flat(colour: str):  # type: ignore[no-untyped-def]
    from matplotlib.colors import ListedColormap

    return ListedColormap([colour])
