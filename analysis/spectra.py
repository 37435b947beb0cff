"""Theory beside a measured spectrum: densities to draw, and a table of what is predicted."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

from analysis.prediction import predict
from analysis.theory.jacobian_spectrum import spectral_law
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__ = ["beside", "densities"]

_POINTS = 1201
_ROUNDING = 1e-12


def densities(ensemble: Ensemble, layers: Sequence[int]) -> xr.Dataset | None:
    """The law of ln sigma at each of ``layers`` that has one, or None if no law is known.

    Returns
    -------
    Dataset
        ``log_singular`` and ``density`` over (layer, point), ``atom`` over layer; status in the
        attributes.
    """
    try:
        law = spectral_law(ensemble)
    except Unsupported:
        return None
    found = {}
    for layer in layers:
        try:
            here = law.at(int(layer))
        except Unsupported:
            continue
        if np.isfinite(here.density).all() and here.density.max() > 0:
            found[int(layer)] = here
    if not found:
        return None
    logs, rho = np.full((2, len(found), _POINTS), np.nan)
    for row, here in enumerate(found.values()):
        low = max(here.edges[0], here.edges[1] - 30.0)
        # Evenly in angle, so that the edges, where the density rises as a root, are seen.
        angle = np.linspace(0, np.pi, _POINTS)
        logs[row] = (low + here.edges[1]) / 2 - (here.edges[1] - low) / 2 * np.cos(angle)
        rho[row] = here.at(logs[row])
    status = "exact" if law.kind == "isometry" else "limit"
    about = {"status": status, "law": law.kind}
    return xr.Dataset(
        {
            "log_singular": (("layer", "point"), logs, {"long_name": "ln s", "units": "nat"}),
            "density": (("layer", "point"), rho, {"long_name": "density of ln s", "units": "1"}),
            "atom": ("layer", [x.atom for x in found.values()]),
        },
        {"layer": list(found)},
        about,
    )


def beside(result: xr.Dataset) -> str:
    """What theory says of the last recorded layer, beside what was measured there."""
    ensemble = Ensemble.from_dict(json.loads(result.attrs["ensemble"]))
    layer = int(result.layer.values[-1])
    names = [str(name) for name in result.data_vars if not str(name).endswith("_se")]
    try:
        found = predict(ensemble, [layer], variables=names, orders=[2.0])
    except Unsupported as refusal:
        return f"Theory: {str(refusal).removeprefix('no theory applies to what was asked. - ')}"
    lines = [f"Theory at layer {layer} (measured | predicted, ± how far the truth may be):"]
    for name in map(str, found.data_vars):
        if f"{name}_slack" not in found:
            continue
        here, theory = result[name].isel(layer=-1), found[name].isel(layer=0)
        slack = found[f"{name}_slack"].isel(layer=0)
        label = name
        if "order" in theory.dims:
            if "order" not in here.dims or 2.0 not in here.order.values:
                continue
            here, theory, slack = (x.sel(order=2.0) for x in (here, theory, slack))
            label = f"{name}[2]"
        value, bound = float(theory), float(slack)
        if np.isnan(value):
            continue
        value = 0.0 if abs(value) < _ROUNDING else value
        told = f"{value:.4g}" + (f"±{bound:.1g}" if bound > 0 else "")
        status = str(found[name].attrs["status"])
        lines.append(f"  {label:26s} {float(here):>10.4g} | {told:14s} {status}")
    return "\n".join(lines)
