"""A measured singular spectrum in words and figures: a table against depth, and one sentence.

Everything here is a pure function of the result.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

__all__ = ["spectral_sentence", "spectral_table"]

ISOMETRY = 1e-8  # distance of every singular value from 1 below which it is one up to rounding
NEAR = 0.1  # and below which the Jacobian is nearly one
_ROWS = 11


def spectral_table(result: xr.Dataset) -> str:
    """Return about 11 recorded layers, a line each, with one standard error between networks."""
    from sigprop.report import scientific, with_error, wrap

    layers = result.layer.values
    chosen = np.unique(np.round(np.linspace(0, len(layers) - 1, _ROWS)).astype(int))
    picked = result.isel(layer=chosen)

    def values(name: str) -> list[float]:
        return [float(value) for value in picked[name].values]

    def pairs(name: str) -> list[str]:
        both = zip(values(name), values(f"{name}_se"), strict=True)
        return [with_error(value, se) for value, se in both]

    def powers(name: str) -> list[str]:
        return [scientific(value) for value in values(name)]

    spread = [math.sqrt(max(value, 0.0)) for value in values("log_singular_variance")]
    columns = [
        ["layer", *map(str, picked.layer.values)],
        ["mean log s", *pairs("log_singular_mean")],
        ["sd", *("-" if math.isnan(x) else f"{x:.3g}" for x in spread)],
        ["largest", *powers("log_singular_largest")],
        ["smallest", *powers("log_singular_smallest")],
        ["condition", *_conditions(picked)],
        ["max|s-1|", *powers("isometry_max_log")],
        ["rms|s-1|", *powers("isometry_rms_log")],
        ["zero", *(f"{value:.3g}" for value in values("singular_zero_fraction"))],
    ]
    unknown = values("singular_unresolved_fraction")
    words = [
        "s: singular values of the Jacobian from the network's input, at the first input",
        "sd: spread of log s within a network",
        "largest, smallest (not 0), condition: typical network",
        "max, rms: mean over networks",
        "zero: fraction exactly 0",
        "± one standard error",
    ]
    if max(unknown) > 0:
        columns.append(["unknown", *(f"{value:.3g}" for value in unknown)])
        words.append("unknown: fraction too small for float64, left out of the rest")
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in zip(*columns, strict=True)
    ]
    rule = "-" * len(lines[0])
    return "\n".join((lines[0], rule, *lines[1:], rule, *wrap(words)))


def _conditions(result: xr.Dataset) -> list[str]:
    from sigprop.report import scientific

    cells = []
    for at in range(result.sizes["layer"]):
        here = result.isel(layer=at)
        zero, unknown = (
            float(here[f"singular_{name}_fraction"]) for name in ("zero", "unresolved")
        )
        if zero > 0:
            cells.append("inf")
        elif unknown > 0:
            cells.append(">1e130")
        else:
            cells.append(scientific(float(here.log_singular_condition)))
    return cells


def spectral_sentence(result: xr.Dataset) -> str:
    """Say in one sentence what the Jacobian at the last recorded layer does to distances."""
    from sigprop.report import scientific

    last = result.isel(layer=-1)
    layer = int(last.layer)
    away = math.exp(min(float(last.isometry_max_log), 700.0))
    zero, unknown = (float(last[f"singular_{n}_fraction"]) for n in ("zero", "unresolved"))
    where = f"At layer {layer} the Jacobian"
    if away < ISOMETRY:
        return (
            f"{where} is an isometry: every singular value is 1 to {scientific(math.log(away))}."
            if away > 0
            else f"{where} is an isometry: every singular value is exactly 1."
        )
    largest, smallest = (float(last[f"log_singular_{n}"]) for n in ("largest", "smallest"))
    if math.isnan(largest):
        return f"{where} is zero: no direction of the input survives."
    stretch = (
        f"stretches the most sensitive direction by {scientific(largest)} and the least by "
        f"{scientific(smallest)}"
    )
    if zero > 0:
        return (
            f"{where} is singular: {zero:.1%} of the directions are lost for good; of the others "
            f"it {stretch}."
        )
    if unknown > 0:
        return f"{where} {stretch} or less: {unknown:.1%} of its values are too small for float64."
    condition = scientific(float(last.log_singular_condition))
    if away < NEAR:
        return (
            f"{where} is nearly an isometry: singular values differ from 1 by {away:.2g} at most, "
            f"condition number {condition}."
        )
    return f"{where} has condition number {condition}: it {stretch}."
