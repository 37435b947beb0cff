"""What theory says a result should be, under the very names of the result.

A prediction is a class registered in `predictions`: it names one variable of a result, says how
far it is to be trusted, and computes it from the ensemble alone. `predict` puts together, for
every variable, the strongest one that applies:

========== =========================================================================
status     meaning
========== =========================================================================
exact      proved, at this width and depth
limit      proved as width or depth grows; ``slack`` is the size of the correction
bound      proved on one side only
conjecture believed
========== =========================================================================

A prediction of one's own is added in the same way:

>>> @predictions.register("half of the units")
... class Half(Prediction):
...     variable, status = "activity_mean", "conjecture"
...     assumptions, source = "none", "an example"
...
...     def value(self, ensemble, index, order):
...         return np.full(ensemble.network.depth + 1, 0.5)
>>> from sigprop import Ensemble, Network, Power
>>> law = Ensemble(Network(depth=4, width=10), Power(beta=0.5))
>>> float(predict(law, names=["half of the units"]).activity_mean[-1, 0])
0.5
>>> predict(law).activity_mean.attrs["status"]  # a stronger one is known
'exact'
>>> del predictions._members["half of the units"]  # it was an example
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr

from analysis.theory._entrywise import check_entrywise, check_vectors
from sigprop.errors import SpecError, Unsupported
from sigprop.registry import Registry
from sigprop.request import DEFAULT_ORDERS
from sigprop.spec import Ensemble, check_count

__all__ = ["STATUSES", "Prediction", "predict", "predictions", "told"]

STATUSES = ("exact", "limit", "bound", "conjecture")  # the strongest first

predictions: Registry[type[Prediction]] = Registry("prediction")


class Prediction:
    """Base of all predictions: one variable of a result, computed from the law.

    Class attributes
    ----------------
    kind : str
        Its name, given by the registry.
    variable : str
        Of a result: ``norm_moment_log``, ``log_norm_mean``, ...
    orders : tuple of float, optional
        For moments, the orders it knows; empty for all of them. None for variables that
        have no order.
    status : str
        One of `STATUSES`.
    assumptions, source : str
        What must hold beyond what `value` checks; where it is from.
    axis : str
        The last dimension of the variable: ``input``, ``pair`` or none.
    side : str
        Of a bound: ``upper`` if nothing should lie above it, ``lower`` if nothing below.
    correlated : bool
        Whether it takes weights that are correlated along depth. Others refuse them.
    dependent : bool
        Whether it takes matrices whose entries depend on each other, orthogonal ones or +/-
        pairs, and says itself of which it is true. Others refuse them.
    own_law : bool
        Whether it is of images or of batch normalisation, and says itself of which it is true.
        Others refuse both.
    post : bool
        Whether it takes the blocks that activate the sum of trunk and branch, and says itself
        of which it is true. Others refuse them.
    on_request : bool
        Whether it is consulted only where its variable or its name is asked for, as of what is
        measured on request only.
    spread_status : str
        ``exact``, or ``approximate`` if `spread` is good for planning only.
    """

    kind: ClassVar[str] = ""
    variable: ClassVar[str]
    orders: ClassVar[tuple[float, ...] | None] = None
    status: ClassVar[str]
    assumptions: ClassVar[str]
    source: ClassVar[str]
    axis: ClassVar[str] = "input"
    side: ClassVar[str] = ""
    correlated: ClassVar[bool] = False
    dependent: ClassVar[bool] = False
    post: ClassVar[bool] = False
    own_law: ClassVar[bool] = False
    on_request: ClassVar[bool] = False
    spread_status: ClassVar[str] = "exact"

    def alike(self, ensemble: Ensemble) -> bool:
        """Whether all inputs have one prediction: those of one norm, at random directions."""
        frame = ensemble.inputs.frame()
        if self.axis != "input" or frame is None:
            return False
        norms = np.linalg.norm(np.asarray(frame, float), axis=1)
        return bool(np.allclose(norms, norms[0], rtol=1e-12))

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        """The variable, shape (depth + 1,), of one input or pair and one order.

        Raises
        ------
        Unsupported
            If it says nothing of this ensemble.
        """
        raise NotImplementedError

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        """How far the truth may lie from `value`, in its units, shape (depth + 1,)."""
        return np.zeros(ensemble.network.depth + 1)

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray | None:
        """Standard error of the variable as measured on one network, or None if unknown.

        That of n networks is smaller by sqrt(n). For a moment it is that of the average
        itself relative to its mean; for the variance of a logarithm, too. Shape (depth + 1,).
        """
        return None


# ------------------------------------------------------------------------- together


def predict(
    ensemble: Ensemble,
    layers: Sequence[int] | None = None,
    *,
    orders: Sequence[float] | None = None,
    variables: Collection[str] | None = None,
    names: Collection[str] | None = None,
) -> xr.Dataset:
    """Return all that theory says of a result of this ensemble.

    Parameters
    ----------
    ensemble : Ensemble
    layers : sequence of int, optional
        Default: all, 0 .. depth.
    orders : sequence of float, optional
        Of the moments; default 1 and 2, as in `sigprop.simulate`.
    variables : collection of str, optional
        Variables of a result that are wanted; default all but those measured on request only.
    names : collection of str, optional
        Take these predictions alone; default the strongest of each variable and order.

    Returns
    -------
    Dataset
        The variables, dimensions and coordinates of a result, so that a comparison is one
        subtraction; NaN for an order of which nothing is known. ``<variable>_slack`` is how far
        the truth may be from it; ``<variable>_spread``, where known, the standard error of
        a measurement on one network (see `Prediction.spread`). The attributes ``prediction``,
        ``status``, ``assumptions``, ``source`` and ``spread_status`` of a variable are texts, or
        lists of them along the orders where these differ.

    Raises
    ------
    Unsupported
        If no theory says anything of what is asked.
    UnknownName
        If there is no such prediction.
    SpecError
        If a layer does not exist.
    """
    recorded = _recorded(ensemble, layers)
    wanted = tuple(sorted({float(s) for s in (DEFAULT_ORDERS if orders is None else orders)}))
    parts: dict[str, dict[float | None, _Part]] = {}
    refusals: list[str] = []
    for prediction in _by_strength(names):
        variable = prediction.variable
        if variables is not None and variable not in variables:
            continue
        if variables is None and names is None and prediction.on_request:
            continue
        known = parts.get(variable, {})
        asked = [s for s in _covered(prediction, wanted) if s not in known]
        for order in asked:
            try:
                part = _part(prediction, ensemble, order, recorded)
            except Unsupported as refusal:
                refusals.append(str(refusal))
                break
            parts.setdefault(variable, {})[order] = part
    if not parts:
        raise Unsupported(_nothing(refusals))
    return _dataset(ensemble, recorded, wanted, parts)


@dataclass(frozen=True)
class _Part:
    """One prediction of one order: arrays of shape (layers, inputs or pairs)."""

    prediction: Prediction
    value: np.ndarray
    slack: np.ndarray
    spread: np.ndarray | None


def _by_strength(names: Collection[str] | None) -> Iterator[Prediction]:
    chosen = [predictions[name]() for name in (predictions if names is None else names)]
    yield from sorted(chosen, key=lambda prediction: STATUSES.index(prediction.status))


def _covered(prediction: Prediction, orders: tuple[float, ...]) -> tuple[float | None, ...]:
    if prediction.orders is None:
        return (None,)
    return tuple(s for s in orders if not prediction.orders or s in prediction.orders)


def _recorded(ensemble: Ensemble, layers: Sequence[int] | None) -> np.ndarray:
    depth = ensemble.network.depth
    if layers is None:
        return np.arange(depth + 1, dtype=np.int64)
    for layer in layers:
        if check_count("each of layers", layer, least=0) > depth:
            raise SpecError(
                f"layers names layer {layer}, but the network has layers 0 .. {depth}. "
                "Name layers within."
            )
    return np.unique(np.asarray(layers, np.int64))


def _places(axis: str, ensemble: Ensemble) -> list[str]:
    count = ensemble.inputs.count
    if axis == "pair":
        return [f"{i}-{j}" for i in range(count) for j in range(i + 1, count)]
    return [str(i) for i in range(count)] if axis else [""]


def _check_kind(prediction: Prediction, ensemble: Ensemble) -> None:
    """Raise Unsupported where a law of other networks would be applied."""
    check_vectors(ensemble, prediction.kind)
    if not (prediction.post or prediction.dependent):
        check_entrywise(ensemble, prediction.kind)
    elif ensemble.network.form.post and not prediction.post:
        raise Unsupported(f"{prediction.kind} does not hold for block {ensemble.network.block!r}.")
    elif not (ensemble.table.entrywise or prediction.dependent):
        raise Unsupported(f"{prediction.kind} needs weights that are independent of each other.")


def _part(
    prediction: Prediction, ensemble: Ensemble, order: float | None, layers: np.ndarray
) -> _Part:
    if not prediction.correlated and getattr(ensemble.table, "correlated", False):
        raise Unsupported(
            f"{prediction.kind} needs weights that are independent from layer to layer. For "
            "correlated ones there are the limits of infinite width."
        )
    if not prediction.own_law:
        _check_kind(prediction, ensemble)
    count = len(_places(prediction.axis, ensemble))
    if not count:
        raise Unsupported(f"{prediction.kind} is of pairs of inputs, and there is one input.")
    columns = [
        (
            prediction.value(ensemble, index, order),
            prediction.slack(ensemble, index, order),
            prediction.spread(ensemble, index, order),
        )
        for index in range(1 if prediction.alike(ensemble) else count)
    ]
    columns *= count if len(columns) == 1 else 1
    value, slack, spread = zip(*columns, strict=True)

    def stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([np.asarray(array, float)[layers] for array in arrays], axis=-1)

    known = [array for array in spread if array is not None]
    whole = stacked(known) if len(known) == count else None
    return _Part(prediction, stacked(value), stacked(slack), whole)


def _nothing(refusals: list[str]) -> str:
    """The reasons, each once: most differ only in the name of the function that refused."""
    reasons = {refusal.partition(" ")[2]: refusal for refusal in refusals}
    said = " ".join(f"- {reason}" for reason in list(reasons.values())[:3])
    return f"no theory applies to what was asked. {said}".strip()


# -------------------------------------------------------------------------- labelled


def _dataset(
    ensemble: Ensemble,
    layers: np.ndarray,
    orders: tuple[float, ...],
    parts: dict[str, dict[float | None, _Part]],
) -> xr.Dataset:
    variables: dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, object]]] = {}
    coords: dict[str, tuple[str, np.ndarray, dict[str, str]]] = {
        "layer": ("layer", layers, {"long_name": "layer", "units": "1"})
    }
    for variable, by_order in parts.items():
        axis = next(iter(by_order.values())).prediction.axis
        dims = ("layer", axis) if axis else ("layer",)
        if None not in by_order:
            dims = ("order", *dims)
            about = {"long_name": "order of the moment", "units": "1"}
            coords["order"] = ("order", np.array(orders), about)
        if axis == "input":
            inputs = np.arange(ensemble.inputs.count)
            coords["input"] = ("input", inputs, {"long_name": "input", "units": "1"})
        elif axis == "pair":
            pairs = np.array(_places("pair", ensemble), dtype=str)
            coords["pair"] = ("pair", pairs, {"long_name": "pair of inputs", "units": "1"})
        keys: tuple[float | None, ...] = (None,) if None in by_order else orders
        variables |= _labelled(variable, dims, [by_order.get(key) for key in keys])
    law = json.dumps(ensemble.to_dict(), sort_keys=True, separators=(",", ":"))
    attrs = {"title": "what theory predicts", "ensemble": law, "digest": ensemble.digest}
    return xr.Dataset(variables, coords, attrs)


def _labelled(
    variable: str, dims: tuple[str, ...], parts: list[_Part | None]
) -> dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, object]]]:
    """One variable with its slack and its spread; the orders, if any, come first."""
    known = [part for part in parts if part is not None]
    blank = np.full_like(known[0].value, np.nan)

    def joined(arrays: list[np.ndarray | None]) -> np.ndarray:
        rows = np.stack([blank if array is None else array for array in arrays])
        rows = rows if "order" in dims else rows[0]
        return rows if dims[-1] != "layer" else rows[..., 0]

    def text(name: str) -> object:
        texts = [getattr(part.prediction, name) if part else "" for part in parts]
        return texts[0] if len(set(texts)) == 1 else texts

    names = {"prediction": "kind", "status": "status", "assumptions": "assumptions"}
    names |= {"source": "source", "side": "side", "spread_status": "spread_status"}
    units = _units(variable)
    attrs: dict[str, object] = {"long_name": f"prediction of {variable}", "units": units}
    attrs |= {label: text(name) for label, name in names.items()}
    slack = {"long_name": f"how far {variable} may be from its prediction", "units": units}
    out: dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, object]]] = {
        variable: (dims, joined([part.value if part else None for part in parts]), attrs),
        f"{variable}_slack": (
            dims,
            joined([part.slack if part else None for part in parts]),
            dict(slack),
        ),
    }
    if any(part.spread is not None for part in known):
        spread = joined([part.spread if part else None for part in parts])
        about = {"long_name": f"standard error of {variable} measured on one network"}
        out[f"{variable}_spread"] = (dims, spread, {**about, "units": units})
    return out


def _units(variable: str) -> str:
    logarithm = variable.startswith("log_")
    if logarithm and variable.endswith("_variance"):
        return "nat^2"
    shape = variable.endswith(("_skewness", "_kurtosis"))
    return "nat" if (logarithm and not shape) or variable.endswith("_log") else "1"


def told(attribute: object, position: int) -> str:
    """One of the texts that `predict` writes into an attribute, at the position of an order."""
    if isinstance(attribute, (list, tuple, np.ndarray)):
        return str(attribute[position])
    return str(attribute)


# The members stand in a package of their own and register themselves in what is above.
from analysis import predicted  # noqa: E402, F401
