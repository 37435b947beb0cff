"""The number that an initialisation needs: the scale that keeps a moment, and what it costs.

``sigprop gain`` prints this for one layer: the standard deviation of scheme ``fractional``, He's
beside it, and what becomes of the typical norm and of the mean square when a moment of order s is
kept.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sigprop.errors import SpecError
from sigprop.laws import StudentT
from sigprop.schemes import Fractional
from sigprop.spec import Ensemble

__all__ = ["describe", "text"]

_ERROR = 1e-12  # relative, of the exact formulas


def describe(ensemble: Ensemble) -> dict[str, Any]:
    """What scheme ``fractional`` does in the first layer of ``ensemble``, as plain numbers.

    Returns
    -------
    dict
        ``s``, ``block``, ``status`` and ``relative_error`` of the coefficients. Plain net:
        ``sigma`` (standard deviation of a weight), ``sigma_he``, ``ratio``, ``gain`` (sigma times
        sqrt(fan_in)), ``dead_probability`` of the layer. Residual: ``skip``, ``branch``, and the
        same at s = 2. All: ``lyapunov_exponent``, the mean of log|h'|/|h| a layer, given that it is
        alive; ``log_variance``, the variance of that; ``log_mean_square_growth``, the logarithm of
        E|h'|^2 / |h|^2; ``log_slack``, what the growth of the s-norm may miss a layer.
    """
    scheme, network = ensemble.scheme, ensemble.network
    if not isinstance(scheme, Fractional):
        raise SpecError(
            f"gain describes scheme 'fractional', got {scheme.kind!r}: only it keeps a moment. "
            "Leave out --scheme."
        )
    shared = {"s": scheme.s, "block": network.block, "activation": network.phi.kind}
    if network.form.trunk:
        return shared | _residual(ensemble, scheme)
    return shared | _plain(ensemble, scheme)


def _plain(ensemble: Ensemble, scheme: Fractional) -> dict[str, Any]:
    from sigprop.layer_factor import LayerFactor

    network = ensemble.network
    fan_in, fan_out = (int(fan[0, 0]) for fan in network.fans)
    sigma = float(ensemble.table.scale[0, 0])
    if ensemble.table.law.kind == "stable":
        return {
            "law": "stable",
            "fan_in": fan_in,
            "fan_out": fan_out,
            "sigma": sigma,
            "moments_below": ensemble.table.law.moment_limit,
            "status": "exact",
            "relative_error": 1e-9,
            "log_slack": 1e-9,
        }
    law = ensemble.table.law
    if isinstance(law, StudentT) and law.dof <= 2 and scheme.expansion == "exact":
        from sigprop.student_factor import STUDENT_ERROR, STUDENT_SEED, student_memory

        return {
            "law": "student_t",
            "fan_in": fan_in,
            "fan_out": fan_out,
            "sigma": sigma,
            "moments_below": law.moment_limit,
            "status": "approximation",
            "relative_error": STUDENT_ERROR,
            "seed": STUDENT_SEED,
            "log_slack": student_memory(law.dof, network.phi, fan_out, scheme.s),
        }
    orthogonal = max(fan_in, fan_out) if ensemble.table.law.kind == "orthogonal" else None
    layer = LayerFactor.of(network.phi, fan_out, orthogonal=orthogonal)
    scale = sigma * math.sqrt(orthogonal or 1)
    # Growth is that of the size per coordinate, or of the norm, as the scheme preserves it.
    unit = 0.5 * math.log(fan_in / fan_out) if scheme.preserve == "coordinate" else 0.0
    kappa = layer.log_cumulants()
    he = math.sqrt(fan_out / fan_in / layer.mean) / math.sqrt(orthogonal or 1)
    exact = scheme.expansion == "exact" and ensemble.table.law.kind in ("gaussian", "orthogonal")
    return {
        "law": ensemble.table.law.kind,
        "fan_in": fan_in,
        "fan_out": fan_out,
        "sigma": sigma,
        "sigma_he": he,
        "ratio": sigma / he,
        "gain": sigma * math.sqrt(fan_in),
        "lyapunov_exponent": math.log(scale) + float(kappa[0]) / 2 + unit,
        "log_variance": float(kappa[1]) / 4,
        "log_mean_square_growth": 2 * (math.log(scale) + unit) + math.log(layer.mean),
        "dead_probability": layer.silence,
        "status": "exact" if exact else "approximation",
        "relative_error": _ERROR if exact else math.nan,
        "log_slack": _ERROR if exact else math.nan,
    }


def _residual(ensemble: Ensemble, scheme: Fractional) -> dict[str, Any]:
    from sigprop.branch_factor import cumulants, hidden_law
    from sigprop.residual_moment import ResidualMoment, memory_slack

    network, table = ensemble.network, ensemble.table
    skip, branch = float(table.skip[0]), float(table.branch[0])
    units = tuple(int(n) for n in network.fans[0][0, 1:])
    he = Fractional(
        s=2.0, law=table.law, skip=scheme.skip, branch=scheme.branch, adjust=scheme.adjust
    ).layers(network)
    moment = {s: ResidualMoment.of(network, units, table.scale[0] ** 2, s) for s in (0.0, 2.0)}
    log_u = moment[0.0].log_variance + 2 * math.log(branch / abs(skip))
    law = hidden_law(units, moment[0.0].slopes)
    kappa = cumulants(law, np.array([log_u]), network.width)[0]
    remembers = network.form.pre and not network.phi.negative_slope == 1.0
    slack = _ERROR
    if remembers:
        slack = abs(memory_slack(network.width, moment[0.0].slopes, skip, branch, scheme.s))
    return {
        "law": table.law.kind,
        "width": network.width,
        "inner_width": list(units),
        "skip": skip,
        "branch": branch,
        "skip_he": float(he.skip[0]),
        "branch_he": float(he.branch[0]),
        "ratio": math.hypot(skip, branch) / math.hypot(he.skip[0], he.branch[0]),
        "lyapunov_exponent": math.log(abs(skip)) + float(kappa[0]) / 2,
        "log_variance": float(kappa[1]) / 4,
        "log_mean_square_growth": 2 * moment[2.0].log_growth(skip, branch),
        "status": "approximation" if remembers or table.law.kind != "gaussian" else "exact",
        "relative_error": math.nan if remembers else _ERROR,
        "log_slack": slack,
    }


_WORDS = {
    "sigma": "standard deviation (stable, student_t: scale) of a weight",
    "moments_below": "orders of moments that exist (stable: in l_alpha)",
    "sigma_he": "the same under He (s = 2)",
    "ratio": "ratio to He",
    "gain": "sigma sqrt(fan_in)",
    "skip": "skip coefficient c",
    "branch": "branch coefficient a",
    "skip_he": "skip at s = 2",
    "branch_he": "branch at s = 2",
    "lyapunov_exponent": "mean of log|h'|/|h| a layer",
    "log_variance": "variance of the same",
    "log_mean_square_growth": "log of E|h'|^2/|h|^2 a layer",
    "dead_probability": "chance that the layer is dead",
}


def text(found: dict[str, Any]) -> str:
    """The same in lines for a reader."""
    if "fan_in" in found:
        size = f"{found['fan_in']} -> {found['fan_out']}"
    else:
        size = "-".join(map(str, (found["width"], *found["inner_width"], found["width"])))
    kept = f"E|h|^{found['s']:g}" if found["s"] else "the mean of log|h| (given alive)"
    lines = [
        f"fractional, block {found['block']}, {found['activation']}, {found['law']} weights, "
        f"{size}: keeps {kept}"
    ]
    digits = {"ratio": ".9g", "lyapunov_exponent": ".6g", "log_variance": ".6g"}
    for name, what in _WORDS.items():
        if name in found:
            value = format(found[name], digits.get(name, ".13g" if "sigma" in name else ".10g"))
            lines.append(f"  {name:24s}{value:>20s}   {what}")
    if found["status"] == "exact":
        lines.append(f"  exact, to a relative {found['relative_error']:.0e}")
    elif "seed" in found:
        lines += [
            f"  for an isotropic input, to a relative {found['relative_error']:.0e} (averaged over "
            f"directions of seed {found['seed']})",
            "  an approximation later: states point along few coordinates, and log (E|h|^s)^(1/s) "
            f"moves by {found['log_slack']:+.2g} a layer, to a tenth of that",
        ]
    elif math.isfinite(found["log_slack"]):
        lines.append(
            "  an approximation: the state remembers its branches, and the s-norm may grow by "
            f"{found['log_slack']:.2g} a layer"
        )
    else:
        lines.append("  an approximation: right in the limit of width")
    drift = found.get("lyapunov_exponent", 0.0)
    if drift < -1e-12:
        lines.append(
            f"  the typical network loses a factor e every {-1 / drift:.3g} layers, while the "
            "moment is kept"
        )
    elif drift > 1e-12:
        lines.append(f"  the typical network grows by a factor e every {1 / drift:.3g} layers")
    return "\n".join(lines)
