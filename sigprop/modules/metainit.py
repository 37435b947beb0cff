r"""MetaInit: the norms of the weights are tuned until the gradient hardly changes over a step.

Dauphin and Schoenholz (2019), *MetaInit: Initializing learning by learning to initialize*. No data:
inputs are standard normal numbers and labels uniform. For every tensor W of two dimensions or
more, with the gradient quotient GQ of `sigprop.modules.gradient_quotient`,

.. math:: v \leftarrow 0.9\, v
   - \mathrm{lr}\ \mathrm{sign} \langle W, \partial GQ / \partial W \rangle,
   \qquad \|W\| \leftarrow \|W\| + v .

Steps are absolute, so norms end jittering by about lr and never settle. The new norm is held at
1e-6 or more: without that it can turn negative, which would flip the tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError
from sigprop.modules.gradient_quotient import (
    EPS,
    Loss,
    quotient,
    require_symmetry,
    scalar_loss,
    twice_differentiable,
)
from sigprop.modules.init_result import InitResult
from sigprop.modules.refusals import check_loss
from sigprop.modules.restoring import BatchNorm, Run, initialising, trainable
from sigprop.spec import check_count, check_number

__all__ = ["metainit"]

_SMALLEST_NORM = 1e-6
_HELD_OUT = 4  # batches on which the quotient before and after is told

Draw = Callable[[torch.Generator], Any]


def metainit(
    model: nn.Module,
    input_shape: Sequence[int],
    n_classes: int,
    loss_fn: Loss | None = None,
    *,
    batch_size: int = 128,
    steps: int = 500,
    lr: float = 0.1,
    momentum: float = 0.9,
    eps: float = EPS,
    bn: BatchNorm = "initial",
    draw: Draw | None = None,
    seed: int = 0,
    apply: bool = True,
    log: Callable[[Mapping[str, float]], None] | None = None,
) -> InitResult:
    """Tune the norms of weight tensors so that the loss is locally linear.

    Parameters
    ----------
    model : nn.Module
    input_shape : sequence of int
        Of one input, without the batch.
    n_classes : int
        Labels are uniform among so many.
    loss_fn : callable, optional
        ``loss_fn(output, (x, labels))``; cross-entropy of the output by default.
    batch_size : int
    steps, lr, momentum, eps
        As published.
    bn : {"initial", "batch"}
        Batch normalisation is the identity, as in the published code, or takes the statistics of
        the batch.
    draw : callable, optional
        ``draw(generator)`` gives a batch in place of normal inputs and uniform labels, for
        networks that read something else.
    seed : int
        Of inputs and labels.
    apply : bool
        False leaves the model as it was.
    log : callable, optional
        Called after every step with ``{"iteration": .., "objective": ..}``.

    Returns
    -------
    InitResult
        ``history``: iteration, objective (the quotient). ``before`` and ``after``: the quotient on
        four batches that the method did not see.

    Raises
    ------
    SpecError, Unsupported, NonFinite
        If there is nothing to tune, a layer has no second derivative, or the quotient is not
        finite (the message says at which step). The model is then as it was.

    Notes
    -----
    Biases, gains of one dimension, frozen tensors and tensors of zero norm are not scaled; all
    that is trainable counts in the quotient. Cost: about five passes forward and backward a step.
    """
    if isinstance(input_shape, int):
        raise SpecError(
            f"input_shape must be a sequence of whole numbers, got {input_shape!r}: it is the "
            f"shape of one input. Write ({input_shape},)."
        )
    shape = tuple(check_count("input_shape", size) for size in input_shape)
    check_count("n_classes", n_classes)
    check_count("batch_size", batch_size)
    check_count("steps", steps)
    check_number("lr", lr, low=0.0, open_low=True)
    check_number("momentum", momentum, low=0.0, high=1.0, open_high=True)
    check_number("eps", eps, low=0.0, open_low=True)
    parameters = trainable(model, "MetaInit")
    matrices = {name: p for name, p in parameters.items() if p.ndim >= 2}
    norms = {name: float(p.detach().double().norm()) for name, p in matrices.items()}
    empty = [name for name, norm in norms.items() if norm == 0]
    tuned = [name for name, norm in norms.items() if norm > 0]
    if not tuned:
        raise SpecError(
            f"{type(model).__name__} has no trainable tensor of two dimensions or more that is not "
            "zero: MetaInit tunes their norms. Give a network with weight matrices."
        )
    loss_fn = loss_fn or _cross_entropy
    check_loss(loss_fn)
    draw = draw or _noise(shape, n_classes, batch_size, parameters[tuned[0]])
    settings = {
        "input_shape": list(shape),
        "n_classes": n_classes,
        "batch_size": batch_size,
        "steps": steps,
        "lr": lr,
        "momentum": momentum,
        "eps": eps,
        "bn": bn,
        "seed": seed,
    }
    generator = torch.Generator().manual_seed(seed)
    with (
        initialising(model, "metainit", settings, apply=apply, batch_norm=bn) as run,
        twice_differentiable("MetaInit"),
    ):
        if empty:
            run.warnings.append(f"Zero, so of no norm to tune: {', '.join(empty)}.")
        entries = sum(value.numel() for value in parameters.values())

        def measure(batch: Any) -> torch.Tensor:
            loss = scalar_loss(model, run.measured.inputs(batch), loss_fn)
            parts = quotient(loss, list(parameters.values()), eps)
            return torch.stack(parts).sum() / entries

        first = run.measured.inputs(draw(torch.Generator().manual_seed(seed)))
        require_symmetry(scalar_loss(model, first, loss_fn), list(parameters.values()), "MetaInit")
        unseen = [draw(generator) for _ in range(_HELD_OUT)]
        run.before["gradient_quotient"] = _mean(measure, unseen)
        scales = _tune(run, {name: matrices[name] for name in tuned}, norms, measure, draw,
                       generator, log)  # fmt: skip
        run.scales.update(dict.fromkeys(parameters, 1.0), **scales)
        run.after["gradient_quotient"] = _mean(measure, unseen)
        if run.after["gradient_quotient"] > run.before["gradient_quotient"]:
            run.warnings.append(
                f"The quotient rose from {run.before['gradient_quotient']:.4g} to "
                f"{run.after['gradient_quotient']:.4g}: norms ran away. Take a larger batch_size "
                "or a smaller lr."
            )
    return run.result


def _tune(
    run: Run,
    matrices: Mapping[str, nn.Parameter],
    norms: Mapping[str, float],
    measure: Callable[[Any], torch.Tensor],
    draw: Draw,
    generator: torch.Generator,
    log: Callable[[Mapping[str, float]], None] | None,
) -> dict[str, float]:
    """Do the steps; return the factor of every tensor, whose values carry it already."""
    start = {name: value.detach().clone() for name, value in matrices.items()}
    norm = {name: norms[name] for name in matrices}
    velocity = dict.fromkeys(matrices, 0.0)
    for step in range(run.settings["steps"]):
        value = measure(draw(generator))
        gradients = torch.autograd.grad(
            value, list(matrices.values()), allow_unused=True, materialize_grads=True
        )
        found = {"iteration": step, "objective": float(value.detach())}
        slopes = [
            float((matrix.detach().double() * slope.double()).sum())
            for matrix, slope in zip(matrices.values(), gradients)
        ]
        if not all(map(math.isfinite, (found["objective"], *slopes))):
            raise NonFinite(
                f"the gradient quotient or its derivative is not finite at step {step}: the "
                "network overflows. Compute in float64, take a smaller lr, or scale the weights "
                "first (lsuv)."
            )
        run.note(**found)
        for (name, matrix), slope in zip(matrices.items(), slopes):
            sign = (slope > 0) - (slope < 0)
            velocity[name] = run.settings["momentum"] * velocity[name] - run.settings["lr"] * sign
            norm[name] = max(norm[name] + velocity[name], _SMALLEST_NORM)
            with torch.no_grad():
                matrix.copy_(start[name] * (norm[name] / norms[name]))
        if log is not None:
            log(found)
    return {name: norm[name] / norms[name] for name in matrices}


def _mean(measure: Callable[[Any], torch.Tensor], batches: list[Any]) -> float:
    return math.fsum(float(measure(batch).detach()) for batch in batches) / len(batches)


def _noise(shape: tuple[int, ...], classes: int, size: int, like: torch.Tensor) -> Draw:
    """Standard normal inputs and uniform labels, drawn on the CPU and put where the model is."""
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32

    def draw(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(size, *shape, generator=generator, dtype=dtype)
        y = torch.randint(classes, (size,), generator=generator)
        return x.to(like.device), y.to(like.device)

    return draw


def _cross_entropy(output: Any, batch: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(output, batch[1])
