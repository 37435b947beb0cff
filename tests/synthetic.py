"""Results made from traces that are written down, not simulated.

They have the variables, dimensions and attributes of a real result, so that what prints and
draws one can be tested in any regime within milliseconds, and independently of a sampler.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import xarray as xr

from sigprop.accumulate.reliable import reliable

ORDERS = (1.0, 2.0)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LAYER_INPUT = ("layer", "input")


def trace(
    depth=100,
    replicas=400,
    *,
    log_rate=0.0,
    spread=0.1,
    gradient_rate=None,
    cosine=(0.5, 0.5),
    dead=0.0,
    seed=0,
):
    """A log-norm that drifts by ``log_rate`` a layer and spreads to ``spread`` at the end."""
    generator = np.random.default_rng(seed)
    layers = np.arange(depth + 1)
    time = (layers / depth)[None, :, None]

    def walk(rate, amount):
        steps = generator.normal(0, amount / np.sqrt(depth), (replicas, depth, 2))
        path = np.concatenate([np.zeros((replicas, 1, 2)), np.cumsum(steps, 1)], 1)
        return path + rate * layers[None, :, None]

    norm = walk(log_rate, spread)
    gradient = walk(log_rate if gradient_rate is None else gradient_rate, spread)[:, ::-1]
    if dead:
        norm[: round(dead * replicas), depth // 2 :] = -np.inf
    still = log_rate == 0 and spread == 0
    moved = np.full(norm.shape, -np.inf)
    if not still and log_rate < 1:
        moved[:, 1:] = np.log(np.abs(np.exp(norm[:, 1:]) - 1) + 0.1 * np.sqrt(time[:, 1:]))
    start, end = cosine
    angle = np.broadcast_to(start + (end - start) * time, (replicas, depth + 1, 1)).copy()
    if start != end:
        angle = angle + generator.normal(0, 0.01, angle.shape) * (time > 0)
    active = np.full(norm.shape, 0.5)
    active[:, 0] = np.nan
    return {
        "layers": layers,
        "norm": norm,
        "gradient": gradient,
        "displacement": moved,
        "cosine": angle,
        "activity": active,
        "dead": np.where(np.isfinite(norm), 0.0, 1.0).cumsum(1),
    }


def _log_statistics(name, values):
    alive = np.where(np.isfinite(values), values, np.nan)
    replicas = values.shape[0]
    count = np.maximum(np.isfinite(values).sum(0), 1)
    with np.errstate(all="ignore"):
        mean = np.nansum(alive, 0) / np.where(np.isfinite(values).any(0), count, np.nan)
        centred = alive - mean
        variance = np.nansum(centred**2, 0) / count
        skewness = np.nansum(centred**3, 0) / count / variance**1.5
        kurtosis = np.nansum(centred**4, 0) / count / variance**2 - 3
        quantile = np.stack([_quantile(alive, q) for q in QUANTILES])
        weights = np.stack([s * values for s in ORDERS])
        peak = weights.max(1, keepdims=True)
        peak = np.where(np.isfinite(peak), peak, 0.0)
        w = np.exp(weights - peak)
        total, square = w.sum(1), (w**2).sum(1)
        moment = peak[:, 0] + np.log(total / replicas)
        ess = np.where(square > 0, total**2 / square, 0.0)
        relative = np.sqrt(np.maximum(square / total**2 - 1 / replicas, 0))
    ones = np.ones_like(mean)
    orders = ("order", *LAYER_INPUT)
    return {
        f"log_{name}_mean": (LAYER_INPUT, mean),
        f"log_{name}_mean_se": (LAYER_INPUT, np.sqrt(variance / count)),
        f"log_{name}_variance": (LAYER_INPUT, variance),
        f"log_{name}_variance_se": (LAYER_INPUT, variance * np.sqrt(2 / count)),
        f"log_{name}_skewness": (LAYER_INPUT, skewness),
        f"log_{name}_skewness_se": (LAYER_INPUT, ones * np.sqrt(6 / replicas)),
        f"log_{name}_kurtosis": (LAYER_INPUT, kurtosis),
        f"log_{name}_kurtosis_se": (LAYER_INPUT, ones * np.sqrt(24 / replicas)),
        f"log_{name}_quantile": (("quantile", *LAYER_INPUT), quantile),
        f"log_{name}_quantile_error": (("quantile", *LAYER_INPUT), 0.01 * np.ones_like(quantile)),
        f"{name}_moment_log": (orders, moment),
        f"{name}_moment_log_se": (orders, relative),
        f"{name}_moment_ess": (orders, ess),
        f"{name}_moment_reliable": (orders, reliable(ess, replicas)),
        f"{name}_zero_fraction": (LAYER_INPUT, np.isneginf(values).mean(0)),
    }


def _quantile(values, q):
    """Of the values that are defined: numpy.nanquantile, but NaN without a word where none is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return (np.nanquantile if np.isnan(values).any() else np.quantile)(values, q, axis=0)


def result(traces=None, *, depth=100, replicas=400, ensemble=None, **options):
    """A result with every variable, of the regime that ``options`` of `trace` describe."""
    t = trace(depth, replicas, **options) if traces is None else traces
    n = t["norm"].shape[0]
    variables = {}
    for name in ("norm", "gradient", "displacement"):
        variables |= _log_statistics(name, t[name])
    angle = t["cosine"]
    variables |= {
        "cosine_mean": (("layer", "pair"), angle.mean(0)),
        "cosine_mean_se": (("layer", "pair"), angle.std(0) / np.sqrt(n)),
        "cosine_variance": (("layer", "pair"), angle.var(0)),
        "cosine_variance_se": (("layer", "pair"), angle.var(0) * np.sqrt(2 / n)),
        "cosine_quantile": (
            ("quantile", "layer", "pair"),
            np.stack([_quantile(angle, q) for q in QUANTILES]),
        ),
        "activity_mean": (LAYER_INPUT, t["activity"].mean(0)),
        "activity_mean_se": (LAYER_INPUT, t["activity"].std(0) / np.sqrt(n)),
        "dead_layers_mean": (LAYER_INPUT, t["dead"].mean(0)),
        "dead_layers_mean_se": (LAYER_INPUT, t["dead"].std(0) / np.sqrt(n)),
    }
    law = ensemble or {
        "network": {
            "depth": int(t["layers"][-1]),
            "width": 100,
            "widths": None,
            "block": "res3",
            "inner_layers": 2,
            "inner_width": None,
            "activation": {"kind": "relu"},
        },
        "scheme": {
            "kind": "power",
            "law": {"kind": "gaussian"},
            "bias_variance": 0.0,
            "skip": 1.0,
            "beta": 0.5,
        },
        "inputs": {"kind": "pair", "cosine": 0.5},
    }
    made = xr.Dataset(
        variables,
        coords={
            "layer": t["layers"].astype(np.int64),
            "order": np.array(ORDERS),
            "quantile": np.array(QUANTILES),
            "input": np.arange(2),
            "pair": ["0-1"],
        },
        attrs={
            "schema": "sigprop-result",
            "schema_version": 1,
            "title": "written down for a test",
            "ensemble": json.dumps(law),
            "digest": "0" * 64,
            "seed": 0,
            "replicas": n,
            "sampler": "conditional",
            "sampler_version": 1,
            "block": 64,
            "coupled": 0,
        },
    )
    for name, variable in made.data_vars.items():
        variable.attrs = {
            "long_name": name.replace("_", " "),
            "units": "nat" if name.startswith("log_") else "1",
        }
    return made
