"""What the pictures of GradInit are made of: scales, course, and methods side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import MaxNLocator

from figures._style import PALETTE, frame, styled

if TYPE_CHECKING:
    import xarray as xr

    from sigprop.modules.init_result import InitResult

__all__ = ["comparison_panels", "draw_comparison", "draw_result", "method_looks"]

_MARKS = "os^dvPX"
_COLOURS = (*PALETTE, "#56b4e9")


@styled
def draw_result(result: InitResult, what: str) -> Picture:
    """The scales of one run and its course."""
    picture = Picture(figsize=(8.6, 3.6))
    left, right = picture.subplots(1, 2)
    result.plot_scales(left)
    result.plot_history(right)
    left.set_title("learned scales")
    right.set_title("gradient norm of each batch")
    settings = result.settings
    setting = (
        f"{what}; {settings['optimizer']}, lr {settings['lr']:g}, γ {settings['gamma']:g}, "
        f"{settings['steps']} iterations of τ {settings['tau']:g}"
    )
    caption = (
        f"GradInit (Zhu et al., 2021). On batches not learned from the gradient norm went from "
        f"{result.before['grad_norm']:.3g} to {result.after['grad_norm']:.3g}, the loss after one "
        f"step from {result.before['stepped_loss']:.3g} to {result.after['stepped_loss']:.3g}. "
        "Above γ the norm is lowered, below it the loss after one step: where the bound binds, "
        "the two alternate."
    )
    frame(picture, "GradInit: what it learned and how", setting, caption)
    return picture


def method_looks(names: list[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of every method."""
    return {
        name: {"color": _COLOURS[at % len(_COLOURS)], "marker": _MARKS[at % len(_MARKS)]}
        for at, name in enumerate(names)
    }


def comparison_panels(panels: Any, found: xr.Dataset) -> None:
    """Draw norm and stepped loss against time, and both variances against the layer.

    Parameters
    ----------
    panels : sequence of three Axes
    """
    names = [
        str(name)
        for name in found.preparation.values
        if not str(found.refused.sel(preparation=name).item())
    ]
    looks = method_looks(names)
    layer = np.arange(1, found.sizes["layer"] + 1)
    for name in names:
        row = found.sel(preparation=name)
        panels[0].plot(row.grad_norm, row.stepped_loss, ls="", ms=6, label=name, **looks[name])
        for axes, way in zip(panels[1:], ("forward", "backward")):
            axes.plot(layer, row[f"{way}_variance"], lw=1, ms=3, **looks[name])
    panels[0].set_xlabel("gradient norm")
    panels[0].set_ylabel("loss after one step (nat)")
    panels[0].set_xscale("log")
    panels[0].set_yscale("log")
    panels[0].axhline(np.log(10), color="0.5", lw=0.8, ls="--")
    panels[0].axvline(found.attrs["gamma"], color="0.5", lw=0.8, ls="--")
    panels[0].set_title("one step (dashed: chance, γ)")
    for axes, words in zip(panels[1:], ("outputs", "gradient by the outputs")):
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("weight layer, from the input")
        axes.set_title(f"variance of {words}")


@styled
def draw_comparison(found: xr.Dataset, what: str) -> Picture:
    """Methods side by side, one run each."""
    picture = Picture(figsize=(10.2, 3.9))
    panels = picture.subplots(1, 3)
    comparison_panels(panels, found)
    handles, labels = panels[0].get_legend_handles_labels()
    seconds = [float(found.seconds.sel(preparation=name)) for name in labels]
    told = [name if name == "none" else f"{name} ({s:.2g} s)" for name, s in zip(labels, seconds)]
    columns = min(4, len(told))
    picture.legend(handles, told, ncols=columns)
    setting = f"{what}; judged by {found.attrs['optimizer']}, lr {found.attrs['lr']:g}"
    caption = (
        "GradInit: Zhu et al. (2021). Each method with the settings of its paper, from one start, "
        "judged on one batch that none has seen, on which the step is taken too. Seconds are of "
        "the machine that drew this."
    )
    rows = -(-len(told) // columns)
    frame(picture, "Initialisations side by side", setting, caption, legend_rows=rows)
    return picture
