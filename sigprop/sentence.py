"""What a result means, in one plain sentence.

It judges the measurement alone, by what is recorded in it; no theory is consulted. Rates
are those of the typical network (the mean of the logarithm), which is the number that a
simulation can be sure of: the mean square of a heavy-tailed norm lives on replicas that
were never drawn, and a clause says so when that is the case.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from sigprop.accumulate.reliable import LEAST, reliable

__all__ = ["EXACT", "sentence", "trusted"]

# A change of the typical norm below PRESERVED is called preserved, beyond CHANGED a growth
# or a decay; between the two it is of order one. Natural logarithms of a factor.
PRESERVED = math.log(1.05)
CHANGED = math.log(10.0)
# A cosine that moves less than this is preserved; an angle whose cosine ends above
# COLLAPSED has closed.
SAME_COSINE = 0.01
COLLAPSED = 0.95
SURE = 3.0  # standard errors
EXACT = 1e-12  # an error below this is one of rounding: every network gave the same number


def sentence(result: xr.Dataset) -> str:
    """Return the plain sentence, with its warnings.

    Parameters
    ----------
    result : Dataset
        Of `sigprop.simulate`. Several inputs, or pairs of them, are averaged over.
    """
    norm = _change(result, "norm", start=0, end=-1)
    gradient = _change(result, "gradient", start=-1, end=0)
    still = _still(result)
    angle = None if still else _angle(result)
    if still:
        clauses = [_identity(result, norm, gradient)]
    else:
        clauses = [*_both(norm, gradient, result), *([angle] if angle else [])]
    if not clauses and "norm_moment_log" in result:
        clauses = _moments_alone(result)
    if not clauses:
        clauses = ["nothing was observed on which the signal could be judged"]
    clauses += _dead(result)
    said = "; ".join(clauses) + "."
    return " ".join([said[0].upper() + said[1:], *_warnings(result)])


# ------------------------------------------------------------------------- one change


@dataclass(frozen=True)
class _Change:
    """How the logarithm of one quantity moves from one end of the network to the other."""

    layers: int
    mean: float
    se: float
    spread: float
    halfway: float

    @property
    def regime(self) -> str:
        if math.isnan(self.mean):
            return "dead"
        if abs(self.mean) <= PRESERVED:
            return "preserved"
        if abs(self.mean) < CHANGED:
            return "order one"
        return "grows" if self.mean > 0 else "vanishes"

    @property
    def exponential(self) -> bool:
        """Whether half of the layers do about half of the change."""
        return 0.4 <= self.halfway / self.mean <= 0.6

    @property
    def within(self) -> str:
        """The change and its error in percent, rounded up."""
        percent = 100 * math.expm1(abs(self.mean) + 2 * (0 if math.isnan(self.se) else self.se))
        if percent == 0:
            return "exactly"
        digits = max(0, -math.floor(math.log10(percent)))
        return f"within {math.ceil(percent * 10**digits) / 10**digits:g}%"


def _change(result: xr.Dataset, name: str, start: int, end: int) -> _Change | None:
    if f"log_{name}_mean" not in result or result.sizes["layer"] < 2:
        return None

    def over_inputs(variable: str) -> np.ndarray:
        return np.asarray(result[variable].mean("input").values, float)

    mean = over_inputs(f"log_{name}_mean")
    layer = result.layer.values
    middle = int(np.abs(layer - (layer[0] + layer[-1]) / 2).argmin())
    return _Change(
        layers=int(layer[-1] - layer[0]),
        mean=mean[end] - mean[start],
        se=float(over_inputs(f"log_{name}_mean_se")[end]),
        spread=math.sqrt(max(0.0, over_inputs(f"log_{name}_variance")[end])),
        halfway=mean[middle] - mean[start],
    )


def _clause(what: str, change: _Change, result: xr.Dataset) -> str:
    if change.regime == "dead":
        return f"{what} is exactly 0 in every network at the far end"
    if change.regime == "preserved":
        within = change.within
        said = f"{what} is preserved {within}" + ("" if within == "exactly" else " on average")
    elif change.regime == "order one":
        factor = math.exp(change.mean)
        said = f"{what} stays of order one: typically {factor:.3g} times its start"
    else:
        verb = "grows" if change.mean > 0 else "vanishes"
        power = change.mean / math.log(10)
        digits = 1 if abs(power) < 10 else 0
        total = f"a factor 10^{power:.{digits}f} over {change.layers} layers"
        if change.exponential:
            said = f"{what} {verb} like e^{change.mean / change.layers:.3g} per layer ({total})"
        else:
            rate = ", though not at one rate" if result.sizes["layer"] > 2 else ""
            said = f"{what} {verb}{rate} ({total})"
    if change.spread > 0.5:
        said += f", and networks differ around it by a factor e^{change.spread:.2g}"
    return said


def _both(norm: _Change | None, gradient: _Change | None, result: xr.Dataset) -> list[str]:
    if (
        norm is not None
        and gradient is not None
        and norm.regime == gradient.regime == "preserved"
        and max(norm.spread, gradient.spread) <= 0.5
    ):
        widest = max(norm, gradient, key=lambda change: abs(change.mean) + 2 * change.se)
        return [f"norm and gradient are both preserved {widest.within} on average"]
    clauses = []
    if norm is not None:
        clauses.append(_clause("the norm", norm, result))
    if gradient is not None:
        clauses.append(_clause("the gradient, followed back to the input,", gradient, result))
    return clauses


def _moments_alone(result: xr.Dataset) -> list[str]:
    """What became of every moment that is to be believed, where nothing else was observed."""
    last = result.isel(layer=-1, input=0)
    good = trusted(result, "norm").isel(layer=-1, input=0)
    clauses = []
    for order in result.order.values.tolist():
        if not bool(good.sel(order=order)):
            continue
        log = float(last.norm_moment_log.sel(order=order))
        se = float(last.norm_moment_log_se.sel(order=order))
        within = max(SURE * se, EXACT)
        if abs(log) <= max(within, PRESERVED):
            clauses.append(f"E|h|^{order:g} is preserved within {100 * (abs(log) + 2 * se):.2g}%")
        else:
            verb = "grows" if log > 0 else "shrinks"
            clauses.append(f"E|h|^{order:g} {verb} by a factor 10^{log / math.log(10):.3g}")
    return clauses


# --------------------------------------------------------------------------- identity


def _still(result: xr.Dataset) -> bool:
    """Whether no state ever moved: every displacement is exactly 0."""
    if "displacement_zero_fraction" in result:
        return bool((result.displacement_zero_fraction == 1).all())
    return False


def _identity(result: xr.Dataset, norm: _Change | None, gradient: _Change | None) -> str:
    kept = ["norm"] if norm is not None else []
    if gradient is not None and gradient.mean == 0 and gradient.spread == 0:
        kept.append("gradient")
    if "cosine_mean" in result:
        kept.append("the angle between inputs")
    listing = " and ".join(kept) if len(kept) < 3 else f"{', '.join(kept[:-1])} and {kept[-1]}"
    are = ("", "is", "are both", "are all")[len(kept)]
    preserved = f": {listing} {are} preserved" if kept else ""
    replicas = result.attrs["replicas"]
    return (
        f"the signal is the identity at initialisation{preserved}; no state moved at all, in "
        f"{f'any of {replicas} networks' if replicas > 1 else 'the one network drawn'}"
    )


# ------------------------------------------------------------------------------ angle


def _angle(result: xr.Dataset) -> str | None:
    if "cosine_mean" not in result or result.sizes["layer"] < 2:
        return None
    cosine = np.asarray(result.cosine_mean.mean("pair").values, float)
    se = np.asarray(result.cosine_mean_se.mean("pair").values, float)
    start, end = float(cosine[0]), float(cosine[-1])
    what = "the angle between inputs"
    if result.sizes["pair"] > 1:
        what += f" (average of {result.sizes['pair']} pairs)"
    if math.isnan(end):
        return f"{what} is lost, for a state that is 0 has no direction"
    from_to = f"cosine {start:.3g} to {_near_one(end)}"
    noise = 0.0 if math.isnan(se[-1]) else SURE * float(se[-1])
    if abs(end - start) <= SAME_COSINE:
        return f"{what} is preserved ({from_to})"
    if abs(end - start) <= noise:
        return f"{what} changes by less than can be told from chance ({from_to} ± {se[-1]:.1g})"
    if end > start and end >= COLLAPSED:
        return f"{what} collapses ({from_to})"
    return f"{what} {'narrows' if end > start else 'spreads'} ({from_to})"


def _near_one(cosine: float) -> str:
    """Three digits, of the distance from 1 where that is what is left."""
    return f"{cosine:.3g}" if cosine < 0.9995 or cosine >= 1 else f"1 - {1 - cosine:.1e}"


# ------------------------------------------------------------------- dead and warnings


def _dead(result: xr.Dataset) -> list[str]:
    clauses = []
    if "norm_zero_fraction" in result:
        share = float(result.norm_zero_fraction.isel(layer=-1).mean())
        if share > 0:
            clauses.append(
                f"{100 * share:.3g}% of the networks are dead, their signal exactly 0 at the end"
            )
    if "dead_layers_mean" in result and not clauses:
        branches = float(result.dead_layers_mean.isel(layer=-1).mean())
        if branches > 0:
            clauses.append(f"a network has {branches:.2g} dead branches on average")
    return clauses


def trusted(result: xr.Dataset, name: str) -> xr.DataArray:
    """Return whether each moment of a quantity is to be believed, by order and layer.

    It is if enough replicas carry it, or if all gave the same number, so that there is
    nothing to be wrong about: the start, a network that is the identity, or one that is dead.
    """
    same = result[f"{name}_moment_log_se"] <= EXACT
    return result[f"{name}_moment_reliable"] | same | np.isneginf(result[f"{name}_moment_log"])


def _warnings(result: xr.Dataset) -> list[str]:
    said = []
    for name, symbol, end in (("norm", "h", -1), ("gradient", "p", 0)):
        if f"{name}_moment_reliable" not in result:
            continue
        good = trusted(result, name).isel(layer=end)
        poor = [float(s) for s in result.order.values if not bool(good.sel(order=s).all())]
        if poor:
            ess = float(result[f"{name}_moment_ess"].isel(layer=end).sel(order=poor[0]).min())
            replicas = int(result.attrs["replicas"])
            weighted = f"log_{name}_mean" not in result
            moment = f"E|{symbol}|^{poor[0]:g}"
            if replicas < LEAST:
                reason = (
                    f"rests on {replicas} replicas; give --replicas {LEAST} or more to judge it."
                )
            elif reliable(np.array(ess), replicas):
                reason = "has an error bar that the weights' heavy tails make unreliable."
            elif weighted:
                reason = (
                    f"rests on {ess:.3g} effective replicas of {replicas}, too few to be "
                    "believed: choose a tilt nearer to that order."
                )
            else:
                reason = (
                    f"rests on {ess:.3g} effective replicas of {replicas}, too few to be "
                    f"believed; the statistics of log|{symbol}| are sound."
                )
            said.append(f"Warning: {moment} {reason}")
    limit = _moments(result)
    return [*said, *([limit] if limit else [])]


def _moments(result: xr.Dataset) -> str | None:
    """Say which moments exist, where the law of the weights has a heavy tail."""
    import sigprop.laws  # noqa: F401  fills the registry
    from sigprop.spec import WeightLaw

    law = WeightLaw.from_dict(json.loads(result.attrs["ensemble"])["scheme"]["law"])
    if not law.moment_limit <= 4:
        return None
    return f"Of a weight ({law.kind}), {law.moments_text.rstrip('.')}."
