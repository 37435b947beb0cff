"""One pass of a module, forward and backward, watched; and what can go wrong in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sigprop.errors import SigpropError, SpecError, UnknownName, Unsupported
from sigprop.modules._sums import Found, Place, Sums
from sigprop.modules._watch import Row, Watch, layers_of
from sigprop.modules.recording import tensors_in
from sigprop.registry import did_you_mean

__all__ = ["Loss", "Pass", "failed", "run"]

Loss = Callable[[Any], torch.Tensor]


@dataclass
class Pass:
    """One network, forward and backward."""

    rows: list[Row]
    sums: list[Found]
    additions: int
    never_called: list[str]
    read_elsewhere: list[str]


def run(
    model: torch.nn.Module,
    batch: Any,
    loss: Loss | None,
    names: str | Sequence[str],
    sums: Sequence[Place],
    seed: int,
    inputs: int,
    axis: int,
    end: str | None,
) -> Pass:
    """Send ``batch`` forward and the gradient of ``loss``, or a cotangent, backward."""
    layers = layers_of(model, names)
    watch = Watch(layers, inputs, axis, end)
    arguments, keywords, leaves = _lent(batch)
    with torch.enable_grad():
        with watch.on(), Sums(watch, sums) as additions:
            try:
                output = model(*arguments, **keywords)
            except (SigpropError, MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise failed(model, error) from error
        roots = leaves + watch.leaves
        roots += [p for start in watch.starts for p in start.parameters() if p.requires_grad]
        if end is None:
            value, cotangents = _backward(output, loss, seed, inputs, axis)
        else:
            value, cotangents = _entering(watch, end, seed)
        if not roots or not value:
            where = f" {watch.severed} ran without a graph." if watch.severed else ""
            raise Unsupported(
                f"no gradient reaches the output of {type(model).__name__}, so nothing could be "
                f"measured backward.{where} Run the model with gradients on, and return a tensor "
                "of floating point that depends on the input."
            )
        silent = {name: layer for name, layer in layers.items() if name not in watch.called}
        lent: list[torch.Tensor] = [p for layer in silent.values() for p in _own(layer)]
        wanted = _once(roots + lent)
        try:
            reached = torch.autograd.grad(value, wanted, cotangents, allow_unused=True)
        except RuntimeError as error:
            if "use_reentrant" not in str(error):
                raise failed(model, error) from error
            raise Unsupported(
                f"{watch.severed or type(model).__name__} is under activation checkpointing of the "
                "reentrant kind, which hides the gradients of the layers within it. Write "
                "checkpoint(..., use_reentrant=False)."
            ) from error
    used = {id(p) for p, gradient in zip(wanted, reached, strict=True) if gradient is not None}
    read = [name for name, layer in silent.items() if any(id(p) in used for p in _own(layer))]
    # Whether frozen parameters were read no gradient tells, and nothing is said of them.
    known = {n for n, layer in silent.items() if _own(layer) or not layer._parameters}
    never = [name for name in silent if name in known and name not in read]
    return Pass(watch.rows, additions.found, additions.seen, never, read)


def _own(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Trainable parameters of the module itself, which another may read without calling it."""
    return [p for p in module.parameters(recurse=False) if p.requires_grad]


def _backward(
    output: Any, loss: Loss | None, seed: int, inputs: int, axis: int
) -> tuple[list[Any], list[torch.Tensor] | None]:
    """What is differentiated, and from where."""
    if loss is not None:
        value = loss(output)
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
            raise SpecError(
                f"loss must return one number for the whole batch, as a tensor, got {got}: "
                "gradients are those of a scalar. Take its mean."
            )
        return ([value] if value.requires_grad else []), None
    ends = [t for t in tensors_in(output) if t.is_floating_point() and t.requires_grad]
    return ends, _cotangents([(t.shape, t.device, t.dtype) for t in ends], seed, inputs, axis)


def _entering(watch: Watch, end: str, seed: int) -> tuple[list[Any], list[torch.Tensor]]:
    if watch.entrance is None:
        known = [row.label for row in watch.rows]
        raise UnknownName(
            f"no watched layer or residual sum with a gradient is called {end!r}, so no cotangent "
            f"can enter there.{did_you_mean(end, known)}"
        )
    edge, *like = watch.entrance
    return [edge], _cotangents([tuple(like)], seed, watch.inputs, watch.axis)


def _cotangents(
    ends: Sequence[tuple[Any, ...]], seed: int, inputs: int, axis: int
) -> list[torch.Tensor]:
    """Isotropic, of unit length for each input, for tensors of (shape, device, dtype)."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for shape, device, dtype in ends:
        normal = torch.randn(shape, generator=generator, dtype=torch.float64)
        runs = len(shape) > axis and shape[axis] == inputs
        others = [d for d in range(len(shape)) if d != axis or not runs]
        normal /= torch.linalg.vector_norm(normal, dim=others, keepdim=True)
        made.append(normal.to(device, dtype))
    return made


def _lent(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], list[torch.Tensor]]:
    """Arguments with copies of their tensors, which want gradients, and the leaves of these."""
    leaves: list[torch.Tensor] = []

    def copied(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        leaf = value.detach().requires_grad_()
        leaves.append(leaf)
        return leaf.clone()  # which a module may write to

    if isinstance(batch, Mapping):
        return (), {name: copied(value) for name, value in batch.items()}, leaves
    values = batch if isinstance(batch, tuple) else (batch,)
    return tuple(copied(value) for value in values), {}, leaves


def failed(model: torch.nn.Module, error: Exception, instead: str = "") -> SpecError:
    """Say in which module a pass failed, read off the frames of the error, and what to do."""
    names = {id(module): name for name, module in model.named_modules()}
    where, at, frame = type(model).__name__, model, error.__traceback__
    while frame is not None:
        owner = frame.tb_frame.f_locals.get("self")
        if isinstance(owner, torch.nn.Module) and names.get(id(owner)):
            at, where = owner, f"{names[id(owner)]} ({type(owner).__name__})"
        frame = frame.tb_next
    said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    words = "" if instead else _of_words(at, where, said)
    return SpecError(
        words
        or f"the model cannot be run on this batch: {where} says {said}. Nothing was measured. "
        + (instead or _instead(model, said))
    )


def _of_words(at: torch.nn.Module, where: str, said: str) -> str:
    """What is wrong where rows are looked up; nothing if that is not what failed."""
    rows = getattr(at, "num_embeddings", None)
    if "tensor for argument #1 'indices'" in said.replace("Tensor", "tensor"):
        below = rows or "N"
        return (
            f"{where} looks up rows by whole numbers, as of words, and the batch holds normal "
            f"numbers, so nothing was measured. Give whole numbers below {below}: --tokens "
            f"{below} on a command line, torch.randint({below}, shape) in Python."
        )
    if rows is not None and isinstance(at, torch.nn.Embedding) and "index out of range" in said:
        return (
            f"{where} has {rows} rows, and the batch holds a number that is none of 0 to "
            f"{rows - 1}, so nothing was measured. Give whole numbers below {rows}: --tokens "
            f"{rows} on a command line."
        )
    return ""


def _instead(model: torch.nn.Module, said: str) -> str:
    """What to write instead, as far as the words of torch tell."""
    types: dict[str, list[str]] = {}
    for name, parameter in model.named_parameters():
        types.setdefault(str(parameter.dtype).removeprefix("torch."), []).append(name)
    if "type" in said and "long" in said.lower():  # torch says it in several ways
        return "It takes no whole numbers: leave out --tokens, or give a batch of floating point."
    if "type" in said and len(types) > 1:
        told = " and ".join(f"{one} ({_some(held)})" for one, held in types.items())
        return (
            f"Its parameters are {told}. Bring them to one type where it is built, as by "
            "model.double(), or convert what its forward hands from one to the other."
        )
    return "Give inputs of the shape and type that it takes."


def _some(names: list[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _once(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return list({id(tensor): tensor for tensor in tensors}.values())
