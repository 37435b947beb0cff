"""How many replicas does a measurement need? Answered from theory, before anything is run.

The resolution of a comparison (see `analysis.compare`) is the error that it would find with
probability 90%, wherever it is. With a standard error of sigma for one network, n of them have
sigma / sqrt(n), so the n that gives a resolution follows from the exact variances of
`analysis.theory`. A sample cannot answer this: that of a heavy-tailed moment states an error
which is too small, and so asks for too few replicas.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.stats import norm, pearson3

from analysis.compare import POWER, SKEWED
from analysis.prediction import predict, told
from sigprop.errors import Unsupported
from sigprop.request import Request, defaults, requested
from sigprop.spec import Ensemble, check_number

__all__ = ["Design", "Requirement", "design", "sentence", "table"]

_MOST = 1e18  # replicas that are called infinitely many


@dataclass(frozen=True)
class Requirement:
    """What one variable (of one order) asks for.

    Attributes
    ----------
    variable : str
    order : float or None
    prediction, status : str
        Where the standard error comes from; a spread that is ``approximate`` is one for
        planning.
    layer : int
        The layer that asks for most.
    spread : float
        Standard error of one network there.
    replicas : float
        A whole number, or inf if no number of replicas is enough.
    reason : str
        Why it is inf.
    """

    variable: str
    order: float | None
    prediction: str
    status: str
    layer: int
    spread: float
    replicas: float
    reason: str = ""

    @property
    def label(self) -> str:
        """``norm_moment_log[2]``: the variable and, if there is one, the order."""
        return self.variable if self.order is None else f"{self.variable}[{self.order:g}]"


@dataclass(frozen=True)
class Design:
    """How many replicas give a resolution.

    Attributes
    ----------
    requirements : tuple of Requirement
        The most demanding first.
    resolution, family_error : float
        As in `analysis.compare.compare`.
    numbers : int
        How many numbers are compared at once.
    """

    requirements: tuple[Requirement, ...]
    resolution: float
    family_error: float
    numbers: int

    @property
    def replicas(self) -> float:
        """For all variables; inf if one of them is out of reach."""
        return max(requirement.replicas for requirement in self.requirements)

    def __str__(self) -> str:
        """The table and the sentence."""
        return f"{table(self)}\n\n{sentence(self)}"


def design(
    ensemble: Ensemble,
    resolution: float = 0.01,
    *,
    variables: Collection[str] | None = None,
    layers: Sequence[int] | None = None,
    orders: Sequence[float] | None = None,
    family_error: float = 0.01,
) -> Design:
    """Find the number of replicas at which a comparison has the resolution asked for.

    Parameters
    ----------
    ensemble : Ensemble
    resolution : float
        The smallest error to be seen: in nats (so relative, if small) for logarithms, relative
        for variances, absolute for fractions.
    variables : collection of str, optional
        Variables of a result; default all whose error theory knows.
    layers, orders : sequence, optional
        What will be recorded; default as in `sigprop.simulate`.
    family_error : float
        As in `analysis.compare.compare`.

    Returns
    -------
    Design

    Raises
    ------
    Unsupported
        If theory knows no standard error of what is asked.
    SpecError
        If an argument is out of range.

    Notes
    -----
    Status: exact variances; their use as normal errors, corrected for skewness, is
    approximate. Cost that of `analysis.prediction.predict`.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Point, Power
    >>> law = Ensemble(Network(depth=100, width=100), Power(beta=0.5), Point())
    >>> wanted = design(law, 0.01, variables=["norm_moment_log"])
    >>> 5000 < wanted.replicas < 8000  # (4.4 + 1.3)^2 0.02 / 0.01^2
    True
    """
    resolution = check_number(
        "resolution",
        resolution,
        low=0,
        high=1,
        open_low=True,
        why="It is the size of a relative error.",
    )
    check_number("family_error", family_error, low=0, high=1, open_low=True, open_high=True)
    asked = requested(ensemble, **{**defaults(), "layers": layers, "orders": orders})
    known = predict(ensemble, asked.layers.tolist(), orders=_orders(asked), variables=variables)
    estimates = [v for v in map(str, known.data_vars) if f"{v}_slack" in known]
    planned = [v for v in estimates if f"{v}_spread" in known]
    if not planned:
        raise Unsupported(
            f"theory predicts {', '.join(estimates)} here, but not how much one network differs "
            "from another, so no number of replicas follows. Simulate a few hundred networks: a "
            "result tells its own errors."
        )
    numbers = sum(_random(known, variable) for variable in estimates)
    level = family_error / max(numbers, 1)
    found = [r for variable in planned for r in _requirements(known, variable, resolution, level)]
    found.sort(key=lambda requirement: -requirement.replicas)
    return Design(tuple(found), resolution, family_error, numbers)


def _orders(asked: Request) -> tuple[float, ...]:
    orders: tuple[float, ...] = ()
    for observable in asked.observables:
        orders = getattr(observable, "orders", orders)
    return orders


def _random(known: xr.Dataset, variable: str) -> int:
    """How many numbers of a variable chance can move."""
    predicted = np.isfinite(known[variable].values)
    if f"{variable}_spread" in known:
        predicted &= known[f"{variable}_spread"].values != 0
    return int(predicted.sum())


def _requirements(
    known: xr.Dataset, variable: str, resolution: float, level: float
) -> list[Requirement]:
    if "order" not in known[variable].dims:
        return [_requirement(known, variable, None, 0, resolution, level)]
    return [
        _requirement(known.isel(order=at), variable, float(order), at, resolution, level)
        for at, order in enumerate(known["order"].values)
        if np.isfinite(known[f"{variable}_spread"].isel(order=at).values).any()
    ]


def _requirement(
    known: xr.Dataset,
    variable: str,
    order: float | None,
    position: int,
    resolution: float,
    level: float,
) -> Requirement:
    spread = known[f"{variable}_spread"].transpose("layer", ...).values
    slack = known[f"{variable}_slack"].transpose("layer", ...).values
    value = known[variable].transpose("layer", ...).values
    if variable == "dead_layers_mean":  # compared as a share of the layers so far
        so_far = np.maximum(known["layer"].values.astype(float), 1.0)
        so_far = so_far.reshape(-1, *[1] * (spread.ndim - 1))
        spread, slack, value = spread / so_far, slack / so_far, value / so_far
    if variable.startswith("log_") and variable.endswith("_variance"):
        slack = np.where(slack == 0, 0.0, slack / np.where(value > 0, value, 1.0))
    usable = np.isfinite(value) & (spread > 0)
    room = resolution - slack
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        need = np.where(usable, np.where(room > 0, (spread / room) ** 2, np.inf), 0.0)
    at = np.unravel_index(int(np.argmax(need)), need.shape)
    about = known[variable].attrs
    if not usable[at]:
        replicas, reason = 1.0, ""
    elif room[at] <= 0:
        replicas = math.inf
        reason = f"the prediction itself is good to {slack[at]:.2g} only"
    else:
        moment = variable.endswith("_moment_log")
        replicas = _replicas(float(spread[at]), float(room[at]), level, skewed=moment)
        if not moment:  # one replica cannot tell a fraction smaller than itself
            replicas = max(replicas, math.ceil(1 / resolution)) if _counts(variable) else replicas
        reason = "" if math.isfinite(replicas) else "its tail lies beyond any sample"
    return Requirement(
        variable=variable,
        order=order,
        layer=int(known["layer"].values[at[0]]),
        spread=float(spread[at]) if usable[at] else 0.0,
        replicas=replicas,
        reason=reason,
        prediction=told(about["prediction"], position),
        status=told(about["status"], position),
    )


def _counts(variable: str) -> bool:
    return variable.endswith("_zero_fraction") or variable == "dead_layers_mean"


def _replicas(spread: float, room: float, level: float, *, skewed: bool) -> float:
    """The least n with (critical + power) spread / sqrt(n) <= room, tails allowed for."""
    lopsided = (spread**2 + 3) * spread if skewed else 0.0  # skewness of one replica
    n = ((norm.isf(level / 2) + norm.ppf(POWER)) * spread / room) ** 2
    n = max(n, (lopsided / SKEWED) ** 2, 2.0)
    for _ in range(20):  # a contraction: the critical value depends on n through the skewness
        if not n < _MOST:
            return math.inf
        critical = float(pearson3.isf(level / 2, lopsided / math.sqrt(n)))
        better = max(((critical + norm.ppf(POWER)) * spread / room) ** 2, (lopsided / SKEWED) ** 2)
        if abs(better - n) <= 0.1:
            break
        n = max(better, 2.0)
    return float(math.ceil(n))


# ------------------------------------------------------------------------------ words


def table(design: Design, seconds: float | None = None) -> str:
    """Return one line for each variable; with ``seconds`` for one replica, the time too."""
    header = ["variable", "theory", "replicas", "decided at layer", "sd of one network"]
    lines = [[*header, *(["time"] if seconds is not None else [])]]
    for r in design.requirements:
        line = [r.label, r.status, _many(r.replicas), str(r.layer), f"{r.spread:.3g}"]
        if seconds is not None:
            line.append(duration(seconds * r.replicas))
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "-" * max(map(len, rows))
    return "\n".join((rows[0], rule, *rows[1:], rule))


def sentence(design: Design, seconds: float | None = None) -> str:
    """Return what to ask for, in a sentence or two."""
    near = [r for r in design.requirements if math.isfinite(r.replicas)]
    far = [r for r in design.requirements if math.isinf(r.replicas)]
    said = []
    if near:
        most = near[0]
        time = "" if seconds is None else f", about {duration(seconds * most.replicas)}"
        what = "every variable" if not far else "every other variable"
        said.append(
            f"{_many(most.replicas)} replicas{time}, show an error of {design.resolution:g} in "
            f"{what} with 90% probability (--replicas {most.replicas:.0f}); {most.label} asks "
            f"for most, at layer {most.layer}."
        )
        said[0] = said[0].replace("replicas, show", "replicas show") if not time else said[0]
    if far:
        listed = "; ".join(f"{r.label}: {r.reason}" for r in far[:3])
        said.insert(0, f"Out of reach: {listed}{'; ..' if len(far) > 3 else ''}.")
    said.append(
        f"{design.numbers} numbers are compared at once, at a family error of "
        f"{100 * design.family_error:g}%."
    )
    return textwrap.fill(" ".join(said), 100, break_on_hyphens=False)


def _many(replicas: float) -> str:
    if math.isinf(replicas):
        return "-"
    return f"{replicas:,.0f}".replace(",", " ") if replicas < 1e9 else f"{replicas:.1e}"


def duration(seconds: float) -> str:
    """``12 s``, ``3 min``, ``5 h``, ``2 days``: two digits are more than an estimate deserves.

    >>> duration(0.2), duration(75), duration(7300), duration(1e12)
    ('1 s', '1 min', '2 h', '32000 years')
    """
    if not math.isfinite(seconds):
        return "-"
    for size, unit in ((86400 * 365, "years"), (86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            count = float(f"{seconds / size:.2g}")
            return f"{count:.0f} {unit}" if count >= 1 else f"1 {unit}"
    return f"{max(1, round(seconds))} s"
