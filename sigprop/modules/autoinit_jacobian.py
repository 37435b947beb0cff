r"""AutoInit by Jacobian tuning: one scale a block, until the block keeps the length of gradients.

He, Doshi and Gromov (2022), *AutoInit: Automatic initialization via Jacobian tuning*. All weights
of a block are multiplied by one number a, which descends the gradient of a loss of the block's
averaged partial Jacobian norm J (`sigprop.modules.partial_jacobian`), whose minimum is J = target:

.. math:: \text{log: } \tfrac12 (\ln J - \ln \mathrm{target})^2, \qquad
   \text{square: } \tfrac12 (J - \mathrm{target})^2 .

In a homogeneous block :math:`J(a) = a^2 J(1)`, so the steps in a contract by
:math:`1 - 4\,\mathrm{lr}\,J(1)` and are stable only for lr below :math:`1 / (2 J(1))`. The steps in
ln a of the log loss, which are the default, contract by 1 - 4 lr whatever J(1).

Another system of the same name uses no data: `sigprop.modules.autoinit_analytic`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError, Unsupported
from sigprop.modules.gradient_quotient import twice_differentiable
from sigprop.modules.init_result import InitResult
from sigprop.modules.partial_jacobian import Blocks
from sigprop.modules.restoring import Run, initialising, trainable
from sigprop.modules.weight_layers import names_of
from sigprop.spec import check_count, check_number

__all__ = ["autoinit_jacobian"]

_STEP = 1e-3  # in ln a, of the difference that the first derivative is compared with
_HIDDEN = 0.2  # a derivative that misses what is hidden is off by J or more
_SETTLED = 0.05  # |ln J - ln target| above which a block is told of


def autoinit_jacobian(
    blocks: Sequence[nn.Module] | nn.Module,
    sample_x: Any,
    *,
    model: nn.Module | None = None,
    target: float | Sequence[float] = 1.0,
    loss: Literal["log", "square"] = "log",
    variable: Literal["log_scale", "scale"] = "log_scale",
    steps: int = 100,
    lr: float = 0.1,
    probes: int = 1,
    seed: int = 0,
    apply: bool = True,
    log: Callable[[Mapping[str, float]], None] | None = None,
) -> InitResult:
    """Scale the weights of every block so that its averaged partial Jacobian norm is a target.

    Parameters
    ----------
    blocks : sequence of nn.Module
        One after the other; or, if ``model`` is given, parts of it. An `nn.Sequential` is cut
        before every weight (`blocks_of`), and its tensors keep their names. Of a residual network
        give the branches, with a target: with its identity skip a block has J = 1 + J_branch,
        which is 1 for no branch but 0.
    sample_x : tensor, tuple or dict
        One batch of inputs.
    model : nn.Module, optional
        The network that runs the blocks, where they do not simply follow each other. Names of
        tensors are then those of the model, otherwise those of ``nn.ModuleList(blocks)``.
    target : float or sequence of float
        Of all blocks, or one each.
    loss, variable : str
        What is descended and in what: ln a, or a as published.
    steps, lr
        Of gradient descent.
    probes : int
        Products backward a block, drawn once: with fixed probes the descent settles.
    seed : int
        Of the probes.
    apply : bool
        False leaves the blocks as they were.
    log : callable, optional
        Called after every step with ``{"iteration": .., "objective": ..}``.

    Returns
    -------
    InitResult
        ``history``: iteration, objective (the sum of the losses), ``J[name]`` of every block.
        ``before`` and ``after``: the smallest and the largest J over target.

    Raises
    ------
    SpecError, Unsupported
        If no block has anything to scale, two share a tensor, one is dead, or one has no second
        derivative. The blocks are then as they were.
    NonFinite
        If a Jacobian is not finite or a scale is driven to 0; the message says at which step.

    Notes
    -----
    Scaled are the trainable tensors of two dimensions or more. Behind batch normalisation inside
    a block a scale changes nothing and stays 1. Cost a step: one pass forward, and three backward
    a probe.
    """
    for name, value, known in (
        ("loss", loss, ("log", "square")),
        ("variable", variable, ("log_scale", "scale")),
    ):
        if value not in known:
            raise SpecError(
                f"{name} is {known[0]!r} or {known[1]!r}, got {value!r}: it says how scales "
                f"descend. Write {name}={known[0]!r}, which is stable at any start."
            )
    check_count("steps", steps)
    check_count("probes", probes)
    check_number("lr", lr, low=0.0, open_low=True)
    parts = Blocks(blocks, model)
    targets = _targets(target, len(parts.parts))
    trainable(parts.owner, "Jacobian tuning")
    tensors = _tensors(parts)
    settings = {
        "target": targets,
        "loss": loss,
        "variable": variable,
        "steps": steps,
        "lr": lr,
        "probes": probes,
        "seed": seed,
        "blocks": parts.names,
    }
    with (
        initialising(parts.owner, "autoinit_jacobian", settings, apply=apply) as run,
        twice_differentiable("Jacobian tuning"),
    ):
        _tune(run, parts, tensors, targets, run.measured.inputs(sample_x), log)
    return run.result


def _targets(target: float | Sequence[float], count: int) -> list[float]:
    targets = [target] * count if isinstance(target, (int, float)) else list(target)
    if len(targets) != count:
        raise SpecError(
            f"there are {len(targets)} targets for {count} blocks: each block has one. Give one "
            "number for all, or as many as blocks."
        )
    return [check_number("target", value, low=0.0, open_low=True) for value in targets]


def _tensors(parts: Blocks) -> list[dict[str, nn.Parameter]]:
    """The tensors that each block scales, by the name that they have in the owner."""
    names = names_of(parts.owner)
    found: list[dict[str, nn.Parameter]] = []
    holder: dict[str, str] = {}
    for block, part in zip(parts.names, parts.parts):
        mine = {
            names[id(value)]: value
            for value in part.parameters()
            if value.requires_grad and value.ndim >= 2
        }
        for name in mine:
            if name in holder:
                raise SpecError(
                    f"blocks {holder[name]!r} and {block!r} share tensor {name!r}: one scale "
                    "cannot serve two targets. Leave one of the two blocks out."
                )
            holder[name] = block
        found.append(mine)
    if not holder:
        raise SpecError(
            "no block has a trainable tensor of two dimensions or more: there is nothing to "
            "scale. Give blocks with weight matrices."
        )
    return found


def _tune(
    run: Run,
    parts: Blocks,
    tensors: Sequence[Mapping[str, nn.Parameter]],
    targets: Sequence[float],
    x: Any,
    log: Callable[[Mapping[str, float]], None] | None,
) -> None:
    """Descend; write the scales to the tensors and to ``run``."""
    generator = torch.Generator().manual_seed(run.settings["seed"])
    start = {name: p.detach().clone() for mine in tensors for name, p in mine.items()}
    scale = [1.0] * len(tensors)
    seen = parts.inputs(x)
    probes = [
        parts.probes(place, entered, run.settings["probes"], generator)
        for place, entered in enumerate(seen)
    ]
    steps = run.settings["steps"]
    for step in range(steps + 1):  # the last one only looks
        if step:
            seen = parts.inputs(x)
        found: dict[str, Any] = {"iteration": step, "objective": 0.0}
        for place, mine in enumerate(tensors):
            j, slope = _slope(parts, place, seen[place], probes[place], mine, step)
            if not step:
                _require_slope(parts, place, seen[place], probes[place], mine, j, slope)
            found[f"J[{parts.names[place]}]"] = j
            off = math.log(j / targets[place])
            if run.settings["loss"] == "log":
                found["objective"] += off**2 / 2
                slope *= off / j
            else:
                found["objective"] += (j - targets[place]) ** 2 / 2
                slope *= j - targets[place]
            if step < steps and mine:
                scale[place] = _moved(run, scale[place], slope, step, parts.names[place])
        run.note(**found)
        if log is not None:
            log({name: found[name] for name in ("iteration", "objective")})
        with torch.no_grad():
            for mine, factor in zip(tensors, scale):
                for name, parameter in mine.items():
                    parameter.copy_(start[name] * factor)
    for mine, factor in zip(tensors, scale):
        run.scales.update(dict.fromkeys(mine, factor))
    _tell(run, parts, tensors, targets)


def _slope(
    parts: Blocks,
    place: int,
    seen: Any,
    probes: Sequence[list[torch.Tensor]],
    mine: Mapping[str, nn.Parameter],
    step: int,
) -> tuple[float, float]:
    """J of a block, and its derivative by the logarithm of the block's scale."""
    j = parts.squares(place, seen, probes, graph=bool(mine)).mean()
    value, slope = float(j.detach()), 0.0
    if mine and j.requires_grad:
        held = list(mine.values())
        found = torch.autograd.grad(j, held, allow_unused=True, materialize_grads=True)
        slope = sum(float((p.detach().double() * g.double()).sum()) for p, g in zip(held, found))
    if not (math.isfinite(value) and math.isfinite(slope)):
        raise NonFinite(
            f"the Jacobian of block {parts.names[place]!r} is not finite at step {step}: the "
            "signal overflows. Take a smaller lr, or scale the weights first (lsuv)."
        )
    if value == 0:
        raise SpecError(
            f"block {parts.names[place]!r} is dead: its Jacobian on these inputs is 0, and no "
            "scale changes that. Look at its weights and at what precedes it."
        )
    return value, slope


def _require_slope(
    parts: Blocks,
    place: int,
    seen: Any,
    probes: Sequence[list[torch.Tensor]],
    mine: Mapping[str, nn.Parameter],
    j: float,
    slope: float,
) -> None:
    """Compare the derivative with a difference: a backward pass may hide what it reads."""
    if not mine:
        return
    kept = [p.detach().clone() for p in mine.values()]
    sides = []
    for factor in (1 + _STEP, 1 - _STEP):
        with torch.no_grad():
            for parameter, value in zip(mine.values(), kept):
                parameter.copy_(value * factor)
        sides.append(float(parts.squares(place, seen, probes).mean().detach()))
    with torch.no_grad():
        for parameter, value in zip(mine.values(), kept):
            parameter.copy_(value)
    difference = (sides[0] - sides[1]) / (2 * _STEP)
    if abs(difference - slope) > _HIDDEN * j:
        raise Unsupported(
            f"the Jacobian of block {parts.names[place]!r} changes with its scale by "
            f"{difference:.4g}, and its derivative is {slope:.4g}: an operation of the block has a "
            "backward pass without a derivative. Replace it, or use lsuv."
        )


def _moved(run: Run, scale: float, slope: float, step: int, block: str) -> float:
    if run.settings["variable"] == "log_scale":
        new = scale * math.exp(min(-run.settings["lr"] * slope, 700.0))
    else:
        new = scale - run.settings["lr"] * slope / scale
    if not (math.isfinite(new) and new > 0):
        raise NonFinite(
            f"the scale of block {block!r} is driven from {scale:.4g} to {new:.4g} at step {step}: "
            "the descent is not stable. Take a smaller lr, or variable='log_scale' with loss='log'."
        )
    return new


def _tell(
    run: Run,
    parts: Blocks,
    tensors: Sequence[Mapping[str, nn.Parameter]],
    targets: Sequence[float],
) -> None:
    columns = [run.history[f"J[{name}]"] for name in parts.names]
    for numbers, at in ((run.before, 0), (run.after, -1)):
        ratios = [column[at] / target for column, target in zip(columns, targets)]
        numbers.update(jacobian_smallest=min(ratios), jacobian_largest=max(ratios))
    for name, mine, column, target in zip(parts.names, tensors, columns, targets):
        if not mine:
            run.warnings.append(f"Block {name!r} has no tensor to scale.")
        elif abs(math.log(column[-1] / target)) > _SETTLED:
            run.warnings.append(
                f"Block {name!r} ended at J = {column[-1]:.4g}, not at {target:g}: more steps, "
                "or no scale reaches it (as behind batch normalisation or beside a skip)."
            )
