"""Does a result agree with theory? One verdict a variable, with what it could have missed.

The measured number m and the predicted one p differ by chance with a standard error s, so
z = (m - p) / s is judged against its law. Three things make such a judgement worthless, and
each is met here:

* *Heavy tails.* A sample of them underestimates its own error, and does so exactly when its mean
  is most wrong. Where theory knows the error, theory's is taken. An average of n numbers with
  relative variance w has the skewness (w + 3) sqrt(w / n) if they are about log-normal, which
  is allowed for (by Pearson's law of that skewness) up to `SKEWED`; beyond, a moment can only
  be refuted, by Chebyshev's inequality, and never confirmed.
* *Many numbers.* The chance that agreement is called disagreement, over all numbers together,
  is at most ``family_error`` (Holm's method). Neighbouring layers are correlated, so it is in
  fact much smaller: the verdict is conservative.
* *Silence.* Whether anything could have been seen is said: the ``resolution`` of a variable is
  the error which, at any of its layers, would have been found with probability `POWER`. If
  that is worse than what was asked for, the verdict is inconclusive.

A limit holds up to its slack and is contradicted only beyond it; a bound on one side only.

Of a sweep all points are judged at once, a variable at a time over all of them: the more points,
the more numbers, and the farther apart they must be.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from scipy.stats import binom, norm, pearson3, t

from analysis.points import points
from analysis.prediction import predict, told
from sigprop.accumulate.reliable import LEAST
from sigprop.errors import SpecError, Unsupported
from sigprop.spec import Ensemble, check_number

__all__ = ["POWER", "SKEWED", "Comparison", "Verdict", "compare", "sentence", "table"]

POWER = 0.9  # probability with which an error of the size of the resolution is found
SKEWED = 0.5  # skewness of an average beyond which Pearson's law is not relied on
COARSE = 0.5  # an agreement that would have missed this error says nothing
_SHAPE = ("_skewness", "_kurtosis")  # judged if asked for; analysis.gaussianity does it better
_FLOAT32 = 3e-7  # draws are in single precision: no sampler promises more
_WEIGHTED = 1e-10  # rounding of a product of weights, where they have no error of chance
_ROUNDING = 1e-12

EXIT_STATUS = {"agree": 0, "disagree": 1, "inconclusive": 3}
_GRAVEST_FIRST = ("disagree", "inconclusive", "agree")


@dataclass(frozen=True)
class Comparison:
    """One variable (of one order) of a result against its prediction.

    Attributes
    ----------
    variable : str
    order : float or None
    prediction, status : str
        Name of the prediction and its status.
    verdict : str
        ``agree``, ``disagree`` or ``inconclusive``.
    z, p : float
        Where they are farthest apart: distance in standard errors, beyond the slack, and
        the probability of as much by chance, not corrected for multiplicity.
    layer, place : int, str
        Where that is: the layer and the input or pair of inputs.
    measured, predicted, slack, se : float
        The numbers there.
    error : str
        ``theory`` if the standard errors are exact, ``sample`` if they are the result's own.
    resolution : float
        The error that, at any layer judged, would have been found with probability `POWER`:
        in nats (so relative, if small) for logarithms, relative for variances of logarithms,
        absolute for fractions and cosines. inf if no number could be judged.
    numbers, judged : int
        How many numbers were compared, and how many had errors to be relied on.
    reason : str
        Why it is inconclusive.
    point : str
        Of a sweep, the point where that is, ``beta=0.5, hurst=0.9``; other numbers are over all
        of its points.
    """

    variable: str
    order: float | None
    prediction: str
    status: str
    verdict: str
    z: float
    p: float
    layer: int
    place: str
    measured: float
    predicted: float
    slack: float
    se: float
    error: str
    resolution: float
    numbers: int
    judged: int
    reason: str = ""
    point: str = ""

    @property
    def label(self) -> str:
        """``norm_moment_log[2]``: the variable and, if there is one, the order."""
        return self.variable if self.order is None else f"{self.variable}[{self.order:g}]"


@dataclass(frozen=True)
class Verdict:
    """All comparisons of a result.

    Attributes
    ----------
    comparisons : tuple of Comparison
    family_error : float
        Chance of calling any agreement a disagreement, at most.
    numbers : int
        How many numbers were compared at once.
    points, without_theory : int
        Of a sweep, how many points were compared, and of how many theory says nothing.
    """

    comparisons: tuple[Comparison, ...]
    family_error: float
    numbers: int
    points: int = 1
    without_theory: int = 0

    @property
    def verdict(self) -> str:
        """``disagree`` if any variable does, else ``inconclusive`` if any is, else ``agree``."""
        found = {comparison.verdict for comparison in self.comparisons}
        return next(v for v in _GRAVEST_FIRST if v in found)

    @property
    def exit_status(self) -> int:
        """0 agree, 1 disagree, 3 inconclusive; see `sigprop.errors`."""
        return EXIT_STATUS[self.verdict]

    def of(self, verdict: str) -> tuple[Comparison, ...]:
        """The comparisons that ended in this verdict."""
        return tuple(c for c in self.comparisons if c.verdict == verdict)

    def __str__(self) -> str:
        """The table and the sentence."""
        return f"{table(self)}\n\n{sentence(self)}"


def compare(
    result: xr.Dataset,
    prediction: xr.Dataset | None = None,
    *,
    variables: Collection[str] | None = None,
    names: Collection[str] | None = None,
    family_error: float = 0.01,
    resolution: float | None = None,
) -> Verdict:
    """Judge a result against theory.

    Parameters
    ----------
    result : Dataset
        Of `sigprop.simulate`, or of `sigprop.sweep`, whole or a part of its points.
    prediction : Dataset, optional
        Of `analysis.prediction.predict`; default: the strongest theory that applies. Any Dataset
        with the names and coordinates of a result will do. Of one ensemble only.
    variables : collection of str, optional
        Variables to judge; default all that are both measured and predicted.
    names : collection of str, optional
        Predictions to judge by, instead of the strongest.
    family_error : float
        Chance of calling any agreement a disagreement, over all numbers together.
    resolution : float, optional
        The error that must be excluded for an agreement; see `Comparison`. Default 0.5.

    Returns
    -------
    Verdict

    Raises
    ------
    Unsupported
        If no theory applies to what was measured.
    SpecError, UnknownName, ResultError
        If an argument is out of range or unknown, or the result does not say of which
        ensemble it is.
    """
    family_error = check_number(
        "family_error", family_error, low=0, high=1, open_low=True, open_high=True
    )
    if resolution is not None:
        resolution = check_number(
            "resolution", resolution, low=0, open_low=True, why="It is the size of an error."
        )
    if variables is not None:
        _check_variables(variables, result)
    given = [("", result)] if prediction is not None else list(points(result))
    tables, without = [], 0
    for name, point in given:
        try:
            theory = _theory(point, variables, names) if prediction is None else prediction
        except Unsupported:
            without += 1
            if without == len(given):
                raise
            continue
        tables += [
            replace(numbers, point=name)
            for variable in map(str, theory.data_vars)
            if variable in point
            and (variable in variables if variables is not None else not variable.endswith(_SHAPE))
            for numbers in _tables(point, theory, variable)
            if numbers.compared.any()
        ]
    if not tables:
        raise Unsupported(
            "nothing that was measured is predicted, so there is nothing to compare. Measured: "
            f"{_listed(result)}. Predicted: {_listed(theory)}."
        )
    numbers = sum(int(table.random.sum()) for table in tables)
    level = family_error / max(numbers, 1)
    tables = [_tested(table, level) for table in tables]
    rejected = _holm(tables, family_error)
    asked = COARSE if resolution is None else resolution
    rows = [_judged(table, bad, asked) for table, bad in zip(tables, rejected, strict=True)]
    return Verdict(_over_points(rows), family_error, numbers, len(given) - without, without)


def _over_points(rows: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """One row for each variable, order and prediction: the gravest of all points."""
    groups: dict[tuple[str, float | None, str], list[Comparison]] = {}
    for row in rows:
        groups.setdefault((row.variable, row.order, row.prediction), []).append(row)
    found = []
    for group in groups.values():
        gravest = next(v for v in _GRAVEST_FIRST if any(row.verdict == v for row in group))
        worst = min((r for r in group if r.verdict == gravest), key=lambda r: (r.p, -abs(r.z)))
        found.append(
            replace(
                worst,
                resolution=max(row.resolution for row in group),
                numbers=sum(row.numbers for row in group),
                judged=sum(row.judged for row in group),
            )
        )
    return tuple(found)


def _theory(
    result: xr.Dataset, variables: Collection[str] | None, names: Collection[str] | None
) -> xr.Dataset:
    ensemble = Ensemble.from_dict(json.loads(result.attrs["ensemble"]))
    measured = [str(v) for v in result.data_vars if variables is None or v in variables]
    orders = result["order"].values.tolist() if "order" in result.coords else None
    layers = result["layer"].values.tolist()
    return predict(ensemble, layers, orders=orders, variables=measured, names=names)


def _check_variables(variables: Collection[str], result: xr.Dataset) -> None:
    from sigprop.registry import did_you_mean

    for name in variables:
        if name not in result:
            known = [str(v) for v in result.data_vars]
            raise SpecError(
                f"{name!r} is no variable of this result.{did_you_mean(name, known)} "
                f"Estimates: {_listed(result)}."
            )


def _listed(dataset: xr.Dataset) -> str:
    parts = ("_se", "_slack", "_spread", "_ess", "_reliable", "_error")
    names = [str(v) for v in dataset.data_vars if not str(v).endswith(parts)]
    return ", ".join(names) or "none"


# ------------------------------------------------------------------------- the numbers


@dataclass(frozen=True)
class _Table:
    """The numbers of one variable and order, all of shape (layers, inputs or pairs).

    ``gap`` is measured - predicted, counted in ``unit`` of the variable, after the slack is
    taken off; ``distance`` its size before that, over error and slack together; ``se`` its
    standard error; ``skew`` the skewness of gap / se; ``critical`` the |z| that would be a
    disagreement.
    """

    variable: str
    order: float | None
    about: dict[str, str]
    layers: np.ndarray
    places: list[str]
    measured: np.ndarray
    predicted: np.ndarray
    slack: np.ndarray
    gap: np.ndarray
    distance: np.ndarray
    se: np.ndarray
    unit: np.ndarray
    skew: np.ndarray
    sound: np.ndarray  # whether the error is to be relied on
    absolute: bool  # a fraction or count: even without a sound error there is a resolution
    compared: np.ndarray
    random: np.ndarray
    degrees: float  # of freedom of the error; inf if it is exact
    count: np.ndarray | None  # for a fraction: how often the event was seen
    replicas: int
    p: np.ndarray
    critical: np.ndarray
    point: str = ""


def _tables(result: xr.Dataset, prediction: xr.Dataset, variable: str) -> list[_Table]:
    """One table for every order that is both measured and predicted."""
    shared = [variable, f"{variable}_slack", f"{variable}_spread"]
    theory = prediction[[name for name in shared if name in prediction]]
    own = [variable, f"{variable}_se"]
    if variable.endswith("_moment_log"):
        stem = variable.removesuffix("_log")
        own += [f"{stem}_ess", f"{stem}_reliable"]
    alive = variable.removeprefix("log_").rpartition("_")[0] + "_zero_fraction"
    own += [alive] if variable.startswith("log_") and alive in result else []
    sample = result[[name for name in dict.fromkeys(own) if name in result]]
    sample, theory = xr.align(sample, theory, join="inner", copy=False)
    if 0 in sample.sizes.values():
        return []
    extra = set(sample[variable].dims) - {"order", "layer", "input", "pair"}
    if extra:
        raise SpecError(
            f"{variable} has the dimension {', '.join(map(repr, sorted(map(str, extra))))}: a "
            "comparison is of one ensemble. Select one point with .isel(...)."
        )
    if "order" not in sample[variable].dims:
        return [_table(sample, theory, prediction, variable, None, result)]
    listed = prediction["order"].values.tolist()
    return [
        _table(
            sample.sel(order=order),
            theory.sel(order=order),
            prediction,
            variable,
            float(order),
            result,
            listed.index(order),
        )
        for order in sample["order"].values
    ]


def _table(
    sample: xr.Dataset,
    theory: xr.Dataset,
    prediction: xr.Dataset,
    variable: str,
    order: float | None,
    result: xr.Dataset,
    position: int = 0,
) -> _Table:
    replicas = int(result.attrs["replicas"])
    others = [dim for dim in sample[variable].dims if dim != "layer"]
    shape = (sample.sizes["layer"], math.prod(sample.sizes[dim] for dim in others))

    def numbers(dataset: xr.Dataset, name: str, missing: float = math.nan) -> np.ndarray:
        if name not in dataset:
            return np.full(shape, missing)
        array = dataset.variables[name].transpose("layer", *others)
        return np.asarray(array.values, float).reshape(shape)

    measured, predicted = numbers(sample, variable), numbers(theory, variable)
    slack = numbers(theory, f"{variable}_slack", 0.0)
    sample_se, spread = numbers(sample, f"{variable}_se"), numbers(theory, f"{variable}_spread")
    about = _about(prediction[variable].attrs, position)
    known = about["spread_status"] == "exact" and not np.isnan(spread).all()
    if "sampler_options" in result.attrs:  # weighted networks: theory's spread is of others
        known = False
        sample_se = np.hypot(sample_se, _WEIGHTED)
    compared = ~np.isnan(measured) & ~np.isnan(predicted)
    moment = variable.endswith("_moment_log")
    fraction = variable.endswith("_zero_fraction")
    counts = fraction or variable == "dead_layers_mean"
    relative = variable.startswith("log_") and variable.endswith("_variance")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gap = np.where(measured == predicted, 0.0, measured - predicted)
        if relative:  # an estimate of a variance is nearer to normal on the logarithmic scale
            nothing = (measured < _ROUNDING**2) & (predicted < _ROUNDING**2)
            gap = np.where(nothing, 0.0, np.log(measured) - np.log(predicted))
            spread = np.where(nothing, 0.0, spread)
            sample_se = sample_se / measured
            slack = np.where(slack == 0, 0.0, slack / predicted)
        whole = np.abs(gap)
        gap = _beyond(gap, slack, about["side"])
        if known:
            share = numbers(sample, _alive(variable), 0.0) if variable.startswith("log_") else 0.0
            se = spread / np.sqrt(replicas * (1 - np.asarray(share)))
        else:
            se = sample_se
        if moment:
            stem = variable.removesuffix("_log")
            own = numbers(sample, f"{stem}_ess"), numbers(sample, f"{stem}_reliable", 0.0)
            gap, skew, sound = _moment(gap, spread, own, known=known, replicas=replicas)
        elif counts and known:
            # About Poisson: 1.5 allows for layers that die together.
            skew = 1.5 * se / np.abs(predicted)
            sound = skew <= SKEWED
        else:
            # The logarithm of a variance of normal values is skewed, if little.
            skew = np.full(shape, -math.sqrt(2 / replicas) if relative else 0.0)
            sound = np.full(shape, known or replicas >= LEAST)
        unit = np.where(np.isfinite(predicted), predicted, 1.0) if relative else np.ones(shape)
        if variable == "dead_layers_mean":  # a share of the layers so far, as is a fraction
            so_far = np.maximum(np.asarray(sample["layer"].values, float), 1.0)[:, None]
            gap, whole, slack, se = (x / so_far for x in (gap, whole, slack, se))
            unit = unit * so_far
        same = (measured == predicted) & ~(np.isfinite(se) & np.isfinite(predicted))
        se = np.where(same, 0.0, se)  # both are zero for certain
        floor = _ROUNDING + _FLOAT32 * np.where(np.isfinite(predicted), np.abs(predicted), 0.0)
        random = compared & ~(se <= floor)
        se = np.hypot(se, floor)
        distance = np.where(whole == 0, 0.0, whole / (se + slack))
    sound &= np.isfinite(se)
    return _Table(
        variable=variable,
        order=order,
        about=about,
        layers=np.asarray(sample["layer"].values),
        places=_names(sample, others),
        measured=measured,
        predicted=predicted,
        slack=slack,
        gap=gap,
        distance=distance,
        se=se,
        unit=unit,
        skew=np.where(np.isfinite(skew), skew, 0.0),
        sound=sound,
        absolute=counts,
        compared=compared,
        random=random,
        degrees=math.inf if known else max(replicas - 1, 1),
        count=np.rint(measured * replicas) if fraction and known else None,
        replicas=replicas,
        p=np.ones(shape),
        critical=np.full(shape, math.nan),
    )


def _alive(variable: str) -> str:
    """``log_norm_mean`` -> ``norm_zero_fraction``: logarithms are of the others alone."""
    return variable.removeprefix("log_").rpartition("_")[0] + "_zero_fraction"


def _about(attrs: dict[str, object], position: int) -> dict[str, str]:
    usual = {"prediction": "given", "status": "given", "side": "", "spread_status": "exact"}
    return {name: told(attrs.get(name, default), position) for name, default in usual.items()}


def _names(sample: xr.Dataset, others: list[object]) -> list[str]:
    if not others:
        return [""]
    (dim,) = others
    return [f"{dim} {value}" for value in sample[dim].values]


def _beyond(gap: np.ndarray, slack: np.ndarray, side: str) -> np.ndarray:
    """What is left of a gap when the slack is granted; of a bound, on its forbidden side."""
    left = np.sign(gap) * np.maximum(np.abs(gap) - slack, 0.0)
    if side == "upper":
        return np.maximum(left, 0.0)
    return np.minimum(left, 0.0) if side == "lower" else left


def _moment(
    gap: np.ndarray,
    spread: np.ndarray,
    own: tuple[np.ndarray, np.ndarray],
    *,
    known: bool,
    replicas: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(gap, skew, sound) of log E r^s: the average itself, not its logarithm, is unbiased."""
    if known:
        # spread is the relative standard deviation sqrt(w) of one replica.
        skew = (spread**2 + 3) * spread / math.sqrt(replicas)
        return np.expm1(gap), skew, skew <= SKEWED
    ess, reliable = own
    w = np.maximum(replicas / ess - 1, 0.0)
    # A large value raises the average and its error together: the ratio is skewed the other
    # way, and about twice as much.
    skew = -2 * (w + 3) * np.sqrt(w / replicas)
    return gap, skew, (np.abs(skew) <= SKEWED) & (reliable == 1)


# --------------------------------------------------------------------------- the tests


def _tested(table: _Table, level: float) -> _Table:
    """Fill in the p-values, and the |z| that would have been a disagreement by itself."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(table.gap == 0, 0.0, table.gap / table.se)
    if table.count is not None:
        law = binom(table.replicas, np.clip(table.predicted, 0.0, 1.0))
        p = 2 * np.minimum(law.cdf(table.count), law.sf(table.count - 1))
        p = np.where(table.gap == 0, 1.0, p)
    elif math.isinf(table.degrees):
        p = 2 * np.minimum(pearson3.cdf(z, table.skew), pearson3.sf(z, table.skew))
    else:
        # Both corrections are small where the error is sound; the larger p-value is taken.
        tail = 2 * np.minimum(pearson3.cdf(z, table.skew), pearson3.sf(z, table.skew))
        p = np.maximum(tail, 2 * t.sf(np.abs(z), table.degrees))
    # Chebyshev's inequality asks nothing of the law, but the exact variance.
    if math.isinf(table.degrees):
        with np.errstate(divide="ignore"):
            chebyshev = np.where(z == 0, 1.0, 1 / z**2)
    else:
        chebyshev = np.ones_like(z)
    if table.count is None:
        p = np.where(table.sound, p, chebyshev)
    p = np.where(np.isnan(p), 1.0, np.minimum(p, 1.0))
    p = np.where(table.random, p, np.where(np.abs(z) <= 10, 1.0, 0.0))
    return replace(table, p=np.where(table.compared, p, 1.0), critical=_critical(table, level / 2))


def _critical(table: _Table, tail: float) -> np.ndarray:
    if not math.isinf(table.degrees):
        return np.maximum(pearson3.isf(tail, np.abs(table.skew)), float(t.isf(tail, table.degrees)))
    usual = pearson3.isf(tail, np.abs(np.where(table.sound, table.skew, 0.0)))
    return np.where(table.sound, usual, 1 / math.sqrt(2 * tail))


def _holm(tables: list[_Table], family_error: float) -> list[np.ndarray]:
    """Which numbers are in disagreement, at a family error over all tables (Holm 1979)."""
    p = np.concatenate([table.p[table.random] for table in tables])
    order = np.argsort(p)
    passed = p[order] > family_error / np.arange(len(p), 0, -1)
    first = int(np.argmax(passed)) if passed.any() else len(p)
    bad = np.zeros(len(p), bool)
    bad[order[:first]] = True
    ends = np.cumsum([int(table.random.sum()) for table in tables])
    rejected = []
    for table, part in zip(tables, np.split(bad, ends[:-1]), strict=True):
        where = table.compared & ~table.random & (table.p == 0)  # no chance was involved
        where[table.random] = part
        rejected.append(where)
    return rejected


def _judged(table: _Table, rejected: np.ndarray, asked: float) -> Comparison:
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(table.gap == 0, 0.0, table.gap / table.se)
    size = np.where(table.compared, np.nan_to_num(table.distance, nan=0.0), -1.0)
    # Of equal p-values (1 within the slack, 0 beyond float64) the larger distance is told.
    at = np.unravel_index(np.lexsort((-size.ravel(), table.p.ravel()))[0], z.shape)
    judged = table.compared & (~table.random | table.sound | table.absolute)
    seen = (table.critical + norm.ppf(POWER)) * table.se + table.slack
    if table.absolute:
        seen = np.maximum(seen, 1 / table.replicas)
    measurable = judged & table.random
    worst = float(np.max(seen[measurable])) if measurable.any() else 0.0
    # Numbers that no chance moves are always judged; they say nothing of those that it does.
    resolution = worst if measurable.any() or not table.random.any() else math.inf
    verdict, reason = "agree", ""
    if rejected.any():
        verdict = "disagree"
    elif not judged[table.compared].all():
        verdict, reason = "inconclusive", _unsound(table, judged)
    elif resolution > asked:
        verdict = "inconclusive"
        reason = f"would have missed an error of {resolution:.2g}, and {asked:.2g} must be seen"
    return Comparison(
        variable=table.variable,
        order=table.order,
        prediction=table.about["prediction"],
        status=table.about["status"],
        verdict=verdict,
        z=float(z[at]) + 0.0,
        p=float(table.p[at]),
        layer=int(table.layers[at[0]]),
        place=table.places[at[1]],
        measured=float(table.measured[at]),
        predicted=float(table.predicted[at]),
        slack=float(table.slack[at] * table.unit[at]),
        se=float(table.se[at] * table.unit[at]),
        error="theory" if math.isinf(table.degrees) else "sample",
        resolution=resolution,
        numbers=int(table.compared.sum()),
        judged=int(judged.sum()),
        reason=reason,
        point=table.point,
    )


def _unsound(table: _Table, judged: np.ndarray) -> str:
    lost = table.layers[(table.compared & ~judged).any(axis=1)]
    where = f"layer {lost[0]}" if len(lost) == 1 else f"{len(lost)} layers from {lost[0]}"
    return f"too few of {table.replicas} replicas carry it at {where}"


# ------------------------------------------------------------------------------ words

_HEADER = ("variable", "theory", "verdict", "z", "at layer", "measured", "predicted", "sees")
_LEGEND = (
    "z: (measured - predicted) / standard error, where they are farthest apart; sees: the error "
    "that would have been found with 90% probability at every layer judged, relative for moments, "
    "norms and variances, absolute for fractions; * standard errors from theory."
)


def table(verdict: Verdict) -> str:
    """Return one line for each variable, and what the columns mean."""
    lines = [_HEADER, *(_line(comparison) for comparison in verdict.comparisons)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(
            cell.ljust(width) if at < 3 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "-" * max(map(len, rows))
    return "\n".join(
        (rows[0], rule, *rows[1:], rule, textwrap.fill(_LEGEND, 100, break_on_hyphens=False))
    )


def _line(comparison: Comparison) -> tuple[str, ...]:
    c = comparison
    exact = "*" if c.error == "theory" else ""
    sees = "-" if math.isinf(c.resolution) else f"{c.resolution:.2g}"
    told = [c.place] if c.place not in ("", "input 0", "pair 0-1") else []
    told += [c.point] if c.point else []
    place = f"{c.layer} ({'; '.join(told)})" if told else f"{c.layer}"
    z = f"{c.z:+.1f}" if abs(c.z) < 1e4 else f"{c.z:+.0e}"
    predicted = _told(c.predicted, c.slack)
    measured = _told(c.measured, c.se) + (exact if c.se > _TOLD else "")
    return (c.label, c.status, c.verdict, z, place, measured, predicted, sees)


_TOLD = 1e-9  # what is below this is rounding, and is not printed


def _told(value: float, error: float) -> str:
    number = f"{value:.5g}" if abs(value) > _TOLD else "0"
    return f"{number}±{error:.1g}" if error > _TOLD else number


def sentence(verdict: Verdict) -> str:
    """Return what the verdict is and what it rests on, in a sentence or two."""
    said = [_head(verdict)]
    unsure = verdict.of("inconclusive")
    if unsure:
        reasons = "; ".join(f"{c.label} {_because(c)}" for c in unsure[:3])
        more = f"; and {len(unsure) - 3} more" if len(unsure) > 3 else ""
        said.append(f"Not judged: {reasons}{more}.")
    chance = f"{100 * verdict.family_error:g}%"
    of = f"of {verdict.points} points " if verdict.points > 1 else ""
    if verdict.without_theory:
        many = f"{verdict.without_theory} points" if verdict.without_theory > 1 else "one point"
        said.append(f"Theory says nothing of {many} more.")
    said.append(
        f"{verdict.numbers} numbers {of}were compared at once; a disagreement is called by chance "
        f"with probability {chance} at most, and less, since neighbouring layers are correlated."
    )
    return textwrap.fill(" ".join(said), 100, break_on_hyphens=False)


def _because(comparison: Comparison) -> str:
    at = f", {comparison.point}" if comparison.point else ""
    return f"({comparison.reason}{at})"


def _head(verdict: Verdict) -> str:
    wrong, right = verdict.of("disagree"), verdict.of("agree")
    if wrong:
        worst = min(wrong, key=lambda c: (c.p, -abs(c.z)))
        named = [worst.place] * bool(worst.place) + [worst.point] * bool(worst.point)
        where = ", ".join([f"layer {worst.layer}", *named])
        rest = f", and {len(wrong) - 1} more variables disagree" if len(wrong) > 1 else ""
        return (
            f"Measurement and theory disagree: at {where} {worst.label} is {worst.measured:.5g}, "
            f"and the prediction {worst.prediction!r} ({worst.status}) is {worst.predicted:.5g}, "
            f"{abs(worst.z):.3g} standard errors away{rest}."
        )
    if not right:
        return "Inconclusive: nothing could be judged."
    coarse = max(right, key=lambda c: c.resolution)
    many = f"all {len(right)} variables agree" if len(right) > 1 else f"{right[0].label} agrees"
    if verdict.of("inconclusive"):
        many = f"{len(right)} of {len(verdict.comparisons)} variables agree"
        return f"Inconclusive: {many} with theory, and the rest could not be judged."
    seen = (
        f"; an error of {coarse.resolution:.2g} would have been seen in each"
        if coarse.resolution > _TOLD
        else " to rounding"
    )
    return f"Measurement and theory agree: {many} with theory{seen}."
