"""From sums to a labelled result: variables with their dimensions, coordinates, attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sigprop import result as results
from sigprop.trace import FIELDS
from sigprop.work import Fold

if TYPE_CHECKING:
    from sigprop.observables import Observable, Variable
    from sigprop.request import Request

__all__ = ["attributes", "coordinates", "estimates", "members", "replicas_kept", "software"]


def estimates(
    observables: Sequence[Observable], fold: Fold, moment_limit: float
) -> dict[str, Variable]:
    """Every variable read off the sums, and the values kept of every replica.

    Parameters
    ----------
    observables : sequence of Observable
    fold : Fold
    moment_limit : float
        Absolute moments of a weight exist below this order. Where E r^2s is infinite, no
        number of replicas makes the error of E r^s reliable.
    """
    variables: dict[str, Any] = {}
    for observable, state in zip(observables, fold.states, strict=True):
        found = observable.finalize(state)
        orders = np.asarray(getattr(observable, "orders", ()), float)
        for name, (dims, values, attrs) in found.items():
            if name.endswith("_moment_reliable") and "order" in dims:
                finite = 2 * orders < moment_limit
                shape = [orders.size if dim == "order" else 1 for dim in dims]
                found[name] = (dims, values & finite.reshape(shape), attrs)
        variables |= found
    return variables | replicas_kept(fold.values())


def members(variables: Mapping[str, Variable], count: int) -> list[dict[str, Variable]]:
    """Undo a batch: the variables of ``count`` ensembles that lay side by side in the layers."""
    if count == 1:
        return [dict(variables)]
    apart: list[dict[str, Variable]] = [{} for _ in range(count)]
    for name, (dims, values, attrs) in variables.items():
        axis = dims.index("kept_layer" if "kept_layer" in dims else "layer")
        for member, part in zip(apart, np.split(values, count, axis=axis), strict=True):
            member[name] = (dims, part, attrs)
    return apart


def replicas_kept(kept: Mapping[str, np.ndarray]) -> dict[str, Variable]:
    """The values of every replica, as variables."""
    return {
        f"replica_{name}": (
            ("replica", "kept_layer", *([FIELDS[name].axis] if FIELDS[name].axis else [])),
            values,
            {"long_name": f"{FIELDS[name].long_name}, of every replica", "units": _units(name)},
        )
        for name, values in kept.items()
    }


def _units(field: str) -> str:
    return "nat" if field.startswith("log_") else "1"


def coordinates(request: Request) -> dict[str, Any]:
    """Every coordinate that a variable of the run may have."""
    count = request.ensemble.inputs.count
    pairs = [f"{i}-{j}" for i in range(count) for j in range(i + 1, count)]
    lists: dict[str, Any] = {"order": (), "quantile": (), "centres": ()}
    for o in request.observables:
        lists["order"] = getattr(o, "orders", lists["order"])
        lists["quantile"] = getattr(o, "quantiles", lists["quantile"])
        lists["centres"] = getattr(o, "centres", lists["centres"])
    values = {
        "layer": (request.layers, "layer"),
        "input": (np.arange(count), "input"),
        "pair": (np.array(pairs, dtype=str), "pair of inputs"),
        "order": (np.array(lists["order"], float), "order of the moment"),
        "quantile": (np.array(lists["quantile"], float), "probability"),
        "singular": (np.arange(request.sizes["singular"]), "place among the singular values"),
        "singular_bin": (np.array(lists["centres"], float), "middle of a bin of log singular"),
        "kept_layer": (request.keep, "layer at which values of replicas are kept"),
    }
    return {
        name: (name, array, {"long_name": what, "units": "1"})
        for name, (array, what) in values.items()
    }


def attributes(request: Request, schema: str, replicas: int) -> dict[str, Any]:
    """All that is needed to run it again."""
    network = request.ensemble.network
    width = f"width {network.width}"
    if network.convolutional:
        width = f"{network.width} channels of {network.shape_of_image} pixels"
    return {
        "schema": schema,
        "schema_version": results.VERSION,
        "title": (
            f"{request.ensemble.scheme.kind} {network.block} {network.phi.kind}, "
            f"depth {network.depth}, {width}, {replicas} replicas"
        ),
        **request.attrs(),
        "replicas": replicas,
        "software": software(request.sampler.made_of()),
    }


def software(more: Mapping[str, str] | None = None) -> str:
    """The versions that made a result, and what a sampler adds, as JSON."""
    import importlib.metadata
    import platform

    import sigprop

    versions = {"python": platform.python_version(), "sigprop": sigprop.__version__}
    for name in ("numpy", "numba", "scipy", "xarray"):
        versions[name] = importlib.metadata.version(name)
    return json.dumps(versions | dict(more or {}))
