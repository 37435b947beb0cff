"""What GradInit did, as text: a table of scales by layer, and one of methods side by side."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

    from sigprop.modules.init_result import InitResult

__all__ = ["comparison_text", "result_text"]

_WIDTH = 88


def result_text(result: InitResult) -> str:
    """A row for every scaled tensor, the numbers before and after, and what they mean."""
    moved = [name for name in result.scales if result.norms[name] > 0 or result.scales[name] != 1]
    widest = max([6, *map(len, moved)])
    lines = [f"{'tensor':{widest}s}  kind      norm before     scale  norm after"]
    for name in moved:
        scale, norm = result.scales[name], result.norms[name]
        numbers = f"{norm:12.4g} {scale:9.4f} {norm * scale:11.4g}"
        lines.append(f"{name:{widest}s}  {result.kinds[name]:8s} {numbers}")
    if len(moved) < len(result.scales):
        count = len(result.scales) - len(moved)
        lines.append(f"{count} tensors are zero and stay so.")
    lines.append("")
    lines.append(f"{'on batches not learned from':{widest}s} {'before':>14s} {'after':>12s}")
    words = {"grad_norm": "gradient norm", "loss": "loss", "stepped_loss": "loss after one step"}
    for key, word in words.items():
        lines.append(f"{word:27s} {result.before[key]:14.5g} {result.after[key]:12.5g}")
    lines += ["", *textwrap.wrap(_sentence(result), _WIDTH)]
    for warning in result.warnings:
        lines += textwrap.wrap(warning, _WIDTH)
    return "\n".join(lines)


def _sentence(result: InitResult) -> str:
    case = np.asarray(result.history["case"])
    lowered, gamma = int((case == "c").sum()), float(result.settings["gamma"])
    weights = [s for name, s in result.scales.items() if result.kinds[name] == "weight" and s > 0]
    mean = math.exp(float(np.mean(np.log(weights)))) if weights else math.nan
    looked, steps = len(case) - lowered, len(case)
    source = "default" if "gamma" in result.settings.get("defaults", ()) else "given"
    optimizer = result.settings["optimizer"]
    told = f"Weights were multiplied by {mean:.3g} in the geometric mean"
    if not looked:  # what it means stands among the warnings
        told += f"; all {steps} iterations lowered the norm"
    else:
        norm = result.after["grad_norm"]
        held = "holds" if norm <= gamma else f"is exceeded by {_excess(norm / gamma)}"
        told += (
            f"; the bound gamma = {gamma:g} ({source}) {held} on the batch above. {lowered} of "
            f"{steps} iterations lowered the norm, the others the loss after one step of "
            f"{optimizer}"
        )
    return f"{told}; {result.seconds:.1f} s."


def _excess(ratio: float) -> str:
    return f"{ratio - 1:.2g} of itself" if ratio < 1.01 else f"{ratio - 1:.0%}"


def comparison_text(found: xr.Dataset) -> str:
    """Methods side by side: time, norm, loss after one step, variances first to last layer."""
    head = "method              seconds  grad. norm        loss  after step    forward   backward"
    lines = [head]
    for name in found.preparation.values:
        row = found.sel(preparation=name)
        if str(row.refused.item()):
            lines.append(f"{name:18s}  refuses this network (below)")
            continue
        forward, backward = row.forward_variance.values, row.backward_variance.values
        lines.append(
            f"{name:18s} {row.seconds.item():8.2f} {row.grad_norm.item():11.4g} "
            f"{row.loss.item():11.4g} {row.stepped_loss.item():11.4g} "
            f"{_ratio(forward[-1], forward[0]):>10s} {_ratio(backward[0], backward[-1]):>10s}"
        )
    step = f"one step of {found.attrs['optimizer']}, lr {found.attrs['lr']:g}"
    lines += textwrap.wrap(
        "forward: variance of the outputs of the last weight layer over that of the first; "
        "backward: of the gradient by the outputs, first over last; "
        f"after step: loss after {step}, on the batch that is stepped along.",
        _WIDTH,
    )
    for name in found.preparation.values:
        words = str(found.refused.sel(preparation=name).item())
        lines += textwrap.wrap(f"{name}: {words}", _WIDTH) if words else []
    return "\n".join(lines)


def _ratio(over: float, under: float) -> str:
    if not under > 0 or not math.isfinite(over):
        return "-"
    return f"{over / under:.2g}"
