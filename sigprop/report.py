"""A result in words and figures: who was simulated, a table with error bars, one sentence.

Everything here is a pure function of the result.
"""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from typing import Any

import numpy as np
import xarray as xr

from sigprop.registry import Registry
from sigprop.result import SWEEP
from sigprop.sentence import EXACT, sentence, trusted
from sigprop.spec import Activation, Process, Scheme, WeightLaw

__all__ = [
    "along_depth", "entering", "headline", "named", "scientific", "table", "text", "with_error",
    "wrap",
]  # fmt: skip

_WIDTH = 100
_MEASURED = ("log_norm_mean", "log_gradient_mean", "cosine_mean", "activity_mean")


def text(result: xr.Dataset) -> str:
    """Return the headline, the table and the plain sentence; of a sweep, schemes side by side."""
    if result.attrs.get("schema") == SWEEP:
        from sigprop import side_by_side

        return side_by_side.text(result)
    who = "\n".join(textwrap.fill(line, _WIDTH) for line in headline(result).splitlines())
    parts = [who]
    spectral = "singular_density" in result
    # What is recorded beside the spectrum has a table of its own; nothing else, no such table.
    if not spectral or any(name in result for name in _MEASURED):
        parts += [table(result), textwrap.fill(sentence(result), _WIDTH)]
    if spectral:
        from sigprop.spectral_report import spectral_sentence, spectral_table

        parts += [spectral_table(result), textwrap.fill(spectral_sentence(result), _WIDTH)]
    return "\n\n".join(parts)


def headline(result: xr.Dataset) -> str:
    """Return who was simulated, in one line, and how, in a second."""
    import sigprop.activations
    import sigprop.laws
    import sigprop.processes
    import sigprop.schemes  # noqa: F401  the four fill their registries

    law = json.loads(result.attrs["ensemble"])
    network, scheme, inputs = law["network"], law["scheme"], law["inputs"]
    replicas = result.attrs["replicas"]
    names = (
        named(scheme, Scheme.family),
        f"block {network['block']}",
        named(network["activation"], Activation.family),
        f"{named(scheme['law'], WeightLaw.family)} weights",
        *along_depth(scheme),
        _size(network),
    )
    run = (
        entering(inputs),
        f"{replicas} replica{'s' * (replicas != 1)}",
        f"seed {result.attrs['seed']}",
        f"sampler {result.attrs['sampler']}{_options(result)}",
    )
    return f"{', '.join(names)}\n{', '.join(run)}"


def _options(result: xr.Dataset) -> str:
    """Say how the networks are weighted, or where they were drawn and how exactly."""
    options = json.loads(result.attrs.get("sampler_options", "{}"))
    said = ", ".join(f"{name} {value}" for name, value in sorted(options.items()))
    error = json.loads(result.attrs.get("precision_error", "{}"))
    if error:
        worst = max(error, key=lambda name: error[name])
        said += f": off float32 by at most {error[worst]:.1g}, in {worst}"
    return f" ({said})" if said else ""


def along_depth(scheme: dict[str, Any]) -> list[str]:
    """Say how layers depend on each other, where they do."""
    process = scheme.get("process")
    if process is None:
        return []
    said = [f"process {named(process, Process.family)}"]
    if "inner_process" in scheme:
        said.append(f"inner process {named(scheme['inner_process'], Process.family)}")
    return said


def _size(network: dict[str, Any]) -> str:
    return _shape(network) + image(network)


def image(network: dict[str, Any]) -> str:
    """``, images 8x8, kernel 3, zero borders``; nothing for a fully connected network."""
    if "image" not in network:
        return ""
    said = f", images {'x'.join(map(str, network['image']))}"
    for name, value in (("kernel", network["kernel"]), ("stride", network["stride"])):
        values = value if isinstance(value, list) else [value]
        if name == "kernel" or max(values) > 1:
            shown = values if len(values) <= 8 else [*values[:6], "...", values[-1]]
            said += f", {name} {'-'.join(map(str, shown))}"
    return f"{said}, {network['padding']} borders"


def _shape(network: dict[str, Any]) -> str:
    if network["widths"] is not None:
        widths = network["widths"]
        shown = widths if len(widths) <= 8 else [*widths[:4], "...", *widths[-2:]]
        return f"widths {'-'.join(map(str, shown))}, depth {network['depth']}"
    inner = network["inner_width"]
    hidden = f", inner width {inner}" if isinstance(inner, int) else ""
    many = f", inner layers {network['inner_layers']}" if network["inner_layers"] > 2 else ""
    entering = f", input width {network['input_width']}" if network.get("input_width") else ""
    return f"width {network['width']}{entering}{hidden}{many}, depth {network['depth']}"


def named(member: dict[str, Any], family: Registry[Any]) -> str:
    """``power(beta=0.5)``: a member with those of its options that differ from the default."""
    usual = {}
    if member["kind"] in family:
        usual = {field.name: field.default for field in dataclasses.fields(family[member["kind"]])}
    options = [
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in member.items()
        if name not in ("kind", "law", "process", "inner_process")
        and usual.get(name, dataclasses.MISSING) != value
        and not (isinstance(value, (list, dict, str)) and len(str(value)) > 24)
    ]
    return member["kind"] + (f"({', '.join(options)})" if options else "")


def entering(inputs: dict[str, Any]) -> str:
    """Say what enters layer 0."""
    if inputs["kind"] == "pair":
        return f"pair of inputs at cosine {inputs['cosine']:g}"
    if inputs["kind"] == "point":
        return "one input"
    if inputs["kind"] == "equiangular":
        return f"{inputs['count']} inputs at cosine {inputs['cosine']:g}"
    if inputs["kind"] == "batch":
        return f"a batch of {inputs['count']} inputs"
    vectors = next((value for value in inputs.values() if isinstance(value, list)), [])
    return f"{len(vectors)} given input{'s' * (len(vectors) != 1)}"


# --------------------------------------------------------------------------- numbers


def scientific(log: float, *, mark: str = "") -> str:
    """Write ``exp(log)`` with three digits, however large or small it is.

    >>> scientific(0.0), scientific(1000.0), scientific(-math.inf)
    ('1', '1.97e+434', '0')
    """
    if math.isnan(log):
        return "-"
    if math.isinf(log):
        return "0" if log < 0 else "inf"
    power = log / math.log(10)
    if -3 <= power < 4:
        return f"{math.exp(log):.3g}{mark}"
    whole = math.floor(power)
    digits = f"{10 ** (power - whole):.2f}"
    if digits == "10.00":
        digits, whole = "1.00", whole + 1
    return f"{digits}e{whole:+d}{mark}"


def with_error(value: float, se: float) -> str:
    """Write ``0.2451±0.0031``: two digits of the error, and as many decimals of the value."""
    if math.isnan(value):
        return "-"
    if math.isnan(se):
        return f"{value:.4g}±?"
    if se <= EXACT * max(1.0, abs(value)):
        return f"{value if abs(value) > EXACT else 0:.4g}±0"
    decimals = min(6, max(0, 1 - math.floor(math.log10(se))))
    if se < 0.5e-6:
        small = f"{value:.0e}" if abs(value) < 1e-4 else f"{value:.6f}"
        return f"{small}±{se:.0e}"
    rounded = round(value, decimals) + 0.0  # no negative zero
    return f"{rounded:.{decimals}f}±{se:.{decimals}f}"


def _plain(value: float, digits: str = ".3g") -> str:
    return "-" if math.isnan(value) else format(value, digits)


# ----------------------------------------------------------------------------- table


def table(result: xr.Dataset, rows: int = 11) -> str:
    """Return about ``rows`` recorded layers, a line each, with one standard error.

    With several inputs the columns of one input show the first, and say so.
    """
    layers = result.layer.values
    chosen = np.unique(np.round(np.linspace(0, len(layers) - 1, rows)).astype(int))
    picked = result.isel(layer=chosen)
    for axis in ("input", "pair"):
        if axis in picked.dims:
            picked = picked.isel({axis: 0})
    columns, notes = _columns(picked, depth=int(layers[-1]))
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in zip(*columns, strict=True)
    ]
    if max(map(len, lines)) > _WIDTH:
        lines = [
            " ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in zip(*columns, strict=True)
        ]
    rule = "-" * len(lines[0])
    return "\n".join((lines[0].rstrip(), rule, *lines[1:], rule, *_legend(result, notes)))


def _columns(picked: xr.Dataset, depth: int) -> tuple[list[list[str]], list[str]]:
    layers = picked.layer.values
    columns = [
        ["layer", *(str(layer) for layer in layers)],
        ["l/L", *(f"{layer / depth:.2f}" if depth else "0" for layer in layers)],
    ]
    notes = []

    def values(name: str) -> list[float]:
        return [float(value) for value in picked[name].values]

    def pairs(header: str, name: str) -> None:
        if name in picked:
            cells = map(with_error, values(name), values(f"{name}_se"))
            columns.append([header, *cells])

    if "norm_moment_log" in picked and "log_norm_mean" not in picked:
        moments, marked = _weighted(picked)
        columns += moments
        notes += ["~: carried by too few effective replicas: do not rely on it."] if marked else []
    elif "norm_moment_log" in picked:
        orders = picked.order.values
        order = 2.0 if 2.0 in orders else float(orders[-1])
        logs = [float(value) for value in picked.norm_moment_log.sel(order=order).values]
        good = trusted(picked, "norm").sel(order=order).values
        marks = ["" if believed else "~" for believed in good]
        cells = [scientific(log, mark=mark) for log, mark in zip(logs, marks, strict=True)]
        columns.append([f"E|h|^{order:g}", *cells])
        if "~" in marks:
            notes.append(
                "~: carried by too few replicas, or without a sound error: do not rely on it."
            )
    pairs("log|h|", "log_norm_mean")
    if "log_norm_variance" in picked:
        spread = np.sqrt(np.maximum(picked.log_norm_variance.values, 0))
        spread = np.where(spread <= EXACT, 0.0, spread)
        columns.append(["sd", *(_plain(float(value), ".2g") for value in spread)])
    pairs("log|h|_alpha", "log_alpha_norm_mean")
    pairs("log|p|", "log_gradient_mean")
    pairs("cosine", "cosine_mean")
    pairs("cosine z", "looks_linear_cosine_mean")
    pairs("branch", "branch_energy_mean")
    pairs("skip", "skip_energy_mean")
    pairs("diverse", "diversity_mean")
    if "log_first_step_mean" in picked:
        zero = np.asarray(picked.first_step_zero_fraction.values) == 1
        step = np.where(zero, -np.inf, picked.log_first_step_mean.values)
        columns.append(["step", *(scientific(float(value)) for value in step)])
    if "log_displacement_mean" in picked:
        zero = np.asarray(picked.displacement_zero_fraction.values) == 1
        moved = np.where(zero, -np.inf, picked.log_displacement_mean.values)
        columns.append(["moved", *(scientific(float(value)) for value in moved)])
    if "activity_mean" in picked:
        columns.append(["active", *(_plain(value, ".2f") for value in values("activity_mean"))])
    if "dead_layers_mean" in picked:
        columns.append(["dead", *(_plain(value, ".2g") for value in values("dead_layers_mean"))])
    return columns, notes


def _weighted(picked: xr.Dataset) -> tuple[list[list[str]], bool]:
    """Every order with its error in percent and its effective size; whether one is marked."""
    columns, marked = [], False
    for order in picked.order.values.tolist():
        of_order = picked.sel(order=order)
        good = trusted(picked, "norm").sel(order=order).values
        marked = marked or not bool(good.all())
        cells = []
        for log, se, believed in zip(
            of_order.norm_moment_log.values.tolist(),
            of_order.norm_moment_log_se.values.tolist(),
            good.tolist(),
            strict=True,
        ):
            percent = 0.0 if se <= EXACT else 100 * se
            error = "?" if math.isnan(se) else format(percent, ".0f" if percent >= 10 else ".1g")
            cells.append(f"{scientific(log)}±{error}%{'' if believed else '~'}")
        columns.append([f"E|h|^{order:g}", *cells])
        sizes = of_order.norm_moment_ess.values.tolist()
        columns.append(["ESS", *(f"{size:.4g}" for size in sizes)])
    return columns, marked


def _legend(result: xr.Dataset, notes: list[str]) -> list[str]:
    """Say what the columns are, those that are there."""
    said = {
        "log_norm_mean": "|h|: norm over its start",
        "log_norm_variance": "sd: spread of log|h| over networks",
        "log_gradient_mean": "|p|: gradient over its value at the top",
        "looks_linear_cosine_mean": "z = h_+ - h_-: looks-linear coordinates",
        "branch_energy_mean": "branch, skip: what each brings to the layer, of |h|^2",
        "diversity_mean": "diverse: 4 p (1-p) of the share p of inputs that turn a unit on",
        "log_first_step_mean": "step: typical |df|/(eta |h_0|^2 |p_L|^2) of one step",
        "log_displacement_mean": "moved: typical |h - h_0|/|h_0|",
        "activity_mean": "active: fraction of active units",
        "dead_layers_mean": "dead: dead branches so far",
    }
    words = [phrase for name, phrase in said.items() if name in result]
    words.append("± one standard error")
    if "norm_moment_log" in result and "log_norm_mean" not in result:
        words.append("ESS: replicas that effectively carry the moment on its left")
    inputs = result.sizes.get("input", 1)
    if inputs > 1:
        words.append(f"input 0 of {inputs}")
    if result.sizes.get("pair", 1) > 1:
        words.append(f"cosine of inputs {result.pair.values[0]}")
    return wrap(words) + notes


def wrap(words: list[str]) -> list[str]:
    """Put phrases together to lines."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]}; {word}" if lines[-1] else word
        if len(longer) + 1 > _WIDTH:
            lines[-1] += ";"
            lines.append(word)
        else:
            lines[-1] = longer
    lines[-1] += "."
    return lines
