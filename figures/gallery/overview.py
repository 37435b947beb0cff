"""Everything that a result holds against depth: one panel a quantity, legible alone.

Rows are quantities (norm, displacement, gradient, ...), columns their statistics: the
logarithm with its spread over networks, its variance, its shape, and the moments. Numbers
that describe the whole state (cosine, effective rank, activity) fill the rows below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from figures._style import PALETTE, style
from sigprop.accumulate.reliable import ENOUGH, LEAST, SHARE
from sigprop.report import headline
from sigprop.sentence import trusted

__all__ = ["draw"]

COLUMNS = 4
_RATIO = {
    "norm": r"$|h_\ell|\,/\,|h_0|$",
    "displacement": r"$|h_\ell-h_0|\,/\,|h_0|$",
    "gradient": r"$|p_\ell|\,/\,|p_L|$",
    "gradient_displacement": r"$|p_\ell-p_L|\,/\,|p_L|$",
    "distance": r"$|h_\ell-\tilde h_\ell|\,/\,|h_0-\tilde h_0|$",
}
_PLAIN = {
    "cosine": "cosine of the angle between inputs",
    "effective_rank": "effective rank of the inputs' states",
    "activity": "fraction of active units",
    "dead_layers": "dead branches up to here",
}
_UNIT = {
    "cosine": "cosine",
    "effective_rank": "dimensions",
    "activity": "fraction",
    "dead_layers": "branches",
}
_SPREAD, _BAND = 0.14, 0.40
_BLUE, _RED = PALETTE[:2]


@dataclass(frozen=True)
class _Panel:
    """A place in the grid and what is drawn there."""

    title: str
    unit: str
    paint: Callable[[Axes], None]
    empty: str = "exactly 0: no logarithm"


def draw(result: xr.Dataset) -> Figure:
    """Draw every recorded quantity against depth.

    Parameters
    ----------
    result : Dataset
        Of `sigprop.simulate`. Of several inputs, or pairs of them, the first is drawn, and
        the caption says so.

    Returns
    -------
    Figure
        Lines are estimates, dark bands two standard errors on either side, light bands the
        middle 90% of networks. Moments that too few replicas carry are dotted.
    """
    first = result.isel({axis: 0 for axis in ("input", "pair") if axis in result.dims})
    rows = [list(_row(first, name)) for name in _RATIO if f"log_{name}_mean" in first]
    rest = list(_rest(first))
    rows += [rest[start : start + COLUMNS] for start in range(0, len(rest), COLUMNS)]
    with style():
        height = 1.75 * len(rows) + 1.3
        figure = Figure(figsize=(11.0, height))
        grid = figure.subplots(len(rows), COLUMNS, sharex=True, squeeze=False)
        for y, row in enumerate(rows):
            for x, axes in enumerate(grid[y]):
                if x < len(row):
                    _fill(axes, row[x], result)
                else:
                    axes.set_visible(False)
                below = y + 1 == len(rows) or x >= len(rows[y + 1])
                if x < len(row) and below:
                    axes.set_xlabel(r"layer $\ell$")
                    axes.tick_params(labelbottom=True)
        _frame(figure, result, height)
    return figure


def _fill(axes: Axes, panel: _Panel, result: xr.Dataset) -> None:
    panel.paint(axes)
    if not any(np.isfinite(line.get_ydata()).any() for line in axes.get_lines()):
        axes.text(0.5, 0.5, panel.empty, ha="center", color="0.4", transform=axes.transAxes)
        axes.set_yticks([])
    axes.set_title(panel.title)
    axes.yaxis.set_major_formatter(_tick)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.set_ylabel(panel.unit)
    layers = result.layer.values
    axes.set_xlim(layers[0], layers[-1] if len(layers) > 1 else layers[0] + 1)
    low, high = axes.get_ylim()
    if high - low < 1e-9 * max(1.0, abs(high)):  # a constant: no zoom into its rounding
        middle = (low + high) / 2
        low, high = middle - 0.1, middle + 0.1
    handles, _ = axes.get_legend_handles_labels()
    if handles and axes.get_yticks().size:
        high += 0.25 * (high - low)  # room for the legend
        axes.legend(loc="upper right", ncols=2, handlelength=1.2, columnspacing=1.2)
    axes.set_ylim(low, high)


def _tick(value: float, position: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _frame(figure: Figure, result: xr.Dataset, height: float) -> None:
    who, how = headline(result).split("\n")
    inputs = result.sizes.get("input", 1)
    shown = f"; input 0 of {inputs}" if inputs > 1 else ""
    figure.text(0.01, 1 - 0.12 / height, who, weight="bold", size=10, va="top")
    figure.text(0.01, 1 - 0.34 / height, how + shown, size=8.5, va="top", color="0.3")
    figure.text(
        0.995,
        0.09 / height,
        r"$h_\ell$: state after layer $\ell$ of $L$;  $p_\ell$: gradient with respect to it",
        size=7.5,
        ha="right",
        color="0.3",
    )
    few = f"fewer than {_enough(result):.3g} effective replicas"
    figure.legend(
        handles=[
            Line2D([], [], color=_BLUE, label="estimate"),
            Patch(color=_BLUE, alpha=_BAND, lw=0, label="± 2 standard errors"),
            Patch(color=_BLUE, alpha=_SPREAD, lw=0, label=_spread_label(result)),
            Line2D([], [], color="0.4", ls=":", label=few),
        ],
        ncols=4,
        loc="lower left",
        bbox_to_anchor=(0.005, 0.0),
        borderaxespad=0.3,
    )
    figure.tight_layout(rect=(0, 0.3 / height, 1, 1 - 0.55 / height), h_pad=0.9, w_pad=0.8)


def _spread_label(result: xr.Dataset) -> str:
    if "quantile" not in result.dims:
        return "spread of networks (not recorded)"
    ends = result["quantile"].values
    return f"{100 * ends[0]:g}% to {100 * ends[-1]:g}% of networks"


# ----------------------------------------------------------------------------- panels


def _row(result: xr.Dataset, name: str) -> Iterator[_Panel]:
    """The four statistics of one logarithm."""
    ratio = _RATIO[name]
    yield _Panel(f"log {ratio}", "nat", _line(result, f"log_{name}", mean="_mean"))
    variance = _line(result, f"log_{name}_variance")
    yield _Panel(f"variance of log {ratio}", "nat²", variance, "not defined")
    shape = _shape(result, name)
    yield _Panel(f"shape of log {ratio}", "dimensionless", shape, "no spread, hence no shape")
    if f"{name}_moment_log" in result:
        yield _Panel(f"log E({ratio})$^s$", "nat", _moments(result, name))


def _rest(result: xr.Dataset) -> Iterator[_Panel]:
    if "norm_moment_log" in result and "log_norm_mean" not in result:
        ratio = _RATIO["norm"]
        yield _Panel(f"log E({ratio})$^s$", "nat", _moments(result, "norm"))
        yield _Panel("replicas that carry a moment", "effective number", _carried(result))
    for name, title in _PLAIN.items():
        if f"{name}_mean" in result:
            yield _Panel(title, _UNIT[name], _line(result, name, mean="_mean"), "not defined")
        if f"{name}_variance" in result:
            variance = _line(result, f"{name}_variance")
            title = f"variance of the {name.replace('_', ' ')}"
            yield _Panel(title, f"{_UNIT[name]}²", variance, "not defined")
    for name, ratio in _RATIO.items():
        if f"{name}_zero_fraction" in result and _sometimes(result[f"{name}_zero_fraction"]):
            share = _line(result, f"{name}_zero_fraction")
            yield _Panel(f"networks with {ratio} = 0", "fraction", share)


def _sometimes(share: xr.DataArray) -> bool:
    """Whether some networks are 0 and others not, at one layer."""
    return bool(((share > 0) & (share < 1)).any())


def _line(result: xr.Dataset, name: str, mean: str = "") -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        if mean and f"{name}_quantile" in result:
            quantile = result[f"{name}_quantile"]
            low, high = quantile.isel(quantile=0), quantile.isel(quantile=-1)
            # Where the low end is the logarithm of 0 the band runs out of the panel below.
            drawn = np.concatenate([low, high, result[f"{name}{mean}"]])
            drawn = drawn[np.isfinite(drawn)]
            if np.isneginf(low).any() and drawn.size:
                bottom = drawn.min() - 0.05 * np.ptp(drawn)
                low = low.where(~np.isneginf(low), bottom)
                axes.set_ylim(bottom=bottom)
            axes.fill_between(result.layer, low, high, color=_BLUE, alpha=_SPREAD, lw=0)
        _estimate(axes, result[f"{name}{mean}"], result.get(f"{name}{mean}_se"), _BLUE)

    return paint


def _shape(result: xr.Dataset, name: str) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        for colour, what in ((_BLUE, "skewness"), (_RED, "kurtosis")):
            variable = f"log_{name}_{what}"
            label = {"skewness": "skewness", "kurtosis": "excess kurtosis"}[what]
            _estimate(axes, result[variable], result.get(f"{variable}_se"), colour, label)

    return paint


def _moments(result: xr.Dataset, name: str) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        for index, order in enumerate(result.order.values):
            chosen = result.sel(order=order)
            value, se = chosen[f"{name}_moment_log"], chosen[f"{name}_moment_log_se"]
            good = trusted(chosen, name)
            colour = PALETTE[index % len(PALETTE)]
            _estimate(axes, value.where(good), se.where(good), colour, f"s = {order:g}")
            axes.plot(result.layer, value.where(np.isfinite(value)), ":", color=colour, lw=0.9)

    return paint


def _enough(result: xr.Dataset) -> float:
    """Effective replicas below which a moment is dotted."""
    return min(ENOUGH, max(SHARE * int(result.attrs["replicas"]), SHARE * LEAST))


def _carried(result: xr.Dataset) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        for index, order in enumerate(result.order.values):
            size = result.norm_moment_ess.sel(order=order)
            colour = PALETTE[index % len(PALETTE)]
            axes.plot(result.layer, size, color=colour, label=f"s = {order:g}")
        axes.axhline(_enough(result), color="0.4", ls=":", lw=0.9)

    return paint


def _estimate(
    axes: Axes, value: xr.DataArray, se: xr.DataArray | None, colour: str, label: str = ""
) -> None:
    """A line with a band of two standard errors; points where there are few layers."""
    marker = "." if value.sizes["layer"] <= 12 else None
    shown = value.where(np.isfinite(value))
    axes.plot(value.layer, shown, color=colour, marker=marker, label=label or None)
    if se is not None:
        band = (shown - 2 * se, shown + 2 * se)
        axes.fill_between(value.layer, *band, color=colour, alpha=_BAND, lw=0)
