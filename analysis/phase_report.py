"""Phases of plain nets in words: one point with its depth scales, or a map of the plane.

Pure functions of what `analysis.theory.phase` and `analysis.theory.phase_diagram` return.
"""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from analysis.theory.phase import Phase

__all__ = ["diagram_csv", "diagram_text", "point_csv", "point_json", "point_text", "sentence"]

_WIDTH = 100
_LETTERS = {"ordered": ".", "critical": "+", "chaotic": "#", "unbounded": "^"}
_COLUMNS, _ROWS = 72, 24

# What stands in the table of a point: name, symbol, words.
_TOLD = (
    ("mean_square", "q*", "mean square of a pre-activation, where it stays"),
    ("mean_square_slope", "q'(q*)", "slope of its map there"),
    ("xi_q", "xi_q", "layers in which the distance to q* falls by e"),
    ("chi_1", "chi_1", "factor of a gradient's mean square, a layer"),
    ("cosine", "c*", "cosine that two inputs reach"),
    ("chi_c", "chi_c", "slope of the cosine's map there"),
    ("xi_c", "xi_c", "layers in which the distance to c* falls by e"),
)


def sentence(found: Phase, critical: float | None) -> str:
    """What happens to a signal, in plain words.

    Parameters
    ----------
    found : Phase
    critical : float, optional
        The weight variance on the edge of chaos with the same biases, if there is one.
    """
    return f"{_what(found)}{_how_deep(found)}{_edge(found, critical)}"


def _what(found: Phase) -> str:
    if found.mean_square == 0.0:
        lost = (
            "so slowly that no depth scale holds"
            if math.isinf(found.xi_q)
            else f"by a factor e every {found.xi_q:.3g} layers"
        )
        return f"{found.kind.capitalize()}: the signal vanishes, its mean square falls {lost}. "
    if found.kind == "chaotic":
        end = "orthogonal" if found.cosine == 0.0 else f"at a cosine of {found.cosine:.3g}"
        return (
            f"Chaotic: alike inputs part until they are {end}, and the mean square of a gradient "
            f"grows by a factor {found.chi_1:.4g} a layer. "
        )
    if found.kind == "critical":
        return (
            "Critical: on the edge of chaos, gradients keep their mean square, and the angle "
            "between two inputs changes more slowly than exponentially. "
        )
    return (
        "Ordered: all inputs merge into one, and the mean square of a gradient shrinks by a factor "
        f"{found.chi_1:.4g} a layer. "
    )


def _how_deep(found: Phase) -> str:
    if math.isnan(found.xi_c):
        return ""
    if math.isinf(found.xi_c):
        far = "no depth scale bounds how far the angle between inputs is told"
        live = found.kind == "critical"
        return f"A signal lives at any depth: {far}. " if live else f"{far.capitalize()}. "
    layers = "less than one layer" if found.xi_c < 1 else f"about {found.xi_c:.3g} layers"
    beyond = "deeper than a few times that, a net says nothing of its input"
    return f"A signal lives {layers}: {beyond}. "


def _edge(found: Phase, critical: float | None) -> str:
    if critical is None or found.kind == "critical":
        return ""
    return f"With these biases the edge of chaos is at weight_variance = {critical:.6g}."


def point_text(found: Phase, critical: float | None) -> str:
    """Headline, table and sentence of one point."""
    values = [(symbol, _cell(getattr(found, name)), words) for name, symbol, words in _TOLD]
    widths = [max(len(row[i]) for row in values) for i in (0, 1)]
    rows = [f"{s.ljust(widths[0])}  {v.rjust(widths[1])}  {w}" for s, v, w in values]
    rule = "-" * max(map(len, rows))
    head = (
        f"{found.activation}, wide plain net, weight variance {found.weight_variance:g} / fan_in, "
        f"bias variance {found.bias_variance:g}: {found.kind}"
    )
    told = textwrap.fill(sentence(found, critical), _WIDTH)
    note = "Limit of infinite width; at width n off by O(1/n) a layer."
    return "\n".join((head, "", rule, *rows, rule, told, note))


def point_json(found: Phase, critical: float | None) -> str:
    """Strict JSON: null for what does not exist, "inf" for what is infinite."""
    from sigprop import export

    data = export.strict(_record(found, critical))
    return json.dumps({**data, "status": "limit", "sentence": sentence(found, critical)}, indent=1)


def point_csv(found: Phase, critical: float | None) -> str:
    """One line under a line of names."""
    text = io.StringIO()
    record = _record(found, critical)
    writer = csv.DictWriter(text, list(record), lineterminator="\n")
    writer.writeheader()
    writer.writerow(record)
    return text.getvalue().rstrip("\n")


def _record(found: Phase, critical: float | None) -> dict[str, Any]:
    import dataclasses

    return {**dataclasses.asdict(found), "critical_weight_variance": critical}


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.6g}"


# --------------------------------------------------------------------------- diagram


def diagram_text(grid: xr.Dataset) -> str:
    """A map in letters, the shares of the phases, and where the numbers are."""
    import numpy as np

    weights, biases = grid.weight_variance.values, grid.bias_variance.values
    columns = np.unique(np.round(np.linspace(0, len(weights) - 1, _COLUMNS)).astype(int))
    rows = np.unique(np.round(np.linspace(0, len(biases) - 1, _ROWS)).astype(int))
    kinds = grid.kind.values
    labels = [f"{biases[j]:.4g}" for j in rows]
    width = max(map(len, labels))
    lines = [
        f"{label.rjust(width)} {''.join(_LETTERS[str(kinds[i, j])] for i in columns)}"
        for label, j in reversed(list(zip(labels, rows, strict=True)))
    ]
    left, right = f"{weights[0]:.4g}", f"{weights[-1]:.4g}"
    gap = " " * max(1, len(columns) - len(left) - len(right))
    foot = f"{' ' * width} {left}{gap}{right}  weight variance (times fan_in)"
    shares = ", ".join(
        f"{_LETTERS[kind]} {kind} {np.mean(kinds == kind):.0%}"
        for kind in _LETTERS
        if (kinds == kind).any()
    )
    head = (
        f"{grid.attrs['activation']}, wide plain nets: {kinds.shape[0]} x {kinds.shape[1]} points, "
        f"bias variance upward"
    )
    live = grid.xi_c.values[np.isfinite(grid.xi_c.values)]
    depth = (
        f"Depth scales xi_c run from {live.min():.3g} to {live.max():.3g} layers on this grid. "
        if live.size
        else ""
    )
    told = textwrap.fill(
        f"{depth}Limit of infinite width. A point by itself: --weight-variance W "
        "--bias-variance B; all numbers: --format json, or --out FILE.nc; a picture: "
        "--plot FILE.png.",
        _WIDTH,
    )
    return "\n".join((head, "", *lines, foot, "", shares, told))


def diagram_csv(grid: xr.Dataset) -> str:
    """One line for every point of the grid."""
    text = io.StringIO()
    names = [str(name) for name in grid.data_vars if "edge" not in grid[name].dims]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["weight_variance", "bias_variance", *names])
    values = [grid[name].values for name in names]
    for i, w in enumerate(grid.weight_variance.values.tolist()):
        for j, b in enumerate(grid.bias_variance.values.tolist()):
            writer.writerow([w, b, *(v[i, j] for v in values)])
    return text.getvalue().rstrip("\n")
