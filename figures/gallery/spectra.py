"""Histograms of log singular values at several depths, with the law of free probability."""

from __future__ import annotations

import json
import math

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures._style import PALETTE, STATUS_LINE, THEORY, frame, styled
from sigprop.report import headline
from sigprop.spectral_report import spectral_sentence

__all__ = ["draw"]

_PANELS = 3


@styled
def draw(result: xr.Dataset, theory: xr.Dataset | None = None) -> Figure:
    """Draw the density of ln sigma at the first, a middle and the last recorded layer, and depth.

    Parameters
    ----------
    result : Dataset
        With the variables of observable ``spectrum``.
    theory : Dataset, optional
        ``log_singular`` and ``density`` over dimension ``point``, for each ``layer`` that has
        a law (see `analysis.spectra.densities`).

    Returns
    -------
    Figure
        Bars are means over networks, with one standard error between networks.
    """
    layers = [int(x) for x in result.layer.values if x > 0] or [0]
    chosen = sorted({layers[0], layers[len(layers) // 2], layers[-1]})
    picture = Figure(figsize=(3.0 * (len(chosen) + 1) + 0.4, 3.5))
    panels = picture.subplots(1, len(chosen) + 1, squeeze=False)[0]
    for axes, layer in zip(panels, chosen, strict=False):
        values = result.attrs["replicas"] * json.loads(result.attrs["ensemble"])["network"]["width"]
        _histogram(axes, result.sel(layer=layer), theory, min(40, int(2 * values ** (1 / 3))))
    panels[0].set_ylabel("density of ln s")
    _against_depth(panels[-1], result)
    line = "" if theory is None else " Dark line: free probability, the limit of great width."
    setting = headline(result).splitlines()[0] + f"; {result.attrs['replicas']} networks"
    frame(
        picture,
        spectral_sentence(result).partition(";")[0].rstrip(".") + ".",
        setting,
        "s: singular values of the Jacobian from the network's input at its first input, averaged "
        "over networks; error bars are one standard error between networks, since values of one "
        "network repel each other." + line,
    )
    return picture


def _histogram(axes, here: xr.Dataset, theory: xr.Dataset | None, most: int) -> None:  # type: ignore[no-untyped-def]
    density, error = here.singular_density.values, here.singular_density_se.values
    centres = here.singular_bin.values
    width = centres[1] - centres[0]
    on = np.flatnonzero(density > 0)
    low, high = (on[0], on[-1]) if on.size else (0, len(centres) - 1)
    # As many bars as there are values for; errors are put together as if independent.
    group = max(1, (high - low + 1) // most)
    stop = low + -(-(high - low + 1) // group) * group
    padded = np.pad(density, (0, group)), np.pad(error, (0, group))
    bars = padded[0][low:stop].reshape(-1, group).mean(axis=1)
    errors = np.sqrt((padded[1][low:stop].reshape(-1, group) ** 2).sum(axis=1)) / group
    middle = centres[low] + width * (np.arange(len(bars)) * group + (group - 1) / 2)
    axes.bar(middle, bars, group * width, color=PALETTE[0], alpha=0.45)
    axes.errorbar(middle, bars, errors, fmt="none", ecolor=PALETTE[0], lw=0.8)
    layer = int(here.layer)
    if theory is not None and layer in theory.layer.values:
        law = theory.sel(layer=layer)
        inside = np.isfinite(law.density.values)
        axes.plot(
            law.log_singular.values[inside], law.density.values[inside],
            STATUS_LINE["limit"], color=THEORY, lw=1.2,
        )  # fmt: skip
    lost = float(here.singular_zero_fraction)
    below = float(here.singular_below_fraction) + float(here.singular_unresolved_fraction)
    notes = [f"{lost:.0%} exactly 0"] * (lost > 0) + [f"{below:.0%} further left"] * (below > 0)
    axes.set_title(f"layer {layer}" + (f": {', '.join(notes)}" if notes else ""), size=8)
    span = max(0.4, 0.08 * (middle[-1] - middle[0]))
    axes.set_xlim(middle[0] - span, middle[-1] + span)
    axes.set_ylim(0, 1.15 * max(bars.max(), 1e-9))
    axes.set_xlabel("ln s")


def _against_depth(axes, result: xr.Dataset) -> None:  # type: ignore[no-untyped-def]
    layers = result.layer.values
    for name, colour in (("largest", PALETTE[1]), ("mean", PALETTE[0]), ("smallest", PALETTE[2])):
        value = result[f"log_singular_{name}"].values
        error = 2 * np.nan_to_num(result[f"log_singular_{name}_se"].values)
        axes.plot(layers, value, color=colour, marker=".", ms=4, label=name)
        axes.fill_between(layers, value - error, value + error, color=colour, alpha=0.25, lw=0)
    finite = np.concatenate(
        [result[f"log_singular_{n}"].values for n in ("largest", "mean", "smallest")]
    )
    finite = finite[np.isfinite(finite)]
    if finite.size and np.ptp(finite) < 1e-6:
        axes.set_ylim(-1, 1)
    axes.axhline(0, color="0.7", lw=0.6, zorder=0)
    axes.set_xlabel("layer")
    axes.set_ylabel("ln s")
    axes.legend(fontsize=7)
    axes.set_title(f"to depth {math.floor(layers[-1])}", size=8)
