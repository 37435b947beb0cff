r"""A verdict on a module from what `sigprop.modules.probe` measured: healthy, or what and where.

Looked at is the trunk: the residual sums if there are two or more, else the layers with weights
but the last, whose scale is a matter of the loss. With y the logarithm of the mean square of a
state, g that of the squared length of the gradient with respect to it, c the cosine of two inputs:

============ ============================================================== ====================
finding      over the trunk                                                 by default
============ ============================================================== ====================
exploding    y, or g on its way back, gains more than 2 ln(tolerance)       tolerance 10
vanishing    it loses as much
collapsing   the share of squared length that all inputs have in common,    common 0.95
             which is c, ends above ``common``, and what is left, 1 - c,
             has at least halved
dead         a layer puts out 0 in some network, or more than 3/4 of its
             units are on for no input
============ ============================================================== ====================

A tolerance of 10 is a factor of length. The gradient of a weight is a state times a gradient, so a
factor 10 in either is a layer that learns ten times faster or slower than another under one
learning rate. Above a common part of
0.95 the last state tells two inputs apart by less than a third (the root of 2 (1 - c)) of its
length. Three quarters, since in a layer whose inputs have all collapsed into one just half of the
units are off for all of them: more is another disease.

A change counts as seen if it is beyond its limit by t standard errors, and as excluded if it is
short of it by as much, t being the 99% point of Student's law over the networks; between the two
the verdict is inconclusive. The error of a change is that of its two ends, added as if they were
independent, which is on the safe side, for they move together. Of one network the error is that
over the inputs of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t as student

from sigprop.errors import SpecError
from sigprop.spec import check_number

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Change", "Finding", "ModuleVerdict", "Trunk", "judge_module", "require_limits", "trunk"]

_WEIGHTED = ("Linear", "Conv", "Bilinear", "LSTM", "GRU", "RNN", "MultiheadAttention")
_DEAD = 0.75
_MANY = 100_000  # replicas or inputs beyond which no number is told
_ORDER = ("dead", "exploding", "vanishing", "collapsing")  # the worst first


@dataclass(frozen=True)
class Trunk:
    """The states at which a module is judged, in order of execution.

    Attributes
    ----------
    kind : str
        ``sum`` or ``layer``.
    names : tuple of str
    log_square, log_gradient : ndarray, shape (n,)
        Mean over networks of the logarithm of the mean square of an entry; of the squared length
        of the gradient of one input.
    log_square_se, log_gradient_se : ndarray, shape (n,)
    cosine, cosine_se : ndarray, shape (n,)
    networks : int
    """

    kind: str
    names: tuple[str, ...]
    log_square: np.ndarray
    log_square_se: np.ndarray
    log_gradient: np.ndarray
    log_gradient_se: np.ndarray
    cosine: np.ndarray
    cosine_se: np.ndarray
    networks: int


def trunk(found: xr.Dataset) -> Trunk:
    """Read the trunk off what was probed.

    Raises
    ------
    SpecError
        If fewer than two states are there to be compared.
    """
    networks = int(found.attrs["networks"])
    if found.sizes.get("sum", 0) >= 2:
        part, prefix, kind = found, "sum_", "sum"
    else:
        kinds = [str(k) for k in found.kind.values]
        rows = [i for i, k in enumerate(kinds) if k.startswith(_WEIGHTED)]
        part, prefix, kind = found.isel(layer=rows[:-1] if len(rows) > 2 else rows), "", "layer"
    names = tuple(str(name) for name in part[kind].values)
    if len(names) < 2:
        raise SpecError(
            f"the module has {len(names)} residual sums or layers with weights where a signal "
            "could grow or fade, and a change needs two. Check a deeper module, or the "
            "whole of which this is a part."
        )

    def logs(name: str) -> tuple[np.ndarray, np.ndarray]:
        value = part[f"log_{prefix}{name}_mean"].values
        if networks > 1:
            return value, part[f"log_{prefix}{name}_mean_se"].values
        square = part[f"{prefix}{name}"].values
        with np.errstate(invalid="ignore", divide="ignore"):
            return value, part[f"{prefix}{name}_batch_se"].values / square

    square, square_se = logs("second_moment")
    gradient, gradient_se = logs("gradient_second_moment")
    entries = part[f"{prefix}entries"].values
    return Trunk(
        kind, names, square, square_se, gradient + np.log(entries), gradient_se,
        part[f"{prefix}cosine_mean"].values, part[f"{prefix}cosine_mean_se"].values, networks,
    )  # fmt: skip


@dataclass(frozen=True)
class Change:
    """By how much a quantity changes over the trunk.

    Attributes
    ----------
    quantity : str
        ``state`` or ``gradient``, which is followed backward.
    log_change, se : float
        Of the mean square, in nats.
    rate : float
        Nats a step of the trunk.
    factor : float
        Of the length, from one end to the other.
    start : str
        Where the change that prevails begins: beyond it lie no values further the other way.
    seen : str
        ``yes``, ``no`` or ``unsure``: whether it is beyond its limit.
    """

    quantity: str
    log_change: float
    se: float
    rate: float
    factor: float
    start: str
    seen: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    kind : str
        ``exploding``, ``vanishing``, ``collapsing`` or ``dead``.
    quantity : str
        ``state``, ``gradient``, ``cosine`` or ``units``.
    start : str
        The layer or sum where it starts.
    words : str
        A sentence.
    """

    kind: str
    quantity: str
    start: str
    words: str


@dataclass(frozen=True)
class ModuleVerdict:
    """What is to be said of a module.

    Attributes
    ----------
    verdict : str
        ``healthy``, the worst finding, or ``inconclusive``.
    findings : tuple of Finding
    changes : tuple of Change
    unsure : tuple of str
        Sentences on what could not be decided.
    """

    verdict: str
    findings: tuple[Finding, ...]
    changes: tuple[Change, ...]
    unsure: tuple[str, ...] = field(default=())

    @property
    def exit_status(self) -> int:
        """0 healthy, 1 unhealthy, 3 inconclusive."""
        return {"healthy": 0, "inconclusive": 3}.get(self.verdict, 1)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def require_limits(tolerance: float, common: float) -> tuple[float, float]:
    """Return the limits of `judge_module`, or raise SpecError if one is out of its range."""
    return (
        check_number("tolerance", tolerance, low=1, open_low=True),
        check_number("common", common, low=0, high=1, open_low=True, open_high=True),
    )


def judge_module(
    found: xr.Dataset, *, tolerance: float = 10.0, common: float = 0.95
) -> ModuleVerdict:
    """Judge what `sigprop.modules.probe` measured.

    Parameters
    ----------
    found : Dataset
    tolerance : float
        Factor of a length, above 1, by which it may change from one end to the other.
    common : float
        Cosine above which inputs count as collapsed, in (0, 1).

    Returns
    -------
    ModuleVerdict

    Raises
    ------
    SpecError
        If the module is too short to be judged, or a limit is out of its range.

    Notes
    -----
    Status: a rule, stated at the top of the module; no theory. False alarms of a healthy module
    whose change is exactly at the limit: 1%.
    """
    tolerance, common = require_limits(tolerance, common)
    limit = 2 * math.log(tolerance)
    states = trunk(found)
    findings, unsure = _dead(found), []
    inputs = int(found.attrs["inputs"])
    changes = []
    names = states.names
    for quantity, y, se, order in (
        ("state", states.log_square, states.log_square_se, names),
        ("gradient", states.log_gradient[::-1], states.log_gradient_se[::-1], names[::-1]),
    ):
        change = _change(quantity, y, se, order, limit, states.networks)
        if change is None:
            if quantity == "gradient":
                unsure.append("No gradient reaches the trunk, so nothing is known of the way back.")
            continue
        changes.append(change)
        if change.seen == "yes":
            kind = "exploding" if change.log_change > 0 else "vanishing"
            findings.append(Finding(kind, quantity, change.start, _told(kind, change, states.kind)))
        elif change.seen == "unsure":
            unsure.append(_undecided(change, limit, states.networks, inputs))
    findings += _collapse(states, common, unsure)
    findings.sort(key=lambda one: _ORDER.index(one.kind))
    verdict = findings[0].kind if findings else "inconclusive" if unsure else "healthy"
    return ModuleVerdict(verdict, tuple(findings), tuple(changes), tuple(unsure))


def _critical(networks: int) -> float:
    return float(student.isf(0.005, networks - 1 if networks > 1 else math.inf))


def _change(
    quantity: str,
    y: np.ndarray,
    se: np.ndarray,
    names: Sequence[str],
    limit: float,
    networks: int,
) -> Change | None:
    there = np.flatnonzero(np.isfinite(y))
    if len(there) < 2:
        return None
    first, last = int(there[0]), int(there[-1])
    change = float(y[last] - y[first])
    error = float(np.nan_to_num(math.hypot(se[last], se[first])))
    margin = _critical(networks) * error
    seen = "yes" if abs(change) - margin > limit else "no"
    if seen == "no" and abs(change) + margin > limit:
        seen = "unsure"
    # A climb begins at the lowest point, a fall at the highest.
    turn = there[int(np.argmin(np.sign(change) * y[there]))]
    return Change(
        quantity, change, error, change / (last - first), math.exp(change / 2), names[turn], seen
    )


def _undecided(change: Change, limit: float, networks: int, inputs: int) -> str:
    """A change whose error reaches over its limit: both, and what would decide."""
    margin = _critical(networks) * change.se
    low, high = (_plain(math.exp((change.log_change + side * margin) / 2)) for side in (-1, 1))
    tolerated = math.exp(limit / 2)
    return (
        f"The length of the {change.quantity} changes by a factor {_plain(change.factor)} from end "
        f"to end, {low} to {high} within its error (99%), and {_plain(1 / tolerated)} to "
        f"{_plain(tolerated)} is tolerated: not decided. "
        f"{_decides(abs(abs(change.log_change) - limit), change.se, networks, inputs)}"
    )


def _decides(distance: float, error: float, networks: int, inputs: int) -> str:
    """How many replicas, or inputs of a single network, bring the margin below ``distance``."""
    if networks == 1:  # its error is that over the inputs, and falls as their root
        count = math.ceil(inputs * (_critical(1) * error / distance) ** 2) if distance else _MANY
        what, option = "inputs", f"--input {count},..."
    else:
        spread, count = error * math.sqrt(networks), networks + 1
        while count < _MANY and _critical(count) * spread / math.sqrt(count) >= distance:
            count += max(1, count // 50)
        what, option = "replicas", f"--replicas {count}"
    if count >= _MANY:
        return f"It is so near the limit that {_MANY} {what} would not do."
    return f"If it stays where it is, about {count} {what} decide ({option})."


def _told(kind: str, change: Change, unit: str) -> str:
    way = "from the input on" if change.quantity == "state" else "on its way back to the input"
    step = "residual sum" if unit == "sum" else "layer"
    what = "a state" if change.quantity == "state" else "a gradient"
    grows = "grows" if change.log_change > 0 else "shrinks"
    return (
        f"The length of {what} {grows} by a factor {_plain(change.factor)} {way}, {kind} from "
        f"{change.start} on: its square by {math.exp(change.rate):.3g} a {step}."
    )


def _plain(factor: float) -> str:
    return f"{factor:.3g}" if factor >= 1 else f"1/{1 / factor:.3g}"


def _collapse(states: Trunk, common: float, unsure: list[str]) -> list[Finding]:
    there = np.flatnonzero(np.isfinite(states.cosine))
    if len(there) < 2:
        unsure.append("Cosines need two inputs at least, so nothing is known of their angles.")
        return []
    first, last = int(there[0]), int(there[-1])
    start, end = float(states.cosine[first]), float(states.cosine[last])
    error = float(np.nan_to_num(states.cosine_se[last])) * _critical(states.networks)
    if end + error <= common or 1 - end > (1 - start) / 2:
        return []
    if end - error <= common:
        decides = _decides(abs(end - common), float(states.cosine_se[last]), states.networks, 0)
        unsure.append(
            f"Two inputs end at a cosine of {end:.4f} ± {error:.2g} (99%), and above {common:g} "
            f"they count as collapsed: not decided. {decides}"
        )
        return []
    turn = there[int(np.argmin(states.cosine[there]))]
    return [
        Finding(
            "collapsing",
            "cosine",
            states.names[turn],
            f"The states of two inputs turn towards each other, from a cosine of {start:.3f} to "
            f"{end:.4f}, from {states.names[turn]} on: {100 * end:.1f}% of a state's square is "
            "common to all inputs.",
        )
    ]


def _dead(found: xr.Dataset) -> list[Finding]:
    networks = int(found.attrs["networks"])
    for name, kind, moment, dead, error in zip(
        found.layer.values,
        found.kind.values,
        found.second_moment.values,
        found.dead_fraction.values,
        np.nan_to_num(found.dead_fraction_se.values),
        strict=True,
    ):
        if not str(kind).endswith(("LU", "Hardtanh", "Threshold")):
            continue
        if moment == 0 or dead - _critical(networks) * error > _DEAD:
            return [
                Finding(
                    "dead",
                    "units",
                    str(name),
                    f"{100 * dead:.0f}% of the units of {name} ({kind}) are on for no input of the "
                    "batch.",
                )
            ]
    return []
