"""A sweep in words and figures: schemes side by side, or a quantity over the axes.

Everything here is a pure function of the result. As in `sigprop.sentence`, what is judged is
the typical network (the mean of the logarithm) and the measurement alone.
"""

from __future__ import annotations

import itertools
import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from sigprop import report
from sigprop.sentence import CHANGED, COLLAPSED, EXACT, PRESERVED, SAME_COSINE
from sigprop.spec import Activation, Scheme, WeightLaw

__all__ = ["text"]

_WIDTH = 100
_ROWS, _COLUMNS, _TABLES = 11, 9, 3  # shown of longer axes


def text(result: xr.Dataset, seconds: np.ndarray | None = None) -> str:
    """Return who was simulated, tables and a plain sentence.

    Parameters
    ----------
    result : Dataset
        Of `sigprop.sweep`.
    seconds : ndarray, shape (points,), optional
        What a network took at each point, as its file keeps it.
    """
    axes = result.attrs["axes"].split()
    cost = None
    if seconds is not None:
        cost = xr.DataArray(seconds.reshape([result.sizes[a] for a in axes]), dims=axes)
    parts = [_headline(result, axes)]
    if "scheme" in axes or len(axes) == 1:
        first = "scheme" if "scheme" in axes else axes[0]
        others = [axis for axis in axes if axis != first]
        for place in _shown_places(result, others):
            point = result.isel(place)
            if place:
                parts.append(f"{_where(result, place)}:")
            parts.append(_table(point, first, None if cost is None else cost.isel(place)))
            said = _verdict(point, first) if first == "scheme" else _counted(point)
            parts.append(textwrap.fill(said, _WIDTH))
        parts += _left_out(result, others)
    else:
        down, across, *others = axes
        for place in _shown_places(result, others):
            if place:
                parts.append(f"{_where(result, place)}:")
            parts += _matrices(result.isel(place), down, across, brief=bool(place))
        parts += _left_out(result, others)
        parts.append(textwrap.fill(_counted(result), _WIDTH))
    return "\n\n".join(parts)


# --------------------------------------------------------------------------- headline


def _headline(result: xr.Dataset, axes: Sequence[str]) -> str:
    import sigprop.activations
    import sigprop.laws
    import sigprop.processes
    import sigprop.schemes  # noqa: F401  the four fill their registries

    laws = [json.loads(law) for law in _some(result["ensemble"].values.ravel(), 400)]
    networks, schemes = [law["network"] for law in laws], [law["scheme"] for law in laws]
    names: list[str] = []
    for role, said in (
        ("scheme", [report.named(scheme, Scheme.family) for scheme in schemes]),
        ("scheme", [scheme["kind"] for scheme in schemes]),
        ("block", [f"block {network['block']}" for network in networks]),
        ("activation", [report.named(n["activation"], Activation.family) for n in networks]),
        ("law", [f"{report.named(s['law'], WeightLaw.family)} weights" for s in schemes]),
        ("process", [", ".join(report.along_depth(scheme)) for scheme in schemes]),
        ("process", [f"process {s['process']['kind']}" if "process" in s else "" for s in schemes]),
        ("width", [f"width {network['width']}" for network in networks]),
        ("image", [report.image(network).removeprefix(", ") for network in networks]),
        ("depth", [f"depth {network['depth']}" for network in networks]),
        ("inputs", [report.entering(law["inputs"]) for law in laws]),
    ):
        if role not in axes and len(set(said)) == 1 and not any(said[0] in n for n in names):
            names.append(said[0])
    attrs = result.attrs
    sizes = " x ".join(f"{axis} ({result.sizes[axis]})" for axis in axes)
    run = (
        f"sweep over {sizes}",
        f"{attrs['replicas']} replicas at each point" + _coupled(result),
        f"seed {attrs['seed']}",
        f"sampler {attrs['sampler'].replace(',', ', ')}",
    )
    lines = (", ".join(names), ", ".join(run))
    return "\n".join(textwrap.fill(line, _WIDTH) for line in lines if line)


def _coupled(result: xr.Dataset) -> str:
    return " (coupled: their errors are not independent)" if result.attrs["coupled"] else ""


def _some(values: np.ndarray, most: int) -> np.ndarray:
    """At most so many, evenly, the first and the last among them."""
    if len(values) <= most:
        return values
    return values[np.unique(np.rint(np.linspace(0, len(values) - 1, most)).astype(int))]


def _shown_places(result: xr.Dataset, others: Sequence[str]) -> list[dict[str, int]]:
    """Where on the other axes a table is shown."""
    every = list(itertools.product(*(range(result.sizes[axis]) for axis in others)))
    most = _TABLES if len(every) > 2 * _TABLES else 2 * _TABLES
    chosen = _some(np.arange(len(every)), most)
    return [dict(zip(others, every[i], strict=True)) for i in chosen]


def _left_out(result: xr.Dataset, others: Sequence[str]) -> list[str]:
    every = math.prod(result.sizes[axis] for axis in others)
    shown = len(_shown_places(result, others))
    if shown == every:
        return []
    said = f"Shown: {shown} of the {every} values of {', '.join(others)}."
    return [f"{said} The file holds all: --format csv, or sigprop.load."]


def _where(result: xr.Dataset, place: dict[str, int]) -> str:
    return ", ".join(f"{axis} {_label(result[axis].values[i])}" for axis, i in place.items())


def _label(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------------- one point


@dataclass(frozen=True)
class _Change:
    """The logarithm of one quantity at the end of its way: its mean, error and spread."""

    mean: float
    se: float
    spread: float

    @property
    def regime(self) -> str:
        if math.isnan(self.mean):
            return "dead"
        if abs(self.mean) <= PRESERVED:
            return "preserved"
        if abs(self.mean) < CHANGED:
            return "of order one"
        return "growing" if self.mean > 0 else "vanishing"

    @property
    def factor(self) -> str:
        power = self.mean / math.log(10)
        if abs(self.mean) < CHANGED:
            return f"{math.exp(self.mean):.3g}"
        return f"10^{power:.{1 if abs(power) < 10 else 0}f}"


def _change(point: xr.Dataset, name: str) -> _Change | None:
    """Of the norm at the top, or of the gradient where it was followed farthest back."""
    if f"log_{name}_mean" not in point:
        return None
    end = point.isel(layer=0 if name == "gradient" else -1).mean("input", skipna=False)
    variance = float(end[f"log_{name}_variance"])
    return _Change(
        float(end[f"log_{name}_mean"]),
        float(end[f"log_{name}_mean_se"]),
        math.sqrt(max(0.0, variance)) if not math.isnan(variance) else math.nan,
    )


def _numbers(result: xr.Dataset, needed: Sequence[str]) -> xr.Dataset:
    return result[[name for name in needed if name in result]].drop_vars(
        "ensemble", errors="ignore"
    )


_TABLE = (
    *("log_norm_mean", "log_norm_mean_se", "log_norm_variance", "log_gradient_mean"),
    *("log_gradient_mean_se", "log_gradient_variance", "log_displacement_mean", "cosine_mean"),
    *("cosine_mean_se", "displacement_zero_fraction", "norm_zero_fraction"),
    *("log_singular_largest", "log_singular_smallest", "singular_zero_fraction"),
)


# ----------------------------------------------------------------------------- table


def _table(result: xr.Dataset, axis: str, cost: xr.DataArray | None) -> str:
    rows = _some(np.arange(result.sizes[axis]), 40 if axis == "scheme" else 2 * _ROWS)
    laws = [json.loads(law) for law in result["ensemble"].values[rows]]
    points = [_numbers(result, _TABLE).isel({axis: row}) for row in rows]
    labels = result[axis].values[rows]
    columns = [[axis, *map(_label, labels)]]
    for what in ("block", "depth"):
        values = [str(law["network"][what]) for law in laws]
        if what != axis and len(set(values)) > 1:
            columns.append([what, *values])
    said = []
    for header, name, phrase in (
        ("log|h|", "norm", "|h|: norm at the top over its start"),
        (
            "log|p|",
            "gradient",
            "|p|: gradient at the first layer recorded over its value at the top",
        ),
    ):
        changes = [_change(point, name) for point in points]
        if any(changes):
            columns.append([header, *(_measured(c) for c in changes)])
            columns.append(["sd", *(_spread(c) for c in changes)])
            said.append(phrase)
    if "cosine_mean" in points[0]:
        cells = [
            report.with_error(
                float(p.cosine_mean.isel(layer=-1).mean("pair")),
                float(p.cosine_mean_se.isel(layer=-1).mean("pair")),
            )
            for p in points
        ]
        columns.append(["cosine", *cells])
        said.append(f"cosine of inputs at the top{_start(points[0])}")
    if "log_displacement_mean" in points[0]:
        columns.append(["moved", *(_moved(p) for p in points)])
        said.append("moved: typical |h - h_0|/|h_0| at the top")
    if "log_singular_largest" in points[0]:
        columns.append(["condition", *(_condition(p.isel(layer=-1)) for p in points)])
        said.append("condition: of the Jacobian at the top, typical network")
    if cost is not None:
        columns.append(["cost", *(_time(float(s)) for s in cost.values[rows])])
        said.append("cost: measured time of drawing and observing one network")
    widths = [max(map(len, column)) for column in columns]
    for gap in ("  ", " "):
        lines = [
            gap.join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in zip(*columns, strict=True)
        ]
        if max(map(len, lines)) <= _WIDTH:
            break
    rule = "-" * max(map(len, lines))
    said += ["sd: spread of the logarithm over networks", "± one standard error"]
    notes = report.wrap(said)
    if len(rows) < result.sizes[axis]:
        notes.append(f"{len(rows)} of {result.sizes[axis]} values of {axis} are shown.")
    return "\n".join((lines[0], rule, *lines[1:], rule, *notes))


def _condition(top: xr.Dataset) -> str:
    if float(top.singular_zero_fraction) > 0:
        return "inf"
    return report.scientific(float(top.log_singular_largest - top.log_singular_smallest))


def _start(point: xr.Dataset) -> str:
    if point.sizes["layer"] < 2:
        return ""
    return f" (at the start {float(point.cosine_mean.isel(layer=0).mean('pair')):.3g})"


def _measured(change: _Change | None) -> str:
    return "-" if change is None else report.with_error(change.mean, change.se)


def _spread(change: _Change | None) -> str:
    if change is None or math.isnan(change.spread):
        return "-"
    return format(0.0 if change.spread <= EXACT else change.spread, ".2g")


def _moved(point: xr.Dataset) -> str:
    if _still(point):
        return "0"
    return report.scientific(float(point.log_displacement_mean.isel(layer=-1).mean("input")))


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "-"
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{1e3 * seconds:.3g} ms"


# --------------------------------------------------------------------------- matrices


def _matrices(result: xr.Dataset, down: str, across: str, *, brief: bool) -> list[str]:
    """log10 of the typical norm, gradient and (unless ``brief``) displacement, over two axes."""
    found = []
    for name, layer, what in (
        ("norm", -1, "norm at the top over its start"),
        ("gradient", 0, "gradient at the first recorded layer over its value at the top"),
        ("displacement", -1, "displacement |h - h_0|/|h_0| at the top"),
    ):
        if f"log_{name}_mean" not in result or (brief and name == "displacement"):
            continue
        values = result[f"log_{name}_mean"].isel(layer=layer).mean("input", skipna=False)
        errors = result[f"log_{name}_mean_se"].isel(layer=layer)
        grid = values.transpose(down, across).values / math.log(10)
        rows, columns = (
            _some(np.arange(result.sizes[axis]), most)
            for axis, most in ((down, _ROWS), (across, _COLUMNS))
        )
        table = [[f"{down} \\ {across}", *(_label(result[across].values[j]) for j in columns)]]
        for i in rows:
            cells = [_power(grid[i, j]) for j in columns]
            table.append([_label(result[down].values[i]), *cells])
        widths = [max(len(line[k]) for line in table) for k in range(len(columns) + 1)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(t, widths, strict=True)) for t in table]
        worst = float(errors.max()) / math.log(10)
        error = f", ± {worst:.1g} or less" if math.isfinite(worst) else ""
        rule = "-" * len(lines[0])
        title = f"log10 of the typical {what}{error}"
        found.append("\n".join((textwrap.fill(title, _WIDTH), rule, lines[0], *lines[1:], rule)))
    return found


def _power(value: float) -> str:
    if math.isnan(value):
        return "-"
    if abs(value) < 0.005:
        return "0"
    return f"{value:+.2f}" if abs(value) < 9.995 else f"{value:+.4g}"


# --------------------------------------------------------------------------- sentences


def _verdict(result: xr.Dataset, axis: str) -> str:
    """Which schemes keep the signal, and what the others do to it."""
    points = {
        str(label): _numbers(result, _TABLE).isel({axis: i})
        for i, label in enumerate(result[axis].values)
    }
    changes = {label: (_change(p, "norm"), _change(p, "gradient")) for label, p in points.items()}
    regimes = {label: {c.regime for c in pair if c is not None} for label, pair in changes.items()}
    seen = {name for pair in changes.values() for name, c in zip(_WORDS, pair) if c is not None}
    both = " and ".join(word for word in _WORDS if word in seen)
    if not both:
        return "Nothing was observed on which the signal could be judged."
    depths = {json.loads(law)["network"]["depth"] for law in result["ensemble"].values}
    clauses = []
    kept = [label for label, found in regimes.items() if found == {"preserved"}]
    if kept:
        changed = [c for label in kept for c in changes[label] if c is not None]
        percent = 100 * math.expm1(max(abs(c.mean) + 2 * _certain(c.se) for c in changed))
        within = f"within {percent:.2g}% on average"
        if percent == 0:
            still = all(_still(points[label]) for label in kept)
            within = "exactly" + (" (the identity at initialisation)" if still else "")
        clauses.append(f"{_listed(kept)} {_verb(kept, 'preserve')} {both} {within}")
    near = [
        label
        for label, found in regimes.items()
        if label not in kept and found <= {"preserved", "of order one"}
    ]
    if near:
        factors = "; ".join(f"{label}: {_factors(changes[label])}" for label in near)
        clauses.append(f"{_listed(near)} {_verb(near, 'keep')} {both} of order one ({factors})")
    lost = [label for label in points if label not in kept and label not in near]
    for label in lost:
        clauses.append(f"{label} does not: {_factors(changes[label], spoken=True)}")
    closed = [label for label, point in points.items() if _collapses(point)]
    if closed:
        clauses.append(f"the angle between inputs collapses under {_listed(closed)}")
    if not kept and not near:
        clauses.append("none of them keeps the signal")
    start = f"At depth {min(depths)}, " if len(depths) == 1 else ""
    return f"{start}{'; '.join(clauses)}."


_WORDS = ("norm", "gradient")


def _still(point: xr.Dataset) -> bool:
    """Whether no state had moved at the top."""
    name = "displacement_zero_fraction"
    return name in point and bool((point[name].isel(layer=-1) == 1).all())


def _certain(se: float) -> float:
    return 0.0 if math.isnan(se) else se


def _verb(subjects: Sequence[str], verb: str) -> str:
    return verb if len(subjects) > 1 else f"{verb}s"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _factors(pair: tuple[_Change | None, ...], *, spoken: bool = False) -> str:
    said = []
    for word, change in zip(_WORDS, pair, strict=True):
        if change is None:
            continue
        if not spoken:
            said.append(f"{word} times {change.factor}")
        elif change.regime == "dead":
            said.append(f"the {word} is exactly 0 in every network")
        elif change.regime in ("preserved", "of order one"):
            said.append(f"the {word} stays of order one")
        else:
            verb = "grows" if change.mean > 0 else "vanishes"
            said.append(f"the {word} {verb} by a factor {change.factor}")
    return " and ".join(said) if spoken else ", ".join(said)


def _collapses(point: xr.Dataset) -> bool:
    if "cosine_mean" not in point or point.sizes["layer"] < 2:
        return False
    cosine = point.cosine_mean.mean("pair").values
    return bool(cosine[-1] >= COLLAPSED and cosine[-1] > cosine[0] + SAME_COSINE)


def _counted(result: xr.Dataset) -> str:
    """At how many points norm and gradient do what."""
    clauses = []
    for name, layer in (("norm", -1), ("gradient", 0)):
        if f"log_{name}_mean" not in result:
            continue
        values = result[f"log_{name}_mean"].isel(layer=layer).mean("input", skipna=False).values
        size = np.abs(values)
        counts = {
            "preserved within 5%": int((size <= PRESERVED).sum()),
            "of order one": int(((size > PRESERVED) & (size < CHANGED)).sum()),
            "grows tenfold or more": int((values >= CHANGED).sum()),
            "vanishes tenfold or more": int((values <= -CHANGED).sum()),
            "dead or not observed": int(np.isnan(values).sum()),
        }
        listing = ", ".join(f"{what} at {n}" for what, n in counts.items() if n)
        clauses.append(
            f"the {name} is {listing}".replace("is grows", "grows").replace(
                "is vanishes", "vanishes"
            )
        )
    if not clauses:
        return "Nothing was observed on which the signal could be judged."
    points = math.prod(result.sizes[a] for a in result.attrs["axes"].split() if a in result.sizes)
    return f"Of {points} points: {'; '.join(clauses)}."
